//! The tables of the file and the keys of each.

/// A table of the file.
#[derive(Debug)]
pub(super) struct Shape {
    /// How the file writes its header.
    pub(super) title: &'static str,
    /// Its keys.
    pub(super) keys: &'static [&'static str],
}

pub(super) static ROOT: Shape = Shape {
    title: "the top level",
    keys: &[
        "server",
        "admin",
        "auth",
        "session",
        "store",
        "limits",
        "log",
        "sandbox",
        "trusted_issuer",
        "upstream",
        "route",
    ],
};

pub(super) static SERVER: Shape = Shape {
    title: "[server]",
    keys: &["listen", "listener", "workers", "fast_lane", "trusted_proxies", "tls", "drain_timeout"],
};

pub(super) static LISTENER: Shape =
    Shape { title: "[[server.listener]]", keys: &["address", "tls", "proxy_protocol", "redirect_to_https"] };

pub(super) static TLS: Shape = Shape { title: "[server.tls]", keys: &["certificate"] };

pub(super) static CERTIFICATE: Shape = Shape { title: "[[server.tls.certificate]]", keys: &["chain", "key"] };

pub(super) static ADMIN: Shape = Shape { title: "[admin]", keys: &["listen", "token"] };

pub(super) static AUTH: Shape = Shape {
    title: "[auth]",
    keys: &["prefix", "public_url", "user_header", "session_header", "strip_headers", "mode", "cors"],
};

const CORS_KEYS: &[&str] = &["origins", "methods", "headers", "expose", "credentials", "max_age"];

pub(super) static AUTH_CORS: Shape = Shape { title: "[auth.cors]", keys: CORS_KEYS };

pub(super) static SESSION: Shape = Shape {
    title: "[session]",
    keys: &[
        "issuer",
        "audience",
        "access_token_ttl",
        "idle_timeout",
        "max_lifetime",
        "max_per_user",
        "refresh_grace",
        "signing_keys",
        "refresh_keys",
        "keys",
    ],
};

pub(super) static STORE: Shape = Shape {
    title: "[store]",
    keys: &[
        "path",
        "redis",
        "topology",
        "sentinel_primary",
        "sentinel_password",
        "username",
        "password",
        "ca",
        "prefix",
        "replicas",
        "timeout",
        "max_revocation_lag",
    ],
};

pub(super) static LIMITS: Shape = Shape {
    title: "[limits]",
    keys: &[
        "connections",
        "connections_per_address",
        "tls_handshake_timeout",
        "header_timeout",
        "idle_timeout",
        "body_idle_timeout",
        "body_progress",
        "stream_idle_timeout",
        "header_count",
        "header_bytes",
        "uri_bytes",
        "body_bytes",
        "http2_streams",
        "http2_resets",
        "http2_control_frames",
        "token_bytes",
        "token_cache_bytes",
        "refreshes_per_session",
        "refreshes_per_address",
    ],
};

pub(super) static LOG: Shape = Shape { title: "[log]", keys: &["level", "format", "access"] };

pub(super) static SANDBOX: Shape = Shape {
    title: "[sandbox]",
    keys: &["user", "no_new_privileges", "drop_capabilities", "private_files", "restrict_files", "core_dumps"],
};

pub(super) static TRUSTED_ISSUER: Shape = Shape {
    title: "[[trusted_issuer]]",
    keys: &[
        "issuer",
        "audience",
        "jwks_url",
        "jwks_file",
        "algorithms",
        "session_claim",
        "max_token_lifetime",
        "refresh_interval",
        "cooldown",
    ],
};

pub(super) static UPSTREAM: Shape = Shape {
    title: "[upstream.NAME]",
    keys: &[
        "servers",
        "connect_timeout",
        "response_timeout",
        "body_idle_timeout",
        "keep_alive_timeout",
        "keep_alive_connections",
        "protocol",
        "tls",
        "resolver",
        "balance",
        "hash_by",
        "max_connections",
        "queue",
        "queue_timeout",
        "retries",
        "retry_budget",
        "health",
        "ejection",
    ],
};

pub(super) static UPSTREAM_TLS: Shape =
    Shape { title: "[upstream.NAME.tls]", keys: &["ca", "server_name", "certificate", "key", "pins"] };

pub(super) static UPSTREAM_SERVERS: Shape = Shape { title: "[[upstream.NAME.servers]]", keys: &["url", "weight"] };

pub(super) static HEALTH: Shape = Shape {
    title: "[upstream.NAME.health]",
    keys: &["path", "interval", "timeout", "healthy", "unhealthy", "status", "host"],
};

pub(super) static EJECTION: Shape = Shape {
    title: "[upstream.NAME.ejection]",
    keys: &["failures", "statuses", "base", "max", "max_percent", "slow_start"],
};

pub(super) static ROUTE: Shape = Shape {
    title: "[[route]]",
    keys: &[
        "name",
        "host",
        "path",
        "methods",
        "upstream",
        "redirect",
        "redirect_status",
        "respond",
        "strip_prefix",
        "rewrite",
        "auth",
        "mode",
        "forward_token",
        "allow_path",
        "issuers",
        "response_timeout",
        "body_bytes",
        "early_hints",
        "when_stale",
        "on_token_expiry",
        "upgrades",
        "request_headers",
        "response_headers",
        "cors",
        "rate_limit",
    ],
};

pub(super) static RESPOND: Shape =
    Shape { title: "[route.respond]", keys: &["status", "body", "body_file", "content_type", "headers"] };

const HEADER_RULES: &[&str] = &["remove", "set", "add"];

pub(super) static REQUEST_HEADERS: Shape = Shape { title: "[route.request_headers]", keys: HEADER_RULES };

pub(super) static RESPONSE_HEADERS: Shape = Shape { title: "[route.response_headers]", keys: HEADER_RULES };

pub(super) static CORS: Shape = Shape { title: "[route.cors]", keys: CORS_KEYS };

pub(super) static RATE_LIMIT: Shape = Shape { title: "[[route.rate_limit]]", keys: &["by", "rate", "burst"] };

/// All tables, for telling where a misplaced key belongs.
pub(super) static ALL: [&Shape; 25] = [
    &ROOT,
    &SERVER,
    &LISTENER,
    &TLS,
    &CERTIFICATE,
    &ADMIN,
    &AUTH,
    &SESSION,
    &STORE,
    &LIMITS,
    &LOG,
    &SANDBOX,
    &TRUSTED_ISSUER,
    &UPSTREAM,
    &UPSTREAM_TLS,
    &UPSTREAM_SERVERS,
    &HEALTH,
    &EJECTION,
    &ROUTE,
    &AUTH_CORS,
    &RESPOND,
    &REQUEST_HEADERS,
    &RESPONSE_HEADERS,
    &CORS,
    &RATE_LIMIT,
];
