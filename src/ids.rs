//! Identifiers as types: a value of one of these has passed its check.

use std::fmt;
use std::sync::Arc;

use http::HeaderValue;

/// Most bytes of a user id, a session name or a key id. OpenID Connect Core §2 bounds `sub` at 255 ASCII characters.
pub const MAX_ID_BYTES: usize = 255;

/// A text that may not stand in an identity header.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum BadId {
    /// No bytes at all.
    #[error("is empty")]
    Empty,
    /// More than [`MAX_ID_BYTES`].
    #[error("is longer than {MAX_ID_BYTES} bytes")]
    TooLong,
    /// A byte outside printable ASCII, or a space at either end.
    ///
    /// A header value is trimmed and its bytes above 0x7e are read differently by different backends, so two ids could
    /// become one on the other side.
    #[error("has a byte outside printable ASCII, or a space at its start or end")]
    BadByte,
}

/// Whether `text` reads the same before and after it stood in a header: printable ASCII, no space at either end.
fn check(text: &str) -> Result<(), BadId> {
    let bytes = text.as_bytes();
    match bytes {
        [] => Err(BadId::Empty),
        _ if bytes.len() > MAX_ID_BYTES => Err(BadId::TooLong),
        [b' ', ..] | [.., b' '] => Err(BadId::BadByte),
        _ if bytes.iter().any(|b| !(0x20..=0x7e).contains(b)) => Err(BadId::BadByte),
        _ => Ok(()),
    }
}

/// The 128 random bits that name a session of our own. Written as 32 lowercase hexadecimal digits.
///
/// Not a secret: it stands in `X-Session-Id` and in logs. What proves the right to a session is the MAC of a refresh
/// token or the signature of an access token.
#[derive(Clone, Copy, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct SessionId([u8; 16]);

impl SessionId {
    /// From its 16 bytes.
    pub const fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    /// Its 16 bytes.
    pub const fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }

    /// From exactly 32 lowercase hexadecimal digits. Any other spelling is `None`, so that one session has one name.
    pub fn parse(text: &str) -> Option<Self> {
        let digits: &[u8; 32] = text.as_bytes().try_into().ok()?;
        let nibble = |b: u8| match b {
            b'0'..=b'9' => Some(b - b'0'),
            b'a'..=b'f' => Some(b - b'a' + 10),
            _ => None,
        };
        let mut bytes = [0; 16];
        for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
            *byte = nibble(pair[0])? << 4 | nibble(pair[1])?;
        }
        Some(Self(bytes))
    }

    /// Its 32 digits. Not by the formatter, which takes half a microsecond for them, once for every new token.
    fn digits(&self) -> [u8; 32] {
        const DIGITS: &[u8; 16] = b"0123456789abcdef";
        let mut digits = [0; 32];
        for (pair, byte) in digits.chunks_exact_mut(2).zip(self.0) {
            pair[0] = DIGITS[usize::from(byte >> 4)];
            pair[1] = DIGITS[usize::from(byte & 15)];
        }
        digits
    }
}

impl fmt::Display for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match std::str::from_utf8(&self.digits()) {
            Ok(digits) => f.write_str(digits),
            // Digits are ASCII.
            Err(_) => Err(fmt::Error),
        }
    }
}

impl fmt::Debug for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// What a token's `sid` names: a session of our own, or any text of a trusted issuer.
///
/// One value for one text: 32 lowercase hexadecimal digits are always [`SessionName::Own`].
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub enum SessionName {
    /// Spelled as one of our own.
    Own(SessionId),
    /// Any other spelling.
    Other(Arc<str>),
}

impl SessionName {
    /// # Errors
    /// [`BadId`] when `text` may not stand in a header.
    pub fn parse(text: &str) -> Result<Self, BadId> {
        if let Some(id) = SessionId::parse(text) {
            return Ok(Self::Own(id));
        }
        check(text)?;
        Ok(Self::Other(text.into()))
    }
}

impl From<SessionId> for SessionName {
    fn from(id: SessionId) -> Self {
        Self::Own(id)
    }
}

impl fmt::Display for SessionName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Own(id) => id.fmt(f),
            Self::Other(text) => f.write_str(text),
        }
    }
}

macro_rules! text_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        ///
        /// 1 to [`MAX_ID_BYTES`] bytes of printable ASCII with no space at either end.
        #[derive(Clone, Eq, Hash, Ord, PartialEq, PartialOrd)]
        pub struct $name(Arc<str>);

        impl $name {
            /// # Errors
            /// [`BadId`] says what is wrong with `text`.
            pub fn parse(text: &str) -> Result<Self, BadId> {
                check(text)?;
                Ok(Self(text.into()))
            }

            /// The text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Debug::fmt(&*self.0, f)
            }
        }
    };
}

text_id! {
    /// A user, as a token's `sub` and the `X-User-Id` header name them.
    UserId
}
text_id! {
    /// A key, as `kid` names it. For own keys the RFC 7638 thumbprint.
    KeyId
}

impl UserId {
    /// As a header value.
    pub fn to_header(&self) -> HeaderValue {
        header(self.0.as_bytes())
    }
}

impl SessionName {
    /// As a header value.
    pub fn to_header(&self) -> HeaderValue {
        match self {
            Self::Own(id) => header(&id.digits()),
            Self::Other(text) => header(text.as_bytes()),
        }
    }
}

#[expect(clippy::expect_used, reason = "check() let through printable ASCII only, which every header value may hold")]
fn header(text: &[u8]) -> HeaderValue {
    HeaderValue::from_bytes(text).expect("checked text is a valid header value")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_id_has_one_spelling() {
        let text = "00ff10a2b3c4d5e6f708192a3b4c5d6e";
        assert_eq!(SessionId::parse(text).unwrap().to_string(), text);
        for other in [
            &text.to_uppercase(),
            &text[1..],
            &format!("{text}0"),
            "00ff10a2-b3c4-d5e6-f708-192a3b4c5d6e",
            "00ff10a2b3c4d5e6f708192a3b4c5d6g",
            "",
        ] {
            assert_eq!(SessionId::parse(other), None, "{other}");
        }
    }

    #[test]
    fn an_id_that_a_header_would_change_is_refused() {
        for (text, why) in [
            ("", BadId::Empty),
            (" a", BadId::BadByte),
            ("a ", BadId::BadByte),
            ("a\nb", BadId::BadByte),
            ("a\u{0}b", BadId::BadByte),
            ("\u{7f}", BadId::BadByte),
            ("zoë", BadId::BadByte),
        ] {
            assert_eq!(UserId::parse(text), Err(why), "{text:?}");
            assert_eq!(SessionName::parse(text), Err(why), "{text:?}");
        }
        assert_eq!(UserId::parse(&"a".repeat(256)), Err(BadId::TooLong));
        assert_eq!(UserId::parse(&"a".repeat(255)).unwrap().as_str().len(), 255);
        assert_eq!(UserId::parse("Ann Lee <ann@example.com>").unwrap().to_header(), "Ann Lee <ann@example.com>");
    }

    #[test]
    fn one_text_is_one_session_name() {
        let own = "00ff10a2b3c4d5e6f708192a3b4c5d6e";
        assert!(matches!(SessionName::parse(own), Ok(SessionName::Own(_))));
        assert!(matches!(SessionName::parse(&own.to_uppercase()), Ok(SessionName::Other(_))));
    }
}
