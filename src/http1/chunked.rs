//! A body in chunks (RFC 9112 §7.1), judged byte by byte.

use super::field::is_token;
use super::{HeadLimits, Malformed};

/// Hexadecimal digits of a size.
const MAX_DIGITS: u8 = 16;
/// Bytes of the extensions of one chunk. Nobody sends any, but who must be ignored may not be unbounded (RFC 9112 §7.1.1).
const MAX_EXTENSION: u16 = 256;
/// Trailer fields that would say anew how long the message is or whom it is for (RFC 9110 §6.5.1).
const NEVER_IN_TRAILERS: [&[u8]; 3] = [b"content-length", b"transfer-encoding", b"host"];

/// How far a body in chunks has been read.
#[derive(Debug, Default)]
pub struct Chunked {
    at: At,
    /// Of the size that is being read, then of the data that is still to come.
    size: u64,
    /// Digits of the size, or bytes of its extensions.
    count: u16,
    /// Bytes and fields of the trailers.
    trailers: (usize, usize),
    name: Name,
    /// What is read is a response: some servers pad sizes, and its trailers go no further.
    is_response: bool,
}

#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
enum At {
    #[default]
    Size,
    /// White space behind a size.
    Padding,
    Extension,
    SizeLf,
    Data,
    DataCr,
    DataLf,
    /// At the start of a trailer line.
    Trailer,
    TrailerName,
    TrailerValue,
    TrailerLf,
    LastLf,
}

/// The name of a trailer field, as far as it matters.
#[derive(Debug, Default)]
struct Name {
    bytes: [u8; 17],
    length: usize,
}

impl Name {
    fn push(&mut self, byte: u8) {
        if let Some(place) = self.bytes.get_mut(self.length) {
            *place = byte.to_ascii_lowercase();
        }
        self.length += 1;
    }

    fn is_never_in_trailers(&self) -> bool {
        self.bytes.get(..self.length).is_some_and(|name| NEVER_IN_TRAILERS.contains(&name))
    }
}

/// What came of reading on.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Piece<'b> {
    /// Never empty.
    Data(&'b [u8]),
    /// Nothing yet.
    More,
    /// The body has ended.
    End,
}

impl Chunked {
    /// Reads on: how many of `bytes` belong to the body and are well formed, and whether it ends with them.
    ///
    /// The count is told with an error, too: what came before the fault may pass.
    pub(super) fn read(&mut self, bytes: &[u8], limits: &HeadLimits) -> (usize, Result<bool, Malformed>) {
        let mut read = 0;
        while let Some(byte) = bytes.get(read) {
            if self.at == At::Data {
                let count = usize::try_from(self.size).unwrap_or(usize::MAX).min(bytes.len() - read);
                read += count;
                self.size -= count as u64;
                if self.size == 0 {
                    self.at = At::DataCr;
                }
                continue;
            }
            match self.step(*byte, limits) {
                Ok(ended) => {
                    read += 1;
                    if ended {
                        return (read, Ok(true));
                    }
                }
                Err(fault) => return (read, Err(fault)),
            }
        }
        (read, Ok(false))
    }

    /// For the body of a response, of which only the data is wanted.
    pub fn of_response() -> Self {
        Self { is_response: true, ..Self::default() }
    }

    /// Reads on to the next piece of data: how many of `bytes` that took, and what came of it.
    ///
    /// # Errors
    /// When it is not well formed.
    pub fn next<'b>(&mut self, bytes: &'b [u8]) -> Result<(usize, Piece<'b>), Malformed> {
        let mut read = 0;
        while let Some(byte) = bytes.get(read) {
            if self.at == At::Data {
                let count = usize::try_from(self.size).unwrap_or(usize::MAX).min(bytes.len() - read);
                self.size -= count as u64;
                if self.size == 0 {
                    self.at = At::DataCr;
                }
                return Ok((read + count, Piece::Data(&bytes[read..read + count])));
            }
            read += 1;
            if self.step(*byte, &HeadLimits::default())? {
                return Ok((read, Piece::End));
            }
        }
        Ok((read, Piece::More))
    }

    /// Whether `byte` ends the body.
    fn step(&mut self, byte: u8, limits: &HeadLimits) -> Result<bool, Malformed> {
        self.at = match (self.at, byte) {
            (At::Size, b'0'..=b'9' | b'a'..=b'f' | b'A'..=b'F') if self.count < u16::from(MAX_DIGITS) => {
                let digit = (byte as char).to_digit(16).unwrap_or_default();
                // Sixteen digits fit; the last bit is given up so that nobody after us counts with a sign.
                self.size = (self.size << 4) | u64::from(digit);
                if self.size > i64::MAX as u64 {
                    return Err(Malformed::Chunk);
                }
                self.count += 1;
                At::Size
            }
            (At::Size, b'\r') if self.count > 0 => At::SizeLf,
            (At::Size, b';') if self.count > 0 => {
                self.count = 0;
                At::Extension
            }
            (At::Size, b' ' | b'\t') if self.count > 0 && self.is_response => {
                self.count = 0;
                At::Padding
            }
            (At::Padding, b' ' | b'\t') if self.count < MAX_EXTENSION => {
                self.count += 1;
                At::Padding
            }
            (At::Padding, b';') => At::Extension,
            (At::Extension | At::Padding, b'\r') => At::SizeLf,
            (At::Extension, b'\t' | b' '..=b'~' | 0x80..) if self.count < MAX_EXTENSION => {
                self.count += 1;
                At::Extension
            }
            (At::SizeLf, b'\n') => {
                self.count = 0;
                if self.size == 0 { At::Trailer } else { At::Data }
            }
            (At::DataCr, b'\r') => At::DataLf,
            (At::DataLf, b'\n') => At::Size,
            (At::Trailer, b'\r') => At::LastLf,
            (At::Trailer, _) if is_token(byte) => {
                self.name = Name::default();
                self.name.push(byte);
                self.trailers.1 += 1;
                At::TrailerName
            }
            (At::TrailerName, b':') if self.is_response || !self.name.is_never_in_trailers() => At::TrailerValue,
            (At::TrailerName, _) if is_token(byte) => {
                self.name.push(byte);
                At::TrailerName
            }
            (At::TrailerValue, b'\r') => At::TrailerLf,
            (At::TrailerValue, b'\t' | b' '..=b'~' | 0x80..) => At::TrailerValue,
            (At::TrailerLf, b'\n') => At::Trailer,
            (At::LastLf, b'\n') => return Ok(true),
            _ => return Err(Malformed::Chunk),
        };
        if matches!(self.at, At::TrailerName | At::TrailerValue) {
            self.trailers.0 += 1;
            if self.trailers.0 > limits.bytes || self.trailers.1 > limits.fields {
                return Err(Malformed::TooLarge);
            }
        }
        Ok(false)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The data of a response's body that comes in pieces of `size`, and what is left behind it.
    fn decoded(body: &[u8], size: usize) -> Result<(Vec<u8>, usize), Malformed> {
        let (mut chunks, mut data, mut read) = (Chunked::of_response(), Vec::new(), 0);
        loop {
            let piece = &body[read..body.len().min(read + size)];
            let (count, piece) = chunks.next(piece)?;
            read += count;
            match piece {
                Piece::Data(bytes) => data.extend_from_slice(bytes),
                Piece::End => return Ok((data, body.len() - read)),
                Piece::More if read == body.len() => return Err(Malformed::Chunk),
                Piece::More => {}
            }
        }
    }

    #[test]
    fn the_data_of_a_response_is_the_same_however_it_comes() {
        let body = b"5\r\nhello\r\n1  \r\n,\r\n006;a=b\r\n world\r\n0\r\nContent-Length: 5\r\nA: b\r\n\r\nHTTP";
        for size in 1..body.len() {
            assert_eq!(decoded(body, size), Ok((b"hello, world".to_vec(), 4)), "{size}");
        }
    }

    #[test]
    fn what_two_readers_could_take_for_different_data_is_refused() {
        for bad in [
            &b"\r\n"[..],
            b"5 5\r\nhello\r\n0\r\n\r\n",
            b"5\nhello\r\n0\r\n\r\n",
            b"5\r\nhello!\r\n0\r\n\r\n",
            b"5\r\nhello\n0\r\n\r\n",
            b" 5\r\nhello\r\n0\r\n\r\n",
            b"0x5\r\nhello\r\n0\r\n\r\n",
            b"-1\r\n",
            b"ffffffffffffffff\r\n",
            b"10000000000000000\r\n",
            b"0\r\na b: c\r\n\r\n",
            b"0\r\n c\r\n\r\n",
            b"5\r\nhell",
        ] {
            assert_eq!(decoded(bad, 64), Err(Malformed::Chunk), "{:?}", String::from_utf8_lossy(bad));
        }
    }
}
