//! Any bytes as credentials.

use std::sync::LazyLock;

use jsonwebtoken::Algorithm;

use crate::ids::SessionId;
use crate::session::RefreshKeys;
use crate::token::bearer::bearer_token;
use crate::token::testing::{TestKey, now};
use crate::token::verify::{IssuerPolicy, Verifier};
use crate::token::{OWN_ISSUER, TokenError};

/// What a value of `Authorization` may be: the token is the end of it, and has no byte that a header could not.
pub fn bearer(data: &[u8]) {
    const MOST: usize = 4096;
    if let Ok(token) = bearer_token(std::iter::once(data), MOST) {
        assert!(data.ends_with(token.as_bytes()) && token.len() <= MOST && !token.is_empty());
        assert!(data[..6].eq_ignore_ascii_case(b"bearer") && data[6..].starts_with(b" "));
        assert!(token.bytes().all(|b| b.is_ascii_graphic() && b != b','));
        let twice = bearer_token([data, data].into_iter(), MOST);
        assert_eq!(twice, Err(TokenError::MalformedAuthorization));
    }
}

static VERIFIER: LazyLock<(Verifier, TestKey)> = LazyLock::new(|| {
    let own = IssuerPolicy {
        issuer: "gw".to_owned(),
        audience: vec!["app".to_owned()],
        algorithms: vec![Algorithm::ES256],
        session_claim: "sid".to_owned(),
        max_token_lifetime: None,
    };
    let (verifier, key) = (Verifier::new(Some(own), Vec::new(), 8192), TestKey::new(1));
    verifier.swap_keys(OWN_ISSUER, key.key_set());
    (verifier, key)
});

/// A token as it is, and one whose header and claims are the two lines, properly signed: what is taken is what a plain
/// JSON parser reads, too.
pub fn token(data: &[u8]) {
    let (verifier, key) = &*VERIFIER;
    if let Ok(text) = std::str::from_utf8(data) {
        drop(verifier.verify(text, now()));
    }
    let at = data.iter().position(|b| *b == b'\n').unwrap_or(0);
    let (header, claims) = (&data[..at], data.get(at + 1..).unwrap_or_default());
    // Most headers are refused: the usual one stands for no line at all.
    let usual = key.header();
    let header = if header.is_empty() { usual.as_bytes() } else { header };
    let Ok(identity) = verifier.verify(&key.token(header, claims), now()) else { return };
    let read = |bytes| serde_json::from_slice::<serde_json::Value>(bytes).unwrap_or_default();
    let (header, claims) = (read(header), read(claims));
    assert_eq!(header["alg"], "ES256");
    assert!(header.get("crit").is_none());
    assert_eq!(claims["iss"], "gw");
    assert_eq!(claims["sub"], identity.user.as_str());
    assert_eq!(claims["sid"], identity.session.to_string());
    let audience = &claims["aud"];
    assert!(audience == "app" || audience.as_array().is_some_and(|all| all.iter().any(|one| one == "app")));
    assert!(claims["exp"].as_f64().is_some_and(|exp| exp > 0.0) && claims["iat"].is_number());
}

static REFRESH_KEYS: LazyLock<Option<RefreshKeys>> = LazyLock::new(|| RefreshKeys::unused().ok());

/// Text is no token but in the one way it was written; a token with one byte changed is none.
pub fn refresh_token(data: &[u8]) {
    let Some(keys) = &*REFRESH_KEYS else { return };
    if let Ok(text) = std::str::from_utf8(data) {
        assert!(keys.read(text).is_none(), "nobody knows the key");
    }
    let Some((&[at, with, counter, ref session @ ..], _)) = data.split_first_chunk::<19>() else { return };
    let mut bytes = [0; 16];
    bytes.copy_from_slice(session);
    let session = SessionId::from_bytes(bytes);
    let text = keys.write(session, u64::from(counter), keys.current());
    assert!(keys.read(&text).is_some_and(|read| read.session == session && read.counter == u64::from(counter)));
    let mut changed = text.as_bytes().to_vec();
    let at = usize::from(at) % changed.len();
    if changed[at] != with {
        changed[at] = with;
        let changed = String::from_utf8_lossy(&changed).into_owned();
        assert!(keys.read(&changed).is_none(), "{changed} is as good as {}", *text);
    }
}
