//! Routes as they are in effect, in the keys of the file.

use http::header::{HeaderName, HeaderValue};
use serde_json::{Map, Value, json};

use super::{Access, Action, Cors, HeaderRules, RateLimit, Respond, Rewrite, Route, WhenStale};
use crate::config::Upstream;
use crate::config::redact::{object, put, size_or_unlimited, some, strings};
use crate::config::units::show_duration;
use crate::path::Spellings;

impl Route {
    /// `upstreams` are those of the same configuration; `shares_store` tells whether `when_stale` has a meaning.
    pub(in crate::config) fn shown(&self, upstreams: &[Upstream], shares_store: bool) -> Value {
        let spellings = Spellings::NAMES.iter().filter(|name| {
            Spellings::named(name).is_some_and(|spelling| self.allow_path.with(spelling) == self.allow_path)
        });
        let mut json = object([
            ("name", json!(&*self.name)),
            ("path", json!(self.path)),
            ("auth", json!(self.access.as_str())),
            ("allow_path", json!(spellings.collect::<Vec<_>>())),
        ]);
        put(
            &mut json,
            "host",
            match self.hosts.as_slice() {
                [] => None,
                [one] => Some(json!(one.to_string())),
                several => Some(strings(several)),
            },
        );
        // Where nothing is judged there is nothing to observe.
        put(&mut json, "mode", (self.access != Access::Public).then(|| json!(self.mode.as_str())));
        self.show_action(&mut json, upstreams);
        // None named means any: an empty array would read as none.
        put(&mut json, "methods", some(self.methods.iter().map(http::Method::as_str)));
        put(&mut json, "issuers", some(self.issuers.iter().map(String::as_str)));
        put(&mut json, "response_timeout", self.response_timeout.map(|it| json!(show_duration(it))));
        put(&mut json, "body_bytes", self.body_bytes.map(|it| size_or_unlimited(it.map(u64::from))));
        put(&mut json, "early_hints", self.early_hints.then_some(json!(true)));
        // Elsewhere there is nothing for it to say.
        if shares_store && self.access != Access::Public {
            put(&mut json, "when_stale", Some(json!(self.when_stale.as_str())));
        }
        put(&mut json, "request_headers", header_rules(&self.request_headers));
        put(&mut json, "response_headers", header_rules(&self.response_headers));
        put(&mut json, "cors", self.cors.as_ref().map(Cors::shown));
        let limits = self.rate_limits.iter().map(rate_limit).collect::<Vec<_>>();
        put(&mut json, "rate_limit", (!limits.is_empty()).then(|| json!(limits)));
        Value::Object(json)
    }

    fn show_action(&self, json: &mut Map<String, Value>, upstreams: &[Upstream]) {
        match &self.action {
            Action::Forward(forward) => {
                put(json, "forward_token", Some(json!(self.forward_token)));
                // Where nobody is known, nobody's token expires.
                let known = self.access != Access::Public;
                put(json, "on_token_expiry", known.then(|| json!(self.on_token_expiry.as_str())));
                put(json, "upgrades", self.upgrades.named().map(|names| json!(names)));
                put(json, "upstream", upstreams.get(forward.upstream).map(|upstream| json!(&*upstream.name)));
                match &forward.rewrite {
                    Some(Rewrite::Strip) => put(json, "strip_prefix", Some(json!(true))),
                    Some(Rewrite::To(path)) => put(json, "rewrite", Some(json!(path))),
                    None => {}
                }
            }
            Action::Redirect(redirect) => {
                put(json, "redirect", Some(json!(redirect.target)));
                put(json, "redirect_status", Some(json!(redirect.status.as_u16())));
            }
            Action::Respond(respond) => put(json, "respond", Some(self::respond(respond))),
        }
    }
}

impl Access {
    /// The word of the file.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Required => "required",
            Self::Optional => "optional",
            Self::Public => "public",
        }
    }
}

impl WhenStale {
    /// The word of the file.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Serve => "serve",
            Self::Refuse => "refuse",
        }
    }
}

impl Cors {
    pub(in crate::config) fn shown(&self) -> Value {
        let origins = if self.origins.is_empty() { json!(["*"]) } else { strings(&self.origins) };
        Value::Object(object([
            ("origins", origins),
            ("methods", strings(&self.methods)),
            ("headers", strings(&self.headers)),
            ("expose", strings(&self.expose)),
            ("credentials", json!(self.credentials)),
            ("max_age", json!(show_duration(self.max_age))),
        ]))
    }
}

fn respond(respond: &Respond) -> Value {
    let mut json = object([("status", json!(respond.status.as_u16()))]);
    match &respond.body_file {
        Some(file) => put(&mut json, "body_file", Some(json!(file.display().to_string()))),
        None if respond.body.is_empty() => {}
        None => put(&mut json, "body", Some(json!(String::from_utf8_lossy(&respond.body)))),
    }
    let content_type = respond.content_type.as_ref().filter(|_| !respond.body.is_empty());
    put(&mut json, "content_type", content_type.map(|it| json!(text(it))));
    put(&mut json, "headers", fields(&respond.headers));
    Value::Object(json)
}

fn header_rules(rules: &HeaderRules) -> Option<Value> {
    let mut json = Map::new();
    put(&mut json, "remove", some(rules.remove.iter().map(HeaderName::as_str)));
    put(&mut json, "set", fields(&rules.set));
    put(&mut json, "add", fields(&rules.add));
    (!json.is_empty()).then_some(Value::Object(json))
}

/// What is in the names of header fields that carry secrets: `Authorization`, `X-Api-Key`, `Set-Cookie`, `X-Vault-Token`.
const SECRET: [&str; 8] = ["auth", "token", "secret", "key", "password", "credential", "cookie", "signature"];

fn fields(fields: &[(HeaderName, HeaderValue)]) -> Option<Value> {
    let shown = |(name, value): &(HeaderName, HeaderValue)| {
        // What opens a door of the upstream is nobody else's to read. One value too many hidden is no loss.
        let secret = SECRET.iter().any(|word| name.as_str().contains(word));
        (name.to_string(), if secret { json!("[redacted]") } else { json!(text(value)) })
    };
    (!fields.is_empty()).then(|| Value::Object(fields.iter().map(shown).collect()))
}

fn text(value: &HeaderValue) -> String {
    String::from_utf8_lossy(value.as_bytes()).into_owned()
}

fn rate_limit(limit: &RateLimit) -> Value {
    json!({ "by": limit.by.to_string(), "rate": limit.rate.to_string(), "burst": limit.burst })
}
