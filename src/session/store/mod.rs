//! Where sessions live: a few atomic operations that know no rules. The rules are [`super::rules`], once for every store.

mod committer;
mod draft;
pub mod embedded;
mod ledger;
mod recent;
mod record;
pub mod redis;
mod tables;

#[cfg(test)]
pub(crate) mod conformance;

use std::num::NonZeroU32;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

#[cfg(test)]
pub(crate) use committer::Fault;
pub use embedded::{EmbeddedStore, OpenError};
pub use redis::{RedisOpenError, RedisStore};

use super::Session;
use crate::clock::UnixTime;
use crate::ids::{SessionId, UserId};
use crate::revocation::{EndReason, Freshness, Revocation, Revocations};

/// Why the store could not be asked. Never means that a session or token is bad: the answer is 503, but for
/// [`Self::BadCursor`].
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// More is waiting for the store than may wait.
    #[error("the session store has too much to do")]
    Overloaded,
    /// No answer in time. Whether the change was made is unknown.
    #[error("the session store did not answer in time")]
    Timeout,
    /// An earlier write failed. What is on disk is unknown, so nothing more is read or written until a restart.
    #[error("the session store has failed and needs a restart")]
    Failed,
    /// The store was closed; the process is stopping.
    #[error("the session store is closed")]
    Closed,
    /// A read failed.
    #[error("cannot read the session store")]
    Read(#[source] Arc<dyn std::error::Error + Send + Sync>),
    /// A record is not as it was written.
    #[error("damaged record in the session store: {0}")]
    Corrupt(&'static str),
    /// The shared store cannot be reached, or gave no answer in time. Whether the change was made is unknown.
    #[error("cannot reach the session store")]
    Unreachable(#[source] Arc<dyn std::error::Error + Send + Sync>),
    /// The shared store was asked and says no: it is out of memory, or does not allow it.
    #[error("the session store refuses")]
    Refused(#[source] Arc<dyn std::error::Error + Send + Sync>),
    /// Fewer replicas than `store.replicas` have the write. It is made, but may be lost with the primary.
    #[error("too few replicas of the session store have the change")]
    NotReplicated,
    /// The shared store was away a moment ago: requests that other gateways saw meanwhile may not be known yet.
    #[error("the session store was away, requests of other gateways may not be known yet")]
    Unsettled,
    /// The `cursor` given to a list is none that a list gave. The caller's mistake: 400.
    #[error("not a cursor of this list")]
    BadCursor,
}

/// What [`SessionStore::update`] shall do with a row.
#[derive(Clone, Debug, PartialEq)]
pub enum Change {
    /// Nothing.
    Keep,
    /// Write this instead. `id`, `user` and `created_at` must be those of the row.
    Put(Session),
    /// Delete the row and, in the same atomic write, revoke the session until its last access token must have expired
    /// (`access_expires_at` and leeway).
    End(EndReason),
}

/// The verdict on a row, or on its absence (for which only [`Change::Keep`] makes sense; any other is treated as it).
///
/// With it comes the time by the one clock that all gateways of a shared store go by; `None` when there are no others.
///
/// A store may call it more than once: after a lost race it is asked again with the newer row.
pub type Decide = Box<dyn Fn(Option<&Session>, Option<UnixTime>) -> Change + Send + Sync>;

/// What [`SessionStore::update`] found and did.
#[derive(Clone, Debug)]
pub struct Updated {
    /// The row the verdict was given on.
    pub before: Option<Session>,
    /// The verdict, carried out.
    pub change: Change,
    /// Without a row: why the session ended, as long as that is known.
    pub ended: Option<EndReason>,
}

/// An order to end the sessions of a user.
#[derive(Clone, Debug)]
pub struct EndUser {
    /// Whose.
    pub user: UserId,
    /// The session that stays. Without a row of this user it counts as not given: what has ended stays ended.
    pub except: Option<SessionId>,
    /// Tokens with `iat` up to this second are refused.
    pub issued_until: UnixTime,
    /// The word for it.
    pub reason: EndReason,
    /// How long the revocation must be kept at least; a deleted row with a later access token raises it.
    pub expires_at: UnixTime,
}

/// A place in the list of a user's sessions: just behind this one.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct ListPosition {
    /// Its `created_at`.
    pub created_at: UnixTime,
    /// Its id, for sessions of one millisecond.
    pub id: SessionId,
}

impl ListPosition {
    /// The place of a session.
    pub fn of(session: &Session) -> Self {
        Self { created_at: session.created_at, id: session.id }
    }

    /// The reverse of its text. Any other spelling is `None`.
    pub fn parse(text: &str) -> Option<Self> {
        let (time, id) = text.split_at_checked(16)?;
        let created_at = UnixTime::from_millis(u64::from_str_radix(time, 16).ok()?);
        let position = Self { created_at, id: SessionId::parse(id)? };
        (position.to_string() == text).then_some(position)
    }
}

impl std::fmt::Display for ListPosition {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:016x}{}", self.created_at.as_millis(), self.id)
    }
}

/// A place in a scan: just behind it the next page begins. Only the store that gave it can read it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ScanPosition(pub(super) Vec<u8>);

/// Some of all sessions.
#[derive(Clone, Debug)]
pub struct ScanPage {
    /// The sessions; perhaps none although more follow.
    pub sessions: Vec<Session>,
    /// Where the next page begins; `None` when there is none.
    pub next: Option<ScanPosition>,
}

/// The answer of a store: boxed, so that stores of different kinds are one type.
pub type StoreFuture<'a, T> = Pin<Box<dyn Future<Output = Result<T, StoreError>> + Send + 'a>>;

/// Sessions and revocations on disk or elsewhere.
///
/// # What every store keeps
/// - Each operation is atomic, and durable before its future is ready.
/// - A store is opened with the process's [`Revocations`]: all that is stored is in there when the store is open, and
///   whatever an operation revokes is in there before its future is ready, also when nobody waits for it any more.
/// - A revocation is never shortened by a later one.
/// - An error means that nothing can be said: the change may have been made or not.
/// - Operations started are finished even when their future is dropped.
///
/// Futures may read from disk when polled: they belong on the control runtime, not on a thread that serves requests.
pub trait SessionStore: Send + Sync {
    /// Adds a session. When its user then has more than `max_per_user`, the oldest of the others (by `created_at`, then
    /// id) end with [`EndReason::SignedInElsewhere`] in the same write; returns which.
    fn create(&self, session: Session, max_per_user: Option<NonZeroU32>) -> StoreFuture<'_, Vec<SessionId>>;

    /// Reads a row, asks `decide`, and carries its verdict out: no other change comes between.
    fn update(&self, id: SessionId, decide: Decide) -> StoreFuture<'_, Updated>;

    /// The row of a session.
    fn find(&self, id: SessionId) -> StoreFuture<'_, Option<Session>>;

    /// The sessions of a user behind `after`, oldest first, at most `limit`. Stable: a session stays at its place.
    fn list(&self, user: &UserId, after: Option<ListPosition>, limit: usize) -> StoreFuture<'_, Vec<Session>>;

    /// Deletes all rows of a user but the exception and adds one revocation of the user. Returns the sessions ended.
    ///
    /// A session whose token was issued after `issued_until` (the clock was set back) gets a revocation of its own.
    fn end_user(&self, end: EndUser) -> StoreFuture<'_, Vec<SessionId>>;

    /// Moves `last_seen` of these rows forward; an earlier time or a missing row changes nothing.
    fn touch(&self, seen: Vec<(SessionId, UnixTime)>) -> StoreFuture<'_, ()>;

    /// Adds a revocation. Rows are left alone.
    fn revoke(&self, revocation: Revocation) -> StoreFuture<'_, ()>;

    /// Forgets stored revocations with `expires_at` < `now`; returns how many. Those in memory are left alone.
    fn purge_revocations(&self, now: UnixTime) -> StoreFuture<'_, usize>;

    /// Of all sessions those behind `after`, at most `limit`. A session that is there from the first page to the last is
    /// in exactly one.
    fn scan(&self, after: Option<ScanPosition>, limit: usize) -> StoreFuture<'_, ScanPage>;

    /// The id for a new session of `user`, made from these random bytes. A store may put a few bits of its own into it.
    fn place(&self, _user: &UserId, random: SessionId) -> SessionId {
        random
    }

    /// Whether the future of [`update`](Self::update) may be polled by any thread, also one that serves requests: it only
    /// waits for what happens elsewhere.
    fn updates_anywhere(&self) -> bool {
        false
    }

    /// How far behind the ends made by other gateways the revocations may be; `None` when there are no others.
    fn freshness(&self) -> Option<&Arc<Freshness>> {
        None
    }

    /// Whether this process is the one to sweep now, for about `period`.
    fn leads_sweep(&self, _period: Duration) -> StoreFuture<'_, bool> {
        Box::pin(async { Ok(true) })
    }

    /// The revocations this store keeps up to date.
    fn revocations(&self) -> &Arc<Revocations>;

    /// Whether the store could be asked now, for readiness. Asks nobody.
    ///
    /// # Errors
    /// [`StoreError::Failed`] or [`StoreError::Closed`].
    fn health(&self) -> Result<(), StoreError>;

    /// Finishes what was started, then refuses everything.
    fn close(&self) -> StoreFuture<'_, ()>;
}
