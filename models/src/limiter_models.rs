//! One rate for all threads, without a lock.

use std::time::{Duration, Instant};

use loom::sync::Arc;
use loom::thread;

use crate::config::Rate;
use crate::every_interleaving;
use crate::limiter::SharedLimit;

#[test]
fn a_shared_limit_lets_through_exactly_what_it_allows() {
    every_interleaving("shared limit", || {
        let rate = Rate { count: 2.try_into().unwrap(), period: Duration::from_secs(1_000_000) };
        let limit = Arc::new(SharedLimit::new(rate, 2.try_into().unwrap()));
        let now = Instant::now();
        let others: Vec<_> = (0..2)
            .map(|_| {
                let limit = limit.clone();
                thread::spawn(move || usize::from(limit.take(now).is_ok()))
            })
            .collect();
        let own = usize::from(limit.take(now).is_ok());
        let all: usize = others.into_iter().map(|other| other.join().unwrap()).sum();
        assert_eq!(own + all, 2);
    });
}
