//! Ended sessions and users: exact, complete before the first request, bounded by the lifetime of tokens.
//!
//! A store fills [`Revocations`] when it is opened and keeps it up to date: an entry is in here before the end it
//! belongs to is acknowledged. The request path asks [`Revocations::check`] only when [`Revocations::epoch`] has moved
//! since the identity was last looked at.

mod freshness;
mod own;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use dashmap::DashMap;

use crate::clock::{LEEWAY, UnixTime};
use crate::ids::{SessionName, UserId};

pub use self::freshness::Freshness;
use self::own::OwnSessions;

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
    /// It ended so long ago that the reason is no longer known.
    Ended,
}

impl EndReason {
    /// All of them: the closed list of words.
    pub const ALL: [Self; 7] = [
        Self::SignedOut,
        Self::SecurityAction,
        Self::SessionIdle,
        Self::SessionMaxAge,
        Self::SignedInElsewhere,
        Self::RefreshReused,
        Self::Ended,
    ];

    /// The word for it in answers, logs, metrics and the API.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::SignedOut => "signed_out",
            Self::SecurityAction => "security_action",
            Self::SessionIdle => "session_idle",
            Self::SessionMaxAge => "session_max_age",
            Self::SignedInElsewhere => "signed_in_elsewhere",
            Self::RefreshReused => "refresh_reused",
            Self::Ended => "session_ended",
        }
    }

    /// The reason with this word.
    #[expect(clippy::should_implement_trait, reason = "a word outside the list is None, not an error with a text")]
    pub fn from_str(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|reason| reason.as_str() == word)
    }

    /// The byte for it in stores. Never changes its meaning.
    pub const fn code(self) -> u8 {
        match self {
            Self::SignedOut => 1,
            Self::SecurityAction => 2,
            Self::SessionIdle => 3,
            Self::SessionMaxAge => 4,
            Self::SignedInElsewhere => 5,
            Self::RefreshReused => 6,
            Self::Ended => 7,
        }
    }

    /// The reason with this byte.
    pub fn from_code(code: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|reason| reason.code() == code)
    }
}

/// An order to refuse tokens before their `exp`.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Revocation {
    /// Every token of this session is refused.
    Session {
        /// The session.
        session: SessionName,
        /// Why it ended.
        reason: EndReason,
        /// When the last token of it must have expired, leeway included.
        expires_at: UnixTime,
    },
    /// Tokens of `user` with `iat` <= `issued_until` (whole seconds) are refused, but those of `except`.
    User {
        /// The user.
        user: UserId,
        /// Whole seconds count: a token issued in the very second is refused.
        issued_until: UnixTime,
        /// The session that stays.
        except: Option<SessionName>,
        /// Why the others ended.
        reason: EndReason,
        /// When the last token of them must have expired, leeway included.
        expires_at: UnixTime,
    },
}

impl Revocation {
    /// When no token can need it any more.
    pub fn expires_at(&self) -> UnixTime {
        match self {
            Self::Session { expires_at, .. } | Self::User { expires_at, .. } => *expires_at,
        }
    }
}

/// All that is refused of one user: the exact union of every [`Revocation::User`] of that user.
///
/// A token is refused when `iat <= all_until`, or when `iat <= issued_until` and its session is not `except`. Sets of
/// this form are closed under union, so merging neither forgets a token that was refused nor refuses one that no order
/// named: where two orders except different sessions, everything up to the earlier of the two is refused by one or the
/// other.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct UserEnd {
    /// Seconds since 1970; tokens issued until then are refused, `except` too.
    pub all_until: Option<u64>,
    /// Seconds since 1970; tokens issued until then are refused, those of `except` not.
    pub issued_until: u64,
    /// The session that stays.
    pub except: Option<SessionName>,
    /// The reason of the order with the later `issued_until`.
    pub reason: EndReason,
    /// When the last token refused must have expired, leeway included.
    pub expires_at: UnixTime,
}

impl UserEnd {
    /// The one order.
    pub fn new(issued_until: UnixTime, except: Option<SessionName>, reason: EndReason, expires_at: UnixTime) -> Self {
        Self { all_until: None, issued_until: issued_until.as_secs(), except, reason, expires_at }
    }

    /// Both: what either refuses.
    #[must_use]
    pub fn union(self, other: Self) -> Self {
        let (earlier, later) = if other.issued_until >= self.issued_until { (self, other) } else { (other, self) };
        let mut all_until = earlier.all_until.max(later.all_until);
        if earlier.except != later.except {
            all_until = all_until.max(Some(earlier.issued_until));
        }
        Self { all_until, expires_at: earlier.expires_at.max(later.expires_at), ..later }
    }

    /// Whether a token of `session` issued at `issued_at` is refused.
    pub fn refuses(&self, session: &SessionName, issued_at: UnixTime) -> bool {
        self.last_refused(session).is_some_and(|until| issued_at.as_secs() <= until)
    }

    /// The last second whose tokens of `session` are refused.
    fn last_refused(&self, session: &SessionName) -> Option<u64> {
        if self.except.as_ref() == Some(session) { self.all_until } else { Some(self.issued_until) }
    }

    /// The orders this is the union of.
    pub fn orders(self, user: &UserId) -> impl Iterator<Item = Revocation> {
        let Self { all_until, issued_until, except, reason, expires_at } = self;
        let order = |issued_until, except| Revocation::User {
            user: user.clone(),
            issued_until: UnixTime::from_secs(issued_until),
            except,
            reason,
            expires_at,
        };
        [all_until.map(|until| order(until, None)), Some(order(issued_until, except))].into_iter().flatten()
    }
}

/// Expiry and reason of an ended session in 5 bytes without alignment, so that an entry takes 21 bytes where an ordinary
/// struct would need 24.
#[derive(Clone, Copy)]
struct Ended([u8; 5]);

impl Ended {
    fn new(reason: EndReason, expires_at: UnixTime) -> Self {
        // Rounded up: an entry may stay a second too long, never go too early. 32 bits last until 2106.
        let seconds = expires_at.as_millis().div_ceil(1000);
        let [a, b, c, d] = u32::try_from(seconds).unwrap_or(u32::MAX).to_be_bytes();
        Self([a, b, c, d, reason.code()])
    }

    fn expires_at(self) -> u32 {
        let [a, b, c, d, _] = self.0;
        u32::from_be_bytes([a, b, c, d])
    }

    fn reason(self) -> EndReason {
        EndReason::from_code(self.0[4]).unwrap_or(EndReason::Ended)
    }

    fn expired(self, now: UnixTime) -> bool {
        // u32::MAX also stands for every later time: such an entry stays.
        self.expires_at() != u32::MAX && UnixTime::from_secs(self.expires_at().into()) < now
    }

    /// The later expiry. The first reason stays, for that is why the session ended.
    fn merge(&mut self, newer: Self) {
        let reason = if self.reason() == EndReason::Ended { newer.0[4] } else { self.0[4] };
        self.0 = if newer.expires_at() > self.expires_at() { newer.0 } else { self.0 };
        self.0[4] = reason;
    }
}

/// Shards of the maps.
const SHARDS: usize = 256;

/// Every revocation that a live token could still need. Shared by all workers.
///
/// 26 to 34 bytes for each ended session of our own (21 in a table of which five to six of eight places are taken).
pub struct Revocations {
    epoch: AtomicU64,
    own: OwnSessions,
    others: DashMap<Arc<str>, Ended>,
    users: DashMap<UserId, UserEnd>,
    /// How many keys `users` has, so that the usual case (none) needs no lookup.
    user_count: AtomicUsize,
    /// The latest time a purge was told, in milliseconds since 1970.
    forgotten_until: AtomicU64,
}

impl Default for Revocations {
    fn default() -> Self {
        Self::new()
    }
}

impl std::fmt::Debug for Revocations {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Revocations").field("epoch", &self.epoch()).field("len", &self.len()).finish()
    }
}

impl Revocations {
    /// None.
    pub fn new() -> Self {
        Self {
            epoch: AtomicU64::new(0),
            own: OwnSessions::new(),
            others: DashMap::with_shard_amount(SHARDS),
            users: DashMap::with_shard_amount(SHARDS),
            user_count: AtomicUsize::new(0),
            forgotten_until: AtomicU64::new(0),
        }
    }

    /// Moves with every [`insert`](Self::insert).
    ///
    /// Load it *before* [`check`](Self::check) and remember that value with the verdict. The bump is a `Release` made
    /// after the entry is in its map and this load is an `Acquire`, so whoever sees the new epoch sees the entry; an
    /// insert that falls between load and check leaves an epoch behind that the next request finds changed. Loaded
    /// after the check, an insert between the two would go unnoticed for as long as nothing else ends.
    pub fn epoch(&self) -> u64 {
        self.epoch.load(Ordering::Acquire)
    }

    /// Why a token of `session` and `user`, issued at `issued_at`, is refused; `None` when it is not.
    pub fn check(&self, session: &SessionName, user: &UserId, issued_at: UnixTime) -> Option<EndReason> {
        self.session_reason(session).or_else(|| {
            // Relaxed is enough: the epoch's acquire, which led the caller here, orders this load after the store.
            if self.user_count.load(Ordering::Relaxed) == 0 {
                return None;
            }
            let end = self.users.get(user)?;
            end.refuses(session, issued_at).then_some(end.reason)
        })
    }

    /// Why this very session was ended, users' ends left out.
    pub fn session_reason(&self, session: &SessionName) -> Option<EndReason> {
        match session {
            SessionName::Own(id) => self.own.get(id).map(Ended::reason),
            SessionName::Other(text) => self.others.get(&**text).map(|ended| ended.reason()),
        }
    }

    /// The last second (as a time) whose tokens of `session` an end of all of `user`'s sessions refuses.
    ///
    /// A token that is to be accepted must be issued in a later second.
    pub fn refused_until(&self, user: &UserId, session: &SessionName) -> Option<UnixTime> {
        if self.user_count.load(Ordering::Acquire) == 0 {
            return None;
        }
        self.users.get(user)?.last_refused(session).map(UnixTime::from_secs)
    }

    /// Adds an entry. What was refused stays refused, for at least as long; with several ends of one user the later
    /// one's exception and reason count from then on ([`UserEnd`]).
    pub fn insert(&self, revocation: &Revocation) {
        match revocation {
            Revocation::Session { session, reason, expires_at } => {
                let ended = Ended::new(*reason, *expires_at);
                match session {
                    SessionName::Own(id) => self.own.insert(*id, ended),
                    SessionName::Other(text) => {
                        self.others.entry(text.clone()).and_modify(|old| old.merge(ended)).or_insert(ended);
                    }
                }
            }
            Revocation::User { user, issued_until, except, reason, expires_at } => {
                let end = UserEnd::new(*issued_until, except.clone(), *reason, *expires_at);
                match self.users.entry(user.clone()) {
                    dashmap::Entry::Occupied(mut old) => {
                        let merged = old.get().clone().union(end);
                        old.insert(merged);
                    }
                    dashmap::Entry::Vacant(place) => {
                        // Counted under the shard's lock: a purge that removes it again counts down after us.
                        self.user_count.fetch_add(1, Ordering::Release);
                        place.insert(end);
                    }
                }
            }
        }
        // Release, and last: who loads this epoch sees the entry and the count.
        self.epoch.fetch_add(1, Ordering::Release);
    }

    /// All entries, as orders that make them again. Those that come or go meanwhile may be among them or not.
    pub fn export(&self, mut each: impl FnMut(Revocation)) {
        let end = |session, ended: Ended| Revocation::Session {
            session,
            reason: ended.reason(),
            expires_at: UnixTime::from_secs(ended.expires_at().into()),
        };
        self.own.for_each(|id, ended| each(end(SessionName::Own(id), ended)));
        self.others.iter().for_each(|entry| each(end(SessionName::Other(entry.key().clone()), *entry.value())));
        for entry in &self.users {
            entry.value().clone().orders(entry.key()).for_each(&mut each);
        }
    }

    /// Forgets entries with `expires_at` < `now`, whose tokens are all refused as expired. Returns how many.
    ///
    /// `now` must not run ahead of true time, or an ended session would work again once the clock is put right: the
    /// caller passes the smaller of the wall clock and its start value plus the monotonic time since.
    pub fn purge(&self, now: UnixTime) -> usize {
        // Before anything goes: who misses an entry has met its shard after us and sees this.
        self.forgotten_until.fetch_max(now.as_millis(), Ordering::Release);
        let mut gone = self.own.purge(now);
        self.others.retain(|_, ended| keep(!ended.expired(now), &mut gone));
        let mut users_gone = 0;
        self.users.retain(|_, end| {
            let keeps = keep(end.expires_at >= now, &mut users_gone);
            if !keeps {
                self.user_count.fetch_sub(1, Ordering::Release);
            }
            keeps
        });
        gone + users_gone
    }

    /// Whether the end of a token's session may have been forgotten because the token, good until `expires_at`, had
    /// expired: to be asked after [`check`](Self::check).
    ///
    /// That it is good again means that the clock was set back since. Nothing here says then that its session lives.
    pub fn may_have_forgotten(&self, expires_at: UnixTime) -> bool {
        expires_at.plus(LEEWAY).as_millis() < self.forgotten_until.load(Ordering::Acquire)
    }

    /// How many sessions and users have an entry.
    pub fn len(&self) -> usize {
        self.own.len() + self.others.len() + self.users.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// `keeps`, counting what goes.
fn keep(keeps: bool, gone: &mut usize) -> bool {
    *gone += usize::from(!keeps);
    keeps
}

/// Sessions that ended, by reason, since the start.
#[derive(Debug, Default)]
pub struct EndCounts([AtomicU64; EndReason::ALL.len()]);

impl EndCounts {
    /// Counts `many` more.
    pub fn add(&self, reason: EndReason, many: usize) {
        if let Some((_, count)) = EndReason::ALL.iter().zip(&self.0).find(|(one, _)| **one == reason) {
            count.fetch_add(many as u64, Ordering::Relaxed);
        }
    }

    /// Every reason with its number.
    pub fn all(&self) -> impl Iterator<Item = (EndReason, u64)> {
        EndReason::ALL.into_iter().zip(&self.0).map(|(reason, count)| (reason, count.load(Ordering::Relaxed)))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::ids::SessionId;

    fn at(seconds: u64) -> UnixTime {
        UnixTime::from_secs(seconds)
    }

    fn own(byte: u8) -> SessionName {
        SessionId::from_bytes([byte; 16]).into()
    }

    fn user(text: &str) -> UserId {
        UserId::parse(text).unwrap()
    }

    fn session_end(session: SessionName, expires_at: UnixTime) -> Revocation {
        Revocation::Session { session, reason: EndReason::SignedOut, expires_at }
    }

    #[test]
    fn every_reason_has_one_word_and_one_code() {
        for reason in EndReason::ALL {
            assert_eq!(EndReason::from_str(reason.as_str()), Some(reason));
            assert_eq!(EndReason::from_code(reason.code()), Some(reason));
        }
        assert_eq!(EndReason::from_str("signedout"), None);
        assert_eq!(EndReason::from_code(0), None);
    }

    #[test]
    fn an_ended_session_is_refused_and_no_other_is() {
        let all = Revocations::new();
        let other = SessionName::parse("their-session").unwrap();
        let before = all.epoch();
        all.insert(&session_end(own(1), at(100)));
        all.insert(&session_end(other.clone(), at(100)));
        assert_eq!(all.epoch(), before + 2);
        for session in [own(1), other] {
            assert_eq!(all.check(&session, &user("u"), at(1)), Some(EndReason::SignedOut));
        }
        assert_eq!(all.check(&own(2), &user("u"), at(1)), None);
        assert_eq!(all.check(&SessionName::parse("their-sessio").unwrap(), &user("u"), at(1)), None);
    }

    #[test]
    fn an_entry_is_never_shortened_and_keeps_its_first_reason() {
        let all = Revocations::new();
        all.insert(&session_end(own(1), at(100)));
        all.insert(&Revocation::Session { session: own(1), reason: EndReason::RefreshReused, expires_at: at(50) });
        assert_eq!(all.purge(at(100)), 0);
        assert_eq!(all.check(&own(1), &user("u"), at(1)), Some(EndReason::SignedOut));
        all.insert(&session_end(own(1), at(200)));
        assert_eq!(all.purge(at(200)), 0);
        assert_eq!(all.purge(UnixTime::from_millis(200_001)), 1);
        assert!(all.is_empty());
    }

    #[test]
    fn an_expiry_is_rounded_up_and_a_far_one_never_comes() {
        let all = Revocations::new();
        all.insert(&session_end(own(1), UnixTime::from_millis(100_001)));
        all.insert(&session_end(own(2), UnixTime::from_millis(u64::MAX)));
        assert_eq!(all.purge(UnixTime::from_millis(101_000)), 0);
        assert_eq!(all.purge(at(1 << 40)), 1);
        assert_eq!(all.check(&own(2), &user("u"), at(1)), Some(EndReason::SignedOut));
    }

    #[test]
    fn a_user_end_refuses_whole_seconds_up_to_it_but_for_the_exception() {
        let all = Revocations::new();
        all.insert(&Revocation::User {
            user: user("u"),
            issued_until: UnixTime::from_millis(10_400),
            except: Some(own(7)),
            reason: EndReason::SecurityAction,
            expires_at: at(100),
        });
        assert_eq!(all.check(&own(1), &user("u"), at(10)), Some(EndReason::SecurityAction));
        assert_eq!(all.check(&own(1), &user("u"), at(11)), None);
        assert_eq!(all.check(&own(7), &user("u"), at(10)), None);
        assert_eq!(all.check(&own(1), &user("v"), at(10)), None);
        assert_eq!(all.refused_until(&user("u"), &own(1)), Some(at(10)));
        assert_eq!(all.refused_until(&user("u"), &own(7)), None);
        assert_eq!(all.purge(at(101)), 1);
        assert_eq!(all.check(&own(1), &user("u"), at(10)), None);
    }

    proptest! {
        /// The merged entry refuses exactly what one of the orders refuses, in any order of arrival, and after a round
        /// trip through the orders it is the union of.
        #[test]
        fn merged_user_ends_are_the_exact_union(
            orders in proptest::collection::vec((0_u64..6, proptest::option::of(0_u8..3)), 1..6)
        ) {
            let orders: Vec<_> = orders
                .into_iter()
                .map(|(until, except)| UserEnd::new(at(until), except.map(own), EndReason::SignedOut, at(99)))
                .collect();
            let all = Revocations::new();
            let again = Revocations::new();
            for order in &orders {
                order.clone().orders(&user("u")).for_each(|r| all.insert(&r));
            }
            let merged = orders.iter().cloned().reduce(UserEnd::union).unwrap();
            merged.orders(&user("u")).for_each(|r| again.insert(&r));
            for session in 0..4 {
                for issued in 0..8 {
                    let wanted = orders.iter().any(|o| {
                        issued <= o.issued_until && o.except != Some(own(session))
                    });
                    for map in [&all, &again] {
                        let refused = map.check(&own(session), &user("u"), at(issued)).is_some();
                        prop_assert_eq!(refused, wanted);
                    }
                }
            }
        }
    }
}
