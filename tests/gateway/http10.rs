//! Clients of HTTP/1.0, and upstreams that end a response by closing.

use crate::support::{Answer, Backend, Gateway, Toml};

fn chunked() -> Answer {
    Answer::Bytes(
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum\r\n\r\n3\r\nabc\r\n4\r\ndefg\r\n0\r\nX-Sum: 7\r\n\r\n".to_vec(),
    )
}

/// All bytes of the answer to `request`, which ends with the connection.
fn answer(gateway: &Gateway, request: &str) -> String {
    let mut client = gateway.connect();
    client.send(request);
    String::from_utf8(client.drained().expect("closed")).unwrap()
}

/// `Connection: close` or nothing, and never a coding.
fn head_and_body(answer: &str) -> (&str, &str) {
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or_else(|| panic!("{answer:?}"));
    assert!(!head.to_lowercase().contains("transfer-encoding"), "{head}");
    assert!(!head.to_lowercase().contains("keep-alive"), "{head}");
    (head, body)
}

#[test]
fn a_chunked_response_goes_to_http10_until_the_connection_closes() {
    let backend = Backend::answering(|_| chunked());
    let gateway = Gateway::start(&backend);
    for connection in ["", "Connection: keep-alive\r\n", "Connection: close\r\n"] {
        let answer = answer(&gateway, &format!("GET /public HTTP/1.0\r\nHost: a\r\n{connection}\r\n"));
        let (head, body) = head_and_body(&answer);
        assert!(head.starts_with("HTTP/1.0 200 OK\r\n"), "{head}");
        assert_eq!(body, "abcdefg", "without the trailers, which HTTP/1.0 does not have");
        let seen = backend.next();
        assert_eq!(seen.line, "GET /public HTTP/1.1", "the upstream is spoken to in our own version");
        assert!(seen.all("connection").is_empty());
    }
}

#[test]
fn a_connection_of_http10_stays_open_only_when_it_was_asked_to() {
    let backend = Backend::start();
    let gateway = Gateway::start(&backend);
    let answered = answer(&gateway, "GET /public HTTP/1.0\r\nHost: a\r\n\r\n");
    assert_eq!(head_and_body(&answered).1, "hello");

    let mut client = gateway.connect();
    for _ in 0..3 {
        let reply = client.ask("GET /public HTTP/1.0\r\nHost: a\r\nConnection: keep-alive\r\n\r\n");
        assert_eq!((reply.status, reply.text().as_str()), (200, "hello"));
        assert_eq!(reply.header("connection"), Some("keep-alive"), "said, because HTTP/1.0 closes otherwise");
    }
    // A refusal, too, has a length.
    let refused = client.ask("GET / HTTP/1.0\r\nHost: a\r\nConnection: keep-alive\r\n\r\n");
    assert_eq!((refused.status, refused.header("connection")), (401, Some("keep-alive")));
    client.send("GET /public HTTP/1.0\r\nHost: a\r\n\r\n");
    let last = String::from_utf8(client.drained().expect("closed")).unwrap();
    assert!(last.ends_with("hello"), "{last}");
}

#[test]
fn a_body_of_http10_has_a_length_and_is_not_asked_for() {
    let backend = Backend::answering(|seen| Answer::ok(&String::from_utf8_lossy(&seen.body)));
    let gateway = Gateway::start(&backend);
    // RFC 9110 §10.1.1: an expectation of HTTP/1.0 is ignored.
    let request = "POST /public HTTP/1.0\r\nHost: a\r\nContent-Length: 3\r\nExpect: 100-continue\r\n\r\nabc";
    let answered = answer(&gateway, request);
    assert!(answered.starts_with("HTTP/1.0 200 ") && answered.ends_with("\r\n\r\nabc"), "{answered}");
    let coded = "POST /public HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n";
    let refused = answer(&gateway, coded);
    assert!(refused.split(' ').nth(1) == Some("400"), "{refused}");
    // A refusal has its own length.
    let refused = answer(&gateway, "GET / HTTP/1.0\r\nHost: a\r\n\r\n");
    let (head, body) = head_and_body(&refused);
    assert!(head.contains(&format!("content-length: {}", body.len())), "{head}");
    let head = answer(&gateway, "HEAD /public HTTP/1.0\r\nHost: a\r\n\r\n");
    assert!(head_and_body(&head).1.is_empty());
}

#[test]
fn a_response_that_ends_with_the_upstreams_connection_reaches_every_version() {
    for version in ["1.0", "1.1"] {
        let backend = Backend::answering(move |_| {
            Answer::Close(format!("HTTP/{version} 200 OK\r\nContent-Type: text/plain\r\n\r\nto the end").into_bytes())
        });
        let gateway = Gateway::with(&Toml { tls: false, ..Toml::default() }, &[backend.address]);
        let mut client = gateway.connect();
        for _ in 0..2 {
            let reply = client.ask("GET /public HTTP/1.1\r\nHost: a\r\n\r\n");
            assert_eq!((reply.text().as_str(), reply.header("transfer-encoding")), ("to the end", Some("chunked")));
        }
        let answered = answer(&gateway, "GET /public HTTP/1.0\r\nHost: a\r\nConnection: keep-alive\r\n\r\n");
        assert_eq!(head_and_body(&answered).1, "to the end");
        let (response, body, trailers) = crate::plain_http2::exchange(gateway.address, "/public", "GET");
        assert_eq!((response.status().as_u16(), &body[..], trailers), (200, &b"to the end"[..], None));
        assert_eq!(backend.connections(), 4, "a connection that was closed is not used again");
    }
}

#[test]
fn a_response_cut_short_is_not_made_to_look_whole() {
    let backend = Backend::answering(|seen| {
        let head = "HTTP/1.1 200 OK\r\n";
        Answer::Close(match seen.line.split(' ').nth(1) {
            Some("/public/length") => format!("{head}Content-Length: 10\r\n\r\nabc").into_bytes(),
            _ => format!("{head}Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n").into_bytes(),
        })
    });
    let gateway = Gateway::start(&backend);
    // HTTP/1.0 has nothing to tell a cut from an end where no length was said.
    for (path, version) in [("length", "1.1"), ("length", "1.0"), ("chunks", "1.1")] {
        let answered = answer(&gateway, &format!("GET /public/{path} HTTP/{version}\r\nHost: a\r\n\r\n"));
        let (head, body) = answered.split_once("\r\n\r\n").unwrap_or_else(|| panic!("{answered:?}"));
        assert!(head.contains(" 200 "), "{head}");
        if path == "length" {
            assert!(head.contains("content-length: 10") && "abc".starts_with(body), "{answered}");
        } else {
            assert!("3\r\nabc\r\n".starts_with(body), "without the last chunk: {answered}");
        }
    }
}
