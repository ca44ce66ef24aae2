//! The bytes of a field line (RFC 9112 §5, RFC 9110 §5.5 and §5.6.2).

use super::Malformed;

/// Which bytes a token is made of (RFC 9110 §5.6.2).
const TOKEN: [bool; 256] = {
    let mut table = [false; 256];
    let mut byte = 0;
    while byte < 256 {
        #[expect(clippy::cast_possible_truncation, reason = "below 256")]
        let is = matches!(
            byte as u8,
            b'!' | b'#' | b'$' | b'%' | b'&' | b'\'' | b'*' | b'+' | b'-' | b'.' | b'^' | b'_' | b'`' | b'|' | b'~'
        ) || (byte as u8).is_ascii_alphanumeric();
        table[byte] = is;
        byte += 1;
    }
    table
};

/// Whether `byte` may stand in a token.
pub(super) fn is_token(byte: u8) -> bool {
    TOKEN[usize::from(byte)]
}

/// How many bytes from the start are of a token.
pub(super) fn token_length(bytes: &[u8]) -> usize {
    bytes.iter().position(|byte| !is_token(*byte)).unwrap_or(bytes.len())
}

/// Without white space (RFC 9110 §5.6.3) at both ends.
pub(super) fn trim(mut value: &[u8]) -> &[u8] {
    while let [b' ' | b'\t', rest @ ..] | [rest @ .., b' ' | b'\t'] = value {
        value = rest;
    }
    value
}

/// Where the line that goes through `bytes[from..]` ends: the position of its CR LF; `None` when that is not there yet.
///
/// A line has no control byte but HTAB: neither a bare CR or LF, which some take for the end of a line, nor NUL, which
/// some take for the end of everything. Bytes from 0x80 are left to whoever reads the field (`obs-text`).
///
/// # Errors
/// [`Malformed::LineEnd`] for a bare CR or LF, [`Malformed::Field`] for any other control byte.
pub(super) fn line_end(bytes: &[u8], from: usize) -> Result<Option<usize>, Malformed> {
    let mut at = from;
    while let Some(found) = next_control(bytes, at) {
        match (bytes[found], bytes.get(found + 1)) {
            (b'\t', _) => at = found + 1,
            (b'\r', Some(b'\n')) => return Ok(Some(found)),
            (b'\r', None) => return Ok(None),
            (b'\r' | b'\n', _) => return Err(Malformed::LineEnd),
            _ => return Err(Malformed::Field),
        }
    }
    Ok(None)
}

/// The first control byte from `at` on, HTAB among them.
///
/// Eight bytes at a time: in a word `x`, `(x - 0x20…) & !x` has the high bit of each byte that is below 0x20, and
/// `(y - 0x01…) & !y` with `y = x ^ 0x7f…` that of each DEL; above the first such byte there may be false ones, which
/// does not matter to who looks for the first.
fn next_control(bytes: &[u8], at: usize) -> Option<usize> {
    const HIGH: u64 = u64::from_ne_bytes([0x80; 8]);
    const SPACE: u64 = u64::from_ne_bytes([0x20; 8]);
    const DEL: u64 = u64::from_ne_bytes([0x7f; 8]);
    const ONE: u64 = u64::from_ne_bytes([0x01; 8]);
    let (words, tail) = bytes.get(at..)?.as_chunks::<8>();
    for (index, word) in words.iter().enumerate() {
        let word = u64::from_le_bytes(*word);
        let del = word ^ DEL;
        let found = ((word.wrapping_sub(SPACE) & !word) | (del.wrapping_sub(ONE) & !del)) & HIGH;
        if found != 0 {
            return Some(at + index * 8 + found.trailing_zeros() as usize / 8);
        }
    }
    let tail_at = bytes.len() - tail.len();
    tail.iter().position(u8::is_ascii_control).map(|index| tail_at + index)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn the_first_control_byte_is_found_wherever_it_is(bytes in prop::collection::vec(any::<u8>(), 0..40), at in 0_usize..42) {
            let plainly = bytes.get(at..).and_then(|rest| rest.iter().position(u8::is_ascii_control)).map(|found| at + found);
            prop_assert_eq!(next_control(&bytes, at), plainly);
        }

        #[test]
        fn rare_control_bytes_among_many_others_are_found(text in "[ -~\u{80}-\u{ff}]{0,64}", place in 0_usize..64, byte in any::<u8>()) {
            let mut bytes = text.into_bytes();
            let place = place.min(bytes.len());
            bytes.insert(place, byte);
            let plainly = bytes.iter().position(u8::is_ascii_control);
            prop_assert_eq!(next_control(&bytes, 0), plainly);
        }
    }

    #[test]
    fn a_line_ends_with_cr_lf_and_has_no_other_control_byte() {
        assert_eq!(line_end(b"a: b\r\nc", 0), Ok(Some(4)));
        assert_eq!(line_end(b"a:\tb\xff\r\n", 2), Ok(Some(5)));
        for early in [&b"a: b"[..], b"a: b\r", b""] {
            assert_eq!(line_end(early, 0), Ok(None));
        }
        for bare in [&b"a\nb"[..], b"a\rb", b"a\r\rb\r\n", b"\n"] {
            assert_eq!(line_end(bare, 0), Err(Malformed::LineEnd), "{bare:?}");
        }
        for control in [&b"a\0\r\n"[..], b"a\x0b\r\n", b"a\x7f\r\n", b"a\x1f"] {
            assert_eq!(line_end(control, 0), Err(Malformed::Field), "{control:?}");
        }
    }

    #[test]
    fn white_space_at_the_ends_is_taken_off() {
        for (value, trimmed) in [(" a b\t", "a b"), ("", ""), (" \t ", ""), ("a", "a")] {
            assert_eq!(trim(value.as_bytes()), trimmed.as_bytes());
        }
    }
}
