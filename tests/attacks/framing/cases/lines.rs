//! Request lines (RFC 9112 §3) and what stands before them (§2.2).

use crate::framing::case::Verdict::{Deny, Forward, Last, Refuse, Then};
use crate::framing::case::{Case, Form, Verdict, gets};

/// The request line, with its end, of a request with `Host: a` and nothing else.
const LINES: &[(&str, &[u8], Verdict)] = &[
    ("plain", b"GET /public/c HTTP/1.1\r\n", gets(&[])),
    ("one empty line before", b"\r\nGET /public/c HTTP/1.1\r\n", gets(&[])),
    ("two empty lines before", b"\r\n\r\nGET /public/c HTTP/1.1\r\n", Refuse(400)),
    ("nine empty lines before", b"\r\n\r\n\r\n\r\n\r\n\r\n\r\n\r\n\r\nGET /public/c HTTP/1.1\r\n", Refuse(400)),
    ("LF before", b"\nGET /public/c HTTP/1.1\r\n", Refuse(400)),
    ("CR before", b"\rGET /public/c HTTP/1.1\r\n", Refuse(400)),
    ("LF CR before", b"\n\rGET /public/c HTTP/1.1\r\n", Refuse(400)),
    ("space before", b" GET /public/c HTTP/1.1\r\n", Refuse(400)),
    ("tab before", b"\tGET /public/c HTTP/1.1\r\n", Refuse(400)),
    ("NUL before", b"\0GET /public/c HTTP/1.1\r\n", Refuse(400)),
    ("byte order mark before", b"\xef\xbb\xbfGET /public/c HTTP/1.1\r\n", Refuse(400)),
    ("two spaces behind the method", b"GET  /public/c HTTP/1.1\r\n", Refuse(400)),
    ("two spaces before the version", b"GET /public/c  HTTP/1.1\r\n", Refuse(400)),
    ("tab behind the method", b"GET\t/public/c HTTP/1.1\r\n", Refuse(400)),
    ("tab before the version", b"GET /public/c\tHTTP/1.1\r\n", Refuse(400)),
    ("vertical tab behind the method", b"GET\x0b/public/c HTTP/1.1\r\n", Refuse(400)),
    ("form feed before the version", b"GET /public/c\x0cHTTP/1.1\r\n", Refuse(400)),
    ("NUL before the version", b"GET /public/c\0HTTP/1.1\r\n", Refuse(400)),
    ("NBSP behind the method", b"GET\xa0/public/c HTTP/1.1\r\n", Refuse(400)),
    ("CR behind the method", b"GET\r/public/c HTTP/1.1\r\n", Refuse(400)),
    ("space behind the version", b"GET /public/c HTTP/1.1 \r\n", Refuse(400)),
    ("tab behind the version", b"GET /public/c HTTP/1.1\t\r\n", Refuse(400)),
    ("word behind the version", b"GET /public/c HTTP/1.1 x\r\n", Refuse(400)),
    ("version twice", b"GET /public/c HTTP/1.1 HTTP/1.1\r\n", Refuse(400)),
    ("ends with LF", b"GET /public/c HTTP/1.1\n", Refuse(400)),
    ("ends with CR", b"GET /public/c HTTP/1.1\r", Refuse(400)),
    ("ends with CR CR LF", b"GET /public/c HTTP/1.1\r\r\n", Refuse(400)),
    ("ends with LF CR", b"GET /public/c HTTP/1.1\n\r", Refuse(400)),
    ("folded", b"GET /public/c\r\n HTTP/1.1\r\n", Refuse(400)),
    ("a folded line behind it", b"GET /public/c HTTP/1.1\r\n X-A: b\r\n", Refuse(400)),
    ("no method", b"/public/c HTTP/1.1\r\n", Refuse(400)),
    ("no method but its space", b" /public/c HTTP/1.1\r\n", Refuse(400)),
    ("no target", b"GET HTTP/1.1\r\n", Refuse(400)),
    ("no target but its spaces", b"GET  HTTP/1.1\r\n", Refuse(400)),
    ("no version", b"GET /public/c\r\n", Refuse(400)),
    ("no version but its space", b"GET /public/c \r\n", Refuse(400)),
    ("method only", b"GET\r\n", Refuse(400)),
    ("a status line", b"HTTP/1.1 200 OK\r\n", Refuse(400)),
    ("a greeting of TLS", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n", Refuse(400)),
    ("version in lower case", b"GET /public/c http/1.1\r\n", Refuse(400)),
    ("version in mixed case", b"GET /public/c Http/1.1\r\n", Refuse(400)),
    ("version 0.9", b"GET /public/c HTTP/0.9\r\n", Refuse(400)),
    ("version 1.2", b"GET /public/c HTTP/1.2\r\n", Refuse(400)),
    ("version 1.9", b"GET /public/c HTTP/1.9\r\n", Refuse(400)),
    ("version 2.0", b"GET /public/c HTTP/2.0\r\n", Refuse(400)),
    ("version 2", b"GET /public/c HTTP/2\r\n", Refuse(400)),
    ("version 3.0", b"GET /public/c HTTP/3.0\r\n", Refuse(400)),
    ("version 9.9", b"GET /public/c HTTP/9.9\r\n", Refuse(400)),
    ("version 1.10", b"GET /public/c HTTP/1.10\r\n", Refuse(400)),
    ("version 01.1", b"GET /public/c HTTP/01.1\r\n", Refuse(400)),
    ("version 1.01", b"GET /public/c HTTP/1.01\r\n", Refuse(400)),
    ("version 1,1", b"GET /public/c HTTP/1,1\r\n", Refuse(400)),
    ("version 1", b"GET /public/c HTTP/1\r\n", Refuse(400)),
    ("version 1.", b"GET /public/c HTTP/1.\r\n", Refuse(400)),
    ("version .1", b"GET /public/c HTTP/.1\r\n", Refuse(400)),
    ("version -1.1", b"GET /public/c HTTP/-1.1\r\n", Refuse(400)),
    ("version +1.1", b"GET /public/c HTTP/+1.1\r\n", Refuse(400)),
    ("version 1.1 with a letter", b"GET /public/c HTTP/1.1a\r\n", Refuse(400)),
    ("version with a space within", b"GET /public/c HTTP/ 1.1\r\n", Refuse(400)),
    ("version with a space before its slash", b"GET /public/c HTTP /1.1\r\n", Refuse(400)),
    ("version without a slash", b"GET /public/c HTTP1.1\r\n", Refuse(400)),
    ("version with a backslash", b"GET /public/c HTTP\\1.1\r\n", Refuse(400)),
    ("version of another protocol", b"GET /public/c RTSP/1.0\r\n", Refuse(400)),
    ("version of HTTPS", b"GET /public/c HTTPS/1.1\r\n", Refuse(400)),
    ("version of HTP", b"GET /public/c HTP/1.1\r\n", Refuse(400)),
    ("version with NUL", b"GET /public/c HTTP/1.1\0\r\n", Refuse(400)),
    ("method in lower case", b"get /public/c HTTP/1.1\r\n", Forward(line("get /public/c"))),
    ("method with a hyphen", b"M-SEARCH /public/c HTTP/1.1\r\n", Forward(line("M-SEARCH /public/c"))),
    ("method unknown", b"FOO /public/c HTTP/1.1\r\n", Forward(line("FOO /public/c"))),
    ("method with a prefix of another", b"GETX /public/c HTTP/1.1\r\n", Forward(line("GETX /public/c"))),
    ("method of a digit", b"1GET /public/c HTTP/1.1\r\n", Refuse(400)),
    ("method of a hyphen", b"-GET /public/c HTTP/1.1\r\n", Refuse(400)),
    ("method with a colon", b"GET: /public/c HTTP/1.1\r\n", Refuse(400)),
    ("method with a slash", b"GET/ /public/c HTTP/1.1\r\n", Refuse(400)),
    ("method with a parenthesis", b"GET() /public/c HTTP/1.1\r\n", Refuse(400)),
    ("method with a quote", b"\"GET\" /public/c HTTP/1.1\r\n", Refuse(400)),
    ("method with a bracket", b"G[T /public/c HTTP/1.1\r\n", Refuse(400)),
    ("method with an at sign", b"G@T /public/c HTTP/1.1\r\n", Refuse(400)),
    ("method with NUL", b"GE\0T /public/c HTTP/1.1\r\n", Refuse(400)),
    ("method with UTF-8", b"G\xc3\x89T /public/c HTTP/1.1\r\n", Refuse(400)),
    ("method with 0xff", b"GET\xff /public/c HTTP/1.1\r\n", Refuse(400)),
    ("method with DEL", b"GE\x7fT /public/c HTTP/1.1\r\n", Refuse(400)),
    ("TRACE", b"TRACE /public/c HTTP/1.1\r\n", Deny(501)),
    ("CONNECT of an authority", b"CONNECT a:443 HTTP/1.1\r\n", Refuse(501)),
    ("CONNECT of a path", b"CONNECT /public/c HTTP/1.1\r\n", Refuse(501)),
    ("CONNECT of an absolute target", b"CONNECT http://a/public/c HTTP/1.1\r\n", Refuse(501)),
    ("CONNECT of HTTP/1.0", b"CONNECT a:443 HTTP/1.0\r\n", Refuse(501)),
    ("HTTP/1.0", b"GET /public/c HTTP/1.0\r\n", Last(line("GET /public/c"))),
    ("HTTP/1.0 kept alive", b"GET /public/c HTTP/1.0\r\nConnection: keep-alive\r\n", gets(&[])),
    ("HTTP/1.0 kept alive, upper case", b"GET /public/c HTTP/1.0\r\nConnection: Keep-Alive\r\n", gets(&[])),
];

/// What stands between a good request and the one behind it.
const BETWEEN: &[(&str, &[u8], Verdict)] = &[
    ("one empty line", b"\r\n", gets(&[])),
    ("two empty lines", b"\r\n\r\n", Then(line("GET /public/c"), 400)),
    ("LF", b"\n", Then(line("GET /public/c"), 400)),
    ("CR", b"\r", Then(line("GET /public/c"), 400)),
    ("space", b" ", Then(line("GET /public/c"), 400)),
    ("NUL", b"\0", Then(line("GET /public/c"), 400)),
    ("a chunk end", b"0\r\n\r\n", Then(line("GET /public/c"), 400)),
    ("a line without a request", b"X-A: b\r\n\r\n", Then(line("GET /public/c"), 400)),
    ("a request of HTTP/0.9", b"GET /smuggled\r\n", Then(line("GET /public/c"), 400)),
    ("a request of another version", b"GET /smuggled HTTP/1.2\r\nHost: a\r\n\r\n", Then(line("GET /public/c"), 400)),
    (
        "a request in two framings",
        b"POST /smuggled HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        Then(line("GET /public/c"), 400),
    ),
    (
        "a folded request",
        b"GET /smuggled HTTP/1.1\r\nHost: a\r\nX-A: b\r\n c\r\n\r\n",
        Then(line("GET /public/c"), 400),
    ),
];

const fn line(line: &'static str) -> Form {
    Form { line, host: "a", fields: &[], body: "" }
}

pub(super) fn cases() -> Vec<Case> {
    let mut cases: Vec<Case> = LINES
        .iter()
        .map(|(name, line, verdict)| {
            Case::new(format!("line: {name}"), [line, &b"Host: a\r\n\r\n"[..]].concat(), *verdict)
        })
        .collect();
    let good = b"GET /public/c HTTP/1.1\r\nHost: a\r\n\r\n";
    let between = |(name, bytes, verdict): &(&str, &[u8], Verdict)| {
        Case::new(format!("between: {name}"), [good, *bytes].concat(), *verdict)
    };
    cases.extend(BETWEEN.iter().map(between));
    // Not one byte of CR LF anywhere: some servers take it all the same.
    let bare = "GET /public/c HTTP/1.1\nHost: a\n\n";
    cases.push(Case::new("line: ends with LF, and so do all", bare, Refuse(400)));
    cases.push(Case::new("line: ends with CR, and so do all", bare.replace('\n', "\r"), Refuse(400)));
    cases.push(Case::new("line: the empty line ends with LF", "GET /public/c HTTP/1.1\r\nHost: a\r\n\n", Refuse(400)));
    cases.push(Case::new("line: the empty line ends with CR", "GET /public/c HTTP/1.1\r\nHost: a\r\n\r", Refuse(400)));
    cases.push(Case::new("line: alone, of HTTP/0.9", "GET /public/c\r\n", Refuse(400)));
    cases
}
