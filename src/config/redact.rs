//! The configuration as it is in effect, for people.

use serde_json::{Map, Value, json};

use super::store::scheme;
use super::units::{show_duration, show_size};
use super::{
    AccessLog, Admin, Auth, Balance, Certificate, Config, Cors, Ejection, Health, JwksSource, Limits, Listener, Log,
    LogFormat, Origin, Rate, Redis, Sandbox, Server, Session, Store, Topology, TrustedIssuer, Upstream, UpstreamServer,
    UpstreamTls,
};

impl Config {
    /// The configuration in effect, with all defaults filled in, in the tables, keys and units of the file. Paths are
    /// those that are opened, numbers those that apply, and secrets are `"[redacted]"`. What has no value is left out.
    pub fn to_redacted_json(&self) -> Value {
        let mut json = object([
            ("server", server(&self.server)),
            ("auth", auth(&self.auth)),
            ("store", store(&self.store)),
            ("limits", limits(&self.limits)),
            ("log", log(&self.log)),
            ("sandbox", sandbox(&self.sandbox)),
            ("trusted_issuer", self.trusted_issuers.iter().map(trusted_issuer).collect()),
            ("upstream", self.upstreams.iter().map(|it| (it.name.to_string(), upstream(it))).collect()),
            ("route", self.routes.iter().map(|it| it.shown(&self.upstreams, self.store.redis.is_some())).collect()),
        ]);
        put(&mut json, "admin", self.admin.as_ref().map(admin));
        put(&mut json, "session", self.session.as_ref().map(session));
        Value::Object(json)
    }
}

impl Store {
    /// What the store is, in a few words and without secrets: the directory, or the URLs.
    pub fn describe(&self) -> String {
        let Some(redis) = &self.redis else { return self.path.display().to_string() };
        let urls = redis.urls().join(", ");
        match &redis.topology {
            Topology::Single => urls,
            Topology::Sentinel { primary } => format!("{urls} (sentinel of {primary:?})"),
            Topology::Cluster => format!("{urls} (cluster)"),
        }
    }
}

impl Redis {
    /// `redis`, one URL for each server, as the file writes them: with port, and with a database other than 0.
    pub fn urls(&self) -> Vec<String> {
        let database = if self.database == 0 { String::new() } else { format!("/{}", self.database) };
        let url = |server: &Origin| format!("{}://{}{database}", scheme(self.tls), server.authority());
        self.servers.iter().map(url).collect()
    }
}

fn server(server: &Server) -> Value {
    let certificate =
        |it: &Certificate| json!({ "chain": it.chain.display().to_string(), "key": it.key.display().to_string() });
    let mut json = object([
        ("workers", json!(server.workers)),
        ("fast_lane", json!(server.fast_lane)),
        ("trusted_proxies", strings(&server.trusted_proxies)),
        ("drain_timeout", json!(show_duration(server.drain_timeout))),
    ]);
    // The short form of those that are as it has them.
    let plain = |it: &&Listener| **it == Listener::plainly(it.address, !server.certificates.is_empty());
    let (short, long) = server.listeners.iter().partition::<Vec<_>, _>(plain);
    put(&mut json, "listen", (!short.is_empty()).then(|| short.iter().map(|it| it.address.to_string()).collect()));
    put(&mut json, "listener", (!long.is_empty()).then(|| long.into_iter().map(listener).collect()));
    let certificates = server.certificates.iter().map(certificate).collect::<Vec<_>>();
    put(&mut json, "tls", (!certificates.is_empty()).then(|| json!({ "certificate": certificates })));
    Value::Object(json)
}

fn listener(listener: &Listener) -> Value {
    let mut json = object([("address", json!(listener.address.to_string())), ("tls", json!(listener.tls))]);
    let networks = &listener.proxy_protocol;
    put(&mut json, "proxy_protocol", (!networks.is_empty()).then(|| strings(networks)));
    put(&mut json, "redirect_to_https", listener.redirect_to_https.map(|port| json!(port)));
    Value::Object(json)
}

fn admin(admin: &Admin) -> Value {
    json!({ "listen": admin.listen.to_string(), "token": format!("{:?}", admin.token) })
}

fn auth(auth: &Auth) -> Value {
    let mut json = object([
        ("prefix", json!(auth.prefix)),
        ("user_header", json!(auth.user_header.as_str())),
        ("session_header", json!(auth.session_header.as_str())),
        ("strip_headers", strings(&auth.strip_headers)),
        ("mode", json!(auth.mode.as_str())),
    ]);
    put(&mut json, "cors", auth.cors.as_ref().map(Cors::shown));
    put(&mut json, "public_url", auth.public_url.as_ref().map(|url| json!(url)));
    Value::Object(json)
}

fn session(session: &Session) -> Value {
    let or_never = |it: Option<_>| it.map_or_else(|| String::from("never"), show_duration);
    let files = |paths: &[std::path::PathBuf]| {
        let paths = paths.iter().map(|path| path.display().to_string()).collect::<Vec<_>>();
        some(paths.iter().map(String::as_str))
    };
    let mut json = object([
        ("issuer", json!(session.issuer)),
        ("audience", json!(session.audience)),
        ("access_token_ttl", json!(show_duration(session.access_token_ttl))),
        ("idle_timeout", json!(or_never(session.idle_timeout))),
        ("max_lifetime", json!(or_never(session.max_lifetime))),
        ("max_per_user", session.max_per_user.map_or(json!("unlimited"), |count| json!(count))),
        ("refresh_grace", json!(show_duration(session.refresh_grace))),
    ]);
    put(&mut json, "signing_keys", files(&session.signing_keys));
    put(&mut json, "refresh_keys", files(&session.refresh_keys));
    put(&mut json, "keys", session.keys.as_ref().map(|path| json!(path.display().to_string())));
    Value::Object(json)
}

fn store(store: &Store) -> Value {
    let Some(redis) = &store.redis else { return json!({ "path": store.path.display().to_string() }) };
    let (topology, primary) = match &redis.topology {
        Topology::Single => ("single", None),
        Topology::Sentinel { primary } => ("sentinel", Some(primary)),
        Topology::Cluster => ("cluster", None),
    };
    let secret = |secret: &Option<super::Secret>| secret.as_ref().map(|secret| json!(format!("{secret:?}")));
    let mut json = object([
        ("redis", json!(redis.urls())),
        ("topology", json!(topology)),
        ("prefix", json!(redis.prefix)),
        ("replicas", if redis.replicas == 0 { json!("none") } else { json!(redis.replicas) }),
        ("timeout", json!(show_duration(redis.timeout))),
        ("max_revocation_lag", json!(show_duration(redis.max_revocation_lag))),
    ]);
    put(&mut json, "sentinel_primary", primary.map(|primary| json!(primary)));
    put(&mut json, "sentinel_password", secret(&redis.sentinel_password));
    put(&mut json, "username", redis.username.as_ref().map(|username| json!(username)));
    put(&mut json, "password", secret(&redis.password));
    put(&mut json, "ca", redis.ca.as_ref().map(|path| json!(path.display().to_string())));
    Value::Object(json)
}

fn limits(limits: &Limits) -> Value {
    let size = |bytes: std::num::NonZeroUsize| json!(show_size(bytes.get() as u64));
    let rate = |rate: Option<Rate>| rate.map_or(json!("unlimited"), |rate| json!(rate.to_string()));
    Value::Object(object([
        ("connections", json!(limits.connections)),
        ("connections_per_address", json!(limits.connections_per_address)),
        ("tls_handshake_timeout", json!(show_duration(limits.tls_handshake_timeout))),
        ("header_timeout", json!(show_duration(limits.header_timeout))),
        ("idle_timeout", json!(show_duration(limits.idle_timeout))),
        ("body_idle_timeout", json!(show_duration(limits.body_idle_timeout))),
        ("body_progress", size(limits.body_progress)),
        ("stream_idle_timeout", json!(show_duration(limits.stream_idle_timeout))),
        ("header_count", json!(limits.header_count)),
        ("header_bytes", size(limits.header_bytes)),
        ("uri_bytes", size(limits.uri_bytes)),
        ("body_bytes", size_or_unlimited(limits.body_bytes.map(u64::from))),
        ("http2_streams", json!(limits.http2_streams)),
        ("http2_resets", json!(limits.http2_resets)),
        ("http2_control_frames", rate(limits.http2_control_frames)),
        ("token_bytes", size(limits.token_bytes)),
        ("token_cache_bytes", size(limits.token_cache_bytes)),
        ("refreshes_per_session", rate(limits.refreshes_per_session)),
        ("refreshes_per_address", rate(limits.refreshes_per_address)),
    ]))
}

fn log(log: &Log) -> Value {
    let format = match log.format {
        LogFormat::Auto => "auto",
        LogFormat::Human => "human",
        LogFormat::Json => "json",
    };
    let access = match log.access {
        AccessLog::All => json!("all"),
        AccessLog::Refused => json!("refused"),
        AccessLog::Sample(share) => json!(share),
        AccessLog::Off => json!("off"),
    };
    json!({ "level": log.level, "format": format, "access": access })
}

fn sandbox(sandbox: &Sandbox) -> Value {
    let mut json = object([
        ("no_new_privileges", json!(sandbox.no_new_privileges)),
        ("drop_capabilities", json!(sandbox.drop_capabilities)),
        ("private_files", json!(sandbox.private_files)),
        ("restrict_files", json!(sandbox.restrict_files)),
        ("core_dumps", json!(sandbox.core_dumps)),
    ]);
    put(&mut json, "user", sandbox.user.as_ref().map(|user| json!(user)));
    Value::Object(json)
}

fn trusted_issuer(issuer: &TrustedIssuer) -> Value {
    let algorithms = issuer.algorithms.iter().map(|it| format!("{it:?}")).collect::<Vec<_>>();
    let mut json = object([
        ("issuer", json!(issuer.issuer)),
        ("audience", json!(issuer.audience)),
        ("algorithms", json!(algorithms)),
        ("session_claim", json!(issuer.session_claim)),
        ("max_token_lifetime", json!(show_duration(issuer.max_token_lifetime))),
        ("refresh_interval", json!(show_duration(issuer.refresh_interval))),
        ("cooldown", json!(show_duration(issuer.cooldown))),
    ]);
    let (key, place) = match &issuer.jwks {
        JwksSource::File(path) => ("jwks_file", path.display().to_string()),
        JwksSource::Url(url) => ("jwks_url", url.to_string()),
    };
    put(&mut json, key, Some(json!(place)));
    Value::Object(json)
}

fn upstream(upstream: &Upstream) -> Value {
    let server = |server: &UpstreamServer| match server.weight {
        1 => json!(server.address.to_string()),
        weight => json!({ "url": server.address.to_string(), "weight": weight }),
    };
    let (balance, hash_by) = match &upstream.balance {
        Balance::RoundRobin => ("round_robin", None),
        Balance::LeastRequests => ("least_requests", None),
        Balance::Hash(by) => ("hash", Some(by.to_string())),
    };
    let retries = upstream.retries;
    let mut json = object([
        ("servers", upstream.servers.iter().map(server).collect()),
        ("balance", json!(balance)),
        ("connect_timeout", json!(show_duration(upstream.connect_timeout))),
        ("response_timeout", json!(show_duration(upstream.response_timeout))),
        ("body_idle_timeout", json!(show_duration(upstream.body_idle_timeout))),
        ("keep_alive_timeout", json!(show_duration(upstream.keep_alive_timeout))),
        ("keep_alive_connections", json!(upstream.keep_alive_connections)),
        ("protocol", json!(upstream.protocol.to_string())),
        ("max_connections", upstream.connections.max.map_or(json!("unlimited"), |max| json!(max))),
        ("retries", if retries.count == 0 { json!("never") } else { json!(retries.count) }),
        ("retry_budget", retries.budget.map_or(json!("unlimited"), |share| json!(share))),
        ("ejection", upstream.ejection.as_ref().map_or(json!({ "failures": "never" }), ejection)),
    ]);
    put(&mut json, "resolver", upstream.resolver.map(|resolver| json!(resolver.to_string())));
    put(&mut json, "tls", upstream_tls(&upstream.tls));
    put(&mut json, "hash_by", hash_by.map(|by| json!(by)));
    if upstream.connections.max.is_some() {
        put(&mut json, "queue", Some(json!(upstream.connections.queue)));
        put(&mut json, "queue_timeout", Some(json!(show_duration(upstream.connections.timeout))));
    }
    put(&mut json, "health", upstream.health.as_ref().map(health));
    Value::Object(json)
}

fn health(health: &Health) -> Value {
    let mut json = object([
        ("path", json!(health.path)),
        ("interval", json!(show_duration(health.interval))),
        ("timeout", json!(show_duration(health.timeout))),
        ("healthy", json!(health.healthy)),
        ("unhealthy", json!(health.unhealthy)),
    ]);
    put(&mut json, "status", (!health.status.is_empty()).then(|| json!(health.status)));
    put(&mut json, "host", health.host.as_ref().and_then(|host| host.to_str().ok()).map(|host| json!(host)));
    Value::Object(json)
}

fn ejection(ejection: &Ejection) -> Value {
    let mut json = object([
        ("failures", json!(ejection.failures)),
        ("base", json!(show_duration(ejection.base))),
        ("max", json!(show_duration(ejection.max))),
        ("max_percent", json!(ejection.max_percent)),
        ("slow_start", ejection.slow_start.map_or(json!("never"), |time| json!(show_duration(time)))),
    ]);
    put(&mut json, "statuses", (!ejection.statuses.is_empty()).then(|| json!(ejection.statuses)));
    Value::Object(json)
}

fn upstream_tls(tls: &UpstreamTls) -> Option<Value> {
    let mut json = Map::new();
    put(&mut json, "ca", tls.ca.as_ref().map(|path| json!(path.display().to_string())));
    put(&mut json, "server_name", tls.server_name.as_ref().map(|name| json!(name)));
    put(&mut json, "certificate", tls.certificate.as_ref().map(|it| json!(it.chain.display().to_string())));
    put(&mut json, "key", tls.certificate.as_ref().map(|it| json!(it.key.display().to_string())));
    put(&mut json, "pins", (!tls.pins.is_empty()).then(|| strings(&tls.pins)));
    (!json.is_empty()).then_some(Value::Object(json))
}

impl Origin {
    /// Host and port as in a URL, such as `10.0.0.5:8080` or `[fd00::5]:81`.
    pub fn authority(&self) -> String {
        match self.host.contains(':') {
            true => format!("[{}]:{}", self.host, self.port),
            false => format!("{}:{}", self.host, self.port),
        }
    }
}

pub(super) fn size_or_unlimited(bytes: Option<u64>) -> Value {
    bytes.map_or(json!("unlimited"), |bytes| json!(show_size(bytes)))
}

pub(super) fn strings<T: ToString>(values: &[T]) -> Value {
    values.iter().map(T::to_string).collect()
}

pub(super) fn some<'s>(texts: impl Iterator<Item = &'s str>) -> Option<Value> {
    let texts = texts.collect::<Vec<_>>();
    (!texts.is_empty()).then(|| json!(texts))
}

pub(super) fn object<const N: usize>(members: [(&str, Value); N]) -> Map<String, Value> {
    members.into_iter().map(|(key, value)| (key.to_owned(), value)).collect()
}

pub(super) fn put(json: &mut Map<String, Value>, key: &str, value: Option<Value>) {
    if let Some(value) = value {
        json.insert(key.to_owned(), value);
    }
}
