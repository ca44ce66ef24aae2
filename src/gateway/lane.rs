//! The fast lane: a request in its strictest form ([`CanonicalHead`]) on its way to an upstream and back, byte for byte.
//!
//! It decides nothing of its own. What is decided is decided by the functions that every request meets, and in their
//! order; what is written follows the same rules of names ([`HeaderPolicy::fate`](crate::headers::HeaderPolicy::fate)).
//! Wherever more would have to be known, [`Worker::take`] takes nothing, and the request goes the usual way as if nobody
//! had looked at it.

use std::rc::Rc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::header::{self, HeaderName};
use http::{Method, Response, StatusCode, Uri, Version};
use smallvec::SmallVec;

use super::authenticate::Refused;
use super::forward::{is_event_stream, why};
use super::trace::{TRACESTATE, has_traceparent};
use super::{Exchange, Worker, affinity};
use crate::clock::UnixTime;
use crate::config::HashBy;
use crate::headers::{self, Fate, Forwarding, Peer, Said};
use crate::http1::{CanonicalHead, Framing, ResponseFraming, ResponseHead};
use crate::live::LiveStream;
use crate::reject::{Reason, Rejection};
use crate::route::{Action, Forward, Route, host_name};
use crate::telemetry::access::{AccessEntry, Asked};
use crate::upstream::{Errand, Upstream, UpstreamError};

/// What becomes of a request.
pub(crate) enum Taken<'a> {
    /// It goes the usual way.
    Not,
    /// It is answered with this.
    Refused(Box<AccessEntry>, Box<Response<Bytes>>),
    /// It goes to its upstream.
    Forward(Box<Passage<'a>>),
}

/// A request on its way.
pub(crate) struct Passage<'a> {
    worker: &'a Worker,
    route: &'a Route,
    forward: &'a Forward,
    upstream: &'a Upstream,
    /// Of its log.
    entry: Box<AccessEntry>,
    live: Option<LiveStream>,
    key: Option<u64>,
    is_head: bool,
    is_safe: bool,
    /// Sent twice it does no more than once, and there is no body that is gone.
    replayable: bool,
    start: Instant,
}

/// The response to a request, once its head was read.
pub(crate) struct Begun {
    pub(crate) framing: ResponseFraming,
    /// The server keeps its connection open.
    pub(crate) keeps_alive: bool,
    /// How long the pieces of the body may be apart.
    pub(crate) idle: Duration,
}

impl Worker {
    /// Whether requests of `peer` may take the fast lane at all.
    ///
    /// What a trusted proxy says of a client is taken apart where all of it is known.
    pub(crate) fn has_lane(&self, peer: &Peer) -> bool {
        self.gateway.config.server.fast_lane && !peer.trusted && peer.https_port.is_none()
    }

    /// Judges a request that came whole, with its `body`. When it goes to an upstream, all that is sent there is in `out`.
    pub(crate) fn take<'a>(
        &'a self,
        peer: &Peer,
        head: &CanonicalHead<'_>,
        body: &[u8],
        exchange: &Exchange,
        out: &mut Vec<u8>,
    ) -> Taken<'a> {
        let Some((route, forward, upstream)) = self.way_of(head) else { return Taken::Not };
        let target = match &forward.rewrite {
            None => None,
            Some(rewrite) => match Uri::try_from(head.target).ok().and_then(|target| rewrite.apply(&target).ok()) {
                Some(target) => Some(target),
                None => return Taken::Not,
            },
        };
        let now = UnixTime::now();
        let request_id = self.names.request_id(head.values(headers::X_REQUEST_ID.as_str()));
        let asked = Asked {
            method: head.method.clone(),
            version: Version::HTTP_11,
            host: std::str::from_utf8(head.host).ok(),
            path: head.path(),
        };
        let identified = self.identify(head.values("authorization"), route, now);
        if let Ok(Some(known)) = &identified
            && !self.note(known, now)
        {
            // The store is to be asked.
            return Taken::Not;
        }
        self.metrics.fast_lane.add(1);
        let mut entry = Box::new(AccessEntry::begin(self.log.clone(), peer.address, asked, request_id));
        entry.set_route(route);
        match identified {
            Ok(identity) => entry.identity = identity,
            Err(Refused { reason, identity }) => {
                entry.identity = identity;
                let response = refusal(reason, &mut entry);
                return Taken::Refused(entry, response);
            }
        }
        exchange.stream.reset();
        let live = entry.identity.as_ref().map(|known| self.live.enter(&exchange.stream, known, route, now));
        self.write(peer, head, target.as_ref().map_or(head.target, |target| target.as_str()), route, &entry, out);
        out.extend_from_slice(body);
        let key = upstream.hash_by().and_then(|by| affinity::key(by, |_name| None, &entry));
        Taken::Forward(Box::new(Passage {
            worker: self,
            route,
            forward,
            upstream,
            entry,
            live,
            key,
            is_head: head.method == Method::HEAD,
            is_safe: head.method.is_safe(),
            replayable: body.is_empty() && head.method.is_idempotent(),
            start: Instant::now(),
        }))
    }

    /// Where a request goes, if all that its route asks for can be done here.
    fn way_of(&self, head: &CanonicalHead<'_>) -> Option<(&Route, &Forward, &Upstream)> {
        let gateway = &self.gateway;
        if head.target.len() > gateway.config.limits.uri_bytes.get() {
            return None;
        }
        let host = std::str::from_utf8(head.host).ok()?;
        // As a header's text is read: visible ASCII.
        let name = host_name(host)?;
        let path = head.path();
        if gateway.auth_api.endpoint(path).is_some() {
            return None;
        }
        let route = gateway.routes.find(&name, path, &head.method).ok()?;
        let Action::Forward(forward) = &route.action else { return None };
        let plain = !route.observes
            && !route.early_hints
            && route.cors.is_none()
            && route.limits.is_none()
            && route.request_headers.is_empty()
            && route.response_headers.is_empty();
        let upstream = self.upstreams.get(forward.upstream)?;
        let fits = match head.framing {
            Framing::Length(length) => route.body_bytes.is_none_or(|limit| length <= limit.get()),
            Framing::None => true,
            Framing::Chunked => false,
        };
        let reachable = upstream.takes_errands() && !matches!(upstream.hash_by(), Some(HashBy::Header(_)));
        (plain && fits && reachable).then_some((route, forward, upstream))
    }

    /// Writes the head of the request as the upstream gets it: what of the client's fields may pass, then ours, the
    /// identity last.
    fn write(
        &self,
        peer: &Peer,
        head: &CanonicalHead<'_>,
        target: &str,
        route: &Route,
        entry: &AccessEntry,
        out: &mut Vec<u8>,
    ) {
        for part in [head.method.as_str(), " ", target, " HTTP/1.1\r\n"] {
            out.extend_from_slice(part.as_bytes());
        }
        let keeps_trace = has_traceparent(head.values(headers::TRACEPARENT.as_str()));
        let mut lower = Lower::new();
        for (name, value) in head.fields() {
            let name = lowered(name, &mut lower);
            let keep = match self.policy.fate(name) {
                Fate::Keep => match name {
                    // Written anew below.
                    "x-request-id" => false,
                    "traceparent" | TRACESTATE => keeps_trace,
                    _ => true,
                },
                Fate::Drop | Fate::KeepFromProxy => false,
                Fate::Authorization => route.forward_token,
                Fate::MethodOverride => !route.restricts_methods,
            };
            if keep {
                put(out, name, value);
            }
        }
        match head.framing {
            Framing::Length(length) => put(out, "content-length", itoa::Buffer::new().format(length).as_bytes()),
            // Said in words where a body is usual (RFC 9110 §8.6): some servers wait for one otherwise.
            _ if matches!(head.method, Method::POST | Method::PUT | Method::PATCH) => put(out, "content-length", b"0"),
            _ => {}
        }
        if !keeps_trace {
            put(out, headers::TRACEPARENT.as_str(), &self.names.traceparent());
        }
        put(out, headers::X_REQUEST_ID.as_str(), entry.request_id.as_bytes());
        let forwarding = Forwarding {
            peer,
            forward_token: route.forward_token,
            restricts_methods: route.restricts_methods,
            http2: false,
            stripped: route.stripped_prefix(),
            rules: &route.request_headers,
            identity: entry.caller(),
        };
        let mut say = |name: &HeaderName, said: Said<'_>| {
            put(out, name.as_str(), if let Said::Value(value) = said { value.as_bytes() } else { head.host });
        };
        headers::say_forwarding(&forwarding, &mut say);
        headers::say_identity(&self.policy, &forwarding, &mut say);
        out.extend_from_slice(b"\r\n");
    }

    /// Writes an answer of ours, whole: how many bytes of it are its body.
    pub(crate) fn write_own(
        &self,
        response: &Response<Bytes>,
        is_head: bool,
        closes: bool,
        out: &mut Vec<u8>,
    ) -> usize {
        status_line(out, response.status(), None);
        for (name, value) in response.headers() {
            put(out, name.as_str(), value.as_bytes());
        }
        put(out, "content-length", itoa::Buffer::new().format(response.body().len()).as_bytes());
        if closes {
            put(out, "connection", b"close");
        }
        self.dates.write(out);
        out.extend_from_slice(b"\r\n");
        if is_head {
            return 0;
        }
        out.extend_from_slice(response.body());
        response.body().len()
    }
}

impl<'a> Passage<'a> {
    /// How it gets to a server.
    pub(crate) fn errand(&self) -> Errand<'a> {
        self.upstream.errand(self.key, self.replayable)
    }

    /// How long after the request the head of the response must be there.
    pub(crate) fn response_timeout(&self) -> Duration {
        self.route.response_timeout
    }

    /// Whether it asks for a head alone.
    pub(crate) fn is_head(&self) -> bool {
        self.is_head
    }

    /// The request's stream among the open ones.
    pub(crate) fn live(&self) -> Option<&LiveStream> {
        self.live.as_ref()
    }

    /// So many bytes of a body went on.
    pub(crate) fn sent(&mut self, bytes: usize) {
        self.entry.sent += bytes as u64;
    }

    /// The response cannot be given to its end.
    pub(crate) fn broke_off(&mut self, reason: Reason) {
        self.entry.reason = Some(reason);
    }

    /// No upstream answered.
    pub(crate) fn failed(&mut self, error: &UpstreamError) -> Box<Response<Bytes>> {
        let took = self.start.elapsed();
        self.entry.upstream_time = Some(took);
        refusal(why(error, self.route, took), &mut self.entry)
    }

    /// The head of a response has come from `server`. Writes what the client gets of it to `out`.
    ///
    /// # Errors
    /// The refusal that it gets instead.
    pub(crate) fn begin(
        &mut self,
        head: &ResponseHead<'_>,
        server: Rc<str>,
        closes: bool,
        out: &mut Vec<u8>,
    ) -> Result<Begun, Box<Response<Bytes>>> {
        let took = self.start.elapsed();
        self.entry.upstream_time = Some(took);
        self.worker.metrics.upstream_duration[self.forward.upstream].observe(took);
        self.entry.server = Some(server);
        // Asked for before the session was over, and only now is there something to give: a long poll, say.
        if self.is_safe
            && let Some(reason) = self.live.as_ref().and_then(|live| live.stream().ended())
        {
            return Err(refusal(reason, &mut self.entry));
        }
        let framing = match head.framing(self.is_head) {
            // Nobody asked for another protocol; and a status of no class (RFC 9110 §15) one reader takes for an error,
            // another for a success.
            Ok(framing) if head.status != StatusCode::SWITCHING_PROTOCOLS && head.status.as_u16() <= 599 => framing,
            Ok(_) | Err(_) => {
                let (route, server) = (&self.route.name, self.entry.server.as_deref().unwrap_or("-"));
                tracing::warn!(%route, %server, status = %head.status, "upstream response with no status or framing");
                return Err(refusal(Reason::UpstreamBroken, &mut self.entry));
            }
        };
        self.entry.status = Some(head.status);
        status_line(out, head.status, head.reason);
        let idle = self.fields(head, framing, closes, out);
        if let Some(live) = &self.live {
            live.begin();
        }
        Ok(Begun { framing, keeps_alive: head.keeps_alive(), idle })
    }

    /// Writes the fields of the response; how long the pieces of its body may be apart.
    fn fields(&self, head: &ResponseHead<'_>, framing: ResponseFraming, closes: bool, out: &mut Vec<u8>) -> Duration {
        let names_fields = head.names_fields();
        let (mut is_events, mut says_who_keeps, mut has_date) = (None, false, false);
        let mut lower = Lower::new();
        for (name, value) in head.fields() {
            let name = lowered(name.as_bytes(), &mut lower);
            if !headers::response_field_may_pass(name) || (names_fields && is_named(head, name)) {
                continue;
            }
            match name {
                "content-length" => continue,
                // The first counts, if there are several.
                "content-type" => is_events = is_events.or(Some(is_event_stream(value))),
                "cache-control" | "expires" => says_who_keeps = true,
                "date" => has_date = true,
                _ => {}
            }
            put(out, name, value);
        }
        match framing {
            ResponseFraming::Length(length) => {
                put(out, "content-length", itoa::Buffer::new().format(length).as_bytes())
            }
            ResponseFraming::Chunked | ResponseFraming::UntilClose => put(out, "transfer-encoding", b"chunked"),
            // How long it would have been is told to who asked for the head. A 204 has no length to tell (RFC 9110 §8.6).
            ResponseFraming::None if self.is_head && head.status != StatusCode::NO_CONTENT => {
                if let Some(length) = head.length_told() {
                    put(out, "content-length", itoa::Buffer::new().format(length).as_bytes());
                }
            }
            ResponseFraming::None => {}
        }
        if !says_who_keeps && self.entry.caller().is_some() {
            put(out, header::CACHE_CONTROL.as_str(), headers::PRIVATE.as_bytes());
        }
        if closes {
            put(out, "connection", b"close");
        }
        if !has_date {
            self.worker.dates.write(out);
        }
        out.extend_from_slice(b"\r\n");
        if is_events == Some(true) {
            self.worker.gateway.config.limits.stream_idle_timeout
        } else {
            self.upstream.body_idle_timeout()
        }
    }
}

impl Drop for Passage<'_> {
    fn drop(&mut self) {
        if let Some(live) = &self.live {
            self.entry.note_end(live.stream());
        }
    }
}

/// The answer to a request that is refused, noted in its log.
fn refusal(reason: Reason, entry: &mut AccessEntry) -> Box<Response<Bytes>> {
    let response = Rejection::from(reason).to_response(entry.request_id.to_str().unwrap_or("-"));
    entry.reason = Some(reason);
    entry.status = Some(response.status());
    Box::new(response)
}

/// Whether `Connection` names the field, which then does not reach the client.
fn is_named(head: &ResponseHead<'_>, name: &str) -> bool {
    // The framing is ours to decide.
    name != "content-length"
        && name != "host"
        && head
            .fields()
            .filter(|(one, _)| one.eq_ignore_ascii_case("connection"))
            .flat_map(|(_, value)| value.split(|byte| *byte == b','))
            .any(|token| token.trim_ascii().eq_ignore_ascii_case(name.as_bytes()))
}

fn status_line(out: &mut Vec<u8>, status: StatusCode, reason: Option<&str>) {
    out.extend_from_slice(b"HTTP/1.1 ");
    out.extend_from_slice(status.as_str().as_bytes());
    out.push(b' ');
    out.extend_from_slice(reason.or(status.canonical_reason()).unwrap_or("<none>").as_bytes());
    out.extend_from_slice(b"\r\n");
}

/// Room for a name in lower case: mostly on the stack.
type Lower = SmallVec<[u8; 64]>;

fn lowered<'l>(name: &[u8], lower: &'l mut Lower) -> &'l str {
    lower.clear();
    lower.extend_from_slice(name);
    lower.make_ascii_lowercase();
    // A name is a token; what is none is no name that a field may have.
    std::str::from_utf8(lower).unwrap_or("_")
}

fn put(out: &mut Vec<u8>, name: &str, value: &[u8]) {
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(b": ");
    out.extend_from_slice(value);
    out.extend_from_slice(b"\r\n");
}
