//! So many in so long, for each of many keys, in bounded memory.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::config::Rate;

/// Keys remembered at most. When there are more, those that have their whole allowance again go first, and if there are
/// none, all: a flood of addresses then resets the count of everybody, and costs no memory.
const MAX_KEYS: usize = 100_000;

/// A rate for each key (the generic cell rate algorithm): `count` at once, then evenly spread.
#[derive(Debug)]
pub struct Limiter<K> {
    rate: Option<Rate>,
    /// When a key's allowance will be whole again.
    whole_at: Mutex<HashMap<K, Instant>>,
}

impl<K: Eq + Hash> Limiter<K> {
    /// `None` lets everything through.
    pub fn new(rate: Option<Rate>) -> Self {
        Self { rate, whole_at: Mutex::default() }
    }

    /// Counts one for `key`.
    ///
    /// # Errors
    /// How long to wait, when `key` had its allowance.
    pub fn take(&self, key: K, now: Instant) -> Result<(), Duration> {
        let Some(rate) = self.rate else { return Ok(()) };
        let step = rate.period / rate.count.get();
        let mut whole_at = self.whole_at.lock().unwrap_or_else(PoisonError::into_inner);
        if whole_at.len() >= MAX_KEYS && !whole_at.contains_key(&key) {
            whole_at.retain(|_, at| *at > now);
            if whole_at.len() >= MAX_KEYS {
                whole_at.clear();
            }
        }
        let at = whole_at.entry(key).or_insert(now);
        let next = (*at).max(now) + step;
        match next.checked_duration_since(now + rate.period) {
            Some(over) if !over.is_zero() => Err(over),
            _ => {
                *at = next;
                Ok(())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limiter(count: u32, seconds: u64) -> Limiter<u32> {
        let rate = Rate { count: count.try_into().unwrap(), period: Duration::from_secs(seconds) };
        Limiter::new(Some(rate))
    }

    #[test]
    fn each_key_has_its_own_allowance_that_comes_back() {
        let limiter = limiter(3, 30);
        let now = Instant::now();
        for _ in 0..3 {
            assert_eq!(limiter.take(1, now), Ok(()));
        }
        assert_eq!(limiter.take(1, now), Err(Duration::from_secs(10)));
        assert_eq!(limiter.take(2, now), Ok(()));
        assert_eq!(limiter.take(1, now + Duration::from_secs(10)), Ok(()));
        assert!(limiter.take(1, now + Duration::from_secs(10)).is_err());
        assert_eq!(Limiter::new(None).take(1, now), Ok(()));
    }

    #[test]
    fn memory_is_bounded_under_a_flood_of_keys() {
        let limiter = limiter(1, 1000);
        let now = Instant::now();
        for key in 0..250_000 {
            assert_eq!(limiter.take(key, now), Ok(()));
        }
        assert!(limiter.whole_at.lock().unwrap().len() <= MAX_KEYS);
    }
}
