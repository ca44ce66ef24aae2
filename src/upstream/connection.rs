//! One connection to a server.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::task::Poll;
use std::time::{Duration, Instant};

use http::{Request, Response};
use hyper::body::Incoming;
use hyper::client::conn::TrySendError;
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

use crate::body::RequestBody;

/// Where a server is.
#[derive(Debug)]
pub(super) struct Server {
    host: String,
    port: u16,
    /// `host:port`, for the log and errors.
    pub(super) name: Rc<str>,
}

impl Server {
    pub(super) fn new(origin: &crate::config::Origin) -> Self {
        let name = match origin.host.parse() {
            Ok(IpAddr::V6(address)) => format!("[{address}]:{}", origin.port),
            _ => format!("{}:{}", origin.host, origin.port),
        };
        Self { host: origin.host.clone(), port: origin.port, name: name.into() }
    }

    /// Opens a connection: all addresses of the name in turn, within one deadline.
    pub(super) async fn connect(&self, limit: Duration) -> io::Result<Connection> {
        match tokio::time::timeout(limit, self.try_addresses()).await {
            Ok(connected) => connected,
            Err(_) => Err(io::Error::new(io::ErrorKind::TimedOut, "connect timed out")),
        }
    }

    async fn try_addresses(&self) -> io::Result<Connection> {
        let addresses: Vec<SocketAddr> = match self.host.parse::<IpAddr>() {
            Ok(address) => vec![(address, self.port).into()],
            Err(_) => tokio::net::lookup_host((self.host.as_str(), self.port)).await?.collect(),
        };
        let mut error = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
        for address in addresses {
            match TcpStream::connect(address).await {
                Ok(stream) => return Connection::start(stream, self.name.clone()).await,
                Err(failed) => error = failed,
            }
        }
        Err(error)
    }
}

/// An open connection, with a task that drives it until it closes.
#[derive(Debug)]
pub(super) struct Connection {
    sender: SendRequest<RequestBody>,
    server: Rc<str>,
    uses: u32,
    pub(super) unused_since: Instant,
}

impl Connection {
    async fn start(stream: TcpStream, server: Rc<str>) -> io::Result<Self> {
        // Requests are written whole; Nagle would hold the last piece of a body back.
        stream.set_nodelay(true)?;
        // One buffer instead of pieces: a request is mostly small.
        let (sender, driver) = http1::Builder::new()
            .writev(false)
            .max_headers(200)
            .handshake(TokioIo::new(stream))
            .await
            .map_err(io::Error::other)?;
        tokio::task::spawn_local(async move {
            // Whoever waits for a response on it gets the error; after that nobody is concerned.
            drop(driver.with_upgrades().await);
        });
        Ok(Self { sender, server, uses: 0, unused_since: Instant::now() })
    }

    pub(super) fn server(&self) -> Rc<str> {
        self.server.clone()
    }

    /// Whether it served a request before.
    pub(super) fn is_reused(&self) -> bool {
        self.uses > 1
    }

    pub(super) fn count_use(&mut self) {
        self.uses = self.uses.saturating_add(1);
    }

    pub(super) fn send(
        &mut self,
        request: Request<RequestBody>,
    ) -> impl Future<Output = Result<Response<Incoming>, TrySendError<Request<RequestBody>>>> + use<> {
        self.sender.try_send_request(request)
    }

    /// Whether a request may be sent now; `None` when it never may again.
    pub(super) async fn readiness(&mut self) -> Option<bool> {
        std::future::poll_fn(|cx| {
            Poll::Ready(match self.sender.poll_ready(cx) {
                Poll::Ready(Ok(())) => Some(true),
                Poll::Ready(Err(_)) => None,
                Poll::Pending => Some(false),
            })
        })
        .await
    }

    pub(super) fn is_closed(&self) -> bool {
        self.sender.is_closed()
    }
}
