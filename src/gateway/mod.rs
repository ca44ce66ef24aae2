//! A request, end to end: [`Worker::handle`] is the picture of the whole in one function.

pub(crate) mod authenticate;
mod cors;
mod grpc;
mod limits;
mod manner;
pub(crate) mod outcome;
mod redirect;
pub(crate) mod target;
pub(crate) mod trace;
mod upgrade;

use std::cell::RefCell;
use std::net::IpAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::header::{self, HeaderMap, HeaderValue};
use http::request::Parts;
use http::{Method, Request, Response, StatusCode, Uri, Version};
use http_body::Body;
use hyper::body::Incoming;
use ipnet::IpNet;

use self::authenticate::Refused;
use self::manner::Manner;
use self::outcome::Way;
use self::target::Framing;
use self::upgrade::{Switched, Upgrade};
use crate::auth_api::{AuthApi, Endpoint};
use crate::body::{RequestBody, RequestProgress, ResponseBody};
use crate::clock::UnixTime;
use crate::config::Config;
use crate::headers::cors::Preflight;
use crate::headers::{self, Forwarding, HeaderPolicy, Peer};
use crate::ids::SessionName;
use crate::live::{Asked, LiveStream, LiveStreams, Stream};
use crate::reject::{Reason, Rejection};
use crate::revocation::Revocations;
use crate::route::{Forward, Route, RouteTable};
use crate::session::store::StoreError;
use crate::session::{Sessions, Touch};
use crate::telemetry::access::{AccessEntry, WorkerLog};
use crate::telemetry::metrics::{Metrics, WorkerMetrics};
use crate::token::cache::{TokenCache, Verified};
use crate::token::verify::Verifier;
use crate::tunnel::{Ends, Tunnel};
use crate::upstream::{Answer, Dialer, Upstream, UpstreamError};

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
    live: Rc<LiveStreams>,
}

/// What a request shares with the connection it came over.
#[derive(Debug, Default)]
pub struct Exchange {
    /// By which it is cut once its session is over.
    pub stream: Rc<Stream>,
    /// What follows the response, when that is a `101` or what it is over HTTP/2.
    pub tunnel: RefCell<Option<Tunnel>>,
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

/// What a request is found to be.
enum Judged<'a> {
    /// A call of an endpoint of ours.
    Own(Endpoint),
    /// Nothing is left to do but this answer.
    Answered(Box<Response<Bytes>>),
    /// It may go on to an upstream.
    Admitted(Admitted<'a>),
}

/// What is known of a request that may go on.
struct Admitted<'a> {
    route: &'a Route,
    host: HeaderValue,
    framing: Framing,
    /// Memory cannot tell whether its session is idle.
    ask_store: bool,
    now: UnixTime,
}

/// What is kept of a request while the upstream has it.
struct Sent<'a> {
    route: &'a Route,
    forward: &'a Forward,
    progress: Option<Rc<RequestProgress>>,
    live: Option<LiveStream>,
    upgrade: Option<Upgrade>,
    /// Nothing is done by asking: an answer that comes after the end of the session need not be given.
    is_safe: bool,
    is_grpc: bool,
    start: Instant,
}

impl Worker {
    /// `seed` is random; `share` is the number of workers the token cache is divided by.
    pub fn new(gateway: Arc<Gateway>, metrics: Arc<WorkerMetrics>, log: Rc<WorkerLog>, seed: [u8; 16]) -> Self {
        let config = &gateway.config;
        let auth = &config.auth;
        let policy =
            HeaderPolicy::new(auth.user_header.clone(), auth.session_header.clone(), auth.strip_headers.clone());
        let upstreams = config
            .upstreams
            .iter()
            .zip(&gateway.dialers)
            .enumerate()
            .map(|(index, (upstream, dialer))| Upstream::new(upstream, dialer, index, metrics.clone()))
            .collect();
        let cache_bytes = config.limits.token_cache_bytes.get() / config.server.workers.get();
        Self {
            cache: RefCell::new(TokenCache::new(cache_bytes)),
            upstreams,
            policy: Rc::new(policy),
            metrics,
            log,
            names: trace::Names::new(seed),
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
        let ask = |asked: Asked| {
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
        let request_id = self.names.request_id(&parts.headers);
        let client = headers::client_address(&parts.headers, peer, |address| self.gateway.is_trusted_proxy(address));
        let mut entry = Box::new(AccessEntry::begin(self.log.clone(), client, &parts, request_id.clone()));
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
        let Admitted { route, host, framing, now, .. } = admitted;
        let forward = match outcome::way(route, &mut parts.uri)? {
            Way::Forward(forward) => forward,
            Way::Answered(mut response) => {
                outcome::dress(response.headers_mut(), route, entry.caller().is_some());
                return Ok(Outcome::Own(response));
            }
        };
        let live = self.enter(exchange, route, now, entry);
        let upgrade = upgrade::asked(&mut parts, framing, &route.upgrades)?;
        let is_grpc = grpc::is_call(&parts);
        let response_timeout = match grpc::timeout(&parts).filter(|_| is_grpc) {
            Some(asked) => asked.min(self.gateway.config.limits.stream_idle_timeout),
            None => route.response_timeout,
        };
        self.rewrite(&mut parts, peer, &host, route, entry);
        if let Some(upgrade) = &upgrade {
            upgrade.write(&mut parts.headers);
        }
        let is_safe = parts.method.is_safe();
        // HTTP/1.0 has no interim responses (RFC 9110 §15.2), and hyper has no way to send them over HTTP/2.
        let hints = route.early_hints && parts.version == Version::HTTP_11;
        let (mut request, progress) = self.to_request(parts, body, host, framing, route, is_grpc)?;
        let upstream = self.upstreams.get(forward.upstream).ok_or(Reason::UpstreamUnreachable)?;
        let sent = Sent { route, forward, progress, live, upgrade, is_safe, is_grpc, start: Instant::now() };
        let answer = if hints {
            peer.interim.pass(&mut request, headers::to_client);
            let send = upstream.send(request, sent.progress.as_deref(), response_timeout);
            Box::pin(peer.interim.during(send)).await
        } else {
            upstream.send(request, sent.progress.as_deref(), response_timeout).await
        };
        self.conclude(answer, sent, entry)
    }

    /// Host, path and framing → ours? → route → identity → what the route asks for: all from memory, at once.
    fn judge(&self, parts: &Parts, entry: &mut AccessEntry) -> Result<Judged<'_>, Rejection> {
        let path = target::bounded_path(parts, &self.gateway.config.limits)?;
        let host = target::host(parts)?;
        let name = host.name()?;
        let framing = target::framing(&parts.headers, parts.version)?;
        let preflight = Preflight::of(parts);
        if let Some(endpoint) = self.gateway.auth_api.endpoint(path) {
            if let Some(policy) = &self.gateway.auth_api.cors {
                if preflight.is_some() && endpoint != Endpoint::Unknown {
                    return Ok(Judged::Answered(Box::new(cors::preflight(policy, parts, entry)?)));
                }
                cors::note(policy, parts, entry);
            }
            return Ok(Judged::Own(endpoint));
        }
        if let Some(preflight) = preflight
            // The route that the request itself will take, with its own method, is asked.
            && let Ok(route) = self.gateway.routes.find(&name, path, &preflight.method)
            && let Some(policy) = &route.cors
        {
            entry.set_route(route);
            return Ok(Judged::Answered(Box::new(cors::preflight(policy, parts, entry)?)));
        }
        let route = self.gateway.routes.find(&name, path, &parts.method)?;
        entry.set_route(route);
        if let Some(policy) = &route.cors {
            cors::note(policy, parts, entry);
        }
        if let Some(limits) = &route.limits {
            limits::before_identity(limits, entry)?;
        }
        let now = UnixTime::now();
        match self.identify(parts, route, now) {
            Ok(identity) => entry.identity = identity,
            Err(Refused { reason, identity }) => {
                // Known to the log; `AccessEntry::caller` is what may go on.
                entry.identity = identity;
                outcome::refuse(route, reason.into(), entry)?;
            }
        }
        if let Some(limits) = &route.limits {
            limits::after_identity(limits, parts, entry)?;
        }
        let noted = || entry.identity.as_ref().is_none_or(|known| self.note(known, now));
        let ask_store = entry.would_refuse.is_none() && !noted();
        if let (Some(limit), Framing::Length(length)) = (route.body_bytes, framing)
            && length > limit.get()
        {
            return Err(Reason::BodyTooLarge.into());
        }
        let host = host.into_header();
        Ok(Judged::Admitted(Admitted { route, host, framing, ask_store, now }))
    }

    /// Enters the request among those that end with their session; on a route that only observes, none does.
    fn enter(&self, exchange: &Exchange, route: &Route, now: UnixTime, entry: &AccessEntry) -> Option<LiveStream> {
        let known = entry.identity.as_ref().filter(|_| !route.observes)?;
        Some(self.live.enter(&exchange.stream, known, route.on_token_expiry, now))
    }

    /// The header as the upstream gets it, but for `Host` and framing.
    fn rewrite(&self, parts: &mut Parts, peer: &Peer, host: &HeaderValue, route: &Route, entry: &AccessEntry) {
        let forwarding = Forwarding {
            peer,
            forward_token: route.forward_token,
            restricts_methods: route.restricts_methods,
            http2: parts.version == Version::HTTP_2,
            stripped: route.stripped_prefix(),
            rules: &route.request_headers,
            identity: entry.caller(),
        };
        headers::to_upstream(&mut parts.headers, &self.policy, host, &forwarding);
        self.names.ensure_traceparent(&mut parts.headers);
        parts.headers.insert(headers::X_REQUEST_ID, entry.request_id.clone());
    }

    /// The request as the upstream gets it: origin form, one `Host`, one framing.
    fn to_request(
        &self,
        parts: Parts,
        body: Incoming,
        host: HeaderValue,
        framing: Framing,
        route: &Route,
        is_grpc: bool,
    ) -> Result<(Request<RequestBody>, Option<Rc<RequestProgress>>), Rejection> {
        let Parts { method, uri, mut headers, .. } = parts;
        headers.insert(header::HOST, host);
        let (body, progress) = if body.is_end_stream() {
            // Said in words where a body is usual (RFC 9110 §8.6): some servers wait for one otherwise.
            if framing == Framing::Length(0) || matches!(method, Method::POST | Method::PUT | Method::PATCH) {
                headers.insert(header::CONTENT_LENGTH, HeaderValue::from_static("0"));
            }
            (RequestBody::empty(), None)
        } else {
            let length = match framing {
                Framing::Length(length) => Some(length),
                Framing::Chunked => None,
                Framing::Unsaid => body.size_hint().exact(),
            };
            match length {
                Some(length) => headers.insert(header::CONTENT_LENGTH, HeaderValue::from(length)),
                None => headers.insert(header::TRANSFER_ENCODING, HeaderValue::from_static("chunked")),
            };
            let limit = route.body_bytes.map(std::num::NonZeroU64::get);
            let limits = &self.gateway.config.limits;
            // The client of a gRPC stream says something when it has something to say.
            let idle = if is_grpc { limits.stream_idle_timeout } else { limits.body_idle_timeout };
            let (body, progress) = RequestBody::streaming(body, limit, idle, self.policy.clone());
            (body, Some(progress))
        };
        let mut request = Request::new(body);
        *request.method_mut() = method;
        *request.uri_mut() = origin_form(uri)?;
        *request.headers_mut() = headers;
        Ok((request, progress))
    }

    /// What became of a request that was sent.
    fn conclude(
        &self,
        answer: Result<Answer, UpstreamError>,
        sent: Sent<'_>,
        entry: &mut AccessEntry,
    ) -> Result<Outcome, Rejection> {
        let Sent { route, forward, progress, live, upgrade, is_safe, is_grpc, start } = sent;
        let took = start.elapsed();
        entry.upstream_time = Some(took);
        let mut answer = match answer {
            Ok(answer) => answer,
            Err(error) => {
                if let Some(fault) = progress.and_then(|progress| progress.fault.get()) {
                    return Err(fault.into());
                }
                tracing::warn!(route = %route.name, error = %chain(&error), duration_ms = millis(took), "upstream failed");
                return Err(match error {
                    UpstreamError::Unreachable { .. } => Reason::UpstreamUnreachable,
                    UpstreamError::Broken { .. } => Reason::UpstreamBroken,
                    UpstreamError::Timeout { .. } => Reason::UpstreamTimeout,
                }
                .into());
            }
        };
        self.metrics.upstream_duration[forward.upstream].observe(took);
        entry.server = Some(answer.server.clone());
        // Asked for before the session was over, and only now is there something to give: a long poll, say.
        if let Some(reason) = live.as_ref().and_then(|live| live.stream().ended()).filter(|_| is_safe) {
            return Err(reason.into());
        }
        let status = answer.response.status();
        match upgrade {
            Some(upgrade) if status == StatusCode::SWITCHING_PROTOCOLS => {
                return self.switch(upgrade, answer, live);
            }
            // To a CONNECT any success means that the tunnel is open.
            Some(upgrade) if upgrade.is_connect() && status.is_success() => return Err(Reason::UpstreamBroken.into()),
            // Nobody asked for it: `Upgrade` was removed.
            None if status == StatusCode::SWITCHING_PROTOCOLS => return Err(Reason::UpstreamBroken.into()),
            _ => {}
        }
        if headers::settle_framing(answer.response.headers_mut()).is_err() {
            tracing::warn!(route = %route.name, server = %answer.server, "upstream response with ambiguous framing");
            return Err(Reason::UpstreamBroken.into());
        }
        headers::to_client(answer.response.headers_mut());
        // The version is that of the hop (RFC 9110 §6.2): an old upstream makes no old client.
        *answer.response.version_mut() = Version::HTTP_11;
        outcome::dress(answer.response.headers_mut(), route, entry.caller().is_some());
        let idle = if is_grpc || is_event_stream(answer.response.headers()) {
            self.gateway.config.limits.stream_idle_timeout
        } else {
            self.upstreams[forward.upstream].body_idle_timeout()
        };
        Ok(Outcome::Upstream(answer, Lasting { idle, live }))
    }

    /// The answer to a client that goes on in another protocol.
    fn switch(&self, upgrade: Upgrade, mut answer: Answer, live: Option<LiveStream>) -> Result<Outcome, Rejection> {
        let server = hyper::upgrade::on(&mut answer.response);
        let (parts, _empty) = answer.response.into_parts();
        let mut response = Response::from_parts(parts, ());
        let Switched { client, is_websocket, status } = upgrade.switch(response.headers_mut())?;
        *response.status_mut() = status;
        if let Some(live) = &live {
            live.begin();
        }
        let idle_timeout = self.gateway.config.limits.stream_idle_timeout;
        let ends = Ends { client, server, lease: answer.lease, is_websocket, idle_timeout, live };
        Ok(Outcome::Switched(response, Box::new(ends)))
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

/// Server-sent events: silent for as long as nothing happens.
fn is_event_stream(headers: &http::HeaderMap) -> bool {
    headers.get(header::CONTENT_TYPE).is_some_and(|kind| {
        kind.as_bytes().get(..17).is_some_and(|kind| kind.eq_ignore_ascii_case(b"text/event-stream"))
    })
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// An error with its causes on one line.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(next) = cause {
        let next_text = next.to_string();
        // Some errors repeat their cause in their own text.
        if !text.ends_with(&next_text) {
            text = format!("{text}: {next_text}");
        }
        cause = next.source();
    }
    text
}

/// Path and query only: what the router judged, byte for byte.
fn origin_form(uri: Uri) -> Result<Uri, Rejection> {
    if uri.authority().is_none() {
        return Ok(uri);
    }
    match uri.into_parts().path_and_query {
        Some(target) => Ok(Uri::from(target)),
        None => Err(Reason::BadTarget.into()),
    }
}

/// Writes what was found out on the way and belongs into any answer.
fn tell(headers: &mut HeaderMap, entry: &mut AccessEntry) {
    if let Some(fields) = entry.answer_fields.take() {
        fields.write(headers);
    }
}

/// An answer of ours; to `HEAD` with the length but without the body (RFC 9110 §9.3.2).
fn own(mut response: Response<Bytes>, manner: &Manner, mut entry: Box<AccessEntry>) -> Response<ResponseBody> {
    tell(response.headers_mut(), &mut entry);
    // RFC 9110 §8.6: a 204 has no length to tell, and a 304 would tell that of another answer.
    if manner.is_head && !matches!(response.status(), StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED) {
        let length = HeaderValue::from(response.body().len());
        response.headers_mut().insert(header::CONTENT_LENGTH, length);
        *response.body_mut() = Bytes::new();
    }
    if manner.awaits_continue {
        response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    response.map(|bytes| ResponseBody::full(bytes, Some(entry)))
}

impl Worker {
    /// Who is calling, as the route asks for it.
    fn identify(&self, parts: &Parts, route: &Route, now: UnixTime) -> Result<Option<Rc<Verified>>, Refused> {
        let authorization = parts.headers.get_all(header::AUTHORIZATION).iter().map(HeaderValue::as_bytes);
        authenticate::identify(
            &authenticate::Known {
                verifier: &self.gateway.verifier,
                revocations: &self.gateway.revocations,
                freshness: self.gateway.sessions.freshness().map(|fresh| &**fresh),
                cache: &self.cache,
                metrics: &self.metrics,
                token_bytes: self.gateway.config.limits.token_bytes.get(),
            },
            authorization,
            route,
            now,
        )
    }

    /// Notes the request of an own session. `false`: memory does not know of the session, or believes it idle.
    fn note(&self, known: &Verified, now: UnixTime) -> bool {
        let sessions = &self.gateway.sessions;
        let Some(id) = authenticate::needs_note(known, sessions, now) else { return true };
        let active = sessions.touch(id, now) == Touch::Active;
        if active {
            known.touched_at.set(now.as_millis());
        }
        active
    }

    /// Asks the store whether the caller's session is idle, and refuses it then.
    async fn confirm_active(&self, route: &Route, entry: &AccessEntry) -> Result<(), Rejection> {
        let Some(known) = &entry.identity else { return Ok(()) };
        let SessionName::Own(id) = known.identity.session else { return Ok(()) };
        let (sessions, now) = (self.gateway.sessions.clone(), UnixTime::now());
        let serves = || !route.refuses_stale && self.gateway.sessions.assume_active(id, now);
        // Known to be away: nobody waits for it once more.
        if self.gateway.sessions.store_health().is_err() && serves() {
            return Ok(());
        }
        let answer = self.gateway.control.spawn(async move { sessions.confirm_active(id, now).await }).await;
        match answer {
            Ok(Ok(None)) => {
                known.touched_at.set(now.as_millis());
                Ok(())
            }
            Ok(Ok(Some(ended))) => Err(ended.into()),
            Ok(Err(StoreError::Unreachable(_) | StoreError::Timeout)) if serves() => Ok(()),
            // It may be idle or not: nobody can say.
            Ok(Err(_)) | Err(_) => Err(Reason::StoreUnavailable.into()),
        }
    }
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
