//! TLS to the servers of an upstream: who they must be, and who we are.

use std::io;
use std::sync::Arc;

use ::aws_lc_rs::digest::{SHA256, digest};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{Resumption, WebPkiServerVerifier};
use rustls::crypto::{
    CryptoProvider, WebPkiSupportedAlgorithms, aws_lc_rs, verify_tls12_signature, verify_tls13_signature,
};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime as TlsTime};
use rustls::server::ParsedCertificate;
use rustls::sign::SingleCertAndKey;
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, Error, OtherError, RootCertStore, SignatureScheme,
};

use crate::certificate::{self, TlsError};
use crate::clock::UnixTime;
use crate::config::{Pin, Protocol, UpstreamTls};

/// Sessions kept for resumption: a few for each server, shared by all workers.
const RESUMABLE: usize = 256;

/// The TLS side of one upstream's connections. One for all workers, so that each resumes the others' sessions.
///
/// # Errors
/// [`TlsError`] names the file.
pub(super) fn client_config(
    tls: &UpstreamTls,
    protocol: Protocol,
    system: &SystemAuthorities,
    now: UnixTime,
) -> Result<Arc<ClientConfig>, TlsError> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let by_chain = by_chain(tls, system, &provider)?;
    let algorithms = provider.signature_verification_algorithms;
    let builder = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])
        .map_err(TlsError::Setup)?;
    let builder = match by_chain {
        Some(by_chain) if tls.pins.is_empty() => builder.with_webpki_verifier(by_chain),
        by_chain => {
            let verifier = ByPin { pins: tls.pins.clone(), by_chain, algorithms };
            builder.dangerous().with_custom_certificate_verifier(Arc::new(verifier))
        }
    };
    let mut config = match &tls.certificate {
        Some(files) => {
            let shown = certificate::load(files, now)?;
            builder.with_client_cert_resolver(Arc::new(SingleCertAndKey::from(shown.key)))
        }
        None => builder.with_no_client_auth(),
    };
    config.alpn_protocols = match protocol {
        Protocol::Http1 => vec![b"http/1.1".to_vec()],
        Protocol::Http2 => vec![b"h2".to_vec()],
    };
    config.resumption = Resumption::in_memory_sessions(RESUMABLE);
    // Early data can be replayed by whoever sees it (RFC 8446 §8): a request must never go out in it.
    config.enable_early_data = false;
    Ok(Arc::new(config))
}

/// The system's authorities, read when first asked for.
#[derive(Debug, Default)]
pub(super) struct SystemAuthorities(std::cell::OnceCell<Arc<RootCertStore>>);

impl SystemAuthorities {
    fn load(&self) -> Result<Arc<RootCertStore>, TlsError> {
        if let Some(roots) = self.0.get() {
            return Ok(roots.clone());
        }
        let roots = Arc::new(certificate::system_authorities()?);
        Ok(self.0.get_or_init(|| roots).clone())
    }
}

/// The check of chain, name and dates; `None` when a pinned key stands for itself.
fn by_chain(
    tls: &UpstreamTls,
    system: &SystemAuthorities,
    provider: &Arc<CryptoProvider>,
) -> Result<Option<Arc<WebPkiServerVerifier>>, TlsError> {
    let roots = match &tls.ca {
        Some(path) => Arc::new(certificate::authorities(path)?),
        None if tls.pins.is_empty() => system.load()?,
        None => return Ok(None),
    };
    let verifier = WebPkiServerVerifier::builder_with_provider(roots, provider.clone()).build();
    verifier.map(Some).map_err(|error| TlsError::Setup(Error::General(error.to_string())))
}

/// Takes a server whose key is one of the pinned ones; with authorities, its certificate must also be in order.
#[derive(Debug)]
struct ByPin {
    pins: Vec<Pin>,
    by_chain: Option<Arc<WebPkiServerVerifier>>,
    algorithms: WebPkiSupportedAlgorithms,
}

/// What the log says of a server with another key.
#[derive(Debug, thiserror::Error)]
#[error("its key {0} is not among pins")]
struct NotPinned(Pin);

/// The error of a handshake as the log should have it.
///
/// rustls shows the error of a verifier that is not its own by its fields, which nobody could compare with the pins of
/// the configuration, or paste into it.
pub(super) fn told(error: io::Error) -> io::Error {
    let pin = match error.get_ref().and_then(|inner| inner.downcast_ref()) {
        Some(Error::InvalidCertificate(CertificateError::Other(OtherError(other)))) => {
            other.downcast_ref().map(|NotPinned(pin)| *pin)
        }
        _ => None,
    };
    match pin {
        Some(pin) => io::Error::new(error.kind(), NotPinned(pin)),
        None => error,
    }
}

impl ServerCertVerifier for ByPin {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: TlsTime,
    ) -> Result<ServerCertVerified, Error> {
        // Of the leaf only: the handshake proves that the server has that key. Anyone can send along a certificate of
        // somebody else's key.
        let key = ParsedCertificate::try_from(end_entity)?.subject_public_key_info();
        let mut hash = [0; 32];
        hash.copy_from_slice(digest(&SHA256, &key).as_ref());
        let pin = Pin(hash);
        if !self.pins.contains(&pin) {
            let other = OtherError(Arc::new(NotPinned(pin)));
            return Err(Error::InvalidCertificate(CertificateError::Other(other)));
        }
        match &self.by_chain {
            Some(chain) => chain.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now),
            None => Ok(ServerCertVerified::assertion()),
        }
    }

    // A certificate is public. That its key is the server's is shown by these signatures alone.
    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, cert, signed, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, cert, signed, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use rcgen::PublicKeyData as _;

    use super::*;

    #[test]
    fn a_key_that_is_not_pinned_is_told_as_the_configuration_would_have_it() {
        let issued = rcgen::generate_simple_self_signed([String::from("localhost")]).unwrap();
        let algorithms = aws_lc_rs::default_provider().signature_verification_algorithms;
        let verifier = ByPin { pins: vec![Pin([7; 32])], by_chain: None, algorithms };
        let name = ServerName::try_from("localhost").unwrap();
        let now = TlsTime::since_unix_epoch(std::time::Duration::from_secs(1_700_000_000));
        let error = verifier.verify_server_cert(issued.cert.der(), &[], &name, &[], now).unwrap_err();
        let hash = digest(&SHA256, &issued.signing_key.subject_public_key_info());
        let pin = Pin(hash.as_ref().try_into().unwrap());
        let told = told(io::Error::new(io::ErrorKind::InvalidData, error));
        assert_eq!(told.to_string(), format!("its key {pin} is not among pins"));
        assert_eq!(told.kind(), io::ErrorKind::InvalidData);
    }

    #[test]
    fn other_errors_are_told_as_they_are() {
        for error in [
            io::Error::new(io::ErrorKind::InvalidData, Error::InvalidCertificate(CertificateError::UnknownIssuer)),
            io::Error::from_raw_os_error(111),
        ] {
            let text = error.to_string();
            assert_eq!(told(error).to_string(), text);
        }
    }
}
