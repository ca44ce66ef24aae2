//! Bodies in chunks (RFC 9112 §7.1): sizes, extensions, ends and trailers.

use crate::framing::case::Verdict::Break;
use crate::framing::case::{Case, Verdict, posts};

const CHUNKS: &[(&str, &[u8], Verdict)] = &[
    ("none", b"0\r\n\r\n", posts("")),
    ("one", b"3\r\nabc\r\n0\r\n\r\n", posts("abc")),
    ("two", b"1\r\na\r\n2\r\nbc\r\n0\r\n\r\n", posts("abc")),
    ("upper-case size", b"A\r\n0123456789\r\n0\r\n\r\n", posts("0123456789")),
    ("lower-case size", b"a\r\n0123456789\r\n0\r\n\r\n", posts("0123456789")),
    ("leading zeros", b"003\r\nabc\r\n000\r\n\r\n", posts("abc")),
    ("sixteen digits", b"0000000000000003\r\nabc\r\n0\r\n\r\n", posts("abc")),
    ("seventeen digits", b"00000000000000003\r\nabc\r\n0\r\n\r\n", Break(400)),
    ("data that looks like an end", b"5\r\n0\r\n\r\n\r\n0\r\n\r\n", posts("0\r\n\r\n")),
    ("extension", b"3;a\r\nabc\r\n0\r\n\r\n", posts("abc")),
    ("extension with a value", b"3;a=b\r\nabc\r\n0;c=d\r\n\r\n", posts("abc")),
    ("extension with a quoted value", b"3;a=\"b; c\"\r\nabc\r\n0\r\n\r\n", posts("abc")),
    ("extension of nothing", b"3;\r\nabc\r\n0\r\n\r\n", posts("abc")),
    ("extension with a bare LF", b"3;a\nabc\r\n0\r\n\r\n", Break(400)),
    ("extension that hides a chunk behind a bare LF", b"3;\nxx\r\nabc\r\n0\r\n\r\n", Break(400)),
    ("extension with a bare CR", b"3;a\rb\r\nabc\r\n0\r\n\r\n", Break(400)),
    ("extension with CR CR LF", b"3;a\r\r\nabc\r\n0\r\n\r\n", Break(400)),
    ("extension with NUL", b"3;a\0\r\nabc\r\n0\r\n\r\n", Break(400)),
    ("extension with DEL", b"3;a\x7f\r\nabc\r\n0\r\n\r\n", Break(400)),
    ("extension without a semicolon", b"3 a\r\nabc\r\n0\r\n\r\n", Break(400)),
    ("extension behind a comma", b"3,a\r\nabc\r\n0\r\n\r\n", Break(400)),
    ("space before the extension", b"3 ;a\r\nabc\r\n0\r\n\r\n", Break(400)),
    ("tab before the extension", b"3\t;a\r\nabc\r\n0\r\n\r\n", Break(400)),
    ("extension of the last chunk with a bare LF", b"3\r\nabc\r\n0;a\n\r\n\r\n", Break(400)),
    ("size of nothing", b"\r\nabc\r\n0\r\n\r\n", Break(400)),
    ("size of nothing with an extension", b";a\r\nabc\r\n0\r\n\r\n", Break(400)),
    ("size of no digits", b"g\r\nabc\r\n0\r\n\r\n", Break(400)),
    ("size with 0x", b"0x3\r\nabc\r\n0\r\n\r\n", Break(400)),
    ("size with h", b"3h\r\nabc\r\n0\r\n\r\n", Break(400)),
    ("size with plus", b"+3\r\nabc\r\n0\r\n\r\n", Break(400)),
    ("size with minus", b"-3\r\nabc\r\n0\r\n\r\n", Break(400)),
    ("size with a space before", b" 3\r\nabc\r\n0\r\n\r\n", Break(400)),
    ("size with a tab before", b"\t3\r\nabc\r\n0\r\n\r\n", Break(400)),
    ("size with a space behind", b"3 \r\nabc\r\n0\r\n\r\n", Break(400)),
    ("size with a tab behind", b"3\t\r\nabc\r\n0\r\n\r\n", Break(400)),
    ("size with a space within", b"0 3\r\nabc\r\n0\r\n\r\n", Break(400)),
    ("size with an underscore", b"0_3\r\nabc\r\n0\r\n\r\n", Break(400)),
    ("size with a fraction", b"3.0\r\nabc\r\n0\r\n\r\n", Break(400)),
    ("size with NUL", b"3\0\r\nabc\r\n0\r\n\r\n", Break(400)),
    ("size with NBSP", b"3\xa0\r\nabc\r\n0\r\n\r\n", Break(400)),
    ("size with a vertical tab", b"\x0b3\r\nabc\r\n0\r\n\r\n", Break(400)),
    ("size in full-width", b"\xef\xbc\x93\r\nabc\r\n0\r\n\r\n", Break(400)),
    ("size of 2^63", b"8000000000000000\r\nabc\r\n0\r\n\r\n", Break(400)),
    ("size of 2^64-1", b"ffffffffffffffff\r\nabc\r\n0\r\n\r\n", Break(400)),
    ("size of 2^64", b"10000000000000000\r\nabc\r\n0\r\n\r\n", Break(400)),
    ("size that wraps to 3 in 64 bits", b"10000000000000003\r\nabc\r\n0\r\n\r\n", Break(400)),
    ("size that wraps to 3 in 64 bits, later", b"f0000000000000003\r\nabc\r\n0\r\n\r\n", Break(400)),
    ("size behind an empty line", b"\r\n3\r\nabc\r\n0\r\n\r\n", Break(400)),
    ("size that ends with LF", b"3\nabc\r\n0\r\n\r\n", Break(400)),
    ("size that ends with CR", b"3\rabc\r\n0\r\n\r\n", Break(400)),
    ("size that ends with CR CR LF", b"3\r\r\nabc\r\n0\r\n\r\n", Break(400)),
    ("size that ends with LF CR", b"3\n\rabc\r\n0\r\n\r\n", Break(400)),
    ("data that ends with LF", b"3\r\nabc\n0\r\n\r\n", Break(400)),
    ("data that ends with CR", b"3\r\nabc\r0\r\n\r\n", Break(400)),
    ("data that does not end", b"3\r\nabc0\r\n\r\n", Break(400)),
    ("data that ends with two spaces", b"3\r\nabc  0\r\n\r\n", Break(400)),
    ("data that ends with LF CR", b"3\r\nabc\n\r0\r\n\r\n", Break(400)),
    ("data that ends with CR LF LF", b"3\r\nabc\r\n\n0\r\n\r\n", Break(400)),
    ("data longer than its size", b"3\r\nabcd\r\n0\r\n\r\n", Break(400)),
    ("data shorter than its size", b"4\r\nabc\r\n0\r\n\r\n", Break(400)),
    ("last chunk that ends with LF", b"3\r\nabc\r\n0\n\r\n", Break(400)),
    ("last chunk that ends with LF LF", b"3\r\nabc\r\n0\n\n", Break(400)),
    ("last chunk with an end of LF", b"3\r\nabc\r\n0\r\n\n", Break(400)),
    ("last chunk with an end of CR", b"3\r\nabc\r\n0\r\n\r", Break(400)),
    ("last chunk with an end of CR CR LF", b"3\r\nabc\r\n0\r\n\r\r\n", Break(400)),
    ("last chunk without an end", b"3\r\nabc\r\n0\r\n", Break(400)),
    ("last chunk with plus", b"3\r\nabc\r\n+0\r\n\r\n", Break(400)),
    ("last chunk with a space behind", b"3\r\nabc\r\n0 \r\n\r\n", Break(400)),
    ("trailer", b"3\r\nabc\r\n0\r\nX-A: b\r\n\r\n", posts("abc")),
    ("trailer of an identity", b"3\r\nabc\r\n0\r\nX-User-Id: root\r\nX_User_Id: root\r\n\r\n", posts("abc")),
    ("trailer of a length", b"3\r\nabc\r\n0\r\nContent-Length: 3\r\n\r\n", Break(400)),
    ("trailer of a length in lower case", b"3\r\nabc\r\n0\r\ncontent-length: 50\r\n\r\n", Break(400)),
    ("trailer of a coding", b"3\r\nabc\r\n0\r\nTransfer-Encoding: chunked\r\n\r\n", Break(400)),
    ("trailer of a host", b"3\r\nabc\r\n0\r\nHost: b\r\n\r\n", Break(400)),
    ("trailer of a host behind another", b"3\r\nabc\r\n0\r\nX-A: b\r\nHOST: b\r\n\r\n", Break(400)),
    ("trailer without a colon", b"3\r\nabc\r\n0\r\nX-A\r\n\r\n", Break(400)),
    ("trailer without a name", b"3\r\nabc\r\n0\r\n: b\r\n\r\n", Break(400)),
    ("trailer with a space before the colon", b"3\r\nabc\r\n0\r\nX-A : b\r\n\r\n", Break(400)),
    ("trailer with a space before the name", b"3\r\nabc\r\n0\r\n X-A: b\r\n\r\n", Break(400)),
    ("trailer that is folded", b"3\r\nabc\r\n0\r\nX-A: b\r\n c\r\n\r\n", Break(400)),
    ("trailer with a bare LF", b"3\r\nabc\r\n0\r\nX-A: b\nX-B: c\r\n\r\n", Break(400)),
    ("trailer that ends with LF", b"3\r\nabc\r\n0\r\nX-A: b\n\r\n", Break(400)),
    ("trailer with a bare CR", b"3\r\nabc\r\n0\r\nX-A: b\rc\r\n\r\n", Break(400)),
    ("trailer with NUL", b"3\r\nabc\r\n0\r\nX-A: \0\r\n\r\n", Break(400)),
    ("trailers that end with LF", b"3\r\nabc\r\n0\r\nX-A: b\r\n\n", Break(400)),
    ("trailer that is the next request", b"3\r\nabc\r\n0\r\nGET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n", Break(400)),
];

pub(super) fn cases() -> Vec<Case> {
    let fields = b"Transfer-Encoding: chunked\r\n";
    let chunked = |name: &str, body: &[u8], verdict| Case::post("chunks", name, fields, body, verdict);
    let mut cases: Vec<Case> = CHUNKS.iter().map(|(name, body, verdict)| chunked(name, body, *verdict)).collect();
    let extended = |length: usize| format!("3;{}\r\nabc\r\n0\r\n\r\n", "e".repeat(length));
    cases.push(chunked("extension of 256 bytes", extended(256).as_bytes(), posts("abc")));
    cases.push(chunked("extension of 257 bytes", extended(257).as_bytes(), Break(400)));
    cases.push(chunked("extension of 20,000 bytes", extended(20_000).as_bytes(), Break(400)));
    let trailers = |count: usize| format!("3\r\nabc\r\n0\r\n{}\r\n", "X-A: b\r\n".repeat(count));
    cases.push(chunked("fifty trailers", trailers(50).as_bytes(), posts("abc")));
    cases.push(chunked("a hundred and one trailers", trailers(101).as_bytes(), Break(400)));
    let extensions = format!("{}0\r\n\r\n", "1;eeeeeeee\r\na\r\n".repeat(10));
    cases.push(chunked("ten chunks with extensions", extensions.as_bytes(), posts("aaaaaaaaaa")));
    cases
}
