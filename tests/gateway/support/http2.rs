//! Servers that speak HTTP/2: one that another library drives, and one that sends the frames it is told to.

use std::collections::HashMap;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use h2::server::SendResponse;
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response};
use rustls::ServerConfig;
use tokio::io::{AsyncRead, AsyncWrite};

/// A request as it arrived.
#[derive(Debug)]
pub(crate) struct Arrived {
    pub(crate) request: Request<()>,
    pub(crate) body: Vec<u8>,
    pub(crate) trailers: HeaderMap,
    /// The request was reset by the gateway with this reason before its answer.
    pub(crate) reset: Option<h2::Reason>,
    /// Which connection it came over, counted from 0.
    pub(crate) connection: usize,
}

/// What it does is in the last segment of the path: `echo` the body and the trailers, `stream` each piece back as it
/// comes, `hang` until reset, `hold` until released, `die` in the middle of the answer; `hello` otherwise.
pub(crate) struct Http2Server {
    pub(crate) address: SocketAddr,
    arrived: Mutex<Receiver<Arrived>>,
    connections: Arc<AtomicUsize>,
    release: Arc<tokio::sync::Notify>,
}

impl Http2Server {
    pub(crate) fn start() -> Self {
        Self::with(None, 100)
    }

    pub(crate) fn with(tls: Option<ServerConfig>, most_streams: u32) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("bound");
        listener.set_nonblocking(true).expect("set");
        let address = listener.local_addr().expect("bound");
        let (sender, arrived) = channel();
        let connections = Arc::new(AtomicUsize::new(0));
        let release = Arc::new(tokio::sync::Notify::new());
        let (counted, released) = (connections.clone(), release.clone());
        // Ends with the process.
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
            runtime.block_on(async move {
                let listener = tokio::net::TcpListener::from_std(listener).expect("a listener");
                let tls = tls.map(|config| tokio_rustls::TlsAcceptor::from(Arc::new(config)));
                loop {
                    let (stream, _) = listener.accept().await.expect("accepted");
                    stream.set_nodelay(true).expect("set");
                    let number = counted.fetch_add(1, Ordering::SeqCst);
                    let (sender, released, tls) = (sender.clone(), released.clone(), tls.clone());
                    tokio::spawn(async move {
                        let Some(tls) = tls else { return serve(stream, number, most_streams, sender, released).await };
                        if let Ok(stream) = tls.accept(stream).await {
                            serve(stream, number, most_streams, sender, released).await;
                        }
                    });
                }
            });
        });
        Self { address, arrived: Mutex::new(arrived), connections, release }
    }

    /// The next request that was read to its end, or was reset.
    pub(crate) fn next(&self) -> Arrived {
        self.arrived.lock().expect("one test").recv_timeout(Duration::from_secs(10)).expect("a request")
    }

    pub(crate) fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }

    /// Answers the requests that are held.
    pub(crate) fn release(&self) {
        self.release.notify_waiters();
    }
}

async fn serve(
    stream: impl AsyncRead + AsyncWrite + Unpin,
    number: usize,
    most_streams: u32,
    sender: Sender<Arrived>,
    release: Arc<tokio::sync::Notify>,
) {
    let mut builder = h2::server::Builder::new();
    let Ok(mut connection) = builder.max_concurrent_streams(most_streams).handshake::<_, Bytes>(stream).await else {
        return;
    };
    let (die, mut dead) = tokio::sync::mpsc::channel::<()>(1);
    loop {
        let accepted = tokio::select! {
            accepted = connection.accept() => accepted,
            // Dropping it closes the socket.
            _ = dead.recv() => return,
        };
        let Some(Ok((request, respond))) = accepted else { return };
        let (sender, release, die) = (sender.clone(), release.clone(), die.clone());
        tokio::spawn(async move { answer(request, respond, number, sender, release, die).await });
    }
}

async fn answer(
    request: Request<h2::RecvStream>,
    mut respond: SendResponse<Bytes>,
    connection: usize,
    sender: Sender<Arrived>,
    release: Arc<tokio::sync::Notify>,
    die: tokio::sync::mpsc::Sender<()>,
) {
    let (parts, mut stream) = request.into_parts();
    let request = Request::from_parts(parts, ());
    let what = request.uri().path().rsplit('/').next().unwrap_or_default().to_owned();
    let mut arrived = Arrived { request, body: Vec::new(), trailers: HeaderMap::new(), reset: None, connection };
    // The test may be over at any of these.
    let send = |arrived| drop(sender.send(arrived));
    let head = Response::builder().header("x-connection", connection.to_string());
    match what.as_str() {
        "hang" => {
            arrived.reset = std::future::poll_fn(|cx| respond.poll_reset(cx)).await.ok();
            send(arrived);
        }
        "stream" => {
            let mut out = respond.send_response(head.body(()).expect("a head"), false).expect("sent");
            while let Some(Ok(piece)) = stream.data().await {
                drop(stream.flow_control().release_capacity(piece.len()));
                arrived.body.extend(&piece);
                if out.send_data(piece, false).is_err() {
                    break;
                }
            }
            drop(out.send_data(Bytes::new(), true));
            send(arrived);
        }
        "die" => {
            let mut out = respond.send_response(head.body(()).expect("a head"), false).expect("sent");
            out.send_data(Bytes::from_static(b"half"), false).expect("sent");
            send(arrived);
            tokio::time::sleep(Duration::from_millis(50)).await;
            die.send(()).await.expect("alive");
        }
        _ => {
            while let Some(Ok(piece)) = stream.data().await {
                drop(stream.flow_control().release_capacity(piece.len()));
                arrived.body.extend(&piece);
            }
            arrived.trailers = stream.trailers().await.ok().flatten().unwrap_or_default();
            if what == "hold" {
                let released = release.notified();
                send(arrived);
                released.await;
                drop(respond.send_response(head.body(()).expect("a head"), true));
                return;
            }
            let body = if what == "echo" { arrived.body.clone() } else { b"hello".to_vec() };
            let trailers: HeaderMap = arrived
                .trailers
                .iter()
                .map(|(name, value)| (HeaderName::try_from(format!("x-back-{name}")).expect("a name"), value.clone()))
                .chain([(HeaderName::from_static("grpc-status"), HeaderValue::from_static("0"))])
                .collect();
            let head = head.header("trailer", "grpc-status, x-back-x-sum");
            let mut out = respond.send_response(head.body(()).expect("a head"), false).expect("sent");
            drop(out.send_data(body.into(), false));
            drop(out.send_trailers(trailers));
            send(arrived);
        }
    }
}

/// One frame (RFC 9113 §4.1).
pub(crate) fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).expect("short").to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// Says to each request's HEADERS, known by the number of its connection and its stream, the bytes it is told to, and
/// closes the connection after an answer that ends with nothing more to say.
pub(crate) struct RawHttp2 {
    pub(crate) address: SocketAddr,
    seen: Arc<Mutex<HashMap<usize, Vec<u32>>>>,
}

impl RawHttp2 {
    /// `script` gives the bytes, and whether the connection stays open.
    pub(crate) fn start(script: impl Fn(usize, u32) -> (Vec<u8>, bool) + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("bound");
        let address = listener.local_addr().expect("bound");
        let seen: Arc<Mutex<HashMap<usize, Vec<u32>>>> = Arc::default();
        let (noted, script) = (seen.clone(), Arc::new(script));
        std::thread::spawn(move || {
            for (number, stream) in listener.incoming().map_while(Result::ok).enumerate() {
                let (noted, script) = (noted.clone(), script.clone());
                std::thread::spawn(move || drop(raw(stream, number, &*script, &noted)));
            }
        });
        Self { address, seen }
    }

    /// The streams of each connection.
    pub(crate) fn seen(&self) -> Vec<Vec<u32>> {
        let seen = self.seen.lock().expect("one test");
        (0..seen.len()).map(|number| seen.get(&number).cloned().unwrap_or_default()).collect()
    }
}

fn raw(
    mut stream: TcpStream,
    number: usize,
    script: &dyn Fn(usize, u32) -> (Vec<u8>, bool),
    seen: &Mutex<HashMap<usize, Vec<u32>>>,
) -> std::io::Result<()> {
    const SETTINGS: u8 = 4;
    const HEADERS: u8 = 1;
    stream.set_nodelay(true)?;
    stream.write_all(&frame(SETTINGS, 0, 0, &[]))?;
    let mut preface = [0; 24];
    stream.read_exact(&mut preface)?;
    loop {
        let mut head = [0; 9];
        stream.read_exact(&mut head)?;
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
        let mut payload = vec![0; usize::try_from(length).expect("short")];
        stream.read_exact(&mut payload)?;
        if head[3] == HEADERS {
            let id = u32::from_be_bytes([head[5], head[6], head[7], head[8]]);
            seen.lock().expect("one test").entry(number).or_default().push(id);
            let (bytes, open) = script(number, id);
            stream.write_all(&bytes)?;
            if !open {
                // What was written is read before the end is.
                stream.shutdown(std::net::Shutdown::Write)?;
                while stream.read(&mut [0; 1024])? > 0 {}
                return Ok(());
            }
        }
    }
}
