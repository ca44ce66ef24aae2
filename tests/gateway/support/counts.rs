//! What is open and under way: on the gateway's side by its metrics, on a server's by counting.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use super::Gateway;

/// The sum of a metric over all its labels.
pub(crate) fn metric(gateway: &Gateway, name: &str) -> f64 {
    let text = portcullis::telemetry::metrics::encode(&gateway.app().gateway().metrics).expect("written");
    let lines = text.lines().filter(|line| line.strip_prefix(name).is_some_and(|rest| rest.starts_with([' ', '{'])));
    let values = lines.map(|line| line.rsplit(' ').next().and_then(|value| value.parse::<f64>().ok()));
    values.map(|value| value.expect("a number")).sum()
}

/// Waits until something is so.
pub(crate) fn eventually(what: &str, so: impl Fn() -> bool) {
    let start = Instant::now();
    while !so() {
        assert!(start.elapsed() < Duration::from_secs(10), "never: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// A server that takes some time for each answer, and counts its connections.
pub(crate) struct CountingBackend {
    pub(crate) address: SocketAddr,
    open: Arc<AtomicUsize>,
    most: Arc<AtomicUsize>,
    requests: Arc<AtomicUsize>,
}

impl CountingBackend {
    pub(crate) fn start(takes: Duration) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("bound");
        let address = listener.local_addr().expect("bound");
        let it = Self { address, open: Arc::default(), most: Arc::default(), requests: Arc::default() };
        let (open, most, requests) = (it.open.clone(), it.most.clone(), it.requests.clone());
        // Nobody stops it: the thread ends with the process.
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                // Whoever closed one before may not have been noticed yet.
                std::thread::sleep(Duration::from_millis(5));
                let now = open.fetch_add(1, Ordering::SeqCst) + 1;
                most.fetch_max(now, Ordering::SeqCst);
                let (open, requests) = (open.clone(), requests.clone());
                std::thread::spawn(move || {
                    // It ends when the other side does.
                    drop(serve(stream, takes, &requests));
                    open.fetch_sub(1, Ordering::SeqCst);
                });
            }
        });
        it
    }

    /// Connections open now.
    pub(crate) fn open(&self) -> usize {
        self.open.load(Ordering::SeqCst)
    }

    /// The most that were open at once.
    pub(crate) fn most(&self) -> usize {
        self.most.load(Ordering::SeqCst)
    }

    /// Requests that arrived.
    pub(crate) fn requests(&self) -> usize {
        self.requests.load(Ordering::SeqCst)
    }
}

/// Requests without bodies.
fn serve(mut stream: TcpStream, takes: Duration, requests: &AtomicUsize) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    let (mut buffer, mut piece) = (Vec::new(), [0; 4096]);
    loop {
        while !buffer.ends_with(b"\r\n\r\n") {
            match stream.read(&mut piece)? {
                0 => return Ok(()),
                count => buffer.extend_from_slice(&piece[..count]),
            }
        }
        buffer.clear();
        requests.fetch_add(1, Ordering::SeqCst);
        std::thread::sleep(takes);
        stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")?;
    }
}
