//! One key pair of our own: its name, its public forms, its signatures.

use std::sync::Arc;

use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use p256::SecretKey;
use p256::pkcs8::{EncodePrivateKey as _, LineEnding};
use zeroize::Zeroizing;

use super::files::Entry;
use super::{KeyInfo, KeyState};
use crate::clock::UnixTime;
use crate::ids::KeyId;
use crate::token::keys::VerifyingKey;

/// A key pair of our own.
///
/// The private key is held by aws-lc, which overwrites memory it frees.
pub(in crate::token) struct OwnKey {
    pub(super) kid: KeyId,
    pair: Arc<EcdsaKeyPair>,
    pub(super) verifying: Arc<VerifyingKey>,
    /// The encoded header of the tokens it signs.
    header: Arc<str>,
    pub(super) jwk: Arc<str>,
    pub(super) state: KeyState,
    pub(super) created_at: Option<UnixTime>,
    pub(super) activated_at: Option<UnixTime>,
    pub(super) retired_at: Option<UnixTime>,
}

impl OwnKey {
    #[expect(clippy::expect_used, reason = "a P-256 secret key has a point, a PKCS#8 form and a 43-byte thumbprint")]
    pub(super) fn new(secret: &SecretKey, state: KeyState) -> Self {
        let pkcs8 = secret.to_pkcs8_der().expect("a secret key can be encoded");
        let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, pkcs8.as_bytes())
            .expect("a checked secret key is accepted");
        let point: &[u8; 65] = pair.public_key().as_ref().try_into().expect("an uncompressed point has 65 bytes");
        let (x, y) = (URL_SAFE_NO_PAD.encode(&point[1..33]), URL_SAFE_NO_PAD.encode(&point[33..]));
        // RFC 7638 §3.2: the required members in lexicographic order, without whitespace.
        let canonical = format!(r#"{{"crv":"P-256","kty":"EC","x":"{x}","y":"{y}"}}"#);
        let thumbprint = URL_SAFE_NO_PAD.encode(digest(&SHA256, canonical.as_bytes()));
        let header = format!(r#"{{"alg":"ES256","typ":"JWT","kid":"{thumbprint}"}}"#);
        let jwk = format!(
            r#"{{"kty":"EC","crv":"P-256","x":"{x}","y":"{y}","kid":"{thumbprint}","use":"sig","alg":"ES256"}}"#
        );
        let kid = KeyId::parse(&thumbprint).expect("base64url is a key id");
        let verifying = VerifyingKey::es256(Some(kid.clone()), point).expect("a public key is on its curve");
        Self {
            kid,
            verifying: Arc::new(verifying),
            pair: Arc::new(pair),
            header: URL_SAFE_NO_PAD.encode(header).into(),
            jwk: jwk.into(),
            state,
            created_at: None,
            activated_at: None,
            retired_at: None,
        }
    }

    /// A new key and its PKCS#8 form.
    #[expect(clippy::expect_used, reason = "without randomness nothing is safe; a secret key can be encoded")]
    pub(super) fn generate(now: UnixTime, state: KeyState) -> (Self, Zeroizing<String>) {
        let secret = loop {
            let mut bytes = Zeroizing::new([0; 32]);
            aws_lc_rs::rand::fill(&mut *bytes).expect("the system has randomness");
            // One in 2^32 is zero or not below the order of the curve.
            if let Ok(secret) = SecretKey::from_slice(&*bytes) {
                break secret;
            }
        };
        let mut key = Self::new(&secret, state);
        key.created_at = Some(now);
        key.activated_at = (state == KeyState::Current).then_some(now);
        (key, secret.to_pkcs8_pem(LineEnding::LF).expect("a secret key can be encoded"))
    }

    /// The encoded header of its tokens.
    pub(in crate::token) fn header(&self) -> &str {
        &self.header
    }

    /// r and s, 32 bytes each (RFC 7518 §3.4).
    #[expect(clippy::expect_used, reason = "aws-lc signs with a valid key unless memory runs out, which aborts")]
    pub(in crate::token) fn sign(&self, message: &[u8]) -> impl AsRef<[u8]> + use<> {
        self.pair.sign(&SystemRandom::new(), message).expect("a valid key signs")
    }

    /// The same key as it is in `known`, when it is there, in this state: what remembers a key goes by its identity.
    pub(super) fn or_known(self, known: &[Arc<Self>]) -> Self {
        match known.iter().find(|key| key.kid == self.kid) {
            Some(known) => Self { state: self.state, ..known.with_same_key() },
            None => self,
        }
    }

    pub(super) fn with_same_key(&self) -> Self {
        Self {
            kid: self.kid.clone(),
            pair: Arc::clone(&self.pair),
            verifying: Arc::clone(&self.verifying),
            header: Arc::clone(&self.header),
            jwk: Arc::clone(&self.jwk),
            state: self.state,
            created_at: self.created_at,
            activated_at: self.activated_at,
            retired_at: self.retired_at,
        }
    }

    pub(super) fn entry(&self) -> Entry {
        Entry {
            kid: self.kid.as_str().to_owned(),
            state: self.state,
            created_at: self.created_at.unwrap_or_default().as_millis(),
            activated_at: self.activated_at.map(UnixTime::as_millis),
            retired_at: self.retired_at.map(UnixTime::as_millis),
        }
    }

    pub(super) fn info(&self) -> KeyInfo {
        KeyInfo {
            kid: self.kid.clone(),
            state: self.state,
            created_at: self.created_at,
            activated_at: self.activated_at,
            retired_at: self.retired_at,
        }
    }
}
