//! A listener that sends everybody to `https`.

use std::num::NonZeroU16;

use bytes::Bytes;
use http::header::{self, HeaderValue};
use http::request::Parts;
use http::{Response, StatusCode};

use super::target;
use crate::config::Limits;
use crate::path;
use crate::reject::{Reason, Rejection};

/// The answer to any request: the same host and target, at `port` of `https`.
///
/// No route and no token is looked at; a client that sent one in the clear is told where it belongs, no more. 308, so
/// that method and body stay (RFC 9110 §15.4.9). Spellings that only some routes take are for those to judge.
///
/// # Errors
/// What is refused everywhere: a host, target or framing that two readers could take differently.
pub(super) fn to_https(parts: &Parts, port: NonZeroU16, limits: &Limits) -> Result<Response<Bytes>, Rejection> {
    let path = target::bounded_path(parts, limits)?;
    path::judge(path).map_err(|_forbidden| Reason::BadPath)?;
    let host = target::host(parts)?;
    let name = host.name()?;
    target::framing(&parts.headers, parts.version)?;
    let port = if port.get() == 443 { String::new() } else { format!(":{port}") };
    let target = parts.uri.path_and_query().map_or("/", |target| target.as_str());
    let location =
        HeaderValue::from_str(&format!("https://{name}{port}{target}")).map_err(|_invalid| Reason::BadTarget)?;
    let mut response = Response::new(Bytes::new());
    *response.status_mut() = StatusCode::PERMANENT_REDIRECT;
    response.headers_mut().insert(header::LOCATION, location);
    Ok(response)
}
