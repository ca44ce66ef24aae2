//! RFC 7519 §4.1, RFC 8725 §3.8, §3.9, §3.12: claims are there, of their type, within their bounds, and compared byte
//! for byte.

use super::super::TokenError::{self, MalformedToken, TokenExpired, TokenNotYetValid, UnknownIssuer, WrongAudience};
use super::super::testing::NOW_S;
use super::gate::{Case, SESSION, case, claims, claims_with, own};
use crate::clock::LEEWAY;

pub(super) fn cases() -> Vec<Case> {
    [presence(), names(), audiences(), issuers(), numbers(), times(), others()].into_iter().flatten().collect()
}

/// An own token with one claim in this spelling.
fn claim(name: &str, text: &str, expected: Result<(), TokenError>) -> Case {
    let shown: String = if text.len() > 60 {
        format!("{}...", text.escape_debug().take(57).collect::<String>())
    } else {
        text.escape_debug().collect()
    };
    case(format!("claim {name}: {shown} ({} bytes)", text.len()), own(claims_with(name, text)), expected)
}

/// RFC 7519 §4.1: absent, or of another type, is not the same as good.
fn presence() -> Vec<Case> {
    let mut cases = Vec::new();
    for name in ["sid", "sub", "iss", "aud", "iat", "exp"] {
        cases.push(case(format!("claim {name} missing"), own(claims_with(name, "")), Err(MalformedToken)));
        for text in [r#"{"a":"b"}"#, "[null]", "[1]", "[[]]", "[{}]"] {
            cases.push(claim(name, text, Err(MalformedToken)));
        }
        // Known to some libraries as the same name, and to the standard as another.
        let mut text = claims_with(name, "");
        let capital = name.to_uppercase();
        let value = serde_json::from_str::<serde_json::Value>(&claims()).unwrap()[name].to_string();
        text.truncate(text.len() - 1);
        let token = own(format!("{text},\"{capital}\":{value}}}"));
        cases.push(case(format!("claim {name} in capitals"), token, Err(MalformedToken)));
        let token = own(format!("{text},\"{name}\\u0000\":{value}}}"));
        cases.push(case(format!("claim {name} with a null behind its name"), token, Err(MalformedToken)));

        // RFC 7519 §4: twice, with a value that would be as good, and with one that would be better.
        let escaped = format!("\\u{:04x}{}", name.as_bytes()[0], &name[1..]);
        for (spelling, written) in [("the same", name), ("escaped", &escaped)] {
            let first = claims().replacen('{', &format!("{{\"{written}\":{value},"), 1);
            cases.push(case(format!("claim {name} twice, first {spelling}"), own(first), Err(MalformedToken)));
            let all = claims();
            let last = format!("{},\"{written}\":{value}}}", &all[..all.len() - 1]);
            cases.push(case(format!("claim {name} twice, last {spelling}"), own(last), Err(MalformedToken)));
        }
    }
    for name in ["sid", "sub", "iss"] {
        for text in
            ["null", "true", "false", "{}", "1", "-1", "1.5", "[]", r#"["gw"]"#, r#"["user-1"]"#, r#"["gw","gw"]"#]
        {
            cases.push(claim(name, text, Err(MalformedToken)));
        }
    }
    let twice = claims().replacen('{', r#"{"sub":"admin","#, 1);
    cases.push(case("claim sub twice, admin first", own(twice), Err(MalformedToken)));
    let twice = claims().replacen('}', r#","sub":"admin"}"#, 1);
    cases.push(case("claim sub twice, admin last", own(twice), Err(MalformedToken)));
    let twice = claims().replacen('}', r#","s\u0075b":"admin"}"#, 1);
    cases.push(case("claim sub twice, admin escaped", own(twice), Err(MalformedToken)));
    let nested = claims_with("sub", "").replacen('}', r#","user":{"sub":"user-1"}}"#, 1);
    cases.push(case("claim sub nested only", own(nested), Err(MalformedToken)));
    let nested = claims().replacen('}', r#","user":{"sub":"admin","iss":"x","aud":"y","exp":0}}"#, 1);
    cases.push(case("claims nested beside ours", own(nested), Ok(())));
    let escaped = claims().replace("\"sub\"", r#""\u0073\u0075\u0062""#);
    cases.push(case("claim sub escaped", own(escaped), Ok(())));
    cases
}

/// What stands in a header of ours: nothing that a backend could read as another value, or as another header.
fn names() -> Vec<Case> {
    let mut cases = Vec::new();
    let (longest, longer) = ("a".repeat(255), "a".repeat(256));
    let bad = [
        "",
        " ",
        "  ",
        " a",
        "a ",
        "\\ta",
        "a\\t",
        "a\\tb",
        "a\\nb",
        "\\na",
        "a\\n",
        "a\\rb",
        "a\\r\\nX-User-Id: admin",
        "\\u0000",
        "a\\u0000",
        "a\\u0000b",
        "a\\u0001b",
        "a\\u001bb",
        "a\\u001f",
        "\\u007f",
        "a\\u0080b",
        "a\\u0085b",
        "a\\u00a0b",
        "zo\\u00eb",
        "zo\u{eb}",
        "\\u0430dmin",
        "admin\\u200b",
        "\\u202eadmin",
        "\\ufeffadmin",
        "\\uff41dmin",
        "a\\u2028b",
        "\u{1f600}",
        "\\ud83d\\ude00",
        &longer,
    ];
    for text in bad {
        cases.push(claim("sub", &format!("\"{text}\""), Err(MalformedToken)));
        cases.push(claim("sid", &format!("\"{text}\""), Err(MalformedToken)));
    }
    // Any printable ASCII is a user.
    for text in [
        "a",
        "a b",
        "a  b",
        "0",
        "null",
        "admin, root",
        "a;b=c",
        "a:b",
        "'; DROP TABLE users; --",
        "../../etc/passwd",
        "<b>",
        "%0d%0a",
        "%00",
        "a=b&c=d",
        "${jndi:ldap://x/}",
        "auth0|5f7c",
        "arn:aws:iam::1:user/x",
        "user@example.com",
        "*",
        "-",
        "__proto__",
        "~",
        "\\/",
        "\\u0061",
        &longest,
    ] {
        cases.push(claim("sub", &format!("\"{text}\""), Ok(())));
    }
    // Our own sessions have one spelling.
    let upper = SESSION.to_uppercase();
    let spaced = format!("{SESSION} ");
    let dashed = "00ff10a2-b3c4-d5e6-f708-192a3b4c5d6e";
    let hexed = format!("0x{}", &SESSION[2..]);
    for text in [
        &upper,
        &SESSION[1..],
        &format!("{SESSION}0"),
        &spaced,
        dashed,
        &hexed,
        "AP8QorPE1eb3CBkqO0xdbg",
        "session",
        "*",
        &"g".repeat(32),
        &longest,
    ] {
        cases.push(claim("sid", &format!("\"{text}\""), Err(MalformedToken)));
    }
    cases.push(claim("sid", &format!("\"\\u0030{}\"", &SESSION[1..]), Ok(())));
    cases
}

/// RFC 7519 §4.1.3, RFC 8725 §3.9: ours, exactly, alone or among others.
fn audiences() -> Vec<Case> {
    let mut cases = Vec::new();
    let many = format!("[{}\"app\"]", "\"other\",".repeat(300));
    for text in [
        r#""app""#,
        r#"["app"]"#,
        r#"["x","app"]"#,
        r#"["app","x"]"#,
        r#"["app","app"]"#,
        r#" [ "app" ] "#,
        r#""\u0061pp""#,
        r#"["\u0061pp"]"#,
        &many,
    ] {
        cases.push(case_with_commas("aud", text, Ok(())));
    }
    for text in [
        r#""""#,
        r#""App""#,
        r#""APP""#,
        r#""app ""#,
        r#"" app""#,
        r#""ap""#,
        r#""apps""#,
        r#""app2""#,
        r#""app,x""#,
        r#""x,app""#,
        r#""app x""#,
        r#""app\u0000""#,
        r#""app\n""#,
        r#""app/""#,
        r#""https://app""#,
        r#""app.evil.example""#,
        r#""*""#,
        r#""a*""#,
        r#""gw""#,
        r#""\u0430pp""#,
        r#""ap\u0440""#,
        r#""app\u200b""#,
        "[]",
        r#"[""]"#,
        r#"["ap","p"]"#,
        r#"["x","y"]"#,
        r#"["APP"]"#,
        r#"["app "]"#,
        r#"["app,x"]"#,
        r#"["*"]"#,
    ] {
        cases.push(case_with_commas("aud", text, Err(WrongAudience)));
    }
    for text in [
        "1",
        "0",
        "-1",
        "null",
        r#"{"app":true}"#,
        r#"["app",1]"#,
        r#"[1,"app"]"#,
        r#"["app",null]"#,
        r#"["app",["app"]]"#,
        r#"[["app"]]"#,
        r#"[{"app":1}]"#,
        r#"["app",{}]"#,
        r#"["app",true]"#,
        r#"["app",]"#,
        r#"["app"#,
    ] {
        cases.push(case_with_commas("aud of another type:", text, Err(MalformedToken)));
    }
    cases
}

/// As [`claim`] of `aud`, whose lists have commas.
fn case_with_commas(name: &str, text: &str, expected: Result<(), TokenError>) -> Case {
    let others = claims_with("aud", "");
    let shown: String = text.chars().take(60).collect();
    case(format!("{name} {shown}"), own(format!("{},\"aud\":{text}}}", &others[..others.len() - 1])), expected)
}

/// RFC 8725 §3.8 (CVE-2024-53861): an issuer is its whole name.
fn issuers() -> Vec<Case> {
    let mut cases = Vec::new();
    for text in [
        "",
        " ",
        "GW",
        "Gw",
        "g",
        "w",
        "gw ",
        " gw",
        "gw/",
        "/gw",
        "gw\\u0000",
        "gw\\n",
        "gwx",
        "xgw",
        "gw,gw",
        "gw#",
        "gw?",
        "https://gw",
        "\\u0261w",
        "g\\u200bw",
        "*",
        "null",
        "https://a.example/",
        "https://a.example.",
        "https://A.example",
        "HTTPS://a.example",
        "http://a.example",
        "https://a.example:443",
        "https://a.example#x",
        "https://a.example?x",
        "https://a.example/../b.example",
        "https://a.exampl",
        "https://a.example.evil.example",
        "https://evil.example/https://a.example",
        "https://a.example@evil.example",
        "https://a.example\\\\evil",
        "a.example",
        "//a.example",
        "https://xn--a.example",
    ] {
        cases.push(claim("iss", &format!("\"{text}\""), Err(UnknownIssuer)));
    }
    cases.push(claim("iss", r#""\u0067w""#, Ok(())));
    cases
}

/// RFC 7519 §2 and RFC 8259 §6: seconds, a number that every reader reads alike (CVE-2026-25537).
fn numbers() -> Vec<Case> {
    let mut cases = Vec::new();
    for name in ["iat", "exp", "nbf"] {
        for text in [
            "null",
            "true",
            "false",
            "\"\"",
            "\"1700000000\"",
            "\"never\"",
            "[]",
            "[1700000000]",
            "{}",
            "\"2023-11-14T22:13:20Z\"",
            "-1",
            "-0.5",
            "-1e3",
            "-1700000000",
            "-9223372036854775808",
            "-1e400",
            "1e400",
            "1e309",
            "1E400",
            "9007199254740992",
            "9007199254740993",
            "9007199254740991.9",
            "9223372036854775807",
            "9223372036854775808",
            "18446744073709551615",
            "18446744073709551616",
            "1e16",
            "1e100",
            "340282366920938463463374607431768211456",
            "99999999999999999999999999999999999999999999999999",
            "NaN",
            "Infinity",
            "-Infinity",
            "01700000000",
            "00",
            "+1700000000",
            "0x6553f100",
            "1_700_000_000",
            "1700000000.",
            ".17e10",
            "1.7e",
            "1.7e+",
            "1700000000n",
            "1700000000L",
            "- 1",
            "--1",
            "1700000000 1",
        ] {
            cases.push(claim(name, text, Err(MalformedToken)));
        }
    }
    cases
}

/// RFC 7519 §4.1.4 to §4.1.6: to the second, with one leeway.
fn times() -> Vec<Case> {
    let leeway = LEEWAY.as_secs();
    let at = |name: &str, seconds: u64, expected| claim(name, &seconds.to_string(), expected);
    let mut cases = vec![
        at("exp", NOW_S + 3600, Ok(())),
        at("exp", NOW_S, Ok(())),
        at("exp", NOW_S - leeway, Ok(())),
        at("exp", NOW_S - leeway - 1, Err(TokenExpired)),
        at("exp", NOW_S - 3600, Err(TokenExpired)),
        at("exp", 0, Err(TokenExpired)),
        at("exp", 1, Err(TokenExpired)),
        at("exp", 2_147_483_647, Ok(())),
        at("exp", 2_147_483_648, Ok(())),
        at("exp", 4_294_967_295, Ok(())),
        at("exp", 4_294_967_296, Ok(())),
        at("exp", 253_402_300_800, Ok(())),
        at("exp", 1_700_003_590_000, Ok(())),
        at("exp", 9_007_199_254_740_991, Ok(())),
        claim("exp", "-0", Err(TokenExpired)),
        claim("exp", "0.0", Err(TokenExpired)),
        claim("exp", "-0.0e-5", Err(TokenExpired)),
        claim("exp", "1e-400", Err(TokenExpired)),
        claim("exp", "1.7000035e9", Ok(())),
        claim("exp", "1.7000035E+9", Ok(())),
        claim("exp", "17000035e2", Ok(())),
        claim("exp", "1700003590.999", Ok(())),
        claim("exp", "17000035900e-1", Ok(())),
        // A fraction is cut off: never longer than the issuer said.
        claim("exp", &format!("{}.999", NOW_S - leeway - 1), Err(TokenExpired)),
        claim("exp", &format!("{}.001", NOW_S - leeway), Ok(())),
    ];
    for name in ["iat", "nbf"] {
        cases.extend([
            at(name, 0, Ok(())),
            at(name, NOW_S, Ok(())),
            at(name, NOW_S + leeway, Ok(())),
            at(name, NOW_S + leeway + 1, Err(TokenNotYetValid)),
            at(name, NOW_S + 3600, Err(TokenNotYetValid)),
            at(name, 4_294_967_296, Err(TokenNotYetValid)),
            at(name, 1_700_000_000_000, Err(TokenNotYetValid)),
            at(name, 9_007_199_254_740_991, Err(TokenNotYetValid)),
            claim(name, "-0", Ok(())),
            claim(name, "1.7e9", Ok(())),
            claim(name, "1699999999.5", Ok(())),
            claim(name, &format!("{}.9", NOW_S + leeway), Ok(())),
        ]);
    }
    let both = |iat: u64, nbf: u64, exp: u64| {
        let text = claims_with("iat", "").replacen('}', &format!(",\"iat\":{iat},\"nbf\":{nbf}}}"), 1);
        own(super::gate::with_member(&text, "exp", &exp.to_string()))
    };
    cases.extend([
        case("times: expired before it was issued", both(NOW_S, NOW_S, NOW_S - 3600), Err(TokenExpired)),
        case("times: issued, begins and ends at once", both(NOW_S, NOW_S, NOW_S), Ok(())),
        case("times: begins before it was issued", both(NOW_S, NOW_S - 3600, NOW_S + 60), Ok(())),
        case("times: begins after it ends", both(NOW_S, NOW_S + 3600, NOW_S + 60), Err(TokenNotYetValid)),
        case("times: expired and still to begin", both(NOW_S, NOW_S + 3600, NOW_S - 3600), Err(TokenNotYetValid)),
        case(
            "times: issued in the future, begun in the past",
            both(NOW_S + 3600, NOW_S - 60, NOW_S + 7200),
            Err(TokenNotYetValid),
        ),
    ]);
    cases
}

/// Claims that are nobody's business here.
fn others() -> Vec<Case> {
    let mut cases = Vec::new();
    for (name, text) in [
        ("jti", "null"),
        ("jti", "1"),
        ("jti", "\"\""),
        ("azp", "\"evil\""),
        ("client_id", "1"),
        ("scope", "[]"),
        ("nonce", "\"n\""),
        ("cnf", "{\"jkt\":\"x\"}"),
        ("act", "{\"sub\":\"admin\"}"),
        ("role", "\"admin\""),
        ("admin", "true"),
        ("x-user-id", "\"admin\""),
        ("alg", "\"none\""),
        ("kid", "\"kid-2\""),
        ("session_id", "\"other\""),
        ("uid", "\"admin\""),
        ("user_id", "\"admin\""),
        ("sub ", "\"admin\""),
        ("Sub", "\"admin\""),
        ("events", "{\"http://schemas.openid.net/event/backchannel-logout\":{}}"),
        ("", "1"),
    ] {
        cases.push(claim(name, text, Ok(())));
    }
    cases
}
