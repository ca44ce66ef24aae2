//! Certificates, keys and authorities as they stand in files, checked when they are read.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::RootCertStore;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer, X509Certificate};
use zeroize::Zeroizing;

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
    /// A certificate cannot be that of an authority.
    #[error("a certificate in {} cannot be used", path.display())]
    Authority {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        cause: rustls::Error,
    },
    /// The system has no authorities that could be read.
    #[error("the system has no certificates of authorities{why}")]
    NoSystemAuthorities {
        /// Why, when that is known.
        why: String,
    },
    /// The provider lacks what TLS 1.2 and 1.3 need.
    #[error("TLS cannot be set up")]
    Setup(#[source] rustls::Error),
}

/// A certificate that passed its checks.
#[derive(Debug)]
pub struct Loaded {
    /// DNS names in it, in lower case. No addresses: a client cannot ask for one (RFC 6066 §3).
    pub names: Vec<String>,
    /// Until when it is valid.
    pub expires: UnixTime,
    /// The chain and its key, ready to sign.
    pub(crate) key: Arc<CertifiedKey>,
}

/// Reads a certificate and its key and checks that they are valid `now` and belong together.
///
/// # Errors
/// [`TlsError`] names the file.
pub fn load(certificate: &Certificate, now: UnixTime) -> Result<Loaded, TlsError> {
    let path = &certificate.chain;
    let chain = read(path)?;
    let Some(leaf) = chain.first() else { return Err(TlsError::NoCertificate(path.clone())) };
    let (names, expires) = inspect(leaf, path, now)?;

    let key_path = &certificate.key;
    let key = private_key(key_path).map_err(|cause| TlsError::Read { path: key_path.clone(), cause })?;
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

/// The key in a PEM file. What was read of the file is cleared; the key itself is aws-lc's, which clears what it frees.
fn private_key(path: &Path) -> Result<PrivateKeyDer<'static>, pem::Error> {
    let bytes = Zeroizing::new(std::fs::read(path).map_err(pem::Error::Io)?);
    PrivateKeyDer::from_pem_slice(&bytes)
}

/// Reads the authorities in the PEM file at `path`.
///
/// # Errors
/// [`TlsError`] names the file; also when one of the certificates cannot be that of an authority, or there is none.
pub fn authorities(path: &Path) -> Result<RootCertStore, TlsError> {
    let certificates = read(path)?;
    if certificates.is_empty() {
        return Err(TlsError::NoCertificate(path.to_owned()));
    }
    let mut roots = RootCertStore::empty();
    for certificate in certificates {
        roots.add(certificate).map_err(|cause| TlsError::Authority { path: path.to_owned(), cause })?;
    }
    Ok(roots)
}

/// The authorities that this system trusts.
///
/// # Errors
/// [`TlsError::NoSystemAuthorities`]
pub fn system_authorities() -> Result<RootCertStore, TlsError> {
    let found = rustls_native_certs::load_native_certs();
    let mut roots = RootCertStore::empty();
    // Some systems carry certificates that no verifier takes; the others are good all the same.
    let (usable, _) = roots.add_parsable_certificates(found.certs);
    if usable == 0 {
        let why = found.errors.first().map(|error| format!(": {error}")).unwrap_or_default();
        return Err(TlsError::NoSystemAuthorities { why });
    }
    Ok(roots)
}

fn read(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let certificates = CertificateDer::pem_file_iter(path).and_then(Iterator::collect);
    certificates.map_err(|cause| TlsError::Read { path: path.to_owned(), cause })
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
