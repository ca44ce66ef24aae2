//! Upstreams: their servers, connections kept for reuse, and what can go wrong between us and them.
//!
//! Each worker has its own connections, so that none is shared between threads; what all know together is in `shared`.
//! A request goes to one server at a time; it is sent again only when nothing of it can have been acted on.
//!
//! - `balance` chooses the server, among those that `health` and `ejection` leave in service;
//! - `slots` says whether there is room for one more connection to it;
//! - `open` finds a connection by both, and `pool` keeps it for the next request;
//! - `connection` makes it, with `dialer`, `names`, `attempts`, `tls`, `stream` and `fair`; `http2` lets requests share it;
//! - `direct` is one whose bytes are written and read by whoever has the request;
//! - `budget` bounds what is sent again.

mod attempts;
mod balance;
mod budget;
mod connection;
mod dialer;
mod direct;
mod ejection;
mod fair;
mod health;
mod http2;
mod lookup;
mod names;
mod open;
mod pool;
mod shared;
mod slots;
mod stream;
mod tls;

use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use http::{Method, Request, Response};
use hyper::body::Incoming;

pub use self::balance::key_of;
use self::connection::{Kind, Way};
pub use self::dialer::Dialer;
pub use self::direct::{Errand, Failed};
pub use self::health::spawn_checks;
pub use self::names::Names;
use self::open::Plan;
pub use self::pool::{Lease, UpstreamPool};
pub use self::shared::{SharedUpstream, add_gauges};
use crate::body::{RequestBody, RequestProgress};
use crate::config;
use crate::telemetry::metrics::WorkerMetrics;

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
    /// Checks found none of its servers well.
    #[error("no server is healthy")]
    NoHealthyServer,
    /// All its connections are in use, and too many requests wait for one already, or this one did for too long.
    #[error("no connection became free")]
    Overloaded,
    /// It closed the connection or answered something that is not HTTP.
    #[error("{server} broke its response off")]
    Broken {
        /// Which.
        server: Rc<str>,
        /// Why.
        #[source]
        cause: Box<dyn std::error::Error + Send + Sync>,
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
    hash_by: Option<config::HashBy>,
    protocol: config::Protocol,
}

impl Upstream {
    /// The worker's view of `upstreams[index]`, of which it shares `shared` with the others. To be called on the
    /// worker's runtime.
    pub fn new(
        config: &config::Upstream,
        shared: Arc<SharedUpstream>,
        dialer: &Arc<Dialer>,
        index: usize,
        metrics: Arc<WorkerMetrics>,
    ) -> Self {
        let pool = Rc::new(UpstreamPool::new(config, shared, dialer, index, metrics));
        pool.watch_queue();
        let hash_by = match &config.balance {
            config::Balance::Hash(by) => Some(by.clone()),
            config::Balance::RoundRobin | config::Balance::LeastRequests => None,
        };
        Self { pool, hash_by, protocol: config.protocol }
    }

    /// What a request's key is made of, when its server is chosen by one.
    pub fn hash_by(&self) -> Option<&config::HashBy> {
        self.hash_by.as_ref()
    }

    /// How long the pieces of a response body may be apart.
    pub fn body_idle_timeout(&self) -> Duration {
        self.pool.body_idle_timeout
    }

    /// Closes connections that were unused for too long.
    pub fn close_unused(&self) {
        self.pool.close_unused(Instant::now());
    }

    /// Sends a request and waits for the header of its response. `key` is of [`key_of`], when the server is chosen by
    /// it.
    ///
    /// A server that cannot be connected to is passed over for the next one: up to `retries` times, each server once. A
    /// request on a kept connection that turned out closed is sent again over a new one: always when hyper gives it
    /// back unsent, and for idempotent methods (RFC 9110 §9.2.2) without a body also when the connection closed before
    /// any byte of a response; the latter as `retries` and the budget allow. So is any request without a body that an
    /// HTTP/2 server says it has not looked at. Nothing else is sent again that was sent over a new connection: a
    /// request that takes a server down shall not take down the next.
    ///
    /// # Errors
    /// [`UpstreamError`]; when `progress` has a fault, it is the client's and not the upstream's.
    pub async fn send(
        &self,
        mut request: Request<RequestBody>,
        progress: Option<&RequestProgress>,
        response_timeout: Duration,
        key: Option<u64>,
    ) -> Result<Answer, UpstreamError> {
        let (pool, shared) = (&self.pool, &self.pool.shared);
        let replayable = progress.is_none() && is_idempotent(request.method());
        let mut plan = Plan::new(pool, key, !replayable, Way::Driven);
        loop {
            let mut lease = match pool.kept(&mut plan).await {
                Some(kept) => kept,
                // Boxed: rare, and large with its name look-up.
                None => Box::pin(pool.open(&mut plan)).await?,
            };
            let at = lease.server();
            let connection = lease.connection();
            let (server, reused, is_shared) = (connection.server(), connection.is_reused(), connection.is_shared());
            let again_if_closed = replayable && reused;
            let again_if_unprocessed = is_shared && progress.is_none();
            let copy = (again_if_closed || again_if_unprocessed).then(|| Box::new(head_of(&request)));
            let sent = match &mut connection.kind {
                Kind::Own(own) => within(response_timeout, progress, pin!(own.send(request))).await,
                // Not found for a plan of this way.
                Kind::Direct(_) => return Err(UpstreamError::Overloaded),
                // Boxed: larger, and the way of few requests.
                Kind::Shared(place) => within(response_timeout, progress, Box::pin(place.send(request)).as_mut()).await,
            };
            let by_client = || progress.is_some_and(|progress| progress.fault.get().is_some());
            let Some(result) = sent else {
                connection.give_up();
                if !by_client() {
                    shared.failed(at);
                }
                return Err(UpstreamError::Timeout { server });
            };
            let mut error = match result {
                Ok(response) => {
                    shared.answered(at, response.status());
                    return Ok(Answer { response, lease, server });
                }
                Err(error) => error,
            };
            let unsent = error.take_message();
            let cause = error.into_error();
            request = match (unsent, copy) {
                // Nothing of it went out, and that a kept connection was closed is no news of the server.
                (Some(request), _) if reused && !is_shared => {
                    plan.again(lease);
                    request
                }
                (Some(request), _) if plan.take_attempt() => {
                    if !reused {
                        shared.failed(at);
                    }
                    request
                }
                (None, Some(copy))
                    if (again_if_unprocessed && http2::is_unprocessed(&cause))
                        || (again_if_closed && closed_before_answer(&cause)) =>
                {
                    if !(plan.take_attempt() && shared.may_send_again()) {
                        return Err(UpstreamError::Broken { server, cause: cause.into() });
                    }
                    plan.again(lease);
                    *copy
                }
                _ => {
                    if !by_client() {
                        shared.failed(at);
                    }
                    return Err(UpstreamError::Broken { server, cause: cause.into() });
                }
            };
            // A kept connection is followed by a new one, and that by attempts that are counted: the loop ends.
            pool.metrics.upstream_retried[pool.index].add(1);
        }
    }
}

/// Whether sending a request twice does no more than sending it once (RFC 9110 §9.2.2). `TRACE` is never forwarded.
fn is_idempotent(method: &Method) -> bool {
    matches!(*method, Method::GET | Method::HEAD | Method::OPTIONS | Method::PUT | Method::DELETE)
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
///
/// Pinned by the caller: a future that is given away has room twice in the one that waits for it.
async fn within<T>(
    limit: Duration,
    progress: Option<&RequestProgress>,
    mut response: Pin<&mut impl Future<Output = T>>,
) -> Option<T> {
    let mut from = Instant::now();
    loop {
        match tokio::time::timeout_at((from + limit).into(), response.as_mut()).await {
            Ok(done) => return Some(done),
            // The request was still on its way: its pieces count.
            Err(_) => match progress.map(|progress| progress.last.get()) {
                Some(last) if last > from => from = last,
                _ => return None,
            },
        }
    }
}
