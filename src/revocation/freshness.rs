//! How current the revocations are when others make some, too.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::clock::since_boot;

/// How far behind the ends that other gateways made the list of this one may be.
///
/// Measured without comparing clocks: this gateway sends a beat into each part of the feed and reads the feed in order, so
/// a beat that comes back tells that everything acknowledged before it was *sent* is known. The time since then is the
/// lag. It goes on while the process is stopped or the machine suspended.
#[derive(Debug)]
pub struct Freshness {
    /// On the clock of [`since_boot`].
    origin: Duration,
    parts: Box<[Part]>,
    /// Of the part that is furthest behind: when the latest beat that counts was sent.
    known_until: AtomicU64,
    /// When the feed last went on after a gap, in milliseconds since `origin`; 0: there was none.
    resumed_at: AtomicU64,
    max_lag: Duration,
}

/// When the latest beat was sent that …, in milliseconds since `origin`.
#[derive(Debug)]
struct Part {
    /// … came back through the feed.
    read: AtomicU64,
    /// … the replicas have. A server that was cut off from its replicas gives our own beats back for as long as we talk
    /// to it, while others end sessions on the one that took its place.
    held: AtomicU64,
}

/// A lag that only comes from a feed that stands still: several beats are missing.
const GAP: Duration = Duration::from_secs(2);

impl Freshness {
    /// As old as the process, until all of the `parts` have beaten. `replicas`: whether a beat counts only when
    /// [`held`](Self::held), too.
    pub fn new(parts: usize, replicas: bool, max_lag: Duration) -> Self {
        let held = if replicas { 0 } else { u64::MAX };
        let part = || Part { read: AtomicU64::new(0), held: AtomicU64::new(held) };
        Self {
            origin: since_boot(),
            parts: std::iter::repeat_with(part).take(parts).collect(),
            known_until: AtomicU64::new(0),
            resumed_at: AtomicU64::new(0),
            max_lag,
        }
    }

    fn elapsed(&self) -> Duration {
        since_boot().saturating_sub(self.origin)
    }

    /// The time now, as a beat carries it.
    pub fn beat(&self) -> u64 {
        u64::try_from(self.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// A beat of ours that was sent at `beat` came back through this part of the feed.
    pub fn came_back(&self, part: usize, beat: u64) {
        if let Some(part) = self.parts.get(part) {
            part.read.fetch_max(beat, Ordering::AcqRel);
        }
        self.count();
    }

    /// The replicas of this part have a beat of ours that was sent at `beat`.
    pub fn held(&self, part: usize, beat: u64) {
        if let Some(part) = self.parts.get(part) {
            part.held.fetch_max(beat, Ordering::AcqRel);
        }
        self.count();
    }

    fn count(&self) {
        let known = |part: &Part| part.read.load(Ordering::Acquire).min(part.held.load(Ordering::Acquire));
        let least = self.parts.iter().map(known).min().unwrap_or_default();
        if least > self.known_until.load(Ordering::Acquire) && self.lag() > GAP {
            self.resumed_at.store(self.beat(), Ordering::Release);
        }
        // Release: who sees this sees the entries that were read before the beat.
        self.known_until.fetch_max(least, Ordering::AcqRel);
    }

    /// All ends acknowledged longer ago than this are known.
    pub fn lag(&self) -> Duration {
        let known_until = self.known_until.load(Ordering::Acquire);
        self.elapsed().saturating_sub(Duration::from_millis(known_until))
    }

    /// How long the feed has gone on without a gap, as far as this process has seen; zero in a gap.
    pub fn steady_for(&self) -> Duration {
        if self.lag() > GAP {
            return Duration::ZERO;
        }
        self.elapsed().saturating_sub(Duration::from_millis(self.resumed_at.load(Ordering::Acquire)))
    }

    /// Whether the lag is more than `store.max_revocation_lag`.
    pub fn is_stale(&self) -> bool {
        self.lag() > self.max_lag
    }

    /// `store.max_revocation_lag`
    pub fn max_lag(&self) -> Duration {
        self.max_lag
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As old as `age_s`.
    fn aged(replicas: bool, age_s: u64) -> Freshness {
        let fresh = Freshness::new(2, replicas, Duration::from_secs(5));
        // A machine that runs for less would be an odd one, and then the times below are a little shorter.
        Freshness { origin: fresh.origin.saturating_sub(Duration::from_secs(age_s)), ..fresh }
    }

    #[test]
    fn the_slowest_part_tells_and_an_older_beat_changes_nothing() {
        let fresh = aged(false, 20);
        assert!(fresh.is_stale());
        fresh.came_back(0, 19_000);
        assert!(fresh.is_stale());
        fresh.came_back(1, 18_000);
        assert!(!fresh.is_stale());
        fresh.came_back(1, 10_000);
        let lag = fresh.lag();
        assert!(lag >= Duration::from_secs(2) && lag < Duration::from_secs(5), "{lag:?}");
    }

    #[test]
    fn a_beat_that_no_replica_has_does_not_count() {
        let fresh = aged(true, 20);
        for part in [0, 1] {
            fresh.came_back(part, 19_500);
        }
        assert!(fresh.is_stale());
        fresh.held(0, 19_500);
        fresh.held(1, 19_000);
        let lag = fresh.lag();
        assert!(lag >= Duration::from_secs(1) && lag < Duration::from_secs(5), "{lag:?}");
    }

    #[test]
    fn a_first_beat_that_comes_late_ends_a_gap_like_any_other() {
        let late = aged(false, 20);
        assert_eq!(late.steady_for(), Duration::ZERO);
        late.came_back(0, 20_000);
        late.came_back(1, 20_000);
        assert!(late.steady_for() < Duration::from_secs(5), "{:?}", late.steady_for());
    }
}
