//! Work that goes on beside requests. Each task ends with the gateway.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::watch;

use crate::causes::chain;
use crate::clock::UnixTime;
use crate::session::refresh_keys::{self, RefreshKeyState};
use crate::session::store::StoreError;
use crate::session::{SWEEP_INTERVAL, Sessions};
use crate::token::signing::{KeyState, SigningKeys};

/// How often entries of the revocation list that no token can need any more are dropped.
const PURGE_INTERVAL: Duration = Duration::from_secs(30);
/// Nothing is dropped so soon after the start: a clock that is wrong at boot is mostly right by then.
const PURGE_AFTER: Duration = Duration::from_secs(300);
/// How often retired signing keys are looked at.
const KEYS_INTERVAL: Duration = Duration::from_secs(60);
/// How often the files of keys are looked at for what others changed: some `stat` calls.
const KEY_FILES_INTERVAL: Duration = Duration::from_secs(2);

/// A clock that a jump of the wall clock does not move forward.
///
/// Dropping a revocation is for good. Were it done by a wall clock that is an hour ahead for a moment, a signed-out token
/// would work again once the clock is right. So time passes here no faster than it really does.
#[derive(Clone, Copy, Debug)]
pub struct SteadyClock {
    wall: UnixTime,
    start: Instant,
}

impl SteadyClock {
    /// Starts with the wall clock.
    pub fn start() -> Self {
        Self { wall: UnixTime::now(), start: Instant::now() }
    }

    /// The earlier of the wall clock and the time that has really passed since the start.
    pub fn now(&self) -> UnixTime {
        self.at(UnixTime::now(), self.start.elapsed())
    }

    fn at(&self, wall: UnixTime, passed: Duration) -> UnixTime {
        wall.min(self.wall.plus(passed))
    }

    fn passed(&self) -> Duration {
        self.start.elapsed()
    }
}

/// What the tasks work on.
#[derive(Clone, Debug)]
pub struct Upkeep {
    /// Own sessions.
    pub sessions: Arc<Sessions>,
    /// Own keys.
    pub signing: Arc<SigningKeys>,
    /// How long a retired key is still needed.
    pub access_token_ttl: Duration,
}

impl Upkeep {
    /// Starts all tasks on the current runtime; they end when `stopping` turns true.
    pub fn spawn(self, stopping: &watch::Receiver<bool>) -> tokio::task::JoinSet<()> {
        let clock = SteadyClock::start();
        let mut tasks = tokio::task::JoinSet::new();
        let it = self.clone();
        every("flush activity", self.sessions.flush_interval(), &mut tasks, stopping, move || {
            let sessions = it.sessions.clone();
            async move { sessions.flush_activity(UnixTime::now()).await.map(drop) }
        });
        let it = self.clone();
        every("purge revocations", PURGE_INTERVAL, &mut tasks, stopping, move || {
            let sessions = it.sessions.clone();
            async move {
                if clock.passed() < PURGE_AFTER {
                    return Ok(());
                }
                sessions.purge_revocations(clock.now()).await.map(drop)
            }
        });
        let it = self.clone();
        every("sweep sessions", SWEEP_INTERVAL, &mut tasks, stopping, move || {
            let sessions = it.sessions.clone();
            async move {
                let ended = sessions.sweep(clock.now()).await?;
                if ended > 0 {
                    tracing::info!(ended, "ended sessions past their time");
                }
                Ok(())
            }
        });
        let it = self.clone();
        every("look at key files", KEY_FILES_INTERVAL, &mut tasks, stopping, move || {
            let it = it.clone();
            async move {
                // It reads files. A panic in there has told of itself.
                drop(tokio::task::spawn_blocking(move || it.take_over_keys(UnixTime::now())).await);
                Ok(())
            }
        });
        every("purge retired keys", KEYS_INTERVAL, &mut tasks, stopping, move || {
            let it = self.clone();
            async move {
                let (keys, ttl) = (it.signing.clone(), it.access_token_ttl);
                // It writes files and waits for the disk.
                match tokio::task::spawn_blocking(move || keys.purge_retired(clock.now(), ttl)).await {
                    Ok(Ok(0)) | Err(_) => {}
                    Ok(Ok(purged)) => {
                        tracing::info!(purged, "dropped retired signing keys");
                    }
                    Ok(Err(error)) => tracing::warn!(error = %chain(&error), "cannot drop retired signing keys"),
                }
                Ok(())
            }
        });
        tasks
    }

    /// Takes over keys that another gateway or an operator changed. By the wall clock, which dates the files.
    fn take_over_keys(&self, now: UnixTime) {
        match self.signing.reload(now) {
            Ok(false) => {}
            Ok(true) => {
                let keys = self.signing.list();
                let kid = |state| keys.iter().find(|key| key.state == state).map(|key| key.kid.as_str());
                tracing::info!(
                    current = kid(KeyState::Current),
                    next = kid(KeyState::Next),
                    count = keys.len(),
                    "signing keys were changed"
                );
            }
            Err(error) => tracing::warn!(
                error = %chain(&error),
                "changed signing keys cannot be used; those from before are, until the files change again"
            ),
        }
        let macs = self.sessions.refresh_keys();
        match macs.reload(now) {
            Ok(false) => {}
            Ok(true) => {
                let keys = macs.list();
                let id = |state| keys.iter().find(|key| key.state == state).map(|key| refresh_keys::name(key.id));
                tracing::info!(
                    current = id(RefreshKeyState::Current),
                    next = id(RefreshKeyState::Next),
                    count = keys.len(),
                    "refresh keys were changed"
                );
            }
            Err(error) => tracing::warn!(
                error = %chain(&error),
                "changed refresh keys cannot be used; those from before are, until the files change again"
            ),
        }
    }
}

/// Does `work` again and again until the gateway stops.
fn every<F>(
    what: &'static str,
    interval: Duration,
    tasks: &mut tokio::task::JoinSet<()>,
    stopping: &watch::Receiver<bool>,
    work: impl Fn() -> F + Send + 'static,
) where
    F: Future<Output = Result<(), StoreError>> + Send,
{
    let mut stopping = stopping.clone();
    tasks.spawn(async move {
        loop {
            tokio::select! {
                () = tokio::time::sleep(interval) => {}
                _ = stopping.wait_for(|stop| *stop) => return,
            }
            if let Err(error) = work().await {
                tracing::warn!(error = %chain(&error), "cannot {what}");
            }
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_jump_of_the_wall_clock_does_not_move_the_steady_clock_ahead() {
        let clock = SteadyClock { wall: UnixTime::from_secs(1000), start: Instant::now() };
        let passed = Duration::from_secs(10);
        assert_eq!(clock.at(UnixTime::from_secs(9999), passed), UnixTime::from_secs(1010));
        assert_eq!(clock.at(UnixTime::from_secs(1010), passed), UnixTime::from_secs(1010));
        assert_eq!(clock.at(UnixTime::from_secs(500), passed), UnixTime::from_secs(500));
    }
}
