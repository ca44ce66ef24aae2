//! A gateway between raw bytes and the recording upstream.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::ServerName;

use super::recorder::Recorder;
use super::wire::{self, Response, Stop};
use crate::support::{Gateway, Toml, tls_config};

/// How long a client waits for the end of its connection: the gateway's own deadlines are longer.
const PATIENCE: Duration = Duration::from_secs(5);

/// The gateway with one worker, so that all happens in one order.
pub(crate) struct Front {
    pub(crate) gateway: Gateway,
    pub(crate) recorder: Recorder,
    tls: Option<Arc<rustls::ClientConfig>>,
}

/// What a client got.
#[derive(Clone, Debug)]
pub(crate) struct Came {
    pub(crate) bytes: Vec<u8>,
    /// The connection was ended by the gateway.
    pub(crate) closed: bool,
}

impl Front {
    pub(crate) fn start(tls: bool) -> Self {
        Self::with("workers = 1\n", tls)
    }

    /// With these lines in the table `server`.
    pub(crate) fn with(server: &str, tls: bool) -> Self {
        let recorder = Recorder::start();
        let toml = Toml { server: server.into(), tls, ..Toml::default() };
        let gateway = Gateway::with(&toml, &[recorder.address]);
        let tls = tls.then(|| Arc::new(tls_config(&gateway.place.path("cert.pem"), &[b"http/1.1"])));
        Self { gateway, recorder, tls }
    }

    /// Sends `pieces` on a new connection, `pause` apart, then perhaps ends its own half of it, and reads what comes
    /// until the gateway ends the other, for at most `patience`.
    pub(crate) fn exchange(&self, pieces: &[&[u8]], pause: Duration, half_close: bool, patience: Duration) -> Came {
        let socket = TcpStream::connect(self.gateway.address).expect("connected");
        socket.set_nodelay(true).expect("set");
        socket.set_read_timeout(Some(patience)).expect("set");
        match &self.tls {
            None => converse(socket, pieces, pause, half_close, |socket| socket.shutdown(Shutdown::Write)),
            Some(config) => {
                let name = ServerName::try_from("localhost").expect("a name");
                let connection = rustls::ClientConnection::new(config.clone(), name).expect("a connection");
                let stream = rustls::StreamOwned::new(connection, socket);
                converse(stream, pieces, pause, half_close, |stream| {
                    stream.conn.send_close_notify();
                    stream.flush()?;
                    stream.sock.shutdown(Shutdown::Write)
                })
            }
        }
    }

    /// All at once, to the end.
    pub(crate) fn tell(&self, bytes: &[u8], half_close: bool) -> Came {
        self.exchange(&[bytes], Duration::ZERO, half_close, PATIENCE)
    }

    /// In two pieces, or in as many as there are bytes.
    pub(crate) fn tell_cut(&self, pieces: &[&[u8]], half_close: bool) -> Came {
        let pause = if pieces.len() == 2 { Duration::from_micros(300) } else { Duration::ZERO };
        self.exchange(pieces, pause, half_close, PATIENCE)
    }

    /// Whether it still serves; what was on its way has arrived by then, too.
    pub(crate) fn barrier(&self) -> bool {
        let came = self.tell(b"GET /public/barrier HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n", false);
        came.bytes.starts_with(b"HTTP/1.1 200 ") && came.bytes.ends_with(b"GET /public/barrier")
    }
}

fn converse<S: Read + Write>(
    mut stream: S,
    pieces: &[&[u8]],
    pause: Duration,
    half_close: bool,
    end: impl Fn(&mut S) -> std::io::Result<()>,
) -> Came {
    for (index, piece) in pieces.iter().enumerate() {
        if index > 0 && !pause.is_zero() {
            std::thread::sleep(pause);
        }
        // It may have refused what came before, and ended the connection.
        if stream.write_all(piece).and_then(|()| stream.flush()).is_err() {
            break;
        }
    }
    if half_close {
        drop(end(&mut stream));
    }
    let mut came = Came { bytes: Vec::new(), closed: true };
    let mut piece = [0; 16 * 1024];
    loop {
        match stream.read(&mut piece) {
            Ok(0) => return came,
            Ok(count) => came.bytes.extend_from_slice(&piece[..count]),
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                came.closed = false;
                return came;
            }
            // Reset, or ended without the farewell of TLS: what was sent before has been read.
            Err(_) => return came,
        }
    }
}

impl Came {
    /// The answers, and why there is not one more when bytes are left.
    pub(crate) fn responses(&self, first_to_head: bool) -> (Vec<Response>, Option<Stop>) {
        let (mut all, mut bytes) = (Vec::new(), &self.bytes[..]);
        while !bytes.is_empty() {
            match wire::response(bytes, first_to_head && all.is_empty(), self.closed) {
                Ok((response, length)) => {
                    all.push(response);
                    bytes = &bytes[length..];
                }
                Err(stop) => return (all, Some(stop)),
            }
        }
        (all, None)
    }
}
