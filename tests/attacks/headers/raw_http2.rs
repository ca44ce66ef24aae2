//! A client of HTTP/2 that writes the bytes of header fields itself, also those that no library sends.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use crate::support::frame;

const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const GOAWAY: u8 = 7;
/// END_STREAM and END_HEADERS
const WHOLE: u8 = 0x5;

/// Fields as they are written.
pub(super) type Fields = Vec<(Vec<u8>, Vec<u8>)>;

/// A length with a prefix of seven bits (RFC 7541 §5.1), and what it is of.
fn string(text: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    match u8::try_from(text.len()) {
        Ok(length) if length < 0x7f => out.push(length),
        _ => {
            out.push(0x7f);
            let mut rest = text.len() - 0x7f;
            while rest >= 0x80 {
                out.push(u8::try_from(rest & 0x7f).unwrap() | 0x80);
                rest >>= 7;
            }
            out.push(u8::try_from(rest).unwrap());
        }
    }
    out.extend_from_slice(text);
    out
}

/// Literals that are never indexed (RFC 7541 §6.2.3), with no Huffman code.
fn block(fields: &Fields) -> Vec<u8> {
    fields.iter().flat_map(|(name, value)| [&b"\x10"[..], &string(name), &string(value)].concat()).collect()
}

/// A status in a Huffman code (RFC 7541 appendix B): `0`, `1` and `2` have five bits, the other digits six.
fn digits(code: &[u8]) -> u16 {
    let bits: Vec<u8> = code.iter().flat_map(|byte| (0..8).rev().map(move |bit| byte >> bit & 1)).collect();
    let (mut rest, mut status) = (&bits[..], 0);
    for _ in 0..3 {
        let value = |bits: &[u8]| bits.iter().fold(0, |value, bit| value << 1 | u16::from(*bit));
        let (digit, used) = match value(&rest[..5]) {
            short @ 0..=2 => (short, 5),
            _ => (value(&rest[..6]) - 0x19 + 3, 6),
        };
        status = status * 10 + digit;
        rest = &rest[used..];
    }
    status
}

/// The status at the beginning of a response's header.
fn status(block: &[u8]) -> u16 {
    // The table was made empty: that is said first.
    let block = if block[0] & 0xe0 == 0x20 { &block[1..] } else { block };
    match block[0] {
        indexed @ 0x88..=0x8e => [200, 204, 206, 304, 400, 404, 500][usize::from(indexed - 0x88)],
        _ if block[1] & 0x80 == 0 => String::from_utf8_lossy(&block[2..5]).parse().expect("a status"),
        _ => digits(&block[2..]),
    }
}

/// Asks on a connection of its own; `None` when the stream or the connection is ended instead of answered.
pub(super) fn ask(address: SocketAddr, fields: &Fields) -> Option<u16> {
    let mut stream = TcpStream::connect(address).expect("connected");
    stream.set_read_timeout(Some(Duration::from_secs(20))).expect("set");
    // SETTINGS_HEADER_TABLE_SIZE of 0: no answer refers to an earlier one.
    let mut sent = [b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", &frame(SETTINGS, 0, 0, &[0, 1, 0, 0, 0, 0])[..]].concat();
    let block = block(fields);
    let mut pieces = block.chunks(16_000).enumerate().peekable();
    while let Some((at, piece)) = pieces.next() {
        let last = pieces.peek().is_none();
        let (kind, end_stream) = if at == 0 { (HEADERS, WHOLE & 1) } else { (9, 0) };
        sent.extend(frame(kind, end_stream | if last { WHOLE & 4 } else { 0 }, 1, piece));
    }
    drop(stream.write_all(&sent));
    loop {
        let mut head = [0; 9];
        stream.read_exact(&mut head).ok()?;
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
        let mut payload = vec![0; usize::try_from(length).expect("short")];
        stream.read_exact(&mut payload).ok()?;
        match head[3] {
            HEADERS => return Some(status(&payload)),
            RST_STREAM | GOAWAY => return None,
            SETTINGS if head[4] == 0 => drop(stream.write_all(&frame(SETTINGS, 1, 0, &[]))),
            _ => {}
        }
    }
}

#[test]
fn a_status_is_read_in_every_form() {
    assert_eq!(status(b"\x88"), 200);
    assert_eq!(status(b"\x20\x8c"), 400);
    assert_eq!(status(b"\x48\x03401"), 401);
    // `302` is the example of RFC 7541 §C.6.1.
    assert_eq!(status(b"\x48\x82\x64\x02"), 302);
}
