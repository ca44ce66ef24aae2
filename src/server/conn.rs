//! One client connection: TLS, the HTTP version, and a deadline for every wait.
//!
//! hyper has a deadline for the header of a request only. Here one timer watches what the connection is doing (waiting
//! for a header, idle, writing), and it is touched when it fires, not at every request.

use std::convert::Infallible;
use std::future::{Future, poll_fn};
use std::net::IpAddr;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use http::StatusCode;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use rustls::ServerConfig;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use super::accept::Permit;
use super::activity::{Activity, WithGuard};
use super::allowance::Allowance;
use super::lane::{self, Drain, Handed, Shelf};
use super::listener::Terms;
use super::metered::Metered;
use super::prefixed::Prefixed;
use super::proxy_protocol::HeaderError;
use super::streams::StreamExecutor;
use super::strict::{Front, Strict};
use super::unread::{Noted, Opened};
use super::watched::Watched;
use super::{preface, proxy_protocol};
use crate::config::Limits;
use crate::gateway::{Exchange, Worker};
use crate::headers::Peer;
use crate::http1::HeadLimits;
use crate::reject::Reason;
use crate::telemetry::metrics::ConnectionLimit;

/// What serving a connection needs besides the connection.
#[derive(Clone, Debug)]
pub(super) struct Serving {
    pub(super) worker: Rc<Worker>,
    pub(super) terms: Arc<Terms>,
    /// Says the same to those who look often.
    pub(super) drain: Rc<Drain>,
    /// Buffers of the worker.
    pub(super) shelf: Rc<Shelf>,
    /// Turns true when the gateway stops.
    pub(super) stopping: watch::Receiver<bool>,
}

/// Serves a connection to its end. `address` is the other end of its socket.
///
/// What is soon over, or what few connections become, is boxed: a task is as large as the largest thing it may wait for,
/// and this one is mostly idle.
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
    let Some(tls) = &terms.tls else {
        return plain(stream, peer, &context, limits).await;
    };
    let Some(stream) = Box::pin(handshake(stream, tls.clone(), address, &context, limits)).await else { return };
    // The version is what was agreed on, never guessed from the first bytes.
    if stream.get_ref().1.alpn_protocol() == Some(b"h2") {
        Box::pin(http2(stream, peer, &context, limits)).await;
    } else {
        http1(stream, peer, &context, limits).await;
    }
}

/// The stream within TLS; `None` when none was agreed on in time.
async fn handshake(
    stream: Prefixed<TcpStream>,
    tls: Arc<ServerConfig>,
    client: IpAddr,
    context: &Serving,
    limits: &Limits,
) -> Option<Box<TlsStream<Prefixed<TcpStream>>>> {
    let metrics = context.worker.metrics();
    match tokio::time::timeout(limits.tls_handshake_timeout, TlsAcceptor::from(tls).accept(stream)).await {
        Ok(Ok(stream)) => {
            metrics.handshakes.add(1);
            return Some(Box::new(stream));
        }
        Ok(Err(error)) => tracing::debug!(%client, %error, "TLS handshake failed"),
        Err(_) => metrics.limit(ConnectionLimit::HandshakeTimeout),
    }
    metrics.handshakes_failed.add(1);
    None
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
            tracing::debug!(%balancer, error = %crate::causes::chain(&error), "connection closed");
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
        Ok(Ok(true)) => Box::pin(http2(stream, peer, context, limits)).await,
        Ok(Ok(false)) => http1(stream, peer, context, limits).await,
        Ok(Err(error)) => tracing::debug!(%error, "connection ended"),
        Err(_) => {
            context.worker.metrics().limit(ConnectionLimit::HeaderTimeout);
            tracing::debug!(limit = ?ConnectionLimit::HeaderTimeout, "connection closed");
        }
    }
}

/// In the fast lane for as long as its requests are for that, and then in hyper.
async fn http1<S>(stream: S, peer: Rc<Peer>, context: &Serving, limits: &Limits)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    // One for all requests: they come one at a time.
    let exchange = Rc::new(Exchange::default());
    let handed = if context.worker.has_lane(&peer) {
        match lane::serve(stream, &peer, &exchange, context, limits).await {
            Some(handed) => handed,
            None => return,
        }
    } else {
        Handed { stream: Prefixed::new(stream), since: Instant::now() }
    };
    // Boxed: few connections come here, and what they need is large.
    Box::pin(in_hyper(handed, peer, exchange, context, limits)).await;
}

async fn in_hyper<S>(handed: Handed<S>, peer: Rc<Peer>, exchange: Rc<Exchange>, context: &Serving, limits: &Limits)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let Handed { stream, since } = handed;
    let activity = Activity::since(true, since);
    let interim = peer.interim.clone();
    let front = Arc::new(Front::default());
    let service = service_fn(|request| {
        let (worker, peer, active) = (context.worker.clone(), peer.clone(), activity.request());
        let (exchange, front) = (exchange.clone(), &front);
        exchange.stream.reset();
        exchange.refused.set(front.refused(request.method()));
        async move {
            let response = worker.handle(&peer, request, &exchange).await;
            front.answered(response.status() == StatusCode::SWITCHING_PROTOCOLS);
            Ok::<_, Infallible>(response.map(|body| WithGuard { body, active }))
        }
    });
    let mut builder = hyper::server::conn::http1::Builder::new();
    builder
        // Our own deadline covers the header: hyper's would make a timer for each request.
        .header_read_timeout(None)
        .max_headers(limits.header_count.get())
        .max_header_size(limits.header_bytes.get())
        .max_buf_size(limits.header_bytes.get().max(64 * 1024))
        // One buffer instead of two pieces: a response is mostly small.
        .writev(false);
    {
        let bounds = HeadLimits { bytes: limits.header_bytes.get(), fields: limits.header_count.get() };
        let stream =
            TokioIo::new(Strict::new(Watched::new(stream, &activity, Some(interim)), &front, &activity, bounds));
        let connection = pin!(builder.serve_connection(stream, service).with_upgrades());
        let cut = poll_fn(|cx| exchange.stream.poll_cut(cx));
        watch(connection, |connection| connection.graceful_shutdown(), cut, &activity, context, limits).await;
    }
    // The connection has been handed over to it.
    let tunnel = exchange.tunnel.borrow_mut().take();
    if let Some(tunnel) = tunnel {
        Box::pin(tunnel.run(context.stopping.clone(), |_| ())).await;
    }
}

async fn http2<S>(stream: S, peer: Rc<Peer>, context: &Serving, limits: &Limits)
where
    S: AsyncRead + AsyncWrite + Unpin + 'static,
{
    let activity = Activity::since(false, Instant::now());
    let allowance = Allowance::of(limits);
    let executor =
        StreamExecutor { next: Rc::default(), worker: context.worker.clone(), stopping: context.stopping.clone() };
    let service = service_fn(|request| {
        let (worker, peer, opened) = (context.worker.clone(), peer.clone(), Rc::new(Opened::new(allowance.clone())));
        executor.next.set(Some((opened.clone(), activity.request())));
        async move {
            let response = worker.handle(&peer, request, &opened.exchange).await;
            Ok::<_, Infallible>(response.map(|body| Noted::new(body, opened)))
        }
    });
    let header_bytes = u32::try_from(limits.header_bytes.get()).unwrap_or(u32::MAX);
    let mut builder = hyper::server::conn::http2::Builder::new(executor.clone());
    builder
        .timer(TokioTimer::new())
        .max_concurrent_streams(limits.http2_streams.get())
        // WebSocket over HTTP/2 (RFC 8441).
        .enable_connect_protocol()
        .max_header_list_size(header_bytes)
        // Streams reset before we looked at them (CVE-2023-44487) or broken by us (CVE-2025-8671): so many, then GOAWAY.
        // Those reset later are counted by the allowance.
        .max_pending_accept_reset_streams(limits.http2_resets.get())
        .max_local_error_reset_streams(limits.http2_resets.get())
        .initial_stream_window_size(256 * 1024)
        .initial_connection_window_size(1024 * 1024)
        .max_send_buf_size(256 * 1024)
        // A peer that is gone without a word is found out.
        .keep_alive_interval(limits.idle_timeout / 2)
        .keep_alive_timeout(limits.header_timeout);
    let stream = Watched::new(Metered::new(stream, allowance.clone()), &activity, None);
    let connection = pin!(builder.serve_connection(TokioIo::new(stream), service));
    let never = std::future::pending();
    watch(connection, |connection| connection.graceful_shutdown(), never, &activity, context, limits).await;
    if let Some(limit) = allowance.crossed() {
        context.worker.metrics().limit(limit);
        tracing::debug!(?limit, client = %peer.address, "connection closed");
    }
}

/// Whether the library ended the connection because its client asked too much of it: resets that nobody had looked at,
/// CONTINUATION without an end, many small pieces at once, a header far over its limit.
fn asked_too_much(error: &hyper::Error) -> bool {
    let cause = std::error::Error::source(error).and_then(|cause| cause.downcast_ref::<h2::Error>());
    cause.is_some_and(|cause| cause.is_library() && cause.reason() == Some(h2::Reason::ENHANCE_YOUR_CALM))
}

/// Drives a connection until it ends, crosses a limit, is cut, or was told to stop.
async fn watch<C>(
    mut connection: Pin<&mut C>,
    stop: impl Fn(Pin<&mut C>),
    cut: impl Future<Output = Reason>,
    activity: &Arc<Activity>,
    context: &Serving,
    limits: &Limits,
) where
    C: Future<Output = hyper::Result<()>>,
{
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
                    if asked_too_much(&error) {
                        context.worker.metrics().limit(ConnectionLimit::Flood);
                    }
                    tracing::debug!(error = %crate::causes::chain(&error), "connection ended");
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
