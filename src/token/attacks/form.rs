//! RFC 7515 §3.1 and §7.1: a token is three parts of canonical base64url with a dot between them, and nothing else.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;

use super::super::TokenError::{MalformedAuthorization, MalformedToken, TokenTooLarge};
use super::super::testing::b64;
use super::gate::{Case, MAX_TOKEN_BYTES, OWN_KEY, case, claims, claims_with, own};

const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

/// `part` with bits set that its last character has and its bytes do not: another spelling of the same bytes.
fn trailing_bits(part: &str, bits: usize) -> String {
    let last = part.bytes().last().unwrap();
    let value = ALPHABET.iter().position(|&character| character == last).unwrap();
    assert_eq!(value & bits, 0, "{part}");
    format!("{}{}", &part[..part.len() - 1], char::from(ALPHABET[value | bits]))
}

/// Of a text whose length leaves bits over in its last character.
fn padded_to(text: &str, remainder: usize) -> String {
    let mut text = text.to_owned();
    while text.len() % 3 != remainder {
        // Whitespace between tokens of JSON means nothing.
        text.insert(1, ' ');
    }
    text
}

pub(super) fn cases() -> Vec<Case> {
    let token = own(claims());
    let parts: Vec<&str> = token.split('.').collect();
    let [h, c, s] = parts[..] else { panic!("{token}") };
    let malformed = |name: &str, token: String| case(format!("form: {name}"), token, Err(MalformedToken));
    let unreadable = |name: &str, token: String| case(format!("form: {name}"), token, Err(MalformedAuthorization));

    let mut cases = vec![
        case("form: good", token.clone(), Ok(())),
        unreadable("nothing", String::new()),
        malformed("a dot", ".".into()),
        malformed("two dots", "..".into()),
        malformed("three dots", "...".into()),
        malformed("8192 dots", ".".repeat(MAX_TOKEN_BYTES)),
        case("form: 8193 dots", ".".repeat(MAX_TOKEN_BYTES + 1), Err(TokenTooLarge)),
        case("form: a megabyte", "a".repeat(1 << 20), Err(TokenTooLarge)),
        malformed("one part", h.into()),
        malformed("two parts", format!("{h}.{c}")),
        malformed("two parts and a dot: no signature", format!("{h}.{c}.")),
        malformed("no header", format!(".{c}.{s}")),
        malformed("no claims: a detached payload", format!("{h}..{s}")),
        malformed("signature only", format!("..{s}")),
        malformed("header only", format!("{h}..")),
        malformed("claims only", format!(".{c}.")),
        malformed("dot at the end", format!("{token}.")),
        malformed("two dots at the end", format!("{token}..")),
        malformed("dot at the start", format!(".{token}")),
        malformed("dot doubled", format!("{h}..{c}.{s}")),
        malformed("four parts", format!("{token}.{s}")),
        malformed("five parts", format!("{token}.{s}.{s}")),
        malformed("five parts of an encrypted token", {
            let header = b64(r#"{"alg":"dir","enc":"A128GCM","kid":"kid-1"}"#);
            format!("{header}..{}.{}.{}", b64([1; 12]), b64(claims()), b64([2; 16]))
        }),
        malformed("itself twice", format!("{token}{token}")),
        malformed("itself twice with a dot", format!("{token}.{token}")),
        malformed("parts in another order", format!("{c}.{h}.{s}")),
        malformed("disclosures behind it", format!("{token}~WyJhIiwiYiIsImMiXQ~")),
        malformed("header in lower case", format!("{}.{c}.{s}", h.to_lowercase())),
        malformed("without its first byte", token[1..].into()),
        malformed("percent and a letter for a letter", token.replacen('A', "~41", 1)),
        unreadable("percent-encoded dots", token.replace('.', "%2E")),
        unreadable("percent-encoded letter", token.replacen('A', "%41", 1)),
        unreadable("ideographic full stops", token.replace('.', "\u{3002}")),
        unreadable("full-width letter", token.replacen('A', "\u{ff21}", 1)),
        unreadable("tab before it", format!("\t{token}")),
        unreadable("space behind it", format!("{token} ")),
        unreadable("space in it", format!("{h}. {c}.{s}")),
        unreadable("tab in it", format!("{h}\t.{c}.{s}")),
        unreadable("newline behind it", format!("{token}\n")),
        unreadable("carriage return and newline behind it", format!("{token}\r\n")),
        unreadable("newline in it", format!("{h}.\n{c}.{s}")),
        unreadable("no-break space behind it", format!("{token}\u{a0}")),
        unreadable("byte order mark before it", format!("\u{feff}{token}")),
        unreadable("null behind it", format!("{token}\0")),
        unreadable("null in it", format!("{h}.{c}\0.{s}")),
        unreadable("in quotes", format!("\"{token}\"")),
        unreadable("in angle brackets", format!("<{token}>")),
        unreadable("behind another scheme", format!("Bearer {token}")),
        unreadable("comma behind it", format!("{token},")),
        unreadable("comma and another", format!("{token},{token}")),
        unreadable("comma, space and another", format!("{token}, {token}")),
        unreadable("space and another", format!("{token} {token}")),
        unreadable("semicolon and parameters", format!("{token};v=1")),
        unreadable("a parameter", format!("token=\"{token}\"")),
        unreadable("general JSON serialisation", {
            format!(r#"{{"payload":"{c}","signatures":[{{"protected":"{h}","signature":"{s}"}}]}}"#)
        }),
        unreadable("flattened JSON serialisation", {
            format!(r#"{{"payload":"{c}","protected":"{h}","signature":"{s}"}}"#)
        }),
        malformed("JSON serialisation in base64url", {
            b64(format!(r#"{{"payload":"{c}","protected":"{h}","signature":"{s}"}}"#))
        }),
        malformed("padding behind it", format!("{token}=")),
        malformed("two of padding behind it", format!("{token}==")),
        unreadable("padding behind the header", format!("{h}=.{c}.{s}")),
        unreadable("padding behind the claims", format!("{h}.{c}==.{s}")),
        malformed("header of 4n+1 characters", format!("{}A.{c}.{s}", b64([b' '; 9]))),
        malformed("claims of 4n+1 characters", format!("{h}.{}A.{s}", b64([b' '; 9]))),
        malformed("signature of 4n+1 characters", format!("{h}.{c}.{}AAA", s)),
    ];

    // RFC 7515 §2: one token, one spelling. Bits behind the last byte, in each of the parts.
    for (remainder, bits) in [(1, 1), (1, 8), (2, 1), (2, 2)] {
        let (header, text) = (padded_to(&OWN_KEY.header(), remainder), padded_to(&claims(), remainder));
        let signed = OWN_KEY.token(&header, &text);
        let [h, c, s] = signed.split('.').collect::<Vec<_>>()[..] else { panic!("{signed}") };
        let name = |part: &str| format!("form: trailing bit {bits} of {remainder} in the {part}");
        cases.push(case(name("header"), format!("{}.{c}.{s}", trailing_bits(h, bits)), Err(MalformedToken)));
        cases.push(case(name("claims"), format!("{h}.{}.{s}", trailing_bits(c, bits)), Err(MalformedToken)));
        // Signed with the bits: the signature fits, the spelling does not.
        let signed = format!("{}.{c}", trailing_bits(h, bits));
        let signature = b64(OWN_KEY.sign(&signed));
        cases.push(case(name("signed header"), format!("{signed}.{signature}"), Err(MalformedToken)));
    }
    for bits in [1, 2, 4, 8, 15] {
        let name = format!("form: trailing bits {bits} in the signature");
        cases.push(case(name, format!("{h}.{c}.{}", trailing_bits(s, bits)), Err(MalformedToken)));
    }

    // The other alphabet of RFC 4648, properly signed: `?>` makes characters that differ.
    let text = claims_with("x", "\"???>>>~~~\"");
    let signed = format!("{h}.{}", STANDARD_NO_PAD.encode(&text));
    assert!(signed.contains(['+', '/']));
    cases.push(malformed("alphabet of plain base64", format!("{signed}.{}", b64(OWN_KEY.sign(&signed)))));
    let mixed = own(&text);
    assert!(mixed.contains(['-', '_']));
    cases.push(malformed("one character of plain base64", {
        let at = mixed.find(['-', '_']).unwrap();
        format!("{}{}{}", &mixed[..at], if &mixed[at..=at] == "-" { "+" } else { "/" }, &mixed[at + 1..])
    }));

    // Up to the very bound, and one byte beyond.
    let filled = |bytes: usize| own(claims_with("x", &format!("\"{}\"", "x".repeat(bytes))));
    let longest = (0..).map(|less| filled(6000 - less)).find(|token| token.len() <= MAX_TOKEN_BYTES).unwrap();
    let shortest = (0..).map(|more| filled(5700 + more)).find(|token| token.len() > MAX_TOKEN_BYTES).unwrap();
    cases.push(case("form: as long as allowed", longest, Ok(())));
    cases.push(case("form: longer than allowed", shortest, Err(TokenTooLarge)));
    cases
}
