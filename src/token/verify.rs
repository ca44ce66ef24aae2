//! Token → [`Identity`]: the rules of RFC 7519 and RFC 8725, in one order for every token.
//!
//! The verdict on a token depends on the token, the keys, the policy and the time, never on tokens seen before. Of an
//! unverified token, `iss` chooses the issuer, `kid` the key, and the session claim's name follows from the issuer;
//! nothing else of it decides anything, and nothing of it is echoed.

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;
use jsonwebtoken::Algorithm;
use tokio::sync::Notify;

use super::json::{Object, Raw};
use super::jws::{Compact, Header};
use super::keys::KeySet;
use super::{Identity, IssuerIndex, OWN_ISSUER, TokenError};
use crate::clock::{LEEWAY, UnixTime};
use crate::ids::{KeyId, SessionName, UserId};

/// What is asked of an issuer's tokens.
#[derive(Clone, Debug)]
pub struct IssuerPolicy {
    /// The exact `iss`.
    pub issuer: String,
    /// One of these must be in `aud`.
    pub audience: Vec<String>,
    /// The algorithms it may use.
    pub algorithms: Vec<Algorithm>,
    /// The member that names the session: `sid` for own tokens.
    pub session_claim: String,
    /// A token is expired this long after its `iat`, whatever its `exp`. `None` for own tokens.
    pub max_token_lifetime: Option<Duration>,
}

/// Verifies access tokens of all issuers. One for the process, in an `Arc`, read by every worker without a lock.
#[derive(Debug)]
pub struct Verifier {
    /// By [`IssuerIndex`]. The first is Portcullis itself, `None` when it owns no sessions.
    issuers: Vec<Option<Issuer>>,
    by_name: HashMap<String, IssuerIndex>,
    max_token_bytes: usize,
    generation: AtomicU64,
}

#[derive(Debug)]
struct Issuer {
    policy: IssuerPolicy,
    keys: ArcSwap<KeySet>,
    unknown_kid: Arc<Notify>,
    last_success_ms: AtomicU64,
    consecutive_failures: AtomicU32,
}

/// How loading an issuer's keys is going.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct JwksStatus {
    /// When keys were last loaded, also when they were found unchanged.
    pub last_success: Option<UnixTime>,
    /// Failures since then.
    pub consecutive_failures: u32,
    /// Usable keys held now.
    pub keys: usize,
}

impl Verifier {
    /// `own` gets [`OWN_ISSUER`], `trusted[i]` gets `IssuerIndex(i + 1)`, with and without `own`. All start without keys.
    ///
    /// Names are unique, which the configuration's check sees to; of two with one name the first would win.
    pub fn new(own: Option<IssuerPolicy>, trusted: Vec<IssuerPolicy>, max_token_bytes: usize) -> Self {
        let mut by_name = HashMap::new();
        let mut issuers = Vec::with_capacity(trusted.len() + 1);
        for (policy, index) in std::iter::once(own).chain(trusted.into_iter().map(Some)).zip(0..=u16::MAX) {
            if let Some(policy) = &policy {
                by_name.entry(policy.issuer.clone()).or_insert(IssuerIndex(index));
            }
            issuers.push(policy.map(|policy| Issuer {
                policy,
                keys: ArcSwap::default(),
                unknown_kid: Arc::default(),
                last_success_ms: AtomicU64::new(0),
                consecutive_failures: AtomicU32::new(0),
            }));
        }
        Self { issuers, by_name, max_token_bytes, generation: AtomicU64::new(0) }
    }

    /// Judges everything about a token but what may change later: revocation, activity, the route's demands. A token
    /// that is expired or not yet valid at `now` is refused here too.
    ///
    /// # Errors
    /// [`TokenError`]; the first that applies in this order: size, form and claims' types, issuer, session claim, key,
    /// algorithm, signature, audience, times.
    pub fn verify(&self, token: &str, now: UnixTime) -> Result<Identity, TokenError> {
        let identity = self.verify_even_expired(token, now)?;
        if identity.expires_at.plus(LEEWAY) < now {
            return Err(TokenError::TokenExpired);
        }
        Ok(identity)
    }

    /// As [`Self::verify`], but an expired token is good: for signing out the session it names, and for nothing else.
    ///
    /// # Errors
    /// As [`Self::verify`], without [`TokenError::TokenExpired`].
    pub fn verify_even_expired(&self, token: &str, now: UnixTime) -> Result<Identity, TokenError> {
        if token.len() > self.max_token_bytes {
            return Err(TokenError::TokenTooLarge);
        }
        let compact = Compact::decode(token)?;
        let header = Header::parse(compact.header())?;
        let claims = Claims::parse(compact.claims())?;
        // RFC 8725 §3.8: keys belong to an issuer. A good signature of one issuer says nothing about another's users.
        let index = *self.by_name.get(&*claims.issuer).ok_or(TokenError::UnknownIssuer)?;
        let issuer = self.issuer(index).ok_or(TokenError::UnknownIssuer)?;
        let session = claims.session(&issuer.policy.session_claim)?;
        if index == OWN_ISSUER && !matches!(session, SessionName::Own(_)) {
            return Err(TokenError::MalformedToken);
        }

        let keys = issuer.keys.load();
        if keys.is_empty() {
            return Err(TokenError::KeysUnavailable);
        }
        let key = match compact.signed_by(&header, &keys, &issuer.policy.algorithms) {
            Ok(key) => key,
            Err(error) => {
                // A name that no key can have is not worth a fetch.
                let nameable = header.kid.is_some_and(|kid| KeyId::parse(&kid).is_ok());
                if error == TokenError::UnknownKey && nameable {
                    issuer.unknown_kid.notify_one();
                }
                return Err(error);
            }
        };

        // RFC 7519 §4.1.3.
        if !claims.is_for(&issuer.policy.audience) {
            return Err(TokenError::WrongAudience);
        }
        let valid_from = claims.not_before.map_or(claims.issued_at, |start| start.max(claims.issued_at));
        if valid_from > now.plus(LEEWAY) {
            return Err(TokenError::TokenNotYetValid);
        }
        // So that the list of ended sessions may forget an entry some day, whatever `exp` an issuer chooses.
        let expires_at = match issuer.policy.max_token_lifetime {
            Some(lifetime) => claims.expires_at.min(claims.issued_at.plus(lifetime)),
            None => claims.expires_at,
        };
        Ok(Identity {
            user_header: claims.user.to_header(),
            session_header: session.to_header(),
            user: claims.user,
            session,
            issuer: index,
            issued_at: claims.issued_at,
            valid_from,
            expires_at,
            key: Arc::clone(key),
        })
    }

    /// Changes after any issuer's keys were replaced; one atomic load.
    ///
    /// To mark an identity as good under a generation, read this first and ask [`Self::still_trusts`] (or verify) after:
    /// keys replaced in between then show as a newer generation.
    pub fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }

    /// Whether the issuer still has the very key that verified `identity`.
    pub fn still_trusts(&self, identity: &Identity) -> bool {
        self.issuer(identity.issuer).is_some_and(|issuer| issuer.keys.load().contains(&identity.key))
    }

    /// Replaces the keys of an issuer whole. Does nothing for an issuer that is not there, or for an empty set: keys once
    /// known are never taken back by a failure to read them.
    pub fn swap_keys(&self, issuer: IssuerIndex, keys: KeySet) {
        if let Some(issuer) = self.issuer(issuer)
            && !keys.is_empty()
        {
            issuer.keys.store(Arc::new(keys));
            // After the store: who sees the new generation sees the new keys.
            self.generation.fetch_add(1, Ordering::Release);
        }
    }

    /// The keys of an issuer; empty when none were ever loaded.
    pub fn keys(&self, issuer: IssuerIndex) -> Arc<KeySet> {
        self.issuer(issuer).map(|issuer| issuer.keys.load_full()).unwrap_or_default()
    }

    /// The `iss` of an issuer; empty for one that is not there.
    pub fn issuer_name(&self, issuer: IssuerIndex) -> &str {
        self.issuer(issuer).map_or("", |issuer| &issuer.policy.issuer)
    }

    /// The issuer whose `iss` is exactly `name`.
    pub fn issuer_named(&self, name: &str) -> Option<IssuerIndex> {
        self.by_name.get(name).copied()
    }

    /// All issuers.
    pub fn issuers(&self) -> impl Iterator<Item = IssuerIndex> {
        self.issuers.iter().zip(0..=u16::MAX).filter_map(|(issuer, index)| issuer.as_ref().map(|_| IssuerIndex(index)))
    }

    /// Told when a token named a `kid` its issuer does not have. It holds one permit at most: a thousand such tokens are
    /// one notification, and telling it never waits.
    pub fn unknown_kid(&self, issuer: IssuerIndex) -> Arc<Notify> {
        self.issuer(issuer).map(|issuer| Arc::clone(&issuer.unknown_kid)).unwrap_or_default()
    }

    /// How loading the keys of an issuer is going.
    pub fn jwks_status(&self, issuer: IssuerIndex) -> JwksStatus {
        self.issuer(issuer).map_or_else(JwksStatus::default, |issuer| JwksStatus {
            last_success: match issuer.last_success_ms.load(Ordering::Relaxed) {
                0 => None,
                millis => Some(UnixTime::from_millis(millis)),
            },
            consecutive_failures: issuer.consecutive_failures.load(Ordering::Relaxed),
            keys: issuer.keys.load().len(),
        })
    }

    /// Notes that keys were loaded, or (`None`) that loading failed. Returns the failures in a row before this.
    pub(super) fn note_load(&self, issuer: IssuerIndex, success: Option<UnixTime>) -> u32 {
        let Some(issuer) = self.issuer(issuer) else { return 0 };
        match success {
            Some(now) => {
                issuer.last_success_ms.store(now.as_millis().max(1), Ordering::Relaxed);
                issuer.consecutive_failures.swap(0, Ordering::Relaxed)
            }
            None => issuer.consecutive_failures.fetch_add(1, Ordering::Relaxed),
        }
    }

    fn issuer(&self, index: IssuerIndex) -> Option<&Issuer> {
        self.issuers.get(usize::from(index.0))?.as_ref()
    }
}

/// Header and claims of a token as JSON text, of which nothing was verified: for showing them to a person who has the
/// token anyway, never for a decision.
///
/// # Errors
/// [`TokenError::TokenTooLarge`] above 1 MiB, [`TokenError::MalformedToken`] unless it is a compact JWS of strict JSON.
pub fn inspect(token: &str) -> Result<(String, String), TokenError> {
    if token.len() > 1024 * 1024 {
        return Err(TokenError::TokenTooLarge);
    }
    let compact = Compact::decode(token)?;
    let text = |bytes: &[u8]| match (Object::parse(bytes), std::str::from_utf8(bytes)) {
        (Ok(_), Ok(text)) => Ok(text.to_owned()),
        _ => Err(TokenError::MalformedToken),
    };
    Ok((text(compact.header())?, text(compact.claims())?))
}

/// The claims that count, of the types asked for.
struct Claims<'a> {
    issuer: Cow<'a, str>,
    audience: Raw<'a>,
    user: UserId,
    issued_at: UnixTime,
    expires_at: UnixTime,
    not_before: Option<UnixTime>,
    all: Object<'a>,
}

impl<'a> Claims<'a> {
    fn parse(json: &'a [u8]) -> Result<Self, TokenError> {
        Self::read(json).ok_or(TokenError::MalformedToken)
    }

    fn read(json: &'a [u8]) -> Option<Self> {
        let all = Object::parse(json).ok()?;
        let audience = all.get("aud")?;
        // RFC 7519 §4.1.3: a string or an array of strings.
        if audience.string().is_none() && !audience.elements()?.all(|element| element.string().is_some()) {
            return None;
        }
        Some(Self {
            issuer: all.get("iss")?.string()?,
            audience,
            user: UserId::parse(&all.get("sub")?.string()?).ok()?,
            issued_at: numeric_date(all.get("iat")?)?,
            expires_at: numeric_date(all.get("exp")?)?,
            // Wrongly typed is not the same as absent.
            not_before: match all.get("nbf") {
                None => None,
                Some(raw) => Some(numeric_date(raw)?),
            },
            all,
        })
    }

    fn session(&self, claim: &str) -> Result<SessionName, TokenError> {
        let text = self.all.get(claim).and_then(Raw::string).ok_or(TokenError::MalformedToken)?;
        SessionName::parse(&text).or(Err(TokenError::MalformedToken))
    }

    fn is_for(&self, accepted: &[String]) -> bool {
        let names_us = |raw: Raw<'_>| raw.string().is_some_and(|name| accepted.iter().any(|a| *a == name));
        match self.audience.elements() {
            Some(mut elements) => elements.any(names_us),
            None => names_us(self.audience),
        }
    }
}

/// RFC 7519 §2: seconds since 1970, perhaps with a fraction, which is cut off.
///
/// Below 2^53, so that no two readers see different numbers (RFC 8259 §6).
fn numeric_date(raw: Raw<'_>) -> Option<UnixTime> {
    let seconds = raw.number()?;
    (0.0..9_007_199_254_740_992.0).contains(&seconds).then(|| UnixTime::from_secs(seconds as u64))
}

#[cfg(test)]
mod tests;
