//! Headers meant to be believed by the server behind the gateway.
//!
//! The expectation is always the whole set of fields that the server got, on HTTP/1.1 and on HTTP/2.

mod cases;
mod raw_http2;
mod responses;

use self::cases::{Case, DROPPED, Expect, KEPT, On, REFUSED};
use crate::support::{Backend, Client, Gateway, Toml};

/// Named cases that are to be there at least, over both protocols.
const AT_LEAST: usize = 150;

/// `/public` for everybody, `/` and `/token` with a token, `/read` for GET alone.
fn start(backend: &Backend, trusted: bool) -> Gateway {
    let server = if trusted { "trusted_proxies = [\"127.0.0.0/8\"]\n" } else { "" };
    let rest = "[auth]\nstrip_headers = [\"X-Roles\"]\n\
                [[route]]\npath = \"/\"\nupstream = \"app\"\n\
                [[route]]\npath = \"/public\"\nupstream = \"app\"\nauth = \"public\"\n\
                [[route]]\npath = \"/read\"\nupstream = \"app\"\nauth = \"public\"\nmethods = [\"GET\"]\n\
                [[route]]\npath = \"/token\"\nupstream = \"app\"\nforward_token = true\n";
    let toml = Toml { server: server.into(), rest: rest.into(), tls: false, ..Toml::default() };
    Gateway::with(&toml, &[backend.address])
}

/// The gateways that cases are sent to, and who signs in at them.
struct Field {
    backend: Backend,
    gateways: [Gateway; 2],
    tokens: [(String, String); 2],
}

impl Field {
    fn new() -> Self {
        let backend = Backend::start();
        let gateways = [start(&backend, false), start(&backend, true)];
        let tokens = [0, 1].map(|which: usize| {
            let pair = gateways[which].sign_in("ann");
            (String::clone(&pair.access_token), pair.session.to_string())
        });
        Self { backend, gateways, tokens }
    }
}

/// A line with what would be too long to be written in a table.
fn filled(line: &str) -> String {
    let ranges: Vec<String> = (0..200).map(|from| format!("{from}-")).collect();
    line.replace("{8k}", &"v".repeat(8 * 1024))
        .replace("{200}", &"v".repeat(200))
        .replace("{ranges}", &format!("bytes={}", ranges.join(",")))
        .replace("{trace}", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01")
        .replace("{cookies}", &["a=b"; 101].join("; "))
        .replace("{pipe}", "|")
}

/// The lines of a case with what they stand for.
fn lines(case: &Case, token: &str) -> Vec<(Vec<u8>, Vec<u8>)> {
    let mut fields = Vec::new();
    let needs_token = case.path != "/public" && case.path != "/read";
    if needs_token && !case.lines.contains("{token}") {
        fields.push((b"Authorization".to_vec(), format!("Bearer {token}").into_bytes()));
    }
    for line in case.lines.split('|').filter(|line| !line.is_empty()) {
        let text = filled(line).replace("{token}", token);
        // Bytes that are no text are written as the letters of Latin-1.
        let bytes = |text: &str| match case.on {
            On::Latin1 => text.chars().map(|c| u8::try_from(u32::from(c)).expect("Latin-1")).collect(),
            _ => text.as_bytes().to_vec(),
        };
        let (name, value) = text.split_once(": ").unwrap_or((&text, ""));
        for _ in 0..case.times {
            fields.push((bytes(name), bytes(value)));
        }
    }
    fields
}

/// What a server gets of a request that says nothing of itself, and `kept`, which replace what they name.
fn expected(case: &Case, kept: &str, http2: bool, session: &str) -> Vec<(String, String)> {
    let mut fields = vec![
        ("host", "localhost"),
        ("via", if http2 { "2 portcullis" } else { "1.1 portcullis" }),
        ("x-forwarded-for", "127.0.0.1"),
        ("x-forwarded-proto", "http"),
        ("x-forwarded-host", "localhost"),
        ("forwarded", "for=127.0.0.1;proto=http"),
        ("x-request-id", "(made)"),
        ("traceparent", "(made)"),
    ];
    if case.path != "/public" && case.path != "/read" {
        fields.extend([("x-user-id", "ann"), ("x-session-id", session)]);
    }
    let kept: Vec<(&str, &str)> = kept
        .split('|')
        .filter(|line| !line.is_empty())
        .map(|line| line.split_once(": ").unwrap_or((line, "")))
        .collect();
    fields.retain(|(name, _)| !kept.iter().any(|(other, _)| other == name));
    let written = |value: &str| filled(value).replace("{via}", if http2 { "2" } else { "1.1" });
    let mut all: Vec<(String, String)> =
        fields.into_iter().chain(kept).map(|(name, value)| (name.to_owned(), written(value))).collect();
    all.sort();
    all
}

fn got(headers: &[(String, String)], token: &str) -> Vec<(String, String)> {
    let mut all: Vec<(String, String)> = headers
        .iter()
        .map(|(name, value)| {
            let name = name.to_ascii_lowercase();
            let hex = |value: &str| value.bytes().all(|b| b.is_ascii_hexdigit() || b == b'-');
            let made = (name == "x-request-id" && value.len() == 32 && hex(value))
                || (name == "traceparent" && value.len() == 55 && value.ends_with("-00") && hex(value));
            let value = if made { "(made)".to_owned() } else { value.replace(token, "{token}") };
            (name, value)
        })
        .collect();
    all.sort();
    all
}

/// Sends one case in one way; what was wrong, if anything was.
fn run(field: &Field, case: &Case, http2: bool, trusted: bool) -> Option<String> {
    let which = usize::from(trusted);
    let (gateway, (token, session)) = (&field.gateways[which], &field.tokens[which]);
    let fields = lines(case, token);
    let status = if http2 {
        let start = [(":method", "GET"), (":scheme", "http"), (":authority", "localhost"), (":path", case.path)];
        let lower = fields.into_iter().map(|(name, value)| (name.to_ascii_lowercase(), value));
        let start = start.map(|(name, value)| (name.as_bytes().to_vec(), value.as_bytes().to_vec()));
        raw_http2::ask(gateway.address, &start.into_iter().chain(lower).collect())
    } else {
        let host = if case.on == On::OwnHost { "" } else { "Host: localhost\r\n" };
        let mut bytes = format!("GET {} HTTP/1.1\r\n{host}", case.path).into_bytes();
        for (name, value) in fields {
            bytes.extend([&name[..], b": ", &value, b"\r\n"].concat());
        }
        bytes.extend(b"\r\n");
        let mut client = Client::plain(gateway.address);
        drop(client.try_send(bytes));
        client.try_reply(false).ok().map(|reply| reply.status)
    };
    let expect = if http2 { case.http2.as_ref().unwrap_or(&case.expect) } else { &case.expect };
    match (expect, status) {
        (Expect::Kept(kept), Some(200)) => {
            let got = got(&field.backend.next().headers, token);
            let expected = expected(case, kept, http2, session);
            (got != expected).then(|| {
                let beside = |one: &[(String, String)], other: &[(String, String)]| {
                    one.iter()
                        .filter(|field| !other.contains(field))
                        .map(|field| format!("{field:?}"))
                        .collect::<String>()
                };
                format!("got too {} and not {}", beside(&got, &expected), beside(&expected, &got))
            })
        }
        (Expect::Refused(expected), got) if got == Some(*expected) => {
            (!field.backend.saw_nothing()).then(|| "refused, and sent on".to_owned())
        }
        (Expect::Broken, None) => (!field.backend.saw_nothing()).then(|| "ended, and sent on".to_owned()),
        (_, got) => {
            while !field.backend.saw_nothing() {}
            Some(format!("answered {got:?}, expected {expect:?}"))
        }
    }
}

fn all_of(table: &[Case], trusted: bool) {
    let field = Field::new();
    let mut failed = Vec::new();
    let mut count = 0;
    for case in table.iter().filter(|case| case.from_proxy == trusted) {
        for http2 in [false, true] {
            if http2 && case.on == On::Http1 || !http2 && case.on == On::Http2 {
                continue;
            }
            count += 1;
            if let Some(fault) = run(&field, case, http2, trusted) {
                failed.push(format!("{} over HTTP/{}: {fault}", case.name, if http2 { "2" } else { "1.1" }));
            }
        }
    }
    println!("headers: {count} cases");
    assert!(failed.is_empty(), "{} of {count} cases:\n{}", failed.len(), failed.join("\n"));
}

#[test]
fn what_pretends_to_be_said_by_the_gateway_or_a_proxy_is_dropped() {
    all_of(DROPPED, false);
    // There is nobody's identity to write over them where everybody may.
    let publicly: Vec<Case> =
        DROPPED.iter().filter(|case| case.path == "/").map(|case| Case { path: "/public", ..case.clone() }).collect();
    all_of(&publicly, false);
}

#[test]
fn what_a_client_may_say_arrives_and_nothing_else() {
    all_of(KEPT, false);
}

#[test]
fn a_trusted_proxy_is_believed_in_what_proxies_say_and_in_nothing_else() {
    all_of(KEPT, true);
}

#[test]
fn what_two_readers_take_differently_is_refused() {
    all_of(REFUSED, false);
}

#[test]
fn there_are_as_many_cases_as_were_asked_for() {
    let all = || DROPPED.iter().chain(KEPT).chain(REFUSED);
    let over = |except: On| all().filter(|case| case.on != except).count();
    let (http1, http2) = (over(On::Http2), over(On::Http1));
    println!("headers: {http1} named cases over HTTP/1.1, {http2} over HTTP/2");
    assert!(http1 + http2 >= AT_LEAST && http1 >= AT_LEAST / 2 && http2 >= AT_LEAST / 2);
    let names: std::collections::HashSet<&str> = all().map(|case| case.name).collect();
    assert_eq!(names.len(), all().count(), "two cases with one name");
}
