//! Issuers of the test's own, and tokens that are not what they seem.

use std::time::{SystemTime, UNIX_EPOCH};

use aws_lc_rs::hmac;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};

/// Stands in every claim and name that a forger chooses: it must be in no answer and no log.
pub(super) const MARK: &str = "zzmark";

pub(super) fn b64(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

pub(super) fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_secs()
}

/// Somebody with a P-256 key.
pub(super) struct Issuer {
    pub(super) name: &'static str,
    kid: &'static str,
    pair: EcdsaKeyPair,
}

impl Issuer {
    pub(super) fn new(name: &'static str, kid: &'static str) -> Self {
        Self { name, kid, pair: EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).expect("a key") }
    }

    pub(super) fn jwk(&self) -> String {
        let (x, y) = self.pair.public_key().as_ref()[1..].split_at(32);
        format!(r#"{{"kty":"EC","crv":"P-256","kid":"{}","x":"{}","y":"{}"}}"#, self.kid, b64(x), b64(y))
    }

    pub(super) fn document(&self) -> String {
        format!(r#"{{"keys":[{}]}}"#, self.jwk())
    }

    pub(super) fn header(&self) -> String {
        format!(r#"{{"alg":"ES256","typ":"JWT","kid":"{}"}}"#, self.kid)
    }

    /// Good claims, changed by `edit`.
    pub(super) fn claims(&self, edit: impl FnOnce(&mut Value)) -> String {
        let mut claims = json!({
            "iss": self.name, "aud": "app", "sub": format!("{MARK}-user"), "sid": format!("{MARK}-session"),
            "iat": now() - 5, "exp": now() + 600, "role": format!("{MARK}-role"),
        });
        edit(&mut claims);
        claims.to_string()
    }

    pub(super) fn sign(&self, signed: &str) -> Vec<u8> {
        self.pair.sign(&SystemRandom::new(), signed.as_bytes()).expect("signed").as_ref().to_vec()
    }

    pub(super) fn token(&self, header: impl AsRef<[u8]>, claims: impl AsRef<[u8]>) -> String {
        let signed = format!("{}.{}", b64(header), b64(claims));
        let signature = self.sign(&signed);
        format!("{signed}.{}", b64(signature))
    }
}

/// A token, and the status and reason that it is refused with.
pub(super) struct Forged {
    pub(super) name: &'static str,
    pub(super) token: String,
    pub(super) status: u16,
    pub(super) reason: &'static str,
}

/// Of `a`, whom the gateway trusts as it trusts `b`, and of a stranger; `own` is a token of the gateway itself. Keys of
/// `https://away.test` were never loaded.
pub(super) fn tokens(a: &Issuer, b: &Issuer, own: &str) -> Vec<Forged> {
    let stranger = Issuer::new("https://evil.test", "zzmark-kid");
    let good = a.claims(|_| ());
    let header = |header: &str| a.token(header, &good);
    let claim = |edit: &dyn Fn(&mut Value)| a.token(a.header(), a.claims(edit));
    let text = |more: &str| a.token(a.header(), good.replacen('{', &format!("{{{more},"), 1));
    let signed = format!("{}.{}", b64(a.header()), b64(&good));
    let fine = a.sign(&signed);
    let signature = |bytes: &[u8]| format!("{signed}.{}", b64(bytes));
    let unsigned =
        |alg: &str, end: &str| format!("{}.{}{end}", b64(format!(r#"{{"alg":"{alg}","kid":"a"}}"#)), b64(&good));
    let keyed = |alg: &str, secret: &[u8]| {
        let signed = format!("{}.{}", b64(format!(r#"{{"alg":"{alg}","kid":"a"}}"#)), b64(&good));
        let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, secret), signed.as_bytes());
        format!("{signed}.{}", b64(tag))
    };
    let invalid_utf8 = [&good.as_bytes()[..1], b"\"x\":\"\xff\",", &good.as_bytes()[1..]].concat();
    let overlong = [&good.as_bytes()[..1], b"\"s\xc1\xb5b\":\"zzmark\",", &good.as_bytes()[1..]].concat();
    let embedded = format!(r#"{{"alg":"ES256","kid":"a","jwk":{}}}"#, stranger.jwk());
    let (own_signed, own_signature) = own.rsplit_once('.').expect("a token");
    let own_claims = a.claims(|c| {
        c["iss"] = json!("https://id.test");
        c["sid"] = json!("00ff10a2b3c4d5e6f708192a3b4c5d6e");
    });
    let der = p256::ecdsa::Signature::from_slice(&fine).expect("a signature").to_der();
    let mut flipped = fine.clone();
    flipped[40] ^= 1;

    let table: Vec<(&'static str, String, &'static str)> = vec![
        ("alg none, no signature", unsigned("none", "."), "malformed_token"),
        ("alg NONE, no signature", unsigned("NONE", "."), "malformed_token"),
        ("alg nOnE, two parts", unsigned("nOnE", ""), "malformed_token"),
        ("alg none, one byte", unsigned("none", ".AA"), "wrong_algorithm"),
        ("alg None, good signature", header(r#"{"alg":"None","kid":"a"}"#), "wrong_algorithm"),
        ("HS256 keyed with the JWK", keyed("HS256", a.jwk().as_bytes()), "wrong_algorithm"),
        ("HS256 keyed with the document", keyed("HS256", a.document().as_bytes()), "wrong_algorithm"),
        ("HS512 keyed with nothing", keyed("HS512", b""), "wrong_algorithm"),
        ("ES256 by name, an HMAC", keyed("ES256", a.jwk().as_bytes()), "bad_signature"),
        ("RS256 with the key of ES256", header(r#"{"alg":"RS256","kid":"a"}"#), "wrong_algorithm"),
        ("ES384 with the key of ES256", header(r#"{"alg":"ES384","kid":"a"}"#), "wrong_algorithm"),
        ("EdDSA with the key of ES256", header(r#"{"alg":"EdDSA","kid":"a"}"#), "wrong_algorithm"),
        ("es256", header(r#"{"alg":"es256","kid":"a"}"#), "wrong_algorithm"),
        ("alg twice", header(r#"{"alg":"ES256","alg":"none","kid":"a"}"#), "malformed_token"),
        ("alg as a list", header(r#"{"alg":["ES256"],"kid":"a"}"#), "malformed_token"),
        ("alg missing", header(r#"{"kid":"a"}"#), "malformed_token"),
        ("signature of a stranger", stranger.token(a.header(), &good), "bad_signature"),
        ("signature in DER", signature(der.as_bytes()), "bad_signature"),
        ("signature of 63 bytes", signature(&fine[..63]), "bad_signature"),
        ("signature of 65 bytes", signature(&[&fine[..], &[0]].concat()), "bad_signature"),
        ("signature of 128 bytes", signature(&fine.repeat(2)), "bad_signature"),
        ("signature of zeros", signature(&[0; 64]), "bad_signature"),
        ("signature of ones", signature(&[0xff; 64]), "bad_signature"),
        ("r is zero", signature(&[&[0; 32], &fine[32..]].concat()), "bad_signature"),
        ("s is zero", signature(&[&fine[..32], &[0; 32]].concat()), "bad_signature"),
        ("a bit of s changed", signature(&flipped), "bad_signature"),
        ("kid unknown", stranger.token(stranger.header(), &good), "unknown_key"),
        ("kid of a path", header(r#"{"alg":"ES256","kid":"../../zzmark/dev/null"}"#), "unknown_key"),
        ("kid of SQL", header(r#"{"alg":"ES256","kid":"zzmark' UNION SELECT 'x"}"#), "unknown_key"),
        ("kid of an address", header(r#"{"alg":"ES256","kid":"http://127.0.0.1:9/zzmark"}"#), "unknown_key"),
        ("kid that breaks a log", header(r#"{"alg":"ES256","kid":"a\r\nzzmark: 1"}"#), "unknown_key"),
        ("kid empty", header(r#"{"alg":"ES256","kid":""}"#), "unknown_key"),
        ("kid of another issuer", header(r#"{"alg":"ES256","kid":"b"}"#), "unknown_key"),
        ("kid that is null", header(r#"{"alg":"ES256","kid":null}"#), "malformed_token"),
        ("kid that is an object", header(r#"{"alg":"ES256","kid":{"zzmark":1}}"#), "malformed_token"),
        ("kid of 6 KiB", header(&format!(r#"{{"alg":"ES256","kid":"{}"}}"#, "zzmark".repeat(1100))), "token_too_large"),
        ("jwk in the header", stranger.token(&embedded, &good), "bad_signature"),
        (
            "jku in the header",
            stranger.token(r#"{"alg":"ES256","kid":"a","jku":"https://evil.test/zzmark"}"#, &good),
            "bad_signature",
        ),
        (
            "x5u in the header",
            stranger.token(r#"{"alg":"ES256","kid":"a","x5u":"https://evil.test/zzmark"}"#, &good),
            "bad_signature",
        ),
        ("x5c in the header", stranger.token(r#"{"alg":"ES256","kid":"a","x5c":["zzmark"]}"#, &good), "bad_signature"),
        ("crit", header(r#"{"alg":"ES256","kid":"a","crit":["zzmark"],"zzmark":1}"#), "malformed_token"),
        ("b64 false", header(r#"{"alg":"ES256","kid":"a","crit":["b64"],"b64":false}"#), "malformed_token"),
        ("zip", header(r#"{"alg":"ES256","kid":"a","zip":"DEF"}"#), "malformed_token"),
        ("typ logout+jwt", header(r#"{"alg":"ES256","kid":"a","typ":"logout+jwt"}"#), "malformed_token"),
        ("typ dpop+jwt", header(r#"{"alg":"ES256","kid":"a","typ":"dpop+jwt"}"#), "malformed_token"),
        ("typ that is a number", header(r#"{"alg":"ES256","kid":"a","typ":1}"#), "malformed_token"),
        (
            "a token in a token",
            a.token(r#"{"alg":"ES256","kid":"a","cty":"JWT"}"#, a.token(a.header(), &good)),
            "malformed_token",
        ),
        ("sub twice", text(r#""sub":"zzmark-admin""#), "malformed_token"),
        ("sub twice, escaped", text(r#""s\u0075b":"zzmark-admin""#), "malformed_token"),
        ("lone surrogate", text(r#""x":"\ud800""#), "malformed_token"),
        ("null byte", text("\"x\":\"\0\""), "malformed_token"),
        ("nested deep", text(&format!("\"x\":{}{}", "[".repeat(1000), "]".repeat(1000))), "malformed_token"),
        ("not UTF-8", a.token(a.header(), invalid_utf8), "malformed_token"),
        ("overlong UTF-8", a.token(a.header(), overlong), "malformed_token"),
        ("byte order mark", a.token(a.header(), format!("\u{feff}{good}")), "malformed_token"),
        ("claims twice", a.token(a.header(), format!("{good}{good}")), "malformed_token"),
        ("claims in a list", a.token(a.header(), format!("[{good}]")), "malformed_token"),
        ("exp as text", claim(&|c| c["exp"] = json!("9999999999")), "malformed_token"),
        ("exp missing", claim(&|c| drop(c.as_object_mut().expect("claims").remove("exp"))), "malformed_token"),
        ("exp of 2^63", claim(&|c| c["exp"] = json!(1_u64 << 63)), "malformed_token"),
        ("exp negative", claim(&|c| c["exp"] = json!(-1)), "malformed_token"),
        ("exp past", claim(&|c| c["exp"] = json!(now() - 60)), "token_expired"),
        ("exp 0", claim(&|c| c["exp"] = json!(0)), "token_expired"),
        ("nbf to come", claim(&|c| c["nbf"] = json!(now() + 300)), "token_not_yet_valid"),
        ("nbf that is null", claim(&|c| c["nbf"] = json!(null)), "malformed_token"),
        ("iat to come", claim(&|c| c["iat"] = json!(now() + 300)), "token_not_yet_valid"),
        ("aud of another", claim(&|c| c["aud"] = json!("zzmark")), "wrong_audience"),
        ("aud that begins like ours", claim(&|c| c["aud"] = json!(["ap", "apps", "zzmark"])), "wrong_audience"),
        ("aud with a number in it", claim(&|c| c["aud"] = json!(["app", 1])), "malformed_token"),
        ("aud empty", claim(&|c| c["aud"] = json!([])), "wrong_audience"),
        ("iss unknown", claim(&|c| c["iss"] = json!("https://zzmark.test")), "unknown_issuer"),
        ("iss with a slash behind", claim(&|c| c["iss"] = json!("https://a.test/")), "unknown_issuer"),
        ("iss as a list", claim(&|c| c["iss"] = json!(["https://a.test"])), "malformed_token"),
        ("sub that breaks a header", claim(&|c| c["sub"] = json!("zzmark\r\nX-Admin: 1")), "malformed_token"),
        ("sub empty", claim(&|c| c["sub"] = json!("")), "malformed_token"),
        ("sub of 256 bytes", claim(&|c| c["sub"] = json!("z".repeat(256))), "malformed_token"),
        ("sub that is no ASCII", claim(&|c| c["sub"] = json!("zzmark-zo\u{eb}")), "malformed_token"),
        ("sid that breaks a header", claim(&|c| c["sid"] = json!("zzmark\nX-Admin: 1")), "malformed_token"),
        ("sid missing", claim(&|c| drop(c.as_object_mut().expect("claims").remove("sid"))), "malformed_token"),
        ("of b, as if of a, its own kid", b.token(b.header(), &good), "unknown_key"),
        ("of b, as if of a, the kid of a", b.token(a.header(), &good), "bad_signature"),
        ("of b, as if of a, no kid", b.token(r#"{"alg":"ES256"}"#, &good), "bad_signature"),
        ("of a, as if our own", a.token(a.header(), &own_claims), "unknown_key"),
        ("of a, as if our own, no kid", a.token(r#"{"alg":"ES256"}"#, &own_claims), "unknown_key"),
        (
            "our own header and signature, other claims",
            {
                let (own_header, _) = own_signed.split_once('.').expect("a token");
                format!("{own_header}.{}.{own_signature}", b64(&own_claims))
            },
            "bad_signature",
        ),
        ("our own, cut", own[..own.len() - 2].to_owned(), "bad_signature"),
        ("our own, no signature", format!("{own_signed}."), "malformed_token"),
        ("our own, dot behind", format!("{own}."), "malformed_token"),
        ("our own, five parts", format!("{own}.{own_signature}.{own_signature}"), "malformed_token"),
        ("our own, padded", format!("{own}=="), "malformed_token"),
        ("our own, twice", format!("{own}{own}"), "malformed_token"),
        ("our own and another", format!("{own},{own}"), "malformed_authorization"),
        (
            "flattened JSON",
            format!(r#"{{"payload":"{}","signature":"{own_signature}"}}"#, b64(&good)),
            "malformed_authorization",
        ),
        ("a word", "zzmark".to_owned(), "malformed_token"),
    ];
    let mut forged: Vec<Forged> =
        table.into_iter().map(|(name, token, reason)| Forged { name, token, status: 401, reason }).collect();
    let away = a.claims(|c| c["iss"] = json!("https://away.test"));
    for (name, token) in [
        ("of an issuer whose keys were never loaded", a.token(a.header(), &away)),
        ("of an issuer whose keys were never loaded, alg none", a.token(r#"{"alg":"none"}"#, &away)),
    ] {
        forged.push(Forged { name, token, status: 503, reason: "keys_unavailable" });
    }
    forged
}
