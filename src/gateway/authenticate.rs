//! Who is calling: the token, what is known of it, and what may have happened since.

use std::cell::RefCell;
use std::rc::Rc;

use crate::clock::{LEEWAY, UnixTime};
use crate::config::Access;
use crate::ids::{SessionId, SessionName};
use crate::reject::Reason;
use crate::revocation::{Freshness, Revocations};
use crate::route::Route;
use crate::session::Sessions;
use crate::telemetry::metrics::WorkerMetrics;
use crate::token::bearer::bearer_token;
use crate::token::cache::{TokenCache, Verified};
use crate::token::verify::Verifier;
use crate::token::{OWN_ISSUER, TokenError};

/// What a decision is made from: all in memory.
pub(crate) struct Known<'a> {
    pub(crate) verifier: &'a Verifier,
    pub(crate) revocations: &'a Revocations,
    /// How current they are, when other gateways make some, too.
    pub(crate) freshness: Option<&'a Freshness>,
    pub(crate) cache: &'a RefCell<TokenCache>,
    pub(crate) metrics: &'a WorkerMetrics,
    pub(crate) token_bytes: usize,
}

/// Why a request has no identity that its route takes.
#[derive(Debug)]
pub(crate) struct Refused {
    pub(crate) reason: Reason,
    /// Whose token it was, when it was verified: for the log only.
    pub(crate) identity: Option<Rc<Verified>>,
}

impl<R: Into<Reason>> From<R> for Refused {
    fn from(reason: R) -> Self {
        Self { reason: reason.into(), identity: None }
    }
}

/// The identity of a request, as its route asks for one.
///
/// The signature is checked once for each token and worker; expiry, revocation and what the route asks for on every
/// request.
pub(crate) fn identify<'h>(
    known: &Known<'_>,
    authorization: impl Iterator<Item = &'h [u8]>,
    route: &Route,
    now: UnixTime,
) -> Result<Option<Rc<Verified>>, Refused> {
    if route.access == Access::Public {
        return Ok(None);
    }
    let token = match bearer_token(authorization, known.token_bytes) {
        Ok(token) => token,
        Err(TokenError::MissingToken) if route.access == Access::Optional => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    let verified = verified(known, token, now)?;
    match judge(known, &verified, route, now) {
        Ok(()) => Ok(Some(verified)),
        Err(reason) => Err(Refused { reason, identity: Some(verified) }),
    }
}

/// What may have happened since the token was verified, and whether the route takes it.
fn judge(known: &Known<'_>, verified: &Verified, route: &Route, now: UnixTime) -> Result<(), Reason> {
    let identity = &verified.identity;
    if identity.expires_at.plus(LEEWAY) < now {
        return Err(TokenError::TokenExpired.into());
    }
    // Before the look-up: what was known then is what is looked up now.
    let stale = route.refuses_stale && known.freshness.is_some_and(Freshness::is_stale);
    // Read before the look-up: an end that comes between makes the next request look again.
    let epoch = known.revocations.epoch();
    if verified.revocation_epoch.get() != epoch {
        if let Some(ended) = known.revocations.check(&identity.session, &identity.user, identity.issued_at) {
            return Err(ended.into());
        }
        // With the clock set back, an end may be forgotten whose token has time left again. An own session is then asked
        // about ([`needs_proof`]); of a trusted issuer's nobody here can say whether it lives.
        if identity.issuer != OWN_ISSUER && known.revocations.may_have_forgotten(identity.expires_at) {
            return Err(TokenError::TokenExpired.into());
        }
        verified.revocation_epoch.set(epoch);
    }
    // It may have been ended elsewhere: nobody can say.
    if stale {
        return Err(Reason::RevocationsStale);
    }
    if !route.takes_issuer(identity.issuer) {
        return Err(TokenError::UnknownIssuer.into());
    }
    Ok(())
}

/// The token's identity: remembered, as long as the issuer still has the key that verified it, or verified now.
fn verified(known: &Known<'_>, token: &str, now: UnixTime) -> Result<Rc<Verified>, TokenError> {
    let mut cache = known.cache.borrow_mut();
    let generation = known.verifier.generation();
    if let Some(found) = cache.get(token) {
        if found.keys_generation.get() == generation {
            known.metrics.cache_hits.add(1);
            return Ok(found);
        }
        if known.verifier.still_trusts(&found.identity) {
            found.keys_generation.set(generation);
            known.metrics.cache_hits.add(1);
            return Ok(found);
        }
        cache.remove(token);
    }
    known.metrics.cache_misses.add(1);
    // The generation was read before the verdict: a change in between makes the next request look again.
    let verified = Rc::new(Verified::new(known.verifier.verify(token, now)?, generation, NEVER_CHECKED));
    cache.insert(token, verified.clone());
    Ok(verified)
}

/// No epoch of [`Revocations`] is ever this.
const NEVER_CHECKED: u64 = u64::MAX;

/// Whether only the store can say that the own session lives: its end may have been forgotten before the clock was set
/// back.
pub(crate) fn needs_proof(known: &Verified, revocations: &Revocations) -> bool {
    known.identity.issuer == OWN_ISSUER && revocations.may_have_forgotten(known.identity.expires_at)
}

/// The own session whose activity must be noted now; `None` when that was done a moment ago, or is nobody's business.
pub(super) fn needs_note(known: &Verified, sessions: &Sessions, now: UnixTime) -> Option<SessionId> {
    sessions.idle_timeout()?;
    if known.identity.issuer != OWN_ISSUER {
        return None;
    }
    let noted = UnixTime::from_millis(known.touched_at.get());
    let SessionName::Own(id) = known.identity.session else { return None };
    // A clock set back makes `since` zero: the note is then made again once it has caught up.
    (known.touched_at.get() == 0 || noted > now || now.since(noted) >= sessions.touch_resolution()).then_some(id)
}

#[cfg(test)]
mod tests;
