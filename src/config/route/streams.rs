//! What a route says of streams that outlast their request's judgement.

use crate::config::reader::Value;

/// `route.on_token_expiry`: what becomes of a response or tunnel that is still open when the token it was asked for with
/// is past its `exp` (and the leeway).
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum OnTokenExpiry {
    /// `"close"`, the default: it is cut, and the client comes again with a fresh token.
    #[default]
    Close,
    /// `"keep"`: it goes on for as long as the session does.
    Keep,
}

impl OnTokenExpiry {
    /// As the file says it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Close => "close",
            Self::Keep => "keep",
        }
    }
}

/// `route.upgrades`: protocols that a request may ask to go on in.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Upgrades {
    /// In lower case; `None` is any, the default.
    only: Option<Vec<String>>,
}

/// Names whose tunnels would carry HTTP again. In there nobody removes what a client says of its identity.
const HTTP_AGAIN: [&str; 8] = ["h2c", "h2", "h3", "http", "https", "spdy", "ssl", "tls"];

impl Upgrades {
    /// Whether `protocol`, the value of an `Upgrade` field, may be asked for. Never HTTP in any form, nor more than one.
    pub fn allow(&self, protocol: &str) -> bool {
        let protocol = protocol.trim().to_ascii_lowercase();
        is_protocol(&protocol) && !is_http(&protocol) && self.only.as_ref().is_none_or(|only| only.contains(&protocol))
    }

    /// Whether `protocol` would carry HTTP again, which is never allowed.
    pub fn is_http(protocol: &str) -> bool {
        is_http(&protocol.trim().to_ascii_lowercase())
    }

    /// Those that are named; `None` is any.
    pub fn named(&self) -> Option<&[String]> {
        self.only.as_deref()
    }
}

/// A protocol name with or without a version (RFC 9110 §7.8).
fn is_protocol(text: &str) -> bool {
    let token = |text: &str| {
        !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte))
    };
    match text.split_once('/') {
        Some((name, version)) => token(name) && token(version),
        None => token(text),
    }
}

fn is_http(protocol: &str) -> bool {
    HTTP_AGAIN.contains(&protocol.split('/').next().unwrap_or_default())
}

pub(super) fn on_token_expiry(value: &Value<'_>) -> OnTokenExpiry {
    value.choice(&[("close", OnTokenExpiry::Close), ("keep", OnTokenExpiry::Keep)]).unwrap_or_default()
}

pub(super) fn upgrades(value: &Value<'_>) -> Upgrades {
    if value.is_word("any") {
        return Upgrades::default();
    }
    let items = value.items("protocols such as \"websocket\"");
    let only = value.each(items, |item| {
        item.parsed("a protocol such as \"websocket\"", |text| {
            let protocol = text.to_ascii_lowercase();
            if !is_protocol(&protocol) {
                return Err(String::from("is not a protocol, expected one such as \"websocket\""));
            }
            if is_http(&protocol) {
                return Err(String::from("would carry HTTP again, whose headers nobody checks: it is never passed on"));
            }
            Ok(protocol)
        })
    });
    Upgrades { only: Some(only) }
}
