//! A client that sends the frames it is told to, and reads what comes back as far as it must.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::support::{frame, tls_config};

pub(crate) const DATA: u8 = 0;
pub(crate) const HEADERS: u8 = 1;
pub(crate) const PRIORITY: u8 = 2;
pub(crate) const RST_STREAM: u8 = 3;
pub(crate) const SETTINGS: u8 = 4;
pub(crate) const PUSH_PROMISE: u8 = 5;
pub(crate) const PING: u8 = 6;
pub(crate) const GOAWAY: u8 = 7;
pub(crate) const WINDOW_UPDATE: u8 = 8;
pub(crate) const CONTINUATION: u8 = 9;

pub(crate) const ACK: u8 = 1;
pub(crate) const END_STREAM: u8 = 1;
pub(crate) const END_HEADERS: u8 = 4;
pub(crate) const PADDED: u8 = 8;

pub(crate) const ENHANCE_YOUR_CALM: u32 = 11;

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Several header fields, each as a literal that is not remembered (RFC 7541 §6.2.2).
pub(crate) fn block(fields: &[(&[u8], &[u8])]) -> Vec<u8> {
    fields.iter().flat_map(|(name, value)| [vec![0], string(name), string(value)].concat()).collect()
}

/// A string as it is (RFC 7541 §5.2).
pub(crate) fn string(text: &[u8]) -> Vec<u8> {
    [integer(0, 7, text.len()), text.to_vec()].concat()
}

/// RFC 7541 §5.1
pub(crate) fn integer(first: u8, bits: u32, value: usize) -> Vec<u8> {
    let most = (1 << bits) - 1;
    let byte = |value: usize| u8::try_from(value).expect("masked");
    if value < most {
        return vec![first | byte(value)];
    }
    let (mut bytes, mut rest) = (vec![first | byte(most)], value - most);
    while rest >= 128 {
        bytes.push(byte(rest % 128) | 128);
        rest /= 128;
    }
    bytes.push(byte(rest));
    bytes
}

/// The header of a request without a fault.
pub(crate) fn request(method: &str, path: &str) -> Vec<u8> {
    block(&[
        (b":method", method.as_bytes()),
        (b":scheme", b"https"),
        (b":path", path.as_bytes()),
        (b":authority", b"a"),
    ])
}

pub(crate) fn get(stream: u32, path: &str) -> Vec<u8> {
    frame(HEADERS, END_HEADERS | END_STREAM, stream, &request("GET", path))
}

pub(crate) fn post(stream: u32, path: &str) -> Vec<u8> {
    frame(HEADERS, END_HEADERS, stream, &request("POST", path))
}

pub(crate) fn setting(id: u16, value: u32) -> Vec<u8> {
    [&id.to_be_bytes()[..], &value.to_be_bytes()].concat()
}

trait Stream: Read + Write + Send {}
impl<T: Read + Write + Send> Stream for T {}

/// What came back of a stream or the connection.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Came {
    /// A header with this status.
    Head(u32, u16),
    Data(u32, usize),
    /// A stream was reset with this code.
    Reset(u32, u32),
    /// The connection is to end, with this code.
    GoAway(u32),
    /// Any other frame.
    Other(u8),
    /// The connection ended.
    Closed,
}

pub(crate) struct Raw {
    stream: Box<dyn Stream>,
    socket: TcpStream,
    buffer: Vec<u8>,
}

impl Raw {
    /// Over TLS when there is a `root` to trust.
    pub(crate) fn connect(address: SocketAddr, root: Option<&Path>) -> Self {
        Self::try_connect(address, root, b"h2").expect("a connection")
    }

    /// A client that speaks `protocol`, if it is let in.
    pub(crate) fn try_connect(address: SocketAddr, root: Option<&Path>, protocol: &[u8]) -> std::io::Result<Self> {
        // With short segments and little room for what is not read it is soon the gateway that waits: over loopback a
        // socket would take megabytes first.
        let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None)?;
        socket.set_recv_buffer_size(16 * 1024)?;
        socket.set_tcp_mss(1400)?;
        socket.connect(&address.into())?;
        let socket = TcpStream::from(socket);
        socket.set_nodelay(true)?;
        socket.set_read_timeout(Some(Duration::from_secs(10)))?;
        socket.set_write_timeout(Some(Duration::from_millis(200)))?;
        let other = socket.try_clone()?;
        let stream: Box<dyn Stream> = match root {
            None => Box::new(other),
            Some(root) => {
                let name = "localhost".try_into().expect("a name");
                let config = Arc::new(tls_config(root, &[protocol]));
                let mut connection = rustls::ClientConnection::new(config, name).expect("a connection");
                let mut other = other;
                while connection.is_handshaking() {
                    connection.complete_io(&mut other)?;
                }
                Box::new(rustls::StreamOwned::new(connection, other))
            }
        };
        Ok(Self { stream, socket, buffer: Vec::new() })
    }

    /// The socket beneath, where TLS is not.
    pub(crate) fn socket(&mut self) -> &mut TcpStream {
        &mut self.socket
    }

    /// Reads and forgets, whatever it is; whether the connection ended within this time.
    pub(crate) fn ends(&mut self, patience: Duration) -> bool {
        let start = Instant::now();
        let mut piece = [0; 16 * 1024];
        while let Some(left) = patience.checked_sub(start.elapsed()) {
            self.socket.set_read_timeout(Some(left.max(Duration::from_millis(1)))).expect("set");
            match self.stream.read(&mut piece) {
                Ok(0) => return true,
                Ok(_) => {}
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => return false,
                Err(_) => return true,
            }
        }
        false
    }

    /// Says hello with these settings.
    pub(crate) fn greet(&mut self, settings: &[u8]) {
        let _ = self.send(&[PREFACE, &frame(SETTINGS, 0, 0, settings)].concat());
    }

    /// Whether all of it was taken; not while nothing is read on the other side.
    pub(crate) fn send(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        self.stream.write_all(bytes)?;
        self.stream.flush()
    }

    /// The next thing that comes; `None` when nothing did in this time.
    pub(crate) fn next(&mut self, patience: Duration) -> Option<Came> {
        let start = Instant::now();
        loop {
            if let Some(came) = self.frame() {
                return Some(came);
            }
            let left = patience.saturating_sub(start.elapsed()).max(Duration::from_millis(1));
            self.socket.set_read_timeout(Some(left)).expect("set");
            let mut piece = [0; 16 * 1024];
            match self.stream.read(&mut piece) {
                Ok(0) => return Some(Came::Closed),
                Ok(count) => self.buffer.extend_from_slice(&piece[..count]),
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => return None,
                Err(_) => return Some(Came::Closed),
            }
        }
    }

    /// Reads on until something is so.
    pub(crate) fn until(&mut self, patience: Duration, so: impl Fn(&Came) -> bool) -> Option<Came> {
        let start = Instant::now();
        while start.elapsed() < patience {
            match self.next(patience.saturating_sub(start.elapsed())) {
                Some(came) if so(&came) => return Some(came),
                Some(Came::Closed) | None => return None,
                Some(_) => {}
            }
        }
        None
    }

    fn frame(&mut self) -> Option<Came> {
        let head = self.buffer.first_chunk::<9>()?;
        let length = usize::from(head[0]) << 16 | usize::from(head[1]) << 8 | usize::from(head[2]);
        let (kind, flags) = (head[3], head[4]);
        let number = |bytes: &[u8]| bytes.first_chunk().map_or(0, |bytes| u32::from_be_bytes(*bytes));
        let stream = number(&head[5..]) & (u32::MAX >> 1);
        if self.buffer.len() < 9 + length {
            return None;
        }
        let payload: Vec<u8> = self.buffer.drain(..9 + length).skip(9).collect();
        Some(match kind {
            HEADERS if flags & PADDED == 0 => Came::Head(stream, status(&payload)),
            DATA => Came::Data(stream, length),
            RST_STREAM => Came::Reset(stream, number(&payload)),
            GOAWAY => Came::GoAway(number(payload.get(4..).unwrap_or_default())),
            other => Came::Other(other),
        })
    }
}

/// The status of the first field of a header block, which an encoder without a table has written; 0 for trailers.
fn status(mut block: &[u8]) -> u16 {
    // Its table was made smaller (RFC 7541 §6.3).
    while block.first().is_some_and(|byte| byte & 0xe0 == 0x20) {
        block = &block[1..];
    }
    match block {
        [indexed @ 0x88..=0x8e, ..] => [200, 204, 206, 304, 400, 404, 500][usize::from(indexed - 0x88)],
        [0x08 | 0x18 | 0x48, 3, digits @ ..] => {
            digits.iter().take(3).fold(0, |all, digit| all * 10 + u16::from(digit.wrapping_sub(b'0')))
        }
        [0x08 | 0x18 | 0x48, _huffman, bits @ ..] => huffman_digits(bits),
        _ => 0,
    }
}

/// Three digits in the code of RFC 7541, appendix B: 0 to 2 have five bits, the others six.
fn huffman_digits(bytes: &[u8]) -> u16 {
    let bits = bytes.iter().take(3).fold(0_u32, |bits, byte| bits << 8 | u32::from(*byte));
    let mut left = 8 * u32::try_from(bytes.len().min(3)).expect("at most three");
    let mut take = |count: u32| {
        left = left.saturating_sub(count);
        u16::try_from(bits >> left & ((1 << count) - 1)).expect("few bits")
    };
    (0..3).fold(0, |all, _| {
        let five = take(5);
        let digit = if five <= 2 { five } else { 3 + (five << 1 | take(1)).wrapping_sub(0b01_1001) };
        all * 10 + digit
    })
}
