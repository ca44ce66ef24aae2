//! How much happens at once: many gateways under load on a small machine only show that it is small.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

/// Tests that run at the same time.
const TOGETHER: usize = 2;

static RUNNING: Mutex<usize> = Mutex::new(0);
static CHANGED: Condvar = Condvar::new();

/// Held by a test while it runs.
pub(crate) struct Turn(usize);

/// Waits for its turn beside another test.
pub(crate) fn in_turn() -> Turn {
    take(1)
}

/// Waits until no other test runs: for what is measured in milliseconds.
pub(crate) fn alone() -> Turn {
    take(TOGETHER)
}

fn take(share: usize) -> Turn {
    let mut running = running();
    while *running + share > TOGETHER {
        running = CHANGED.wait(running).unwrap_or_else(PoisonError::into_inner);
    }
    *running += share;
    Turn(share)
}

/// A test that failed has given its turn back all the same.
fn running() -> MutexGuard<'static, usize> {
    RUNNING.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Drop for Turn {
    fn drop(&mut self) {
        *running() -= self.0;
        CHANGED.notify_all();
    }
}
