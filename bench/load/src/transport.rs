//! Connections to a proxy, with and without TLS.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, TcpStream};
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;

use rustix::net::{AddressFamily, SocketType, bind, connect, socket};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{WebPkiSupportedAlgorithms, aws_lc_rs, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, ClientConnection, DigitallySignedStruct, SignatureScheme};

use crate::Fault;

/// A connection over which bytes go as they are due, and come as they are there.
pub(crate) struct Transport {
    socket: TcpStream,
    tls: Option<ClientConnection>,
    piece: Vec<u8>,
}

impl Transport {
    /// Connects and, with a configuration of TLS, shakes hands; what follows never waits.
    pub(crate) fn connect(address: SocketAddr, tls: Option<&Arc<ClientConfig>>) -> Result<Self, Fault> {
        let mut socket = TcpStream::connect(address)?;
        socket.set_nodelay(true)?;
        let tls = match tls {
            Some(config) => Some(shake_hands(&mut socket, Arc::clone(config))?),
            None => None,
        };
        socket.set_nonblocking(true)?;
        Ok(Self { socket, tls, piece: vec![0; 64 * 1024] })
    }

    /// Sends all of it. A peer that lets the buffers of the system run full is a fault: a load ends with it.
    pub(crate) fn send(&mut self, bytes: &[u8]) -> Result<(), Fault> {
        match &mut self.tls {
            Some(tls) => {
                tls.writer().write_all(bytes)?;
                while tls.wants_write() {
                    tls.write_tls(&mut self.socket)?;
                }
            }
            None => self.socket.write_all(bytes)?,
        }
        Ok(())
    }

    /// Appends what has come. The end of the connection is a fault.
    pub(crate) fn receive(&mut self, into: &mut Vec<u8>) -> Result<(), Fault> {
        let Some(tls) = &mut self.tls else {
            return match self.socket.read(&mut self.piece) {
                Ok(0) => Err("the connection was closed".into()),
                Ok(count) => {
                    into.extend_from_slice(&self.piece[..count]);
                    Ok(())
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(()),
                Err(error) => Err(error.into()),
            };
        };
        match tls.read_tls(&mut self.socket) {
            Ok(0) => return Err("the connection was closed".into()),
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
            Err(error) => return Err(error.into()),
        }
        tls.process_new_packets()?;
        loop {
            match tls.reader().read(&mut self.piece) {
                Ok(0) => return Err("the connection was closed".into()),
                Ok(count) => into.extend_from_slice(&self.piece[..count]),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error.into()),
            }
        }
    }
}

impl AsFd for Transport {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// The handshake, over a socket that waits.
pub(crate) fn shake_hands(socket: &mut TcpStream, config: Arc<ClientConfig>) -> Result<ClientConnection, Fault> {
    let mut tls = ClientConnection::new(config, ServerName::try_from("localhost")?)?;
    while tls.is_handshaking() {
        tls.complete_io(socket)?;
    }
    // What is left of it, such as its last message, is sent before anything is read.
    while tls.wants_write() {
        tls.write_tls(socket)?;
    }
    Ok(tls)
}

/// A socket that comes from an address of its own: one address has ports for some thousand connections a minute.
pub(crate) fn connect_from(source: Ipv4Addr, address: SocketAddr) -> io::Result<TcpStream> {
    let socket = socket(AddressFamily::INET, SocketType::STREAM, None)?;
    bind(&socket, &SocketAddrV4::new(source, 0))?;
    connect(&socket, &address)?;
    let socket = TcpStream::from(socket);
    socket.set_nodelay(true)?;
    Ok(socket)
}

/// A client of TLS 1.3 that offers X25519 alone, or with `every_group` all that the library has.
///
/// The signature of the handshake is verified, as every client does; whose certificate it is does not matter here.
pub(crate) fn client(every_group: bool, protocol: &[u8]) -> Result<ClientConfig, Fault> {
    let mut provider = aws_lc_rs::default_provider();
    if !every_group {
        provider.kx_groups = vec![aws_lc_rs::kx_group::X25519];
    }
    let verifier = Arc::new(Anyone(provider.signature_verification_algorithms));
    let mut config = ClientConfig::builder_with_provider(Arc::new(provider))
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .dangerous()
        .with_custom_certificate_verifier(verifier)
        .with_no_client_auth();
    config.alpn_protocols = vec![protocol.to_vec()];
    Ok(config)
}

/// Takes every certificate, and no signature that is not by its key.
#[derive(Debug)]
struct Anyone(WebPkiSupportedAlgorithms);

impl ServerCertVerifier for Anyone {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, certificate, signed, &self.0)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signed, &self.0)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.supported_schemes()
    }
}
