//! One JWK: is it fit to verify access tokens, and with which algorithm?

use std::borrow::Cow;

use aws_lc_rs::signature::{
    ECDSA_P384_SHA384_FIXED, ED25519, ParsedPublicKey, RSA_PKCS1_2048_8192_SHA256, RsaPublicKeyComponents,
};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, AlgorithmFamily, DecodingKey};

use super::{Primitive, SkipReason, VerifyingKey, name, roca};
use crate::ids::KeyId;
use crate::token::json::Object;

/// RFC 7518 §6.2.2, §6.3.2, §6.4.1.
const PRIVATE_MEMBERS: [&str; 8] = ["d", "p", "q", "dp", "dq", "qi", "oth", "k"];

/// The key of one JWK (RFC 7517 §4), when it may verify tokens with an algorithm of `allowed`.
pub(super) fn parse(jwk: &Object<'_>, allowed: &[Algorithm]) -> Result<VerifyingKey, SkipReason> {
    let string = |name: &str| match jwk.get(name) {
        None => Ok(None),
        Some(raw) => raw.string().map(Some).ok_or(SkipReason::Malformed),
    };
    let kty = string("kty")?.ok_or(SkipReason::Malformed)?;
    if kty == "oct" {
        return Err(SkipReason::Symmetric);
    }
    if PRIVATE_MEMBERS.iter().any(|name| jwk.get(name).is_some()) {
        return Err(SkipReason::Private);
    }
    if string("use")?.is_some_and(|usage| usage != "sig") {
        return Err(SkipReason::OtherUse);
    }
    if let Some(operations) = jwk.get("key_ops") {
        let mut operations = operations.elements().ok_or(SkipReason::Malformed)?;
        if !operations.any(|operation| operation.string().is_some_and(|operation| operation == "verify")) {
            return Err(SkipReason::OtherUse);
        }
    }
    let kid = match string("kid")? {
        None => None,
        // A name that no token could carry within its bounds, or that would garble a log.
        Some(kid) => match KeyId::parse(&kid) {
            Ok(kid) => Some(kid),
            Err(_) => return Err(SkipReason::Malformed),
        },
    };
    let crv = string("crv")?;
    let fitting: &[Algorithm] = match (&*kty, crv.as_deref()) {
        ("EC", Some("P-256")) => &[Algorithm::ES256],
        ("EC", Some("P-384")) => &[Algorithm::ES384],
        ("OKP", Some("Ed25519")) => &[Algorithm::EdDSA],
        ("RSA", _) => AlgorithmFamily::Rsa.algorithms(),
        ("EC" | "OKP", None) => return Err(SkipReason::Malformed),
        _ => return Err(SkipReason::Unsupported),
    };
    let algorithm = choose_algorithm(fitting, string("alg")?, allowed)?;
    let part = |name: &str| {
        let text = string(name)?.ok_or(SkipReason::Malformed)?;
        let Ok(bytes) = URL_SAFE_NO_PAD.decode(&*text) else { return Err(SkipReason::Malformed) };
        Ok(bytes)
    };
    match algorithm {
        Algorithm::ES256 => {
            let point = point(32, part("x")?, part("y")?)?;
            let Ok(point) = <&[u8; 65]>::try_from(&point[..]) else { return Err(SkipReason::Malformed) };
            VerifyingKey::es256(kid, point).ok_or(SkipReason::InvalidKey)
        }
        Algorithm::ES384 => {
            let point = point(48, part("x")?, part("y")?)?;
            if ParsedPublicKey::new(&ECDSA_P384_SHA384_FIXED, &point).is_err() {
                return Err(SkipReason::InvalidKey);
            }
            let verifier = Primitive::Other(DecodingKey::from_ec_der(&point));
            Ok(VerifyingKey { kid, algorithm, verifier, material: point.into() })
        }
        Algorithm::EdDSA => {
            let x = part("x")?;
            if x.len() != 32 {
                return Err(SkipReason::Malformed);
            }
            if ParsedPublicKey::new(&ED25519, &x).is_err() {
                return Err(SkipReason::InvalidKey);
            }
            let verifier = Primitive::Other(DecodingKey::from_ed_der(&x));
            Ok(VerifyingKey { kid, algorithm, verifier, material: x.into() })
        }
        _ => rsa(kid, algorithm, &part("n")?, &part("e")?),
    }
}

/// The one algorithm for a key whose type fits `fitting`.
fn choose_algorithm(
    fitting: &[Algorithm],
    alg: Option<Cow<'_, str>>,
    allowed: &[Algorithm],
) -> Result<Algorithm, SkipReason> {
    if let Some(alg) = alg {
        let algorithm = fitting.iter().copied().find(|&a| name(a) == alg).ok_or(SkipReason::AlgorithmMismatch)?;
        return if allowed.contains(&algorithm) { Ok(algorithm) } else { Err(SkipReason::NotAllowed) };
    }
    let mut candidates = fitting.iter().copied().filter(|algorithm| allowed.contains(algorithm));
    let algorithm = candidates.next().ok_or(SkipReason::NotAllowed)?;
    // RFC 8725 §3.1: a key is used with exactly one algorithm. Which, the token must not decide.
    if candidates.next().is_some() {
        return Err(SkipReason::SeveralAlgorithms);
    }
    Ok(algorithm)
}

/// SEC 1 §2.3.3, uncompressed. RFC 7518 §6.2.1.2: coordinates have the full size of the field.
fn point(size: usize, x: Vec<u8>, y: Vec<u8>) -> Result<Vec<u8>, SkipReason> {
    if x.len() != size || y.len() != size {
        return Err(SkipReason::Malformed);
    }
    Ok([&[4], &x[..], &y[..]].concat())
}

fn rsa(kid: Option<KeyId>, algorithm: Algorithm, n: &[u8], e: &[u8]) -> Result<VerifyingKey, SkipReason> {
    // Some issuers write the sign byte of DER, which RFC 7518 §2 (Base64urlUInt) forbids and which changes nothing.
    let trim = |bytes: &[u8]| {
        let zeros = bytes.iter().take_while(|&&b| b == 0).count();
        bytes[zeros..].to_vec()
    };
    let (n, e) = (trim(n), trim(e));
    let bits = n.len() * 8 - n.first().map_or(0, |first| first.leading_zeros() as usize);
    let odd = |bytes: &[u8]| bytes.last().is_some_and(|last| last & 1 == 1);
    // With e = 1 every padded message is its own signature. Above 33 bits the library refuses each verification.
    let exponent_fits = odd(&e) && e != [1] && e.len() <= 4;
    if !(2048..=8192).contains(&bits) || !odd(&n) || !exponent_fits {
        return Err(SkipReason::WeakKey);
    }
    if roca::is_marked(&n) {
        return Err(SkipReason::WeakKey);
    }
    let components = RsaPublicKeyComponents { n: &n[..], e: &e[..] };
    if components.to_parsed_public_key(&RSA_PKCS1_2048_8192_SHA256).is_err() {
        return Err(SkipReason::InvalidKey);
    }
    let verifier = Primitive::Other(DecodingKey::from_rsa_raw_components(&n, &e));
    // The exponent has at most four bytes: written with all of them, the border between the two is fixed.
    let mut material = vec![0; 4 - e.len()];
    material.extend_from_slice(&e);
    material.extend_from_slice(&n);
    Ok(VerifyingKey { kid, algorithm, verifier, material: material.into() })
}
