//! What can be said of a shared store without connecting to it.

use std::net::IpAddr;
use std::path::Path;

use rustls::RootCertStore;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;

use crate::cli::output::causes;
use crate::config::{Origin, Redis};

/// That every certificate in the PEM file at `path` can be that of an authority, and that there is one.
///
/// # Errors
/// What is wrong, for people.
pub(super) fn authorities(path: &Path) -> Result<(), String> {
    let shown = path.display();
    let certificates = CertificateDer::pem_file_iter(path).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    let certificates = certificates.map_err(|error| format!("cannot read {shown}: {}", causes(&error)))?;
    if certificates.is_empty() {
        return Err(format!("{shown} has no certificate"));
    }
    let mut roots = RootCertStore::empty();
    for certificate in certificates {
        roots
            .add(certificate)
            .map_err(|error| format!("a certificate in {shown} cannot be used: {}", causes(&error)))?;
    }
    Ok(())
}

/// A warning when a password would be sent in clear beyond this machine.
pub(super) fn password_in_clear(redis: &Redis) -> Option<String> {
    let any_password = redis.password.is_some() || redis.sentinel_password.is_some();
    if redis.tls || !any_password {
        return None;
    }
    let far = redis.servers.iter().zip(redis.urls()).filter(|(server, _)| !is_loopback(server)).map(|(_, url)| url);
    let far = far.collect::<Vec<_>>();
    (!far.is_empty()).then(|| {
        format!(
            "the password of the store goes to {} in clear, and so does all else: use rediss:// unless that network is \
             private",
            far.join(", ")
        )
    })
}

fn is_loopback(server: &Origin) -> bool {
    server.host.parse::<IpAddr>().map_or(server.host == "localhost", |address| address.is_loopback())
}
