//! The judgement on a request, step by step as `gateway` takes it, and how it is shown.

mod shown;
mod upgrade;

use std::cell::RefCell;
use std::net::IpAddr;
use std::sync::Arc;

use bytes::Bytes;
use http::header::{self, HeaderValue};
use http::request::Parts;
use http::{Method, Response};
use serde::Serialize;

use self::shown::{AnswerShown, Caller, RouteShown, UpstreamShown, fields};
use self::upgrade::Upgrade;
use super::request::Asked;
use crate::auth_api::Endpoint;
use crate::clock::UnixTime;
use crate::config::Config;
use crate::gateway::outcome::{self, Way};
use crate::gateway::{authenticate, target, trace};
use crate::headers::answer::AnswerFields;
use crate::headers::cors::{CorsPolicy, Preflight};
use crate::headers::{self, Forwarding, HeaderPolicy, Peer};
use crate::reject::{Reason, Rejection};
use crate::revocation::Revocations;
use crate::route::RouteTable;
use crate::telemetry::metrics::Metrics;
use crate::token::cache::TokenCache;
use crate::token::verify::Verifier;

/// What would become of a request.
#[derive(Debug, Default, Serialize)]
pub(super) struct Explained {
    forwarded: bool,
    /// What the gateway itself would answer; absent when the upstream does.
    #[serde(skip_serializing_if = "Option::is_none")]
    status: Option<u16>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'static str>,
    /// The `Allow` of a 405.
    #[serde(skip_serializing_if = "Option::is_none")]
    allow: Option<String>,
    /// Why it would be refused on a route that did not only observe.
    #[serde(skip_serializing_if = "Option::is_none")]
    would_refuse: Option<&'static str>,
    /// The endpoint of the gateway itself that would answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    endpoint: Option<String>,
    route: Option<RouteShown>,
    caller: Option<Caller>,
    upstream: Option<UpstreamShown>,
    /// The protocol it asks to go on in.
    #[serde(skip_serializing_if = "Option::is_none")]
    upgrade: Option<Upgrade>,
    /// What the gateway answers in the upstream's place, when that is no refusal.
    #[serde(skip_serializing_if = "Option::is_none")]
    answer: Option<AnswerShown>,
    /// As the upstream would get them, sorted by name.
    headers: Vec<(String, String)>,
    notes: Vec<String>,
}

/// Judges a request from `client`. `notes` are told with the verdict.
pub(super) fn explain(
    config: &Config,
    verifier: &Verifier,
    asked: Asked,
    client: IpAddr,
    now: UnixTime,
    notes: Vec<String>,
) -> Explained {
    let mut explained = Explained { notes, ..Explained::default() };
    if asked.tls == Some(false) {
        explained.notes.extend(redirecting(config));
    }
    if let Err(rejection) = explained.judge(config, verifier, asked, client, now) {
        explained.status = Some(rejection.reason.status().as_u16());
        explained.reason = Some(rejection.reason.as_str());
        explained.allow = rejection.allow.as_ref().map(shown::text);
    }
    explained
}

/// Listeners that send clients to `https`, whatever they ask for.
fn redirecting(config: &Config) -> impl Iterator<Item = String> {
    config.server.listeners.iter().filter_map(|listener| {
        let port = listener.redirect_to_https?;
        let address = listener.address;
        Some(format!("over the listener {address} it would be redirected to https at port {port}, whatever the route"))
    })
}

impl Explained {
    /// The steps of `Worker::answer`, in its order.
    fn judge(
        &mut self,
        config: &Config,
        verifier: &Verifier,
        asked: Asked,
        client: IpAddr,
        now: UnixTime,
    ) -> Result<(), Rejection> {
        let Asked { mut parts, tls } = asked;
        let path = target::path(&parts)?;
        let query = parts.uri.query().map_or(0, |query| query.len() + 1);
        if path.len() + query > config.limits.uri_bytes.get() {
            return Err(Reason::UriTooLong.into());
        }
        let host = target::host(&parts)?;
        let preflight = Preflight::of(&parts);
        let framing = target::framing(&parts.headers, parts.version)?;
        if let Some(endpoint) = config.session.as_ref().and_then(|_| Endpoint::at(&config.auth.prefix, path)) {
            if endpoint == Endpoint::Unknown {
                return Err(Reason::NoRoute.into());
            }
            if let (Some(cors), Some(_)) = (&config.auth.cors, &preflight) {
                return self.preflight(&CorsPolicy::new(cors), &parts);
            }
            endpoint.judge(&parts.method)?;
            self.endpoint = Some(path.to_owned());
            return Ok(());
        }

        let table = RouteTable::new(config, |name| verifier.issuer_named(name));
        let name = host.name()?;
        if let Some(preflight) = preflight
            && let Ok(route) = table.find(&name, path, &preflight.method)
            && let Some(policy) = &route.cors
        {
            self.route = Some(RouteShown::of(config, route));
            return self.preflight(policy, &parts);
        }
        let route = table.find(&name, path, &parts.method)?;
        self.route = Some(RouteShown::of(config, route));
        let host = host.into_header();
        let revocations = Revocations::default();
        let known = authenticate::Known {
            verifier,
            freshness: None,
            revocations: &revocations,
            cache: &RefCell::new(TokenCache::new(0)),
            metrics: &Metrics::new(1, Vec::new(), Vec::new(), Arc::default()).worker(0),
            token_bytes: config.limits.token_bytes.get(),
        };
        let authorization = parts.headers.get_all(header::AUTHORIZATION).iter().map(HeaderValue::as_bytes);
        let identity = match authenticate::identify(&known, authorization, route, now) {
            Ok(identity) => identity,
            Err(refused) if route.observes => {
                self.would_refuse = Some(refused.reason.as_str());
                None
            }
            Err(refused) => return Err(refused.reason.into()),
        };
        if let Some(known) = &identity {
            self.caller = Some(Caller::of(verifier, &known.identity));
            self.notes.push(String::from("whether the session has ended is known to the running gateway only"));
        }
        if route.limits.is_some() {
            self.notes.push(String::from("what is left of a rate limit is known to the running gateway only"));
        }
        if let Way::Answered(mut response) = outcome::way(route, &mut parts.uri)? {
            outcome::dress(response.headers_mut(), route, identity.is_some());
            self.answered(response);
            return Ok(());
        }

        let auth = &config.auth;
        let policy =
            HeaderPolicy::new(auth.user_header.clone(), auth.session_header.clone(), auth.strip_headers.clone());
        let is_proxy = config.server.trusted_proxies.iter().any(|net| net.contains(&client));
        let tls = tls.unwrap_or_else(|| config.server.listeners.iter().any(|listener| listener.tls));
        let peer = Peer::new(client, is_proxy, tls);
        let forwarding = Forwarding {
            peer: &peer,
            forward_token: route.forward_token,
            restricts_methods: route.restricts_methods,
            http2: false,
            stripped: route.stripped_prefix(),
            rules: &route.request_headers,
            identity: identity.as_deref().map(|known| &known.identity),
        };
        let upstream = route.action.upstream().and_then(|index| config.upstreams.get(index));
        self.upgrade = upstream.and_then(|upstream| Upgrade::of(&parts, framing, &route.upgrades, upstream));
        // The gateway's names are random; these stand for them.
        let names = trace::Names::new([0; 16]);
        let request_id = names.request_id_of(&parts.headers);
        headers::to_upstream(&mut parts.headers, &policy, &host, &forwarding);
        if let Some(upgrade) = &self.upgrade {
            upgrade.write(&mut parts.headers);
        }
        names.ensure_traceparent(&mut parts.headers);
        parts.headers.insert(headers::X_REQUEST_ID, request_id);
        parts.headers.insert(header::HOST, host);
        if matches!(parts.method, Method::POST | Method::PUT | Method::PATCH) {
            self.notes.push(String::from("Content-Length or Transfer-Encoding would follow from the body"));
        }
        self.headers = fields(&parts.headers);
        self.upstream = upstream.map(|upstream| UpstreamShown {
            name: upstream.name.to_string(),
            servers: upstream.servers.iter().map(|server| server.address.to_string()).collect(),
            target: parts.uri.path_and_query().map_or_else(|| String::from("/"), ToString::to_string),
        });
        self.forwarded = true;
        Ok(())
    }

    /// A preflight that `policy` answers.
    fn preflight(&mut self, policy: &CorsPolicy, parts: &Parts) -> Result<(), Rejection> {
        let mut response = policy.answer(&parts.headers).ok_or(Reason::OriginNotAllowed)?;
        let grant = Some(policy.grant(&parts.headers));
        AnswerFields { grant, preflight: true, limits: None }.write(response.headers_mut());
        self.notes.push(String::from("a preflight carries no token and is asked for none"));
        self.answered(response);
        Ok(())
    }

    /// An answer of the gateway that is no refusal.
    fn answered(&mut self, response: Response<Bytes>) {
        self.status = Some(response.status().as_u16());
        self.answer = Some(AnswerShown::of(&response));
    }
}

#[cfg(test)]
mod tests;
