//! Servers that have names.

use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::support::{Answer, Backend, Client, Dns, Gateway, Reply, Toml, Workplace};

const GET: &str = "GET /public HTTP/1.1\r\nHost: a\r\n\r\n";

/// Backends at `127.0.0.1` and `127.0.0.2` with the same port, each saying which it is.
fn twins() -> (Backend, Backend, u16) {
    loop {
        let first = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = first.local_addr().unwrap().port();
        if let Ok(second) = TcpListener::bind(("127.0.0.2", port)) {
            let on = |listener, name: &'static str| Backend::on(listener, move |_| Answer::ok(name));
            return (on(first, "one"), on(second, "two"), port);
        }
    }
}

fn gateway(dns: SocketAddr, port: u16, more: &str) -> Gateway {
    let toml = Toml {
        server: "workers = 1\n".into(),
        upstream: format!("resolver = \"{dns}\"\nconnect_timeout = \"2s\"\n{more}"),
        ..Toml::default()
    };
    Gateway::before(Arc::new(Workplace::new()), &toml, &[format!("http://app.test:{port}")])
}

/// Asks until the answer is as wanted.
fn until(client: &mut Client, wanted: impl Fn(&Reply) -> bool) -> Duration {
    let start = Instant::now();
    while !wanted(&client.ask(GET)) {
        assert!(start.elapsed() < Duration::from_secs(15), "never as wanted");
        std::thread::sleep(Duration::from_millis(20));
    }
    start.elapsed()
}

const ONE: [u8; 4] = [127, 0, 0, 1];
const TWO: [u8; 4] = [127, 0, 0, 2];

#[test]
fn a_change_is_followed_when_the_answer_runs_out_also_by_kept_connections() {
    let (first, _second, port) = twins();
    let dns = Dns::start(&[ONE], 2);
    let gateway = gateway(dns.address, port, "");
    let mut client = gateway.connect();
    for _ in 0..20 {
        assert_eq!(client.ask(GET).text(), "one");
    }
    assert!(dns.asked() <= 4, "only of A and AAAA, only when the answer runs out: {}", dns.asked());
    assert_eq!(first.connections(), 1);
    dns.say(&[TWO], 2);
    let took = until(&mut client, |reply| reply.text() == "two");
    assert!(took < Duration::from_secs(5), "{took:?}");
    // The connection to the first is open and idle, and not used.
    for _ in 0..20 {
        assert_eq!(client.ask(GET).text(), "two");
    }
}

#[test]
fn several_addresses_are_all_used_and_one_that_is_gone_is_passed_over() {
    let (first, second, port) = twins();
    let dns = Dns::start(&[TWO, ONE, [127, 0, 0, 3]], 300);
    // No connection is kept: each request opens one.
    let gateway = gateway(dns.address, port, "keep_alive_timeout = \"1ms\"\n");
    let mut client = gateway.connect();
    for _ in 0..12 {
        std::thread::sleep(Duration::from_millis(3));
        assert_eq!(client.ask(GET).status, 200);
    }
    assert!(first.connections() >= 3 && second.connections() >= 3);
    assert_eq!(first.connections() + second.connections(), 12);
}

#[test]
fn while_dns_fails_the_last_good_answer_is_used() {
    let (_first, _second, port) = twins();
    let dns = Dns::start(&[ONE], 1);
    let gateway = gateway(dns.address, port, "keep_alive_timeout = \"1ms\"\n");
    let mut client = gateway.connect();
    assert_eq!(client.ask(GET).text(), "one");
    dns.fail(true);
    let asked = dns.asked();
    let start = Instant::now();
    while start.elapsed() < Duration::from_millis(2500) {
        assert_eq!(client.ask(GET).text(), "one");
        std::thread::sleep(Duration::from_millis(50));
    }
    assert!(dns.asked() > asked, "it was asked, and failed");
    dns.say(&[TWO], 1);
    dns.fail(false);
    until(&mut client, |reply| reply.text() == "two");
}

#[test]
fn a_name_that_is_not_there_is_a_502_at_once_until_it_is() {
    let (_first, _second, port) = twins();
    let dns = Dns::start(&[], 1);
    let gateway = gateway(dns.address, port, "");
    let mut client = gateway.connect();
    let start = Instant::now();
    for _ in 0..5 {
        let reply = client.ask(GET);
        assert_eq!(reply.refusal(), (502, "upstream_unreachable".to_owned()));
        assert!(!reply.text().contains("app.test"), "{}", reply.text());
    }
    assert!(start.elapsed() < Duration::from_secs(1), "{:?}", start.elapsed());
    dns.say(&[ONE], 1);
    until(&mut client, |reply| reply.status == 200);
}

#[test]
fn localhost_needs_no_dns() {
    let backend = Backend::start();
    let dns = Dns::start(&[TWO], 300);
    let toml = Toml { upstream: format!("resolver = \"{}\"\n", dns.address), ..Toml::default() };
    let server = format!("http://localhost:{}", backend.address.port());
    let gateway = Gateway::before(Arc::new(Workplace::new()), &toml, &[server]);
    assert_eq!(gateway.connect().ask(GET).text(), "hello");
    assert_eq!(dns.asked(), 0);
}
