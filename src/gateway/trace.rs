//! Names for a request: `X-Request-Id` and `traceparent`, the client's where well-formed, else new ones.

use std::cell::Cell;

use http::header::{HeaderMap, HeaderValue};

use crate::headers::{TRACEPARENT, X_REQUEST_ID};

/// `tracestate` (W3C Trace Context)
pub(crate) const TRACESTATE: &str = "tracestate";

/// A worker's source of names: unique, not secret.
#[derive(Debug)]
pub(crate) struct Names(Cell<[u64; 2]>);

impl Names {
    /// Starts from `seed`, which must be random: workers and restarts must not repeat each other.
    pub(crate) fn new(seed: [u8; 16]) -> Self {
        let (low, high) = seed.split_at(8);
        let word = |bytes: &[u8]| bytes.iter().fold(0, |word, byte| word << 8 | u64::from(*byte));
        Self(Cell::new([word(low) | 1, word(high)]))
    }

    /// xoroshiro128+
    fn next(&self) -> u64 {
        let [a, mut b] = self.0.get();
        let result = a.wrapping_add(b);
        b ^= a;
        self.0.set([a.rotate_left(24) ^ b ^ (b << 16), b.rotate_left(37)]);
        result
    }

    /// The one request id that a client has `given`, or a new one of 32 hexadecimal digits.
    pub(crate) fn request_id<'h>(&self, mut given: impl Iterator<Item = &'h [u8]>) -> HeaderValue {
        let given = match (given.next(), given.next()) {
            (Some(id), None) if is_request_id(id) => HeaderValue::from_bytes(id).ok(),
            _ => None,
        };
        given.unwrap_or_else(|| {
            let mut id = [0; 32];
            hex(self.next(), &mut id[..16]);
            hex(self.next(), &mut id[16..]);
            HeaderValue::from_bytes(&id).unwrap_or(HeaderValue::from_static("-"))
        })
    }

    /// As [`Self::request_id`], of a request with these headers.
    pub(crate) fn request_id_of(&self, headers: &HeaderMap) -> HeaderValue {
        self.request_id(headers.get_all(X_REQUEST_ID).iter().map(HeaderValue::as_bytes))
    }

    /// A new `traceparent`, unsampled.
    pub(crate) fn traceparent(&self) -> [u8; 55] {
        // An all-zero id is invalid; the bit makes it impossible.
        let mut value = *b"00-00000000000000000000000000000000-0000000000000000-00";
        hex(self.next(), &mut value[3..19]);
        hex(self.next() | 1, &mut value[19..35]);
        hex(self.next() | 1, &mut value[36..52]);
        value
    }

    /// Leaves a well-formed `traceparent` as it is and makes one otherwise.
    pub(crate) fn ensure_traceparent(&self, headers: &mut HeaderMap) {
        if !has_traceparent(headers.get_all(&TRACEPARENT).iter().map(HeaderValue::as_bytes)) {
            if let Ok(value) = HeaderValue::from_bytes(&self.traceparent()) {
                headers.insert(TRACEPARENT, value);
            }
            // It belonged to the trace that was not taken (W3C Trace Context §3.3).
            headers.remove(TRACESTATE);
        }
    }
}

/// Writes a number as 16 hexadecimal digits.
fn hex(word: u64, to: &mut [u8]) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    for (digit, byte) in to.iter_mut().zip(word.to_be_bytes().into_iter().flat_map(|byte| [byte >> 4, byte & 15])) {
        *digit = DIGITS[usize::from(byte)];
    }
}

/// Up to 128 bytes that need no escaping in a log, a header or JSON.
fn is_request_id(id: &[u8]) -> bool {
    (1..=128).contains(&id.len())
        && id
            .iter()
            .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.' | b':' | b'+' | b'/' | b'=' | b'@'))
}

/// Whether a client has `given` one `traceparent`, and that well-formed (W3C Trace Context §3.2).
pub(crate) fn has_traceparent<'h>(mut given: impl Iterator<Item = &'h [u8]>) -> bool {
    matches!((given.next(), given.next()), (Some(value), None) if is_traceparent(value))
}

fn is_traceparent(value: &[u8]) -> bool {
    let hex = |part: &[u8]| part.iter().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
    let not_zero = |part: &[u8]| part.iter().any(|b| *b != b'0');
    value.len() == 55
        && [2, 35, 52].iter().all(|at| value[*at] == b'-')
        && [&value[..2], &value[3..35], &value[36..52], &value[53..]].iter().all(|part| hex(part))
        && &value[..2] != b"ff"
        && not_zero(&value[3..35])
        && not_zero(&value[36..52])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clients_id_is_kept_only_when_harmless() {
        let names = Names::new([7; 16]);
        let mut headers = HeaderMap::new();
        headers.insert(X_REQUEST_ID, HeaderValue::from_static("abc-1.2:3"));
        assert_eq!(names.request_id_of(&headers), "abc-1.2:3");
        for bad in ["", "a b", "a\"b", "a,b", &"a".repeat(129)] {
            headers.insert(X_REQUEST_ID, HeaderValue::from_str(bad).unwrap());
            let made = names.request_id_of(&headers);
            assert!(made.len() == 32 && made != names.request_id_of(&headers), "{bad}");
        }
        headers.insert(X_REQUEST_ID, HeaderValue::from_static("a"));
        headers.append(X_REQUEST_ID, HeaderValue::from_static("b"));
        assert_eq!(names.request_id_of(&headers).len(), 32);
    }

    #[test]
    fn a_trace_is_passed_or_made() {
        let names = Names::new([7; 16]);
        let good = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        let mut headers = HeaderMap::new();
        headers.insert(TRACEPARENT, HeaderValue::from_static(good));
        names.ensure_traceparent(&mut headers);
        assert_eq!(headers[TRACEPARENT], good);
        for bad in ["", "x", "00-00000000000000000000000000000000-00f067aa0ba902b7-01", &good.to_uppercase()] {
            headers.insert(TRACEPARENT, HeaderValue::from_str(bad).unwrap());
            names.ensure_traceparent(&mut headers);
            assert!(is_traceparent(headers[TRACEPARENT].as_bytes()), "{bad} {:?}", headers[TRACEPARENT]);
        }
    }
}
