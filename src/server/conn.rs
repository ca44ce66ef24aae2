//! One client connection: TLS, the HTTP version, and a deadline for every wait.
//!
//! hyper has a deadline for the header of a request only. Here one timer watches what the connection is doing (waiting
//! for a header, idle, writing), and it is touched when it fires, not at every request.

use std::cell::Cell;
use std::convert::Infallible;
use std::future::{Future, poll_fn};
use std::net::IpAddr;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU32, AtomicU64, Ordering::Relaxed};
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use http_body::{Body, Frame, SizeHint};
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio_rustls::TlsAcceptor;

use super::accept::Permit;
use super::listener::Terms;
use super::prefixed::Prefixed;
use super::proxy_protocol::HeaderError;
use super::unread::{Noted, Opened, Unread};
use super::{preface, proxy_protocol};
use crate::config::Limits;
use crate::gateway::{Exchange, Worker};
use crate::headers::Peer;
use crate::interim::Interim;
use crate::reject::Reason;
use crate::telemetry::metrics::ConnectionLimit;

/// What serving a connection needs besides the connection.
#[derive(Clone, Debug)]
pub(super) struct Serving {
    pub(super) worker: Rc<Worker>,
    pub(super) terms: Arc<Terms>,
    /// Turns true when the gateway stops.
    pub(super) stopping: watch::Receiver<bool>,
}

/// Serves a connection to its end. `address` is the other end of its socket.
pub(super) async fn serve(stream: TcpStream, address: IpAddr, permit: &mut Permit, context: Serving) {
    // Responses are written whole; Nagle would hold their last piece back.
    drop(stream.set_nodelay(true));
    let mut stream = Prefixed::new(stream);
    let gateway = context.worker.gateway().clone();
    let limits = &gateway.config.limits;
    let terms = &context.terms;
    let address = match terms.speak_proxy_protocol() {
        false => address,
        true => match Box::pin(behind_balancer(&mut stream, address, permit, &context, limits)).await {
            Some(client) => client,
            None => return,
        },
    };
    let mut peer = Peer::new(address, gateway.is_trusted_proxy(address), terms.tls.is_some());
    peer.https_port = terms.https_port;
    let peer = Rc::new(peer);
    let metrics = context.worker.metrics();
    let Some(tls) = &terms.tls else {
        return plain(stream, peer, &context, limits).await;
    };
    let handshake = TlsAcceptor::from(tls.clone()).accept(stream);
    match tokio::time::timeout(limits.tls_handshake_timeout, handshake).await {
        Ok(Ok(stream)) => {
            metrics.handshakes.add(1);
            // The version is what was agreed on, never guessed from the first bytes.
            if stream.get_ref().1.alpn_protocol() == Some(b"h2") {
                http2(stream, peer, &context, limits).await;
            } else {
                http1(stream, peer, &context, limits).await;
            }
        }
        Ok(Err(error)) => {
            metrics.handshakes_failed.add(1);
            tracing::debug!(client = %address, error = %error, "TLS handshake failed");
        }
        Err(_) => {
            metrics.handshakes_failed.add(1);
            metrics.limit(ConnectionLimit::HandshakeTimeout);
        }
    }
}

/// The address of the client that a balancer relays, with a place among its connections; `None` when there is nothing
/// to serve.
async fn behind_balancer(
    stream: &mut Prefixed<TcpStream>,
    balancer: IpAddr,
    permit: &mut Permit,
    context: &Serving,
    limits: &Limits,
) -> Option<IpAddr> {
    let metrics = context.worker.metrics();
    match tokio::time::timeout(limits.header_timeout, proxy_protocol::read(stream)).await {
        Ok(Ok(Some(client))) => {
            let client = client.to_canonical();
            if let Err(full) = permit.assign(client) {
                metrics.limit(full.into());
                return None;
            }
            Some(client)
        }
        // The balancer speaks for itself: no client's limit is its own.
        Ok(Ok(None)) => Some(balancer),
        Ok(Err(HeaderError::Closed)) => None,
        Ok(Err(error)) => {
            // Who may speak it must (proxy-protocol.txt §2): to guess would be to believe clients.
            metrics.limit(ConnectionLimit::ProxyHeader);
            tracing::debug!(%balancer, error = %crate::gateway::chain(&error), "connection closed");
            None
        }
        Err(_) => {
            metrics.limit(ConnectionLimit::HeaderTimeout);
            None
        }
    }
}

/// Without TLS nobody agreed on a version: the client's first bytes tell.
async fn plain(mut stream: Prefixed<TcpStream>, peer: Rc<Peer>, context: &Serving, limits: &Limits) {
    let mut stopping = context.stopping.clone();
    let told = tokio::select! {
        biased;
        told = tokio::time::timeout(limits.header_timeout, preface::is_http2(&mut stream)) => told,
        // Nothing was asked: the connection is closed as one that is idle.
        _ = stopping.wait_for(|stop| *stop) => Ok(Ok(false)),
    };
    match told {
        Ok(Ok(true)) => http2(stream, peer, context, limits).await,
        Ok(Ok(false)) => http1(stream, peer, context, limits).await,
        Ok(Err(error)) => tracing::debug!(%error, "connection ended"),
        Err(_) => {
            context.worker.metrics().limit(ConnectionLimit::HeaderTimeout);
            tracing::debug!(limit = ?ConnectionLimit::HeaderTimeout, "connection closed");
        }
    }
}

async fn http1<S>(stream: S, peer: Rc<Peer>, context: &Serving, limits: &Limits)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let activity = Activity::new(true);
    // One for all requests: they come one at a time.
    let exchange = Rc::new(Exchange::default());
    let interim = peer.interim.clone();
    let service = service_fn(|request| {
        let (worker, peer, active) = (context.worker.clone(), peer.clone(), activity.request());
        let exchange = exchange.clone();
        exchange.stream.reset();
        async move {
            let response = worker.handle(&peer, request, &exchange).await;
            Ok::<_, Infallible>(response.map(|body| WithGuard { body, active }))
        }
    });
    let connection = hyper::server::conn::http1::Builder::new()
        // Our own deadline covers the header: hyper's would make a timer for each request.
        .header_read_timeout(None)
        .max_headers(limits.header_count.get())
        .max_header_size(limits.header_bytes.get())
        .max_buf_size(limits.header_bytes.get().max(64 * 1024))
        // One buffer instead of two pieces: a response is mostly small.
        .writev(false)
        .serve_connection(TokioIo::new(Watched::new(stream, &activity, Some(interim))), service)
        .with_upgrades();
    let cut = poll_fn(|cx| exchange.stream.poll_cut(cx));
    watch(connection, |connection| connection.graceful_shutdown(), cut, &activity, context, limits).await;
    // The connection has been handed over to it.
    let tunnel = exchange.tunnel.borrow_mut().take();
    if let Some(tunnel) = tunnel {
        tunnel.run(context.stopping.clone()).await;
    }
}

async fn http2<S>(stream: S, peer: Rc<Peer>, context: &Serving, limits: &Limits)
where
    S: AsyncRead + AsyncWrite + Unpin + 'static,
{
    let activity = Activity::new(false);
    let executor =
        StreamExecutor { next: Rc::default(), worker: context.worker.clone(), stopping: context.stopping.clone() };
    let service = service_fn(|request| {
        let (worker, peer, opened) = (context.worker.clone(), peer.clone(), Rc::new(Opened::default()));
        executor.next.set(Some((opened.clone(), activity.request())));
        async move {
            let response = worker.handle(&peer, request, &opened.exchange).await;
            Ok::<_, Infallible>(response.map(|body| Noted::new(body, opened)))
        }
    });
    let header_bytes = u32::try_from(limits.header_bytes.get()).unwrap_or(u32::MAX);
    let connection = hyper::server::conn::http2::Builder::new(executor.clone())
        .timer(TokioTimer::new())
        .max_concurrent_streams(limits.http2_streams.get())
        // WebSocket over HTTP/2 (RFC 8441).
        .enable_connect_protocol()
        .max_header_list_size(header_bytes)
        // Streams reset before their answer (CVE-2023-44487) or broken by us (CVE-2025-8671): so many, then GOAWAY.
        .max_pending_accept_reset_streams(limits.http2_resets.get())
        .max_local_error_reset_streams(limits.http2_resets.get())
        .initial_stream_window_size(256 * 1024)
        .initial_connection_window_size(1024 * 1024)
        .max_send_buf_size(256 * 1024)
        // A peer that is gone without a word is found out.
        .keep_alive_interval(limits.idle_timeout / 2)
        .keep_alive_timeout(limits.header_timeout)
        .serve_connection(TokioIo::new(Watched::new(stream, &activity, None)), service);
    let never = std::future::pending();
    watch(connection, |connection| connection.graceful_shutdown(), never, &activity, context, limits).await;
}

/// Drives a connection until it ends, crosses a limit, is cut, or was told to stop.
async fn watch<C>(
    connection: C,
    stop: impl Fn(Pin<&mut C>),
    cut: impl Future<Output = Reason>,
    activity: &Arc<Activity>,
    context: &Serving,
    limits: &Limits,
) where
    C: Future<Output = hyper::Result<()>>,
{
    let mut connection = pin!(connection);
    let mut stopping = context.stopping.clone();
    let mut stopped = *stopping.borrow_and_update();
    if stopped {
        stop(connection.as_mut());
    }
    let mut alarm = pin!(tokio::time::sleep(limits.header_timeout));
    let mut cut = pin!(cut);
    loop {
        tokio::select! {
            biased;
            ended = &mut connection => {
                if let Err(error) = ended {
                    tracing::debug!(error = %crate::gateway::chain(&error), "connection ended");
                }
                return;
            }
            // In the middle of its response, so that nobody takes what came for all of it.
            reason = &mut cut => {
                tracing::debug!(reason = reason.as_str(), "connection cut with its session");
                return;
            }
            changed = stopping.changed(), if !stopped => {
                stopped = true;
                if changed.is_ok() {
                    stop(connection.as_mut());
                }
            }
            () = &mut alarm => match activity.overdue(limits) {
                Err(limit) => {
                    context.worker.metrics().limit(limit);
                    tracing::debug!(?limit, "connection closed");
                    return;
                }
                Ok(wait) => alarm.as_mut().reset(tokio::time::Instant::now() + wait),
            },
        }
    }
}

/// What a connection is doing, as seen from its socket and its requests. Written without locks, read by the alarm.
#[derive(Debug)]
struct Activity {
    start: Instant,
    /// HTTP/1.1: a byte after an answer is the start of the next header.
    one_at_a_time: bool,
    requests: AtomicU32,
    phase: AtomicU8,
    /// Milliseconds after `start` when the phase began.
    since: AtomicU64,
    /// Milliseconds after `start` since when writing makes no progress; `u64::MAX` when it does.
    blocked_since: AtomicU64,
}

/// Waiting for (the rest of) a header.
const HEADER: u8 = 0;
/// Between two requests.
const IDLE: u8 = 1;
/// A request is being answered.
const BUSY: u8 = 2;

impl Activity {
    fn new(one_at_a_time: bool) -> Arc<Self> {
        Arc::new(Self {
            start: Instant::now(),
            one_at_a_time,
            requests: AtomicU32::new(0),
            // The first byte has the deadline of a header: a silent connection is no idle one.
            phase: AtomicU8::new(HEADER),
            since: AtomicU64::new(0),
            blocked_since: AtomicU64::new(u64::MAX),
        })
    }

    fn now(&self) -> u64 {
        u64::try_from(self.start.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    fn enter(&self, phase: u8) {
        self.phase.store(phase, Relaxed);
        self.since.store(self.now(), Relaxed);
    }

    /// A header is complete.
    fn request(self: &Arc<Self>) -> ActiveRequest {
        self.requests.fetch_add(1, Relaxed);
        self.phase.store(BUSY, Relaxed);
        ActiveRequest(self.clone())
    }

    fn bytes_came(&self) {
        if self.one_at_a_time && self.phase.load(Relaxed) == IDLE {
            self.enter(HEADER);
        }
    }

    /// Which limit is crossed, or how long until one can be.
    fn overdue(&self, limits: &Limits) -> Result<Duration, ConnectionLimit> {
        let now = self.now();
        let blocked = self.blocked_since.load(Relaxed);
        let check = |since: u64, limit: Duration, name| {
            let passed = Duration::from_millis(now.saturating_sub(since));
            limit.checked_sub(passed).filter(|left| !left.is_zero()).ok_or(name)
        };
        let writing = match blocked {
            u64::MAX => limits.body_idle_timeout,
            since => check(since, limits.body_idle_timeout, ConnectionLimit::WriteTimeout)?,
        };
        let since = self.since.load(Relaxed);
        let waiting = match self.phase.load(Relaxed) {
            HEADER => check(since, limits.header_timeout, ConnectionLimit::HeaderTimeout)?,
            IDLE => check(since, limits.idle_timeout, ConnectionLimit::IdleTimeout)?.min(limits.header_timeout),
            _ => limits.header_timeout,
        };
        Ok(writing.min(waiting))
    }
}

/// A request that is being answered.
#[derive(Debug)]
struct ActiveRequest(Arc<Activity>);

impl Drop for ActiveRequest {
    fn drop(&mut self) {
        if self.0.requests.fetch_sub(1, Relaxed) == 1 {
            self.0.enter(IDLE);
        }
    }
}

/// A response body that keeps its request active.
#[derive(Debug)]
struct WithGuard<B> {
    body: B,
    active: ActiveRequest,
}

impl<B: Body + Unpin> Body for WithGuard<B> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<B::Data>, B::Error>>> {
        let this = self.get_mut();
        debug_assert!(this.active.0.requests.load(Relaxed) > 0);
        Pin::new(&mut this.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// A stream that tells what it is doing.
#[derive(Debug)]
struct Watched<S> {
    stream: S,
    activity: Arc<Activity>,
    /// HTTP/1.1: what is sent before the response.
    interim: Option<Arc<Interim>>,
    /// Of that, what is still to be written. Begun where hyper had nothing to write, it goes before all that it has.
    rest: Vec<u8>,
    /// Much was read: before there is more, others of this thread have their turn.
    gives_way: bool,
}

/// A read of so many bytes is no lone request.
const MUCH: usize = 4 * 1024;

impl<S> Watched<S> {
    fn new(stream: S, activity: &Arc<Activity>, interim: Option<Arc<Interim>>) -> Self {
        Self { stream, activity: activity.clone(), interim, rest: Vec::new(), gives_way: false }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Watched<S> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<std::io::Result<()>> {
        let this = self.get_mut();
        if this.gives_way {
            this.gives_way = false;
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        let before = buffer.filled().len();
        let read = Pin::new(&mut this.stream).poll_read(cx, buffer);
        let came = buffer.filled().len() - before;
        if came > 0 {
            this.activity.bytes_came();
            // HTTP/2 reads as long as something is there, and ends the connection when too many small frames wait to be
            // taken: a client that streams small messages would be cut before their taker had its turn.
            this.gives_way = came >= MUCH && !this.activity.one_at_a_time;
        }
        read
    }
}

impl<S: AsyncWrite + Unpin> Watched<S> {
    /// Writes the rest of what was begun.
    fn poll_rest(&mut self, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        while !self.rest.is_empty() {
            let outcome = Pin::new(&mut self.stream).poll_write(cx, &self.rest);
            match ready!(self.wrote(outcome))? {
                0 => return Poll::Ready(Err(std::io::ErrorKind::WriteZero.into())),
                count => drop(self.rest.drain(..count)),
            }
        }
        Poll::Ready(Ok(()))
    }

    /// Writes the interim responses that wait. hyper flushes only what it has wholly handed over: this is the place
    /// between two responses.
    fn poll_interim(&mut self, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        loop {
            ready!(self.poll_rest(cx))?;
            match self.interim.as_ref().and_then(|interim| interim.take()) {
                Some(heads) => self.rest = heads,
                None => return Poll::Ready(Ok(())),
            }
        }
    }

    fn wrote<T>(&self, outcome: Poll<T>) -> Poll<T> {
        let blocked = &self.activity.blocked_since;
        if outcome.is_ready() {
            blocked.store(u64::MAX, Relaxed);
        } else if blocked.load(Relaxed) == u64::MAX {
            blocked.store(self.activity.now(), Relaxed);
        }
        outcome
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Watched<S> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<std::io::Result<usize>> {
        let this = self.get_mut();
        ready!(this.poll_rest(cx))?;
        let outcome = Pin::new(&mut this.stream).poll_write(cx, bytes);
        this.wrote(outcome)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        let this = self.get_mut();
        ready!(this.poll_interim(cx))?;
        let outcome = Pin::new(&mut this.stream).poll_flush(cx);
        this.wrote(outcome)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        let this = self.get_mut();
        let outcome = Pin::new(&mut this.stream).poll_shutdown(cx);
        this.wrote(outcome)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        pieces: &[std::io::IoSlice<'_>],
    ) -> Poll<std::io::Result<usize>> {
        let this = self.get_mut();
        ready!(this.poll_rest(cx))?;
        let outcome = Pin::new(&mut this.stream).poll_write_vectored(cx, pieces);
        this.wrote(outcome)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}

/// Runs the streams of an HTTP/2 connection on its own thread. The connection owns them: they end with it.
///
/// hyper asks the service for its future and hands the stream with that future in it over at once. What the service left
/// in `next` therefore belongs to that stream, which can so be cut, or go on as a tunnel.
#[derive(Clone)]
struct StreamExecutor {
    next: Rc<Cell<Option<Next>>>,
    worker: Rc<Worker>,
    stopping: watch::Receiver<bool>,
}

/// A stream that was just opened. The connection is busy until it has ended, as a tunnel too.
type Next = (Rc<Opened>, ActiveRequest);

impl<F: Future + 'static> hyper::rt::Executor<F> for StreamExecutor
where
    F::Output: 'static,
{
    fn execute(&self, future: F) {
        let Some((opened, active)) = self.next.take() else {
            drop(tokio::task::spawn_local(future));
            return;
        };
        let (worker, stopping) = (self.worker.clone(), self.stopping.clone());
        drop(tokio::task::spawn_local(async move {
            let exchange = &opened.exchange;
            {
                let mut future = pin!(future);
                let mut unread = Unread::new(worker.gateway().config.limits.body_idle_timeout);
                // Dropped before its end, the stream is reset.
                let done = poll_fn(|cx| match future.as_mut().poll(cx) {
                    Poll::Ready(_) => Poll::Ready(()),
                    Poll::Pending if exchange.stream.poll_cut(cx).is_ready() => Poll::Ready(()),
                    Poll::Pending => unread.poll(cx, &opened).map(|()| {
                        worker.metrics().limit(ConnectionLimit::WriteTimeout);
                        tracing::debug!(limit = ?ConnectionLimit::WriteTimeout, "stream reset");
                    }),
                });
                done.await;
            }
            let tunnel = exchange.tunnel.borrow_mut().take();
            if let Some(tunnel) = tunnel {
                tunnel.run(stopping).await;
            }
            drop(active);
        }));
    }
}
