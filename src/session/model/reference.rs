//! Sessions as the contract tells of them: lists and counters, no store, no cache, nothing clever.

use super::operation::USERS;
use crate::clock::{LEEWAY, UnixTime};
use crate::ids::SessionId;
use crate::revocation::EndReason;
use crate::session::SessionPolicy;

/// An access token that was given out.
#[derive(Clone, Debug)]
pub(super) struct Access {
    pub(super) text: String,
    pub(super) kid: String,
    /// Seconds.
    pub(super) issued_at: u64,
    /// Seconds.
    pub(super) expires_at: u64,
}

/// A session as far as the contract tells.
#[derive(Clone, Debug)]
pub(super) struct Known {
    pub(super) id: SessionId,
    pub(super) user: usize,
    pub(super) created_at: UnixTime,
    /// Every refresh token that was ever given out, by its counter.
    pub(super) refresh: Vec<String>,
    pub(super) rotated_at: UnixTime,
    pub(super) access: Vec<Access>,
    /// Over, and why; without a reason when that may have been forgotten.
    pub(super) over: Option<Option<EndReason>>,
    /// The latest request.
    pub(super) seen: UnixTime,
    /// The latest request that the store knows of for certain.
    pub(super) stored: UnixTime,
}

impl Known {
    pub(super) fn lives(&self) -> bool {
        self.over.is_none()
    }

    pub(super) fn counter(&self) -> usize {
        self.refresh.len() - 1
    }

    pub(super) fn end(&mut self, reason: EndReason) {
        if self.over.is_none() {
            self.over = Some(Some(reason));
        }
    }

    /// Whether `reason` may be told as the one it ended for.
    pub(super) fn ended_for(&self, reason: EndReason) -> bool {
        self.over.is_some_and(|known| known.is_none_or(|known| known == reason))
    }
}

/// All sessions of a user ended.
#[derive(Clone, Debug)]
pub(super) struct Order {
    pub(super) user: usize,
    /// Tokens of this second and earlier ones are refused.
    pub(super) until: u64,
    /// But not those of this session.
    pub(super) except: Option<SessionId>,
    pub(super) reason: EndReason,
    /// From this purge on nobody must remember it.
    pub(super) kept_until: UnixTime,
    pub(super) may_be_gone: bool,
}

/// What the rule of idleness and age says of a session.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Due {
    /// It must not end.
    No,
    /// Late by no more than what a gateway may not know: either will do.
    Perhaps,
    /// It must end for this.
    Yes(EndReason),
}

pub(super) struct Reference {
    pub(super) policy: SessionPolicy,
    pub(super) sessions: Vec<Known>,
    pub(super) orders: Vec<Order>,
    /// Sessions of trusted issuers: which, and until when that must be remembered.
    pub(super) foreign: Vec<(u8, UnixTime)>,
}

impl Reference {
    pub(super) fn new(policy: SessionPolicy) -> Self {
        Self { policy, sessions: Vec::new(), orders: Vec::new(), foreign: Vec::new() }
    }

    pub(super) fn is_due(&self, session: &Known, now: UnixTime) -> Due {
        if self.policy.max_lifetime.is_some_and(|most| now.since(session.created_at) >= most) {
            return Due::Yes(EndReason::SessionMaxAge);
        }
        let Some(idle) = self.policy.idle_timeout else { return Due::No };
        if now.since(session.seen) < idle {
            return Due::No;
        }
        if now.since(session.stored) >= idle + self.policy.most_unwritten() {
            return Due::Yes(EndReason::SessionIdle);
        }
        Due::Perhaps
    }

    /// What came of a moment at which a session that was due had to end: `reason` is what was told, if anything.
    #[track_caller]
    pub(super) fn settle(&mut self, place: usize, now: UnixTime, reason: Option<EndReason>) {
        let due = self.is_due(&self.sessions[place], now);
        match (due, reason) {
            (Due::No | Due::Perhaps, None) => {}
            (Due::Yes(wanted), Some(told)) if wanted == told => self.sessions[place].end(told),
            (Due::Perhaps, Some(EndReason::SessionIdle)) => self.sessions[place].end(EndReason::SessionIdle),
            _ => panic!("due: {due:?}, told: {reason:?}, at {now}: {:?}", self.sessions[place]),
        }
    }

    /// The earliest and the latest second that may be the `iat` of a token of `session` minted now.
    pub(super) fn first_accepted(&self, user: usize, session: Option<SessionId>, now: UnixTime) -> (u64, u64) {
        let reaching = |sure: bool| {
            self.orders
                .iter()
                .filter(|order| order.user == user && (order.except.is_none() || order.except != session))
                .filter(|order| !sure || !order.may_be_gone)
                .map(|order| order.until + 1)
                .fold(now.as_secs(), u64::max)
        };
        (reaching(true), reaching(false))
    }

    /// Live sessions of a user, oldest first.
    pub(super) fn of(&self, user: usize) -> Vec<usize> {
        let mut places: Vec<_> = (0..self.sessions.len())
            .filter(|place| self.sessions[*place].user == user && self.sessions[*place].lives())
            .collect();
        places.sort_by_key(|place| (self.sessions[*place].created_at, self.sessions[*place].id));
        places
    }

    /// A session joins; the oldest of its user make room.
    pub(super) fn sign_in(&mut self, session: Known) {
        let others = self.of(session.user);
        if let Some(most) = self.policy.max_per_user {
            let surplus = (others.len() + 1).saturating_sub(most.get() as usize);
            for place in &others[..surplus.min(others.len())] {
                self.sessions[*place].end(EndReason::SignedInElsewhere);
            }
        }
        self.sessions.push(session);
    }

    /// How many ended.
    pub(super) fn end_user(&mut self, user: usize, except: Option<SessionId>, reason: EndReason, now: UnixTime) -> u64 {
        let living = self.of(user);
        // One that is over, or another user's, is no exception.
        let except = except.filter(|id| living.iter().any(|place| self.sessions[*place].id == *id));
        let mut ended = 0;
        for place in living {
            if Some(self.sessions[place].id) != except {
                self.sessions[place].end(reason);
                ended += 1;
            }
        }
        let kept_until = now.plus(self.policy.longest_token).plus(LEEWAY);
        self.orders.push(Order { user, until: now.as_secs(), except, reason, kept_until, may_be_gone: false });
        ended
    }

    pub(super) fn purge(&mut self, now: UnixTime) {
        for session in self.sessions.iter_mut().filter(|session| session.over.is_some()) {
            let last = session.access.iter().map(|token| token.expires_at).max().unwrap_or_default();
            if UnixTime::from_secs(last).plus(LEEWAY) < now {
                session.over = Some(None);
            }
        }
        for order in &mut self.orders {
            order.may_be_gone |= order.kept_until < now;
        }
        self.foreign.retain(|(_, kept_until)| *kept_until >= now);
    }

    /// Whether tokens of `user`, of a session that no order spares, with this `iat` are refused: surely, and perhaps.
    pub(super) fn refuses_user(&self, user: usize, issued_at: u64) -> (bool, bool) {
        let reaching = |sure: bool| {
            self.orders.iter().any(|it| it.user == user && issued_at <= it.until && !(sure && it.may_be_gone))
        };
        (reaching(true), reaching(false))
    }

    pub(super) fn in_grace(&self, session: &Known, now: UnixTime) -> bool {
        now.since(session.rotated_at).max(session.rotated_at.since(now)) <= self.policy.refresh_grace
    }

    pub(super) fn users() -> impl Iterator<Item = usize> {
        0..USERS
    }

    /// The `exp` of a token of this `iat`, in seconds.
    pub(super) fn expiry(&self, created_at: UnixTime, issued_at: u64) -> u64 {
        let expiry = UnixTime::from_secs(issued_at).plus(self.policy.access_token_ttl);
        self.policy.max_lifetime.map_or(expiry, |most| expiry.min(created_at.plus(most))).as_secs()
    }
}
