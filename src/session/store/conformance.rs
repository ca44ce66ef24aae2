//! What every store must do, as tests that any store can run: `conformance!(open)` in its own test module, where `open()`
//! gives something that derefs to a new, empty `Arc<dyn SessionStore>` and keeps it alive.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::*;
use crate::clock::LEEWAY;
use crate::ids::SessionName;

pub(crate) type Store = Arc<dyn SessionStore>;

/// Hands the names of all cases to another macro.
macro_rules! cases {
    ($with:path $(, $more:tt)*) => {
        $with! { $($more,)*
            a_created_session_is_found_listed_and_scanned
            a_session_is_not_created_twice
            put_replaces_and_keep_does_not
            end_deletes_and_revokes_until_the_last_token_expired
            an_absent_row_stays_absent
            concurrent_updates_follow_each_other
            the_oldest_sessions_make_room
            the_limit_of_a_user_holds_under_concurrency
            ending_a_user_spares_the_exception_and_other_users
            ending_a_user_does_not_revive_what_has_ended
            ending_a_user_reaches_tokens_from_a_clock_that_was_ahead
            a_list_is_paged_and_stable
            a_scan_is_paged
            touch_moves_forward_only
            revocations_are_published_and_never_shortened
            a_purge_takes_what_has_expired_and_nothing_else
            an_end_outlives_tokens_that_have_expired_by_a_minute
            what_was_started_is_finished_without_anyone_waiting
            a_closed_store_refuses
        }
    };
}
pub(crate) use cases;

/// A test for each case.
macro_rules! conformance {
    ($open:ident) => {
        $crate::session::store::conformance::cases!($crate::session::store::conformance::conformance, $open);
    };
    ($open:ident, $($case:ident)*) => {
        $(
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $case() {
                let store = $open();
                $crate::session::store::conformance::$case(&store).await;
            }
        )*
    };
}
pub(crate) use conformance;

macro_rules! one_after_the_other {
    ($($case:ident)*) => {
        /// All cases in turn, each with a store of its own that `open` makes of its name.
        pub(crate) async fn all(open: impl AsyncFn(&str) -> Store) {
            $(
                $case(&open(stringify!($case)).await).await;
            )*
        }
    };
}
cases!(one_after_the_other);

pub(crate) fn at(seconds: u64) -> UnixTime {
    UnixTime::from_secs(1_700_000_000 + seconds)
}

pub(crate) fn user(text: &str) -> UserId {
    UserId::parse(text).unwrap()
}

pub(crate) fn id(byte: u8) -> SessionId {
    SessionId::from_bytes([byte; 16])
}

pub(crate) fn session(byte: u8, name: &str, created: u64) -> Session {
    Session {
        id: id(byte),
        user: user(name),
        created_at: at(created),
        label: byte.is_multiple_of(2).then(|| "phone".into()),
        claims: byte
            .is_multiple_of(3)
            .then(|| serde_json::json!({"role": ["a", {"b": 1}]}).as_object().unwrap().clone()),
        counter: 0,
        rotated_at: at(created),
        refresh_key: 7,
        last_seen: at(created),
        access_issued_at: at(created),
        access_expires_at: at(created + 3600),
    }
}

async fn create(store: &Store, session: Session) {
    assert_eq!(store.create(session, None).await.unwrap(), []);
}

fn refused(store: &Store, session: SessionId, name: &str, issued: u64) -> Option<EndReason> {
    store.revocations().check(&session.into(), &user(name), at(issued))
}

fn end_with(reason: EndReason) -> Decide {
    Box::new(move |_, _| Change::End(reason))
}

fn end_user(name: &str, except: Option<SessionId>, until: u64) -> EndUser {
    EndUser {
        user: user(name),
        except,
        issued_until: at(until),
        reason: EndReason::SecurityAction,
        expires_at: at(until + 3630),
    }
}

async fn listed(store: &Store, name: &str) -> Vec<SessionId> {
    store.list(&user(name), None, 1000).await.unwrap().into_iter().map(|row| row.id).collect()
}

pub(crate) async fn a_created_session_is_found_listed_and_scanned(store: &Store) {
    for byte in 0..6 {
        create(store, session(byte, "ann", 1)).await;
    }
    for byte in 0..6 {
        assert_eq!(store.find(id(byte)).await.unwrap(), Some(session(byte, "ann", 1)));
    }
    assert_eq!(store.find(id(9)).await.unwrap(), None);
    assert_eq!(listed(store, "ann").await.len(), 6);
    assert_eq!(scanned(store, 10).await.len(), 6);
    // No user's name is the start of another's.
    create(store, session(9, "annabel", 0)).await;
    assert_eq!(listed(store, "ann").await.len(), 6);
    assert_eq!(listed(store, "an").await, []);
}

pub(crate) async fn a_session_is_not_created_twice(store: &Store) {
    create(store, session(1, "ann", 1)).await;
    assert!(store.create(session(1, "eve", 2), None).await.is_err());
    assert_eq!(store.find(id(1)).await.unwrap(), Some(session(1, "ann", 1)));
    assert_eq!(listed(store, "eve").await, []);
}

pub(crate) async fn put_replaces_and_keep_does_not(store: &Store) {
    create(store, session(1, "ann", 1)).await;
    let bump: Decide =
        Box::new(|row, _| Change::Put(Session { counter: 5, access_expires_at: at(9), ..row.unwrap().clone() }));
    let updated = store.update(id(1), bump).await.unwrap();
    assert_eq!(updated.before, Some(session(1, "ann", 1)));
    let after = Session { counter: 5, access_expires_at: at(9), ..session(1, "ann", 1) };
    assert_eq!(updated.change, Change::Put(after.clone()));
    let kept = store.update(id(1), Box::new(|_, _| Change::Keep)).await.unwrap();
    assert_eq!((kept.before, kept.change), (Some(after.clone()), Change::Keep));
    assert_eq!(store.find(id(1)).await.unwrap(), Some(after));
    assert!(store.revocations().is_empty());
}

pub(crate) async fn end_deletes_and_revokes_until_the_last_token_expired(store: &Store) {
    // Of today: the token has not expired yet.
    let created = UnixTime::now().since(at(0)).as_secs();
    create(store, session(1, "ann", created)).await;
    create(store, session(2, "ann", created)).await;
    let updated = store.update(id(1), end_with(EndReason::RefreshReused)).await.unwrap();
    assert_eq!(updated.before, Some(session(1, "ann", created)));
    assert_eq!(refused(store, id(1), "ann", created), Some(EndReason::RefreshReused));
    assert_eq!(refused(store, id(2), "ann", created), None);
    assert_eq!(store.find(id(1)).await.unwrap(), None);
    assert_eq!(listed(store, "ann").await, [id(2)]);
    let again = store.update(id(1), end_with(EndReason::SignedOut)).await.unwrap();
    assert_eq!((again.before, again.change, again.ended), (None, Change::Keep, Some(EndReason::RefreshReused)));
    let last = session(1, "ann", created).access_expires_at.plus(LEEWAY);
    assert_eq!(store.revocations().purge(last), 0);
    assert_eq!(store.revocations().purge(last.plus(Duration::from_secs(1))), 1);
}

pub(crate) async fn an_absent_row_stays_absent(store: &Store) {
    let put: Decide = Box::new(|row, _| {
        assert!(row.is_none());
        Change::Put(session(1, "ann", 1))
    });
    let updated = store.update(id(1), put).await.unwrap();
    assert_eq!((updated.before, updated.change, updated.ended), (None, Change::Keep, None));
    let ended = store.update(id(1), end_with(EndReason::SignedOut)).await.unwrap();
    assert_eq!((ended.before, ended.change, ended.ended), (None, Change::Keep, None));
    assert_eq!(store.find(id(1)).await.unwrap(), None);
    assert!(store.revocations().is_empty());
}

pub(crate) async fn concurrent_updates_follow_each_other(store: &Store) {
    create(store, session(1, "ann", 1)).await;
    let won = Arc::new(AtomicU64::new(0));
    let mut tasks = tokio::task::JoinSet::new();
    for task in 0..64_u64 {
        let (store, won) = (store.clone(), won.clone());
        tasks.spawn(async move {
            // A compare-and-set of each value by four tasks, and of the next only once that is there.
            let expected = task / 4;
            loop {
                let decide: Decide = Box::new(move |row, _| {
                    let row = row.unwrap();
                    if row.counter == expected {
                        Change::Put(Session { counter: expected + 1, ..row.clone() })
                    } else {
                        Change::Keep
                    }
                });
                let updated = store.update(id(1), decide).await.unwrap();
                let found = updated.before.unwrap().counter;
                if found >= expected {
                    won.fetch_add(u64::from(updated.change != Change::Keep), Ordering::SeqCst);
                    return;
                }
            }
        });
    }
    tasks.join_all().await;
    assert_eq!(won.load(Ordering::SeqCst), 16);
    assert_eq!(store.find(id(1)).await.unwrap().unwrap().counter, 16);
}

pub(crate) async fn the_oldest_sessions_make_room(store: &Store) {
    let two = NonZeroU32::new(2);
    create(store, session(3, "ann", 5)).await;
    create(store, session(2, "ann", 5)).await;
    create(store, session(4, "ann", 1)).await;
    create(store, session(8, "eve", 0)).await;
    // One too many was there before the limit was set: both it and the one displaced go, oldest first, then by id.
    assert_eq!(store.create(session(5, "ann", 9), two).await.unwrap(), [id(4), id(2)]);
    for gone in [id(4), id(2)] {
        assert_eq!(refused(store, gone, "ann", 0), Some(EndReason::SignedInElsewhere));
        assert_eq!(store.find(gone).await.unwrap(), None);
    }
    assert_eq!(listed(store, "ann").await, [id(3), id(5)]);
    assert_eq!(listed(store, "eve").await, [id(8)]);
    // The clock was set back: the newest looks oldest and stays all the same.
    let one = NonZeroU32::new(1);
    assert_eq!(store.create(session(6, "ann", 0), one).await.unwrap(), [id(3), id(5)]);
    assert_eq!(listed(store, "ann").await, [id(6)]);
}

pub(crate) async fn the_limit_of_a_user_holds_under_concurrency(store: &Store) {
    let mut tasks = tokio::task::JoinSet::new();
    for byte in 0..32 {
        let store = store.clone();
        tasks.spawn(async move { store.create(session(byte, "ann", 1), NonZeroU32::new(3)).await.unwrap() });
    }
    let mut evicted: Vec<_> = tasks.join_all().await.into_iter().flatten().collect();
    evicted.sort();
    evicted.dedup();
    let left = listed(store, "ann").await;
    assert_eq!((left.len(), evicted.len()), (3, 29));
    for byte in 0..32 {
        let lives = left.contains(&id(byte));
        assert_eq!(store.find(id(byte)).await.unwrap().is_some(), lives);
        assert_eq!(refused(store, id(byte), "ann", 1).is_none(), lives);
    }
}

pub(crate) async fn ending_a_user_spares_the_exception_and_other_users(store: &Store) {
    for byte in 1..5 {
        create(store, session(byte, "ann", u64::from(byte))).await;
    }
    create(store, session(9, "eve", 1)).await;
    let before = store.revocations().len();
    let mut ended = store.end_user(end_user("ann", Some(id(2)), 10)).await.unwrap();
    ended.sort();
    assert_eq!(ended, [id(1), id(3), id(4)]);
    // One entry on the request path, however many sessions.
    assert_eq!(store.revocations().len(), before + 1);
    for byte in [1, 3, 4] {
        assert_eq!(refused(store, id(byte), "ann", u64::from(byte)), Some(EndReason::SecurityAction));
        let updated = store.update(id(byte), Box::new(|_, _| Change::Keep)).await.unwrap();
        assert_eq!((updated.before, updated.ended), (None, Some(EndReason::SecurityAction)));
    }
    assert_eq!(refused(store, id(2), "ann", 2), None);
    assert_eq!(refused(store, id(9), "eve", 1), None);
    assert_eq!(listed(store, "ann").await, [id(2)]);
    assert_eq!(listed(store, "eve").await, [id(9)]);
    assert_eq!(store.end_user(end_user("nobody", None, 10)).await.unwrap(), []);
}

pub(crate) async fn ending_a_user_does_not_revive_what_has_ended(store: &Store) {
    create(store, session(1, "ann", 1)).await;
    create(store, session(2, "ann", 2)).await;
    create(store, session(9, "eve", 1)).await;
    store.end_user(end_user("ann", Some(id(2)), 10)).await.unwrap();
    // Neither a session that has ended nor one of another user is an exception.
    store.end_user(end_user("ann", Some(id(1)), 11)).await.unwrap();
    create(store, session(3, "ann", 12)).await;
    store.end_user(end_user("ann", Some(id(9)), 11)).await.unwrap();
    for byte in [1, 2] {
        assert_eq!(refused(store, id(byte), "ann", u64::from(byte)), Some(EndReason::SecurityAction));
    }
    assert_eq!(refused(store, id(9), "ann", 11), Some(EndReason::SecurityAction));
    assert_eq!(refused(store, id(9), "eve", 1), None);
    assert!(store.find(id(9)).await.unwrap().is_some());
    assert_eq!(listed(store, "ann").await, []);
}

pub(crate) async fn ending_a_user_reaches_tokens_from_a_clock_that_was_ahead(store: &Store) {
    create(store, session(1, "ann", 100)).await;
    create(store, session(2, "ann", 1)).await;
    let long = Session { access_expires_at: at(90_000), ..session(3, "ann", 2) };
    create(store, long).await;
    store.end_user(end_user("ann", None, 50)).await.unwrap();
    assert_eq!(refused(store, id(1), "ann", 100), Some(EndReason::SecurityAction));
    // The entry of the user outlives the longest token of it.
    store.revocations().purge(at(90_000));
    assert_eq!(refused(store, id(3), "ann", 2), Some(EndReason::SecurityAction));
}

pub(crate) async fn a_list_is_paged_and_stable(store: &Store) {
    for (byte, created) in [(5, 1), (1, 2), (3, 2), (2, 2), (4, 9)] {
        create(store, session(byte, "ann", created)).await;
    }
    let first = store.list(&user("ann"), None, 2).await.unwrap();
    assert_eq!(first.iter().map(|row| row.id).collect::<Vec<_>>(), [id(5), id(1)]);
    let after = ListPosition::of(&first[1]);
    // What ends or comes meanwhile moves nobody else, even the session of the cursor itself.
    store.update(id(1), end_with(EndReason::SignedOut)).await.unwrap();
    create(store, session(6, "ann", 10)).await;
    let rest = store.list(&user("ann"), Some(after), 10).await.unwrap();
    assert_eq!(rest.iter().map(|row| row.id).collect::<Vec<_>>(), [id(2), id(3), id(4), id(6)]);
    assert_eq!(store.list(&user("ann"), Some(ListPosition::of(&rest[3])), 10).await.unwrap(), []);
}

async fn scanned(store: &Store, limit: usize) -> Vec<Session> {
    let mut all = Vec::new();
    let mut after = None;
    loop {
        let page = store.scan(after, limit).await.unwrap();
        assert!(page.sessions.len() <= limit);
        all.extend(page.sessions);
        after = page.next;
        if after.is_none() {
            all.sort_by_key(|row| row.id);
            return all;
        }
    }
}

pub(crate) async fn a_scan_is_paged(store: &Store) {
    for byte in [3, 1, 4, 2, 5] {
        create(store, session(byte, "ann", 1)).await;
    }
    create(store, session(6, "eve", 1)).await;
    for limit in 1..8 {
        let all = scanned(store, limit).await;
        assert_eq!(all.iter().map(|row| row.id).collect::<Vec<_>>(), [1, 2, 3, 4, 5, 6].map(id), "{limit}");
        assert_eq!(all[0], session(1, "ann", 1));
    }
}

pub(crate) async fn touch_moves_forward_only(store: &Store) {
    create(store, session(2, "ann", 1)).await;
    create(store, session(3, "ann", 1)).await;
    store.touch(vec![(id(2), at(50)), (id(9), at(50)), (id(3), at(0))]).await.unwrap();
    store.touch(vec![(id(2), at(40))]).await.unwrap();
    assert_eq!(store.find(id(2)).await.unwrap(), Some(Session { last_seen: at(50), ..session(2, "ann", 1) }));
    assert_eq!(store.find(id(3)).await.unwrap(), Some(session(3, "ann", 1)));
    assert_eq!(store.find(id(9)).await.unwrap(), None);
}

pub(crate) async fn revocations_are_published_and_never_shortened(store: &Store) {
    let theirs = SessionName::parse("their-session").unwrap();
    let revoke = |reason, until| Revocation::Session { session: theirs.clone(), reason, expires_at: at(until) };
    store.revoke(revoke(EndReason::SecurityAction, 100)).await.unwrap();
    store.revoke(revoke(EndReason::SignedOut, 50)).await.unwrap();
    let check = || store.revocations().check(&theirs, &user("ann"), at(1));
    assert_eq!(check(), Some(EndReason::SecurityAction));
    store.revocations().purge(at(100));
    assert_eq!(store.purge_revocations(at(100)).await.unwrap(), 0);
    assert_eq!(check(), Some(EndReason::SecurityAction));
}

pub(crate) async fn a_purge_takes_what_has_expired_and_nothing_else(store: &Store) {
    let revoke = |number: u64, until| Revocation::Session {
        session: SessionName::parse(&format!("s{number}")).unwrap(),
        reason: EndReason::SignedOut,
        expires_at: at(until),
    };
    // More than fits into one operation of any store.
    let mut tasks = tokio::task::JoinSet::new();
    for number in 0..1500 {
        let (store, revocation) = (store.clone(), revoke(number, 100 + number % 3));
        tasks.spawn(async move { store.revoke(revocation).await.unwrap() });
    }
    tasks.join_all().await;
    // One that is prolonged is not taken at its first expiry.
    store.revoke(revoke(0, 200)).await.unwrap();
    assert_eq!(store.purge_revocations(at(100)).await.unwrap(), 0);
    assert_eq!(store.purge_revocations(at(101)).await.unwrap(), 499);
    assert_eq!(store.purge_revocations(at(101)).await.unwrap(), 0);
    assert_eq!(store.purge_revocations(at(103)).await.unwrap(), 1000);
    assert_eq!(store.purge_revocations(at(201)).await.unwrap(), 1);
    // Memory is for the caller to purge.
    assert_eq!(store.revocations().len(), 1500);
}

pub(crate) async fn an_end_outlives_tokens_that_have_expired_by_a_minute(store: &Store) {
    // What was opened with such a token may still be open, and is found by its entry.
    let before = UnixTime::now();
    create(store, session(1, "ann", 1)).await;
    create(store, session(2, "eve", 1)).await;
    store.update(id(1), end_with(EndReason::SessionIdle)).await.unwrap();
    store.create(session(3, "eve", 2), NonZeroU32::new(1)).await.unwrap();
    for (ended, name) in [(id(1), "ann"), (id(2), "eve")] {
        assert!(session(1, "ann", 1).access_expires_at.plus(LEEWAY) < before, "{name}: nothing is tested");
        assert!(refused(store, ended, name, 1).is_some(), "{name}");
    }
    let soon = before.plus(Duration::from_secs(59));
    assert_eq!((store.purge_revocations(soon).await.unwrap(), store.revocations().purge(soon)), (0, 0));
    assert_eq!(store.revocations().purge(UnixTime::now().plus(Duration::from_secs(62))), 2);
}

pub(crate) async fn what_was_started_is_finished_without_anyone_waiting(store: &Store) {
    create(store, session(1, "ann", 1)).await;
    let mut end = store.update(id(1), end_with(EndReason::SignedOut));
    // Polled once, then given up, as when a client hangs up.
    std::future::poll_fn(|context| {
        let _ = end.as_mut().poll(context);
        std::task::Poll::Ready(())
    })
    .await;
    drop(end);
    let gone = async {
        while store.find(id(1)).await.unwrap().is_some() || refused(store, id(1), "ann", 1).is_none() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(5), gone).await.unwrap();
    assert_eq!(refused(store, id(1), "ann", 1), Some(EndReason::SignedOut));
}

pub(crate) async fn a_closed_store_refuses(store: &Store) {
    create(store, session(1, "ann", 1)).await;
    assert!(store.health().is_ok());
    store.close().await.unwrap();
    assert!(matches!(store.health(), Err(StoreError::Closed)));
    assert!(matches!(store.find(id(1)).await, Err(StoreError::Closed)));
    assert!(matches!(store.create(session(2, "ann", 1), None).await, Err(StoreError::Closed)));
    assert!(matches!(store.update(id(1), end_with(EndReason::SignedOut)).await, Err(StoreError::Closed)));
    assert!(store.close().await.is_err());
}
