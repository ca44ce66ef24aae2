use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use tempfile::TempDir;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::activity::Activity;
use super::store::Fault;
use super::*;
use crate::clock::LEEWAY;
use crate::revocation::{Revocation, Revocations};
use crate::token::signing::SigningKeys;

fn at(millis: u64) -> UnixTime {
    UnixTime::from_millis(1_700_000_000_000 + millis)
}

fn policy() -> SessionPolicy {
    SessionPolicy {
        issuer: "https://id.example".into(),
        audience: "app".into(),
        access_token_ttl: Duration::from_secs(3600),
        longest_token: Duration::from_secs(3600),
        idle_timeout: None,
        max_lifetime: None,
        max_per_user: None,
        refresh_grace: Duration::from_secs(10),
        shared: false,
    }
}

struct Fixture {
    dir: TempDir,
    store: Arc<EmbeddedStore>,
    sessions: Arc<Sessions>,
}

impl Fixture {
    fn new(policy: SessionPolicy) -> Self {
        Self::open(TempDir::new().unwrap(), policy, |dir| RefreshKeys::open_managed(dir, at(0)).unwrap())
    }

    fn open(dir: TempDir, policy: SessionPolicy, keys: impl FnOnce(&Path) -> RefreshKeys) -> Self {
        let revocations = Arc::new(Revocations::new());
        let store = Arc::new(EmbeddedStore::open(dir.path(), revocations.clone()).unwrap());
        let signing = Arc::new(SigningKeys::open_managed(&dir.path().join("keys"), at(0)).unwrap());
        let refresh_keys = Arc::new(keys(dir.path()));
        let sessions = Arc::new(Sessions::new(policy, store.clone(), signing, refresh_keys, revocations));
        Self { dir, store, sessions }
    }

    /// As after a restart, without anything being flushed.
    fn reopen(self, policy: SessionPolicy) -> Self {
        self.reopen_with(policy, |dir| RefreshKeys::open_managed(dir, at(0)).unwrap())
    }

    fn reopen_with(self, policy: SessionPolicy, keys: impl FnOnce(&Path) -> RefreshKeys) -> Self {
        let Self { dir, store, sessions } = self;
        drop((sessions, store));
        Self::open(dir, policy, keys)
    }
}

fn user(text: &str) -> UserId {
    UserId::parse(text).unwrap()
}

fn new_session(name: &str) -> NewSession {
    NewSession { user: user(name), label: None, claims: None }
}

/// A claim of an access token, unverified.
fn claim(pair: &TokenPair, name: &str) -> Value {
    let payload = pair.access_token.split('.').nth(1).unwrap();
    let payload: Value = serde_json::from_slice(&BASE64_URL_SAFE_NO_PAD.decode(payload).unwrap()).unwrap();
    payload[name].clone()
}

fn seconds(pair: &TokenPair, name: &str) -> u64 {
    claim(pair, name).as_u64().unwrap()
}

fn refused(sessions: &Sessions, pair: &TokenPair) -> Option<EndReason> {
    let issued_at = UnixTime::from_secs(seconds(pair, "iat"));
    sessions.revocations().check(&pair.session.into(), &pair.user, issued_at)
}

#[track_caller]
fn ended(result: Result<TokenPair, RefreshError>) -> EndReason {
    match result {
        Err(RefreshError::Ended(reason)) => reason,
        other => panic!("not ended: {other:?}"),
    }
}

#[tokio::test]
async fn sign_in_and_refresh_give_pairs_of_one_session() {
    let f = Fixture::new(policy());
    let claims = serde_json::json!({"role": "admin"}).as_object().cloned();
    let new = NewSession { user: user("ann"), label: Some("phone".into()), claims };
    let first = f.sessions.sign_in(new, at(0)).await.unwrap();
    assert_eq!(claim(&first, "iss"), "https://id.example");
    assert_eq!(claim(&first, "aud"), "app");
    assert_eq!(claim(&first, "sub"), "ann");
    assert_eq!(claim(&first, "sid"), first.session.to_string());
    assert_eq!(claim(&first, "role"), "admin");
    assert_eq!(seconds(&first, "exp") - seconds(&first, "iat"), 3600);
    assert_eq!(first.expires_in, Duration::from_secs(3600));
    let second = f.sessions.refresh(&first.refresh_token, at(1000)).await.unwrap();
    assert_eq!((second.session, second.repeated), (first.session, false));
    assert_ne!(second.refresh_token, first.refresh_token);
    assert_eq!(claim(&second, "role"), "admin");
    let row = f.sessions.find(&first.session).await.unwrap().unwrap();
    assert_eq!((row.counter, row.rotated_at, row.label.as_deref()), (1, at(1000), Some("phone")));
    assert_eq!(row.access_expires_at, UnixTime::from_secs(seconds(&second, "exp")));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn racing_refreshes_of_one_token_give_one_successor() {
    let f = Fixture::new(policy());
    let first = f.sessions.sign_in(new_session("ann"), at(0)).await.unwrap();
    let mut racing = tokio::task::JoinSet::new();
    for task in 0..64 {
        let (sessions, token) = (f.sessions.clone(), first.refresh_token.clone());
        racing.spawn(async move { sessions.refresh(&token, at(1000 + task * 50)).await.unwrap() });
    }
    let pairs = racing.join_all().await;
    let successor = &pairs[0].refresh_token;
    assert!(pairs.iter().all(|pair| pair.refresh_token == *successor));
    assert_ne!(*successor, first.refresh_token);
    assert_eq!(pairs.iter().filter(|pair| !pair.repeated).count(), 1);
    let row = f.sessions.find(&first.session).await.unwrap().unwrap();
    assert_eq!(row.counter, 1);
    for pair in &pairs {
        // Whatever was handed out is recorded, so an end of the session reaches it.
        assert!(seconds(pair, "exp") <= row.access_expires_at.as_secs());
        assert!(seconds(pair, "iat") <= row.access_issued_at.as_secs());
    }
    f.sessions.refresh(successor, at(90_000)).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_grace_one_of_many_succeeds_and_the_session_ends() {
    let f = Fixture::new(SessionPolicy { refresh_grace: Duration::from_millis(1), ..policy() });
    let first = f.sessions.sign_in(new_session("ann"), at(0)).await.unwrap();
    let mut racing = tokio::task::JoinSet::new();
    for task in 0..64 {
        let (sessions, token) = (f.sessions.clone(), first.refresh_token.clone());
        racing.spawn(async move { sessions.refresh(&token, at(1000 + task * 50)).await });
    }
    let mut good = Vec::new();
    for result in racing.join_all().await {
        match result {
            Ok(pair) => good.push(pair),
            bad => assert_eq!(ended(bad), EndReason::RefreshReused),
        }
    }
    assert_eq!(good.len(), 1);
    assert_eq!(refused(&f.sessions, &good[0]), Some(EndReason::RefreshReused));
    assert_eq!(refused(&f.sessions, &first), Some(EndReason::RefreshReused));
    let successor = f.sessions.refresh(&good[0].refresh_token, at(5000)).await;
    assert_eq!(ended(successor), EndReason::RefreshReused);
}

#[tokio::test]
async fn a_token_of_two_generations_ago_ends_the_session() {
    let f = Fixture::new(policy());
    let first = f.sessions.sign_in(new_session("ann"), at(0)).await.unwrap();
    let second = f.sessions.refresh(&first.refresh_token, at(1000)).await.unwrap();
    let third = f.sessions.refresh(&second.refresh_token, at(1001)).await.unwrap();
    assert_eq!(ended(f.sessions.refresh(&first.refresh_token, at(1002)).await), EndReason::RefreshReused);
    assert_eq!(ended(f.sessions.refresh(&third.refresh_token, at(1003)).await), EndReason::RefreshReused);
    for pair in [&first, &second, &third] {
        assert_eq!(refused(&f.sessions, pair), Some(EndReason::RefreshReused));
    }
    assert!(f.sessions.find(&first.session).await.unwrap().is_none());
}

#[tokio::test]
async fn a_repeat_after_a_key_change_is_the_same_text() {
    let key = |dir: &Path, byte: u8| -> PathBuf {
        let path = dir.join(format!("key{byte}"));
        std::fs::write(&path, [byte; 32]).unwrap();
        path
    };
    let f = Fixture::open(TempDir::new().unwrap(), policy(), |dir| RefreshKeys::from_files(&[key(dir, 1)]).unwrap());
    let first = f.sessions.sign_in(new_session("ann"), at(0)).await.unwrap();
    let second = f.sessions.refresh(&first.refresh_token, at(1000)).await.unwrap();
    let f = f.reopen_with(policy(), |dir| RefreshKeys::from_files(&[key(dir, 2), key(dir, 1)]).unwrap());
    let repeat = f.sessions.refresh(&first.refresh_token, at(4000)).await.unwrap();
    assert!(repeat.repeated);
    assert_eq!(repeat.refresh_token, second.refresh_token);
    assert_eq!(seconds(&repeat, "iat"), at(4000).as_secs());
    assert_eq!(repeat.expires_in, Duration::from_secs(3600));
    let third = f.sessions.refresh(&repeat.refresh_token, at(5000)).await.unwrap();
    // The new key is at work now: the line goes on without the old one.
    let f = f.reopen_with(policy(), |dir| RefreshKeys::from_files(&[key(dir, 2)]).unwrap());
    let malformed = f.sessions.refresh(&second.refresh_token, at(6000)).await;
    assert!(matches!(malformed, Err(RefreshError::Malformed)));
    f.sessions.refresh(&third.refresh_token, at(6000)).await.unwrap();
}

#[tokio::test]
async fn a_forged_token_never_reaches_the_store() {
    let f = Fixture::new(policy());
    let first = f.sessions.sign_in(new_session("ann"), at(0)).await.unwrap();
    f.store.inject(Fault::NothingWritten);
    assert!(f.sessions.end(first.session, EndReason::SignedOut, at(1)).await.is_err());
    // The store answers nothing any more, and is not asked.
    let mut forged = first.refresh_token.to_string();
    forged.replace_range(40..41, if &forged[40..41] == "A" { "B" } else { "A" });
    assert!(matches!(f.sessions.refresh(&forged, at(2)).await, Err(RefreshError::Malformed)));
    assert_eq!(f.sessions.read_refresh_token(&forged), None);
    assert_eq!(f.sessions.read_refresh_token(&first.refresh_token).map(|it| it.session), Some(first.session));
    let unanswered = f.sessions.refresh(&first.refresh_token, at(2)).await;
    assert!(matches!(unanswered, Err(RefreshError::Store(StoreError::Failed))));
}

#[tokio::test]
async fn a_commit_that_fails_in_mid_refresh_costs_nobody_the_session() {
    for fault in [Fault::NothingWritten, Fault::AllWritten] {
        let f = Fixture::new(policy());
        let first = f.sessions.sign_in(new_session("ann"), at(0)).await.unwrap();
        let second = f.sessions.refresh(&first.refresh_token, at(1000)).await.unwrap();
        f.store.inject(fault);
        let failed = f.sessions.refresh(&second.refresh_token, at(20_000)).await;
        assert!(matches!(failed, Err(RefreshError::Store(StoreError::Failed))));
        assert!(f.sessions.store_health().is_err());
        let f = f.reopen(policy());
        // What was acknowledged holds: the first token is spent. The client tries again with what it has.
        let third = f.sessions.refresh(&second.refresh_token, at(22_000)).await.unwrap();
        assert_eq!(third.repeated, matches!(fault, Fault::AllWritten));
        let row = f.sessions.find(&first.session).await.unwrap().unwrap();
        assert_eq!(row.counter, 2);
        assert_eq!(ended(f.sessions.refresh(&first.refresh_token, at(23_000)).await), EndReason::RefreshReused);
    }
}

#[tokio::test]
async fn a_refresh_survives_a_restart_and_so_does_an_end() {
    let f = Fixture::new(policy());
    let ann = f.sessions.sign_in(new_session("ann"), at(0)).await.unwrap();
    let eve = f.sessions.sign_in(new_session("eve"), at(0)).await.unwrap();
    let next = f.sessions.refresh(&ann.refresh_token, at(1000)).await.unwrap();
    assert!(f.sessions.end(eve.session, EndReason::SecurityAction, at(1000)).await.unwrap());
    let f = f.reopen(policy());
    assert_eq!(refused(&f.sessions, &eve), Some(EndReason::SecurityAction));
    assert_eq!(refused(&f.sessions, &ann), None);
    assert_eq!(ended(f.sessions.refresh(&eve.refresh_token, at(2000)).await), EndReason::SecurityAction);
    assert_eq!(ended(f.sessions.refresh(&ann.refresh_token, at(20_000)).await), EndReason::RefreshReused);
    assert_eq!(ended(f.sessions.refresh(&next.refresh_token, at(20_000)).await), EndReason::RefreshReused);
}

#[tokio::test]
async fn the_maximum_lifetime_bounds_every_access_token() {
    let bounded = SessionPolicy { max_lifetime: Some(Duration::from_secs(5400)), ..policy() };
    let f = Fixture::new(bounded);
    let first = f.sessions.sign_in(new_session("ann"), at(0)).await.unwrap();
    assert_eq!(first.expires_in, Duration::from_secs(3600));
    let second = f.sessions.refresh(&first.refresh_token, at(3_000_000)).await.unwrap();
    assert_eq!(seconds(&second, "exp"), at(5_400_000).as_secs());
    assert_eq!(second.expires_in, Duration::from_secs(2400));
    assert_eq!(ended(f.sessions.refresh(&second.refresh_token, at(5_400_000)).await), EndReason::SessionMaxAge);
    assert_eq!(refused(&f.sessions, &second), Some(EndReason::SessionMaxAge));
}

#[tokio::test]
async fn ends_are_idempotent_and_unknown_sessions_are_refused_too() {
    let f = Fixture::new(policy());
    let pair = f.sessions.sign_in(new_session("ann"), at(0)).await.unwrap();
    assert!(f.sessions.end(pair.session, EndReason::SignedOut, at(1)).await.unwrap());
    assert!(!f.sessions.end(pair.session, EndReason::SecurityAction, at(2)).await.unwrap());
    assert_eq!(refused(&f.sessions, &pair), Some(EndReason::SignedOut));
    let unknown = SessionId::from_bytes([7; 16]);
    assert!(!f.sessions.end(unknown, EndReason::SignedOut, at(3)).await.unwrap());
    let reason = f.sessions.revocations().check(&unknown.into(), &user("ann"), at(0));
    assert_eq!(reason, Some(EndReason::SignedOut));
    // Once nothing is remembered the reason is not invented.
    let later = UnixTime::now().plus(Duration::from_secs(8000));
    assert_eq!(f.sessions.purge_revocations(later).await.unwrap(), 2);
    assert!(f.sessions.revocations().is_empty());
    assert_eq!(ended(f.sessions.refresh(&pair.refresh_token, later).await), EndReason::Ended);
}

#[tokio::test]
async fn ending_the_others_spares_this_session() {
    let f = Fixture::new(policy());
    let mut pairs = Vec::new();
    for _ in 0..4 {
        pairs.push(f.sessions.sign_in(new_session("ann"), at(0)).await.unwrap());
    }
    let kept = pairs.pop().unwrap();
    let count = f.sessions.end_user(&kept.user, Some(kept.session), EndReason::SignedOut, at(100)).await.unwrap();
    assert_eq!(count, 3);
    for pair in &pairs {
        assert_eq!(refused(&f.sessions, pair), Some(EndReason::SignedOut));
        assert_eq!(ended(f.sessions.refresh(&pair.refresh_token, at(200)).await), EndReason::SignedOut);
    }
    assert_eq!(refused(&f.sessions, &kept), None);
    // Refreshed in the very second of the end: not refused, and not kept waiting.
    let next = f.sessions.refresh(&kept.refresh_token, at(200)).await.unwrap();
    assert_eq!(seconds(&next, "iat"), at(200).as_secs());
    assert_eq!(refused(&f.sessions, &next), None);
    assert_eq!(f.sessions.revocations().len(), 1);
}

#[tokio::test]
async fn a_sign_in_in_the_second_of_a_users_end_waits_for_the_next() {
    let f = Fixture::new(policy());
    let old = f.sessions.sign_in(new_session("ann"), at(0)).await.unwrap();
    f.sessions.end_user(&old.user, None, EndReason::SecurityAction, at(800)).await.unwrap();
    let begun = std::time::Instant::now();
    let new = f.sessions.sign_in(new_session("ann"), at(900)).await.unwrap();
    assert!(begun.elapsed() >= Duration::from_millis(100));
    assert_eq!(seconds(&new, "iat"), at(1000).as_secs());
    assert_eq!(refused(&f.sessions, &new), None);
    assert_eq!(refused(&f.sessions, &old), Some(EndReason::SecurityAction));
    // Other users do not wait, nor does this one in a later second.
    let eve = f.sessions.sign_in(new_session("eve"), at(900)).await.unwrap();
    assert_eq!(seconds(&eve, "iat"), at(0).as_secs());
    let later = f.sessions.sign_in(new_session("ann"), at(1000)).await.unwrap();
    assert_eq!(seconds(&later, "iat"), at(1000).as_secs());
}

#[tokio::test]
async fn with_the_clock_set_back_a_token_is_dated_behind_the_users_end() {
    let f = Fixture::new(policy());
    f.sessions.end_user(&user("ann"), None, EndReason::SecurityAction, at(3_600_000)).await.unwrap();
    let begun = std::time::Instant::now();
    let pair = f.sessions.sign_in(new_session("ann"), at(0)).await.unwrap();
    assert!(begun.elapsed() < Duration::from_secs(60));
    assert_eq!(seconds(&pair, "iat"), at(3_601_000).as_secs());
    assert_eq!(refused(&f.sessions, &pair), None);
    let next = f.sessions.refresh(&pair.refresh_token, at(1000)).await.unwrap();
    assert_eq!(refused(&f.sessions, &next), None);
    // And its end reaches it although it is dated ahead.
    f.sessions.end_user(&user("ann"), None, EndReason::SignedOut, at(2000)).await.unwrap();
    assert!(refused(&f.sessions, &next).is_some());
    let expires_at = UnixTime::from_secs(seconds(&next, "exp")).plus(LEEWAY);
    f.sessions.purge_revocations(expires_at).await.unwrap();
    assert!(refused(&f.sessions, &next).is_some());
}

#[tokio::test]
async fn a_clock_set_forward_and_back_revives_nothing_and_ends_nothing() {
    let day = 86_400_000;
    for (name, jump) in [("an hour", day / 24), ("a day", day), ("thirty years", 30 * 365 * day)] {
        let mut f = Fixture::new(policy());
        let live = f.sessions.sign_in(new_session("ann"), at(0)).await.unwrap();
        let gone = f.sessions.sign_in(new_session("eve"), at(0)).await.unwrap();
        f.sessions.end(gone.session, EndReason::SignedOut, at(1000)).await.unwrap();
        // Forward: a token and a session are dated ahead. The purge goes by a clock that does not jump.
        let next = f.sessions.refresh(&live.refresh_token, at(jump)).await.unwrap();
        let ahead = f.sessions.sign_in(new_session("cid"), at(jump)).await.unwrap();
        f.sessions.purge_revocations(at(2000)).await.unwrap();
        // Back.
        let last = f.sessions.refresh(&next.refresh_token, at(3000)).await.unwrap();
        assert_eq!(refused(&f.sessions, &last), None, "{name}");
        f.sessions.end(ahead.session, EndReason::SecurityAction, at(4000)).await.unwrap();
        for restarted in [false, true] {
            if restarted {
                f = f.reopen(policy());
            }
            assert_eq!(refused(&f.sessions, &gone), Some(EndReason::SignedOut), "{name}, restarted {restarted}");
            assert_eq!(refused(&f.sessions, &ahead), Some(EndReason::SecurityAction), "{name}, restarted {restarted}");
            for (pair, reason) in [(&gone, EndReason::SignedOut), (&ahead, EndReason::SecurityAction)] {
                let outcome = f.sessions.refresh(&pair.refresh_token, at(5000)).await;
                assert_eq!(ended(outcome), reason, "{name}, restarted {restarted}");
            }
        }
        // Until the token that was dated ahead must have expired, whatever the clock says meanwhile.
        let until = UnixTime::from_secs(seconds(&ahead, "exp")).plus(LEEWAY);
        f.sessions.purge_revocations(until).await.unwrap();
        assert_eq!(refused(&f.sessions, &ahead), Some(EndReason::SecurityAction), "{name}");
        // A token spent before the jumps is not taken for a retry, in whichever direction the clock went.
        assert_eq!(ended(f.sessions.refresh(&live.refresh_token, at(6000)).await), EndReason::RefreshReused, "{name}");
    }
}

#[tokio::test]
async fn revoking_ends_own_sessions_too() {
    let day = Duration::from_secs(86_400);
    let f = Fixture::new(SessionPolicy { longest_token: day, ..policy() });
    let ann = f.sessions.sign_in(new_session("ann"), at(0)).await.unwrap();
    let eve = f.sessions.sign_in(new_session("eve"), at(0)).await.unwrap();
    let revoke = |target| f.sessions.revoke(target, EndReason::SecurityAction, at(100));
    revoke(RevocationTarget::Session(ann.session.into())).await.unwrap();
    revoke(RevocationTarget::User(user("eve"))).await.unwrap();
    let theirs = SessionName::parse("theirs").unwrap();
    revoke(RevocationTarget::Session(theirs.clone())).await.unwrap();
    for pair in [&ann, &eve] {
        assert_eq!(ended(f.sessions.refresh(&pair.refresh_token, at(200)).await), EndReason::SecurityAction);
    }
    // For as long as the longest token may live, not only our own.
    let last = at(100).plus(day).plus(LEEWAY);
    f.sessions.purge_revocations(last).await.unwrap();
    for pair in [&ann, &eve] {
        assert_eq!(refused(&f.sessions, pair), Some(EndReason::SecurityAction));
    }
    assert_eq!(f.sessions.revocations().check(&theirs, &user("x"), at(0)), Some(EndReason::SecurityAction));
    // An end is also kept for a minute of the store's own clock.
    let minute = UnixTime::now().plus(Duration::from_secs(62));
    f.sessions.purge_revocations(last.plus(Duration::from_secs(2)).max(minute)).await.unwrap();
    assert!(f.sessions.revocations().is_empty());
}

#[tokio::test]
async fn a_list_goes_page_by_page() {
    let f = Fixture::new(policy());
    let mut wanted = Vec::new();
    for number in 0..5 {
        wanted.push(f.sessions.sign_in(new_session("ann"), at(number * 10)).await.unwrap().session);
    }
    let mut found = Vec::new();
    let mut cursor: Option<String> = None;
    loop {
        let page = f.sessions.list(&user("ann"), cursor.as_deref(), 2).await.unwrap();
        assert!(page.sessions.len() <= 2);
        found.extend(page.sessions.into_iter().map(|row| row.id));
        cursor = page.next;
        if cursor.is_none() {
            break;
        }
    }
    assert_eq!(found, wanted);
    for bad in ["", "x", "+000000000000000", &"0".repeat(47), &"F".repeat(48), &"é".repeat(24)] {
        let result = f.sessions.list(&user("ann"), Some(bad), 2).await;
        assert!(matches!(result, Err(StoreError::BadCursor)), "{bad}");
    }
}

#[tokio::test]
async fn one_session_for_each_user_when_so_configured() {
    let f = Fixture::new(SessionPolicy { max_per_user: std::num::NonZeroU32::new(1), ..policy() });
    let first = f.sessions.sign_in(new_session("ann"), at(0)).await.unwrap();
    let second = f.sessions.sign_in(new_session("ann"), at(10)).await.unwrap();
    assert_eq!(refused(&f.sessions, &first), Some(EndReason::SignedInElsewhere));
    assert_eq!(ended(f.sessions.refresh(&first.refresh_token, at(20)).await), EndReason::SignedInElsewhere);
    f.sessions.refresh(&second.refresh_token, at(20)).await.unwrap();
}

#[tokio::test]
async fn a_leaked_row_yields_no_token() {
    let f = Fixture::new(policy());
    let pair = f.sessions.sign_in(new_session("ann"), at(0)).await.unwrap();
    let row = f.store.rows().get(pair.session.as_bytes()).unwrap().unwrap();
    let token = BASE64_URL_SAFE_NO_PAD.decode(&pair.refresh_token["pcr_".len()..]).unwrap();
    let mac = &token[token.len() - 32..];
    let holds = |part: &[u8]| row.windows(part.len()).any(|window| window == part);
    assert!(!holds(&mac[..8]) && !holds(&mac[24..]) && !holds(&token[..8]));
    assert!(!holds(&pair.access_token.as_bytes()[..8]));
    assert!(row.len() < 100, "{} bytes", row.len());
    let shown = format!("{pair:?}");
    assert!(!shown.contains(&*pair.refresh_token) && !shown.contains(&*pair.access_token), "{shown}");
}

/// 10 s idle: 100 ms resolution, 500 ms between flushes.
fn idle() -> SessionPolicy {
    SessionPolicy { idle_timeout: Some(Duration::from_secs(10)), ..policy() }
}

#[tokio::test]
async fn requests_keep_a_session_and_refreshes_do_not() {
    let f = Fixture::new(idle());
    let pair = f.sessions.sign_in(new_session("ann"), at(0)).await.unwrap();
    assert_eq!(f.sessions.touch(pair.session, at(9000)), Touch::Active);
    assert_eq!(f.sessions.touch(pair.session, at(18_000)), Touch::Active);
    let next = f.sessions.refresh(&pair.refresh_token, at(27_000)).await.unwrap();
    // The refresh at 27 s was no request: idle since 18 s.
    assert_eq!(f.sessions.touch(pair.session, at(28_050)), Touch::AskStore);
    // Within the slack it is still active: a request of up to 100 ms later may not have been noted.
    assert_eq!(f.sessions.confirm_active(pair.session, at(28_099)).await.unwrap(), None);
    assert_eq!(f.sessions.touch(pair.session, at(38_099)), Touch::AskStore);
    let idle = f.sessions.confirm_active(pair.session, at(38_199)).await.unwrap();
    assert_eq!(idle, Some(EndReason::SessionIdle));
    assert_eq!(refused(&f.sessions, &next), Some(EndReason::SessionIdle));
    assert_eq!(ended(f.sessions.refresh(&next.refresh_token, at(38_200)).await), EndReason::SessionIdle);
    let again = f.sessions.confirm_active(pair.session, at(38_300)).await.unwrap();
    assert_eq!(again, Some(EndReason::SessionIdle));
}

#[tokio::test]
async fn a_refresh_counts_requests_in_memory() {
    let f = Fixture::new(idle());
    let pair = f.sessions.sign_in(new_session("ann"), at(0)).await.unwrap();
    assert_eq!(f.sessions.touch(pair.session, at(9000)), Touch::Active);
    let next = f.sessions.refresh(&pair.refresh_token, at(19_000)).await.unwrap();
    assert_eq!(ended(f.sessions.refresh(&next.refresh_token, at(19_100)).await), EndReason::SessionIdle);
}

#[tokio::test]
async fn after_a_restart_a_session_is_idle_late_by_the_slack_and_never_early() {
    let f = Fixture::new(idle());
    let early = f.sessions.sign_in(new_session("ann"), at(0)).await.unwrap();
    let late = f.sessions.sign_in(new_session("ann"), at(0)).await.unwrap();
    for pair in [&early, &late] {
        assert_eq!(f.sessions.touch(pair.session, at(5000)), Touch::Active);
    }
    assert_eq!(f.sessions.flush_activity(at(5000)).await.unwrap(), 2);
    assert_eq!(f.sessions.flush_activity(at(5000)).await.unwrap(), 0);
    // Noted and lost with the process.
    assert_eq!(f.sessions.touch(early.session, at(5400)), Touch::Active);
    let f = f.reopen(idle());
    assert_eq!(f.sessions.touch(early.session, at(15_400)), Touch::AskStore);
    assert_eq!(f.sessions.confirm_active(early.session, at(15_599)).await.unwrap(), None);
    assert_eq!(f.sessions.touch(early.session, at(15_600)), Touch::Active);
    let idle = f.sessions.confirm_active(late.session, at(15_600)).await.unwrap();
    assert_eq!(idle, Some(EndReason::SessionIdle));
}

#[tokio::test]
async fn the_sweep_ends_what_nobody_asks_for() {
    let f = Fixture::new(SessionPolicy { max_lifetime: Some(Duration::from_secs(60)), ..idle() });
    let mut quiet = Vec::new();
    for _ in 0..20 {
        quiet.push(f.sessions.sign_in(new_session("ann"), at(0)).await.unwrap());
    }
    let busy = f.sessions.sign_in(new_session("ann"), at(0)).await.unwrap();
    assert_eq!(f.sessions.touch(busy.session, at(9000)), Touch::Active);
    assert_eq!(f.sessions.sweep(at(10_000)).await.unwrap(), 0);
    assert_eq!(f.sessions.sweep(at(10_100)).await.unwrap(), 20);
    assert_eq!(f.sessions.sweep(at(10_100)).await.unwrap(), 0);
    for pair in &quiet {
        assert_eq!(refused(&f.sessions, pair), Some(EndReason::SessionIdle));
    }
    assert_eq!(refused(&f.sessions, &busy), None);
    assert_eq!(f.sessions.sweep(at(60_000)).await.unwrap(), 1);
    assert_eq!(refused(&f.sessions, &busy), Some(EndReason::SessionMaxAge));
}

#[tokio::test]
async fn without_room_in_memory_requests_go_to_the_store() {
    let mut f = Fixture::new(idle());
    Arc::get_mut(&mut f.sessions).unwrap().activity = Arc::new(Activity::new(1));
    let first = f.sessions.sign_in(new_session("ann"), at(0)).await.unwrap();
    let second = f.sessions.sign_in(new_session("ann"), at(0)).await.unwrap();
    assert_eq!(f.sessions.touch(first.session, at(9000)), Touch::Active);
    assert_eq!(f.sessions.touch(second.session, at(9000)), Touch::AskStore);
    assert_eq!(f.sessions.confirm_active(second.session, at(9000)).await.unwrap(), None);
    assert_eq!(f.store.rows().len().unwrap(), 2);
    assert_eq!(f.sessions.activity.len(), 1);
    let stored = f.sessions.find(&second.session).await.unwrap().unwrap();
    assert_eq!(stored.last_seen, at(9000));
    assert_eq!(f.sessions.confirm_active(second.session, at(18_000)).await.unwrap(), None);
    // Written and quiet for long, the first makes room.
    f.sessions.flush_activity(at(70_000)).await.unwrap();
    assert_eq!(f.sessions.activity.len(), 0);
}

#[tokio::test]
async fn without_an_idle_timeout_nothing_is_noted() {
    let f = Fixture::new(policy());
    let unknown = SessionId::from_bytes([1; 16]);
    assert_eq!(f.sessions.touch(unknown, at(0)), Touch::Active);
    // Asked about all the same, when the list of ended sessions cannot tell: it must be there.
    assert_eq!(f.sessions.confirm_active(unknown, at(0)).await.unwrap(), Some(EndReason::Ended));
    let pair = f.sessions.sign_in(new_session("ann"), at(0)).await.unwrap();
    assert_eq!(f.sessions.confirm_active(pair.session, at(0)).await.unwrap(), None);
    assert_eq!(f.sessions.flush_activity(at(0)).await.unwrap(), 0);
    assert_eq!(f.sessions.sweep(at(0)).await.unwrap(), 0);
    assert_eq!(f.sessions.activity.len(), 0);
}

#[tokio::test]
#[should_panic(expected = "the store keeps other revocations up to date")]
async fn sessions_insist_on_the_stores_own_revocations() {
    let f = Fixture::new(policy());
    let signing = Arc::new(SigningKeys::open_managed(&f.dir.path().join("keys"), at(0)).unwrap());
    let refresh_keys = Arc::new(RefreshKeys::open_managed(f.dir.path(), at(0)).unwrap());
    Sessions::new(policy(), f.store.clone(), signing, refresh_keys, Arc::new(Revocations::new()));
}

#[tokio::test]
async fn a_row_whose_tokens_are_all_refused_buys_nothing() {
    let f = Fixture::new(policy());
    let pair = f.sessions.sign_in(new_session("ann"), at(0)).await.unwrap();
    let other = f.sessions.sign_in(new_session("eve"), at(0)).await.unwrap();
    // As when a shared store loses the end of all of ann's sessions and memory does not.
    let end = Revocation::User {
        user: user("ann"),
        issued_until: at(5_000),
        except: None,
        reason: EndReason::SecurityAction,
        expires_at: at(9_000_000),
    };
    f.sessions.revocations().insert(&end);
    let reason = ended(f.sessions.refresh(&pair.refresh_token, at(60_000)).await);
    assert_eq!(reason, EndReason::SecurityAction);
    assert_eq!(f.sessions.find(&pair.session).await.unwrap(), None);
    f.sessions.refresh(&other.refresh_token, at(60_000)).await.unwrap();
}
