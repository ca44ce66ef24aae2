//! What a request is found to be: host, path, framing, route, identity, limits. All from memory, at once.

use bytes::Bytes;
use http::Response;
use http::header::{self, HeaderValue};
use http::request::Parts;

use super::authenticate::Refused;
use super::target;
use super::{Worker, cors, limits, outcome};
use crate::auth_api::Endpoint;
use crate::clock::UnixTime;
use crate::headers::cors::Preflight;
use crate::http1::Framing;
use crate::reject::{Reason, Rejection};
use crate::route::Route;
use crate::telemetry::access::AccessEntry;

/// What a request is found to be.
pub(super) enum Judged<'a> {
    /// A call of an endpoint of ours.
    Own(Endpoint),
    /// Nothing is left to do but this answer.
    Answered(Box<Response<Bytes>>),
    /// It may go on to an upstream.
    Admitted(Admitted<'a>),
}

/// What is known of a request that may go on.
pub(super) struct Admitted<'a> {
    pub(super) route: &'a Route,
    pub(super) host: HeaderValue,
    pub(super) framing: Framing,
    /// Memory cannot tell whether its session is idle.
    pub(super) ask_store: bool,
    pub(super) now: UnixTime,
}

impl Worker {
    /// Host, path and framing → ours? → route → identity → what the route asks for: all from memory, at once.
    pub(super) fn judge(&self, parts: &Parts, entry: &mut AccessEntry) -> Result<Judged<'_>, Rejection> {
        let path = target::bounded_path(parts, &self.gateway.config.limits)?;
        target::fields(parts, &self.gateway.config.limits)?;
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
        let authorization = parts.headers.get_all(header::AUTHORIZATION).iter().map(HeaderValue::as_bytes);
        match self.identify(authorization, route, now) {
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
}
