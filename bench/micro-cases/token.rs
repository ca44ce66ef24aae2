//! Who calls: the token of a request, seen before or not.

use std::rc::Rc;
use std::sync::Arc;

use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED, ParsedPublicKey};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use p256::ecdsa::SigningKey;
use portcullis::ids::{SessionId, SessionName, UserId};
use portcullis::measured::Callers;
use portcullis::revocation::{EndReason, Revocation, Revocations};
use portcullis::token::bearer::bearer_token;
use portcullis::token::cache::{TokenCache, Verified};
use portcullis::token::verify::Verifier;

use super::case::{Case, Work, consuming, repeated};
use super::material::{NOW, TOKENS, foreign_token, forged_token, in_turn, own_token, routes, verifier};

pub(crate) const CASES: &[Case] = &[
    Case::both("token: taken from its header", bearer),
    Case::both("token: verified, own", || verified(own_token)),
    Case::both("token: verified, of a trusted issuer", || verified(foreign_token)),
    Case::both("token: refused, forged", forged),
    Case::both("token: the signature alone", signature),
    Case::both("token cache: hit", hit),
    Case::both("token cache: miss", miss),
    Case::both("token cache: kept, others forgotten", kept_in_a_full_cache),
    Case::both("caller: known", || known(false)),
    Case::both("caller: known, another session has ended meanwhile", || known(true)),
    Case::both("caller: new", new_caller),
    Case::both("revocations: not there, among 1,000,000", || revocation(1_000_000)),
    Case::both("revocations: there, among 1,000,000", || revocation(5)),
];

fn bearer() -> Box<dyn Work> {
    let header = format!("Bearer {}", own_token(0));
    repeated(move || bearer_token(std::iter::once(header.as_bytes()), 8192).map(str::len))
}

fn all(token: fn(u32) -> String) -> Vec<Rc<str>> {
    (0..TOKENS).map(|number| token(number).into()).collect()
}

fn verified(token: fn(u32) -> String) -> Box<dyn Work> {
    let verifier = verifier();
    consuming(in_turn(all(token)), move |token| verifier.verify(&token, NOW).expect("a good token"))
}

fn forged() -> Box<dyn Work> {
    let verifier = verifier();
    consuming(in_turn(all(forged_token)), move |token| verifier.verify(&token, NOW).expect_err("a forged token"))
}

/// What no verifier can be cheaper than, for comparison.
fn signature() -> Box<dyn Work> {
    let key = SigningKey::from_slice(&[7; 32]).expect("a number below the order of P-256");
    let point = key.verifying_key().to_encoded_point(false);
    let key = ParsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, point.as_bytes()).expect("a point of P-256");
    let parts = all(own_token).into_iter().map(|token| {
        let (signed, signature) = token.rsplit_once('.').expect("a token has dots");
        let signature = URL_SAFE_NO_PAD.decode(signature).expect("base64url");
        (Rc::<str>::from(signed), Rc::<[u8]>::from(signature))
    });
    consuming(in_turn(parts.collect()), move |(signed, signature)| {
        key.verify_sig(signed.as_bytes(), &signature).expect("a good signature");
    })
}

fn remember(cache: &mut TokenCache, verifier: &Verifier, token: &str) -> Rc<Verified> {
    let verified = Rc::new(Verified::new(verifier.verify(token, NOW).expect("a good token"), 0, 0));
    cache.insert(token, Rc::clone(&verified));
    verified
}

fn hit() -> Box<dyn Work> {
    let (mut cache, verifier, tokens) = (TokenCache::new(1 << 20), verifier(), all(own_token));
    tokens.iter().for_each(|token| drop(remember(&mut cache, &verifier, token)));
    consuming(in_turn(tokens), move |token| cache.get(&token).expect("it was kept"))
}

fn miss() -> Box<dyn Work> {
    let (mut cache, verifier) = (TokenCache::new(1 << 20), verifier());
    all(own_token).iter().for_each(|token| drop(remember(&mut cache, &verifier, token)));
    consuming(in_turn(all(forged_token)), move |token| assert!(cache.get(&token).is_none()))
}

/// More different tokens than there is room for. Nothing of them is looked at but their bytes: they are made from one.
fn kept_in_a_full_cache() -> Box<dyn Work> {
    let mut cache = TokenCache::new(1 << 20);
    let verified = remember(&mut cache, &verifier(), &own_token(0));
    let token = own_token(1);
    let tokens: Vec<Rc<str>> = (0..4096).map(|number| format!("{token}{number:04}").into()).collect();
    tokens.iter().for_each(|token| cache.insert(token, Rc::clone(&verified)));
    assert!(cache.len() < tokens.len() / 2, "the cache has room for all");
    consuming(in_turn(tokens), move |token| cache.insert(&token, Rc::clone(&verified)))
}

fn headers(token: fn(u32) -> String) -> Vec<Rc<str>> {
    (0..TOKENS).map(|number| format!("Bearer {}", token(number)).into()).collect()
}

/// The whole of it, from the header to an identity that the route takes.
fn known(others_end: bool) -> Box<dyn Work> {
    let revocations = Arc::new(Revocations::new());
    let callers = Callers::new(verifier(), Arc::clone(&revocations), 1 << 20);
    let table = routes("[[route]]\npath = \"/\"\nupstream = \"u\"\n");
    let headers = headers(own_token);
    let identify = move |header: &str| {
        let route = table.routes().first().expect("it has one");
        callers.identify(header.as_bytes(), route, NOW).expect("a good token").expect("not public")
    };
    headers.iter().for_each(|header| drop(identify(header)));
    let (next, mut number) = (in_turn(headers), 0);
    let make = move || {
        if others_end {
            number += 1;
            revocations.insert(&end(session(u128::MAX - number)));
        }
        next()
    };
    consuming(make, move |header| identify(&header))
}

fn new_caller() -> Box<dyn Work> {
    // Room for no token: each is new each time.
    let callers = Callers::new(verifier(), Arc::default(), 0);
    let table = routes("[[route]]\npath = \"/\"\nupstream = \"u\"\n");
    consuming(in_turn(headers(own_token)), move |header| {
        let route = table.routes().first().expect("it has one");
        callers.identify(header.as_bytes(), route, NOW).expect("a good token")
    })
}

fn session(number: u128) -> SessionName {
    SessionId::from_bytes(number.to_be_bytes()).into()
}

fn end(session: SessionName) -> Revocation {
    Revocation::Session { session, reason: EndReason::SignedOut, expires_at: NOW }
}

/// A million ends; asked for sessions from `first` on.
fn revocation(first: u128) -> Box<dyn Work> {
    let revocations = Revocations::new();
    (0..1_000_000).for_each(|number| revocations.insert(&end(session(number))));
    let user = UserId::parse("user").expect("a good name");
    let names = (0..u128::from(TOKENS)).map(|number| session(first + number * 15_000)).collect();
    let is_ended = first < 1_000_000;
    consuming(in_turn(names), move |name| {
        assert_eq!(revocations.check(&name, &user, NOW).is_some(), is_ended);
    })
}
