//! What `[upstream.NAME]` says of several servers: which one a request goes to, how many connections each takes, what
//! is sent again, and when a server is left out.

use std::fmt;
use std::num::{NonZeroU32, NonZeroUsize};
use std::ops::RangeInclusive;
use std::time::Duration;

use http::header::{HeaderName, HeaderValue};

use super::reader::{Table, Value};
use super::server::nonzero_usize;
use super::server_address::ServerAddress;
use super::shape;
use super::units::show_duration;

const TICK: Duration = Duration::from_millis(1);

const WEIGHTS: RangeInclusive<u64> = 1..=1000;

/// More than any server takes, and what a count of them may safely be.
const MOST_CONNECTIONS: u64 = 1_000_000;

const DEFAULT_QUEUE: u64 = 1024;
const MOST_WAITING: u64 = 1_000_000;
const DEFAULT_QUEUE_TIMEOUT: Duration = Duration::from_secs(5);

const DEFAULT_RETRIES: u32 = 2;
const MOST_RETRIES: u64 = 10;
const DEFAULT_RETRY_BUDGET: f64 = 0.2;

/// More often, and checks would be the load.
const LEAST_CHECK_INTERVAL: Duration = Duration::from_millis(100);
const DEFAULT_CHECK_INTERVAL: Duration = Duration::from_secs(5);
const DEFAULT_CHECK_TIMEOUT: Duration = Duration::from_secs(2);
const DEFAULT_HEALTHY: u32 = 2;
const DEFAULT_UNHEALTHY: u32 = 3;
const MOST_CHECKS: u64 = 1000;

const DEFAULT_FAILURES: u32 = 5;
const MOST_FAILURES: u64 = 1_000_000;
const DEFAULT_EJECTION_BASE: Duration = Duration::from_secs(5);
const DEFAULT_EJECTION_MAX: Duration = Duration::from_secs(60);
const DEFAULT_MAX_PERCENT: u32 = 50;
const DEFAULT_SLOW_START: Duration = Duration::from_secs(10);

/// One of `upstream.NAME.servers`: a URL, or a table with `url` and `weight`.
#[derive(Clone, Debug, PartialEq)]
pub struct UpstreamServer {
    /// Where it is.
    pub address: ServerAddress,
    /// `weight`: its share beside the others', 1 to 1000, 1 by default.
    pub weight: u32,
}

/// `balance` with `hash_by`: which server a request goes to.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Balance {
    /// `"round_robin"`, the default: each in turn, as often as its weight says.
    RoundRobin,
    /// `"least_requests"`: the one with the fewest requests in flight for its weight, over all workers.
    LeastRequests,
    /// `"hash"`: always the same one for the same value.
    Hash(HashBy),
}

/// `hash_by`: whose requests go to the same server.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum HashBy {
    /// `"session"`, the default.
    Session,
    /// `"user"`
    User,
    /// `"address"`: the client's.
    Address,
    /// `"header:NAME"`: the value the upstream is sent.
    Header(HeaderName),
}

/// As the file writes it.
impl fmt::Display for HashBy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Session => f.write_str("session"),
            Self::User => f.write_str("user"),
            Self::Address => f.write_str("address"),
            Self::Header(name) => write!(f, "header:{name}"),
        }
    }
}

/// `max_connections`, `queue` and `queue_timeout`.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct ConnectionLimit {
    /// `max_connections`: open connections to one server, all workers together; `None` is `"unlimited"`, the default.
    pub max: Option<NonZeroUsize>,
    /// `queue`: requests of the upstream that may wait for a connection, 1024 by default.
    pub queue: NonZeroUsize,
    /// `queue_timeout`: how long each may, 5 s by default.
    pub timeout: Duration,
}

/// `retries` and `retry_budget`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Retries {
    /// `retries`: attempts beyond the first, 2 by default, at most 10; 0 is `"never"`.
    pub count: u32,
    /// `retry_budget`: requests sent again for each request, 0.2 by default, at most 1; `None` is `"unlimited"`.
    pub budget: Option<f64>,
}

/// `[upstream.NAME.health]`: servers are asked whether they are well.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Health {
    /// `path`: of a `GET`, with a query if need be.
    pub path: String,
    /// `interval` between two checks of a server, 5 s by default.
    pub interval: Duration,
    /// `timeout`: for all of a check up to the response header, 2 s by default.
    pub timeout: Duration,
    /// `healthy`: so many good checks in a row bring a server back, 2 by default.
    pub healthy: NonZeroU32,
    /// `unhealthy`: so many bad ones take it out, 3 by default.
    pub unhealthy: NonZeroU32,
    /// `status`: those that are good; empty is any 2xx or 3xx, the default.
    pub status: Vec<u16>,
    /// `host`: the `Host` of a check, by default the server's.
    pub host: Option<HeaderValue>,
}

/// `[upstream.NAME.ejection]`: a server that fails requests is left out for a while.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Ejection {
    /// `failures` in a row that it takes, 5 by default.
    pub failures: NonZeroU32,
    /// `statuses` that are failures, of 500 to 599; none by default.
    pub statuses: Vec<u16>,
    /// `base`: how long it is left out the first time; each time after that twice as long. 5 s by default.
    pub base: Duration,
    /// `max`: the longest, 60 s by default; no less than `base`.
    pub max: Duration,
    /// `max_percent` of the servers that may be left out at once, 1 to 100, 50 by default.
    pub max_percent: u32,
    /// `slow_start`: how long its share grows once it is back, 10 s by default; `None` is `"never"`: all of it at once.
    pub slow_start: Option<Duration>,
}

/// Reads `servers`.
pub(super) fn servers(table: &Table<'_>, label: &str) -> Vec<UpstreamServer> {
    const SERVERS: &str = "servers such as \"http://10.0.0.5:8080\"";
    let Some(value) = table.require("servers", &format!("an array of {SERVERS}")) else { return Vec::new() };
    let mut servers: Vec<UpstreamServer> = Vec::new();
    for item in value.some_items(SERVERS) {
        let url = |value: &Value<'_>| {
            let address = value.parsed("a server such as \"http://10.0.0.5:8080\"", ServerAddress::parse)?;
            // Two of one address would be one server to all that counts by server.
            if servers.iter().any(|server| server.address == address) {
                value.fault("is listed twice");
                return None;
            }
            Some(address)
        };
        let (address, weight) = if item.entries().is_some() {
            let table = Table::of(item, &shape::UPSTREAM_SERVERS, format!("{label}: servers"));
            let address = table.require("url", "one such as \"http://10.0.0.5:8080\"").and_then(|value| url(&value));
            let weight = table.get("weight").and_then(|value| value.count(WEIGHTS, None));
            (address, weight.and_then(|weight| u32::try_from(weight).ok()))
        } else {
            (url(&item), None)
        };
        servers.extend(address.map(|address| UpstreamServer { address, weight: weight.unwrap_or(1) }));
    }
    servers
}

/// Reads `balance` and `hash_by`.
pub(super) fn balance(table: &Table<'_>) -> Balance {
    const KINDS: [(&str, u8); 3] = [("round_robin", 0), ("least_requests", 1), ("hash", 2)];
    let kind = table.get("balance").map(|value| value.choice(&KINDS));
    let hash_by = table.get("hash_by");
    if let Some(value) = hash_by.as_ref().filter(|_| matches!(kind, None | Some(Some(0 | 1)))) {
        value.report_absent("needs balance = \"hash\"");
    }
    match kind.flatten() {
        Some(1) => Balance::LeastRequests,
        Some(2) => Balance::Hash(
            hash_by
                .and_then(|value| value.parsed("one such as \"session\" or \"header:NAME\"", parse_hash_by))
                .unwrap_or(HashBy::Session),
        ),
        _ => Balance::RoundRobin,
    }
}

fn parse_hash_by(text: &str) -> Result<HashBy, String> {
    let known = || String::from("is not known, expected \"session\", \"user\", \"address\" or \"header:NAME\"");
    match text {
        "session" => Ok(HashBy::Session),
        "user" => Ok(HashBy::User),
        "address" => Ok(HashBy::Address),
        _ => match text.strip_prefix("header:").ok_or_else(known)?.parse() {
            Ok(name) => Ok(HashBy::Header(name)),
            Err(_) => Err(String::from("has no header name behind \"header:\"")),
        },
    }
}

/// Reads `max_connections`, `queue` and `queue_timeout`.
pub(super) fn connection_limit(table: &Table<'_>) -> ConnectionLimit {
    let max = table.get("max_connections").filter(|value| !value.is_word("unlimited"));
    let max = max.map(|value| value.count(1..=MOST_CONNECTIONS, Some("unlimited")).and_then(nonzero_usize));
    if max.is_none() {
        for key in ["queue", "queue_timeout"] {
            if let Some(value) = table.get(key) {
                value.report_absent("needs max_connections: nobody waits without a limit");
            }
        }
    }
    let queue = table.get("queue").and_then(|value| value.count(1..=MOST_WAITING, None)).unwrap_or(DEFAULT_QUEUE);
    ConnectionLimit {
        max: max.flatten(),
        queue: nonzero_usize(queue).unwrap_or(NonZeroUsize::MIN),
        timeout: table.get("queue_timeout").and_then(|value| value.duration(TICK)).unwrap_or(DEFAULT_QUEUE_TIMEOUT),
    }
}

/// Reads `retries` and `retry_budget`.
pub(super) fn retries(table: &Table<'_>) -> Retries {
    let count = |value: Value<'_>| {
        if value.is_word("never") {
            return Some(0);
        }
        value.count(1..=MOST_RETRIES, Some("never")).and_then(|count| u32::try_from(count).ok())
    };
    Retries {
        count: table.get("retries").and_then(count).unwrap_or(DEFAULT_RETRIES),
        budget: table.get("retry_budget").and_then(|value| retry_budget(&value)).unwrap_or(Some(DEFAULT_RETRY_BUDGET)),
    }
}

fn retry_budget(value: &Value<'_>) -> Option<Option<f64>> {
    if value.is_word("unlimited") {
        return Some(None);
    }
    if !value.is_number() {
        value.wrong_type("a share such as 0.2, or \"unlimited\"");
        return None;
    }
    let share = value.fraction().filter(|share| *share > 0.0 && *share <= 1.0);
    if share.is_none() {
        value.fault("is not a share above 0.0 and up to 1.0: say retries = \"never\" for none");
    }
    share.map(Some)
}

/// Reads `[upstream.NAME.health]`.
pub(super) fn health(table: &Table<'_>) -> Option<Health> {
    let table = table.subsection("health", &shape::HEALTH);
    if !table.is_present() {
        return None;
    }
    let duration =
        |key, least, default| table.get(key).and_then(|value: Value<'_>| value.duration(least)).unwrap_or(default);
    let count = |key, default| {
        let count = table.get(key).and_then(|value: Value<'_>| value.count(1..=MOST_CHECKS, None));
        count.and_then(nonzero_u32).unwrap_or(default)
    };
    let path = table.require("path", "one such as \"/healthz\"");
    Some(Health {
        path: path.and_then(|value| value.parsed("a path such as \"/healthz\"", check_path)).unwrap_or_default(),
        interval: duration("interval", LEAST_CHECK_INTERVAL, DEFAULT_CHECK_INTERVAL),
        timeout: duration("timeout", TICK, DEFAULT_CHECK_TIMEOUT),
        healthy: count("healthy", nonzero(DEFAULT_HEALTHY)),
        unhealthy: count("unhealthy", nonzero(DEFAULT_UNHEALTHY)),
        status: table.get("status").map(|value| statuses(&value, 200..=599)).unwrap_or_default(),
        host: table.get("host").and_then(|value| value.parsed("a host such as \"orders.internal\"", check_host)),
    })
}

/// A target that can be sent as it is.
fn check_path(text: &str) -> Result<String, String> {
    let plain = text.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'#');
    match text.parse::<http::uri::PathAndQuery>() {
        Ok(_) if text.starts_with('/') && plain => Ok(text.to_owned()),
        _ => Err(String::from("is not a path, expected one such as \"/healthz\"")),
    }
}

fn check_host(text: &str) -> Result<HeaderValue, String> {
    match (text.parse::<http::uri::Authority>(), HeaderValue::from_str(text)) {
        (Ok(_), Ok(host)) if !text.contains('@') => Ok(host),
        _ => Err(String::from("is not a host, expected one such as \"orders.internal\"")),
    }
}

/// Reads `[upstream.NAME.ejection]`; `None` when `failures` is `"never"`.
pub(super) fn ejection(table: &Table<'_>) -> Option<Ejection> {
    let table = table.subsection("ejection", &shape::EJECTION);
    let failures = table.get("failures");
    let never = failures.as_ref().is_some_and(|value| value.is_word("never"));
    let count = failures
        .filter(|_| !never)
        .and_then(|value| value.count(1..=MOST_FAILURES, Some("never")))
        .and_then(nonzero_u32);
    let base = table.get("base").and_then(|value| value.duration(TICK)).unwrap_or(DEFAULT_EJECTION_BASE);
    let longest = table.get("max").and_then(|value| {
        let max = value.duration(TICK)?;
        if max < base {
            value.fault(format_args!("is less than base {:?}", show_duration(base)));
            return None;
        }
        Some(max)
    });
    let percent = table.get("max_percent").and_then(|value| value.count(1..=100, None));
    let ejection = Ejection {
        failures: count.unwrap_or(nonzero(DEFAULT_FAILURES)),
        statuses: table.get("statuses").map(|value| statuses(&value, 500..=599)).unwrap_or_default(),
        base,
        max: longest.unwrap_or(DEFAULT_EJECTION_MAX.max(base)),
        max_percent: percent.and_then(|percent| u32::try_from(percent).ok()).unwrap_or(DEFAULT_MAX_PERCENT),
        slow_start: table
            .get("slow_start")
            .and_then(|value| value.duration_or_never(TICK))
            .unwrap_or(Some(DEFAULT_SLOW_START)),
    };
    (!never).then_some(ejection)
}

fn statuses(value: &Value<'_>, range: RangeInclusive<u64>) -> Vec<u16> {
    let items = value.some_items(&format!("statuses from {} to {}", range.start(), range.end()));
    value.each(items, |item| item.count(range.clone(), None).and_then(|status| u16::try_from(status).ok()))
}

fn nonzero_u32(count: u64) -> Option<NonZeroU32> {
    u32::try_from(count).ok().and_then(NonZeroU32::new)
}

/// A default, which is not 0.
fn nonzero(count: u32) -> NonZeroU32 {
    NonZeroU32::new(count).unwrap_or(NonZeroU32::MIN)
}
