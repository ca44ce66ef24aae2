//! Ended sessions of our own: a table in many parts, each under a lock of its own.
//!
//! Made for being large: a place takes 21 bytes and at least five of eight are taken, and nobody waits for more than one
//! part to grow, which is a four-thousandth of the whole. An ordinary hash table doubles, so that for a while more than
//! half of it is empty.

use std::hash::{BuildHasher as _, RandomState};
use std::iter::repeat_with;
use std::sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use super::Ended;
use crate::clock::UnixTime;
use crate::ids::SessionId;

/// With ten million entries one has 2 400, which move to a larger table in a tenth of a millisecond.
const PARTS: usize = 4096;

/// Sessions with why they ended. Exact: ids are compared whole.
pub(super) struct OwnSessions {
    /// With a key of this process: nobody can choose ids that meet.
    hasher: RandomState,
    parts: Box<[RwLock<Part>]>,
}

impl OwnSessions {
    pub(super) fn new() -> Self {
        let empty = || RwLock::new(Part::default());
        Self { hasher: RandomState::new(), parts: repeat_with(empty).take(PARTS).collect() }
    }

    fn part(&self, hash: u64) -> &RwLock<Part> {
        // The upper half chooses the part, the lower the place in it.
        &self.parts[scaled(hash >> 32, self.parts.len())]
    }

    pub(super) fn get(&self, id: &SessionId) -> Option<Ended> {
        let hash = self.hasher.hash_one(id);
        let part = read(self.part(hash));
        part.find(id, hash).ok().map(|at| part.places[at].ended)
    }

    /// Adds an entry, or [merges](Ended::merge) it into the one that is there.
    pub(super) fn insert(&self, id: SessionId, ended: Ended) {
        let hash = self.hasher.hash_one(id);
        let mut part = write(self.part(hash));
        match part.find(&id, hash) {
            Ok(at) => part.places[at].ended.merge(ended),
            Err(_) => part.add(Place { id, ended }, hash, &self.hasher),
        }
    }

    /// Removes what has expired; how many that were.
    pub(super) fn purge(&self, now: UnixTime) -> usize {
        self.parts.iter().map(|part| write(part).purge(now, &self.hasher)).sum()
    }

    pub(super) fn len(&self) -> usize {
        self.parts.iter().map(|part| read(part).live).sum()
    }

    /// All entries, each part as it is at one moment.
    pub(super) fn for_each(&self, mut each: impl FnMut(SessionId, Ended)) {
        for part in &self.parts {
            let live: Vec<_> = read(part).places.iter().filter(|place| place.is_live()).copied().collect();
            live.into_iter().for_each(|place| each(place.id, place.ended));
        }
    }
}

fn read(part: &RwLock<Part>) -> RwLockReadGuard<'_, Part> {
    part.read().unwrap_or_else(PoisonError::into_inner)
}

fn write(part: &RwLock<Part>) -> RwLockWriteGuard<'_, Part> {
    part.write().unwrap_or_else(PoisonError::into_inner)
}

/// `upper`, a number of 32 bits, on a scale from 0 to below `length`.
fn scaled(upper: u64, length: usize) -> usize {
    // Both have at most 32 bits, and so has the result.
    (((upper & 0xffff_ffff) * length as u64) >> 32) as usize
}

#[derive(Clone, Copy)]
struct Place {
    id: SessionId,
    ended: Ended,
}

impl Place {
    const EMPTY: Self = Self { id: SessionId::from_bytes([0; 16]), ended: Ended([0; 5]) };
    /// An entry was here: whoever looks for another goes on.
    const GONE: Self = Self { ended: Ended([1, 0, 0, 0, 0]), ..Self::EMPTY };

    /// No reason has the code 0.
    fn is_live(&self) -> bool {
        self.ended.0[4] != 0
    }

    fn is_empty(&self) -> bool {
        self.ended.0 == Self::EMPTY.ended.0
    }
}

/// Open addressing with linear probing: what a hash leads to, or the places behind it.
#[derive(Default)]
struct Part {
    places: Vec<Place>,
    live: usize,
    /// Places that are not empty.
    used: usize,
}

impl Part {
    /// Where an entry is, or the empty place where the search for it ended.
    fn find(&self, id: &SessionId, hash: u64) -> Result<usize, usize> {
        let length = self.places.len();
        let mut at = scaled(hash, length);
        // One in five is empty at least, so this ends.
        while let Some(place) = self.places.get(at) {
            if place.id == *id && place.is_live() {
                return Ok(at);
            }
            if place.is_empty() {
                break;
            }
            at = if at + 1 == length { 0 } else { at + 1 };
        }
        Err(at)
    }

    /// Adds an entry that is not there.
    fn add(&mut self, place: Place, hash: u64, hasher: &RandomState) {
        if (self.used + 1) * 5 > self.places.len() * 4 {
            self.rebuild(self.live + 1, hasher);
        }
        self.put(place, hash);
    }

    fn put(&mut self, place: Place, hash: u64) {
        if let Err(at) = self.find(&place.id, hash) {
            self.places[at] = place;
            self.live += 1;
            self.used += 1;
        }
    }

    /// Moves all entries to a table for `count`, five of eight places of which they take.
    fn rebuild(&mut self, count: usize, hasher: &RandomState) {
        let length = if count == 0 { 0 } else { (count * 8).div_ceil(5).max(4) };
        let old = std::mem::replace(self, Self { places: vec![Place::EMPTY; length], live: 0, used: 0 });
        for place in old.places.into_iter().filter(Place::is_live) {
            self.put(place, hasher.hash_one(place.id));
        }
    }

    fn purge(&mut self, now: UnixTime, hasher: &RandomState) -> usize {
        let before = self.live;
        for place in &mut self.places {
            if place.is_live() && place.ended.expired(now) {
                *place = Place::GONE;
                self.live -= 1;
            }
        }
        // Few that are gone are left for the next growth. After many, memory is given back.
        if (self.used - self.live) * 4 > self.used {
            self.rebuild(self.live, hasher);
        }
        before - self.live
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use proptest::prelude::*;

    use super::super::EndReason;
    use super::*;

    fn id(number: u32) -> SessionId {
        SessionId::from_bytes(u128::from(number).to_be_bytes())
    }

    fn until(seconds: u64) -> Ended {
        Ended::new(EndReason::SignedOut, UnixTime::from_secs(seconds))
    }

    fn places(all: &OwnSessions) -> usize {
        all.parts.iter().map(|part| read(part).places.capacity()).sum()
    }

    #[test]
    fn a_place_takes_21_bytes_and_most_are_taken_however_many_there_are() {
        assert_eq!(size_of::<Place>(), 21);
        let all = OwnSessions::new();
        for number in 1..=300_000 {
            all.insert(id(number), until(100));
            // Parts of fewer than a few dozen are not what memory is spent on.
            if number >= 200_000 && number % 10_000 == 0 {
                let each = places(&all) as f64 * 21.0 / f64::from(number);
                assert!(each < 36.0, "{each} bytes at {number}");
            }
        }
        assert_eq!(all.len(), 300_000);
    }

    #[test]
    fn a_purge_of_many_gives_their_memory_back_and_keeps_the_others() {
        let all = OwnSessions::new();
        for number in 0..200_000 {
            all.insert(id(number), until(if number % 1000 == 0 { 200 } else { 100 }));
        }
        let before = places(&all);
        assert_eq!(all.purge(UnixTime::from_secs(150)), 199_800);
        assert!(places(&all) < before / 100, "{} of {before}", places(&all));
        for number in 0..200_000 {
            assert_eq!(all.get(&id(number)).is_some(), number % 1000 == 0, "{number}");
        }
        assert_eq!(all.purge(UnixTime::from_secs(999)), 200);
        assert_eq!((all.len(), places(&all)), (0, 0));
    }

    #[test]
    fn entries_that_come_and_go_take_no_more_room_in_the_end() {
        let all = OwnSessions::new();
        for second in 0..50_u32 {
            for number in 0..2_000 {
                all.insert(id(second * 2_000 + number), until(u64::from(second) + 10));
            }
            let gone = all.purge(UnixTime::from_millis(u64::from(second) * 1000 + 1));
            assert_eq!(gone, if second >= 10 { 2_000 } else { 0 });
        }
        assert_eq!(all.len(), 20_000);
        assert!(places(&all) < 20_000 * 3, "{}", places(&all));
    }

    proptest! {
        /// One part, so that entries meet: it says what an ordinary map says, after whatever came and went.
        #[test]
        fn is_an_exact_map(steps in proptest::collection::vec((0_u32..60, 0_u64..100, 0_u8..8), 1..400)) {
            let mut all = OwnSessions::new();
            all.parts = Box::new([RwLock::default()]);
            let mut plain = HashMap::<u32, u64>::new();
            for (number, second, step) in steps {
                if step == 0 {
                    let now = UnixTime::from_secs(second);
                    let gone = plain.len();
                    plain.retain(|_, until| *until >= second);
                    prop_assert_eq!(all.purge(now), gone - plain.len());
                } else {
                    all.insert(id(number), until(second));
                    let kept = plain.entry(number).or_insert(second);
                    *kept = second.max(*kept);
                }
                for number in 0..60 {
                    let found = all.get(&id(number)).map(|ended| u64::from(ended.expires_at()));
                    prop_assert_eq!(found, plain.get(&number).copied());
                }
                let mut met = HashMap::new();
                all.for_each(|id, ended| {
                    met.insert(id, ended.expires_at());
                });
                prop_assert_eq!((met.len(), all.len()), (plain.len(), plain.len()));
            }
        }
    }
}
