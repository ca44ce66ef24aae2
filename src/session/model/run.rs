//! One case: each step is done to the sessions and to the model, and what came of it is compared.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use proptest::sample::Index;
use serde_json::Value;

use super::Outcomes;
use super::machine::{Clock, Machine, Place, is_of_now};
use super::operation::{Operation, Presented};
use super::reference::{Access, Due, Known, Reference};
use crate::clock::{LEEWAY, UnixTime};
use crate::ids::{SessionName, UserId};
use crate::revocation::EndReason;
use crate::session::{NewSession, RefreshError, RefreshKeys, RevocationTarget, SessionPolicy, TokenPair, Touch};
use crate::token::signing::SigningKeys;

/// Times of a case begin in a whole second of today: key files carry the times of this machine.
fn start() -> UnixTime {
    UnixTime::from_secs(UnixTime::now().as_secs())
}

pub(super) struct Run {
    machine: Machine,
    model: Reference,
    clock: Clock,
    /// When what was noted of requests was last written.
    flushed_at: UnixTime,
    /// Up to here revocations were forgotten, in a life of the process before this one.
    forgotten: UnixTime,
    purged: UnixTime,
    /// Every refresh token there ever was: none is another's.
    texts: HashMap<String, (usize, usize)>,
    shared: bool,
    pub(super) outcomes: Outcomes,
}

pub(super) fn user(number: usize) -> UserId {
    UserId::parse(&format!("user-{number}")).unwrap()
}

fn part(token: &str, number: usize) -> Value {
    let part = token.split('.').nth(number).unwrap();
    serde_json::from_slice(&BASE64_URL_SAFE_NO_PAD.decode(part).unwrap()).unwrap()
}

impl Access {
    fn of(pair: &TokenPair) -> Self {
        let (header, claims) = (part(&pair.access_token, 0), part(&pair.access_token, 1));
        assert_eq!(claims["sid"], pair.session.to_string());
        assert_eq!(claims["sub"], pair.user.as_str());
        Self {
            text: pair.access_token.to_string(),
            kid: header["kid"].as_str().unwrap().to_owned(),
            issued_at: claims["iat"].as_u64().unwrap(),
            expires_at: claims["exp"].as_u64().unwrap(),
        }
    }
}

impl Run {
    pub(super) async fn start(dir: PathBuf, place: Place, policy: SessionPolicy, keys: Arc<SigningKeys>) -> Self {
        let clock = Clock { truth: start(), ahead: 0, was_wrong: false };
        let shared = matches!(place, Place::Server(_));
        let machine = Machine::start(dir, place, policy.clone(), keys).await;
        Self {
            machine,
            model: Reference::new(policy),
            flushed_at: clock.truth,
            forgotten: UnixTime::default(),
            purged: UnixTime::default(),
            clock,
            texts: HashMap::new(),
            shared,
            outcomes: Outcomes::new(),
        }
    }

    fn count(&mut self, outcome: &'static str) {
        *self.outcomes.entry(outcome).or_default() += 1;
    }

    fn pick(&self, session: &Index) -> Option<usize> {
        (!self.model.sessions.is_empty()).then(|| session.index(self.model.sessions.len()))
    }

    /// Does one step to both. The machine is taken, for it may go and come again.
    pub(super) async fn step(mut self, step: &Operation) -> Self {
        self.count("steps");
        let now = self.clock.wall();
        match step {
            Operation::SignIn { user, waits } => self.sign_in(*user, *waits).await,
            Operation::Refresh { session, presented } => {
                if let Some(place) = self.pick(session) {
                    self.refresh(place, presented).await;
                }
            }
            Operation::Request { session, token } => {
                if let Some(place) = self.pick(session) {
                    self.request(place, token).await;
                }
            }
            Operation::End { session, reason } => {
                if let Some(place) = self.pick(session) {
                    let id = self.model.sessions[place].id;
                    let was_there = self.machine.sessions.end(id, *reason, now).await.unwrap();
                    assert_eq!(was_there, self.model.sessions[place].lives());
                    self.model.sessions[place].end(*reason);
                    self.count("ended by user");
                }
            }
            Operation::EndOthers { session } => {
                if let Some(place) = self.pick(session) {
                    let Known { id, user, .. } = self.model.sessions[place];
                    self.end_user(user, Some(id), EndReason::SignedOut).await;
                }
            }
            Operation::EndUserBut { user, session } => {
                let except = self.pick(session).map(|place| self.model.sessions[place].id);
                self.end_user(*user, except, EndReason::SecurityAction).await;
            }
            Operation::EndUser { user } => self.end_user(*user, None, EndReason::SecurityAction).await,
            Operation::RevokeSession { session } => {
                if let Some(place) = self.pick(session) {
                    let target = RevocationTarget::Session(self.model.sessions[place].id.into());
                    self.machine.sessions.revoke(target, EndReason::SecurityAction, now).await.unwrap();
                    self.model.sessions[place].end(EndReason::SecurityAction);
                    self.count("ended by admin");
                }
            }
            Operation::RevokeUser { user } => {
                let target = RevocationTarget::User(self::user(*user));
                self.machine.sessions.revoke(target, EndReason::SecurityAction, now).await.unwrap();
                self.model.end_user(*user, None, EndReason::SecurityAction, now);
                self.count("ended by admin");
            }
            Operation::RevokeForeign { name } => {
                let target = RevocationTarget::Session(foreign(*name));
                self.machine.sessions.revoke(target, EndReason::SecurityAction, now).await.unwrap();
                let kept_until = now.plus(self.model.policy.longest_token).plus(LEEWAY);
                self.model.foreign.push((*name, kept_until));
            }
            Operation::Pass(by) => {
                let last = self.clock.truth;
                self.pass(*by).await;
                assert!(self.clock.truth >= last);
            }
            Operation::SetClock(ahead) => {
                // A jump and a crash within one interval between flushes would be two faults at once.
                self.flush().await;
                self.clock.ahead = *ahead;
                self.clock.was_wrong |= *ahead != 0;
            }
            Operation::Sweep => self.sweep().await,
            Operation::PurgeRevocations => self.purge().await,
            Operation::PurgeKeys => self.purge_keys(),
            Operation::RotateSigningKey { force } => {
                let ttl = self.model.policy.access_token_ttl;
                // Too early without force: nothing has changed then.
                let rotated = self.machine.signing.rotate(now, ttl, *force);
                assert!(rotated.is_ok() || !force, "{rotated:?}");
            }
            Operation::RotateRefreshKey => drop(self.machine.sessions.refresh_keys().rotate(now)),
            Operation::Crash | Operation::Restart => {
                if matches!(step, Operation::Restart) {
                    self.machine.sessions.close(now).await.unwrap();
                    self.model.sessions.iter_mut().for_each(|session| session.stored = session.seen);
                }
                self.forgotten = self.purged;
                self.machine = self.machine.crash().await;
                self.count("crashed");
            }
        }
        self
    }

    /// Lets the clock pass to the first second whose tokens of `user` are accepted, when that is near: really waiting
    /// for it would take the test's time.
    async fn skip_wait(&mut self, user: usize, session: Option<crate::ids::SessionId>, waits: bool) {
        let now = self.clock.wall();
        let (_, until) = self.model.first_accepted(user, session, now);
        let wait = UnixTime::from_secs(until).since(now);
        if !waits && wait <= Duration::from_secs(2) {
            self.pass(wait).await;
        }
    }

    async fn sign_in(&mut self, user: usize, waits: bool) {
        self.skip_wait(user, None, waits).await;
        let now = self.clock.wall();
        let new = NewSession { user: self::user(user), label: None, claims: None };
        let pair = self.machine.sessions.sign_in(new, now).await.unwrap();
        let (least, most) = self.model.first_accepted(user, None, now);
        let access = Access::of(&pair);
        assert!((least..=most).contains(&access.issued_at), "{access:?} in {least} to {most}");
        assert_eq!(access.expires_at, self.model.expiry(now, access.issued_at));
        let before = self.model.of(user).len();
        let place = self.model.sessions.len();
        self.model.sign_in(Known {
            id: pair.session,
            user,
            created_at: now,
            refresh: vec![pair.refresh_token.to_string()],
            rotated_at: now,
            access: vec![access],
            over: None,
            seen: now,
            stored: now,
        });
        assert_eq!(self.texts.insert(pair.refresh_token.to_string(), (place, 0)), None);
        self.count("signed in");
        if self.model.of(user).len() <= before {
            self.count("signed in elsewhere");
        }
    }

    fn text(&self, place: usize, presented: &Presented) -> (String, Option<usize>) {
        let session = &self.model.sessions[place];
        let last = session.counter();
        let given = |counter: usize| (session.refresh[counter].clone(), Some(counter));
        match presented {
            Presented::Current => given(last),
            Presented::Previous => given(last.saturating_sub(1)),
            Presented::Any(which) => given(which.index(last + 1)),
            Presented::Altered(place) => {
                let mut text = session.refresh[last].clone().into_bytes();
                let place = place.index(text.len());
                text[place] = if text[place] == b'A' { b'B' } else { b'A' };
                (String::from_utf8(text).unwrap(), None)
            }
            Presented::OtherKey => {
                let keys = RefreshKeys::unused().unwrap();
                (keys.write(session.id, last as u64, keys.current()).to_string(), None)
            }
            Presented::Ahead => {
                let keys = self.machine.sessions.refresh_keys();
                (keys.write(session.id, last as u64 + 1, keys.current()).to_string(), Some(last + 1))
            }
        }
    }

    async fn refresh(&mut self, place: usize, presented: &Presented) {
        let (text, counter) = self.text(place, presented);
        let (user, id) = (self.model.sessions[place].user, self.model.sessions[place].id);
        if counter.is_some() && self.model.sessions[place].lives() {
            self.skip_wait(user, Some(id), false).await;
        }
        let now = self.clock.wall();
        let result = self.machine.sessions.refresh(&text, now).await;
        let Some(counter) = counter else {
            assert!(matches!(result, Err(RefreshError::Malformed)), "{result:?}");
            return self.count("refused as forged");
        };
        if !self.model.sessions[place].lives() {
            let Err(RefreshError::Ended(reason)) = result else { panic!("not refused: {result:?}") };
            assert!(self.model.sessions[place].ended_for(reason), "{reason:?}: {:?}", self.model.sessions[place]);
            return self.count("refused as ended");
        }
        let told = match &result {
            Err(RefreshError::Ended(reason @ (EndReason::SessionIdle | EndReason::SessionMaxAge))) => Some(*reason),
            _ => None,
        };
        self.model.settle(place, now, told);
        if let Some(reason) = told {
            return self.count(if reason == EndReason::SessionIdle { "ended as idle" } else { "ended for age" });
        }
        let session = &self.model.sessions[place];
        let last = session.counter();
        let in_grace = self.shared || self.model.in_grace(session, now);
        if counter != last && !(counter + 1 == last && in_grace) {
            assert!(
                matches!(result, Err(RefreshError::Ended(EndReason::RefreshReused))),
                "{counter}, {last}: {result:?}"
            );
            self.model.sessions[place].end(EndReason::RefreshReused);
            return self.count(if counter + 1 == last {
                "repeat refused after the grace"
            } else {
                "refused as reused"
            });
        }
        let pair = result.unwrap_or_else(|error| panic!("{counter} of {last}: {error:?}"));
        assert_eq!(pair.repeated, counter != last);
        self.given(place, &pair, now);
    }

    fn given(&mut self, place: usize, pair: &TokenPair, now: UnixTime) {
        let access = Access::of(pair);
        let Known { user, id, created_at, .. } = self.model.sessions[place];
        assert_eq!((pair.session, &pair.user), (id, &self::user(user)));
        let (least, most) = self.model.first_accepted(user, Some(id), now);
        assert!((least..=most).contains(&access.issued_at), "{access:?} in {least} to {most}");
        assert_eq!(access.expires_at, self.model.expiry(created_at, access.issued_at));
        let session = &mut self.model.sessions[place];
        session.access.push(access);
        if pair.repeated {
            assert_eq!(session.refresh.last(), Some(&*pair.refresh_token), "another successor");
            return self.count("repeated");
        }
        session.rotated_at = now;
        session.refresh.push(pair.refresh_token.to_string());
        let counter = session.counter();
        assert_eq!(self.texts.insert(pair.refresh_token.to_string(), (place, counter)), None, "a token given twice");
        self.count("refreshed");
    }

    /// As a worker does it: the verdict from memory, then the note, then the store where memory does not vouch.
    async fn request(&mut self, place: usize, token: &Index) {
        let now = self.clock.wall();
        let session = &self.model.sessions[place];
        let token = session.access[token.index(session.access.len())].clone();
        let (id, lives) = (session.id, session.lives());
        let sessions = self.machine.sessions.clone();
        let verified = match self.machine.identify(&token.text, now, true) {
            Ok(verified) if lives || !self.is_unknown(&token) => verified,
            _ => return self.count("request refused"),
        };
        let proof = crate::gateway::authenticate::needs_proof(&verified, sessions.revocations());
        let told = if proof || sessions.touch(id, now) == Touch::AskStore {
            sessions.confirm_active(id, now).await.unwrap()
        } else {
            None
        };
        if !lives {
            assert!(told.is_some(), "served although it is over");
            return self.count("request refused");
        }
        // No token outlives its session by more than the leeway: its age is not looked at on every request.
        if told.is_some() || self.model.is_due(&self.model.sessions[place], now) != Due::Yes(EndReason::SessionMaxAge) {
            self.model.settle(place, now, told);
        }
        match told {
            Some(_) => self.count("request refused"),
            None => {
                let session = &mut self.model.sessions[place];
                session.seen = session.seen.max(now);
                self.count("request served");
            }
        }
    }

    async fn end_user(&mut self, user: usize, except: Option<crate::ids::SessionId>, reason: EndReason) {
        let now = self.clock.wall();
        let ended = self.machine.sessions.end_user(&self::user(user), except, reason, now).await.unwrap();
        assert_eq!(ended, self.model.end_user(user, except, reason, now));
        self.count("ended by user");
    }

    /// Requests are written before so much time has passed that a gateway would have done it.
    async fn pass(&mut self, by: Duration) {
        if self.clock.truth.plus(by).since(self.flushed_at) >= self.model.policy.flush_interval() {
            self.flush().await;
        }
        self.clock.truth = self.clock.truth.plus(by);
        let reloaded = self.machine.sessions.refresh_keys().reload(self.clock.wall());
        assert!(reloaded.is_ok(), "{reloaded:?}");
    }

    async fn flush(&mut self) {
        self.machine.sessions.flush_activity(self.clock.wall()).await.unwrap();
        self.flushed_at = self.clock.truth;
        self.model.sessions.iter_mut().for_each(|session| session.stored = session.seen);
    }

    async fn sweep(&mut self) {
        let now = self.clock.steady();
        let ended = self.machine.sessions.sweep(now).await.unwrap();
        let mut wanted = 0;
        for place in 0..self.model.sessions.len() {
            if !self.model.sessions[place].lives() {
                continue;
            }
            let id = self.model.sessions[place].id;
            let there = self.machine.sessions.find(&id).await.unwrap().is_some();
            let reason = self.machine.sessions.revocations().session_reason(&id.into());
            assert_eq!(there, reason.is_none());
            self.model.settle(place, now, reason);
            wanted += usize::from(!there);
        }
        assert_eq!(ended, wanted);
        self.count("swept");
    }

    async fn purge(&mut self) {
        let now = self.clock.steady();
        self.machine.sessions.purge_revocations(now).await.unwrap();
        self.model.purge(now);
        self.purged = self.purged.max(now);
        self.machine.sessions.revocations().export(|entry| {
            // Rounded up to seconds in memory.
            assert!(entry.expires_at().plus(Duration::from_secs(1)) >= now, "not purged at {now}: {entry:?}");
        });
        self.count("purged");
    }

    fn purge_keys(&mut self) {
        let now = self.clock.steady();
        self.machine.signing.purge_retired(now, self.model.policy.access_token_ttl).unwrap();
        if self.clock.was_wrong {
            return;
        }
        for token in self.model.sessions.iter().flat_map(|session| &session.access) {
            let needed = now <= UnixTime::from_secs(token.expires_at).plus(LEEWAY);
            assert!(!needed || self.machine.has_key(&token.kid), "the key of a good token is gone: {token:?}");
        }
    }
}

fn foreign(name: u8) -> SessionName {
    SessionName::parse(&format!("foreign-{name}")).unwrap()
}

/// What holds after every step.
impl Run {
    pub(super) async fn agree(&self, number: usize, step: &Operation) {
        let now = self.clock.wall();
        let context = format!("after step {number}, {step:?}, at {now}");
        for user in Reference::users() {
            let page = self.machine.sessions.list(&self::user(user), None, 1000).await.unwrap();
            let listed: Vec<_> = page.sessions.iter().map(|row| (row.id, row.counter)).collect();
            let sessions = &self.model.sessions;
            let wanted: Vec<_> = self.model.of(user).into_iter().map(|it| &sessions[it]).collect();
            let wanted: Vec<_> = wanted.iter().map(|session| (session.id, session.counter() as u64)).collect();
            assert_eq!(listed, wanted, "{context}: the list of user {user}");
            self.foreign_tokens(user, &context);
        }
        for (place, session) in self.model.sessions.iter().enumerate() {
            for (which, token) in session.access.iter().enumerate() {
                // The signature once in a while: it costs more than all the rest.
                let cold = (number + which + place).is_multiple_of(8);
                for warm in [true, false].into_iter().filter(|warm| *warm || cold) {
                    let refused = self.machine.refusal(&token.text, now, warm).await;
                    let what = format!("{context}: token {which} of session {place}, warm {warm}: {refused:?}");
                    self.verdict(session, token, refused.as_deref(), &what);
                }
            }
        }
        for (name, _) in &self.model.foreign {
            let reason = self.machine.sessions.revocations().session_reason(&foreign(*name));
            assert_eq!(reason, Some(EndReason::SecurityAction), "{context}");
        }
    }

    fn verdict(&self, session: &Known, token: &Access, refused: Option<&str>, what: &str) {
        let now = self.clock.wall();
        if session.lives() {
            let good = is_of_now(token.issued_at, token.expires_at, now) && self.machine.has_key(&token.kid);
            assert!(refused.is_none() || !good, "a good token is refused: {what}");
            let expired = UnixTime::from_secs(token.expires_at).plus(LEEWAY) < now;
            assert!(refused.is_some() || !expired, "an expired token is accepted: {what}");
            return;
        }
        assert!(refused.is_some() || self.is_unknown(token), "a token of an ended session is accepted: {what}");
        // Of several orders for one user, the latest gives the reason for all.
        let ordered = |reason| self.model.orders.iter().any(|it| it.user == session.user && it.reason == reason);
        if let Some(reason) = refused.and_then(EndReason::from_str) {
            assert!(session.ended_for(reason) || ordered(reason), "another reason: {what}: {session:?}");
        }
    }

    /// What was forgotten by an earlier life of the process is not known to this one: a clock that is set back behind
    /// that moment and a restart are two faults at once.
    fn is_unknown(&self, token: &Access) -> bool {
        UnixTime::from_secs(token.expires_at).plus(LEEWAY) < self.forgotten
    }

    /// Tokens that a trusted issuer gave to `user`, around every second there was an order for.
    fn foreign_tokens(&self, user: usize, context: &str) {
        let theirs = SessionName::parse("theirs").unwrap();
        let orders = self.model.orders.iter().filter(|order| order.user == user);
        for issued_at in orders.flat_map(|order| [order.until, order.until + 1]) {
            let at = UnixTime::from_secs(issued_at);
            let refused = self.machine.sessions.revocations().check(&theirs, &self::user(user), at).is_some();
            let (surely, perhaps) = self.model.refuses_user(user, issued_at);
            assert!(refused || !surely, "{context}: a foreign token of user {user} at {issued_at} is accepted");
            assert!(!refused || perhaps, "{context}: a foreign token of user {user} at {issued_at} is refused");
        }
    }
}
