//! Clients that take their time, by the hundred, while others are served.

use std::io::Write;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use crate::http2::client::*;
use crate::http2::floods::backend;
use crate::measure::{Others, Target, long, still_served};
use crate::support::frame;

/// What a client speaks.
#[derive(Clone, Copy, PartialEq)]
enum Speaks {
    /// TCP to the listener with TLS, and nothing of TLS yet.
    Nothing,
    Plain1,
    Tls1,
    Plain2,
    Tls2,
}

/// A client that is slow in some way.
struct Kind {
    name: &'static str,
    speaks: Speaks,
    /// What it sends at first, of HTTP.
    first: Vec<u8>,
    /// What it sends beneath TLS after that.
    beneath: Vec<u8>,
    /// What it sends every now and then, with the number of the time.
    drip: fn(usize) -> Vec<u8>,
    /// What it says to what comes, over HTTP/2.
    says: fn(&Came) -> Vec<u8>,
    /// Whether it reads what comes.
    reads: bool,
}

/// The time between two drips.
const DRIP: Duration = Duration::from_millis(250);
/// Within which each is dropped.
const DROPPED: Duration = Duration::from_secs(20);

const LIMITS: &str = "tls_handshake_timeout = \"2s\"\nheader_timeout = \"2s\"\nidle_timeout = \"2s\"\n\
                      body_idle_timeout = \"2s\"\nstream_idle_timeout = \"2s\"\n";

fn kind(name: &'static str, speaks: Speaks, first: impl Into<Vec<u8>>) -> Kind {
    let first = first.into();
    Kind { name, speaks, first, beneath: Vec::new(), drip: |_| Vec::new(), says: |_| Vec::new(), reads: true }
}

/// After the greeting, with these settings.
fn greeted(settings: &[u8], then: &[u8]) -> Vec<u8> {
    [&b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"[..], &frame(SETTINGS, 0, 0, settings), then].concat()
}

fn large(count: u32) -> Vec<u8> {
    (0..count).flat_map(|at| get(2 * at + 1, "/public/large")).collect()
}

/// Answers a ping, and says nothing else.
fn pong(came: &Came) -> Vec<u8> {
    if *came == Came::Other(PING) { frame(PING, ACK, 0, &[0; 8]) } else { Vec::new() }
}

const HEAD: &str = "GET /public/x HTTP/1.1\r\nHost: a\r\n";
const UPLOAD: &str = "POST /public/x HTTP/1.1\r\nHost: a\r\nContent-Length: 1000\r\n\r\n";
const CHUNKED: &str = "POST /public/x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";
const LARGE: &str = "GET /public/large HTTP/1.1\r\nHost: a\r\n\r\n";

fn kinds() -> Vec<Kind> {
    use Speaks::{Nothing, Plain1, Plain2, Tls1, Tls2};
    let half_record = vec![0x17, 3, 3, 0x40, 0, 1, 2, 3];
    let initial_window = |size| setting(4, size);
    vec![
        kind("silent after TCP, with TLS", Nothing, ""),
        kind("silent after TCP, without TLS", Plain1, ""),
        Kind { beneath: vec![0x16, 3, 1], ..kind("half the head of a TLS record", Nothing, "") },
        Kind { beneath: vec![0x16, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3], ..kind("half a ClientHello", Nothing, "") },
        Kind { beneath: vec![0x16, 3, 1, 2, 0], drip: |_| vec![1], ..kind("a ClientHello byte by byte", Nothing, "") },
        kind("silent after the handshake", Tls1, ""),
        kind("silent after the handshake of HTTP/2", Tls2, ""),
        Kind { beneath: half_record.clone(), ..kind("half a record within TLS", Tls1, "") },
        Kind { beneath: half_record, ..kind("half a record after a request", Tls1, format!("{HEAD}\r\n")) },
        kind("half a header", Tls1, HEAD),
        Kind { drip: |at| format!("x-{at}: 1\r\n").into_bytes(), ..kind("a field now and then", Plain1, HEAD) },
        Kind { drip: |at| vec![HEAD.as_bytes()[at % 20]], ..kind("a header byte by byte", Tls1, "") },
        Kind { drip: |_| b"\r\n".to_vec(), ..kind("empty lines before a request", Plain1, "") },
        kind("a body that stalls", Tls1, [UPLOAD, "abc"].concat()),
        kind("chunks that stall", Plain1, [CHUNKED, "3\r\nabc\r\n"].concat()),
        Kind { drip: |_| b"x".to_vec(), ..kind("a body byte by byte", Tls1, UPLOAD) },
        Kind { drip: |_| b"1\r\nx\r\n".to_vec(), ..kind("chunks of a byte", Plain1, CHUNKED) },
        Kind { drip: |at| vec![b"1;aaaaaaaaaaaaaaaaa"[at % 19]], ..kind("half a chunk's head", Plain1, CHUNKED) },
        kind("idle after a request", Tls1, format!("{HEAD}\r\n")),
        Kind { reads: false, ..kind("reads nothing", Tls1, LARGE.repeat(4)) },
        Kind { reads: false, ..kind("reads nothing, without TLS", Plain1, LARGE.repeat(4)) },
        kind("half a greeting", Plain2, "PRI * HTTP/2.0\r\n"),
        kind("a greeting and no settings", Tls2, "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"),
        kind("greets and is silent", Tls2, greeted(&[], &[])),
        Kind { drip: |_| frame(PING, 0, 0, &[7; 8]), ..kind("greets and pings", Tls2, greeted(&[], &[])) },
        kind("half the head of a frame", Plain2, greeted(&[], &[0, 0])),
        kind("half a HEADERS", Tls2, greeted(&[], &get(1, "/public/x")[..15])),
        kind("HEADERS without an end", Tls2, greeted(&[], &frame(HEADERS, 0, 1, &request("GET", "/public/x")))),
        Kind {
            drip: |_| frame(CONTINUATION, 0, 1, &[]),
            ..kind("HEADERS that go on and on", Plain2, greeted(&[], &frame(HEADERS, 0, 1, &request("GET", "/"))))
        },
        kind(
            "half a HEADERS after a request",
            Tls2,
            greeted(&[], &[get(1, "/public/x"), get(3, "/public/x")[..15].to_vec()].concat()),
        ),
        Kind {
            drip: |_| frame(PING, 0, 0, &[7; 8]),
            says: pong,
            ..kind("pings after a request", Tls2, greeted(&[], &get(1, "/public/x")))
        },
        kind("an upload that stalls, over HTTP/2", Tls2, greeted(&[], &post(1, "/public/x"))),
        Kind {
            drip: |_| frame(DATA, 0, 1, b"x"),
            ..kind("an upload byte by byte, over HTTP/2", Plain2, greeted(&[], &post(1, "/public/x")))
        },
        Kind { says: pong, ..kind("windows of 0", Tls2, greeted(&initial_window(0), &large(4))) },
        Kind {
            drip: |_| frame(PING, 0, 0, &[7; 8]),
            says: pong,
            ..kind("windows of 0 and pings", Plain2, greeted(&initial_window(0), &large(4)))
        },
        Kind {
            says: |came| match came {
                Came::Data(1, _) => {
                    [frame(WINDOW_UPDATE, 0, 1, &[0, 0, 0, 1]), frame(WINDOW_UPDATE, 0, 0, &[0, 0, 0, 1])].concat()
                }
                other => pong(other),
            },
            ..kind("windows of a byte", Plain2, greeted(&initial_window(1), &large(1)))
        },
        Kind {
            says: pong,
            ..kind("a connection's window used up", Tls2, greeted(&initial_window(1 << 24), &large(4)))
        },
        Kind {
            reads: false,
            ..kind("reads nothing, over HTTP/2", Plain2, greeted(&initial_window(1 << 24), &large(4)))
        },
        Kind {
            reads: false,
            drip: |_| frame(PING, 0, 0, &[7; 8]).repeat(20),
            ..kind("pings and reads nothing", Plain2, greeted(&[], &get(1, "/public/x")))
        },
        Kind { says: pong, ..kind("a farewell and then nothing", Tls2, greeted(&[], &frame(GOAWAY, 0, 0, &[0; 8]))) },
    ]
}

/// How long it took until the client was dropped.
fn serve(target: &Target, kind: &Kind, connected: &AtomicUsize) -> Result<Duration, String> {
    let root = target.process.place.path("cert.pem");
    let start = Instant::now();
    let client = match kind.speaks {
        // Beneath TLS there is no client of it.
        Speaks::Nothing => Raw::try_connect(target.process.address, None, b""),
        Speaks::Plain1 | Speaks::Plain2 => Raw::try_connect(target.plain, None, b""),
        Speaks::Tls1 => Raw::try_connect(target.process.address, Some(&root), b"http/1.1"),
        Speaks::Tls2 => Raw::try_connect(target.process.address, Some(&root), b"h2"),
    };
    connected.fetch_add(1, Ordering::Relaxed);
    let mut client = client.map_err(|error| format!("not even let in: {error}"))?;
    // Writing may fail as soon as it is dropped.
    let _ = client.send(&kind.first);
    let _ = client.socket().write_all(&kind.beneath);
    let speaks_http2 = matches!(kind.speaks, Speaks::Plain2 | Speaks::Tls2);
    let mut at = 0;
    while start.elapsed() < DROPPED {
        let drip = (kind.drip)(at);
        at += 1;
        // Its socket may be full, or gone.
        let _ = client.send(&drip);
        if !kind.reads {
            // Whether it was dropped is seen once it reads again: there is an end behind what was sent before.
            std::thread::sleep(DRIP);
            if start.elapsed() > Duration::from_secs(8) {
                return if client.ends(Duration::from_secs(10)) {
                    Ok(start.elapsed())
                } else {
                    Err("still open".into())
                };
            }
        } else if speaks_http2 {
            let until = Instant::now() + DRIP;
            while let Some(left) = until.checked_duration_since(Instant::now()) {
                match client.next(left) {
                    Some(Came::Closed) => return Ok(start.elapsed()),
                    Some(came) => drop(client.send(&(kind.says)(&came))),
                    None => break,
                }
            }
        } else if client.ends(DRIP) {
            return Ok(start.elapsed());
        }
    }
    Err("still open after 20 s".to_owned())
}

#[test]
fn every_kind_of_slow_client_is_dropped_in_time_and_others_are_served() {
    let backend = backend();
    let each = if long() { 400 } else { 50 };
    let at_once = if long() { 1 } else { 5 };
    let limits = format!("{LIMITS}connections_per_address = 10000\n");
    let target = Target::start(&limits, &backend);
    let before = Others::alone(&target);
    let (descriptors, memory) = (target.descriptors(), target.memory());
    let kinds = kinds();
    let mut failed = Vec::new();
    let (mut longest, mut most_memory, mut during) = (Duration::ZERO, memory, Duration::ZERO);
    for some in kinds.chunks(at_once) {
        let connected = AtomicUsize::new(0);
        let p99 = std::thread::scope(|scope| {
            let (target, connected) = (&target, &connected);
            let threads: Vec<_> = some
                .iter()
                .map(|kind| {
                    (kind, (0..each).map(|_| scope.spawn(move || serve(target, kind, connected))).collect::<Vec<_>>())
                })
                .collect();
            // That many handshakes at once are no slow clients: what others wait is measured beside those who are in.
            let start = Instant::now();
            while connected.load(Ordering::Relaxed) < each * some.len() && start.elapsed() < Duration::from_secs(6) {
                std::thread::sleep(Duration::from_millis(10));
            }
            let others = Others::start(target);
            most_memory = most_memory.max(target.memory());
            for (kind, threads) in threads {
                let ends: Vec<_> = threads.into_iter().map(|thread| thread.join().expect("no panic")).collect();
                longest = longest.max(ends.iter().flatten().max().copied().unwrap_or_default());
                let open: Vec<_> = ends.iter().filter_map(|end| end.as_ref().err()).collect();
                if let Some(why) = open.first() {
                    failed.push(format!("{}: {} of {each}: {why}", kind.name, open.len()));
                }
            }
            others.p99()
        });
        during = during.max(p99.clone().unwrap_or(Duration::MAX));
        // A build for tests on processors that others take, too, says little of times: by default it is enough that all
        // were answered.
        if p99.is_err() || (long() && !still_served(before, &p99)) {
            let names: Vec<_> = some.iter().map(|kind| kind.name).collect();
            failed.push(format!("beside {names:?} others waited {p99:?} instead of {before:?}"));
        }
    }
    println!(
        "slow clients: {} kinds, {each} of each; the last was dropped after {longest:?}; others' p99 {before:?} before, \
         {during:?} during; {memory} KiB before, {most_memory} KiB at most",
        kinds.len()
    );
    if let Err(why) = target.settles(descriptors, memory, 128) {
        failed.push(why);
    }
    assert!(failed.is_empty(), "{}", failed.join("\n"));
}

/// With no limit set: whoever has not said who they are is gone within 20 s.
#[test]
fn the_defaults_drop_clients_that_have_not_asked_for_anything_within_20_s() {
    let backend = backend();
    let target = Target::start("", &backend);
    let unidentified = [
        "silent after TCP, with TLS",
        "silent after TCP, without TLS",
        "half a ClientHello",
        "a ClientHello byte by byte",
        "silent after the handshake",
        "silent after the handshake of HTTP/2",
        "half a record within TLS",
        "half a header",
        "a header byte by byte",
        "a field now and then",
        "half a greeting",
        "greets and is silent",
        "greets and pings",
        "half a HEADERS",
        "HEADERS without an end",
    ];
    let kinds: Vec<Kind> = kinds().into_iter().filter(|kind| unidentified.contains(&kind.name)).collect();
    assert_eq!(kinds.len(), unidentified.len());
    let ends: Vec<_> = std::thread::scope(|scope| {
        let target = &target;
        let threads: Vec<_> = kinds
            .iter()
            .map(|kind| scope.spawn(move || (kind.name, serve(target, kind, &AtomicUsize::new(0)))))
            .collect();
        threads.into_iter().map(|thread| thread.join().expect("no panic")).collect()
    });
    let failed: Vec<_> = ends.iter().filter(|(_, end)| end.is_err()).collect();
    assert!(failed.is_empty(), "{failed:?}");
    println!(
        "slow clients by default: {} kinds, dropped after {:?}",
        ends.len(),
        ends.iter().flat_map(|end| &end.1).max()
    );
}
