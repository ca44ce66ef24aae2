//! As much of HPACK (RFC 7541) as a request needs: fields that are in no table, and Huffman codes, as clients send them.

/// Symbols of one length of the code, in the order of their codes (RFC 7541 appendix B): those of paths and tokens.
const SYMBOLS: [&str; 4] = ["012aceiost", " %-./3456789=A_bdfghlmnpru", ":BCDEFGHIJKLMNOPQRSTUVWYjkqvwxyz", "&*,;XZ"];

/// Bits of the shortest codes; each next list of symbols has codes of one bit more.
const SHORTEST: u32 = 5;

/// A field of the static table with a value of ours, which no table may keep: what it adds to a header block.
///
/// `None` when a byte of the value has no code here.
pub(crate) fn field(name: usize, value: &str) -> Option<Vec<u8>> {
    let mut block = Vec::new();
    integer(&mut block, 0x10, 4, name);
    let value = huffman(value)?;
    integer(&mut block, 0x80, 7, value.len());
    block.extend(value);
    Some(block)
}

/// An integer after the bits of `kind` (RFC 7541 §5.1).
fn integer(block: &mut Vec<u8>, kind: u8, bits: u32, number: usize) {
    let full = (1 << bits) - 1;
    if let Some(small) = u8::try_from(number).ok().filter(|small| *small < full) {
        block.push(kind | small);
        return;
    }
    block.push(kind | full);
    let mut rest = number - usize::from(full);
    while let [low, ..] = rest.to_le_bytes()
        && rest >= 0x80
    {
        block.push(low | 0x80);
        rest >>= 7;
    }
    block.push(rest.to_le_bytes()[0]);
}

/// The Huffman code of a text, filled up with ones.
fn huffman(text: &str) -> Option<Vec<u8>> {
    let (mut out, mut bits, mut held) = (Vec::new(), 0_u64, 0);
    for byte in text.bytes() {
        let (code, length) = code(byte)?;
        bits = bits << length | u64::from(code);
        held += length;
        while held >= 8 {
            held -= 8;
            out.push((bits >> held).to_le_bytes()[0]);
        }
    }
    if held > 0 {
        let filled = bits << (8 - held) | 0xff >> held;
        out.push(filled.to_le_bytes()[0]);
    }
    Some(out)
}

/// The code of a symbol and its length: codes of a length are consecutive, and follow the last of the length before.
fn code(symbol: u8) -> Option<(u32, u32)> {
    let mut first = 0;
    for (symbols, length) in SYMBOLS.iter().zip(SHORTEST..) {
        if let Some(place) = symbols.bytes().position(|known| known == symbol) {
            return Some((first + u32::try_from(place).ok()?, length));
        }
        first = (first + u32::try_from(symbols.len()).ok()?) << 1;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::{field, huffman};

    /// RFC 7541 appendix C.4.1 and C.4.3.
    #[test]
    fn codes_are_those_of_the_standard() {
        let host = [0xf1, 0xe3, 0xc2, 0xe5, 0xf2, 0x3a, 0x6b, 0xa0, 0xab, 0x90, 0xf4, 0xff];
        assert_eq!(huffman("www.example.com").as_deref(), Some(&host[..]));
        assert_eq!(
            huffman("custom-value").as_deref(),
            Some(&[0x25, 0xa8, 0x49, 0xe9, 0x5b, 0xb8, 0xe8, 0xb4, 0xbf][..])
        );
        assert_eq!(huffman("é"), None);
    }

    /// The longest prefix of RFC 7541 §C.1.2: 1337 in five bits is 1f 9a 0a; here with a name beyond four bits.
    #[test]
    fn lengths_beyond_the_prefix_go_on() {
        let value = "0".repeat(300);
        let block = field(23, &value).expect("has codes");
        // 300 codes of five bits are 188 bytes: 127 and 61.
        assert_eq!(block[..4], [0x1f, 8, 0xff, 61]);
        assert_eq!(block.len(), 4 + 188);
    }
}
