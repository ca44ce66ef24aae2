//! Tokens that were verified before: a hit skips the signature, never expiry, revocation or the route's demands.

use std::cell::Cell;
use std::fmt;
use std::hash::{Hash, Hasher, RandomState};
use std::mem::size_of;
use std::rc::Rc;

use quick_cache::unsync::{Cache, DefaultLifecycle};
use quick_cache::{Equivalent, Weighter};
use zeroize::Zeroizing;

use super::Identity;
use crate::ids::SessionName;

/// A verified token's identity, and when what may change was last looked at.
#[derive(Debug)]
pub struct Verified {
    /// Who the token speaks for.
    pub identity: Identity,
    /// [`Verifier::generation`](super::verify::Verifier::generation) read before its key was last found to be trusted.
    pub keys_generation: Cell<u64>,
    /// Epoch of the revocations read before its session and user were last found not to be in them.
    pub revocation_epoch: Cell<u64>,
    /// When the session's activity was last noted, in Unix milliseconds.
    pub touched_at: Cell<u64>,
}

impl Verified {
    /// An identity just verified, under what was read before verifying it.
    pub fn new(identity: Identity, keys_generation: u64, revocation_epoch: u64) -> Self {
        Self {
            identity,
            keys_generation: Cell::new(keys_generation),
            revocation_epoch: Cell::new(revocation_epoch),
            touched_at: Cell::new(0),
        }
    }
}

/// Verified tokens of one worker: no lock, not shared. Bounded in bytes; what is used least goes first, and tokens seen
/// once do not drive out those in use.
///
/// Only tokens that were verified go in. Keyed by the whole token, compared byte for byte, so no crafted token can
/// find another's entry. Nothing that depends on a route is kept.
pub struct TokenCache {
    entries: Cache<Key, Rc<Verified>, ByBytes, RandomState>,
}

impl TokenCache {
    /// Holds about `max_bytes`, keys, identities and bookkeeping included.
    pub fn new(max_bytes: usize) -> Self {
        // Decides only how many evicted tokens' hashes are remembered.
        let estimated_entries = max_bytes / (ENTRY_BYTES + TYPICAL_TOKEN_BYTES);
        Self {
            entries: Cache::with(
                estimated_entries,
                max_bytes as u64,
                ByBytes,
                RandomState::new(),
                DefaultLifecycle::default(),
            ),
        }
    }

    /// What was kept for exactly this token. Allocates nothing.
    pub fn get(&mut self, token: &str) -> Option<Rc<Verified>> {
        self.entries.get(&Lookup(token.as_bytes())).cloned()
    }

    /// Keeps `verified` for `token`, and forgets others if there is no room.
    pub fn insert(&mut self, token: &str, verified: Rc<Verified>) {
        self.entries.insert(Key(Zeroizing::new(token.as_bytes().into())), verified);
    }

    /// Forgets `token`.
    pub fn remove(&mut self, token: &str) {
        self.entries.remove(&Lookup(token.as_bytes()));
    }

    /// Number of tokens held.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether no token is held.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Bytes held, by estimate.
    pub fn bytes(&self) -> u64 {
        self.entries.weight()
    }
}

impl fmt::Debug for TokenCache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TokenCache").field("len", &self.len()).field("bytes", &self.bytes()).finish_non_exhaustive()
    }
}

/// The whole token. Overwritten when dropped: a memory dump should not hold more live tokens than need be.
struct Key(Zeroizing<Box<[u8]>>);

#[derive(Eq, PartialEq)]
struct Lookup<'a>(&'a [u8]);

/// Bytes of the token's end that are hashed: 256 bits of the signature.
const HASHED_BYTES: usize = 43;

/// Hashes the end of the token only: that costs a fifth of hashing it all and decides nothing but the bucket, as a hit
/// needs the whole token to be equal.
///
/// Nor can anyone fill one bucket: every key here ends in a signature that was verified, whose bits a client does not
/// choose, and the hash (SipHash) is keyed anew in every process. A made-up token that ends like a good one costs one
/// comparison and misses.
fn hash_token(token: &[u8], state: &mut impl Hasher) {
    state.write(&token[token.len().saturating_sub(HASHED_BYTES)..]);
}

impl Hash for Key {
    fn hash<H: Hasher>(&self, state: &mut H) {
        hash_token(&self.0, state);
    }
}

impl Hash for Lookup<'_> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        hash_token(self.0, state);
    }
}

impl PartialEq for Key {
    fn eq(&self, other: &Self) -> bool {
        self.0 == other.0
    }
}

impl Eq for Key {}

impl Equivalent<Key> for Lookup<'_> {
    fn equivalent(&self, key: &Key) -> bool {
        // Equality of all bytes is what makes a hit sound. Its time tells at most how long a prefix was right, and only
        // to who already has the right last bytes of the signature, from which the rest does not follow.
        *self.0 == **key.0
    }
}

#[derive(Clone)]
struct ByBytes;

/// An ES256 token with a handful of claims.
const TYPICAL_TOKEN_BYTES: usize = 600;

/// What an entry takes besides its token and ids: the entry itself, the cache's own bookkeeping (21 bytes, by its
/// documentation) in tables up to half empty, the shared value with its counters, allocator overhead of seven pieces.
const ENTRY_BYTES: usize =
    2 * (size_of::<Key>() + size_of::<Rc<Verified>>() + 21) + size_of::<Verified>() + 2 * size_of::<usize>() + 7 * 32;

impl Weighter<Key, Rc<Verified>> for ByBytes {
    fn weight(&self, key: &Key, verified: &Rc<Verified>) -> u64 {
        let identity = &verified.identity;
        let session = match &identity.session {
            SessionName::Own(_) => 0,
            SessionName::Other(text) => text.len(),
        };
        let ids = identity.user.as_str().len() + identity.user_header.len() + session + identity.session_header.len();
        (ENTRY_BYTES + key.0.len() + ids) as u64
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::super::testing::{TestKey, now};
    use super::super::{IssuerIndex, OWN_ISSUER};
    use super::*;
    use crate::ids::{SessionId, UserId};

    fn verified(user: &str) -> Rc<Verified> {
        let user = UserId::parse(user).unwrap();
        let session = SessionName::from(SessionId::from_bytes([7; 16]));
        let identity = Identity {
            user_header: user.to_header(),
            session_header: session.to_header(),
            user,
            session,
            issuer: OWN_ISSUER,
            issued_at: now(),
            valid_from: now(),
            expires_at: now(),
            key: Arc::clone(&TestKey::new(1).key_set().keys()[0]),
        };
        Rc::new(Verified::new(identity, 1, 2))
    }

    #[test]
    fn a_token_is_found_again_with_what_was_noted() {
        let mut cache = TokenCache::new(1 << 20);
        let kept = verified("u");
        cache.insert("a.b.c", Rc::clone(&kept));
        cache.get("a.b.c").unwrap().touched_at.set(5);
        let found = cache.get("a.b.c").unwrap();
        assert!(Rc::ptr_eq(&found, &kept));
        assert_eq!((found.keys_generation.get(), found.revocation_epoch.get(), found.touched_at.get()), (1, 2, 5));
        assert_eq!(found.identity.issuer, IssuerIndex(0));
        cache.insert("a.b.c", verified("v"));
        assert_eq!((cache.get("a.b.c").unwrap().identity.user.as_str(), cache.len()), ("v", 1));
        cache.remove("a.b.c");
        assert!(cache.get("a.b.c").is_none() && cache.is_empty());
        assert_eq!(cache.bytes(), 0);
    }

    #[test]
    fn a_token_that_differs_in_one_bit_anywhere_misses() {
        let mut cache = TokenCache::new(1 << 20);
        let key = TestKey::new(1);
        let token = key.token(key.header(), r#"{"sub":"user-1","iss":"gw"}"#);
        cache.insert(&token, verified("u"));
        for bit in 0..token.len() * 7 {
            let mut other = token.clone().into_bytes();
            other[bit / 7] ^= 1 << (bit % 7);
            let other = String::from_utf8(other).unwrap();
            assert!(cache.get(&other).is_none(), "bit {bit}");
            cache.remove(&other);
        }
        for other in [&token[1..], &token[..token.len() - 1], &format!("{token}A"), &format!("A{token}"), ""] {
            assert!(cache.get(other).is_none(), "{other}");
        }
        assert!(cache.get(&token).is_some());
    }

    #[test]
    fn tokens_with_the_same_end_do_not_stand_for_each_other() {
        let mut cache = TokenCache::new(1 << 20);
        let end = "s".repeat(HASHED_BYTES);
        for i in 0..100 {
            cache.insert(&format!("{i}.{end}"), verified(&format!("user-{i}")));
        }
        assert_eq!(cache.len(), 100);
        for i in 0..100 {
            assert_eq!(cache.get(&format!("{i}.{end}")).unwrap().identity.user.as_str(), format!("user-{i}"));
        }
        assert!(cache.get(&end).is_none());
    }

    #[test]
    fn bytes_are_bounded_whatever_comes() {
        let max = 200_000;
        let mut cache = TokenCache::new(max);
        let kept = verified("u");
        for i in 0..5000 {
            cache.insert(&format!("{i}{}", "x".repeat(i % 3000)), Rc::clone(&kept));
            assert!(cache.bytes() <= max as u64);
        }
        assert!(cache.len() > 10);
        assert!(cache.bytes() > max as u64 / 2);
        cache.insert(&"x".repeat(max), Rc::clone(&kept));
        assert!(cache.bytes() <= max as u64);
        let mut none = TokenCache::new(0);
        none.insert("a", kept);
        assert!(none.get("a").is_none());
    }

    #[test]
    fn tokens_in_use_survive_a_flood_of_tokens_seen_once() {
        let mut cache = TokenCache::new(500_000);
        let kept = verified("u");
        let used: Vec<String> = (0..50).map(|i| format!("used-{i}-{}", "x".repeat(500))).collect();
        for token in &used {
            cache.insert(token, Rc::clone(&kept));
        }
        let mut hits = 0;
        for i in 0..20_000 {
            cache.insert(&format!("once-{i}-{}", "x".repeat(500)), Rc::clone(&kept));
            hits += usize::from(cache.get(&used[i % used.len()]).is_some());
        }
        assert!(hits > 19_000, "{hits}");
    }

    #[test]
    fn debug_prints_no_token() {
        let mut cache = TokenCache::new(1 << 20);
        cache.insert("secret.token.text", verified("u"));
        assert!(!format!("{cache:?}").contains("secret"));
    }
}
