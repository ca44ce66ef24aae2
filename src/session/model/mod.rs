//! Sessions against a model: anything may happen, in any order, and after each step the sessions, the revocations, the
//! lists and the verdict on every token ever given out are what a naive reading of the contract says.
//!
//! `operation` is what may happen, `reference` the naive reading, `machine` the real thing, `run` what joins them.

mod machine;
mod operation;
mod reference;
mod run;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, OnceLock};

use proptest::prelude::*;
use proptest::test_runner::{Config, TestCaseError, TestRunner};
use tempfile::TempDir;

use self::machine::Place;
use self::operation::{Operation, operation, policy};
use self::run::Run;
use super::SessionPolicy;
use super::store::redis::tests as redis;
use crate::clock::UnixTime;
use crate::token::signing::SigningKeys;

/// Steps of a case, at most: 30 on the average.
const STEPS: usize = 60;

/// In memory where there is such a place: what a disk loses is for other tests, and opening a store syncs a dozen files.
fn directory() -> TempDir {
    TempDir::new_in("/dev/shm").or_else(|_| TempDir::new()).unwrap()
}

/// Keys that are never rotated, for most cases: making a key takes longer than all the rest of a case.
fn lasting_keys() -> Arc<SigningKeys> {
    static KEYS: OnceLock<Arc<SigningKeys>> = OnceLock::new();
    KEYS.get_or_init(|| Arc::new(SigningKeys::unused(UnixTime::now()).unwrap())).clone()
}

fn long() -> bool {
    std::env::var_os("PORTCULLIS_LONG_ATTACKS").is_some_and(|value| value == "1")
}

/// How often what came of a step was this: a machine that never reuses a token proves nothing about reuse.
type Outcomes = BTreeMap<&'static str, usize>;

fn check(cases: u32, policy: impl Strategy<Value = SessionPolicy>, place: impl Fn(usize) -> Place) -> Outcomes {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let outcomes = Mutex::new(Outcomes::new());
    let mut number = std::sync::atomic::AtomicUsize::new(0);
    let config = Config { cases, max_shrink_iters: 2_000, failure_persistence: None, ..Config::default() };
    let steps = proptest::collection::vec(operation(), 1..=STEPS);
    let result = TestRunner::new(config).run(&(policy, steps), |(policy, steps)| {
        let number = number.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let found = run(&runtime, policy, &steps, place(number))?;
        let mut outcomes = outcomes.lock().unwrap();
        for (outcome, times) in found {
            *outcomes.entry(outcome).or_default() += times;
        }
        Ok(())
    });
    if let Err(error) = result {
        panic!("{error}");
    }
    let outcomes = outcomes.into_inner().unwrap();
    println!("sessions against a model: {} cases, {} steps: {outcomes:?}", number.get_mut(), outcomes["steps"]);
    outcomes
}

/// Runs one case; what it found wrong is the error, so that the case can be shrunk.
fn run(
    runtime: &tokio::runtime::Runtime,
    policy: SessionPolicy,
    steps: &[Operation],
    place: Place,
) -> Result<Outcomes, TestCaseError> {
    let dir = directory();
    let rotates = steps.iter().any(|step| matches!(step, Operation::RotateSigningKey { .. }));
    let case = async {
        let keys = if rotates {
            Arc::new(SigningKeys::open_managed(&dir.path().join("keys"), UnixTime::now()).unwrap())
        } else {
            lasting_keys()
        };
        let mut run = Run::start(dir.path().to_owned(), place, policy, keys).await;
        for (number, step) in steps.iter().enumerate() {
            run = run.step(step).await;
            run.agree(number, step).await;
        }
        run.outcomes
    };
    let case = std::panic::AssertUnwindSafe(|| runtime.block_on(case));
    std::panic::catch_unwind(case).map_err(|panic| {
        let text = panic.downcast_ref::<String>().cloned().or_else(|| panic.downcast_ref().map(|&it: &&str| it.into()));
        TestCaseError::fail(text.unwrap_or_default())
    })
}

fn assert_all_happened(outcomes: &Outcomes, wanted: &[&str]) {
    let missing: Vec<_> = wanted.iter().filter(|name| !outcomes.contains_key(**name)).collect();
    assert!(missing.is_empty(), "never happened: {missing:?} of {outcomes:?}");
}

const ALWAYS: &[&str] = &[
    "crashed",
    "ended by admin",
    "ended by user",
    "refreshed",
    "refused as ended",
    "refused as forged",
    "refused as reused",
    "repeated",
    "request refused",
    "request served",
    "signed in",
    "signed in elsewhere",
];

#[test]
fn sessions_do_what_the_contract_says_whatever_happens() {
    let outcomes = check(if long() { 20_000 } else { 200 }, policy(), |_| Place::Directory);
    assert_all_happened(&outcomes, ALWAYS);
    assert_all_happened(&outcomes, &["ended as idle", "ended for age", "purged", "repeat refused after the grace"]);
}

/// The server's clock counts the grace there, so it is never over; rows that go by themselves do so by that clock too.
#[test]
fn sessions_in_a_shared_store_do_what_the_contract_says_whatever_happens() {
    let server = redis::Server::start();
    let policy = policy().prop_map(|policy| SessionPolicy {
        idle_timeout: None,
        max_lifetime: None,
        refresh_grace: std::time::Duration::from_secs(600),
        ..policy
    });
    let outcomes = check(if long() { 1_000 } else { 30 }, policy, |number| {
        let config = crate::config::Redis { prefix: format!("case-{number}"), ..redis::config(server.port) };
        Place::Server(Box::new(config))
    });
    assert_all_happened(&outcomes, ALWAYS);
}
