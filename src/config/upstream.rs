//! `[upstream.NAME]`

use std::fmt;
use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

use super::reader::{Table, Value};
use super::server::{address, nonzero_usize};
use super::upstream_tls::upstream_tls;
use super::{ServerAddress, UpstreamTls, shape};

const TICK: Duration = Duration::from_millis(1);

const DEFAULT_CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
const DEFAULT_RESPONSE_TIMEOUT: Duration = Duration::from_secs(60);
const DEFAULT_BODY_IDLE_TIMEOUT: Duration = Duration::from_secs(60);

/// Less than the 60 s after which common servers close: a request sent just then would be lost.
const DEFAULT_KEEP_ALIVE_TIMEOUT: Duration = Duration::from_secs(55);

const DEFAULT_KEEP_ALIVE_CONNECTIONS: u64 = 128;

/// `[upstream.NAME]`
#[derive(Clone, Debug)]
pub struct Upstream {
    /// The name.
    pub name: Arc<str>,
    /// `servers`: at least one, in turn.
    pub servers: Vec<ServerAddress>,
    /// `connect_timeout`, 5 s by default.
    pub connect_timeout: Duration,
    /// `response_timeout`: from the end of the request to the response header, 60 s by default.
    pub response_timeout: Duration,
    /// `body_idle_timeout`: between two pieces of a response body, 60 s by default.
    pub body_idle_timeout: Duration,
    /// `keep_alive_timeout`: how long an unused connection is kept, 55 s by default: less than what servers commonly wait.
    pub keep_alive_timeout: Duration,
    /// `keep_alive_connections`: unused connections kept for each server by each worker, 128 by default.
    pub keep_alive_connections: NonZeroUsize,
    /// `protocol`, `"http1"` by default.
    pub protocol: Protocol,
    /// `[upstream.NAME.tls]`, for its `https` servers.
    pub tls: UpstreamTls,
    /// `resolver`: the DNS server that the servers' names are asked at; the system's by default.
    pub resolver: Option<SocketAddr>,
}

/// `upstream.protocol`: what is spoken to the servers.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Protocol {
    /// `"http1"`: HTTP/1.1, a request at a time on each connection.
    Http1,
    /// `"http2"`: HTTP/2, by ALPN with TLS and by prior knowledge without (RFC 9113 §3.3).
    Http2,
}

impl Protocol {
    const NAMES: [(&str, Self); 2] = [("http1", Self::Http1), ("http2", Self::Http2)];
}

/// As the file writes it.
impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Http1 => "http1",
            Self::Http2 => "http2",
        })
    }
}

pub(super) fn upstreams(root: &Table<'_>) -> Vec<Upstream> {
    root.named("upstream", &shape::UPSTREAM).into_iter().map(|(name, table)| upstream(name, &table)).collect()
}

fn upstream(name: &str, table: &Table<'_>) -> Upstream {
    // The name stands in metrics, logs and key paths.
    if name.is_empty() || !name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_')) {
        table.fault("the name may have letters, digits, \"-\" and \"_\" only");
    }
    const SERVERS: &str = "servers such as \"http://10.0.0.5:8080\"";
    let servers = table.require("servers", &format!("an array of {SERVERS}"));
    let servers = servers
        .map(|value| {
            value.each(value.some_items(SERVERS), |item| {
                item.parsed("a server such as \"http://10.0.0.5:8080\"", ServerAddress::parse)
            })
        })
        .unwrap_or_default();
    // A server at fault could be any: nothing is said to have no effect then.
    let sound = !servers.is_empty() && !table.document().faulty(&format!("{}.servers", table.path()));
    let any = |what: fn(&ServerAddress) -> bool| sound.then(|| servers.iter().any(what));
    let resolver = table.get("resolver");
    if let (Some(value), Some(false)) = (&resolver, any(ServerAddress::is_named)) {
        value.report_absent("has no effect: none of the servers has a name");
    }
    let tls = upstream_tls(table, any(ServerAddress::tls));
    let protocol = table.get("protocol").and_then(|value| value.choice(&Protocol::NAMES));
    let duration = |key, default| table.get(key).and_then(|value: Value<'_>| value.duration(TICK)).unwrap_or(default);
    Upstream {
        name: name.into(),
        servers,
        connect_timeout: duration("connect_timeout", DEFAULT_CONNECT_TIMEOUT),
        response_timeout: duration("response_timeout", DEFAULT_RESPONSE_TIMEOUT),
        body_idle_timeout: duration("body_idle_timeout", DEFAULT_BODY_IDLE_TIMEOUT),
        keep_alive_timeout: duration("keep_alive_timeout", DEFAULT_KEEP_ALIVE_TIMEOUT),
        keep_alive_connections: table
            .get("keep_alive_connections")
            .and_then(|value| value.count(1..=65_535, None))
            .or(Some(DEFAULT_KEEP_ALIVE_CONNECTIONS))
            .and_then(nonzero_usize)
            .unwrap_or(NonZeroUsize::MIN),
        protocol: protocol.unwrap_or(Protocol::Http1),
        tls,
        resolver: resolver.and_then(|value| address(&value, "10.0.0.2:53")),
    }
}
