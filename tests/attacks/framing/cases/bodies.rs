//! Bodies that look like requests, requests behind bodies, and clients that end in the middle.

use crate::framing::case::Verdict::{Cut, Deny, Forward, Several};
use crate::framing::case::{Case, Form, Verdict, posts};

const fn get(line: &'static str) -> Form {
    Form { line, host: "a", fields: &[], body: "" }
}

const fn post(body: &'static str) -> Form {
    Form { line: "POST /public/c", host: "a", fields: &[], body }
}

const WHOLE: &[(&str, &str, Verdict)] = &[
    (
        "a request within a length",
        "POST /public/c HTTP/1.1\r\nHost: a\r\nContent-Length: 35\r\n\r\n\
             GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n",
        posts("GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n"),
    ),
    (
        "a request within a chunk",
        "POST /public/c HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n23\r\n\
             GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n\r\n0\r\n\r\n",
        posts("GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n"),
    ),
    (
        "a request within a GET",
        "GET /public/c HTTP/1.1\r\nHost: a\r\nContent-Length: 35\r\n\r\n\
             GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n",
        Forward(Form {
            line: "GET /public/c",
            host: "a",
            fields: &[],
            body: "GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n",
        }),
    ),
    (
        "the request behind it within its length",
        "POST /public/c HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\n0\r\n\r\n",
        posts("0\r\n\r\n"),
    ),
    (
        "an empty line behind a length",
        "POST /public/c HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc\r\n",
        posts("abc"),
    ),
    (
        "two behind each other",
        "POST /public/c HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\n\
             abcGET /public/d HTTP/1.1\r\nHost: a\r\n\r\n",
        Several(&[post("abc"), get("GET /public/d")]),
    ),
    (
        "three behind each other",
        "GET /public/d HTTP/1.1\r\nHost: a\r\n\r\nPOST /public/c HTTP/1.1\r\nHost: a\r\n\
             Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\nPOST /public/c HTTP/1.1\r\n\
             Host: a\r\nContent-Length: 2\r\n\r\nde",
        Several(&[get("GET /public/d"), post("abc"), post("de")]),
    ),
    (
        "one behind a POST without a framing",
        "POST /public/c HTTP/1.1\r\nHost: a\r\n\r\nGET /public/d HTTP/1.1\r\nHost: a\r\n\r\n",
        Several(&[post(""), get("GET /public/d")]),
    ),
    (
        "one behind a length of nothing (CL.0)",
        "POST /public/c HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n\
             GET /public/d HTTP/1.1\r\nHost: a\r\n\r\n",
        Several(&[post(""), get("GET /public/d")]),
    ),
    (
        "one behind a last chunk",
        "POST /public/c HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n\
             GET /public/d HTTP/1.1\r\nHost: a\r\n\r\n",
        Several(&[post(""), get("GET /public/d")]),
    ),
    (
        "refused with a length that has a request within",
        "POST /closed HTTP/1.1\r\nHost: a\r\nContent-Length: 42\r\n\r\n\
             GET /public/smuggled HTTP/1.1\r\nHost: a\r\n\r\n",
        Deny(401),
    ),
    (
        "refused with a chunk that has a request within",
        "POST /closed HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n2a\r\n\
             GET /public/smuggled HTTP/1.1\r\nHost: a\r\n\r\n\r\n0\r\n\r\n",
        Deny(401),
    ),
    (
        "refused with a path that is none and a request within",
        "POST /public/..%2f HTTP/1.1\r\nHost: a\r\nContent-Length: 42\r\n\r\n\
             GET /public/smuggled HTTP/1.1\r\nHost: a\r\n\r\n",
        Deny(400),
    ),
    (
        "refused while its body is expected",
        "POST /closed HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 42\r\n\r\n\
             GET /public/smuggled HTTP/1.1\r\nHost: a\r\n\r\n",
        Deny(401),
    ),
    (
        "one behind a body of HTTP/1.0 that is kept alive",
        "POST /public/c HTTP/1.0\r\nHost: a\r\nConnection: keep-alive\r\nContent-Length: 3\r\n\r\nabc",
        posts("abc"),
    ),
];

/// The client sends no more.
const CUT: &[(&str, &str)] = &[
    ("nothing but a line", "GET /public/c HTTP/1.1\r\n"),
    ("within the method", "GE"),
    ("within the target", "GET /public"),
    ("within the version", "GET /public/c HTTP/1."),
    ("within a name", "GET /public/c HTTP/1.1\r\nHo"),
    ("within a value", "GET /public/c HTTP/1.1\r\nHost: a"),
    ("before the empty line", "GET /public/c HTTP/1.1\r\nHost: a\r\n"),
    ("within the empty line", "GET /public/c HTTP/1.1\r\nHost: a\r\n\r"),
    ("before the body", "POST /public/c HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\n"),
    ("within the body", "POST /public/c HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nabc"),
    ("one byte before the end of the body", "POST /public/c HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\nabc"),
    ("before the first chunk", "POST /public/c HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"),
    ("within a size", "POST /public/c HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3"),
    ("within a size's end", "POST /public/c HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r"),
    ("within an extension", "POST /public/c HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3;a"),
    ("within a chunk", "POST /public/c HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nab"),
    ("behind a chunk's data", "POST /public/c HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc"),
    ("behind a chunk", "POST /public/c HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n"),
    (
        "behind the last size",
        "POST /public/c HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n",
    ),
    (
        "within the last line",
        "POST /public/c HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r",
    ),
    (
        "within a trailer",
        "POST /public/c HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nX-A: b",
    ),
    (
        "within a chunk of 2^62 bytes",
        "POST /public/c HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n4000000000000000\r\nab",
    ),
    (
        "before a body that is expected",
        "POST /public/c HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\n",
    ),
];

pub(super) fn cases() -> Vec<Case> {
    let mut cases: Vec<Case> =
        WHOLE.iter().map(|(name, bytes, verdict)| Case::new(format!("body: {name}"), bytes, *verdict)).collect();
    cases.extend(CUT.iter().map(|(name, bytes)| Case::new(format!("cut: {name}"), bytes, Cut)));
    // The body is as long as the request that comes behind it: swallowed, it is never answered as one.
    let swallowed = crate::framing::case::AFTER;
    let bytes = format!("POST /public/c HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n{swallowed}", swallowed.len());
    cases.push(Case::new("body: the request behind it", bytes, posts(swallowed)));
    cases
}
