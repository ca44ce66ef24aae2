//! What a client of HTTP/2 may do that is work for us and of no use to anybody.
//!
//! The library beneath bounds what it keeps in memory, not what it works for. It answers PING and SETTINGS, reads
//! PRIORITY, WINDOW_UPDATE, empty DATA and frames it does not know for as long as somebody sends them (CVE-2019-9511 to
//! 9518), and counts no reset of a stream whose request a server already has (CVE-2023-44487). Here each connection has an
//! allowance of both, which comes back with what the connection is there for.

use std::cell::Cell;
use std::num::NonZeroUsize;
use std::rc::Rc;
use std::time::Instant;

use crate::config::{Limits, Rate};
use crate::telemetry::metrics::ConnectionLimit;

/// Frames that come back with a request: its header, a priority, a window, a reset.
const A_REQUEST: u32 = 4;
/// Frames that come back with a piece of a response: a window for its stream, and one for the connection.
const A_PIECE: u32 = 2;

/// What is left to one connection.
#[derive(Debug)]
pub(super) struct Allowance {
    /// Frames without a body: as many at once as the rate has in its period.
    rate: Option<Rate>,
    frames: Cell<u32>,
    /// When `frames` was last looked at by the clock: only once they are used up.
    since: Cell<Instant>,
    /// Streams that may be reset before their answer.
    resets: Cell<usize>,
    most_resets: usize,
    crossed: Cell<Option<ConnectionLimit>>,
}

impl Allowance {
    pub(super) fn of(limits: &Limits) -> Rc<Self> {
        Rc::new(Self::new(limits.http2_control_frames, limits.http2_resets))
    }

    fn new(rate: Option<Rate>, resets: NonZeroUsize) -> Self {
        Self {
            rate,
            frames: Cell::new(most(rate)),
            since: Cell::new(Instant::now()),
            resets: Cell::new(resets.get()),
            most_resets: resets.get(),
            crossed: Cell::new(None),
        }
    }

    /// The limit that was crossed: the connection is to be closed.
    pub(super) fn crossed(&self) -> Option<ConnectionLimit> {
        self.crossed.get()
    }

    /// So many frames without a body came; whether they were still allowed.
    pub(super) fn take(&self, count: u32, now: impl FnOnce() -> Instant) -> bool {
        let Some(rate) = self.rate else { return true };
        let left = self.frames.get().checked_sub(count).or_else(|| {
            let elapsed = now().saturating_duration_since(self.since.get());
            self.since.set(self.since.get() + elapsed);
            let earned = elapsed.as_nanos() * u128::from(rate.count.get()) / rate.period.as_nanos().max(1);
            self.give(u32::try_from(earned).unwrap_or(u32::MAX));
            self.frames.get().checked_sub(count)
        });
        match left {
            Some(left) => self.frames.set(left),
            None => self.crossed.set(Some(ConnectionLimit::ControlFrames)),
        }
        left.is_some()
    }

    /// Frames come back, up to the whole allowance.
    pub(super) fn give(&self, count: u32) {
        self.frames.set(self.frames.get().saturating_add(count).min(most(self.rate)));
    }

    /// A request came.
    pub(super) fn requested(&self) {
        self.give(A_REQUEST);
    }

    /// A piece of a response was made, its header among them.
    pub(super) fn handed(&self) {
        self.give(A_PIECE);
    }

    /// A stream ended that was answered: who lets most of them be answered may reset some.
    pub(super) fn answered(&self) {
        self.resets.set((self.resets.get() + 1).min(self.most_resets));
    }

    /// The client reset a stream before its answer: it cost a request to a server, which nobody reads the answer of.
    pub(super) fn reset(&self) {
        match self.resets.get().checked_sub(1) {
            Some(left) => self.resets.set(left),
            None => self.crossed.set(Some(ConnectionLimit::Resets)),
        }
    }
}

fn most(rate: Option<Rate>) -> u32 {
    rate.map_or(u32::MAX, |rate| rate.count.get())
}

#[cfg(test)]
impl Default for Allowance {
    fn default() -> Self {
        Self::new(None, NonZeroUsize::MAX)
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU32;
    use std::time::Duration;

    use super::*;

    fn allowance(count: u32, resets: usize) -> Allowance {
        let rate = Rate { count: NonZeroU32::new(count).unwrap(), period: Duration::from_secs(1) };
        Allowance::new(Some(rate), NonZeroUsize::new(resets).unwrap())
    }

    #[test]
    fn frames_come_back_with_time_and_with_use_and_never_more_than_all() {
        let allowance = allowance(100, 1);
        let start = allowance.since.get();
        let at = |ms| move || start + Duration::from_millis(ms);
        assert!(allowance.take(100, at(0)));
        assert!(allowance.take(50, at(500)), "half of a second's");
        allowance.requested();
        allowance.handed();
        assert!(allowance.take(A_REQUEST + A_PIECE, at(500)));
        assert!(allowance.take(100, at(60_000)), "a minute brings no more than all of them");
        assert_eq!(allowance.crossed().map(|limit| limit as usize), None);
        assert!(!allowance.take(1, at(60_000)));
        assert_eq!(allowance.crossed().map(|limit| limit as usize), Some(ConnectionLimit::ControlFrames as usize));
    }

    #[test]
    fn a_clock_that_stands_still_or_runs_back_gives_nothing() {
        let allowance = allowance(100, 1);
        let start = allowance.since.get();
        assert!(allowance.take(100, || start));
        assert!(!allowance.take(1, || start.checked_sub(Duration::from_millis(1)).unwrap()));
    }

    #[test]
    fn without_a_rate_all_frames_are_allowed() {
        let allowance = Allowance::default();
        assert!((0..3).all(|_| allowance.take(u32::MAX, || unreachable!())));
    }

    #[test]
    fn streams_may_be_reset_as_long_as_others_are_answered() {
        let allowance = allowance(100, 2);
        for _ in 0..1000 {
            allowance.reset();
            allowance.answered();
        }
        assert!(allowance.crossed().is_none());
        allowance.reset();
        allowance.reset();
        assert!(allowance.crossed().is_none());
        allowance.reset();
        assert_eq!(allowance.crossed().map(|limit| limit as usize), Some(ConnectionLimit::Resets as usize));
    }
}
