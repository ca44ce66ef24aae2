//! RFC 7518 §3.4 and RFC 8725 §3.3: r and s, 32 bytes each, both from 1 to n - 1, of this key over exactly these bytes.

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P384_SHA384_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair};
use p256::ecdsa::Signature;

use super::super::TokenError::{BadSignature, TokenTooLarge};
use super::super::testing::{NOW_S, TestKey, b64};
use super::gate::{A_KEY, Case, OWN_KEY, STRANGER, case, claims, claims_with};

/// n, the order of P-256.
const ORDER: [u8; 32] = [
    0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xbc, 0xe6, 0xfa, 0xad, 0xa7,
    0x17, 0x9e, 0x84, 0xf3, 0xb9, 0xca, 0xc2, 0xfc, 0x63, 0x25, 0x51,
];

/// p, the size of its field.
const FIELD: [u8; 32] = [
    0xff, 0xff, 0xff, 0xff, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff,
    0xff, 0xff, 0xff, 0xff, 0xff,
];

fn with_last(mut number: [u8; 32], last: u8) -> [u8; 32] {
    number[31] = last;
    number
}

pub(super) fn cases() -> Vec<Case> {
    let signed = format!("{}.{}", b64(OWN_KEY.header()), b64(claims()));
    let good = OWN_KEY.sign(&signed);
    let (r, s) = good.split_at(32);
    let token = |signature: &[u8]| format!("{signed}.{}", b64(signature));

    // (r, n - s) is as good as (r, s), to everybody who verifies ECDSA: a second spelling, of the same session.
    let parsed = Signature::from_slice(&good).unwrap();
    let (_, scalar) = parsed.split_scalars();
    let other_s = (-*scalar).to_bytes();
    let der = parsed.to_der();
    let mut cases = vec![
        case("signature: good", token(&good), Ok(())),
        case("signature: r and n - s, the same session", token(&[r, &other_s[..]].concat()), Ok(())),
    ];

    let (zero, one) = ([0; 32], with_last([0; 32], 1));
    let (order_less, order_more) = (with_last(ORDER, 0x50), with_last(ORDER, 0x52));
    let numbers = [
        ("0", zero),
        ("1", one),
        ("n - 1", order_less),
        ("n", ORDER),
        ("n + 1", order_more),
        ("p", FIELD),
        ("all ones", [0xff; 32]),
    ];
    for (r_name, r_value) in numbers {
        for (s_name, s_value) in numbers {
            let name = format!("signature: r is {r_name}, s is {s_name}");
            cases.push(case(name, token(&[r_value, s_value].concat()), Err(BadSignature)));
        }
        cases.push(case(format!("signature: r is {r_name}"), token(&[&r_value[..], s].concat()), Err(BadSignature)));
        cases.push(case(format!("signature: s is {r_name}"), token(&[r, &r_value[..]].concat()), Err(BadSignature)));
    }

    let padded = [&[0], r, &[0], s].concat();
    let by = |key: &TestKey, signed: &str| key.sign(signed);
    let other = format!("{}.{}", b64(OWN_KEY.header()), b64(claims_with("sub", "\"user-2\"")));
    let raw = [OWN_KEY.header().as_bytes(), b".", claims().as_bytes()].concat();
    let random = SystemRandom::new();
    let p384 = EcdsaKeyPair::generate(&ECDSA_P384_SHA384_FIXED_SIGNING).unwrap();
    let ed25519 = Ed25519KeyPair::generate().unwrap();
    let long_der = [&[0x30, 0x82, 0, 0x46], &der.as_bytes()[2..]].concat();
    let hex: String = good.iter().map(|byte| format!("{byte:02x}")).collect();
    let bad: Vec<(&str, Vec<u8>)> = vec![
        ("one byte", vec![0]),
        ("31 bytes", good[..31].into()),
        ("r alone", r.into()),
        ("63 bytes, the last missing", good[..63].into()),
        ("63 bytes, the first missing", good[1..].into()),
        ("65 bytes, zero behind", [&good[..], &[0]].concat()),
        ("65 bytes, zero before", [&[0], &good[..]].concat()),
        ("65 bytes, which key to recover behind", [&good[..], &[27]].concat()),
        ("66 bytes, each number with a zero before", padded),
        ("96 bytes, as ES384 has them", [&good[..], &[0; 32]].concat()),
        ("96 bytes, each number with zeros before", [&[0; 16], r, &[0; 16], s].concat()),
        ("128 bytes, itself twice", good.repeat(2)),
        ("192 bytes, itself three times", good.repeat(3)),
        ("132 bytes, as ES512 has them", [&[0; 34], r, &[0; 34], s].concat()),
        ("256 bytes, as RS256 has them", [&good[..], &[0; 192]].concat()),
        ("5000 bytes", [&good[..], &[0; 4936]].concat()),
        ("DER", der.as_bytes().into()),
        ("DER with a long length", long_der),
        ("DER with a zero behind", [der.as_bytes(), &[0]].concat()),
        ("DER cut to 64 bytes", der.as_bytes()[..64].into()),
        ("hexadecimal", hex.into_bytes()),
        ("base64url once more", b64(&good).into_bytes()),
        ("r and s the wrong way round", [s, r].concat()),
        ("little end first", good.iter().rev().copied().collect()),
        ("each number with its little end first", r.iter().rev().chain(s.iter().rev()).copied().collect()),
        ("r twice", [r, r].concat()),
        ("s twice", [s, s].concat()),
        ("every bit the other way", good.iter().map(|byte| !byte).collect()),
        ("of a stranger", by(&STRANGER, &signed)),
        ("of another issuer", by(&A_KEY, &signed)),
        ("over other claims", by(&OWN_KEY, &other)),
        ("over the claims alone", by(&OWN_KEY, &b64(claims()))),
        ("over the header alone", by(&OWN_KEY, &b64(OWN_KEY.header()))),
        ("over both without the dot", by(&OWN_KEY, &signed.replace('.', ""))),
        ("over both the other way round", by(&OWN_KEY, &format!("{}.{}", b64(claims()), b64(OWN_KEY.header())))),
        ("over both with a dot behind", by(&OWN_KEY, &format!("{signed}."))),
        ("over both with a newline behind", by(&OWN_KEY, &format!("{signed}\n"))),
        ("over what is encoded", by(&OWN_KEY, &String::from_utf8(raw).unwrap())),
        ("over both in lower case", by(&OWN_KEY, &signed.to_lowercase())),
        ("over nothing", by(&OWN_KEY, "")),
        ("over the whole token", by(&OWN_KEY, &token(&good))),
        ("of P-384", p384.sign(&random, signed.as_bytes()).unwrap().as_ref().into()),
        ("of Ed25519", ed25519.sign(signed.as_bytes()).as_ref().into()),
    ];
    for (name, signature) in bad {
        cases.push(case(format!("signature: {name}"), token(&signature), Err(BadSignature)));
    }
    // About 21.8 KB of signature overflowed a buffer in another verifier.
    cases.push(case("signature: 22000 bytes", token(&[&good[..], &[0; 21_936]].concat()), Err(TokenTooLarge)));
    for bit in 0..64 {
        let mut changed = good.clone();
        changed[bit] ^= 1 << (bit % 8);
        cases.push(case(format!("signature: a bit of byte {bit} changed"), token(&changed), Err(BadSignature)));
    }

    // A good signature under another header or other claims: what was remembered for it must not be found by its end.
    let moved = |name: &str, header: &str, claims: &str| {
        let token = format!("{}.{}.{}", b64(header), b64(claims), b64(&good));
        case(format!("signature: good, {name}"), token, Err(BadSignature))
    };
    let (header, text) = (OWN_KEY.header(), claims());
    cases.extend([
        moved("another user", &header, &claims_with("sub", "\"user-2\"")),
        moved("another session", &header, &claims_with("sid", "\"ffffffffffffffffffffffffffffffff\"")),
        moved("a later end", &header, &claims_with("exp", &(NOW_S + 1_000_000).to_string())),
        moved("a claim more", &header, &claims_with("admin", "true")),
        moved("a space more in the claims", &header, &text.replacen('{', "{ ", 1)),
        moved("a space more in the header", &header.replacen('{', "{ ", 1), &text),
        moved("members in another order", &header, &claims_with("sid", &format!("\"{}\"", super::gate::SESSION))),
        moved("another type", &header.replace("\"JWT\"", "\"at+jwt\""), &text),
        moved("no name of a key", r#"{"alg":"ES256","typ":"JWT"}"#, &text),
    ]);
    cases
}
