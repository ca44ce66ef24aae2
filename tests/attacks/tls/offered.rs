//! What is agreed on at all: asked for with everything there is.

use std::sync::Arc;

use rcgen::{CertificateParams, CustomExtension, KeyPair};

use super::raw::extension::*;
use super::raw::*;
use super::{PATIENCE, certificates, gateway, with_rsa};
use crate::support::{Backend, Gateway, Toml, Workplace};

/// Those of all 65,536 that the gateway at this end agrees to, asked for by halves.
fn agreed(all: &[u16], asked: &dyn Fn(&[u16]) -> Outcome) -> Vec<u16> {
    match (asked(all), all) {
        // Without an alert where the kind of signature is known, and not for this key.
        (Outcome::Alert(alert::HANDSHAKE_FAILURE) | Outcome::Closed, _) => Vec::new(),
        (Outcome::Chosen(_), [one]) => vec![*one],
        (Outcome::Chosen(_), _) => {
            let (first, second) = all.split_at(all.len() / 2);
            [agreed(first, asked), agreed(second, asked)].concat()
        }
        (other, _) => panic!("{other:?} for {} of them from {:04x}", all.len(), all[0]),
    }
}

/// All there are, in pieces that fit into a hello.
fn everything(asked: &dyn Fn(&[u16]) -> Outcome) -> Vec<u16> {
    let all: Vec<u16> = (0..=u16::MAX).collect();
    all.chunks(8192).flat_map(|piece| agreed(piece, asked)).collect()
}

#[test]
fn of_all_suites_nine_are_agreed_on_each_an_aead_with_forward_secrecy() {
    let backend = Backend::start();
    let (ecdsa, rsa) = (gateway(&backend, ""), with_rsa(&backend));
    let with = |hello: fn() -> Hello, gateway: std::net::SocketAddr| {
        everything(&move |suites| say(gateway, &hello().suites(suites).bytes(), PATIENCE))
    };
    assert_eq!(with(Hello::tls12, ecdsa.address), [0xc02b, 0xc02c, 0xcca9]);
    assert_eq!(with(Hello::tls12, rsa.address), [0xc02f, 0xc030, 0xcca8]);
    assert_eq!(with(Hello::tls13, ecdsa.address), [0x1301, 0x1302, 0x1303]);
}

#[test]
fn the_order_of_suites_is_the_gateways() {
    let backend = Backend::start();
    let gateway = gateway(&backend, "");
    for (hello, offered, chosen) in
        [(Hello::tls12(), [0xcca9, 0xc02c, 0xc02b], 0xc02b), (Hello::tls13(), [0x1303, 0x1302, 0x1301], 0x1301)]
    {
        assert_eq!(say(gateway.address, &hello.suites(&offered).bytes(), PATIENCE).chosen().suite, chosen);
    }
}

#[test]
fn of_all_groups_three_are_agreed_on_and_a_fourth_in_tls13() {
    let backend = Backend::start();
    let gateway = gateway(&backend, "");
    let with = |hello: Hello| {
        everything(&move |groups| say(gateway.address, &hello.clone().with(GROUPS, list(groups)).bytes(), PATIENCE))
    };
    assert_eq!(with(Hello::tls12()), [P256, P384, X25519]);
    let tls13 = with(Hello::tls13().with(KEY_SHARE, vector(2, [])));
    assert_eq!(tls13, [P256, P384, X25519, X25519_MLKEM768]);
}

/// A recorded connection must not be opened by a computer that is yet to be built, where the client can prevent it.
#[test]
fn a_client_that_prefers_a_key_exchange_against_quantum_computers_gets_it() {
    let backend = Backend::start();
    let gateway = gateway(&backend, "");
    let hello = Hello::tls13().with(GROUPS, list(&[X25519_MLKEM768, X25519]));
    let chosen = say(gateway.address, &hello.with(KEY_SHARE, vector(2, x25519_share())).bytes(), PATIENCE).chosen();
    assert_eq!(chosen.group, Some(X25519_MLKEM768), "asked for again with that group");
}

#[test]
fn signatures_are_made_with_no_hash_weaker_than_sha256() {
    let backend = Backend::start();
    let (ecdsa, rsa) = (gateway(&backend, ""), with_rsa(&backend));
    for (name, address, expected) in [
        ("P-256", ecdsa.address, &[0x0403][..]),
        ("RSA", rsa.address, &[0x0401, 0x0501, 0x0601, 0x0804, 0x0805, 0x0806]),
    ] {
        let found = everything(&move |schemes| {
            let hello = Hello::tls12().with(SIGNATURES, list(schemes));
            say(address, &hello.bytes(), PATIENCE)
        });
        assert_eq!(found, expected, "{name}");
    }
}

/// RFC 8446 §4.1.3: who offered more and is answered in TLS 1.2 sees that somebody between has changed the hello.
#[test]
fn an_answer_in_tls12_says_that_tls13_was_there() {
    let backend = Backend::start();
    let gateway = gateway(&backend, "");
    let chosen = say(gateway.address, &Hello::tls12().bytes(), PATIENCE).chosen();
    assert_eq!(chosen.random[24..], *b"DOWNGRD\x01");
}

#[test]
fn nothing_is_answered_that_was_not_asked_for_and_little_that_was() {
    let backend = Backend::start();
    let gateway = gateway(&backend, "");
    let asking = Hello::tls12()
        .and(STATUS_REQUEST, [1, 0, 0, 0, 0])
        .and(SESSION_TICKET, [])
        .and(POINT_FORMATS, [1, 0])
        .and(1, [1])
        .and(15, [1])
        .and(22, [])
        .and(28, [0, 64]);
    let asking = asking.and(ALPN, vector(2, [vector(1, "h2"), vector(1, "http/1.1")].concat()));
    let chosen = say(gateway.address, &asking.bytes(), PATIENCE).chosen();
    let mut kinds: Vec<u16> = chosen.extensions.iter().map(|(kind, _)| *kind).collect();
    kinds.sort_unstable();
    // No status (OCSP), no heartbeat, no encrypt-then-MAC, no shorter fragments.
    assert_eq!(kinds, [SERVER_NAME, ALPN, EXTENDED_MASTER_SECRET, SESSION_TICKET, RENEGOTIATION_INFO]);
    assert_eq!(chosen.extension(ALPN), Some(&[0, 3, 2, b'h', b'2'][..]));
    assert_eq!(chosen.extension(RENEGOTIATION_INFO), Some(&[0][..]));
    assert_eq!(chosen.messages, [2, 11, 12, 14], "no CertificateStatus, no CertificateRequest");

    // RFC 7627: the keys of TLS 1.2 are bound to their handshake for whoever asks for it.
    let plain = say(gateway.address, &Hello::tls12().without(EXTENDED_MASTER_SECRET).bytes(), PATIENCE).chosen();
    assert_eq!(plain.extension(EXTENDED_MASTER_SECRET), None);

    let bare = say(gateway.address, &Hello::tls12().without(SERVER_NAME).bytes(), PATIENCE).chosen();
    let kinds: Vec<u16> = bare.extensions.iter().map(|(kind, _)| *kind).collect();
    assert!(!kinds.contains(&ALPN) && !kinds.contains(&SERVER_NAME), "{kinds:?}");
}

/// ALPN (RFC 7301): the first of ours that the client has too.
#[test]
fn the_protocol_is_one_that_both_sides_have() {
    let backend = Backend::start();
    let gateway = gateway(&backend, "");
    for (offered, agreed) in [
        (&["h2", "http/1.1"][..], "h2"),
        (&["http/1.1", "h2"], "h2"),
        (&["http/1.1"], "http/1.1"),
        (&["http/1.0"], "http/1.0"),
        (&["h3", "spdy/3", "http/1.1"], "http/1.1"),
        (&["\u{1}\u{0}", "h2"], "h2"),
    ] {
        let names = offered.iter().flat_map(|name| vector(1, name)).collect::<Vec<_>>();
        let chosen = say(gateway.address, &Hello::tls12().and(ALPN, vector(2, names)).bytes(), PATIENCE).chosen();
        assert_eq!(chosen.extension(ALPN), Some(&*vector(2, vector(1, agreed))), "{offered:?}");
    }
}

/// In TLS 1.3 the refusal is encrypted.
#[test]
fn without_a_protocol_in_common_both_versions_say_so() {
    let backend = Backend::start();
    let gateway = gateway(&backend, "");
    for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
        let mut config = super::client(version);
        config.alpn_protocols = vec![b"acme-tls/1".to_vec()];
        let name = "localhost".try_into().unwrap();
        let mut client = rustls::ClientConnection::new(Arc::new(config), name).unwrap();
        let mut socket = std::net::TcpStream::connect(gateway.address).unwrap();
        let error = client.complete_io(&mut socket).unwrap_err().to_string();
        assert!(error.contains("NoApplicationProtocol"), "{version:?}: {error}");
    }
}

/// RFC 7633: what the certificate asks of its server is not done here, and stops nothing. Clients may refuse it.
#[test]
fn a_certificate_that_asks_for_a_staple_is_served_without_one() {
    let backend = Backend::start();
    let place = Arc::new(Workplace::new());
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(["localhost".to_owned()]).unwrap();
    // TLS feature: status_request.
    let staple = CustomExtension::from_oid_content(&[1, 3, 6, 1, 5, 5, 7, 1, 24], vec![0x30, 3, 2, 1, 5]);
    params.custom_extensions = vec![staple];
    let certificate = params.self_signed(&key).unwrap();
    std::fs::write(place.path("staple.pem"), certificate.pem()).unwrap();
    std::fs::write(place.path("staple-key.pem"), key.serialize_pem()).unwrap();
    let server = format!("workers = 1\n{}", certificates(&["staple"]));
    let gateway = Gateway::at(place, &Toml { server, tls: false, ..Toml::default() }, &[backend.address]);
    let hello = Hello::tls12().and(STATUS_REQUEST, [1, 0, 0, 0, 0]);
    let chosen = say(gateway.address, &hello.bytes(), PATIENCE).chosen();
    assert_eq!(chosen.certificate.as_deref(), Some(certificate.der().as_ref()));
    assert_eq!(chosen.extension(STATUS_REQUEST), None);
    assert_eq!(chosen.messages, [2, 11, 12, 14]);
}
