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
    keys: &["server", "admin", "auth", "session", "store", "limits", "log", "trusted_issuer", "upstream", "route"],
};

pub(super) static SERVER: Shape =
    Shape { title: "[server]", keys: &["listen", "workers", "trusted_proxies", "tls", "drain_timeout"] };

pub(super) static TLS: Shape = Shape { title: "[server.tls]", keys: &["certificate"] };

pub(super) static CERTIFICATE: Shape = Shape { title: "[[server.tls.certificate]]", keys: &["chain", "key"] };

pub(super) static ADMIN: Shape = Shape { title: "[admin]", keys: &["listen", "token"] };

pub(super) static AUTH: Shape =
    Shape { title: "[auth]", keys: &["prefix", "public_url", "user_header", "session_header", "strip_headers"] };

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
        "stream_idle_timeout",
        "header_count",
        "header_bytes",
        "uri_bytes",
        "body_bytes",
        "http2_streams",
        "http2_resets",
        "token_bytes",
        "token_cache_bytes",
        "refreshes_per_session",
        "refreshes_per_address",
    ],
};

pub(super) static LOG: Shape = Shape { title: "[log]", keys: &["level", "format", "access"] };

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
    ],
};

pub(super) static ROUTE: Shape = Shape {
    title: "[[route]]",
    keys: &[
        "name",
        "host",
        "path",
        "methods",
        "upstream",
        "auth",
        "forward_token",
        "allow_path",
        "issuers",
        "response_timeout",
        "body_bytes",
        "when_stale",
        "on_token_expiry",
        "upgrades",
    ],
};

/// All tables, for telling where a misplaced key belongs.
pub(super) static ALL: [&Shape; 13] = [
    &ROOT,
    &SERVER,
    &TLS,
    &CERTIFICATE,
    &ADMIN,
    &AUTH,
    &SESSION,
    &STORE,
    &LIMITS,
    &LOG,
    &TRUSTED_ISSUER,
    &UPSTREAM,
    &ROUTE,
];
