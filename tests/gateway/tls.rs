//! TLS at the door.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Arc;

use portcullis::clock::UnixTime;
use portcullis::config::Certificate;
use portcullis::server::tls::{TlsError, load};
use rcgen::{CertificateParams, KeyPair};

use crate::support::{Backend, Client, Gateway, Toml, Workplace, tls_config};

fn write(place: &Workplace, name: &str, params: CertificateParams, key: &KeyPair) -> Certificate {
    let cert = params.self_signed(key).unwrap();
    std::fs::write(place.path(&format!("{name}.pem")), cert.pem()).unwrap();
    std::fs::write(place.path(&format!("{name}-key.pem")), key.serialize_pem()).unwrap();
    Certificate { chain: place.path(&format!("{name}.pem")), key: place.path(&format!("{name}-key.pem")) }
}

fn params(name: &str) -> CertificateParams {
    CertificateParams::new([name.to_owned()]).unwrap()
}

#[test]
fn each_fault_of_a_certificate_is_named_with_its_file() {
    let place = Workplace::new();
    let key = KeyPair::generate().unwrap();
    let now = UnixTime::now();
    let mut expired = params("a.example");
    expired.not_before = rcgen::date_time_ymd(2020, 1, 1);
    expired.not_after = rcgen::date_time_ymd(2021, 1, 1);
    let expired = write(&place, "expired", expired, &key);
    let error = load(&expired, now).unwrap_err();
    assert!(matches!(error, TlsError::Expired { .. }));
    assert!(error.to_string().ends_with("expired.pem expired on 2021-01-01T00:00:00.000Z"), "{error}");
    let mut early = params("a.example");
    early.not_before = rcgen::date_time_ymd(2999, 1, 1);
    early.not_after = rcgen::date_time_ymd(3000, 1, 1);
    assert!(matches!(load(&write(&place, "early", early, &key), now), Err(TlsError::NotYetValid { .. })));
    let good = write(&place, "good", params("a.example"), &key);
    assert!(load(&good, now).is_ok());
    let other = write(&place, "other", params("a.example"), &KeyPair::generate().unwrap());
    let mixed = Certificate { chain: good.chain.clone(), key: other.key };
    assert!(matches!(load(&mixed, now), Err(TlsError::KeyMismatch { .. })));
    for content in ["", "garbage", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"] {
        std::fs::write(place.path("bad.pem"), content).unwrap();
        let bad = Certificate { chain: place.path("bad.pem"), key: good.key.clone() };
        let error = load(&bad, now).unwrap_err().to_string();
        assert!(error.contains("bad.pem"), "{error}");
        let bad = Certificate { chain: good.chain.clone(), key: place.path("bad.pem") };
        let error = load(&bad, now).unwrap_err().to_string();
        assert!(error.contains("bad.pem"), "{error}");
    }
    let absent = Certificate { chain: place.path("absent.pem"), key: good.key };
    assert!(load(&absent, now).unwrap_err().to_string().contains("absent.pem"));
}

#[test]
fn the_certificate_is_chosen_by_name() {
    let backend = Backend::start();
    let place = Arc::new(Workplace::new());
    let key = KeyPair::generate().unwrap();
    write(&place, "wild", params("*.wild.example"), &key);
    let toml = Toml {
        server: "[[server.tls.certificate]]\nchain = \"cert.pem\"\nkey = \"key.pem\"\n\
                 [[server.tls.certificate]]\nchain = \"wild.pem\"\nkey = \"wild-key.pem\"\n"
            .into(),
        tls: false,
        ..Toml::default()
    };
    let gateway = Gateway::at(place, &toml, &[backend.address]);
    for (name, root, good) in [
        ("a.wild.example", "wild.pem", true),
        ("a.wild.example", "cert.pem", false),
        ("localhost", "cert.pem", true),
        ("shop.example", "cert.pem", true),
        ("localhost", "wild.pem", false),
    ] {
        let config = tls_config(&gateway.place.path(root), &[]);
        let mut connection =
            rustls::ClientConnection::new(Arc::new(config), name.to_owned().try_into().unwrap()).unwrap();
        let mut socket = TcpStream::connect(gateway.address).unwrap();
        assert_eq!(connection.complete_io(&mut socket).is_ok(), good, "{name} {root}");
    }
}

#[test]
fn both_versions_are_spoken_and_nothing_older_and_sessions_resume() {
    let backend = Backend::start();
    let gateway = Gateway::start(&backend);
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
        let trusting = tls_config(&gateway.place.path("cert.pem"), &[]);
        let mut config = rustls::ClientConfig::builder_with_provider(provider.clone())
            .with_protocol_versions(&[version])
            .unwrap()
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(crate::support::AnyCertificate))
            .with_no_client_auth();
        drop(trusting);
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        let config = Arc::new(config);
        let mut kinds = Vec::new();
        for _ in 0..2 {
            let mut connection =
                rustls::ClientConnection::new(config.clone(), "localhost".try_into().unwrap()).unwrap();
            let mut socket = TcpStream::connect(gateway.address).unwrap();
            let mut stream = rustls::Stream::new(&mut connection, &mut socket);
            stream.write_all(b"GET /public HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").unwrap();
            let mut reply = Vec::new();
            // The ticket comes with the answer.
            drop(stream.read_to_end(&mut reply));
            assert!(reply.starts_with(b"HTTP/1.1 200 OK"), "{version:?}");
            assert_eq!(connection.protocol_version(), Some(version.version));
            kinds.push(connection.handshake_kind());
        }
        assert_eq!(kinds[1], Some(rustls::HandshakeKind::Resumed), "{version:?}");
    }
    // A TLS 1.1 hello gets an alert and the end.
    let mut client = Client::plain(gateway.address);
    client.send(hello_of_tls11());
    let alert = client.drained().expect("closed");
    assert_eq!(alert.first(), Some(&21), "an alert: {alert:?}");
}

fn hello_of_tls11() -> Vec<u8> {
    let mut body = vec![3, 2];
    body.extend([7; 32]);
    body.extend([0, 0, 2, 0xc0, 0x09, 1, 0]);
    let mut handshake = vec![1, 0, 0, u8::try_from(body.len()).unwrap()];
    handshake.extend(body);
    let mut record = vec![0x16, 3, 1, 0, u8::try_from(handshake.len()).unwrap()];
    record.extend(handshake);
    record
}

#[test]
fn plain_http_on_a_tls_port_is_not_answered() {
    let backend = Backend::start();
    let gateway = Gateway::start(&backend);
    let mut client = Client::plain(gateway.address);
    client.send("GET /public HTTP/1.1\r\nHost: a\r\n\r\n");
    let bytes = client.drained().expect("closed");
    assert!(!bytes.starts_with(b"HTTP/"), "{bytes:?}");
    assert!(backend.saw_nothing());
}
