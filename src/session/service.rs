//! Sign-in, refresh and end: the rules applied to a store.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use super::activity::{self, Activity};
use super::refresh_token::Presented;
use super::rules::{self, Refresh};
use super::store::{Change, EndUser, ListPosition, SessionStore, Updated};
use super::{
    NewSession, Page, RefreshError, RefreshKeys, RevocationTarget, Session, SessionPolicy, SignInError, StoreError,
    TokenPair, sign_in,
};
use crate::clock::{LEEWAY, UnixTime};
use crate::ids::{SessionId, SessionName, UserId};
use crate::revocation::{EndCounts, EndReason, Freshness, Revocation, Revocations};
use crate::token::mint::{self, AccessClaims};
use crate::token::signing::SigningKeys;

/// Most sessions of one page.
pub const MAX_PAGE: usize = 1000;
/// The longest wait for a second whose tokens are not refused.
const MAX_SECOND_WAIT: Duration = Duration::from_secs(2);

/// The sessions of this gateway. Shared, in an `Arc`.
///
/// The futures ask the store, which may read from the disk when polled: they are run on the control runtime, not on a
/// worker, but for [`exchange`](Self::exchange) where [`exchanges_anywhere`](Self::exchanges_anywhere).
/// [`touch`](Self::touch), [`read_refresh_token`](Self::read_refresh_token) and [`revocations`](Self::revocations) ask
/// nobody.
pub struct Sessions {
    pub(super) policy: Arc<SessionPolicy>,
    pub(super) store: Arc<dyn SessionStore>,
    signing: Arc<SigningKeys>,
    refresh_keys: Arc<RefreshKeys>,
    revocations: Arc<Revocations>,
    pub(super) activity: Arc<Activity>,
    pub(super) ended: Arc<EndCounts>,
}

impl fmt::Debug for Sessions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sessions").field("policy", &self.policy).finish_non_exhaustive()
    }
}

impl Sessions {
    /// Sessions in `store`.
    ///
    /// # Panics
    /// When `revocations` are not those that `store` was opened with: an end would then be acknowledged and never
    /// refuse a request.
    pub fn new(
        policy: SessionPolicy,
        store: Arc<dyn SessionStore>,
        signing: Arc<SigningKeys>,
        refresh_keys: Arc<RefreshKeys>,
        revocations: Arc<Revocations>,
    ) -> Self {
        assert!(Arc::ptr_eq(store.revocations(), &revocations), "the store keeps other revocations up to date");
        let activity = Arc::new(Activity::new(activity::MAX_NOTED));
        Self { policy: Arc::new(policy), store, signing, refresh_keys, revocations, activity, ended: Arc::default() }
    }

    /// Creates a session and its first pair of tokens. Its user's oldest sessions end when there are too many.
    ///
    /// Waits for the next second when all of the user's sessions were ended in this one: a token of this second would
    /// be refused with them.
    ///
    /// # Errors
    /// [`SignInError`]; nobody is signed in then, but for a timeout of the store, where that is unknown.
    pub async fn sign_in(&self, new: NewSession, now: UnixTime) -> Result<TokenPair, SignInError> {
        sign_in::check(&new)?;
        let mut id = [0; 16];
        #[expect(clippy::map_err_ignore, reason = "the library's error says nothing")]
        aws_lc_rs::rand::fill(&mut id).map_err(|_| SignInError::NoRandomness)?;
        let id = self.store.place(&new.user, SessionId::from_bytes(id));
        let issued_at = first_accepted(&self.revocations, &new.user, id, now);
        let session = Session {
            id,
            user: new.user,
            created_at: now,
            label: new.label.map(String::into_boxed_str),
            claims: new.claims,
            counter: 0,
            rotated_at: now,
            refresh_key: self.refresh_keys.current(),
            last_seen: now,
            access_issued_at: UnixTime::default(),
            access_expires_at: UnixTime::default(),
        }
        .with_access_token(issued_at, rules::access_expiry(now, issued_at, &self.policy));
        let evicted = self.store.create(session.clone(), self.policy.max_per_user).await?;
        evicted.iter().for_each(|id| self.activity.forget(id));
        self.ended.add(EndReason::SignedInElsewhere, evicted.len());
        if self.policy.idle_timeout.is_some() {
            self.activity.note(id, now, now);
        }
        let (session, issued_at) = self.past_user_ends(session, issued_at, now).await?;
        Ok(self.pair(&session, issued_at, false))
    }

    /// A user's end that reached the store between our look at the revocations and the new row refuses the first token
    /// although the session lives: the token is then dated behind it.
    async fn past_user_ends(
        &self,
        mut session: Session,
        mut issued_at: UnixTime,
        now: UnixTime,
    ) -> Result<(Session, UnixTime), StoreError> {
        let accepted = first_accepted(&self.revocations, &session.user, session.id, now);
        if accepted > issued_at {
            let policy = self.policy.clone();
            let expires_at = rules::access_expiry(session.created_at, accepted, &policy);
            let redate = move |row: Option<&Session>, _| {
                row.map_or(Change::Keep, |row| Change::Put(row.clone().with_access_token(accepted, expires_at)))
            };
            // Without a row it was ended after it began: the pair says so at its first use.
            if let Change::Put(row) = self.store.update(session.id, Box::new(redate)).await?.change {
                (session, issued_at) = (row, accepted);
            }
        }
        wait_for(issued_at, now).await;
        Ok((session, issued_at))
    }

    /// Exchanges a refresh token for its one successor, or for the same successor again within the grace period.
    ///
    /// The rotation is durable before this returns.
    ///
    /// # Errors
    /// [`RefreshError`]. After a [`RefreshError::Store`] the client may try again with the same token.
    pub async fn refresh(&self, refresh_token: &str, now: UnixTime) -> Result<TokenPair, RefreshError> {
        let presented = self.read_refresh_token(refresh_token).ok_or(RefreshError::Malformed)?;
        self.exchange(presented, now).await
    }

    /// As [`refresh`](Self::refresh), for a token that was read before.
    ///
    /// # Errors
    /// [`RefreshError`], but for [`RefreshError::Malformed`].
    pub async fn exchange(&self, presented: Presented, now: UnixTime) -> Result<TokenPair, RefreshError> {
        let id = presented.session;
        // The `iat` that the last verdict recorded: with racing requests the row's is not always ours.
        let issued_at = Arc::new(AtomicU64::new(0));
        let (settled, unsure) = (self.settled(), Arc::new(AtomicBool::new(false)));
        let decide = {
            let unsure = unsure.clone();
            let (policy, revocations, activity) =
                (self.policy.clone(), self.revocations.clone(), self.activity.clone());
            let refresh_key = self.refresh_keys.current();
            let recorded = issued_at.clone();
            move |row: Option<&Session>, shared_clock: Option<UnixTime>| {
                let Some(row) = row else { return Change::Keep };
                // A row whose tokens are all refused has ended, whatever it says of itself: a shared store that lost its
                // last writes has it back, and a successor would be dated behind the end and free again.
                if let Some(reason) = revocations.check(&id.into(), &row.user, row.access_issued_at) {
                    return Change::End(reason);
                }
                let issued_at = first_accepted(&revocations, &row.user, id, now);
                recorded.store(issued_at.as_secs(), Ordering::Release);
                // Memory is asked when the row is read, so that no request noted meanwhile is overlooked.
                let seen = rules::last_seen(row, activity.last(&id), &policy);
                let clock = shared_clock.unwrap_or(now);
                let refresh = Refresh { counter: presented.counter, now, clock, issued_at, refresh_key, seen };
                let verdict = rules::refresh(row, &refresh, &policy);
                let idle = verdict == Change::End(EndReason::SessionIdle);
                unsure.store(idle && !settled, Ordering::Release);
                if idle && !settled { Change::Keep } else { verdict }
            }
        };
        let Updated { before, change, ended } = self.store.update(id, Box::new(decide)).await?;
        let Some(before) = before else {
            return Err(RefreshError::Ended(ended.unwrap_or(EndReason::Ended)));
        };
        if unsure.load(Ordering::Acquire) {
            return Err(StoreError::Unsettled.into());
        }
        let repeated = before.counter != presented.counter;
        let session = match change {
            Change::Keep => before,
            Change::Put(row) => row,
            Change::End(reason) => {
                self.activity.forget(&id);
                self.ended.add(reason, 1);
                return Err(RefreshError::Ended(reason));
            }
        };
        let issued_at = UnixTime::from_secs(issued_at.load(Ordering::Acquire));
        wait_for(issued_at, now).await;
        Ok(self.pair(&session, issued_at, repeated))
    }

    /// The MAC keys of refresh tokens.
    pub fn refresh_keys(&self) -> &Arc<RefreshKeys> {
        &self.refresh_keys
    }

    /// Whose refresh token this is: its MAC is right, which says nothing of whether it still buys anything.
    pub fn read_refresh_token(&self, refresh_token: &str) -> Option<Presented> {
        self.refresh_keys.read(refresh_token)
    }

    /// Whether [`exchange`](Self::exchange) may be polled on a worker: it then neither reads from a disk nor needs
    /// anything of the control runtime.
    pub fn exchanges_anywhere(&self) -> bool {
        self.store.updates_anywhere()
    }

    /// The session, with the last request that memory knows of.
    ///
    /// # Errors
    /// The store could not be asked.
    pub async fn find(&self, id: &SessionId) -> Result<Option<Session>, StoreError> {
        Ok(self.store.find(*id).await?.map(|row| self.with_activity(row)))
    }

    /// A page of a user's sessions, oldest first: 1 to [`MAX_PAGE`] of them, from behind `cursor`.
    ///
    /// # Errors
    /// [`StoreError::BadCursor`] when the cursor is none of ours; any other: the store could not be asked.
    pub async fn list(&self, user: &UserId, cursor: Option<&str>, limit: usize) -> Result<Page, StoreError> {
        let after = cursor.map(|text| ListPosition::parse(text).ok_or(StoreError::BadCursor)).transpose()?;
        let limit = limit.clamp(1, MAX_PAGE);
        let mut sessions = self.store.list(user, after, limit + 1).await?;
        let more = sessions.len() > limit;
        sessions.truncate(limit);
        let next = sessions.last().filter(|_| more).map(|last| ListPosition::of(last).to_string());
        Ok(Page { sessions: sessions.into_iter().map(|row| self.with_activity(row)).collect(), next })
    }

    /// Ends a session: its refresh tokens buy nothing and its access tokens are refused from now on.
    ///
    /// `Ok(false)`: there was none. In both cases the session is among the revocations when this returns.
    ///
    /// # Errors
    /// The store could not be asked; whether the session has ended is unknown.
    pub async fn end(&self, id: SessionId, reason: EndReason, now: UnixTime) -> Result<bool, StoreError> {
        let end = move |row: Option<&Session>, _| row.map_or(Change::Keep, |_| Change::End(reason));
        let Updated { before, ended, .. } = self.store.update(id, Box::new(end)).await?;
        self.activity.forget(&id);
        if before.is_some() {
            self.ended.add(reason, 1);
            return Ok(true);
        }
        // A token whose session the store does not know (any more) must be refused too when its holder signs out.
        if self.revocations.session_reason(&id.into()).is_none() {
            let expires_at = now.plus(self.policy.access_token_ttl).plus(LEEWAY);
            let reason = ended.unwrap_or(reason);
            self.store.revoke(Revocation::Session { session: id.into(), reason, expires_at }).await?;
        }
        Ok(false)
    }

    /// Ends all sessions of a user but `except`, with one entry among the revocations. Returns how many.
    ///
    /// # Errors
    /// The store could not be asked; whether the sessions have ended is unknown.
    pub async fn end_user(
        &self,
        user: &UserId,
        except: Option<SessionId>,
        reason: EndReason,
        now: UnixTime,
    ) -> Result<u64, StoreError> {
        // The entry refuses tokens of trusted issuers for this user too: upstreams see one user id, whoever signed it.
        self.end_user_until(user, except, reason, now, now.plus(self.policy.longest_token).plus(LEEWAY)).await
    }

    async fn end_user_until(
        &self,
        user: &UserId,
        except: Option<SessionId>,
        reason: EndReason,
        now: UnixTime,
        expires_at: UnixTime,
    ) -> Result<u64, StoreError> {
        let end = EndUser { user: user.clone(), except, issued_until: now, reason, expires_at };
        let ended = self.store.end_user(end).await?;
        ended.iter().for_each(|id| self.activity.forget(id));
        self.ended.add(reason, ended.len());
        Ok(ended.len() as u64)
    }

    /// Refuses tokens of whichever issuer: of a session, or of a user up to now. Own sessions among them end, for their
    /// refresh tokens would otherwise outlive the revocation.
    ///
    /// Kept for the longest life that a token issued until now may have, and leeway.
    ///
    /// # Errors
    /// The store could not be asked; whether the revocation stands is unknown.
    pub async fn revoke(&self, target: RevocationTarget, reason: EndReason, now: UnixTime) -> Result<(), StoreError> {
        let expires_at = now.plus(self.policy.longest_token).plus(LEEWAY);
        match target {
            RevocationTarget::Session(session) => {
                if let SessionName::Own(id) = session {
                    self.end(id, reason, now).await?;
                }
                self.store.revoke(Revocation::Session { session, reason, expires_at }).await
            }
            RevocationTarget::User(user) => self.end_user_until(&user, None, reason, now, expires_at).await.map(|_| ()),
        }
    }

    /// Forgets revocations, stored and in memory, with an expiry before `now`. Returns how many the store had.
    ///
    /// `now` must not run ahead of true time ([`Revocations::purge`]).
    ///
    /// # Errors
    /// The store could not be asked; nothing in memory is forgotten then.
    pub async fn purge_revocations(&self, now: UnixTime) -> Result<usize, StoreError> {
        let gone = self.store.purge_revocations(now).await?;
        self.revocations.purge(now);
        Ok(gone)
    }

    /// How many sessions ended since the start, and why.
    pub fn ended(&self) -> &Arc<EndCounts> {
        &self.ended
    }

    /// What is refused before its `exp`.
    pub fn revocations(&self) -> &Arc<Revocations> {
        &self.revocations
    }

    /// How far behind the ends made by other gateways the revocations may be; `None` when there are no others.
    pub fn freshness(&self) -> Option<&Arc<Freshness>> {
        self.store.freshness()
    }

    /// Whether the store can be asked, for readiness. Asks nobody.
    ///
    /// # Errors
    /// Why not.
    pub fn store_health(&self) -> Result<(), StoreError> {
        self.store.health()
    }

    /// Writes what is noted and closes the store.
    ///
    /// # Errors
    /// The store could not take it.
    pub async fn close(&self, now: UnixTime) -> Result<(), StoreError> {
        let flushed = self.flush_activity(now).await;
        self.store.close().await?;
        flushed.map(|_| ())
    }

    fn with_activity(&self, mut row: Session) -> Session {
        row.last_seen = row.last_seen.max(self.activity.last(&row.id).unwrap_or_default());
        row
    }

    /// The pair for a row that records its access token already.
    fn pair(&self, session: &Session, issued_at: UnixTime, repeated: bool) -> TokenPair {
        let expires_at = rules::access_expiry(session.created_at, issued_at, &self.policy);
        let claims = AccessClaims {
            issuer: &self.policy.issuer,
            audience: &self.policy.audience,
            user: &session.user,
            session: session.id,
            issued_at,
            expires_at,
            extra: session.claims.as_ref(),
        };
        TokenPair {
            session: session.id,
            user: session.user.clone(),
            access_token: mint::mint(&self.signing, &claims),
            expires_in: expires_at.since(issued_at),
            refresh_token: self.refresh_keys.write(session.id, session.counter, session.refresh_key),
            repeated,
        }
    }
}

/// The first second from `now` on whose tokens no user's end refuses to `session`.
fn first_accepted(revocations: &Revocations, user: &UserId, session: SessionId, now: UnixTime) -> UnixTime {
    let now = UnixTime::from_secs(now.as_secs());
    match revocations.refused_until(user, &session.into()) {
        Some(until) if until >= now => UnixTime::from_secs(until.as_secs().saturating_add(1)),
        _ => now,
    }
}

/// Waits until `issued_at` has come, when that is at most [`MAX_SECOND_WAIT`] ahead.
///
/// Further ahead the clock was set back since the user's sessions were ended. The token is then dated ahead without a
/// wait: it is accepted as soon as the clock has caught up to within the leeway, and until then refused as not yet
/// valid. Dating it with the clock would have it refused as ended, and overriding the end would accept the tokens that
/// the end was for.
async fn wait_for(issued_at: UnixTime, now: UnixTime) {
    let wait = issued_at.since(now);
    if !wait.is_zero() && wait <= MAX_SECOND_WAIT {
        tokio::time::sleep(wait).await;
    }
}
