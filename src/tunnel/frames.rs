//! Where WebSocket frames begin and end (RFC 6455 §5.2): a frame of ours may only stand between two of theirs.

/// Follows the frames of one direction, whatever pieces their bytes come in. Keeps nothing of them.
#[derive(Debug, Default)]
pub(super) struct Frames {
    header: [u8; 2],
    /// Bytes of the current frame's header that have come; 0 between frames and within a payload.
    have: u8,
    /// The extended length so far.
    length: u64,
    /// Bytes left of the current payload.
    left: u64,
}

impl Frames {
    /// These bytes come next.
    pub(super) fn advance(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            if self.left > 0 {
                let here = usize::try_from(self.left).unwrap_or(usize::MAX).min(bytes.len());
                self.left -= here as u64;
                bytes = &bytes[here..];
                continue;
            }
            let byte = bytes[0];
            bytes = &bytes[1..];
            if let Some(place) = self.header.get_mut(usize::from(self.have)) {
                *place = byte;
            } else if self.have < 2 + self.length_bytes() {
                self.length = (self.length << 8) | u64::from(byte);
            }
            self.have += 1;
            if self.have >= 2 && self.have == self.header_bytes() {
                self.left = if self.length_bytes() == 0 { u64::from(self.header[1] & 0x7f) } else { self.length };
                self.have = 0;
                self.length = 0;
            }
        }
    }

    /// Whether a frame may begin here.
    pub(super) fn is_between(&self) -> bool {
        self.have == 0 && self.left == 0
    }

    /// Bytes that can be taken without beginning another frame; 0 between two.
    pub(super) fn rest(&self) -> usize {
        match self.have {
            0 => usize::try_from(self.left).unwrap_or(usize::MAX),
            1 => 1,
            have => usize::from(self.header_bytes() - have),
        }
    }

    fn length_bytes(&self) -> u8 {
        match self.header[1] & 0x7f {
            126 => 2,
            127 => 8,
            _ => 0,
        }
    }

    fn header_bytes(&self) -> u8 {
        let mask = if self.header[1] & 0x80 == 0 { 0 } else { 4 };
        2 + self.length_bytes() + mask
    }
}

/// A close frame (RFC 6455 §5.5.1) with a status code and a reason of at most 123 bytes; the rest is left out. A client's
/// is masked (§5.3).
pub(super) fn close_frame(code: u16, reason: &'static str, mask: Option<[u8; 4]>) -> Vec<u8> {
    let reason = &reason.as_bytes()[..reason.len().min(123)];
    let length = u8::try_from(2 + reason.len()).unwrap_or(125);
    let mut frame = vec![0x88, length | if mask.is_some() { 0x80 } else { 0 }];
    frame.extend(mask.unwrap_or_default().iter().take(if mask.is_some() { 4 } else { 0 }));
    let payload = code.to_be_bytes().into_iter().chain(reason.iter().copied());
    let mask = mask.unwrap_or_default();
    frame.extend(payload.zip(mask.into_iter().cycle()).map(|(byte, mask)| byte ^ mask));
    frame
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn frame(masked: bool, payload: usize) -> Vec<u8> {
        let mut bytes = vec![0x82];
        let mask = if masked { 0x80 } else { 0 };
        match payload {
            0..126 => bytes.push(mask | u8::try_from(payload).unwrap()),
            126..65_536 => {
                bytes.push(mask | 126);
                bytes.extend(u16::try_from(payload).unwrap().to_be_bytes());
            }
            _ => {
                bytes.push(mask | 127);
                bytes.extend((payload as u64).to_be_bytes());
            }
        }
        bytes.extend(if masked { &[1, 2, 3, 4][..] } else { &[] });
        bytes.extend(std::iter::repeat_n(0x81, payload));
        bytes
    }

    proptest! {
        #[test]
        fn boundaries_are_found_in_whatever_pieces_the_bytes_come(
            frames in prop::collection::vec((any::<bool>(), prop_oneof![0..200usize, 65_000..66_000usize]), 1..8),
            piece in 1..3000usize,
        ) {
            let mut ends = vec![0];
            let mut bytes = Vec::new();
            for (masked, payload) in frames {
                bytes.extend(frame(masked, payload));
                ends.push(bytes.len());
            }
            let mut found = Frames::default();
            let mut at = 0;
            for piece in bytes.chunks(piece) {
                found.advance(piece);
                at += piece.len();
                prop_assert_eq!(found.is_between(), ends.contains(&at), "at {}", at);
                let next = ends.iter().copied().filter(|end| *end >= at).min().unwrap();
                prop_assert!(found.rest() <= next - at, "{} at {}", found.rest(), at);
                prop_assert_eq!(found.rest() == 0, next == at);
            }
        }

        #[test]
        fn no_bytes_make_it_panic_or_stall(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
            let mut frames = Frames::default();
            frames.advance(&bytes);
            prop_assert_eq!(frames.rest() == 0, frames.is_between());
        }
    }

    #[test]
    fn a_frame_of_the_greatest_length_is_only_a_long_one() {
        let mut frames = Frames::default();
        frames.advance(&[0x82, 127, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff]);
        frames.advance(&[0; 5000]);
        assert!(!frames.is_between());
    }

    #[test]
    fn a_close_frame_is_one_whole_frame_of_its_side() {
        assert_eq!(close_frame(1008, "signed_out", None), b"\x88\x0c\x03\xf0signed_out");
        let masked = close_frame(1001, "x", Some([1, 2, 3, 4]));
        assert_eq!(masked, [0x88, 0x83, 1, 2, 3, 4, 0x03 ^ 1, 0xe9 ^ 2, b'x' ^ 3]);
        for bytes in [masked, close_frame(1000, "", None), close_frame(1008, "signed_in_elsewhere", Some([9; 4]))] {
            let mut frames = Frames::default();
            frames.advance(&bytes[..bytes.len() - 1]);
            assert!(!frames.is_between());
            frames.advance(&bytes[bytes.len() - 1..]);
            assert!(frames.is_between());
        }
    }
}
