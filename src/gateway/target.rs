//! What a request is for: host, path and framing, or why it is refused before anything else is looked at.

use std::borrow::Cow;

use http::header::{self, HeaderMap, HeaderValue};
use http::request::Parts;
use http::{Method, Version};

use crate::config::Limits;
use crate::reject::Reason;
use crate::route::host_name;

/// The host a request names.
#[derive(Debug)]
pub(crate) struct Host(HeaderValue);

impl Host {
    /// As the client wrote it: what the upstream gets.
    pub(crate) fn into_header(self) -> HeaderValue {
        self.0
    }

    /// As routes compare it.
    pub(crate) fn name(&self) -> Result<Cow<'_, str>, Reason> {
        self.0.to_str().ok().and_then(host_name).ok_or(Reason::BadHost)
    }
}

/// The one host of a request, still to be read by [`Host::name`] (RFC 9112 §3.2, RFC 9113 §8.3.1).
///
/// `Host`, `:authority` and an absolute target must say the same where more than one is there: whoever is behind us may
/// believe another of them.
pub(crate) fn host(parts: &Parts) -> Result<Host, Reason> {
    let mut fields = parts.headers.get_all(header::HOST).iter();
    let field = match (fields.next(), fields.next()) {
        (_, Some(_)) => return Err(Reason::BadHost),
        (field, None) => field,
    };
    let authority = parts.uri.authority();
    let header = match (field, authority) {
        (Some(field), _) => field.clone(),
        (None, Some(authority)) if parts.version == Version::HTTP_2 => {
            HeaderValue::from_str(authority.as_str()).map_err(|_invalid| Reason::BadHost)?
        }
        (None, _) => return Err(Reason::BadHost),
    };
    if let Some(authority) = authority
        && !authority.as_str().as_bytes().eq_ignore_ascii_case(header.as_bytes())
    {
        return Err(Reason::BadHost);
    }
    Ok(Host(header))
}

/// The path of the target, which must be in origin form or absolute form (RFC 9112 §3.2).
pub(crate) fn path(parts: &Parts) -> Result<&str, Reason> {
    if matches!(parts.method, Method::CONNECT | Method::TRACE) {
        return Err(Reason::NotImplemented);
    }
    if !matches!(parts.uri.scheme_str(), None | Some("http" | "https")) {
        return Err(Reason::BadTarget);
    }
    match parts.uri.path() {
        // `OPTIONS *` is about the server, not about anything behind it.
        path if path.starts_with('/') => Ok(path),
        _ => Err(Reason::BadTarget),
    }
}

/// Refuses a header with more fields than `limits.header_count`, whatever carried it: the parser of HTTP/1.1 counts by
/// itself, that of HTTP/2 only bytes, and to many backends a hundred small fields are too much.
pub(crate) fn bounded_fields(headers: &HeaderMap, limits: &Limits) -> Result<(), Reason> {
    let most = limits.header_count.get();
    if headers.len() <= most {
        return Ok(());
    }
    // A cookie in pieces leaves as one field (RFC 9113 §8.2.3).
    let pieces = headers.get_all(header::COOKIE).iter().count();
    if headers.len() - pieces.saturating_sub(1) > most { Err(Reason::HeaderTooLarge) } else { Ok(()) }
}

/// As [`path`], of a target that is no longer than `limits.uri_bytes`.
pub(crate) fn bounded_path<'p>(parts: &'p Parts, limits: &Limits) -> Result<&'p str, Reason> {
    let path = path(parts)?;
    let query = parts.uri.query().map_or(0, |query| query.len() + 1);
    if path.len() + query > limits.uri_bytes.get() { Err(Reason::UriTooLong) } else { Ok(path) }
}

/// How long a request's body is said to be.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Framing {
    /// Nothing is said: there is none (RFC 9112 §6.3), or it is HTTP/2's to say.
    Unsaid,
    /// `Content-Length`
    Length(u64),
    /// `Transfer-Encoding: chunked`
    Chunked,
}

/// The one way the body is framed. Everything that two readers could take differently is refused.
pub(crate) fn framing(headers: &HeaderMap, version: Version) -> Result<Framing, Reason> {
    let mut codings = headers.get_all(header::TRANSFER_ENCODING).iter();
    let mut lengths = headers.get_all(header::CONTENT_LENGTH).iter();
    match (codings.next(), codings.next(), lengths.next(), lengths.next()) {
        (None, _, None, _) => Ok(Framing::Unsaid),
        // RFC 9112 §6.1: a coding in HTTP/1.0 is a sign of faulty framing.
        (Some(coding), None, None, None) if version == Version::HTTP_11 => {
            if coding.as_bytes().eq_ignore_ascii_case(b"chunked") {
                Ok(Framing::Chunked)
            } else if coding.as_bytes().to_ascii_lowercase().ends_with(b"chunked") {
                // `gzip, chunked`: well framed, but in a coding we do not take off (RFC 9112 §6.1).
                Err(Reason::NotImplemented)
            } else {
                Err(Reason::BadFraming)
            }
        }
        (None, _, Some(length), None) => length_of(length).map(Framing::Length).ok_or(Reason::BadFraming),
        _ => Err(Reason::BadFraming),
    }
}

/// A `Content-Length` in its one canonical form: digits, no sign, no leading zero, no list.
fn length_of(value: &HeaderValue) -> Option<u64> {
    let text = value.to_str().ok()?;
    let canonical = text == "0" || (text.bytes().all(|b| b.is_ascii_digit()) && !text.starts_with('0'));
    if canonical { text.parse().ok() } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parts(version: Version, target: &str, fields: &[(&str, &str)]) -> Parts {
        let mut builder = http::Request::builder().version(version).uri(target);
        for (name, value) in fields {
            builder = builder.header(*name, *value);
        }
        builder.body(()).unwrap().into_parts().0
    }

    #[test]
    fn a_host_is_there_once_and_nothing_contradicts_it() {
        let ok = |parts: &Parts| host(parts).and_then(|host| host.name().map(Cow::into_owned));
        let http11 = |target, fields: &[(&str, &str)]| ok(&parts(Version::HTTP_11, target, fields));
        assert_eq!(http11("/", &[("host", "A.example:8443")]), Ok("a.example".to_owned()));
        assert_eq!(http11("http://a.example/x", &[("host", "a.example")]), Ok("a.example".to_owned()));
        for (target, fields) in [
            ("/", &[][..]),
            ("/", &[("host", "a"), ("host", "a")]),
            ("/", &[("host", "")]),
            ("/", &[("host", "a b")]),
            ("/", &[("host", "a, b")]),
            ("http://b/x", &[("host", "a")]),
            ("http://a/x", &[]),
        ] {
            assert_eq!(http11(target, fields), Err(Reason::BadHost), "{target} {fields:?}");
        }
        let http2 = |target, fields: &[(&str, &str)]| ok(&parts(Version::HTTP_2, target, fields));
        assert_eq!(http2("https://a.example/x", &[]), Ok("a.example".to_owned()));
        assert_eq!(http2("https://a.example/x", &[("host", "a.example")]), Ok("a.example".to_owned()));
        assert_eq!(http2("https://a.example/x", &[("host", "b.example")]), Err(Reason::BadHost));
        assert_eq!(http2("https://user@a.example/x", &[]), Err(Reason::BadHost));
    }

    #[test]
    fn only_one_canonical_framing_is_taken() {
        let read = |version, fields: &[(&str, &str)]| framing(&parts(version, "/", fields).headers, version);
        let http11 = Version::HTTP_11;
        assert_eq!(read(http11, &[]), Ok(Framing::Unsaid));
        assert_eq!(read(http11, &[("content-length", "0")]), Ok(Framing::Length(0)));
        assert_eq!(read(http11, &[("content-length", "17")]), Ok(Framing::Length(17)));
        assert_eq!(read(http11, &[("transfer-encoding", "Chunked")]), Ok(Framing::Chunked));
        assert_eq!(read(http11, &[("transfer-encoding", "gzip, chunked")]), Err(Reason::NotImplemented));
        for fields in [
            &[("content-length", "17"), ("content-length", "17")][..],
            &[("content-length", "17, 17")],
            &[("content-length", "017")],
            &[("content-length", "+17")],
            &[("content-length", "-1")],
            &[("content-length", "0x11")],
            &[("content-length", "")],
            &[("content-length", "18446744073709551616")],
            &[("content-length", "17"), ("transfer-encoding", "chunked")],
            &[("transfer-encoding", "chunked"), ("transfer-encoding", "chunked")],
            &[("transfer-encoding", "identity")],
            &[("transfer-encoding", "chunked, gzip")],
            &[("transfer-encoding", "")],
        ] {
            assert_eq!(read(http11, fields), Err(Reason::BadFraming), "{fields:?}");
        }
        assert_eq!(read(Version::HTTP_10, &[("transfer-encoding", "chunked")]), Err(Reason::BadFraming));
    }
}
