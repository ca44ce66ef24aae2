//! The PROXY protocol, versions 1 and 2: what a balancer says of the client before the client's own first byte.
//!
//! Written after the specification (haproxy.org, proxy-protocol.txt). Strict, because whoever believes a header that
//! the next reader takes differently believes the wrong client: anything unusual closes the connection.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use tokio::io::AsyncRead;

use super::prefixed::Prefixed;

/// How version 2 begins.
const SIGNATURE: &[u8; 12] = b"\r\n\r\n\0\r\nQUIT\n";

/// How version 1 begins.
const PROXY: &[u8; 6] = b"PROXY ";

/// The longest line of version 1, with its end.
const LONGEST_LINE: usize = 107;

/// The fixed part of version 2.
const FIXED: usize = 16;

/// The most that may follow it. Addresses and what balancers add (names, TLS details) take some hundred bytes.
const MOST_FOLLOWING: usize = 4096;

/// Bytes read at once: most headers come whole with the first read.
const READ: usize = 512;

/// The type of the TLV with a checksum.
const CRC32C: u8 = 3;

/// Why a connection has no usable header.
#[derive(Debug, thiserror::Error)]
pub(super) enum HeaderError {
    /// It ended before the first byte: how some balancers look whether anybody listens.
    #[error("closed before a PROXY header")]
    Closed,
    /// It ended inside the header, or the socket failed.
    #[error("cannot read the PROXY header")]
    Read(#[source] io::Error),
    /// The first bytes are something else. The specification forbids to guess.
    #[error("the connection does not begin with a PROXY header")]
    Missing,
    /// The header is not as the specification has it; in words, how.
    #[error("the PROXY header is malformed: {0}")]
    Malformed(&'static str),
}

/// A whole header.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
struct Header {
    /// The client; `None` when the balancer speaks for itself or does not know, and its own address counts.
    client: Option<IpAddr>,
    /// Bytes from its beginning to the client's first.
    length: usize,
}

/// Reads the header and nothing behind it. `Ok(None)`: the address of the other end counts.
///
/// The deadline is the caller's.
///
/// # Errors
/// [`HeaderError`]
pub(super) async fn read<S: AsyncRead + Unpin>(stream: &mut Prefixed<S>) -> Result<Option<IpAddr>, HeaderError> {
    loop {
        if let Some(header) = parse(stream.ahead())? {
            stream.skip(header.length);
            return Ok(header.client);
        }
        // Bounded: a header that is too long is no header.
        match stream.read_ahead(READ).await {
            Ok(0) if stream.ahead().is_empty() => return Err(HeaderError::Closed),
            Ok(0) => return Err(HeaderError::Read(io::ErrorKind::UnexpectedEof.into())),
            Ok(_) => {}
            Err(error) => return Err(HeaderError::Read(error)),
        }
    }
}

/// The header that `bytes` begin with; `Ok(None)` when more of them are needed.
fn parse(bytes: &[u8]) -> Result<Option<Header>, HeaderError> {
    if begins(bytes, PROXY) {
        return line(bytes);
    }
    if !begins(bytes, SIGNATURE) {
        return Err(HeaderError::Missing);
    }
    binary(bytes)
}

/// Whether `bytes` begin with `with`, as far as they are there.
fn begins(bytes: &[u8], with: &[u8]) -> bool {
    bytes.iter().zip(with).all(|(one, other)| one == other)
}

/// Version 1: `PROXY TCP4 192.0.2.1 192.0.2.2 56324 443` and a line end.
fn line(bytes: &[u8]) -> Result<Option<Header>, HeaderError> {
    let within = bytes.get(..LONGEST_LINE).unwrap_or(bytes);
    let Some(end) = within.windows(2).position(|pair| pair == b"\r\n") else {
        return if bytes.len() < LONGEST_LINE { Ok(None) } else { Err(HeaderError::Malformed("no line end")) };
    };
    let malformed = HeaderError::Malformed;
    let text = within.get(PROXY.len()..end).and_then(|rest| std::str::from_utf8(rest).ok());
    let text = text.ok_or(malformed("not ASCII"))?;
    let length = end + 2;
    // Whatever follows is to be ignored.
    if text == "UNKNOWN" || text.starts_with("UNKNOWN ") {
        return Ok(Some(Header { client: None, length }));
    }
    let mut words = text.split(' ');
    let mut word = || words.next().unwrap_or_default();
    let (family, source, destination, ports) = (word(), word(), word(), [word(), word()]);
    let address = |text: &str| -> Option<IpAddr> {
        match family {
            "TCP4" => text.parse::<Ipv4Addr>().ok().map(IpAddr::V4),
            "TCP6" => text.parse::<Ipv6Addr>().ok().map(IpAddr::V6),
            _ => None,
        }
    };
    let client = address(source).filter(|_| address(destination).is_some()).ok_or(malformed("addresses"))?;
    if !ports.into_iter().all(is_port) || words.next().is_some() {
        return Err(malformed("ports"));
    }
    Ok(Some(Header { client: Some(client), length }))
}

/// A port as the specification writes it: digits without a zero before them.
fn is_port(text: &str) -> bool {
    let digits = text.bytes().all(|b| b.is_ascii_digit()) && (text == "0" || !text.starts_with('0'));
    digits && text.parse::<u16>().is_ok()
}

/// Version 2: signature, version and command, family, length, addresses, TLVs.
fn binary(bytes: &[u8]) -> Result<Option<Header>, HeaderError> {
    let Some(fixed) = bytes.first_chunk::<FIXED>() else { return Ok(None) };
    let [.., command, family, high, low] = *fixed;
    let following = usize::from(u16::from_be_bytes([high, low]));
    if following > MOST_FOLLOWING {
        return Err(HeaderError::Malformed("too long"));
    }
    let length = FIXED + following;
    let Some(header) = bytes.get(..length) else { return Ok(None) };
    let client = match command {
        // LOCAL: the balancer itself, to see how we are. All else in it is to be ignored.
        0x20 => None,
        // PROXY
        0x21 => relayed(header, family)?,
        _ => return Err(HeaderError::Malformed("version or command")),
    };
    Ok(Some(Header { client, length }))
}

/// The client of a relayed connection; `None` for a family that has no address of the internet or is not TCP.
fn relayed(header: &[u8], family: u8) -> Result<Option<IpAddr>, HeaderError> {
    let following = header.get(FIXED..).unwrap_or_default();
    let short = HeaderError::Malformed("too short for its addresses");
    let (client, addresses) = match family {
        // TCP over IPv4: two addresses, two ports.
        0x11 => (IpAddr::from(*following.first_chunk::<4>().ok_or(short)?), 12),
        // TCP over IPv6
        0x21 => (IpAddr::from(*following.first_chunk::<16>().ok_or(short)?), 36),
        // Unspecified, UDP, UNIX
        0x00 | 0x12 | 0x22 | 0x31 | 0x32 => return Ok(None),
        _ => return Err(HeaderError::Malformed("family or transport")),
    };
    let tlvs = following.get(addresses..).ok_or(HeaderError::Malformed("too short for its addresses"))?;
    check_tlvs(header, tlvs)?;
    Ok(Some(client))
}

/// Walks through the TLVs, the last part of `header`, and verifies a checksum when one is among them.
fn check_tlvs(header: &[u8], mut tlvs: &[u8]) -> Result<(), HeaderError> {
    while let [kind, high, low, rest @ ..] = tlvs {
        let length = usize::from(u16::from_be_bytes([*high, *low]));
        let (value, next) = rest.split_at_checked(length).ok_or(HeaderError::Malformed("TLV"))?;
        if *kind == CRC32C {
            let said = value.first_chunk::<4>().filter(|_| length == 4).ok_or(HeaderError::Malformed("checksum"))?;
            // It is taken with its own four bytes as zeros.
            let at = header.len() - rest.len();
            let zeros = crc32c(!0, header.get(..at).unwrap_or_default());
            let sum = !crc32c(crc32c(zeros, &[0; 4]), next);
            if sum != u32::from_be_bytes(*said) {
                return Err(HeaderError::Malformed("checksum"));
            }
        }
        tlvs = next;
    }
    if tlvs.is_empty() { Ok(()) } else { Err(HeaderError::Malformed("TLV")) }
}

/// The checksum of RFC 3720 §12.1, of one part after another: begins with all ones, inverted at the end.
fn crc32c(sum: u32, bytes: &[u8]) -> u32 {
    bytes.iter().fold(sum, |sum, byte| {
        let mut sum = sum ^ u32::from(*byte);
        // Bit by bit: some hundred bytes a connection are not worth a table.
        for _ in 0..8 {
            sum = if sum & 1 == 1 { sum >> 1 ^ 0x82F6_3B78 } else { sum >> 1 };
        }
        sum
    })
}

#[cfg(any(test, fuzzing))]
pub(crate) mod fuzzing;
#[cfg(test)]
mod tests;
