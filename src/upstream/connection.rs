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
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use tokio::task::AbortHandle;

use super::slots::Slot;
use crate::body::RequestBody;
use crate::config::ServerAddress;

/// A server, as one worker connects to it.
#[derive(Debug)]
pub(super) struct Server {
    address: ServerAddress,
    /// For the log and errors, such as `10.0.0.5:8080`.
    pub(super) name: Rc<str>,
}

impl Server {
    pub(super) fn new(address: &ServerAddress) -> Self {
        Self { address: address.clone(), name: address.name().into() }
    }

    /// Opens a connection: all addresses of the name in turn, within one deadline.
    pub(super) async fn connect(&self, limit: Duration, slot: Rc<Slot>) -> io::Result<Connection> {
        match tokio::time::timeout(limit, self.try_addresses(slot)).await {
            Ok(connected) => connected,
            Err(_) => Err(io::Error::new(io::ErrorKind::TimedOut, "connect timed out")),
        }
    }

    async fn try_addresses(&self, slot: Rc<Slot>) -> io::Result<Connection> {
        let (host, port) = match &self.address {
            ServerAddress::Unix(path) => {
                return Connection::start(UnixStream::connect(path).await?, self.name.clone(), slot).await;
            }
            ServerAddress::Tcp { host, port, .. } => (host.as_str(), *port),
        };
        let addresses: Vec<SocketAddr> = match host.parse::<IpAddr>() {
            Ok(address) => vec![(address, port).into()],
            Err(_) => tokio::net::lookup_host((host, port)).await?.collect(),
        };
        let mut error = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
        for address in addresses {
            match TcpStream::connect(address).await {
                Ok(stream) => {
                    // Requests are written whole; Nagle would hold the last piece of a body back.
                    stream.set_nodelay(true)?;
                    return Connection::start(stream, self.name.clone(), slot).await;
                }
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
    /// A request is on it.
    in_use: bool,
    driver: AbortHandle,
    pub(super) unused_since: Instant,
}

/// One that is given up with a request on it is closed at once: its driver would go on sending what is left of the
/// request's body, and for ever when the server does not take it.
impl Drop for Connection {
    fn drop(&mut self) {
        if self.in_use {
            self.driver.abort();
        }
    }
}

impl Connection {
    /// `slot` is the connection's room at the server: given back when the connection is closed.
    async fn start(
        stream: impl AsyncRead + AsyncWrite + Unpin + 'static,
        server: Rc<str>,
        slot: Rc<Slot>,
    ) -> io::Result<Self> {
        // One buffer instead of pieces: a request is mostly small.
        let (sender, driver) = http1::Builder::new()
            .writev(false)
            .max_headers(200)
            .handshake(TokioIo::new(stream))
            .await
            .map_err(io::Error::other)?;
        let driver = tokio::task::spawn_local(async move {
            // Whoever waits for a response on it gets the error; after that nobody is concerned.
            drop(driver.await);
            drop(slot);
        });
        let driver = driver.abort_handle();
        Ok(Self { sender, server, uses: 0, in_use: false, driver, unused_since: Instant::now() })
    }

    pub(super) fn server(&self) -> Rc<str> {
        self.server.clone()
    }

    /// Whether it served a request before.
    pub(super) fn is_reused(&self) -> bool {
        self.uses > 1
    }

    /// A request takes it.
    pub(super) fn take(&mut self) {
        self.uses = self.uses.saturating_add(1);
        self.in_use = true;
    }

    /// Its request was answered to the end.
    pub(super) fn release(&mut self) {
        self.in_use = false;
        self.unused_since = Instant::now();
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
