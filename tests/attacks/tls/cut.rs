//! Connections that end where they should not. TCP lets anybody between the two sides say that there is no more; within
//! TLS the end is told by an alert, `close_notify`, and what ends without it may be only a part (RFC 8446 §6.1).

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustls::{ClientConnection, StreamOwned};

use super::raw::*;
use super::{PATIENCE, gateway};
use crate::support::{Answer, Authority, Backend, Gateway, Toml, Workplace, tls_config};

type Stream = StreamOwned<ClientConnection, TcpStream>;

fn connect(gateway: &Gateway) -> Stream {
    let config = tls_config(&gateway.place.path("cert.pem"), &[b"http/1.1"]);
    let connection = ClientConnection::new(Arc::new(config), "localhost".try_into().unwrap()).unwrap();
    let socket = TcpStream::connect(gateway.address).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    StreamOwned::new(connection, socket)
}

/// What came, and whether its end was told.
fn read_to_end(stream: &mut Stream) -> (String, bool) {
    let mut bytes = Vec::new();
    let told = match stream.read_to_end(&mut bytes) {
        Ok(_) => true,
        Err(error) if matches!(error.kind(), ErrorKind::UnexpectedEof | ErrorKind::ConnectionReset) => false,
        Err(error) => panic!("{error} after {}", String::from_utf8_lossy(&bytes)),
    };
    (String::from_utf8_lossy(&bytes).into_owned(), told)
}

#[test]
fn a_request_cut_short_is_never_whole_to_the_server() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let gateway = Gateway::with(&Toml::default(), &[listener.local_addr().unwrap()]);
    for (framing, body) in [
        ("Content-Length: 10", "12345"),
        ("Transfer-Encoding: chunked", "5\r\n12345\r\n"),
        ("Transfer-Encoding: chunked", "5\r\n12345\r\n0\r\n"),
        ("Transfer-Encoding: chunked", "5\r\n123"),
    ] {
        for told in [false, true] {
            let mut client = connect(&gateway);
            client
                .write_all(format!("POST /public HTTP/1.1\r\nHost: a\r\n{framing}\r\n\r\n{body}").as_bytes())
                .unwrap();
            client.flush().unwrap();
            let (mut server, _) = listener.accept().unwrap();
            server.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
            let mut seen = vec![0; 16];
            server.read_exact(&mut seen).unwrap();
            if told {
                client.conn.send_close_notify();
                client.conn.complete_io(&mut client.sock).unwrap();
            }
            client.sock.shutdown(Shutdown::Write).unwrap();
            // Closed or reset, but at its end.
            if let Err(error) = server.read_to_end(&mut seen) {
                assert_eq!(error.kind(), ErrorKind::ConnectionReset, "{framing} {body:?} {told}: the server waits on");
            }
            let seen = String::from_utf8_lossy(&seen);
            let (_, sent) = seen.split_once("\r\n\r\n").unwrap_or_else(|| panic!("{seen:?}"));
            let whole = if framing.starts_with('C') { sent.len() >= 10 } else { sent.ends_with("0\r\n\r\n") };
            assert!(!whole, "{framing} {body:?} {told}: {seen:?}");
        }
    }
}

#[test]
fn the_end_of_a_connection_is_told() {
    let backend = Backend::start();
    let gateway = gateway(&backend, "idle_timeout = \"1s\"");
    for (what, request) in [
        ("asked for", "GET /public HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"),
        ("HTTP/1.0", "GET /public HTTP/1.0\r\nHost: a\r\n\r\n"),
        ("refused", "GET /public HTTP/1.1\r\nHost: a\r\nContent-Length: x\r\n\r\n"),
    ] {
        let mut client = connect(&gateway);
        client.write_all(request.as_bytes()).unwrap();
        let (reply, told) = read_to_end(&mut client);
        assert!(reply.starts_with("HTTP/1.") && told, "{what}: {told} {reply}");
    }
}

/// A client that speaks HTTP/1.0 takes the end of the connection for that of the body: what was cut on its way to us
/// must not end as if it were whole.
#[test]
fn a_response_cut_short_does_not_end_as_a_whole_one() {
    let backend = Backend::answering(|seen| match seen.line.contains("whole") {
        true => Answer::Close(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nwhole".to_vec()),
        false => Answer::Close(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\npart".to_vec()),
    });
    let gateway = gateway(&backend, "");
    for (version, path, expected) in
        [("1.0", "part", false), ("1.1", "part", false), ("1.0", "whole", true), ("1.1", "whole", true)]
    {
        let mut client = connect(&gateway);
        let request = format!("GET /public/{path} HTTP/{version}\r\nHost: a\r\nConnection: close\r\n\r\n");
        client.write_all(request.as_bytes()).unwrap();
        let (reply, told) = read_to_end(&mut client);
        assert!(reply.contains(path), "{version} {path}: {reply}");
        // With a length or chunks the body says so itself.
        let body_tells = reply.contains("content-length: 100") || reply.contains("chunked");
        let whole = if body_tells { reply.ends_with("0\r\n\r\n") } else { told };
        assert_eq!(whole, expected, "{version} {path}: {told} {reply:?}");
    }
}

/// The same over TLS, where a body without a length is whole only if the server told its end.
#[test]
fn a_response_over_tls_without_a_length_is_whole_only_when_its_end_was_told() {
    let authority = Authority::new();
    let config = Arc::new(authority.issue("localhost").server());
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let server = std::thread::spawn(move || {
        for told in [true, false] {
            let (socket, _) = listener.accept().unwrap();
            let connection = rustls::ServerConnection::new(config.clone()).unwrap();
            let mut stream = StreamOwned::new(connection, socket);
            let (mut seen, mut piece) = (Vec::new(), [0; 1024]);
            while !seen.ends_with(b"\r\n\r\n") {
                let count = stream.read(&mut piece).unwrap();
                assert!(count > 0, "{}", String::from_utf8_lossy(&seen));
                seen.extend_from_slice(&piece[..count]);
            }
            stream.write_all(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nwhat there is").unwrap();
            if told {
                stream.conn.send_close_notify();
            }
            stream.flush().unwrap();
            stream.sock.shutdown(Shutdown::Write).unwrap();
            // The other side must have read it: a reset would be an end of another kind.
            drop(stream.sock.read(&mut piece));
        }
    });
    let place = Workplace::new();
    std::fs::write(place.path("ca.pem"), authority.pem()).unwrap();
    let toml = Toml { upstream: "[upstream.app.tls]\nca = \"ca.pem\"\n".into(), ..Toml::default() };
    let gateway = Gateway::before(Arc::new(place), &toml, &[format!("https://localhost:{}", address.port())]);
    for whole in [true, false] {
        let mut client = connect(&gateway);
        client.write_all(b"GET /public HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").unwrap();
        let (reply, _) = read_to_end(&mut client);
        assert!(reply.contains("transfer-encoding: chunked"), "{reply}");
        assert_eq!(reply.ends_with("0\r\n\r\n"), whole, "{reply}");
    }
    server.join().unwrap();
}

#[test]
fn half_a_connection_ends_soon() {
    let backend = Backend::start();
    let gateway = gateway(&backend, "");
    // In the middle of the hello.
    for length in [0, 1, 5, 50] {
        let mut socket = TcpStream::connect(gateway.address).unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        socket.write_all(&Hello::tls13().bytes()[..length]).unwrap();
        socket.shutdown(Shutdown::Write).unwrap();
        let mut rest = Vec::new();
        socket.read_to_end(&mut rest).unwrap_or_else(|error| panic!("{length}: {error}"));
    }
    // Behind a whole request, and before any.
    for request in ["GET /public HTTP/1.1\r\nHost: a\r\n\r\n", ""] {
        for told in [true, false] {
            let start = Instant::now();
            let mut client = connect(&gateway);
            client.write_all(request.as_bytes()).unwrap();
            while client.conn.is_handshaking() {
                client.conn.complete_io(&mut client.sock).unwrap();
            }
            if told {
                client.conn.send_close_notify();
                client.conn.complete_io(&mut client.sock).unwrap();
            }
            client.sock.shutdown(Shutdown::Write).unwrap();
            read_to_end(&mut client);
            assert!(start.elapsed() < Duration::from_secs(5), "{request:?} {told}: {:?}", start.elapsed());
        }
    }
    assert_eq!(gateway.connect().ask("GET /public HTTP/1.1\r\nHost: a\r\n\r\n").status, 200);
    assert!(!matches!(say(gateway.address, &[], PATIENCE), Outcome::Odd(_)));
}
