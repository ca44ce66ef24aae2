//! The load: an upstream that answers at once, and clients that each ask one thing after the other, all on one thread.

use std::cell::{Cell, RefCell};
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::{Builder, LocalOptions, LocalRuntime};

use crate::support::{get, refresh};

/// What a session is asked with.
pub(crate) struct Tokens {
    pub(crate) access: String,
    pub(crate) refresh: String,
}

/// What is asked.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Ask {
    /// `GET /` with the access token, through to the upstream.
    Get,
    /// `POST /auth/refresh` with the successor of the last one.
    Refresh,
}

/// What was answered in some time.
pub(crate) struct Answered {
    pub(crate) count: usize,
    pub(crate) seconds: f64,
    /// Half were answered sooner, and all but one in a hundred.
    pub(crate) p50: Duration,
    pub(crate) p99: Duration,
}

/// Clients and upstream.
pub(crate) struct Load {
    runtime: LocalRuntime,
    pub(crate) upstream: SocketAddr,
    clients: Vec<Rc<RefCell<Client>>>,
}

struct Client {
    stream: TcpStream,
    sessions: Vec<Session>,
    turn: usize,
    buffer: Vec<u8>,
}

struct Session {
    get: String,
    refresh: String,
}

const UPSTREAM_ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 2\r\n\r\nok";

impl Load {
    /// An upstream, and nobody who asks.
    pub(crate) fn new() -> Self {
        let local = Builder::new_current_thread().enable_all().build_local(LocalOptions::default());
        let runtime = local.expect("a runtime");
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).expect("bound");
        let upstream = listener.local_addr().expect("bound");
        runtime.spawn_local(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::task::spawn_local(serve(stream));
            }
        });
        Self { runtime, upstream, clients: Vec::new() }
    }

    /// So many connections, among which the sessions are divided.
    pub(crate) fn connect(&mut self, address: SocketAddr, connections: usize, tokens: Vec<Tokens>) {
        let mut divided: Vec<Vec<Session>> = std::iter::repeat_with(Vec::new).take(connections).collect();
        for (number, tokens) in tokens.into_iter().enumerate() {
            let session = Session { get: get("/", Some(&tokens.access)), refresh: refresh(&tokens.refresh) };
            divided[number % connections].push(session);
        }
        for sessions in divided {
            let stream = self.runtime.block_on(TcpStream::connect(address)).expect("connected");
            stream.set_nodelay(true).expect("a TCP socket");
            let client = Client { stream, sessions, turn: 0, buffer: Vec::new() };
            self.clients.push(Rc::new(RefCell::new(client)));
        }
    }

    /// Every client asks, one thing after the other, for so long. Anything but a good answer ends the measurement.
    #[expect(clippy::await_holding_refcell_ref, reason = "a client is one task's at a time")]
    pub(crate) fn run(&self, ask: Ask, time: Duration) -> Answered {
        let taken = Rc::new(RefCell::new(Vec::new()));
        let last = Rc::new(Cell::new(Duration::ZERO));
        let start = Instant::now();
        self.runtime.block_on(async {
            let mut asking = Vec::new();
            for client in &self.clients {
                let (client, taken, last) = (client.clone(), taken.clone(), last.clone());
                asking.push(tokio::task::spawn_local(async move {
                    let mut client = client.borrow_mut();
                    loop {
                        let asked = start.elapsed();
                        if asked >= time {
                            return;
                        }
                        client.ask(ask).await;
                        last.set(start.elapsed());
                        taken.borrow_mut().push(last.get() - asked);
                    }
                }));
            }
            for task in asking {
                task.await.expect("good answers");
            }
        });
        let mut taken = taken.take();
        taken.sort_unstable();
        let at = |share: usize| taken.get(taken.len() * share / 100).copied().unwrap_or_default();
        Answered { count: taken.len(), seconds: last.get().as_secs_f64(), p50: at(50), p99: at(99) }
    }
}

impl Client {
    async fn ask(&mut self, ask: Ask) {
        let turn = self.turn % self.sessions.len();
        self.turn += 1;
        let session = &mut self.sessions[turn];
        let request = if ask == Ask::Get { &session.get } else { &session.refresh };
        self.stream.write_all(request.as_bytes()).await.expect("sent");
        self.buffer.clear();
        let length = loop {
            assert!(self.stream.read_buf(&mut self.buffer).await.expect("read") > 0, "closed");
            if let Some(length) = length(&self.buffer)
                && length <= self.buffer.len()
            {
                break length;
            }
        };
        let answer = std::str::from_utf8(&self.buffer[..length]).expect("text");
        assert!(answer.starts_with("HTTP/1.1 200 ") && length == self.buffer.len(), "{answer}");
        match ask {
            Ask::Get => assert!(answer.ends_with("\r\n\r\nok"), "{answer}"),
            Ask::Refresh => {
                let (_, token) = answer.rsplit_once("\"refresh_token\":\"").expect("a successor");
                let token = token.split('"').next().expect("there is a first part");
                // As long as the one before: it takes its place.
                let at = session.refresh.len() - token.len() - 2;
                assert_ne!(&session.refresh[at..at + token.len()], token, "the same token again");
                session.refresh.replace_range(at..at + token.len(), token);
            }
        }
    }
}

/// How long a response is, once its header is there.
fn length(bytes: &[u8]) -> Option<usize> {
    let end = bytes.windows(4).position(|four| four == b"\r\n\r\n")? + 4;
    let header = std::str::from_utf8(&bytes[..end]).expect("text");
    let length = header.lines().find_map(|line| {
        let (name, value) = line.split_once(": ")?;
        name.eq_ignore_ascii_case("content-length").then(|| value.parse::<usize>().expect("a number"))
    });
    Some(end + length.unwrap_or(0))
}

async fn serve(mut stream: TcpStream) {
    let mut buffer = Vec::with_capacity(4096);
    stream.set_nodelay(true).expect("a TCP socket");
    while matches!(stream.read_buf(&mut buffer).await, Ok(1..)) {
        // One request after the other, without bodies.
        if buffer.ends_with(b"\r\n\r\n") {
            buffer.clear();
            if stream.write_all(UPSTREAM_ANSWER).await.is_err() {
                return;
            }
        }
    }
}
