//! So many in so long, for each of many keys, in bounded memory, shared by all threads.

mod route;

use std::collections::HashMap;
use std::hash::{BuildHasher, BuildHasherDefault, Hash, Hasher, RandomState};
use std::net::{IpAddr, Ipv6Addr};
use std::num::NonZeroU32;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

pub use self::route::{RouteLimits, seconds};
use crate::config::Rate;

/// Keys remembered at most, all shards together; each costs about 20 bytes.
const MAX_KEYS: usize = 100_000;

/// Threads that ask at once mostly ask different shards.
const SHARDS: usize = 64;

/// When a shard is full, this share of it is forgotten at once, so that looking for what to forget is rare.
const FORGOTTEN_SHARE: usize = 8;

/// What is left to a key that was let through.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Allowance {
    /// How many more at once.
    pub left: u32,
    /// When the allowance is whole again.
    pub whole_in: Duration,
}

/// A key had its allowance.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Exceeded {
    /// When the next one is let through.
    pub retry_in: Duration,
    /// When the allowance is whole again.
    pub whole_in: Duration,
}

/// The generic cell rate algorithm: `burst` at once, then evenly spread. A key's state is one number: the nanoseconds
/// since a common start after which its allowance is whole again.
#[derive(Clone, Copy, Debug)]
struct Meter {
    /// From one to the next in the long run; at least 1.
    step: u64,
    /// Of a whole burst.
    tolerance: u64,
}

impl Meter {
    fn new(rate: Rate, burst: NonZeroU32) -> Self {
        let step = u64::try_from(rate.period.as_nanos() / u128::from(rate.count.get())).unwrap_or(u64::MAX).max(1);
        // Far from where sums of times overflow: two centuries.
        let step = step.min(u64::MAX / 4);
        Self { step, tolerance: step.saturating_mul(burst.get().into()).min(u64::MAX / 4) }
    }

    /// Counts one for a key whose allowance is whole at `whole_at`: the new moment.
    fn take(self, whole_at: u64, now: u64) -> Result<(u64, Allowance), Exceeded> {
        let from = whole_at.max(now);
        let (next, most) = (from.saturating_add(self.step), now.saturating_add(self.tolerance));
        match most.checked_sub(next) {
            Some(room) => {
                let left = u32::try_from(room / self.step).unwrap_or(u32::MAX);
                Ok((next, Allowance { left, whole_in: Duration::from_nanos(next - now) }))
            }
            None => Err(Exceeded {
                retry_in: Duration::from_nanos(next - most),
                whole_in: Duration::from_nanos(from - now),
            }),
        }
    }
}

/// A rate for each key.
///
/// Keys are remembered by a hash under a key of this process: two keys share an allowance with a chance of one in 2^64
/// for each pair, which nobody can look for.
#[derive(Debug)]
pub struct Limiter {
    meter: Option<Meter>,
    start: Instant,
    hasher: RandomState,
    shards: Box<[Mutex<Shard>]>,
}

/// A key's hash → when its allowance is whole again.
type Shard = HashMap<u64, u64, BuildHasherDefault<AsItIs>>;

impl Limiter {
    /// `None` lets everything through.
    pub fn new(rate: Option<Rate>) -> Self {
        Self::with_meter(rate.map(|rate| Meter::new(rate, rate.count)))
    }

    /// Lets `burst` through at once instead of as many as `rate` has.
    pub fn with_burst(rate: Rate, burst: NonZeroU32) -> Self {
        Self::with_meter(Some(Meter::new(rate, burst)))
    }

    fn with_meter(meter: Option<Meter>) -> Self {
        let shards = std::iter::repeat_with(Mutex::default).take(SHARDS).collect();
        Self { meter, start: Instant::now(), hasher: RandomState::new(), shards }
    }

    /// Counts one for `key`.
    ///
    /// # Errors
    /// How long to wait, when `key` had its allowance.
    pub fn take(&self, key: impl Hash, now: Instant) -> Result<Allowance, Exceeded> {
        let Some(meter) = self.meter else { return Ok(Allowance { left: u32::MAX, whole_in: Duration::ZERO }) };
        let now = since(self.start, now);
        let hash = self.hasher.hash_one(key);
        let mut shard = self.shard(hash);
        match shard.get_mut(&hash) {
            Some(whole_at) => {
                let (next, allowance) = meter.take(*whole_at, now)?;
                *whole_at = next;
                Ok(allowance)
            }
            None => {
                let (next, allowance) = meter.take(0, now)?;
                if shard.len() >= MAX_KEYS / SHARDS {
                    make_room(&mut shard, now);
                }
                shard.insert(hash, next);
                Ok(allowance)
            }
        }
    }

    /// Whether `key` has had its allowance. Counts nothing.
    pub fn is_used_up(&self, key: impl Hash, now: Instant) -> bool {
        let Some(meter) = self.meter else { return false };
        let hash = self.hasher.hash_one(key);
        let whole_at = self.shard(hash).get(&hash).copied();
        whole_at.is_some_and(|whole_at| meter.take(whole_at, since(self.start, now)).is_err())
    }

    fn shard(&self, hash: u64) -> MutexGuard<'_, Shard> {
        // The map takes the lowest and the highest bits.
        let shard = &self.shards[usize::try_from(hash >> 32).unwrap_or(0) % SHARDS];
        shard.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Forgets who has the whole allowance again, and if those are few, who has most of it: a flood of new keys forgets
/// itself, and resets the count of nobody who is near a limit.
fn make_room(shard: &mut Shard, now: u64) {
    let most = shard.len() - shard.len() / FORGOTTEN_SHARE;
    shard.retain(|_, whole_at| *whole_at > now);
    if let Some(surplus) = shard.len().checked_sub(most).filter(|surplus| *surplus > 0) {
        let mut all: Vec<u64> = shard.values().copied().collect();
        let (_, last, _) = all.select_nth_unstable(surplus - 1);
        let last = *last;
        // Of those that are equally near, no more than need be.
        let mut left = surplus;
        shard.retain(|_, whole_at| {
            let goes = *whole_at <= last && left > 0;
            left -= usize::from(goes);
            !goes
        });
    }
}

/// One rate for all together, without a lock.
#[derive(Debug)]
pub struct SharedLimit {
    meter: Meter,
    start: Instant,
    whole_at: AtomicU64,
}

impl SharedLimit {
    /// `burst` at once.
    pub fn new(rate: Rate, burst: NonZeroU32) -> Self {
        Self { meter: Meter::new(rate, burst), start: Instant::now(), whole_at: AtomicU64::new(0) }
    }

    /// Counts one.
    ///
    /// # Errors
    /// How long to wait, when the allowance is used up.
    pub fn take(&self, now: Instant) -> Result<Allowance, Exceeded> {
        let now = since(self.start, now);
        let mut whole_at = self.whole_at.load(Relaxed);
        loop {
            let (next, allowance) = self.meter.take(whole_at, now)?;
            match self.whole_at.compare_exchange_weak(whole_at, next, Relaxed, Relaxed) {
                Ok(_) => return Ok(allowance),
                Err(other) => whole_at = other,
            }
        }
    }
}

fn since(start: Instant, now: Instant) -> u64 {
    u64::try_from(now.saturating_duration_since(start).as_nanos()).unwrap_or(u64::MAX / 2)
}

/// The hash is the key: hashing it once more would tell nothing new.
#[derive(Debug, Default)]
struct AsItIs(u64);

impl Hasher for AsItIs {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = self.0.rotate_left(8) ^ u64::from(*byte);
        }
    }

    fn write_u64(&mut self, hash: u64) {
        self.0 = hash;
    }
}

/// Whoever has an IPv6 address has the whole /64 of it (RFC 6177).
pub fn owner_of(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(_) => address,
        IpAddr::V6(v6) => match v6.to_ipv4_mapped() {
            Some(v4) => IpAddr::V4(v4),
            None => IpAddr::V6(Ipv6Addr::from_bits(v6.to_bits() & (u128::MAX << 64))),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rate(count: u32, seconds: u64) -> Rate {
        Rate { count: count.try_into().unwrap(), period: Duration::from_secs(seconds) }
    }

    fn remembered(limiter: &Limiter) -> usize {
        limiter.shards.iter().map(|shard| shard.lock().unwrap().len()).sum()
    }

    #[test]
    fn each_key_has_its_own_allowance_that_comes_back() {
        let limiter = Limiter::new(Some(rate(3, 30)));
        let (now, second) = (Instant::now(), Duration::from_secs(1));
        for left in [2, 1, 0] {
            let whole_in = second * 10 * (3 - left);
            assert_eq!(limiter.take(1, now), Ok(Allowance { left, whole_in }));
        }
        assert_eq!(limiter.take(1, now), Err(Exceeded { retry_in: second * 10, whole_in: second * 30 }));
        assert!(limiter.is_used_up(1, now) && !limiter.is_used_up(1, now + second * 10) && !limiter.is_used_up(2, now));
        assert!(limiter.take(2, now).is_ok());
        assert_eq!(limiter.take(1, now + second * 10).map(|it| it.left), Ok(0));
        assert!(limiter.take(1, now + second * 10).is_err());
        assert!(Limiter::new(None).take(1, now).is_ok());
    }

    #[test]
    fn a_burst_may_be_smaller_or_larger_than_the_rate() {
        for burst in [1_u32, 2, 7] {
            let limiter = Limiter::with_burst(rate(3, 30), burst.try_into().unwrap());
            let now = Instant::now();
            let let_through = (0..20).filter(|_| limiter.take("k", now).is_ok()).count();
            assert_eq!(let_through, usize::try_from(burst).unwrap());
            assert!(limiter.take("k", now + Duration::from_secs(10)).is_ok(), "the rate is the same");
        }
    }

    #[test]
    fn memory_is_bounded_under_a_flood_of_keys_and_nobody_near_a_limit_is_forgotten() {
        let limiter = Limiter::new(Some(rate(10, 1000)));
        let now = Instant::now();
        for _ in 0..10 {
            assert!(limiter.take("greedy", now).is_ok());
        }
        for key in 0..250_000 {
            assert!(limiter.take(key, now).is_ok());
        }
        assert!(remembered(&limiter) <= MAX_KEYS);
        assert!(remembered(&limiter) > MAX_KEYS / 2, "most are still remembered");
        assert!(limiter.take("greedy", now).is_err());
    }

    #[test]
    fn those_with_a_whole_allowance_are_forgotten_first() {
        let limiter = Limiter::new(Some(rate(1, 10)));
        let now = Instant::now();
        for key in 0..MAX_KEYS {
            assert!(limiter.take(key, now).is_ok());
        }
        let later = now + Duration::from_secs(11);
        for key in 0..MAX_KEYS {
            assert!(limiter.take(("late", key), later).is_ok());
        }
        assert!(remembered(&limiter) <= MAX_KEYS);
    }

    #[test]
    fn a_shared_limit_lets_no_more_through_however_many_ask_at_once() {
        let limit = SharedLimit::new(rate(100, 1_000_000), 100.try_into().unwrap());
        let now = Instant::now();
        let let_through: usize = std::thread::scope(|scope| {
            let ask = || (0..1000).filter(|_| limit.take(now).is_ok()).count();
            let threads: Vec<_> = (0..4).map(|_| scope.spawn(ask)).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).sum()
        });
        assert_eq!(let_through, 100);
    }

    proptest::proptest! {
        /// In any time, no more than the burst and what the rate gives meanwhile.
        #[test]
        fn never_more_than_burst_and_rate(
            count in 1..1000_u32, millis in 1..100_000_u64, burst in 1..1000_u32,
            waits in proptest::collection::vec(0..50_u64, 1..300),
        ) {
            let rate = Rate { count: count.try_into().unwrap(), period: Duration::from_millis(millis) };
            let limiter = Limiter::with_burst(rate, burst.try_into().unwrap());
            let start = Instant::now();
            let (mut now, mut let_through) = (start, 0_u64);
            for wait in waits {
                now += Duration::from_millis(wait);
                let_through += u64::from(limiter.take((), now).is_ok());
            }
            let step = (u128::from(millis) * 1_000_000 / u128::from(count)).max(1);
            let most = u128::from(burst) + (now - start).as_nanos() / step + 1;
            proptest::prop_assert!(u128::from(let_through) <= most);
        }
    }
}
