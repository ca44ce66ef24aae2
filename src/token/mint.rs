//! Own access tokens.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Map, Value};
use zeroize::Zeroizing;

use super::json;
use super::signing::SigningKeys;
use crate::clock::UnixTime;
use crate::ids::{SessionId, UserId};

/// Claims that are Portcullis's to write. Extra claims may not have these names.
pub const RESERVED_CLAIMS: [&str; 8] = ["iss", "sub", "aud", "exp", "nbf", "iat", "jti", "sid"];

/// What an access token says.
#[derive(Clone, Copy, Debug)]
pub struct AccessClaims<'a> {
    /// `iss`
    pub issuer: &'a str,
    /// `aud`
    pub audience: &'a str,
    /// `sub`
    pub user: &'a UserId,
    /// `sid`
    pub session: SessionId,
    /// `iat`, cut to whole seconds.
    pub issued_at: UnixTime,
    /// `exp`, cut to whole seconds.
    pub expires_at: UnixTime,
    /// More members. Those named in [`RESERVED_CLAIMS`] are left out.
    pub extra: Option<&'a Map<String, Value>>,
}

/// A signed access token (RFC 7515 §7.1) with header `{"alg":"ES256","typ":"JWT","kid":…}`.
///
/// The text is overwritten when dropped. One signature, about 15 µs.
pub fn mint(keys: &SigningKeys, claims: &AccessClaims<'_>) -> Zeroizing<String> {
    let key = keys.current();
    let json = claims_json(claims);
    // All of it at once: a buffer that grew would leave copies behind that nobody overwrites.
    let bytes = key.header().len() + 1 + (json.len() * 4).div_ceil(3) + 1 + ENCODED_SIGNATURE_BYTES;
    let mut token = Zeroizing::new(String::with_capacity(bytes));
    token.push_str(key.header());
    token.push('.');
    URL_SAFE_NO_PAD.encode_string(&json, &mut token);
    let signature = key.sign(token.as_bytes());
    token.push('.');
    URL_SAFE_NO_PAD.encode_string(signature, &mut token);
    token
}

/// 64 bytes in base64url.
const ENCODED_SIGNATURE_BYTES: usize = 86;

fn claims_json(claims: &AccessClaims<'_>) -> String {
    let text = |text: &str| Value::from(text).to_string();
    let mut json = format!(
        r#"{{"sid":"{}","sub":{},"iss":{},"aud":{},"iat":{},"exp":{}"#,
        claims.session,
        text(claims.user.as_str()),
        text(claims.issuer),
        text(claims.audience),
        claims.issued_at.as_secs(),
        claims.expires_at.as_secs(),
    );
    for (name, value) in claims.extra.into_iter().flatten() {
        // Also checked when they come in. Here too, as a second `sub` would let a login backend's user choose who he is.
        if !RESERVED_CLAIMS.contains(&name.as_str()) {
            json.push_str(&format!(",{}:{value}", text(name)));
        }
    }
    json.push('}');
    json
}

/// Why extra claims cannot stand in a token.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum ExtraClaimsError {
    /// One of [`RESERVED_CLAIMS`].
    #[error("claim \"{0}\" is reserved")]
    Reserved(&'static str),
    /// Longer than allowed when written as JSON.
    #[error("claims longer than {0} bytes")]
    TooLarge(usize),
    /// So deep that our own verifier would refuse the token.
    #[error("claims nested deeper than {} levels", json::MAX_DEPTH)]
    TooDeep,
}

/// Whether `extra` may stand in access tokens: no reserved name, at most `max_bytes` as JSON, and of a depth that the
/// verifier takes.
///
/// # Errors
/// [`ExtraClaimsError`]; the first that applies.
pub fn check_extra_claims(extra: &Map<String, Value>, max_bytes: usize) -> Result<(), ExtraClaimsError> {
    if let Some(reserved) = RESERVED_CLAIMS.iter().find(|name| extra.contains_key(**name)) {
        return Err(ExtraClaimsError::Reserved(reserved));
    }
    let text = serde_json::to_string(extra).unwrap_or_default();
    if text.len() > max_bytes {
        return Err(ExtraClaimsError::TooLarge(max_bytes));
    }
    match json::Object::parse(text.as_bytes()) {
        Ok(_) => Ok(()),
        Err(_) => Err(ExtraClaimsError::TooDeep),
    }
}

#[cfg(test)]
mod tests {
    use jsonwebtoken::Algorithm;
    use serde_json::json;

    use super::super::testing::{NOW_S, now};
    use super::super::verify::{IssuerPolicy, Verifier, inspect};
    use super::super::{OWN_ISSUER, TokenError};
    use super::*;

    fn keys() -> (tempfile::TempDir, SigningKeys) {
        let dir = tempfile::tempdir().unwrap();
        let keys = SigningKeys::open_managed(dir.path(), now()).unwrap();
        (dir, keys)
    }

    fn verifier(keys: &SigningKeys) -> Verifier {
        let policy = IssuerPolicy {
            issuer: "gw \"1\"".into(),
            audience: vec!["app".into()],
            algorithms: vec![Algorithm::ES256],
            session_claim: "sid".into(),
            max_token_lifetime: None,
        };
        let verifier = Verifier::new(Some(policy), vec![], 16_384);
        verifier.swap_keys(OWN_ISSUER, keys.key_set());
        verifier
    }

    fn mint_with(keys: &SigningKeys, user: &str, extra: Option<&Map<String, Value>>) -> Zeroizing<String> {
        let claims = AccessClaims {
            issuer: "gw \"1\"",
            audience: "app",
            user: &UserId::parse(user).unwrap(),
            session: SessionId::from_bytes([0xab; 16]),
            issued_at: now(),
            expires_at: UnixTime::from_millis(NOW_S * 1000 + 3_600_999),
            extra,
        };
        mint(keys, &claims)
    }

    #[test]
    fn a_token_has_exactly_the_promised_header_and_claims() {
        let (_dir, keys) = keys();
        let (header, claims) = inspect(&mint_with(&keys, "user-1", None)).unwrap();
        let kid = keys.list()[0].kid.clone();
        assert_eq!(header, format!(r#"{{"alg":"ES256","typ":"JWT","kid":"{kid}"}}"#));
        let expected = json!({
            "sid": "ab".repeat(16), "sub": "user-1", "iss": "gw \"1\"", "aud": "app", "iat": NOW_S, "exp": NOW_S + 3600,
        });
        assert_eq!(serde_json::from_str::<Value>(&claims).unwrap(), expected);
    }

    #[test]
    fn what_is_minted_verifies() {
        let (_dir, keys) = keys();
        let verifier = verifier(&keys);
        for user in ["u", "a\\b\"c", "</script>", &"x".repeat(255)] {
            let identity = verifier.verify(&mint_with(&keys, user, None), now()).unwrap();
            assert_eq!(identity.user.as_str(), user);
            assert_eq!(identity.expires_at, UnixTime::from_secs(NOW_S + 3600));
        }
    }

    #[test]
    fn extra_claims_never_replace_a_reserved_one() {
        let (_dir, keys) = keys();
        let mut extra = json!({"role": "admin", "nested": {"a": [1, null]}, "sub\"": "x"}).as_object().unwrap().clone();
        for name in RESERVED_CLAIMS {
            extra.insert(name.to_owned(), json!("evil"));
        }
        let token = mint_with(&keys, "user-1", Some(&extra));
        assert_eq!(verifier(&keys).verify(&token, now()).unwrap().user.as_str(), "user-1");
        let claims: Value = serde_json::from_str(&inspect(&token).unwrap().1).unwrap();
        assert_eq!((&claims["role"], &claims["nested"]), (&json!("admin"), &json!({"a": [1, null]})));
        assert_eq!((&claims["nbf"], &claims["jti"], &claims["sub\""]), (&Value::Null, &Value::Null, &json!("x")));
    }

    #[test]
    fn the_buffer_is_made_once() {
        let (_dir, keys) = keys();
        for length in 1..20 {
            let token = mint_with(&keys, &"x".repeat(length), None);
            assert_eq!(token.capacity(), token.len());
        }
    }

    #[test]
    fn tokens_of_the_last_key_stay_good_until_it_is_purged() {
        let (_dir, keys) = keys();
        let ttl = std::time::Duration::from_secs(3600);
        let old = mint_with(&keys, "u", None);
        keys.rotate(now(), ttl, true).unwrap();
        let verifier = verifier(&keys);
        let old_identity = verifier.verify(&old, now()).unwrap();
        assert!(verifier.verify(&mint_with(&keys, "u", None), now()).is_ok());
        assert_eq!(keys.purge_retired(now().plus(ttl), ttl).unwrap(), 0);
        assert_eq!(keys.purge_retired(now().plus(ttl * 2), ttl).unwrap(), 1);
        verifier.swap_keys(OWN_ISSUER, keys.key_set());
        assert_eq!(verifier.verify(&old, now()).unwrap_err(), TokenError::UnknownKey);
        assert!(!verifier.still_trusts(&old_identity));
    }

    #[test]
    fn extra_claims_are_checked_before_they_are_kept() {
        let check = |value: Value, max: usize| check_extra_claims(value.as_object().unwrap(), max);
        assert_eq!(check(json!({}), 2), Ok(()));
        assert_eq!(check(json!({"a": "bc"}), 10), Ok(()));
        assert_eq!(check(json!({"a": "bc"}), 9), Err(ExtraClaimsError::TooLarge(9)));
        for name in RESERVED_CLAIMS {
            let extra = Map::from_iter([(name.to_owned(), json!(1))]);
            assert_eq!(check_extra_claims(&extra, 99), Err(ExtraClaimsError::Reserved(name)));
        }
        let nested = |depth| (1..depth).fold(json!({}), |inner, _| json!({ "a": inner }));
        let (_dir, keys) = keys();
        assert_eq!(check(nested(json::MAX_DEPTH), 999), Ok(()));
        let deepest = nested(json::MAX_DEPTH);
        let token = mint_with(&keys, "u", deepest.as_object());
        assert!(verifier(&keys).verify(&token, now()).is_ok(), "what passes the check verifies");
        assert_eq!(check(nested(json::MAX_DEPTH + 1), 999), Err(ExtraClaimsError::TooDeep));
    }
}
