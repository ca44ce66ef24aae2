//! What one side sends and the other never takes: nothing of it is held for ever.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Empty};
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo};

use crate::support::{Answer, Backend, Client, Gateway, Toml, eventually, metric};

/// Answers each connection's first request at once, without its body, and then neither reads nor closes.
fn deaf() -> std::net::SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        let mut held = Vec::new();
        for mut stream in listener.incoming().map_while(Result::ok) {
            let mut piece = [0; 1024];
            drop(stream.read(&mut piece));
            drop(stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"));
            held.push(stream);
        }
    });
    address
}

/// The driver of such a connection would wait for ever to send the rest, and keep its room at the server.
#[test]
fn an_upload_that_was_answered_and_is_never_taken_holds_no_connection() {
    let server = deaf();
    let upstream = "keep_alive_timeout = \"300ms\"\nmax_connections = 1\n".to_owned();
    let toml = Toml { server: "workers = 1\n".into(), upstream, tls: false, ..Toml::default() };
    let gateway = Gateway::with(&toml, &[server]);
    for _ in 0..2 {
        let mut stream = TcpStream::connect(gateway.address).unwrap();
        stream.write_all(b"POST /public HTTP/1.1\r\nHost: a\r\nContent-Length: 100000000\r\n\r\n").unwrap();
        stream.set_write_timeout(Some(Duration::from_millis(300))).unwrap();
        // Until nothing more is taken, or the gateway has closed.
        while stream.write_all(&[b'x'; 64 * 1024]).is_ok() {}
        drop(stream);
    }
    assert_eq!(Client::plain(gateway.address).ask("GET /public HTTP/1.1\r\nHost: a\r\n\r\n").text(), "ok");
    eventually("its room is free", || metric(&gateway, "portcullis_upstream_connections") == 0.0);
}

/// Three mebibytes at once for `/public/download`; one piece every 700 ms for `/public/events`.
fn sending() -> Backend {
    Backend::answering(|seen| {
        if seen.line.contains("/download") {
            let mut bytes = b"HTTP/1.1 200 OK\r\nContent-Length: 3145728\r\n\r\n".to_vec();
            bytes.resize(bytes.len() + (3 << 20), b'x');
            return Answer::Bytes(bytes);
        }
        let head = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n";
        let event = (Duration::from_millis(700), b"2\r\n:\n\r\n".to_vec());
        let first = (Duration::ZERO, [head.as_bytes(), b"2\r\n:\n\r\n"].concat());
        Answer::Slowly(vec![first, event.clone(), event, (Duration::ZERO, b"0\r\n\r\n".to_vec())])
    })
}

/// Each stream has its own window, and pings are answered by a client that opens none of them.
#[test]
fn an_http2_stream_that_is_never_read_ends_and_others_go_on() {
    let backend = sending();
    let upstream = "keep_alive_timeout = \"300ms\"\n".to_owned();
    let limits = "body_idle_timeout = \"500ms\"\n".to_owned();
    let toml = Toml { server: "workers = 1\n".into(), upstream, limits, tls: false, ..Toml::default() };
    let gateway = Gateway::with(&toml, &[backend.address]);
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
        let socket = tokio::net::TcpStream::connect(gateway.address).await.unwrap();
        let (mut sender, connection) = hyper::client::conn::http2::Builder::new(TokioExecutor::new())
            .initial_stream_window_size(64 * 1024)
            .handshake(TokioIo::new(socket))
            .await
            .unwrap();
        tokio::spawn(connection);
        let mut ask = async |path: &str| -> Response<Incoming> {
            let request = Request::get(format!("http://a/public/{path}")).body(Empty::<Bytes>::new()).unwrap();
            sender.send_request(request).await.unwrap()
        };
        let unread = ask("download").await.into_body();
        let mut slow = ask("download").await.into_body();
        let events = ask("events").await.into_body();
        let start = Instant::now();
        let mut got = 0;
        // A client that takes its time takes something now and then.
        while let Some(frame) = slow.frame().await {
            got += frame.unwrap().data_ref().map_or(0, Bytes::len);
            if start.elapsed() < Duration::from_secs(2) {
                tokio::time::sleep(Duration::from_millis(40)).await;
            }
        }
        assert_eq!(got, 3 << 20);
        assert!(start.elapsed() > Duration::from_secs(1), "it was no slow one");
        // What is waited for here is the server.
        assert_eq!(events.collect().await.unwrap().to_bytes(), ":\n:\n:\n");
        let cut = unread.collect().await.unwrap_err();
        assert!(format!("{cut:?}").contains("CANCEL"), "{cut:?}");
        assert_eq!(ask("events").await.status(), 200);
    });
    for name in ["requests_in_flight", "connections"] {
        eventually(name, || metric(&gateway, &format!("portcullis_upstream_{name}")) == 0.0);
    }
}
