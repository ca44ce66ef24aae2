//! The last request of each session, in memory: noted by all workers, written to the store now and then.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use dashmap::DashMap;

use crate::clock::UnixTime;
use crate::ids::SessionId;

/// Sessions noted at most: about 60 MB. Beyond, requests of sessions not noted are written to the store one by one.
pub(crate) const MAX_NOTED: usize = 1_000_000;

/// How long a session without a request stays noted once that is written. Its next request then asks the store.
const KEPT_FOR: Duration = Duration::from_secs(600);

struct Noted {
    /// Milliseconds since 1970. Atomic, so that noting needs no more than the shard's read lock.
    last: AtomicU64,
    /// What of it the store has.
    written: u64,
}

/// What is known of requests and perhaps not yet stored.
pub(crate) struct Activity {
    noted: DashMap<SessionId, Noted>,
    most: usize,
}

impl Activity {
    pub(crate) fn new(most: usize) -> Self {
        Self { noted: DashMap::with_shard_amount(256), most }
    }

    /// The last request noted.
    pub(crate) fn last(&self, id: &SessionId) -> Option<UnixTime> {
        Some(UnixTime::from_millis(self.noted.get(id)?.last.load(Ordering::Relaxed)))
    }

    /// Notes a request of a session that is noted already and whose last one is less than `idle` ago.
    pub(crate) fn touch(&self, id: &SessionId, now: UnixTime, idle: Duration) -> bool {
        let Some(noted) = self.noted.get(id) else {
            return false;
        };
        if now.since(UnixTime::from_millis(noted.last.load(Ordering::Relaxed))) >= idle {
            return false;
        }
        // The greatest stays, in whatever order the workers come.
        noted.last.fetch_max(now.as_millis(), Ordering::Relaxed);
        true
    }

    /// Notes a request of a session that may not be noted yet, of which the store has `stored`.
    ///
    /// `false`: there is no room, and the request must be written to the store, or the session would end early.
    pub(crate) fn note(&self, id: SessionId, now: UnixTime, stored: UnixTime) -> bool {
        if let Some(noted) = self.noted.get(&id) {
            noted.last.fetch_max(now.as_millis(), Ordering::Relaxed);
            return true;
        }
        // Workers that pass here together may exceed the bound by their number.
        if self.noted.len() >= self.most {
            return false;
        }
        let noted = self
            .noted
            .entry(id)
            .or_insert_with(|| Noted { last: AtomicU64::new(stored.as_millis()), written: stored.as_millis() });
        noted.last.fetch_max(now.as_millis(), Ordering::Relaxed);
        true
    }

    /// The session has ended.
    pub(crate) fn forget(&self, id: &SessionId) {
        self.noted.remove(id);
    }

    /// What the store does not have yet.
    pub(crate) fn unwritten(&self) -> Vec<(SessionId, UnixTime)> {
        self.noted
            .iter()
            .filter_map(|noted| {
                let last = noted.last.load(Ordering::Relaxed);
                (last > noted.written).then(|| (*noted.key(), UnixTime::from_millis(last)))
            })
            .collect()
    }

    /// The store has these now.
    pub(crate) fn written(&self, seen: &[(SessionId, UnixTime)]) {
        for (id, last) in seen {
            if let Some(mut noted) = self.noted.get_mut(id) {
                noted.written = noted.written.max(last.as_millis());
            }
        }
    }

    /// Drops what the store has and nobody asked for lately.
    pub(crate) fn trim(&self, now: UnixTime) {
        // Sooner when the room is getting scarce.
        let kept_for = if self.noted.len() > self.most / 2 { KEPT_FOR / 10 } else { KEPT_FOR };
        self.noted.retain(|_, noted| {
            let last = *noted.last.get_mut();
            last > noted.written || now.since(UnixTime::from_millis(last)) < kept_for
        });
    }

    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.noted.len()
    }
}
