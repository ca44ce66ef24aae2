//! The compact JWS (RFC 7515): its form, what counts of its header, and whose signature it has.
//!
//! What its claims say, and who may say it, is for `verify` to judge.

use std::borrow::Cow;
use std::ops::Range;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::Algorithm;

use super::TokenError;
use super::json::{Object, Raw};
use super::keys::{KeySet, VerifyingKey};

/// The three decoded parts of a compact JWS (RFC 7515 §7.1).
pub(super) struct Compact<'a> {
    /// Header and claims as they were signed, with the dot between.
    signed: &'a str,
    encoded_signature: &'a str,
    decoded: Vec<u8>,
    header: Range<usize>,
    claims: Range<usize>,
}

impl<'a> Compact<'a> {
    pub(super) fn decode(token: &'a str) -> Result<Self, TokenError> {
        // Never a split over all dots: their number is the sender's choice.
        let (signed, encoded_signature) = token.rsplit_once('.').ok_or(TokenError::MalformedToken)?;
        let (header, claims) = signed.split_once('.').ok_or(TokenError::MalformedToken)?;
        let mut decoded = Vec::with_capacity(token.len() / 4 * 3 + 3);
        let mut part = |encoded: &str| {
            let start = decoded.len();
            // Refuses padding, other alphabets (a fourth dot too) and trailing bits that are not zero: one token, one
            // spelling (RFC 7515 §2).
            if encoded.is_empty() || URL_SAFE_NO_PAD.decode_vec(encoded, &mut decoded).is_err() {
                return Err(TokenError::MalformedToken);
            }
            Ok(start..decoded.len())
        };
        let (header, claims) = (part(header)?, part(claims)?);
        part(encoded_signature)?;
        Ok(Self { signed, encoded_signature, decoded, header, claims })
    }

    pub(super) fn header(&self) -> &[u8] {
        &self.decoded[self.header.clone()]
    }

    pub(super) fn claims(&self) -> &[u8] {
        &self.decoded[self.claims.clone()]
    }

    fn signature(&self) -> &[u8] {
        &self.decoded[self.claims.end..]
    }

    /// The key of `keys` that it was signed with, by an algorithm of `allowed`. `header` is its own.
    ///
    /// # Errors
    /// [`TokenError::UnknownKey`], [`TokenError::WrongAlgorithm`] or [`TokenError::BadSignature`].
    pub(super) fn signed_by<'k>(
        &self,
        header: &Header<'_>,
        keys: &'k KeySet,
        allowed: &[Algorithm],
    ) -> Result<&'k Arc<VerifyingKey>, TokenError> {
        let key = keys.find(header.kid.as_deref(), &header.alg)?;
        if !allowed.contains(&key.algorithm()) {
            return Err(TokenError::WrongAlgorithm);
        }
        if !key.verifies(self.signed.as_bytes(), self.signature(), self.encoded_signature) {
            return Err(TokenError::BadSignature);
        }
        Ok(key)
    }
}

/// What counts of a header. Any other member, `jwk`, `jku`, `x5u` and `x5c` among them, is ignored whatever its type
/// (RFC 7515 §4): a token cannot bring its own key (RFC 8725 §3.10).
pub(super) struct Header<'a> {
    pub(super) alg: Cow<'a, str>,
    pub(super) kid: Option<Cow<'a, str>>,
}

/// RFC 7515 §4.1.11: no extension is understood here, so none may be critical. RFC 7797 (`b64`) changes what is signed,
/// RFC 7516 (`zip`, `enc`) is for encrypted tokens.
const REFUSED_HEADER_MEMBERS: [&str; 4] = ["crit", "b64", "zip", "enc"];

/// RFC 8725 §3.11, RFC 9068 §2.1. A `logout+jwt` or `dpop+jwt` of the same issuer is no access token.
const ACCEPTED_TYPES: [&str; 3] = ["JWT", "at+jwt", "application/at+jwt"];

impl<'a> Header<'a> {
    pub(super) fn parse(json: &'a [u8]) -> Result<Self, TokenError> {
        let Ok(object) = Object::parse(json) else { return Err(TokenError::MalformedToken) };
        if REFUSED_HEADER_MEMBERS.iter().any(|name| object.get(name).is_some()) {
            return Err(TokenError::MalformedToken);
        }
        if let Some(typ) = object.get("typ") {
            let typ = typ.string().ok_or(TokenError::MalformedToken)?;
            if !ACCEPTED_TYPES.iter().any(|accepted| typ.eq_ignore_ascii_case(accepted)) {
                return Err(TokenError::MalformedToken);
            }
        }
        let alg = object.get("alg").and_then(Raw::string).ok_or(TokenError::MalformedToken)?;
        let kid = match object.get("kid") {
            None => None,
            Some(raw) => Some(raw.string().ok_or(TokenError::MalformedToken)?),
        };
        Ok(Self { alg, kid })
    }
}
