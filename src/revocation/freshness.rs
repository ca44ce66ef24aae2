//! How current the revocations are when others make some, too.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// How far behind the ends that other gateways made the list of this one may be.
///
/// Measured without comparing clocks: this gateway sends a beat into each part of the feed and reads the feed in order, so
/// a beat that comes back tells that everything acknowledged before it was *sent* is known. The time since then is the
/// lag. It goes on while the process is stopped, for the monotonic clock does.
#[derive(Debug)]
pub struct Freshness {
    origin: Instant,
    /// Of each part: when the latest beat that came back was sent, in milliseconds since `origin`.
    parts: Box<[AtomicU64]>,
    /// The least of them.
    known_until: AtomicU64,
    /// When the feed last went on after a gap, in milliseconds since `origin`; 0: there was none.
    resumed_at: AtomicU64,
    max_lag: Duration,
}

/// A lag that only comes from a feed that stands still: several beats are missing.
const GAP: Duration = Duration::from_secs(2);

impl Freshness {
    /// As old as the process, until all of the `parts` have beaten.
    pub fn new(parts: usize, max_lag: Duration) -> Self {
        Self {
            origin: Instant::now(),
            parts: std::iter::repeat_with(AtomicU64::default).take(parts).collect(),
            known_until: AtomicU64::new(0),
            resumed_at: AtomicU64::new(0),
            max_lag,
        }
    }

    /// The time now, as a beat carries it.
    pub fn beat(&self) -> u64 {
        u64::try_from(self.origin.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// A beat of ours that was sent at `beat` came back through this part of the feed.
    pub fn came_back(&self, part: usize, beat: u64) {
        if let Some(part) = self.parts.get(part) {
            part.fetch_max(beat, Ordering::Relaxed);
        }
        let known_until = self.known_until.load(Ordering::Relaxed);
        let least = self.parts.iter().map(|part| part.load(Ordering::Relaxed)).min().unwrap_or(beat);
        if known_until > 0 && least > known_until && self.lag() > GAP {
            self.resumed_at.store(self.beat(), Ordering::Relaxed);
        }
        // Release: who sees this sees the entries that were read before the beat.
        self.known_until.fetch_max(least, Ordering::Release);
    }

    /// All ends acknowledged longer ago than this are known.
    pub fn lag(&self) -> Duration {
        let known_until = self.known_until.load(Ordering::Acquire);
        self.origin.elapsed().saturating_sub(Duration::from_millis(known_until))
    }

    /// How long the feed has gone on without a gap, as far as this process has seen; zero in a gap.
    pub fn steady_for(&self) -> Duration {
        if self.lag() > GAP {
            return Duration::ZERO;
        }
        self.origin.elapsed().saturating_sub(Duration::from_millis(self.resumed_at.load(Ordering::Relaxed)))
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

    #[test]
    fn the_slowest_part_tells_and_an_older_beat_changes_nothing() {
        let fresh = Freshness {
            origin: Instant::now() - Duration::from_secs(100),
            ..Freshness::new(2, Duration::from_secs(5))
        };
        assert!(fresh.is_stale());
        fresh.came_back(0, 99_000);
        assert!(fresh.is_stale());
        fresh.came_back(1, 98_000);
        assert!(!fresh.is_stale());
        fresh.came_back(1, 50_000);
        let lag = fresh.lag();
        assert!(lag >= Duration::from_secs(2) && lag < Duration::from_secs(5), "{lag:?}");
    }
}
