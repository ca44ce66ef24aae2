//! A client of one connection that sends the bytes it is given and reads whole replies.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};

pub(crate) struct Client {
    stream: Box<dyn Stream>,
    buffer: Vec<u8>,
}

/// A socket on which something is sent with the first bytes.
struct Behind {
    header: Vec<u8>,
    stream: TcpStream,
}

impl Read for Behind {
    fn read(&mut self, bytes: &mut [u8]) -> std::io::Result<usize> {
        self.stream.read(bytes)
    }
}

impl Write for Behind {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        if self.header.is_empty() {
            return self.stream.write(bytes);
        }
        self.stream.write_all(&[&std::mem::take(&mut self.header), bytes].concat())?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.stream.flush()
    }
}

trait Stream: Read + Write + Send {}
impl<T: Read + Write + Send> Stream for T {}

/// How long a test waits for anything.
const PATIENCE: Duration = Duration::from_secs(20);

type Fields = Vec<(String, String)>;

/// A whole reply.
#[derive(Clone, Debug)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
    /// Trailers of a chunked body.
    pub(crate) trailers: Vec<(String, String)>,
}

impl Reply {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let mut found = self.headers.iter().filter(|(one, _)| one.eq_ignore_ascii_case(name));
        let value = found.next().map(|(_, value)| value.as_str());
        assert!(found.next().is_none(), "{name} twice: {:?}", self.headers);
        value
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {}", self.text()))
    }

    /// Status and `reason` of a refusal.
    pub(crate) fn refusal(&self) -> (u16, String) {
        (self.status, self.json()["reason"].as_str().unwrap_or("-").to_owned())
    }
}

impl Client {
    pub(crate) fn plain(address: SocketAddr) -> Self {
        Self::try_plain(address, PATIENCE).expect("connected")
    }

    /// A client that waits so long for a connection, and for each piece of a reply.
    pub(crate) fn try_plain(address: SocketAddr, patience: Duration) -> std::io::Result<Self> {
        Ok(Self { stream: Box::new(connect(address, patience)?), buffer: Vec::new() })
    }

    pub(crate) fn tls(address: SocketAddr, root: &Path) -> Self {
        Self::tls_behind(address, root, b"")
    }

    /// A TLS client behind a balancer that sends `header` first, in the same segment.
    pub(crate) fn tls_behind(address: SocketAddr, root: &Path, header: &[u8]) -> Self {
        let config = tls_config(root, &[b"http/1.1"]);
        let name = ServerName::try_from("localhost").expect("a name");
        let connection = rustls::ClientConnection::new(Arc::new(config), name).expect("a connection");
        let stream = Behind { header: header.to_vec(), stream: connect(address, PATIENCE).expect("connected") };
        Self { stream: Box::new(rustls::StreamOwned::new(connection, stream)), buffer: Vec::new() }
    }

    pub(crate) fn send(&mut self, bytes: impl AsRef<[u8]>) -> &mut Self {
        self.try_send(bytes).expect("sent");
        self
    }

    pub(crate) fn try_send(&mut self, bytes: impl AsRef<[u8]>) -> std::io::Result<()> {
        self.stream.write_all(bytes.as_ref())?;
        self.stream.flush()
    }

    /// Sends a request and reads its reply.
    pub(crate) fn ask(&mut self, request: impl AsRef<[u8]>) -> Reply {
        self.send(request).reply()
    }

    pub(crate) fn reply(&mut self) -> Reply {
        self.try_reply(false).unwrap_or_else(|error| panic!("no reply: {error}"))
    }

    pub(crate) fn head_reply(&mut self) -> Reply {
        self.try_reply(true).unwrap_or_else(|error| panic!("no reply: {error}"))
    }

    /// Reads one reply; interim ones (1xx) are passed over.
    pub(crate) fn try_reply(&mut self, to_head: bool) -> std::io::Result<Reply> {
        loop {
            let head = self.until(b"\r\n\r\n")?;
            let text = String::from_utf8_lossy(&head).into_owned();
            let mut lines = text.trim_end().split("\r\n");
            let first = lines.next().unwrap_or_default();
            let status: u16 =
                first.split(' ').nth(1).and_then(|code| code.parse().ok()).unwrap_or_else(|| panic!("{text:?}"));
            if status < 200 && status != 101 {
                continue;
            }
            let headers = fields(lines);
            let mut reply = Reply { status, headers, body: Vec::new(), trailers: Vec::new() };
            if to_head || matches!(status, 101 | 204 | 304) {
                return Ok(reply);
            }
            if reply.header("transfer-encoding").is_some_and(|coding| coding.eq_ignore_ascii_case("chunked")) {
                (reply.body, reply.trailers) = self.chunks()?;
            } else if let Some(length) = reply.header("content-length") {
                let length = length.parse().unwrap_or_else(|_| panic!("{text:?}"));
                reply.body = self.exactly(length)?;
            } else {
                while self.fill()? > 0 {}
                reply.body = std::mem::take(&mut self.buffer);
            }
            return Ok(reply);
        }
    }

    /// Waits for the end of the connection; what came before it. `None` when it was still open after the read deadline.
    pub(crate) fn drained(&mut self) -> Option<Vec<u8>> {
        loop {
            match self.fill() {
                Ok(0) => return Some(std::mem::take(&mut self.buffer)),
                Ok(_) => {}
                Err(error) if matches!(error.kind(), std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut) => {
                    return None;
                }
                Err(_) => return Some(std::mem::take(&mut self.buffer)),
            }
        }
    }

    fn fill(&mut self) -> std::io::Result<usize> {
        let mut piece = [0; 16 * 1024];
        let count = match self.stream.read(&mut piece) {
            // rustls: closed without a farewell.
            Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => 0,
            other => other?,
        };
        self.buffer.extend_from_slice(&piece[..count]);
        Ok(count)
    }

    pub(crate) fn until(&mut self, end: &[u8]) -> std::io::Result<Vec<u8>> {
        loop {
            if let Some(at) = self.buffer.windows(end.len()).position(|window| window == end) {
                return Ok(self.buffer.drain(..at + end.len()).collect());
            }
            if self.fill()? == 0 {
                return Err(closed(&self.buffer));
            }
        }
    }

    fn exactly(&mut self, length: usize) -> std::io::Result<Vec<u8>> {
        while self.buffer.len() < length {
            if self.fill()? == 0 {
                return Err(closed(&self.buffer));
            }
        }
        Ok(self.buffer.drain(..length).collect())
    }

    fn chunks(&mut self) -> std::io::Result<(Vec<u8>, Fields)> {
        let mut body = Vec::new();
        loop {
            let line = self.until(b"\r\n")?;
            let size = usize::from_str_radix(String::from_utf8_lossy(&line).trim(), 16).expect("a chunk size");
            if size == 0 {
                let mut trailers = String::new();
                loop {
                    let line = String::from_utf8_lossy(&self.until(b"\r\n")?).into_owned();
                    if line == "\r\n" {
                        return Ok((body, fields(trailers.trim_end().split("\r\n").filter(|line| !line.is_empty()))));
                    }
                    trailers += &line;
                }
            }
            body.extend(self.exactly(size)?);
            assert_eq!(self.exactly(2)?, b"\r\n");
        }
    }
}

fn fields<'a>(lines: impl Iterator<Item = &'a str>) -> Fields {
    lines
        .map(|line| line.split_once(':').unwrap_or_else(|| panic!("{line:?}")))
        .map(|(name, value)| (name.to_owned(), value.trim().to_owned()))
        .collect()
}

fn closed(so_far: &[u8]) -> std::io::Error {
    std::io::Error::new(
        std::io::ErrorKind::UnexpectedEof,
        format!("closed after {:?}", String::from_utf8_lossy(so_far)),
    )
}

fn connect(address: SocketAddr, patience: Duration) -> std::io::Result<TcpStream> {
    let stream = TcpStream::connect_timeout(&address, patience)?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(patience))?;
    Ok(stream)
}

/// A client configuration that trusts the certificate in `root`.
pub(crate) fn tls_config(root: &Path, alpn: &[&[u8]]) -> rustls::ClientConfig {
    let mut roots = rustls::RootCertStore::empty();
    for certificate in CertificateDer::pem_file_iter(root).expect("a file") {
        roots.add(certificate.expect("a certificate")).expect("added");
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = alpn.iter().map(|one| one.to_vec()).collect();
    config
}

/// Takes every certificate: for tests of the handshake itself.
#[derive(Debug)]
pub(crate) struct AnyCertificate;

impl rustls::client::danger::ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: rustls::pki_types::UnixTime,
    ) -> Result<rustls::client::danger::ServerCertVerified, rustls::Error> {
        Ok(rustls::client::danger::ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &rustls::DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        Ok(rustls::client::danger::HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &rustls::DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        Ok(rustls::client::danger::HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<rustls::SignatureScheme> {
        rustls::crypto::aws_lc_rs::default_provider().signature_verification_algorithms.supported_schemes()
    }
}
