//! Fields that are for one hop, or that say how to read the request (RFC 9110 §7.6.1, §7.8, §10.1.1): what they do to
//! its framing, and what of them is passed on.

use crate::framing::case::Verdict::{Forward, Last, Refuse};
use crate::framing::case::{Case, Form, Verdict, gets, posts};

/// The field lines of a `GET`.
const GETS: &[(&str, &[u8], Verdict)] = &[
    ("Connection: close", b"Connection: close\r\n", Last(plain("GET /public/c", ""))),
    ("Connection: CLOSE", b"Connection: CLOSE\r\n", Last(plain("GET /public/c", ""))),
    ("Connection: keep-alive", b"Connection: keep-alive\r\nKeep-Alive: timeout=5\r\n", gets(&[])),
    ("Connection: host", b"Connection: host\r\n", gets(&[])),
    ("Connection: a client's field", b"Connection: x-a\r\nX-A: b\r\nX-B: c\r\n", gets(&[("x-b", "c")])),
    (
        "Connection: the gateway's fields",
        b"Connection: via, x-request-id, x-forwarded-for, forwarded, traceparent\r\n",
        gets(&[]),
    ),
    ("Connection: identity", b"Connection: X-User-Id, x-session-id\r\nX-User-Id: root\r\n", gets(&[])),
    ("Connection: no token", b"Connection: a b, (c), \"x\"\r\n", gets(&[])),
    ("Connection: empty", b"Connection:\r\n", gets(&[])),
    ("Connection: upgrade alone", b"Connection: upgrade\r\n", gets(&[])),
    ("Proxy-Connection", b"Proxy-Connection: keep-alive\r\n", gets(&[])),
    ("Proxy-Authorization", b"Proxy-Authorization: Basic eA==\r\n", gets(&[])),
    ("Proxy-Authenticate", b"Proxy-Authenticate: Basic\r\n", gets(&[])),
    ("Proxy", b"Proxy: http://evil.example\r\n", gets(&[])),
    ("TE: trailers", b"TE: trailers\r\n", gets(&[("te", "trailers"), ("connection", "te")])),
    ("TE: trailers among others", b"TE: gzip;q=0.5, trailers\r\n", gets(&[("te", "trailers"), ("connection", "te")])),
    ("TE: gzip", b"TE: gzip, deflate\r\n", gets(&[])),
    ("TE: chunked", b"TE: chunked\r\n", gets(&[])),
    ("Trailer of framing", b"Trailer: content-length, transfer-encoding, host, x-user-id\r\n", gets(&[])),
    ("Trailer of another", b"Trailer: x-a\r\n", gets(&[("trailer", "x-a")])),
    (
        "Upgrade: h2c",
        b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\n\
         HTTP2-Settings: AAMAAABkAAQAAP__\r\n",
        gets(&[]),
    ),
    ("Upgrade: h2c without Connection", b"Upgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n", gets(&[])),
    ("Upgrade: h2c beside another", b"Connection: upgrade\r\nUpgrade: h2c, websocket\r\n", gets(&[])),
    ("Upgrade: TLS/1.2", b"Connection: upgrade\r\nUpgrade: TLS/1.2\r\n", gets(&[])),
    ("Upgrade: HTTP/2.0", b"Connection: upgrade\r\nUpgrade: HTTP/2.0\r\n", gets(&[])),
    ("Upgrade: empty", b"Connection: upgrade\r\nUpgrade:\r\n", gets(&[])),
    ("Upgrade: websocket without Connection", b"Upgrade: websocket\r\n", gets(&[])),
    ("Upgrade: websocket twice", b"Connection: upgrade\r\nUpgrade: websocket\r\nUpgrade: websocket\r\n", gets(&[])),
    (
        "Upgrade: websocket that is declined",
        b"Connection: upgrade\r\nUpgrade: websocket\r\n",
        gets(&[("connection", "upgrade"), ("upgrade", "websocket")]),
    ),
    ("Expect without a body", b"Expect: 100-continue\r\n", gets(&[])),
    ("Expect of something else", b"Expect: 200-ok\r\n", gets(&[])),
    ("X-HTTP-Method-Override", b"X-HTTP-Method-Override: DELETE\r\n", gets(&[("x-http-method-override", "DELETE")])),
    ("X-Original-URL", b"X-Original-URL: /smuggled\r\nX-Original-Host: b\r\n", gets(&[])),
    ("X-Rewrite-URL", b"X-Rewrite-URL: /smuggled\r\n", gets(&[])),
    (
        "X-Forwarded-*",
        b"X-Forwarded-For: 6.6.6.6\r\nX-Forwarded-Host: b\r\nX-Forwarded-Proto: gopher\r\n\
         X-Forwarded-Uri: /smuggled\r\nX-Forwarded-Prefix: /x\r\nForwarded: for=6.6.6.6\r\n",
        gets(&[]),
    ),
    ("X-Real-IP", b"X-Real-IP: 6.6.6.6\r\nTrue-Client-IP: 6.6.6.6\r\n", gets(&[])),
    ("Authorization", b"Authorization: Bearer x\r\n", gets(&[])),
    ("Max-Forwards", b"Max-Forwards: 0\r\n", gets(&[("max-forwards", "0")])),
];

/// The field lines of a `POST`, and its body.
const POSTS: &[(&str, &[u8], &[u8], Verdict)] = &[
    ("Connection: content-length", b"Connection: content-length\r\nContent-Length: 3\r\n", b"abc", posts("abc")),
    (
        "Connection: transfer-encoding",
        b"Connection: transfer-encoding\r\nTransfer-Encoding: chunked\r\n",
        b"3\r\nabc\r\n0\r\n\r\n",
        posts("abc"),
    ),
    (
        "Connection: close, with a body",
        b"Connection: close\r\nContent-Length: 3\r\n",
        b"abc",
        Last(plain("POST /public/c", "abc")),
    ),
    ("Expect", b"Expect: 100-continue\r\nContent-Length: 3\r\n", b"abc", posts("abc")),
    (
        "Expect in chunks",
        b"Expect: 100-Continue\r\nTransfer-Encoding: chunked\r\n",
        b"3\r\nabc\r\n0\r\n\r\n",
        posts("abc"),
    ),
    ("Expect of nothing", b"Expect: 100-continue\r\nContent-Length: 0\r\n", b"", posts("")),
    ("Expect of something else, with a body", b"Expect: 100-continued\r\nContent-Length: 3\r\n", b"abc", posts("abc")),
    (
        "Upgrade: websocket with a length",
        b"Connection: upgrade\r\nUpgrade: websocket\r\nContent-Length: 3\r\n",
        b"abc",
        posts("abc"),
    ),
    (
        "Upgrade: websocket with chunks",
        b"Connection: upgrade\r\nUpgrade: websocket\r\nTransfer-Encoding: chunked\r\n",
        b"3\r\nabc\r\n0\r\n\r\n",
        posts("abc"),
    ),
    (
        "Upgrade: h2c with a length",
        b"Connection: upgrade\r\nUpgrade: h2c\r\nContent-Length: 3\r\n",
        b"abc",
        posts("abc"),
    ),
    (
        "Upgrade in two framings",
        b"Connection: upgrade\r\nUpgrade: websocket\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n",
        b"abc",
        Refuse(400),
    ),
    (
        "Trailer of framing, in chunks",
        b"Trailer: content-length\r\nTransfer-Encoding: chunked\r\n",
        b"3\r\nabc\r\n0\r\n\r\n",
        posts("abc"),
    ),
    (
        "Content-Type of a multipart",
        b"Content-Type: multipart/byteranges; boundary=x\r\nContent-Length: 0\r\n",
        b"",
        Forward(Form {
            line: "POST /public/c",
            host: "a",
            fields: &[("content-type", "multipart/byteranges; boundary=x")],
            body: "",
        }),
    ),
];

const fn plain(line: &'static str, body: &'static str) -> Form {
    Form { line, host: "a", fields: &[], body }
}

pub(super) fn cases() -> Vec<Case> {
    let mut cases: Vec<Case> =
        GETS.iter().map(|(name, fields, verdict)| Case::get("hop", name, fields, *verdict)).collect();
    cases.extend(POSTS.iter().map(|(name, fields, body, verdict)| Case::post("hop", name, fields, body, *verdict)));
    cases
}
