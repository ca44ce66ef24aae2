//! `[store]`

use std::cell::Cell;
use std::net::Ipv6Addr;
use std::time::Duration;

use super::nearest::nearest;
use super::reader::{Table, Value};
use super::secret::{self, secret};
use super::{Origin, Redis, Store, Topology, names, shape};

const DEFAULT_PORT: u16 = 6379;
const DEFAULT_SENTINEL_PORT: u16 = 26_379;

const DEFAULT_PREFIX: &str = "portcullis";

/// It stands in every key, which servers keep in memory.
const LONGEST_PREFIX: usize = 64;

/// More than anyone waits for; each is another machine that may keep an answer waiting.
const MOST_REPLICAS: u64 = 16;

const DEFAULT_TIMEOUT: Duration = Duration::from_secs(1);

/// Less than the first and a pause of the server looks like an outage; more than the last and clients give up first.
const TIMEOUT: std::ops::RangeInclusive<Duration> = Duration::from_millis(50)..=Duration::from_secs(10);

const DEFAULT_REVOCATION_LAG: Duration = Duration::from_secs(5);

/// Others' ends of sessions are heard of about once a second when nothing is wrong.
const LEAST_REVOCATION_LAG: Duration = Duration::from_secs(1);

pub(super) fn store(root: &Table<'_>) -> Store {
    let table = root.section("store", &shape::STORE);
    let path = table.get("path");
    let redis = redis(&table);
    if let (Some(path), Some(_)) = (&path, &redis) {
        path.report("stands beside redis, expected one of them");
    }
    let path = path.and_then(|value| value.path());
    Store { path: path.unwrap_or_else(|| root.document().base_dir().join("data")), redis }
}

/// `topology` as the file has it; the name of the primary stands elsewhere.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Kind {
    Single,
    Sentinel,
    Cluster,
}

impl Kind {
    const NAMES: [(&str, Self); 3] =
        [("single", Self::Single), ("sentinel", Self::Sentinel), ("cluster", Self::Cluster)];

    fn name(self) -> &'static str {
        match self {
            Self::Single => "single",
            Self::Sentinel => "sentinel",
            Self::Cluster => "cluster",
        }
    }
}

/// Every key is read, also without `redis`: what is wrong with it shows at once.
fn redis(table: &Table<'_>) -> Option<Redis> {
    let topology = table.get("topology");
    // `None` when it is at fault: nothing is compared with it then.
    let kind = topology.map_or(Some(Kind::Single), |value| value.choice(&Kind::NAMES));
    let urls = table.get("redis");
    let servers = urls.as_ref().map(|value| servers(value, kind)).unwrap_or_default();
    let tls = servers.first().is_some_and(|server| server.tls);
    let ca = table.get("ca");
    let username = table.get("username");
    let password = table.get("password");
    let sentinel_password = table.get("sentinel_password");
    let primary = table.get("sentinel_primary");
    if urls.is_some() {
        if let (Some(ca), Some(_), false) = (&ca, servers.first(), tls) {
            ca.report("has no effect with redis://, expected rediss:// in redis");
        }
        if let (Some(username), None) = (&username, &password) {
            username.report_absent("has no effect without password, expected both");
        }
        sentinel_keys(table, kind, primary.as_ref(), sentinel_password.as_ref());
    }
    let password_of = |value: Option<Value<'_>>| value.and_then(|value| secret(&value, secret::Kind::Password));
    let primary = primary.and_then(|value| value.name(PRIMARY)).unwrap_or_default().to_owned();
    let redis = Redis {
        tls,
        database: servers.first().map_or(0, |server| server.database),
        servers: servers.into_iter().map(|server| server.origin).collect(),
        topology: match kind {
            None | Some(Kind::Single) => Topology::Single,
            Some(Kind::Sentinel) => Topology::Sentinel { primary },
            Some(Kind::Cluster) => Topology::Cluster,
        },
        ca: ca.and_then(|value| value.path()),
        username: username.and_then(|value| value.name("the name of a user")).map(str::to_owned),
        password: password_of(password),
        sentinel_password: password_of(sentinel_password),
        prefix: table
            .get("prefix")
            .and_then(|value| value.parsed("a prefix such as \"portcullis\"", prefix))
            .unwrap_or_else(|| String::from(DEFAULT_PREFIX)),
        replicas: table.get("replicas").and_then(|value| replicas(&value)).unwrap_or_default(),
        timeout: table.get("timeout").and_then(|value| value.duration_within(TIMEOUT)).unwrap_or(DEFAULT_TIMEOUT),
        max_revocation_lag: table
            .get("max_revocation_lag")
            .and_then(|value| value.duration(LEAST_REVOCATION_LAG))
            .unwrap_or(DEFAULT_REVOCATION_LAG),
    };
    if urls.is_none() {
        need_redis(table);
    }
    urls.map(|_| redis)
}

/// Notes each key that says something of a shared store when there is none.
fn need_redis(table: &Table<'_>) {
    let keys = shape::STORE.keys.iter().filter(|key| !matches!(**key, "path" | "redis"));
    for value in keys.filter_map(|key| table.get(key)).filter(|value| !table.document().faulty(value.key_path())) {
        value.report_absent("needs store.redis, the URL of the shared store");
    }
}

const PRIMARY: &str = "the name that the sentinels have for the primary, such as \"mymaster\"";

/// Those that only sentinels have a use for.
fn sentinel_keys(
    table: &Table<'_>,
    kind: Option<Kind>,
    primary: Option<&Value<'_>>,
    sentinel_password: Option<&Value<'_>>,
) {
    match (kind, primary) {
        (None, _) | (Some(Kind::Sentinel), Some(_)) => {}
        (Some(Kind::Sentinel), None) => table.missing("sentinel_primary", PRIMARY),
        (Some(other), _) => {
            for value in [primary, sentinel_password].into_iter().flatten() {
                value.report_absent(format_args!(
                    "has no effect with topology {:?}, expected topology \"sentinel\"",
                    other.name()
                ));
            }
        }
    }
}

fn replicas(value: &Value<'_>) -> Option<u32> {
    if value.is_word("none") {
        return Some(0);
    }
    value.count(1..=MOST_REPLICAS, Some("none")).and_then(|count| u32::try_from(count).ok())
}

fn prefix(text: &str) -> Result<String, String> {
    if text.is_empty() {
        return Err(String::from("is empty, expected one such as \"portcullis\""));
    }
    if text.contains(['{', '}']) {
        return Err(String::from(
            "has a brace, which would change the hash slots of keys, expected letters, digits, \"-\", \"_\", \".\" \
             and \":\" only",
        ));
    }
    if !text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.' | b':')) {
        return Err(String::from(
            "has a character that may not stand in it, expected letters, digits, \"-\", \"_\", \".\" and \":\" only",
        ));
    }
    if text.len() > LONGEST_PREFIX {
        return Err(format!("is too long, expected at most {LONGEST_PREFIX} characters"));
    }
    Ok(text.to_owned())
}

/// The servers of one URL or several, all of one scheme and database.
fn servers(value: &Value<'_>, kind: Option<Kind>) -> Vec<Server> {
    let items = value.one_or_some_items("a URL such as \"redis://10.0.0.5:6379\"", "URLs such as \"redis://10.0.0.5\"");
    if items.len() > 1 && kind == Some(Kind::Single) {
        value.report_absent(format_args!(
            "has {} URLs, expected one, or topology \"sentinel\" or \"cluster\"",
            items.len()
        ));
    }
    // With a topology at fault, one that is no port: no two servers are then the same by mistake.
    let default_port = match kind {
        None => 0,
        Some(Kind::Sentinel) => DEFAULT_SENTINEL_PORT,
        Some(Kind::Single | Kind::Cluster) => DEFAULT_PORT,
    };
    let first = Cell::new(None);
    value.each(items, |item| {
        let server = match server(item.text("a URL such as \"redis://10.0.0.5:6379\"")?, default_port) {
            Ok(server) => server,
            Err(Refusal::Shown(why)) => {
                item.fault(why);
                return None;
            }
            Err(Refusal::Hidden(why)) => {
                item.report(why);
                return None;
            }
        };
        if kind == Some(Kind::Cluster) && server.database != 0 {
            item.fault(format_args!("has the database {}, but a cluster has only 0", server.database));
            return None;
        }
        let (tls, database) = first.get().unwrap_or((server.tls, server.database));
        first.set(Some((tls, database)));
        if server.tls != tls {
            let scheme = scheme(tls);
            item.fault(format_args!("has another scheme than the first, expected {scheme}:// for all"));
        } else if server.database != database {
            item.fault(format_args!("has another database than the first, expected {database} for all"));
        } else {
            return Some(server);
        }
        None
    })
}

/// The scheme of the URLs.
pub(super) fn scheme(tls: bool) -> &'static str {
    if tls { "rediss" } else { "redis" }
}

/// One URL of `redis`.
#[derive(Debug, Eq, PartialEq)]
struct Server {
    tls: bool,
    origin: Origin,
    database: u32,
}

/// What is wrong with a URL, to be put behind the key.
#[derive(Debug, Eq, PartialEq)]
enum Refusal {
    /// The URL may be shown with it.
    Shown(String),
    /// The URL may hold a password.
    Hidden(String),
}

const FORM: &str = "redis://HOST:PORT/DATABASE";

/// Reads `redis://HOST[:PORT][/DATABASE]`, or `rediss://` for TLS.
fn server(text: &str, default_port: u16) -> Result<Server, Refusal> {
    let hidden = |why: &str| Err(Refusal::Hidden(why.to_owned()));
    // What may hold a password comes first: none of the later refusals, which show the URL, can then show one.
    if text.contains('@') {
        return hidden("has a user name or password in its URL, expected username and password as keys beside it");
    }
    if text.contains('?') {
        return hidden(&format!("has a query in its URL, expected only {FORM}"));
    }
    if text.contains('#') {
        return hidden(&format!("has a fragment in its URL, expected only {FORM}"));
    }
    let (scheme, rest) = text.split_once("://").map_or((None, text), |(scheme, rest)| (Some(scheme), rest));
    let (authority, database) = rest.split_once('/').map_or((rest, ""), |(authority, database)| (authority, database));
    let no_brackets = "has an IPv6 address without brackets, expected redis://[ADDRESS]:PORT";
    if authority.parse::<Ipv6Addr>().is_ok() {
        return Err(Refusal::Shown(no_brackets.to_owned()));
    }
    let (host, port) = match authority.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => (host, Some(port)),
        _ => (authority, None),
    };
    let port = match port.map(names::port) {
        None => default_port,
        Some(Some(port)) => port,
        Some(None) => return hidden("has a port that is not a number from 1 to 65535 in its URL"),
    };
    if host.contains(':') && !host.starts_with('[') {
        return hidden(no_brackets);
    }
    let shown = |why: String| Err(Refusal::Shown(why));
    let tls = match scheme.map(str::to_ascii_lowercase).as_deref() {
        Some("redis") => false,
        Some("rediss") => true,
        Some(scheme) => {
            return shown(match nearest(scheme, ["redis", "rediss"]) {
                Some(known) => format!("has the scheme {scheme:?}, did you mean {known}://?"),
                None => format!("has the scheme {scheme:?}, expected redis:// or, with TLS, rediss://"),
            });
        }
        None => return shown(String::from("has no scheme, expected redis:// or, with TLS, rediss://")),
    };
    let host = names::authority_host(host, "redis").map_err(Refusal::Shown)?;
    Ok(Server { tls, origin: Origin { host, port }, database: self::database(database).map_err(Refusal::Shown)? })
}

/// What stands behind the slash: servers count with 31 bits.
fn database(text: &str) -> Result<u32, String> {
    if text.is_empty() {
        return Ok(0);
    }
    let number = text.parse().ok().filter(|_| text.bytes().all(|byte| byte.is_ascii_digit()));
    number
        .filter(|number| *number <= i32::MAX as u32)
        .ok_or_else(|| format!("has the database {text:?}, expected a number such as 0"))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_url_is_scheme_host_port_and_database() {
        for (text, tls, host, port, database) in [
            ("redis://10.0.0.5", false, "10.0.0.5", 7, 0),
            ("redis://10.0.0.5:6380/", false, "10.0.0.5", 6380, 0),
            ("rediss://Cache.internal/3", true, "cache.internal", 7, 3),
            ("REDISS://[FD00:0::5]:1/0", true, "fd00::5", 1, 0),
            ("redis://[::1]", false, "::1", 7, 0),
        ] {
            let origin = Origin { host: host.to_owned(), port };
            assert_eq!(server(text, 7), Ok(Server { tls, origin, database }), "{text}");
        }
        for text in ["", "redis://", "redis:///0", "redis://a/b", "redis://a/+1", "redis://a/0/0"] {
            assert!(matches!(server(text, 7), Err(Refusal::Shown(_))), "{text}");
        }
        for text in [
            "redis://a/2147483648",
            "redis://a b",
            "redis://[::1",
            "redis://[::1]x",
            "redis:10.0.0.5",
            "unix:///run/redis",
        ] {
            assert!(server(text, 7).is_err(), "{text}");
        }
    }

    #[test]
    fn a_url_that_may_hold_a_password_is_not_shown() {
        for text in [
            "redis://:hunter2@a",
            "redis://user:hun/ter2@a:1",
            "user:hunter2@a",
            "redis://user:hunter2",
            "redis://user:123456",
            "redis://user:hunter2:6379",
            "redis://a?password=hunter2",
            "redis://a/0#hunter2",
            "user:hunter2",
        ] {
            match server(text, 7) {
                Err(Refusal::Hidden(why)) => assert!(!why.contains("hunter2") && !why.contains("123456"), "{why}"),
                other => panic!("{text}: {other:?}"),
            }
        }
    }

    #[test]
    fn a_prefix_stays_out_of_hash_slots() {
        for text in ["p", "shop:eu-1.live_", &"a".repeat(64)] {
            assert_eq!(prefix(text).as_deref(), Ok(text));
        }
        for text in ["", "{shop}", "a}", "a b", "a*", "é", &"a".repeat(65)] {
            assert!(prefix(text).is_err(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn no_url_panics_and_one_with_a_user_is_never_shown(text in "(rediss?://)?[\\[\\]:@/a-z0-9.?#%\\PC]{0,40}") {
            let refused = server(&text, 7);
            if text.contains('@') {
                prop_assert!(matches!(refused, Err(Refusal::Hidden(_))), "{refused:?}");
            }
        }
    }
}
