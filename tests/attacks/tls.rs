//! What TLS is agreed on, and what is refused.

mod cut;
mod hellos;
mod mutated;
mod names;
mod offered;
mod raw;
mod renewed;
mod scanners;
mod upstreams;

use std::sync::Arc;
use std::time::Duration;

use rcgen::{CertificateParams, KeyPair};
use rustls::{ClientConfig, SupportedProtocolVersion};

use crate::support::{AnyCertificate, Backend, Gateway, Toml, Workplace};

/// How long a case waits before it says that more is waited for.
const PATIENCE: Duration = Duration::from_millis(500);

/// A gateway with these lines in its limits.
fn gateway(backend: &Backend, limits: &str) -> Gateway {
    let toml = Toml { limits: format!("connections_per_address = 1000000\n{limits}"), ..Toml::default() };
    Gateway::with(&toml, &[backend.address])
}

/// Prints and returns the failures of all `cases`, named.
fn failures<'a, C: 'a>(
    area: &str,
    cases: impl IntoIterator<Item = &'a (&'static str, C)>,
    check: impl Fn(&C) -> Result<(), String>,
) -> Vec<String> {
    let (mut count, mut failed) = (0, Vec::new());
    for (name, case) in cases {
        count += 1;
        if let Err(why) = check(case) {
            failed.push(format!("{name}: {why}"));
        }
    }
    println!("{area}: {count} cases");
    failed
}

/// Writes a certificate for `names` with a key of this kind as NAME.pem and NAME-key.pem.
fn write(place: &Workplace, name: &str, names: &[&str], key: &KeyPair) -> Vec<u8> {
    let params = CertificateParams::new(names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>()).unwrap();
    let certificate = params.self_signed(key).unwrap();
    std::fs::write(place.path(&format!("{name}.pem")), certificate.pem()).unwrap();
    std::fs::write(place.path(&format!("{name}-key.pem")), key.serialize_pem()).unwrap();
    certificate.der().to_vec()
}

/// Those entries of the configuration.
fn certificates(names: &[&str]) -> String {
    names
        .iter()
        .map(|name| format!("[[server.tls.certificate]]\nchain = \"{name}.pem\"\nkey = \"{name}-key.pem\"\n"))
        .collect()
}

/// A gateway with an RSA certificate for `localhost` and no other.
fn with_rsa(backend: &Backend) -> Gateway {
    let place = Arc::new(Workplace::new());
    write(&place, "rsa", &["localhost"], &KeyPair::generate_for(&rcgen::PKCS_RSA_SHA256).unwrap());
    let toml = Toml { server: format!("workers = 2\n{}", certificates(&["rsa"])), tls: false, ..Toml::default() };
    Gateway::at(place, &toml, &[backend.address])
}

/// A client of one version that takes every certificate.
fn client(version: &'static SupportedProtocolVersion) -> ClientConfig {
    ClientConfig::builder_with_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
        .with_protocol_versions(&[version])
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(AnyCertificate))
        .with_no_client_auth()
}
