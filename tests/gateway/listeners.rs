//! Several listeners in one gateway, each with what is spoken there.

use std::net::SocketAddr;

use crate::support::{Backend, Client, Gateway, Process, Toml, get};

const GET: &str = "GET /public HTTP/1.1\r\nHost: a\r\n\r\n";

/// A gateway with a listener of `terms` besides its TLS one.
fn with_listener(backend: &Backend, terms: &str) -> (Gateway, SocketAddr) {
    let server = format!("workers = 1\n[[server.listener]]\naddress = \"127.0.0.1:0\"\n{terms}\n");
    let gateway = Gateway::with(&Toml { server, ..Toml::default() }, &[backend.address]);
    let address = gateway.app().listening()[1];
    (gateway, address)
}

#[test]
fn tls_and_plain_stand_side_by_side() {
    let backend = Backend::start();
    let (gateway, plain) = with_listener(&backend, "tls = false");
    let pair = gateway.sign_in("ann");
    let request = get("/", Some(&pair.access_token));
    for (mut client, proto) in [(gateway.connect(), "https"), (Client::plain(plain), "http")] {
        assert_eq!(client.ask(&request).status, 200);
        let seen = backend.next();
        assert_eq!((seen.one("x-user-id"), seen.one("x-forwarded-proto")), ("ann", proto));
        assert_eq!(client.ask(get("/", None)).status, 401);
    }
    // Neither speaks the other's.
    let mut client = Client::plain(gateway.address);
    client.send(GET);
    assert!(!client.drained().unwrap().starts_with(b"HTTP"));
    let mut client = Client::plain(plain);
    client.send(b"\x16\x03\x01\x00\x05hello\r\n\r\n");
    assert!(client.drained().unwrap().starts_with(b"HTTP/1.1 400 "));
    let (_gateway, usual) = with_listener(&backend, "");
    assert_eq!(Client::tls(usual, &_gateway.place.path("cert.pem")).ask(GET).status, 200, "TLS where it is not said");
}

#[test]
fn every_request_is_sent_to_https_with_its_host_and_target() {
    let backend = Backend::start();
    for (terms, port) in
        [("redirect_to_https = true", ""), ("redirect_to_https = 443", ""), ("redirect_to_https = 8443", ":8443")]
    {
        let (gateway, address) = with_listener(&backend, terms);
        let mut client = Client::plain(address);
        for (line, host, location) in [
            ("GET / HTTP/1.1", "shop.example", "https://shop.example{}/"),
            ("GET /a%20b/c?x=1&y=%2F? HTTP/1.1", "Shop.example:8080", "https://shop.example{}/a%20b/c?x=1&y=%2F?"),
            ("GET http://shop.example/x?y HTTP/1.1", "shop.example", "https://shop.example{}/x?y"),
            ("GET http://shop.example HTTP/1.1", "shop.example", "https://shop.example{}/"),
            ("GET /.well-known/acme-challenge/t HTTP/1.1", "[::1]:80", "https://[::1]{}/.well-known/acme-challenge/t"),
            // A path that only some routes take is theirs to judge; it cannot become another host.
            ("GET //evil.example/ HTTP/1.1", "a", "https://a{}//evil.example/"),
            ("GET /x%2fy HTTP/1.1", "a", "https://a{}/x%2fy"),
            ("POST /auth/refresh HTTP/1.1", "a", "https://a{}/auth/refresh"),
            ("DELETE /no/route HTTP/1.1", "127.0.0.1", "https://127.0.0.1{}/no/route"),
        ] {
            let bearer = "Authorization: Bearer not-looked-at\r\nContent-Length: 0";
            let reply = client.ask(format!("{line}\r\nHost: {host}\r\n{bearer}\r\n\r\n"));
            assert_eq!((reply.status, reply.body.len()), (308, 0), "{line}");
            assert_eq!(reply.header("location"), Some(&*location.replace("{}", port)), "{line}");
        }
        let head = client.send("HEAD /x HTTP/1.1\r\nHost: a\r\n\r\n").head_reply();
        assert_eq!((head.status, head.header("location").is_some()), (308, true));
        let reply = client.ask("POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc");
        assert_eq!((reply.status, reply.header("location")), (308, Some(&*format!("https://a{port}/x"))));
        drop(gateway);
    }
    assert!(backend.saw_nothing());
}

#[test]
fn what_two_readers_could_take_differently_is_not_redirected() {
    let backend = Backend::start();
    let (_gateway, address) = with_listener(&backend, "redirect_to_https = true");
    for (head, status, reason) in [
        ("GET / HTTP/1.1\r\n", 400, "bad_host"),
        ("GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n", 400, "bad_host"),
        ("GET / HTTP/1.1\r\nHost: a/evil.example\r\n", 400, "bad_host"),
        ("GET / HTTP/1.1\r\nHost: user@a\r\n", 400, "bad_host"),
        ("GET http://b/ HTTP/1.1\r\nHost: a\r\n", 400, "bad_host"),
        ("GET /a%00 HTTP/1.1\r\nHost: a\r\n", 400, "bad_path"),
        ("GET /../x HTTP/1.1\r\nHost: a\r\n", 400, "bad_path"),
        ("OPTIONS * HTTP/1.1\r\nHost: a\r\n", 400, "bad_target"),
        ("CONNECT a:443 HTTP/1.1\r\nHost: a:443\r\n", 501, "not_implemented"),
        ("GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 00\r\n", 400, "bad_framing"),
    ] {
        let reply = Client::plain(address).ask(format!("{head}\r\n"));
        assert_eq!(reply.status, status, "{head}");
        assert_eq!(reply.refusal(), (status, reason.to_owned()), "{head}");
        assert_eq!(reply.header("location"), None);
    }
    let long = format!("GET /{} HTTP/1.1\r\nHost: a\r\n\r\n", "x".repeat(9000));
    assert_eq!(Client::plain(address).ask(long).refusal(), (414, "uri_too_long".to_owned()));
}

#[test]
fn the_start_tells_of_every_listener_what_it_is() {
    let backend = Backend::start();
    let server = "workers = 1\n\
        [[server.listener]]\naddress = \"127.0.0.1:0\"\nproxy_protocol = [\"192.0.2.0/24\"]\n\
        [[server.listener]]\naddress = \"127.0.0.1:0\"\nredirect_to_https = 8443\n";
    let place = std::sync::Arc::new(crate::support::Workplace::new());
    let running = Process::start(&place, &Toml { server: server.into(), ..Toml::default() }, &backend);
    // It is ready a moment before it says so.
    let start = std::time::Instant::now();
    let line = loop {
        let log = running.log();
        match log.lines().find(|line| line.contains("listening on")) {
            Some(line) => break line.to_owned(),
            None => assert!(start.elapsed() < std::time::Duration::from_secs(10), "{log}"),
        }
        std::thread::sleep(std::time::Duration::from_millis(20));
    };
    let first = format!("listening on https://{}, https://127.0.0.1:", running.address);
    assert!(line.contains(&first), "{line}");
    assert!(line.contains(" (PROXY protocol), http://127.0.0.1:"), "{line}");
    assert!(line.contains(" (redirects to https at port 8443)"), "{line}");
}
