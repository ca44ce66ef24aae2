//! What a path means to those who read more into it than we do.

use std::borrow::Cow;

use icu_normalizer::ComposingNormalizerBorrowed;

use super::{PathError, Spellings};

/// The byte a `%` at `at` stands for.
pub(super) fn decode(bytes: &[u8], at: usize) -> Option<u8> {
    let digit = |index: usize| bytes.get(index).and_then(|b| char::from(*b).to_digit(16));
    u8::try_from(digit(at + 1)? << 4 | digit(at + 2)?).ok()
}

/// Looks at what the path means once decoded: dot segments by any spelling, characters that fold to ASCII.
pub(super) fn look_decoded(bytes: &[u8]) -> Result<Spellings, PathError> {
    look_at_parameters(bytes)?;
    // Decoded until nothing changes, so that a backend that decodes twice finds no dot segment either. Each round that
    // goes on has fewer bytes than the one before.
    let mut decoded = decode_once(bytes);
    let valid = match std::str::from_utf8(&decoded) {
        Ok(_) => Spellings::default(),
        Err(_) => Spellings::INVALID_UTF8,
    };
    loop {
        // What is found in the first round was refused before; later ones only come with `%25`.
        if decoded.iter().any(u8::is_ascii_control) {
            return Err(PathError::ForbiddenByte);
        }
        if decoded.windows(2).any(is_overlong) || decoded.windows(3).any(is_best_fit) {
            return Err(PathError::Confusable);
        }
        look_at_parameters(&decoded)?;
        // A segment ends at either slash.
        for segment in decoded.split(|b| matches!(b, b'/' | b'\\')) {
            look_at_segment(segment)?;
        }
        let again = decode_once(&decoded);
        if again.len() == decoded.len() {
            return Ok(valid);
        }
        decoded = again;
    }
}

/// Refuses a backslash, and a slash of either kind that is still encoded, within the parameters of a segment: `/;%2fa/admin`
/// is `/a/admin` to whoever decodes first, and `/admin` to whoever takes the parameters away first.
fn look_at_parameters(path: &[u8]) -> Result<(), PathError> {
    for segment in path.split(|b| *b == b'/') {
        let Some(at) = segment.iter().position(|b| *b == b';') else { continue };
        let mut parameters = segment.get(at..).unwrap_or_default().to_vec();
        loop {
            if parameters.iter().any(|b| matches!(b, b'/' | b'\\')) {
                return Err(PathError::Confusable);
            }
            let decoded = decode_once(&parameters);
            if decoded.len() == parameters.len() {
                break;
            }
            parameters = decoded;
        }
    }
    Ok(())
}

/// Refuses a decoded segment that some backend takes for `.` or `..`, or for more than one segment.
///
/// Parameters behind it do not count (`..;x=1` to a servlet container), nor what a `?` or `#` begins (to whoever takes the
/// target apart after decoding it), nor spaces and dots at its end (to Windows). Three dots and more are a name, as long as
/// they are written so.
fn look_at_segment(segment: &[u8]) -> Result<(), PathError> {
    let folded = fold(segment);
    // Folding takes none of these away, so that more of them are others than were written.
    let count = |bytes: &[u8]| bytes.iter().filter(|b| matches!(b, b'/' | b'\\' | b'%' | b';')).count();
    if count(&folded) > count(segment) {
        return Err(PathError::Confusable);
    }
    // `/;%3f%2fadmin` is `/` to whoever ends the path at the `?`, and `/admin` to whoever takes the parameter away first.
    if before_query(&folded).contains(&b';') && before_query(&folded).len() < folded.len() {
        return Err(PathError::Confusable);
    }
    let name = before_query(without_parameters(&folded));
    let is_dots = name.contains(&b'.') && name.iter().all(|b| matches!(b, b'.' | b' '));
    let is_name = name.len() > 2 && !name.contains(&b' ') && matches!(folded, Cow::Borrowed(_));
    if is_dots && !is_name { Err(PathError::DotSegment) } else { Ok(()) }
}

pub(super) fn decode_once(bytes: &[u8]) -> Vec<u8> {
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

pub(super) fn without_parameters(segment: &[u8]) -> &[u8] {
    segment.split(|b| *b == b';').next().unwrap_or_default()
}

fn before_query(segment: &[u8]) -> &[u8] {
    segment.split(|b| matches!(b, b'?' | b'#')).next().unwrap_or_default()
}

/// The first two bytes of a UTF-8 form longer than it need be (RFC 3629 §3), such as `c0 af` for a slash; five and six
/// bytes are those of the first UTF-8 (RFC 2279), which had room for them.
fn is_overlong(pair: &[u8]) -> bool {
    matches!(
        pair,
        [0xc0 | 0xc1, _] | [0xe0, 0x80..=0x9f] | [0xf0, 0x80..=0x8f] | [0xf8, 0x80..=0x87] | [0xfc, 0x80..=0x83]
    )
}

/// U+2044, U+2215, U+2216, U+2024: what code pages without them put `/`, `\\` and `.` for, and normalisation does not.
fn is_best_fit(three: &[u8]) -> bool {
    matches!(three, [0xe2, 0x81, 0x84] | [0xe2, 0x88, 0x95 | 0x96] | [0xe2, 0x80, 0xa4])
}

/// Decoded text as a backend sees it that normalises to compatibility forms (NFKC: `\u{ff41}` is `a`, `\u{2025}` is `..`)
/// and passes over what is not to be seen. Bytes that are no UTF-8 stay.
fn fold(decoded: &[u8]) -> Cow<'_, [u8]> {
    if decoded.is_ascii() {
        return Cow::Borrowed(decoded);
    }
    let mut folded = Vec::with_capacity(decoded.len());
    for chunk in decoded.utf8_chunks() {
        let seen: String = chunk.valid().chars().filter(|c| !is_ignorable(*c)).collect();
        folded.extend_from_slice(ComposingNormalizerBorrowed::new_nfkc().normalize(&seen).as_bytes());
        folded.extend_from_slice(chunk.invalid());
    }
    Cow::Owned(folded)
}

/// Soft hyphens, joiners, marks of direction and the like: some file systems and comparisons pass over them.
fn is_ignorable(c: char) -> bool {
    matches!(
        c,
        '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{180b}'..='\u{180f}' | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}' | '\u{fe00}'..='\u{fe0f}' | '\u{feff}' | '\u{e0000}'..='\u{e0fff}'
    )
}

/// The path as the most forgiving backend would read it: decoded until nothing changes, in compatibility forms, one kind
/// of slash, no empty segments, no parameters, no dots or spaces at the end of a segment, one case.
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
    let folded = fold(&bytes);
    let mut loose = Vec::with_capacity(folded.len() + 1);
    for segment in folded.split(|b| matches!(b, b'/' | b'\\')) {
        // A decoded `?` or `#` ends the path for a backend that takes the target apart after decoding it.
        let before = before_query(segment);
        let kept = without_parameters(before);
        let kept = kept.iter().rposition(|b| !matches!(b, b'.' | b' ')).map_or(0, |last| last + 1);
        if kept > 0 {
            loose.push(b'/');
            loose.extend_from_slice(&segment[..kept]);
        }
        if before.len() < segment.len() {
            break;
        }
    }
    if loose.is_empty() {
        loose.push(b'/');
    }
    if loose.is_ascii() {
        loose.make_ascii_lowercase();
        return String::from_utf8_lossy(&loose).into_owned();
    }
    // By capital letters first: there are small ones that only these bring together, such as a dotless `i`.
    String::from_utf8_lossy(&loose).to_uppercase().to_lowercase()
}
