//! Stopping: nothing new, everything in flight answered, nobody waited for beyond the deadline.

use std::net::TcpStream;
use std::time::{Duration, Instant};

use crate::support::{Answer, Backend, Client, Gateway, Toml};

fn slow(wait: Duration) -> Backend {
    Backend::answering(move |_| {
        Answer::Slowly(vec![(wait, b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nlate".to_vec())])
    })
}

#[test]
fn response_in_flight_survives_drain() {
    let backend = slow(Duration::from_millis(700));
    let gateway = Gateway::start(&backend);
    let mut idle = gateway.connect();
    let mut busy = gateway.connect();
    busy.send("GET /public HTTP/1.1\r\nHost: a\r\n\r\n");
    backend.next();
    let (address, admin) = (gateway.address, gateway.app().admin().unwrap());
    let stopping = std::thread::spawn(move || gateway.stop());
    // Whoever sends requests here is told to stop doing so, while those in flight are answered.
    let start = Instant::now();
    let ready = "GET /readyz HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
    while Client::plain(admin).ask(ready).status == 200 {
        assert!(start.elapsed() < Duration::from_millis(500), "still ready");
    }
    let reply = busy.reply();
    assert_eq!((reply.status, reply.text().as_str(), reply.header("connection")), (200, "late", Some("close")));
    assert!(idle.drained().is_some(), "an idle connection is closed at once");
    stopping.join().unwrap();
    assert!(TcpStream::connect(address).is_err());
}

#[test]
fn a_drain_ends_at_its_deadline() {
    let backend = slow(Duration::from_secs(8));
    let toml = Toml { server: "workers = 1\ndrain_timeout = \"300ms\"\n".into(), ..Toml::default() };
    let gateway = Gateway::with(&toml, &[backend.address]);
    let mut busy = gateway.connect();
    busy.send("GET /public HTTP/1.1\r\nHost: a\r\n\r\n");
    backend.next();
    let start = Instant::now();
    gateway.stop();
    assert!(start.elapsed() < Duration::from_secs(4), "{:?}", start.elapsed());
    assert!(busy.drained().is_some());
}
