//! Where things stand in Redis: sixteen parts, each in a hash slot of its own.
//!
//! All of a user's sessions are in one part, with their index, the revocations they leave and the stretch of the feed
//! that tells of those. So every operation is one script on one slot, in a cluster as on one server, and what it ends is
//! in the feed by the same atomic write. The part of a user is a hash of the name; four bits of a session's id repeat it,
//! so that a refresh token, which names only the session, finds it too.

use aws_lc_rs::digest;

use crate::ids::{SessionId, SessionName, UserId};
use crate::revocation::Revocation;

/// How many parts there are. A cluster of more primaries than this leaves some without work.
pub(super) const PARTS: usize = 16;

/// Hash slots of a cluster.
const SLOTS: usize = 16_384;

/// One of the sixteen.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub(super) struct Part(u8);

impl Part {
    pub(super) fn all() -> impl Iterator<Item = Self> {
        (0..PARTS as u8).map(Self)
    }

    pub(super) fn from_index(index: u8) -> Option<Self> {
        (usize::from(index) < PARTS).then_some(Self(index))
    }

    pub(super) fn index(self) -> usize {
        self.0.into()
    }

    fn of_text(text: &str) -> Self {
        Self(digest::digest(&digest::SHA256, text.as_bytes()).as_ref()[0] >> 4)
    }

    /// Where all of a user is.
    pub(super) fn of_user(user: &UserId) -> Self {
        Self::of_text(user.as_str())
    }

    /// Where a session is, or a pointer to where it is.
    pub(super) fn of_session(id: SessionId) -> Self {
        Self(id.as_bytes()[0] >> 4)
    }

    /// Where a revocation is kept.
    pub(super) fn of_revocation(revocation: &Revocation) -> Self {
        match revocation {
            Revocation::Session { session: SessionName::Own(id), .. } => Self::of_session(*id),
            Revocation::Session { session: SessionName::Other(text), .. } => Self::of_text(text),
            Revocation::User { user, .. } => Self::of_user(user),
        }
    }

    /// `random` as the id of a session in this part: 124 of its bits stay.
    pub(super) fn place(self, random: SessionId) -> SessionId {
        let mut bytes = *random.as_bytes();
        bytes[0] = self.0 << 4 | bytes[0] & 0x0f;
        SessionId::from_bytes(bytes)
    }
}

/// The names of all keys. Version 1 of their layout stands in each.
#[derive(Debug)]
pub(super) struct Keys {
    /// Of each part, such as `portcullis:1:{5}:`.
    prefixes: Vec<String>,
    /// Of each part, its hash slot.
    slots: Vec<u16>,
}

impl Keys {
    pub(super) fn new(prefix: &str) -> Self {
        let tags: Vec<String> = (0..PARTS).map(tag).collect();
        Self {
            slots: tags.iter().map(|tag| slot(tag.as_bytes())).collect(),
            prefixes: tags.iter().map(|tag| format!("{prefix}:1:{{{tag}}}:")).collect(),
        }
    }

    /// The hash slot of a part.
    pub(super) fn slot(&self, part: Part) -> u16 {
        self.slots[part.index()]
    }

    fn key(&self, part: Part, name: &str) -> Vec<u8> {
        [self.prefixes[part.index()].as_bytes(), name.as_bytes()].concat()
    }

    /// A session's row, or a pointer to another part.
    pub(super) fn session(&self, part: Part, id: SessionId) -> Vec<u8> {
        [self.prefixes[part.index()].as_bytes(), b"s:", &id.as_bytes()[..]].concat()
    }

    /// A sorted set: user, creation and id of each session, in the order of bytes.
    pub(super) fn by_user(&self, part: Part) -> Vec<u8> {
        self.key(part, "users")
    }

    /// A hash: the revocations and the notes of why sessions ended.
    pub(super) fn revocations(&self, part: Part) -> Vec<u8> {
        self.key(part, "revocations")
    }

    /// A sorted set: when each of them may go.
    pub(super) fn expiry(&self, part: Part) -> Vec<u8> {
        self.key(part, "expiry")
    }

    /// A stream: revocations as they come, and beats.
    pub(super) fn feed(&self, part: Part) -> Vec<u8> {
        self.key(part, "feed")
    }

    /// A hash: what the gateways say of the part itself.
    pub(super) fn meta(&self, part: Part) -> Vec<u8> {
        self.key(part, "meta")
    }

    /// Which gateway sweeps.
    pub(super) fn sweeper(&self) -> (Part, Vec<u8>) {
        (Part(0), self.key(Part(0), "sweeper"))
    }
}

/// The hash tag of a part: the first number whose slot lies in its sixteenth of all slots, so that primaries with equal
/// ranges have equal numbers of parts.
fn tag(part: usize) -> String {
    let width = SLOTS / PARTS;
    (0_u32..)
        .map(|number| number.to_string())
        .find(|text| usize::from(slot(text.as_bytes())) / width == part)
        .unwrap_or_default()
}

/// The hash slot of a tag: CRC-16/XMODEM, as the Redis Cluster specification says.
fn slot(tag: &[u8]) -> u16 {
    let crc = tag.iter().fold(0_u16, |crc, byte| {
        (0..8).fold(crc ^ u16::from(*byte) << 8, |crc, _| if crc & 0x8000 == 0 { crc << 1 } else { crc << 1 ^ 0x1021 })
    });
    crc % SLOTS as u16
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_are_those_of_the_specification_and_evenly_spread() {
        // The check value of the specification, and two that `CLUSTER KEYSLOT` gave.
        assert_eq!(slot(b"123456789"), 0x31c3);
        assert_eq!((slot(b"foo"), slot(b"user1000")), (12182, 3443));
        let keys = Keys::new("portcullis");
        for part in Part::all() {
            assert_eq!(usize::from(keys.slot(part)) / 1024, part.index());
        }
        // The layout is for good: other tags would lose every session.
        let tags: Vec<String> = (0..PARTS).map(tag).collect();
        assert_eq!(tags.len(), 16);
        assert!(tags.iter().all(|tag| !tag.is_empty()));
    }

    #[test]
    fn a_session_is_placed_with_its_user() {
        for name in ["ann", "eve", "Zed <z@example.com>"] {
            let part = Part::of_user(&UserId::parse(name).unwrap());
            let id = part.place(SessionId::from_bytes([0xab; 16]));
            assert_eq!(Part::of_session(id), part);
            assert_eq!(id.as_bytes()[0] & 0x0f, 0x0b);
            assert_eq!(id.as_bytes()[1..], [0xab; 15]);
        }
    }
}
