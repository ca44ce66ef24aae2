//! HTTP/2 to a server: few connections, each shared by many requests of a worker.

use std::cell::{Cell, RefCell};
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use http::uri::{Authority, PathAndQuery, Scheme};
use http::{Request, Response, Uri, Version, header};
use hyper::body::Incoming;
use hyper::client::conn::TrySendError;
use hyper::client::conn::http2::{self, SendRequest};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::Notify;

use super::dialer::Dialed;
use super::names::Named;
use super::slots::Slot;
use super::stream::Stream;
use crate::body::RequestBody;

/// Most requests on one connection at a time, also when the server would take more: with more, one lost packet holds
/// up too many.
const MOST_STREAMS: usize = 100;

/// How much of a response may be on its way to us. Enough for 50 MB/s at 10 ms.
const STREAM_WINDOW: u32 = 512 * 1024;

/// All streams' windows together: whatever clients do not read, another stream's response has room beside it.
const CONNECTION_WINDOW: u32 = STREAM_WINDOW * MOST_STREAMS as u32;

/// How much of a request body is kept for the server to take.
const SEND_BUFFER: usize = 256 * 1024;

/// The longest decoded header list of a response.
const HEADER_LIST: u32 = 64 * 1024;

/// How often a connection with open requests that is silent is asked whether it is still there. Rarely: gRPC servers
/// end a connection whose client asks more often than every five minutes. That the network is gone TCP notices sooner,
/// that a server does not answer the deadline of a request (see [`Place::retire`]).
const PING_INTERVAL: Duration = Duration::from_secs(310);

/// How long the answer to that may take.
const PING_TIMEOUT: Duration = Duration::from_secs(20);

type Driver = http2::Connection<TokioIo<Heard>, RequestBody, LocalExecutor>;

/// The connections of one server that requests of a worker share.
#[derive(Debug, Default)]
pub(super) struct Shared {
    open: RefCell<Vec<Rc<Multiplexed>>>,
    opening: Cell<bool>,
    opened: Notify,
}

impl Shared {
    /// A place on a connection that has one, the first of them: the others may become unused and end.
    pub(super) fn take(&self, keep_alive: Duration) -> Option<Place> {
        let mut open = self.open.borrow_mut();
        open.retain(|connection| connection.is_usable(keep_alive));
        open.iter().find(|connection| connection.has_room()).map(Place::on)
    }

    /// A place on a connection, on a new one when no other has room. Whoever comes while one is being opened waits for
    /// it: a burst of requests opens one connection and not one each.
    pub(super) async fn place(
        &self,
        keep_alive: Duration,
        dial: impl AsyncFn() -> io::Result<Dialed>,
        tls: bool,
        slot: &Rc<Slot>,
    ) -> io::Result<Place> {
        loop {
            if let Some(place) = self.take(keep_alive) {
                return Ok(place);
            }
            if !self.opening.replace(true) {
                // Also when it fails, or nobody waits for it any more: the next in the queue tries then.
                let _done = Opening(self);
                let connection = Rc::new(Multiplexed::start(dial().await?, tls, slot.clone()).await?);
                self.open.borrow_mut().push(connection.clone());
                return Ok(Place::on(&connection));
            }
            self.opened.notified().await;
        }
    }

    /// Lets the first connection take no request any more; it is closed when those on it are done.
    pub(super) fn retire_one(&self, keep_alive: Duration) {
        if let Some(first) = self.open.borrow().first() {
            first.retired.set(true);
        }
        self.close_unused(keep_alive);
    }

    /// Closes connections that were unused for too long or can take no request any more.
    pub(super) fn close_unused(&self, keep_alive: Duration) {
        self.open.borrow_mut().retain(|connection| connection.is_usable(keep_alive));
    }
}

/// Somebody is opening a connection.
struct Opening<'s>(&'s Shared);

impl Drop for Opening<'_> {
    fn drop(&mut self) {
        self.0.opening.set(false);
        self.0.opened.notify_waiters();
    }
}

/// An open connection, driven by a task until it ends.
#[derive(Debug)]
struct Multiplexed {
    sender: RefCell<SendRequest<RequestBody>>,
    /// `None` once it has ended.
    driver: Rc<RefCell<Option<Driver>>>,
    scheme: Scheme,
    named: RefCell<Option<Named>>,
    streams: Cell<usize>,
    used: Cell<bool>,
    retired: Cell<bool>,
    unused_since: Cell<Instant>,
}

impl Multiplexed {
    /// Says the preface and waits for the server's: before its SETTINGS nobody knows how many requests it takes, or
    /// whether it speaks HTTP/2 at all.
    async fn start(dialed: Dialed, tls: bool, slot: Rc<Slot>) -> io::Result<Self> {
        let greeting = Rc::new(Greeting::default());
        let stream = Heard { stream: dialed.stream, greeting: greeting.clone() };
        let (sender, driver) = http2::Builder::new(LocalExecutor)
            .timer(TokioTimer::new())
            .initial_stream_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            // Until the server's SETTINGS are there, which is how they are noticed.
            .initial_max_send_streams(0)
            .max_header_list_size(HEADER_LIST)
            .max_send_buf_size(SEND_BUFFER)
            .keep_alive_interval(PING_INTERVAL)
            .keep_alive_timeout(PING_TIMEOUT)
            .handshake(TokioIo::new(stream))
            .await
            .map_err(io::Error::other)?;
        let driver = Rc::new(RefCell::new(Some(driver)));
        tokio::task::spawn_local(drive(driver.clone(), greeting.clone(), slot));
        let connection = Self {
            sender: RefCell::new(sender),
            driver,
            scheme: if tls { Scheme::HTTPS } else { Scheme::HTTP },
            named: RefCell::new(dialed.named),
            streams: Cell::new(0),
            used: Cell::new(false),
            retired: Cell::new(false),
            unused_since: Cell::new(Instant::now()),
        };
        while connection.most_streams() == Some(0) {
            greeting.heard.notified().await;
        }
        greeting.over.set(true);
        match connection.most_streams() {
            Some(_) => Ok(connection),
            None => Err(io::Error::new(io::ErrorKind::InvalidData, "the server does not answer as HTTP/2 does")),
        }
    }

    /// How many requests the server takes at a time, as it says now; `None` when the connection has ended.
    fn most_streams(&self) -> Option<usize> {
        Some(self.driver.borrow().as_ref()?.current_max_send_streams())
    }

    fn has_room(&self) -> bool {
        self.most_streams().is_some_and(|most| self.streams.get() < most.min(MOST_STREAMS))
    }

    /// Whether new requests may go on it: alive, wanted, to an address that the name still has, and not unused for so
    /// long that the server may be closing it this moment.
    fn is_usable(&self, keep_alive: Duration) -> bool {
        let is_current = || self.named.borrow_mut().as_mut().is_none_or(Named::is_current);
        let is_fresh = || self.streams.get() > 0 || self.unused_since.get().elapsed() < keep_alive;
        !self.retired.get() && !self.sender.borrow().is_closed() && is_current() && is_fresh()
    }
}

/// A request's place on a shared connection. Given back when dropped; what is left of the response is then not waited
/// for (RST_STREAM), and the connection goes on.
#[derive(Debug)]
pub(super) struct Place {
    connection: Rc<Multiplexed>,
    /// Whether it was used before.
    pub(super) reused: bool,
}

impl Place {
    fn on(connection: &Rc<Multiplexed>) -> Self {
        connection.streams.set(connection.streams.get() + 1);
        Self { connection: connection.clone(), reused: connection.used.replace(true) }
    }

    pub(super) fn send(
        &self,
        request: Request<RequestBody>,
    ) -> impl Future<Output = Result<Response<Incoming>, TrySendError<Request<RequestBody>>>> + use<> {
        let request = to_http2(request, &self.connection.scheme);
        self.connection.sender.borrow_mut().try_send_request(request)
    }

    /// No new request goes on the connection any more; those that are on it go on. Where one got no answer in time, the
    /// next may not either, and would wait as long.
    pub(super) fn retire(&self) {
        self.connection.retired.set(true);
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let left = self.connection.streams.get().saturating_sub(1);
        self.connection.streams.set(left);
        if left == 0 {
            self.connection.unused_since.set(Instant::now());
        }
    }
}

/// The form that HTTP/2 has for a request: absolute, so that `:scheme` and `:authority` are sent, and without the fields
/// that speak of a connection (RFC 9113 §8.2.2, §8.3.1). A request that has it already stays as it is.
fn to_http2(mut request: Request<RequestBody>, scheme: &Scheme) -> Request<RequestBody> {
    let headers = request.headers_mut();
    // What `te` may say, `trailers`, is all that is ever written (see `headers::to_upstream`).
    headers.remove(header::CONNECTION);
    headers.remove(header::TRANSFER_ENCODING);
    headers.remove(header::UPGRADE);
    let host = headers.remove(header::HOST);
    let path = request.uri().path_and_query().cloned().unwrap_or_else(|| PathAndQuery::from_static("/"));
    let authority = match &host {
        Some(host) => Authority::try_from(host.as_bytes()).ok(),
        None => request.uri().authority().cloned(),
    };
    let absolute = authority.and_then(|authority| {
        Uri::builder().scheme(scheme.clone()).authority(authority).path_and_query(path).build().ok()
    });
    match (absolute, host) {
        (Some(absolute), _) => {
            *request.uri_mut() = absolute;
            *request.version_mut() = Version::HTTP_2;
        }
        // A host that is no authority was refused long ago. If it ever comes here, it goes on as the field it was.
        (None, Some(host)) => drop(request.headers_mut().insert(header::HOST, host)),
        (None, None) => {}
    }
    request
}

/// Whether the server says of a request that nothing of it was looked at, so that it may be sent again whatever it asks
/// for (RFC 9113 §8.7): the stream was refused, or is above the last one of a GOAWAY.
pub(super) fn is_unprocessed(error: &hyper::Error) -> bool {
    use std::error::Error as _;
    let Some(error) = error.source().and_then(|source| source.downcast_ref::<h2::Error>()) else { return false };
    // Streams below the last one end with an I/O error when the connection does, not with that of the GOAWAY.
    error.is_remote() && (error.is_go_away() || error.reason() == Some(h2::Reason::REFUSED_STREAM))
}

/// Drives a connection to its end.
async fn drive(driver: Rc<RefCell<Option<Driver>>>, greeting: Rc<Greeting>, slot: Rc<Slot>) {
    std::future::poll_fn(|cx| match driver.borrow_mut().as_mut() {
        // Whoever waits for a response on it gets the error; after that nobody is concerned.
        Some(connection) => Pin::new(connection).poll(cx).map(drop),
        None => Poll::Ready(()),
    })
    .await;
    driver.borrow_mut().take();
    greeting.heard.notify_one();
    // Its room at the server is free as soon as it is closed.
    drop(slot);
}

/// What is waited for until the server's preface is there.
#[derive(Debug, Default)]
struct Greeting {
    heard: Notify,
    over: Cell<bool>,
}

/// A stream that tells when something was read, until the greeting is over.
#[derive(Debug)]
struct Heard {
    stream: Stream,
    greeting: Rc<Greeting>,
}

impl AsyncRead for Heard {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let read = Pin::new(&mut this.stream).poll_read(cx, buffer);
        if read.is_ready() && !this.greeting.over.get() {
            // Seen by the waiting side only when this turn of the connection is over, and what was read understood.
            this.greeting.heard.notify_one();
        }
        read
    }
}

impl AsyncWrite for Heard {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().stream).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        pieces: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().stream).poll_write_vectored(cx, pieces)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(cx)
    }
}

/// Runs the tasks of a connection on its own thread.
#[derive(Clone, Copy, Debug)]
struct LocalExecutor;

impl<F: Future + 'static> hyper::rt::Executor<F> for LocalExecutor
where
    F::Output: 'static,
{
    fn execute(&self, future: F) {
        // They end with the connection and its bodies.
        drop(tokio::task::spawn_local(future));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(uri: &str, fields: &[(&'static str, &'static str)]) -> Request<RequestBody> {
        let mut request = Request::new(RequestBody::empty());
        *request.uri_mut() = uri.parse().unwrap();
        for (name, value) in fields {
            request.headers_mut().append(*name, value.parse().unwrap());
        }
        request
    }

    #[test]
    fn a_request_becomes_absolute_and_loses_what_speaks_of_a_connection() {
        let fields = [
            ("host", "Shop.example:81"),
            ("connection", "te, upgrade"),
            ("upgrade", "websocket"),
            ("transfer-encoding", "chunked"),
            ("te", "trailers"),
            ("x-user-id", "ann"),
        ];
        let changed = to_http2(request("/a?b=1", &fields), &Scheme::HTTPS);
        assert_eq!(changed.uri(), "https://Shop.example:81/a?b=1");
        let left: Vec<&str> = changed.headers().keys().map(http::HeaderName::as_str).collect();
        assert_eq!(left, ["te", "x-user-id"]);
        // Given back unsent, it may go to a server that is spoken to without TLS.
        let again = to_http2(changed, &Scheme::HTTP);
        assert_eq!((again.uri().to_string().as_str(), again.headers().len()), ("http://Shop.example:81/a?b=1", 2));
    }

    #[test]
    fn a_host_that_is_no_authority_stays_a_field() {
        let changed = to_http2(request("/a", &[("host", "a b")]), &Scheme::HTTP);
        assert_eq!((changed.uri().to_string().as_str(), &changed.headers()["host"]), ("/a", &"a b".parse().unwrap()));
    }
}
