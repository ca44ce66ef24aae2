//! RFC 8725 §3.8, §3.10: keys belong to an issuer, and a good signature of one says nothing about another's users.

use super::super::TokenError::{
    BadSignature, KeysUnavailable, MalformedToken, TokenExpired, UnknownIssuer, UnknownKey,
};
use super::super::testing::{NOW_S, TestKey};
use super::gate::{A_KEY, B_KEY, Case, OWN_KEY, SESSION, STRANGER, case, claims, with_member};

/// Good claims of each issuer.
fn claims_of(issuer: &str) -> String {
    match issuer {
        "own" => claims(),
        "a" => with_member(
            &with_member(&with_member(&claims(), "sid", ""), "iss", "\"https://a.example\""),
            "session_id",
            "\"s-1\"",
        ),
        "b" => with_member(&claims(), "iss", "\"https://b.example\""),
        _ => with_member(&claims(), "iss", "\"https://away.example\""),
    }
}

pub(super) fn cases() -> Vec<Case> {
    let keys: [(&str, &TestKey); 4] = [("own", &OWN_KEY), ("a", &A_KEY), ("b", &B_KEY), ("stranger", &STRANGER)];
    let mut cases = Vec::new();
    for (signer, key) in keys {
        for (issuer, its_key) in &keys[..3] {
            let text = claims_of(issuer);
            let right = signer == *issuer;
            let name = format!("issuer {issuer}, signed by {signer}");
            let expected = if right { Ok(()) } else { Err(UnknownKey) };
            cases.push(case(format!("{name}, its own kid"), key.token(key.header(), &text), expected));
            let expected = if right { Ok(()) } else { Err(BadSignature) };
            if !right {
                let token = key.token(its_key.header(), &text);
                cases.push(case(format!("{name}, the issuer's kid"), token, expected));
            }
            let token = key.token(r#"{"alg":"ES256"}"#, &text);
            cases.push(case(format!("{name}, no kid"), token, expected));
            // The header's `iss` (RFC 7519 §5.3) chooses nothing.
            let header = format!(r#"{{"alg":"ES256","kid":"{}","iss":"https://a.example"}}"#, its_key.kid);
            cases.push(case(format!("{name}, an issuer in the header"), key.token(header, &text), expected));
        }
        let token = key.token(key.header(), claims_of("away"));
        cases.push(case(format!("issuer without keys, signed by {signer}"), token, Err(KeysUnavailable)));
        let token = key.token(key.header(), with_member(&claims(), "iss", "\"https://evil.example\""));
        cases.push(case(format!("issuer that nobody trusts, signed by {signer}"), token, Err(UnknownIssuer)));
        let token = key.token(r#"{"alg":"none"}"#, claims_of("away"));
        cases.push(case(format!("issuer without keys, alg none, signed by {signer}"), token, Err(KeysUnavailable)));
    }

    let of_a = |name: &str, text: &str| A_KEY.token(A_KEY.header(), with_member(&claims_of("a"), name, text));
    let day = 86_400;
    let aged = |iat: u64, exp: u64| {
        let text = with_member(&claims_of("a"), "iat", &iat.to_string());
        A_KEY.token(A_KEY.header(), with_member(&text, "exp", &exp.to_string()))
    };
    cases.extend([
        case("issuer a, no session claim", of_a("session_id", ""), Err(MalformedToken)),
        case(
            "issuer a, the session in our claim",
            A_KEY.token(
                A_KEY.header(),
                with_member(&claims_of("a"), "session_id", "").replacen('}', &format!(",\"sid\":\"{SESSION}\"}}"), 1),
            ),
            Err(MalformedToken),
        ),
        case("issuer a, both claims", of_a("sid", &format!("\"{SESSION}\"")), Ok(())),
        case(
            "issuer a, a session that breaks a header",
            of_a("session_id", r#""s\r\nX-User-Id: admin""#),
            Err(MalformedToken),
        ),
        case(
            "issuer a, a session of 256 bytes",
            of_a("session_id", &format!("\"{}\"", "s".repeat(256))),
            Err(MalformedToken),
        ),
        case("issuer a, a session that is a number", of_a("session_id", "1"), Err(MalformedToken)),
        case("issuer a, a session spelled as ours", of_a("session_id", &format!("\"{SESSION}\"")), Ok(())),
        case("issuer a, longer than it may be", aged(NOW_S - 60, NOW_S + 3650 * day), Ok(())),
        case("issuer a, older than it may be", aged(NOW_S - day - 31, NOW_S + 3650 * day), Err(TokenExpired)),
        case("issuer a, as old as it may be", aged(NOW_S - day - 30, NOW_S + 3650 * day), Ok(())),
        case(
            "issuer b, as old as it says",
            B_KEY.token(B_KEY.header(), with_member(&claims_of("b"), "iat", "0")),
            Ok(()),
        ),
    ]);
    cases
}
