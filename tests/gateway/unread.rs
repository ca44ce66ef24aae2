//! What one side sends and the other never takes: nothing of it is held for ever.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::time::Duration;

use crate::support::{Client, Gateway, Toml, eventually, metric};

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
