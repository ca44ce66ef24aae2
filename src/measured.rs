//! What `bench/micro` measures and nothing outside the library asks for: rooms within rooms, as their callers use them.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;

use http::header::{HeaderMap, HeaderValue};

use crate::clock::UnixTime;
use crate::gateway::{authenticate, trace};
use crate::reject::Reason;
use crate::revocation::Revocations;
use crate::route::Route;
use crate::telemetry::metrics::{Metrics, WorkerMetrics};
use crate::token::cache::{TokenCache, Verified};
use crate::token::verify::Verifier;

/// A worker's source of names for requests.
#[derive(Debug)]
pub struct Names(trace::Names);

impl Names {
    /// Starts from `seed`.
    pub fn new(seed: [u8; 16]) -> Self {
        Self(trace::Names::new(seed))
    }

    /// The client's request id, or a new one.
    pub fn request_id(&self, headers: &HeaderMap) -> HeaderValue {
        self.0.request_id_of(headers)
    }

    /// Makes a `traceparent` where there is no good one.
    pub fn ensure_traceparent(&self, headers: &mut HeaderMap) {
        self.0.ensure_traceparent(headers);
    }
}

/// A worker's part of finding out who calls.
#[derive(Debug)]
pub struct Callers {
    verifier: Arc<Verifier>,
    revocations: Arc<Revocations>,
    cache: RefCell<TokenCache>,
    metrics: Arc<WorkerMetrics>,
}

impl Callers {
    /// With a token cache of `cache_bytes`.
    pub fn new(verifier: Arc<Verifier>, revocations: Arc<Revocations>, cache_bytes: usize) -> Self {
        let metrics = Metrics::new(1, Vec::new(), Vec::new(), Arc::default()).worker(0);
        Self { verifier, revocations, cache: RefCell::new(TokenCache::new(cache_bytes)), metrics }
    }

    /// Who calls with this one `Authorization`.
    ///
    /// # Errors
    /// Why it is nobody whom `route` takes.
    pub fn identify(&self, authorization: &[u8], route: &Route, now: UnixTime) -> Result<Option<Rc<Verified>>, Reason> {
        let known = authenticate::Known {
            verifier: &self.verifier,
            revocations: &self.revocations,
            freshness: None,
            cache: &self.cache,
            metrics: &self.metrics,
            token_bytes: 8192,
        };
        authenticate::identify(&known, std::iter::once(authorization), route, now).map_err(|refused| refused.reason)
    }
}
