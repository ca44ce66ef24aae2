//! Servers that fail requests are left out for a while.

use std::net::TcpListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use crate::support::{Answer, Backend, Gateway, Toml, eventually, metric};

const GET: &str = "GET /public HTTP/1.1\r\nHost: a\r\n\r\n";
const POST: &str = "POST /public HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhi";
/// Quick enough for a test.
const QUICK: &str =
    "response_timeout = \"200ms\"\n[upstream.app.ejection]\nfailures = 3\nbase = \"300ms\"\nslow_start = \"never\"\n";

fn toml(upstream: &str) -> Toml {
    Toml { server: "workers = 2\n".into(), upstream: upstream.into(), tls: false, ..Toml::default() }
}

fn ejected(gateway: &Gateway) -> f64 {
    metric(gateway, "portcullis_upstream_ejected")
}

/// What a server does while it is bad.
fn bad(answer: fn() -> Answer) -> (Backend, Arc<AtomicBool>, Arc<AtomicUsize>) {
    let (is_bad, asked) = (Arc::new(AtomicBool::new(true)), Arc::new(AtomicUsize::new(0)));
    let (now_bad, counted) = (is_bad.clone(), asked.clone());
    let backend = Backend::answering(move |_| {
        counted.fetch_add(1, Ordering::SeqCst);
        if now_bad.load(Ordering::SeqCst) { answer() } else { Answer::ok("back") }
    });
    (backend, is_bad, asked)
}

#[test]
fn a_server_that_fails_is_left_out_and_comes_back() {
    let unavailable = || Answer::Bytes(b"HTTP/1.1 503 No\r\nContent-Length: 0\r\n\r\n".to_vec());
    let late = || Answer::Slowly(vec![(Duration::from_secs(1), Vec::new())]);
    for (answer, status, more) in [
        ((|| Answer::Reset(Vec::new())) as fn() -> Answer, 502, ""),
        (|| Answer::Close(Vec::new()), 502, ""),
        (late, 504, ""),
        (unavailable, 503, "statuses = [503]\n"),
    ] {
        let (server, is_bad, asked) = bad(answer);
        let good = Backend::start();
        let gateway = Gateway::with(&toml(&format!("{QUICK}{more}")), &[server.address, good.address]);
        let mut client = gateway.connect();
        let mut failed = 0;
        while ejected(&gateway) == 0.0 {
            let reply = client.ask(POST);
            if reply.status != 200 {
                assert_eq!(reply.status, status, "{reply:?}");
                failed += 1;
            }
            assert!(failed <= 3, "never left out");
        }
        assert_eq!((failed, asked.load(Ordering::SeqCst)), (3, 3));
        is_bad.store(false, Ordering::SeqCst);
        for _ in 0..6 {
            assert_eq!(client.ask(POST).text(), "hello");
        }
        eventually("its time is over", || ejected(&gateway) == 0.0);
        let answers = [0; 4].map(|_| client.ask(POST).text());
        assert_eq!(answers.iter().filter(|answer| *answer == "back").count(), 2, "{answers:?}");
    }
}

#[test]
fn a_server_that_comes_back_and_fails_again_is_left_out_at_once() {
    let (server, _, asked) = bad(|| Answer::Close(Vec::new()));
    let good = Backend::start();
    let gateway = Gateway::with(&toml(&QUICK.replace("\"never\"", "\"1h\"")), &[server.address, good.address]);
    let mut client = gateway.connect();
    while ejected(&gateway) == 0.0 {
        client.ask(POST);
    }
    eventually("its time is over", || ejected(&gateway) == 0.0);
    let before = asked.load(Ordering::SeqCst);
    // A small share at first: one of eleven requests.
    let failed = (0..44).filter(|_| client.ask(POST).status == 502).count();
    assert_eq!((failed, asked.load(Ordering::SeqCst) - before), (1, 1));
    assert_eq!(ejected(&gateway), 1.0);
}

#[test]
fn what_clients_cause_is_held_against_no_server() {
    let servers = [Backend::start(), Backend::start()];
    let gateway = Gateway::with(&toml(QUICK), &servers.each_ref().map(|server| server.address));
    for number in 0..16 {
        let mut client = gateway.connect();
        if number % 2 == 0 {
            // Broken off within its body.
            client.send("POST /public HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\nhi");
        } else {
            client.send("POST /public HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n");
            assert_eq!(client.reply().refusal(), (400, "body_broken".to_owned()));
        }
    }
    eventually("all are gone", || metric(&gateway, "portcullis_upstream_requests_in_flight") == 0.0);
    assert_eq!(ejected(&gateway), 0.0);
}

#[test]
fn the_only_server_is_never_left_out() {
    let (server, is_bad, _) = bad(|| Answer::Close(Vec::new()));
    let gateway = Gateway::with(&toml(QUICK), &[server.address]);
    let mut client = gateway.connect();
    for _ in 0..8 {
        assert_eq!(client.ask(POST).refusal(), (502, "upstream_broken".to_owned()));
    }
    is_bad.store(false, Ordering::SeqCst);
    assert_eq!(client.ask(POST).text(), "back");
}

#[test]
fn all_servers_down_and_back() {
    let addresses = [0, 0, 0].map(|_| TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap());
    let gateway = Gateway::with(&toml(QUICK), &addresses);
    let mut client = gateway.connect();
    for _ in 0..12 {
        assert_eq!(client.ask(GET).refusal(), (502, "upstream_unreachable".to_owned()));
    }
    // One in three may be left out, and half of three is one.
    assert_eq!(ejected(&gateway), 1.0);
    let servers = addresses.map(|address| Backend::answering_at(address, |_| Answer::ok("back")));
    // At once: the two that were never left out.
    for _ in 0..6 {
        assert_eq!(client.ask(GET).text(), "back");
    }
    eventually("its time is over", || ejected(&gateway) == 0.0);
    let before = servers.each_ref().map(Backend::connections);
    for _ in 0..6 {
        assert_eq!(client.ask(GET).text(), "back");
    }
    assert!(servers.iter().all(|server| server.connections() > 0), "{before:?}");
    assert_eq!(metric(&gateway, "portcullis_upstream_requests_in_flight"), 0.0);
}
