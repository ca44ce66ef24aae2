//! Servers that fail requests, and how long they are left out for it.
//!
//! All times are milliseconds since the upstream was set up, so that one atomic number holds each.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use crate::config::Ejection;

/// What a server's share begins with when it is back: enough to notice that it fails again.
const FIRST_PERCENT: u64 = 10;

/// How a server did lately, shared by all workers.
#[derive(Debug, Default)]
pub(super) struct Record {
    /// Failures since the last success.
    failures: AtomicU32,
    /// When it may be asked again, or its share began to grow; 0 while it is in full service.
    until: AtomicU64,
    /// The end of the ejection before, and how many there were in short succession.
    last_until: AtomicU64,
    times: AtomicU32,
}

/// What part of its share a server has.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Share {
    /// All of it.
    Full,
    /// All of it again, as of now.
    Returned,
    /// So many percent.
    Growing(u32),
    /// None.
    Ejected,
}

impl Record {
    /// It answered.
    pub(super) fn succeeded(&self) {
        // Mostly 0 already: read first, so that workers do not take the line from each other.
        if self.failures.load(Relaxed) != 0 {
            self.failures.store(0, Relaxed);
        }
    }

    /// It failed. Whether that was one too many: it stays so until a success, so that a server that comes back and
    /// fails at once is left out at once.
    pub(super) fn failed(&self, rules: &Ejection) -> bool {
        // A count that could wrap would take billions of failures.
        self.failures.fetch_add(1, Relaxed).saturating_add(1) >= rules.failures.get()
    }

    pub(super) fn share(&self, slow_start: Option<Duration>, now: u64) -> Share {
        let until = self.until.load(Relaxed);
        if until == 0 {
            return Share::Full;
        }
        let Some(passed) = now.checked_sub(until) else { return Share::Ejected };
        let slow = slow_start.map_or(0, millis);
        if passed >= slow {
            return Share::Returned;
        }
        let percent = (100 * passed / slow).max(FIRST_PERCENT);
        Share::Growing(u32::try_from(percent).unwrap_or(100))
    }

    /// Back in full service. `false` when somebody else noted it first.
    pub(super) fn settle(&self) -> bool {
        let until = self.until.load(Relaxed);
        let settled = until != 0 && self.until.compare_exchange(until, 0, Relaxed, Relaxed).is_ok();
        if settled {
            self.failures.store(0, Relaxed);
        }
        settled
    }

    /// Leaves it out from `now` on: how long, and whether it was in full service before. Only one thread at a time may
    /// call this.
    pub(super) fn eject(&self, rules: &Ejection, now: u64) -> (Duration, bool) {
        let last = self.last_until.load(Relaxed);
        let soon = last != 0 && now < last.saturating_add(millis(rules.max));
        let times = if soon { self.times.load(Relaxed).saturating_add(1) } else { 0 };
        let time = rules.base.saturating_mul(1 << times.min(20)).min(rules.max);
        let until = now.saturating_add(millis(time)).max(1);
        self.times.store(times, Relaxed);
        self.last_until.store(until, Relaxed);
        (time, self.until.swap(until, Relaxed) == 0)
    }
}

pub(super) fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// Whether one more of `count` servers may be left out, when `out` are.
pub(super) fn has_room(rules: &Ejection, count: usize, out: usize) -> bool {
    (out + 1) * 100 <= count * usize::try_from(rules.max_percent).unwrap_or(100) && out + 1 < count
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules() -> Ejection {
        Ejection {
            failures: 3.try_into().unwrap(),
            statuses: Vec::new(),
            base: Duration::from_secs(5),
            max: Duration::from_secs(30),
            max_percent: 50,
            slow_start: Some(Duration::from_secs(10)),
        }
    }

    #[test]
    fn failures_in_a_row_are_too_many_and_a_success_between_is_not() {
        let (record, rules) = (Record::default(), rules());
        assert_eq!([0; 2].map(|_| record.failed(&rules)), [false, false]);
        record.succeeded();
        assert_eq!([0; 4].map(|_| record.failed(&rules)), [false, false, true, true]);
    }

    #[test]
    fn a_server_is_left_out_longer_each_time_and_after_a_good_while_as_short_as_at_first() {
        let (record, rules) = (Record::default(), rules());
        let mut now = 1000;
        for seconds in [5, 10, 20, 30, 30] {
            let (time, was_full) = record.eject(&rules, now);
            assert_eq!((time, was_full), (Duration::from_secs(seconds), true));
            now += millis(time);
            assert!(record.settle() && !record.settle());
            now += 29_999;
        }
        assert_eq!(record.eject(&rules, now + 2).0, Duration::from_secs(5));
    }

    #[test]
    fn its_share_grows_slowly() {
        let (record, rules) = (Record::default(), rules());
        let share = |now| record.share(rules.slow_start, now);
        assert_eq!(share(0), Share::Full);
        record.eject(&rules, 0);
        assert_eq!([0, 4999].map(share), [Share::Ejected; 2]);
        assert_eq!([5000, 5999, 7500, 14_999].map(share), [10, 10, 25, 99].map(Share::Growing));
        assert_eq!(share(15_000), Share::Returned);
        assert_eq!(record.share(None, 5000), Share::Returned);
        // It fails again while its share grows: it was not in full service.
        assert_eq!(record.eject(&rules, 7500), (Duration::from_secs(10), false));
    }

    #[test]
    fn never_all_servers_and_never_more_than_the_share() {
        let mut rules = rules();
        let most = |rules: &Ejection, count| (0..count).take_while(|out| has_room(rules, count, *out)).count();
        assert_eq!([1, 2, 3, 4, 5, 10].map(|count| most(&rules, count)), [0, 1, 1, 2, 2, 5]);
        rules.max_percent = 100;
        assert_eq!([1, 2, 3, 10].map(|count| most(&rules, count)), [0, 1, 2, 9]);
        rules.max_percent = 10;
        assert_eq!([1, 9, 10, 20].map(|count| most(&rules, count)), [0, 0, 1, 2]);
    }
}
