//! `Content-Length` in every spelling (RFC 9110 §8.6, RFC 9112 §6.3).

use crate::framing::case::Verdict::{Deny, Forward, Refuse, Several};
use crate::framing::case::{Case, Form, Verdict, gets, posts};

/// The field lines of a request with the body `abc`.
const LENGTHS: &[(&str, &[u8], Verdict)] = &[
    ("plain", b"Content-Length: 3\r\n", posts("abc")),
    ("lower case", b"content-length: 3\r\n", posts("abc")),
    ("upper case", b"CONTENT-LENGTH: 3\r\n", posts("abc")),
    ("no space", b"Content-Length:3\r\n", posts("abc")),
    ("spaces around", b"Content-Length:   3  \r\n", posts("abc")),
    ("tabs around", b"Content-Length:\t3\t\r\n", posts("abc")),
    ("plus", b"Content-Length: +3\r\n", Refuse(400)),
    ("minus", b"Content-Length: -3\r\n", Refuse(400)),
    ("minus zero", b"Content-Length: -0\r\n", Refuse(400)),
    ("plus zero", b"Content-Length: +0\r\n", Refuse(400)),
    ("leading zero", b"Content-Length: 03\r\n", Refuse(400)),
    ("two leading zeros", b"Content-Length: 003\r\n", Refuse(400)),
    ("two zeros", b"Content-Length: 00\r\n", Refuse(400)),
    ("hexadecimal", b"Content-Length: 0x3\r\n", Refuse(400)),
    ("hexadecimal digit", b"Content-Length: a\r\n", Refuse(400)),
    ("octal", b"Content-Length: 0o3\r\n", Refuse(400)),
    ("exponent", b"Content-Length: 3e0\r\n", Refuse(400)),
    ("fraction", b"Content-Length: 3.0\r\n", Refuse(400)),
    ("underscore", b"Content-Length: 3_0\r\n", Refuse(400)),
    ("letter behind", b"Content-Length: 3a\r\n", Refuse(400)),
    ("letter before", b"Content-Length: a3\r\n", Refuse(400)),
    ("parameter", b"Content-Length: 3;a=b\r\n", Refuse(400)),
    ("quoted", b"Content-Length: \"3\"\r\n", Refuse(400)),
    ("empty", b"Content-Length:\r\n", Refuse(400)),
    ("white space only", b"Content-Length: \t \r\n", Refuse(400)),
    ("space within", b"Content-Length: 3 3\r\n", Refuse(400)),
    ("tab within", b"Content-Length: 3\t3\r\n", Refuse(400)),
    ("list of equals", b"Content-Length: 3, 3\r\n", Refuse(400)),
    ("list of equals without space", b"Content-Length: 3,3\r\n", Refuse(400)),
    ("list of others", b"Content-Length: 3, 4\r\n", Refuse(400)),
    ("list with an empty end", b"Content-Length: 3,\r\n", Refuse(400)),
    ("list with an empty start", b"Content-Length: ,3\r\n", Refuse(400)),
    ("comma only", b"Content-Length: ,\r\n", Refuse(400)),
    ("NUL behind", b"Content-Length: 3\0\r\n", Refuse(400)),
    ("NUL before", b"Content-Length: \x003\r\n", Refuse(400)),
    ("vertical tab before", b"Content-Length: \x0b3\r\n", Refuse(400)),
    ("form feed before", b"Content-Length: \x0c3\r\n", Refuse(400)),
    ("bare CR behind", b"Content-Length: 3\r\r\n", Refuse(400)),
    ("bare CR before", b"Content-Length: \r3\r\n", Refuse(400)),
    ("bare LF behind", b"Content-Length: 3\n\r\n", Refuse(400)),
    ("NBSP of Latin-1 before", b"Content-Length: \xa03\r\n", Refuse(400)),
    ("NEL before", b"Content-Length: \x853\r\n", Refuse(400)),
    ("NBSP of UTF-8 behind", b"Content-Length: 3\xc2\xa0\r\n", Refuse(400)),
    ("full-width digit", b"Content-Length: \xef\xbc\x93\r\n", Refuse(400)),
    ("Arabic digit", b"Content-Length: \xd9\xa3\r\n", Refuse(400)),
    ("superscript digit", b"Content-Length: \xc2\xb3\r\n", Refuse(400)),
    ("byte order mark", b"Content-Length: \xef\xbb\xbf3\r\n", Refuse(400)),
    ("2^64", b"Content-Length: 18446744073709551616\r\n", Refuse(400)),
    ("wraps to 3 in 64 bits", b"Content-Length: 18446744073709551619\r\n", Refuse(400)),
    ("wraps to 3 in 128 bits", b"Content-Length: 340282366920938463463374607431768211459\r\n", Refuse(400)),
    ("wraps to 3 in 32 bits", b"Content-Length: 4294967299\r\n", Refuse(413)),
    ("2^63-1", b"Content-Length: 9223372036854775807\r\n", Refuse(413)),
    ("2^63", b"Content-Length: 9223372036854775808\r\n", Refuse(400)),
    ("2^64-1", b"Content-Length: 18446744073709551615\r\n", Refuse(400)),
    ("forty digits", b"Content-Length: 1000000000000000000000000000000000000003\r\n", Refuse(400)),
    ("folded", b"Content-Length:\r\n 3\r\n", Refuse(400)),
    ("folded within", b"Content-Length: 3\r\n 4\r\n", Refuse(400)),
    ("twice, equal", b"Content-Length: 3\r\nContent-Length: 3\r\n", Refuse(400)),
    ("twice, the second larger", b"Content-Length: 3\r\nContent-Length: 4\r\n", Refuse(400)),
    ("twice, the first larger", b"Content-Length: 4\r\nContent-Length: 3\r\n", Refuse(400)),
    ("twice, the first nothing", b"Content-Length: 0\r\nContent-Length: 3\r\n", Refuse(400)),
    ("twice, the second nothing", b"Content-Length: 3\r\nContent-Length: 0\r\n", Refuse(400)),
    ("twice, the first empty", b"Content-Length:\r\nContent-Length: 3\r\n", Refuse(400)),
    ("twice in two cases", b"Content-Length: 3\r\ncontent-length: 3\r\n", Refuse(400)),
    ("twice with another between", b"Content-Length: 3\r\nX-A: b\r\nContent-Length: 4\r\n", Refuse(400)),
    ("three times", b"Content-Length: 3\r\nContent-Length: 3\r\nContent-Length: 3\r\n", Refuse(400)),
    ("space before the colon", b"Content-Length : 3\r\n", Refuse(400)),
    ("tab before the colon", b"Content-Length\t: 3\r\n", Refuse(400)),
    ("space before the name", b" Content-Length: 3\r\n", Refuse(400)),
    ("NUL within the name", b"Content\0-Length: 3\r\n", Refuse(400)),
    ("space within the name", b"Content Length: 3\r\n", Refuse(400)),
    ("two colons", b"Content-Length:: 3\r\n", Refuse(400)),
    ("equals sign for the colon", b"Content-Length= 3\r\n", Refuse(400)),
    ("underscore twin beside it", b"Content-Length: 3\r\nContent_Length: 30\r\n", posts("abc")),
    ("dotted twin beside it", b"Content-Length: 3\r\nContent.Length: 30\r\n", posts("abc")),
];

/// Names that are only like it, of a request without a body.
const TWINS: &[(&str, &[u8], Verdict)] = &[
    ("underscore twin alone", b"Content_Length: 30\r\n", gets(&[])),
    ("another name that ends so", b"X-Content-Length: 30\r\n", gets(&[("x-content-length", "30")])),
    ("another name that begins so", b"Content-Lengths: 30\r\n", gets(&[("content-lengths", "30")])),
    ("apostrophe twin alone", b"Content'Length: 30\r\n", gets(&[])),
];

pub(super) fn cases() -> Vec<Case> {
    let mut cases: Vec<Case> =
        LENGTHS.iter().map(|(name, fields, verdict)| Case::post("length", name, fields, b"abc", *verdict)).collect();
    cases.extend(TWINS.iter().map(|(name, fields, verdict)| Case::get("length", name, fields, *verdict)));
    cases.extend(methods());
    let digits = format!("Content-Length: {}\r\n", "9".repeat(4000));
    cases.push(Case::post("length", "four thousand digits", digits.as_bytes(), b"abc", Refuse(400)));
    cases
}

/// With every method, a body is a body.
fn methods() -> Vec<Case> {
    let line = |line, body| Form { line, host: "a", fields: &[], body };
    let with = |method: &str, version: &str, length: usize, body: &str, verdict| {
        let head = format!("{method} /public/c HTTP/{version}\r\nHost: a\r\nContent-Length: {length}\r\n\r\n{body}");
        Case::new(format!("length: {method} of HTTP/{version} with {length}"), head, verdict)
    };
    vec![
        with("GET", "1.1", 3, "abc", Forward(line("GET /public/c", "abc"))),
        with("HEAD", "1.1", 3, "abc", Forward(line("HEAD /public/c", "abc"))),
        with("DELETE", "1.1", 3, "abc", Forward(line("DELETE /public/c", "abc"))),
        with("OPTIONS", "1.1", 3, "abc", Forward(line("OPTIONS /public/c", "abc"))),
        with("PROPFIND", "1.1", 3, "abc", Forward(line("PROPFIND /public/c", "abc"))),
        with("GET", "1.1", 0, "", Forward(line("GET /public/c", ""))),
        with("POST", "1.1", 0, "", posts("")),
        with("POST", "1.0", 3, "abc", Verdict::Last(line("POST /public/c", "abc"))),
        with("TRACE", "1.1", 3, "abc", Deny(501)),
        with("CONNECT", "1.1", 3, "abc", Refuse(501)),
        // What is behind the body is the next request, whatever it looks like.
        with(
            "POST",
            "1.1",
            2,
            "abcGET /public/x HTTP/1.1\r\nHost: a\r\n\r\n",
            Several(&[
                Form { line: "POST /public/c", host: "a", fields: &[], body: "ab" },
                Form { line: "cGET /public/x", host: "a", fields: &[], body: "" },
            ]),
        ),
    ]
}
