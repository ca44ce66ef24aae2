//! Bodies in both directions: whole, in pieces, cut short, too long.

use std::time::{Duration, Instant};

use crate::support::{Answer, Backend, Gateway, Toml};

#[test]
fn bodies_of_both_framings_pass_unchanged() {
    let backend = Backend::answering(|seen| {
        let body = String::from_utf8_lossy(&seen.body).into_owned();
        Answer::Bytes(
            format!("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum\r\n\r\n{:x}\r\n{body}\r\n0\r\nX-Sum: 7\r\n\r\n", body.len())
                .into_bytes(),
        )
    });
    let gateway = Gateway::start(&backend);
    let mut client = gateway.connect();
    let body = "x".repeat(300_000);
    let whole =
        format!("PUT /public HTTP/1.1\r\nHost: a\r\nTE: trailers\r\nContent-Length: {}\r\n\r\n{body}", body.len());
    let reply = client.ask(whole);
    assert_eq!((reply.status, reply.body.len()), (200, body.len()));
    assert_eq!(reply.trailers, [("x-sum".to_owned(), "7".to_owned())]);
    let seen = backend.next();
    assert_eq!((seen.one("content-length"), seen.body.len()), ("300000", 300_000));

    let pieces = "POST /public HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3;ext=1\r\nabc\r\n4\r\ndefg\r\n0\r\n\r\n";
    assert_eq!(client.ask(pieces).text(), "abcdefg");
    let seen = backend.next();
    assert_eq!(
        (seen.one("transfer-encoding"), &seen.body[..], seen.all("content-length")),
        ("chunked", &b"abcdefg"[..], vec![])
    );

    // A GET may have one, too; it must not become the next request.
    let reply =
        client.ask("GET /public HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n");
    assert_eq!(reply.text(), "abc");
    assert_eq!(client.ask("GET /public HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhi").text(), "hi");
}

#[test]
fn a_response_is_streamed_not_collected() {
    let wait = Duration::from_millis(300);
    let backend = Backend::answering(move |_| {
        Answer::Slowly(vec![
            (Duration::ZERO, b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n".to_vec()),
            (wait, b"3\r\ndef\r\n0\r\n\r\n".to_vec()),
        ])
    });
    let gateway = Gateway::start(&backend);
    let mut client = gateway.connect();
    let start = Instant::now();
    client.send("GET /public HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(client.until(b"abc\r\n").map(|bytes| bytes.ends_with(b"abc\r\n")).ok(), Some(true));
    assert!(start.elapsed() < wait, "the first piece waited for the second");
    assert!(client.until(b"0\r\n\r\n").is_ok());
}

#[test]
fn a_body_the_client_breaks_off_is_its_own_fault() {
    let backend = Backend::start();
    let gateway = Gateway::start(&backend);
    for request in [
        "POST /public HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        "POST /public HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabcdef\r\n",
        "POST /public HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nfffffffffffffffff\r\nabc",
        "POST /public HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n-3\r\nabc\r\n0\r\n\r\n",
    ] {
        let reply = gateway.connect().ask(request);
        assert_eq!(reply.refusal(), (400, "body_broken".to_owned()), "{request:?}");
    }
    // Half a body, then silence and the end of the connection: the upstream sees no whole request.
    let mut client = gateway.connect();
    client.send("POST /public HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nabc");
    drop(client);
    assert_eq!(gateway.connect().ask("GET /public HTTP/1.1\r\nHost: a\r\n\r\n").status, 200);
    assert!(backend.next().line.starts_with("GET"));
    assert!(backend.saw_nothing());
}

#[test]
fn a_stalled_body_is_timed_out() {
    let backend = Backend::start();
    let toml = Toml { limits: "body_idle_timeout = \"300ms\"\n".into(), ..Toml::default() };
    let gateway = Gateway::with(&toml, &[backend.address]);
    let mut client = gateway.connect();
    let reply = client.ask("POST /public HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nabc");
    assert_eq!(reply.refusal(), (408, "body_timeout".to_owned()));
    assert_eq!(reply.header("connection"), Some("close"));
    assert!(backend.saw_nothing());
}

#[test]
fn a_body_longer_than_allowed_is_refused_before_and_while_it_comes() {
    let backend = Backend::start();
    let toml = Toml { limits: "body_bytes = \"1KiB\"\n".into(), ..Toml::default() };
    let gateway = Gateway::with(&toml, &[backend.address]);
    let said = "POST /public HTTP/1.1\r\nHost: a\r\nContent-Length: 1025\r\n\r\n";
    assert_eq!(gateway.connect().ask(said).refusal(), (413, "body_too_large".to_owned()));
    let unsaid = format!(
        "POST /public HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n400\r\n{}\r\n1\r\nx\r\n0\r\n\r\n",
        "x".repeat(1024)
    );
    assert_eq!(gateway.connect().ask(unsaid).refusal(), (413, "body_too_large".to_owned()));
    assert!(backend.saw_nothing());
    let just = format!("POST /public HTTP/1.1\r\nHost: a\r\nContent-Length: 1024\r\n\r\n{}", "x".repeat(1024));
    assert_eq!(gateway.connect().ask(just).status, 200);
}

#[test]
fn expect_continue_is_answered_and_a_refusal_comes_without_it() {
    let backend = Backend::start();
    let gateway = Gateway::start(&backend);
    let mut client = gateway.connect();
    client.send("POST /public HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nExpect: 100-continue\r\n\r\n");
    assert_eq!(client.until(b"\r\n\r\n").unwrap(), b"HTTP/1.1 100 Continue\r\n\r\n");
    assert_eq!(client.ask("abc").status, 200);
    let seen = backend.next();
    assert!(seen.all("expect").is_empty() && seen.body == b"abc");
    let mut client = gateway.connect();
    client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nExpect: 100-continue\r\n\r\n");
    assert!(client.until(b"\r\n").unwrap().starts_with(b"HTTP/1.1 401 "));
}

#[test]
fn head_and_204_have_no_body_and_the_connection_goes_on() {
    let backend = Backend::answering(|seen| match seen.line.split(' ').next() {
        Some("HEAD") => Answer::Bytes(b"HTTP/1.1 200 OK\r\nContent-Length: 12345\r\n\r\n".to_vec()),
        Some("DELETE") => Answer::Bytes(b"HTTP/1.1 204 No Content\r\n\r\n".to_vec()),
        _ => Answer::ok("ok"),
    });
    let gateway = Gateway::start(&backend);
    let mut client = gateway.connect();
    let head = client.send("HEAD /public HTTP/1.1\r\nHost: a\r\n\r\n").head_reply();
    assert_eq!((head.status, head.header("content-length")), (200, Some("12345")));
    assert_eq!(client.ask("DELETE /public HTTP/1.1\r\nHost: a\r\n\r\n").status, 204);
    assert_eq!(client.ask("GET /public HTTP/1.1\r\nHost: a\r\n\r\n").text(), "ok");
    // A refusal of HEAD has a length but no body.
    let refused = client.send("HEAD / HTTP/1.1\r\nHost: a\r\n\r\n").head_reply();
    assert_eq!(refused.status, 401);
    assert_eq!(client.ask("GET /public HTTP/1.1\r\nHost: a\r\n\r\n").text(), "ok");
}
