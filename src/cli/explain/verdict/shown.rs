//! A judgement, for people.

use bytes::Bytes;
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::{Response, StatusCode};
use serde::Serialize;

use super::Explained;
use crate::cli::output::{from_now, printable, seconds};
use crate::clock::UnixTime;
use crate::config::{Access, Config, HeaderRules, HostPattern};
use crate::route::Route;
use crate::token::verify::Verifier;

#[derive(Debug, Serialize)]
pub(super) struct RouteShown {
    name: String,
    /// `FILE:LINE` of the configuration.
    place: String,
    auth: &'static str,
    /// Left out where there is nothing to enforce.
    #[serde(skip_serializing_if = "Option::is_none")]
    mode: Option<&'static str>,
    /// Hosts it is for, wildcards among them; empty is any.
    hosts: Vec<String>,
    /// What it does to the request's header.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    request_headers: Vec<String>,
    /// What it does to the header of an answer.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    response_headers: Vec<String>,
    /// Origins whose pages may call.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    cors: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    rate_limits: Vec<String>,
}

#[derive(Debug, Serialize)]
pub(super) struct Caller {
    user_id: String,
    session_id: String,
    issuer: String,
    expires_at: String,
    #[serde(skip)]
    expires: UnixTime,
}

#[derive(Debug, Serialize)]
pub(super) struct UpstreamShown {
    pub(super) name: String,
    pub(super) servers: Vec<String>,
    /// Path and query that it is asked for.
    pub(super) target: String,
}

#[derive(Debug, Serialize)]
pub(super) struct AnswerShown {
    headers: Vec<(String, String)>,
    body_bytes: usize,
    #[serde(skip)]
    location: Option<String>,
}

impl Explained {
    /// Whether the gateway would answer with an error of its own.
    pub(in crate::cli::explain) fn refused(&self) -> bool {
        self.reason.is_some()
    }

    /// For people. `asked` is the request in their words.
    pub(in crate::cli::explain) fn human(&self, asked: &str, now: UnixTime) -> String {
        let mut text = format!("{asked}\n\n");
        if let Some(route) = &self.route {
            text += &route.human();
        }
        match &self.caller {
            Some(Caller { user_id, session_id, issuer, expires_at, expires }) => {
                text += &format!("caller    user {user_id}, session {session_id}, signed by {issuer}\n");
                text += &format!("          the token expires {}, at {expires_at}\n", from_now(*expires, now));
            }
            None if self.forwarded => text += "caller    nobody known: the upstream gets no identity\n",
            None => {}
        }
        if let Some(reason) = self.would_refuse {
            text += &format!("observed  would be refused, reason {reason}: mode \"observe\" lets it go on as nobody\n");
        }
        text += &self.verdict();
        if let Some(allow) = &self.allow {
            text += &format!("          Allow: {allow}\n");
        }
        if let Some(upgrade) = &self.upgrade {
            text += &upgrade.human();
        }
        if let Some(answer) = self.answer.as_ref().filter(|answer| !answer.headers.is_empty()) {
            text += "\nheaders of the answer:\n";
            text += &lines(&answer.headers);
        }
        if !self.headers.is_empty() {
            text +=
                "\nheaders the upstream gets (x-request-id and traceparent are new for each request that has none):\n";
            text += &lines(&self.headers);
        }
        for note in &self.notes {
            text += &format!("\nnote: {note}");
        }
        printable(text.trim_end())
    }

    fn verdict(&self) -> String {
        let status = self.status.map_or_else(String::new, |status| {
            StatusCode::from_u16(status).map_or_else(|_| status.to_string(), |it| it.to_string())
        });
        match (self.reason, &self.answer, &self.endpoint, &self.upstream) {
            (Some(reason), ..) => format!("verdict   refused: {status}, reason {reason}\n"),
            (None, Some(AnswerShown { location: Some(location), .. }), ..) => {
                format!("verdict   redirected: {status}, to {location}\n")
            }
            (None, Some(answer), ..) => {
                format!("verdict   answered by the gateway itself: {status}, {} bytes\n", answer.body_bytes)
            }
            (None, None, Some(endpoint), _) => format!("verdict   answered by the gateway itself: {endpoint}\n"),
            (None, None, None, Some(UpstreamShown { name, servers, target })) => {
                format!("verdict   forwarded to upstream {name}: {}\n          as {target}\n", servers.join(", "))
            }
            (None, None, None, None) => String::new(),
        }
    }
}

impl RouteShown {
    pub(super) fn of(config: &Config, route: &Route) -> Self {
        let position = config.source.position(&format!("route[{}]", route.index()));
        let line = position.map_or_else(String::new, |position| format!(":{}", position.line));
        let said = config.routes.get(route.index());
        let limits = said.map(|said| {
            let limit = |it: &crate::config::RateLimit| format!("{} by {}, {} at once", it.rate, it.by, it.burst);
            said.rate_limits.iter().map(limit).collect()
        });
        let cors = said.and_then(|said| said.cors.as_ref()).map(|cors| match cors.origins.as_slice() {
            [] => vec![String::from("*")],
            origins => origins.iter().map(ToString::to_string).collect(),
        });
        Self {
            name: route.name.to_string(),
            place: format!("{}{line}", config.source.file()),
            auth: route.access.as_str(),
            mode: said.filter(|_| route.access != Access::Public).map(|said| said.mode.as_str()),
            hosts: said.map(|said| said.hosts.iter().map(HostPattern::to_string).collect()).unwrap_or_default(),
            request_headers: changes(&route.request_headers),
            response_headers: changes(&route.response_headers),
            cors: cors.unwrap_or_default(),
            rate_limits: limits.unwrap_or_default(),
        }
    }

    fn human(&self) -> String {
        let mode = self.mode.map_or_else(String::new, |mode| format!(", mode = \"{mode}\""));
        let mut text = format!("route     {} ({})\nrule      auth = \"{}\"{mode}\n", self.name, self.place, self.auth);
        for (title, words) in [
            ("hosts     ", &self.hosts),
            ("request   ", &self.request_headers),
            ("answer    ", &self.response_headers),
            ("cors      ", &self.cors),
            ("limits    ", &self.rate_limits),
        ] {
            if !words.is_empty() {
                text += &format!("{title}{}\n", words.join("; "));
            }
        }
        text
    }
}

impl Caller {
    pub(super) fn of(verifier: &Verifier, identity: &crate::token::Identity) -> Self {
        Self {
            user_id: identity.user.to_string(),
            session_id: identity.session.to_string(),
            issuer: verifier.issuer_name(identity.issuer).to_owned(),
            expires_at: seconds(identity.expires_at),
            expires: identity.expires_at,
        }
    }
}

impl AnswerShown {
    pub(super) fn of(response: &Response<Bytes>) -> Self {
        let location = response.headers().get(header::LOCATION).map(text);
        Self { headers: fields(response.headers()), body_bytes: response.body().len(), location }
    }
}

/// What rules do, by the names of the fields: a value may be a secret.
fn changes(rules: &HeaderRules) -> Vec<String> {
    fn part<'n>(verb: &str, names: impl Iterator<Item = &'n HeaderName>) -> Option<String> {
        let names = names.map(HeaderName::as_str).collect::<Vec<_>>();
        (!names.is_empty()).then(|| format!("{verb} {}", names.join(", ")))
    }
    let (set, add) = (rules.set.iter().map(|(name, _)| name), rules.add.iter().map(|(name, _)| name));
    [part("removes", rules.remove.iter()), part("sets", set), part("adds", add)].into_iter().flatten().collect()
}

/// All fields, sorted by name.
pub(super) fn fields(headers: &HeaderMap) -> Vec<(String, String)> {
    let mut all: Vec<(String, String)> = headers.iter().map(|(name, value)| (name.to_string(), text(value))).collect();
    all.sort();
    all
}

fn lines(fields: &[(String, String)]) -> String {
    fields.iter().map(|(name, value)| format!("  {name}: {value}\n")).collect()
}

pub(super) fn text(value: &HeaderValue) -> String {
    String::from_utf8_lossy(value.as_bytes()).into_owned()
}
