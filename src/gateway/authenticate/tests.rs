//! The verdict beside what changes meanwhile: keys, ends, the clock.

use std::path::Path;
use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use jsonwebtoken::Algorithm;

use super::*;
use crate::ids::UserId;
use crate::revocation::{EndReason, Revocation};
use crate::route::RouteTable;
use crate::telemetry::metrics::Metrics;
use crate::token::IssuerIndex;
use crate::token::testing::{TestKey, now};
use crate::token::verify::IssuerPolicy;

const SESSION: &str = "00ff10a2b3c4d5e6f708192a3b4c5d6e";

fn policy(issuer: &str) -> IssuerPolicy {
    IssuerPolicy {
        issuer: issuer.into(),
        audience: vec!["a".into()],
        algorithms: vec![Algorithm::ES256],
        session_claim: "sid".into(),
        max_token_lifetime: Some(Duration::from_secs(86_400)),
    }
}

/// Own keys and those of one trusted issuer.
fn verifier(own: &TestKey, trusted: &TestKey) -> Verifier {
    let verifier = Verifier::new(Some(policy("own")), vec![policy("trusted")], 8192);
    verifier.swap_keys(OWN_ISSUER, own.key_set());
    verifier.swap_keys(IssuerIndex(1), trusted.key_set());
    verifier
}

/// A token of this moment that is good for an hour.
fn token(key: &TestKey, issuer: &str) -> String {
    let (iat, exp) = (now().as_secs(), now().as_secs() + 3600);
    let claims = format!(r#"{{"iss":"{issuer}","aud":"a","sub":"ann","sid":"{SESSION}","iat":{iat},"exp":{exp}}}"#);
    key.token(key.header(), claims)
}

fn table() -> RouteTable {
    let text = "[server]\nlisten = [\"127.0.0.1:0\"]\n[session]\nissuer = \"i\"\naudience = \"a\"\n[upstream.u]\n\
                servers = [\"http://127.0.0.1:1\"]\n[[route]]\npath = \"/\"\nupstream = \"u\"\n";
    RouteTable::new(&crate::config::Config::parse(text, "test.toml", Path::new("/")).unwrap(), |_| None)
}

/// A worker's own part.
struct Worker<'a> {
    verifier: &'a Verifier,
    revocations: &'a Revocations,
    cache: RefCell<TokenCache>,
    table: RouteTable,
}

impl<'a> Worker<'a> {
    fn new(verifier: &'a Verifier, revocations: &'a Revocations) -> Self {
        Self { verifier, revocations, cache: RefCell::new(TokenCache::new(1 << 20)), table: table() }
    }

    fn judge(&self, token: &str, now: UnixTime) -> Result<Rc<Verified>, &'static str> {
        let known = Known {
            verifier: self.verifier,
            revocations: self.revocations,
            freshness: None,
            cache: &self.cache,
            metrics: &Metrics::new(1, Vec::new(), Vec::new(), std::sync::Arc::default()).worker(0),
            token_bytes: 8192,
        };
        let header = format!("Bearer {token}");
        let route = self.table.find("", "/", &http::Method::GET).unwrap();
        match identify(&known, std::iter::once(header.as_bytes()), route, now) {
            Ok(found) => Ok(found.unwrap()),
            Err(refused) => Err(refused.reason.as_str()),
        }
    }
}

fn session_end(expires_at: UnixTime) -> Revocation {
    let session = SessionName::parse(SESSION).unwrap();
    Revocation::Session { session, reason: EndReason::SignedOut, expires_at }
}

#[test]
fn with_the_clock_set_back_behind_a_purge_the_list_alone_vouches_for_nobody() {
    let (own, trusted) = (TestKey::new(1), TestKey::new(2));
    let (verifier, revocations) = (verifier(&own, &trusted), Revocations::new());
    let worker = Worker::new(&verifier, &revocations);
    let (mine, theirs) = (token(&own, "own"), token(&trusted, "trusted"));
    let expired = now().plus(Duration::from_secs(3600)).plus(LEEWAY);
    revocations.insert(&session_end(expired));
    for token in [&mine, &theirs] {
        assert_eq!(worker.judge(token, now()).unwrap_err(), "signed_out");
    }
    // The last moment of the tokens: the purge leaves the entry.
    revocations.purge(expired);
    assert_eq!(worker.judge(&mine, now()).unwrap_err(), "signed_out");
    let later = expired.plus(Duration::from_secs(2));
    revocations.purge(later);
    assert!(revocations.is_empty());
    assert_eq!(worker.judge(&mine, later).unwrap_err(), "token_expired");
    // Back again: by its times the token is good.
    let known = worker.judge(&mine, now()).unwrap();
    assert!(needs_proof(&known, &revocations), "nobody asks whether the session lives");
    assert_eq!(worker.judge(&theirs, now()).unwrap_err(), "token_expired");
    // As long as a token has not expired by any clock, memory is enough.
    let fresh = Revocations::new();
    fresh.purge(now());
    let worker = Worker::new(&verifier, &fresh);
    assert!(!needs_proof(&worker.judge(&mine, now()).unwrap(), &fresh));
    worker.judge(&theirs, now()).unwrap();
}

#[test]
fn a_verdict_that_began_under_the_old_keys_dies_with_them() {
    let (own, trusted) = (TestKey::new(1), TestKey::new(2));
    let (verifier, revocations) = (verifier(&own, &trusted), Revocations::new());
    let worker = Worker::new(&verifier, &revocations);
    let token = token(&own, "own");
    // As a worker does that is overtaken between its verdict and its note of it.
    let generation = verifier.generation();
    let identity = verifier.verify(&token, now()).unwrap();
    verifier.swap_keys(OWN_ISSUER, TestKey::new(3).key_set());
    let late = Rc::new(Verified::new(identity, generation, NEVER_CHECKED));
    worker.cache.borrow_mut().insert(&token, late);
    assert_eq!(worker.judge(&token, now()).unwrap_err(), "unknown_key");
    assert!(worker.cache.borrow().is_empty());
}

/// Two workers ask without a pause while `change` is made and undone; a request that begins after one and ends before
/// the other must be refused.
fn ask_beside(verifier: &Verifier, revocations: &Revocations, token: &str, change: impl Fn(bool)) {
    let long = std::env::var("PORTCULLIS_LONG_ATTACKS").is_ok_and(|value| value == "1");
    let rounds = if long { 5_000 } else { 150 };
    let (forbidden, over) = (AtomicUsize::new(0), AtomicBool::new(false));
    let (asked, refused, wrong) = (AtomicUsize::new(0), AtomicUsize::new(0), AtomicUsize::new(0));
    let start = Barrier::new(3);
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                let worker = Worker::new(verifier, revocations);
                start.wait();
                while !over.load(Ordering::Acquire) {
                    // Odd while it is forbidden; the same before and after: no change came between.
                    let before = forbidden.load(Ordering::SeqCst);
                    let accepted = worker.judge(token, now()).is_ok();
                    let after = forbidden.load(Ordering::SeqCst);
                    asked.fetch_add(1, Ordering::Relaxed);
                    refused.fetch_add(usize::from(!accepted), Ordering::Relaxed);
                    if before % 2 == 1 && before == after && accepted {
                        wrong.fetch_add(1, Ordering::Relaxed);
                    }
                }
            });
        }
        start.wait();
        for round in 0..rounds {
            change(true);
            forbidden.fetch_add(1, Ordering::SeqCst);
            for _ in 0..round % 7 {
                std::thread::yield_now();
            }
            forbidden.fetch_add(1, Ordering::SeqCst);
            change(false);
            for _ in 0..round % 5 {
                std::thread::yield_now();
            }
        }
        over.store(true, Ordering::Release);
    });
    let (asked, refused) = (asked.into_inner(), refused.into_inner());
    println!("verdicts beside {rounds} changes: {asked}, {refused} of them refused");
    assert_eq!(wrong.into_inner(), 0, "of {asked} requests");
    assert!(refused > 0 && refused < asked, "the changes never met the requests: {refused} of {asked}");
}

#[test]
fn a_request_that_begins_after_its_key_is_gone_is_refused_by_every_worker() {
    let (own, trusted, other) = (TestKey::new(1), TestKey::new(2), TestKey::new(3));
    let (verifier, revocations) = (verifier(&own, &trusted), Revocations::new());
    let token = token(&own, "own");
    ask_beside(&verifier, &revocations, &token, |gone| {
        verifier.swap_keys(OWN_ISSUER, if gone { other.key_set() } else { own.key_set() });
    });
}

#[test]
fn a_request_that_begins_after_its_end_is_refused_by_every_worker() {
    let (own, trusted) = (TestKey::new(1), TestKey::new(2));
    let (verifier, revocations) = (verifier(&own, &trusted), Revocations::new());
    let token = token(&trusted, "trusted");
    let user = UserId::parse("ann").unwrap();
    // An end that is over at once, so that a purge takes it away again; `now` of the purges is before the token's expiry.
    let times = std::cell::Cell::new(0_u64);
    ask_beside(&verifier, &revocations, &token, |ends| {
        let expires_at = UnixTime::from_secs(1_000 + times.get());
        if !ends {
            times.set(times.get() + 1);
            revocations.purge(UnixTime::from_secs(1_001 + times.get()));
        } else if times.get().is_multiple_of(2) {
            revocations.insert(&session_end(expires_at));
        } else {
            let (issued_until, reason) = (now(), EndReason::SecurityAction);
            revocations.insert(&Revocation::User {
                user: user.clone(),
                issued_until,
                except: None,
                reason,
                expires_at,
            });
        }
    });
}
