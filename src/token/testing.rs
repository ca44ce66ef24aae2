//! Keys and tokens for the tests of this room: any header and claims text, signed with a fixed key.
#![expect(clippy::unwrap_used, reason = "a test that cannot make its keys fails")]

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::Algorithm;
use p256::SecretKey;
use p256::pkcs8::EncodePrivateKey as _;

use super::keys::KeySet;
use crate::clock::UnixTime;

/// When the tests take place, in Unix seconds.
pub(crate) const NOW_S: u64 = 1_700_000_000;

pub(crate) fn now() -> UnixTime {
    UnixTime::from_secs(NOW_S)
}

pub(crate) fn b64(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

/// A P-256 key whose private scalar is 32 times `seed`, named `kid-<seed>`.
pub(crate) struct TestKey {
    pub(crate) kid: String,
    pair: EcdsaKeyPair,
}

impl TestKey {
    pub(crate) fn new(seed: u8) -> Self {
        let secret = SecretKey::from_slice(&[seed; 32]).unwrap();
        let pkcs8 = secret.to_pkcs8_der().unwrap();
        let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, pkcs8.as_bytes()).unwrap();
        Self { kid: format!("kid-{seed}"), pair }
    }

    /// `04`, x, y.
    pub(crate) fn point(&self) -> &[u8] {
        self.pair.public_key().as_ref()
    }

    /// The public key's members, without braces, so that a test can add some.
    pub(crate) fn jwk_members(&self) -> String {
        let (x, y) = (b64(&self.point()[1..33]), b64(&self.point()[33..]));
        format!(r#""kty":"EC","crv":"P-256","x":"{x}","y":"{y}""#)
    }

    pub(crate) fn jwk(&self) -> String {
        format!(r#"{{{},"kid":"{}"}}"#, self.jwk_members(), self.kid)
    }

    pub(crate) fn key_set(&self) -> KeySet {
        KeySet::from_jwks(jwks(&[&self.jwk()]).as_bytes(), &[Algorithm::ES256], &KeySet::empty()).unwrap()
    }

    pub(crate) fn sign(&self, signed: &str) -> Vec<u8> {
        self.pair.sign(&SystemRandom::new(), signed.as_bytes()).unwrap().as_ref().to_vec()
    }

    /// The usual header.
    pub(crate) fn header(&self) -> String {
        format!(r#"{{"alg":"ES256","typ":"JWT","kid":"{}"}}"#, self.kid)
    }

    /// A token of any two texts, properly signed.
    pub(crate) fn token(&self, header: impl AsRef<[u8]>, claims: impl AsRef<[u8]>) -> String {
        let signed = format!("{}.{}", b64(header), b64(claims));
        let signature = self.sign(&signed);
        format!("{signed}.{}", b64(signature))
    }
}

/// A JWKS document of JWK texts.
pub(crate) fn jwks(keys: &[&str]) -> String {
    format!("{{\"keys\":[{}]}}", keys.join(","))
}
