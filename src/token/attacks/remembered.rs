//! What is remembered of tokens: never more than that the very same text was good, and never past what would be said of
//! it now.

use std::time::Duration;

use super::super::TokenError;
use super::super::keys::KeySet;
use super::super::testing::{NOW_S, TestKey, jwks, now};
use super::gate::{A, A_KEY, Gate, OWN_KEY, STRANGER, claims, claims_with, own, with_member};
use crate::clock::{LEEWAY, UnixTime};
use jsonwebtoken::Algorithm;

fn word(error: TokenError) -> Result<(), &'static str> {
    Err(error.as_str())
}

#[test]
fn a_remembered_token_ends_and_begins_in_the_same_second_as_any_other() {
    let token = own(claims_with("nbf", &(NOW_S - 60).to_string()));
    let gate = Gate::new();
    assert_eq!(gate.verdict(token.as_bytes(), now()), Ok(()));
    let end = NOW_S + 3590 + LEEWAY.as_secs();
    let begin = NOW_S - 10 - LEEWAY.as_secs();
    // Forward, and back: the clock of a machine may be set.
    for (seconds, expected) in [
        (NOW_S, Ok(())),
        (end, Ok(())),
        (end + 1, word(TokenError::TokenExpired)),
        (end + 1_000_000, word(TokenError::TokenExpired)),
        (begin, Ok(())),
        (begin - 1, word(TokenError::TokenNotYetValid)),
        (0, word(TokenError::TokenNotYetValid)),
        (NOW_S, Ok(())),
    ] {
        let now = UnixTime::from_secs(seconds);
        assert_eq!(gate.verdict(token.as_bytes(), now), expected, "remembered, at {seconds}");
        assert_eq!(Gate::new().verdict(token.as_bytes(), now), expected, "cold, at {seconds}");
    }
}

#[test]
fn the_start_that_a_token_names_is_remembered_too() {
    let start = NOW_S - 60;
    let text = with_member(&claims_with("iat", "0"), "nbf", &start.to_string());
    let token = own(text);
    let gate = Gate::new();
    assert_eq!(gate.verdict(token.as_bytes(), now()), Ok(()));
    let before = UnixTime::from_secs(start - LEEWAY.as_secs() - 1);
    assert_eq!(gate.verdict(token.as_bytes(), before), word(TokenError::TokenNotYetValid));
    assert_eq!(gate.verdict(token.as_bytes(), before.plus(Duration::from_secs(1))), Ok(()));
}

#[test]
fn a_refusal_is_not_remembered() {
    let gate = Gate::new();
    let early = own(claims_with("nbf", &(NOW_S + 3000).to_string()));
    let next = TestKey::new(8);
    let text = with_member(&with_member(&claims(), "iss", "\"https://a.example\""), "session_id", "\"s\"");
    let by_next = next.token(next.header(), &text);
    for _ in 0..3 {
        assert_eq!(gate.verdict(early.as_bytes(), now()), word(TokenError::TokenNotYetValid));
        assert_eq!(gate.verdict(by_next.as_bytes(), now()), word(TokenError::UnknownKey));
    }
    assert!(gate.cache.borrow().is_empty());
    assert_eq!(gate.verdict(early.as_bytes(), UnixTime::from_secs(NOW_S + 3000)), Ok(()));
    gate.verifier.swap_keys(A, next.key_set());
    assert_eq!(gate.verdict(by_next.as_bytes(), now()), Ok(()));
}

#[test]
fn what_a_key_verified_is_forgotten_with_the_key_and_with_no_other() {
    let gate = Gate::new();
    let text = with_member(&with_member(&claims(), "iss", "\"https://a.example\""), "session_id", "\"s\"");
    let token = A_KEY.token(A_KEY.header(), &text);
    let ours = own(claims());
    let load = |keys: &[&str]| {
        let previous = gate.verifier.keys(A);
        KeySet::from_jwks(jwks(keys).as_bytes(), &[Algorithm::ES256], &previous).unwrap()
    };
    // Under the same name: the name is not the key.
    let imposter = format!(r#"{{{},"kid":"kid-2"}}"#, STRANGER.jwk_members());
    for (keys, expected) in [
        (vec![A_KEY.jwk()], Ok(())),
        (vec![A_KEY.jwk(), STRANGER.jwk()], Ok(())),
        (vec![STRANGER.jwk()], word(TokenError::UnknownKey)),
        (vec![A_KEY.jwk()], Ok(())),
        (vec![imposter], word(TokenError::BadSignature)),
        (vec![A_KEY.jwk()], Ok(())),
    ] {
        gate.verifier.swap_keys(A, load(&keys.iter().map(String::as_str).collect::<Vec<_>>()));
        for time in 1..=3 {
            assert_eq!(gate.verdict(token.as_bytes(), now()), expected, "{keys:?}, time {time}");
            assert_eq!(gate.verdict(ours.as_bytes(), now()), Ok(()), "another issuer's are not touched");
        }
    }
}

#[test]
fn no_part_and_no_extension_of_a_remembered_token_is_remembered() {
    let gate = Gate::new();
    let token = own(claims());
    assert_eq!(gate.verdict(token.as_bytes(), now()), Ok(()));
    let mut tried = 0;
    for at in 1..token.len() {
        // What it begins with, what it ends with, and the two changed places.
        for other in [token[..at].to_owned(), token[at..].to_owned(), format!("{}{}", &token[at..], &token[..at])] {
            let hits = gate.metrics.cache_hits.get();
            assert!(gate.verdict(other.as_bytes(), now()).is_err(), "{other}");
            assert_eq!(gate.metrics.cache_hits.get(), hits, "{other}");
            tried += 1;
        }
    }
    for byte in 0x21..0x7f_u8 {
        for other in [[token.as_bytes(), &[byte]].concat(), [&[byte], token.as_bytes()].concat()] {
            assert!(gate.verdict(&other, now()).is_err(), "{}", char::from(byte));
            tried += 1;
        }
    }
    println!("parts of a token: {tried} cases");
    assert_eq!(gate.cache.borrow().len(), 1);
}

#[test]
fn tokens_that_are_refused_drive_out_none_that_is_good() {
    let gate = Gate::new();
    let good: Vec<String> = (0..50).map(|user| own(claims_with("sub", &format!("\"user-{user}\"")))).collect();
    for token in &good {
        assert_eq!(gate.verdict(token.as_bytes(), now()), Ok(()));
    }
    let bytes = gate.cache.borrow().bytes();
    for number in 0..5000 {
        let forged = format!("{}{number}", &good[number % good.len()]);
        assert!(gate.verdict(forged.as_bytes(), now()).is_err());
    }
    assert_eq!((gate.cache.borrow().len(), gate.cache.borrow().bytes()), (good.len(), bytes));
    let hits = gate.metrics.cache_hits.get();
    for token in &good {
        assert_eq!(gate.verdict(token.as_bytes(), now()), Ok(()));
    }
    assert_eq!(gate.metrics.cache_hits.get(), hits + 50);
    assert_eq!(gate.verdict(OWN_KEY.token(OWN_KEY.header(), claims()).as_bytes(), now()), Ok(()));
}
