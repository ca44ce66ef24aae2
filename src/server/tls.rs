//! TLS: certificates chosen by name, TLS 1.2 and 1.3, resumption by tickets, never early data.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::ServerConfig;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer, X509Certificate};

use crate::clock::UnixTime;
use crate::config::Certificate;

/// What is wrong with a certificate, and with which file.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// The file cannot be read, or is no PEM.
    #[error("cannot read {}", path.display())]
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        cause: rustls::pki_types::pem::Error,
    },
    /// No certificate is in it.
    #[error("{} has no certificate", .0.display())]
    NoCertificate(PathBuf),
    /// The certificate is not X.509 as we can read it.
    #[error("the certificate in {} cannot be read: {why}", path.display())]
    Unreadable {
        /// Which.
        path: PathBuf,
        /// Why.
        why: String,
    },
    /// Its time is past.
    #[error("the certificate in {} expired on {on}", path.display())]
    Expired {
        /// Which.
        path: PathBuf,
        /// When.
        on: UnixTime,
    },
    /// Its time is to come.
    #[error("the certificate in {} is not valid before {from}", path.display())]
    NotYetValid {
        /// Which.
        path: PathBuf,
        /// When.
        from: UnixTime,
    },
    /// The private key is of a kind we do not take, or broken.
    #[error("the private key in {} cannot be used", path.display())]
    Key {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        cause: rustls::Error,
    },
    /// The key belongs to another certificate.
    #[error("the private key in {} does not belong to the certificate in {}", key.display(), chain.display())]
    KeyMismatch {
        /// The key.
        key: PathBuf,
        /// The certificate.
        chain: PathBuf,
    },
    /// The provider lacks what TLS 1.2 and 1.3 need.
    #[error("TLS cannot be set up")]
    Setup(#[source] rustls::Error),
}

/// A certificate that passed its checks.
#[derive(Debug)]
pub struct Loaded {
    /// DNS names and addresses in it, in lower case.
    pub names: Vec<String>,
    /// Until when it is valid.
    pub expires: UnixTime,
    key: Arc<CertifiedKey>,
}

/// Reads a certificate and its key and checks that they are valid `now` and belong together.
///
/// # Errors
/// [`TlsError`] names the file.
pub fn load(certificate: &Certificate, now: UnixTime) -> Result<Loaded, TlsError> {
    let path = &certificate.chain;
    let read = |cause| TlsError::Read { path: path.clone(), cause };
    let chain = CertificateDer::pem_file_iter(path).map_err(read)?.collect::<Result<Vec<_>, _>>().map_err(read)?;
    let Some(leaf) = chain.first() else { return Err(TlsError::NoCertificate(path.clone())) };
    let (names, expires) = inspect(leaf, path, now)?;

    let key_path = &certificate.key;
    let key =
        PrivateKeyDer::from_pem_file(key_path).map_err(|cause| TlsError::Read { path: key_path.clone(), cause })?;
    let unusable = |cause| TlsError::Key { path: key_path.clone(), cause };
    let key = aws_lc_rs::default_provider().key_provider.load_private_key(key).map_err(unusable)?;
    let certified = CertifiedKey::new(chain, key);
    match certified.keys_match() {
        // A key type that cannot tell its public half is left to the handshake.
        Ok(()) | Err(rustls::Error::InconsistentKeys(rustls::InconsistentKeys::Unknown)) => {}
        Err(_) => return Err(TlsError::KeyMismatch { key: key_path.clone(), chain: path.clone() }),
    }
    Ok(Loaded { names, expires, key: Arc::new(certified) })
}

fn inspect(leaf: &CertificateDer<'_>, path: &Path, now: UnixTime) -> Result<(Vec<String>, UnixTime), TlsError> {
    let unreadable = |why: String| TlsError::Unreadable { path: path.to_owned(), why };
    let (_, parsed) = X509Certificate::from_der(leaf).map_err(|error| unreadable(error.to_string()))?;
    let time = |at: x509_parser::time::ASN1Time| UnixTime::from_secs(u64::try_from(at.timestamp()).unwrap_or(0));
    let (from, until) = (time(parsed.validity().not_before), time(parsed.validity().not_after));
    if now > until {
        return Err(TlsError::Expired { path: path.to_owned(), on: until });
    }
    if now < from {
        return Err(TlsError::NotYetValid { path: path.to_owned(), from });
    }
    let alternative = parsed.subject_alternative_name().map_err(|error| unreadable(error.to_string()))?;
    let names = alternative.iter().flat_map(|extension| &extension.value.general_names);
    let names = names.filter_map(|name| match name {
        GeneralName::DNSName(name) => Some(name.to_ascii_lowercase()),
        _ => None,
    });
    Ok((names.collect(), until))
}

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
    // rustls offers TLS 1.2 with AEAD and ECDHE only, and neither compression nor renegotiation.
    let mut config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])
        .map_err(TlsError::Setup)?
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(by_name));
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
