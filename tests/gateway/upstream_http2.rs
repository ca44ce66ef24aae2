//! HTTP/2 to upstreams.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::support::{Authority, Backend, Client, Gateway, Http2Server, RawHttp2, Toml, Workplace, frame, tls_backend};

fn toml(more: &str) -> Toml {
    Toml {
        server: "workers = 1\n".into(),
        upstream: format!("protocol = \"http2\"\nconnect_timeout = \"1s\"\n{more}"),
        ..Toml::default()
    }
}

fn gateway(server: SocketAddr) -> Gateway {
    Gateway::with(&toml(""), &[server])
}

fn get(path: &str) -> String {
    format!("GET /public/{path} HTTP/1.1\r\nHost: Shop.example:81\r\n\r\n")
}

#[test]
fn a_request_arrives_as_http2_has_it_with_trailers_in_both_directions() {
    let server = Http2Server::start();
    let gateway = gateway(server.address);
    let mut client = gateway.connect();
    let reply = client.ask(
        "POST /public/echo?x=1 HTTP/1.1\r\nHost: Shop.example:81\r\nTE: trailers\r\nConnection: te, x-gone\r\n\
         X-Gone: 1\r\nTrailer: X-Sum\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nbody\r\n0\r\nX-Sum: 7\r\nX-User-Id: eve\r\n\r\n",
    );
    assert_eq!((reply.status, reply.text()), (200, "body".to_owned()));
    let trailers: Vec<(&str, &str)> = reply.trailers.iter().map(|(name, value)| (&**name, &**value)).collect();
    assert_eq!(trailers, [("x-back-x-sum", "7"), ("grpc-status", "0")]);

    let arrived = server.next();
    let uri = arrived.request.uri();
    assert_eq!(uri.to_string(), "http://Shop.example:81/public/echo?x=1");
    let headers = arrived.request.headers();
    for gone in ["host", "connection", "transfer-encoding", "x-gone", "keep-alive", "upgrade"] {
        assert!(!headers.contains_key(gone), "{gone}: {headers:?}");
    }
    assert_eq!((&headers["te"], &headers["via"]), (&"trailers".parse().unwrap(), &"1.1 portcullis".parse().unwrap()));
    assert_eq!(arrived.body, b"body");
    assert_eq!(arrived.trailers.len(), 1, "{:?}", arrived.trailers);
    assert_eq!(arrived.trailers["x-sum"], "7");

    assert_eq!(client.ask(get("hello")).text(), "hello");
    let arrived = server.next();
    assert!(!arrived.request.headers().contains_key("te"));
    assert_eq!((arrived.connection, server.connections()), (0, 1));
}

#[test]
fn over_tls_it_is_agreed_on_by_alpn_and_a_server_without_it_is_refused() {
    let authority = Authority::new();
    let place = || {
        let place = Workplace::new();
        std::fs::write(place.path("ca.pem"), authority.pem()).unwrap();
        Arc::new(place)
    };
    let before = |server: SocketAddr| {
        let toml = toml("[upstream.app.tls]\nca = \"ca.pem\"\n");
        Gateway::before(place(), &toml, &[format!("https://localhost:{}", server.port())])
    };
    let mut config = authority.issue("localhost").server();
    config.alpn_protocols = vec![b"http/1.1".to_vec(), b"h2".to_vec()];
    let server = Http2Server::with(Some(config), 100);
    assert_eq!(before(server.address).connect().ask(get("hello")).text(), "hello");
    assert_eq!(server.next().request.uri().to_string(), "https://Shop.example:81/public/hello");

    let (old, _) = tls_backend(authority.issue("localhost").server());
    let reply = before(old.address).connect().ask(get("hello"));
    assert_eq!(reply.refusal(), (502, "upstream_unreachable".to_owned()));
}

#[test]
fn a_server_that_speaks_something_else_or_nothing_is_a_502_within_the_connect_timeout() {
    let old = Backend::start();
    let start = Instant::now();
    assert_eq!(gateway(old.address).connect().ask(get("x")).refusal(), (502, "upstream_unreachable".to_owned()));
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let reply = gateway(silent.local_addr().unwrap()).connect().ask(get("x"));
    assert_eq!(reply.refusal(), (502, "upstream_unreachable".to_owned()));
    assert!(start.elapsed() < Duration::from_secs(6), "{:?}", start.elapsed());
}

/// So many requests that the server holds, each on a client connection of its own.
fn held(gateway: &Gateway, server: &Http2Server, count: usize) -> Vec<Client> {
    let clients: Vec<Client> = (0..count)
        .map(|_| {
            let mut client = gateway.connect();
            client.send(get("hold"));
            client
        })
        .collect();
    for _ in 0..count {
        server.next();
    }
    clients
}

#[test]
fn many_requests_share_a_connection_and_another_is_opened_only_when_it_is_full() {
    let server = Http2Server::with(None, 4);
    let gateway = gateway(server.address);
    let mut clients = held(&gateway, &server, 4);
    assert_eq!(server.connections(), 1);
    clients.extend(held(&gateway, &server, 3));
    assert_eq!(server.connections(), 2);
    server.release();
    for client in &mut clients {
        assert_eq!(client.reply().status, 200);
    }
    // Room everywhere: the first is used.
    let reply = gateway.connect().ask(get("hello"));
    assert_eq!((reply.header("x-connection"), server.connections()), (Some("0"), 2));
}

#[test]
fn a_burst_opens_one_connection_and_not_one_for_each_request() {
    let server = Http2Server::start();
    let gateway = gateway(server.address);
    let mut clients: Vec<Client> = (0..30).map(|_| gateway.connect()).collect();
    // Handshakes done, so that the requests come together.
    for client in &mut clients {
        assert_eq!(client.ask("GET /none HTTP/1.1\r\nHost: a\r\n\r\n").status, 401);
    }
    for client in &mut clients {
        client.send(get("hello"));
    }
    for client in &mut clients {
        assert_eq!(client.reply().text(), "hello");
    }
    assert_eq!(server.connections(), 1);
}

#[test]
fn a_client_that_goes_away_resets_its_stream_and_the_connection_stays() {
    let server = Http2Server::start();
    let gateway = gateway(server.address);
    let mut other = held(&gateway, &server, 1);
    let mut client = gateway.connect();
    client.send(get("hang"));
    std::thread::sleep(Duration::from_millis(100));
    drop(client);
    assert_eq!(server.next().reset, Some(h2::Reason::CANCEL));
    server.release();
    assert_eq!(other[0].reply().status, 200);
    assert_eq!(other[0].ask(get("hello")).status, 200);
    assert_eq!(server.connections(), 1);
}

#[test]
fn an_answer_that_does_not_come_is_a_504_and_others_do_not_wait_on_that_connection() {
    let server = Http2Server::start();
    let gateway = Gateway::with(&toml("response_timeout = \"300ms\"\n"), &[server.address]);
    let mut client = gateway.connect();
    assert_eq!(client.ask(get("hang")).refusal(), (504, "upstream_timeout".to_owned()));
    assert_eq!(server.next().reset, Some(h2::Reason::CANCEL));
    let reply = client.ask(get("hello"));
    assert_eq!((reply.status, reply.header("x-connection")), (200, Some("1")));
}

#[test]
fn pieces_go_both_ways_as_they_come() {
    let server = Http2Server::start();
    let gateway = gateway(server.address);
    let mut client = gateway.connect();
    client.send("POST /public/stream HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\none\r\n");
    assert!(client.until(b"\r\n\r\n").unwrap().starts_with(b"HTTP/1.1 200"));
    assert_eq!(client.until(b"one\r\n").unwrap(), b"3\r\none\r\n");
    for _ in 0..3 {
        client.send("3\r\ntwo\r\n");
        assert_eq!(client.until(b"two\r\n").unwrap(), b"3\r\ntwo\r\n");
    }
    client.send("0\r\n\r\n");
    assert_eq!(client.until(b"0\r\n\r\n").unwrap(), b"0\r\n\r\n");
    assert_eq!(server.next().body, b"onetwotwotwo");
}

#[test]
fn a_server_that_dies_in_the_middle_breaks_the_stream_and_the_next_request_finds_another_connection() {
    let server = Http2Server::start();
    let gateway = gateway(server.address);
    let mut client = gateway.connect();
    client.send(get("die"));
    let bytes = client.drained().expect("closed");
    assert!(bytes.starts_with(b"HTTP/1.1 200") && !bytes.ends_with(b"0\r\n\r\n"), "{bytes:?}");
    let reply = gateway.connect().ask(get("hello"));
    assert_eq!((reply.status, reply.header("x-connection")), (200, Some("1")));
}

const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const GOAWAY: u8 = 7;

/// `:status: 200` and the end (RFC 7541 appendix A).
fn ok(stream: u32) -> Vec<u8> {
    frame(HEADERS, 0x5, stream, &[0x88])
}

fn go_away(last_stream: u32) -> Vec<u8> {
    frame(GOAWAY, 0, 0, &[&last_stream.to_be_bytes()[..], &[0; 4]].concat())
}

const POST: &str = "POST /public HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n";

#[test]
fn a_request_above_the_last_one_of_a_goaway_is_sent_again_whatever_it_asks_for() {
    let server = RawHttp2::start(|connection, stream| match (connection, stream) {
        (0, 3) => (go_away(1), false),
        (_, stream) => (ok(stream), true),
    });
    let gateway = gateway(server.address);
    let mut client = gateway.connect();
    for _ in 0..3 {
        assert_eq!(client.ask(POST).status, 200);
    }
    assert_eq!(server.seen(), [vec![1, 3], vec![1, 3]]);
}

#[test]
fn a_request_that_may_have_been_acted_on_is_not_sent_again() {
    let server = RawHttp2::start(|_, stream| match stream {
        3 => (go_away(3), false),
        stream => (ok(stream), true),
    });
    let gateway = gateway(server.address);
    let mut client = gateway.connect();
    assert_eq!(client.ask(POST).status, 200);
    assert_eq!(client.ask(POST).refusal(), (502, "upstream_broken".to_owned()));
    assert_eq!(server.seen(), [[1, 3]]);
    assert_eq!(client.ask(POST).status, 200);
}

#[test]
fn a_refused_stream_is_sent_again_but_not_for_ever() {
    let refused = |stream| frame(RST_STREAM, 0, stream, &[0, 0, 0, 7]);
    let server = RawHttp2::start(move |_, stream| match stream {
        1 | 5.. => (refused(stream), true),
        stream => (ok(stream), true),
    });
    let gateway = gateway(server.address);
    let mut client = gateway.connect();
    assert_eq!(client.ask(POST).status, 200);
    assert_eq!(server.seen(), [[1, 3]]);
    assert_eq!(client.ask(POST).refusal(), (502, "upstream_broken".to_owned()));
    assert_eq!(server.seen(), [[1, 3, 5, 7, 9]]);
}

#[test]
fn a_body_is_not_sent_twice() {
    let server = RawHttp2::start(|_, stream| (frame(RST_STREAM, 0, stream, &[0, 0, 0, 7]), true));
    let gateway = gateway(server.address);
    let reply = gateway.connect().ask("POST /public HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhi");
    assert_eq!(reply.refusal(), (502, "upstream_broken".to_owned()));
    assert_eq!(server.seen(), [[1]]);
}
