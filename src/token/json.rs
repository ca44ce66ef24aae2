//! A strict JSON reader (RFC 8259) for what strangers send: tokens and key documents.
//!
//! Of two readers that disagree on a document, an attacker picks the one that suits him. So everything readers disagree
//! on is refused, also inside members that nobody asks for: duplicate members, lone surrogates, invalid UTF-8, a byte
//! order mark, trailing bytes, deep nesting.

use std::borrow::Cow;

/// Most nested objects and arrays; the outermost counts as one. Access tokens in the field stay below five.
pub const MAX_DEPTH: usize = 8;

/// Room for the members of an own token's claims, so that it is made once.
const USUAL_MEMBERS: usize = 8;

/// Why a text is not taken.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum JsonError {
    /// Not UTF-8 (RFC 8259 §8.1).
    #[error("not UTF-8")]
    NotUtf8,
    /// Not JSON, or something after it.
    #[error("not valid JSON")]
    Syntax,
    /// More than [`MAX_DEPTH`] nested objects and arrays.
    #[error("nested deeper than {MAX_DEPTH}")]
    TooDeep,
    /// An object with two members of one name, at any level.
    #[error("two members of one name in an object")]
    DuplicateMember,
    /// Valid up to its first byte, but no object.
    #[error("not a JSON object")]
    NotAnObject,
}

/// A JSON object that was checked to its last byte. Its members are kept as text and read on demand.
#[derive(Debug)]
pub struct Object<'a> {
    members: Vec<(Cow<'a, str>, Raw<'a>)>,
}

impl<'a> Object<'a> {
    /// Checks all of `bytes`. The caller bounds their number; memory is linear in it.
    ///
    /// # Errors
    /// [`JsonError`] when it is not exactly one object in strict JSON.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, JsonError> {
        let Ok(text) = std::str::from_utf8(bytes) else { return Err(JsonError::NotUtf8) };
        let mut scanner = Scanner { text, at: 0, members: Vec::with_capacity(USUAL_MEMBERS) };
        scanner.whitespace();
        if scanner.peek() != Some(b'{') {
            return Err(JsonError::NotAnObject);
        }
        scanner.object(1)?;
        scanner.whitespace();
        if scanner.at != text.len() {
            return Err(JsonError::Syntax);
        }
        Ok(Self { members: scanner.members })
    }

    /// The value of the member `name`, compared after unescaping.
    pub fn get(&self, name: &str) -> Option<Raw<'a>> {
        self.members.iter().find(|(candidate, _)| candidate == name).map(|(_, value)| *value)
    }

    /// Names and values, in the order of the text.
    pub fn members(&self) -> impl Iterator<Item = (&str, Raw<'a>)> {
        self.members.iter().map(|(name, value)| (&**name, *value))
    }
}

/// The text of one checked JSON value.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Raw<'a>(&'a str);

impl<'a> Raw<'a> {
    /// The value as it was written.
    pub fn text(self) -> &'a str {
        self.0
    }

    /// The string it is, unescaped; `None` for any other type.
    pub fn string(self) -> Option<Cow<'a, str>> {
        self.scan(b'"')?.string().ok()
    }

    /// The number it is, to the nearest double, perhaps infinite; `None` for any other type.
    pub fn number(self) -> Option<f64> {
        match self.0.as_bytes().first()? {
            b'-' | b'0'..=b'9' => self.0.parse().ok(),
            _ => None,
        }
    }

    /// The elements of the array it is; `None` for any other type.
    pub fn elements(self) -> Option<Elements<'a>> {
        let mut scanner = self.scan(b'[')?;
        scanner.at += 1;
        Some(Elements { scanner })
    }

    /// The object it is; `None` for any other type.
    pub fn object(self) -> Option<Object<'a>> {
        Object::parse(self.0.as_bytes()).ok()
    }

    fn scan(self, first: u8) -> Option<Scanner<'a>> {
        let scanner = Scanner { text: self.0, at: 0, members: Vec::new() };
        (scanner.peek() == Some(first)).then_some(scanner)
    }
}

/// The elements of a checked array.
#[derive(Debug)]
pub struct Elements<'a> {
    scanner: Scanner<'a>,
}

impl<'a> Iterator for Elements<'a> {
    type Item = Raw<'a>;

    fn next(&mut self) -> Option<Raw<'a>> {
        self.scanner.whitespace();
        if self.scanner.eat(b',') {
            self.scanner.whitespace();
        }
        if self.scanner.peek()? == b']' {
            return None;
        }
        // The array's text was checked as a whole, with the depth of its place: 1 again here can only allow more.
        self.scanner.value(1).ok()
    }
}

#[derive(Debug)]
struct Scanner<'a> {
    text: &'a str,
    /// The next byte. Always on a character boundary: it only stops before and after ASCII bytes.
    at: usize,
    /// Members of the objects being read, outermost first: one buffer for all levels, so that a text of many small
    /// objects costs no allocation for each.
    members: Vec<(Cow<'a, str>, Raw<'a>)>,
}

impl<'a> Scanner<'a> {
    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn eat(&mut self, byte: u8) -> bool {
        let found = self.peek() == Some(byte);
        self.at += usize::from(found);
        found
    }

    fn expect(&mut self, byte: u8) -> Result<(), JsonError> {
        if self.eat(byte) { Ok(()) } else { Err(JsonError::Syntax) }
    }

    fn whitespace(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\n' | b'\r')) {
            self.at += 1;
        }
    }

    /// Any value; `depth` is what an object or array here would have.
    fn value(&mut self, depth: usize) -> Result<Raw<'a>, JsonError> {
        let start = self.at;
        match self.peek().ok_or(JsonError::Syntax)? {
            b'{' => self.object(depth)?,
            b'[' => self.array(depth)?,
            // Unescaped although nobody reads it: only that way are its escapes checked.
            b'"' => drop(self.string()?),
            b'-' | b'0'..=b'9' => self.number()?,
            b't' => self.literal("true")?,
            b'f' => self.literal("false")?,
            b'n' => self.literal("null")?,
            _ => return Err(JsonError::Syntax),
        }
        Ok(Raw(&self.text[start..self.at]))
    }

    /// At its `{`. Leaves the members of the outermost object in [`Self::members`].
    fn object(&mut self, depth: usize) -> Result<(), JsonError> {
        if depth > MAX_DEPTH {
            return Err(JsonError::TooDeep);
        }
        let base = self.members.len();
        self.expect(b'{')?;
        self.whitespace();
        if self.eat(b'}') {
            return Ok(());
        }
        loop {
            let name = self.string()?;
            self.whitespace();
            self.expect(b':')?;
            self.whitespace();
            let value = self.value(depth + 1)?;
            self.members.push((name, value));
            self.whitespace();
            if !self.eat(b',') {
                break;
            }
            self.whitespace();
        }
        self.expect(b'}')?;
        // RFC 7515 §4 and RFC 7519 §4 leave a choice between refusing duplicates and taking the last: the signer's
        // library and ours must not choose differently.
        if has_duplicates(&self.members[base..]) {
            return Err(JsonError::DuplicateMember);
        }
        if depth > 1 {
            self.members.truncate(base);
        }
        Ok(())
    }

    /// At its `[`.
    fn array(&mut self, depth: usize) -> Result<(), JsonError> {
        if depth > MAX_DEPTH {
            return Err(JsonError::TooDeep);
        }
        self.expect(b'[')?;
        self.whitespace();
        if self.eat(b']') {
            return Ok(());
        }
        loop {
            self.value(depth + 1)?;
            self.whitespace();
            if !self.eat(b',') {
                return self.expect(b']');
            }
            self.whitespace();
        }
    }

    fn literal(&mut self, word: &str) -> Result<(), JsonError> {
        if !self.text[self.at..].starts_with(word) {
            return Err(JsonError::Syntax);
        }
        self.at += word.len();
        Ok(())
    }

    /// RFC 8259 §6: no plus sign, no leading zero, digits on both sides of the point.
    fn number(&mut self) -> Result<(), JsonError> {
        self.eat(b'-');
        if !self.eat(b'0') {
            self.digits()?;
        }
        if self.eat(b'.') {
            self.digits()?;
        }
        if self.eat(b'e') || self.eat(b'E') {
            if !self.eat(b'-') {
                self.eat(b'+');
            }
            self.digits()?;
        }
        Ok(())
    }

    fn digits(&mut self) -> Result<(), JsonError> {
        let start = self.at;
        while matches!(self.peek(), Some(b'0'..=b'9')) {
            self.at += 1;
        }
        if self.at == start { Err(JsonError::Syntax) } else { Ok(()) }
    }

    /// Borrows unless there is an escape.
    fn string(&mut self) -> Result<Cow<'a, str>, JsonError> {
        self.expect(b'"')?;
        let mut start = self.at;
        let mut unescaped: Option<String> = None;
        loop {
            self.at += plain_length(&self.text.as_bytes()[self.at..]);
            match self.peek().ok_or(JsonError::Syntax)? {
                b'"' => {
                    let rest = &self.text[start..self.at];
                    self.at += 1;
                    return Ok(match unescaped {
                        None => Cow::Borrowed(rest),
                        Some(mut text) => {
                            text.push_str(rest);
                            Cow::Owned(text)
                        }
                    });
                }
                b'\\' => {
                    let text = unescaped.get_or_insert_default();
                    text.push_str(&self.text[start..self.at]);
                    self.at += 1;
                    text.push(self.escape()?);
                    start = self.at;
                }
                // RFC 8259 §7: control characters must be escaped.
                _ => return Err(JsonError::Syntax),
            }
        }
    }

    /// After its backslash.
    fn escape(&mut self) -> Result<char, JsonError> {
        let byte = self.peek().ok_or(JsonError::Syntax)?;
        self.at += 1;
        Ok(match byte {
            b'"' | b'\\' | b'/' => char::from(byte),
            b'b' => '\u{8}',
            b'f' => '\u{c}',
            b'n' => '\n',
            b'r' => '\r',
            b't' => '\t',
            b'u' => {
                let unit = self.hex4()?;
                let code = if (0xd800..0xdc00).contains(&unit) {
                    self.expect(b'\\')?;
                    self.expect(b'u')?;
                    let low = self.hex4()?;
                    if !(0xdc00..0xe000).contains(&low) {
                        return Err(JsonError::Syntax);
                    }
                    0x1_0000 + ((unit - 0xd800) << 10) + (low - 0xdc00)
                } else {
                    unit
                };
                // A lone surrogate is no character; readers that replace it make one name out of two.
                char::from_u32(code).ok_or(JsonError::Syntax)?
            }
            _ => return Err(JsonError::Syntax),
        })
    }

    fn hex4(&mut self) -> Result<u32, JsonError> {
        let mut unit = 0;
        for _ in 0..4 {
            let digit = self.peek().and_then(|b| char::from(b).to_digit(16)).ok_or(JsonError::Syntax)?;
            self.at += 1;
            unit = unit << 4 | digit;
        }
        Ok(unit)
    }
}

/// How many bytes come before a quote, a backslash or a control character.
///
/// Eight at a time: most of a token is strings, and each byte for itself took a third of what is done besides the
/// signature.
fn plain_length(bytes: &[u8]) -> usize {
    const ONES: u64 = u64::MAX / 255;
    let (words, rest) = bytes.as_chunks::<8>();
    for (index, word) in words.iter().enumerate() {
        let word = u64::from_le_bytes(*word);
        let (quote, backslash) = (word ^ (ONES * u64::from(b'"')), word ^ (ONES * u64::from(b'\\')));
        // The highest bit of each byte that is zero, or below a space. A borrow can only set one above the first that is
        // set rightly, and only the first counts.
        let found = (quote.wrapping_sub(ONES) & !quote)
            | (backslash.wrapping_sub(ONES) & !backslash)
            | (word.wrapping_sub(ONES * 0x20) & !word);
        let found = found & (ONES * 0x80);
        if found != 0 {
            return index * 8 + found.trailing_zeros() as usize / 8;
        }
    }
    let is_plain = |byte: &&u8| !matches!(**byte, b'"' | b'\\' | ..0x20);
    words.len() * 8 + rest.iter().take_while(is_plain).count()
}

fn has_duplicates(members: &[(Cow<'_, str>, Raw<'_>)]) -> bool {
    // Sorting keeps a hostile object of thousands of members from costing their number squared.
    if members.len() > 16 {
        let mut names: Vec<&str> = members.iter().map(|(name, _)| &**name).collect();
        names.sort_unstable();
        return names.windows(2).any(|pair| pair[0] == pair[1]);
    }
    members.iter().enumerate().any(|(i, (name, _))| members[..i].iter().any(|(earlier, _)| earlier == name))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<usize, JsonError> {
        Object::parse(text.as_bytes()).map(|object| object.members.len())
    }

    #[test]
    fn members_are_read_by_name_and_type() {
        let object =
            Object::parse(br#" { "a" : "x\ny" , "b":[1, "two" ,{"c":[]}], "\u0063":-1.5e2,"d":{"e":null},"f":true } "#)
                .unwrap();
        assert_eq!(object.get("a").unwrap().string().unwrap(), "x\ny");
        assert_eq!(object.get("c").unwrap().number(), Some(-150.0));
        let elements: Vec<_> = object.get("b").unwrap().elements().unwrap().map(Raw::text).collect();
        assert_eq!(elements, ["1", "\"two\"", "{\"c\":[]}"]);
        assert_eq!(object.get("d").unwrap().object().unwrap().get("e").unwrap().text(), "null");
        assert_eq!(object.get("f").unwrap().text(), "true");
        assert!(object.get("e").is_none(), "members of nested objects are not members of the outer one");
        for name in ["a", "b", "d", "f"] {
            assert_eq!(object.get(name).unwrap().number(), None, "{name}");
        }
        assert!(object.get("c").unwrap().string().is_none());
        assert!(object.get("c").unwrap().elements().is_none());
        assert!(object.get("c").unwrap().object().is_none());
    }

    #[test]
    fn anything_but_one_object_is_refused() {
        for text in ["", " ", "[]", "1", "\"a\"", "null", "\u{feff}{}"] {
            assert_eq!(parse(text), Err(JsonError::NotAnObject), "{text:?}");
        }
        for text in [
            "{",
            "{}x",
            "{}{}",
            "{} {}",
            "{},",
            "{,}",
            "{\"a\"}",
            "{\"a\":}",
            "{\"a\":1,}",
            "{\"a\":1 \"b\":2}",
            "{a:1}",
            "{'a':1}",
            "{\"a\":[1,]}",
            "{\"a\":[,1]}",
            "{\"a\":[1 2]}",
            "{\"a\":[1}",
            "{\"a\":tru}",
            "{\"a\":True}",
            "{\"a\":nulll}",
            "{\"a\":NaN}",
            "{\"a\":Infinity}",
            "{\"a\":+1}",
            "{\"a\":01}",
            "{\"a\":-}",
            "{\"a\":.5}",
            "{\"a\":1.}",
            "{\"a\":1e}",
            "{\"a\":1e+}",
            "{\"a\":0x1}",
            "{\"a\":1_0}",
            "{\"a\":\"}",
            "{\"a\":\"\\\"}",
            "{\"a\":\"\u{1}\"}",
            "{\"a\":\"\n\"}",
            "{\"a\":\"\\x41\"}",
            "{\"a\":\"\\u12\"}",
            "{\"a\":\"\\u12g4\"}",
            "{\"a\":\"\\u+123\"}",
            "{/**/\"a\":1}",
            "{\"a\":1}//",
            "{}\u{0}",
            "{\u{a0}}",
        ] {
            assert_eq!(parse(text), Err(JsonError::Syntax), "{text:?}");
        }
    }

    #[test]
    fn a_string_ends_at_the_same_byte_wherever_that_stands() {
        let ends = |b: u8| b == b'"' || b == b'\\' || b < 0x20;
        for byte in 0..=255 {
            for at in 0..20 {
                for other in [b'a', 0x20, 0x21, 0x23, 0x5b, 0x5d, 0x7f, 0x80, 0xa2, 0xff] {
                    let mut bytes = [other; 20];
                    bytes[at] = byte;
                    let expected = if ends(byte) { at } else { bytes.len() };
                    assert_eq!(plain_length(&bytes), expected, "{byte:#x} at {at} among {other:#x}");
                    // What follows the first does not count.
                    bytes[at + 1..].fill(b'"');
                    let expected = if ends(byte) { at } else { at + 1 };
                    assert_eq!(plain_length(&bytes), expected, "{byte:#x} at {at} among {other:#x}, then quotes");
                }
            }
        }
    }

    #[test]
    fn lone_surrogates_are_refused_and_pairs_are_joined() {
        for text in
            ["\\ud800", "\\udc00", "\\ud800\\ud800", "\\ud800x", "\\ud800\\n", "\\udc00\\ud800", "\\ud83d\\u0041"]
        {
            assert_eq!(parse(&format!("{{\"a\":\"{text}\"}}")), Err(JsonError::Syntax), "{text}");
            assert_eq!(parse(&format!("{{\"{text}\":0}}")), Err(JsonError::Syntax), "{text}");
            assert_eq!(parse(&format!("{{\"a\":[{{\"b\":\"{text}\"}}]}}")), Err(JsonError::Syntax), "{text}");
        }
        let object = Object::parse(br#"{"a":"\ud83d\uDE00"}"#).unwrap();
        assert_eq!(object.get("a").unwrap().string().unwrap(), "\u{1f600}");
    }

    #[test]
    fn invalid_utf_8_is_refused_wherever_it_stands() {
        for bytes in [
            &b"{\"a\":\"\xff\"}"[..],
            b"{\"\xff\":1}",
            b"{\"a\":{\"b\":\"\xc0\x80\"}}",
            b"{\"a\":\"\xed\xa0\x80\"}",
            b"{\"a\":\"\xf8\x88\x80\x80\x80\"}",
            b"\xff\xfe{\0}\0",
        ] {
            assert_eq!(Object::parse(bytes).map(|_| ()), Err(JsonError::NotUtf8), "{bytes:?}");
        }
    }

    #[test]
    fn a_member_given_twice_is_refused_at_every_level_and_in_every_spelling() {
        for text in [
            r#"{"a":1,"a":1}"#,
            r#"{"a":1,"b":2,"a":null}"#,
            r#"{"a":1,"\u0061":2}"#,
            r#"{"x":{"a":1,"a":2}}"#,
            r#"{"x":[[{"a":1,"\u0061":2}]]}"#,
            r#"{"":1,"":2}"#,
            r#"{"\ud83d\ude00":1,"😀":2}"#,
        ] {
            assert_eq!(parse(text), Err(JsonError::DuplicateMember), "{text}");
        }
        assert_eq!(parse(r#"{"a":{"a":{"a":1}},"b":{"a":1},"A":1}"#), Ok(3));
        let many: Vec<String> = (0..1000).map(|i| format!("\"m{i}\":{i}")).collect();
        assert_eq!(parse(&format!("{{{}}}", many.join(","))), Ok(1000));
        assert_eq!(parse(&format!("{{{},\"m500\":0}}", many.join(","))), Err(JsonError::DuplicateMember));
    }

    #[test]
    fn nesting_is_bounded() {
        let nested = |depth: usize| format!("{{\"a\":{}{}}}", "[".repeat(depth - 1), "]".repeat(depth - 1));
        assert_eq!(parse(&nested(MAX_DEPTH)), Ok(1));
        assert_eq!(parse(&nested(MAX_DEPTH + 1)), Err(JsonError::TooDeep));
        assert_eq!(parse(&nested(1_000_000)), Err(JsonError::TooDeep));
        let objects = |depth: usize| format!("{}{{}}{}", "{\"a\":".repeat(depth - 1), "}".repeat(depth - 1));
        assert_eq!(parse(&objects(MAX_DEPTH)), Ok(1));
        assert_eq!(parse(&objects(MAX_DEPTH + 1)), Err(JsonError::TooDeep));
    }

    proptest::proptest! {
        #[test]
        fn arbitrary_bytes_never_panic_and_never_pass_what_serde_json_refuses(
            bytes in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..64),
        ) {
            if Object::parse(&bytes).is_ok() {
                proptest::prop_assert!(serde_json::from_slice::<serde_json::Map<String, serde_json::Value>>(&bytes).is_ok());
            }
        }

        #[test]
        fn near_json_is_judged_as_serde_json_judges_it(text in r#"\{("(a|b|\\u0061|\\n)":(1|-0\.5e1|"x"|\[\]|\[1,"]"\]|\{"c":null\}|tru|01) ?,?){0,3}\}"#) {
            let ours = Object::parse(text.as_bytes());
            match serde_json::from_str::<serde_json::Value>(&text) {
                Err(_) => proptest::prop_assert!(ours.is_err()),
                Ok(value) => match ours {
                    Err(error) => proptest::prop_assert_eq!(error, JsonError::DuplicateMember),
                    Ok(object) => {
                        for (name, raw) in object.members() {
                            let theirs = serde_json::from_str::<serde_json::Value>(raw.text()).unwrap();
                            proptest::prop_assert_eq!(&value[name], &theirs);
                        }
                    }
                },
            }
        }
    }
}
