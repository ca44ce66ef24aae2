//! Ended sessions and users: exact, complete before the first request, bounded by the lifetime of tokens.

/// Why a session ended. The word is the `reason` in answers, logs, metrics and the store.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum EndReason {
    /// The user signed out.
    SignedOut,
    /// Ended through the admin API: a password change, a ban.
    SecurityAction,
    /// No request for `idle_timeout`.
    SessionIdle,
    /// Older than `max_lifetime`.
    SessionMaxAge,
    /// `max_per_user` was exceeded and this was the oldest.
    SignedInElsewhere,
    /// An old refresh token was presented: it was stolen or replayed.
    RefreshReused,
}
