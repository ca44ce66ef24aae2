//! The name that a client asks for: which certificate it gets, and that no right comes with it.

use std::sync::Arc;

use rcgen::KeyPair;

use super::raw::extension::*;
use super::raw::*;
use super::{PATIENCE, certificates, gateway, write};
use crate::support::{Backend, Gateway, Toml, Workplace, tls_config};

#[test]
fn each_spelling_of_a_name_gets_the_certificate_of_that_name() {
    let backend = Backend::start();
    let place = Arc::new(Workplace::new());
    let key = KeyPair::generate().unwrap();
    let first = write(&place, "first", &["first.example"], &key);
    let second = write(&place, "second", &["second.example", "Mixed.Example"], &key);
    let wild = write(&place, "wild", &["*.wild.example"], &key);
    let server = format!("workers = 2\n{}", certificates(&["first", "second", "wild"]));
    let gateway = Gateway::at(place, &Toml { server, tls: false, ..Toml::default() }, &[backend.address]);

    let long = format!("{}.second.example", "a".repeat(63));
    let longest = [&*"a".repeat(63), &*"b".repeat(63), &*"c".repeat(63), &*"d".repeat(61)].join(".");
    let deep = format!("{}wild.example", "a.".repeat(100));
    let cases = [
        ("the name", "second.example", &second),
        ("upper case", "SECOND.EXAMPLE", &second),
        ("mixed case in the certificate", "mixed.example", &second),
        // CVE-2022-23632: the dot at the end is no part of the name.
        ("a dot at the end", "second.example.", &second),
        ("upper case and a dot", "Second.Example.", &second),
        ("a star", "a.wild.example", &wild),
        ("a star, upper case, a dot", "A.WILD.EXAMPLE.", &wild),
        ("two labels are more than a star", "a.b.wild.example", &first),
        ("a star is not nothing", "wild.example", &first),
        ("an unknown name", "third.example", &first),
        ("below a known name", &*long, &first),
        ("the end of a known name", "xsecond.example", &first),
        ("as long as a name can be", &*longest, &first),
        ("a hundred labels", &*deep, &first),
        ("an address", "127.0.0.1", &first),
        ("one label", "second", &first),
        ("an underscore", "_second.example", &first),
        ("digits in front", "1.wild.example", &wild),
    ];
    let mut failed = Vec::new();
    println!("server names: {} cases", cases.len());
    for (name, asked, certificate) in cases {
        let hello = Hello::tls12().with(SERVER_NAME, server_name(asked));
        // CVE-2026-32305: in pieces it is the same hello.
        for (form, bytes) in [("whole", hello.bytes()), ("records of one byte", hello.in_records(1))] {
            match say(gateway.address, &bytes, PATIENCE) {
                Outcome::Chosen(chosen) if chosen.certificate.as_ref() == Some(certificate) => {}
                Outcome::Chosen(_) => failed.push(format!("{name}, {form}: another certificate")),
                other => failed.push(format!("{name}, {form}: {other:?}")),
            }
        }
    }
    let unnamed = say(gateway.address, &Hello::tls12().without(SERVER_NAME).bytes(), PATIENCE).chosen();
    assert_eq!(unnamed.certificate.as_ref(), Some(&first), "no name");
    assert!(failed.is_empty(), "{}", failed.join("\n"));
}

/// What is public under one name is so by `Host`; the name of the handshake neither opens nor closes anything.
#[test]
fn the_name_of_the_handshake_gives_no_access() {
    let backend = Backend::start();
    let toml = Toml {
        rest: "[[route]]\nhost = \"shop.example\"\npath = \"/\"\nupstream = \"app\"\nauth = \"public\"\n\
               [[route]]\nhost = \"localhost\"\npath = \"/\"\nupstream = \"app\"\n"
            .into(),
        ..Toml::default()
    };
    let gateway = Gateway::with(&toml, &[backend.address]);
    for (name, host, status) in [
        ("shop.example", "localhost", 401),
        ("localhost", "localhost", 401),
        ("localhost", "shop.example", 200),
        ("shop.example", "shop.example", 200),
    ] {
        let mut client = client(&gateway, name);
        let (mut socket, mut reply) = (std::net::TcpStream::connect(gateway.address).unwrap(), Vec::new());
        let mut stream = rustls::Stream::new(&mut client, &mut socket);
        let request = format!("GET / HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
        std::io::Write::write_all(&mut stream, request.as_bytes()).unwrap();
        std::io::Read::read_to_end(&mut stream, &mut reply).unwrap();
        let line = format!("HTTP/1.1 {status} ");
        assert!(reply.starts_with(line.as_bytes()), "{name} {host}: {}", String::from_utf8_lossy(&reply));
    }
}

fn client(gateway: &Gateway, name: &'static str) -> rustls::ClientConnection {
    let config = tls_config(&gateway.place.path("cert.pem"), &[b"http/1.1"]);
    rustls::ClientConnection::new(Arc::new(config), name.try_into().unwrap()).unwrap()
}

/// The admin listener is plain HTTP on a loopback address: a hello there is no request.
#[test]
fn the_admin_listener_speaks_no_tls() {
    let backend = Backend::start();
    let gateway = gateway(&backend, "");
    let admin = gateway.app().admin().expect("an admin listener");
    let outcome = say(admin, &Hello::tls12().bytes(), PATIENCE);
    assert!(!matches!(outcome, Outcome::Chosen(_)), "{outcome:?}");
}
