//! What may happen to sessions, as values that shrink: places are numbers, taken modulo what there is.

use std::num::NonZeroU32;
use std::time::Duration;

use proptest::prelude::*;
use proptest::sample::Index;

use crate::revocation::EndReason;
use crate::session::SessionPolicy;

/// Users there are. Few, so that they meet limits and ends of one another's sessions.
pub(super) const USERS: usize = 3;

/// Which refresh token of a session is presented.
#[derive(Clone, Copy, Debug)]
pub(super) enum Presented {
    /// The last one given out.
    Current,
    /// The one before: a racing tab, or a client whose reply was lost.
    Previous,
    /// Any that was ever given out.
    Any(Index),
    /// The last one with a character changed.
    Altered(Index),
    /// As the last one, under a key that is not ours.
    OtherKey,
    /// One higher than was ever given out: the store would have lost a rotation.
    Ahead,
}

/// One thing that happens.
#[derive(Clone, Debug)]
pub(super) enum Operation {
    SignIn {
        user: usize,
        /// Whether a second whose tokens are refused is really waited for.
        waits: bool,
    },
    Refresh {
        session: Index,
        presented: Presented,
    },
    /// A request with an access token of a session.
    Request {
        session: Index,
        token: Index,
    },
    End {
        session: Index,
        reason: EndReason,
    },
    /// All of the session's user but itself.
    EndOthers {
        session: Index,
    },
    /// All of a user but a session that may be another user's, or over.
    EndUserBut {
        user: usize,
        session: Index,
    },
    EndUser {
        user: usize,
    },
    RevokeSession {
        session: Index,
    },
    RevokeUser {
        user: usize,
    },
    /// A session of a trusted issuer.
    RevokeForeign {
        name: u8,
    },
    /// True time passes.
    Pass(Duration),
    /// The wall clock is this far from true time from now on, in seconds.
    SetClock(i64),
    Sweep,
    PurgeRevocations,
    PurgeKeys,
    RotateSigningKey {
        force: bool,
    },
    RotateRefreshKey,
    /// The process is gone without a word, and comes again.
    Crash,
    /// It is told to stop, and comes again.
    Restart,
}

fn presented() -> impl Strategy<Value = Presented> {
    prop_oneof![
        8 => Just(Presented::Current),
        5 => Just(Presented::Previous),
        2 => any::<Index>().prop_map(Presented::Any),
        1 => any::<Index>().prop_map(Presented::Altered),
        1 => Just(Presented::OtherKey),
        1 => Just(Presented::Ahead),
    ]
}

/// Around every limit there is: a second, the grace, the leeway, an idle timeout, a token's life, a session's.
fn pass() -> impl Strategy<Value = Duration> {
    prop_oneof![
        4 => (0_u64..1_500).prop_map(Duration::from_millis),
        2 => Just(Duration::from_secs(10)),
        1 => Just(Duration::from_millis(10_001)),
        1 => Just(Duration::from_secs(31)),
        2 => (1_u64..6).prop_map(|minutes| Duration::from_secs(minutes * 60)),
        2 => (6_u64..40).prop_map(|minutes| Duration::from_secs(minutes * 60)),
        1 => (1_u64..4).prop_map(|hours| Duration::from_secs(hours * 3600)),
    ]
}

fn set_clock() -> impl Strategy<Value = i64> {
    prop_oneof![
        4 => Just(0_i64),
        1 => prop_oneof![Just(-1_i64), Just(1), Just(-29), Just(-31), Just(31)],
        1 => -1_200_i64..1_200,
        1 => prop_oneof![Just(-7_200_i64), Just(18_000)],
    ]
}

pub(super) fn operation() -> impl Strategy<Value = Operation> {
    let session = || any::<Index>();
    prop_oneof![
        12 => (0..USERS, proptest::bool::weighted(0.02))
            .prop_map(|(user, waits)| Operation::SignIn { user, waits }),
        30 => (session(), presented()).prop_map(|(session, presented)| Operation::Refresh { session, presented }),
        12 => (session(), any::<Index>()).prop_map(|(session, token)| Operation::Request { session, token }),
        4 => (session(), prop_oneof![Just(EndReason::SignedOut), Just(EndReason::SecurityAction)])
            .prop_map(|(session, reason)| Operation::End { session, reason }),
        3 => session().prop_map(|session| Operation::EndOthers { session }),
        1 => (0..USERS, session()).prop_map(|(user, session)| Operation::EndUserBut { user, session }),
        2 => (0..USERS).prop_map(|user| Operation::EndUser { user }),
        2 => session().prop_map(|session| Operation::RevokeSession { session }),
        1 => (0..USERS).prop_map(|user| Operation::RevokeUser { user }),
        1 => (0_u8..3).prop_map(|name| Operation::RevokeForeign { name }),
        22 => pass().prop_map(Operation::Pass),
        5 => set_clock().prop_map(Operation::SetClock),
        3 => Just(Operation::Sweep),
        5 => Just(Operation::PurgeRevocations),
        1 => Just(Operation::PurgeKeys),
        1 => any::<bool>().prop_map(|force| Operation::RotateSigningKey { force }),
        1 => Just(Operation::RotateRefreshKey),
        2 => Just(Operation::Crash),
        1 => Just(Operation::Restart),
    ]
}

/// Tokens of 15 minutes; trusted issuers' live an hour. Limits on sessions or none.
pub(super) fn policy() -> impl Strategy<Value = SessionPolicy> {
    let minutes = |minutes: u64| Duration::from_secs(minutes * 60);
    let most = prop_oneof![3 => Just(None), 1 => Just(NonZeroU32::new(1)), 1 => Just(NonZeroU32::new(2))];
    let idle = prop_oneof![1 => Just(None), 1 => Just(Some(minutes(20)))];
    let lifetime = prop_oneof![2 => Just(None), 1 => Just(Some(minutes(100)))];
    let grace = prop_oneof![4 => Just(Duration::from_secs(10)), 1 => Just(Duration::from_millis(1))];
    (most, idle, lifetime, grace).prop_map(move |(max_per_user, idle_timeout, max_lifetime, refresh_grace)| {
        SessionPolicy {
            issuer: "https://id.example".into(),
            audience: "app".into(),
            access_token_ttl: minutes(15),
            longest_token: minutes(60),
            idle_timeout,
            max_lifetime,
            max_per_user,
            refresh_grace,
            shared: false,
        }
    })
}
