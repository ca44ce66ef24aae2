//! Key sets by `kid`: a JWKS document (RFC 7517) in, keys that are fit to verify access tokens out.
//!
//! A key is judged once, here, when it is loaded. What is left then has one algorithm, checked material and the right to
//! verify signatures.

mod jwk;
mod roca;

use std::fmt;
use std::sync::Arc;

use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED, ParsedPublicKey};
use jsonwebtoken::{Algorithm, DecodingKey};

use super::TokenError;
use super::json::{JsonError, Object, Raw};
use crate::ids::KeyId;

/// Longest JWKS document that is read.
pub const MAX_JWKS_BYTES: usize = 1024 * 1024;

/// Most keys a JWKS document may list, the unusable ones included.
pub const MAX_KEYS: usize = 100;

/// A public key and the one algorithm it is used with (RFC 8725 §3.1).
pub struct VerifyingKey {
    kid: Option<KeyId>,
    algorithm: Algorithm,
    verifier: Primitive,
    /// The public key in one canonical form: two keys are the same key exactly when algorithm and this are equal.
    material: Box<[u8]>,
}

enum Primitive {
    /// Parsed once: saves 3 % of every verification, and more in the library's generic path.
    Es256(ParsedPublicKey),
    Other(DecodingKey),
}

impl VerifyingKey {
    /// An ES256 key from its uncompressed point (`04`, x, y). `None` when that is no point of P-256.
    pub(crate) fn es256(kid: Option<KeyId>, point: &[u8; 65]) -> Option<Self> {
        // Checks that the point is on the curve (RFC 8725 §3.4).
        let verifier = Primitive::Es256(ParsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, point).ok()?);
        Some(Self { kid, algorithm: Algorithm::ES256, verifier, material: point[..].into() })
    }

    /// Its name. A key without one serves tokens without `kid`, and only while it is the only key of its set.
    pub fn kid(&self) -> Option<&KeyId> {
        self.kid.as_ref()
    }

    /// The algorithm it verifies with, and no other.
    pub fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    /// Whether the two are one key: same name, algorithm and public key.
    pub fn same_material(&self, other: &Self) -> bool {
        self.kid == other.kid && self.algorithm == other.algorithm && self.material == other.material
    }

    /// Whether `signature`, decoded from `encoded`, is this key's over `signed`.
    pub(crate) fn verifies(&self, signed: &[u8], signature: &[u8], encoded: &str) -> bool {
        match &self.verifier {
            // RFC 7518 §3.4: r and s, 32 bytes each. Said here too, so that no DER or short form depends on the library.
            Primitive::Es256(key) => signature.len() == 64 && key.verify_sig(signed, signature).is_ok(),
            Primitive::Other(key) => {
                matches!(jsonwebtoken::crypto::verify(encoded, signed, key, self.algorithm), Ok(true))
            }
        }
    }
}

impl fmt::Debug for VerifyingKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("VerifyingKey")
            .field("kid", &self.kid)
            .field("algorithm", &self.algorithm)
            .finish_non_exhaustive()
    }
}

/// The keys of one issuer. Never changed, only replaced whole. Empty means that none were ever loaded.
#[derive(Clone, Debug, Default)]
pub struct KeySet {
    keys: Vec<Arc<VerifyingKey>>,
    skipped: Vec<SkippedKey>,
}

impl KeySet {
    /// No keys: the issuer's were never loaded.
    pub fn empty() -> Self {
        Self::default()
    }

    /// The keys of a JWKS document that may verify tokens with an algorithm of `allowed`.
    ///
    /// A key that is unusable, unknown or not meant for this is skipped ([`Self::skipped`]) and never spoils the others
    /// (RFC 7517 §5). Two different keys under one `kid` and algorithm are both skipped: choosing by their order
    /// would let a reordered document change verdicts. A key that `previous` has too is taken over from there, so
    /// that what it verified stays good.
    ///
    /// # Errors
    /// [`KeySetError`] when the document is no strict JSON, too large, or has no usable key at all. The caller keeps the
    /// keys it has.
    pub fn from_jwks(json: &[u8], allowed: &[Algorithm], previous: &KeySet) -> Result<Self, KeySetError> {
        if json.len() > MAX_JWKS_BYTES {
            return Err(KeySetError::TooLarge);
        }
        let document = Object::parse(json).map_err(KeySetError::Malformed)?;
        let elements = document.get("keys").and_then(Raw::elements).ok_or(KeySetError::NoKeyList)?;
        let mut keys: Vec<(usize, VerifyingKey)> = Vec::new();
        let mut skipped = Vec::new();
        for (index, element) in elements.enumerate() {
            if index == MAX_KEYS {
                return Err(KeySetError::TooManyKeys);
            }
            let jwk = element.object();
            let kid = jwk.as_ref().and_then(|jwk| jwk.get("kid")).and_then(Raw::string);
            match jwk.as_ref().ok_or(SkipReason::Malformed).and_then(|jwk| jwk::parse(jwk, allowed)) {
                Ok(key) => keys.push((index, key)),
                Err(reason) => skipped.push(SkippedKey { index, kid: kid.and_then(|k| KeyId::parse(&k).ok()), reason }),
            }
        }
        let ambiguous: Vec<bool> = keys
            .iter()
            .map(|(_, a)| {
                keys.iter().any(|(_, b)| {
                    a.kid.is_some() && a.kid == b.kid && a.algorithm == b.algorithm && a.material != b.material
                })
            })
            .collect();
        let mut set = Self { keys: Vec::with_capacity(keys.len()), skipped };
        for ((index, key), ambiguous) in keys.into_iter().zip(ambiguous) {
            if ambiguous {
                set.skipped.push(SkippedKey { index, kid: key.kid, reason: SkipReason::Ambiguous });
            } else if !set.contains(&key) {
                let known = previous.keys.iter().find(|known| known.same_material(&key));
                set.keys.push(known.cloned().unwrap_or_else(|| Arc::new(key)));
            }
        }
        if set.keys.is_empty() {
            return Err(KeySetError::NoUsableKey { skipped: set.skipped });
        }
        Ok(set)
    }

    /// From keys that were checked elsewhere.
    pub(crate) fn from_keys(keys: Vec<Arc<VerifyingKey>>) -> Self {
        Self { keys, skipped: Vec::new() }
    }

    /// The key for a token's `kid` and `alg`. The `kid` chooses, the key fixes the algorithm, `alg` is only compared
    /// (RFC 8725 §3.1).
    ///
    /// # Errors
    /// [`TokenError::UnknownKey`], or [`TokenError::WrongAlgorithm`] when the key is there and is used with another
    /// algorithm only.
    pub(crate) fn find(&self, kid: Option<&str>, alg: &str) -> Result<&Arc<VerifyingKey>, TokenError> {
        let Some(kid) = kid else {
            // Without a name there must be nothing to choose from: trying one key after the other would let a key
            // verify tokens that were never meant for it.
            let [key] = &self.keys[..] else { return Err(TokenError::UnknownKey) };
            return if name(key.algorithm) == alg { Ok(key) } else { Err(TokenError::WrongAlgorithm) };
        };
        let mut error = TokenError::UnknownKey;
        for key in self.keys.iter().filter(|key| key.kid.as_ref().is_some_and(|known| known.as_str() == kid)) {
            if name(key.algorithm) == alg {
                return Ok(key);
            }
            error = TokenError::WrongAlgorithm;
        }
        Err(error)
    }

    /// Whether this very key is in the set, by name, algorithm and public key.
    pub fn contains(&self, key: &VerifyingKey) -> bool {
        self.keys.iter().any(|known| std::ptr::eq(&**known, key) || known.same_material(key))
    }

    /// Whether both sets hold the same keys.
    pub fn same_keys(&self, other: &Self) -> bool {
        self.keys.len() == other.keys.len() && self.keys.iter().all(|key| other.contains(key))
    }

    /// The usable keys.
    pub fn keys(&self) -> &[Arc<VerifyingKey>] {
        &self.keys
    }

    /// The keys of the document that are not used, and why.
    pub fn skipped(&self) -> &[SkippedKey] {
        &self.skipped
    }

    /// Number of usable keys.
    pub fn len(&self) -> usize {
        self.keys.len()
    }

    /// Whether there is no usable key: none were ever loaded.
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }
}

/// A key of a JWKS document that is not used.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct SkippedKey {
    /// Its place in the document's list, from 0.
    pub index: usize,
    /// Its `kid`, when that is one.
    pub kid: Option<KeyId>,
    /// Why.
    pub reason: SkipReason,
}

/// Why a key of a JWKS document is not used.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum SkipReason {
    /// A member is missing, of the wrong type or wrongly encoded.
    #[error("a member is missing or malformed")]
    Malformed,
    /// A `kty` or `crv` that no supported algorithm uses.
    #[error("unsupported kty or crv")]
    Unsupported,
    /// `kty` is `oct`: anyone who can verify could also sign (RFC 8725 §2.1).
    #[error("a symmetric key")]
    Symmetric,
    /// It has private members: whoever could read the document can sign, so its signatures prove nothing.
    #[error("a private key was published")]
    Private,
    /// `use` is not `sig`, or `key_ops` has no `verify` (RFC 7517 §4.2, §4.3).
    #[error("not meant for verifying signatures")]
    OtherUse,
    /// `alg` does not fit `kty` and `crv`.
    #[error("alg contradicts kty or crv")]
    AlgorithmMismatch,
    /// Its algorithm is not one of the issuer's `algorithms`.
    #[error("algorithm not among those the issuer may use")]
    NotAllowed,
    /// It has no `alg`, and the issuer's `algorithms` hold more than one that its type could be used with.
    #[error("no alg, and algorithms allows several for its kty: list one")]
    SeveralAlgorithms,
    /// RSA shorter than 2048 bit (RFC 7518 §3.3) or longer than 8192, an exponent that makes forging easy, or a modulus
    /// that is known to be factored easily (CVE-2017-15361).
    #[error("RSA modulus or exponent weak or out of bounds")]
    WeakKey,
    /// Not a point of its curve.
    #[error("not a valid public key")]
    InvalidKey,
    /// Another key has the same `kid` and algorithm.
    #[error("two different keys share this kid and algorithm")]
    Ambiguous,
}

/// Why a JWKS document yields no key set.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum KeySetError {
    /// More than [`MAX_JWKS_BYTES`].
    #[error("key document longer than {MAX_JWKS_BYTES} bytes")]
    TooLarge,
    /// Not a strict JSON object.
    #[error("key document is malformed")]
    Malformed(#[source] JsonError),
    /// No member `keys` that is an array.
    #[error("key document has no array \"keys\"")]
    NoKeyList,
    /// More than [`MAX_KEYS`].
    #[error("key document lists more than {MAX_KEYS} keys")]
    TooManyKeys,
    /// None of its keys may verify tokens.
    #[error("key document has no usable key{}", first_reason(skipped))]
    NoUsableKey {
        /// The keys it has.
        skipped: Vec<SkippedKey>,
    },
}

fn first_reason(skipped: &[SkippedKey]) -> String {
    match skipped {
        [] => String::new(),
        [only] => format!(": its only one: {}", only.reason),
        [first, ..] => format!(" among {}: the first: {}", skipped.len(), first.reason),
    }
}

/// The `alg` of RFC 7518 §3.1.
pub(crate) fn name(algorithm: Algorithm) -> &'static str {
    match algorithm {
        Algorithm::HS256 => "HS256",
        Algorithm::HS384 => "HS384",
        Algorithm::HS512 => "HS512",
        Algorithm::ES256 => "ES256",
        Algorithm::ES384 => "ES384",
        Algorithm::RS256 => "RS256",
        Algorithm::RS384 => "RS384",
        Algorithm::RS512 => "RS512",
        Algorithm::PS256 => "PS256",
        Algorithm::PS384 => "PS384",
        Algorithm::PS512 => "PS512",
        Algorithm::EdDSA => "EdDSA",
    }
}

#[cfg(test)]
mod tests;
