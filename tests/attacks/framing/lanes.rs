//! Both ways through the gateway, side by side: whatever is sent, the fast lane and hyper give the upstream the same
//! requests and the client the same answers.

use std::time::Duration;

use super::cases;
use super::front::{Came, Front};
use super::is_long;
use super::mutations::{Random, corpus, mutate, seed};
use super::wire::{self, Request, Stop};
use crate::support::metric;

/// Pairs of gateways that are tried at once, each from a seed of its own.
const PAIRS: u64 = 3;

/// As the gateways' own deadlines are longer, what takes so long does not end.
const PATIENCE: Duration = Duration::from_secs(2);

/// A gateway with the fast lane and one without, of which each has its own upstream.
struct Pair {
    fronts: [Front; 2],
    tokens: [String; 2],
}

/// What became of some bytes at one of them, without what is made anew for each request.
#[derive(Debug, Eq, PartialEq)]
struct Became {
    /// What the upstream saw, then what the client got.
    requests: Vec<String>,
    answers: Vec<String>,
    closed: bool,
}

impl Pair {
    /// `None` where all tests run without the lane.
    fn start() -> Option<Self> {
        if std::env::var_os("PORTCULLIS_TEST_WITHOUT_FAST_LANE").is_some() {
            return None;
        }
        let fronts = ["true", "false"].map(|lane| Front::with(&format!("workers = 1\nfast_lane = {lane}\n"), false));
        let tokens = [0, 1].map(|at: usize| String::clone(&fronts[at].gateway.sign_in("ann").access_token));
        Some(Self { fronts, tokens })
    }

    /// Sends `bytes` to both, with a good token for `{token}`.
    fn compare(&self, bytes: &[u8]) -> Result<usize, String> {
        let [lane, hyper] = [0, 1].map(|at| self.became(at, bytes));
        let (lane, hyper) = (lane?, hyper?);
        if lane == hyper {
            Ok(lane.requests.len())
        } else {
            Err(format!("\n    lane:  {lane:?}\n    hyper: {hyper:?}"))
        }
    }

    fn became(&self, at: usize, bytes: &[u8]) -> Result<Became, String> {
        let front = &self.fronts[at];
        let bytes = replaced(bytes, b"{token}", self.tokens[at].as_bytes());
        let came = front.exchange(&[&bytes], Duration::ZERO, false, PATIENCE);
        let mut seen = front.recorder.take();
        if let Some((why, _)) = seen.faults.first() {
            return Err(format!("the upstream was sent what is no request: {why}"));
        }
        seen.requests.retain(|request| request.target != "/public/barrier");
        let requests = seen.requests.iter().map(told).collect();
        Ok(Became { requests, answers: answers(&came)?, closed: came.closed })
    }

    /// Requests that took the lane.
    fn taken(&self) -> [f64; 2] {
        [0, 1].map(|at: usize| metric(&self.fronts[at].gateway, "portcullis_fast_lane_requests_total"))
    }
}

fn replaced(bytes: &[u8], from: &[u8], to: &[u8]) -> Vec<u8> {
    match bytes.windows(from.len()).position(|window| window == from) {
        Some(at) => [&bytes[..at], to, &bytes[at + from.len()..]].concat(),
        None => bytes.to_vec(),
    }
}

/// A request as it is compared: its line, its fields by name, in the order they have among those of their name.
fn told(request: &Request) -> String {
    let mut fields: Vec<(&str, String)> = request
        .fields
        .iter()
        .map(|(name, value)| match name.as_str() {
            name @ ("traceparent" | "x-request-id" | "x-session-id") => (name, format!("of {}", value.len())),
            name => (name, value.escape_ascii().to_string()),
        })
        .collect();
    fields.sort_by_key(|(one, _)| *one);
    format!("{} {fields:?} {} {:?}", request.line(), request.body.escape_ascii(), request.trailers)
}

/// The answers as they are compared.
fn answers(came: &Came) -> Result<Vec<String>, String> {
    let (responses, stop) = came.responses(false);
    if let Some(Stop::Faulty(why)) = stop {
        return Err(format!("the answers are no HTTP: {why}: {}", came.bytes.escape_ascii()));
    }
    let told = responses.iter().map(|response| {
        let mut fields: Vec<(&str, String)> = response
            .fields
            .iter()
            .map(|(name, value)| match name.as_str() {
                name @ ("date" | "x-request-id") => (name, String::new()),
                name => (name, value.escape_ascii().to_string()),
            })
            .collect();
        fields.sort_by_key(|(one, _)| *one);
        let body = String::from_utf8_lossy(&response.body).into_owned();
        // The id of the request is in it.
        let body = body.split("\"request_id\"").next().unwrap_or_default().to_owned();
        format!("{} {fields:?} {body}", response.status)
    });
    Ok(told.collect())
}

/// Whether a client that sends this gets an end: the strict reader knows that nothing more is to come, or that nothing of
/// it can be right.
fn ends(bytes: &[u8]) -> bool {
    let (meant, stop) = wire::requests(bytes);
    matches!(stop, Some(Stop::Faulty(_))) || stop.is_none() && meant.last().is_some_and(Request::is_last)
}

/// Requests for a route that asks for a token, good and bad.
fn with_tokens() -> Vec<Vec<u8>> {
    let fields = [
        "Authorization: Bearer {token}",
        "authorization: bearer   {token}",
        "Authorization: Bearer {token}x",
        "Authorization: Bearer {token}\r\nAuthorization: Bearer {token}",
        "Authorization: Basic YTpi",
        "Authorization: Bearer",
        "Accept: */*",
        "Authorization: Bearer {token}\r\nX-User-Id: root\r\nX-Session-Id: 0\r\nx_user_id: root\r\nX-USER-ID: root",
        "Authorization: Bearer {token}\r\nX-Request-Id: one\r\ntraceparent: \
         00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01\r\ntracestate: a=b",
        "Authorization: Bearer {token}\r\nX-Request-Id: a b\r\nX-Request-Id: c\r\ntraceparent: x\r\ntracestate: a=b",
        "Authorization: Bearer {token}\r\nX-Forwarded-For: 1.2.3.4\r\nForwarded: for=1.2.3.4\r\nX-Real-IP: 1.2.3.4\r\n\
         Via: 1.0 a\r\nX-Http-Method-Override: PUT\r\nProxy: a\r\nX-Original-Url: /b\r\nX-Envoy-Retry-On: 5xx",
        "Authorization: Bearer {token}\r\nCookie: a=b\r\nCookie: c=d\r\nAccept:\r\nX-Empty:  \t \r\nKeep-Alive: 1",
    ];
    let targets =
        ["/a?b=c", "/optional/x", "/", "/A/b", "//a", "/a/../b", "/a;b", "/%61", "/auth/refresh", "/%2e", "/a b"];
    let mut all = Vec::new();
    for field in fields {
        for target in targets {
            for (method, body) in [("GET", ""), ("POST", "Content-Length: 5\r\n\r\nhello"), ("DELETE", "")] {
                let end = if body.is_empty() { "\r\n" } else { "" };
                let text =
                    format!("{method} {target} HTTP/1.1\r\nHost: a\r\n{field}\r\nConnection: close\r\n{body}{end}");
                all.push(text.into_bytes());
            }
        }
    }
    all
}

/// What was once judged otherwise by one of them.
const REGRESSIONS: &[&[u8]] = &[];

#[test]
fn both_lanes_send_and_answer_the_same() {
    let Some(pair) = Pair::start() else { return };
    let named = cases::all().into_iter().filter(|case| !case.is_cut() && !case.bytes.starts_with(b"HEAD"));
    let all = named.map(|case| case.wire()).chain(with_tokens()).chain(REGRESSIONS.iter().map(|bytes| bytes.to_vec()));
    let all: Vec<Vec<u8>> = all.filter(|bytes| ends(bytes)).collect();
    let failed: Vec<String> = all
        .iter()
        .filter_map(|bytes| pair.compare(bytes).err().map(|wrong| format!("b\"{}\": {wrong}", bytes.escape_ascii())))
        .collect();
    let [lane, hyper] = pair.taken();
    println!("framing lanes: {} cases, {lane} requests in the lane", all.len());
    assert!(failed.is_empty(), "{} of {} failed\n{}", failed.len(), all.len(), failed.join("\n"));
    // Both were compared: what never takes the lane proves nothing.
    assert!(lane > 100.0 && hyper == 0.0, "{lane} {hyper}");
}

/// `PORTCULLIS_LONG_ATTACKS=1` runs all of them.
#[test]
fn no_mutation_tells_the_lanes_apart() {
    let count = if is_long() { 60_000 } else { 3_000 };
    let corpus = corpus();
    let run = |number: u64| {
        let (mut failed, mut tried, mut forwarded) = (Vec::new(), 0, 0);
        let (pair, mut random) = (Pair::start()?, Random(seed() ^ (number + 1)));
        while tried < count / PAIRS {
            let bytes = mutate(&mut random, &corpus);
            if !ends(&bytes) {
                continue;
            }
            tried += 1;
            match pair.compare(&bytes) {
                Ok(requests) => forwarded += requests,
                Err(wrong) => failed.push(format!("b\"{}\": {wrong}", bytes.escape_ascii())),
            }
        }
        Some((failed, forwarded, pair.taken()[0]))
    };
    let all: Vec<_> = std::thread::scope(|scope| {
        let running: Vec<_> = (0..PAIRS).map(|number| scope.spawn(move || run(number))).collect();
        running.into_iter().filter_map(|pair| pair.join().expect("a pair")).collect()
    });
    if all.is_empty() {
        return;
    }
    let failed: Vec<&String> = all.iter().flat_map(|(failed, ..)| failed).collect();
    let forwarded: usize = all.iter().map(|(_, forwarded, _)| forwarded).sum();
    let taken: f64 = all.iter().map(|(.., taken)| taken).sum();
    println!("framing lanes: {count} mutations from seed {}, {forwarded} requests, {taken} in the lane", seed());
    let shown = failed.iter().take(20).map(|text| text.as_str()).collect::<Vec<_>>().join("\n");
    assert!(failed.is_empty(), "{} of {count} failed\n{shown}", failed.len());
    assert!(taken > 300.0, "{taken}");
}
