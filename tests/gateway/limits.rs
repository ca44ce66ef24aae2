//! Clients that say too much, too little or nothing.

use std::time::{Duration, Instant};

use crate::support::{Backend, Client, Gateway, Toml};

const GET: &str = "GET /public HTTP/1.1\r\nHost: a\r\n\r\n";

fn quick(tls: bool) -> Toml {
    Toml {
        server: "workers = 1\n".into(),
        limits: "tls_handshake_timeout = \"400ms\"\nheader_timeout = \"400ms\"\nidle_timeout = \"800ms\"\n".into(),
        tls,
        ..Toml::default()
    }
}

/// Closed by the gateway, no sooner than `least` and no later than `most` after `start`.
fn closes(client: &mut Client, start: Instant, least: u64, most: u64) {
    assert!(client.drained().is_some(), "still open");
    let took = start.elapsed();
    assert!((Duration::from_millis(least)..Duration::from_millis(most)).contains(&took), "{took:?}");
}

#[test]
fn a_silent_client_is_closed_in_every_phase() {
    let backend = Backend::start();
    let (plain, tls) =
        (Gateway::with(&quick(false), &[backend.address]), Gateway::with(&quick(true), &[backend.address]));
    let start = Instant::now();
    let mut before_handshake = Client::plain(tls.address);
    let mut half_handshake = Client::plain(tls.address);
    half_handshake.send([0x16, 3, 1, 0x40, 0, 1]);
    let mut first_byte = plain.connect();
    let mut half_header = plain.connect();
    half_header.send("GET / HTTP/1.1\r\nHo");
    let mut idle = plain.connect();
    assert_eq!(idle.ask(GET).status, 200);
    for client in [&mut before_handshake, &mut half_handshake, &mut first_byte, &mut half_header] {
        closes(client, start, 350, 3000);
    }
    closes(&mut idle, start, 700, 4000);
}

#[test]
fn half_a_header_that_came_with_a_request_has_the_deadline_of_a_header() {
    let backend = Backend::start();
    let limits = "header_timeout = \"400ms\"\nidle_timeout = \"30s\"\n".into();
    let gateway = Gateway::with(&Toml { limits, ..quick(false) }, &[backend.address]);
    let mut client = gateway.connect();
    let start = Instant::now();
    assert_eq!(client.ask(format!("{GET}GET /public HT")).status, 200);
    closes(&mut client, start, 350, 5000);
}

#[test]
fn a_header_that_trickles_in_is_not_waited_for() {
    let backend = Backend::start();
    let gateway = Gateway::with(&quick(false), &[backend.address]);
    let mut client = gateway.connect();
    assert_eq!(client.ask(GET).status, 200);
    let start = Instant::now();
    let mut sent = 0;
    // A byte every 50 ms keeps no connection open: the whole header has one deadline.
    for byte in GET.bytes().cycle() {
        if client.try_send([byte]).is_err() || start.elapsed() > Duration::from_secs(5) {
            break;
        }
        sent += 1;
        std::thread::sleep(Duration::from_millis(50));
        if sent == GET.len() - 1 {
            break;
        }
    }
    assert!(sent < GET.len() - 1 && start.elapsed() < Duration::from_secs(4), "{sent} bytes in {:?}", start.elapsed());
}

#[test]
fn connections_are_limited_in_all_and_by_address() {
    let backend = Backend::start();
    for limit in ["connections = 3\n", "connections_per_address = 3\n"] {
        let toml = Toml { limits: limit.into(), tls: false, ..Toml::default() };
        let gateway = Gateway::with(&toml, &[backend.address]);
        let mut kept: Vec<_> = (0..3).map(|_| gateway.connect()).collect();
        for client in &mut kept {
            assert_eq!(client.ask(GET).status, 200);
        }
        let mut refused = gateway.connect();
        assert_eq!(refused.drained(), Some(Vec::new()), "{limit}");
        assert_eq!(kept[0].ask(GET).status, 200, "those inside are not concerned");
        drop(kept.pop());
        let start = Instant::now();
        // The place is free as soon as the gateway has seen the end.
        loop {
            let mut client = gateway.connect();
            if client.try_send(GET).is_ok() && client.try_reply(false).is_ok_and(|reply| reply.status == 200) {
                break;
            }
            assert!(start.elapsed() < Duration::from_secs(5), "{limit}");
        }
    }
}

#[test]
fn a_client_that_does_not_take_its_response_is_cut() {
    let body = "x".repeat(32 * 1024 * 1024);
    let backend = Backend::answering(move |_| crate::support::Answer::ok(&body));
    let toml = Toml {
        limits: "body_idle_timeout = \"500ms\"\n".into(),
        tls: false,
        server: "workers = 1\n".into(),
        ..Toml::default()
    };
    let gateway = Gateway::with(&toml, &[backend.address]);
    let mut client = gateway.connect();
    client.send(GET);
    assert!(client.until(b"\r\n\r\n").is_ok(), "the response has begun");
    let start = Instant::now();
    // Nothing is read until the gateway must have given up.
    while gateway.app().gateway().metrics.open_connections() > 0 {
        assert!(start.elapsed() < Duration::from_secs(15), "still open");
        std::thread::sleep(Duration::from_millis(50));
    }
    assert!(client.drained().is_some_and(|bytes| bytes.len() < 32 * 1024 * 1024));
}
