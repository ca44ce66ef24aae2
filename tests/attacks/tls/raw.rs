//! TLS said by hand: a ClientHello field by field, records as they are told, and what comes back until it is encrypted.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

pub(super) const TLS12: [u8; 2] = [3, 3];
/// As it stands on records of a ClientHello (RFC 8446 §5.1).
pub(super) const TLS10: [u8; 2] = [3, 1];

pub(super) const ALERT: u8 = 21;
pub(super) const HANDSHAKE: u8 = 22;

/// Extensions (IANA).
pub(super) mod extension {
    pub(crate) const SERVER_NAME: u16 = 0;
    pub(crate) const STATUS_REQUEST: u16 = 5;
    pub(crate) const GROUPS: u16 = 10;
    pub(crate) const POINT_FORMATS: u16 = 11;
    pub(crate) const SIGNATURES: u16 = 13;
    pub(crate) const ALPN: u16 = 16;
    pub(crate) const EXTENDED_MASTER_SECRET: u16 = 23;
    pub(crate) const SESSION_TICKET: u16 = 35;
    pub(crate) const PRE_SHARED_KEY: u16 = 41;
    pub(crate) const EARLY_DATA: u16 = 42;
    pub(crate) const VERSIONS: u16 = 43;
    pub(crate) const PSK_MODES: u16 = 45;
    pub(crate) const KEY_SHARE: u16 = 51;
    pub(crate) const RENEGOTIATION_INFO: u16 = 0xff01;
}
use extension::*;

/// Alerts (RFC 8446 §6).
pub(super) mod alert {
    pub(crate) const UNEXPECTED_MESSAGE: u8 = 10;
    pub(crate) const RECORD_OVERFLOW: u8 = 22;
    pub(crate) const HANDSHAKE_FAILURE: u8 = 40;
    pub(crate) const ILLEGAL_PARAMETER: u8 = 47;
    pub(crate) const DECODE_ERROR: u8 = 50;
    pub(crate) const PROTOCOL_VERSION: u8 = 70;
    pub(crate) const MISSING_EXTENSION: u8 = 109;
    pub(crate) const NO_APPLICATION_PROTOCOL: u8 = 120;
}

pub(super) const X25519: u16 = 0x001d;
pub(super) const P256: u16 = 0x0017;
pub(super) const P384: u16 = 0x0018;
pub(super) const X25519_MLKEM768: u16 = 0x11ec;

/// `bytes` behind their length in so many bytes.
pub(super) fn vector(width: usize, bytes: impl AsRef<[u8]>) -> Vec<u8> {
    let bytes = bytes.as_ref();
    let length = u32::try_from(bytes.len()).expect("short").to_be_bytes();
    [&length[4 - width..], bytes].concat()
}

/// Numbers of two bytes behind their length in two.
pub(super) fn list(numbers: &[u16]) -> Vec<u8> {
    vector(2, pairs(numbers))
}

fn pairs(numbers: &[u16]) -> Vec<u8> {
    numbers.iter().flat_map(|number| number.to_be_bytes()).collect()
}

/// A handshake message.
pub(super) fn message(kind: u8, body: impl AsRef<[u8]>) -> Vec<u8> {
    [&[kind][..], &vector(3, body)].concat()
}

/// A record.
pub(super) fn record(kind: u8, version: [u8; 2], fragment: impl AsRef<[u8]>) -> Vec<u8> {
    [&[kind, version[0], version[1]][..], &vector(2, fragment)].concat()
}

/// The extension `server_name` with one name.
pub(super) fn server_name(name: impl AsRef<[u8]>) -> Vec<u8> {
    vector(2, [&[0][..], &vector(2, name)].concat())
}

/// A key of X25519: the base point.
pub(super) fn x25519_share() -> Vec<u8> {
    let mut key = [0; 32];
    key[0] = 9;
    share(X25519, key)
}

/// One entry of the extension `key_share`.
pub(super) fn share(group: u16, key: impl AsRef<[u8]>) -> Vec<u8> {
    [&group.to_be_bytes()[..], &vector(2, key)].concat()
}

/// A ClientHello.
#[derive(Clone)]
pub(super) struct Hello {
    pub(super) version: [u8; 2],
    pub(super) session: Vec<u8>,
    pub(super) suites: Vec<u16>,
    pub(super) compression: Vec<u8>,
    pub(super) extensions: Vec<(u16, Vec<u8>)>,
}

impl Hello {
    /// For TLS 1.2, with all that it needs, and suites for certificates of both kinds.
    pub(super) fn tls12() -> Self {
        Self {
            version: TLS12,
            session: Vec::new(),
            suites: vec![0xc02b, 0xc02f],
            compression: vec![0],
            extensions: vec![
                (SERVER_NAME, server_name("localhost")),
                (GROUPS, list(&[X25519, P256])),
                (SIGNATURES, list(&[0x0403, 0x0804, 0x0401])),
                (EXTENDED_MASTER_SECRET, Vec::new()),
                (RENEGOTIATION_INFO, vec![0]),
            ],
        }
    }

    /// For TLS 1.3 alone.
    pub(super) fn tls13() -> Self {
        let mut hello = Self::tls12();
        hello.suites = vec![0x1301];
        hello.session = vec![7; 32];
        hello.with(VERSIONS, vector(1, [3, 4])).with(KEY_SHARE, vector(2, x25519_share()))
    }

    /// With this extension, in place of one of the same kind.
    pub(super) fn with(mut self, kind: u16, body: impl Into<Vec<u8>>) -> Self {
        match self.extensions.iter_mut().find(|(one, _)| *one == kind) {
            Some((_, old)) => *old = body.into(),
            None => self.extensions.push((kind, body.into())),
        }
        self
    }

    /// With this extension at the end, whatever is there already.
    pub(super) fn and(mut self, kind: u16, body: impl Into<Vec<u8>>) -> Self {
        self.extensions.push((kind, body.into()));
        self
    }

    pub(super) fn without(mut self, kind: u16) -> Self {
        self.extensions.retain(|(one, _)| *one != kind);
        self
    }

    pub(super) fn suites(mut self, suites: &[u16]) -> Self {
        self.suites = suites.to_vec();
        self
    }

    pub(super) fn version(mut self, version: [u8; 2]) -> Self {
        self.version = version;
        self
    }

    pub(super) fn compression(mut self, methods: &[u8]) -> Self {
        self.compression = methods.to_vec();
        self
    }

    pub(super) fn session(mut self, length: usize) -> Self {
        self.session = vec![7; length];
        self
    }

    pub(super) fn body(&self) -> Vec<u8> {
        let extensions = self.extensions.iter();
        let extensions = extensions.flat_map(|(kind, body)| [&kind.to_be_bytes()[..], &vector(2, body)].concat());
        [
            &self.version[..],
            &[5; 32],
            &vector(1, &self.session),
            &list(&self.suites),
            &vector(1, &self.compression),
            &vector(2, extensions.collect::<Vec<_>>()),
        ]
        .concat()
    }

    pub(super) fn message(&self) -> Vec<u8> {
        message(1, self.body())
    }

    /// In as few records as it fits into.
    pub(super) fn bytes(&self) -> Vec<u8> {
        self.in_records(1 << 14)
    }

    /// In records of so many bytes each.
    pub(super) fn in_records(&self, size: usize) -> Vec<u8> {
        self.message().chunks(size).flat_map(|piece| record(HANDSHAKE, TLS10, piece)).collect()
    }
}

/// What was chosen.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Chosen {
    /// That of the ServerHello, or of its extension `supported_versions`.
    pub(super) version: [u8; 2],
    pub(super) random: Vec<u8>,
    pub(super) suite: u16,
    pub(super) compression: u8,
    pub(super) extensions: Vec<(u16, Vec<u8>)>,
    /// The first certificate: in TLS 1.2 alone, where it is not encrypted.
    pub(super) certificate: Option<Vec<u8>>,
    /// The group of the server's key, with a curve by name.
    pub(super) group: Option<u16>,
    /// Kinds of the handshake messages that could be read.
    pub(super) messages: Vec<u8>,
}

impl Chosen {
    pub(super) fn extension(&self, kind: u16) -> Option<&[u8]> {
        self.extensions.iter().find(|(one, _)| *one == kind).map(|(_, body)| body.as_slice())
    }
}

/// What came back.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum Outcome {
    /// A fatal alert, and the end of the connection.
    Alert(u8),
    /// The handshake goes on.
    Chosen(Box<Chosen>),
    /// The end, and nothing before it.
    Closed,
    /// Nothing, and the connection is open: more is waited for.
    Waiting,
    /// Something else, or an alert without an end.
    Odd(String),
}

impl Outcome {
    pub(super) fn chosen(self) -> Chosen {
        match self {
            Self::Chosen(chosen) => *chosen,
            other => panic!("{other:?}"),
        }
    }
}

/// Sends `bytes` on a connection of their own and reads what comes. That more is waited for takes `patience` to tell.
pub(super) fn say(address: SocketAddr, bytes: &[u8], patience: Duration) -> Outcome {
    let mut stream = TcpStream::connect(address).expect("connected");
    stream.set_nodelay(true).expect("set");
    stream.set_read_timeout(Some(patience)).expect("set");
    // It may have been closed before all was written.
    drop(stream.write_all(bytes));
    outcome(&mut stream)
}

fn outcome(stream: &mut impl Read) -> Outcome {
    let (mut bytes, mut ended, mut open) = (Vec::new(), false, false);
    let mut piece = [0; 4096];
    loop {
        let seen = read(&bytes);
        match seen {
            // What may follow is encrypted.
            Some(Outcome::Chosen(_)) => return seen.expect("matched"),
            Some(seen) if ended => return seen,
            Some(_) if open => return Outcome::Odd(format!("open after {bytes:?}")),
            None if ended && bytes.is_empty() => return Outcome::Closed,
            None if open && bytes.is_empty() => return Outcome::Waiting,
            None if ended || open => return Outcome::Odd(format!("{bytes:?}")),
            _ => {}
        }
        match stream.read(&mut piece) {
            Ok(0) => ended = true,
            Ok(count) => bytes.extend_from_slice(&piece[..count]),
            Err(error) if matches!(error.kind(), std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut) => {
                open = true;
            }
            // Reset: more was sent than was read.
            Err(_) => ended = true,
        }
    }
}

/// What these bytes say, once they are enough for that.
fn read(bytes: &[u8]) -> Option<Outcome> {
    let (mut rest, mut handshake) = (bytes, Vec::new());
    while let Some((kind, fragment, after)) = next_record(rest) {
        rest = after;
        match (kind, fragment) {
            (ALERT, &[2, description]) if handshake.is_empty() => return Some(Outcome::Alert(description)),
            (HANDSHAKE, fragment) => handshake.extend_from_slice(fragment),
            // What a server of TLS 1.3 sends for the sake of those between (RFC 8446 §D.4).
            (20, [1]) => {}
            (23, _) => break,
            // It is about what came behind the hello.
            (ALERT, _) if !handshake.is_empty() => break,
            _ => return Some(Outcome::Odd(format!("{bytes:?}"))),
        }
    }
    chosen(&handshake).map(|chosen| Outcome::Chosen(Box::new(chosen)))
}

fn next_record(bytes: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (head, rest) = bytes.split_first_chunk::<5>()?;
    let (fragment, rest) = rest.split_at_checked(usize::from(u16::from_be_bytes([head[3], head[4]])))?;
    Some((head[0], fragment, rest))
}

/// A ServerHello; in TLS 1.2 with all up to ServerHelloDone.
fn chosen(handshake: &[u8]) -> Option<Chosen> {
    let (mut rest, mut chosen) = (handshake, None::<Chosen>);
    while let Some((kind, body, after)) = next_message(rest) {
        rest = after;
        if kind == 2 {
            chosen = Some(server_hello(body));
        }
        let chosen = chosen.as_mut()?;
        chosen.messages.push(kind);
        match kind {
            11 => chosen.certificate = body.get(6..).map(|rest| rest[..number(&body[3..6])].to_vec()),
            12 => chosen.group = (body[0] == 3).then(|| u16::from_be_bytes([body[1], body[2]])),
            _ => {}
        }
        if kind == 14 || chosen.version == [3, 4] {
            return Some(chosen.clone());
        }
    }
    None
}

fn next_message(bytes: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (head, rest) = bytes.split_first_chunk::<4>()?;
    let (body, rest) = rest.split_at_checked(number(&head[1..]))?;
    Some((head[0], body, rest))
}

fn number(bytes: &[u8]) -> usize {
    bytes.iter().fold(0, |number, byte| number << 8 | usize::from(*byte))
}

fn server_hello(body: &[u8]) -> Chosen {
    let after = 35 + usize::from(body[34]);
    let mut chosen = Chosen {
        version: [body[0], body[1]],
        random: body[2..34].to_vec(),
        suite: u16::from_be_bytes([body[after], body[after + 1]]),
        compression: body[after + 2],
        extensions: Vec::new(),
        certificate: None,
        group: None,
        messages: Vec::new(),
    };
    let mut rest = body.get(after + 5..).unwrap_or_default();
    while let [a, b, c, d, more @ ..] = rest {
        let (body, more) = more.split_at(number(&[*c, *d]));
        chosen.extensions.push((u16::from_be_bytes([*a, *b]), body.to_vec()));
        rest = more;
    }
    if let Some(&[a, b]) = chosen.extension(VERSIONS) {
        chosen.version = [a, b];
    }
    if let Some(&[a, b, ..]) = chosen.extension(KEY_SHARE) {
        chosen.group = Some(u16::from_be_bytes([a, b]));
    }
    chosen
}
