//! Request paths: one canonical form, judged and forwarded byte for byte the same.
//!
//! A gateway is passed by when it and the backend read one path differently. So a path with more than one plausible
//! reading is refused (400) instead of normalised, unless its route allows that spelling by name; and even then, and for
//! spellings that are harmless to most backends (capital letters, parameters at the end), every reading must lead to a
//! route at least as strict: see [`loose_reading`].

/// A path that no route may allow.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum PathError {
    /// Does not start with `/`.
    #[error("path does not start with a slash")]
    NotAbsolute,
    /// A control byte, a space, a quote or a byte above 0x7e, as it is or (controls) percent-encoded.
    #[error("path has a byte that must not stand in it")]
    ForbiddenByte,
    /// `%` without two hexadecimal digits.
    #[error("path has an invalid percent-encoding")]
    InvalidEncoding,
    /// A `.` or `..` segment, also percent-encoded, with parameters, or beside an encoded slash.
    #[error("path has a dot segment")]
    DotSegment,
    /// A full-width slash, backslash or dot, or an overlong UTF-8 form: some backends fold them to ASCII.
    #[error("path has a character that folds to a slash or dot")]
    Confusable,
}

/// A set of spellings that are refused unless a route allows them (`allow_path`).
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Spellings(u16);

macro_rules! spellings {
    ($($(#[$doc:meta])* $const:ident = $bit:literal, $name:literal;)*) => {
        impl Spellings {
            $($(#[$doc])* pub const $const: Self = Self(1 << $bit);)*

            /// The names `allow_path` takes.
            pub const NAMES: &[&str] = &[$($name),*];

            /// The spelling of that name.
            pub fn named(name: &str) -> Option<Self> {
                match name {
                    $($name => Some(Self::$const),)*
                    _ => None,
                }
            }

            /// The names in this set.
            pub fn names(self) -> impl Iterator<Item = &'static str> {
                [$((Self::$const, $name)),*].into_iter().filter(move |(one, _)| self.contains(*one)).map(|(_, name)| name)
            }
        }
    };
}

spellings! {
    /// `//`
    EMPTY_SEGMENT = 0, "empty_segment";
    /// `\`
    BACKSLASH = 1, "backslash";
    /// `;` with a slash or a dot somewhere behind it
    MATRIX_PARAMETER = 2, "matrix_parameter";
    /// `%2f`
    ENCODED_SLASH = 3, "encoded_slash";
    /// `%5c`
    ENCODED_BACKSLASH = 4, "encoded_backslash";
    /// `%2e`
    ENCODED_DOT = 5, "encoded_dot";
    /// `%25`
    ENCODED_PERCENT = 6, "encoded_percent";
    /// `%3b`
    ENCODED_SEMICOLON = 7, "encoded_semicolon";
    /// `%3f`
    ENCODED_QUESTION_MARK = 8, "encoded_question_mark";
    /// `%23`
    ENCODED_HASH = 9, "encoded_hash";
    /// `%61` and every other letter, digit, `-`, `_` or `~` that needs no encoding
    ENCODED_UNRESERVED = 10, "encoded_unreserved";
    /// Percent-encoded bytes that are no UTF-8 together
    INVALID_UTF8 = 11, "invalid_utf8";
}

impl Spellings {
    /// Both sets.
    #[must_use]
    pub const fn with(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// What this set has and `other` has not.
    #[must_use]
    pub const fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }

    /// Whether all of `other` is in it.
    pub const fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// Whether it has none.
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }
}

/// What one look at a path found.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Judged {
    /// Spellings the route must allow.
    pub spellings: Spellings,
    /// Whether [`loose_reading`] may differ from the path.
    pub has_other_reading: bool,
}

/// What a byte of a path asks for.
#[derive(Clone, Copy, Eq, PartialEq)]
enum Class {
    /// Means itself everywhere.
    Plain,
    /// Read differently by someone: look closer.
    Look,
    /// Never.
    Forbidden,
}

const CLASSES: [Class; 256] = {
    let mut classes = [Class::Forbidden; 256];
    let mut byte = 0x21;
    while byte < 0x7f {
        classes[byte] = match byte as u8 {
            b'"' | b'<' | b'>' | b'`' | b'#' | b'?' => Class::Forbidden,
            b'/' | b'.' | b'%' | b';' | b'\\' | b'A'..=b'Z' => Class::Look,
            _ => Class::Plain,
        };
        byte += 1;
    }
    classes
};

/// Looks at the path of a request target (no query). One pass, no allocation unless it is percent-encoded.
///
/// # Errors
/// [`PathError`] for what no route may allow.
pub fn judge(path: &str) -> Result<Judged, PathError> {
    let bytes = path.as_bytes();
    if bytes.first() != Some(&b'/') {
        return Err(PathError::NotAbsolute);
    }
    let mut spellings = Spellings::default();
    let mut other = false;
    let mut dot_or_encoded = false;
    let mut previous = 0;
    for (at, &byte) in bytes.iter().enumerate() {
        match CLASSES[usize::from(byte)] {
            Class::Plain => {}
            Class::Forbidden => return Err(PathError::ForbiddenByte),
            Class::Look => match byte {
                b'/' if previous == b'/' => spellings = spellings.with(Spellings::EMPTY_SEGMENT),
                b'/' => {}
                b'.' => dot_or_encoded = true,
                b'\\' => spellings = spellings.with(Spellings::BACKSLASH),
                b';' => {
                    other = true;
                    if bytes[at + 1..].iter().any(|b| matches!(b, b'/' | b'.' | b'\\' | b'%')) {
                        spellings = spellings.with(Spellings::MATRIX_PARAMETER);
                    }
                }
                b'%' => {
                    dot_or_encoded = true;
                    spellings = spellings.with(encoded(bytes, at)?);
                }
                _ => other = true,
            },
        }
        previous = byte;
    }
    if dot_or_encoded || !spellings.is_empty() {
        spellings = spellings.with(look_decoded(bytes)?);
    }
    Ok(Judged { spellings, has_other_reading: other || dot_or_encoded || !spellings.is_empty() })
}

/// The byte a `%` at `at` stands for.
fn decode(bytes: &[u8], at: usize) -> Option<u8> {
    let digit = |index: usize| bytes.get(index).and_then(|b| char::from(*b).to_digit(16));
    u8::try_from(digit(at + 1)? << 4 | digit(at + 2)?).ok()
}

/// The spelling a percent-encoded byte amounts to.
fn encoded(bytes: &[u8], at: usize) -> Result<Spellings, PathError> {
    Ok(match decode(bytes, at).ok_or(PathError::InvalidEncoding)? {
        0x00..=0x1f | 0x7f => return Err(PathError::ForbiddenByte),
        b'/' => Spellings::ENCODED_SLASH,
        b'\\' => Spellings::ENCODED_BACKSLASH,
        b'.' => Spellings::ENCODED_DOT,
        b'%' => Spellings::ENCODED_PERCENT,
        b';' => Spellings::ENCODED_SEMICOLON,
        b'?' => Spellings::ENCODED_QUESTION_MARK,
        b'#' => Spellings::ENCODED_HASH,
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'~' => Spellings::ENCODED_UNRESERVED,
        _ => Spellings::default(),
    })
}

/// Looks at what the path means once decoded: dot segments by any spelling, characters that fold to ASCII.
fn look_decoded(bytes: &[u8]) -> Result<Spellings, PathError> {
    // Decoded until nothing changes, so that a backend that decodes twice finds no dot segment either. Each round that
    // goes on has fewer bytes than the one before.
    let mut decoded = decode_once(bytes);
    let valid = match std::str::from_utf8(&decoded) {
        Ok(_) => Spellings::default(),
        Err(_) => Spellings::INVALID_UTF8,
    };
    loop {
        if decoded.windows(2).any(is_overlong) || decoded.windows(3).any(folds_to_ascii) {
            return Err(PathError::Confusable);
        }
        // A segment ends at either slash; parameters behind it do not count (`..;x=1` is `..` to a servlet container).
        let segments = decoded.split(|b| matches!(b, b'/' | b'\\'));
        if segments.map(without_parameters).any(|segment| matches!(segment, b"." | b"..")) {
            return Err(PathError::DotSegment);
        }
        let again = decode_once(&decoded);
        if again.len() == decoded.len() {
            return Ok(valid);
        }
        decoded = again;
    }
}

fn decode_once(bytes: &[u8]) -> Vec<u8> {
    let mut decoded = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while let Some(&byte) = bytes.get(at) {
        match decode(bytes, at) {
            Some(meant) if byte == b'%' => {
                decoded.push(meant);
                at += 3;
            }
            _ => {
                decoded.push(byte);
                at += 1;
            }
        }
    }
    decoded
}

fn without_parameters(segment: &[u8]) -> &[u8] {
    segment.split(|b| *b == b';').next().unwrap_or_default()
}

/// The first two bytes of a UTF-8 form longer than it need be (RFC 3629 §3), such as `c0 af` for a slash.
fn is_overlong(pair: &[u8]) -> bool {
    matches!(pair, [0xc0 | 0xc1, _] | [0xe0, 0x80..=0x9f] | [0xf0, 0x80..=0x8f])
}

/// U+FF0F, U+FF3C, U+FF0E, U+2044, U+2215, U+2024: what best-fit mappings and NFKC turn into `/`, `\` and `.`; U+FF05
/// into `%` and U+FF1B into `;`.
fn folds_to_ascii(three: &[u8]) -> bool {
    matches!(
        three,
        [0xef, 0xbc, 0x8f | 0xbc | 0x8e | 0x85 | 0x9b] | [0xe2, 0x81, 0x84] | [0xe2, 0x88, 0x95] | [0xe2, 0x80, 0xa4]
    )
}

/// The path as the most forgiving backend would read it: decoded until nothing changes, one kind of slash, no empty
/// segments, no parameters, no dots or spaces at the end of a segment, lower case.
///
/// Only for comparing routes: what is forwarded is always the path itself.
pub fn loose_reading(path: &str) -> String {
    let mut bytes = path.as_bytes().to_vec();
    loop {
        let decoded = decode_once(&bytes);
        let done = decoded.len() == bytes.len();
        bytes = decoded;
        if done {
            break;
        }
    }
    let mut loose = Vec::with_capacity(bytes.len() + 1);
    for segment in bytes.split(|b| matches!(b, b'/' | b'\\')) {
        // A decoded `?` or `#` ends the path for a backend that takes the target apart after decoding it.
        let ends = segment.iter().position(|b| matches!(b, b'?' | b'#'));
        let segment = without_parameters(&segment[..ends.unwrap_or(segment.len())]);
        let kept = segment.iter().rposition(|b| !matches!(b, b'.' | b' ')).map_or(0, |last| last + 1);
        if kept > 0 {
            loose.push(b'/');
            loose.extend(segment[..kept].iter().map(u8::to_ascii_lowercase));
        }
        if ends.is_some() {
            break;
        }
    }
    if loose.is_empty() {
        loose.push(b'/');
    }
    String::from_utf8_lossy(&loose).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ordinary_paths_have_one_reading() {
        for path in ["/", "/orders", "/orders/17/items", "/a-b_c~d", "/a:b@c,d=e+f&g!$'()*", "/orders/"] {
            assert_eq!(judge(path), Ok(Judged { spellings: Spellings::default(), has_other_reading: false }), "{path}");
        }
        for path in ["/caf%C3%A9", "/a%20b", "/v1.2/file.txt", "/Orders", "/.well-known/x", "/...", "/r;v=1"] {
            assert_eq!(judge(path).map(|judged| judged.spellings), Ok(Spellings::default()), "{path}");
        }
    }

    #[test]
    fn every_spelling_with_two_readings_has_its_name() {
        for (path, spelling) in [
            ("/a//b", Spellings::EMPTY_SEGMENT),
            ("//", Spellings::EMPTY_SEGMENT),
            ("/a\\b", Spellings::BACKSLASH),
            ("/a;x/b", Spellings::MATRIX_PARAMETER),
            ("/a;x.html", Spellings::MATRIX_PARAMETER),
            ("/a%2fb", Spellings::ENCODED_SLASH),
            ("/a%2Fb", Spellings::ENCODED_SLASH),
            ("/a%5cb", Spellings::ENCODED_BACKSLASH),
            ("/a%2eb", Spellings::ENCODED_DOT),
            ("/a%25b", Spellings::ENCODED_PERCENT),
            ("/a%3bb", Spellings::ENCODED_SEMICOLON),
            ("/a%3fb", Spellings::ENCODED_QUESTION_MARK),
            ("/a%23b", Spellings::ENCODED_HASH),
            ("/%61dmin", Spellings::ENCODED_UNRESERVED),
            ("/a%7eb", Spellings::ENCODED_UNRESERVED),
            ("/caf%e9", Spellings::INVALID_UTF8),
            ("/%ed%a0%80", Spellings::INVALID_UTF8),
        ] {
            assert_eq!(judge(path).map(|judged| judged.spellings), Ok(spelling), "{path}");
        }
        assert_eq!(Spellings::NAMES.len(), 12);
        for name in Spellings::NAMES {
            assert_eq!(Spellings::named(name).unwrap().names().collect::<Vec<_>>(), [*name]);
        }
        assert_eq!(Spellings::named("dot_segment"), None);
    }

    #[test]
    fn some_spellings_no_route_may_allow() {
        for (path, error) in [
            ("", PathError::NotAbsolute),
            ("*", PathError::NotAbsolute),
            ("a/b", PathError::NotAbsolute),
            ("/a b", PathError::ForbiddenByte),
            ("/a\tb", PathError::ForbiddenByte),
            ("/a\u{0}b", PathError::ForbiddenByte),
            ("/a%00b", PathError::ForbiddenByte),
            ("/a%0d%0ab", PathError::ForbiddenByte),
            ("/a%7fb", PathError::ForbiddenByte),
            ("/a#b", PathError::ForbiddenByte),
            ("/café", PathError::ForbiddenByte),
            ("/a%", PathError::InvalidEncoding),
            ("/a%2", PathError::InvalidEncoding),
            ("/a%zz", PathError::InvalidEncoding),
            ("/a%+1", PathError::InvalidEncoding),
            ("/.", PathError::DotSegment),
            ("/..", PathError::DotSegment),
            ("/a/./b", PathError::DotSegment),
            ("/a/../b", PathError::DotSegment),
            ("/a/%2e%2e/b", PathError::DotSegment),
            ("/a/.%2E/b", PathError::DotSegment),
            ("/a/..%2fb", PathError::DotSegment),
            ("/a\\..\\b", PathError::DotSegment),
            ("/a/..;/b", PathError::DotSegment),
            ("/a/..;x=1", PathError::DotSegment),
            ("/a/%252e%252e/b", PathError::DotSegment),
            ("/a/%25252e%25252e/b", PathError::DotSegment),
            ("/a%ef%bc%8fb", PathError::Confusable),
            ("/%ef%bc%8e%ef%bc%8e/b", PathError::Confusable),
            ("/a%c0%afb", PathError::Confusable),
            ("/a%e0%80%afb", PathError::Confusable),
        ] {
            assert_eq!(judge(path), Err(error), "{path}");
        }
    }

    #[test]
    fn the_loose_reading_is_what_the_most_forgiving_backend_sees() {
        for (path, loose) in [
            ("/", "/"),
            ("/Admin", "/admin"),
            ("/admin;x=1", "/admin"),
            ("/admin.", "/admin"),
            ("/admin%20", "/admin"),
            ("//admin//", "/admin"),
            ("/a%2fAdmin", "/a/admin"),
            ("/a%255cb", "/a/b"),
            ("/%61dmin", "/admin"),
            ("/admin%3fx/y", "/admin"),
        ] {
            assert_eq!(loose_reading(path), loose, "{path}");
        }
    }

    proptest::proptest! {
        #[test]
        fn a_path_said_to_have_one_reading_has_one(path in "/[ -~]{0,24}") {
            if let Ok(Judged { has_other_reading: false, .. }) = judge(&path) {
                let kept = path.trim_end_matches('/');
                proptest::prop_assert_eq!(loose_reading(&path), if kept.is_empty() { "/" } else { kept });
            }
        }

        #[test]
        fn no_decoding_of_an_accepted_path_has_a_dot_segment(path in "(/|%2[eEfF]|%5c|\\.|;|%25|a|%32){1,12}") {
            let path = format!("/{path}");
            if judge(&path).is_ok() {
                let mut decoded = path.into_bytes();
                for _ in 0..4 {
                    for segment in decoded.split(|b| matches!(b, b'/' | b'\\')) {
                        let segment = without_parameters(segment);
                        proptest::prop_assert!(!matches!(segment, b"." | b".."));
                    }
                    decoded = decode_once(&decoded);
                }
            }
        }
    }
}
