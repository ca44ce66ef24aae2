//! How the servers of an upstream are connected to: what all workers share.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;

use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use socket2::{SockRef, TcpKeepalive};
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::TlsConnector;

use super::attempts::{self, Order};
use super::names::{Name, Named, Names};
use super::stream::Stream;
use super::tls::{self, SystemAuthorities};
use crate::certificate::TlsError;
use crate::clock::UnixTime;
use crate::config::{self, Protocol, ServerAddress};

/// How the servers of one upstream are connected to.
#[derive(Debug)]
pub struct Dialer {
    pub(super) protocol: Protocol,
    targets: Vec<Target>,
}

/// One server: where it is, and who it must be.
#[derive(Debug)]
struct Target {
    place: Place,
    tls: Option<(Arc<ClientConfig>, ServerName<'static>)>,
}

#[derive(Debug)]
enum Place {
    Unix(PathBuf),
    Address(SocketAddr),
    Name { name: Arc<Name>, port: u16 },
}

/// A connection before anything was said on it.
#[derive(Debug)]
pub(super) struct Dialed {
    pub(super) stream: Stream,
    /// The name it is to a server of, when there is one.
    pub(super) named: Option<Named>,
}

impl Dialer {
    /// The dialers of all `upstreams`, in their order, and the names that they look up. Reads the files they name.
    ///
    /// # Errors
    /// [`TlsError`] names the file.
    pub fn all(upstreams: &[config::Upstream], now: UnixTime) -> Result<(Vec<Arc<Self>>, Names), TlsError> {
        let (mut names, system) = (Names::default(), SystemAuthorities::default());
        let dialers = upstreams.iter().map(|upstream| Self::new(upstream, &mut names, &system, now).map(Arc::new));
        Ok((dialers.collect::<Result<_, _>>()?, names))
    }

    fn new(
        upstream: &config::Upstream,
        names: &mut Names,
        system: &SystemAuthorities,
        now: UnixTime,
    ) -> Result<Self, TlsError> {
        let tls = match upstream.servers.iter().any(|server| server.address.tls()) {
            true => Some(tls::client_config(&upstream.tls, upstream.protocol, system, now)?),
            false => None,
        };
        let target = |server: &config::UpstreamServer| {
            let (tls, place) = match &server.address {
                ServerAddress::Unix(path) => (None, Place::Unix(path.clone())),
                ServerAddress::Tcp { tls: with_tls, host, port } => {
                    let place = match host.parse::<IpAddr>() {
                        Ok(address) => Place::Address((address, *port).into()),
                        Err(_) => Place::Name { name: names.add(host, upstream.resolver), port: *port },
                    };
                    let expected = upstream.tls.server_name.as_ref().unwrap_or(host);
                    let tls = tls.clone().filter(|_| *with_tls).map(|tls| Ok((tls, server_name(expected)?)));
                    (tls.transpose()?, place)
                }
            };
            Ok(Target { place, tls })
        };
        let targets = upstream.servers.iter().map(target).collect::<Result<_, TlsError>>()?;
        Ok(Self { protocol: upstream.protocol, targets })
    }

    /// Whether TLS is spoken to the server.
    pub(super) fn tls(&self, server: usize) -> bool {
        self.targets.get(server).is_some_and(|target| target.tls.is_some())
    }

    /// Connects to `servers[server]`, with TLS when it is `https`. `order` is what the caller remembers of it.
    ///
    /// The caller sets the deadline of the whole.
    pub(super) async fn dial(&self, server: usize, order: &Order) -> io::Result<Dialed> {
        let target = self.targets.get(server).ok_or(io::ErrorKind::NotFound)?;
        let (stream, named) = match &target.place {
            Place::Unix(path) => {
                return Ok(Dialed { stream: Stream::Unix(UnixStream::connect(path).await?), named: None });
            }
            Place::Address(address) => (TcpStream::connect(address).await?, None),
            Place::Name { name, port } => {
                let addresses = name.addresses().await?;
                let (stream, address) = attempts::connect(order.of(&addresses), *port).await?;
                order.succeeded(address);
                (stream, Some(name.connected(address)))
            }
        };
        self.prepare(&stream)?;
        let stream = match &target.tls {
            None => Stream::Tcp(stream),
            Some((tls, name)) => {
                let connected = TlsConnector::from(tls.clone()).connect(name.clone(), stream).await;
                let stream = connected.map_err(tls::told)?;
                if self.protocol == Protocol::Http2 && stream.get_ref().1.alpn_protocol() != Some(b"h2") {
                    return Err(io::Error::other("the server does not choose HTTP/2 (ALPN h2)"));
                }
                Stream::Tls(Box::new(stream))
            }
        };
        Ok(Dialed { stream, named })
    }

    fn prepare(&self, stream: &TcpStream) -> io::Result<()> {
        // Requests are written whole; Nagle would hold the last piece of a body back.
        stream.set_nodelay(true)?;
        if self.protocol == Protocol::Http2 {
            // A connection that many requests share and that leads nowhere any more must be noticed soon. The system
            // does that unseen by the server; of pings, gRPC servers take offence (see `http2`).
            let socket = SockRef::from(stream);
            socket.set_tcp_keepalive(&TcpKeepalive::new().with_time(DEAD_AFTER / 2).with_interval(DEAD_AFTER / 4))?;
            #[cfg(target_os = "linux")]
            socket.set_tcp_user_timeout(Some(DEAD_AFTER))?;
        }
        Ok(())
    }
}

/// How long the other end of a shared connection may acknowledge nothing.
const DEAD_AFTER: std::time::Duration = std::time::Duration::from_secs(20);

fn server_name(text: &str) -> Result<ServerName<'static>, TlsError> {
    // Checked when the configuration was read, by rules that are no wider.
    ServerName::try_from(text.to_owned()).map_err(|error| TlsError::Setup(rustls::Error::General(error.to_string())))
}
