//! Spellings of a path: what was judged is, byte for byte, what the server gets.

mod corpus;
#[path = "../../src/fuzzing/readings.rs"]
mod readings;
mod send;
mod tables;

use std::collections::BTreeMap;
use std::time::Instant;

use self::corpus::{Case, spellings};
use self::send::{Arrived, Recorder, Told, over_http1, over_http2};
use self::tables::{Rule, Table, tables};
use crate::support::{Backend, Gateway, Toml};

/// Spellings of each table.
const SPELLINGS: usize = 10_000;

/// Of how many one is sent in each of the longer ways, unless `PORTCULLIS_LONG_ATTACKS` says all.
const ONE_OF: usize = 8;

/// The name of a case, and what was wrong.
type Faults = Vec<String>;

fn is_long() -> bool {
    std::env::var_os("PORTCULLIS_LONG_ATTACKS").is_some_and(|value| value == "1")
}

/// The target as the upstream is asked: in origin form, without a fragment.
fn origin_form(target: &[u8]) -> Vec<u8> {
    let target = target.split(|b| *b == b'#').next().unwrap_or_default();
    if target.first() == Some(&b'/') {
        return target.to_vec();
    }
    let after_scheme = target.windows(3).position(|three| three == b"://").map_or(target, |at| &target[at + 3..]);
    let path = after_scheme.iter().position(|b| matches!(b, b'/' | b'?')).map_or(&b""[..], |at| &after_scheme[at..]);
    if path.first() == Some(&b'/') { path.to_vec() } else { [b"/", path].concat() }
}

fn host_name(host: &str) -> String {
    let host = host.split(':').next().unwrap_or_default();
    host.strip_suffix('.').unwrap_or(host).to_ascii_lowercase()
}

/// Why `case` got past, if it did.
fn fault(table: &Table, case: &Case, told: Told, arrived: &[Arrived], with_token: bool) -> Option<String> {
    match told {
        // CONNECT and unknown codings aside, nothing a client sends is the server's fault.
        Told::Status(status) if status >= 500 => return Some(format!("answered {status}")),
        Told::Silence => return Some("never answered".to_owned()),
        Told::Status(_) | Told::Closed | Told::Unsendable => {}
    }
    let one = match arrived {
        [] if told == Told::Status(200) => return Some("answered, but never seen behind the gateway".to_owned()),
        [] => return None,
        [one] => one,
        more => return Some(format!("seen {} times: {more:?}", more.len())),
    };
    let sent = origin_form(&case.target);
    let entry = &table.entries[one.route];
    let expected = entry.forwarded(&String::from_utf8_lossy(&sent));
    if one.line != format!("GET {expected} HTTP/1.1") {
        return Some(format!("judged as {expected:?} and forwarded as {:?}", one.line));
    }
    let host = host_name(&case.host);
    let path = sent.split(|b| *b == b'?').next().unwrap_or_default();
    let plain = table.route(&host, path);
    if plain.is_none_or(|plain| !std::ptr::eq(plain, entry)) {
        return Some(format!("went by route {} of {:?}", entry.path, entry.host));
    }
    if with_token && entry.rule == Rule::Protected {
        return None;
    }
    if entry.rule != Rule::Public {
        return Some(format!("passed {} without a token", entry.path));
    }
    let strict = |read: &[u8]| table.route(&host, read).filter(|route| route.rule != Rule::Public);
    let read = readings::readings(path).into_iter().find(|read| strict(read).is_some())?;
    Some(format!("passed {} as public, and is {:?} to some backend", entry.path, String::from_utf8_lossy(&read)))
}

/// Sends all cases in one way, on a few connections.
fn round(
    table: &Table,
    cases: &[Case],
    recorder: &Recorder,
    send: &(dyn Fn(&[(usize, &Case)]) -> Vec<Told> + Sync),
    with_token: bool,
) -> (BTreeMap<String, usize>, Faults) {
    let numbered: Vec<(usize, &Case)> = cases.iter().enumerate().collect();
    let told: Vec<Told> = std::thread::scope(|scope| {
        let parts = numbered.chunks(cases.len().div_ceil(4).max(1));
        let running: Vec<_> = parts.map(|part| scope.spawn(move || send(part))).collect();
        running.into_iter().flat_map(|part| part.join().expect("sent")).collect()
    });
    assert_eq!(told.len(), cases.len());
    let arrived = recorder.take();
    let mut counts = BTreeMap::new();
    let mut faults = Vec::new();
    for ((number, case), told) in numbered.iter().zip(told) {
        *counts.entry(format!("{told:?}")).or_default() += 1;
        let seen = arrived.get(number).map_or(&[][..], Vec::as_slice);
        if let Some(fault) = fault(table, case, told, seen, with_token) {
            let target = String::from_utf8_lossy(&case.target);
            faults.push(format!("{}: {} ({target:?}): {fault}", table.name, case.name));
        }
    }
    (counts, faults)
}

/// Every `step`th of `cases`.
fn some(cases: &[Case], step: usize) -> Vec<Case> {
    cases.iter().step_by(step).cloned().collect()
}

fn attack(table: &Table, cases: &[Case], step: usize) -> Faults {
    let recorder = Recorder::start();
    let toml = Toml { rest: table.toml(), tls: false, ..Toml::default() };
    let gateway = Gateway::with(&toml, &[recorder.backend.address]);
    let pair = gateway.sign_in("ann");
    let (address, token) = (gateway.address, &**pair.access_token);
    let start = Instant::now();
    let mut faults = Vec::new();
    let mut ways = |way: &str, cases: &[Case], send: &(dyn Fn(&[(usize, &Case)]) -> Vec<Told> + Sync), with_token| {
        let (counts, found) = round(table, cases, &recorder, send, with_token);
        println!("paths: {} {way}: {} cases {counts:?} in {:?}", table.name, cases.len(), start.elapsed());
        faults.extend(found.into_iter().map(|fault| format!("{way}: {fault}")));
    };
    ways("HTTP/1.1", cases, &|part| over_http1(address, part, None), false);
    let part = some(cases, step);
    ways("HTTP/1.1 with a token", &part, &|part| over_http1(address, part, Some(token)), true);
    ways("HTTP/2", &part, &|part| over_http2(address, part, None), false);
    if step == 1 {
        ways("HTTP/2 with a token", &part, &|part| over_http2(address, part, Some(token)), true);
    }
    faults
}

#[test]
fn no_spelling_of_a_protected_path_passes_as_a_public_one() {
    let step = if is_long() { 1 } else { ONE_OF };
    let mut faults = Vec::new();
    for table in tables() {
        let cases = spellings(table.paths, table.hosts, SPELLINGS);
        assert!(cases.len() >= SPELLINGS, "{}: only {} spellings", table.name, cases.len());
        faults.extend(attack(&table, &cases, step));
    }
    assert!(faults.is_empty(), "{} cases:\n{}", faults.len(), faults.join("\n"));
}

#[test]
fn an_absolute_form_without_a_path_is_asked_for_as_the_root() {
    let backend = Backend::start();
    let rest = "[[route]]\npath = \"/\"\nupstream = \"app\"\nauth = \"public\"\n";
    let gateway = Gateway::with(&Toml { rest: rest.into(), tls: false, ..Toml::default() }, &[backend.address]);
    for (target, line) in [
        ("http://localhost", "GET / HTTP/1.1"),
        ("http://localhost?q", "GET /?q HTTP/1.1"),
        // It once left as `GET  HTTP/1.1`. To refuse it is as good.
        ("http://localhost#/admin", "GET / HTTP/1.1"),
    ] {
        let status = gateway.connect().ask(format!("GET {target} HTTP/1.1\r\nHost: localhost\r\n\r\n")).status;
        assert!(status == 200 || (status == 400 && target.contains('#')), "{target}: {status}");
        if status == 200 {
            assert_eq!(backend.next().line, line, "{target}");
        }
    }
    assert!(backend.saw_nothing());
}
