//! Answers of a hostile server, and what its client may make of each.

use std::time::Duration;

use super::Verdict::{self, Broken, Cut, Whole};
use crate::support::Answer;

/// Name, request method, the bytes of the answer, and what its client gets.
type Row = (&'static str, &'static str, &'static [u8], Verdict);

/// The connection stays open behind these.
const OPEN: &[Row] = &[
    ("plain", "GET", b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc", Whole(200, "abc")),
    ("chunks", "GET", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n", Whole(200, "abc")),
    // Framing.
    (
        "length beside chunks",
        "GET",
        b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n\
         0\r\n\r\n",
        Broken,
    ),
    (
        "chunks beside a length",
        "GET",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Length: 13\r\n\r\n3\r\n\
         abc\r\n0\r\n\r\n",
        Broken,
    ),
    (
        "chunked twice",
        "GET",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n\
         3\r\nabc\r\n0\r\n\r\n",
        Broken,
    ),
    (
        "chunked twice in a list",
        "GET",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked, chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
        Broken,
    ),
    (
        "gzip below chunks",
        "GET",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
        Broken,
    ),
    (
        "gzip above chunks",
        "GET",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked, gzip\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
        Broken,
    ),
    (
        "an unknown coding",
        "GET",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: xchunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
        Broken,
    ),
    ("identity", "GET", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: identity\r\nContent-Length: 3\r\n\r\nabc", Broken),
    ("an empty coding", "GET", b"HTTP/1.1 200 OK\r\nTransfer-Encoding:\r\nContent-Length: 3\r\n\r\nabc", Broken),
    (
        "chunks of HTTP/1.0",
        "GET",
        b"HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
        Broken,
    ),
    (
        "equal lengths",
        "GET",
        b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nContent-Length: 3\r\n\r\nabc",
        Whole(200, "abc"),
    ),
    ("a list of equal lengths", "GET", b"HTTP/1.1 200 OK\r\nContent-Length: 3, 3\r\n\r\nabc", Whole(200, "abc")),
    ("other lengths", "GET", b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\nabcd", Broken),
    ("a list of other lengths", "GET", b"HTTP/1.1 200 OK\r\nContent-Length: 3, 4\r\n\r\nabcd", Broken),
    ("a length with plus", "GET", b"HTTP/1.1 200 OK\r\nContent-Length: +3\r\n\r\nabc", Broken),
    ("a length with minus", "GET", b"HTTP/1.1 200 OK\r\nContent-Length: -3\r\n\r\nabc", Broken),
    ("a hexadecimal length", "GET", b"HTTP/1.1 200 OK\r\nContent-Length: 0x3\r\n\r\nabc", Broken),
    ("a length with a letter", "GET", b"HTTP/1.1 200 OK\r\nContent-Length: 3a\r\n\r\nabc", Broken),
    ("an empty length", "GET", b"HTTP/1.1 200 OK\r\nContent-Length:\r\n\r\nabc", Broken),
    ("a length of 2^64", "GET", b"HTTP/1.1 200 OK\r\nContent-Length: 18446744073709551616\r\n\r\nabc", Broken),
    ("a length that wraps to 3", "GET", b"HTTP/1.1 200 OK\r\nContent-Length: 18446744073709551619\r\n\r\nabc", Broken),
    ("a length of 2^64-1", "GET", b"HTTP/1.1 200 OK\r\nContent-Length: 18446744073709551615\r\n\r\nabc", Broken),
    // Chunks: their header has gone to the client before they are seen to be wrong.
    ("a size of no digits", "GET", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\nabc\r\n0\r\n\r\n", Cut),
    ("a size with minus", "GET", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n-3\r\nabc\r\n0\r\n\r\n", Cut),
    ("a size with 0x", "GET", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0x3\r\nabc\r\n0\r\n\r\n", Cut),
    (
        "a size that wraps",
        "GET",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n10000000000000003\r\nabc\r\n0\r\n\
         \r\n",
        Cut,
    ),
    (
        "a size that ends with LF",
        "GET",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\nabc\r\n0\r\n\r\n",
        Cut,
    ),
    ("an extension with LF", "GET", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3;a\nabc\r\n0\r\n\r\n", Cut),
    (
        "data longer than its size",
        "GET",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabcd\r\n0\r\n\r\n",
        Cut,
    ),
    ("data that ends with LF", "GET", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\n0\r\n\r\n", Cut),
    (
        "a trailer without a colon",
        "GET",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: x-a\r\n\r\n3\r\nabc\r\n0\r\n\
         X-A\r\n\r\n",
        Cut,
    ),
    // Trailers that would say anew how long the answer is, whom it is for, or who the client is.
    (
        "trailers of framing",
        "GET",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\
         Trailer: content-length, transfer-encoding\r\n\r\n3\r\nabc\r\n0\r\nContent-Length: 9\r\n\
         Transfer-Encoding: chunked\r\n\r\n",
        Whole(200, "abc"),
    ),
    (
        "trailers of a cookie",
        "GET",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: set-cookie, x-a\r\n\r\n3\r\n\
         abc\r\n0\r\nSet-Cookie: a=b\r\nX-A: b\r\n\r\n",
        Whole(200, "abc"),
    ),
    (
        "trailers of hops",
        "GET",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: connection, upgrade\r\n\r\n\
         3\r\nabc\r\n0\r\nConnection: close\r\nUpgrade: h2c\r\n\r\n",
        Whole(200, "abc"),
    ),
    // Bodies where there are none.
    ("204 with a length", "GET", b"HTTP/1.1 204 No Content\r\nContent-Length: 5\r\n\r\nhello", Whole(204, "")),
    (
        "204 with chunks",
        "GET",
        b"HTTP/1.1 204 No Content\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
        Whole(204, ""),
    ),
    (
        "204 with an answer for its body",
        "GET",
        b"HTTP/1.1 204 No Content\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nstolen",
        Whole(204, ""),
    ),
    ("304 with a body", "GET", b"HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\nhello", Whole(304, "")),
    (
        "304 with an answer for its body",
        "GET",
        b"HTTP/1.1 304 Not Modified\r\nContent-Length: 44\r\n\r\nHTTP/1.1 200 OK\r\n\
         Content-Length: 6\r\n\r\nstolen",
        Whole(304, ""),
    ),
    ("HEAD with a body", "HEAD", b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello", Whole(200, "")),
    (
        "HEAD with chunks",
        "HEAD",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
        Whole(200, ""),
    ),
    (
        "HEAD with an answer for its body",
        "HEAD",
        b"HTTP/1.1 200 OK\r\nContent-Length: 44\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 6\r\n\
         \r\nstolen",
        Whole(200, ""),
    ),
    (
        "HEAD with a list of equal lengths",
        "HEAD",
        b"HTTP/1.1 200 OK\r\nContent-Length: 03\r\nContent-Length: 3, 3\r\n\r\n",
        Whole(200, ""),
    ),
    ("HEAD with other lengths", "HEAD", b"HTTP/1.1 200 OK\r\nContent-Length: 3, 4\r\n\r\n", Whole(502, "")),
    ("HEAD without a length", "HEAD", b"HTTP/1.1 200 OK\r\n\r\n", Whole(200, "")),
    (
        "304 with a list of equal lengths",
        "GET",
        b"HTTP/1.1 304 Not Modified\r\nContent-Length: 3, 3\r\n\r\n",
        Whole(304, ""),
    ),
    // More than was asked for.
    (
        "a second answer",
        "GET",
        b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabcHTTP/1.1 200 OK\r\n\
         Content-Length: 6\r\n\r\nstolen",
        Whole(200, "abc"),
    ),
    (
        "a second answer behind chunks",
        "GET",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n\
         HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nstolen",
        Whole(200, "abc"),
    ),
    (
        "a second answer behind one of nothing",
        "GET",
        b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 6\r\n\
         \r\nstolen",
        Whole(200, ""),
    ),
    (
        "a second answer without its end",
        "GET",
        b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabcHTTP/1.1 200 OK\r\nSet-Cookie: a=",
        Whole(200, "abc"),
    ),
    (
        "an interim answer behind it",
        "GET",
        b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabcHTTP/1.1 103 Early Hints\r\n\
         Link: </stolen>\r\n\r\n",
        Whole(200, "abc"),
    ),
    ("an empty line behind it", "GET", b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc\r\n", Whole(200, "abc")),
    ("one byte behind it", "GET", b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabcd", Whole(200, "abc")),
    (
        "Connection: close and more",
        "GET",
        b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 3\r\n\r\n\
         abcHTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nstolen",
        Whole(200, "abc"),
    ),
    // Lines.
    ("lines that end with LF", "GET", b"HTTP/1.1 200 OK\nContent-Length: 3\nX-A: b\n\nabc", Whole(200, "abc")),
    (
        "a field that is folded",
        "GET",
        b"HTTP/1.1 200 OK\r\nX-A: b\r\n Content-Length: 4\r\nContent-Length: 3\r\n\r\nabc",
        Broken,
    ),
    ("a space before the colon", "GET", b"HTTP/1.1 200 OK\r\nContent-Length : 3\r\n\r\nabc", Broken),
    ("a space before the name", "GET", b"HTTP/1.1 200 OK\r\n Content-Length: 3\r\n\r\nabc", Broken),
    ("a field without a colon", "GET", b"HTTP/1.1 200 OK\r\nX-A\r\nContent-Length: 3\r\n\r\nabc", Broken),
    ("a field without a name", "GET", b"HTTP/1.1 200 OK\r\n: b\r\nContent-Length: 3\r\n\r\nabc", Broken),
    ("NUL in a name", "GET", b"HTTP/1.1 200 OK\r\nX\0A: b\r\nContent-Length: 3\r\n\r\nabc", Broken),
    ("NUL in a value", "GET", b"HTTP/1.1 200 OK\r\nX-A: b\0c\r\nContent-Length: 3\r\n\r\nabc", Broken),
    ("CR in a value", "GET", b"HTTP/1.1 200 OK\r\nX-A: b\rSet-Cookie: a=b\r\nContent-Length: 3\r\n\r\nabc", Broken),
    ("DEL in a value", "GET", b"HTTP/1.1 200 OK\r\nX-A: b\x7f\r\nContent-Length: 3\r\n\r\nabc", Broken),
    ("Latin-1 in a value", "GET", b"HTTP/1.1 200 OK\r\nX-A: \xe9\r\nContent-Length: 3\r\n\r\nabc", Whole(200, "abc")),
    ("UTF-8 in a name", "GET", b"HTTP/1.1 200 OK\r\nX-\xc3\xa9: b\r\nContent-Length: 3\r\n\r\nabc", Broken),
    ("NUL in the reason", "GET", b"HTTP/1.1 200 O\0K\r\nContent-Length: 3\r\n\r\nabc", Broken),
    ("CR in the reason", "GET", b"HTTP/1.1 200 O\rK\r\nContent-Length: 3\r\n\r\nabc", Broken),
    ("an empty line before it", "GET", b"\r\nHTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc", Whole(200, "abc")),
    // Status lines.
    ("no reason", "GET", b"HTTP/1.1 200\r\nContent-Length: 3\r\n\r\nabc", Whole(200, "abc")),
    ("status 099", "GET", b"HTTP/1.1 099 OK\r\nContent-Length: 3\r\n\r\nabc", Broken),
    ("status 000", "GET", b"HTTP/1.1 000 OK\r\nContent-Length: 3\r\n\r\nabc", Broken),
    ("status 600", "GET", b"HTTP/1.1 600 OK\r\nContent-Length: 3\r\n\r\nabc", Broken),
    ("status 999", "GET", b"HTTP/1.1 999 OK\r\nContent-Length: 3\r\n\r\nabc", Broken),
    ("status of four digits", "GET", b"HTTP/1.1 2000 OK\r\nContent-Length: 3\r\n\r\nabc", Broken),
    ("status of two digits", "GET", b"HTTP/1.1 20 OK\r\nContent-Length: 3\r\n\r\nabc", Broken),
    ("status with minus", "GET", b"HTTP/1.1 -20 OK\r\nContent-Length: 3\r\n\r\nabc", Broken),
    ("status of letters", "GET", b"HTTP/1.1 abc OK\r\nContent-Length: 3\r\n\r\nabc", Broken),
    ("version 0.9", "GET", b"HTTP/0.9 200 OK\r\nContent-Length: 3\r\n\r\nabc", Broken),
    ("version 2.0", "GET", b"HTTP/2.0 200 OK\r\nContent-Length: 3\r\n\r\nabc", Broken),
    ("version in lower case", "GET", b"http/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc", Broken),
    ("another protocol", "GET", b"ICY 200 OK\r\nContent-Length: 3\r\n\r\nabc", Broken),
    ("a request for an answer", "GET", b"GET /public HTTP/1.1\r\nHost: a\r\n\r\n", Broken),
    // Interim answers, and those that nobody asked for.
    (
        "100 first",
        "GET",
        b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc",
        Whole(200, "abc"),
    ),
    (
        "103 first",
        "GET",
        b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 3\r\n\
         \r\nabc",
        Whole(200, "abc"),
    ),
    (
        "103 with a body",
        "GET",
        b"HTTP/1.1 103 Early Hints\r\nContent-Length: 5\r\n\r\nhelloHTTP/1.1 200 OK\r\n\
         Content-Length: 3\r\n\r\nabc",
        Broken,
    ),
    (
        "103 with another answer for its body",
        "GET",
        b"HTTP/1.1 103 Early Hints\r\nContent-Length: 41\r\n\r\nHTTP/1.1 200 OK\r\n\
         Content-Length: 3\r\n\r\nabc",
        Whole(200, "abc"),
    ),
    (
        "101 unasked",
        "GET",
        b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n",
        Broken,
    ),
    (
        "101 unasked with an answer behind it",
        "GET",
        b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: h2c\r\n\r\n\
         HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nstolen",
        Broken,
    ),
    (
        "a hop that names the framing and the date",
        "GET",
        b"HTTP/1.1 200 OK\r\nConnection: content-length, date, content-type, \r\nContent-Type: text/plain\r\n\
         Date: a\r\nContent-Length: 3\r\n\r\nabc",
        Whole(200, "abc"),
    ),
    (
        "fields twice",
        "GET",
        b"HTTP/1.1 200 OK\r\nDate: a\r\nDate: b\r\nSet-Cookie: a\r\nX-A:\r\nSET-COOKIE: b\r\n\
         Cache-Control: no-store\r\nServer: x\r\nContent-Length: 3\r\n\r\nabc",
        Whole(200, "abc"),
    ),
    (
        "fields of the hop",
        "GET",
        b"HTTP/1.1 200 OK\r\nConnection: x-secret, keep-alive\r\nX-Secret: 1\r\n\
         Keep-Alive: timeout=5\r\nProxy-Authenticate: Basic\r\nProxy-Connection: close\r\n\
         Upgrade: h2c\r\nContent-Length: 3\r\n\r\nabc",
        Whole(200, "abc"),
    ),
];

/// The connection is closed behind these.
const CLOSED: &[Row] = &[
    ("nothing", "GET", b"", Broken),
    ("half a status line", "GET", b"HTTP/1.1 20", Broken),
    ("half a header", "GET", b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n", Broken),
    ("half a body", "GET", b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc", Cut),
    ("no body", "GET", b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n", Cut),
    ("half a chunk", "GET", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nabc", Cut),
    ("no last chunk", "GET", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n", Cut),
    ("half of the last chunk", "GET", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n", Cut),
    (
        "half a trailer",
        "GET",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: x-a\r\n\r\n3\r\nabc\r\n0\r\nX-A: b",
        Cut,
    ),
    ("interim answers only", "GET", b"HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 103 Early Hints\r\n\r\n", Broken),
    ("no framing", "GET", b"HTTP/1.1 200 OK\r\nX-A: b\r\n\r\nabc", Whole(200, "abc")),
    ("no framing, of HTTP/1.0", "GET", b"HTTP/1.0 200 OK\r\nX-A: b\r\n\r\nabc", Whole(200, "abc")),
    (
        "no framing, with an answer within",
        "GET",
        b"HTTP/1.1 200 OK\r\n\r\nHTTP/1.1 200 OK",
        Whole(200, "HTTP/1.1 200 OK"),
    ),
    ("no header (HTTP/0.9)", "GET", b"hello\r\n", Broken),
    ("a page without a header", "GET", b"<html>\r\n\r\n</html>", Broken),
    ("more than its length", "GET", b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabcdef", Whole(200, "abc")),
    ("a greeting of TLS", "GET", b"\x15\x03\x01\x00\x02\x02\x28", Broken),
    ("a preface of HTTP/2", "GET", b"\x00\x00\x00\x04\x00\x00\x00\x00\x00", Broken),
];

/// One attempt.
pub(super) struct Case {
    pub(super) name: String,
    pub(super) method: &'static str,
    pub(super) answer: Answer,
    pub(super) verdict: Verdict,
    /// What else it sends comes so long after its answer.
    pub(super) later: Duration,
}

pub(super) fn all() -> Vec<Case> {
    let open =
        OPEN.iter().map(|(name, method, bytes, verdict)| (*name, *method, Answer::Bytes(bytes.to_vec()), *verdict));
    let closed =
        CLOSED.iter().map(|(name, method, bytes, verdict)| (*name, *method, Answer::Close(bytes.to_vec()), *verdict));
    let mut cases: Vec<Case> = open
        .chain(closed)
        .map(|(name, method, answer, verdict)| {
            let kind = if matches!(answer, Answer::Close(_)) { "closed" } else { "open" };
            Case { name: format!("{kind}: {name}"), method, answer, verdict, later: Duration::ZERO }
        })
        .collect();
    cases.extend(large());
    cases.extend(late());
    cases.extend(halves());
    cases
}

/// Those whose connection stays open, in two pieces that come apart.
fn halves() -> Vec<Case> {
    let apart = Duration::from_millis(5);
    let mut cases = Vec::new();
    for (name, method, bytes, verdict) in OPEN {
        for (what, at) in [("half", bytes.len() / 2), ("nearly all", bytes.len().saturating_sub(3))] {
            let (first, rest) = bytes.split_at(at);
            let answer = Answer::Slowly(vec![(Duration::ZERO, first.to_vec()), (apart, rest.to_vec())]);
            cases.push(Case { name: format!("{what} first: {name}"), method, answer, verdict: *verdict, later: apart });
        }
    }
    cases
}

/// What is too much of something.
fn large() -> Vec<Case> {
    let case = |name: &str, bytes: String, verdict| Case {
        name: format!("large: {name}"),
        method: "GET",
        answer: Answer::Bytes(bytes.into_bytes()),
        verdict,
        later: Duration::ZERO,
    };
    let body = "Content-Length: 3\r\n\r\nabc";
    vec![
        case("a value of 1 MiB", format!("HTTP/1.1 200 OK\r\nX-A: {}\r\n{body}", "b".repeat(1 << 20)), Broken),
        case("a name of 100,000 bytes", format!("HTTP/1.1 200 OK\r\n{}: b\r\n{body}", "x".repeat(100_000)), Broken),
        case("201 fields", format!("HTTP/1.1 200 OK\r\n{}{body}", "X-A: b\r\n".repeat(200)), Broken),
        case("a reason of 1 MiB", format!("HTTP/1.1 200 {}\r\n{body}", "b".repeat(1 << 20)), Broken),
        case(
            "a thousand interim answers",
            format!("{}HTTP/1.1 200 OK\r\n{body}", "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n".repeat(1000)),
            Whole(200, "abc"),
        ),
        case(
            "an extension of 20,000 bytes",
            format!(
                "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3;{}\r\nabc\r\n0\r\n\r\n",
                "e".repeat(20_000)
            ),
            Cut,
        ),
        case(
            "trailers of 1 MiB",
            format!(
                "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: x-a\r\n\r\n3\r\nabc\r\n0\r\n\
                     X-A: {}\r\n\r\n",
                "b".repeat(1 << 20)
            ),
            Cut,
        ),
    ]
}

/// What comes while the connection is unused: an answer to a request that was not sent yet.
fn late() -> Vec<Case> {
    const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc";
    const STOLEN: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nstolen";
    const HINTS: &[u8] = b"HTTP/1.1 103 Early Hints\r\nLink: </stolen>\r\n\r\n";
    let rows: [(&str, u64, &[u8]); 5] = [
        ("an answer at once", 1, STOLEN),
        ("an answer after a while", 30, STOLEN),
        ("half an answer", 5, &STOLEN[..30]),
        ("an interim answer", 5, HINTS),
        ("an empty line", 5, b"\r\n"),
    ];
    rows.into_iter()
        .map(|(name, after, more)| {
            let later = Duration::from_millis(after);
            let pieces = vec![(Duration::ZERO, ANSWER.to_vec()), (later, more.to_vec())];
            let answer = Answer::Slowly(pieces);
            Case { name: format!("late: {name}"), method: "GET", answer, verdict: Whole(200, "abc"), later }
        })
        .collect()
}
