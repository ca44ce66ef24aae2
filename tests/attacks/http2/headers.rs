//! What HTTP/1.1 would read differently: headers of HTTP/2 that are meant to become something else on their way. Judged by
//! what the server behind the gateway was sent: either nothing, or exactly what is said here; and the next request over
//! the same connection to it is the next request, whatever came before.

use std::time::Duration;

use super::client::*;
use crate::support::{Backend, Gateway, Http2Server, Toml, frame};

type Field<'a> = (&'a [u8], &'a [u8]);

/// What follows the header.
enum Then {
    /// The stream has ended with it.
    End,
    /// A body, and with it the end.
    Body(&'static [u8]),
    /// These frames on stream 1.
    Frames(Vec<u8>),
}

enum Expect {
    /// A status from 400 that is no server's fault, or a reset; the server has seen nothing whole.
    Refused,
    /// The server has seen this line, and of these fields these values.
    Sent(&'static str, Vec<(&'static str, Vec<String>)>),
}

struct Case {
    name: String,
    fields: Vec<(Vec<u8>, Vec<u8>)>,
    then: Then,
    expect: Expect,
}

fn owned(fields: &[Field<'_>]) -> Vec<(Vec<u8>, Vec<u8>)> {
    fields.iter().map(|(name, value)| (name.to_vec(), value.to_vec())).collect()
}

/// HTTP/1.1 has trailers only where they were announced.
const ANNOUNCED: [Field<'static>; 1] =
    [(b"trailer", b"x-sum, x-user-id, x_user_id, x-session-id, content-length, host, authorization, x-a, path")];

const LINE: &str = "GET /public/x HTTP/1.1";
const GET: [Field<'static>; 4] =
    [(b":method", b"GET"), (b":scheme", b"http"), (b":path", b"/public/x"), (b":authority", b"a")];

/// A GET with more fields.
fn with(name: impl Into<String>, more: &[Field<'_>], expect: Expect) -> Case {
    Case { name: name.into(), fields: owned(&[&GET[..], more].concat()), then: Then::End, expect }
}

/// These fields and no others.
fn only(name: impl Into<String>, fields: &[Field<'_>], expect: Expect) -> Case {
    Case { name: name.into(), fields: owned(fields), then: Then::End, expect }
}

/// A GET with one of its pseudo headers changed.
fn changed(name: impl Into<String>, pseudo: &[u8], value: &[u8], expect: Expect) -> Case {
    let fields = GET.map(|(name, old)| if name == pseudo { (name, value) } else { (name, old) });
    Case { name: name.into(), fields: owned(&fields), then: Then::End, expect }
}

/// A POST.
fn posted(name: impl Into<String>, more: &[Field<'_>], then: Then, expect: Expect) -> Case {
    let case = changed(name, b":method", b"POST", expect);
    Case { fields: [case.fields, owned(more)].concat(), then, ..case }
}

fn sent(line: &'static str, fields: &[(&'static str, &[&str])]) -> Expect {
    let owned = fields.iter().map(|(name, values)| (*name, values.iter().map(|value| (*value).to_owned()).collect()));
    Expect::Sent(line, owned.collect())
}

use Expect::Refused;
use Then::{Body, End, Frames};

fn names_and_values() -> Vec<Case> {
    let mut cases = Vec::new();
    // RFC 9113 §8.2.1, and what is no token (RFC 9110 §5.6.2).
    for byte in (0..=0x20).chain(*b"(),/;<=>?@[\\]{}:AZ").chain([0x7f, 0x80, 0xff]) {
        for (place, name) in [
            ("begins with", [&[byte][..], b"x-user-id"].concat()),
            ("has within", [&b"x-user"[..], &[byte], b"id"].concat()),
            ("ends with", [&b"x-user-id"[..], &[byte]].concat()),
        ] {
            cases.push(with(format!("a name that {place} {byte:#04x}"), &[(&name, b"1")], Refused));
        }
    }
    for byte in (0..0x20).filter(|byte| *byte != b'\t').chain([0x7f]) {
        let value = [&b"a"[..], &[byte], b"b"].concat();
        cases.push(with(format!("a value with {byte:#04x}"), &[(b"x-a", &value)], Refused));
    }
    let values: [(&str, &[u8]); 10] = [
        ("a field after CR LF in a value", b"1\r\nx-user-id: root"),
        ("a field after LF in a value", b"1\nx-user-id: root"),
        ("a field after CR in a value", b"1\rx-user-id: root"),
        ("a request after CR LF CR LF in a value", b"1\r\n\r\nGET /admin HTTP/1.1\r\nHost: a\r\n\r\n"),
        ("a request after LF LF in a value", b"1\n\nGET /admin HTTP/1.1\nHost: a\n\n"),
        ("a folded line in a value", b"1\r\n 2"),
        ("a value that begins with a space", b" 1"),
        ("a value that begins with a tab", b"\t1"),
        ("a value that ends with a space", b"1 "),
        ("a value that is a space", b" "),
    ];
    cases.extend(values.map(|(name, value)| with(name, &[(b"x-a", value)], Refused)));
    for name in
        ["x-a", "cookie", "authorization", "content-type", "user-agent", "accept", "te", "trailer", "via", "range"]
    {
        let case = format!("a field after CR LF in the value of {name}");
        cases.push(with(case, &[(name.as_bytes(), b"1\r\nx-user-id: root")], Refused));
    }
    cases.extend([
        // The library takes it for a part of a name, and the gateway drops what is no plain name.
        with("a name with a quote", &[(b"x-user\"id", b"1")], sent(LINE, &[("x-user\"id", &[])])),
        with("an empty name", &[(b"", b"1")], Refused),
        with("a field after CR LF in a name", &[(b"x-a: 1\r\nx-user-id", b"root")], Refused),
        with("a request after CR LF CR LF in a name", &[(b"x: 1\r\n\r\nget /admin http/1.1\r\nx", b"1")], Refused),
        with("a tab within a value", &[(b"x-a", b"a\tb")], sent(LINE, &[("x-a", &["a\tb"])])),
        with("an empty value", &[(b"x-a", b"")], sent(LINE, &[("x-a", &[""])])),
        with("a value twice", &[(b"x-a", b"1"), (b"x-a", b"2")], sent(LINE, &[("x-a", &["1", "2"])])),
        with(
            "cookies in pieces",
            &[(b"cookie", b"a=1"), (b"cookie", b"b=2")],
            sent(LINE, &[("cookie", &["a=1; b=2"])]),
        ),
    ]);
    cases
}

fn identity() -> Vec<Case> {
    let gone = |name: &'static str| sent(LINE, &[(name, &[])]);
    let mut cases: Vec<Case> = [
        "x-user-id",
        "x_user_id",
        "x-user_id",
        "x_user-id",
        "x.user.id",
        "x-user.id",
        "x-session-id",
        "x_session_id",
        "x-forwarded-for",
        "x_forwarded_for",
        "x-real-ip",
        "forwarded",
        "x-forwarded-user",
        "x-original-url",
        "x-rewrite-url",
        "x-forwarded-uri",
        "x-forwarded-prefix",
        "x-forwarded-method",
        "proxy",
        "http2-settings",
    ]
    .into_iter()
    .map(|name| Case {
        fields: [owned(&GET), owned(&[(name.as_bytes(), b"forged"), (name.as_bytes(), b"again")])].concat(),
        ..with(format!("forged {name}"), &[], Expect::Sent(LINE, vec![]))
    })
    .collect();
    for upper in ["X-User-Id", "x-User-id", "X-SESSION-ID", "x-user-iD"] {
        cases.push(with(format!("{upper} in upper case"), &[(upper.as_bytes(), b"root")], Refused));
    }
    cases.extend([
        with("an identity named by connection", &[(b"connection", b"x-user-id")], Refused),
        with("an identity named by te", &[(b"te", b"x-user-id")], Refused),
        with("an identity on a route that has none", &[(b"x-user-id", b"root")], gone("x-user-id")),
        with("a token on a route that has none", &[(b"authorization", b"Bearer x")], gone("authorization")),
    ]);
    cases
}

#[expect(clippy::too_many_lines, reason = "a table")]
fn pseudo_headers() -> Vec<Case> {
    let mut cases = Vec::new();
    for name in [":method", ":scheme", ":path", ":authority"] {
        let value = GET.iter().find(|(one, _)| *one == name.as_bytes()).map_or(&b""[..], |(_, value)| value);
        cases.push(with(format!("{name} twice"), &[(name.as_bytes(), value)], Refused));
        cases.push(with(format!("{name} twice, another"), &[(name.as_bytes(), b"/admin")], Refused));
        let rest: Vec<_> = GET.iter().copied().filter(|(one, _)| *one != name.as_bytes()).collect();
        cases.push(only(
            format!("{name} after a field"),
            &[&rest[..], &[(b"x-a", b"1"), (name.as_bytes(), value)]].concat(),
            Refused,
        ));
        cases.push(only(format!("no {name}"), &rest, Refused));
        cases.push(changed(format!("an empty {name}"), name.as_bytes(), b"", Refused));
        for (what, bytes) in [
            ("CR LF", &b"\r\nx-user-id: root"[..]),
            ("LF", b"\nx-user-id: root"),
            ("NUL", b"\0"),
            ("a space", b" "),
            ("a space and a version", b" HTTP/1.1\r\nHost: b\r\n\r\nGET /admin"),
            ("a tab", b"\tx"),
            ("DEL", b"\x7f"),
        ] {
            cases.push(changed(
                format!("{name} with {what} after it"),
                name.as_bytes(),
                &[value, bytes].concat(),
                Refused,
            ));
            cases.push(changed(
                format!("{name} with {what} before it"),
                name.as_bytes(),
                &[bytes, value].concat(),
                Refused,
            ));
        }
    }
    for (name, value) in
        [(":status", "200"), (":unknown", "1"), (":", "1"), (":path:", "/"), (":method ", "GET"), (":host", "a")]
    {
        cases.push(with(format!("the pseudo header {name:?}"), &[(name.as_bytes(), value.as_bytes())], Refused));
    }
    let paths: [(&str, &[u8]); 14] = [
        ("without a slash", b"public/x"),
        ("absolute", b"http://a/public/x"),
        ("absolute of another host", b"http://b/public/x"),
        ("of two slashes and a host", b"//b/public/x"),
        ("an authority", b"a:443"),
        ("a star", b"*"),
        ("a question mark", b"?x"),
        ("with a backslash", b"/public\\..\\x"),
        ("with dots", b"/public/../x"),
        ("with encoded dots", b"/public/%2e%2e/x"),
        ("with an encoded slash", b"/public%2fx"),
        ("with an encoded CR LF", b"/public/%0d%0ax-user-id:%20root"),
        ("of bytes beyond ASCII", b"/public/\xc3\xa4"),
        ("longer than allowed", &[b'/'; 9000]),
    ];
    cases.extend(paths.map(|(name, path)| changed(format!("a :path {name}"), b":path", path, Refused)));
    // What is behind it is lost before anybody judges: the server gets what was judged.
    cases.push(changed("a :path with a fragment", b":path", b"/public/x#/admin", sent(LINE, &[])));
    let methods: [(&str, &[u8]); 9] = [
        ("with a space and a path", b"GET /admin"),
        ("with CR LF", b"GET / HTTP/1.1\r\nHost: a\r\n\r\nGET"),
        ("with a colon", b"GET:"),
        ("with a slash", b"GET/"),
        ("of a byte beyond ASCII", b"G\xc3\x89T"),
        ("TRACE", b"TRACE"),
        ("PRI", b"PRI *"),
        ("with a quote", b"\"GET\""),
        ("with NUL", b"GET\0"),
    ];
    cases.extend(methods.map(|(name, method)| changed(format!("a :method {name}"), b":method", method, Refused)));
    let schemes: [(&str, &[u8]); 8] = [
        ("ftp", b"ftp"),
        ("file", b"file"),
        ("of more than a scheme", b"http://b/"),
        ("with a colon", b"http:"),
        ("with a port", b"http:80"),
        ("with a space", b"ht tp"),
        ("that is a number", b"1"),
        ("javascript", b"javascript"),
    ];
    cases.extend(schemes.map(|(name, scheme)| changed(format!("a :scheme {name}"), b":scheme", scheme, Refused)));
    let authorities: [(&str, &[u8]); 16] = [
        ("with userinfo", b"root@a"),
        ("with userinfo and a password", b"a:80@b"),
        ("with a path", b"a/admin"),
        ("with a query", b"a?x"),
        ("with a fragment", b"a#b"),
        ("with a comma", b"a,b"),
        ("with a list", b"a, b"),
        ("with a backslash", b"a\\b"),
        ("with a colon and no number", b"a:b"),
        ("with a port too large", b"a:65536"),
        ("with two ports", b"a:80:80"),
        ("with half a bracket", b"[::1"),
        ("that is a port", b":80"),
        ("with an encoded byte", b"a%00b"),
        ("of bytes beyond ASCII", b"\xc3\xa4"),
        ("with a scheme", b"http://a"),
    ];
    cases.extend(
        authorities.map(|(name, value)| changed(format!("an :authority {name}"), b":authority", value, Refused)),
    );
    let rest = [GET[0], GET[1], GET[2]];
    let hosts = |hosts: &[Field<'static>]| [&rest[..], hosts].concat();
    cases.extend([
        with("host beside :authority, the same", &[(b"host", b"a")], sent(LINE, &[("host", &["a"])])),
        with("host beside :authority, another", &[(b"host", b"b")], Refused),
        with("host beside :authority, with a port", &[(b"host", b"a:80")], Refused),
        with("host beside :authority, empty", &[(b"host", b"")], Refused),
        with("host twice beside :authority", &[(b"host", b"a"), (b"host", b"a")], Refused),
        with("host as a list", &[(b"host", b"a, a")], Refused),
        only("host without :authority", &hosts(&[(b"host", b"b")]), sent(LINE, &[("host", &["b"])])),
        only("host twice without :authority", &hosts(&[(b"host", b"a"), (b"host", b"b")]), Refused),
        only("host with userinfo", &hosts(&[(b"host", b"root@a")]), Refused),
        only("host with a space", &hosts(&[(b"host", b"a b")]), Refused),
        only("host with a path", &hosts(&[(b"host", b"a/b")]), Refused),
        only("no field at all", &[(b"x-a", b"1")], Refused),
    ]);
    cases
}

#[expect(clippy::too_many_lines, reason = "a table")]
fn framing() -> Vec<Case> {
    let data = |flags: u8, bytes: &[u8]| frame(DATA, flags, 1, bytes);
    let trailers =
        |fields: &[Field<'_>]| [data(0, b"abc"), frame(HEADERS, END_HEADERS | END_STREAM, 1, &block(fields))].concat();
    let mut cases = Vec::new();
    // RFC 9113 §8.2.2
    for (name, value) in [
        ("connection", "close"),
        ("connection", "keep-alive"),
        ("connection", "transfer-encoding"),
        ("keep-alive", "timeout=5"),
        ("proxy-connection", "keep-alive"),
        ("transfer-encoding", "chunked"),
        ("transfer-encoding", "identity"),
        ("transfer-encoding", "gzip, chunked"),
        ("upgrade", "h2c"),
        ("upgrade", "websocket"),
        ("te", "gzip"),
        ("te", "trailers, gzip"),
        ("te", "chunked"),
    ] {
        let field: Field<'_> = (name.as_bytes(), value.as_bytes());
        cases.push(with(format!("{name}: {value}"), &[field], Refused));
        let smuggled = b"0\r\n\r\nGET /admin HTTP/1.1\r\nHost: a\r\n\r\n";
        cases.push(posted(format!("{name}: {value} and a body"), &[field], Body(smuggled), Refused));
    }
    for (name, length) in [
        ("signed", "+3"),
        ("negative", "-3"),
        ("with a zero before it", "03"),
        ("as a list", "3, 3"),
        ("as a list of two", "3,4"),
        ("in base 16", "0x3"),
        ("empty", ""),
        ("a word", "abc"),
        ("with a fraction", "3.0"),
        ("with an exponent", "3e0"),
        ("too large for 64 bits", "18446744073709551619"),
        ("with a space within", "3 3"),
        ("with a space before it", " 3"),
        ("with a space after it", "3 "),
        ("with an underscore", "3_"),
        ("in digits beyond ASCII", "\u{ff13}"),
    ] {
        cases.push(posted(
            format!("a length {name}"),
            &[(b"content-length", length.as_bytes())],
            Body(b"abc"),
            Refused,
        ));
    }
    let length = |value: &'static [u8]| (&b"content-length"[..], value);
    let post = "POST /public/x HTTP/1.1";
    cases.extend([
        posted("a length twice", &[length(b"3"), length(b"3")], Body(b"abc"), Refused),
        posted("two lengths", &[length(b"3"), length(b"30")], Body(b"abc"), Refused),
        posted("a body longer than its length", &[length(b"2")], Body(b"abc"), Refused),
        posted("a body where there is none", &[length(b"0")], Body(b"abc"), Refused),
        posted("a body shorter than its length", &[length(b"4")], Body(b"abc"), Refused),
        posted("a length and no body", &[length(b"3")], End, Refused),
        posted("a length and an empty body", &[length(b"3")], Body(b""), Refused),
        with("a length of a GET without a body", &[length(b"3")], Refused),
        posted(
            "a length that is met by trailers too early",
            &[length(b"30")],
            Frames(trailers(&[(b"x-sum", b"1")])),
            Refused,
        ),
        posted(
            "more than the length, a request of its own",
            &[length(b"3")],
            Frames([data(0, b"abcGET /admin HTTP/1.1\r\nHost: a\r\n\r\n"), data(END_STREAM, b"")].concat()),
            Refused,
        ),
        posted(
            "the right length",
            &[length(b"3")],
            Body(b"abc"),
            sent(post, &[("content-length", &["3"]), ("transfer-encoding", &[]), (":body", &["abc"])]),
        ),
        posted(
            "the length of nothing",
            &[length(b"0")],
            End,
            sent(post, &[("content-length", &["0"]), (":body", &[""])]),
        ),
        posted(
            "no length",
            &[],
            Body(b"abc"),
            sent(post, &[("content-length", &[]), ("transfer-encoding", &["chunked"]), (":body", &["abc"])]),
        ),
        posted(
            "chunks within a body",
            &[],
            Body(b"0\r\n\r\nGET /admin HTTP/1.1\r\n\r\n"),
            sent(post, &[(":body", &["0\r\n\r\nGET /admin HTTP/1.1\r\n\r\n"])]),
        ),
        posted(
            "a GET's body",
            &[(b"x-a", b"1")],
            Body(b"GET /admin HTTP/1.1\r\n\r\n"),
            sent(post, &[(":body", &["GET /admin HTTP/1.1\r\n\r\n"])]),
        ),
        posted(
            "expect: 100-continue",
            &[(b"expect", b"100-continue")],
            Body(b"abc"),
            sent(post, &[(":body", &["abc"])]),
        ),
        with("te: trailers", &[(b"te", b"trailers")], sent(LINE, &[])),
        // RFC 9113 §8.1
        posted(
            "a trailer",
            &ANNOUNCED,
            Frames(trailers(&[(b"x-sum", b"1")])),
            sent(post, &[(":body", &["abc"]), (":trailers", &["x-sum: 1"])]),
        ),
        posted(
            "an identity among the trailers",
            &ANNOUNCED,
            Frames(trailers(&[(b"x-user-id", b"root"), (b"x_user_id", b"root")])),
            sent(post, &[(":trailers", &[])]),
        ),
        posted(
            "a session among the trailers",
            &ANNOUNCED,
            Frames(trailers(&[(b"x-session-id", b"root")])),
            sent(post, &[(":trailers", &[])]),
        ),
        posted(
            "framing among the trailers",
            &ANNOUNCED,
            Frames(trailers(&[(b"content-length", b"30")])),
            sent(post, &[(":trailers", &[])]),
        ),
        posted(
            "a host among the trailers",
            &ANNOUNCED,
            Frames(trailers(&[(b"host", b"b")])),
            sent(post, &[(":trailers", &[])]),
        ),
        posted(
            "a token among the trailers",
            &ANNOUNCED,
            Frames(trailers(&[(b"authorization", b"Bearer x")])),
            sent(post, &[(":trailers", &[])]),
        ),
        // The library drops them: no server sees any of it.
        posted(
            "a path among the trailers",
            &ANNOUNCED,
            Frames(trailers(&[(b":path", b"/admin")])),
            sent(post, &[(":body", &["abc"]), (":trailers", &[])]),
        ),
        posted(
            "a status among the trailers",
            &ANNOUNCED,
            Frames(trailers(&[(b":status", b"200")])),
            sent(post, &[(":body", &["abc"]), (":trailers", &[])]),
        ),
        posted(
            "CR LF among the trailers",
            &ANNOUNCED,
            Frames(trailers(&[(b"x-a", b"1\r\n\r\nGET /admin HTTP/1.1")])),
            Refused,
        ),
        posted("upper case among the trailers", &ANNOUNCED, Frames(trailers(&[(b"X-A", b"1")])), Refused),
        posted(
            "a coding among the trailers",
            &ANNOUNCED,
            Frames(trailers(&[(b"transfer-encoding", b"chunked")])),
            Refused,
        ),
        posted(
            "trailers that do not end the stream",
            &ANNOUNCED,
            Frames(
                [data(0, b"abc"), frame(HEADERS, END_HEADERS, 1, &block(&[(b"x-a", b"1")])), data(END_STREAM, b"")]
                    .concat(),
            ),
            Refused,
        ),
        posted(
            "data after trailers",
            &ANNOUNCED,
            Frames([trailers(&[(b"x-sum", b"1")]), data(0, b"GET /admin HTTP/1.1\r\n\r\n")].concat()),
            Refused,
        ),
        posted("padding longer than the frame", &[], Frames(frame(DATA, PADDED | END_STREAM, 1, &[9, b'a'])), Refused),
        posted(
            "a padded body",
            &[],
            Frames(frame(DATA, PADDED | END_STREAM, 1, b"\x03abcGET")),
            sent(post, &[(":body", &["abc"])]),
        ),
    ]);
    // CVE-2026-71324, CVE-2026-88008
    let connect = |more: &[Field<'static>]| [&[(&b":method"[..], &b"CONNECT"[..])], more].concat();
    let extended = |protocol: &'static [u8]| {
        connect(&[(b":protocol", protocol), (b":scheme", b"http"), (b":path", b"/public/x"), (b":authority", b"a")])
    };
    let smuggled = b"GET /admin HTTP/1.1\r\nHost: a\r\n\r\n";
    for (name, fields) in [
        ("CONNECT", connect(&[(b":authority", b"a:80")])),
        ("CONNECT with a path", connect(&[(b":scheme", b"http"), (b":path", b"/public/x"), (b":authority", b"a")])),
        ("CONNECT without an authority", connect(&[])),
        ("extended CONNECT for h2c", extended(b"h2c")),
        ("extended CONNECT for HTTP", extended(b"http/1.1")),
        ("extended CONNECT for two", extended(b"websocket, h2c")),
        ("extended CONNECT with a space", extended(b"web socket")),
        ("extended CONNECT with CR LF", extended(b"websocket\r\nx-user-id: root")),
        ("extended CONNECT for nothing", extended(b"")),
        ("extended CONNECT without a path", connect(&[(b":protocol", b"websocket"), (b":authority", b"a")])),
    ] {
        cases.push(only(name, &fields, Refused));
        cases.push(Case { then: Frames(data(0, smuggled)), ..only(format!("{name} and a body"), &fields, Refused) });
    }
    cases.push(with(":protocol of a GET", &[], Refused));
    if let Some(case) = cases.last_mut() {
        case.fields.insert(0, (b":protocol".to_vec(), b"websocket".to_vec()));
    }
    let most: Vec<(Vec<u8>, Vec<u8>)> = (0..101).map(|at| (format!("x-{at}").into_bytes(), b"1".to_vec())).collect();
    let crumbs: Vec<(Vec<u8>, Vec<u8>)> =
        (0..150).map(|at| (b"cookie".to_vec(), format!("c{at}=1").into_bytes())).collect();
    let beyond = |name: &str, more: Vec<(Vec<u8>, Vec<u8>)>, expect| Case {
        fields: [owned(&GET), more].concat(),
        ..with(name, &[], expect)
    };
    cases.extend([
        beyond("101 fields", most, Refused),
        beyond("150 pieces of a cookie", crumbs, sent(LINE, &[])),
        beyond(
            "40 KiB of header",
            (0..10)
                .map(|at| (format!("x-{at}").into_bytes(), vec![b'a'; 1600]))
                .chain((0..10).map(|at| (format!("y-{at}").into_bytes(), vec![b'a'; 2000])))
                .collect(),
            Refused,
        ),
    ]);
    cases
}

/// A server, and what it was sent.
enum Server {
    Http1(Backend),
    Http2(Http2Server),
}

/// A request as the server has it; of HTTP/2 in the words of HTTP/1.1.
#[derive(Debug)]
struct Got {
    line: String,
    fields: Vec<(String, String)>,
    body: String,
    trailers: Vec<String>,
}

impl Server {
    fn next(&self) -> Got {
        let pairs = |headers: &http::HeaderMap| -> Vec<(String, String)> {
            headers
                .iter()
                .map(|(name, value)| (name.to_string(), String::from_utf8_lossy(value.as_bytes()).into_owned()))
                .collect()
        };
        let joined =
            |fields: &[(String, String)]| fields.iter().map(|(name, value)| format!("{name}: {value}")).collect();
        match self {
            Self::Http1(backend) => {
                let seen = backend.next();
                let body = String::from_utf8_lossy(&seen.body).into_owned();
                Got { line: seen.line, fields: seen.headers, body, trailers: joined(&seen.trailers) }
            }
            Self::Http2(server) => loop {
                let arrived = server.next();
                let (parts, ()) = arrived.request.into_parts();
                let mut fields = pairs(&parts.headers);
                fields.extend(parts.uri.authority().map(|authority| ("host".to_owned(), authority.to_string())));
                // One whose client broke it off ends with an error, and is none.
                let length = parts.headers.get("content-length").and_then(|length| length.to_str().ok()?.parse().ok());
                if arrived.reset.is_some() || length.is_some_and(|length: usize| length != arrived.body.len()) {
                    continue;
                }
                let body = String::from_utf8_lossy(&arrived.body).into_owned();
                let line = format!(
                    "{} {} HTTP/1.1",
                    parts.method,
                    parts.uri.path_and_query().map_or("", |path| path.as_str())
                );
                return Got { line, fields, body, trailers: joined(&pairs(&arrived.trailers)) };
            },
        }
    }

    fn is_http2(&self) -> bool {
        matches!(self, Self::Http2(_))
    }
}

impl Got {
    fn values(&self, name: &str) -> Vec<String> {
        match name {
            ":body" => vec![self.body.clone()],
            ":trailers" => self.trailers.clone(),
            _ => self
                .fields
                .iter()
                .filter(|(one, _)| one.eq_ignore_ascii_case(name))
                .map(|(_, value)| value.clone())
                .collect(),
        }
    }

    /// What must hold of every request that a server gets.
    fn fault(&self) -> Option<String> {
        let token = |name: &str| name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
        if let Some((name, _)) = self.fields.iter().find(|(name, _)| !token(name)) {
            return Some(format!("the field {name:?}"));
        }
        if self.values("host").len() != 1 {
            return Some(format!("hosts {:?}", self.values("host")));
        }
        if self.values("content-length").len() + self.values("transfer-encoding").len() > 1 {
            return Some(format!("two framings: {self:?}"));
        }
        // No route here has an identity.
        ["x-user-id", "x-session-id"]
            .iter()
            .find(|name| !self.values(name).is_empty())
            .map(|name| format!("{name} got through"))
    }
}

/// What is wrong with how a case ended.
fn judge(case: &Case, came: Option<&Came>, server: &Server, after: &str) -> Result<(), String> {
    // All up to the next request, or the cases after this one would fail with it.
    let mut seen = Vec::new();
    let next = loop {
        let got = server.next();
        if got.line == format!("GET {after} HTTP/1.1") && got.body.is_empty() {
            break got;
        }
        seen.push(got);
    };
    match &case.expect {
        Expect::Refused => {
            match came {
                Some(Came::Head(1, 400..=499 | 501)) => {}
                Some(Came::Reset(1, _) | Came::GoAway(_) | Came::Closed) => {}
                other => return Err(format!("answered {other:?}")),
            }
            if !seen.is_empty() {
                return Err(format!("the server got {seen:?}"));
            }
        }
        Expect::Sent(line, fields) => {
            let [seen] = &seen[..] else {
                return Err(format!("answered {came:?}, and the server got {seen:?}"));
            };
            if seen.line != *line {
                return Err(format!("the server got {:?}", seen.line));
            }
            if let Some(fault) = seen.fault() {
                return Err(fault);
            }
            for (name, values) in fields {
                // The framing of HTTP/2 is none of HTTP/1.1.
                if seen.values(name) != *values && !(server.is_http2() && *name == "transfer-encoding") {
                    return Err(format!("{name} is {:?} instead of {values:?}", seen.values(name)));
                }
            }
        }
    }
    next.fault().map_or(Ok(()), |fault| Err(format!("the next request has {fault}")))
}

fn run(server: &Server, upstream: &str, address: std::net::SocketAddr, tls: bool) -> Vec<String> {
    let toml = Toml { server: "workers = 1\n".into(), tls, upstream: upstream.into(), ..Toml::default() };
    let gateway = Gateway::with(&toml, &[address]);
    let root = gateway.place.path("cert.pem");
    let cases: Vec<Case> =
        [names_and_values(), identity(), pseudo_headers(), framing()].into_iter().flatten().collect();
    println!("headers over HTTP/2 (TLS: {tls}, HTTP/2 to the server: {}): {} cases", server.is_http2(), cases.len());
    assert!(cases.len() >= 300, "{}", cases.len());
    let mut failed = Vec::new();
    for (number, case) in cases.iter().enumerate() {
        let mut client = Raw::connect(gateway.address, tls.then_some(root.as_path()));
        // Its encoder remembers nothing: a status can be read without a table.
        client.greet(&setting(1, 0));
        let fields: Vec<Field<'_>> = case.fields.iter().map(|(name, value)| (&name[..], &value[..])).collect();
        let block = block(&fields);
        let flags = if matches!(case.then, End) { END_STREAM } else { 0 };
        let mut pieces = block.chunks(16_000).peekable();
        let mut bytes = Vec::new();
        while let Some(piece) = pieces.next() {
            let (kind, flags) = if bytes.is_empty() { (HEADERS, flags) } else { (CONTINUATION, 0) };
            bytes.extend(frame(kind, if pieces.peek().is_some() { flags } else { flags | END_HEADERS }, 1, piece));
        }
        match &case.then {
            End => {}
            Body(body) => bytes.extend(frame(DATA, END_STREAM, 1, body)),
            Frames(frames) => bytes.extend(frames),
        }
        let _ = client.send(&bytes);
        let came = client.until(Duration::from_secs(5), |came| {
            matches!(came, Came::Head(1, _) | Came::Reset(1, _) | Came::GoAway(_) | Came::Closed)
        });
        // The next request, over the connection to the server that may be left from this one.
        let after = format!("/public/after-{number}");
        let mut next = gateway.connect();
        let reply = next.ask(format!("GET {after} HTTP/1.1\r\nHost: a\r\n\r\n"));
        if (reply.status, reply.text().as_str()) != (200, "hello") {
            failed.push(format!("{}: the next request was answered {} {:?}", case.name, reply.status, reply.text()));
        }
        if let Err(why) = judge(case, came.as_ref(), server, &after) {
            failed.push(format!("{}: {why}", case.name));
        }
    }
    failed
}

#[test]
fn nothing_of_http2_becomes_something_else_over_http1() {
    let backend = Backend::start();
    let address = backend.address;
    let failed = run(&Server::Http1(backend), "", address, false);
    assert!(failed.is_empty(), "{} failed:\n{}", failed.len(), failed.join("\n"));
}

#[test]
fn nothing_of_http2_within_tls_becomes_something_else_over_http1() {
    let backend = Backend::start();
    let address = backend.address;
    let failed = run(&Server::Http1(backend), "", address, true);
    assert!(failed.is_empty(), "{} failed:\n{}", failed.len(), failed.join("\n"));
}

#[test]
fn nothing_of_http2_becomes_something_else_over_http2() {
    let server = Http2Server::start();
    let address = server.address;
    let failed = run(&Server::Http2(server), "protocol = \"http2\"\n", address, false);
    assert!(failed.is_empty(), "{} failed:\n{}", failed.len(), failed.join("\n"));
}
