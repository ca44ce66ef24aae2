//! Requests that ask to go on in another protocol: `Upgrade` of HTTP/1.1 (RFC 9110 §7.8), and WebSocket over HTTP/2
//! (RFC 8441), which reaches the upstream as the former.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::request::Parts;
use http::{Method, StatusCode, Version};
use hyper::ext::Protocol;
use hyper::upgrade::OnUpgrade;

use crate::config::Upgrades;
use crate::http1::Framing;
use crate::reject::Reason;

const SEC_WEBSOCKET_KEY: HeaderName = HeaderName::from_static("sec-websocket-key");
const SEC_WEBSOCKET_ACCEPT: HeaderName = HeaderName::from_static("sec-websocket-accept");

/// What is appended to a key before it is hashed (RFC 6455 §1.3).
const ACCEPT_GUID: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

/// A client's wish to go on in another protocol, which the route allows.
pub(super) struct Upgrade {
    /// As the client wrote it: the one value of `Upgrade` to the upstream.
    protocol: HeaderValue,
    client: OnUpgrade,
    /// The key of a handshake that came over HTTP/2, which has none of its own.
    key: Option<HeaderValue>,
}

/// What the upstream's `101` turned out to be.
pub(super) struct Switched {
    pub(super) client: OnUpgrade,
    pub(super) is_websocket: bool,
    /// The answer to the client.
    pub(super) status: StatusCode,
}

/// Takes an extended `CONNECT` for what it stands for (RFC 8441 §5): the `GET` of a WebSocket handshake. Routes and
/// upstreams see it as such. Any other `CONNECT` stays one.
pub(super) fn unfold_connect(parts: &mut Parts) {
    if parts.method == Method::CONNECT
        && parts.extensions.get::<Protocol>().is_some_and(|protocol| protocol.as_str() == "websocket")
    {
        parts.method = Method::GET;
    }
}

/// What the request asks for, if it may.
///
/// Asked for over HTTP/1.1 and not allowed, it is as if it had not been asked for: the server is free to ignore it. A
/// WebSocket over HTTP/2 is nothing else than its stream, and is refused.
///
/// # Errors
/// [`Reason::NotImplemented`] for the latter.
pub(super) fn asked(parts: &mut Parts, framing: Framing, allowed: &Upgrades) -> Result<Option<Upgrade>, Reason> {
    let client = |parts: &mut Parts| parts.extensions.remove::<OnUpgrade>();
    if parts.version == Version::HTTP_2 {
        if parts.extensions.get::<Protocol>().is_none() {
            return Ok(None);
        }
        let protocol = HeaderValue::from_static("websocket");
        return match client(parts).filter(|_| allowed.allow("websocket")) {
            Some(client) => Ok(Some(Upgrade { protocol, client, key: Some(new_key()?) })),
            None => Err(Reason::NotImplemented),
        };
    }
    // hyper leaves none where nothing was asked for: most requests end here, without a look at their header.
    if parts.extensions.get::<OnUpgrade>().is_none() {
        return Ok(None);
    }
    let Ok(Some(protocol)) = over_http1(parts, framing, allowed) else { return Ok(None) };
    Ok(client(parts).map(|client| Upgrade { protocol, client, key: None }))
}

/// Why a request goes on as if it had not asked for another protocol.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Ignored {
    /// `Connection` does not name `Upgrade`.
    NotNamed,
    /// More than one protocol, or none that is one.
    NotOne,
    /// It would carry HTTP again.
    Http,
    /// The route's `upgrades` do not have it.
    NotAllowed,
    /// It came over HTTP/1.0, or with a body: it would be unclear in which protocol the rest of that is.
    NotPossible,
}

/// The protocol that a request over HTTP/1.1 asks to go on in, as it wrote it, if it may; `None` when it asks for none.
///
/// # Errors
/// [`Ignored`] when it may not.
pub(crate) fn over_http1(parts: &Parts, framing: Framing, allowed: &Upgrades) -> Result<Option<HeaderValue>, Ignored> {
    let Some(protocol) = one_protocol(&parts.headers, allowed)? else { return Ok(None) };
    if parts.version != Version::HTTP_11 || !matches!(framing, Framing::None | Framing::Length(0)) {
        return Err(Ignored::NotPossible);
    }
    Ok(Some(protocol))
}

/// The one protocol of the one `Upgrade` field that `Connection` names.
fn one_protocol(headers: &HeaderMap, allowed: &Upgrades) -> Result<Option<HeaderValue>, Ignored> {
    let mut fields = headers.get_all(header::UPGRADE).iter();
    let protocol = match (fields.next(), fields.next()) {
        (None, _) => return Ok(None),
        (Some(protocol), None) => protocol,
        (Some(_), Some(_)) => return Err(Ignored::NotOne),
    };
    let names_upgrade = |value: &HeaderValue| {
        value.as_bytes().split(|byte| *byte == b',').any(|token| token.trim_ascii().eq_ignore_ascii_case(b"upgrade"))
    };
    if !headers.get_all(header::CONNECTION).iter().any(names_upgrade) {
        return Err(Ignored::NotNamed);
    }
    match protocol.to_str() {
        Ok(name) if allowed.allow(name) => Ok(Some(protocol.clone())),
        Ok(name) if Upgrades::is_http(name) => Err(Ignored::Http),
        Ok(name) if Upgrades::default().allow(name) => Err(Ignored::NotAllowed),
        _ => Err(Ignored::NotOne),
    }
}

/// Asks the upstream for `protocol`. The client's own fields are gone by now, hop-by-hop as they are.
pub(crate) fn write(protocol: &HeaderValue, headers: &mut HeaderMap) {
    headers.remove(header::TE);
    headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
    headers.insert(header::UPGRADE, protocol.clone());
}

/// Sixteen random bytes (RFC 6455 §4.1), so that the accepted key can only come from who got it.
fn new_key() -> Result<HeaderValue, Reason> {
    let mut key = [0; 16];
    // As good as never. Nothing was asked of an upstream yet.
    aws_lc_rs::rand::fill(&mut key).map_err(|_opaque| Reason::NotImplemented)?;
    HeaderValue::from_str(&STANDARD.encode(key)).map_err(|_impossible| Reason::NotImplemented)
}

impl Upgrade {
    /// Says it to the upstream.
    pub(super) fn write(&self, headers: &mut HeaderMap) {
        write(&self.protocol, headers);
        if let Some(key) = &self.key {
            headers.insert(SEC_WEBSOCKET_KEY, key.clone());
        }
    }

    /// Whether it came over HTTP/2, where a 2xx would be a yes whatever the upstream meant by it.
    pub(super) fn is_connect(&self) -> bool {
        self.key.is_some()
    }

    /// Reads the upstream's `101`, still with all its fields, and turns it into the answer to the client.
    ///
    /// # Errors
    /// [`Reason::UpstreamBroken`]: it switches to something that was not asked for.
    pub(super) fn switch(self, headers: &mut HeaderMap) -> Result<Switched, Reason> {
        let mut said = headers.get_all(header::UPGRADE).iter();
        let agrees = match (said.next(), said.next()) {
            (Some(said), None) => said.as_bytes().eq_ignore_ascii_case(self.protocol.as_bytes()),
            _ => false,
        };
        if !agrees {
            return Err(Reason::UpstreamBroken);
        }
        let status = if self.is_connect() { StatusCode::OK } else { StatusCode::SWITCHING_PROTOCOLS };
        let is_websocket = self.protocol.as_bytes().eq_ignore_ascii_case(b"websocket");
        crate::headers::to_client(headers);
        if let Some(key) = &self.key {
            // What a client over HTTP/1.1 checks itself (RFC 6455 §4.1).
            let accept = headers.remove(SEC_WEBSOCKET_ACCEPT);
            if accept.is_none_or(|accept| accept.as_bytes() != accept_of(key.as_bytes()).as_bytes()) {
                return Err(Reason::UpstreamBroken);
            }
        } else {
            headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
            headers.insert(header::UPGRADE, self.protocol);
        }
        headers.remove(header::CONTENT_LENGTH);
        Ok(Switched { client: self.client, is_websocket, status })
    }
}

fn accept_of(key: &[u8]) -> String {
    let mut hash = aws_lc_rs::digest::Context::new(&aws_lc_rs::digest::SHA1_FOR_LEGACY_USE_ONLY);
    hash.update(key);
    hash.update(ACCEPT_GUID);
    STANDARD.encode(hash.finish())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn protocol(fields: &[(&'static str, &str)]) -> Option<String> {
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            headers.append(*name, HeaderValue::from_str(value).unwrap());
        }
        let protocol = one_protocol(&headers, &Upgrades::default()).ok().flatten();
        protocol.map(|value| value.to_str().unwrap().to_owned())
    }

    #[test]
    fn an_upgrade_is_one_protocol_that_connection_names() {
        let upgrade = ("connection", "keep-alive, Upgrade");
        assert_eq!(protocol(&[upgrade, ("upgrade", "WebSocket")]).as_deref(), Some("WebSocket"));
        assert_eq!(protocol(&[upgrade, ("upgrade", "irc/6.9")]).as_deref(), Some("irc/6.9"));
        for fields in [
            &[upgrade][..],
            &[("upgrade", "websocket")],
            &[("connection", "keep-alive"), ("upgrade", "websocket")],
            &[upgrade, ("upgrade", "websocket, irc")],
            &[upgrade, ("upgrade", "websocket"), ("upgrade", "websocket")],
            &[upgrade, ("upgrade", "")],
        ] {
            assert_eq!(protocol(fields), None, "{fields:?}");
        }
    }

    /// In each of these the client could go on in HTTP, and say who it is itself.
    #[test]
    fn what_would_be_http_again_is_never_passed_on() {
        for name in
            ["h2c", "H2C", "h2", "HTTP/2.0", "http/1.1", "HTTP", "TLS/1.0", "tls", "TLS/1.3", "h3", "SPDY/3", "ssl"]
        {
            assert_eq!(protocol(&[("connection", "upgrade"), ("upgrade", name)]), None, "{name}");
        }
    }

    #[test]
    fn the_accepted_key_is_the_one_of_the_standard() {
        assert_eq!(accept_of(b"dGhlIHNhbXBsZSBub25jZQ=="), "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
    }
}
