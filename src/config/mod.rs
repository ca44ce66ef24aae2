//! The configuration: one TOML file, checked whole before anything is bound.
//!
//! [`Config`] holds typed and checked values only. [`Config::load`] reads every value of the file before it gives up,
//! so that all faults are reported at once, each with line, column and what was expected. From the text inwards:
//!
//! - `file` puts a `Config` together from the sections: `server`, `listener`, `session`, `store`, `limits`,
//!   `sandbox`, `upstream` and `route`;
//! - `reader` reads one key of one table, with `shape` (which keys there are), `units`, `names`, `secret` and `nearest`;
//! - `document` collects the faults; `consistency` finds those that show only between values;
//! - `fault` is how they are shown, and `redact` how a configuration is.

mod balancing;
mod consistency;
mod document;
mod fault;
mod file;
mod foreign;
mod limits;
mod listener;
mod names;
mod nearest;
mod reader;
mod redact;
mod route;
mod sandbox;
mod secret;
mod server;
mod server_address;
mod session;
mod shape;
mod store;
mod units;
mod upstream;
mod upstream_tls;
mod value;

#[cfg(test)]
mod tests;

use std::net::SocketAddr;
use std::num::{NonZeroU16, NonZeroU32, NonZeroU64, NonZeroUsize};
use std::path::PathBuf;
use std::time::Duration;

use http::HeaderName;
use ipnet::IpNet;
use jsonwebtoken::Algorithm;
use zeroize::Zeroizing;

pub use self::balancing::{Balance, ConnectionLimit, Ejection, HashBy, Health, Retries, UpstreamServer};
pub use self::fault::{Fault, Faults, Position, Source};
pub use self::route::{
    Access, Action, Cors, Forward, HeaderRules, HostPattern, LimitBy, Mode, OnTokenExpiry, OriginPattern, RateLimit,
    Redirect, Respond, Rewrite, Route, Upgrades, WhenStale,
};
pub use self::sandbox::Sandbox;
pub use self::server_address::ServerAddress;
pub use self::upstream::{Protocol, Upstream};
pub use self::upstream_tls::{Pin, UpstreamTls};

/// A checked configuration.
#[derive(Clone, Debug)]
pub struct Config {
    /// `[server]`
    pub server: Server,
    /// `[admin]`; without it there is no admin listener.
    pub admin: Option<Admin>,
    /// `[auth]`
    pub auth: Auth,
    /// `[session]`; without it Portcullis owns no sessions and only verifies tokens of trusted issuers.
    pub session: Option<Session>,
    /// `[store]`
    pub store: Store,
    /// `[limits]`
    pub limits: Limits,
    /// `[log]`
    pub log: Log,
    /// `[sandbox]`
    pub sandbox: Sandbox,
    /// `[[trusted_issuer]]`
    pub trusted_issuers: Vec<TrustedIssuer>,
    /// `[upstream.NAME]`; a route names one by its index here.
    pub upstreams: Vec<Upstream>,
    /// `[[route]]`, in the order of the file.
    pub routes: Vec<Route>,
    /// Where each value stands in the file.
    pub source: Source,
}

/// `[server]`
#[derive(Clone, Debug)]
pub struct Server {
    /// `listen` and `[[server.listener]]`, in this order: at least one.
    pub listeners: Vec<Listener>,
    /// `workers`: serving threads; `"auto"` is one per core this process may use.
    pub workers: NonZeroUsize,
    /// `fast_lane`: requests of HTTP/1.1 in their strictest form take a shorter way; true by default.
    pub fast_lane: bool,
    /// `trusted_proxies`: peers whose `X-Forwarded-*` is believed.
    pub trusted_proxies: Vec<IpNet>,
    /// `[[server.tls.certificate]]`: empty means plain HTTP. The first is used when no name fits.
    pub certificates: Vec<Certificate>,
    /// `drain_timeout`: how long requests in flight may take once a stop was asked for, 30 s by default.
    pub drain_timeout: Duration,
}

/// Where clients connect: an address of `server.listen`, or a `[[server.listener]]`.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Listener {
    /// `address`. Port 0 lets the system pick a free one.
    pub address: SocketAddr,
    /// `tls`: by default whether there is a certificate, and not with `redirect_to_https`.
    pub tls: bool,
    /// `proxy_protocol`: the balancers that begin each connection with a PROXY header; nobody else may connect. Empty,
    /// the default: it is not spoken.
    pub proxy_protocol: Vec<IpNet>,
    /// `redirect_to_https`: every request is sent to `https` at this port; `true` is 443.
    pub redirect_to_https: Option<NonZeroU16>,
}

impl Listener {
    /// As `server.listen` has it.
    fn plainly(address: SocketAddr, tls: bool) -> Self {
        Self { address, tls, proxy_protocol: Vec::new(), redirect_to_https: None }
    }

    /// `address`, which is this listener's own but for a port that the system chose, and in parentheses what is special
    /// about it.
    pub fn describe(&self, address: SocketAddr) -> String {
        let proxied = if self.proxy_protocol.is_empty() { None } else { Some(String::from("PROXY protocol")) };
        let redirects = self.redirect_to_https.map(|port| format!("redirects to https at port {port}"));
        let special: Vec<String> = proxied.into_iter().chain(redirects).collect();
        if special.is_empty() { address.to_string() } else { format!("{address} ({})", special.join(", ")) }
    }
}

/// `[[server.tls.certificate]]`
#[derive(Clone, Debug)]
pub struct Certificate {
    /// PEM file: the certificate first, then its issuers.
    pub chain: PathBuf,
    /// PEM file: its private key.
    pub key: PathBuf,
}

/// `[admin]`
#[derive(Clone, Debug)]
pub struct Admin {
    /// `listen`, `127.0.0.1:9443` by default.
    pub listen: SocketAddr,
    /// `token`: 16 bytes or more of visible ASCII, from `file:PATH` or `env:NAME`.
    pub token: Secret,
}

/// `[auth]`: the public endpoints and the identity headers.
#[derive(Clone, Debug)]
pub struct Auth {
    /// `prefix`, `/auth` by default: an absolute path without a slash at its end.
    pub prefix: String,
    /// `public_url`: scheme and authority that clients use, such as `https://shop.example.com`, for the metadata document.
    /// Without it the request's own scheme and host are used.
    pub public_url: Option<String>,
    /// `user_header`, `X-User-Id` by default.
    pub user_header: HeaderName,
    /// `session_header`, `X-Session-Id` by default.
    pub session_header: HeaderName,
    /// `strip_headers`: more names that a client may never send to an upstream.
    pub strip_headers: Vec<HeaderName>,
    /// `mode` of the routes that do not say one, `"enforce"` by default.
    pub mode: Mode,
    /// `cors` of the public endpoints; without it pages of other origins cannot call them.
    pub cors: Option<Cors>,
}

/// `[session]`: what Portcullis signs and how long it lasts.
#[derive(Clone, Debug)]
pub struct Session {
    /// `issuer`: the `iss` of own tokens.
    pub issuer: String,
    /// `audience`: the `aud` of own tokens.
    pub audience: String,
    /// `access_token_ttl`, 1 h by default. At least 1 s.
    pub access_token_ttl: Duration,
    /// `idle_timeout`; `None` is `"never"`, the default.
    pub idle_timeout: Option<Duration>,
    /// `max_lifetime`; `None` is `"never"`, the default.
    pub max_lifetime: Option<Duration>,
    /// `max_per_user`; `None` is `"unlimited"`, the default.
    pub max_per_user: Option<NonZeroU32>,
    /// `refresh_grace`, 10 s by default; 1 ms is the least.
    pub refresh_grace: Duration,
    /// `signing_keys`: PEM files of P-256 private keys. The first signs, the others only verify. Empty: made and kept in
    /// the store's directory.
    pub signing_keys: Vec<PathBuf>,
    /// `refresh_keys`: files of 32 random bytes or more, for the MAC of refresh tokens. The first makes new ones. Empty:
    /// made and kept in the store's directory.
    pub refresh_keys: Vec<PathBuf>,
    /// `keys`: the directory of signing and refresh keys that were not given as files; several gateways share one.
    /// Without it they are made and kept in the embedded store's directory.
    pub keys: Option<PathBuf>,
}

/// `[store]`
#[derive(Clone, Debug)]
pub struct Store {
    /// `path`: the embedded store's directory, `data` beside the file by default. Not used with `redis`.
    pub path: PathBuf,
    /// `redis` and the keys beside it: the store that several gateways share.
    pub redis: Option<Redis>,
}

/// A shared store: Redis or Valkey.
#[derive(Clone, Debug)]
pub struct Redis {
    /// `redis`: one URL or several, `redis://host:port/database` or, with TLS, `rediss://…`; all of one scheme and
    /// database. Several are seeds of a cluster, or the sentinels.
    pub servers: Vec<Origin>,
    /// Whether the URLs are `rediss://`.
    pub tls: bool,
    /// The database number in the URLs, 0 by default; a cluster has only that one.
    pub database: u32,
    /// `topology`, `"single"` by default.
    pub topology: Topology,
    /// `ca`: PEM file of the authorities that servers' certificates are checked with; the system's by default.
    pub ca: Option<PathBuf>,
    /// `username`: of an ACL user; without it the password is that of the default user.
    pub username: Option<String>,
    /// `password`, from `file:PATH` or `env:NAME`.
    pub password: Option<Secret>,
    /// `sentinel_password`, from `file:PATH` or `env:NAME`: what the sentinels themselves ask for.
    pub sentinel_password: Option<Secret>,
    /// `prefix` of every key, `portcullis` by default: letters, digits, `-`, `_`, `.` and `:`.
    pub prefix: String,
    /// `replicas` that must have a write before it is acknowledged, 0 by default.
    pub replicas: u32,
    /// `timeout`: the deadline of every call, 1 s by default; 50 ms to 10 s.
    pub timeout: Duration,
    /// `max_revocation_lag`: how far behind the others' ends of sessions a route with `when_stale = "refuse"` may be,
    /// 5 s by default; at least 1 s.
    pub max_revocation_lag: Duration,
}

/// `store.topology`
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Topology {
    /// `"single"`: one server, whose address may move with a failover.
    Single,
    /// `"sentinel"`: the URLs are sentinels, which know where the primary of this name (`sentinel_primary`) is.
    Sentinel {
        /// `sentinel_primary`
        primary: String,
    },
    /// `"cluster"`: the URLs are some of its nodes.
    Cluster,
}

/// `[limits]`: each always there, each with a default.
#[derive(Clone, Debug)]
pub struct Limits {
    /// `connections`: open client connections of the whole process, 10000 by default.
    pub connections: NonZeroUsize,
    /// `connections_per_address`: open client connections of one address (IPv6: one /64), 1024 by default.
    pub connections_per_address: NonZeroUsize,
    /// `tls_handshake_timeout`: from accept to the end of the handshake, 10 s by default.
    pub tls_handshake_timeout: Duration,
    /// `header_timeout`: from the first byte of a request to the end of its header; and for the first byte of a
    /// connection. 10 s by default.
    pub header_timeout: Duration,
    /// `idle_timeout`: between two requests of a connection, 60 s by default.
    pub idle_timeout: Duration,
    /// `body_idle_timeout`: for the next `body_progress` of a request body, and for a client that does not take its
    /// response. 30 s by default.
    pub body_idle_timeout: Duration,
    /// `body_progress`: less of a request body is none, 1 KiB by default, at most 1 MiB. gRPC streams are free of it.
    pub body_progress: NonZeroUsize,
    /// `stream_idle_timeout`: how long nothing may come over a WebSocket or another upgraded connection, and between two
    /// pieces of an event stream or a gRPC stream. 1 h by default.
    pub stream_idle_timeout: Duration,
    /// `header_count`: fields of a request, 100 by default, at most 16384.
    pub header_count: NonZeroUsize,
    /// `header_bytes`: request line and header together; HTTP/2: the decoded list. 8 KiB to 16 MiB,
    /// 32 KiB by default.
    pub header_bytes: NonZeroUsize,
    /// `uri_bytes`: 8 KiB by default, at most 65534 and no more than `header_bytes`.
    pub uri_bytes: NonZeroUsize,
    /// `body_bytes` of one request, 1 GiB by default; `None` is `"unlimited"`.
    pub body_bytes: Option<NonZeroU64>,
    /// `http2_streams`: concurrent requests of one HTTP/2 connection, 128 by default, at most 65535.
    pub http2_streams: NonZeroU32,
    /// `http2_resets`: streams a client may reset before their answer, more than it lets be answered, before the
    /// connection is closed, 256 by default, at most 1,000,000.
    pub http2_resets: NonZeroUsize,
    /// `http2_control_frames`: frames of one HTTP/2 connection that carry no body, beyond those that go with its requests
    /// and responses: so many at once, then so many in the period. 6000 in a minute by default, at least 100; `None` is
    /// `"unlimited"`.
    pub http2_control_frames: Option<Rate>,
    /// `token_bytes`: the longest access token that is looked at, 8 KiB by default, no more than `header_bytes`.
    pub token_bytes: NonZeroUsize,
    /// `token_cache_bytes`: verified tokens kept, all workers together, 64 MiB by default.
    pub token_cache_bytes: NonZeroUsize,
    /// `refreshes_per_session`, 60 in a minute by default; `None` is `"unlimited"`. As many logouts, counted apart.
    pub refreshes_per_session: Option<Rate>,
    /// `refreshes_per_address`, 600 in a minute by default; `None` is `"unlimited"`. As many logouts with tokens that are
    /// none of ours, counted apart.
    pub refreshes_per_address: Option<Rate>,
}

/// So many in so long: `"60/1m"`.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Rate {
    /// How many, and how many at once.
    pub count: NonZeroU32,
    /// In which time.
    pub period: Duration,
}

/// `[log]`
#[derive(Clone, Debug)]
pub struct Log {
    /// `level`: a tracing filter, `info` by default.
    pub level: String,
    /// `format`, `"auto"` by default.
    pub format: LogFormat,
    /// `access`, `"all"` by default.
    pub access: AccessLog,
}

/// `log.format`
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum LogFormat {
    /// `"auto"`: human on a terminal, JSON otherwise.
    Auto,
    /// `"human"`
    Human,
    /// `"json"`
    Json,
}

/// `log.access`: which requests are written to the access log.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum AccessLog {
    /// `"all"`, the default.
    All,
    /// `"refused"`: those that did not reach an upstream, and those answered 5xx.
    Refused,
    /// A number between 0 and 1: that share of the requests that went through, and all that did not.
    Sample(f64),
    /// `"off"`
    Off,
}

/// `[[trusted_issuer]]`: tokens signed elsewhere.
#[derive(Clone, Debug)]
pub struct TrustedIssuer {
    /// `issuer`: the exact `iss`.
    pub issuer: String,
    /// `audience`: one of these must be in `aud`. At least one.
    pub audience: Vec<String>,
    /// `jwks_file` or `jwks_url`
    pub jwks: JwksSource,
    /// `algorithms`: at least one, none symmetric. `["ES256"]` by default.
    pub algorithms: Vec<Algorithm>,
    /// `session_claim`: the member that names the session, `sid` by default.
    pub session_claim: String,
    /// `max_token_lifetime`: a token is expired this long after its `iat`, whatever its `exp`, so that the list of ended
    /// sessions stays bounded. 24 h by default.
    pub max_token_lifetime: Duration,
    /// `refresh_interval` of a `jwks_url`, 5 min by default; a file is looked at as often.
    pub refresh_interval: Duration,
    /// `cooldown`: the least time between two fetches for an unknown `kid`, 10 s by default.
    pub cooldown: Duration,
}

/// Where an issuer's keys come from.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum JwksSource {
    /// `jwks_file`
    File(PathBuf),
    /// `jwks_url`: `https`, or `http` to a loopback address.
    Url(http::Uri),
}

/// Where a server of the shared store is.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub struct Origin {
    /// Host name or address, without brackets.
    pub host: String,
    /// Port.
    pub port: u16,
}

/// A secret given as `file:PATH` or `env:NAME`. Zeroed when dropped and never printed.
#[derive(Clone)]
pub struct Secret(Zeroizing<String>);

impl Secret {
    /// Keeps `text` as a secret.
    pub fn new(text: String) -> Self {
        Self(Zeroizing::new(text))
    }

    /// The secret itself.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("[redacted]")
    }
}

impl Session {
    /// What stands in for `[session]` when there is none: nothing is signed under it.
    pub fn unused() -> Self {
        Self {
            issuer: String::new(),
            audience: String::new(),
            access_token_ttl: Duration::from_secs(3600),
            idle_timeout: None,
            max_lifetime: None,
            max_per_user: None,
            refresh_grace: Duration::from_secs(10),
            signing_keys: Vec::new(),
            refresh_keys: Vec::new(),
            keys: None,
        }
    }
}

impl Config {
    /// The longest any accepted access token may live: how long a revocation made by hand must be kept.
    pub fn longest_token_lifetime(&self) -> Duration {
        let own = self.session.iter().map(|session| session.access_token_ttl);
        let trusted = self.trusted_issuers.iter().map(|issuer| issuer.max_token_lifetime);
        own.chain(trusted).max().unwrap_or(Duration::from_secs(3600))
    }
}
