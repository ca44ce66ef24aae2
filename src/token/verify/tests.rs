use aws_lc_rs::hmac;
use serde_json::{Value, json};

use super::super::testing::{NOW_S, TestKey, b64, jwks, now};
use super::*;

const SESSION: &str = "00ff10a2b3c4d5e6f708192a3b4c5d6e";
const TRUSTED: IssuerIndex = IssuerIndex(1);
const NEVER_LOADED: IssuerIndex = IssuerIndex(2);

struct Fixture {
    verifier: Verifier,
    own: TestKey,
    trusted: TestKey,
}

fn policy(issuer: &str, audience: &[&str]) -> IssuerPolicy {
    IssuerPolicy {
        issuer: issuer.to_owned(),
        audience: audience.iter().map(|&a| a.to_owned()).collect(),
        algorithms: vec![Algorithm::ES256],
        session_claim: "sid".to_owned(),
        max_token_lifetime: None,
    }
}

fn fixture() -> Fixture {
    let mut trusted_policy = policy("https://id.example.com", &["app", "app2"]);
    trusted_policy.session_claim = "session_id".to_owned();
    trusted_policy.max_token_lifetime = Some(Duration::from_secs(86_400));
    let unloaded = policy("https://away.example.com", &["app"]);
    let verifier = Verifier::new(Some(policy("gw", &["app"])), vec![trusted_policy, unloaded], 8192);
    let (own, trusted) = (TestKey::new(1), TestKey::new(2));
    verifier.swap_keys(OWN_ISSUER, own.key_set());
    verifier.swap_keys(TRUSTED, trusted.key_set());
    Fixture { verifier, own, trusted }
}

/// Good claims of an own token, changed by `edit`.
fn claims(edit: impl FnOnce(&mut Value)) -> String {
    let mut claims =
        json!({"sid": SESSION, "sub": "user-1", "iss": "gw", "aud": "app", "iat": NOW_S - 10, "exp": NOW_S + 3590});
    edit(&mut claims);
    claims.to_string()
}

/// Good claims of an own token, with one member in the given spelling, or left out when that is empty.
fn claims_with(name: &str, text: &str) -> String {
    let others = claims(|c| drop(c.as_object_mut().unwrap().remove(name)));
    if text.is_empty() { others } else { format!("{},\"{name}\":{text}}}", &others[..others.len() - 1]) }
}

impl Fixture {
    fn verify(&self, token: &str) -> Result<Identity, TokenError> {
        self.verifier.verify(token, now())
    }

    fn error(&self, token: &str) -> TokenError {
        self.verify(token).unwrap_err()
    }

    /// An own token with these claims.
    fn own(&self, claims: impl AsRef<[u8]>) -> String {
        self.own.token(self.own.header(), claims)
    }

    /// The verdict on an own token with this header text and good claims.
    fn header(&self, header: &str) -> Result<(), TokenError> {
        self.verify(&self.own.token(header, claims(|_| ()))).map(|_| ())
    }

    /// The verdict on an own token with one claim in this spelling.
    fn claim(&self, name: &str, text: &str) -> Result<Identity, TokenError> {
        self.verify(&self.own(claims_with(name, text)))
    }

    /// A good token of the trusted issuer, its claims changed by `edit`.
    fn trusted(&self, edit: impl FnOnce(&mut Value)) -> String {
        let claims = claims(|c| {
            c["iss"] = json!("https://id.example.com");
            c["session_id"] = json!("their/session");
            c.as_object_mut().unwrap().remove("sid");
            edit(c);
        });
        self.trusted.token(self.trusted.header(), claims)
    }
}

#[test]
fn a_good_token_yields_its_identity() {
    let f = fixture();
    let identity = f.verify(&f.own(claims(|c| c["extra"] = json!({"roles": ["a"]})))).unwrap();
    assert_eq!(identity.user.as_str(), "user-1");
    assert_eq!(identity.session.to_string(), SESSION);
    assert_eq!(identity.issuer, OWN_ISSUER);
    assert_eq!(identity.issued_at, UnixTime::from_secs(NOW_S - 10));
    assert_eq!(identity.expires_at, UnixTime::from_secs(NOW_S + 3590));
    assert_eq!(identity.user_header, "user-1");
    assert_eq!(identity.session_header, SESSION);
    assert_eq!(identity.key.kid().unwrap().as_str(), "kid-1");

    let identity = f.verify(&f.trusted(|_| ())).unwrap();
    assert_eq!((identity.issuer, identity.session.to_string().as_str()), (TRUSTED, "their/session"));
}

#[test]
fn a_token_without_signature_is_refused_however_its_alg_is_spelled() {
    let f = fixture();
    for alg in ["none", "None", "NONE", "nOnE", "", " none", "NoNe\\u0000", "\\u006eone"] {
        let header = format!(r#"{{"alg":"{alg}","kid":"kid-1"}}"#);
        let signed = format!("{}.{}", b64(&header), b64(claims(|_| ())));
        assert_eq!(f.error(&format!("{signed}.")), TokenError::MalformedToken, "{alg}");
        assert_eq!(f.error(&signed), TokenError::MalformedToken, "{alg}");
        assert_eq!(f.error(&f.own.token(&header, claims(|_| ()))), TokenError::WrongAlgorithm, "{alg}");
        let header = format!(r#"{{"alg":"{alg}"}}"#);
        assert_eq!(f.error(&f.own.token(&header, claims(|_| ()))), TokenError::WrongAlgorithm, "{alg}");
    }
}

#[test]
fn a_token_signed_with_the_public_key_as_a_secret_is_refused() {
    let f = fixture();
    for alg in ["HS256", "HS384", "HS512"] {
        let jwk = f.own.jwk();
        for secret in [f.own.point(), &f.own.point()[1..], jwk.as_bytes()] {
            let signed = format!("{}.{}", b64(format!(r#"{{"alg":"{alg}","kid":"kid-1"}}"#)), b64(claims(|_| ())));
            let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, secret), signed.as_bytes());
            assert_eq!(f.error(&format!("{signed}.{}", b64(tag))), TokenError::WrongAlgorithm);
        }
    }
}

#[test]
fn alg_must_be_the_keys_and_one_the_issuer_may_use() {
    let f = fixture();
    for alg in ["es256", "ES256 ", "ES384", "ES512", "ES256K", "RS256", "PS256", "EdDSA"] {
        assert_eq!(f.header(&format!(r#"{{"alg":"{alg}","kid":"kid-1"}}"#)), Err(TokenError::WrongAlgorithm), "{alg}");
    }
    let strict = Verifier::new(
        Some(IssuerPolicy { algorithms: vec![Algorithm::EdDSA], ..policy("gw", &["app"]) }),
        vec![],
        8192,
    );
    strict.swap_keys(OWN_ISSUER, f.own.key_set());
    assert_eq!(strict.verify(&f.own(claims(|_| ())), now()).unwrap_err(), TokenError::WrongAlgorithm);
}

#[test]
fn a_signature_is_64_bytes_of_two_numbers_below_the_order() {
    let f = fixture();
    let signed = format!("{}.{}", b64(f.own.header()), b64(claims(|_| ())));
    let good = f.own.sign(&signed);
    let with = |signature: &[u8]| f.verify(&format!("{signed}.{}", b64(signature))).map(|_| ());
    assert_eq!(with(&good), Ok(()));

    let der = p256::ecdsa::Signature::from_slice(&good).unwrap().to_der();
    let order = [
        0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xbc, 0xe6, 0xfa, 0xad,
        0xa7, 0x17, 0x9e, 0x84, 0xf3, 0xb9, 0xca, 0xc2, 0xfc, 0x63, 0x25, 0x51_u8,
    ];
    let (r, s) = good.split_at(32);
    for bad in [
        der.as_bytes(),
        &good[..63],
        &good[1..],
        &[&good[..], &[0]].concat(),
        &[&[0], &good[..]].concat(),
        &[&[0], r, &[0], s].concat(),
        &[0; 64],
        &[&[0; 32], s].concat(),
        &[r, &[0; 32]].concat(),
        &[&order, s].concat(),
        &[r, &order].concat(),
        &[&order[..], &order].concat(),
        &[0xff; 64],
        &[s, r].concat(),
        &[0],
        &good.repeat(20),
    ] {
        assert_eq!(with(bad), Err(TokenError::BadSignature), "{bad:?}");
    }
    for bit in 0..512 {
        let mut bad = good.clone();
        bad[bit / 8] ^= 1 << (bit % 8);
        assert_eq!(with(&bad), Err(TokenError::BadSignature), "{bit}");
    }
}

#[test]
fn a_changed_header_or_claim_breaks_the_signature() {
    let f = fixture();
    let token = f.own(claims(|_| ()));
    let signature = token.rsplit_once('.').unwrap().1;
    let other = claims(|c| c["sub"] = json!("user-2"));
    assert_eq!(f.error(&format!("{}.{}.{signature}", b64(f.own.header()), b64(other))), TokenError::BadSignature);
    let header = r#"{"alg":"ES256","kid":"kid-1"}"#;
    assert_eq!(f.error(&format!("{}.{}.{signature}", b64(header), b64(claims(|_| ())))), TokenError::BadSignature);
}

#[test]
fn a_token_is_three_parts_of_canonical_base64url() {
    let f = fixture();
    let token = f.own(claims(|_| ()));
    let parts: Vec<&str> = token.split('.').collect();
    let [h, c, s] = parts[..] else { panic!() };
    for bad in [
        String::new(),
        ".".into(),
        "..".into(),
        "...".into(),
        h.into(),
        format!("{h}.{c}"),
        format!("{h}.{c}."),
        format!(".{c}.{s}"),
        format!("{h}..{s}"),
        format!("{h}.{c}.{s}."),
        format!(".{h}.{c}.{s}"),
        format!("{h}.{c}.{s}.{s}"),
        format!("{h}.{c}.{s}.{s}.{s}"),
        ".".repeat(8192),
        format!("{token} "),
        format!(" {token}"),
        format!("{token}\n"),
        format!("{h}. {c}.{s}"),
        format!("{token}="),
        format!("{token}=="),
        format!("{h}=.{c}.{s}"),
        format!("{h}.{c}==.{s}"),
        format!("{h}.{c}.{s}\u{0}"),
        format!("{h}.{c}.{s}é"),
        token.replacen('A', "%41", 1),
    ] {
        assert_eq!(f.error(&bad), TokenError::MalformedToken, "{bad:?}");
    }
    // The last character of 64 bytes carries two bits: three other spellings decode to the same bytes.
    let last = s.bytes().last().unwrap();
    let alphabet = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let value = alphabet.iter().position(|&b| b == last).unwrap();
    assert_eq!(value % 16, 0);
    for spelling in 1..16 {
        let other = char::from(alphabet[value + spelling]);
        assert_eq!(f.error(&format!("{}{other}", &token[..token.len() - 1])), TokenError::MalformedToken);
    }
    for (standard, url) in [('+', '-'), ('/', '_')] {
        if token.contains(url) {
            assert_eq!(f.error(&token.replace(url, &standard.to_string())), TokenError::MalformedToken);
        }
    }
}

#[test]
fn a_token_above_the_bound_is_not_looked_at() {
    let f = fixture();
    let long = f.own(claims(|c| c["x"] = json!("x".repeat(8192))));
    assert_eq!(f.error(&long), TokenError::TokenTooLarge);
    assert_eq!(f.error(&"\u{0}".repeat(8193)), TokenError::TokenTooLarge);
}

#[test]
fn header_and_claims_are_one_strict_json_object_each() {
    let f = fixture();
    let (header, good) = (f.own.header(), claims(|_| ()));
    for bad in [
        "",
        "{}",
        "[]",
        "null",
        "\"x\"",
        "1",
        "{",
        "{}{}",
        "{\"alg\":\"ES256\"",
        "{\"alg\":\"ES256\",}",
        "{'alg':'ES256'}",
    ] {
        assert_eq!(f.error(&f.own.token(bad, &good)), TokenError::MalformedToken, "{bad:?}");
        assert_eq!(f.error(&f.own.token(&header, bad)), TokenError::MalformedToken, "{bad:?}");
    }
    for text in [&header, &good] {
        for bad in [
            format!("\u{feff}{text}"),
            format!("{text}x"),
            format!("{text}\u{0}"),
            format!("{text}{text}"),
            format!("[{text}]"),
            text.replacen('{', "{\"x\":\"\\ud800\",", 1),
            text.replacen('{', "{\"x\":[{\"y\":\"\\udc00\"}],", 1),
            text.replacen('{', "{\"x\":1,\"x\":1,", 1),
            text.replacen('{', "{\"x\":{\"y\":1,\"y\":2},", 1),
            text.replacen('{', "{\"x\":[[{\"y\":1,\"\\u0079\":2}]],", 1),
            text.replacen('{', &format!("{{\"x\":{}{},", "[".repeat(8), "]".repeat(8)), 1),
            text.replacen('{', "{\"x\":01,", 1),
        ] {
            let (h, c) = if text == &header { (&bad, &good) } else { (&header, &bad) };
            assert_eq!(f.error(&f.own.token(h, c)), TokenError::MalformedToken, "{bad}");
        }
        let invalid = [&text.as_bytes()[..1], b"\"x\":\"\xff\",", &text.as_bytes()[1..]].concat();
        let (h, c) = if text == &header { (&invalid[..], good.as_bytes()) } else { (header.as_bytes(), &invalid[..]) };
        assert_eq!(f.error(&f.own.token(h, c)), TokenError::MalformedToken);
        let fine = text.replacen(
            '{',
            &format!(" {{\n\t\"x\":{}{},\"y\":\"\\ud83d\\ude00\",", "[".repeat(7), "]".repeat(7)),
            1,
        );
        let (h, c) = if text == &header { (&fine, &good) } else { (&header, &fine) };
        assert!(f.verify(&f.own.token(h, c)).is_ok());
    }
}

#[test]
fn a_member_given_twice_is_refused_for_each_claim_and_header_member() {
    let f = fixture();
    for name in ["sid", "sub", "iss", "aud", "iat", "exp"] {
        let text = claims(|_| ());
        let value = serde_json::from_str::<Value>(&text).unwrap()[name].to_string();
        let escaped = format!("\\u{:04x}{}", name.as_bytes()[0], &name[1..]);
        for spelling in [name, &escaped] {
            let doubled = text.replacen('{', &format!("{{\"{spelling}\":{value},"), 1);
            assert_eq!(f.error(&f.own(&doubled)), TokenError::MalformedToken, "{doubled}");
        }
    }
    for member in [r#""alg":"ES256""#, r#""kid":"kid-1""#, r#""typ":"JWT""#] {
        let header = f.own.header().replacen('{', &format!("{{{member},"), 1);
        assert_eq!(f.header(&header), Err(TokenError::MalformedToken), "{header}");
    }
}

#[test]
fn the_headers_members_are_of_the_right_type() {
    let f = fixture();
    for header in [
        r#"{"kid":"kid-1"}"#,
        r#"{"alg":null,"kid":"kid-1"}"#,
        r#"{"alg":["ES256"],"kid":"kid-1"}"#,
        r#"{"alg":256,"kid":"kid-1"}"#,
        r#"{"Alg":"ES256","kid":"kid-1"}"#,
        r#"{"alg":"ES256","kid":null}"#,
        r#"{"alg":"ES256","kid":1}"#,
        r#"{"alg":"ES256","kid":["kid-1"]}"#,
        r#"{"alg":"ES256","kid":"kid-1","typ":null}"#,
        r#"{"alg":"ES256","kid":"kid-1","typ":["JWT"]}"#,
    ] {
        assert_eq!(f.header(header), Err(TokenError::MalformedToken), "{header}");
    }
}

#[test]
fn only_access_token_types_are_taken() {
    let f = fixture();
    for typ in ["JWT", "jwt", "Jwt", "at+jwt", "AT+JWT", "application/at+jwt", "Application/AT+jwt"] {
        assert_eq!(f.header(&format!(r#"{{"alg":"ES256","kid":"kid-1","typ":"{typ}"}}"#)), Ok(()), "{typ}");
    }
    assert_eq!(f.header(r#"{"alg":"ES256","kid":"kid-1"}"#), Ok(()));
    for typ in
        ["", "logout+jwt", "dpop+jwt", "secevent+jwt", "id+jwt", "JOSE", "JWE", "JWT ", "at+jwt;x=y", "text/at+jwt"]
    {
        let header = format!(r#"{{"alg":"ES256","kid":"kid-1","typ":"{typ}"}}"#);
        assert_eq!(f.header(&header), Err(TokenError::MalformedToken), "{typ}");
    }
}

#[test]
fn critical_extensions_and_encodings_are_refused_and_unknown_members_ignored() {
    let f = fixture();
    for member in [
        r#""crit":[]"#,
        r#""crit":["exp"]"#,
        r#""crit":["b64"],"b64":false"#,
        r#""crit":null"#,
        r#""b64":true"#,
        r#""b64":false"#,
        r#""zip":"DEF""#,
        r#""zip":null"#,
        r#""enc":"A128GCM""#,
    ] {
        let header = format!(r#"{{"alg":"ES256","kid":"kid-1",{member}}}"#);
        assert_eq!(f.header(&header), Err(TokenError::MalformedToken), "{member}");
    }
    for value in ["1", "null", "true", "[]", r#"{"a":{"b":[1]}}"#, r#""x""#] {
        assert_eq!(
            f.header(&format!(r#"{{"alg":"ES256","kid":"kid-1","x":{value},"cty":{value}}}"#)),
            Ok(()),
            "{value}"
        );
    }
}

#[test]
fn a_token_cannot_bring_its_own_key() {
    let f = fixture();
    let stranger = TestKey::new(9);
    let jwk = stranger.jwk();
    for members in [
        format!(r#""jwk":{jwk}"#),
        format!(r#""jku":"https://evil.example/jwks.json","jwk":{jwk}"#),
        r#""x5u":"https://evil.example/cert","x5c":["AAAA"]"#.to_owned(),
    ] {
        let header = format!(r#"{{"alg":"ES256","kid":"kid-1",{members}}}"#);
        assert_eq!(f.error(&stranger.token(&header, claims(|_| ()))), TokenError::BadSignature);
        assert_eq!(f.header(&header), Ok(()), "ignored, not refused");
    }
    let header = format!(r#"{{"alg":"ES256","jwk":{jwk}}}"#);
    assert_eq!(f.error(&stranger.token(&header, claims(|_| ()))), TokenError::BadSignature);
}

#[test]
fn a_token_without_kid_is_good_only_while_there_is_one_key() {
    let f = fixture();
    let header = r#"{"alg":"ES256"}"#;
    assert_eq!(f.header(header), Ok(()));
    let two = jwks(&[&f.own.jwk(), &TestKey::new(3).jwk()]);
    let two = KeySet::from_jwks(two.as_bytes(), &[Algorithm::ES256], &KeySet::empty()).unwrap();
    f.verifier.swap_keys(OWN_ISSUER, two);
    assert_eq!(f.header(header), Err(TokenError::UnknownKey));
}

#[test]
fn every_claim_asked_for_is_there_and_of_the_right_type() {
    let f = fixture();
    for name in ["sid", "sub", "iss", "aud"] {
        for text in ["", "null", "1", "true", "{}", "[1]", "[null]", r#"["a",1]"#, r#"[["app"]]"#, r#"{"a":"b"}"#] {
            assert_eq!(f.claim(name, text).unwrap_err(), TokenError::MalformedToken, "{name} {text}");
        }
    }
    for name in ["sid", "sub", "iss"] {
        for text in [r#"["gw"]"#, r#"["user-1"]"#, "[]"] {
            assert_eq!(f.claim(name, text).unwrap_err(), TokenError::MalformedToken, "{name} {text}");
        }
    }
    for name in ["iat", "exp"] {
        assert_eq!(f.claim(name, "").unwrap_err(), TokenError::MalformedToken, "{name}");
    }
    for name in ["iat", "exp", "nbf"] {
        for text in [
            "null",
            "true",
            "\"1700000000\"",
            "\"\"",
            "[1700000000]",
            "{}",
            "-1",
            "-0.5",
            "-1e3",
            "1e400",
            "-1e400",
            "9007199254740992",
            "9007199254740991.9",
            "1e16",
            "18446744073709551616",
            "1e309",
        ] {
            assert_eq!(f.claim(name, text).unwrap_err(), TokenError::MalformedToken, "{name} {text}");
        }
    }
}

#[test]
fn times_may_have_a_fraction_or_an_exponent() {
    let f = fixture();
    assert_eq!(f.claim("exp", "1700003590.999").unwrap().expires_at, UnixTime::from_secs(NOW_S + 3590));
    assert_eq!(f.claim("exp", "1.7000035e9").unwrap().expires_at, UnixTime::from_secs(1_700_003_500));
    assert_eq!(f.claim("iat", "0").unwrap().issued_at, UnixTime::default());
    assert_eq!(f.claim("iat", "-0").unwrap().issued_at, UnixTime::default());
    assert_eq!(f.claim("nbf", "0.5").unwrap().issued_at, UnixTime::from_secs(NOW_S - 10));
    assert_eq!(f.claim("exp", "9007199254740991").unwrap().expires_at.as_secs(), 9_007_199_254_740_991);
}

#[test]
fn ids_that_a_header_cannot_hold_are_refused() {
    let f = fixture();
    for text in [
        r#""""#,
        r#"" a""#,
        r#""a ""#,
        r#""a\nb""#,
        r#""a\u0000""#,
        r#""a\r\nX-Admin: 1""#,
        r#""zoë""#,
        r#""\u007f""#,
        &format!("\"{}\"", "a".repeat(256)),
    ] {
        assert_eq!(f.claim("sub", text).unwrap_err(), TokenError::MalformedToken, "{text}");
        assert_eq!(f.claim("sid", text).unwrap_err(), TokenError::MalformedToken, "{text}");
        let theirs = f.trusted(|c| c["session_id"] = serde_json::from_str(text).unwrap());
        assert_eq!(f.error(&theirs), TokenError::MalformedToken, "{text}");
    }
}

#[test]
fn an_own_tokens_session_is_spelled_as_ours() {
    let f = fixture();
    for sid in [&SESSION.to_uppercase(), &SESSION[1..], "their-session"] {
        assert_eq!(f.claim("sid", &format!("\"{sid}\"")).unwrap_err(), TokenError::MalformedToken, "{sid}");
    }
}

#[test]
fn the_session_comes_from_the_issuers_claim_alone() {
    let f = fixture();
    let token = f.trusted(|c| {
        c["sid"] = json!(SESSION);
        c.as_object_mut().unwrap().remove("session_id");
    });
    assert_eq!(f.error(&token), TokenError::MalformedToken);
}

#[test]
fn an_issuer_is_known_by_its_exact_name() {
    let f = fixture();
    for iss in ["", "GW", "gw ", "gw/", "https://id.example.com/", "https://ID.example.com", "id.example.com", "other"]
    {
        assert_eq!(f.error(&f.own(claims(|c| c["iss"] = json!(iss)))), TokenError::UnknownIssuer, "{iss}");
    }
}

#[test]
fn an_issuer_cannot_sign_for_another() {
    let f = fixture();
    // Each with its own kid, which the other's set does not have ...
    assert_eq!(f.error(&f.trusted.token(f.trusted.header(), claims(|_| ()))), TokenError::UnknownKey);
    // ... and with the other's kid, ...
    assert_eq!(f.error(&f.trusted.token(f.own.header(), claims(|_| ()))), TokenError::BadSignature);
    let theirs = claims(|c| {
        c["iss"] = json!("https://id.example.com");
        c["session_id"] = json!("s");
    });
    assert_eq!(f.error(&f.own.token(f.trusted.header(), &theirs)), TokenError::BadSignature);
    // ... and with none.
    assert_eq!(f.error(&f.own.token(r#"{"alg":"ES256"}"#, &theirs)), TokenError::BadSignature);
}

#[test]
fn without_own_sessions_no_token_is_our_own() {
    let verifier = Verifier::new(None, vec![policy("https://id.example.com", &["app"])], 8192);
    assert_eq!(verifier.issuer_named("https://id.example.com"), Some(IssuerIndex(1)));
    assert_eq!(verifier.issuer_named("gw"), None);
    assert_eq!(verifier.issuers().collect::<Vec<_>>(), [IssuerIndex(1)]);
    let key = TestKey::new(1);
    verifier.swap_keys(OWN_ISSUER, key.key_set());
    verifier.swap_keys(IssuerIndex(7), key.key_set());
    assert_eq!(verifier.generation(), 0);
    assert!(verifier.keys(OWN_ISSUER).is_empty());
    assert_eq!(
        (verifier.issuer_name(OWN_ISSUER), verifier.issuer_name(IssuerIndex(1))),
        ("", "https://id.example.com")
    );
    let token = key.token(key.header(), claims(|_| ()));
    assert_eq!(verifier.verify(&token, now()).unwrap_err(), TokenError::UnknownIssuer);
}

#[test]
fn before_keys_were_loaded_nothing_is_said_about_a_token() {
    let f = fixture();
    let token = f.own(claims(|c| c["iss"] = json!("https://away.example.com")));
    assert_eq!(f.error(&token), TokenError::KeysUnavailable);
    f.verifier.swap_keys(NEVER_LOADED, f.own.key_set());
    assert!(f.verify(&token).is_ok());
    f.verifier.swap_keys(NEVER_LOADED, KeySet::empty());
    assert!(f.verify(&token).is_ok(), "known keys are not taken back");
}

#[test]
fn aud_must_name_us() {
    let f = fixture();
    for good in [r#""app""#, r#"["app"]"#, r#"["x","app"]"#, r#"["app","app"]"#] {
        assert!(f.claim("aud", good).is_ok(), "{good}");
    }
    for bad in
        [r#""""#, r#""App""#, r#""app ""#, r#""app2""#, r#""ap""#, r#""app,x""#, "[]", r#"["x","y"]"#, r#"["ap","p"]"#]
    {
        assert_eq!(f.claim("aud", bad).unwrap_err(), TokenError::WrongAudience, "{bad}");
    }
    assert!(f.verify(&f.trusted(|c| c["aud"] = json!("app2"))).is_ok());
}

#[test]
fn times_are_judged_with_one_leeway() {
    let f = fixture();
    let leeway = LEEWAY.as_secs();
    let expired = |exp: u64| f.claim("exp", &exp.to_string()).map(|_| ());
    assert_eq!(expired(NOW_S - leeway), Ok(()));
    assert_eq!(expired(NOW_S - leeway - 1), Err(TokenError::TokenExpired));
    assert_eq!(expired(0), Err(TokenError::TokenExpired));
    for name in ["iat", "nbf"] {
        assert!(f.claim(name, &(NOW_S + leeway).to_string()).is_ok(), "{name}");
        assert_eq!(
            f.claim(name, &(NOW_S + leeway + 1).to_string()).unwrap_err(),
            TokenError::TokenNotYetValid,
            "{name}"
        );
    }
    let backwards = f.own(claims(|c| c["exp"] = json!(NOW_S - 3600)));
    assert_eq!(f.error(&backwards), TokenError::TokenExpired, "exp before iat is not malformed");
}

#[test]
fn a_trusted_issuers_token_lives_no_longer_than_we_allow() {
    let f = fixture();
    let day = 86_400;
    let token = f.trusted(|c| c["exp"] = json!(NOW_S + 365 * day));
    assert_eq!(f.verify(&token).unwrap().expires_at, UnixTime::from_secs(NOW_S - 10 + day));
    let old = f.trusted(|c| {
        c["iat"] = json!(NOW_S - day - 31);
        c["exp"] = json!(NOW_S + day);
    });
    assert_eq!(f.error(&old), TokenError::TokenExpired);
    let own = f.own(claims(|c| c["exp"] = json!(NOW_S + 365 * day)));
    assert_eq!(f.verify(&own).unwrap().expires_at, UnixTime::from_secs(NOW_S + 365 * day));
}

#[test]
fn an_expired_token_still_names_the_session_to_sign_out() {
    let f = fixture();
    let token = f.own(claims(|c| c["exp"] = json!(NOW_S - 3600)));
    assert_eq!(f.verifier.verify_even_expired(&token, now()).unwrap().session.to_string(), SESSION);
    let forged = TestKey::new(9).token(f.own.header(), claims(|c| c["exp"] = json!(NOW_S - 3600)));
    assert_eq!(f.verifier.verify_even_expired(&forged, now()).unwrap_err(), TokenError::BadSignature);
}

#[test]
fn nothing_is_judged_by_claims_before_the_signature() {
    let f = fixture();
    let stranger = TestKey::new(9);
    for edit in [json!({"aud": "x"}), json!({"exp": 0}), json!({"iat": NOW_S + 9999}), json!({"nbf": NOW_S + 9999})] {
        let claims = claims(|c| c.as_object_mut().unwrap().extend(edit.as_object().unwrap().clone()));
        assert_eq!(f.error(&stranger.token(f.own.header(), claims)), TokenError::BadSignature, "{edit}");
    }
}

#[test]
fn the_verdict_does_not_depend_on_tokens_seen_before() {
    let f = fixture();
    let tokens = [
        f.own(claims(|_| ())),
        f.trusted(|_| ()),
        TestKey::new(9).token(f.own.header(), claims(|_| ())),
        f.own(claims(|c| c["exp"] = json!(0))),
        f.own(claims_with("sid", "1")),
        f.own.token(r#"{"alg":"ES256","kid":"nobody"}"#, claims(|_| ())),
    ];
    let alone: Vec<_> = tokens.iter().map(|token| fixture().verify(token).map(|i| i.issuer)).collect();
    for (i, token) in tokens.iter().enumerate() {
        for (other, expected) in tokens.iter().zip(&alone) {
            assert_eq!(f.verify(token).map(|i| i.issuer), alone[i]);
            assert_eq!(&f.verify(other).map(|i| i.issuer), expected);
        }
    }
}

#[test]
fn rotation_drops_the_identities_of_the_key_that_went_and_no_others() {
    let f = fixture();
    let next = TestKey::new(3);
    let both = jwks(&[&f.trusted.jwk(), &next.jwk()]);
    let load = |json: &str| KeySet::from_jwks(json.as_bytes(), &[Algorithm::ES256], &f.verifier.keys(TRUSTED)).unwrap();
    f.verifier.swap_keys(TRUSTED, load(&both));

    let text = claims(|c| {
        c["iss"] = json!("https://id.example.com");
        c["session_id"] = json!("s");
    });
    let by_old = f.verify(&f.trusted.token(f.trusted.header(), &text)).unwrap();
    let by_new = f.verify(&next.token(next.header(), &text)).unwrap();
    let own = f.verify(&f.own(claims(|_| ()))).unwrap();
    let generation = f.verifier.generation();
    assert!(f.verifier.still_trusts(&by_old) && f.verifier.still_trusts(&by_new));

    f.verifier.swap_keys(TRUSTED, load(&jwks(&[&next.jwk()])));
    assert_ne!(f.verifier.generation(), generation);
    assert!(!f.verifier.still_trusts(&by_old));
    assert!(f.verifier.still_trusts(&by_new));
    assert!(f.verifier.still_trusts(&own));
    assert!(Arc::ptr_eq(&by_new.key, &f.verifier.keys(TRUSTED).keys()[0]), "a key that stays is the same key");

    // Another key under the old name is another key.
    let mut imposter = TestKey::new(4);
    imposter.kid.clone_from(&next.kid);
    f.verifier.swap_keys(TRUSTED, load(&jwks(&[&imposter.jwk()])));
    assert!(!f.verifier.still_trusts(&by_new));
}

#[tokio::test]
async fn an_unknown_kid_notifies_once() {
    let f = fixture();
    let notify = f.verifier.unknown_kid(TRUSTED);
    let waits =
        async |notify: &Notify| tokio::time::timeout(Duration::from_millis(20), notify.notified()).await.is_err();
    f.verify(&f.trusted(|_| ())).unwrap();
    let mut foreign = claims(|c| {
        c["iss"] = json!("https://id.example.com");
        c["session_id"] = json!("s");
    });
    assert_eq!(f.error(&f.own.token(r#"{"alg":"RS256","kid":"kid-2"}"#, &foreign)), TokenError::WrongAlgorithm);
    let unnameable = format!(r#"{{"alg":"ES256","kid":"{}"}}"#, "k".repeat(256));
    assert_eq!(f.error(&f.own.token(unnameable, &foreign)), TokenError::UnknownKey);
    assert!(waits(&notify).await, "none of these asks for keys");

    for _ in 0..1000 {
        assert_eq!(f.error(&f.own.token(f.own.header(), &foreign)), TokenError::UnknownKey);
        foreign.push(' ');
    }
    assert!(!waits(&notify).await);
    assert!(waits(&notify).await, "a thousand are one");
    assert!(waits(&f.verifier.unknown_kid(OWN_ISSUER)).await, "the others are not asked");
}

#[test]
fn inspecting_shows_both_texts_and_judges_nothing() {
    let f = fixture();
    let token = TestKey::new(9).token(f.own.header(), r#"{"any":"thing"}"#);
    assert_eq!(inspect(&token), Ok((f.own.header(), r#"{"any":"thing"}"#.to_owned())));
    assert_eq!(inspect("a.b"), Err(TokenError::MalformedToken));
}

proptest::proptest! {
    #[test]
    fn arbitrary_text_is_refused_without_a_panic(token in "\\PC{0,64}|[A-Za-z0-9_.=-]{0,200}") {
        proptest::prop_assert!(fixture().verify(&token).is_err());
    }

    #[test]
    fn a_token_with_one_byte_changed_is_refused(at in 0_usize..400, byte in 0x21_u8..0x7f) {
        let f = fixture();
        let token = f.own(claims(|_| ()));
        let at = at % token.len();
        let mut bytes = token.clone().into_bytes();
        bytes[at] = byte;
        let changed = String::from_utf8(bytes).unwrap();
        proptest::prop_assert_eq!(f.verify(&changed).is_ok(), changed == token);
    }
}
