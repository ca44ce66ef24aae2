//! Own access tokens.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Map, Value};
use zeroize::Zeroizing;

use super::json;
use super::signing::SigningKeys;
use crate::clock::UnixTime;
use crate::ids::{SessionId, UserId};

/// Claims that are Portcullis's to write. Extra claims may not have these names.
pub const RESERVED_CLAIMS: [&str; 8] = ["iss", "sub", "aud", "exp", "nbf", "iat", "jti", "sid"];

/// What an access token says.
#[derive(Clone, Copy, Debug)]
pub struct AccessClaims<'a> {
    /// `iss`
    pub issuer: &'a str,
    /// `aud`
    pub audience: &'a str,
    /// `sub`
    pub user: &'a UserId,
    /// `sid`
    pub session: SessionId,
    /// `iat`, cut to whole seconds.
    pub issued_at: UnixTime,
    /// `exp`, cut to whole seconds.
    pub expires_at: UnixTime,
    /// More members. Those named in [`RESERVED_CLAIMS`] are left out.
    pub extra: Option<&'a Map<String, Value>>,
}

/// A signed access token (RFC 7515 §7.1) with header `{"alg":"ES256","typ":"JWT","kid":…}`.
///
/// The text is overwritten when dropped. One signature, about 15 µs.
pub fn mint(keys: &SigningKeys, claims: &AccessClaims<'_>) -> Zeroizing<String> {
    let key = keys.current();
    let json = claims_json(claims);
    // All of it at once: a buffer that grew would leave copies behind that nobody overwrites.
    let bytes = key.header().len() + 1 + json.len().div_ceil(3) * 4 + 1 + ENCODED_SIGNATURE_BYTES;
    let mut token = Zeroizing::new(String::with_capacity(bytes));
    token.push_str(key.header());
    token.push('.');
    URL_SAFE_NO_PAD.encode_string(&json, &mut token);
    let signature = key.sign(token.as_bytes());
    token.push('.');
    URL_SAFE_NO_PAD.encode_string(signature, &mut token);
    token
}

/// 64 bytes in base64url.
const ENCODED_SIGNATURE_BYTES: usize = 86;

fn claims_json(claims: &AccessClaims<'_>) -> String {
    let text = |text: &str| Value::from(text).to_string();
    let mut json = format!(
        r#"{{"sid":"{}","sub":{},"iss":{},"aud":{},"iat":{},"exp":{}"#,
        claims.session,
        text(claims.user.as_str()),
        text(claims.issuer),
        text(claims.audience),
        claims.issued_at.as_secs(),
        claims.expires_at.as_secs(),
    );
    for (name, value) in claims.extra.into_iter().flatten() {
        // Also checked when they come in. Here too, as a second `sub` would let a login backend's user choose who he is.
        if !RESERVED_CLAIMS.contains(&name.as_str()) {
            json.push_str(&format!(",{}:{value}", text(name)));
        }
    }
    json.push('}');
    json
}

/// Why extra claims cannot stand in a token.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum ExtraClaimsError {
    /// One of [`RESERVED_CLAIMS`].
    #[error("claim \"{0}\" is reserved")]
    Reserved(&'static str),
    /// Longer than allowed when written as JSON.
    #[error("claims longer than {0} bytes")]
    TooLarge(usize),
    /// So deep that our own verifier would refuse the token.
    #[error("claims nested deeper than {} levels", json::MAX_DEPTH)]
    TooDeep,
}

/// Whether `extra` may stand in access tokens: no reserved name, at most `max_bytes` as JSON, and of a depth that the
/// verifier takes.
///
/// # Errors
/// [`ExtraClaimsError`]; the first that applies.
pub fn check_extra_claims(extra: &Map<String, Value>, max_bytes: usize) -> Result<(), ExtraClaimsError> {
    if let Some(reserved) = RESERVED_CLAIMS.iter().find(|name| extra.contains_key(**name)) {
        return Err(ExtraClaimsError::Reserved(reserved));
    }
    let text = serde_json::to_string(extra).unwrap_or_default();
    if text.len() > max_bytes {
        return Err(ExtraClaimsError::TooLarge(max_bytes));
    }
    match json::Object::parse(text.as_bytes()) {
        Ok(_) => Ok(()),
        Err(_) => Err(ExtraClaimsError::TooDeep),
    }
}
