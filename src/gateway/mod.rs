//! A request, end to end: [`Worker::handle`] and what it calls are the picture of the whole.
//!
//! In the order of a request: `judge` what it is, with `target`, `cors`, `authenticate`, `limits`; `caller` who calls and
//! is active; `outcome` where it goes; `upgrade` and `grpc` what is special of it; `forward` how it is sent, and what came
//! back; `manner` how its answer is given. `lane` is the short way of most requests.

mod affinity;
pub(crate) mod authenticate;
mod caller;
mod cors;
mod dates;
mod forward;
mod grpc;
mod judge;
pub(crate) mod lane;
mod limits;
mod manner;
pub(crate) mod outcome;
mod redirect;
pub(crate) mod target;
pub(crate) mod trace;
pub(crate) mod upgrade;

use std::cell::{Cell, RefCell};
use std::net::IpAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::HeaderValue;
use http::request::Parts;
use http::{Request, Response};
use hyper::body::Incoming;
use ipnet::IpNet;

use self::forward::Ready;
use self::judge::Judged;
use self::manner::{Manner, own, tell};
use self::outcome::Way;
use crate::auth_api::{AuthApi, Endpoint};
use crate::body::{RequestBody, RequestProgress, ResponseBody};
use crate::clock::UnixTime;
use crate::config::Config;
use crate::headers::{self, HeaderPolicy, Peer};
use crate::live::{self, LiveStream, LiveStreams, Stream};
use crate::reject::{Reason, Rejection};
use crate::revocation::Revocations;
use crate::route::RouteTable;
use crate::session::Sessions;
use crate::session::store::StoreError;
use crate::telemetry::access::{AccessEntry, Asked, WorkerLog};
use crate::telemetry::metrics::{Metrics, WorkerMetrics};
use crate::token::cache::TokenCache;
use crate::token::verify::Verifier;
use crate::tunnel::{Ends, Tunnel};
use crate::upstream::{Answer, Dialer, SharedUpstream, Upstream, UpstreamError};

/// When the store is asked again about a session that it could not tell of.
const ASK_AGAIN_AFTER: Duration = Duration::from_secs(1);

/// What all workers share: built once, then only read.
#[derive(Debug)]
pub struct Gateway {
    /// The checked configuration.
    pub config: Config,
    /// Its routes.
    pub routes: RouteTable,
    /// The keys of all issuers.
    pub verifier: Arc<Verifier>,
    /// Ended sessions and users.
    pub revocations: Arc<Revocations>,
    /// Sessions and revocations.
    pub sessions: Arc<Sessions>,
    /// The public endpoints.
    pub auth_api: AuthApi,
    /// What workers know together of each of the configuration's upstreams.
    pub upstreams: Vec<Arc<SharedUpstream>>,
    /// How the servers of each upstream are connected to, in the order of the configuration.
    pub dialers: Vec<Arc<Dialer>>,
    /// What all workers count.
    pub metrics: Arc<Metrics>,
    /// Where store calls run: never on a worker.
    pub control: tokio::runtime::Handle,
}

impl Gateway {
    /// Whether `address` is a proxy whose word on the client is taken.
    pub fn is_trusted_proxy(&self, address: IpAddr) -> bool {
        is_in(&self.config.server.trusted_proxies, address)
    }
}

fn is_in(nets: &[IpNet], address: IpAddr) -> bool {
    nets.iter().any(|net| net.contains(&address))
}

/// One thread's part of the gateway: everything it writes to is its own.
#[derive(Debug)]
pub struct Worker {
    gateway: Arc<Gateway>,
    cache: RefCell<TokenCache>,
    upstreams: Vec<Upstream>,
    policy: Rc<HeaderPolicy>,
    metrics: Arc<WorkerMetrics>,
    log: Rc<WorkerLog>,
    names: trace::Names,
    dates: dates::Dates,
    live: Rc<LiveStreams>,
}

/// What a request shares with the connection it came over.
#[derive(Debug, Default)]
pub struct Exchange {
    /// By which it is cut once its session is over.
    pub stream: Rc<Stream>,
    /// What follows the response, when that is a `101` or what it is over HTTP/2.
    pub tunnel: RefCell<Option<Tunnel>>,
    /// Why it is refused before it is looked at.
    pub refused: Cell<Option<Reason>>,
}

/// What a request is answered with.
enum Outcome {
    /// An answer of ours.
    Own(Response<Bytes>),
    /// An upstream's.
    Upstream(Answer, Lasting),
    /// An upstream's agreement to go on in another protocol, and between whom.
    Switched(Response<()>, Box<Ends>),
}

/// How long a response may last.
struct Lasting {
    /// How long the pieces of its body may be apart.
    idle: Duration,
    /// It ends with this stream's session.
    live: Option<LiveStream>,
}

impl Worker {
    /// `seed` is random. The token cache has this worker's share of `limits.token_cache_bytes`.
    pub fn new(gateway: Arc<Gateway>, metrics: Arc<WorkerMetrics>, log: Rc<WorkerLog>, seed: [u8; 16]) -> Self {
        let config = &gateway.config;
        let auth = &config.auth;
        let policy =
            HeaderPolicy::new(auth.user_header.clone(), auth.session_header.clone(), auth.strip_headers.clone());
        let upstreams = config
            .upstreams
            .iter()
            .zip(&gateway.upstreams)
            .zip(&gateway.dialers)
            .enumerate()
            .map(|(index, ((upstream, shared), dialer))| {
                Upstream::new(upstream, shared.clone(), dialer, index, metrics.clone())
            })
            .collect();
        let cache_bytes = config.limits.token_cache_bytes.get() / config.server.workers.get();
        Self {
            cache: RefCell::new(TokenCache::new(cache_bytes)),
            upstreams,
            policy: Rc::new(policy),
            metrics,
            log,
            names: trace::Names::new(seed),
            dates: dates::Dates::default(),
            live: Rc::default(),
            gateway,
        }
    }

    /// What is shared.
    pub fn gateway(&self) -> &Arc<Gateway> {
        &self.gateway
    }

    /// What this worker counts.
    pub fn metrics(&self) -> &Arc<WorkerMetrics> {
        &self.metrics
    }

    /// Done now and then: log lines go out, unused upstream connections are closed.
    pub fn tick(&self) {
        self.log.flush();
        for upstream in &self.upstreams {
            upstream.close_unused();
        }
        self.metrics.cache_entries.set(u64::try_from(self.cache.borrow().len()).unwrap_or(u64::MAX));
    }

    /// Done a few times a second: open streams whose session is over are cut.
    pub fn look_through_streams(&self) {
        let now = UnixTime::now();
        let ask = |asked: live::Asked| {
            let sessions = self.gateway.sessions.clone();
            if !sessions.end_by_time() {
                return;
            }
            let (control, live) = (self.gateway.control.clone(), self.live.clone());
            tokio::task::spawn_local(async move {
                let due = control.spawn(async move { sessions.end_when_due(asked.session, now).await }).await;
                // Ended, it is among the revocations by now. Without an answer it is asked about once more.
                if let Some(again) = due.unwrap_or(Err(StoreError::Timeout)).unwrap_or(Some(now.plus(ASK_AGAIN_AFTER)))
                {
                    live.answered(asked, again);
                }
            });
        };
        self.live.look_through(&self.gateway.revocations, now, ask);
        self.metrics.streams.set(u64::try_from(self.live.len()).unwrap_or(u64::MAX));
    }

    /// From the header of a request to the header of its response.
    pub async fn handle(&self, peer: &Peer, request: Request<Incoming>, exchange: &Exchange) -> Response<ResponseBody> {
        let (mut parts, body) = request.into_parts();
        upgrade::unfold_connect(&mut parts);
        let is_grpc = grpc::is_call(&parts);
        let request_id = self.names.request_id_of(&parts.headers);
        let client = headers::client_address(&parts.headers, peer, |address| self.gateway.is_trusted_proxy(address));
        let mut entry = Box::new(AccessEntry::begin(self.log.clone(), client, Asked::of(&parts), request_id.clone()));
        let manner = Manner::of(&parts, &body);

        let rejection = match self.answer(peer, parts, body, &mut entry, exchange).await {
            Ok(Outcome::Upstream(answer, Lasting { idle, live })) => {
                let Answer { mut response, lease, .. } = answer;
                entry.status = Some(response.status());
                tell(response.headers_mut(), &mut entry);
                let response = response.map(|incoming| ResponseBody::upstream(incoming, lease, idle, entry, live));
                return manner.fit(response);
            }
            Ok(Outcome::Switched(mut response, ends)) => {
                entry.status = Some(response.status());
                tell(response.headers_mut(), &mut entry);
                *exchange.tunnel.borrow_mut() = Some(Tunnel::new(*ends, entry));
                return response.map(|()| ResponseBody::full(Bytes::new(), None));
            }
            Ok(Outcome::Own(response)) => {
                entry.reason = response.extensions().get().copied();
                entry.status = Some(response.status());
                return own(response, &manner, entry);
            }
            Err(rejection) => rejection,
        };
        entry.reason = Some(rejection.reason);
        let id = request_id.to_str().unwrap_or("-");
        let response = if is_grpc { rejection.to_grpc_response(id) } else { rejection.to_response(id) };
        entry.status = Some(response.status());
        own(response, &manner, entry)
    }

    /// Judged → still active? → forwarded. The first doubt ends it.
    ///
    /// What few requests wait for is boxed: a future is copied into its connection for every request, and should be small.
    async fn answer(
        &self,
        peer: &Peer,
        mut parts: Parts,
        body: Incoming,
        entry: &mut AccessEntry,
        exchange: &Exchange,
    ) -> Result<Outcome, Rejection> {
        if let Some(reason) = exchange.refused.take() {
            return Err(reason.into());
        }
        if let Some(port) = peer.https_port {
            return redirect::to_https(&parts, port, &self.gateway.config.limits).map(Outcome::Own);
        }
        let admitted = match self.judge(&parts, entry)? {
            Judged::Own(endpoint) => {
                return Box::pin(self.own_endpoint(endpoint, peer, &parts, body, entry)).await.map(Outcome::Own);
            }
            Judged::Answered(response) => return Ok(Outcome::Own(*response)),
            Judged::Admitted(admitted) => admitted,
        };
        if admitted.ask_store
            && let Err(rejection) = Box::pin(self.confirm_active(admitted.route, entry)).await
        {
            outcome::refuse(admitted.route, rejection, entry)?;
        }
        let route = admitted.route;
        let forward = match outcome::way(route, &mut parts.uri)? {
            Way::Forward(forward) => forward,
            Way::Answered(mut response) => {
                outcome::dress(response.headers_mut(), route, entry.caller().is_some());
                return Ok(Outcome::Own(response));
            }
        };
        let Ready { request, upstream, key, response_timeout, hints, sent } =
            self.make_ready(peer, parts, body, admitted, forward, exchange, entry)?;
        let progress = sent.progress.as_deref();
        let answer = if hints {
            Box::pin(send_with_hints(peer, upstream, request, progress, response_timeout, key)).await
        } else {
            upstream.send(request, progress, response_timeout, key).await
        };
        self.conclude(answer, sent, entry)
    }

    async fn own_endpoint(
        &self,
        endpoint: Endpoint,
        peer: &Peer,
        parts: &Parts,
        body: Incoming,
        entry: &AccessEntry,
    ) -> Result<Response<Bytes>, Rejection> {
        let call = crate::auth_api::Call {
            gateway: &self.gateway,
            parts,
            client: entry.client,
            scheme: peer.scheme(),
            request_id: entry.request_id.to_str().unwrap_or("-"),
        };
        self.gateway.auth_api.serve(endpoint, call, body).await
    }
}

/// As [`Upstream::send`]; interim responses that come before the answer are passed on.
async fn send_with_hints(
    peer: &Peer,
    upstream: &Upstream,
    mut request: Request<RequestBody>,
    progress: Option<&RequestProgress>,
    response_timeout: Duration,
    key: Option<u64>,
) -> Result<Answer, UpstreamError> {
    peer.interim.pass(&mut request, headers::to_client);
    peer.interim.during(upstream.send(request, progress, response_timeout, key)).await
}

/// The one host of a request, as the client wrote it.
///
/// # Errors
/// [`Reason::BadHost`]
pub(crate) fn host_of(parts: &Parts) -> Result<HeaderValue, Reason> {
    let host = target::host(parts)?;
    host.name()?;
    Ok(host.into_header())
}
