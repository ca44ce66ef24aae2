//! Which route a request takes: host, then the longest prefix of whole segments, then the method.

mod action;
mod hosts;

use std::borrow::Cow;
use std::num::NonZeroU64;
use std::sync::Arc;
use std::time::Duration;

use http::{HeaderValue, Method};

pub use self::action::{Action, Forward, PathRewrite, Redirect};
use self::hosts::Hosts;
use crate::config::{self, Access, HeaderRules, Mode, OnTokenExpiry, Upgrades};
use crate::headers::cors::CorsPolicy;
use crate::limiter::RouteLimits;
use crate::path::{self, PathError, Spellings};
use crate::token::IssuerIndex;

/// Where a request goes and what it must bring.
#[derive(Debug)]
pub struct Route {
    /// For logs and metrics.
    pub name: Arc<str>,
    /// What becomes of a request that may pass.
    pub action: Action,
    /// What identity it asks for.
    pub access: Access,
    /// Whether nothing is refused for want of an identity: it is only noted that it would be.
    pub observes: bool,
    /// Whether the client's `Authorization` stays in the request.
    pub forward_token: bool,
    /// Issuers whose tokens it takes; empty is all.
    pub issuers: Vec<IssuerIndex>,
    /// From the end of the request to the response header.
    pub response_timeout: Duration,
    /// Bytes of one request body; `None` is unlimited.
    pub body_bytes: Option<NonZeroU64>,
    /// Whether it refuses while ends made by other gateways are not known in time.
    pub refuses_stale: bool,
    /// Whether what is open ends with its token.
    pub on_token_expiry: OnTokenExpiry,
    /// Protocols a request may ask to go on in.
    pub upgrades: Upgrades,
    /// Whether interim responses of the upstream reach clients of HTTP/1.1.
    pub early_hints: bool,
    /// Whether it was restricted to some methods: a header that overrides the method is then removed.
    pub restricts_methods: bool,
    /// What becomes of the request's header before the identity is written.
    pub request_headers: HeaderRules,
    /// What becomes of the header of an answer that is no refusal.
    pub response_headers: HeaderRules,
    /// What pages of other origins may do; `None` leaves that to the upstream.
    pub cors: Option<CorsPolicy>,
    /// How many requests it takes.
    pub limits: Option<RouteLimits>,
    allow_path: Spellings,
    methods: Vec<Method>,
    index: usize,
}

impl Route {
    /// Its place in the configuration.
    pub fn index(&self) -> usize {
        self.index
    }

    /// What is cut off the front of a path on its way to the upstream, if anything is.
    pub fn stripped_prefix(&self) -> Option<&HeaderValue> {
        match &self.action {
            Action::Forward(forward) => forward.rewrite.as_ref()?.stripped.as_ref(),
            Action::Redirect(_) | Action::Respond(_) => None,
        }
    }

    /// What it asks for in effect: when it only observes, nothing that `other` would enforce.
    fn strictness_beside(&self, other: &Self) -> u8 {
        if self.observes && !other.observes { strictness(Access::Public) } else { strictness(self.access) }
    }

    /// Whether it takes tokens of `issuer`.
    pub fn takes_issuer(&self, issuer: IssuerIndex) -> bool {
        self.issuers.is_empty() || self.issuers.contains(&issuer)
    }
}

/// Why a request has no route.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum RouteError {
    /// The path has a spelling that no route may allow.
    Path(PathError),
    /// The path has a spelling its route does not allow, or another reading of it leads elsewhere.
    AmbiguousPath,
    /// No route has this host and path.
    NotFound,
    /// The route has other methods: the value of `Allow` (RFC 9110 §15.5.6).
    ///
    /// A shorter prefix is not tried: it may ask for less.
    MethodNotAllowed(HeaderValue),
}

/// All routes, built once.
#[derive(Debug)]
pub struct RouteTable {
    routes: Vec<Route>,
    /// By the paths as they are written.
    exact: Hosts,
    /// By the [`path::loose_reading`] of the same paths.
    loose: Hosts,
    /// Whether some route's path is not its own loose reading: then a path without another reading may have one among
    /// the routes.
    always_compare: bool,
}

impl RouteTable {
    /// From checked routes. `issuer` tells the index of an issuer's name; a name it does not know is left out, and a
    /// route whose issuers are all unknown takes none.
    pub fn new(config: &config::Config, issuer: impl Fn(&str) -> Option<IssuerIndex>) -> Self {
        let mut table =
            Self { routes: Vec::new(), exact: Hosts::default(), loose: Hosts::default(), always_compare: false };
        for (index, route) in config.routes.iter().enumerate() {
            let loose = path::loose_reading(&route.path);
            table.always_compare |= loose != route.path;
            let hosts = route.hosts.iter().map(Some);
            for host in hosts.chain(route.hosts.is_empty().then_some(None)) {
                table.exact.insert(host, &route.path, index);
                table.loose.insert(host, &loose, index);
            }
            let action = Action::new(&route.action, &route.path, route.allow_path);
            let upstream = action.upstream().and_then(|index| config.upstreams.get(index));
            table.routes.push(Route {
                name: route.name.clone(),
                action,
                access: route.access,
                observes: route.mode == Mode::Observe,
                forward_token: route.forward_token,
                // An unknown name becomes an index no token has, never "all".
                issuers: route.issuers.iter().map(|name| issuer(name).unwrap_or(IssuerIndex(u16::MAX))).collect(),
                response_timeout: route
                    .response_timeout
                    .or_else(|| upstream.map(|upstream| upstream.response_timeout))
                    .unwrap_or(Duration::from_secs(60)),
                body_bytes: route.body_bytes.unwrap_or(config.limits.body_bytes),
                refuses_stale: route.when_stale == config::WhenStale::Refuse,
                on_token_expiry: route.on_token_expiry,
                upgrades: route.upgrades.clone(),
                early_hints: route.early_hints,
                restricts_methods: !route.methods.is_empty(),
                request_headers: route.request_headers.clone(),
                response_headers: route.response_headers.clone(),
                cors: route.cors.as_ref().map(CorsPolicy::new),
                limits: RouteLimits::new(&route.rate_limits),
                allow_path: route.allow_path,
                methods: route.methods.clone(),
                index,
            });
        }
        table
    }

    /// The routes, in the order of the configuration.
    pub fn routes(&self) -> &[Route] {
        &self.routes
    }

    /// The route of a request. `host` as [`host_name`] gives it; `path` without query.
    ///
    /// # Errors
    /// [`RouteError`] says why there is none.
    pub fn find(&self, host: &str, path: &str, method: &Method) -> Result<&Route, RouteError> {
        let judged = path::judge(path).map_err(RouteError::Path)?;
        let route = self.pick(host, path, method)?;
        if !judged.spellings.without(route.allow_path).is_empty() {
            return Err(RouteError::AmbiguousPath);
        }
        if judged.has_other_reading || self.always_compare {
            self.agree(host, path, method, route, judged.spellings)?;
        }
        Ok(route)
    }

    /// Refuses a path that a more forgiving backend would read as one of another route.
    ///
    /// For a spelling the route allows by name, any other route is a reason to refuse; for the harmless ones (capital
    /// letters, the case of `%c3`, a dot, a parameter or a space at the end of a segment) only a route that asks for more.
    fn agree(
        &self,
        host: &str,
        path: &str,
        method: &Method,
        route: &Route,
        found: Spellings,
    ) -> Result<(), RouteError> {
        let loose = path::loose_reading(path);
        // Not only the nearest: a backend that takes some of these liberties and not all may find itself at any of those
        // before the one that was chosen.
        let before = self.loose.all(host, &loose).take_while(|routes| !routes.contains(&route.index));
        let mut others = before.flatten().filter_map(|index| self.routes.get(*index));
        let asks_no_more = |other: &Route| {
            route.strictness_beside(other) >= strictness(other.access)
                && route.issuers == other.issuers
                && route.refuses_stale >= other.refuses_stale
                // Another spelling must not be a way around what a route counts, nor around one that lets nothing pass.
                && other.limits.is_none()
                && (other.action.upstream().is_some() || route.action.upstream().is_none())
                && (other.methods.is_empty() || other.methods.contains(method))
        };
        let agree = if found.is_empty() { others.all(asks_no_more) } else { others.next().is_none() };
        if agree { Ok(()) } else { Err(RouteError::AmbiguousPath) }
    }

    fn pick(&self, host: &str, path: &str, method: &Method) -> Result<&Route, RouteError> {
        let found = self.exact.find(host, path).ok_or(RouteError::NotFound)?;
        let mut candidates = found.iter().filter_map(|index| self.routes.get(*index));
        candidates
            .clone()
            .find(|route| route.methods.is_empty() || route.methods.contains(method))
            .ok_or_else(|| RouteError::MethodNotAllowed(allow(&mut candidates)))
    }
}

fn strictness(access: Access) -> u8 {
    match access {
        Access::Public => 0,
        Access::Optional => 1,
        Access::Required => 2,
    }
}

fn allow(routes: &mut dyn Iterator<Item = &Route>) -> HeaderValue {
    let methods: Vec<&str> = routes.flat_map(|route| route.methods.iter().map(Method::as_str)).collect();
    HeaderValue::from_str(&methods.join(", ")).unwrap_or(HeaderValue::from_static(""))
}

/// The name in a `Host` header or `:authority` as routes compare it: lower case, without port and trailing dot.
///
/// Borrows unless there is a capital letter. An IPv6 address keeps its brackets.
///
/// `None` for anything that is no host (RFC 9112 §3.2: the request is then refused with 400): empty, user information,
/// a port that is no number, or a byte that no host name or address has.
pub fn host_name(authority: &str) -> Option<Cow<'_, str>> {
    let (host, port) = if authority.starts_with('[') {
        let end = authority.find(']')?;
        let (host, rest) = authority.split_at(end + 1);
        host[1..end].parse::<std::net::Ipv6Addr>().ok()?;
        (host, rest.strip_prefix(':').or(rest.is_empty().then_some("0"))?)
    } else {
        let (host, port) = authority.split_once(':').unwrap_or((authority, "0"));
        let host = host.strip_suffix('.').unwrap_or(host);
        let named = host.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_'));
        // One dot at the end is none of the name; another is an empty label, and no route would know that host.
        if !named || host.is_empty() || host.starts_with('.') || host.ends_with('.') || has_empty_label(host) {
            return None;
        }
        (host, port)
    };
    let port_ok =
        !port.is_empty() && port.len() <= 5 && port.bytes().all(|b| b.is_ascii_digit()) && port.parse::<u16>().is_ok();
    if !port_ok || host.len() > 255 {
        return None;
    }
    Some(if host.bytes().any(|b| b.is_ascii_uppercase()) {
        Cow::Owned(host.to_ascii_lowercase())
    } else {
        Cow::Borrowed(host)
    })
}

/// Two dots with nothing between. Not by the search for a text, which costs several times as much in one so short.
fn has_empty_label(host: &str) -> bool {
    host.as_bytes().windows(2).any(|pair| pair == b"..")
}

#[cfg(test)]
mod differential;
#[cfg(test)]
mod tests;
