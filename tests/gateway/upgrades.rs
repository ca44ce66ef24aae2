//! Requests that go on in another protocol.

use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{Method, Request};
use http_body_util::{BodyExt as _, Empty};
use hyper::ext::Protocol;
use hyper_util::rt::TokioIo;
use portcullis::clock::UnixTime;
use portcullis::revocation::EndReason;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::support::{Backend, Client, Gateway, Switching, Toml, connect_http2, handshake};

/// A small masked frame with `text`, the mask being zeros.
pub(crate) fn text_frame(text: &str) -> Vec<u8> {
    let mut frame = vec![0x81, 0x80 | u8::try_from(text.len()).unwrap(), 0, 0, 0, 0];
    frame.extend(text.bytes());
    frame
}

#[test]
fn an_upgraded_connection_carries_bytes_both_ways_under_the_identity_of_its_handshake() {
    let backend = Switching::start();
    let gateway = Gateway::with(&Toml::default(), &[backend.address]);
    let pair = gateway.sign_in("ann");
    let mut client = gateway.connect();
    let forged = "X-User-Id: admin\r\nHTTP2-Settings: AAMAAABk\r\n\r\n";
    // The first frame comes with the handshake: it waits for the 101.
    let request = handshake("/echo", Some(&pair.access_token)).replacen("\r\n\r\n", &format!("\r\n{forged}"), 1);
    client.send([request.as_bytes(), &text_frame("early")].concat());
    let reply = client.reply();
    assert_eq!(reply.status, 101, "{reply:?}");
    assert_eq!(reply.header("upgrade"), Some("websocket"));
    assert_eq!(reply.header("connection"), Some("upgrade"));
    assert_eq!(reply.header("sec-websocket-accept"), Some("s3pPLMBiTxaQ9kYGzzhZRbK+xOo="));
    assert_eq!(reply.header("sec-websocket-protocol"), Some("chat"));
    assert_eq!(client.until(b"early").unwrap(), text_frame("early"));
    let long = text_frame(&"x".repeat(100)).repeat(20_000);
    client.send(&long);
    client.send(text_frame("end"));
    let back = client.until(b"end").unwrap();
    assert!(back == [&long[..], &text_frame("end")].concat());
    drop(client);

    let seen = backend.ended();
    let head = seen.head.to_ascii_lowercase();
    assert!(head.starts_with("get /echo http/1.1\r\n"), "{head}");
    for once in ["\r\nx-user-id: ann\r\n", "\r\nconnection: upgrade\r\n", "\r\nupgrade: websocket\r\n"] {
        assert_eq!(head.matches(once).count(), 1, "{once:?} {head}");
    }
    for never in ["admin", "http2-settings", "authorization"] {
        assert!(!head.contains(never), "{never}: {head}");
    }
    assert_eq!(seen.bytes.len(), text_frame("early").len() + long.len() + text_frame("end").len());
}

#[test]
fn a_handshake_without_identity_never_reaches_the_upstream() {
    let backend = Switching::start();
    let gateway = Gateway::with(&Toml::default(), &[backend.address]);
    let mut client = gateway.connect();
    client.send(handshake("/echo", None));
    client.send(text_frame("early"));
    assert_eq!(client.reply().refusal(), (401, "missing_token".to_owned()));
    assert!(!backend.has_ended());
}

/// In such a tunnel the client would speak HTTP to the backend, and say itself who it is.
#[test]
fn an_upgrade_to_http_is_not_passed_on() {
    let backend = Backend::start();
    let gateway = Gateway::start(&backend);
    for protocol in ["h2c", "HTTP/2.0", "TLS/1.2", "websocket, h2c"] {
        let mut client = gateway.connect();
        let request = handshake("/public", None).replace("Upgrade: websocket", &format!("Upgrade: {protocol}"));
        assert_eq!(client.ask(request).status, 200, "{protocol}");
        let seen = backend.next();
        assert!(seen.all("upgrade").is_empty() && seen.all("connection").is_empty(), "{protocol}: {seen:?}");
        // The same connection goes on in HTTP.
        assert_eq!(client.ask("GET /public HTTP/1.1\r\nHost: a\r\n\r\n").status, 200);
        backend.next();
    }
}

#[test]
fn a_route_says_which_upgrades_it_allows() {
    let backend = Switching::start();
    let toml = Toml {
        rest: "[[route]]\npath = \"/none\"\nupstream = \"app\"\nauth = \"public\"\nupgrades = []\n\
               [[route]]\npath = \"/chat\"\nupstream = \"app\"\nauth = \"public\"\nupgrades = [\"Chat/2\"]\n\
               [[route]]\npath = \"/any\"\nupstream = \"app\"\nauth = \"public\"\n"
            .into(),
        ..Toml::default()
    };
    let gateway = Gateway::with(&toml, &[backend.address]);
    let ask = |path: &str, protocol: &str| {
        gateway
            .connect()
            .ask(handshake(path, None).replace("Upgrade: websocket", &format!("Upgrade: {protocol}")))
            .status
    };
    assert_eq!((ask("/none", "websocket"), ask("/none", "chat/2")), (200, 200));
    assert_eq!((ask("/chat", "websocket"), ask("/chat", "chat/2"), ask("/chat", "CHAT/2")), (200, 101, 101));
    assert_eq!((ask("/any", "websocket"), ask("/any", "chat/1"), ask("/any", "h2c")), (101, 101, 200));
}

#[test]
fn an_upstream_that_switches_to_something_else_is_broken_and_one_that_does_not_switch_is_heard() {
    let backend = Switching::start();
    let gateway = Gateway::with(&Toml::default(), &[backend.address]);
    let mut client = gateway.connect();
    assert_eq!(client.ask(handshake("/public/other", None)).refusal(), (502, "upstream_broken".to_owned()));
    assert_eq!(client.ask(handshake("/public/plain", None)).text(), "plain");
    assert_eq!(client.ask("GET /public/plain HTTP/1.1\r\nHost: a\r\n\r\n").text(), "plain");
}

#[test]
fn a_request_with_a_body_is_not_upgraded() {
    let backend = Backend::start();
    let gateway = Gateway::start(&backend);
    let mut client = gateway.connect();
    let request = handshake("/public", None).replacen("\r\n\r\n", "\r\nContent-Length: 2\r\n\r\nhi", 1);
    assert_eq!(client.ask(request).status, 200);
    let seen = backend.next();
    assert!(seen.body == b"hi" && seen.all("upgrade").is_empty(), "{seen:?}");
}

#[test]
fn either_end_of_a_tunnel_ends_the_other() {
    let backend = Switching::start();
    let gateway = Gateway::with(&Toml::default(), &[backend.address]);
    let mut client = gateway.connect();
    assert_eq!(client.ask(handshake("/public/echo", None)).status, 101);
    drop(client);
    assert!(backend.ended().bytes.is_empty());

    let backend = Backend::answering(|_| {
        crate::support::Answer::Close(
            b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\nlast words".to_vec(),
        )
    });
    let gateway = Gateway::start(&backend);
    let mut client = gateway.connect();
    assert_eq!(client.ask(handshake("/public", None)).status, 101);
    assert_eq!(client.drained().expect("closed"), b"last words");
}

#[test]
fn a_silent_tunnel_is_closed_with_a_word() {
    let backend = Switching::start();
    let toml = Toml { limits: "stream_idle_timeout = \"300ms\"\n".into(), ..Toml::default() };
    let gateway = Gateway::with(&toml, &[backend.address]);
    let mut client = gateway.connect();
    assert_eq!(client.ask(handshake("/public/echo", None)).status, 101);
    for _ in 0..4 {
        std::thread::sleep(Duration::from_millis(150));
        client.send(text_frame("on"));
        client.until(b"on").unwrap();
    }
    let start = Instant::now();
    assert_eq!(client.drained().expect("closed"), b"\x88\x06\x03\xe9idle");
    assert!(start.elapsed() < Duration::from_secs(3));
    // The backend is told as well, in a frame masked as a client's.
    let seen = backend.ended().bytes;
    let [.., flags, length, m0, m1, m2, m3, c0, c1, i, d, l, e] = seen[..] else { panic!("{seen:?}") };
    assert_eq!((flags, length), (0x88, 0x86));
    assert_eq!([c0 ^ m0, c1 ^ m1, i ^ m2, d ^ m3, l ^ m0, e ^ m1], *b"\x03\xe9idle");
}

#[test]
fn a_websocket_is_closed_when_the_gateway_stops() {
    let backend = Switching::start();
    let gateway = Gateway::with(&Toml::default(), &[backend.address]);
    let mut client = gateway.connect();
    assert_eq!(client.ask(handshake("/public/echo", None)).status, 101);
    let start = Instant::now();
    let stopping = std::thread::spawn(move || gateway.stop());
    assert_eq!(client.drained().expect("closed"), b"\x88\x12\x03\xe9gateway stopping");
    drop(client);
    stopping.join().unwrap();
    assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
}

#[test]
fn a_websocket_over_http2_reaches_an_http1_upstream_as_one() {
    let backend = Switching::start();
    let gateway = Gateway::with(&Toml::default(), &[backend.address]);
    let pair = gateway.sign_in("ann");
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
        let mut sender = connect_http2(gateway.address, &gateway.place.path("cert.pem")).await;
        let connect = |path: &str, token: Option<&str>| {
            let mut request = Request::builder()
                .method(Method::CONNECT)
                .uri(format!("https://localhost{path}"))
                .header("sec-websocket-version", "13")
                .header("x-user-id", "forged")
                .extension(Protocol::from_static("websocket"));
            if let Some(token) = token {
                request = request.header("authorization", format!("Bearer {token}"));
            }
            request.body(Empty::<Bytes>::new()).unwrap()
        };
        // The settings that allow it may still be under way.
        sender.ready().await.unwrap();
        let token = pair.access_token.to_string();
        let refused = sender.send_request(connect("/echo", None)).await.unwrap();
        assert_eq!(refused.status(), 401);
        let not_switched = sender.send_request(connect("/plain", Some(&token))).await.unwrap();
        assert_eq!(not_switched.status(), 502);
        // Its client cannot find out: it has no key of its own.
        let stale = sender.send_request(connect("/stale", Some(&token))).await.unwrap();
        assert_eq!(stale.status(), 502);
        assert!(backend.ended().head.contains("/stale"));
        // Any other CONNECT is a tunnel to anywhere.
        let plain = Request::connect("localhost:80").body(Empty::new()).unwrap();
        assert_eq!(sender.send_request(plain).await.unwrap().status(), 501);

        let mut response = sender.send_request(connect("/echo", Some(&token))).await.unwrap();
        assert_eq!(response.status(), 200);
        assert_eq!(response.headers()["sec-websocket-protocol"], "chat");
        assert!(!response.headers().contains_key("sec-websocket-accept"));
        let mut tunnel = TokioIo::new(hyper::upgrade::on(&mut response).await.unwrap());
        for text in ["one", "two"] {
            tunnel.write_all(&text_frame(text)).await.unwrap();
            let mut back = vec![0; text_frame(text).len()];
            tunnel.read_exact(&mut back).await.unwrap();
            assert_eq!(back, text_frame(text));
        }
        // The connection serves others meanwhile.
        let other = Request::get("https://localhost/public/plain").body(Empty::new()).unwrap();
        let other = sender.send_request(other).await.unwrap();
        assert_eq!(other.into_body().collect().await.unwrap().to_bytes(), "plain");

        let sessions = gateway.app().gateway().sessions.clone();
        let end = async move { sessions.end(pair.session, EndReason::SignedOut, UnixTime::now()).await };
        assert!(gateway.app().gateway().control.spawn(end).await.unwrap().unwrap());
        let mut rest = Vec::new();
        tunnel.read_to_end(&mut rest).await.unwrap();
        assert_eq!(rest, b"\x88\x0c\x03\xf0signed_out");
    });
    let seen = backend.ended();
    let head = seen.head.to_ascii_lowercase();
    assert!(head.starts_with("get /echo http/1.1\r\n") && head.contains("\r\nx-user-id: ann\r\n"), "{head}");
    assert!(!head.contains("forged") && head.contains("\r\nsec-websocket-key: "), "{head}");
}

#[test]
fn http_1_0_is_not_upgraded() {
    let backend = Backend::start();
    let toml = Toml { tls: false, ..Toml::default() };
    let gateway = Gateway::with(&toml, &[backend.address]);
    let mut client = Client::plain(gateway.address);
    client.send(handshake("/public", None).replace("HTTP/1.1", "HTTP/1.0"));
    assert_eq!(client.reply().status, 200);
    assert!(backend.next().all("upgrade").is_empty());
}
