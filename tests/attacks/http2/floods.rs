//! Frames by the ten thousand: each flood ends with the connection, and costs neither memory nor the patience of others.

use std::time::{Duration, Instant};

use super::client::*;
use crate::measure::{Others, Target, long, still_served};
use crate::support::{Answer, Backend, frame};

/// What is sent: first once, then again and again, with the number of the round.
struct Flood {
    name: &'static str,
    settings: Vec<u8>,
    first: Vec<u8>,
    round: Box<dyn Fn(u32) -> Vec<u8> + Send + Sync>,
    /// It is to end with its connection. What somebody takes, or costs the client more than us, may go on.
    ends: bool,
}

fn flood(name: &'static str, round: impl Fn(u32) -> Vec<u8> + Send + Sync + 'static) -> Flood {
    Flood { name, settings: Vec::new(), first: Vec::new(), round: Box::new(round), ends: true }
}

/// On a stream of which the header has come, and whose answer is not there yet.
fn upload(name: &'static str, round: impl Fn(u32) -> Vec<u8> + Send + Sync + 'static) -> Flood {
    Flood { first: post(1, "/public/hang"), ..flood(name, round) }
}

/// The stream of a round.
fn odd(round: u32) -> u32 {
    2 * round + 1
}

fn headers(stream: u32, fields: &[(&[u8], &[u8])]) -> Vec<u8> {
    frame(HEADERS, END_HEADERS | END_STREAM, stream, &[request("GET", "/public/x"), block(fields)].concat())
}

/// A field whose value is remembered (RFC 7541 §6.2.1), as the first in the table.
fn remembered(name: &[u8], value: &[u8]) -> Vec<u8> {
    [vec![0x40], string(name), string(value)].concat()
}

fn window(stream: u32, by: u32) -> Vec<u8> {
    frame(WINDOW_UPDATE, 0, stream, &by.to_be_bytes())
}

fn reset(stream: u32) -> Vec<u8> {
    frame(RST_STREAM, 0, stream, &8_u32.to_be_bytes())
}

/// Each ends with its connection.
#[expect(clippy::too_many_lines, reason = "a table")]
fn floods() -> Vec<Flood> {
    let begun = |stream: u32, flags: u8| frame(HEADERS, flags, stream, &request("GET", "/public/x"));
    vec![
        // CVE-2023-44487
        flood("rapid reset", |round| [get(odd(round), "/public/hang"), reset(odd(round))].concat()),
        flood("rapid reset of an upload", |round| [post(odd(round), "/public/hang"), reset(odd(round))].concat()),
        flood("rapid reset with data between", |round| {
            let stream = odd(round);
            [post(stream, "/public/hang"), frame(DATA, 0, stream, b"x"), reset(stream)].concat()
        }),
        // CVE-2025-8671: the gateway is made to reset.
        flood("made to reset by a window of 0", |round| {
            [get(odd(round), "/public/hang"), window(odd(round), 0)].concat()
        }),
        flood("made to reset by a window too large", |round| {
            [get(odd(round), "/public/hang"), window(odd(round), u32::MAX >> 1)].concat()
        }),
        flood("made to reset by data after the end", |round| {
            [get(odd(round), "/public/hang"), frame(DATA, 0, odd(round), b"x")].concat()
        }),
        flood("made to reset by a header after the end", |round| {
            [get(odd(round), "/public/hang"), get(odd(round), "/public/hang")].concat()
        }),
        flood("made to reset by a priority on itself", |round| {
            let stream = odd(round);
            let on_itself = [&stream.to_be_bytes()[..], &[1]].concat();
            [get(stream, "/public/hang"), frame(PRIORITY, 0, stream, &on_itself)].concat()
        }),
        flood("made to reset by a header that depends on itself", |round| {
            let stream = odd(round);
            let payload = [&stream.to_be_bytes()[..], &[1], &request("GET", "/public/hang")].concat();
            frame(HEADERS, END_HEADERS | END_STREAM | 0x20, stream, &payload)
        }),
        flood("made to reset by a priority of the wrong length", |round| {
            [get(odd(round), "/public/hang"), frame(PRIORITY, 0, odd(round), b"1234")].concat()
        }),
        flood("made to reset by a body too long", |round| {
            let header = [request("POST", "/public/hang"), block(&[(b"content-length", b"1")])].concat();
            [frame(HEADERS, END_HEADERS, odd(round), &header), frame(DATA, 0, odd(round), b"two")].concat()
        }),
        flood("made to reset by trailers with a pseudo header", |round| {
            let trailers = block(&[(b":path", b"/")]);
            let stream = odd(round);
            [post(stream, "/public/hang"), frame(HEADERS, END_HEADERS | END_STREAM, stream, &trailers)].concat()
        }),
        flood("made to reset by upper case", |round| headers(odd(round), &[(b"X-Upper", b"1")])),
        flood("made to reset by a connection header", |round| headers(odd(round), &[(b"connection", b"close")])),
        flood("made to reset by an empty header", |round| frame(HEADERS, END_HEADERS | END_STREAM, odd(round), &[])),
        flood("streams beyond those allowed", |round| get(odd(round), "/public/hang")),
        flood("streams of which half are finished", |round| post(odd(round), "/public/hang")),
        flood("headers on a stream that was reset", |round| {
            let first = if round == 0 { [post(1, "/public/hang"), reset(1)].concat() } else { Vec::new() };
            [first, frame(HEADERS, END_HEADERS | END_STREAM, 1, &block(&[(b"x-a", b"1")]))].concat()
        }),
        // CVE-2024-27316 and its kind
        Flood {
            first: begun(1, END_STREAM),
            ..flood("continuation without an end", |round| {
                frame(CONTINUATION, 0, 1, &block(&[(format!("x-{round}").as_bytes(), &[b'a'; 1000])]))
            })
        },
        Flood {
            first: begun(1, END_STREAM),
            ..flood("continuation that is empty", |_| frame(CONTINUATION, 0, 1, &[]))
        },
        Flood { first: begun(1, END_STREAM), ..flood("continuation of a byte", |_| frame(CONTINUATION, 0, 1, &[0])) },
        Flood {
            first: begun(1, END_STREAM),
            ..flood("continuation of a string without an end", |round| {
                let start =
                    if round == 0 { [vec![0], string(b"x-long"), integer(0, 7, 1 << 24)].concat() } else { Vec::new() };
                frame(CONTINUATION, 0, 1, &[start, vec![b'a'; 16_000]].concat())
            })
        },
        flood("continuation of nothing", |_| frame(CONTINUATION, END_HEADERS, 1, &[])),
        flood("many continuations with an end", |round| {
            let pieces = (0..50).flat_map(|_| frame(CONTINUATION, 0, odd(round), &[]));
            let header = frame(HEADERS, END_STREAM, odd(round), &request("GET", "/public/x"));
            header.into_iter().chain(pieces).chain(frame(CONTINUATION, END_HEADERS, odd(round), &[])).collect()
        }),
        // CVE-2019-9515
        flood("settings", |_| frame(SETTINGS, 0, 0, &[])),
        flood("settings with values", |round| frame(SETTINGS, 0, 0, &setting(4, round))),
        flood("settings that nobody knows", |round| frame(SETTINGS, 0, 0, &setting(0xfa, round).repeat(100))),
        flood("settings acknowledged that were not sent", |_| frame(SETTINGS, ACK, 0, &[])),
        Flood {
            first: (0..100).flat_map(|at| get(odd(at), "/public/hang")).collect(),
            ..flood("windows of a hundred streams moved by settings", |round| {
                frame(SETTINGS, 0, 0, &setting(4, 65_535 + round % 2))
            })
        },
        flood("header tables as large as can be, and none", |round| {
            frame(SETTINGS, 0, 0, &setting(1, if round % 2 == 0 { u32::MAX } else { 0 }))
        }),
        // CVE-2019-9512
        flood("ping", |round| frame(PING, 0, 0, &u64::from(round).to_be_bytes())),
        flood("ping that answers none", |round| frame(PING, ACK, 0, &u64::from(round).to_be_bytes())),
        // CVE-2019-9513
        flood("priority of streams that are not there", |round| frame(PRIORITY, 0, odd(round), &[0, 0, 0, 0, 9])),
        flood("priority of one stream", |round| {
            frame(PRIORITY, 0, 1, &[0, 0, 0, 3, u8::try_from(round % 256).unwrap()])
        }),
        flood("priority updates", |_| frame(0x10, 0, 0, b"\0\0\0\x01u=1")),
        // CVE-2019-9518
        upload("empty data", |_| frame(DATA, 0, 1, &[])),
        upload("data that is padding alone", |_| frame(DATA, PADDED, 1, &[255; 256])),
        Flood { ends: false, ..upload("data of a byte that is taken", |_| frame(DATA, 0, 1, b"x")) },
        flood("empty data on a stream that is not there", |_| frame(DATA, 0, 1, &[])),
        flood("frames that nobody knows", |_| frame(0xfa, 0xff, 0, &[])),
        Flood { ends: false, ..flood("long frames that nobody knows", |_| frame(0xfb, 0, 1, &[0; 16_384])) },
        Flood { first: get(1, "/public/x"), ..flood("resets of a stream that is over", |_| reset(1)) },
        flood("resets of a stream that is not there", |_| reset(1)),
        flood("windows of the connection", |_| window(0, 1)),
        upload("windows of a stream", |_| window(1, 1)),
        flood("a window of the connection too large", |_| window(0, u32::MAX >> 1)),
        Flood { first: get(1, "/public/x"), ..flood("windows of a stream that is over", |_| window(1, 1)) },
        flood("farewells", |_| frame(GOAWAY, 0, 0, &[0; 8])),
        // CVE-2021-39162
        flood("farewells and settings", |round| {
            let settings = frame(SETTINGS, 0, 0, &setting(4, round));
            [get(odd(round), "/public/x"), frame(GOAWAY, 0, 0, &[0; 8]), settings].concat()
        }),
        flood("pushes", |round| frame(PUSH_PROMISE, END_HEADERS, odd(round), &[0, 0, 0, 2])),
        // The table: 4 KiB, of which one field is repeated for a byte each.
        flood("a header repeated out of the table", |round| {
            let bomb = [request("GET", "/public/x"), remembered(b"x-bomb", &[b'a'; 4000]), vec![0xbe; 12_000]].concat();
            frame(HEADERS, END_HEADERS | END_STREAM, odd(round), &bomb)
        }),
        flood("cookies repeated out of the table", |round| {
            let bomb = [request("GET", "/public/x"), remembered(b"cookie", &[b'a'; 200]), vec![0xbe; 15_000]].concat();
            frame(HEADERS, END_HEADERS | END_STREAM, odd(round), &bomb)
        }),
        flood("empty headers by the thousand", |round| {
            let bomb = [request("GET", "/public/x"), remembered(b"a", b""), vec![0xbe; 15_000]].concat();
            frame(HEADERS, END_HEADERS | END_STREAM, odd(round), &bomb)
        }),
        flood("sizes of the table without an end", |round| {
            frame(HEADERS, END_HEADERS | END_STREAM, odd(round), &[0x20; 16_000])
        }),
        flood("a table larger than allowed", |round| {
            let block = [integer(0x20, 5, 1 << 20), request("GET", "/public/x")].concat();
            frame(HEADERS, END_HEADERS | END_STREAM, odd(round), &block)
        }),
        flood("a place in the table that is not there", |round| {
            frame(HEADERS, END_HEADERS | END_STREAM, odd(round), &integer(0x80, 7, 1 << 20))
        }),
        flood("a number without an end", |round| {
            frame(HEADERS, END_HEADERS | END_STREAM, odd(round), &[&[0xff][..], &[0x80; 10_000]].concat())
        }),
        flood("a string longer than its block", |round| {
            let block = [vec![0], string(b"x-long"), integer(0, 7, 1 << 28), vec![b'a'; 1000]].concat();
            frame(HEADERS, END_HEADERS | END_STREAM, odd(round), &block)
        }),
        flood("a frame longer than allowed", |_| [&[0xff, 0xff, 0xff, DATA, 0, 0, 0, 0, 1][..], &[0; 16_000]].concat()),
        flood("the greeting again", |_| b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec()),
        flood("HTTP/1.1 after the greeting", |_| b"GET /public/x HTTP/1.1\r\nHost: a\r\n\r\n".to_vec()),
    ]
}

/// What a request is answered with: `hang` not within the test.
pub(crate) fn backend() -> Backend {
    Backend::answering(|seen| {
        if seen.line.contains("/hang") {
            return Answer::Slowly(vec![(Duration::from_secs(30), Vec::new())]);
        }
        if seen.line.contains("/large") {
            let mut bytes = b"HTTP/1.1 200 OK\r\nContent-Length: 262144\r\n\r\n".to_vec();
            bytes.resize(bytes.len() + (256 << 10), b'x');
            return Answer::Bytes(bytes);
        }
        Answer::ok("hello")
    })
}

/// How a flood ended: how much of it was taken, and how long that took.
fn run(target: &Target, flood: &Flood, tls: bool) -> Result<(usize, Duration), String> {
    let root = target.process.place.path("cert.pem");
    let mut client =
        if tls { Raw::connect(target.process.address, Some(&root)) } else { Raw::connect(target.plain, None) };
    client.greet(&flood.settings);
    let start = Instant::now();
    let mut taken = 0;
    let mut bytes = flood.first.clone();
    let mut round = 0;
    loop {
        while bytes.len() < 16 * 1024 {
            bytes.extend((flood.round)(round));
            round += 1;
        }
        let sent = client.send(&bytes);
        taken += bytes.len();
        bytes.clear();
        // What comes back is read, or the gateway would wait for that before it ends.
        let mut patience = if sent.is_ok() { Duration::from_millis(1) } else { Duration::from_secs(5) };
        while let Some(came) = client.next(patience) {
            match came {
                Came::Closed => return Ok((taken, start.elapsed())),
                Came::GoAway(_) => patience = Duration::from_secs(5),
                Came::Head(_, status) if status >= 500 => return Err(format!("answered {status}")),
                _ => {}
            }
        }
        if !flood.ends && start.elapsed() > Duration::from_secs(2) {
            return Ok((taken, start.elapsed()));
        }
        if start.elapsed() > Duration::from_secs(20) {
            return Err(format!("still open after {taken} bytes"));
        }
    }
}

#[test]
fn every_flood_ends_with_its_connection_and_others_are_served() {
    let backend = backend();
    // What is not reset at once must not be cut before by a wait.
    let target = Target::start("idle_timeout = \"30s\"\n", &backend);
    let before = Others::alone(&target);
    let (memory, descriptors) = (target.memory(), target.descriptors());
    let others = Others::start(&target);
    let mut failed = Vec::new();
    let floods = floods();
    let at_once = if long() { 25 } else { 2 };
    let (mut most, mut longest, mut cases) = (0, (Duration::ZERO, ""), 0);
    for (number, flood) in floods.iter().enumerate() {
        let ways = if long() { &[true, false][..] } else { &[number % 2 == 0] };
        for &tls in ways {
            let before = target.memory();
            cases += 1;
            let ends = std::thread::scope(|scope| {
                let threads: Vec<_> = (0..at_once).map(|_| scope.spawn(|| run(&target, flood, tls))).collect();
                threads.into_iter().map(|thread| thread.join().expect("no panic")).collect::<Result<Vec<_>, _>>()
            });
            match ends {
                Err(why) => failed.push(format!("{} (TLS: {tls}): {why}", flood.name)),
                Ok(ends) => {
                    most = most.max(ends.iter().map(|(taken, _)| *taken).max().unwrap_or(0));
                    longest = longest.max((ends.iter().map(|(_, took)| *took).max().unwrap_or_default(), flood.name));
                }
            }
            let after = target.memory();
            // Of connections that are open at once each may take its buffers.
            if after > before + (16 + at_once) * 1024 {
                failed.push(format!("{} (TLS: {tls}): from {before} to {after} KiB", flood.name));
            }
        }
    }
    let during = others.p99();
    println!(
        "HTTP/2 floods: {cases} cases, {at_once} connections each at once; others' p99 {before:?} before, {during:?} during; \
         at most {most} bytes and {longest:?} until the end; {memory} KiB before, {} KiB after, {} ticks of 10 ms",
        target.memory(),
        target.ticks()
    );
    if !still_served(before, &during) {
        failed.push(format!("others waited {during:?} instead of {before:?}"));
    }
    if let Err(why) = target.settles(descriptors, memory, 64) {
        failed.push(why);
    }
    assert!(floods.len() >= 60);
    assert!(failed.is_empty(), "{}", failed.join("\n"));
    let limited = |limit: &str| target.metric("portcullis_connections_closed_total", &format!("limit=\"{limit}\""));
    let counts = ["http2_control_frames", "http2_resets", "http2_flood"].map(limited);
    println!("closed by their allowance of frames, of resets, by the library: {counts:?}");
    assert!(counts[0] >= 20.0 && counts[2] >= 10.0, "{counts:?}");
}
