//! The frames of HTTP/2 as they pass by, without a look at what is in them.

use std::num::NonZeroUsize;

/// The preface of a client (RFC 9113 §3.4).
const PREFACE_BYTES: usize = 24;
/// Length, type, flags, stream (RFC 9113 §4.1).
const HEAD_BYTES: usize = 9;

const DATA: u8 = 0;
const HEADERS: u8 = 1;

const END_STREAM: u8 = 1;
const PADDED: u8 = 8;

/// Finds the frames in the bytes of a client, however they are cut into pieces.
///
/// It counts all frames but those that carry a body, or end one: each stream has one end. Whatever the bytes are, the
/// library that reads them after us says what is wrong with them.
#[derive(Debug)]
pub(super) struct Frames {
    head: [u8; HEAD_BYTES],
    /// How much of `head` has come.
    have: usize,
    /// What is to be passed over before the next head.
    skip: usize,
    /// The next byte says how many of so many in all are padding (RFC 9113 §6.1).
    padded: Option<NonZeroUsize>,
    last_stream: u32,
}

impl Frames {
    pub(super) fn new() -> Self {
        Self { head: [0; HEAD_BYTES], have: 0, skip: PREFACE_BYTES, padded: None, last_stream: 0 }
    }

    /// The highest stream for which a header came.
    pub(super) fn last_stream(&self) -> u32 {
        self.last_stream
    }

    /// How many frames without a body begin in `bytes`, which follow what was given before.
    pub(super) fn count(&mut self, mut bytes: &[u8]) -> u32 {
        let mut count = 0;
        while let Some((first, after)) = bytes.split_first() {
            if self.skip > 0 {
                let passed = self.skip.min(bytes.len());
                self.skip -= passed;
                bytes = bytes.get(passed..).unwrap_or_default();
            } else if let Some(length) = self.padded.take() {
                // The length of the padding is not its own: with nothing else in it the frame is an empty one.
                count += u32::from(usize::from(*first) + 1 >= length.get());
                self.skip = length.get() - 1;
                bytes = after;
            } else {
                self.head[self.have] = *first;
                self.have += 1;
                bytes = after;
                if self.have == HEAD_BYTES {
                    self.have = 0;
                    count += u32::from(self.begins());
                }
            }
        }
        count
    }

    /// A frame begins: whether it is known already that it carries no body.
    fn begins(&mut self) -> bool {
        let [a, b, c, kind, flags, stream @ ..] = self.head;
        self.skip = usize::from(a) << 16 | usize::from(b) << 8 | usize::from(c);
        match kind {
            DATA if flags & END_STREAM != 0 => false,
            DATA if flags & PADDED != 0 => {
                self.padded = NonZeroUsize::new(std::mem::take(&mut self.skip));
                self.padded.is_none()
            }
            DATA => self.skip == 0,
            HEADERS => {
                self.last_stream = self.last_stream.max(u32::from_be_bytes(stream) & (u32::MAX >> 1));
                true
            }
            _ => true,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
        let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
        [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
    }

    #[test]
    fn what_carries_a_body_is_not_counted_however_it_is_cut() {
        let cases: &[(&str, Vec<u8>, u32)] = &[
            ("settings", frame(4, 0, 0, &[0; 12]), 1),
            ("acknowledged settings", frame(4, 1, 0, &[]), 1),
            ("ping", frame(6, 0, 0, &[0; 8]), 1),
            ("header", frame(1, 5, 7, &[0x82]), 1),
            ("continuation", frame(9, 4, 1, &[0x82; 300]), 1),
            ("reset", frame(3, 0, 1, &[0; 4]), 1),
            ("window", frame(8, 0, 0, &[0, 0, 0, 1]), 1),
            ("priority", frame(2, 0, 1, &[0; 5]), 1),
            ("unknown, and long", frame(0xfa, 0xff, 1, &[0; 70_000]), 1),
            ("data", frame(0, 0, 1, &[0; 70_000]), 0),
            ("a byte of data", frame(0, 0, 1, &[0]), 0),
            ("empty data", frame(0, 0, 1, &[]), 1),
            ("empty data at the end", frame(0, 1, 1, &[]), 0),
            ("data and padding", frame(0, 8, 1, &[2, b'x', 0, 0]), 0),
            ("padding alone", frame(0, 8, 1, &[3, 0, 0, 0]), 1),
            ("no padding, no data", frame(0, 8, 1, &[0]), 1),
            ("more padding than there is room for", frame(0, 8, 1, &[255, 0]), 1),
            ("padded without a byte", frame(0, 8, 1, &[]), 1),
            ("padding at the end", frame(0, 9, 1, &[1, 0]), 0),
        ];
        let mut failed = Vec::new();
        let all: Vec<u8> =
            cases.iter().fold(vec![b'P'; PREFACE_BYTES], |all, (_, bytes, _)| [all, bytes.clone()].concat());
        let expected: u32 = cases.iter().map(|(_, _, count)| count).sum();
        for piece in [1, 2, 7, 9, 10, 1000, all.len()] {
            let mut frames = Frames::new();
            let counted: u32 = all.chunks(piece).map(|bytes| frames.count(bytes)).sum();
            if (counted, frames.last_stream()) != (expected, 7) {
                failed.push(format!("pieces of {piece}: {counted} instead of {expected}"));
            }
        }
        for (name, bytes, expected) in cases {
            let mut frames = Frames::new();
            let counted = frames.count(&[&[b'P'; PREFACE_BYTES], &bytes[..]].concat());
            if counted != *expected {
                failed.push(format!("{name}: {counted} instead of {expected}"));
            }
        }
        assert!(failed.is_empty(), "{}", failed.join("\n"));
    }
}
