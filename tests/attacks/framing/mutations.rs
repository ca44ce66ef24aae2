//! Cases with their bytes changed at random, from a seed that is told: what became of each is judged against a strict
//! reading of the very bytes that were sent.

use std::time::Duration;

use super::case::{AFTER, Case, Verdict, is_ours};
use super::cases;
use super::front::{Came, Front};
use super::recorder::Seen;
use super::wire::{self, Request, Stop};

/// The same sequence on every machine, unless `PORTCULLIS_SEED` says another number.
const SEED: u64 = 0x0070_6f72_7463_756c;

/// Gateways that are tried at once, each from a seed of its own.
const LANES: u32 = 4;

/// A connection that both sides think is over ends at once.
const PATIENCE: Duration = Duration::from_secs(2);

/// Bytes that some reader gives a meaning of its own.
const SPECIAL: &[u8] = b"\r\n \t\0,:;=+-_\"'#?/\\0139afx\x0b\x0c\x7f\x80\x85\xa0\xff";

/// Words that make a difference somewhere.
const WORDS: &[&[u8]] = &[
    b"\r\n",
    b"\n",
    b"\r",
    b"\r\n\r\n",
    b"\r\n ",
    b"\r\n\t",
    b"\n\n",
    b"0\r\n\r\n",
    b"3\r\nabc\r\n",
    b"chunked",
    b"identity",
    b", chunked",
    b"HTTP/1.0",
    b"HTTP/1.1",
    b"Connection: close\r\n",
    b"Connection: keep-alive\r\n",
    b"Connection: content-length\r\n",
    b"Content-Length: 0\r\n",
    b"Content-Length: 3\r\n",
    b"Content-Length: 30\r\n",
    b"Content-Length: 03\r\n",
    b"Content-Length : 3\r\n",
    b"Transfer-Encoding: chunked\r\n",
    b"Transfer-Encoding: identity\r\n",
    b"Transfer-Encoding\t: chunked\r\n",
    b"Transfer_Encoding: chunked\r\n",
    b"Host: a\r\n",
    b"Host: b\r\n",
    b"X-User-Id: root\r\n",
    b"X_User_Id: root\r\n",
    b"Expect: 100-continue\r\n",
    b"Upgrade: websocket\r\nConnection: upgrade\r\n",
    b"X-A: b\r\n",
    b" X-A: b\r\n",
    b"http://a",
    b"GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n",
    b"GET /public/d HTTP/1.1\r\nHost: a\r\n\r\n",
];

/// Mutations that were once read in two ways.
const REGRESSIONS: &[&[u8]] = &[];

/// SplitMix64
pub(super) struct Random(pub(super) u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// Less than `bound`, or 0 when that is 0.
    fn below(&mut self, bound: usize) -> usize {
        let bound = u64::try_from(bound).expect("64 bits").max(1);
        usize::try_from(self.next() % bound).expect("64 bits")
    }

    fn one_of<'t, T>(&mut self, all: &'t [T]) -> &'t T {
        &all[self.below(all.len())]
    }
}

/// What mutations begin with: cases that are forwarded, and others.
pub(super) fn corpus() -> (Vec<Vec<u8>>, Vec<Vec<u8>>) {
    let (good, bad): (Vec<Case>, Vec<Case>) = cases::all()
        .into_iter()
        .filter(|case| case.bytes.len() < 400 && !case.bytes.starts_with(b"HEAD"))
        .partition(|case| matches!(case.verdict, Verdict::Forward(_) | Verdict::Several(_)));
    let bytes = |cases: Vec<Case>| cases.into_iter().map(|case| case.bytes).collect();
    (bytes(good), bytes(bad))
}

/// The seed of this run.
pub(super) fn seed() -> u64 {
    std::env::var("PORTCULLIS_SEED").map_or(SEED, |seed| seed.parse().expect("a number"))
}

/// Changes between one and four things.
pub(super) fn mutate(random: &mut Random, corpus: &(Vec<Vec<u8>>, Vec<Vec<u8>>)) -> Vec<u8> {
    // Two of three begin with what is forwarded: a change to what is refused already mostly tells nothing.
    let (good, bad) = corpus;
    let first = if random.below(3) > 0 { good } else { bad };
    let mut bytes = random.one_of(first).clone();
    if random.below(4) == 0 {
        let other = random.one_of(bad).clone();
        bytes.truncate(random.below(bytes.len() + 1));
        bytes.extend_from_slice(&other[random.below(other.len())..]);
    }
    bytes.extend_from_slice(AFTER.as_bytes());
    for _ in 0..=random.below(4) {
        change(random, &mut bytes);
    }
    bytes
}

fn change(random: &mut Random, bytes: &mut Vec<u8>) {
    let at = random.below(bytes.len());
    let special = *random.one_of(SPECIAL);
    match random.below(12) {
        0 => drop(bytes.drain(at..(at + 1).min(bytes.len()))),
        1 => drop(bytes.drain(at..(at + 1 + random.below(8)).min(bytes.len()))),
        2 => bytes.insert(at, special),
        3 if at < bytes.len() => bytes[at] = special,
        4 => {
            let piece = bytes[at..(at + 1 + random.below(40)).min(bytes.len())].to_vec();
            drop(bytes.splice(at..at, piece));
        }
        5 => drop(bytes.splice(at..at, random.one_of(WORDS).iter().copied())),
        6 => {
            // At the start of a line, where words are fields.
            let starts = lines(bytes);
            let start = random.one_of(&starts).0;
            drop(bytes.splice(start..start, random.one_of(WORDS).iter().copied()));
        }
        7 => {
            // A line moves.
            let all = lines(bytes);
            let (start, end) = *random.one_of(&all);
            let line: Vec<u8> = bytes.drain(start..end).collect();
            let all = lines(bytes);
            let to = random.one_of(&all).0;
            drop(bytes.splice(to..to, line));
        }
        8 => {
            // One byte that ends, parts or counts becomes another.
            let marks: Vec<usize> =
                (0..bytes.len()).filter(|at| b"\r\n \t:,;0123456789".contains(&bytes[*at])).collect();
            if !marks.is_empty() {
                bytes[*random.one_of(&marks)] = special;
            }
        }
        9 => {
            // A number changes.
            let digits: Vec<usize> = (0..bytes.len()).filter(|at| bytes[*at].is_ascii_digit()).collect();
            if !digits.is_empty() {
                bytes[*random.one_of(&digits)] = *random.one_of(b"0123456789");
            }
        }
        10 if at < bytes.len() => bytes[at] ^= 0x20,
        _ => {
            let all = lines(bytes);
            let (start, end) = *random.one_of(&all);
            let line = bytes[start..end].to_vec();
            drop(bytes.splice(end..end, line));
        }
    }
}

/// Where lines begin and end.
fn lines(bytes: &[u8]) -> Vec<(usize, usize)> {
    let mut start = 0;
    let mut all: Vec<(usize, usize)> = Vec::new();
    for (at, byte) in bytes.iter().enumerate() {
        if *byte == b'\n' {
            all.push((start, at + 1));
            start = at + 1;
        }
    }
    all.push((start, bytes.len()));
    all
}

/// What became of some mutations.
#[derive(Default)]
struct Outcome {
    forwarded: usize,
    failed: Vec<String>,
}

/// Sends `count` mutations, the regressions first, and tells of those that were read in two ways.
pub(super) fn run(count: usize) {
    let (corpus, seed) = (corpus(), seed());
    let mut all = Outcome::default();
    std::thread::scope(|scope| {
        let lanes: Vec<_> = (0..LANES)
            .map(|lane| {
                scope.spawn({
                    let corpus = &corpus;
                    move || run_lane(seed + u64::from(lane), count / LANES as usize, corpus)
                })
            })
            .collect();
        for lane in lanes {
            let Outcome { forwarded, failed } = lane.join().expect("a lane");
            all.forwarded += forwarded;
            all.failed.extend(failed);
        }
    });
    let Outcome { forwarded, failed } = all;
    println!("framing: {count} mutations from seed {seed}, {forwarded} requests forwarded");
    // Both ends of the rules were met: what never forwards anything, or everything, proves nothing.
    assert!(forwarded > count / 10 && forwarded < count, "{forwarded} of {count}");
    let shown = failed.iter().take(50).map(String::as_str).collect::<Vec<_>>().join("\n");
    assert!(failed.is_empty(), "{} of {count} failed\n{shown}", failed.len());
}

/// One after the other, so that what the upstream saw is of one mutation and no other.
fn run_lane(seed: u64, count: usize, corpus: &(Vec<Vec<u8>>, Vec<Vec<u8>>)) -> Outcome {
    let front = Front::start(false);
    let mut random = Random(seed);
    let mut outcome = Outcome::default();
    let regressions = REGRESSIONS.iter().map(|bytes| bytes.to_vec());
    let mutations = (0..count).map(|_| mutate(&mut random, corpus));
    for bytes in regressions.chain(mutations) {
        match judge(&front, &bytes) {
            Ok(requests) => outcome.forwarded += requests,
            Err(wrong) => outcome.failed.push(format!("b\"{}\": {wrong}", bytes.escape_ascii())),
        }
    }
    if !front.barrier() {
        outcome.failed.push("the gateway serves no more".to_owned());
    }
    outcome
}

/// How many requests reached the upstream.
fn judge(front: &Front, bytes: &[u8]) -> Result<usize, String> {
    let (meant, stop) = wire::requests(bytes);
    // The strict reader knows that nothing more is to come, or that nothing of it can be right.
    let is_over = matches!(stop, Some(Stop::Faulty(_))) || stop.is_none() && meant.last().is_some_and(Request::is_last);
    let came = front.exchange(&[bytes], Duration::ZERO, !is_over, PATIENCE);
    // A client that has left is answered no more, but what it asked for may be on its way.
    if !is_over && !front.barrier() {
        return Err("the gateway serves no more".to_owned());
    }
    let mut seen = front.recorder.take();
    seen.requests.retain(|request| request.target != "/public/barrier");
    invariants(&meant, is_over, &came, &seen)
        .map(|()| seen.requests.len())
        .map_err(|wrong| format!("{wrong}\n    client got {}\n    upstream saw {seen:?}", came.bytes.escape_ascii()))
}

fn invariants(meant: &[Request], is_over: bool, came: &Came, seen: &Seen) -> Result<(), String> {
    let fail = |wrong: &str| Err(wrong.to_owned());
    if let Some((why, _)) = seen.faults.first() {
        return Err(format!("the upstream was sent what is no request: {why}"));
    }
    if seen.pending > 0 {
        return fail("the upstream waits for the rest of a request");
    }
    // Each is one of those that were meant, in their order, with the very body.
    let mut left = meant.iter();
    for request in &seen.requests {
        is_ours(request)?;
        let path = request.target.split('?').next().unwrap_or_default();
        if !["/public", "/optional"]
            .iter()
            .any(|open| path.strip_prefix(open).is_some_and(|rest| rest.is_empty() || rest.starts_with('/')))
        {
            return fail("a protected path was forwarded");
        }
        let is_it = |one: &Request| {
            one.method == request.method && origin_form(&one.target) == request.target && one.body == request.body
        };
        if !left.any(is_it) {
            return Err(format!("{:?} was not asked for", request.line()));
        }
    }
    let (responses, stop) = came.responses(false);
    if let Some(wrong) = responses.iter().find(|response| response.status >= 500 && response.status != 501) {
        return Err(format!("{} for what a client sent", wrong.status));
    }
    if responses.iter().any(|it| it.status >= 400 && !it.body.starts_with(b"{\"error\":")) {
        return fail("refused without a word");
    }
    let mut asked = seen.requests.iter();
    for response in responses.iter().filter(|response| response.status == 200) {
        // What a client that has left does not get is of the requests behind.
        if !asked.any(|request| response.body == request.line().as_bytes()) {
            return fail("an answer is not that to its request");
        }
    }
    if is_over {
        if stop.is_some() {
            return fail("the answers are no HTTP");
        }
        if !came.closed {
            return fail("the connection stayed open");
        }
        if responses.is_empty() {
            return fail("no answer");
        }
    }
    Ok(())
}

/// The target without its scheme and authority.
fn origin_form(target: &str) -> &str {
    let rest = target.split_once("://").filter(|(scheme, _)| !scheme.contains('/')).map(|(_, rest)| rest);
    rest.map_or(target, |rest| rest.find('/').map_or("/", |at| &rest[at..]))
}
