//! RFC 7517, RFC 8725 §3.1, §3.4, §3.5: documents of keys, of an issuer that is careless or hostile, and what their
//! keys are good for.

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::{
    self, ECDSA_P384_SHA384_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair as _, RsaEncoding, RsaKeyPair,
};
use jsonwebtoken::Algorithm;

use super::super::IssuerIndex;
use super::super::TokenError::{self, BadSignature, KeysUnavailable, UnknownKey, WrongAlgorithm};
use super::super::keys::{KeySet, MAX_JWKS_BYTES, MAX_KEYS};
use super::super::testing::{TestKey, b64, jwks, now};
use super::super::verify::{IssuerPolicy, Verifier};
use super::gate::{Gate, MAX_TOKEN_BYTES, claims, with_member};

const K: IssuerIndex = IssuerIndex(1);

/// A gate whose only issuer is `https://k.example`, without keys yet.
fn gate(algorithms: &[Algorithm]) -> Gate {
    let policy = IssuerPolicy {
        issuer: "https://k.example".to_owned(),
        audience: vec!["app".to_owned()],
        algorithms: algorithms.to_vec(),
        session_claim: "sid".to_owned(),
        max_token_lifetime: None,
    };
    Gate::of(Verifier::new(None, vec![policy], MAX_TOKEN_BYTES))
}

/// As the task does that keeps an issuer's keys: a document that is no good changes nothing.
fn load(gate: &Gate, algorithms: &[Algorithm], document: &[u8]) {
    if let Ok(keys) = KeySet::from_jwks(document, algorithms, &gate.verifier.keys(K)) {
        gate.verifier.swap_keys(K, keys);
    }
}

fn claims_of_k() -> String {
    with_member(&claims(), "iss", "\"https://k.example\"")
}

/// A document, and the verdict on a token that its key has signed, once it is loaded by a gate that knows no other.
type Document = (String, String, Result<(), TokenError>);

fn documents(key: &TestKey) -> Vec<Document> {
    let (good, members) = (key.jwk(), key.jwk_members());
    let (x, y) = (b64(&key.point()[1..33]), b64(&key.point()[33..]));
    let ec = |x: &str, y: &str| format!(r#"{{"kty":"EC","crv":"P-256","x":"{x}","y":"{y}","kid":"kid-5"}}"#);
    let with = |more: &str| format!(r#"{{{members},"kid":"kid-5",{more}}}"#);
    let other = TestKey::new(6);
    let other_named = format!(r#"{{{},"kid":"kid-5"}}"#, other.jwk_members());
    let mut documents = vec![
        ("good".to_owned(), jwks(&[&good]), Ok(())),
        ("good among members that nobody knows".into(), format!(r#"{{"a":1,"keys":[{good}],"b":[null]}}"#), Ok(())),
        ("good among keys that are not".into(), jwks(&[r#"{"kty":"oct","k":"AA"}"#, "{}", "null", "1", &good]), Ok(())),
        ("good twice".into(), jwks(&[&good, &good]), Ok(())),
        ("one kid, two keys".into(), jwks(&[&good, &other_named]), Err(KeysUnavailable)),
        ("one kid, two keys, the other way round".into(), jwks(&[&other_named, &good]), Err(KeysUnavailable)),
        ("one kid, two keys, and a good one".into(), jwks(&[&good, &other_named, &other.jwk()]), Err(UnknownKey)),
        ("another key".into(), jwks(&[&other.jwk()]), Err(UnknownKey)),
        ("another key of the name".into(), jwks(&[&other_named]), Err(BadSignature)),
        ("no name, alone".into(), jwks(&[&format!("{{{members}}}")]), Err(UnknownKey)),
        ("a secret".into(), jwks(&[r#"{"kty":"oct","k":"AAAA","kid":"kid-5","alg":"HS256"}"#]), Err(KeysUnavailable)),
        (
            "a secret said to be ES256".into(),
            jwks(&[r#"{"kty":"oct","k":"AAAA","kid":"kid-5","alg":"ES256"}"#]),
            Err(KeysUnavailable),
        ),
        ("the point of no name".into(), jwks(&[&ec(&b64([0; 32]), &b64([0; 32]))]), Err(KeysUnavailable)),
        ("x and y the wrong way round".into(), jwks(&[&ec(&y, &x)]), Err(KeysUnavailable)),
        ("x twice".into(), jwks(&[&ec(&x, &x)]), Err(KeysUnavailable)),
        (
            "y off by one bit".into(),
            {
                let mut y = key.point()[33..].to_vec();
                y[31] ^= 1;
                jwks(&[&ec(&x, &b64(y))])
            },
            Err(KeysUnavailable),
        ),
        (
            "y missing".into(),
            jwks(&[&format!(r#"{{"kty":"EC","crv":"P-256","x":"{x}","kid":"kid-5"}}"#)]),
            Err(KeysUnavailable),
        ),
        ("y empty".into(), jwks(&[&ec(&x, "")]), Err(KeysUnavailable)),
        ("x of 31 bytes".into(), jwks(&[&ec(&b64(&key.point()[2..33]), &y)]), Err(KeysUnavailable)),
        ("x of 33 bytes".into(), jwks(&[&ec(&b64([&[0], &key.point()[1..33]].concat()), &y)]), Err(KeysUnavailable)),
        ("x with padding".into(), jwks(&[&ec(&format!("{x}="), &y)]), Err(KeysUnavailable)),
        ("x with a space".into(), jwks(&[&ec(&format!("{x} "), &y)]), Err(KeysUnavailable)),
        (
            "the other point of x".into(),
            {
                // On the curve, and somebody else's: -Q.
                let compressed = [&[2 | (key.point()[64] & 1 ^ 1)], &key.point()[1..33]].concat();
                let point = p256::PublicKey::from_sec1_bytes(&compressed).unwrap();
                let point = p256::elliptic_curve::sec1::ToEncodedPoint::to_encoded_point(&point, false);
                jwks(&[&ec(&x, &b64(&point.as_bytes()[33..]))])
            },
            Err(BadSignature),
        ),
        ("a key said to be of P-384".into(), jwks(&[&good.replace("P-256", "P-384")]), Err(KeysUnavailable)),
        ("a key said to be of secp256k1".into(), jwks(&[&good.replace("P-256", "secp256k1")]), Err(KeysUnavailable)),
        ("a key said to be of p-256".into(), jwks(&[&good.replace("P-256", "p-256")]), Err(KeysUnavailable)),
        ("a key said to be RSA".into(), jwks(&[&good.replace("\"EC\"", "\"RSA\"")]), Err(KeysUnavailable)),
        ("a member twice in the key".into(), jwks(&[&good.replacen('{', "{\"kty\":\"EC\",", 1)]), Err(KeysUnavailable)),
        (
            "a member twice in the key, escaped".into(),
            jwks(&[&good.replacen('{', "{\"\\u006bty\":\"EC\",", 1)]),
            Err(KeysUnavailable),
        ),
        ("keys twice".into(), format!(r#"{{"keys":[{good}],"keys":[{good}]}}"#), Err(KeysUnavailable)),
        ("keys in capitals".into(), format!(r#"{{"KEYS":[{good}]}}"#), Err(KeysUnavailable)),
        ("keys as an object".into(), format!(r#"{{"keys":{good}}}"#), Err(KeysUnavailable)),
        (
            "keys as text".into(),
            format!("{{\"keys\":{}}}", serde_json::Value::from(format!("[{good}]"))),
            Err(KeysUnavailable),
        ),
        ("keys in keys".into(), format!(r#"{{"keys":[[{good}]]}}"#), Err(KeysUnavailable)),
        ("no keys".into(), jwks(&[]), Err(KeysUnavailable)),
        ("a key alone".into(), good.clone(), Err(KeysUnavailable)),
        ("a list".into(), format!("[{good}]"), Err(KeysUnavailable)),
        ("nothing".into(), String::new(), Err(KeysUnavailable)),
        ("null".into(), "null".into(), Err(KeysUnavailable)),
        ("a page".into(), "<!DOCTYPE html><title>Sign in</title>".into(), Err(KeysUnavailable)),
        ("PEM".into(), "-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n".into(), Err(KeysUnavailable)),
        ("an error of OAuth".into(), r#"{"error":"server_error"}"#.into(), Err(KeysUnavailable)),
        (
            "certificates by their name".into(),
            r#"{"kid-5":"-----BEGIN CERTIFICATE-----"}"#.into(),
            Err(KeysUnavailable),
        ),
        ("cut off".into(), jwks(&[&good])[..40].to_owned(), Err(KeysUnavailable)),
        ("cut off by one byte".into(), format!("{{\"keys\":[{good}]"), Err(KeysUnavailable)),
        ("twice".into(), jwks(&[&good]).repeat(2), Err(KeysUnavailable)),
        ("byte order mark".into(), format!("\u{feff}{}", jwks(&[&good])), Err(KeysUnavailable)),
        (
            "nested deep".into(),
            format!("{{\"keys\":[{good}],\"x\":{}{}}}", "[".repeat(100_000), "]".repeat(100_000)),
            Err(KeysUnavailable),
        ),
        (
            "a megabyte".into(),
            format!("{}{}", jwks(&[&good]), " ".repeat(MAX_JWKS_BYTES - jwks(&[&good]).len())),
            Ok(()),
        ),
        (
            "more than a megabyte".into(),
            format!("{}{}", jwks(&[&good]), " ".repeat(MAX_JWKS_BYTES)),
            Err(KeysUnavailable),
        ),
        (
            "64 MiB".into(),
            format!("{{\"x\":\"{}\",{}", "x".repeat(64 << 20), &jwks(&[&good])[1..]),
            Err(KeysUnavailable),
        ),
        ("a hundred keys".into(), jwks(&[&vec!["{}"; MAX_KEYS - 1][..], &[good.as_str()]].concat()), Ok(())),
        (
            "a hundred and one".into(),
            jwks(&[&vec!["{}"; MAX_KEYS][..], &[good.as_str()]].concat()),
            Err(KeysUnavailable),
        ),
    ];
    for (more, verdict) in [
        (r#""use":"sig""#, Ok(())),
        (r#""use":"enc""#, Err(KeysUnavailable)),
        (r#""use":"SIG""#, Err(KeysUnavailable)),
        (r#""use":"sig enc""#, Err(KeysUnavailable)),
        (r#""use":"""#, Err(KeysUnavailable)),
        (r#""use":null"#, Err(KeysUnavailable)),
        (r#""use":["sig"]"#, Err(KeysUnavailable)),
        (r#""key_ops":["verify"]"#, Ok(())),
        (r#""key_ops":["sign","verify"]"#, Ok(())),
        (r#""key_ops":[]"#, Err(KeysUnavailable)),
        (r#""key_ops":["sign"]"#, Err(KeysUnavailable)),
        (r#""key_ops":["encrypt","wrapKey"]"#, Err(KeysUnavailable)),
        (r#""key_ops":["Verify"]"#, Err(KeysUnavailable)),
        (r#""key_ops":"verify""#, Err(KeysUnavailable)),
        (r#""key_ops":null"#, Err(KeysUnavailable)),
        (r#""use":"enc","key_ops":["verify"]"#, Err(KeysUnavailable)),
        (r#""use":"sig","key_ops":["deriveBits"]"#, Err(KeysUnavailable)),
        (r#""alg":"ES256""#, Ok(())),
        (r#""alg":"none""#, Err(KeysUnavailable)),
        (r#""alg":"HS256""#, Err(KeysUnavailable)),
        (r#""alg":"es256""#, Err(KeysUnavailable)),
        (r#""alg":"ES384""#, Err(KeysUnavailable)),
        (r#""alg":"ECDH-ES""#, Err(KeysUnavailable)),
        (r#""alg":null"#, Err(KeysUnavailable)),
        (r#""alg":["ES256"]"#, Err(KeysUnavailable)),
        (r#""d":"AAAA""#, Err(KeysUnavailable)),
        (r#""d":"""#, Err(KeysUnavailable)),
        (r#""k":"AAAA""#, Err(KeysUnavailable)),
        (r#""x5c":["AAAA"],"x5u":"https://evil.example/","x5t":"AA""#, Ok(())),
        (r#""exp":0,"nbf":99999999999"#, Ok(())),
    ] {
        documents.push((more.to_owned(), jwks(&[&with(more)]), verdict));
    }
    for kid in ["1", "null", "[]", r#"["kid-5"]"#, "\"\"", r#""kid-5 ""#, r#""kid-5\u0000""#, r#""kid-5\n""#] {
        let jwk = format!(r#"{{{members},"kid":{kid}}}"#);
        documents.push((format!("kid {kid}"), jwks(&[&jwk]), Err(KeysUnavailable)));
    }
    let jwk = format!(r#"{{{members},"kid":"{}"}}"#, "k".repeat(64 * 1024));
    documents.push(("kid of 64 KiB".to_owned(), jwks(&[&jwk]), Err(KeysUnavailable)));
    documents
}

/// Each document is judged by a gate that knows no keys, and by one that knows another key already: there a document
/// that is no good leaves that one as it was, and nothing else takes its place (CVE-2026-31837).
#[test]
fn no_document_makes_a_key_good_for_what_it_is_not_meant_for() {
    let (key, known) = (TestKey::new(5), TestKey::new(7));
    let token = key.token(key.header(), claims_of_k());
    let nameless = key.token(r#"{"alg":"ES256"}"#, claims_of_k());
    let unsigned = format!("{}.{}.", b64(r#"{"alg":"none"}"#), b64(claims_of_k()));
    let token_of_known = known.token(known.header(), claims_of_k());
    let mut failed = Vec::new();
    let documents = documents(&key);
    let count = documents.len();
    for (name, document, expected) in documents {
        let expected = expected.map_err(TokenError::as_str);
        let fresh = gate(&[Algorithm::ES256]);
        load(&fresh, &[Algorithm::ES256], document.as_bytes());
        let settled = gate(&[Algorithm::ES256]);
        settled.verifier.swap_keys(K, known.key_set());
        load(&settled, &[Algorithm::ES256], document.as_bytes());
        let was_taken = settled.verifier.keys(K).keys()[0].kid().is_none_or(|kid| kid.as_str() != "kid-7");
        let (expected_then, known_then) =
            if was_taken { (expected, Err("unknown_key")) } else { (Err("unknown_key"), Ok(())) };
        for time in 1..=3 {
            let verdict = fresh.verdict(token.as_bytes(), now());
            if verdict != expected {
                failed.push(format!("{name}: fresh, time {time}: {verdict:?}, expected {expected:?}"));
            }
            let verdict = settled.verdict(token.as_bytes(), now());
            if verdict != expected_then {
                failed.push(format!("{name}: settled, time {time}: {verdict:?}, expected {expected_then:?}"));
            }
            let verdict = settled.verdict(token_of_known.as_bytes(), now());
            if verdict != known_then {
                failed.push(format!("{name}: the key known before, time {time}: {verdict:?}, expected {known_then:?}"));
            }
            for gate in [&fresh, &settled] {
                if gate.verdict(unsigned.as_bytes(), now()).is_ok() {
                    failed.push(format!("{name}: no signature at all, time {time}"));
                }
            }
            if expected == Err("keys_unavailable") && fresh.verdict(nameless.as_bytes(), now()) != expected {
                failed.push(format!("{name}: without kid, time {time}"));
            }
        }
    }
    println!("documents of keys: {count} cases");
    assert!(failed.is_empty(), "{} of {count} failed:\n{}", failed.len(), failed.join("\n"));
}

/// From a message to its signature.
type Sign = Box<dyn Fn(&[u8]) -> Vec<u8>>;

/// One key of each kind, and how it signs.
struct Signer {
    algorithm: Algorithm,
    jwk: String,
    sign: Sign,
}

fn rsa(algorithm: Algorithm, encoding: &'static dyn RsaEncoding, name: &str) -> Signer {
    let pair = RsaKeyPair::generate(KeySize::Rsa2048).unwrap();
    let parts = signature::RsaPublicKeyComponents::<Vec<u8>>::from(pair.public_key());
    let jwk =
        format!(r#"{{"kty":"RSA","alg":"{name}","kid":"{name}","n":"{}","e":"{}"}}"#, b64(&parts.n), b64(&parts.e));
    let sign = move |message: &[u8]| {
        let mut signature = vec![0; pair.public_modulus_len()];
        pair.sign(encoding, &SystemRandom::new(), message, &mut signature).unwrap();
        signature
    };
    Signer { algorithm, jwk, sign: Box::new(sign) }
}

fn signers() -> Vec<(&'static str, Signer)> {
    let p256 = TestKey::new(5);
    let p256_jwk = format!(r#"{{{},"kid":"ES256"}}"#, p256.jwk_members());
    let p384 = EcdsaKeyPair::generate(&ECDSA_P384_SHA384_FIXED_SIGNING).unwrap();
    let (x, y) = p384.public_key().as_ref()[1..].split_at(48);
    let p384_jwk = format!(r#"{{"kty":"EC","crv":"P-384","kid":"ES384","x":"{}","y":"{}"}}"#, b64(x), b64(y));
    let ed = Ed25519KeyPair::generate().unwrap();
    let ed_jwk = format!(r#"{{"kty":"OKP","crv":"Ed25519","kid":"EdDSA","x":"{}"}}"#, b64(ed.public_key().as_ref()));
    let es256 = move |message: &[u8]| p256.sign(std::str::from_utf8(message).unwrap());
    let es384 = move |message: &[u8]| p384.sign(&SystemRandom::new(), message).unwrap().as_ref().to_vec();
    let eddsa = move |message: &[u8]| ed.sign(message).as_ref().to_vec();
    vec![
        ("ES256", Signer { algorithm: Algorithm::ES256, jwk: p256_jwk, sign: Box::new(es256) }),
        ("ES384", Signer { algorithm: Algorithm::ES384, jwk: p384_jwk, sign: Box::new(es384) }),
        ("EdDSA", Signer { algorithm: Algorithm::EdDSA, jwk: ed_jwk, sign: Box::new(eddsa) }),
        ("RS256", rsa(Algorithm::RS256, &signature::RSA_PKCS1_SHA256, "RS256")),
        ("RS512", rsa(Algorithm::RS512, &signature::RSA_PKCS1_SHA512, "RS512")),
        ("PS256", rsa(Algorithm::PS256, &signature::RSA_PSS_SHA256, "PS256")),
    ]
}

/// RFC 8725 §3.1: every key with every name of an algorithm, and signatures of every other key.
#[test]
fn a_key_is_used_with_its_one_algorithm_whatever_the_token_says() {
    let signers = signers();
    let algorithms: Vec<Algorithm> = signers.iter().map(|(_, signer)| signer.algorithm).collect();
    let keys: Vec<&str> = signers.iter().map(|(_, signer)| signer.jwk.as_str()).collect();
    let gate = gate(&algorithms);
    load(&gate, &algorithms, jwks(&keys).as_bytes());
    assert_eq!(gate.verifier.keys(K).len(), signers.len());
    let (mut failed, mut count) = (Vec::new(), 0);
    for (kid, _) in &signers {
        for alg in ["ES256", "ES384", "EdDSA", "RS256", "RS384", "RS512", "PS256", "PS384", "HS256", "none"] {
            for (by, signer) in &signers {
                let signed = format!("{}.{}", b64(format!(r#"{{"alg":"{alg}","kid":"{kid}"}}"#)), b64(claims_of_k()));
                let token = format!("{signed}.{}", b64((signer.sign)(signed.as_bytes())));
                let expected = if alg != *kid {
                    Err(WrongAlgorithm.as_str())
                } else if by != kid {
                    Err(BadSignature.as_str())
                } else {
                    Ok(())
                };
                count += 1;
                for time in 1..=3 {
                    let verdict = gate.verdict(token.as_bytes(), now());
                    if verdict != expected {
                        failed.push(format!(
                            "kid {kid}, alg {alg}, signed by {by}, time {time}: {verdict:?}, not {expected:?}"
                        ));
                    }
                }
            }
        }
    }
    println!("keys and algorithms: {count} cases");
    assert_eq!(gate.cache.borrow().len(), signers.len(), "what passed, and nothing else");
    assert!(failed.is_empty(), "{} of {count} failed:\n{}", failed.len(), failed.join("\n"));
}
