//! What a server says in the header of an answer, and what of it reaches the client.

use crate::support::{Answer, Backend, Gateway, Toml, get};

/// A name, the lines of the server's header, and those the client gets beside the usual ones.
const CASES: &[(&str, &str, &str)] = &[
    ("plain", "Content-Length: 2", "content-length: 2"),
    ("hop by hop", "Content-Length: 2|Connection: keep-alive|Keep-Alive: timeout=1000", "content-length: 2"),
    (
        "named in connection",
        "Content-Length: 2|Connection: X-Private|X-Private: 1|X-Kept: 1",
        "content-length: 2|x-kept: 1",
    ),
    ("named in any case", "Content-Length: 2|Connection: x-PRIVATE , te|X-Private: 1|TE: x", "content-length: 2"),
    ("two connections", "Content-Length: 2|Connection: X-A|Connection: X-B|X-A: 1|X-B: 1", "content-length: 2"),
    ("its own length in connection", "Content-Length: 2|Connection: Content-Length", "content-length: 2"),
    ("garbage in connection", "Content-Length: 2|Connection: ,, \"x, *, @", "content-length: 2"),
    ("proxy fields", "Content-Length: 2|Proxy-Connection: close|Proxy-Authenticate: Basic", "content-length: 2"),
    ("an upgrade nobody asked for", "Content-Length: 2|Upgrade: h2c|Connection: Upgrade", "content-length: 2"),
    ("an identity", "Content-Length: 2|X-User-Id: root", "content-length: 2|x-user-id: root"),
    (
        "cookies",
        "Content-Length: 2|Set-Cookie: a=b|Set-Cookie: c=d",
        "content-length: 2|set-cookie: a=b|set-cookie: c=d",
    ),
    ("a challenge", "Content-Length: 2|WWW-Authenticate: Basic", "content-length: 2|www-authenticate: Basic"),
    ("a cache that is public", "Content-Length: 2|Cache-Control: public", "content-length: 2|cache-control: public"),
    (
        "chunks named in connection",
        "Transfer-Encoding: chunked|Connection: Transfer-Encoding",
        "transfer-encoding: chunked",
    ),
    ("a request id", "Content-Length: 2|X-Request-Id: forged", "content-length: 2|x-request-id: forged"),
    ("bytes that are no UTF-8", "Content-Length: 2|X-Name: a\u{e9}b", "content-length: 2|x-name: a\u{fffd}b"),
];

#[test]
fn a_servers_answer_keeps_its_hop_to_itself() {
    let backend = Backend::answering(|seen| {
        let number: usize =
            seen.line.split(['/', ' ']).nth(3).and_then(|number| number.parse().ok()).expect("a number");
        let lines = CASES[number].1.replace('|', "\r\n");
        let body = if lines.contains("chunked") { "2\r\nok\r\n0\r\n\r\n" } else { "ok" };
        let text = format!("HTTP/1.1 200 OK\r\n{lines}\r\n\r\n{body}");
        // Letters of Latin-1 as one byte each.
        Answer::Bytes(text.chars().map(|c| u8::try_from(u32::from(c)).expect("Latin-1")).collect())
    });
    let gateway = Gateway::with(&Toml { tls: false, ..Toml::default() }, &[backend.address]);
    let mut client = gateway.connect();
    let mut failed = Vec::new();
    for (number, (name, _, expected)) in CASES.iter().enumerate() {
        let reply = client.ask(get(&format!("/public/{number}"), None));
        let mut got: Vec<String> = reply
            .headers
            .iter()
            .map(|(name, value)| format!("{}: {value}", name.to_ascii_lowercase()))
            .filter(|line| !line.starts_with("date: "))
            .collect();
        got.sort();
        let mut expected: Vec<&str> = expected.split('|').collect();
        expected.sort_unstable();
        if got != expected || reply.text() != "ok" {
            failed.push(format!("{name}: {got:?}, expected {expected:?}"));
        }
    }
    println!("headers: {} answers", CASES.len());
    assert!(failed.is_empty(), "{}", failed.join("\n"));
}
