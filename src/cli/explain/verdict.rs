//! The judgement on a request, step by step as `gateway` takes it, and how it is shown.

use std::cell::RefCell;
use std::net::IpAddr;
use std::sync::Arc;

use http::header::{self, HeaderMap, HeaderValue};
use http::request::Parts;
use http::{Method, StatusCode};
use serde::Serialize;

use crate::auth_api::Endpoint;
use crate::cli::output::{from_now, printable, seconds};
use crate::clock::UnixTime;
use crate::config::{Access, Config};
use crate::gateway::{authenticate, target, trace};
use crate::headers::{self, Forwarding, HeaderPolicy, Peer};
use crate::reject::{Reason, Rejection};
use crate::revocation::Revocations;
use crate::route::{Route, RouteTable};
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
    /// The endpoint of the gateway itself that would answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    endpoint: Option<String>,
    route: Option<RouteShown>,
    caller: Option<Caller>,
    upstream: Option<UpstreamShown>,
    /// As the upstream would get them, sorted by name.
    headers: Vec<(String, String)>,
    notes: Vec<String>,
}

#[derive(Debug, Serialize)]
struct RouteShown {
    name: String,
    /// `FILE:LINE` of the configuration.
    place: String,
    auth: &'static str,
}

#[derive(Debug, Serialize)]
struct Caller {
    user_id: String,
    session_id: String,
    issuer: String,
    expires_at: String,
    #[serde(skip)]
    expires: UnixTime,
}

#[derive(Debug, Serialize)]
struct UpstreamShown {
    name: String,
    servers: Vec<String>,
}

/// Judges a request from `client`. `notes` are told with the verdict.
pub(super) fn explain(
    config: &Config,
    verifier: &Verifier,
    parts: Parts,
    client: IpAddr,
    now: UnixTime,
    notes: Vec<String>,
) -> Explained {
    let mut explained = Explained { notes, ..Explained::default() };
    if let Err(rejection) = explained.judge(config, verifier, parts, client, now) {
        explained.status = Some(rejection.reason.status().as_u16());
        explained.reason = Some(rejection.reason.as_str());
    }
    explained
}

impl Explained {
    /// The steps of `Worker::answer`, in its order.
    fn judge(
        &mut self,
        config: &Config,
        verifier: &Verifier,
        mut parts: Parts,
        client: IpAddr,
        now: UnixTime,
    ) -> Result<(), Rejection> {
        let path = target::path(&parts)?;
        let query = parts.uri.query().map_or(0, |query| query.len() + 1);
        if path.len() + query > config.limits.uri_bytes.get() {
            return Err(Reason::UriTooLong.into());
        }
        let host = target::host(&parts)?;
        target::framing(&parts.headers, parts.version)?;
        if let Some(endpoint) = config.session.as_ref().and_then(|_| Endpoint::at(&config.auth.prefix, path)) {
            if endpoint == Endpoint::Unknown {
                return Err(Reason::NoRoute.into());
            }
            self.endpoint = Some(path.to_owned());
            return Ok(());
        }

        let table = RouteTable::new(config, |name| verifier.issuer_named(name));
        let route = table.find(&host.name()?, path, &parts.method)?;
        let host = host.into_header();
        self.route = Some(RouteShown::of(config, route));
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
        let identity = authenticate::identify(&known, authorization, route, now)?;
        if let Some(known) = &identity {
            self.caller = Some(Caller::of(verifier, &known.identity));
            self.notes.push(String::from("whether the session has ended is known to the running gateway only"));
        }

        let auth = &config.auth;
        let policy =
            HeaderPolicy::new(auth.user_header.clone(), auth.session_header.clone(), auth.strip_headers.clone());
        let is_proxy = config.server.trusted_proxies.iter().any(|net| net.contains(&client));
        let peer = Peer::new(client, is_proxy, !config.server.certificates.is_empty());
        let forwarding = Forwarding {
            peer: &peer,
            forward_token: route.forward_token,
            restricts_methods: route.restricts_methods,
            http2: false,
            identity: identity.as_deref().map(|known| &known.identity),
        };
        // The gateway's names are random; these stand for them.
        let names = trace::Names::new([0; 16]);
        let request_id = names.request_id(&parts.headers);
        headers::to_upstream(&mut parts.headers, &policy, &host, &forwarding);
        names.ensure_traceparent(&mut parts.headers);
        parts.headers.insert(headers::X_REQUEST_ID, request_id);
        parts.headers.insert(header::HOST, host);
        if matches!(parts.method, Method::POST | Method::PUT | Method::PATCH) {
            self.notes.push(String::from("Content-Length or Transfer-Encoding would follow from the body"));
        }
        self.headers = shown(&parts.headers);
        self.upstream = config.upstreams.get(route.upstream).map(|upstream| UpstreamShown {
            name: upstream.name.to_string(),
            servers: upstream.servers.iter().map(|server| server.address.to_string()).collect(),
        });
        self.forwarded = true;
        Ok(())
    }

    /// Whether the gateway would answer with an error.
    pub(super) fn refused(&self) -> bool {
        self.status.is_some()
    }

    /// For people. `asked` is the request in their words.
    pub(super) fn human(&self, asked: &str, now: UnixTime) -> String {
        let mut text = format!("{asked}\n\n");
        if let Some(RouteShown { name, place, auth }) = &self.route {
            text += &format!("route     {name} ({place})\nrule      auth = \"{auth}\"\n");
        }
        match &self.caller {
            Some(Caller { user_id, session_id, issuer, expires_at, expires }) => {
                text += &format!("caller    user {user_id}, session {session_id}, signed by {issuer}\n");
                text += &format!("          the token expires {}, at {expires_at}\n", from_now(*expires, now));
            }
            None if self.forwarded => text += "caller    nobody known: the upstream gets no identity\n",
            None => {}
        }
        text += &match (self.status, &self.endpoint, &self.upstream) {
            (Some(status), ..) => {
                let status = StatusCode::from_u16(status).map_or_else(|_| status.to_string(), |it| it.to_string());
                format!("verdict   refused: {status}, reason {}\n", self.reason.unwrap_or("-"))
            }
            (None, Some(endpoint), _) => format!("verdict   answered by the gateway itself: {endpoint}\n"),
            (None, None, Some(UpstreamShown { name, servers })) => {
                format!("verdict   forwarded to upstream {name}: {}\n", servers.join(", "))
            }
            (None, None, None) => String::new(),
        };
        if !self.headers.is_empty() {
            text +=
                "\nheaders the upstream gets (x-request-id and traceparent are new for each request that has none):\n";
            for (name, value) in &self.headers {
                text += &format!("  {name}: {value}\n");
            }
        }
        for note in &self.notes {
            text += &format!("\nnote: {note}");
        }
        printable(text.trim_end())
    }
}

impl RouteShown {
    fn of(config: &Config, route: &Route) -> Self {
        let position = config.source.position(&format!("route[{}]", route.index()));
        let line = position.map_or_else(String::new, |position| format!(":{}", position.line));
        let auth = match route.access {
            Access::Required => "required",
            Access::Optional => "optional",
            Access::Public => "public",
        };
        Self { name: route.name.to_string(), place: format!("{}{line}", config.source.file()), auth }
    }
}

impl Caller {
    fn of(verifier: &Verifier, identity: &crate::token::Identity) -> Self {
        Self {
            user_id: identity.user.to_string(),
            session_id: identity.session.to_string(),
            issuer: verifier.issuer_name(identity.issuer).to_owned(),
            expires_at: seconds(identity.expires_at),
            expires: identity.expires_at,
        }
    }
}

fn shown(headers: &HeaderMap) -> Vec<(String, String)> {
    let mut all: Vec<(String, String)> = headers
        .iter()
        .map(|(name, value)| (name.to_string(), String::from_utf8_lossy(value.as_bytes()).into_owned()))
        .collect();
    all.sort();
    all
}

#[cfg(test)]
mod tests;
