//! Servers that are asked whether they are well.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use crate::support::{
    Answer, Authority, Backend, Gateway, Http2Server, Toml, Workplace, eventually, metric, tls_backend,
};

const GET: &str = "GET /public HTTP/1.1\r\nHost: a\r\n\r\n";
const CHECKS: &str =
    "[upstream.app.health]\npath = \"/healthz\"\ninterval = \"100ms\"\ntimeout = \"1s\"\nunhealthy = 2\n";

fn toml(health: &str) -> Toml {
    Toml { server: "workers = 2\n".into(), upstream: health.into(), tls: false, ..Toml::default() }
}

/// A server that is well while `well` says so. It serves requests in any case.
struct Server {
    backend: Backend,
    well: Arc<AtomicBool>,
    served: Arc<AtomicUsize>,
}

impl Server {
    fn start(well: bool) -> Self {
        let (well, served) = (Arc::new(AtomicBool::new(well)), Arc::new(AtomicUsize::new(0)));
        let (is_well, counted) = (well.clone(), served.clone());
        let backend = Backend::answering(move |seen| {
            if !seen.line.contains("/healthz") {
                counted.fetch_add(1, Ordering::SeqCst);
                return Answer::ok("hello");
            }
            match is_well.load(Ordering::SeqCst) {
                true => Answer::Bytes(b"HTTP/1.1 302 Found\r\nLocation: /\r\nContent-Length: 0\r\n\r\n".to_vec()),
                false => Answer::Bytes(b"HTTP/1.1 500 Oh\r\nContent-Length: 0\r\n\r\n".to_vec()),
            }
        });
        Self { backend, well, served }
    }

    fn served(&self) -> usize {
        self.served.swap(0, Ordering::SeqCst)
    }
}

#[test]
fn requests_go_to_healthy_servers_only() {
    let servers = [Server::start(true), Server::start(true)];
    let gateway = Gateway::with(&toml(CHECKS), &servers.each_ref().map(|server| server.backend.address));
    let mut client = gateway.connect();
    let mut ask = |count| (0..count).for_each(|_| assert_eq!(client.ask(GET).status, 200));
    // At once: a start waits for no check.
    ask(4);
    assert_eq!(servers.each_ref().map(Server::served), [2, 2]);
    servers[0].well.store(false, Ordering::SeqCst);
    eventually("found not to be well", || metric(&gateway, "portcullis_upstream_healthy") == 1.0);
    ask(6);
    assert_eq!(servers.each_ref().map(Server::served), [0, 6]);
    servers[0].well.store(true, Ordering::SeqCst);
    eventually("found to be well", || metric(&gateway, "portcullis_upstream_healthy") == 2.0);
    ask(6);
    assert_eq!(servers.each_ref().map(Server::served), [3, 3]);
}

#[test]
fn with_no_healthy_server_requests_are_refused_at_once_until_one_is_back() {
    let server = Server::start(false);
    let gateway = Gateway::with(&toml(CHECKS), &[server.backend.address]);
    let mut client = gateway.connect();
    eventually("found not to be well", || metric(&gateway, "portcullis_upstream_healthy") == 0.0);
    server.served();
    let start = Instant::now();
    let reply = client.ask(GET);
    assert_eq!(reply.refusal(), (503, "no_healthy_server".to_owned()));
    assert_eq!(reply.header("retry-after"), Some("1"));
    assert!(start.elapsed() < Duration::from_secs(1));
    assert_eq!(server.served(), 0);
    server.well.store(true, Ordering::SeqCst);
    eventually("found to be well", || metric(&gateway, "portcullis_upstream_healthy") == 1.0);
    // The same connection as before.
    assert_eq!(client.ask(GET).text(), "hello");
}

#[test]
fn a_server_that_is_gone_or_does_not_answer_is_not_healthy() {
    let stalled = Backend::answering(|_| Answer::Slowly(vec![(Duration::from_secs(3), Vec::new())]));
    let gone = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let garbage = Backend::answering(|_| Answer::Close(b"220 smtp ready\r\n\r\n".to_vec()));
    let checks = CHECKS.replace("\"1s\"", "\"100ms\"");
    let gateway = Gateway::with(&toml(&checks), &[stalled.address, gone, garbage.address]);
    eventually("all found out", || metric(&gateway, "portcullis_upstream_healthy") == 0.0);
    assert_eq!(gateway.connect().ask(GET).refusal(), (503, "no_healthy_server".to_owned()));
}

#[test]
fn a_flapping_server_loses_no_request() {
    let steady = Server::start(true);
    let flapping = Server::start(true);
    let gateway = Gateway::with(&toml(CHECKS), &[steady.backend.address, flapping.backend.address]);
    let mut client = gateway.connect();
    let (mut changes, mut healthy) = (0, 2.0);
    let start = Instant::now();
    while changes < 4 {
        assert!(start.elapsed() < Duration::from_secs(10), "{changes}");
        for _ in 0..20 {
            assert_eq!(client.ask(GET).status, 200);
        }
        let now = metric(&gateway, "portcullis_upstream_healthy");
        if now != healthy {
            (healthy, changes) = (now, changes + 1);
            flapping.well.store(now == 1.0, Ordering::SeqCst);
        } else if changes == 0 {
            flapping.well.store(false, Ordering::SeqCst);
        }
    }
    assert!(steady.served() > 0 && flapping.served() > 0);
}

#[test]
fn a_check_is_sent_as_configured_and_carries_no_identity() {
    let backend = Backend::start();
    let health = "[upstream.app.health]\npath = \"/ready?deep=1\"\ninterval = \"100ms\"\nhost = \"app.internal\"\n\
                  status = [204]\nunhealthy = 1\n";
    let gateway = Gateway::with(&toml(health), &[backend.address]);
    let seen = backend.next();
    assert_eq!((seen.line.as_str(), seen.one("host")), ("GET /ready?deep=1 HTTP/1.1", "app.internal"));
    for name in ["x-user-id", "x-session-id", "authorization", "x-forwarded-for", "cookie"] {
        assert!(seen.all(name).is_empty(), "{seen:?}");
    }
    // 200 is not what was asked for.
    eventually("not well", || metric(&gateway, "portcullis_upstream_healthy") == 0.0);
    // Each over a connection of its own, closed after it.
    backend.next();
    assert!(backend.connections() >= 2);
    assert_eq!(metric(&gateway, "portcullis_upstream_connections"), 0.0);
}

#[test]
fn a_check_connects_as_requests_do() {
    let authority = Authority::new();
    let (secure, _) = tls_backend(authority.issue("localhost").server());
    let place = Workplace::new();
    std::fs::write(place.path("ca.pem"), authority.pem()).unwrap();
    let socket = place.path("app.sock");
    let on_socket = Backend::on_socket(&socket);
    let http2 = Http2Server::start();
    let checks = "[upstream.app.health]\npath = \"/public/hello\"\ninterval = \"100ms\"\nunhealthy = 1\n";
    let trusting = format!("{checks}[upstream.app.tls]\nca = \"ca.pem\"\n");
    let place = Arc::new(place);
    for (upstream, server) in [
        (trusting.clone(), format!("https://localhost:{}", secure.address.port())),
        (checks.to_owned(), format!("unix:{}", socket.display())),
        (format!("protocol = \"http2\"\n{checks}"), format!("http://{}", http2.address)),
    ] {
        let gateway = Gateway::before(place.clone(), &toml(&upstream), &[server]);
        // Whichever server is asked, twice means that one check is over.
        let asked = || match (secure.saw_nothing(), on_socket.saw_nothing()) {
            (true, true) => http2.connections() > 1,
            _ => true,
        };
        eventually("asked", asked);
        eventually("asked again", asked);
        assert_eq!(metric(&gateway, "portcullis_upstream_healthy"), 1.0, "{upstream}");
    }
    let arrived = http2.next();
    assert_eq!(arrived.request.uri().to_string(), format!("http://{}/public/hello", http2.address));
    assert!(!arrived.request.headers().contains_key("connection"));
    // Of another authority: a request would be refused, and so the check is not good.
    let other = format!("{checks}[upstream.app.tls]\nca = \"cert.pem\"\n");
    let server = format!("https://localhost:{}", secure.address.port());
    let gateway = Gateway::before(place, &toml(&other), &[server]);
    eventually("found out", || metric(&gateway, "portcullis_upstream_healthy") == 0.0);
}
