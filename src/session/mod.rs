//! Sessions: sign-in, refresh, end and idleness, the same for every store.
//!
//! `rules` decides, without a store or a clock; `store` keeps rows and revocations and knows no rules; `refresh_token`
//! is the text a client holds and `refresh_keys` what its MAC is made with; `activity` the last request of each session;
//! `sign_in` what a new session may have; `transfer` moves everything from one store to another.
//! [`Sessions`] puts them together: `service` sign-in, refresh and end, `idle` idleness.

mod activity;
mod idle;
pub mod refresh_keys;
pub mod refresh_token;
pub mod rules;
mod service;
pub mod sign_in;
pub mod store;
pub mod transfer;

use std::fmt;
use std::time::Duration;

use serde_json::{Map, Value};
use zeroize::Zeroizing;

use crate::clock::UnixTime;
use crate::ids::{SessionId, SessionName, UserId};
use crate::revocation::EndReason;

pub use idle::SWEEP_INTERVAL;
pub use refresh_keys::{RefreshKeys, RefreshKeysError};
pub use rules::SessionPolicy;
pub use service::{MAX_PAGE, Sessions};
pub use sign_in::{NewSession, SignInError};
pub use store::{EmbeddedStore, OpenError, RedisOpenError, RedisStore, StoreError};

/// One row of the store.
#[derive(Clone, Debug, PartialEq)]
pub struct Session {
    /// `sid`
    pub id: SessionId,
    /// `sub`
    pub user: UserId,
    /// When the user signed in.
    pub created_at: UnixTime,
    /// What the user knows it by.
    pub label: Option<Box<str>>,
    /// More claims of its access tokens.
    pub claims: Option<Map<String, Value>>,
    /// Which refresh token of the line is the current one; the first is 0.
    pub counter: u64,
    /// When the counter moved last.
    pub rotated_at: UnixTime,
    /// The MAC key the current refresh token is written under, so that a repeat is the same text after a key change.
    pub refresh_key: u32,
    /// The last request the store knows of.
    pub last_seen: UnixTime,
    /// The latest `iat` of any access token of it.
    pub access_issued_at: UnixTime,
    /// The latest `exp` of any access token of it: how long its end must be remembered.
    pub access_expires_at: UnixTime,
}

impl Session {
    /// Records an access token, before it is minted.
    fn with_access_token(mut self, issued_at: UnixTime, expires_at: UnixTime) -> Self {
        self.access_issued_at = self.access_issued_at.max(UnixTime::from_secs(issued_at.as_secs()));
        self.access_expires_at = self.access_expires_at.max(expires_at);
        self
    }
}

/// What a client gets at sign-in and refresh.
#[derive(Clone)]
pub struct TokenPair {
    /// Whose tokens.
    pub session: SessionId,
    /// And of which user.
    pub user: UserId,
    /// The JWT.
    pub access_token: Zeroizing<String>,
    /// How long it lives.
    pub expires_in: Duration,
    /// The opaque text that buys one successor.
    pub refresh_token: Zeroizing<String>,
    /// The same refresh token as an earlier answer's, within the grace period.
    pub repeated: bool,
}

impl fmt::Debug for TokenPair {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Tokens are never printed.
        let Self { session, user, expires_in, repeated, .. } = self;
        f.debug_struct("TokenPair")
            .field("session", session)
            .field("user", user)
            .field("expires_in", expires_in)
            .field("repeated", repeated)
            .finish_non_exhaustive()
    }
}

/// Why a refresh token bought nothing.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RefreshError {
    /// Not one of ours, or altered. The store was not asked.
    #[error("not a refresh token of this gateway")]
    Malformed,
    /// The session has ended, perhaps by this very token.
    #[error("the session has ended: {}", .0.as_str())]
    Ended(EndReason),
    /// The store could not be asked: the token is as good or bad as before.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// A page of a user's sessions, oldest first.
#[derive(Clone, Debug)]
pub struct Page {
    /// The sessions.
    pub sessions: Vec<Session>,
    /// The cursor of the next page; `None` on the last one.
    pub next: Option<String>,
}

/// Whom [`Sessions::revoke`] means.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum RevocationTarget {
    /// One session.
    Session(SessionName),
    /// All sessions of a user up to now.
    User(UserId),
}

/// What [`Sessions::touch`] knows.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Touch {
    /// Not idle; the request is noted.
    Active,
    /// Not known here, or believed idle: ask [`Sessions::confirm_active`] before answering.
    AskStore,
}

#[cfg(test)]
mod model;
#[cfg(test)]
mod tests;
