//! How many requests may be sent again, so that an outage is not made worse by it.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// So many a second may always be sent again: with few requests a share of them would be none.
const FLOOR_PER_SECOND: f64 = 5.0;

/// What was not spent is kept for so long.
const WINDOW: Duration = Duration::from_secs(10);

/// The rate of requests is taken over at least so long: over less it would be noise.
const LEAST_SPAN: Duration = Duration::from_secs(1);

/// An allowance that grows with the requests of an upstream and with time. Looked at only when something is to be sent
/// again: requests count for themselves, in cells that are added up then.
#[derive(Debug)]
pub(super) struct RetryBudget {
    share: Option<f64>,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    left: f64,
    requests: u64,
    looked_at: Instant,
    /// Requests a second, with the count and the time it was last taken from.
    rate: f64,
    rate_from: (u64, Instant),
}

impl RetryBudget {
    /// `share` of all requests; `None` is unlimited.
    pub(super) fn new(share: Option<f64>, now: Instant) -> Self {
        let left = FLOOR_PER_SECOND * WINDOW.as_secs_f64();
        let state = State { left, requests: 0, looked_at: now, rate: 0.0, rate_from: (0, now) };
        Self { share, state: Mutex::new(state) }
    }

    /// Takes one, if there is one left; `requests` are all there were so far.
    pub(super) fn take(&self, requests: u64, now: Instant) -> bool {
        let Some(share) = self.share else { return true };
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let (count, from) = state.rate_from;
        let span = now.saturating_duration_since(from);
        if span >= LEAST_SPAN {
            state.rate = float(requests.saturating_sub(count)) / span.as_secs_f64();
            state.rate_from = (requests, now);
        }
        let passed = now.saturating_duration_since(state.looked_at);
        let gained = share * float(requests.saturating_sub(state.requests)) + FLOOR_PER_SECOND * passed.as_secs_f64();
        let most = (share * state.rate + FLOOR_PER_SECOND) * WINDOW.as_secs_f64();
        state.left = (state.left + gained).min(most);
        state.requests = state.requests.max(requests);
        state.looked_at = now;
        let granted = state.left >= 1.0;
        if granted {
            state.left -= 1.0;
        }
        granted
    }
}

#[expect(clippy::cast_precision_loss, reason = "far fewer than 2^53 requests, and a share of them is no exact number")]
fn float(count: u64) -> f64 {
    count as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How many of `asked` at one moment are granted.
    fn granted(budget: &RetryBudget, asked: usize, requests: u64, now: Instant) -> usize {
        (0..asked).filter(|_| budget.take(requests, now)).count()
    }

    #[test]
    fn a_share_of_the_requests_may_be_sent_again_and_no_more() {
        let start = Instant::now();
        let budget = RetryBudget::new(Some(0.2), start);
        // An outage from the first request on: 1,000 requests a second, each to be sent again.
        let mut sum = 0;
        for second in 1..=20_u64 {
            sum += granted(&budget, 1000, 1000 * second, start + Duration::from_secs(second));
        }
        // 20 % of 20,000, the floor, and what was there at the start.
        assert!((4000..=4000 + 20 * 5 + 50).contains(&sum), "{sum}");
    }

    #[test]
    fn a_long_calm_saves_up_no_more_than_a_short_one() {
        let start = Instant::now();
        let budget = RetryBudget::new(Some(0.2), start);
        // 100 a second for a day: ten seconds of it are kept.
        let day = Duration::from_secs(86_400);
        assert_eq!(granted(&budget, 10_000, 8_640_000, start + day), 250);
    }

    #[test]
    fn few_requests_have_a_floor_and_unlimited_has_no_end() {
        let start = Instant::now();
        let budget = RetryBudget::new(Some(0.01), start);
        assert_eq!(granted(&budget, 100, 1, start), 50);
        assert_eq!(granted(&budget, 100, 2, start + Duration::from_secs(2)), 10);
        assert_eq!(granted(&RetryBudget::new(None, start), 5000, 1, start), 5000);
    }
}
