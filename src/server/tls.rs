//! TLS: certificates chosen by name, TLS 1.2 and 1.3, resumption by tickets, never early data.

use std::collections::HashMap;
use std::sync::Arc;

use rustls::crypto::CryptoProvider;
use rustls::crypto::aws_lc_rs::{self, cipher_suite};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::{ServerConfig, SupportedCipherSuite};

pub use crate::certificate::{Loaded, TlsError, load};

/// What may be agreed on, the first in common: an AEAD each, with a key of the connection's own (RFC 9325 §4.1).
///
/// Written down, so that what another version of a library adds is not offered before somebody has looked at it.
const SUITES: [SupportedCipherSuite; 9] = [
    cipher_suite::TLS13_AES_128_GCM_SHA256,
    cipher_suite::TLS13_AES_256_GCM_SHA384,
    cipher_suite::TLS13_CHACHA20_POLY1305_SHA256,
    cipher_suite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256,
    cipher_suite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,
    cipher_suite::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384,
    cipher_suite::TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384,
    cipher_suite::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256,
    cipher_suite::TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256,
];

/// Chooses by the server name the client asks for; the first certificate when none fits.
///
/// The choice carries no right: routes are found by `Host`, and no certificate asks for less than another.
#[derive(Debug)]
struct ByName {
    exact: HashMap<String, Arc<CertifiedKey>>,
    /// Below `*.`: one label stands for the star (RFC 6125 §6.4.3).
    wildcard: HashMap<String, Arc<CertifiedKey>>,
    default: Arc<CertifiedKey>,
}

impl ResolvesServerCert for ByName {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let named = hello.server_name().and_then(|name| {
            // rustls gives the name in lower case, without a trailing dot.
            let below = name.split_once('.').map(|(_, below)| below);
            self.exact.get(name).or_else(|| below.and_then(|below| self.wildcard.get(below)))
        });
        Some(named.unwrap_or(&self.default).clone())
    }
}

/// The configuration of every TLS listener; `None` when there is no certificate.
///
/// # Errors
/// [`TlsError::Setup`]
pub fn server_config(certificates: Vec<Loaded>) -> Result<Option<Arc<ServerConfig>>, TlsError> {
    let Some(first) = certificates.first() else { return Ok(None) };
    let mut by_name = ByName { exact: HashMap::new(), wildcard: HashMap::new(), default: first.key.clone() };
    for certificate in certificates {
        for name in certificate.names {
            let (map, name) = match name.strip_prefix("*.") {
                Some(below) => (&mut by_name.wildcard, below.to_owned()),
                None => (&mut by_name.exact, name),
            };
            map.entry(name).or_insert_with(|| certificate.key.clone());
        }
    }
    // Compression and renegotiation are nothing that rustls has.
    let provider = CryptoProvider { cipher_suites: SUITES.to_vec(), ..aws_lc_rs::default_provider() };
    let mut config = ServerConfig::builder_with_provider(Arc::new(provider))
        .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])
        .map_err(TlsError::Setup)?
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(by_name));
    // Ours is the order, the cheapest first: each of them is good, and a client's order is mostly its library's habit.
    config.ignore_client_order = true;
    // Agreed on with whoever offers it, and no session goes over from one kind to the other. Not demanded: what it
    // prevents (RFC 7627 §1) needs client certificates or renegotiation, and there is neither.
    config.require_ems = false;
    // The last one for clients that offer nothing else, as `curl --http1.0` does: HTTP/1 serves them all the same, and a
    // handshake without a name in common would fail (RFC 7301 §3.2).
    config.alpn_protocols = [&b"h2"[..], b"http/1.1", b"http/1.0"].map(<[u8]>::to_vec).to_vec();
    config.ticketer = aws_lc_rs::Ticketer::new().map_err(TlsError::Setup)?;
    // One ticket is enough for a client with one connection; each costs randomness and bytes.
    config.send_tls13_tickets = 1;
    // Early data can be replayed (RFC 8446 §8): a request must never come in it.
    config.max_early_data_size = 0;
    Ok(Some(Arc::new(config)))
}
