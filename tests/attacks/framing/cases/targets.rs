//! Request targets (RFC 9112 §3.2): their forms, and bytes that have no place in them.

use crate::framing::case::Verdict::{Deny, Forward, Refuse};
use crate::framing::case::{Case, Form, Verdict, gets};

/// The target of a `GET`.
const TARGETS: &[(&str, &[u8], Verdict)] = &[
    ("origin form", b"/public/c", gets(&[])),
    ("query", b"/public/c?x=1&y=//..?", Forward(to("GET /public/c?x=1&y=//..?"))),
    ("empty query", b"/public/c?", Forward(to("GET /public/c?"))),
    ("absolute form", b"http://a/public/c", gets(&[])),
    ("absolute form of https", b"https://a/public/c", gets(&[])),
    ("absolute form with a query", b"http://a/public/c?x", Forward(to("GET /public/c?x"))),
    ("absolute form in upper case", b"HTTP://A/public/c", gets(&[])),
    ("absolute form of another host", b"http://b/public/c", Deny(400)),
    ("absolute form with a port", b"http://a:80/public/c", Deny(400)),
    ("absolute form with an empty port", b"http://a:/public/c", Deny(400)),
    ("absolute form with userinfo", b"http://user@a/public/c", Deny(400)),
    ("absolute form with a host for userinfo", b"http://a@b/public/c", Deny(400)),
    ("absolute form with a password", b"http://user:a@a/public/c", Deny(400)),
    ("absolute form without a host", b"http:///public/c", Deny(400)),
    ("absolute form of nothing", b"http://", Deny(400)),
    ("absolute form with one slash", b"http:/public/c", Deny(400)),
    ("absolute form without slashes", b"http:public/c", Deny(400)),
    ("absolute form with backslashes", b"http:\\\\a\\public\\c", Deny(400)),
    ("absolute form of a list", b"http://a,b/public/c", Deny(400)),
    ("absolute form of ftp", b"ftp://a/public/c", Deny(400)),
    ("absolute form of file", b"file:///public/c", Deny(400)),
    ("absolute form of javascript", b"javascript:alert(1)", Deny(400)),
    ("absolute form of a longer scheme", b"httpx://a/public/c", Deny(400)),
    ("absolute form within a path", b"/http://a/public/c", Deny(400)),
    ("no scheme but its slashes", b"//a/public/c", Deny(400)),
    ("authority form", b"a:80", Deny(400)),
    ("authority form without a port", b"a", Deny(400)),
    ("asterisk", b"*", Deny(400)),
    ("asterisk before a path", b"*/public/c", Deny(400)),
    ("no slash", b"public/c", Deny(400)),
    ("query only", b"?x", Deny(400)),
    ("fragment", b"/public/c#x", Refuse(400)),
    ("empty fragment", b"/public/c#", Refuse(400)),
    ("fragment before the path ends", b"/public#/../c", Refuse(400)),
    ("fragment that hides the path", b"/#/public/c", Refuse(400)),
    ("fragment behind a query", b"/public/c?x#y", Refuse(400)),
    ("fragment in the absolute form", b"http://a/public/c#x", Refuse(400)),
    ("fragment in the authority", b"http://a#@b/public/c", Refuse(400)),
    ("fragment only", b"#", Refuse(400)),
    ("space", b"/public /c", Refuse(400)),
    ("space in the query", b"/public/c?x y", Refuse(400)),
    ("space and another version", b"/public/c HTTP/1.1 HTTP/1.1", Refuse(400)),
    ("tab", b"/public\t/c", Refuse(400)),
    ("tab in the query", b"/public/c?x\ty", Refuse(400)),
    ("NUL", b"/public\0/c", Refuse(400)),
    ("NUL at the end", b"/public/c\0", Refuse(400)),
    ("bare CR", b"/public\r/c", Refuse(400)),
    ("bare LF", b"/public\n/c", Refuse(400)),
    ("vertical tab", b"/public\x0b/c", Refuse(400)),
    ("escape", b"/public\x1b/c", Refuse(400)),
    ("DEL", b"/public\x7f/c", Refuse(400)),
    ("UTF-8", b"/public/\xc3\xa9", Refuse(400)),
    ("UTF-8 in the query", b"/public/c?\xc3\xa9", Refuse(400)),
    ("Latin-1", b"/public/\xe9", Refuse(400)),
    ("NBSP", b"/public\xa0/c", Refuse(400)),
    ("0xff", b"/public/\xff", Refuse(400)),
    ("overlong slash", b"/public\xc0\xafc", Refuse(400)),
    ("full-width slash", b"/public\xef\xbc\x8fc", Refuse(400)),
    ("angle", b"/public/<c>", Refuse(400)),
    ("angle in the query", b"/public/c?<x>", Refuse(400)),
    ("quote", b"/public/\"c\"", Deny(400)),
    ("quote in the query", b"/public/c?\"x\"", Refuse(400)),
    ("backtick", b"/public/`c`", Refuse(400)),
    ("absolute form with two colons", b"http://a:1:2/public/c", Refuse(400)),
    ("absolute form with an open bracket", b"http://[::1/public/c", Refuse(400)),
    ("absolute form with a percent", b"http://a%41/public/c", Deny(400)),
    ("UTF-8 in the authority", b"http://\xc3\xa9/public/c", Refuse(400)),
];

const fn to(line: &'static str) -> Form {
    Form { line, host: "a", fields: &[], body: "" }
}

pub(super) fn cases() -> Vec<Case> {
    let mut cases: Vec<Case> = TARGETS
        .iter()
        .map(|(name, target, verdict)| {
            let bytes = [b"GET ", *target, b" HTTP/1.1\r\nHost: a\r\n\r\n"].concat();
            Case::new(format!("target: {name}"), bytes, *verdict)
        })
        .collect();
    let of = |name: &str, line: &str, host: &str, verdict| {
        Case::new(format!("target: {name}"), format!("{line}\r\n{host}\r\n"), verdict)
    };
    let with_port = Form { line: "GET /public/c", host: "a:80", fields: &[], body: "" };
    cases.push(of("the same port in both", "GET http://a:80/public/c HTTP/1.1", "Host: a:80\r\n", Forward(with_port)));
    cases.push(of("absolute form and no Host", "GET http://a/public/c HTTP/1.1", "", Deny(400)));
    cases.push(of(
        "absolute form and two Hosts",
        "GET http://a/public/c HTTP/1.1",
        "Host: a\r\nHost: a\r\n",
        Deny(400),
    ));
    cases.push(of("asterisk of OPTIONS", "OPTIONS * HTTP/1.1", "Host: a\r\n", Deny(400)));
    cases.push(of("authority form of OPTIONS", "OPTIONS a:80 HTTP/1.1", "Host: a\r\n", Deny(400)));
    cases.push(of("protected path in the absolute form", "GET http://a/smuggled HTTP/1.1", "Host: a\r\n", Deny(401)));
    cases.push(of("absolute form without a path", "GET http://a HTTP/1.1", "Host: a\r\n", Deny(401)));
    cases.push(of(
        "absolute form with a query for a path",
        "GET http://a?/public/c HTTP/1.1",
        "Host: a\r\n",
        Deny(401),
    ));
    let long = |bytes: usize| format!("GET /public/{} HTTP/1.1", "c".repeat(bytes));
    cases.push(of("9,000 bytes", &long(9000), "Host: a\r\n", Deny(414)));
    cases.push(of("33,000 bytes", &long(33_000), "Host: a\r\n", Refuse(414)));
    cases
}
