//! RFC 8725 §2.1, §3.1, §3.2, §3.10, §3.11 and RFC 7515 §4.1: what a token says of itself decides nothing but which key
//! is asked.

use aws_lc_rs::hmac;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use p256::pkcs8::{EncodePublicKey as _, LineEnding};

use super::super::TokenError::{BadSignature, MalformedToken, TokenTooLarge, UnknownKey, WrongAlgorithm};
use super::super::testing::b64;
use super::gate::{A_KEY, Case, OWN_KEY, STRANGER, case, claims, own, with_header};

pub(super) fn cases() -> Vec<Case> {
    [none(), secrets(), algorithms(), key_names(), embedded(), extensions(), types()].into_iter().flatten().collect()
}

/// RFC 8725 §2.1: `none`, in the spellings that got past lists of refused ones.
fn none() -> Vec<Case> {
    let spellings = [
        ("none", "none"),
        ("None", "None"),
        ("NONE", "NONE"),
        ("nOnE", "nOnE"),
        ("NoNe", "NoNe"),
        ("noNe", "noNe"),
        ("with a space behind", "none "),
        ("with a space before", " none"),
        ("with a tab", "none\\t"),
        ("with a newline", "none\\n"),
        ("with a null", "none\\u0000"),
        ("escaped", "\\u006e\\u006f\\u006e\\u0065"),
        ("with a zero-width space", "none\\u200b"),
        ("with a Cyrillic letter", "n\\u043ene"),
        ("full-width", "\\uff4e\\uff4f\\uff4e\\uff45"),
        ("empty", ""),
        ("the word null", "null"),
        ("and ours", "none,ES256"),
    ];
    let mut cases = Vec::new();
    for (name, alg) in spellings {
        for (key, header) in [
            ("our key's name", format!(r#"{{"alg":"{alg}","typ":"JWT","kid":"kid-1"}}"#)),
            ("no name", format!(r#"{{"alg":"{alg}","typ":"JWT"}}"#)),
        ] {
            let signed = format!("{}.{}", b64(&header), b64(claims()));
            let name = format!("alg none, {name}, {key}");
            cases.push(case(format!("{name}, two parts"), signed.clone(), Err(MalformedToken)));
            cases.push(case(format!("{name}, no signature"), format!("{signed}."), Err(MalformedToken)));
            cases.push(case(format!("{name}, one byte"), format!("{signed}.AA"), Err(WrongAlgorithm)));
            // Even what our own key signed.
            cases.push(case(format!("{name}, good signature"), with_header(&header), Err(WrongAlgorithm)));
        }
    }
    cases
}

/// RFC 8725 §2.1 (CVE-2015-9235, CVE-2022-29217, CVE-2026-39999): the public key, which everybody has, as a secret.
fn secrets() -> Vec<Case> {
    let point = OWN_KEY.point();
    let public = p256::PublicKey::from_sec1_bytes(point).unwrap();
    let (pem, der) = (public.to_public_key_pem(LineEnding::LF).unwrap(), public.to_public_key_der().unwrap());
    let base64 = STANDARD.encode(der.as_bytes());
    let compressed = [&[2 | (point[64] & 1)], &point[1..33]].concat();
    let secrets: Vec<(&str, Vec<u8>)> = vec![
        ("PEM", pem.clone().into()),
        ("PEM without the last newline", pem.trim_end().into()),
        ("PEM with other line ends", pem.replace('\n', "\r\n").into()),
        (
            "PEM without its first and last line",
            pem.lines().filter(|line| !line.starts_with('-')).collect::<String>().into(),
        ),
        ("DER", der.as_bytes().into()),
        ("DER in base64", base64.into()),
        ("JWK", OWN_KEY.jwk().into()),
        ("JWK without its name", format!("{{{}}}", OWN_KEY.jwk_members()).into()),
        ("JWK with a newline", format!("{}\n", OWN_KEY.jwk()).into()),
        ("document of keys", format!("{{\"keys\":[{}]}}", OWN_KEY.jwk()).into()),
        ("point", point.into()),
        ("coordinates", point[1..].into()),
        ("coordinates in base64url", b64(&point[1..]).into()),
        ("x", point[1..33].into()),
        ("y", point[33..].into()),
        ("x in base64url", b64(&point[1..33]).into()),
        ("compressed point", compressed),
        ("name of the key", b"kid-1".into()),
        ("nothing", Vec::new()),
        ("null", vec![0; 32]),
        ("the word secret", b"secret".into()),
    ];
    let mut cases = Vec::new();
    for (name, secret) in secrets {
        for (alg, algorithm) in
            [("HS256", hmac::HMAC_SHA256), ("HS384", hmac::HMAC_SHA384), ("HS512", hmac::HMAC_SHA512)]
        {
            let signed = format!("{}.{}", b64(format!(r#"{{"alg":"{alg}","kid":"kid-1"}}"#)), b64(claims()));
            let tag = hmac::sign(&hmac::Key::new(algorithm, &secret), signed.as_bytes());
            let token = format!("{signed}.{}", b64(tag));
            cases.push(case(format!("{alg} keyed with: {name}"), token, Err(WrongAlgorithm)));
        }
        // And said to be what the key is for.
        let signed = format!("{}.{}", b64(OWN_KEY.header()), b64(claims()));
        let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, &secret), signed.as_bytes());
        let token = format!("{signed}.{}", b64(tag));
        cases.push(case(format!("ES256 by name, keyed with: {name}"), token, Err(BadSignature)));
    }
    cases
}

/// RFC 8725 §3.1: the key fixes the algorithm. Each of these has a good signature of that key.
fn algorithms() -> Vec<Case> {
    let mut cases = Vec::new();
    for alg in [
        "es256",
        "Es256",
        "ES256 ",
        " ES256",
        "ES-256",
        "ES256\\u0000",
        "ES256,ES256",
        "ES256K",
        "ES384",
        "ES512",
        "ES521",
        "P-256",
        "ECDSA",
        "SHA256withECDSA",
        "1.2.840.10045.4.3.2",
        "RS1",
        "RS256",
        "RS384",
        "RS512",
        "PS256",
        "PS384",
        "PS512",
        "EdDSA",
        "Ed25519",
        "Ed448",
        "HS1",
        "HS256",
        "dir",
        "A128KW",
        "A256GCMKW",
        "ECDH-ES",
        "RSA-OAEP",
        "RSA1_5",
        "PBES2-HS256+A128KW",
        "ML-DSA-44",
        "http://www.w3.org/2001/04/xmldsig-more#ecdsa-sha256",
    ] {
        let token = with_header(format!(r#"{{"alg":"{alg}","kid":"kid-1"}}"#));
        cases.push(case(format!("alg {alg}"), token, Err(WrongAlgorithm)));
    }
    for (name, members) in [
        ("missing", ""),
        ("null", r#""alg":null,"#),
        ("true", r#""alg":true,"#),
        ("false", r#""alg":false,"#),
        ("0", r#""alg":0,"#),
        ("-7, as COSE has it", r#""alg":-7,"#),
        ("array", r#""alg":["ES256"],"#),
        ("array of two", r#""alg":["ES256","none"],"#),
        ("object", r#""alg":{"ES256":1},"#),
        ("of another case", r#""Alg":"ES256","#),
        ("in capitals", r#""ALG":"ES256","#),
        ("with a space", r#""alg ":"ES256","#),
        ("with a null", r#""alg\u0000":"ES256","#),
        ("twice, none first", r#""alg":"none","alg":"ES256","#),
        ("twice, none last", r#""alg":"ES256","alg":"none","#),
        ("twice, one escaped", r#""alg":"ES256","\u0061lg":"none","#),
        ("twice the same", r#""alg":"ES256","alg":"ES256","#),
    ] {
        let token = with_header(format!(r#"{{{members}"kid":"kid-1"}}"#));
        cases.push(case(format!("alg: {name}"), token, Err(MalformedToken)));
    }
    cases.push(case("alg escaped", with_header(r#"{"\u0061lg":"\u0045S256","kid":"kid-1"}"#), Ok(())));
    cases.push(case(
        "alg of another case beside it",
        with_header(r#"{"alg":"ES256","ALG":"none","kid":"kid-1"}"#),
        Ok(()),
    ));
    cases
}

/// RFC 8725 §3.10: a `kid` is compared, and never a path, a query or an address.
fn key_names() -> Vec<Case> {
    let mut cases = Vec::new();
    let long = "k".repeat(5000);
    for (name, kid) in [
        ("empty", ""),
        ("unknown", "kid-7"),
        ("another issuer's", "kid-2"),
        ("in capitals", "KID-1"),
        ("prefix", "kid-"),
        ("with more behind", "kid-11"),
        ("with a space behind", "kid-1 "),
        ("with a space before", " kid-1"),
        ("with a null behind", "kid-1\\u0000"),
        ("with a null and more behind", "kid-1\\u0000.pem"),
        ("with a newline", "kid-1\\n"),
        ("percent-encoded", "kid%2d1"),
        ("with a hyphen that is none", "kid\\u20101"),
        ("path", "/dev/null"),
        ("path upwards", "../../../../../../dev/null"),
        ("path upwards to ours", "../kid-1"),
        ("path of Windows", "..\\\\..\\\\windows\\\\win.ini"),
        ("path of a process", "/proc/self/environ"),
        ("file address", "file:///etc/passwd"),
        ("address", "https://evil.example/key.pem"),
        ("address of a service inside", "http://169.254.169.254/latest/meta-data/"),
        ("address of another scheme", "gopher://127.0.0.1:6379/_FLUSHALL"),
        ("SQL", "' OR '1'='1"),
        ("SQL that selects a key", "x' UNION SELECT 'secret' -- "),
        ("SQL that drops", "kid-1'; DROP TABLE keys; --"),
        ("LDAP", "*)(objectClass=*)"),
        ("wildcard", "*"),
        ("pattern", "kid-."),
        ("command", "kid-1; id"),
        ("command in a pipe", "kid-1 | id"),
        ("command in quotes", "$(id)"),
        ("lookup of a logger", "${jndi:ldap://evil.example/a}"),
        ("template", "{{7*7}}"),
        ("format", "%s%s%s%n"),
        ("header", "kid-1\\r\\nX-User-Id: admin"),
        ("markup", "<script>alert(1)</script>"),
        ("inherited member", "__proto__"),
        ("constructor", "constructor"),
        ("index", "0"),
        ("the word null", "null"),
        ("the word undefined", "undefined"),
        ("list", "kid-1,kid-2"),
        ("256 bytes", &long[..256]),
        ("5000 bytes", &long),
    ] {
        let header = format!(r#"{{"alg":"ES256","kid":"{kid}"}}"#);
        cases.push(case(format!("kid: {name}"), with_header(&header), Err(UnknownKey)));
        cases.push(case(format!("kid: {name}, of a stranger"), STRANGER.token(&header, claims()), Err(UnknownKey)));
    }
    for kid in
        ["1", "0", "-1", "1.5", "null", "true", "false", "[]", r#"["kid-1"]"#, "{}", r#"{"kid-1":1}"#, r#"{"$ne":""}"#]
    {
        let token = with_header(format!(r#"{{"alg":"ES256","kid":{kid}}}"#));
        cases.push(case(format!("kid that is no text: {kid}"), token, Err(MalformedToken)));
    }
    let huge = with_header(format!(r#"{{"alg":"ES256","kid":"{}"}}"#, "k".repeat(64 * 1024)));
    cases.push(case("kid of 64 KiB", huge, Err(TokenTooLarge)));
    cases.push(case("kid escaped", with_header(r#"{"alg":"ES256","kid":"\u006bid-1"}"#), Ok(())));
    cases.push(case("kid twice", with_header(r#"{"alg":"ES256","kid":"kid-1","kid":"kid-1"}"#), Err(MalformedToken)));
    cases.push(case("kid in the claims only", OWN_KEY.token(r#"{"alg":"ES256"}"#, claims()), Ok(())));
    let by_a = A_KEY.token(r#"{"alg":"ES256"}"#, claims());
    cases.push(case("kid missing, of another issuer's key", by_a, Err(BadSignature)));
    cases
}

/// RFC 8725 §3.10 (CVE-2018-0114): a token does not bring the key it is to be verified with, nor say where one is.
fn embedded() -> Vec<Case> {
    let jwk = STRANGER.jwk();
    let as_ours = format!(r#"{{{},"kid":"kid-1"}}"#, STRANGER.jwk_members());
    let members = [
        ("jwk", format!(r#""jwk":{jwk}"#)),
        ("jwk with our key's name", format!(r#""jwk":{as_ours}"#)),
        ("jwk that is a secret", r#""jwk":{"kty":"oct","k":"AAAA","alg":"HS256"}"#.to_owned()),
        ("jwk as text", format!(r#""jwk":{}"#, serde_json::Value::from(&jwk[..]))),
        ("jwk that is null", r#""jwk":null"#.to_owned()),
        ("jwks", format!(r#""jwks":{{"keys":[{jwk}]}}"#)),
        ("jku", r#""jku":"https://evil.example/jwks.json""#.to_owned()),
        ("jku that looks like ours", r#""jku":"https://gw@evil.example/.well-known/jwks.json""#.to_owned()),
        ("jku of a file", r#""jku":"file:///proc/self/environ""#.to_owned()),
        ("jku that is no text", r#""jku":["https://evil.example/"]"#.to_owned()),
        ("jku and jwk", format!(r#""jku":"https://evil.example/jwks.json","jwk":{jwk}"#)),
        ("x5u", r#""x5u":"https://evil.example/chain.pem""#.to_owned()),
        ("x5c", r#""x5c":["MIIBszCCAVmgAwIBAgIUQ0"]"#.to_owned()),
        ("x5c that is empty", r#""x5c":[]"#.to_owned()),
        ("x5c that is a number", r#""x5c":1"#.to_owned()),
        ("x5t", r#""x5t":"AAAAAAAAAAAAAAAAAAAAAAAAAAA""#.to_owned()),
        ("x5t#S256", format!(r#""x5t#S256":"{}""#, b64([0; 32]))),
        ("epk", format!(r#""epk":{jwk}"#)),
        ("p2c", r#""p2s":"AAAA","p2c":2147483647"#.to_owned()),
    ];
    let mut cases = Vec::new();
    for (name, member) in members {
        let (ours, without) =
            (format!(r#"{{"alg":"ES256","kid":"kid-1",{member}}}"#), format!(r#"{{"alg":"ES256",{member}}}"#));
        let theirs = format!(r#"{{"alg":"ES256","kid":"{}",{member}}}"#, STRANGER.kid);
        cases.push(case(format!("{name}, ours by name"), STRANGER.token(&ours, claims()), Err(BadSignature)));
        cases.push(case(format!("{name}, no name"), STRANGER.token(&without, claims()), Err(BadSignature)));
        cases.push(case(format!("{name}, its own name"), STRANGER.token(&theirs, claims()), Err(UnknownKey)));
        // RFC 7515 §4: what is not understood is ignored.
        cases.push(case(format!("{name}, ours"), with_header(&ours), Ok(())));
    }
    cases
}

/// RFC 7515 §4.1.11 (CVE-2025-59420, CVE-2026-32597), RFC 7797, RFC 7516: extensions that change what is signed.
fn extensions() -> Vec<Case> {
    let mut cases = Vec::new();
    for member in [
        r#""crit":[]"#,
        r#""crit":["exp"]"#,
        r#""crit":["alg"]"#,
        r#""crit":["b64"],"b64":false"#,
        r#""crit":["b64"],"b64":true"#,
        r#""crit":["b64"]"#,
        r#""crit":["bork"],"bork":true"#,
        r#""crit":["bork"]"#,
        r#""crit":["http://example.com/UNDEFINED"],"http://example.com/UNDEFINED":true"#,
        r#""crit":["exp","exp"]"#,
        r#""crit":[""]"#,
        r#""crit":[1]"#,
        r#""crit":[null]"#,
        r#""crit":"exp""#,
        r#""crit":"""#,
        r#""crit":{}"#,
        r#""crit":null"#,
        r#""crit":false"#,
        r#""crit":0"#,
        r#""\u0063rit":["exp"]"#,
        r#""b64":false"#,
        r#""b64":true"#,
        r#""b64":null"#,
        r#""b64":0"#,
        r#""zip":"DEF""#,
        r#""zip":"GZIP""#,
        r#""zip":"""#,
        r#""zip":null"#,
        r#""enc":"A128GCM""#,
        r#""enc":null"#,
    ] {
        let token = with_header(format!(r#"{{"alg":"ES256","kid":"kid-1",{member}}}"#));
        cases.push(case(format!("extension {member}"), token, Err(MalformedToken)));
    }
    // RFC 7797 §5.2: claims as they are, signed that way.
    let signed = format!("{}.{}", b64(r#"{"alg":"ES256","b64":false,"crit":["b64"],"kid":"kid-1"}"#), "claims");
    let token = format!("{signed}.{}", b64(OWN_KEY.sign(&signed)));
    cases.push(case("extension b64 with claims that were not encoded", token, Err(MalformedToken)));
    cases.push(case("extension in capitals", with_header(r#"{"alg":"ES256","kid":"kid-1","CRIT":["exp"]}"#), Ok(())));
    cases
}

/// RFC 8725 §3.11, §3.12, RFC 9068 §2.1: a token for something else is no access token, although the same key signed
/// it.
fn types() -> Vec<Case> {
    let mut cases = Vec::new();
    let with_type = |typ: &str| with_header(format!(r#"{{"alg":"ES256","kid":"kid-1","typ":{typ}}}"#));
    for typ in ["JWT", "jwt", "Jwt", "at+jwt", "AT+JWT", "application/at+jwt", "APPLICATION/AT+JWT", "\\u004aWT"] {
        cases.push(case(format!("typ {typ}"), with_type(&format!("\"{typ}\"")), Ok(())));
    }
    for typ in [
        "",
        " ",
        "JWT ",
        " JWT",
        "JWT\\u0000",
        "JWT,at+jwt",
        "JWS",
        "JWE",
        "JOSE",
        "JOSE+JSON",
        "jose",
        "jwt+at",
        "at jwt",
        "at-jwt",
        "at+jwt;v=1",
        "application/jwt",
        "application/",
        "text/at+jwt",
        "application/application/at+jwt",
        "at+JW\\u0166",
        "logout+jwt",
        "application/logout+jwt",
        "dpop+jwt",
        "secevent+jwt",
        "id+jwt",
        "id_token",
        "refresh+jwt",
        "rt+jwt",
        "kb+jwt",
        "dc+sd-jwt",
        "sd-jwt",
        "vc+jwt",
        "passport",
        "client-authentication+jwt",
        "oauth-authz-req+jwt",
        "token-introspection+jwt",
        "entity-statement+jwt",
        "jwt-bearer",
        "wit+jwt",
        "none",
    ] {
        cases.push(case(format!("typ {typ:?}"), with_type(&format!("\"{typ}\"")), Err(MalformedToken)));
    }
    for typ in ["null", "1", "true", "[]", r#"["JWT"]"#, r#"["JWT","at+jwt"]"#, "{}"] {
        cases.push(case(format!("typ that is no text: {typ}"), with_type(typ), Err(MalformedToken)));
    }
    cases.push(case(
        "typ in capitals is another member",
        with_header(r#"{"alg":"ES256","kid":"kid-1","TYP":"logout+jwt"}"#),
        Ok(()),
    ));

    // RFC 7519 §5.2, RFC 8725 §2.3: a token in a token.
    let nested = with_header(r#"{"alg":"ES256","kid":"kid-1","typ":"JWT","cty":"JWT"}"#);
    let wrap = |cty: &str, text: &str| OWN_KEY.token(format!(r#"{{"alg":"ES256","kid":"kid-1","cty":"{cty}"}}"#), text);
    cases.push(case("cty JWT beside claims", nested.clone(), Ok(())));
    cases.push(case("cty JWT around a token", wrap("JWT", &own(claims())), Err(MalformedToken)));
    cases.push(case("cty jwt around a token", wrap("jwt", &own(claims())), Err(MalformedToken)));
    cases.push(case("cty JWT around a token as text", wrap("JWT", &format!("\"{nested}\"")), Err(MalformedToken)));
    cases.push(case("token around a token without cty", own(own(claims())), Err(MalformedToken)));
    cases.push(case(
        "token around a token of none",
        wrap("JWT", &format!("{}.{}.", b64(r#"{"alg":"none"}"#), b64(claims()))),
        Err(MalformedToken),
    ));
    cases.push(case("cty that is no text", with_header(r#"{"alg":"ES256","kid":"kid-1","cty":[1]}"#), Ok(())));
    cases
}
