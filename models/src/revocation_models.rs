//! The list of ended sessions: told of an end, nobody accepts its token any more.

use loom::sync::Arc;
use loom::sync::atomic::{AtomicBool, Ordering};
use loom::thread;

use crate::clock::{LEEWAY, UnixTime};
use crate::every_interleaving;
use crate::ids::{SessionId, SessionName, UserId};
use crate::revocation::{EndReason, Revocation, Revocations};

fn at(seconds: u64) -> UnixTime {
    UnixTime::from_secs(seconds)
}

fn session() -> SessionName {
    SessionId::from_bytes([7; 16]).into()
}

fn user() -> UserId {
    UserId::parse("ann").unwrap()
}

fn session_end(expires_at: UnixTime) -> Revocation {
    Revocation::Session { session: session(), reason: EndReason::SignedOut, expires_at }
}

fn user_end(issued_until: UnixTime, expires_at: UnixTime) -> Revocation {
    Revocation::User { user: user(), issued_until, except: None, reason: EndReason::SecurityAction, expires_at }
}

/// What a worker remembers of a token: the epoch it was last found good under.
struct Remembered(u64);

impl Remembered {
    /// A request, as `gateway::authenticate` judges it. The token was issued in second 1.
    fn is_accepted(&mut self, revocations: &Revocations) -> bool {
        let epoch = revocations.epoch();
        if self.0 != epoch {
            if revocations.check(&session(), &user(), at(1)).is_some() {
                return false;
            }
            self.0 = epoch;
        }
        true
    }
}

/// Two requests beside an end; one that begins after the end was acknowledged is refused.
fn after_an_end_nobody_is_let_through(end: fn() -> Revocation) {
    let shared = Arc::new((Revocations::new(), AtomicBool::new(false)));
    let ending = {
        let shared = shared.clone();
        thread::spawn(move || {
            shared.0.insert(&end());
            shared.1.store(true, Ordering::Release);
        })
    };
    let mut remembered = Remembered(u64::MAX);
    for _ in 0..2 {
        let ended = shared.1.load(Ordering::Acquire);
        let accepted = remembered.is_accepted(&shared.0);
        assert!(!(ended && accepted), "accepted after its end was acknowledged");
    }
    ending.join().unwrap();
    assert!(!remembered.is_accepted(&shared.0));
}

#[test]
fn a_request_after_the_end_of_its_session_was_acknowledged_is_refused() {
    every_interleaving("end of a session", || after_an_end_nobody_is_let_through(|| session_end(at(100))));
}

#[test]
fn a_request_after_the_end_of_its_user_was_acknowledged_is_refused() {
    every_interleaving("end of a user", || after_an_end_nobody_is_let_through(|| user_end(at(1), at(100))));
}

/// Without the acknowledgement passing between them, too: whoever sees the epoch of an end sees the end.
#[test]
fn whoever_sees_the_epoch_of_an_end_sees_the_end() {
    every_interleaving("epoch", || {
        let revocations = Arc::new(Revocations::new());
        let before = revocations.epoch();
        let ending = {
            let revocations = revocations.clone();
            thread::spawn(move || revocations.insert(&user_end(at(1), at(100))))
        };
        if revocations.epoch() != before {
            assert!(revocations.check(&session(), &user(), at(1)).is_some());
        }
        ending.join().unwrap();
    });
}

#[test]
fn a_purge_never_takes_an_entry_that_was_made_to_last_longer_meanwhile() {
    for end in [|until| session_end(until), |until| user_end(at(1), until)] as [fn(UnixTime) -> Revocation; 2] {
        every_interleaving("purge beside an end", move || {
            let revocations = Arc::new(Revocations::new());
            revocations.insert(&end(at(10)));
            let purging = {
                let revocations = revocations.clone();
                thread::spawn(move || revocations.purge(at(50)))
            };
            revocations.insert(&end(at(100)));
            assert!(revocations.check(&session(), &user(), at(1)).is_some());
            purging.join().unwrap();
            assert!(revocations.check(&session(), &user(), at(1)).is_some());
            assert_eq!((revocations.len(), revocations.purge(at(101)), revocations.len()), (1, 1, 0));
        });
    }
}

#[test]
fn two_ends_of_one_user_refuse_what_either_does() {
    every_interleaving("two ends", || {
        let revocations = Arc::new(Revocations::new());
        let other = {
            let revocations = revocations.clone();
            thread::spawn(move || revocations.insert(&user_end(at(5), at(50))))
        };
        revocations.insert(&user_end(at(3), at(100)));
        other.join().unwrap();
        assert!(revocations.check(&session(), &user(), at(5)).is_some());
        assert!(revocations.check(&session(), &user(), at(6)).is_none());
        assert_eq!(revocations.purge(at(100)), 0);
    });
}

/// With the clock set back after a purge: either the entry is still there, or it is known that it may have been.
#[test]
fn whoever_misses_a_purged_entry_knows_that_it_may_have_been_there() {
    every_interleaving("purge beside a request", || {
        let expires_at = at(10);
        let revocations = Arc::new(Revocations::new());
        revocations.insert(&session_end(expires_at.plus(LEEWAY)));
        let purging = {
            let revocations = revocations.clone();
            thread::spawn(move || revocations.purge(at(50)))
        };
        let refused = revocations.check(&session(), &user(), at(1)).is_some();
        assert!(refused || revocations.may_have_forgotten(expires_at));
        purging.join().unwrap();
    });
}
