//! What is wrong only when several values are seen together.
//!
//! A value that is at fault by itself is a stand-in here and is left out of every comparison.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::document::{Cause, Document};
use super::listener::overlap;
use super::nearest::suggestion;
use super::units::{show_duration, show_size};
use super::{Access, Config, Route, Source, WhenStale};

/// Our own documents, which no route may take.
const OWN_PATHS: [&str; 2] = ["/.well-known/jwks.json", "/.well-known/oauth-authorization-server"];

/// Notes all such faults of `config` in `document`.
pub(super) fn check(document: &Document, config: &Config) {
    let check = Check { document, config, source: document.source() };
    check.listeners();
    check.headers();
    check.session();
    check.keys();
    check.limits();
    check.issuers();
    check.routes();
}

struct Check<'c> {
    document: &'c Document,
    config: &'c Config,
    /// Positions are complete once all sections are read.
    source: Source,
}

impl Check<'_> {
    fn sound(&self, paths: &[&str]) -> bool {
        !paths.iter().any(|path| self.document.faulty(path))
    }

    fn fault(&self, path: &str, message: impl std::fmt::Display) {
        self.document.fault_beside(path, Cause::Present, message);
    }

    fn listeners(&self) {
        if self.sound(&["server.listen", "server.listener"]) {
            self.apart();
            self.admin_apart();
        }
    }

    /// The system lets a socket listen on all addresses of a port, or others on some of them, but not both.
    ///
    /// The same address twice is found where listeners are read.
    fn apart(&self) {
        let listeners = &self.config.server.listeners;
        let short =
            (0..listeners.len()).take_while(|index| self.source.has(&format!("server.listen[{index}]"))).count();
        for (index, later) in listeners.iter().enumerate() {
            let later = later.address;
            let Some(earlier) = listeners[..index].iter().find(|earlier| overlap(earlier.address, later)) else {
                continue;
            };
            // Those of the short form stand first.
            let (path, label) = match index.checked_sub(short) {
                None => (format!("server.listen[{index}]"), String::from("server: listen")),
                Some(index) => {
                    (format!("server.listener[{index}].address"), format!("server.listener {}: address", index + 1))
                }
            };
            self.fault(
                &path,
                format_args!(
                    "{label} \"{later}\" shares addresses with the listener \"{}\", expected a port of its own",
                    earlier.address
                ),
            );
        }
    }

    /// The admin listener never answers on a public address.
    fn admin_apart(&self) {
        let Some(admin) = self.config.admin.as_ref().filter(|_| self.sound(&["admin.listen"])) else { return };
        for public in self.config.server.listeners.iter().map(|listener| listener.address) {
            if overlap(public, admin.listen) {
                self.fault(
                    "admin.listen",
                    format_args!(
                        "admin: listen \"{}\" is also reached through the listener \"{public}\", expected an address \
                         of its own",
                        admin.listen
                    ),
                );
            }
        }
    }

    fn headers(&self) {
        let auth = &self.config.auth;
        if auth.user_header == auth.session_header && self.sound(&["auth.user_header", "auth.session_header"]) {
            let key = if self.source.has("auth.session_header") { "session_header" } else { "user_header" };
            self.fault(
                &format!("auth.{key}"),
                format_args!(
                    "auth: user_header and session_header are both \"{}\", expected two names",
                    auth.user_header
                ),
            );
        }
    }

    fn session(&self) {
        let Some(session) = &self.config.session else { return };
        let (ttl, grace) = (session.access_token_ttl, session.refresh_grace);
        if grace >= ttl && self.sound(&["session.access_token_ttl", "session.refresh_grace"]) {
            let key = if self.source.has("session.refresh_grace") { "refresh_grace" } else { "access_token_ttl" };
            self.fault(
                &format!("session.{key}"),
                format_args!(
                    "session: refresh_grace {:?} is not shorter than access_token_ttl {:?}",
                    show_duration(grace),
                    show_duration(ttl)
                ),
            );
        }
        if let (Some(idle), Some(life)) = (session.idle_timeout, session.max_lifetime)
            && idle > life
            && self.sound(&["session.idle_timeout", "session.max_lifetime"])
        {
            self.fault(
                "session.idle_timeout",
                format_args!(
                    "session: idle_timeout {:?} is longer than max_lifetime {:?} and would never be reached",
                    show_duration(idle),
                    show_duration(life)
                ),
            );
        }
    }

    /// Every gateway must sign and verify with the same keys as those it shares the store with.
    fn keys(&self) {
        let Some(session) = &self.config.session else { return };
        let given = |key| self.source.has(&format!("session.{key}"));
        let both = given("signing_keys") && given("refresh_keys");
        if session.keys.is_some() && both {
            self.fault("session.keys", "session: keys has no effect beside both signing_keys and refresh_keys");
        }
        if self.config.store.redis.is_some() && !given("keys") && !both && self.sound(&["session.keys"]) {
            self.document.fault_beside(
                "session.keys",
                Cause::Absent,
                "session: keys is missing, expected it, or both signing_keys and refresh_keys: with store.redis, every \
                 gateway needs the same keys",
            );
        }
    }

    /// A limit above the one that is met first would never be reached.
    fn limits(&self) {
        let limits = &self.config.limits;
        for (key, bytes) in [("uri_bytes", limits.uri_bytes), ("token_bytes", limits.token_bytes)] {
            let path = format!("limits.{key}");
            if bytes > limits.header_bytes && self.sound(&[&path, "limits.header_bytes"]) {
                self.fault(
                    &path,
                    format_args!(
                        "limits: {key} {:?} is larger than header_bytes {:?}, which holds it",
                        show_size(bytes.get() as u64),
                        show_size(limits.header_bytes.get() as u64)
                    ),
                );
            }
        }
    }

    fn issuers(&self) {
        let issuers = &self.config.trusted_issuers;
        for (index, issuer) in issuers.iter().enumerate() {
            let path = format!("trusted_issuer[{index}].issuer");
            if issuer.issuer.is_empty() || !self.sound(&[&path]) {
                continue;
            }
            let name = &issuer.issuer;
            if self.config.session.as_ref().is_some_and(|own| own.issuer == *name) {
                // Foreign keys could then sign tokens in our name.
                self.fault(&path, format_args!("trusted_issuer {name:?}: issuer is the same as session.issuer"));
            }
            if let Some(first) = issuers[..index].iter().position(|earlier| earlier.issuer == *name) {
                let first = self.line(&format!("trusted_issuer[{first}].issuer"));
                self.fault(&path, format_args!("trusted_issuer {name:?}: issuer is the same as on {first}"));
            }
        }
    }

    fn routes(&self) {
        let config = self.config;
        if config.routes.is_empty() && self.sound(&["route"]) {
            self.document.fault_beside(
                "route",
                Cause::Absent,
                "there is no [[route]], expected at least one with path and upstream",
            );
        }
        let nobody_to_trust = config.session.is_none() && config.trusted_issuers.is_empty();
        if nobody_to_trust && self.sound(&["trusted_issuer"]) {
            self.need_an_issuer();
        }
        for (index, route) in config.routes.iter().enumerate() {
            let at = format!("route[{index}]");
            self.route_issuers(&at, route);
            self.own_paths(&at, route);
            self.when_stale(&at, route);
        }
        self.same_names();
        self.overlaps();
    }

    /// One fault for the first such route: they all have the same cause.
    fn need_an_issuer(&self) {
        let access = |route: &Route| match route.access {
            Access::Required => Some("required"),
            Access::Optional => Some("optional"),
            Access::Public => None,
        };
        let mut needy = self.config.routes.iter().enumerate().filter_map(|(index, route)| {
            let path = format!("route[{index}].auth");
            access(route).filter(|_| self.sound(&[&path])).map(|access| (path, route, access))
        });
        if let Some((path, route, access)) = needy.next() {
            self.document.fault_beside(
                &path,
                Cause::Absent,
                format_args!(
                    "route {:?}: auth {access:?} needs [session] or a [[trusted_issuer]], or say \"public\"",
                    route.name
                ),
            );
        }
    }

    fn route_issuers(&self, at: &str, route: &Route) {
        let path = format!("{at}.issuers");
        if !self.sound(&[&path]) {
            return;
        }
        let own = self.config.session.iter().map(|session| session.issuer.as_str());
        let trusted = self.config.trusted_issuers.iter().map(|issuer| issuer.issuer.as_str());
        let known = own.chain(trusted).filter(|name| !name.is_empty()).collect::<Vec<_>>();
        // Elements keep their place: none was left out, or the path would not be sound.
        for (index, name) in route.issuers.iter().enumerate().filter(|(_, name)| !known.contains(&name.as_str())) {
            let suggestion = suggestion(name, known.iter().copied());
            self.document.fault_beside(
                &format!("{path}[{index}]"),
                Cause::Absent,
                format_args!("route {:?}: issuers {name:?} is not defined{suggestion}", route.name),
            );
        }
        if !route.issuers.is_empty() && route.access == Access::Public {
            self.fault(
                &path,
                format_args!(
                    "route {:?}: issuers has no effect with auth \"public\", which looks at no token",
                    route.name
                ),
            );
        }
    }

    fn own_paths(&self, at: &str, route: &Route) {
        let path = format!("{at}.path");
        if !self.sound(&[&path]) {
            return;
        }
        let prefix = &self.config.auth.prefix;
        let below = route.path.strip_prefix(prefix.as_str());
        let under_prefix = below.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
        if under_prefix && self.sound(&["auth.prefix"]) {
            let message = format_args!(
                "route {:?}: path {:?} lies under auth.prefix {prefix:?}, which is kept for the gateway's own \
                 endpoints",
                route.name, route.path
            );
            self.fault(&path, message);
        } else if OWN_PATHS.contains(&route.path.as_str()) {
            let message =
                format_args!("route {:?}: path {:?} is kept for the gateway's own document", route.name, route.path);
            self.fault(&path, message);
        }
    }

    fn when_stale(&self, at: &str, route: &Route) {
        let path = format!("{at}.when_stale");
        if route.when_stale != WhenStale::Refuse || !self.sound(&[&path]) {
            return;
        }
        if route.access == Access::Public {
            let message = format_args!(
                "route {:?}: when_stale \"refuse\" has no effect with auth \"public\", which judges no identity",
                route.name
            );
            self.fault(&path, message);
        }
        if self.config.store.redis.is_none() && self.sound(&["store.redis"]) {
            let message = format_args!(
                "route {:?}: when_stale \"refuse\" needs store.redis, without it nothing is ever stale",
                route.name
            );
            self.document.fault_beside(&path, Cause::Absent, message);
        }
    }

    /// Names that were given are unique; those made of host and path may be shared by routes of different methods.
    fn same_names(&self) {
        let mut seen = BTreeMap::<_, String>::new();
        for (index, route) in self.config.routes.iter().enumerate() {
            let path = format!("route[{index}].name");
            if !self.source.has(&path) || !self.sound(&[&path]) {
                continue;
            }
            if let Some(first) = seen.get(&route.name) {
                let message = format_args!("route {:?}: name is the same as on {}", route.name, self.line(first));
                self.fault(&path, message);
            } else {
                seen.insert(Arc::clone(&route.name), path);
            }
        }
    }

    /// No request fits two routes equally well.
    fn overlaps(&self) {
        let mut seen = BTreeMap::<_, Vec<(usize, &Route)>>::new();
        for (index, route) in self.config.routes.iter().enumerate() {
            let at = format!("route[{index}]");
            if !self.sound(&[&format!("{at}.host"), &format!("{at}.path"), &format!("{at}.methods")]) {
                continue;
            }
            // A host and a wildcard around it do not overlap: the host wins.
            let hosts = route.hosts.iter().map(Some);
            for host in hosts.chain(route.hosts.is_empty().then_some(None)) {
                let same_place = seen.entry((host, &route.path)).or_default();
                let overlap = same_place.iter().find_map(|(first, earlier)| Some((first, shared(route, earlier)?)));
                if let Some((first, shared)) = overlap {
                    let first = self.line(&format!("route[{first}]"));
                    let message = format_args!(
                        "route {:?}: has the same host and path as the route on {first} and shares {shared} with it",
                        route.name
                    );
                    self.fault(&format!("{at}.path"), message);
                }
                same_place.push((index, route));
            }
        }
    }

    fn line(&self, path: &str) -> String {
        let position = self.source.position(path);
        position.map_or_else(|| String::from("another line"), |position| format!("line {}", position.line))
    }
}

/// The methods that both routes take, in words.
fn shared(a: &Route, b: &Route) -> Option<String> {
    match (a.methods.as_slice(), b.methods.as_slice()) {
        ([], []) => Some(String::from("all methods")),
        (some, []) | ([], some) => Some(list(some.iter())),
        (some, other) => {
            let shared = list(some.iter().filter(|method| other.contains(method)));
            (!shared.is_empty()).then_some(shared)
        }
    }
}

fn list<'m>(methods: impl Iterator<Item = &'m http::Method>) -> String {
    methods.map(http::Method::as_str).collect::<Vec<_>>().join(", ")
}
