//! `Transfer-Encoding` in every spelling, alone and beside `Content-Length` (RFC 9112 §6.1, §6.3).

use crate::framing::case::Verdict::{Last, Refuse};
use crate::framing::case::{Case, Form, Verdict, gets, posts};

/// The field lines of a request with the body `abc` in one chunk.
const CODINGS: &[(&str, &[u8], Verdict)] = &[
    ("chunked", b"Transfer-Encoding: chunked\r\n", posts("abc")),
    ("upper case", b"TRANSFER-ENCODING: CHUNKED\r\n", posts("abc")),
    ("mixed case", b"tRANSFER-eNCODING: cHuNkEd\r\n", posts("abc")),
    ("no space", b"Transfer-Encoding:chunked\r\n", posts("abc")),
    ("tabs around", b"Transfer-Encoding:\tchunked\t\r\n", posts("abc")),
    ("spaces around", b"Transfer-Encoding:   chunked  \r\n", posts("abc")),
    ("gzip below", b"Transfer-Encoding: gzip, chunked\r\n", Refuse(501)),
    ("deflate below, no space", b"Transfer-Encoding: deflate,chunked\r\n", Refuse(501)),
    ("unknown below", b"Transfer-Encoding: cow, chunked\r\n", Refuse(501)),
    ("identity below", b"Transfer-Encoding: identity, chunked\r\n", Refuse(501)),
    ("two below", b"Transfer-Encoding: compress, gzip, chunked\r\n", Refuse(501)),
    ("twice in a list", b"Transfer-Encoding: chunked, chunked\r\n", Refuse(400)),
    ("not last", b"Transfer-Encoding: chunked, gzip\r\n", Refuse(400)),
    ("not last, identity", b"Transfer-Encoding: chunked, identity\r\n", Refuse(400)),
    ("gzip", b"Transfer-Encoding: gzip\r\n", Refuse(400)),
    ("identity", b"Transfer-Encoding: identity\r\n", Refuse(400)),
    ("empty", b"Transfer-Encoding:\r\n", Refuse(400)),
    ("white space only", b"Transfer-Encoding: \t\r\n", Refuse(400)),
    ("comma behind", b"Transfer-Encoding: chunked,\r\n", Refuse(400)),
    ("comma before", b"Transfer-Encoding: ,chunked\r\n", Refuse(400)),
    ("parameter", b"Transfer-Encoding: chunked;a=b\r\n", Refuse(400)),
    ("weight", b"Transfer-Encoding: chunked;q=1.0\r\n", Refuse(400)),
    ("semicolon", b"Transfer-Encoding: chunked;\r\n", Refuse(400)),
    ("double quotes", b"Transfer-Encoding: \"chunked\"\r\n", Refuse(400)),
    ("single quotes", b"Transfer-Encoding: 'chunked'\r\n", Refuse(400)),
    ("letter before", b"Transfer-Encoding: xchunked\r\n", Refuse(400)),
    ("letter behind", b"Transfer-Encoding: chunkedx\r\n", Refuse(400)),
    ("cut short", b"Transfer-Encoding: chunke\r\n", Refuse(400)),
    ("space within", b"Transfer-Encoding: chun ked\r\n", Refuse(400)),
    ("space for the comma", b"Transfer-Encoding: gzip chunked\r\n", Refuse(400)),
    ("word behind a tab", b"Transfer-Encoding: chunked\tx\r\n", Refuse(400)),
    ("colon before", b"Transfer-Encoding: :chunked\r\n", Refuse(400)),
    ("two colons", b"Transfer-Encoding:: chunked\r\n", Refuse(400)),
    ("NUL behind", b"Transfer-Encoding: chunked\0\r\n", Refuse(400)),
    ("NUL before", b"Transfer-Encoding: \0chunked\r\n", Refuse(400)),
    ("vertical tab before", b"Transfer-Encoding: \x0bchunked\r\n", Refuse(400)),
    ("vertical tab behind", b"Transfer-Encoding: chunked\x0b\r\n", Refuse(400)),
    ("form feed before", b"Transfer-Encoding: \x0cchunked\r\n", Refuse(400)),
    ("backspace", b"Transfer-Encoding: chunkedd\x08\r\n", Refuse(400)),
    ("bare CR behind", b"Transfer-Encoding: chunked\r\r\n", Refuse(400)),
    ("bare CR before", b"Transfer-Encoding: \rchunked\r\n", Refuse(400)),
    ("bare LF before", b"Transfer-Encoding:\nchunked\r\n", Refuse(400)),
    ("bare LF behind", b"Transfer-Encoding: chunked\n\r\n", Refuse(400)),
    ("NBSP before", b"Transfer-Encoding: \xa0chunked\r\n", Refuse(400)),
    ("NEL before", b"Transfer-Encoding: \x85chunked\r\n", Refuse(400)),
    ("0xff behind", b"Transfer-Encoding: chunked\xff\r\n", Refuse(400)),
    ("full-width letter", b"Transfer-Encoding: \xef\xbd\x83hunked\r\n", Refuse(400)),
    ("Kelvin sign for the k", b"Transfer-Encoding: chun\xe2\x84\xaaed\r\n", Refuse(400)),
    ("folded", b"Transfer-Encoding:\r\n chunked\r\n", Refuse(400)),
    ("folded with a tab", b"Transfer-Encoding:\r\n\tchunked\r\n", Refuse(400)),
    ("folded behind", b"Transfer-Encoding: chunked\r\n , gzip\r\n", Refuse(400)),
    ("twice", b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n", Refuse(400)),
    ("then identity", b"Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n", Refuse(400)),
    ("after identity", b"Transfer-Encoding: identity\r\nTransfer-Encoding: chunked\r\n", Refuse(400)),
    ("after gzip", b"Transfer-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n", Refuse(400)),
    ("then empty", b"Transfer-Encoding: chunked\r\nTransfer-Encoding:\r\n", Refuse(400)),
    ("after empty", b"Transfer-Encoding:\r\nTransfer-Encoding: chunked\r\n", Refuse(400)),
    ("twice in two cases", b"Transfer-Encoding: chunked\r\ntransfer-encoding: chunked\r\n", Refuse(400)),
    ("space before the colon", b"Transfer-Encoding : chunked\r\n", Refuse(400)),
    ("tab before the colon", b"Transfer-Encoding\t: chunked\r\n", Refuse(400)),
    ("vertical tab before the colon", b"Transfer-Encoding\x0b: chunked\r\n", Refuse(400)),
    ("space before the name", b" Transfer-Encoding: chunked\r\n", Refuse(400)),
    ("tab before the name", b"\tTransfer-Encoding: chunked\r\n", Refuse(400)),
    ("CR before the name", b"\rTransfer-Encoding: chunked\r\n", Refuse(400)),
    ("line break before the colon", b"Transfer-Encoding\r\n: chunked\r\n", Refuse(400)),
    ("bare LF before the colon", b"Transfer-Encoding\n: chunked\r\n", Refuse(400)),
    ("space within the name", b"Transfer Encoding: chunked\r\n", Refuse(400)),
    ("NUL within the name", b"Transfer\0-Encoding: chunked\r\n", Refuse(400)),
    ("NUL behind the name", b"Transfer-Encoding\0: chunked\r\n", Refuse(400)),
    ("equals sign for the colon", b"Transfer-Encoding= chunked\r\n", Refuse(400)),
    ("no colon", b"Transfer-Encoding chunked\r\n", Refuse(400)),
    ("soft hyphen in the name", b"Transfer\xc2\xadEncoding: chunked\r\n", Refuse(400)),
    ("hidden behind a bare LF", b"X-A: b\nTransfer-Encoding: chunked\r\n", Refuse(400)),
    ("hidden behind a bare CR", b"X-A: b\rTransfer-Encoding: chunked\r\n", Refuse(400)),
    ("hidden behind LF CR", b"X-A: b\n\rTransfer-Encoding: chunked\r\n", Refuse(400)),
    ("hidden in a folded line", b"X-A: b\r\n Transfer-Encoding: chunked\r\n", Refuse(400)),
    ("beside a length", b"Content-Length: 13\r\nTransfer-Encoding: chunked\r\n", Refuse(400)),
    ("before a length", b"Transfer-Encoding: chunked\r\nContent-Length: 13\r\n", Refuse(400)),
    ("beside a length of nothing", b"Content-Length: 0\r\nTransfer-Encoding: chunked\r\n", Refuse(400)),
    ("beside a length, identity", b"Content-Length: 13\r\nTransfer-Encoding: identity\r\n", Refuse(400)),
    ("beside a length, empty", b"Content-Length: 13\r\nTransfer-Encoding:\r\n", Refuse(400)),
    ("beside a malformed length", b"Content-Length: x\r\nTransfer-Encoding: chunked\r\n", Refuse(400)),
    ("beside two lengths", b"Content-Length: 1\r\nTransfer-Encoding: chunked\r\nContent-Length: 2\r\n", Refuse(400)),
    (
        "length named by Connection",
        b"Connection: content-length\r\nContent-Length: 13\r\nTransfer-Encoding: chunked\r\n",
        Refuse(400),
    ),
    (
        "coding named by Connection",
        b"Connection: transfer-encoding\r\nContent-Length: 13\r\nTransfer-Encoding: chunked\r\n",
        Refuse(400),
    ),
];

/// Requests whose coding is in doubt, with the length that the other reading would go by: classic desynchronisations.
const DESYNCHRONISATIONS: &[(&str, &[u8], &[u8], Verdict)] = &[
    ("CL.TE", b"Content-Length: 6\r\nTransfer-Encoding: chunked\r\n", b"0\r\n\r\nG", Refuse(400)),
    (
        "CL.TE with a request within",
        b"Content-Length: 49\r\nTransfer-Encoding: chunked\r\n",
        b"0\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: a\r\nX-Swallow: x",
        Refuse(400),
    ),
    (
        "TE.CL",
        b"Content-Length: 4\r\nTransfer-Encoding: chunked\r\n",
        b"26\r\nGET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n\r\n0\r\n\r\n",
        Refuse(400),
    ),
    (
        "TE.TE, the second unknown",
        b"Content-Length: 4\r\nTransfer-Encoding: chunked\r\nTransfer-encoding: cow\r\n",
        b"3\r\nabc\r\n0\r\n\r\n",
        Refuse(400),
    ),
    (
        "TE.TE, the first quoted",
        b"Content-Length: 4\r\nTransfer-Encoding: \"chunked\"\r\nTransfer-Encoding: chunked\r\n",
        b"3\r\nabc\r\n0\r\n\r\n",
        Refuse(400),
    ),
    (
        "TE.CL with a tab in the name",
        b"Content-Length: 4\r\nTransfer-Encoding\t: chunked\r\n",
        b"3\r\nabc\r\n0\r\n\r\n",
        Refuse(400),
    ),
    (
        "TE.CL with a bare LF before",
        b"Content-Length: 4\r\nX: X\nTransfer-Encoding: chunked\r\n",
        b"3\r\nabc\r\n0\r\n\r\n",
        Refuse(400),
    ),
    (
        "TE.CL with a bare CR before",
        b"Content-Length: 4\r\nX: X\rTransfer-Encoding: chunked\r\n",
        b"3\r\nabc\r\n0\r\n\r\n",
        Refuse(400),
    ),
    (
        "TE.CL with a folded value",
        b"Content-Length: 4\r\nTransfer-Encoding:\r\n chunked\r\n",
        b"3\r\nabc\r\n0\r\n\r\n",
        Refuse(400),
    ),
    (
        "TE.CL with a wrong word",
        b"Content-Length: 4\r\nTransfer-Encoding: xchunked\r\n",
        b"3\r\nabc\r\n0\r\n\r\n",
        Refuse(400),
    ),
    (
        "TE.CL with a control byte",
        b"Content-Length: 4\r\nTransfer-Encoding: \x0bchunked\r\n",
        b"3\r\nabc\r\n0\r\n\r\n",
        Refuse(400),
    ),
    ("TE.CL with the underscore twin", b"Content-Length: 3\r\nTransfer_Encoding: chunked\r\n", b"abc", posts("abc")),
    ("TE.CL with the dotted twin", b"Content-Length: 3\r\nTransfer.Encoding: chunked\r\n", b"abc", posts("abc")),
];

/// Names that are only like it, of a request without a body.
const TWINS: &[(&str, &[u8], Verdict)] = &[
    ("underscore twin alone", b"Transfer_Encoding: chunked\r\n", gets(&[])),
    ("another name that ends so", b"X-Transfer-Encoding: chunked\r\n", gets(&[("x-transfer-encoding", "chunked")])),
    ("Content-Encoding", b"Content-Encoding: chunked\r\n", gets(&[("content-encoding", "chunked")])),
    ("Accept-Encoding", b"Accept-Encoding: chunked\r\n", gets(&[("accept-encoding", "chunked")])),
];

pub(super) fn cases() -> Vec<Case> {
    let body = b"3\r\nabc\r\n0\r\n\r\n";
    let mut cases: Vec<Case> =
        CODINGS.iter().map(|(name, fields, verdict)| Case::post("coding", name, fields, body, *verdict)).collect();
    let attempt = |(name, fields, body, verdict): &(&str, &[u8], &[u8], Verdict)| {
        Case::post("desynchronisation", name, fields, body, *verdict)
    };
    cases.extend(DESYNCHRONISATIONS.iter().map(attempt));
    cases.extend(TWINS.iter().map(|(name, fields, verdict)| Case::get("coding", name, fields, *verdict)));
    for (name, method, version, fields, verdict) in [
        ("of HTTP/1.0", "POST", "1.0", "", Refuse(400)),
        ("of HTTP/1.0 that is kept alive", "POST", "1.0", "Connection: keep-alive\r\n", Refuse(400)),
        ("of HTTP/1.0 beside a length", "POST", "1.0", "Content-Length: 13\r\n", Refuse(400)),
        ("of GET", "GET", "1.1", "", Verdict::Forward(LINE)),
        ("of GET that is the last", "GET", "1.1", "Connection: close\r\n", Last(LINE)),
    ] {
        let head =
            format!("{method} /public/c HTTP/{version}\r\nHost: a\r\n{fields}Transfer-Encoding: chunked\r\n\r\n");
        cases.push(Case::new(format!("coding: {name}"), [head.as_bytes(), body].concat(), verdict));
    }
    cases
}

const LINE: Form = Form { line: "GET /public/c", host: "a", fields: &[], body: "abc" };
