use std::ops::Deref;
use std::sync::mpsc;

use proptest::prelude::*;
use tempfile::TempDir;

use super::*;
use crate::ids::SessionName;
use crate::revocation::{EndReason, UserEnd};
use crate::session::store::conformance::{Store, at, conformance, id, session, user};
use crate::session::store::{Change, Fault};

/// A store and the directory it is in, which goes after it.
struct Opened {
    store: Store,
    _dir: TempDir,
}

impl Deref for Opened {
    type Target = Store;

    fn deref(&self) -> &Store {
        &self.store
    }
}

fn opened() -> Opened {
    let dir = TempDir::new().unwrap();
    Opened { store: Arc::new(open(dir.path())), _dir: dir }
}

conformance!(opened);

pub(super) fn open(path: &Path) -> EmbeddedStore {
    EmbeddedStore::open(path, Arc::new(Revocations::new())).unwrap()
}

fn refusal(path: &Path) -> String {
    EmbeddedStore::open(path, Arc::new(Revocations::new())).unwrap_err().to_string()
}

pub(super) fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).unwrap();
        }
    }
}

pub(super) fn end(reason: EndReason) -> Decide {
    Box::new(move |_, _| Change::End(reason))
}

/// One of everything, all of it acknowledged.
async fn fill(store: &EmbeddedStore) {
    for byte in 1..6 {
        store.create(session(byte, "ann", u64::from(byte)), None).await.unwrap();
    }
    store.create(session(9, "eve", 1), None).await.unwrap();
    store.update(id(9), Box::new(|row, _| Change::Put(Session { counter: 3, ..row.unwrap().clone() }))).await.unwrap();
    store.update(id(1), end(EndReason::SignedOut)).await.unwrap();
    store
        .end_user(EndUser {
            user: user("ann"),
            except: Some(id(5)),
            issued_until: at(10),
            reason: EndReason::SecurityAction,
            expires_at: at(4000),
        })
        .await
        .unwrap();
    let other = SessionName::parse("their-session").unwrap();
    store.revoke(Revocation::Session { session: other, reason: EndReason::Ended, expires_at: at(0) }).await.unwrap();
    store.touch(vec![(id(5), at(77))]).await.unwrap();
}

async fn assert_filled(store: &EmbeddedStore) {
    let ann: Vec<_> = store.list(&user("ann"), None, 10).await.unwrap();
    assert_eq!(ann, [Session { last_seen: at(77), ..session(5, "ann", 5) }]);
    assert_eq!(store.find(id(9)).await.unwrap(), Some(Session { counter: 3, ..session(9, "eve", 1) }));
    let check = |session: SessionName, name| store.revocations().check(&session, &user(name), at(5));
    assert_eq!(check(id(1).into(), "ann"), Some(EndReason::SignedOut));
    assert_eq!(check(id(2).into(), "ann"), Some(EndReason::SecurityAction));
    assert_eq!(check(id(5).into(), "ann"), None);
    assert_eq!(check(id(9).into(), "eve"), None);
    // Loaded whatever its expiry.
    assert_eq!(check(SessionName::parse("their-session").unwrap(), "eve"), Some(EndReason::Ended));
    assert_eq!(store.revocations().len(), 3);
    let gone = store.update(id(2), Box::new(|_, _| Change::Keep)).await.unwrap();
    assert_eq!(gone.ended, Some(EndReason::SecurityAction));
}

#[tokio::test]
async fn everything_acknowledged_is_there_after_close_and_after_drop() {
    let dir = TempDir::new().unwrap();
    let store = open(dir.path());
    fill(&store).await;
    assert_filled(&store).await;
    store.close().await.unwrap();
    drop(store);
    let store = open(dir.path());
    assert_filled(&store).await;
    drop(store);
    assert_filled(&open(dir.path())).await;
}

#[tokio::test]
async fn everything_acknowledged_is_there_without_a_shutdown() {
    let dir = TempDir::new().unwrap();
    let store = open(dir.path());
    fill(&store).await;
    // The directory as a killed process leaves it: nothing of the open store is closed or flushed.
    let left = dir.path().join("left");
    copy(&dir.path().join("store"), &left.join("store"));
    fs::copy(dir.path().join("acknowledged"), left.join("acknowledged")).unwrap();
    assert_filled(&open(&left)).await;
}

#[tokio::test]
async fn a_cut_journal_loses_whole_batches_only() {
    let dir = TempDir::new().unwrap();
    let store = open(dir.path());
    store.create(session(1, "ann", 1), None).await.unwrap();
    let left = dir.path().join("left");
    copy(&dir.path().join("store"), &left.join("store"));
    fs::copy(dir.path().join("acknowledged"), left.join("acknowledged")).unwrap();
    let journal = |home: &Path| {
        let mut journals: Vec<_> = fs::read_dir(home)
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .filter(|path| path.extension().is_some_and(|ending| ending == "jnl"))
            .collect();
        journals.sort();
        journals.pop().unwrap()
    };
    store.update(id(1), end(EndReason::SignedOut)).await.unwrap();
    let whole = fs::read(journal(&dir.path().join("store"))).unwrap();
    let used = whole.iter().rposition(|byte| *byte != 0).unwrap() + 1;
    // The end is one batch of four writes: cut anywhere inside, none of them is there.
    for cut in [1, 5, 20, 40, 60] {
        let mut bytes = whole.clone();
        bytes[used - cut..].fill(0);
        fs::write(journal(&left.join("store")), bytes).unwrap();
        let store = open(&left);
        assert!(store.find(id(1)).await.unwrap().is_some(), "cut {cut}");
        assert!(store.revocations().is_empty());
    }
}

#[tokio::test]
async fn a_failed_write_stops_everything_until_a_restart() {
    for fault in [Fault::NothingWritten, Fault::AllWritten] {
        let dir = TempDir::new().unwrap();
        let store = Arc::new(open(dir.path()));
        store.create(session(1, "ann", 1), None).await.unwrap();
        store.create(session(2, "ann", 1), None).await.unwrap();
        store.update(id(2), end(EndReason::SignedOut)).await.unwrap();
        store.inject(fault);
        let failed = store.update(id(1), end(EndReason::SignedOut)).await;
        assert!(matches!(failed, Err(StoreError::Failed)), "{failed:?}");
        assert!(matches!(store.health(), Err(StoreError::Failed)));
        assert!(matches!(store.find(id(1)).await, Err(StoreError::Failed)));
        assert!(matches!(store.list(&user("ann"), None, 1).await, Err(StoreError::Failed)));
        assert!(matches!(store.scan(None, 1).await, Err(StoreError::Failed)));
        assert!(matches!(store.create(session(3, "ann", 1), None).await, Err(StoreError::Failed)));
        assert!(matches!(store.touch(vec![(id(1), at(9))]).await, Err(StoreError::Failed)));
        assert!(matches!(store.purge_revocations(at(9)).await, Err(StoreError::Failed)));
        assert!(matches!(store.close().await, Err(StoreError::Failed)));
        // Not published: nobody was told of it.
        assert_eq!(store.revocations().len(), 1);
        drop(store);
        let store = open(dir.path());
        assert_eq!(store.find(id(1)).await.unwrap().is_some(), matches!(fault, Fault::NothingWritten));
        assert_eq!(store.find(id(2)).await.unwrap(), None);
        assert_eq!(store.find(id(3)).await.unwrap(), None);
        store.create(session(4, "ann", 1), None).await.unwrap();
    }
}

#[tokio::test]
async fn a_panic_in_the_writing_thread_fails_closed() {
    let dir = TempDir::new().unwrap();
    let store = open(dir.path());
    let died = store.update(id(1), Box::new(|_, _| panic!("a rule panicked"))).await;
    assert!(matches!(died, Err(StoreError::Failed)), "{died:?}");
    assert!(matches!(store.find(id(1)).await, Err(StoreError::Failed)));
}

#[tokio::test]
async fn a_damaged_row_is_an_error_of_its_own() {
    let dir = TempDir::new().unwrap();
    let store = open(dir.path());
    for byte in 1..4 {
        store.create(session(byte, "ann", u64::from(byte)), None).await.unwrap();
    }
    store.rows().insert(id(2).as_bytes(), [1, 2, 3]).unwrap();
    // Nothing of it is remembered.
    drop(store);
    let store = open(dir.path());
    assert!(matches!(store.find(id(2)).await, Err(StoreError::Corrupt(_))));
    assert!(matches!(store.update(id(2), end(EndReason::SignedOut)).await, Err(StoreError::Corrupt(_))));
    assert!(matches!(store.list(&user("ann"), None, 9).await, Err(StoreError::Corrupt(_))));
    assert!(store.find(id(3)).await.unwrap().is_some());
    // An operation that meets it half-way leaves nothing of its first half.
    let one = NonZeroU32::new(1);
    assert!(matches!(store.create(session(8, "ann", 9), one).await, Err(StoreError::Corrupt(_))));
    assert!(store.find(id(1)).await.unwrap().is_some());
    assert_eq!(store.find(id(8)).await.unwrap(), None);
    assert!(store.revocations().is_empty());
    assert!(store.health().is_ok());
}

#[tokio::test]
async fn more_than_may_wait_is_refused_at_once() {
    let dir = TempDir::new().unwrap();
    let store = open(dir.path());
    store.create(session(1, "ann", 1), None).await.unwrap();
    let (go, wait) = mpsc::channel::<()>();
    let wait = std::sync::Mutex::new(wait);
    let decide: Decide = Box::new(move |_, _| {
        wait.lock().unwrap().recv().unwrap();
        Change::Keep
    });
    let mut stuck = store.update(id(1), decide);
    assert!(std::future::poll_fn(|context| std::task::Poll::Ready(stuck.as_mut().poll(context))).await.is_pending());
    // Polled once each: they wait behind the one that is stuck.
    let mut waiting = Vec::new();
    let overloaded = loop {
        let mut next = store.update(id(1), Box::new(|_, _| Change::Keep));
        let polled = std::future::poll_fn(|context| std::task::Poll::Ready(next.as_mut().poll(context))).await;
        match polled {
            std::task::Poll::Pending => waiting.push(next),
            std::task::Poll::Ready(result) => break result,
        }
        tokio::task::yield_now().await;
        assert!(waiting.len() < 20_000);
    };
    assert!(matches!(overloaded, Err(StoreError::Overloaded)));
    go.send(()).unwrap();
    stuck.await.unwrap();
    for waited in waiting {
        waited.await.unwrap();
    }
}

#[test]
fn unusable_directories_are_refused_in_words() {
    let dir = TempDir::new().unwrap();
    let file = dir.path().join("file");
    fs::write(&file, "").unwrap();
    assert_eq!(refusal(&file), format!("data directory {} is not a directory", file.display()));
    let below = file.join("data");
    assert_eq!(refusal(&below), format!("cannot create data directory {}", below.display()));

    let data = dir.path().join("data");
    let store = open(&data);
    assert_eq!(refusal(&data), format!("data directory {} is used by another process", data.display()));
    drop(store);

    let (database, _, meta) = open_database(&data.join("store")).unwrap();
    meta.insert(FORMAT_KEY, 9_u32.to_be_bytes()).unwrap();
    drop((database, meta));
    let newer = format!("data directory {} has format 9, this version knows formats up to 1", data.display());
    assert_eq!(refusal(&data), newer);

    fs::write(data.join("store").join("version"), "?").unwrap();
    assert_eq!(refusal(&data), format!("cannot open the session store in {}", data.display()));
}

#[test]
fn a_first_start_that_was_cut_off_is_made_good() {
    use std::os::unix::fs::PermissionsExt as _;

    let dir = TempDir::new().unwrap();
    let data = dir.path().join("data");
    fs::create_dir_all(data.join("store.new")).unwrap();
    fs::write(data.join("store.new").join("0.jnl"), "half").unwrap();
    drop(open(&data));
    assert!(!data.join("store.new").exists());
    let made = dir.path().join("made");
    drop(open(&made));
    assert_eq!(fs::metadata(&made).unwrap().permissions().mode() & 0o777, 0o700);
    assert_eq!(fs::metadata(made.join("store")).unwrap().permissions().mode() & 0o777, 0o700);
}

fn times() -> impl Strategy<Value = UnixTime> {
    any::<u64>().prop_map(UnixTime::from_millis)
}

proptest! {
    #[test]
    fn every_row_is_read_back_as_written(
        name in "[!-~]{1,255}",
        label in proptest::option::of("\\PC{1,40}"),
        claims in proptest::option::of(proptest::collection::btree_map("[a-z]{1,8}", "\\PC{0,40}", 0..4)),
        counter: u64, refresh_key: u32, times in (times(), times(), times(), times(), times()),
    ) {
        let row = Session {
            id: id(1), user: user(&name), created_at: times.0,
            label: label.map(String::into_boxed_str),
            claims: claims.map(|claims| claims.into_iter().map(|(name, value)| (name, value.into())).collect()),
            counter, rotated_at: times.1, refresh_key, last_seen: times.2,
            access_issued_at: times.3, access_expires_at: times.4,
        };
        let bytes = record::encode_session(&row).unwrap();
        prop_assert_eq!(record::decode_session(id(1), &bytes).unwrap(), row.clone());
        // Cut anywhere it is no row; claims are JSON, which is not complete either.
        for length in 0..bytes.len() {
            prop_assert!(record::decode_session(id(1), &bytes[..length]).is_err());
        }
        let touched = record::with_last_seen(&bytes, UnixTime::from_millis(u64::MAX)).unwrap();
        if let Some(touched) = touched {
            let wanted = Session { last_seen: UnixTime::from_millis(u64::MAX), ..row };
            prop_assert_eq!(record::decode_session(id(1), &touched).unwrap(), wanted);
        }
    }

    #[test]
    fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200), version: bool) {
        let mut bytes = bytes;
        if version && !bytes.is_empty() {
            bytes[0] = 1;
        }
        drop(record::decode_session(id(1), &bytes));
        drop(record::with_last_seen(&bytes, at(1)));
        drop(record::decode_end(&bytes));
        drop(record::decode_user_end(&bytes));
        drop(record::split_expiry_key(&bytes));
        drop(record::decode_revocation(&bytes, &bytes, |_| {}));
    }

    #[test]
    fn every_user_end_is_read_back_as_written(
        until: u64, all in proptest::option::of(any::<u64>()), except in proptest::option::of("[a-z]{1,40}"),
        expires_at in times(),
    ) {
        let end = UserEnd {
            all_until: all, issued_until: until,
            except: except.map(|text| SessionName::parse(&text).unwrap()),
            reason: EndReason::SignedOut, expires_at,
        };
        prop_assert_eq!(record::decode_user_end(&record::encode_user_end(&end).unwrap()).unwrap(), end);
    }
}
