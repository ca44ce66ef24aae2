//! TLS to upstreams: who is taken for the server, and who we are to it.

use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustls::{HandshakeKind, ServerConfig};

use crate::support::{
    Answer, Authority, Gateway, Issued, Process, Reply, Toml, Workplace, tls_backend, tls_backend_answering,
};

const GET: &str = "GET /public HTTP/1.1\r\nHost: shop.example\r\n\r\n";

/// A gateway before `https://HOST:PORT` with these lines in `[upstream.app.tls]`.
fn gateway(place: Workplace, host: &str, server: SocketAddr, tls: &str) -> Gateway {
    let toml = Toml {
        server: "workers = 2\n".into(),
        upstream: format!("connect_timeout = \"1s\"\n[upstream.app.tls]\n{tls}\n"),
        ..Toml::default()
    };
    Gateway::before(Arc::new(place), &toml, &[format!("https://{host}:{}", server.port())])
}

/// What becomes of a request to a server so configured.
fn ask(config: ServerConfig, authority: &Authority, host: &str, tls: &str) -> Reply {
    let (backend, _) = tls_backend(config);
    let place = Workplace::new();
    std::fs::write(place.path("ca.pem"), authority.pem()).unwrap();
    let gateway = gateway(place, host, backend.address, tls);
    gateway.connect().ask(GET)
}

fn assert_unreachable(reply: &Reply, why: &str) {
    assert_eq!(reply.refusal(), (502, "upstream_unreachable".to_owned()), "{why}");
    for internal in ["certificate", "pin", "127.0.0.1", "localhost", "tls", "TLS"] {
        assert!(!reply.text().contains(internal), "{why}: {}", reply.text());
    }
}

const CA: &str = "ca = \"ca.pem\"";

#[test]
fn a_server_with_a_good_certificate_is_asked() {
    let authority = Authority::new();
    for (name, host) in [("localhost", "localhost"), ("127.0.0.1", "127.0.0.1")] {
        let reply = ask(authority.issue(name).server(), &authority, host, CA);
        assert_eq!((reply.status, reply.text()), (200, "hello".to_owned()), "{host}");
    }
}

#[test]
fn a_certificate_that_does_not_fit_is_a_502_that_says_no_more() {
    let authority = Authority::new();
    let stranger = Authority::new().issue("localhost").server();
    assert_unreachable(&ask(stranger, &authority, "localhost", CA), "of another authority");
    let other_name = || authority.issue("other.example").server();
    assert_unreachable(&ask(other_name(), &authority, "localhost", CA), "for another name");
    assert_unreachable(&ask(other_name(), &authority, "127.0.0.1", CA), "for a name, not the address");
    let expired = authority.issue_with("localhost", |params| {
        params.not_before = rcgen::date_time_ymd(2020, 1, 1);
        params.not_after = rcgen::date_time_ymd(2021, 1, 1);
    });
    assert_unreachable(&ask(expired.server(), &authority, "localhost", CA), "expired");
    // The system's authorities know nothing of ours.
    if portcullis::certificate::system_authorities().is_ok() {
        assert_unreachable(&ask(authority.issue("localhost").server(), &authority, "localhost", ""), "no ca");
    }
}

#[test]
fn the_name_that_is_asked_for_and_checked_can_be_another() {
    let authority = Authority::new();
    let (backend, handshakes) = tls_backend(authority.issue("app.internal").server());
    let place = Workplace::new();
    std::fs::write(place.path("ca.pem"), authority.pem()).unwrap();
    let tls = format!("{CA}\nserver_name = \"App.internal\"");
    let gateway = gateway(place, "127.0.0.1", backend.address, &tls);
    assert_eq!(gateway.connect().ask(GET).status, 200);
    assert_eq!(handshakes.lock().unwrap()[0].1.as_deref(), Some("app.internal"));
    assert_eq!(backend.next().one("host"), "shop.example", "the client's, whatever the server's certificate says");
}

#[test]
fn a_server_that_asks_for_a_certificate_gets_ours() {
    let authority = Authority::new();
    let asking = || {
        let server = authority.issue("localhost");
        server.server_with(Vec::new(), &server.key, Some(authority.roots()))
    };
    let reply = ask(asking(), &authority, "localhost", CA);
    // In TLS 1.3 the server says so only after the handshake.
    assert_eq!(reply.refusal(), (502, "upstream_broken".to_owned()));

    let place = Workplace::new();
    let ours = authority.issue("gateway");
    std::fs::write(place.path("ca.pem"), authority.pem()).unwrap();
    std::fs::write(place.path("ours.pem"), &ours.pem).unwrap();
    std::fs::write(place.path("ours.key"), ours.key.serialize_pem()).unwrap();
    let (backend, _) = tls_backend(asking());
    let tls = format!("{CA}\ncertificate = \"ours.pem\"\nkey = \"ours.key\"");
    let gateway = gateway(place, "localhost", backend.address, &tls);
    assert_eq!(gateway.connect().ask(GET).status, 200);
}

#[test]
fn a_pinned_key_stands_for_itself_and_another_is_refused() {
    let authority = Authority::new();
    // Neither of an authority that anyone knows, nor for the name, nor in time.
    let odd = Authority::new().issue_with("other.example", |params| {
        params.not_before = rcgen::date_time_ymd(2020, 1, 1);
        params.not_after = rcgen::date_time_ymd(2021, 1, 1);
    });
    let pins = |issued: &Issued| format!("pins = [\"{}\", \"{}\"]", authority.issue("spare").pin(), issued.pin());
    assert_eq!(ask(odd.server(), &authority, "localhost", &pins(&odd)).status, 200);
    let other = authority.issue("localhost");
    assert_unreachable(&ask(other.server(), &authority, "localhost", &pins(&odd)), "another key");
    let along = other.server_with(vec![odd.certificate.clone()], &other.key, None);
    assert_unreachable(&ask(along, &authority, "localhost", &pins(&odd)), "the pinned certificate sent along");
    let stolen = odd.server_with(Vec::new(), &other.key, None);
    assert_unreachable(&ask(stolen, &authority, "localhost", &pins(&odd)), "the pinned certificate without its key");
}

#[test]
fn a_key_that_is_not_pinned_is_logged_as_the_configuration_would_have_it() {
    let authority = Authority::new();
    let (found, pinned) = (authority.issue("localhost"), authority.issue("localhost"));
    let (backend, _) = tls_backend(found.server());
    let toml = Toml { upstream: format!("[upstream.app.tls]\npins = [\"{}\"]\n", pinned.pin()), ..Toml::default() };
    let text = toml.text_before(&[format!("https://localhost:{}", backend.address.port())]);
    let process = Process::start_with(&Arc::new(Workplace::new()), &text);
    assert_eq!(process.connect().ask(GET).status, 502);
    let log = process.log();
    assert!(log.contains(&format!("its key {} is not among pins", found.pin())), "{log}");
    assert!(!log.contains("NotPinned"), "{log}");
}

#[test]
fn beside_authorities_a_pin_asks_for_both() {
    let authority = Authority::new();
    let (good, stranger) = (authority.issue("localhost"), Authority::new().issue("localhost"));
    let both = |issued: &Issued| format!("{CA}\npins = [\"{}\"]", issued.pin());
    assert_eq!(ask(good.server(), &authority, "localhost", &both(&good)).status, 200);
    assert_unreachable(&ask(stranger.server(), &authority, "localhost", &both(&stranger)), "of another authority");
    assert_unreachable(&ask(good.server(), &authority, "localhost", &both(&stranger)), "another key");
}

#[test]
fn connections_resume_sessions_also_those_of_other_workers() {
    let authority = Authority::new();
    for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
        let mut config = ServerConfig::builder_with_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
            .with_protocol_versions(&[version])
            .unwrap()
            .with_no_client_auth()
            .with_cert_resolver(authority.issue("localhost").server().cert_resolver.clone());
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        let close =
            |_: &_| Answer::Close(b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 0\r\n\r\n".to_vec());
        let (backend, handshakes) = tls_backend_answering(config, close);
        let place = Workplace::new();
        std::fs::write(place.path("ca.pem"), authority.pem()).unwrap();
        let gateway = gateway(place, "localhost", backend.address, CA);
        for _ in 0..10 {
            assert_eq!(gateway.connect().ask(GET).status, 200, "{version:?}");
        }
        let handshakes = handshakes.lock().unwrap();
        let resumed = handshakes.iter().filter(|(kind, _)| *kind == HandshakeKind::Resumed).count();
        // Only the first is not: a worker that knew its own sessions alone would begin with one more.
        assert_eq!((handshakes.len(), resumed), (10, 9), "{version:?}: {handshakes:?}");
    }
}

#[test]
fn the_connect_timeout_covers_the_handshake() {
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let place = Workplace::new();
    std::fs::write(place.path("ca.pem"), Authority::new().pem()).unwrap();
    let gateway = gateway(place, "localhost", silent.local_addr().unwrap(), CA);
    let start = Instant::now();
    assert_unreachable(&gateway.connect().ask(GET), "silent");
    assert!((Duration::from_millis(900)..Duration::from_secs(5)).contains(&start.elapsed()), "{:?}", start.elapsed());
}

#[test]
fn files_that_cannot_be_used_stop_the_start() {
    let place = Workplace::new();
    let toml = Toml { upstream: "[upstream.app.tls]\nca = \"none.pem\"\n".into(), ..Toml::default() };
    let text = toml.text_before(&["https://localhost:1".to_owned()]);
    let config = portcullis::config::Config::parse(&text, "test.toml", place.root()).unwrap();
    let error = portcullis::app::App::start(config).unwrap_err().to_string();
    assert!(error.starts_with("cannot read ") && error.ends_with("none.pem"), "{error}");
}
