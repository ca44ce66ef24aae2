//! An upstream that writes down every byte it gets, reads it by the strictest reading there is, and answers what it has
//! read.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, oneshot};

use super::wire::{self, Request, Stop};

/// How long a connection may stay open in the middle of a request that nobody sends any more.
const PATIENCE: Duration = Duration::from_secs(3);

/// What arrived since it was last asked.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    /// Whole requests, in the order of their ends.
    pub(crate) requests: Vec<Request>,
    /// What was left over of a connection that ended within a request.
    pub(crate) unfinished: Vec<Vec<u8>>,
    /// Bytes that are no request by the strictest reading, and why.
    pub(crate) faults: Vec<(&'static str, Vec<u8>)>,
    /// Connections that are open within a request.
    pub(crate) pending: usize,
}

#[derive(Debug, Default)]
struct Log {
    seen: Seen,
    /// Counts all that happens.
    events: usize,
}

/// The upstream. It answers each request with a `200` that repeats method and target.
pub(crate) struct Recorder {
    pub(crate) address: SocketAddr,
    log: Arc<Mutex<Log>>,
    settle: mpsc::UnboundedSender<oneshot::Sender<()>>,
}

impl Recorder {
    pub(crate) fn start() -> Self {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("bound");
        listener.set_nonblocking(true).expect("not blocking");
        let address = listener.local_addr().expect("bound");
        let log = Arc::new(Mutex::new(Log::default()));
        let (settle, asked) = mpsc::unbounded_channel();
        let noted = log.clone();
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
            runtime.block_on(async move {
                let listener = TcpListener::from_std(listener).expect("a listener");
                tokio::spawn(accept(listener, noted.clone()));
                settled(asked, noted).await;
            });
        });
        Self { address, log, settle }
    }

    /// All that arrived and is still to be taken, once nothing is on its way: no byte is in the kernel unread, and no
    /// connection that the gateway gave up is still open.
    pub(crate) fn take(&self) -> Seen {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let (done, is_done) = oneshot::channel();
            self.settle.send(done).expect("running");
            is_done.blocking_recv().expect("running");
            let mut log = lock(&self.log);
            if log.seen.pending == 0 || Instant::now() > deadline {
                let pending = log.seen.pending;
                return std::mem::replace(&mut log.seen, Seen { pending, ..Seen::default() });
            }
            drop(log);
            std::thread::sleep(Duration::from_millis(2));
        }
    }
}

fn lock(log: &Mutex<Log>) -> MutexGuard<'_, Log> {
    log.lock().expect("no panic while it is held")
}

/// Answers whoever asks as soon as nothing happens any more. The runtime looks at all its sockets each time before it
/// comes back to who yielded.
async fn settled(mut asked: mpsc::UnboundedReceiver<oneshot::Sender<()>>, log: Arc<Mutex<Log>>) {
    while let Some(done) = asked.recv().await {
        let (mut quiet, mut last) = (0, lock(&log).events);
        while quiet < 3 {
            tokio::task::yield_now().await;
            let now = lock(&log).events;
            quiet = if now == last { quiet + 1 } else { 0 };
            last = now;
        }
        // Whoever asked may be gone.
        let _ = done.send(());
    }
}

async fn accept(listener: TcpListener, log: Arc<Mutex<Log>>) {
    while let Ok((stream, _)) = listener.accept().await {
        lock(&log).events += 1;
        tokio::spawn(serve(stream, log.clone()));
    }
}

async fn serve(mut stream: TcpStream, log: Arc<Mutex<Log>>) {
    let (mut bytes, mut is_pending) = (Vec::new(), false);
    let mut piece = [0; 16 * 1024];
    loop {
        let count = stream.read(&mut piece).await.unwrap_or(0);
        bytes.extend_from_slice(&piece[..count]);
        let mut answers = Vec::new();
        let is_faulty = {
            let mut log = lock(&log);
            log.events += 1;
            log.seen.pending -= usize::from(is_pending);
            let is_faulty = loop {
                match wire::request(&bytes) {
                    Ok((request, length)) => {
                        answers.extend(answer(&request));
                        log.seen.requests.push(request);
                        bytes.drain(..length);
                    }
                    Err(Stop::Unfinished) => break false,
                    Err(Stop::Faulty(why)) => {
                        log.seen.faults.push((why, std::mem::take(&mut bytes)));
                        break true;
                    }
                }
            };
            is_pending = count > 0 && !bytes.is_empty();
            log.seen.pending += usize::from(is_pending);
            if count == 0 && !bytes.is_empty() {
                log.seen.unfinished.push(std::mem::take(&mut bytes));
            }
            is_faulty
        };
        if count == 0 || is_faulty || stream.write_all(&answers).await.is_err() {
            if is_pending {
                lock(&log).seen.pending -= 1;
            }
            return;
        }
    }
}

fn answer(request: &Request) -> Vec<u8> {
    let said = request.line();
    let body = if request.method == "HEAD" { "" } else { &said };
    format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", said.len()).into_bytes()
}
