//! What is sent again, and what is not.

use std::collections::HashSet;
use std::net::TcpListener;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::support::{Answer, Backend, Gateway, Toml, eventually, metric};

const GET: &str = "GET /public HTTP/1.1\r\nHost: a\r\n\r\n";

fn toml(upstream: &str) -> Toml {
    Toml { server: "workers = 1\n".into(), upstream: upstream.into(), tls: false, ..Toml::default() }
}

/// Answers the first request of each connection, and closes when it has read the second.
fn closes_on_the_second() -> (Backend, Arc<AtomicUsize>) {
    let (served, requests) = (Mutex::new(HashSet::new()), Arc::new(AtomicUsize::new(0)));
    let counted = requests.clone();
    let backend = Backend::answering(move |seen| {
        counted.fetch_add(1, Ordering::SeqCst);
        match served.lock().unwrap().insert(seen.connection) {
            true => Answer::ok("fine"),
            false => Answer::Close(Vec::new()),
        }
    });
    (backend, requests)
}

fn gone() -> std::net::SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

#[test]
fn idempotent_requests_without_a_body_are_sent_again_and_others_are_not() {
    let (backend, requests) = closes_on_the_second();
    let gateway = Gateway::with(&toml(""), &[backend.address]);
    for (request, again) in [
        ("GET /public HTTP/1.1\r\nHost: a\r\n\r\n", true),
        ("OPTIONS /public HTTP/1.1\r\nHost: a\r\n\r\n", true),
        ("PUT /public HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n", true),
        ("DELETE /public HTTP/1.1\r\nHost: a\r\n\r\n", true),
        ("POST /public HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n", false),
        ("PATCH /public HTTP/1.1\r\nHost: a\r\n\r\n", false),
        // A body that was consumed cannot be sent twice.
        ("PUT /public HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhi", false),
        ("DELETE /public HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhi", false),
    ] {
        let mut client = gateway.connect();
        // Sent again, this one leaves a connection that served one request, like any other. Requests of one kind share
        // their connections.
        let first = if request.starts_with("OPTIONS") { request } else { GET };
        assert_eq!(client.ask(first).text(), "fine");
        let before = requests.load(Ordering::SeqCst);
        let reply = client.ask(request);
        let sent = requests.load(Ordering::SeqCst) - before;
        match again {
            true => assert_eq!((reply.text().as_str(), sent), ("fine", 2), "{request}"),
            false => assert_eq!((reply.refusal(), sent), ((502, "upstream_broken".to_owned()), 1), "{request}"),
        }
    }
}

#[test]
fn never_means_that_nothing_is_sent_again_and_nobody_else_is_asked() {
    let (backend, requests) = closes_on_the_second();
    let gateway = Gateway::with(&toml("retries = \"never\"\n"), &[backend.address]);
    let mut client = gateway.connect();
    assert_eq!(client.ask(GET).text(), "fine");
    assert_eq!(client.ask(GET).refusal(), (502, "upstream_broken".to_owned()));
    assert_eq!(requests.load(Ordering::SeqCst), 2);
    let good = Backend::start();
    let gateway = Gateway::with(&toml("retries = \"never\"\n"), &[gone(), good.address]);
    let mut client = gateway.connect();
    let mut statuses = [0; 4].map(|_| client.ask(GET).status);
    statuses.sort_unstable();
    assert_eq!(statuses, [200, 200, 502, 502]);
}

#[test]
fn so_many_other_servers_are_asked_and_no_more() {
    let good = Backend::start();
    let servers = [gone(), gone(), gone(), good.address];
    // Nobody is left out, so that each request sees all of them.
    let never = "[upstream.app.ejection]\nfailures = \"never\"\n";
    let statuses = |retries: u32| {
        let gateway = Gateway::with(&toml(&format!("retries = {retries}\n{never}")), &servers);
        let mut client = gateway.connect();
        let mut statuses =
            [0; 4].map(|_| client.ask("POST /public HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhi").status);
        statuses.sort_unstable();
        statuses
    };
    assert_eq!(statuses(3), [200; 4]);
    assert!(statuses(1).contains(&502));
}

#[test]
fn what_is_sent_again_has_a_budget() {
    let (backend, requests) = closes_on_the_second();
    let gateway = Gateway::with(&toml("retry_budget = 0.01\n"), &[backend.address]);
    let mut client = gateway.connect();
    // From the second on each has to be sent again: fifty are allowed at the start, five a second after that.
    let statuses = (0..400).map(|_| client.ask(GET).status).collect::<Vec<_>>();
    let refused = statuses.iter().filter(|status| **status == 502).count();
    assert!(refused > 100, "{refused}");
    let sent_again = metric(&gateway, "portcullis_upstream_retries_total");
    assert!((50.0..80.0).contains(&sent_again), "{sent_again}");
    assert_eq!(f64::from(u32::try_from(requests.load(Ordering::SeqCst)).unwrap()), 400.0 + sent_again);
}

#[test]
fn what_must_not_be_sent_twice_goes_over_a_connection_that_was_just_used_or_a_new_one() {
    let backend = Backend::start();
    let gateway = Gateway::with(&toml(""), &[backend.address]);
    let mut client = gateway.connect();
    let post = "POST /public HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhi";
    let mut ask = |request: &str| {
        assert_eq!(client.ask(request).status, 200);
        backend.next().connection
    };
    assert_eq!([ask(GET), ask(post), ask(post)], [0, 0, 0]);
    // The server may be about to close it.
    std::thread::sleep(Duration::from_millis(600));
    assert_eq!(ask(post), 1);
    std::thread::sleep(Duration::from_millis(600));
    // What may be sent again takes what there is.
    assert_eq!(ask(GET), 1);
}

#[test]
fn a_new_connection_that_breaks_is_never_tried_again() {
    let backend = Backend::answering(|_| Answer::Close(Vec::new()));
    let others = [Backend::start(), Backend::start()];
    let gateway = Gateway::with(&toml(""), &[backend.address, others[0].address, others[1].address]);
    let mut client = gateway.connect();
    let statuses = [0; 3].map(|_| client.ask(GET).status);
    assert_eq!(statuses.iter().filter(|status| **status == 502).count(), 1, "{statuses:?}");
    assert_eq!(backend.connections(), 1);
    eventually("over", || metric(&gateway, "portcullis_upstream_requests_in_flight") == 0.0);
}
