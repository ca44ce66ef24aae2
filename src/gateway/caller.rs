//! Who is calling, and whether that session is still active.

use std::rc::Rc;

use super::Worker;
use super::authenticate::{self, Refused};
use crate::clock::UnixTime;
use crate::ids::SessionName;
use crate::reject::{Reason, Rejection};
use crate::route::Route;
use crate::session::Touch;
use crate::session::store::StoreError;
use crate::telemetry::access::AccessEntry;
use crate::token::cache::Verified;

impl Worker {
    /// Who is calling, as the route asks for it.
    ///
    /// `authorization` are the values of all fields of that name.
    pub(super) fn identify<'h>(
        &self,
        authorization: impl Iterator<Item = &'h [u8]>,
        route: &Route,
        now: UnixTime,
    ) -> Result<Option<Rc<Verified>>, Refused> {
        authenticate::identify(
            &authenticate::Known {
                verifier: &self.gateway.verifier,
                revocations: &self.gateway.revocations,
                freshness: self.gateway.sessions.freshness().map(|fresh| &**fresh),
                cache: &self.cache,
                metrics: &self.metrics,
                token_bytes: self.gateway.config.limits.token_bytes.get(),
            },
            authorization,
            route,
            now,
        )
    }

    /// Notes the request of an own session. `false`: memory does not know of the session, or believes it idle or over.
    pub(super) fn note(&self, known: &Verified, now: UnixTime) -> bool {
        let sessions = &self.gateway.sessions;
        if authenticate::needs_proof(known, &self.gateway.revocations) {
            return false;
        }
        let Some(id) = authenticate::needs_note(known, sessions, now) else { return true };
        let active = sessions.touch(id, now) == Touch::Active;
        if active {
            known.touched_at.set(now.as_millis());
        }
        active
    }

    /// Asks the store whether the caller's session is idle or over, and refuses it then.
    pub(super) async fn confirm_active(&self, route: &Route, entry: &AccessEntry) -> Result<(), Rejection> {
        let Some(known) = &entry.identity else { return Ok(()) };
        let SessionName::Own(id) = known.identity.session else { return Ok(()) };
        let (sessions, now) = (self.gateway.sessions.clone(), UnixTime::now());
        let serves = || !route.refuses_stale && self.gateway.sessions.assume_active(id, now);
        // Known to be away: nobody waits for it once more.
        if self.gateway.sessions.store_health().is_err() && serves() {
            return Ok(());
        }
        let answer = self.gateway.control.spawn(async move { sessions.confirm_active(id, now).await }).await;
        match answer {
            Ok(Ok(None)) => {
                known.touched_at.set(now.as_millis());
                Ok(())
            }
            Ok(Ok(Some(ended))) => Err(ended.into()),
            Ok(Err(StoreError::Unreachable(_) | StoreError::Timeout)) if serves() => Ok(()),
            // It may be idle or not: nobody can say.
            Ok(Err(_)) | Err(_) => Err(Reason::StoreUnavailable.into()),
        }
    }
}
