//! The rules of a session's life, as pure functions: the same for every store, and testable without one.

use std::num::NonZeroU32;
use std::time::Duration;

use super::Session;
use super::store::Change;
use crate::clock::UnixTime;
use crate::config;
use crate::revocation::EndReason;

/// What the configuration says about sessions.
#[derive(Clone, Debug)]
pub struct SessionPolicy {
    /// `iss` of access tokens.
    pub issuer: String,
    /// `aud` of access tokens.
    pub audience: String,
    /// How long an access token lives.
    pub access_token_ttl: Duration,
    /// The longest any accepted token lives, of trusted issuers too: how long the end of a user must be remembered.
    pub longest_token: Duration,
    /// A session without a request for so long ends; `None`: never.
    pub idle_timeout: Option<Duration>,
    /// A session so old ends; `None`: never.
    pub max_lifetime: Option<Duration>,
    /// Most sessions of one user; `None`: any number.
    pub max_per_user: Option<NonZeroU32>,
    /// For so long around a rotation the refresh token just spent yields the same successor again.
    pub refresh_grace: Duration,
    /// Whether other gateways see requests of the same sessions, too.
    pub shared: bool,
}

impl From<&config::Session> for SessionPolicy {
    fn from(config: &config::Session) -> Self {
        Self {
            issuer: config.issuer.clone(),
            audience: config.audience.clone(),
            access_token_ttl: config.access_token_ttl,
            longest_token: config.access_token_ttl,
            idle_timeout: config.idle_timeout,
            max_lifetime: config.max_lifetime,
            max_per_user: config.max_per_user,
            refresh_grace: config.refresh_grace,
            shared: false,
        }
    }
}

impl SessionPolicy {
    /// How old what is known of the last request may be: a request within this time of the last one noted need not be
    /// noted. A hundredth of the idle timeout, between 10 ms and 1 s.
    pub fn touch_resolution(&self) -> Duration {
        self.idle_timeout.map_or(Duration::from_secs(1), |idle| {
            (idle / 100).clamp(Duration::from_millis(10), Duration::from_secs(1))
        })
    }

    /// How much later than stored the last request may have been.
    pub fn most_unwritten(&self) -> Duration {
        self.touch_resolution() + self.flush_interval()
    }

    /// How often noted requests are written to the store: what a crash may forget of them. A twentieth of the idle
    /// timeout, between 100 ms and 5 s.
    pub fn flush_interval(&self) -> Duration {
        self.idle_timeout.map_or(Duration::from_secs(5), |idle| {
            (idle / 20).clamp(Duration::from_millis(100), Duration::from_secs(5))
        })
    }
}

/// The last request of a session, as far as known.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct LastSeen {
    /// When.
    pub at: UnixTime,
    /// How much later the true last request may have been.
    pub slack: Duration,
}

/// What is known of `row`'s last request, given what memory has of it.
pub fn last_seen(row: &Session, in_memory: Option<UnixTime>, policy: &SessionPolicy) -> LastSeen {
    match in_memory {
        Some(noted) if !policy.shared => LastSeen { at: noted.max(row.last_seen), slack: policy.touch_resolution() },
        // The stored value may be from before a crash that took a flush interval's requests with it, and another gateway
        // may not have written its last ones yet.
        noted => LastSeen { at: row.last_seen.max(noted.unwrap_or_default()), slack: policy.most_unwritten() },
    }
}

/// Whether the session has had its time.
///
/// Never early: a session is idle only when even the latest request there may have been is an idle timeout ago. So it
/// ends late by at most the slack.
pub fn timed_out(row: &Session, seen: LastSeen, now: UnixTime, policy: &SessionPolicy) -> Option<EndReason> {
    if policy.max_lifetime.is_some_and(|most| now.since(row.created_at) >= most) {
        return Some(EndReason::SessionMaxAge);
    }
    if policy.idle_timeout.is_some_and(|idle| now.since(seen.at) >= idle + seen.slack) {
        return Some(EndReason::SessionIdle);
    }
    None
}

/// The earliest moment at which the session has [had its time](timed_out); the end of all time when nothing limits it.
pub fn due_at(row: &Session, seen: LastSeen, policy: &SessionPolicy) -> UnixTime {
    let forever = UnixTime::from_millis(u64::MAX);
    let old = policy.max_lifetime.map_or(forever, |most| row.created_at.plus(most));
    policy.idle_timeout.map_or(old, |idle| old.min(seen.at.plus(idle + seen.slack)))
}

/// `exp` of an access token issued at `issued_at`, in whole seconds: never past the session's maximum lifetime.
pub fn access_expiry(created_at: UnixTime, issued_at: UnixTime, policy: &SessionPolicy) -> UnixTime {
    let expiry = issued_at.plus(policy.access_token_ttl);
    let expiry = policy.max_lifetime.map_or(expiry, |most| expiry.min(created_at.plus(most)));
    UnixTime::from_secs(expiry.as_secs())
}

/// One presented refresh token, and all that the verdict depends on.
#[derive(Clone, Copy, Debug)]
pub struct Refresh {
    /// The counter in the token, whose MAC is right.
    pub counter: u64,
    /// When the request came.
    pub now: UnixTime,
    /// The same moment by the clock that `rotated_at` goes by. Of a shared store that is its own: gateways whose clocks
    /// differ by more than the grace period would take each other's retries for a theft.
    pub clock: UnixTime,
    /// `iat` of the access token that would be minted: `now`, or later when the user's tokens of that second are
    /// refused.
    pub issued_at: UnixTime,
    /// The MAC key a new successor is written under.
    pub refresh_key: u32,
    /// The session's last request.
    pub seen: LastSeen,
}

/// The verdict on a presented refresh token.
///
/// [`Change::Put`] with a counter one higher: a new pair. [`Change::Put`] or [`Change::Keep`] with the counter as it
/// was: the same successor again, with a fresh access token. [`Change::End`]: nothing more for this session.
///
/// Every access token that will be minted is first recorded in the row (`access_issued_at`, `access_expires_at`), for
/// the end of the session must refuse its tokens until the last of them has expired. A repeat within the grace period
/// is therefore written when its token is of a later second than those recorded, and only then: racing tabs of one
/// second cost one write between them.
pub fn refresh(row: &Session, refresh: &Refresh, policy: &SessionPolicy) -> Change {
    let Refresh { counter, now, clock, issued_at, refresh_key, seen } = *refresh;
    if let Some(reason) = timed_out(row, seen, now, policy) {
        return Change::End(reason);
    }
    let minted = row.clone().with_access_token(issued_at, access_expiry(row.created_at, issued_at, policy));
    if counter == row.counter {
        // A counter never repeats: a session that could not count on would let its last token live twice.
        let Some(next) = row.counter.checked_add(1) else {
            return Change::End(EndReason::RefreshReused);
        };
        return Change::Put(Session { counter: next, rotated_at: clock, refresh_key, ..minted });
    }
    // The distance in either direction: a clock set back must not widen the window for a stolen token.
    let in_grace = distance(clock, row.rotated_at) <= policy.refresh_grace;
    if counter.checked_add(1) == Some(row.counter) && in_grace {
        // Neither counter, time of rotation nor key move: the successor is the very text of the first answer, and the
        // window is not prolonged.
        return if minted == *row { Change::Keep } else { Change::Put(minted) };
    }
    // Older: spent before, so two parties hold tokens of this session and one of them is not the user.
    // Higher than stored, with a MAC of ours: the store has lost a rotation (an old backup was put in place). The line
    // could now be continued from two tokens, the one presented and the one that was current at the backup, so nobody
    // can tell which holder is the user: the same case.
    Change::End(EndReason::RefreshReused)
}

fn distance(a: UnixTime, b: UnixTime) -> Duration {
    a.since(b).max(b.since(a))
}

#[cfg(test)]
mod tests;
