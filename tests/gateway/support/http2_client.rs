//! A client of HTTP/2 that others wrote.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use hyper::client::conn::http2::{SendRequest, handshake};
use hyper_util::rt::{TokioExecutor, TokioIo};

use super::tls_config;

/// A connection over TLS that trusts the certificate in `root`; driven by a task of the current runtime.
pub(crate) async fn connect_http2<B>(address: SocketAddr, root: &Path) -> SendRequest<B>
where
    B: http_body::Body + Send + Unpin + 'static,
    B::Data: Send,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let config = Arc::new(tls_config(root, &[b"h2"]));
    let socket = tokio::net::TcpStream::connect(address).await.expect("connected");
    let name = "localhost".try_into().expect("a name");
    let stream = tokio_rustls::TlsConnector::from(config).connect(name, socket).await.expect("a handshake");
    assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
    let (sender, connection) =
        handshake(TokioExecutor::new(), TokioIo::new(stream)).await.expect("settings were exchanged");
    tokio::spawn(connection);
    sender
}
