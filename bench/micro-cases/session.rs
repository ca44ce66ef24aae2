//! What a session is made of: its tokens, and its row in the store.

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;

use portcullis::clock::UnixTime;
use portcullis::ids::{SessionId, UserId};
use portcullis::revocation::Revocations;
use portcullis::session::store::{Change, SessionStore};
use portcullis::session::{EmbeddedStore, RefreshKeys, Session};
use portcullis::token::mint::{AccessClaims, mint};
use portcullis::token::signing::SigningKeys;

use super::case::{Case, How, Work, repeated};
use super::material::NOW;

pub(crate) const CASES: &[Case] = &[
    Case::both("access token: minted", minted),
    Case::both("refresh token: written", written),
    Case::both("refresh token: read", || read(true)),
    Case::both("refresh token: refused, forged", || read(false)),
    Case { name: "store: 64 rotations at once, durable", how: How::Timed, prepare: rotations },
];

fn minted() -> Box<dyn Work> {
    let keys = SigningKeys::unused(NOW).expect("a key");
    let user = UserId::parse("user_00000001").expect("a good name");
    repeated(move || {
        let claims = AccessClaims {
            issuer: "https://gateway.example.com",
            audience: "app_2f1c",
            user: &user,
            session: SessionId::from_bytes([0xab; 16]),
            issued_at: NOW,
            expires_at: NOW,
            extra: None,
        };
        mint(&keys, &claims)
    })
}

fn written() -> Box<dyn Work> {
    let keys = RefreshKeys::unused().expect("a key");
    repeated(move || keys.write(SessionId::from_bytes([0xab; 16]), 17, keys.current()))
}

fn read(is_good: bool) -> Box<dyn Work> {
    let keys = RefreshKeys::unused().expect("a key");
    let mut token = keys.write(SessionId::from_bytes([0xab; 16]), 17, keys.current()).to_string();
    if !is_good {
        // In the middle of its MAC, so that only that tells.
        let at = token.len() - 20;
        token.replace_range(at..=at, if token.as_bytes()[at] == b'A' { "B" } else { "A" });
    }
    repeated(move || assert_eq!(keys.read(&token).is_some(), is_good))
}

const GROUP: u128 = 64;

/// Sessions of users of their own, and their counters moved at once: what the store makes one commit of.
fn rotations() -> Box<dyn Work> {
    let directory = tempfile::tempdir().expect("a directory");
    let store: Arc<dyn SessionStore> =
        Arc::new(EmbeddedStore::open(directory.path(), Arc::new(Revocations::new())).expect("a new store"));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime");
    runtime.block_on(all((0..GROUP).map(|number| store.create(row(number), None)).collect()));
    repeated(move || {
        let rotate = |number: u128| store.update(SessionId::from_bytes(number.to_be_bytes()), Box::new(next()));
        runtime.block_on(all((0..GROUP).map(rotate).collect()));
        // It goes when the store has gone.
        let _ = directory.path();
    })
}

fn row(number: u128) -> Session {
    Session {
        id: SessionId::from_bytes(number.to_be_bytes()),
        user: UserId::parse(&format!("user_{number:08}")).expect("a good name"),
        created_at: NOW,
        label: None,
        claims: None,
        counter: 0,
        rotated_at: NOW,
        refresh_key: 1,
        last_seen: NOW,
        access_issued_at: NOW,
        access_expires_at: NOW,
    }
}

fn next() -> impl Fn(Option<&Session>, Option<UnixTime>) -> Change + Send + Sync {
    |row, _| row.map_or(Change::Keep, |row| Change::Put(Session { counter: row.counter + 1, ..row.clone() }))
}

/// Waits for all of them at once.
async fn all<T, E: std::fmt::Debug>(mut futures: Vec<Pin<Box<dyn Future<Output = Result<T, E>> + Send + '_>>>) {
    poll_fn(|context| {
        futures.retain_mut(|future| match future.as_mut().poll(context) {
            Poll::Ready(result) => result.map(|_| false).expect("the store takes it"),
            Poll::Pending => true,
        });
        if futures.is_empty() { Poll::Ready(()) } else { Poll::Pending }
    })
    .await;
}
