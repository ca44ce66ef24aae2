//! `[[route]]`.
//!
//! `hosts`, `action`, `headers`, `cors`, `limits` and `streams` read what a route has of each; `shown` is how a route is shown.

mod action;
mod cors;
mod headers;
mod hosts;
mod limits;
mod shown;
mod streams;

use std::num::NonZeroU64;
use std::sync::Arc;
use std::time::Duration;

use http::Method;
use toml::de::{DeTable, DeValue};

pub use self::action::{Action, Forward, Redirect, Respond, Rewrite};
pub(super) use self::cors::cors;
pub use self::cors::{Cors, OriginPattern};
pub use self::headers::HeaderRules;
pub use self::hosts::HostPattern;
pub use self::limits::{LimitBy, RateLimit};
pub use self::streams::{OnTokenExpiry, Upgrades};
use super::nearest::suggestion;
use super::reader::{Table, Value};
use super::{Auth, Upstream, names, shape};
use crate::path::Spellings;

/// `[[route]]`
#[derive(Clone, Debug)]
pub struct Route {
    /// `name`, by default its hosts and path: for logs and metrics. Only given names are unique.
    pub name: Arc<str>,
    /// `host`, one or several; empty is any.
    pub hosts: Vec<HostPattern>,
    /// `path`: canonical, starts with `/`; a slash at its end is dropped (but for `/` itself).
    pub path: String,
    /// `methods`; empty is any.
    pub methods: Vec<Method>,
    /// `upstream`, `redirect` or `respond`.
    pub action: Action,
    /// `auth`, `"required"` by default.
    pub access: Access,
    /// `mode`, that of `[auth]` by default.
    pub mode: Mode,
    /// `forward_token`: leave the client's `Authorization` in the request.
    pub forward_token: bool,
    /// `allow_path`: spellings that are refused elsewhere.
    pub allow_path: crate::path::Spellings,
    /// `issuers`: only tokens of these issuers; empty is all.
    pub issuers: Vec<String>,
    /// `response_timeout`, instead of the upstream's.
    pub response_timeout: Option<Duration>,
    /// `body_bytes`, instead of the limit of all.
    pub body_bytes: Option<Option<NonZeroU64>>,
    /// `early_hints`: interim responses of the upstream (1xx but 100 and 101) reach clients of HTTP/1.1. Not by
    /// default: some old clients take the first for the response.
    pub early_hints: bool,
    /// `when_stale`, `"serve"` by default.
    pub when_stale: WhenStale,
    /// `on_token_expiry`, `"close"` by default.
    pub on_token_expiry: OnTokenExpiry,
    /// `upgrades`, `"any"` by default.
    pub upgrades: Upgrades,
    /// `request_headers`: what becomes of the header on its way to the upstream, before the identity is written.
    pub request_headers: HeaderRules,
    /// `response_headers`: what becomes of the header of an answer that is no refusal.
    pub response_headers: HeaderRules,
    /// `cors`; without it preflights and `Access-Control-*` are the upstream's business.
    pub cors: Option<Cors>,
    /// `rate_limit`: all of them hold.
    pub rate_limits: Vec<RateLimit>,
}

/// `route.when_stale`: what becomes of a request with an identity while the ends of sessions made on other gateways are
/// not known up to `store.max_revocation_lag` ago.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum WhenStale {
    /// `"serve"`: judged by what is known.
    Serve,
    /// `"refuse"`: 503.
    Refuse,
}

/// `route.auth`
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Access {
    /// No request without an identity.
    Required,
    /// A request without `Authorization` passes without identity; one with a bad token is refused.
    Optional,
    /// Tokens are not looked at.
    Public,
}

/// `route.mode` and `auth.mode`: what follows from the judgement on an identity.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Mode {
    /// `"enforce"`: a request without the identity that its route asks for is refused.
    Enforce,
    /// `"observe"`: it is noted that it would be refused, and it goes on without an identity.
    Observe,
}

impl Mode {
    /// The words of the file.
    pub(super) const WORDS: [(&str, Self); 2] = [("enforce", Self::Enforce), ("observe", Self::Observe)];

    /// The word of the file.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Enforce => "enforce",
            Self::Observe => "observe",
        }
    }
}

const TICK: Duration = Duration::from_millis(1);

/// The routes. `upstreams` are the names they may use; `auth` is what they take their mode from, and names of headers
/// they may not touch.
pub(super) fn routes(root: &Table<'_>, upstreams: &[Upstream], auth: &Auth) -> Vec<Route> {
    // As its name will be, but from the values as they stand there: any of them may be at fault.
    let label = |entries: &DeTable<'_>| {
        let raw = |key| entries.get(key).and_then(|value| value.get_ref().as_str()).unwrap_or_default();
        let host = match entries.get("host").map(|value| value.get_ref()) {
            Some(DeValue::Array(hosts)) => {
                hosts.iter().filter_map(|host| host.get_ref().as_str()).collect::<Vec<_>>().join(",")
            }
            _ => raw("host").to_owned(),
        };
        let name = if raw("name").is_empty() { format!("{host}{}", raw("path")) } else { raw("name").to_owned() };
        (!name.is_empty()).then(|| format!("route {name:?}"))
    };
    let tables = root.sections("route", &shape::ROUTE, label);
    tables.iter().map(|table| route(table, upstreams, auth)).collect()
}

fn route(table: &Table<'_>, upstreams: &[Upstream], auth: &Auth) -> Route {
    let name = table.get("name").and_then(|value| value.name("a name"));
    let hosts = table.get("host").map(|value| hosts::hosts(&value)).unwrap_or_default();
    let path = table.require("path", "one such as \"/orders\"");
    let path = path.and_then(|value| value.parsed("a path such as \"/orders\"", path_of)).unwrap_or_default();
    let methods = table.get("methods").map(|value| methods(&value)).unwrap_or_default();
    const ACCESS: [(&str, Access); 3] =
        [("required", Access::Required), ("optional", Access::Optional), ("public", Access::Public)];
    const WHEN_STALE: [(&str, WhenStale); 2] = [("serve", WhenStale::Serve), ("refuse", WhenStale::Refuse)];
    let access = table.get("auth").and_then(|value| value.choice(&ACCESS)).unwrap_or(Access::Required);
    Route {
        name: match name {
            Some(name) => name.into(),
            None => {
                let hosts = hosts.iter().map(HostPattern::to_string).collect::<Vec<_>>().join(",");
                Arc::from(format!("{hosts}{path}"))
            }
        },
        action: action::action(table, &path, upstreams),
        access,
        mode: mode(table, access).unwrap_or(auth.mode),
        forward_token: table.get("forward_token").and_then(|value| value.flag()).unwrap_or(false),
        allow_path: table.get("allow_path").map(|value| spellings(&value)).unwrap_or_default(),
        issuers: table
            .get("issuers")
            .map(|value| {
                value.each(value.some_items("names of issuers"), |item| {
                    item.name("the name of an issuer").map(str::to_owned)
                })
            })
            .unwrap_or_default(),
        response_timeout: table.get("response_timeout").and_then(|value| value.duration(TICK)),
        body_bytes: table
            .get("body_bytes")
            .and_then(|value| value.size_or_unlimited())
            .map(|size| size.and_then(NonZeroU64::new)),
        early_hints: table.get("early_hints").and_then(|value| value.flag()).unwrap_or(false),
        when_stale: table.get("when_stale").and_then(|value| value.choice(&WHEN_STALE)).unwrap_or(WhenStale::Serve),
        on_token_expiry: table.get("on_token_expiry").map(|value| streams::on_token_expiry(&value)).unwrap_or_default(),
        upgrades: table.get("upgrades").map(|value| streams::upgrades(&value)).unwrap_or_default(),
        request_headers: headers::request(table, &shape::REQUEST_HEADERS, auth),
        response_headers: headers::response(table, &shape::RESPONSE_HEADERS),
        cors: cors(table, &shape::CORS, cors_methods(&methods)),
        rate_limits: limits::rate_limits(table),
        hosts,
        path,
        methods,
    }
}

fn mode(table: &Table<'_>, access: Access) -> Option<Mode> {
    let value = table.get("mode")?;
    let mode = value.choice(&Mode::WORDS)?;
    if access == Access::Public {
        value.fault("has no effect with auth \"public\", which judges no identity");
    }
    Some(mode)
}

/// The methods that pages may use when `cors.methods` does not say: those of the route, or all common ones.
fn cors_methods(route: &[Method]) -> Vec<Method> {
    const COMMON: [Method; 6] = [Method::GET, Method::HEAD, Method::POST, Method::PUT, Method::PATCH, Method::DELETE];
    if route.is_empty() { COMMON.to_vec() } else { route.to_vec() }
}

/// A canonical path without a slash at its end, which would not change what it matches.
fn path_of(text: &str) -> Result<String, String> {
    names::canonical_route_path(text)?;
    Ok(match text.trim_end_matches('/') {
        "" => String::from("/"),
        trimmed => trimmed.to_owned(),
    })
}

fn methods(value: &Value<'_>) -> Vec<Method> {
    let items = value.items("methods such as \"GET\"");
    if items.is_empty() && !value.document().faulty(value.key_path()) {
        value.report("is empty, expected methods such as \"GET\", or leave it out for any");
    }
    value.each(items, |item| item.parsed("a method such as \"GET\"", names::method))
}

fn spellings(value: &Value<'_>) -> Spellings {
    let items = value.items("spellings such as \"encoded_slash\"");
    let all = value.each(items, |item| {
        item.parsed("the name of a spelling", |text| {
            let known = Spellings::NAMES.iter().copied();
            Spellings::named(text).ok_or_else(|| format!("is not known{}", suggestion(text, known)))
        })
    });
    all.into_iter().fold(Spellings::default(), Spellings::with)
}
