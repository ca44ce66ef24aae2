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
}

#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
enum At {
    #[default]
    Size,
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
            (At::Extension, b'\r') => At::SizeLf,
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
            (At::TrailerName, b':') if !self.name.is_never_in_trailers() => At::TrailerValue,
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
