//! A backend that writes down every byte it was sent and answers as it is told.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// One request as it arrived.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    pub(crate) line: String,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
    pub(crate) trailers: Vec<(String, String)>,
    /// Which connection it came over, counted from 0.
    pub(crate) connection: usize,
}

impl Seen {
    pub(crate) fn all(&self, name: &str) -> Vec<&str> {
        let named = self.headers.iter().filter(|(one, _)| one.eq_ignore_ascii_case(name));
        named.map(|(_, value)| value.as_str()).collect()
    }

    pub(crate) fn one(&self, name: &str) -> &str {
        match self.all(name)[..] {
            [value] => value,
            ref other => panic!("{name}: {other:?} in {self:?}"),
        }
    }
}

/// What the backend does with a request.
#[derive(Clone, Debug)]
pub(crate) enum Answer {
    /// These bytes; the connection stays open.
    Bytes(Vec<u8>),
    /// These bytes, then the connection is closed.
    Close(Vec<u8>),
    /// These bytes, then it is reset.
    Reset(Vec<u8>),
    /// The pieces with a wait before each; the connection stays open.
    Slowly(Vec<(Duration, Vec<u8>)>),
}

impl Answer {
    pub(crate) fn ok(body: &str) -> Self {
        Self::Bytes(format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len()).into_bytes())
    }
}

type Script = dyn Fn(&Seen) -> Answer + Send + Sync;

/// A connected socket of either kind.
pub(super) trait Socket: Read + Write + AsFd + Send + 'static {}
impl<T: Read + Write + AsFd + Send + 'static> Socket for T {}

pub(crate) struct Backend {
    pub(crate) address: SocketAddr,
    seen: Mutex<Receiver<Seen>>,
    stop: Arc<AtomicBool>,
    connections: Arc<AtomicUsize>,
}

impl Backend {
    /// Answers `200` and `hello`.
    pub(crate) fn start() -> Self {
        Self::answering(|_| Answer::ok("hello"))
    }

    pub(crate) fn answering(script: impl Fn(&Seen) -> Answer + Send + Sync + 'static) -> Self {
        Self::at("127.0.0.1:0", script)
    }

    /// On an address of its own.
    pub(crate) fn at(address: &str, script: impl Fn(&Seen) -> Answer + Send + Sync + 'static) -> Self {
        Self::on(TcpListener::bind(address).expect("bound"), script)
    }

    pub(crate) fn on(listener: TcpListener, script: impl Fn(&Seen) -> Answer + Send + Sync + 'static) -> Self {
        let address = listener.local_addr().expect("bound");
        let accept = move || {
            let (stream, _) = listener.accept()?;
            stream.set_nodelay(true)?;
            Ok(stream)
        };
        Self::serving(address, accept, script)
    }

    /// Answers `200` and `hello` on a Unix socket.
    pub(crate) fn on_socket(path: &std::path::Path) -> Self {
        let listener = std::os::unix::net::UnixListener::bind(path).expect("bound");
        // Nobody connects to the address: the thread ends with the process.
        Self::serving(([127, 0, 0, 1], 0).into(), move || Ok(listener.accept()?.0), |_| Answer::ok("hello"))
    }

    pub(super) fn serving<S: Socket>(
        address: SocketAddr,
        accept: impl Fn() -> std::io::Result<S> + Send + 'static,
        script: impl Fn(&Seen) -> Answer + Send + Sync + 'static,
    ) -> Self {
        let (sender, seen) = channel();
        let stop = Arc::new(AtomicBool::new(false));
        let connections = Arc::new(AtomicUsize::new(0));
        let (stopping, counted) = (stop.clone(), connections.clone());
        let script: Arc<Script> = Arc::new(script);
        std::thread::spawn(move || {
            while let Ok(stream) = accept() {
                if stopping.load(Ordering::SeqCst) {
                    return;
                }
                let connection = counted.fetch_add(1, Ordering::SeqCst);
                let (script, sender) = (script.clone(), sender.clone());
                std::thread::spawn(move || drop(serve(stream, connection, &*script, &sender)));
            }
        });
        Self { address, seen: Mutex::new(seen), stop, connections }
    }

    /// The next request that arrived, waiting for it.
    pub(crate) fn next(&self) -> Seen {
        self.seen.lock().expect("one test").recv_timeout(Duration::from_secs(10)).expect("a request")
    }

    /// Nothing has arrived that was not taken by [`Self::next`].
    pub(crate) fn saw_nothing(&self) -> bool {
        self.seen.lock().expect("one test").try_recv().is_err()
    }

    /// Connections so far.
    pub(crate) fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }
}

impl Drop for Backend {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        drop(TcpStream::connect(self.address));
    }
}

fn serve(mut stream: impl Socket, connection: usize, script: &Script, seen: &Sender<Seen>) -> std::io::Result<()> {
    let mut buffer = Vec::new();
    loop {
        let head = until(&mut stream, &mut buffer, b"\r\n\r\n")?;
        let text = String::from_utf8_lossy(&head).into_owned();
        let mut lines = text.trim_end().split("\r\n");
        let line = lines.next().unwrap_or_default().to_owned();
        let headers = fields(lines);
        let mut request = Seen { line, headers, body: Vec::new(), trailers: Vec::new(), connection };
        if request.all("transfer-encoding") == ["chunked"] {
            loop {
                let size = until(&mut stream, &mut buffer, b"\r\n")?;
                let size = usize::from_str_radix(String::from_utf8_lossy(&size).trim(), 16).expect("a chunk size");
                if size > 0 {
                    request.body.extend(exactly(&mut stream, &mut buffer, size)?);
                    exactly(&mut stream, &mut buffer, 2)?;
                    continue;
                }
                loop {
                    let line = until(&mut stream, &mut buffer, b"\r\n")?;
                    if line == b"\r\n" {
                        break;
                    }
                    request.trailers.extend(fields(std::iter::once(String::from_utf8_lossy(&line).trim_end())));
                }
                break;
            }
        } else if let [length] = request.all("content-length")[..] {
            let length = length.parse().expect("a length");
            request.body = exactly(&mut stream, &mut buffer, length)?;
        }
        let answer = script(&request);
        // The test may be over.
        drop(seen.send(request));
        match answer {
            Answer::Bytes(bytes) => stream.write_all(&bytes)?,
            Answer::Slowly(pieces) => {
                for (wait, bytes) in pieces {
                    std::thread::sleep(wait);
                    stream.write_all(&bytes)?;
                }
            }
            Answer::Close(bytes) => {
                stream.write_all(&bytes)?;
                return socket2::SockRef::from(&stream).shutdown(Shutdown::Both);
            }
            Answer::Reset(bytes) => {
                stream.write_all(&bytes)?;
                // What was written must be on its way before the reset overtakes it.
                std::thread::sleep(Duration::from_millis(50));
                socket2::SockRef::from(&stream).set_linger(Some(Duration::ZERO))?;
                return Ok(());
            }
        }
    }
}

fn until(stream: &mut impl Socket, buffer: &mut Vec<u8>, end: &[u8]) -> std::io::Result<Vec<u8>> {
    loop {
        if let Some(at) = buffer.windows(end.len()).position(|window| window == end) {
            return Ok(buffer.drain(..at + end.len()).collect());
        }
        fill(stream, buffer)?;
    }
}

fn exactly(stream: &mut impl Socket, buffer: &mut Vec<u8>, length: usize) -> std::io::Result<Vec<u8>> {
    while buffer.len() < length {
        fill(stream, buffer)?;
    }
    Ok(buffer.drain(..length).collect())
}

fn fill(stream: &mut impl Socket, buffer: &mut Vec<u8>) -> std::io::Result<()> {
    let mut piece = [0; 16 * 1024];
    match stream.read(&mut piece)? {
        0 => Err(std::io::ErrorKind::UnexpectedEof.into()),
        count => {
            buffer.extend_from_slice(&piece[..count]);
            Ok(())
        }
    }
}

fn fields<'a>(lines: impl Iterator<Item = &'a str>) -> Vec<(String, String)> {
    lines
        .filter_map(|line| line.split_once(':'))
        .map(|(name, value)| (name.to_owned(), value.trim().to_owned()))
        .collect()
}
