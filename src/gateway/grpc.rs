//! gRPC over HTTP/2: what a call is, and how long its client waits.

use std::time::Duration;

use http::header;
use http::request::Parts;
use http::{HeaderName, Version};

const GRPC_TIMEOUT: HeaderName = HeaderName::from_static("grpc-timeout");

/// Whether the request is a gRPC call, whose client reads a status in trailers and nothing else.
pub(super) fn is_call(parts: &Parts) -> bool {
    parts.version == Version::HTTP_2
        && parts.headers.get(header::CONTENT_TYPE).is_some_and(|kind| {
            // `application/grpc`, and with a suffix for the encoding; `application/grpc-web` is read by browsers as HTTP.
            kind.as_bytes()
                .strip_prefix(b"application/grpc")
                .is_some_and(|rest| matches!(rest.first(), None | Some(b'+' | b';')))
        })
}

/// How long the client of a call waits for all of the answer: `grpc-timeout`, one to eight digits and a unit.
///
/// `None` when it does not say, or says something else. The field itself goes on to the upstream as it is.
pub(super) fn timeout(parts: &Parts) -> Option<Duration> {
    let value = parts.headers.get(GRPC_TIMEOUT)?.to_str().ok()?;
    let (digits, unit) = value.split_at_checked(value.len().checked_sub(1)?)?;
    if !(1..=8).contains(&digits.len()) || !digits.bytes().all(|digit| digit.is_ascii_digit()) {
        return None;
    }
    let count: u64 = digits.parse().ok()?;
    match unit {
        "H" => Some(Duration::from_secs(count * 3600)),
        "M" => Some(Duration::from_secs(count * 60)),
        "S" => Some(Duration::from_secs(count)),
        "m" => Some(Duration::from_millis(count)),
        "u" => Some(Duration::from_micros(count)),
        "n" => Some(Duration::from_nanos(count)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parts(version: Version, fields: &[(&str, &str)]) -> Parts {
        let mut builder = http::Request::builder().version(version);
        for (name, value) in fields {
            builder = builder.header(*name, *value);
        }
        builder.body(()).unwrap().into_parts().0
    }

    #[test]
    fn a_call_is_told_by_its_content_type_over_http2() {
        for kind in ["application/grpc", "application/grpc+proto", "application/grpc;x=y"] {
            assert!(is_call(&parts(Version::HTTP_2, &[("content-type", kind)])), "{kind}");
            assert!(!is_call(&parts(Version::HTTP_11, &[("content-type", kind)])), "{kind}");
        }
        for kind in ["application/grpc-web", "application/grpc-web+proto", "application/json", "application/grpcx"] {
            assert!(!is_call(&parts(Version::HTTP_2, &[("content-type", kind)])), "{kind}");
        }
        assert!(!is_call(&parts(Version::HTTP_2, &[])));
    }

    #[test]
    fn a_timeout_is_digits_and_a_unit() {
        let read = |text| timeout(&parts(Version::HTTP_2, &[("grpc-timeout", text)]));
        assert_eq!(read("250m"), Some(Duration::from_millis(250)));
        assert_eq!(read("3S"), Some(Duration::from_secs(3)));
        assert_eq!(read("99999999H"), Some(Duration::from_secs(99_999_999 * 3600)));
        assert_eq!(read("0n"), Some(Duration::ZERO));
        for bad in ["", "S", "1", "1s", "123456789S", "-1S", "1.5S", " 1S", "1 S", "\u{e9}"] {
            assert_eq!(timeout_of(bad), None, "{bad:?}");
        }
    }

    fn timeout_of(text: &str) -> Option<Duration> {
        let mut parts = parts(Version::HTTP_2, &[]);
        parts.headers.insert(GRPC_TIMEOUT, http::HeaderValue::from_bytes(text.as_bytes()).unwrap());
        timeout(&parts)
    }
}
