//! What others' tools find: sslscan and testssl.sh of Debian, by what they write for machines.

use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;

use rcgen::{CrlDistributionPoint, DistinguishedName, DnType, ExtendedKeyUsagePurpose, KeyPair, SignatureAlgorithm};

use super::certificates;
use crate::support::{Answer, Authority, Backend, Gateway, Toml, Workplace};

const KINDS: [(&str, &SignatureAlgorithm); 2] =
    [("P-256", &rcgen::PKCS_ECDSA_P256_SHA256), ("RSA", &rcgen::PKCS_RSA_SHA256)];

/// A gateway as it should be run: with a certificate of an authority, before a backend that says what browsers want.
fn gateway(backend: &Backend, algorithm: &'static SignatureAlgorithm) -> Gateway {
    let (place, authority) = (Arc::new(Workplace::new()), Authority::new());
    let key = KeyPair::generate_for(algorithm).unwrap();
    let issued = authority.issue_key("localhost", key, |params| {
        // Half a year from this month on: neither soon over nor longer than browsers take.
        let today = portcullis::clock::UnixTime::now().to_string();
        let (year, month): (i32, u8) = (today[..4].parse().unwrap(), today[5..7].parse().unwrap());
        params.not_before = rcgen::date_time_ymd(year, month, 1);
        params.not_after = rcgen::date_time_ymd(year + i32::from(month > 6), (month + 5) % 12 + 1, 1);
        // Unlike that of the authority, or it looks as if it had signed itself.
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, "localhost");
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        params.crl_distribution_points = vec![CrlDistributionPoint { uris: vec!["http://localhost/crl".into()] }];
    });
    std::fs::write(place.path("scanned.pem"), &issued.pem).unwrap();
    std::fs::write(place.path("scanned-key.pem"), issued.key.serialize_pem()).unwrap();
    std::fs::write(place.path("ca.pem"), authority.pem()).unwrap();
    let toml = Toml {
        server: format!("workers = 2\n{}", certificates(&["scanned"])),
        limits: "connections_per_address = 1000000\ntls_handshake_timeout = \"2s\"".into(),
        rest: "[[route]]\npath = \"/\"\nupstream = \"app\"\nauth = \"public\"\n".into(),
        tls: false,
        ..Toml::default()
    };
    Gateway::at(place, &toml, &[backend.address])
}

fn backend() -> Backend {
    Backend::answering(|_| {
        Answer::Bytes(
            b"HTTP/1.1 200 OK\r\nStrict-Transport-Security: max-age=31536000; includeSubDomains\r\n\
              X-Frame-Options: DENY\r\nX-Content-Type-Options: nosniff\r\nContent-Security-Policy: default-src 'none'\r\n\
              Referrer-Policy: no-referrer\r\nContent-Length: 5\r\n\r\nhello"
                .to_vec(),
        )
    })
}

fn run(command: &mut Command) -> bool {
    let name = command.get_program().to_owned();
    let command = command.stdin(Stdio::null()).stdout(Stdio::null());
    command.status().unwrap_or_else(|error| panic!("{}: {error}; scripts/test installs it", name.display())).success()
}

/// The elements of this name, each as its attributes stand.
fn elements(xml: &str, name: &str) -> Vec<String> {
    let open = format!("<{name} ");
    xml.lines()
        .filter_map(|line| line.trim().strip_prefix(&open))
        .map(|rest| rest.trim_end_matches("/>").trim_end().to_owned())
        .collect()
}

fn attribute<'a>(element: &'a str, name: &str) -> &'a str {
    let (_, rest) = element.split_once(&format!("{name}=\"")).unwrap_or_else(|| panic!("no {name}: {element}"));
    rest.split_once('"').expect("closed").0
}

fn scan(gateway: &Gateway, out: &Path) -> String {
    let xml = format!("--xml={}", out.display());
    let server = format!("localhost:{}", gateway.address.port());
    assert!(run(Command::new("sslscan").args(["--no-colour", "--ipv4", &xml, &server])));
    std::fs::read_to_string(out).unwrap()
}

#[test]
fn sslscan_finds_two_versions_and_the_suites_that_are_meant() {
    let backend = backend();
    for (kind, algorithm) in KINDS {
        let gateway = gateway(&backend, algorithm);
        let xml = scan(&gateway, &gateway.place.path("sslscan.xml"));
        let versions = elements(&xml, "protocol");
        let enabled: Vec<String> = versions
            .iter()
            .filter(|version| attribute(version, "enabled") != "0")
            .map(|version| format!("{} {}", attribute(version, "type"), attribute(version, "version")))
            .collect();
        assert_eq!((versions.len(), enabled), (6, vec!["tls 1.2".to_owned(), "tls 1.3".to_owned()]), "{kind}");
        let suites: Vec<String> = elements(&xml, "cipher")
            .iter()
            .map(|cipher| format!("{} {}", attribute(cipher, "status"), attribute(cipher, "cipher")))
            .collect();
        let ours = if kind == "RSA" { "RSA" } else { "ECDSA" };
        let expected = [
            "preferred TLS_AES_128_GCM_SHA256".to_owned(),
            "accepted TLS_AES_256_GCM_SHA384".to_owned(),
            "accepted TLS_CHACHA20_POLY1305_SHA256".to_owned(),
            format!("preferred ECDHE-{ours}-AES128-GCM-SHA256"),
            format!("accepted ECDHE-{ours}-AES256-GCM-SHA384"),
            format!("accepted ECDHE-{ours}-CHACHA20-POLY1305"),
        ];
        assert_eq!(suites, expected, "{kind}");
        for cipher in elements(&xml, "cipher") {
            assert!(["strong", "acceptable"].contains(&attribute(&cipher, "strength")), "{kind}: {cipher}");
        }
        let mut groups: Vec<String> = elements(&xml, "group").iter().map(|one| attribute(one, "id").into()).collect();
        groups.sort();
        assert_eq!(groups, ["0x0017", "0x0018", "0x001d"], "{kind}");
        assert_eq!(elements(&xml, "renegotiation"), ["supported=\"0\" secure=\"0\""], "{kind}");
        let bleeding = elements(&xml, "heartbleed");
        assert!(!bleeding.is_empty(), "{kind}");
        assert!(bleeding.iter().all(|one| attribute(one, "vulnerable") == "0"), "{kind}: {bleeding:?}");
        assert!(elements(&xml, "compression").iter().all(|one| attribute(one, "supported") == "0"), "{kind}");
        for fault in ["<expired>true", "<pk error=\"true\"", "<self-signed>true", "sha1With", "md5With"] {
            assert!(!xml.contains(fault), "{kind}: {fault} in {xml}");
        }
    }
}

/// What testssl.sh finds that is no finding about the gateway, with the reason.
const EXCUSED: &[(&str, &str)] = &[
    ("engine_problem", "the scanner's own OpenSSL has no GOST"),
    ("DNS_CAArecord", "a matter of DNS, and localhost has none"),
    ("sessionresumption_ticket", "a warning that it could not look, on a busy machine; see the tests of resumption"),
];

/// Takes minutes: with `PORTCULLIS_LONG_ATTACKS=1`.
#[test]
fn testssl_finds_nothing_above_informational() {
    if std::env::var_os("PORTCULLIS_LONG_ATTACKS").is_none() {
        println!("testssl.sh: not run without PORTCULLIS_LONG_ATTACKS");
        return;
    }
    let backend = backend();
    let mut failed = Vec::new();
    for (kind, algorithm) in KINDS {
        let gateway = gateway(&backend, algorithm);
        let out = gateway.place.path("testssl.json");
        let server = format!("https://localhost:{}/", gateway.address.port());
        let mut command = Command::new("testssl");
        command.args(["--quiet", "--color", "0", "--warnings", "off", "--ip", "127.0.0.1", "--nodns", "none"]);
        command.arg("--add-ca").arg(gateway.place.path("ca.pem")).arg("--jsonfile").arg(&out).arg(server);
        // How it ends says how many it found, not whether it could look.
        run(&mut command);
        let text = std::fs::read_to_string(&out).unwrap();
        let found: Vec<serde_json::Value> = serde_json::from_str(&text).unwrap();
        println!("testssl.sh, {kind}: {} checks", found.len());
        assert!(found.len() >= 100, "{kind}: {text}");
        for one in found {
            let text = |name: &str| one[name].as_str().unwrap_or_default();
            let (id, severity) = (text("id"), text("severity"));
            let excused = EXCUSED.iter().any(|(name, _)| *name == id);
            if !matches!(severity, "OK" | "INFO" | "DEBUG") && !excused {
                failed.push(format!("{kind}: {id} {severity}: {}", text("finding")));
            }
        }
    }
    assert!(failed.is_empty(), "{}", failed.join("\n"));
}
