//! Field lines (RFC 9112 §5, RFC 9110 §5): names, colons, values, ends of lines, and the one `Host`.

use crate::framing::case::Verdict::{Deny, Forward, Refuse};
use crate::framing::case::{Case, Form, Verdict, gets};

const LINES: &[(&str, &[u8], Verdict)] = &[
    ("plain", b"X-A: b\r\n", gets(&[("x-a", "b")])),
    ("no space", b"X-A:b\r\n", gets(&[("x-a", "b")])),
    ("white space around", b"X-A: \t b \t \r\n", gets(&[("x-a", "b")])),
    ("tab within", b"X-A: b\tc\r\n", gets(&[("x-a", "b\\tc")])),
    ("empty value", b"X-A:\r\n", gets(&[("x-a", "")])),
    ("twice", b"X-A: b\r\nX-A: c\r\n", gets(&[("x-a", "b"), ("x-a", "c")])),
    ("colon in the value", b"X-A: b:c\r\n", gets(&[("x-a", "b:c")])),
    ("two colons", b"X-A:: b\r\n", gets(&[("x-a", ": b")])),
    ("Latin-1 in the value", b"X-A: \xe9\x80\xff\r\n", gets(&[("x-a", "\\xe9\\x80\\xff")])),
    ("digits in the name", b"1-2: b\r\n", gets(&[("1-2", "b")])),
    ("underscore in the name", b"X_A: b\r\n", gets(&[])),
    ("dot in the name", b"X.A: b\r\n", gets(&[])),
    ("tilde in the name", b"X~A: b\r\n", gets(&[])),
    ("exclamation mark in the name", b"X!A: b\r\n", gets(&[])),
    ("underscore twin of an identity", b"X_User_Id: root\r\n", gets(&[])),
    ("identity", b"X-User-Id: root\r\nX-Session-Id: 1\r\n", gets(&[])),
    ("identity behind a bare LF", b"X-A: b\nX-User-Id: root\r\n", Refuse(400)),
    ("identity behind a bare CR", b"X-A: b\rX-User-Id: root\r\n", Refuse(400)),
    ("identity in a folded line", b"X-A: b\r\n X-User-Id: root\r\n", Refuse(400)),
    ("identity behind NUL", b"X-A: b\0X-User-Id: root\r\n", Refuse(400)),
    ("space before the colon", b"X-A : b\r\n", Refuse(400)),
    ("tab before the colon", b"X-A\t: b\r\n", Refuse(400)),
    ("space before the name", b" X-A: b\r\n", Refuse(400)),
    ("tab before the name", b"\tX-A: b\r\n", Refuse(400)),
    ("space within the name", b"X A: b\r\n", Refuse(400)),
    ("no name", b": b\r\n", Refuse(400)),
    ("no name and no value", b":\r\n", Refuse(400)),
    ("space for a name", b" : b\r\n", Refuse(400)),
    ("no colon", b"X-A\r\n", Refuse(400)),
    ("no colon, with a value", b"X-A b\r\n", Refuse(400)),
    ("NUL in the name", b"X\0A: b\r\n", Refuse(400)),
    ("DEL in the name", b"X\x7fA: b\r\n", Refuse(400)),
    ("0x80 in the name", b"X\x80A: b\r\n", Refuse(400)),
    ("UTF-8 in the name", b"X\xc3\xa9A: b\r\n", Refuse(400)),
    ("parenthesis in the name", b"X(A: b\r\n", Refuse(400)),
    ("slash in the name", b"X/A: b\r\n", Refuse(400)),
    ("backslash in the name", b"X\\A: b\r\n", Refuse(400)),
    ("equals sign in the name", b"X=A: b\r\n", Refuse(400)),
    ("at sign in the name", b"X@A: b\r\n", Refuse(400)),
    ("bracket in the name", b"X[A]: b\r\n", Refuse(400)),
    ("brace in the name", b"X{A}: b\r\n", Refuse(400)),
    ("quote in the name", b"\"X-A\": b\r\n", Refuse(400)),
    ("comma in the name", b"X,A: b\r\n", Refuse(400)),
    ("semicolon in the name", b"X;A: b\r\n", Refuse(400)),
    ("angle in the name", b"X<A: b\r\n", Refuse(400)),
    ("question mark in the name", b"X?A: b\r\n", Refuse(400)),
    ("folded", b"X-A: b\r\n c\r\n", Refuse(400)),
    ("folded with a tab", b"X-A: b\r\n\tc\r\n", Refuse(400)),
    ("folded with nothing", b"X-A: b\r\n \r\n", Refuse(400)),
    ("folded before the value", b"X-A:\r\n b\r\n", Refuse(400)),
    ("ends with LF", b"X-A: b\n", Refuse(400)),
    ("ends with CR", b"X-A: b\r", Refuse(400)),
    ("ends with LF CR", b"X-A: b\n\r", Refuse(400)),
    ("ends with CR CR LF", b"X-A: b\r\r\n", Refuse(400)),
    ("ends with CR NUL LF", b"X-A: b\r\0\n", Refuse(400)),
    ("an empty line of LF", b"X-A: b\r\n\nX-B: c\r\n", Refuse(400)),
    ("an empty line of CR", b"X-A: b\r\n\rX-B: c\r\n", Refuse(400)),
    ("Host twice", b"Host: a\r\n", Deny(400)),
    ("Host twice, another", b"Host: b\r\n", Deny(400)),
    ("Host twice, empty", b"Host:\r\n", Deny(400)),
    ("Host twice, folded", b" b\r\n", Refuse(400)),
    ("Host with a space before the colon", b"Host : b\r\n", Refuse(400)),
    ("Host's underscore kin", b"X_Forwarded_Host: b\r\nX-Host: c\r\n", gets(&[])),
];

const HOSTS: &[(&str, &str, Verdict)] = &[
    ("none", "", Deny(400)),
    ("empty", "Host:\r\n", Deny(400)),
    ("white space", "Host: \t\r\n", Deny(400)),
    ("a space within", "Host: a b\r\n", Deny(400)),
    ("a tab within", "Host: a\tb\r\n", Deny(400)),
    ("a list", "Host: a, b\r\n", Deny(400)),
    ("userinfo", "Host: user@a\r\n", Deny(400)),
    ("a path", "Host: a/b\r\n", Deny(400)),
    ("a query", "Host: a?b\r\n", Deny(400)),
    ("a fragment", "Host: a#b\r\n", Deny(400)),
    ("a backslash", "Host: a\\b\r\n", Deny(400)),
    ("a scheme", "Host: http://a\r\n", Deny(400)),
    ("a port out of range", "Host: a:99999\r\n", Deny(400)),
    ("a port of letters", "Host: a:b\r\n", Deny(400)),
    ("two ports", "Host: a:1:2\r\n", Deny(400)),
    ("an open bracket", "Host: [::1\r\n", Deny(400)),
    ("UTF-8", "Host: \u{e9}\r\n", Deny(400)),
    ("NUL", "Host: a\0\r\n", Refuse(400)),
    ("a bare LF", "Host: a\nX-A: b\r\n", Refuse(400)),
    ("a space before it", " Host: a\r\n", Refuse(400)),
    ("folded", "Host:\r\n a\r\n", Refuse(400)),
    ("a port", "Host: a:8080\r\n", Forward(Form { line: "GET /public/c", host: "a:8080", fields: &[], body: "" })),
    (
        "another name",
        "Host: B.example\r\n",
        Forward(Form { line: "GET /public/c", host: "B.example", fields: &[], body: "" }),
    ),
];

pub(super) fn cases() -> Vec<Case> {
    let mut cases: Vec<Case> =
        LINES.iter().map(|(name, fields, verdict)| Case::get("field", name, fields, *verdict)).collect();
    for (name, host, verdict) in HOSTS {
        let bytes = format!("GET /public/c HTTP/1.1\r\n{host}\r\n");
        cases.push(Case::new(format!("host: {name}"), bytes, *verdict));
    }
    // Every control byte that is not one of a line's end, in a value and in a name (RFC 9110 §5.5).
    for byte in (0..0x20).chain([0x7f]).filter(|byte| !matches!(byte, b'\t' | b'\n' | b'\r')) {
        let value = [b"X-A: b", &[byte][..], b"c\r\n"].concat();
        cases.push(Case::get("field", &format!("control byte {byte:#04x} in the value"), &value, Refuse(400)));
        let name = [b"X-A", &[byte][..], b": b\r\n"].concat();
        cases.push(Case::get("field", &format!("control byte {byte:#04x} in the name"), &name, Refuse(400)));
    }
    let fields = |count: usize| "X-A: b\r\n".repeat(count);
    cases.push(Case::get("field", "a hundred and one", fields(100).as_bytes(), Refuse(431)));
    let long = format!("X-A: {}\r\n", "b".repeat(33_000));
    cases.push(Case::get("field", "33,000 bytes", long.as_bytes(), Refuse(431)));
    let name = format!("{}: b\r\n", "X".repeat(33_000));
    cases.push(Case::get("field", "a name of 33,000 bytes", name.as_bytes(), Refuse(431)));
    cases
}
