//! Between those who ask and the one thread that writes: every one of them is answered, once, and no earlier than what
//! it asked for is durable, whatever becomes of the thread.

use std::sync::atomic::{AtomicU64, Ordering};

use proptest::prelude::*;
use tempfile::TempDir;

use super::*;
use crate::session::store::conformance::{id, session, user};
use crate::session::store::{Change, Fault};

/// What happens to the store in the middle of it.
#[derive(Clone, Copy, Debug)]
enum End {
    /// It is closed and says when all is done.
    Close,
    /// It is dropped with the runtime that the askers are on.
    Drop,
    Fault(Fault),
    /// A rule panics in the writing thread.
    Panic,
}

fn end() -> impl Strategy<Value = End> {
    prop_oneof![
        Just(End::Close),
        Just(End::Drop),
        Just(End::Fault(Fault::NothingWritten)),
        Just(End::Fault(Fault::AllWritten)),
        Just(End::Panic)
    ]
}

/// Adds one to a counter of a session.
fn add_one() -> Decide {
    Box::new(|row, _| row.map_or(Change::Keep, |row| Change::Put(Session { counter: row.counter + 1, ..row.clone() })))
}

/// What those who asked were told: acknowledged, and answered at all.
#[derive(Default)]
struct Told {
    acknowledged: [AtomicU64; 2],
    answered: AtomicU64,
    gone: AtomicU64,
}

const ASKERS: u64 = 12;

/// Asks again and again until the store says no. `patience`: every so many-th time the answer is not waited for.
async fn ask(store: Arc<EmbeddedStore>, told: Arc<Told>, row: u8, patience: usize) {
    for turn in 1_usize.. {
        let updating = store.update(id(row), add_one());
        if turn.is_multiple_of(patience) {
            // Started, and dropped before there is an answer: it is carried out all the same or not at all.
            drop(tokio::time::timeout(std::time::Duration::ZERO, updating).await);
            told.gone.fetch_add(1, Ordering::Relaxed);
            tokio::task::yield_now().await;
            if store.health().is_err() {
                break;
            }
            continue;
        }
        match updating.await {
            Ok(updated) => {
                assert!(matches!(updated.change, Change::Put(_)), "{updated:?}");
                told.acknowledged[usize::from(row)].fetch_add(1, Ordering::SeqCst);
            }
            Err(StoreError::Closed | StoreError::Failed) => break,
            Err(other) => panic!("{other:?}"),
        }
    }
    told.answered.fetch_add(1, Ordering::SeqCst);
}

fn run(end: End, after: u64, patience: usize) {
    let dir = TempDir::new().unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(3).enable_all().build().unwrap();
    let store = Arc::new(EmbeddedStore::open(dir.path(), Arc::new(Revocations::new())).unwrap());
    let told = Arc::new(Told::default());
    let acknowledged = || told.acknowledged.iter().map(|it| it.load(Ordering::SeqCst)).sum::<u64>();
    runtime.block_on(async {
        for row in 0..2 {
            store.create(session(row, "ann", u64::from(row)), None).await.unwrap();
        }
        let mut asking = tokio::task::JoinSet::new();
        for asker in 0..ASKERS {
            asking.spawn(ask(store.clone(), told.clone(), u8::from(asker.is_multiple_of(2)), patience));
        }
        while acknowledged() < after {
            tokio::task::yield_now().await;
        }
        match end {
            End::Close => store.close().await.unwrap(),
            End::Drop => return asking.shutdown().await,
            End::Fault(fault) => store.inject(fault),
            End::Panic => {
                let died = store.update(id(0), Box::new(|_, _| panic!("a rule panicked"))).await;
                assert!(matches!(died, Err(StoreError::Failed)), "{died:?}");
            }
        }
        // Nobody is left waiting.
        let all = tokio::time::timeout(std::time::Duration::from_secs(9), asking.join_all()).await;
        assert!(all.is_ok(), "{:?}: {} of {ASKERS} were answered", end, told.answered.load(Ordering::SeqCst));
    });
    drop(runtime);
    drop(store);
    let store = EmbeddedStore::open(dir.path(), Arc::new(Revocations::new())).unwrap();
    let gone = told.gone.load(Ordering::SeqCst);
    for row in 0..2 {
        let found = tokio_block(store.find(id(row))).unwrap().unwrap().counter - session(row, "ann", 0).counter;
        let sure = told.acknowledged[usize::from(row)].load(Ordering::SeqCst);
        assert!(found >= sure, "{end:?}: {sure} were acknowledged and {found} are there");
        // One more for each that was given up, and for each asker that the end met in the middle.
        assert!(found <= sure + gone + ASKERS, "{end:?}: {found} are there of {sure} and {gone}");
    }
    assert_eq!(tokio_block(store.list(&user("ann"), None, 9)).unwrap().len(), 2);
}

fn tokio_block<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
}

#[test]
fn everyone_is_answered_and_what_was_acknowledged_is_there_whatever_becomes_of_the_writing_thread() {
    let long = std::env::var("PORTCULLIS_LONG_ATTACKS").is_ok_and(|value| value == "1");
    let cases = if long { 2_000 } else { 40 };
    let config = ProptestConfig { cases, failure_persistence: None, max_shrink_iters: 50, ..ProptestConfig::default() };
    proptest!(config, |(end in end(), after in 0_u64..300, patience in 2_usize..40)| {
        run(end, after, patience);
    });
    println!("hand-over to the writing thread: {cases} cases");
}
