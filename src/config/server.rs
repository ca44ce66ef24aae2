//! `[server]`, `[admin]` and `[log]`.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::num::NonZeroUsize;
use std::time::Duration;

use ipnet::IpNet;

use super::nearest::suggestion;
use super::reader::{Table, Value};
use super::secret::{self, secret};
use super::{AccessLog, Admin, Certificate, Log, LogFormat, Secret, Server, listener, shape};

/// Most serving threads. More than any machine has cores, and few enough that all can start.
const MOST_WORKERS: u64 = 1024;

const DEFAULT_ADMIN_LISTEN: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 9443);

/// As long as most orchestrators wait between asking a process to stop and killing it.
const DEFAULT_DRAIN_TIMEOUT: Duration = Duration::from_secs(30);

pub(super) fn server(root: &Table<'_>) -> Server {
    let table = root.section("server", &shape::SERVER);
    let tls = table.section("tls", &shape::TLS);
    let certificates = certificates(&tls);
    Server {
        listeners: listener::listeners(&table, !certificates.is_empty()),
        workers: table.get("workers").and_then(|value| workers(&value)).unwrap_or_else(one_per_core),
        fast_lane: table.get("fast_lane").and_then(|value| value.flag()).unwrap_or(true),
        trusted_proxies: table
            .get("trusted_proxies")
            .map(|value| value.each(value.items("networks such as \"10.0.0.0/8\""), network))
            .unwrap_or_default(),
        certificates,
        drain_timeout: table
            .get("drain_timeout")
            .and_then(|value| value.duration(Duration::from_millis(1)))
            .unwrap_or(DEFAULT_DRAIN_TIMEOUT),
    }
}

fn workers(value: &Value<'_>) -> Option<NonZeroUsize> {
    if value.is_word("auto") {
        return Some(one_per_core());
    }
    if !value.is_number() {
        value.fault(format_args!("is not known, expected \"auto\" or a whole number from 1 to {MOST_WORKERS}"));
        return None;
    }
    value.count(1..=MOST_WORKERS, Some("auto")).and_then(nonzero_usize)
}

/// As many as the scheduler lets this process use at once, its affinity and quota included.
fn one_per_core() -> NonZeroUsize {
    std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN)
}

fn certificates(tls: &Table<'_>) -> Vec<Certificate> {
    let tables = tls.sections("certificate", &shape::CERTIFICATE, |_| None);
    if tls.is_present() && tables.is_empty() && !tls.document().faulty(tls.path()) {
        tls.missing("certificate", "at least one [[server.tls.certificate]] with chain and key");
    }
    tables
        .iter()
        .map(|table| {
            let path = |key, expected| table.require(key, expected).and_then(|value| value.path()).unwrap_or_default();
            Certificate {
                chain: path("chain", "the PEM file of the certificate and its issuers"),
                key: path("key", "the PEM file of its private key"),
            }
        })
        .collect()
}

/// An IP address with a port.
pub(super) fn address(value: &Value<'_>, example: &str) -> Option<SocketAddr> {
    value.parsed(&format!("an address such as {example:?}"), |text| {
        let address = text.parse::<SocketAddr>().ok();
        address.ok_or_else(|| format!("is not an IP address with a port, expected one such as {example:?}"))
    })
}

/// A CIDR, or an address that stands for itself alone.
pub(super) fn network(value: &Value<'_>) -> Option<IpNet> {
    value.parsed("a network such as \"10.0.0.0/8\"", |text| {
        if let Ok(address) = text.parse::<IpAddr>() {
            // Clients of IPv6 sockets that come over IPv4 are judged by their own address.
            return Ok(IpNet::from(address.to_canonical()));
        }
        let network = text.parse::<IpNet>().ok();
        let network = network.ok_or("is not a network, expected one such as \"10.0.0.0/8\"")?;
        // Either the address or the prefix is a slip. Believing a wider network than was meant lets strangers forge
        // their address.
        if network.trunc() != network {
            return Err(format!(
                "has address bits behind its prefix, expected \"{}\" or \"{}\"",
                network.trunc(),
                network.addr()
            ));
        }
        Ok(network)
    })
}

pub(super) fn admin(root: &Table<'_>) -> Option<Admin> {
    let table = root.section("admin", &shape::ADMIN);
    if !table.is_present() {
        return None;
    }
    let token = table.require("token", "\"file:PATH\" or \"env:NAME\"");
    Some(Admin {
        listen: table.get("listen").and_then(|value| address(&value, "127.0.0.1:9443")).unwrap_or(DEFAULT_ADMIN_LISTEN),
        token: token
            .and_then(|value| secret(&value, secret::Kind::Token))
            .unwrap_or_else(|| Secret::new(String::new())),
    })
}

/// Why a file cannot be read, in words.
pub(super) fn io_reason(error: &std::io::Error) -> String {
    use std::io::ErrorKind;
    match error.kind() {
        ErrorKind::NotFound => String::from("no such file"),
        ErrorKind::PermissionDenied => String::from("permission denied"),
        ErrorKind::IsADirectory => String::from("it is a directory"),
        ErrorKind::InvalidData => String::from("it is not UTF-8"),
        _ => error.to_string(),
    }
}

pub(super) fn log(root: &Table<'_>) -> Log {
    let table = root.section("log", &shape::LOG);
    const FORMATS: [(&str, LogFormat); 3] =
        [("auto", LogFormat::Auto), ("human", LogFormat::Human), ("json", LogFormat::Json)];
    Log {
        level: table.get("level").and_then(|value| level(&value)).unwrap_or_else(|| String::from("info")),
        format: table.get("format").and_then(|value| value.choice(&FORMATS)).unwrap_or(LogFormat::Auto),
        access: table.get("access").and_then(|value| access(&value)).unwrap_or(AccessLog::All),
    }
}

/// A level, or directives such as `info,portcullis=debug`.
fn level(value: &Value<'_>) -> Option<String> {
    const LEVELS: [&str; 6] = ["off", "error", "warn", "info", "debug", "trace"];
    value.parsed("a level such as \"info\"", |text| {
        if text.trim().is_empty() {
            return Err(String::from("is empty, expected a level such as \"info\""));
        }
        // Spans and fields of a directive are for the subscriber to judge.
        for directive in text.split(',').map(str::trim).filter(|directive| !directive.contains('[')) {
            let level = directive.rsplit('=').next().unwrap_or(directive);
            if !LEVELS.contains(&level.to_ascii_lowercase().as_str()) {
                let what = if level == text { "is not known" } else { "has an unknown level" };
                return Err(format!("{what}{}", suggestion(level, LEVELS)));
            }
        }
        Ok(text.to_owned())
    })
}

fn access(value: &Value<'_>) -> Option<AccessLog> {
    if value.is_number() {
        let share = value.fraction().filter(|share| *share > 0.0 && *share < 1.0);
        if share.is_none() {
            value.fault("is not a share between 0 and 1: say \"off\" for none and \"all\" for all");
        }
        return share.map(AccessLog::Sample);
    }
    value.choice(&[("all", AccessLog::All), ("refused", AccessLog::Refused), ("off", AccessLog::Off)])
}

/// A count that was read from a range starting at 1.
pub(super) fn nonzero_usize(count: u64) -> Option<NonZeroUsize> {
    usize::try_from(count).ok().and_then(NonZeroUsize::new)
}
