//! A gateway's judgement on a token, without the gateway: verifier, cache and route, and the judging of many cases.

use std::cell::RefCell;
use std::path::Path;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use http::Method;
use jsonwebtoken::Algorithm;

use super::super::cache::TokenCache;
use super::super::keys::KeySet;
use super::super::testing::{NOW_S, TestKey, now};
use super::super::verify::{IssuerPolicy, Verifier};
use super::super::{IssuerIndex, OWN_ISSUER, TokenError};
use crate::clock::UnixTime;
use crate::config::Config;
use crate::gateway::authenticate::{Known, identify};
use crate::revocation::Revocations;
use crate::route::RouteTable;
use crate::telemetry::metrics::{Metrics, WorkerMetrics};

pub(super) const SESSION: &str = "00ff10a2b3c4d5e6f708192a3b4c5d6e";

/// `https://a.example`, whose session claim is `session_id` and whose tokens live for a day at most.
pub(super) const A: IssuerIndex = IssuerIndex(1);
/// `https://b.example`, like ours but for its name.
pub(super) const B: IssuerIndex = IssuerIndex(2);

pub(super) const MAX_TOKEN_BYTES: usize = 8192;

/// The keys of the three issuers, and of somebody who is none.
pub(super) static OWN_KEY: LazyLock<TestKey> = LazyLock::new(|| TestKey::new(1));
pub(super) static A_KEY: LazyLock<TestKey> = LazyLock::new(|| TestKey::new(2));
pub(super) static B_KEY: LazyLock<TestKey> = LazyLock::new(|| TestKey::new(3));
pub(super) static STRANGER: LazyLock<TestKey> = LazyLock::new(|| TestKey::new(9));

/// Parsed once: a gate is made for every case.
static KEYS: LazyLock<[KeySet; 3]> = LazyLock::new(|| [OWN_KEY.key_set(), A_KEY.key_set(), B_KEY.key_set()]);

/// Good claims of an own token, written as below.
pub(super) fn claims() -> String {
    format!(
        r#"{{"sid":"{SESSION}","sub":"user-1","iss":"gw","aud":"app","iat":{},"exp":{}}}"#,
        NOW_S - 10,
        NOW_S + 3590
    )
}

/// Good claims with the member `name` in this spelling, or without it when that is empty.
pub(super) fn claims_with(name: &str, text: &str) -> String {
    with_member(&claims(), name, text)
}

/// `object`, written without spaces and nested values, with one member in another spelling, or without it.
pub(super) fn with_member(object: &str, name: &str, text: &str) -> String {
    let start = format!("\"{name}\":");
    let mut members: Vec<String> = object[1..object.len() - 1]
        .split(',')
        .filter(|member| !member.starts_with(&start))
        .map(str::to_owned)
        .collect();
    if !text.is_empty() {
        members.push(format!("{start}{text}"));
    }
    format!("{{{}}}", members.join(","))
}

/// An own token with this header and good claims.
pub(super) fn with_header(header: impl AsRef<[u8]>) -> String {
    OWN_KEY.token(header, claims())
}

/// An own token with the usual header and these claims.
pub(super) fn own(claims: impl AsRef<[u8]>) -> String {
    OWN_KEY.token(OWN_KEY.header(), claims)
}

/// A token, and what is to be said of it.
pub(super) struct Case {
    pub(super) name: String,
    /// What stands behind `Bearer` and a space.
    pub(super) token: Vec<u8>,
    pub(super) expected: Result<(), TokenError>,
}

pub(super) fn case(name: impl Into<String>, token: impl Into<Vec<u8>>, expected: Result<(), TokenError>) -> Case {
    Case { name: name.into(), token: token.into(), expected }
}

/// What a worker of a gateway judges tokens with.
pub(super) struct Gate {
    pub(super) verifier: Verifier,
    pub(super) cache: RefCell<TokenCache>,
    pub(super) metrics: Arc<WorkerMetrics>,
    revocations: Revocations,
}

/// One route, which asks for an identity and takes every issuer.
static ROUTES: LazyLock<RouteTable> = LazyLock::new(|| {
    let text = "[server]\nlisten = [\"127.0.0.1:0\"]\n[session]\nissuer = \"gw\"\naudience = \"app\"\n\
                [upstream.u]\nservers = [\"http://127.0.0.1:1\"]\n[[route]]\npath = \"/\"\nupstream = \"u\"\n";
    RouteTable::new(&Config::parse(text, "test.toml", Path::new("/")).unwrap(), |_| None)
});

fn policy(issuer: &str, session_claim: &str, max_token_lifetime: Option<Duration>) -> IssuerPolicy {
    IssuerPolicy {
        issuer: issuer.to_owned(),
        audience: vec!["app".to_owned()],
        algorithms: vec![Algorithm::ES256],
        session_claim: session_claim.to_owned(),
        max_token_lifetime,
    }
}

impl Gate {
    pub(super) fn new() -> Self {
        let trusted = vec![
            policy("https://a.example", "session_id", Some(Duration::from_secs(86_400))),
            policy("https://b.example", "sid", None),
            // Whose keys were never loaded.
            policy("https://away.example", "sid", None),
        ];
        let verifier = Verifier::new(Some(policy("gw", "sid", None)), trusted, MAX_TOKEN_BYTES);
        for (issuer, keys) in [OWN_ISSUER, A, B].into_iter().zip(&*KEYS) {
            verifier.swap_keys(issuer, keys.clone());
        }
        Self::of(verifier)
    }

    pub(super) fn of(verifier: Verifier) -> Self {
        Self {
            verifier,
            cache: RefCell::new(TokenCache::new(1 << 22)),
            metrics: Metrics::new(1, Vec::new(), Vec::new(), Arc::default()).worker(0),
            revocations: Revocations::default(),
        }
    }

    /// Whether a request with this token may pass, or the word it is refused with.
    pub(super) fn verdict(&self, token: &[u8], now: UnixTime) -> Result<(), &'static str> {
        let known = Known {
            verifier: &self.verifier,
            revocations: &self.revocations,
            freshness: None,
            cache: &self.cache,
            metrics: &self.metrics,
            token_bytes: MAX_TOKEN_BYTES,
        };
        let value = [b"Bearer ", token].concat();
        let route = ROUTES.find("", "/", &Method::GET).unwrap();
        match identify(&known, std::iter::once(&value[..]), route, now) {
            Ok(identity) => identity.map(|_| ()).ok_or("nobody"),
            Err(refused) => Err(refused.reason.as_str()),
        }
    }

    fn remembers(&self, token: &[u8]) -> bool {
        std::str::from_utf8(token).is_ok_and(|token| self.cache.borrow_mut().get(token).is_some())
    }
}

/// Judges each case cold, on a gate that has seen nothing, and three times in a row on one gate that all cases share
/// and that remembers good tokens: of the same issuers, with the same beginnings and ends. The verdict must be the one
/// expected, with the same word, every time; only what passed is remembered; and good tokens still pass after it.
pub(super) fn judge(area: &str, cases: Vec<Case>) {
    let good = [own(claims()), with_header(r#"{"alg":"ES256"}"#)];
    let shared = Gate::new();
    let mut failed = Vec::new();
    let count = cases.len();
    for Case { name, token, expected } in cases {
        let expected = expected.map_err(TokenError::as_str);
        let mut fail = |what: &str, was: &dyn std::fmt::Debug| {
            failed.push(format!("{name}: {what}: {was:?}, expected {expected:?}"));
        };
        let cold = Gate::new();
        let verdict = cold.verdict(&token, now());
        if verdict != expected {
            fail("cold", &verdict);
        }
        // What the bearer header cannot hold never gets to the verifier, which must refuse it all the same.
        if let Ok(text) = std::str::from_utf8(&token) {
            let verdict = cold.verifier.verify(text, now()).map(|_| ()).map_err(TokenError::as_str);
            let by_header = expected == Err("malformed_authorization") && verdict.is_err();
            if verdict != expected && !by_header {
                fail("verified", &verdict);
            }
        }
        for token in &good {
            assert_eq!(shared.verdict(token.as_bytes(), now()), Ok(()));
        }
        let before = shared.cache.borrow().len();
        for time in ["first", "second", "third"] {
            let hits = shared.metrics.cache_hits.get();
            let verdict = shared.verdict(&token, now());
            if verdict != expected {
                fail(time, &verdict);
            }
            let is_good = good.iter().any(|good| good.as_bytes() == token);
            let hit = shared.metrics.cache_hits.get() > hits;
            if hit != (expected.is_ok() && (is_good || time != "first")) {
                fail("remembered", &hit);
            }
        }
        if expected.is_err() && (shared.cache.borrow().len() != before || shared.remembers(&token)) {
            fail("kept", &shared.cache.borrow().len());
        }
        for token in &good {
            let hits = shared.metrics.cache_hits.get();
            if shared.verdict(token.as_bytes(), now()) != Ok(()) || shared.metrics.cache_hits.get() != hits + 1 {
                fail("a good token after it", token);
            }
        }
    }
    println!("{area}: {count} cases");
    assert!(failed.is_empty(), "{} of {count} cases of {area} failed:\n{}", failed.len(), failed.join("\n"));
}
