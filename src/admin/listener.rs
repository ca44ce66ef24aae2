//! Connections to the admin listener, with a bound on their number and on every wait.

use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use http::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::{Service as _, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::task::JoinSet;

use super::guard::REQUEST_DEADLINE;

/// The wait after an accept that failed: most causes (no file descriptor left) need a moment to pass.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// Fields of a request header.
const MAX_HEADERS: usize = 64;
/// Bytes of a request header: a token of 4 KiB and long paths have room.
const MAX_HEADER_BYTES: usize = 16 * 1024;

/// How much this listener bears.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    /// Open connections. More wait in the kernel.
    pub(super) connections: usize,
    /// For the header of each request, and between two requests.
    pub(super) header_timeout: Duration,
    /// A connection takes no new request after this time. So a client that does not read its answer goes too.
    pub(super) lifetime: Duration,
    /// For requests in flight once the gateway stops.
    pub(super) drain_timeout: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 256,
            header_timeout: Duration::from_secs(10),
            lifetime: Duration::from_secs(300),
            drain_timeout: Duration::from_secs(5),
        }
    }
}

/// Where a request came from.
#[derive(Clone, Copy, Debug)]
pub(super) struct Client(pub(super) SocketAddr);

/// Accepts until `stopping` turns true, then waits for requests in flight.
pub(super) async fn run(listener: TcpListener, router: Router, mut stopping: watch::Receiver<bool>, limits: Limits) {
    let permits = Arc::new(Semaphore::new(limits.connections));
    let service = TowerToHyperService::new(router);
    let mut connections = JoinSet::new();
    loop {
        let (stream, client, permit) = tokio::select! {
            biased;
            // An error means that the sender is gone: the gateway is being dropped.
            _ = stopping.wait_for(|stop| *stop) => break,
            Some(_) = connections.join_next() => continue,
            accepted = accept(&listener, &permits) => accepted,
        };
        let (service, stopping) = (service.clone(), stopping.clone());
        connections.spawn(async move {
            serve(stream, client, service, stopping, limits).await;
            drop(permit);
        });
    }
    drop(listener);
    let drained = async { while connections.join_next().await.is_some() {} };
    if tokio::time::timeout(limits.drain_timeout, drained).await.is_err() {
        tracing::warn!(cut = connections.len(), "admin connections were cut at the drain deadline");
    }
}

/// The next connection, with its place. Cancelled while it waits, it has taken nothing.
async fn accept(listener: &TcpListener, permits: &Arc<Semaphore>) -> (TcpStream, SocketAddr, OwnedSemaphorePermit) {
    #[expect(clippy::expect_used, reason = "the semaphore is never closed")]
    let permit = permits.clone().acquire_owned().await.expect("an open semaphore gives permits");
    loop {
        match listener.accept().await {
            Ok((stream, client)) => return (stream, client, permit),
            Err(error) => {
                tracing::warn!(error = %error, "cannot accept an admin connection");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

async fn serve(
    stream: TcpStream,
    client: SocketAddr,
    service: TowerToHyperService<Router>,
    mut stopping: watch::Receiver<bool>,
    limits: Limits,
) {
    // Responses are written whole; Nagle would hold their last piece back.
    drop(stream.set_nodelay(true));
    let service = service_fn(move |mut request: Request<Incoming>| {
        request.extensions_mut().insert(Client(client));
        service.call(request)
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.header_timeout)
        .max_headers(MAX_HEADERS)
        .max_header_size(MAX_HEADER_BYTES)
        .serve_connection(TokioIo::new(stream), service);
    let mut connection = pin!(connection);
    tokio::select! {
        ended = &mut connection => {
            if let Err(error) = ended {
                tracing::debug!(client = %client, error = %crate::causes::chain(&error), "admin connection ended");
            }
            return;
        }
        _ = stopping.wait_for(|stop| *stop) => {}
        () = tokio::time::sleep(limits.lifetime) => {}
    }
    connection.as_mut().graceful_shutdown();
    // The last request has its own deadline; twice that is for a client that does not read the answer.
    drop(tokio::time::timeout(REQUEST_DEADLINE * 2, connection).await);
}
