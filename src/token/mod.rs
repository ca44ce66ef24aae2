//! Access tokens: taken from the request, verified, remembered.
//!
//! `bearer` header → token; `json` the strict reader; `keys` key sets by `kid`; `verify` token → [`Identity`]; `cache`
//! tokens that were verified before; `jwks` keys of trusted issuers; `mint` own tokens and `signing` the keys for them.

pub mod bearer;
pub mod cache;
pub mod json;
pub mod jwks;
pub mod keys;
pub mod mint;
pub mod signing;
pub mod verify;

#[cfg(test)]
pub(crate) mod testing;

use std::sync::Arc;

use http::HeaderValue;

use crate::clock::UnixTime;
use crate::ids::{SessionName, UserId};

/// Who a verified token speaks for. What may change later (expiry, revocation, the route's demands) is judged on every
/// request and is no part of it.
#[derive(Clone, Debug)]
pub struct Identity {
    /// `sub`
    pub user: UserId,
    /// `sid`
    pub session: SessionName,
    /// Which issuer: an index into the verifier's issuers. [`OWN_ISSUER`] is Portcullis itself.
    pub issuer: IssuerIndex,
    /// `iat`
    pub issued_at: UnixTime,
    /// `exp`, and for a trusted issuer never more than its `max_token_lifetime` after `iat`. Accepted until
    /// [`LEEWAY`](crate::clock::LEEWAY) later.
    pub expires_at: UnixTime,
    /// [`Self::user`] ready for the upstream.
    pub user_header: HeaderValue,
    /// [`Self::session`] ready for the upstream.
    pub session_header: HeaderValue,
    /// The key that verified it. The identity is good only while the issuer still has this very key.
    pub key: Arc<keys::VerifyingKey>,
}

/// An issuer's place in the verifier.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub struct IssuerIndex(pub u16);

/// Portcullis itself.
pub const OWN_ISSUER: IssuerIndex = IssuerIndex(0);

/// Why a request carries no usable identity: one variant for each thing someone would do differently. Its word
/// ([`Self::as_str`]) is the `reason` in answers, logs and metrics; the list is closed and documented.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq, thiserror::Error)]
pub enum TokenError {
    /// No `Authorization` header. The challenge has no error code then (RFC 6750 §3.1).
    #[error("no Authorization header")]
    MissingToken,
    /// Two `Authorization` headers, another scheme, or bytes that no token has.
    #[error("not exactly one Authorization header with scheme Bearer and one token")]
    MalformedAuthorization,
    /// Longer than `limits.token_bytes`.
    #[error("token longer than allowed")]
    TokenTooLarge,
    /// Not three canonical base64url parts of strict JSON with the members and types asked for.
    #[error("malformed token")]
    MalformedToken,
    /// `iss` is neither ours nor a trusted issuer's, or not one this route takes.
    #[error("unknown issuer")]
    UnknownIssuer,
    /// No key of the issuer has this `kid`.
    #[error("unknown key")]
    UnknownKey,
    /// `alg` is not the algorithm of the key, or not one the issuer may use.
    #[error("algorithm not allowed")]
    WrongAlgorithm,
    /// The signature is not of this key over these bytes.
    #[error("bad signature")]
    BadSignature,
    /// `aud` does not name us.
    #[error("wrong audience")]
    WrongAudience,
    /// `exp` (plus leeway) is past.
    #[error("token expired")]
    TokenExpired,
    /// `nbf` or `iat` (minus leeway) is still to come.
    #[error("token not yet valid")]
    TokenNotYetValid,
    /// The issuer's keys have never been loaded: nothing can be said of the token. Answered 503, not 401.
    #[error("keys of the issuer are not available")]
    KeysUnavailable,
}

impl TokenError {
    /// The word for it in answers, logs and metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::MissingToken => "missing_token",
            Self::MalformedAuthorization => "malformed_authorization",
            Self::TokenTooLarge => "token_too_large",
            Self::MalformedToken => "malformed_token",
            Self::UnknownIssuer => "unknown_issuer",
            Self::UnknownKey => "unknown_key",
            Self::WrongAlgorithm => "wrong_algorithm",
            Self::BadSignature => "bad_signature",
            Self::WrongAudience => "wrong_audience",
            Self::TokenExpired => "token_expired",
            Self::TokenNotYetValid => "token_not_yet_valid",
            Self::KeysUnavailable => "keys_unavailable",
        }
    }
}
