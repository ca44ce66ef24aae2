//! What a request is for: host, path and framing, or why it is refused before anything else is looked at.

use std::borrow::Cow;

use http::header::{self, HeaderMap, HeaderValue};
use http::request::Parts;
use http::{Method, Version};

use crate::config::Limits;
use crate::http1::{self, Framing};
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

/// As [`path`], of a target that is no longer than `limits.uri_bytes`.
pub(crate) fn bounded_path<'p>(parts: &'p Parts, limits: &Limits) -> Result<&'p str, Reason> {
    let path = path(parts)?;
    let query = parts.uri.query().map_or(0, |query| query.len() + 1);
    if path.len() + query > limits.uri_bytes.get() { Err(Reason::UriTooLong) } else { Ok(path) }
}

/// What the library leaves to us of the fields of HTTP/2: their number, and values that begin or end with whitespace.
///
/// Whitespace around a value makes a request malformed (RFC 9113 §8.2.1). Over HTTP/1.1 it is none of the value: whoever
/// is behind us would read another one than we have judged.
///
/// # Errors
/// [`Reason::HeaderTooLarge`], [`Reason::MalformedRequest`]
pub(crate) fn fields(parts: &Parts, limits: &Limits) -> Result<(), Reason> {
    if parts.version != Version::HTTP_2 {
        // Over HTTP/1.1 both were seen to while the header was read.
        return Ok(());
    }
    let most = limits.header_count.get();
    // A client may send its cookies in pieces (RFC 9113 §8.2.3): they are one field, and bounded in bytes.
    if parts.headers.len() > most && parts.headers.len() - cookies_but_one(&parts.headers) > most {
        return Err(Reason::HeaderTooLarge);
    }
    let is_padded = |value: &HeaderValue| matches!(value.as_bytes(), [b' ' | b'\t', ..] | [.., b' ' | b'\t']);
    if parts.headers.values().any(is_padded) { Err(Reason::MalformedRequest) } else { Ok(()) }
}

fn cookies_but_one(headers: &HeaderMap) -> usize {
    headers.get_all(header::COOKIE).iter().count().saturating_sub(1)
}

/// The one way the body is framed. Everything that two readers could take differently is refused.
///
/// Over HTTP/1.1 that was judged before ([`crate::http1`]); over HTTP/2 only a length is left, which must be canonical,
/// too, because it goes on.
pub(crate) fn framing(headers: &HeaderMap, version: Version) -> Result<Framing, Reason> {
    let mut codings = headers.get_all(header::TRANSFER_ENCODING).iter();
    let mut lengths = headers.get_all(header::CONTENT_LENGTH).iter();
    match (codings.next(), codings.next(), lengths.next(), lengths.next()) {
        (None, _, None, _) => Ok(Framing::None),
        // RFC 9112 §6.1: a coding in HTTP/1.0 is a sign of faulty framing.
        (Some(coding), None, None, None) if version == Version::HTTP_11 => {
            http1::transfer_coding(coding.as_bytes()).map_err(Reason::from)
        }
        (None, _, Some(length), None) => {
            http1::content_length(length.as_bytes()).map(Framing::Length).ok_or(Reason::BadFraming)
        }
        _ => Err(Reason::BadFraming),
    }
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
    fn fields_of_http2_are_counted_and_have_no_whitespace_around_them() {
        let text = "server.listen = ['127.0.0.1:0']\nupstream.u.servers = ['http://10.0.0.5:8080']\n\
                    limits.header_count = 3\nroute = [{ path = '/', upstream = 'u', auth = 'public' }]\n";
        let limits = crate::config::Config::parse(text, "t", std::path::Path::new("")).unwrap().limits;
        let read = |version, given: &[(&str, &str)]| fields(&parts(version, "http://a/", given), &limits);
        let cases: &[(&str, &[(&str, &str)], Result<(), Reason>)] = &[
            ("as many as there may be", &[("a", "1"), ("b", ""), ("c", "x y")], Ok(())),
            ("one more", &[("a", "1"), ("b", "2"), ("b", "2"), ("c", "3")], Err(Reason::HeaderTooLarge)),
            ("cookies are one", &[("a", "1"), ("b", "2"), ("cookie", "c=1"), ("cookie", "d=1")], Ok(())),
            (
                "cookies are one all the same",
                &[("a", "1"), ("b", "2"), ("c", "3"), ("cookie", "d=1")],
                Err(Reason::HeaderTooLarge),
            ),
            ("a space before", &[("a", " 1")], Err(Reason::MalformedRequest)),
            ("a tab behind", &[("a", "1"), ("b", "1\t")], Err(Reason::MalformedRequest)),
            ("a space alone", &[("a", " ")], Err(Reason::MalformedRequest)),
        ];
        let failed: Vec<_> =
            cases.iter().filter(|(_, given, expected)| read(Version::HTTP_2, given) != *expected).collect();
        assert!(failed.is_empty(), "{failed:?}");
        assert_eq!(read(Version::HTTP_11, cases[1].1), Ok(()));
    }

    #[test]
    fn only_one_canonical_framing_is_taken() {
        let read = |version, fields: &[(&str, &str)]| framing(&parts(version, "/", fields).headers, version);
        let http11 = Version::HTTP_11;
        assert_eq!(read(http11, &[]), Ok(Framing::None));
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
