//! An authority of the test's own, and servers with its certificates.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::{Arc, Mutex};

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::sign::CertifiedKey;
use rustls::{HandshakeKind, RootCertStore, ServerConfig, ServerConnection};

use super::upstream::{Answer, Backend, Seen};

/// Who signs certificates.
pub(crate) struct Authority {
    certificate: rcgen::Certificate,
    issuer: Issuer<'static, KeyPair>,
}

/// A certificate and its key.
pub(crate) struct Issued {
    pub(crate) certificate: CertificateDer<'static>,
    pub(crate) key: KeyPair,
    pub(crate) pem: String,
}

impl Authority {
    pub(crate) fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).expect("no names");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().expect("a key");
        let certificate = params.self_signed(&key).expect("signed");
        Self { certificate, issuer: Issuer::new(params, key) }
    }

    pub(crate) fn pem(&self) -> String {
        self.certificate.pem()
    }

    pub(crate) fn issue(&self, name: &str) -> Issued {
        self.issue_with(name, |_| {})
    }

    pub(crate) fn issue_with(&self, name: &str, change: impl FnOnce(&mut CertificateParams)) -> Issued {
        self.issue_key(name, KeyPair::generate().expect("a key"), change)
    }

    /// For a key that is there already.
    pub(crate) fn issue_key(&self, name: &str, key: KeyPair, change: impl FnOnce(&mut CertificateParams)) -> Issued {
        let mut params = CertificateParams::new([name.to_owned()]).expect("a name");
        change(&mut params);
        let certificate = params.signed_by(&key, &self.issuer).expect("signed");
        Issued { pem: certificate.pem(), certificate: certificate.der().clone(), key }
    }

    /// Those who may connect to a server that asks for certificates.
    pub(crate) fn roots(&self) -> Arc<RootCertStore> {
        let mut roots = RootCertStore::empty();
        roots.add(self.certificate.der().clone()).expect("an authority");
        Arc::new(roots)
    }
}

impl Issued {
    /// As the configuration has it: the SHA-256 of the public key.
    pub(crate) fn pin(&self) -> String {
        use base64::Engine as _;
        use rcgen::PublicKeyData as _;
        let hash = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, &self.key.subject_public_key_info());
        format!("sha256/{}", base64::engine::general_purpose::STANDARD.encode(hash.as_ref()))
    }

    /// What a server with it is configured as.
    pub(crate) fn server(&self) -> ServerConfig {
        self.server_with(Vec::new(), &self.key, None)
    }

    /// With more certificates behind its own, with a key that may be another's, and perhaps asking who connects.
    pub(crate) fn server_with(
        &self,
        more: Vec<CertificateDer<'static>>,
        key: &KeyPair,
        clients: Option<Arc<RootCertStore>>,
    ) -> ServerConfig {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder = ServerConfig::builder_with_provider(provider.clone())
            .with_safe_default_protocol_versions()
            .expect("versions");
        let builder = match clients {
            None => builder.with_no_client_auth(),
            Some(roots) => builder.with_client_cert_verifier(
                WebPkiClientVerifier::builder_with_provider(roots, provider.clone()).build().expect("a verifier"),
            ),
        };
        let key = PrivateKeyDer::try_from(key.serialize_der()).expect("a key");
        let key = provider.key_provider.load_private_key(key).expect("a key");
        let chain = std::iter::once(self.certificate.clone()).chain(more).collect();
        // Without a look at whether they belong together.
        let certified = Arc::new(CertifiedKey::new(chain, key));
        builder.with_cert_resolver(Arc::new(rustls::sign::SingleCertAndKey::from(certified)))
    }
}

/// What was seen of each handshake that succeeded: its kind, and the name that was asked for.
pub(crate) type Handshakes = Arc<Mutex<Vec<(HandshakeKind, Option<String>)>>>;

/// A backend that speaks TLS.
pub(crate) fn tls_backend(config: ServerConfig) -> (Backend, Handshakes) {
    tls_backend_answering(config, |_| Answer::ok("hello"))
}

pub(crate) fn tls_backend_answering(
    config: ServerConfig,
    script: impl Fn(&Seen) -> Answer + Send + Sync + 'static,
) -> (Backend, Handshakes) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("bound");
    let address: SocketAddr = listener.local_addr().expect("bound");
    let (config, handshakes) = (Arc::new(config), Handshakes::default());
    let noted = handshakes.clone();
    let accept = move || {
        let (stream, _) = listener.accept()?;
        stream.set_nodelay(true)?;
        let connection = ServerConnection::new(config.clone()).expect("a configuration");
        Ok(TlsSocket { stream: rustls::StreamOwned::new(connection, stream), noted: Some(noted.clone()) })
    };
    (Backend::serving(address, accept, script), handshakes)
}

struct TlsSocket {
    stream: rustls::StreamOwned<ServerConnection, TcpStream>,
    noted: Option<Handshakes>,
}

impl Read for TlsSocket {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let count = self.stream.read(buffer)?;
        if let Some(noted) = self.noted.take() {
            let kind = self.stream.conn.handshake_kind().expect("done");
            let name = self.stream.conn.server_name().map(str::to_owned);
            noted.lock().expect("one test").push((kind, name));
        }
        Ok(count)
    }
}

impl Write for TlsSocket {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.stream.write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.stream.flush()
    }
}

impl AsFd for TlsSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.stream.sock.as_fd()
    }
}
