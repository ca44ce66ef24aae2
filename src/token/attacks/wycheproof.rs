//! Signatures that broken libraries took, or did not take, with the keys for them: Wycheproof's, through the key sets
//! and the verifier of this gateway.

use aws_lc_rs::digest::{SHA256, digest};
use jsonwebtoken::Algorithm;
use p256::ecdsa::Signature;
use p256::elliptic_curve::ops::Reduce as _;
use p256::elliptic_curve::sec1::ToEncodedPoint as _;
use p256::{ProjectivePoint, PublicKey, Scalar};
use wycheproof::ecdsa::TestName;
use wycheproof::{TestResult, ecdsa, eddsa, rsa_pkcs1_verify, rsa_pss_verify};

use super::super::keys::KeySet;
use super::super::testing::{b64, jwks, now};
use super::super::{OWN_ISSUER, TokenError, keys};
use super::gate::{Gate, OWN_KEY, claims};

/// A signature over a message, and a JWK of the key that it is said to be of.
struct Vector {
    name: String,
    jwk: String,
    message: Vec<u8>,
    signature: Vec<u8>,
    result: TestResult,
}

/// The key set of a JWK, as an issuer's document would give it.
fn key_set(jwk: &str, algorithm: Algorithm) -> Option<KeySet> {
    KeySet::from_jwks(jwks(&[jwk]).as_bytes(), &[algorithm], &KeySet::empty()).ok()
}

/// Every valid signature is taken and every other refused by the key of a document with the vector's JWK. `stricter`
/// are keys that are refused whatever they sign. Returns how many there were.
fn check(area: &str, algorithm: Algorithm, vectors: &[Vector], stricter: impl Fn(&str) -> bool) -> usize {
    let mut failed = Vec::new();
    for vector in vectors {
        let taken = key_set(&vector.jwk, algorithm).is_some_and(|set| {
            let key = set.find(Some("k"), keys::name(algorithm)).unwrap();
            key.verifies(&vector.message, &vector.signature, &b64(&vector.signature))
        });
        let fits = match vector.result {
            TestResult::Valid => taken != stricter(&vector.name),
            TestResult::Invalid => !taken,
            TestResult::Acceptable => true,
        };
        if !fits {
            failed.push(format!("{}: {:?}, taken: {taken}", vector.name, vector.result));
        }
    }
    println!("wycheproof, {area}: {} vectors", vectors.len());
    assert!(failed.is_empty(), "{} of {} failed:\n{}", failed.len(), vectors.len(), failed.join("\n"));
    vectors.len()
}

fn ecdsa(test: TestName, crv: &str) -> Vec<Vector> {
    let mut vectors = Vec::new();
    for group in ecdsa::TestSet::load(test).unwrap().test_groups {
        let (x, y) = group.key.key[1..].split_at(group.key.key.len() / 2);
        let jwk = format!(r#"{{"kty":"EC","crv":"{crv}","kid":"k","x":"{}","y":"{}"}}"#, b64(x), b64(y));
        vectors.extend(group.tests.into_iter().map(|test| Vector {
            name: format!("{} {}", test.tc_id, test.comment),
            jwk: jwk.clone(),
            message: test.msg.to_vec(),
            signature: test.sig.to_vec(),
            result: test.result,
        }));
    }
    vectors
}

fn es256() -> Vec<Vector> {
    ecdsa(TestName::EcdsaSecp256r1Sha256P1363, "P-256")
}

#[test]
fn the_verifier_takes_the_valid_signatures_of_p256_in_p1363_form_and_no_other() {
    let count = check("P-256 P1363", Algorithm::ES256, &es256(), |_| false);
    assert!(count >= 262, "{count}");
}

#[test]
fn the_verifier_takes_the_valid_signatures_of_p384_in_p1363_form_and_no_other() {
    let vectors = ecdsa(TestName::EcdsaSecp384r1Sha384P1363, "P-384");
    assert!(check("P-384 P1363", Algorithm::ES384, &vectors, |_| false) >= 250);
}

/// DER is for certificates: RFC 7518 §3.4 has 64 bytes, and what is valid there is not valid here.
#[test]
fn a_signature_in_der_is_refused_although_it_is_valid_there() {
    let mut vectors = ecdsa(TestName::EcdsaSecp256r1Sha256, "P-256");
    for vector in &mut vectors {
        vector.result = TestResult::Invalid;
    }
    assert!(check("P-256 DER", Algorithm::ES256, &vectors, |_| false) >= 400);
}

#[test]
fn the_verifier_takes_the_valid_signatures_of_ed25519_and_no_other() {
    let mut vectors = Vec::new();
    for group in eddsa::TestSet::load(eddsa::TestName::Ed25519).unwrap().test_groups {
        let jwk = format!(r#"{{"kty":"OKP","crv":"Ed25519","kid":"k","x":"{}"}}"#, b64(&*group.jwk.x));
        vectors.extend(group.tests.into_iter().map(|test| Vector {
            name: format!("{} {}", test.tc_id, test.comment),
            jwk: jwk.clone(),
            message: test.msg.to_vec(),
            signature: test.sig.to_vec(),
            result: test.result,
        }));
    }
    assert!(check("Ed25519", Algorithm::EdDSA, &vectors, |_| false) >= 150);
}

#[test]
fn the_verifier_takes_the_valid_signatures_of_rsa_and_no_other() {
    use rsa_pkcs1_verify::TestName as Pkcs1;
    use rsa_pss_verify::TestName as Pss;
    let jwk = |n: &[u8], e: &[u8]| format!(r#"{{"kty":"RSA","kid":"k","n":"{}","e":"{}"}}"#, b64(n), b64(e));
    let mut count = 0;
    for (test, algorithm) in [
        (Pkcs1::Rsa2048Sha256, Algorithm::RS256),
        (Pkcs1::Rsa3072Sha256, Algorithm::RS256),
        (Pkcs1::Rsa4096Sha384, Algorithm::RS384),
        (Pkcs1::Rsa2048Sha512, Algorithm::RS512),
    ] {
        let mut vectors = Vec::new();
        for group in rsa_pkcs1_verify::TestSet::load(test).unwrap().test_groups {
            let jwk = jwk(&group.key.n, &group.key.e);
            vectors.extend(group.tests.into_iter().map(|test| Vector {
                name: format!("{} {}", test.tc_id, test.comment),
                jwk: jwk.clone(),
                message: test.msg.to_vec(),
                signature: test.sig.to_vec(),
                result: test.result,
            }));
        }
        count += check(&format!("{test:?}"), algorithm, &vectors, |_| false);
    }
    for (test, algorithm) in [
        (Pss::RsaPss2048Sha256Mgf1SaltLen32, Algorithm::PS256),
        (Pss::RsaPss2048Sha384Mgf1SaltLen48, Algorithm::PS384),
        (Pss::RsaPss4096Sha512Mgf1SaltLen64, Algorithm::PS512),
    ] {
        let mut vectors = Vec::new();
        for group in rsa_pss_verify::TestSet::load(test).unwrap().test_groups {
            let jwk = jwk(&group.key.n, &group.key.e);
            vectors.extend(group.tests.into_iter().map(|test| Vector {
                name: format!("{} {}", test.tc_id, test.comment),
                jwk: jwk.clone(),
                message: test.msg.to_vec(),
                signature: test.sig.to_vec(),
                result: test.result,
            }));
        }
        count += check(&format!("{test:?}"), algorithm, &vectors, |_| false);
    }
    assert!(count >= 1000, "{count}");
}

/// The key that has signed what has this hash with `signature`: r⁻¹ (s R - z G), with R the point whose x is r. `None`
/// when there is no such point. There are two with that x, and either key will do.
fn key_for(signature: &Signature, hash: [u8; 32]) -> Option<PublicKey> {
    let point = PublicKey::from_sec1_bytes(&[&[2], &signature.to_bytes()[..32]].concat()).ok()?.to_projective();
    let (r, s) = signature.split_scalars();
    let z = Scalar::reduce_bytes(&hash.into());
    let inverse = Option::<Scalar>::from(r.as_ref().invert())?;
    PublicKey::from_affine(((point * *s - ProjectivePoint::GENERATOR * z) * inverse).to_affine()).ok()
}

/// The messages of the vectors are no tokens. But every r and s that can be valid at all is a valid signature of *some*
/// key over a token of ours, and that key can be computed: so the numbers that broke libraries stumble over go through
/// the whole of a request, header to cache. Those that can never be valid go with the vector's own key.
#[test]
fn the_numbers_of_the_vectors_are_judged_alike_as_signatures_of_tokens() {
    let signed = format!("{}.{}", b64(r#"{"alg":"ES256","kid":"k"}"#), b64(claims()));
    let hash: [u8; 32] = digest(&SHA256, signed.as_bytes()).as_ref().try_into().unwrap();
    let (mut failed, mut good, mut bad) = (Vec::new(), 0, 0);
    for vector in es256() {
        let token = format!("{signed}.{}", b64(&vector.signature));
        let gate = Gate::new();
        let mut say = |what: &str, keys: KeySet, expected: Result<(), &str>| {
            gate.verifier.swap_keys(OWN_ISSUER, keys);
            for time in 1..=3 {
                let verdict = gate.verdict(token.as_bytes(), now());
                if verdict != expected {
                    failed.push(format!("{}: {what}, time {time}: {verdict:?}, expected {expected:?}", vector.name));
                }
            }
        };
        // A signature over something else, by the vector's own key.
        let refused = match vector.signature.len() {
            0 => TokenError::MalformedToken,
            _ => TokenError::BadSignature,
        };
        say("over another message", key_set(&vector.jwk, Algorithm::ES256).unwrap(), Err(refused.as_str()));
        bad += 1;
        let Ok(signature) = Signature::from_slice(&vector.signature) else { continue };
        let Some(key) = key_for(&signature, hash) else { continue };
        let point = key.to_encoded_point(false);
        let (x, y) = point.as_bytes()[1..].split_at(32);
        let jwk = format!(r#"{{"kty":"EC","crv":"P-256","kid":"k","x":"{}","y":"{}"}}"#, b64(x), b64(y));
        say("of a key made for it", key_set(&jwk, Algorithm::ES256).unwrap(), Ok(()));
        good += 1;
        say("of that key no more", OWN_KEY.key_set(), Err(TokenError::UnknownKey.as_str()));
    }
    println!("wycheproof, as tokens: {bad} refused, {good} of them accepted of the key that fits");
    assert!(bad >= 262 && good >= 173, "{bad} {good}");
    assert!(failed.is_empty(), "{} failed:\n{}", failed.len(), failed.join("\n"));
}
