//! RFC 8259, RFC 7515 §4, RFC 7519 §4: the JSON of header and claims has one reading, or it is refused.

use super::super::TokenError::MalformedToken;
use super::gate::{Case, OWN_KEY, case, claims};

/// Texts that no object may be, whatever else is in it. Where a text needs members to be complete, `{…}` is a good
/// object, and `{ …}` one to which its first member is still to be added.
const NOT_AN_OBJECT: &[(&str, &str)] = &[
    ("empty object", "{}"),
    ("array", "[]"),
    ("array of one object", "[{…}]"),
    ("null", "null"),
    ("true", "true"),
    ("number", "1"),
    ("string", "\"{}\""),
    ("space", " "),
    ("open brace", "{"),
    ("close brace", "}"),
    ("two objects", "{…}{…}"),
    ("two objects with a comma", "{…},{…}"),
    ("two objects, each on its line", "{…}\n{…}"),
    ("empty object behind it", "{…}{}"),
    ("letter behind it", "{…}x"),
    ("null byte behind it", "{…}\0"),
    ("comma behind it", "{…},"),
    ("brace behind it", "{…}}"),
    ("comment behind it", "{…}//"),
    ("comment before it", "/**/{…}"),
    ("callback around it", "f({…})"),
    ("prefix against scripts", ")]}',\n{…}"),
    ("record separator before it", "\u{1e}{…}"),
    ("byte order mark", "\u{feff}{…}"),
    ("no-break space before it", "\u{a0}{…}"),
    ("vertical tab before it", "\u{b}{…}"),
    ("form feed before it", "\u{c}{…}"),
    ("line separator behind it", "{…}\u{2028}"),
];

/// Members that spoil the object they stand in, although nobody asks for them.
const SPOILING: &[(&str, &str)] = &[
    ("member twice", r#""x":1,"x":1"#),
    ("member twice, once escaped", r#""x":1,"\u0078":1"#),
    ("member twice, escaped in upper and lower case", r#""\u006A":1,"\u006a":1"#),
    ("member twice, both escaped", r#""\u0078":1,"\u0078":2"#),
    ("member of no name twice", r#""":1,"":2"#),
    ("member twice in an object", r#""x":{"y":1,"y":1}"#),
    ("member twice in an object, once escaped", r#""x":{"y":1,"\u0079":1}"#),
    ("member twice in an object in an array", r#""x":[1,{"y":1,"y":2}]"#),
    ("member twice, deep", r#""x":[[[[{"y":1,"y":2}]]]]"#),
    (
        "member twice among many",
        r#""a":1,"b":1,"c":1,"d":1,"e":1,"f":1,"g":1,"h":1,"i":1,"k":1,"l":1,"m":1,"n":1,"o":1,"p":1,"q":1,"r":1,"a":2"#,
    ),
    ("member twice, surrogate pair and character", "\"\u{1f600}\":1,\"\\ud83d\\ude00\":2"),
    ("high surrogate alone", r#""x":"\ud800""#),
    ("low surrogate alone", r#""x":"\udc00""#),
    ("surrogates the wrong way round", r#""x":"\udc00\ud800""#),
    ("two high surrogates", r#""x":"\ud800\ud800""#),
    ("high surrogate and a letter", r#""x":"\ud800\u0041""#),
    ("high surrogate before an escaped quote", r#""x":"\ud800\"""#),
    ("high surrogate in a name", r#""\ud800":1"#),
    ("low surrogate in an array", r#""x":["\udfff"]"#),
    ("escape of one letter that is none", r#""x":"\a""#),
    ("hexadecimal escape of other languages", r#""x":"\x41""#),
    ("octal escape", r#""x":"\0""#),
    ("escape in braces", r#""x":"\u{41}""#),
    ("escape of three digits", r#""x":"\u041""#),
    ("escape with a letter that is no digit", r#""x":"\u00g1""#),
    ("escape with a sign", r#""x":"\u+041""#),
    ("capital escape", r#""x":"\U00000041""#),
    ("escaped quote of other languages", r#""x":"\'""#),
    ("null byte in a string", "\"x\":\"\0\""),
    ("null byte in a name", "\"x\0\":1"),
    ("null byte between", "\"x\":\0 1"),
    ("newline in a string", "\"x\":\"\n\""),
    ("tab in a string", "\"x\":\"\t\""),
    ("escape character in a string", "\"x\":\"\u{1b}\""),
    ("no-break space between", "\"x\":\u{a0}1"),
    ("single quotes", "'x':1"),
    ("no quotes", "x:1"),
    ("curly quotes", "\u{201c}x\u{201d}:1"),
    ("number as a name", "1:1"),
    ("null as a name", "null:1"),
    ("no colon", r#""x" 1"#),
    ("two colons", r#""x"::1"#),
    ("equals sign", r#""x"=1"#),
    ("no value", r#""x":"#),
    ("name alone", r#""x""#),
    ("two commas", r#""x":1,"#),
    ("semicolon", r#""x":1;"y":2"#),
    ("comment", r#""x":1/**/"#),
    ("comment of a line", "\"x\":1//\n"),
    ("hash comment", "\"x\":1#\n"),
    ("leading zero", r#""x":01"#),
    ("minus and leading zero", r#""x":-01"#),
    ("plus sign", r#""x":+1"#),
    ("no digit before the point", r#""x":.5"#),
    ("no digit behind the point", r#""x":1."#),
    ("two points", r#""x":1.2.3"#),
    ("empty exponent", r#""x":1e"#),
    ("sign as exponent", r#""x":1e+"#),
    ("exponent with a point", r#""x":1e1.5"#),
    ("minus alone", r#""x":-"#),
    ("two minus signs", r#""x":--1"#),
    ("hexadecimal number", r#""x":0x10"#),
    ("octal number", r#""x":0o17"#),
    ("underscore in a number", r#""x":1_000"#),
    ("comma in a number", r#""x":1,000"#),
    ("suffix of a number", r#""x":1n"#),
    ("full-width digit", "\"x\":\u{ff11}"),
    ("not a number", r#""x":NaN"#),
    ("infinity", r#""x":Infinity"#),
    ("minus infinity", r#""x":-Infinity"#),
    ("undefined", r#""x":undefined"#),
    ("capital true", r#""x":True"#),
    ("capital null", r#""x":NULL"#),
    ("half a word", r#""x":nul"#),
    ("more than a word", r#""x":nulls"#),
    ("open array", r#""x":["#),
    ("array closed as an object", r#""x":[1}"#),
    ("comma at the end of an array", r#""x":[1,]"#),
    ("comma at the start of an array", r#""x":[,1]"#),
    ("no comma in an array", r#""x":[1 2]"#),
    ("open object", r#""x":{"y":1"#),
    ("comma at the end of an object", r#""x":{"y":1,}"#),
    ("open string", r#""x":"y"#),
];

/// Members that change nothing, but for readers that are stricter than the standard.
const HARMLESS: &[(&str, &str)] = &[
    ("escaped null", r#""x":"\u0000""#),
    ("escaped control bytes", r#""x":"\u001b\n\r\t\b\f""#),
    ("escaped slash", r#""x":"\/""#),
    ("escaped name", r#""\u0078":1"#),
    ("surrogate pair", r#""x":"\ud83d\uDE00""#),
    ("line separator in a string", "\"x\":\"\u{2028}\""),
    ("byte order mark in a string", "\"x\":\"\u{feff}\""),
    ("delete in a string", "\"x\":\"\u{7f}\""),
    ("names that differ in case", r#""x":1,"X":2"#),
    ("names that differ in composition", "\"\u{e9}\":1,\"e\u{301}\":2"),
    ("names of objects inherited in other languages", r#""__proto__":{"alg":"none","sub":"admin"},"constructor":1"#),
    ("number beyond doubles", r#""x":1e400"#),
    ("number of many digits", r#""x":123456789012345678901234567890123456789012345678901234567890"#),
    ("negative zero", r#""x":-0"#),
    ("whitespace", " \n\t\r \"x\" \n: \t1 "),
    ("eight levels", r#""x":[[[[[[[]]]]]]]"#),
];

/// Bytes that are no UTF-8 (RFC 3629, RFC 8725 §3.7).
const NOT_UTF8: &[(&str, &[u8])] = &[
    ("lone byte", b"\xff"),
    ("lone continuation", b"\x80"),
    ("cut sequence of two", b"\xc3"),
    ("cut sequence of three", b"\xe2\x82"),
    ("cut sequence of four", b"\xf0\x9f\x98"),
    ("overlong null", b"\xc0\x80"),
    ("overlong slash", b"\xc0\xaf"),
    ("overlong letter", b"\xc1\xb3"),
    ("overlong letter of three", b"\xe0\x81\xb3"),
    ("overlong letter of four", b"\xf0\x80\x81\xb3"),
    ("surrogate", b"\xed\xa0\x80"),
    ("surrogate pair as two", b"\xed\xa0\xbd\xed\xb8\x80"),
    ("beyond the last character", b"\xf4\x90\x80\x80"),
    ("sequence of five", b"\xf8\x88\x80\x80\x80"),
    ("Latin-1", b"zo\xeb"),
];

pub(super) fn cases() -> Vec<Case> {
    let (header, claims) = (OWN_KEY.header(), claims());
    let mut cases = Vec::new();
    for (of, good) in [("header", header.as_str()), ("claims", claims.as_str())] {
        // What is signed is what is sent: the signature is never what makes these fail.
        let token = |text: &[u8]| match of {
            "header" => OWN_KEY.token(text, &claims),
            _ => OWN_KEY.token(&header, text),
        };
        let refused =
            |name: &str, text: &[u8]| case(format!("text of the {of}: {name}"), token(text), Err(MalformedToken));
        let (inner, rest) = (&good[1..good.len() - 1], &good[1..]);
        for (name, text) in NOT_AN_OBJECT {
            cases.push(refused(name, text.replace("{…}", good).as_bytes()));
        }
        for (name, member) in SPOILING {
            cases.push(refused(name, format!("{{{member},{rest}").as_bytes()));
            cases.push(refused(&format!("{name}, at the end"), format!("{{{inner},{member}}}").as_bytes()));
        }
        for (name, member) in HARMLESS {
            let text = format!("{{{member},{rest}");
            cases.push(case(format!("text of the {of}: {name}"), token(text.as_bytes()), Ok(())));
        }
        for (name, bytes) in NOT_UTF8 {
            let string = [b"{\"x\":\"", *bytes, b"\",", rest.as_bytes()].concat();
            cases.push(refused(&format!("{name} in a string"), &string));
            let member = [b"{\"", *bytes, b"\":1,", rest.as_bytes()].concat();
            cases.push(refused(&format!("{name} in a name"), &member));
        }
        for (name, text) in [
            ("comma at the start", format!("{{,{rest}")),
            ("comma at the end", format!("{{{inner},}}")),
            ("open at the end", good[..good.len() - 1].to_owned()),
            ("closed as an array", format!("{{{inner}]")),
            ("nine levels of arrays", format!("{{\"x\":{}{},{rest}", "[".repeat(8), "]".repeat(8))),
            ("nine levels of objects", format!("{{\"x\":{}1{},{rest}", "{\"y\":".repeat(8), "}".repeat(8))),
            ("2000 levels of arrays", format!("{{\"x\":{}{},{rest}", "[".repeat(2000), "]".repeat(2000))),
            ("2000 levels never closed", format!("{{\"x\":{}", "[".repeat(2000))),
            ("500 levels of objects", format!("{{\"x\":{}1{},{rest}", "{\"y\":".repeat(500), "}".repeat(500))),
        ] {
            cases.push(refused(name, text.as_bytes()));
        }
        for (name, text) in [
            ("whitespace around it", format!(" \t\r\n{good} \t\r\n")),
            ("array of two thousand", format!("{{\"x\":[1{}],{rest}", ",1".repeat(1999))),
            ("five hundred members", {
                let members: String = (0..500).map(|number| format!("\"{number}\":1,")).collect();
                format!("{{{members}{rest}")
            }),
        ] {
            cases.push(case(format!("text of the {of}: {name}"), token(text.as_bytes()), Ok(())));
        }
        let utf16 = |unit: fn(u16) -> [u8; 2]| good.encode_utf16().flat_map(unit).collect::<Vec<u8>>();
        cases.push(refused("UTF-16, big end first", &utf16(u16::to_be_bytes)));
        cases.push(refused("UTF-16, little end first", &utf16(u16::to_le_bytes)));
        cases.push(refused("UTF-16 with its mark", &[b"\xff\xfe", &utf16(u16::to_le_bytes)[..]].concat()));
        cases.push(refused("UTF-32", &good.bytes().flat_map(|byte| [0, 0, 0, byte]).collect::<Vec<u8>>()));
        cases.push(refused("UTF-7", good.replace('{', "+AHs-").as_bytes()));
    }
    cases
}
