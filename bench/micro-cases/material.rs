//! Keys, tokens and configurations: the same in every run, so that counts are.

use std::cell::Cell;
use std::path::Path;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::Algorithm;
use p256::ecdsa::signature::Signer as _;
use p256::ecdsa::{Signature, SigningKey};
use portcullis::clock::UnixTime;
use portcullis::config::Config;
use portcullis::route::RouteTable;
use portcullis::token::keys::KeySet;
use portcullis::token::verify::{IssuerPolicy, Verifier};
use portcullis::token::{IssuerIndex, OWN_ISSUER};
use serde_json::json;

/// When all of it takes place.
pub(crate) const NOW: UnixTime = UnixTime::from_secs(1_700_000_000);

/// How many different tokens there are of each kind: more than a count takes.
pub(crate) const TOKENS: u32 = 64;

/// An issuer's P-256 key. Its signatures are those of RFC 6979, without chance.
struct Issuer {
    name: &'static str,
    kid: &'static str,
    key: SigningKey,
}

static OWN: LazyLock<Issuer> =
    LazyLock::new(|| Issuer::new("https://gateway.example.com", "Qv7Vb2yGz6J0n3w3dYk1cS8mT5xR9aLpE4uHfKqWsZo", 7));
static FOREIGN: LazyLock<Issuer> =
    LazyLock::new(|| Issuer::new("https://id.example.com/realms/shop", "2026-01-signing", 9));

impl Issuer {
    fn new(name: &'static str, kid: &'static str, seed: u8) -> Self {
        Self { name, kid, key: SigningKey::from_slice(&[seed; 32]).expect("a number below the order of P-256") }
    }

    fn key_set(&self) -> KeySet {
        let point = self.key.verifying_key().to_encoded_point(false);
        let coordinate = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
        let (x, y) = (coordinate(point.x().expect("no infinity")), coordinate(point.y().expect("not compressed")));
        let jwks = format!(
            r#"{{"keys":[{{"kty":"EC","crv":"P-256","use":"sig","alg":"ES256","kid":"{}","x":"{x}","y":"{y}"}}]}}"#,
            self.kid
        );
        KeySet::from_jwks(jwks.as_bytes(), &[Algorithm::ES256], &KeySet::empty()).expect("a key of P-256")
    }

    fn sign(&self, claims: &str) -> String {
        let header = format!(r#"{{"alg":"ES256","typ":"JWT","kid":"{}"}}"#, self.kid);
        let signed = format!("{}.{}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(claims));
        let signature: Signature = self.key.sign(signed.as_bytes());
        format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature.to_bytes()))
    }

    fn policy(&self, max_token_lifetime: Option<Duration>) -> IssuerPolicy {
        IssuerPolicy {
            issuer: self.name.into(),
            audience: vec!["app_2f1c".into()],
            algorithms: vec![Algorithm::ES256],
            session_claim: "sid".into(),
            max_token_lifetime,
        }
    }
}

/// Knows the keys of both issuers.
pub(crate) fn verifier() -> Arc<Verifier> {
    let lifetime = Some(Duration::from_secs(86_400));
    let verifier = Verifier::new(Some(OWN.policy(None)), vec![FOREIGN.policy(lifetime)], 8192);
    verifier.swap_keys(OWN_ISSUER, OWN.key_set());
    verifier.swap_keys(IssuerIndex(1), FOREIGN.key_set());
    Arc::new(verifier)
}

/// As `portcullis` mints them.
pub(crate) fn own_token(number: u32) -> String {
    let (iat, exp) = (NOW.as_secs(), NOW.as_secs() + 3600);
    OWN.sign(&format!(
        r#"{{"sid":"{number:032x}","sub":"user_{number:08}","iss":"{}","aud":"app_2f1c","iat":{iat},"exp":{exp}}}"#,
        OWN.name
    ))
}

/// As identity providers write them: many more claims, several audiences, roles within roles.
pub(crate) fn foreign_token(number: u32) -> String {
    let claims = json!({
        "iss": FOREIGN.name,
        "sub": format!("f:41c2a3b6-0d0f-4a38-9b1e:{number:08}"),
        "aud": ["app_2f1c", "account"],
        "iat": NOW.as_secs(),
        "auth_time": NOW.as_secs(),
        "exp": NOW.as_secs() + 300,
        "jti": format!("onrtac:7c1f8d2e-6c1b-4b5e-9f0a-{number:012x}"),
        "sid": format!("a1b2c3d4-e5f6-4788-99aa-{number:012x}"),
        "typ": "Bearer",
        "azp": "shop-web",
        "acr": "1",
        "allowed-origins": ["https://shop.example.com"],
        "realm_access": { "roles": ["offline_access", "uma_authorization", "customer"] },
        "resource_access": { "account": { "roles": ["manage-account", "view-profile"] } },
        "scope": "openid email profile",
        "email_verified": true,
        "name": "Ann Lee",
        "given_name": "Ann",
        "family_name": "Lee",
        "preferred_username": "ann",
        "email": format!("ann{number}@example.com"),
    });
    FOREIGN.sign(&claims.to_string())
}

/// An own token whose claims are others than those that were signed.
pub(crate) fn forged_token(number: u32) -> String {
    let (token, other) = (own_token(number), own_token(number + TOKENS));
    let (signed, _) = token.rsplit_once('.').expect("a token has dots");
    let (_, signature) = other.rsplit_once('.').expect("a token has dots");
    format!("{signed}.{signature}")
}

/// One after the other of so many things, and then the first again.
pub(crate) fn in_turn<T: Clone>(all: Vec<T>) -> impl Fn() -> T {
    let next = Cell::new(0);
    move || {
        let one = all[next.get()].clone();
        next.set((next.get() + 1) % all.len());
        one
    }
}

pub(crate) fn config(routes: &str) -> Config {
    let text = format!(
        "[server]\nlisten = [\"127.0.0.1:0\"]\n[session]\nissuer = \"i\"\naudience = \"a\"\n[upstream.u]\n\
         servers = [\"http://127.0.0.1:1\"]\n{routes}"
    );
    Config::parse(&text, "micro.toml", Path::new("/")).expect("a sound configuration")
}

pub(crate) fn routes(routes: &str) -> RouteTable {
    RouteTable::new(&config(routes), |_| None)
}
