//! Request paths: one canonical form, judged and forwarded byte for byte the same.
//!
//! A gateway is passed by when it and the backend read one path differently. So a path with more than one plausible
//! reading is refused (400) instead of normalised, unless its route allows that spelling by name; and even then, and for
//! spellings that are harmless to most backends (capital letters, parameters at the end), every reading must lead to a
//! route at least as strict: see [`loose_reading`].

mod reading;

pub use self::reading::loose_reading;
use self::reading::{decode, look_decoded};

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
    /// A character that some backends fold to a slash, backslash, percent sign or semicolon, or an overlong UTF-8 form.
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

#[cfg(test)]
mod tests;
