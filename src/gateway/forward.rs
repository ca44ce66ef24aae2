//! A request on its way to the upstream, and what became of it.

use std::rc::Rc;
use std::time::{Duration, Instant};

use http::header::{self, HeaderValue};
use http::request::Parts;
use http::{Method, Request, Response, StatusCode, Uri, Version};
use http_body::Body;
use hyper::body::Incoming;

use super::judge::Admitted;
use super::upgrade::{self, Switched, Upgrade};
use super::{Exchange, Lasting, Outcome, Worker, affinity, grpc, outcome};
use crate::body::{Pace, RequestBody, RequestProgress};
use crate::causes::chain;
use crate::clock::UnixTime;
use crate::headers::{self, Forwarding, Peer};
use crate::http1::Framing;
use crate::live::LiveStream;
use crate::reject::{Reason, Rejection};
use crate::route::{Forward, Route};
use crate::telemetry::access::AccessEntry;
use crate::tunnel::Ends;
use crate::upstream::{Answer, Upstream, UpstreamError};

/// What is kept of a request while the upstream has it.
pub(super) struct Sent<'a> {
    pub(super) route: &'a Route,
    pub(super) forward: &'a Forward,
    pub(super) progress: Option<Rc<RequestProgress>>,
    pub(super) live: Option<LiveStream>,
    pub(super) upgrade: Option<Upgrade>,
    /// Nothing is done by asking: an answer that comes after the end of the session need not be given.
    pub(super) is_safe: bool,
    pub(super) is_grpc: bool,
    pub(super) start: Instant,
}

/// A request as it is sent, and to whom.
pub(super) struct Ready<'a> {
    pub(super) request: Request<RequestBody>,
    pub(super) upstream: &'a Upstream,
    /// What its server is chosen by, if it is.
    pub(super) key: Option<u64>,
    pub(super) response_timeout: Duration,
    /// Interim responses are passed on.
    pub(super) hints: bool,
    pub(super) sent: Sent<'a>,
}

impl Worker {
    /// A request that may go on, as the upstream gets it.
    ///
    /// Nothing is awaited here: what is only needed on the way takes no room in what waits for the answer.
    #[expect(clippy::too_many_arguments, reason = "all that is known of a request comes together here")]
    pub(super) fn make_ready<'a>(
        &'a self,
        peer: &Peer,
        mut parts: Parts,
        body: Incoming,
        admitted: Admitted<'a>,
        forward: &'a Forward,
        exchange: &Exchange,
        entry: &mut AccessEntry,
    ) -> Result<Ready<'a>, Rejection> {
        let route = admitted.route;
        let live = self.enter(exchange, route, admitted.now, entry);
        let upgrade = upgrade::asked(&mut parts, admitted.framing, &route.upgrades)?;
        let is_grpc = grpc::is_call(&parts);
        let response_timeout = match grpc::timeout(&parts).filter(|_| is_grpc) {
            Some(asked) => asked.min(self.gateway.config.limits.stream_idle_timeout),
            None => route.response_timeout,
        };
        self.rewrite(&mut parts, peer, &admitted.host, route, entry);
        if let Some(upgrade) = &upgrade {
            upgrade.write(&mut parts.headers);
        }
        let is_safe = parts.method.is_safe();
        // HTTP/1.0 has no interim responses (RFC 9110 §15.2), and hyper has no way to send them over HTTP/2.
        let hints = route.early_hints && parts.version == Version::HTTP_11;
        let (request, progress) = self.to_request(parts, body, admitted, is_grpc, live.as_ref())?;
        let upstream = self.upstreams.get(forward.upstream).ok_or(Reason::UpstreamUnreachable)?;
        let key = upstream.hash_by().and_then(|by| affinity::key(by, |name| request.headers().get(name), entry));
        let sent = Sent { route, forward, progress, live, upgrade, is_safe, is_grpc, start: Instant::now() };
        Ok(Ready { request, upstream, key, response_timeout, hints, sent })
    }

    /// Enters the request among those that end with their session.
    fn enter(&self, exchange: &Exchange, route: &Route, now: UnixTime, entry: &AccessEntry) -> Option<LiveStream> {
        let known = entry.identity.as_ref().filter(|_| entry.caller().is_some())?;
        Some(self.live.enter(&exchange.stream, known, route, now))
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
        admitted: Admitted<'_>,
        is_grpc: bool,
        live: Option<&LiveStream>,
    ) -> Result<(Request<RequestBody>, Option<Rc<RequestProgress>>), Rejection> {
        let Parts { method, uri, mut headers, .. } = parts;
        let Admitted { route, host, framing, .. } = admitted;
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
                Framing::None => body.size_hint().exact(),
            };
            match length {
                Some(length) => headers.insert(header::CONTENT_LENGTH, HeaderValue::from(length)),
                None => headers.insert(header::TRANSFER_ENCODING, HeaderValue::from_static("chunked")),
            };
            let limit = route.body_bytes.map(std::num::NonZeroU64::get);
            let limits = &self.gateway.config.limits;
            // The client of a gRPC stream says something when it has something to say.
            let pace = if is_grpc {
                Pace { limit: limits.stream_idle_timeout, least: 1 }
            } else {
                Pace { limit: limits.body_idle_timeout, least: limits.body_progress.get() }
            };
            let live = live.map(|live| live.stream().clone());
            let (body, progress) = RequestBody::streaming(body, limit, pace, self.policy.clone(), live);
            (body, Some(progress))
        };
        let mut request = Request::new(body);
        *request.method_mut() = method;
        *request.uri_mut() = origin_form(uri)?;
        *request.headers_mut() = headers;
        Ok((request, progress))
    }

    /// What became of a request that was sent.
    pub(super) fn conclude(
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
                return Err(why(&error, route, took).into());
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
        // Of no class (RFC 9110 §15): one reader takes it for an error, another for a success.
        if status.as_u16() > 599 {
            tracing::warn!(route = %route.name, server = %answer.server, %status, "upstream response with no status");
            return Err(Reason::UpstreamBroken.into());
        }
        if headers::settle_framing(answer.response.headers_mut()).is_err() {
            tracing::warn!(route = %route.name, server = %answer.server, "upstream response with ambiguous framing");
            return Err(Reason::UpstreamBroken.into());
        }
        headers::to_client(answer.response.headers_mut());
        // The version is that of the hop (RFC 9110 §6.2): an old upstream makes no old client.
        *answer.response.version_mut() = Version::HTTP_11;
        outcome::dress(answer.response.headers_mut(), route, entry.caller().is_some());
        let kind = answer.response.headers().get(header::CONTENT_TYPE);
        let idle = if is_grpc || kind.is_some_and(|kind| is_event_stream(kind.as_bytes())) {
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
}

/// Why a request whose upstream failed after so long is refused; and tells of it.
pub(super) fn why(error: &UpstreamError, route: &Route, took: Duration) -> Reason {
    // The first two are told of where they begin, and a line for each request would be load where there is too much
    // already.
    if !matches!(error, UpstreamError::NoHealthyServer | UpstreamError::Overloaded) {
        let (route, error) = (&route.name, chain(error));
        tracing::warn!(%route, %error, duration_ms = millis(took), "upstream failed");
    }
    match error {
        UpstreamError::NoHealthyServer => Reason::NoHealthyServer,
        UpstreamError::Overloaded => Reason::UpstreamOverloaded,
        UpstreamError::Unreachable { .. } => Reason::UpstreamUnreachable,
        UpstreamError::Broken { .. } => Reason::UpstreamBroken,
        UpstreamError::Timeout { .. } => Reason::UpstreamTimeout,
    }
}

/// Whether a `Content-Type` is that of server-sent events: silent for as long as nothing happens.
pub(super) fn is_event_stream(kind: &[u8]) -> bool {
    kind.get(..17).is_some_and(|kind| kind.eq_ignore_ascii_case(b"text/event-stream"))
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// Path and query only: what the router judged, byte for byte.
fn origin_form(uri: Uri) -> Result<Uri, Rejection> {
    if uri.authority().is_none() {
        return Ok(uri);
    }
    match uri.into_parts().path_and_query.map(Uri::from) {
        // `http://host` and `http://host#x`: the path is empty, is judged as `/` (RFC 9112 §3.2.1), and must not leave as
        // nothing.
        Some(target) if target.path().is_empty() => Ok(Uri::from_static("/")),
        Some(target) => Ok(target),
        None => Err(Reason::BadTarget.into()),
    }
}
