use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::{
    self, ECDSA_P384_SHA384_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair as _, RsaEncoding, RsaKeyPair,
};

use super::super::testing::{TestKey, b64, jwks};
use super::*;

const ALL: [Algorithm; 9] = [
    Algorithm::ES256,
    Algorithm::ES384,
    Algorithm::RS256,
    Algorithm::RS384,
    Algorithm::RS512,
    Algorithm::PS256,
    Algorithm::PS384,
    Algorithm::PS512,
    Algorithm::EdDSA,
];

fn load(keys: &[&str], allowed: &[Algorithm]) -> Result<KeySet, KeySetError> {
    KeySet::from_jwks(jwks(keys).as_bytes(), allowed, &KeySet::empty())
}

/// Why a key is not used, in a document with a good one.
fn skipped(jwk: &str, allowed: &[Algorithm]) -> Option<SkipReason> {
    let good = TestKey::new(77).jwk();
    let set = load(&[jwk, &good], allowed).unwrap();
    assert_eq!(set.len() + set.skipped().len(), 2, "{jwk}");
    assert!(set.find(Some("kid-77"), "ES256").is_ok(), "a bad key does not spoil the others: {jwk}");
    set.skipped().first().map(|skipped| skipped.reason)
}

fn es256_with(members: &str) -> String {
    format!("{{{},{members}}}", TestKey::new(1).jwk_members())
}

#[test]
fn a_key_is_found_by_its_kid_and_used_with_its_own_algorithm() {
    let set = load(&[&TestKey::new(1).jwk(), &TestKey::new(2).jwk()], &ALL).unwrap();
    assert_eq!(set.find(Some("kid-2"), "ES256").unwrap().kid().unwrap().as_str(), "kid-2");
    assert_eq!(set.find(Some("kid-2"), "ES384").unwrap_err(), TokenError::WrongAlgorithm);
    assert_eq!(set.find(Some("kid-3"), "ES256").unwrap_err(), TokenError::UnknownKey);
    assert_eq!(set.find(Some("KID-2"), "ES256").unwrap_err(), TokenError::UnknownKey);
    assert_eq!(set.find(Some(""), "ES256").unwrap_err(), TokenError::UnknownKey);
    assert_eq!(set.find(None, "ES256").unwrap_err(), TokenError::UnknownKey);
}

#[test]
fn a_key_without_kid_serves_only_alone() {
    let unnamed = format!("{{{}}}", TestKey::new(1).jwk_members());
    let set = load(&[&unnamed], &ALL).unwrap();
    assert!(set.find(None, "ES256").is_ok());
    assert_eq!(set.find(None, "RS256").unwrap_err(), TokenError::WrongAlgorithm);
    assert_eq!(set.find(Some("kid-1"), "ES256").unwrap_err(), TokenError::UnknownKey);
    let set = load(&[&unnamed, &TestKey::new(2).jwk()], &ALL).unwrap();
    assert_eq!(set.find(None, "ES256").unwrap_err(), TokenError::UnknownKey);
}

#[test]
fn keys_meant_for_something_else_are_never_used() {
    for (members, reason) in [
        (r#""use":"enc""#, SkipReason::OtherUse),
        (r#""use":"""#, SkipReason::OtherUse),
        (r#""use":"SIG""#, SkipReason::OtherUse),
        (r#""use":["sig"]"#, SkipReason::Malformed),
        (r#""key_ops":[]"#, SkipReason::OtherUse),
        (r#""key_ops":["encrypt"]"#, SkipReason::OtherUse),
        (r#""key_ops":["sign"]"#, SkipReason::OtherUse),
        (r#""use":"sig","key_ops":["deriveKey"]"#, SkipReason::OtherUse),
        (r#""use":"enc","key_ops":["verify"]"#, SkipReason::OtherUse),
        (r#""key_ops":"verify""#, SkipReason::Malformed),
        (r#""alg":"ES384""#, SkipReason::AlgorithmMismatch),
        (r#""alg":"RS256""#, SkipReason::AlgorithmMismatch),
        (r#""alg":"HS256""#, SkipReason::AlgorithmMismatch),
        (r#""alg":"none""#, SkipReason::AlgorithmMismatch),
        (r#""alg":"ECDH-ES""#, SkipReason::AlgorithmMismatch),
        (r#""alg":"es256""#, SkipReason::AlgorithmMismatch),
        (r#""alg":null"#, SkipReason::Malformed),
        (r#""d":"AAAA""#, SkipReason::Private),
        (r#""d":null"#, SkipReason::Private),
        (r#""kid":1"#, SkipReason::Malformed),
        (r#""kid":"""#, SkipReason::Malformed),
        (r#""kid":"a\nb""#, SkipReason::Malformed),
    ] {
        assert_eq!(skipped(&es256_with(members), &ALL), Some(reason), "{members}");
    }
    let long = format!(r#""kid":"{}""#, "k".repeat(256));
    assert_eq!(skipped(&es256_with(&long), &ALL), Some(SkipReason::Malformed));
    for members in [
        r#""use":"sig""#,
        r#""key_ops":["verify"]"#,
        r#""key_ops":["sign","verify"]"#,
        r#""alg":"ES256""#,
        r#""x5c":["AA"],"nbf":1,"issuer":{"a":[1]},"x5t":null"#,
    ] {
        assert_eq!(skipped(&es256_with(members), &ALL), None, "{members}");
    }
}

#[test]
fn symmetric_and_unknown_keys_are_never_used() {
    for (jwk, reason) in [
        (r#"{"kty":"oct","k":"AAAA","kid":"a","alg":"HS256"}"#, SkipReason::Symmetric),
        (r#"{"kty":"oct","k":"AAAA","alg":"ES256"}"#, SkipReason::Symmetric),
        (r#"{"kty":"AKP","alg":"ML-DSA-44","pub":"AA"}"#, SkipReason::Unsupported),
        (r#"{"kty":"EC","crv":"secp256k1","x":"AA","y":"AA"}"#, SkipReason::Unsupported),
        (r#"{"kty":"EC","crv":"P-521","x":"AA","y":"AA"}"#, SkipReason::Unsupported),
        (r#"{"kty":"OKP","crv":"X25519","x":"AA"}"#, SkipReason::Unsupported),
        (r#"{"kty":"OKP","crv":"Ed448","x":"AA"}"#, SkipReason::Unsupported),
        (r#"{"kty":"ec","crv":"P-256","x":"AA","y":"AA"}"#, SkipReason::Unsupported),
        (r#"{"kty":"EC"}"#, SkipReason::Malformed),
        (r#"{"kty":"EC","crv":"P-256"}"#, SkipReason::Malformed),
        (r#"{"kty":"EC","crv":["P-256"]}"#, SkipReason::Malformed),
        (r#"{"kty":1}"#, SkipReason::Malformed),
        (r#"{}"#, SkipReason::Malformed),
        ("[]", SkipReason::Malformed),
        ("null", SkipReason::Malformed),
        ("\"key\"", SkipReason::Malformed),
        (r#"{"kty":"OKP","crv":"Ed25519","x":"AA"}"#, SkipReason::Malformed),
        (r#"{"kty":"RSA","alg":"RS256","n":"AQAB"}"#, SkipReason::Malformed),
    ] {
        assert_eq!(skipped(jwk, &ALL), Some(reason), "{jwk}");
    }
}

#[test]
fn a_point_off_the_curve_or_of_another_size_is_no_key() {
    let key = TestKey::new(1);
    let (x, y) = key.point()[1..].split_at(32);
    let jwk = |x: &[u8], y: &[u8]| format!(r#"{{"kty":"EC","crv":"P-256","x":"{}","y":"{}"}}"#, b64(x), b64(y));
    let mut off = y.to_vec();
    off[31] ^= 1;
    assert_eq!(skipped(&jwk(x, &off), &ALL), Some(SkipReason::InvalidKey));
    assert_eq!(skipped(&jwk(&[0; 32], &[0; 32]), &ALL), Some(SkipReason::InvalidKey));
    assert_eq!(skipped(&jwk(&[0xff; 32], y), &ALL), Some(SkipReason::InvalidKey));
    assert_eq!(skipped(&jwk(&x[1..], y), &ALL), Some(SkipReason::Malformed));
    assert_eq!(skipped(&jwk(&[&[0], x].concat(), y), &ALL), Some(SkipReason::Malformed));
    assert_eq!(skipped(&jwk(&[x, &[0]].concat(), &y[1..]), &ALL), Some(SkipReason::Malformed));
    let padded = jwk(x, y).replacen("\",\"y\"", "=\",\"y\"", 1);
    assert_eq!(skipped(&padded, &ALL), Some(SkipReason::Malformed));
    assert_eq!(skipped(&jwk(x, y), &ALL), None);
}

#[test]
fn every_asymmetric_algorithm_verifies_its_own_signatures_only() {
    let message = b"header.claims";
    let random = SystemRandom::new();
    let check = |jwk: &str, algorithm: Algorithm, good: &[u8]| {
        let set = load(&[jwk], &ALL).unwrap();
        let key = set.find(None, name(algorithm)).unwrap();
        assert!(key.verifies(message, good, &b64(good)), "{algorithm:?}");
        assert!(!key.verifies(b"header.claimz", good, &b64(good)), "{algorithm:?}");
        for bad in [&good[1..], &[good, &[0]].concat(), &vec![0; good.len()], &vec![0xff; good.len()], &[0], &[]] {
            assert!(!key.verifies(message, bad, &b64(bad)), "{algorithm:?}");
        }
        assert_eq!(load(&[jwk], &[]).unwrap_err().to_string().split(':').count(), 3, "not allowed");
    };

    let p384 = EcdsaKeyPair::generate(&ECDSA_P384_SHA384_FIXED_SIGNING).unwrap();
    let (x, y) = p384.public_key().as_ref()[1..].split_at(48);
    let jwk = format!(r#"{{"kty":"EC","crv":"P-384","x":"{}","y":"{}"}}"#, b64(x), b64(y));
    check(&jwk, Algorithm::ES384, p384.sign(&random, message).unwrap().as_ref());
    let off = jwk.replacen(&b64(y), &b64([1; 48]), 1);
    assert_eq!(skipped(&off, &ALL), Some(SkipReason::InvalidKey));

    let ed = Ed25519KeyPair::generate().unwrap();
    let jwk = format!(r#"{{"kty":"OKP","crv":"Ed25519","x":"{}"}}"#, b64(ed.public_key().as_ref()));
    check(&jwk, Algorithm::EdDSA, ed.sign(message).as_ref());

    let rsa = RsaKeyPair::generate(KeySize::Rsa2048).unwrap();
    let parts = signature::RsaPublicKeyComponents::<Vec<u8>>::from(rsa.public_key());
    let encodings: [(Algorithm, &'static dyn RsaEncoding); 6] = [
        (Algorithm::RS256, &signature::RSA_PKCS1_SHA256),
        (Algorithm::RS384, &signature::RSA_PKCS1_SHA384),
        (Algorithm::RS512, &signature::RSA_PKCS1_SHA512),
        (Algorithm::PS256, &signature::RSA_PSS_SHA256),
        (Algorithm::PS384, &signature::RSA_PSS_SHA384),
        (Algorithm::PS512, &signature::RSA_PSS_SHA512),
    ];
    for (algorithm, encoding) in encodings {
        let mut good = vec![0; rsa.public_modulus_len()];
        rsa.sign(encoding, &random, message, &mut good).unwrap();
        let (alg, n, e) = (name(algorithm), b64(&parts.n), b64(&parts.e));
        check(&format!(r#"{{"kty":"RSA","alg":"{alg}","n":"{n}","e":"{e}"}}"#), algorithm, &good);
        // One key, one algorithm: the same public key used with another does not verify.
        for (other, _) in encodings.iter().filter(|(other, _)| *other != algorithm) {
            let jwk = format!(r#"{{"kty":"RSA","alg":"{}","n":"{n}","e":"{e}"}}"#, name(*other));
            let set = load(&[&jwk], &ALL).unwrap();
            assert_eq!(set.find(None, alg).unwrap_err(), TokenError::WrongAlgorithm);
            assert!(!set.keys()[0].verifies(message, &good, &b64(&good)), "{other:?} {algorithm:?}");
        }
    }
}

#[test]
fn an_rsa_key_without_alg_needs_one_algorithm_to_choose() {
    let rsa = |e: &[u8], n: &[u8]| format!(r#"{{"kty":"RSA","kid":"r","n":"{}","e":"{}"}}"#, b64(n), b64(e));
    let modulus = odd_modulus(2048);
    let jwk = rsa(&[1, 0, 1], &modulus);
    let with_es256 = |rsa: &[Algorithm]| [&[Algorithm::ES256], rsa].concat();
    assert_eq!(skipped(&jwk, &with_es256(&[Algorithm::PS256])), None);
    let set = load(&[&jwk], &[Algorithm::RS512]).unwrap();
    assert_eq!(set.keys()[0].algorithm(), Algorithm::RS512);
    let several = with_es256(&[Algorithm::RS256, Algorithm::RS512]);
    assert_eq!(skipped(&jwk, &several), Some(SkipReason::SeveralAlgorithms));
    assert_eq!(skipped(&jwk, &[Algorithm::ES256]), Some(SkipReason::NotAllowed));
    let named = jwk.replacen('{', r#"{"alg":"RS384","#, 1);
    assert_eq!(skipped(&named, &several), Some(SkipReason::NotAllowed));
    assert_eq!(skipped(&named, &ALL), None);
}

fn odd_modulus(bits: usize) -> Vec<u8> {
    let mut n = vec![0xa5; bits.div_ceil(8)];
    n[0] = 1 << ((bits - 1) % 8);
    *n.last_mut().unwrap() |= 1;
    n
}

#[test]
fn weak_rsa_keys_are_never_used() {
    let jwk = |n: &[u8], e: &[u8]| format!(r#"{{"kty":"RSA","alg":"RS256","n":"{}","e":"{}"}}"#, b64(n), b64(e));
    let even = [&odd_modulus(2048)[..255], &[2]].concat();
    for (n, e) in [
        (odd_modulus(2047), vec![1, 0, 1]),
        (odd_modulus(1024), vec![1, 0, 1]),
        ([vec![0; 200], odd_modulus(1024)].concat(), vec![1, 0, 1]),
        (odd_modulus(8193), vec![1, 0, 1]),
        (vec![], vec![1, 0, 1]),
        (vec![0; 256], vec![1, 0, 1]),
        (even, vec![1, 0, 1]),
        (odd_modulus(2048), vec![]),
        (odd_modulus(2048), vec![0]),
        (odd_modulus(2048), vec![1]),
        (odd_modulus(2048), vec![0, 0, 1]),
        (odd_modulus(2048), vec![2]),
        (odd_modulus(2048), vec![1, 0, 0]),
        (odd_modulus(2048), vec![1, 0, 0, 0, 1]),
        (odd_modulus(2048), odd_modulus(2048)),
    ] {
        assert_eq!(skipped(&jwk(&n, &e), &ALL), Some(SkipReason::WeakKey), "{} {e:?}", n.len());
    }
    assert_eq!(skipped(&jwk(&odd_modulus(2048), &[3]), &ALL), None);
    assert_eq!(
        skipped(&jwk(&[&[0], &odd_modulus(2048)[..]].concat(), &[1, 0, 1]), &ALL),
        None,
        "a sign byte is forgiven"
    );
}

#[test]
fn a_kid_and_algorithm_shared_by_different_keys_serves_neither() {
    let (a, b, c) = (TestKey::new(1), TestKey::new(2), TestKey::new(3));
    let named = |key: &TestKey| format!(r#"{{{},"kid":"x"}}"#, key.jwk_members());
    for keys in [[named(&a), named(&b), c.jwk()], [named(&b), c.jwk(), named(&a)]] {
        let set = load(&[&keys[0], &keys[1], &keys[2]], &ALL).unwrap();
        assert_eq!(set.find(Some("x"), "ES256").unwrap_err(), TokenError::UnknownKey);
        assert!(set.find(Some("kid-3"), "ES256").is_ok());
        assert!(set.skipped().iter().all(|s| s.reason == SkipReason::Ambiguous && s.kid.is_some()));
        assert_eq!(set.skipped().len(), 2);
    }
    // The same key twice is one key.
    let set = load(&[&named(&a), &named(&a)], &ALL).unwrap();
    assert_eq!((set.len(), set.skipped().len()), (1, 0));
    // A third, equal to the first, does not make it less ambiguous.
    let error = load(&[&named(&a), &named(&b), &named(&a)], &ALL).unwrap_err();
    assert!(matches!(error, KeySetError::NoUsableKey { skipped } if skipped.len() == 3));
    // Another algorithm under the same name is no question.
    let ed = Ed25519KeyPair::generate().unwrap();
    let ed = format!(r#"{{"kty":"OKP","crv":"Ed25519","kid":"x","x":"{}"}}"#, b64(ed.public_key().as_ref()));
    let set = load(&[&named(&a), &ed], &ALL).unwrap();
    assert_eq!(set.find(Some("x"), "EdDSA").unwrap().algorithm(), Algorithm::EdDSA);
    assert_eq!(set.find(Some("x"), "ES256").unwrap().algorithm(), Algorithm::ES256);
}

#[test]
fn a_document_without_a_usable_key_is_an_error() {
    let no_key = |keys: &[&str]| matches!(load(keys, &ALL), Err(KeySetError::NoUsableKey { .. }));
    assert!(no_key(&[]));
    assert!(no_key(&[r#"{"kty":"oct","k":"AA"}"#]));
    assert!(no_key(&[&es256_with(r#""use":"enc""#), &es256_with(r#""d":"AA""#)]));
    let error = load(&[r#"{"kty":"oct","k":"AA"}"#], &ALL).unwrap_err();
    assert_eq!(error.to_string(), "key document has no usable key: its only one: a symmetric key");
}

#[test]
fn a_document_is_strict_and_bounded() {
    let from = |json: &str| KeySet::from_jwks(json.as_bytes(), &ALL, &KeySet::empty()).map(|set| set.len());
    let good = TestKey::new(1).jwk();
    assert_eq!(from(&format!(r#"{{"keys":[{good}],"other":{{"a":1}}}}"#)), Ok(1));
    for json in ["{}", r#"{"keys":null}"#, r#"{"keys":{}}"#, r#"{"Keys":[]}"#, &good] {
        assert_eq!(from(json), Err(KeySetError::NoKeyList), "{json}");
    }
    for json in [
        "".to_owned(),
        "[]".into(),
        format!("[{good}]"),
        format!(r#"{{"keys":[{good}],"keys":[]}}"#),
        format!(r#"{{"keys":[{good}]}}x"#),
        format!(r#"{{"keys":[{}]}}"#, good.replacen('{', r#"{"kty":"EC","#, 1)),
        format!("{{\"keys\":[{good}],\"x\":{}{}}}", "[".repeat(8), "]".repeat(8)),
    ] {
        assert!(matches!(from(&json), Err(KeySetError::Malformed(_))), "{json}");
    }
    let many = |count: usize| vec![r#"{"kty":"oct"}"#; count - 1].join(",");
    assert_eq!(from(&format!(r#"{{"keys":[{good},{}]}}"#, many(MAX_KEYS))), Ok(1));
    assert_eq!(from(&format!(r#"{{"keys":[{good},{}]}}"#, many(MAX_KEYS + 1))), Err(KeySetError::TooManyKeys));
    let padded = |bytes: usize| format!("{}{}", jwks(&[&good]), " ".repeat(bytes - jwks(&[&good]).len()));
    assert_eq!(from(&padded(MAX_JWKS_BYTES)), Ok(1));
    assert_eq!(from(&padded(MAX_JWKS_BYTES + 1)), Err(KeySetError::TooLarge));
}

#[test]
fn a_key_known_before_is_taken_over() {
    let first = load(&[&TestKey::new(1).jwk(), &TestKey::new(2).jwk()], &ALL).unwrap();
    let json = jwks(&[&TestKey::new(3).jwk(), &TestKey::new(2).jwk()]);
    let second = KeySet::from_jwks(json.as_bytes(), &ALL, &first).unwrap();
    assert!(Arc::ptr_eq(&first.keys()[1], &second.keys()[1]));
    assert!(!second.contains(&first.keys()[0]));
    assert!(!second.same_keys(&first));
    let renamed = format!(r#"{{{},"kid":"kid-9"}}"#, TestKey::new(2).jwk_members());
    let third = KeySet::from_jwks(jwks(&[&renamed]).as_bytes(), &ALL, &second).unwrap();
    assert!(!third.contains(&second.keys()[1]), "another name is another key");
    let again = KeySet::from_jwks(json.as_bytes(), &ALL, &KeySet::empty()).unwrap();
    assert!(again.same_keys(&second) && !Arc::ptr_eq(&again.keys()[0], &second.keys()[0]));
}

proptest::proptest! {
    #[test]
    fn arbitrary_documents_never_panic(json in r#"\{"keys":\[(\{("(kty|crv|x|y|n|e|alg|use|kid|key_ops)":("EC"|"RSA"|"OKP"|"P-256"|"Ed25519"|"sig"|"AQAB"|"RS256"|\[\]|1),?){0,8}\},?){0,3}\]\}"#) {
        drop(KeySet::from_jwks(json.as_bytes(), &ALL, &KeySet::empty()));
    }
}
