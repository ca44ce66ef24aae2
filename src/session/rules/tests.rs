use proptest::prelude::*;

use super::*;
use crate::ids::{SessionId, UserId};

const MAX_LIFETIME: u64 = 1000;

fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

fn at(millis: u64) -> UnixTime {
    UnixTime::from_millis(1_000_000 + millis)
}

fn policy() -> SessionPolicy {
    SessionPolicy {
        issuer: "i".into(),
        audience: "a".into(),
        access_token_ttl: Duration::from_secs(60),
        longest_token: Duration::from_secs(60),
        idle_timeout: None,
        max_lifetime: None,
        max_per_user: None,
        refresh_grace: ms(10_000),
        shared: false,
    }
}

fn row(counter: u64, rotated_at: UnixTime) -> Session {
    Session {
        id: SessionId::from_bytes([1; 16]),
        user: UserId::parse("u").unwrap(),
        created_at: at(0),
        label: None,
        claims: None,
        counter,
        rotated_at,
        refresh_key: 1,
        last_seen: at(0),
        access_issued_at: rotated_at,
        access_expires_at: access_expiry(at(0), rotated_at, &policy()),
    }
}

fn present(row: &Session, counter: u64, now: UnixTime, policy: &SessionPolicy) -> Change {
    let seen = last_seen(row, None, policy);
    refresh(row, &Refresh { counter, now, clock: now, issued_at: now, refresh_key: 2, seen }, policy)
}

#[test]
fn the_current_token_moves_the_counter_by_one() {
    let row = row(5, at(0));
    let Change::Put(after) = present(&row, 5, at(70_000), &policy()) else { panic!() };
    assert_eq!((after.counter, after.rotated_at, after.refresh_key), (6, at(70_000), 2));
    assert_eq!(after.access_expires_at, UnixTime::from_secs(at(130_000).as_secs()));
    assert_eq!(after.access_issued_at, at(70_000));
}

#[test]
fn the_token_before_repeats_within_grace_and_moves_nothing() {
    let row = row(5, at(50_000));
    // In the same second there is nothing to record.
    assert_eq!(present(&row, 4, at(50_000), &policy()), Change::Keep);
    // Earlier too: the clock was set back by less than the grace.
    assert_eq!(present(&row, 4, at(40_000), &policy()), Change::Keep);
    let Change::Put(after) = present(&row, 4, at(60_000), &policy()) else { panic!() };
    assert_eq!((after.counter, after.rotated_at, after.refresh_key), (5, at(50_000), 1));
    assert_eq!(after.access_expires_at, at(120_000));
}

#[test]
fn outside_the_grace_it_ends_the_session_in_both_directions() {
    let row = row(5, at(50_000));
    for now in [at(60_001), at(39_999), at(0)] {
        assert_eq!(present(&row, 4, now, &policy()), Change::End(EndReason::RefreshReused));
    }
}

#[test]
fn older_and_unknown_counters_end_the_session() {
    let row = row(5, at(50_000));
    for counter in [0, 3, 6, 7, u64::MAX] {
        assert_eq!(present(&row, counter, at(50_000), &policy()), Change::End(EndReason::RefreshReused));
    }
    // No counter wraps around.
    assert_eq!(present(&self::row(0, at(0)), u64::MAX, at(0), &policy()), Change::End(EndReason::RefreshReused));
    let last = self::row(u64::MAX, at(0));
    assert_eq!(present(&last, u64::MAX, at(0), &policy()), Change::End(EndReason::RefreshReused));
}

#[test]
fn idle_and_max_age_come_first() {
    let idle = SessionPolicy { idle_timeout: Some(ms(10_000)), ..policy() };
    let row = row(5, at(50_000));
    // 10 s and the slack of a value from disk: 100 ms to notice, 500 ms between flushes.
    for counter in [5, 4, 0] {
        assert_eq!(present(&row, counter, at(10_600), &idle), Change::End(EndReason::SessionIdle));
    }
    assert!(matches!(present(&row, 5, at(10_599), &idle), Change::Put(_)));
    let in_memory = last_seen(&row, Some(at(3)), &idle);
    assert_eq!(timed_out(&row, in_memory, at(10_102), &idle), None);
    assert_eq!(timed_out(&row, in_memory, at(10_103), &idle), Some(EndReason::SessionIdle));

    let aged = SessionPolicy { max_lifetime: Some(ms(70_000)), ..policy() };
    assert_eq!(present(&row, 5, at(70_000), &aged), Change::End(EndReason::SessionMaxAge));
    let Change::Put(after) = present(&row, 5, at(69_999), &aged) else { panic!() };
    assert_eq!(after.access_expires_at, at(110_000).min(after.access_expires_at));
    assert_eq!(access_expiry(at(0), at(69_999), &aged), at(70_000));
}

#[test]
fn resolutions_follow_the_idle_timeout() {
    for (idle, resolution, flush) in
        [(500, 10, 100), (10_000, 100, 500), (60_000, 600, 3000), (100_000, 1000, 5000), (86_400_000, 1000, 5000)]
    {
        let policy = SessionPolicy { idle_timeout: Some(ms(idle)), ..policy() };
        assert_eq!((policy.touch_resolution(), policy.flush_interval()), (ms(resolution), ms(flush)), "{idle}");
    }
}

/// What a client or the world may do next.
#[derive(Clone, Debug)]
enum Step {
    /// Present the current refresh token less so many.
    Present(u64),
    /// Present one that was never handed out.
    Future(u64),
    /// The clock moves on, or back.
    Clock(i64),
    /// A request through the gateway.
    Request,
    /// The MAC key changes.
    RotateKey,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (0_u64..3).prop_map(Step::Present),
        1 => (1_u64..3).prop_map(Step::Future),
        4 => (-15_000_i64..30_000).prop_map(Step::Clock),
        2 => Just(Step::Request),
        1 => Just(Step::RotateKey),
    ]
}

/// What must be known to judge a step, kept in another way than the row keeps it.
struct Model {
    /// When each refresh token but the first was made, and under which key.
    made: Vec<(UnixTime, u32)>,
    requests: Vec<UnixTime>,
    minted: Vec<(UnixTime, UnixTime)>,
}

proptest! {
    /// Any course of a session's life: what is answered is what the model says, and what is recorded covers every
    /// access token that was minted.
    #[test]
    fn a_session_lives_as_the_model_says(
        steps in proptest::collection::vec(step(), 1..60),
        idle in proptest::option::of(20_000_u64..60_000),
        bounded: bool,
    ) {
        let policy = SessionPolicy {
            idle_timeout: idle.map(ms),
            max_lifetime: bounded.then_some(Duration::from_secs(MAX_LIFETIME)),
            ..policy()
        };
        let mut now = at(500_000);
        let created = now;
        let mut row = Session { created_at: created, last_seen: created, ..row(0, created) };
        let mut model = Model { made: Vec::new(), requests: vec![created], minted: Vec::new() };
        let mut key = 1;
        for step in steps {
            let counter = match step {
                Step::Clock(by) => {
                    now = UnixTime::from_millis(now.as_millis().saturating_add_signed(by));
                    continue;
                }
                Step::Request => {
                    model.requests.push(now);
                    continue;
                }
                Step::RotateKey => {
                    key += 1;
                    continue;
                }
                Step::Present(back) => match row.counter.checked_sub(back) {
                    Some(counter) => counter,
                    None => continue,
                },
                Step::Future(ahead) => row.counter + ahead,
            };
            let in_memory = model.requests.iter().max().copied();
            let seen = last_seen(&row, in_memory, &policy);
            let verdict = refresh(&row, &Refresh { counter, now, clock: now, issued_at: now, refresh_key: key, seen }, &policy);

            let old = bounded && now.since(created) >= Duration::from_secs(MAX_LIFETIME);
            let quiet = now.since(in_memory.unwrap());
            let idle = idle.is_some_and(|idle| quiet >= ms(idle + idle / 100));
            let handed_out = model.made.len() as u64;
            let expected = if old {
                Err(EndReason::SessionMaxAge)
            } else if idle {
                Err(EndReason::SessionIdle)
            } else if counter == handed_out {
                model.made.push((now, key));
                Ok(())
            } else if counter + 1 == handed_out
                && now.as_millis().abs_diff(model.made.last().unwrap().0.as_millis()) <= 10_000
            {
                Ok(())
            } else {
                Err(EndReason::RefreshReused)
            };
            let after = match (verdict, expected) {
                (Change::End(reason), Err(expected)) => {
                    prop_assert_eq!(reason, expected);
                    return Ok(());
                }
                (Change::Put(after), Ok(())) => after,
                (Change::Keep, Ok(())) => row.clone(),
                (verdict, expected) => {
                    prop_assert!(false, "{verdict:?} instead of {expected:?}");
                    unreachable!()
                }
            };
            // One successor for one token, always under the key it was first made with.
            prop_assert_eq!(after.counter, counter + 1);
            prop_assert_eq!((after.rotated_at, after.refresh_key), *model.made.last().unwrap());
            model.minted.push((now, access_expiry(created, now, &policy)));
            for (issued_at, expires_at) in &model.minted {
                prop_assert!(after.access_issued_at.as_secs() >= issued_at.as_secs());
                prop_assert!(after.access_expires_at >= *expires_at);
                prop_assert!(!bounded || *expires_at <= created.plus(Duration::from_secs(MAX_LIFETIME)));
            }
            row = after;
        }
    }
}

#[test]
fn the_grace_period_goes_by_the_shared_clock_and_all_else_by_ours() {
    let row = row(5, at(0));
    let hour_ahead = at(3_600_000);
    let seen = last_seen(&row, None, &policy());
    let refresh_at =
        |clock| Refresh { counter: 4, now: hour_ahead, clock, issued_at: hour_ahead, refresh_key: 2, seen };
    let Change::Put(repeated) = refresh(&row, &refresh_at(at(5_000)), &policy()) else { panic!() };
    assert_eq!((repeated.counter, repeated.rotated_at), (5, at(0)));
    assert_eq!(refresh(&row, &refresh_at(hour_ahead), &policy()), Change::End(EndReason::RefreshReused));
    let Change::Put(rotated) = refresh(&row, &Refresh { counter: 5, ..refresh_at(at(5_000)) }, &policy()) else {
        panic!()
    };
    assert_eq!((rotated.rotated_at, rotated.access_issued_at), (at(5_000), hour_ahead));
}
