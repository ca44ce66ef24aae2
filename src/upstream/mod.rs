//! Upstreams: their servers, connections kept for reuse, and what can go wrong between us and them.
//!
//! Each worker has its own connections, so that none is shared between threads. A request goes to one server at a time;
//! it is sent again only when nothing of it can have been acted on.

mod attempts;
mod connection;
mod dialer;
mod http2;
mod lookup;
mod names;
mod pool;
mod stream;
mod tls;

use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use http::{Method, Request, Response};
use hyper::body::Incoming;

pub use self::dialer::Dialer;
pub use self::names::Names;
pub use self::pool::{Lease, UpstreamPool};
use crate::body::{RequestBody, RequestProgress};
use crate::config;
use crate::telemetry::metrics::WorkerMetrics;

/// How often a request that an HTTP/2 server refused to look at is sent again.
const MOST_REFUSALS: u32 = 2;

/// Why an upstream gave no response.
#[derive(Debug, thiserror::Error)]
pub enum UpstreamError {
    /// No server could be connected to.
    #[error("cannot connect to {server}")]
    Unreachable {
        /// The last one tried.
        server: Rc<str>,
        /// Why.
        #[source]
        cause: std::io::Error,
    },
    /// It closed the connection or answered something that is not HTTP.
    #[error("{server} broke its response off")]
    Broken {
        /// Which.
        server: Rc<str>,
        /// Why.
        #[source]
        cause: hyper::Error,
    },
    /// No response header in time.
    #[error("{server} did not answer in time")]
    Timeout {
        /// Which.
        server: Rc<str>,
    },
}

/// A response and the connection it still comes over.
#[derive(Debug)]
pub struct Answer {
    /// Its header, and its body still to be read.
    pub response: Response<Incoming>,
    /// The connection.
    pub lease: Lease,
    /// `host:port` that answered.
    pub server: Rc<str>,
}

/// One upstream, as one worker sees it.
#[derive(Debug)]
pub struct Upstream {
    pool: Rc<UpstreamPool>,
    metrics: Arc<WorkerMetrics>,
    index: usize,
}

impl Upstream {
    /// The worker's view of `upstreams[index]`.
    pub fn new(config: &config::Upstream, dialer: &Arc<Dialer>, index: usize, metrics: Arc<WorkerMetrics>) -> Self {
        Self { pool: Rc::new(UpstreamPool::new(config, dialer)), metrics, index }
    }

    /// How long the pieces of a response body may be apart.
    pub fn body_idle_timeout(&self) -> Duration {
        self.pool.body_idle_timeout
    }

    /// Closes connections that were unused for too long.
    pub fn close_unused(&self) {
        self.pool.close_unused(Instant::now());
    }

    /// Sends a request and waits for the header of its response.
    ///
    /// A server that cannot be connected to is skipped for the next one. A request on a kept connection that turned out
    /// closed is sent again on another: always when hyper gives it back unsent, and for `GET`, `HEAD` and `OPTIONS`
    /// without a body (safe methods, RFC 9110 §9.2.1) also when the connection closed before any byte of a response. So
    /// is any request without a body that an HTTP/2 server says it has not looked at.
    ///
    /// # Errors
    /// [`UpstreamError`]; when `progress` has a fault, it is the client's and not the upstream's.
    pub async fn send(
        &self,
        mut request: Request<RequestBody>,
        progress: Option<&RequestProgress>,
        response_timeout: Duration,
    ) -> Result<Answer, UpstreamError> {
        let replayable =
            progress.is_none() && matches!(*request.method(), Method::GET | Method::HEAD | Method::OPTIONS);
        let mut refusals = 0;
        loop {
            let turn = self.pool.turn();
            let mut connection = match self.pool.take_kept(turn).await {
                Some(kept) => kept,
                None => {
                    self.metrics.upstream_opened[self.index].add(1);
                    // Boxed: rare, and large with its name look-up.
                    Box::pin(self.pool.connect(turn)).await?
                }
            };
            let again_if_unprocessed = progress.is_none() && connection.is_shared() && refusals < MOST_REFUSALS;
            let again_if_closed = replayable && connection.is_reused();
            let copy = (again_if_unprocessed || again_if_closed).then(|| Box::new(head_of(&request)));
            let server = connection.server();
            let sent = within(response_timeout, progress, connection.send(request)).await;
            let Some(result) = sent else {
                connection.give_up();
                return Err(UpstreamError::Timeout { server });
            };
            let mut error = match result {
                Ok(response) => {
                    let lease = Lease::new(self.pool.clone(), connection);
                    return Ok(Answer { response, lease, server });
                }
                Err(error) => error,
            };
            let unsent = error.take_message();
            let cause = error.into_error();
            let again = match unsent {
                Some(request) if connection.is_reused() => Some(request),
                None if again_if_unprocessed && http2::is_unprocessed(&cause) => {
                    refusals += 1;
                    copy.map(|copy| *copy)
                }
                None if again_if_closed && closed_before_answer(&cause) => copy.map(|copy| *copy),
                _ => None,
            };
            match again {
                Some(again) => request = again,
                None => return Err(UpstreamError::Broken { server, cause }),
            }
            // Each turn uses up a kept connection or one of few refusals, and a new one is not retried: the loop ends.
            self.metrics.upstream_retried[self.index].add(1);
        }
    }
}

/// The connection ended before a byte of a response.
fn closed_before_answer(error: &hyper::Error) -> bool {
    use std::error::Error as _;
    let reset = || {
        let io = error.source().and_then(|source| source.downcast_ref::<std::io::Error>());
        io.is_some_and(|io| matches!(io.kind(), std::io::ErrorKind::ConnectionReset | std::io::ErrorKind::BrokenPipe))
    };
    error.is_incomplete_message() || error.is_canceled() || error.is_closed() || reset()
}

/// A request without a body once more: its fields share their bytes with the first.
fn head_of(request: &Request<RequestBody>) -> Request<RequestBody> {
    let mut copy = Request::new(RequestBody::empty());
    copy.method_mut().clone_from(request.method());
    copy.uri_mut().clone_from(request.uri());
    copy.headers_mut().clone_from(request.headers());
    copy
}

/// `None` when `response` took longer than `limit` after the last piece of the request was sent.
async fn within<T>(
    limit: Duration,
    progress: Option<&RequestProgress>,
    response: impl Future<Output = T>,
) -> Option<T> {
    let mut response = std::pin::pin!(response);
    let mut from = Instant::now();
    loop {
        match tokio::time::timeout_at((from + limit).into(), &mut response).await {
            Ok(done) => return Some(done),
            // The request was still on its way: its pieces count.
            Err(_) => match progress.map(|progress| progress.last.get()) {
                Some(last) if last > from => from = last,
                _ => return None,
            },
        }
    }
}
