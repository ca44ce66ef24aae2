//! The shared store: sessions in Redis or Valkey, for any number of gateways.
//!
//! `keys` says where things stand, `link` finds the server and talks to it, `transaction` carries operations out, `feed`
//! keeps the revocations current, `give_back` stores again what the server has forgotten. What the operations mean is
//! `super::draft`, as for the embedded store.

mod feed;
mod give_back;
mod keys;
mod link;
mod transaction;

use std::collections::HashMap;
use std::num::NonZeroU32;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use fjall::Slice;
use redis::Value;
use tokio::runtime::Handle;
use tokio::sync::{Semaphore, mpsc};
use tokio::task::JoinSet;
use tokio::time::Instant;

use self::give_back::GiveBack;
use self::keys::{PARTS, Part};
use self::link::{Link, Script};
use self::transaction::{Outcome, Read, RowLife, Transactions, UNREADABLE, bytes, millis, pointer};
use super::{
    Change, Decide, EndUser, ListPosition, ScanPage, ScanPosition, SessionStore, StoreError, StoreFuture, Updated,
    record,
};
use crate::clock::UnixTime;
use crate::config::Redis;
use crate::ids::{SessionId, UserId};
use crate::revocation::{Freshness, Revocation, Revocations};
use crate::session::{Session, SessionPolicy};

/// How long a start waits for a complete snapshot before it gives up.
const OPEN_DEADLINE: Duration = Duration::from_secs(10);
/// Operations under way at once. More are refused: each holds a request.
const MOST_BUSY: usize = 4096;
/// Rows of a touch or purge in one call: about a millisecond of the server.
const CALL_CHUNK: usize = 512;
/// A feed that stands still for so long is a store that cannot be reached.
const UNREACHABLE_AFTER: Duration = Duration::from_secs(3);

/// Why the shared store cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RedisOpenError {
    /// `store.ca` cannot be read.
    #[error("cannot read store.ca")]
    Ca(#[source] std::io::Error),
    /// The system has no random bytes.
    #[error("no random bytes from the system")]
    NoRandomness,
    /// The store was reached and says no: another password, or a user without the permissions.
    #[error("cannot read the revocations from {store}")]
    Refused {
        /// Which store.
        store: String,
        /// What it says.
        #[source]
        cause: StoreError,
    },
    /// The revocations could not be had in time, and without them nobody can be judged.
    #[error("cannot read the revocations from {store} within {} s", OPEN_DEADLINE.as_secs())]
    NotInTime {
        /// Which store.
        store: String,
        /// What came in the way last.
        #[source]
        cause: StoreError,
    },
}

/// Sessions in Redis, shared with other gateways.
pub struct RedisStore {
    core: Arc<Core>,
    runtime: Handle,
    tasks: Mutex<JoinSet<()>>,
}

impl std::fmt::Debug for RedisStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RedisStore").field("health", &self.health()).finish_non_exhaustive()
    }
}

/// What operations and tasks share.
struct Core {
    link: Arc<Link>,
    transactions: Transactions,
    revocations: Arc<Revocations>,
    freshness: Arc<Freshness>,
    /// Names this process in the feed.
    gateway: String,
    /// When a beat of another gateway was read last.
    others: Mutex<Option<Instant>>,
    give_back: GiveBack,
    trouble: Mutex<Option<StoreError>>,
    closed: AtomicBool,
    busy: Arc<Semaphore>,
    touch: Script,
    purge: Script,
}

impl RedisStore {
    /// Connects, puts every stored revocation into `revocations`, and keeps them current from then on.
    ///
    /// # Errors
    /// [`RedisOpenError`] when that was not possible within ten seconds.
    pub async fn open(
        config: &Redis,
        policy: &SessionPolicy,
        revocations: Arc<Revocations>,
    ) -> Result<Self, RedisOpenError> {
        Self::open_with(config, policy, revocations, feed::LONGEST_BREAK).await
    }

    async fn open_with(
        config: &Redis,
        policy: &SessionPolicy,
        revocations: Arc<Revocations>,
        longest_break: Duration,
    ) -> Result<Self, RedisOpenError> {
        let link = Arc::new(Link::new(config).map_err(RedisOpenError::Ca)?);
        let mut name = [0; 16];
        // Two gateways of one name would take each other's beats for their own.
        aws_lc_rs::rand::fill(&mut name).map_err(|_opaque| RedisOpenError::NoRandomness)?;
        let core = Arc::new(Core {
            transactions: Transactions::new(link.clone(), RowLife::of(policy)),
            link,
            revocations,
            freshness: Arc::new(Freshness::new(PARTS, config.replicas > 0, config.max_revocation_lag)),
            gateway: SessionId::from_bytes(name).to_string(),
            others: Mutex::default(),
            give_back: GiveBack::default(),
            trouble: Mutex::default(),
            closed: AtomicBool::new(false),
            busy: Arc::new(Semaphore::new(MOST_BUSY)),
            touch: Script::new(include_str!("scripts/touch.lua")),
            purge: Script::new(include_str!("scripts/purge.lua")),
        });
        let (sender, mut synced) = mpsc::unbounded_channel();
        let tasks = feed::start(&core, longest_break, &sender);
        let complete = async {
            for _ in 0..PARTS {
                synced.recv().await.unwrap_or(Err(StoreError::Closed))?;
            }
            Ok(())
        };
        let store = || config.urls().join(", ");
        match tokio::time::timeout(OPEN_DEADLINE, complete).await {
            Ok(Ok(())) => {}
            Ok(Err(cause)) => return Err(RedisOpenError::Refused { store: store(), cause }),
            Err(_late) => {
                let cause = core.trouble().unwrap_or(StoreError::Timeout);
                return Err(RedisOpenError::NotInTime { store: store(), cause });
            }
        }
        Ok(Self { core, runtime: Handle::current(), tasks: Mutex::new(tasks) })
    }

    /// Whether another gateway uses the same store: its beats are read, at least two in this time.
    pub async fn has_others(&self) -> bool {
        tokio::time::sleep(feed::BEAT_INTERVAL * 3).await;
        let seen = *self.core.others.lock().unwrap_or_else(PoisonError::into_inner);
        seen.is_some_and(|at| at.elapsed() < feed::BEAT_INTERVAL * 2)
    }

    /// Carries an operation out, also when nobody waits for it any more.
    fn started<T, F>(&self, operation: F) -> StoreFuture<'_, T>
    where
        T: Send + 'static,
        F: Future<Output = Result<T, StoreError>> + Send + 'static,
    {
        let core = self.core.clone();
        let begun = self
            .core
            .open()
            .and_then(|()| core.busy.clone().try_acquire_owned().map_err(|_full| StoreError::Overloaded));
        match begun {
            Err(error) => Box::pin(async { Err(error) }),
            Ok(permit) => {
                let running = self.runtime.spawn(async move {
                    let _permit = permit;
                    operation.await
                });
                // It panicked or the runtime is going away: nobody knows how far it came.
                Box::pin(async { running.await.unwrap_or(Err(StoreError::Closed)) })
            }
        }
    }
}

impl Core {
    fn open(&self) -> Result<(), StoreError> {
        if self.closed.load(Ordering::Acquire) { Err(StoreError::Closed) } else { Ok(()) }
    }

    fn feed_trouble(&self, error: StoreError) {
        *self.trouble.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
    }

    /// What came in the way last.
    fn trouble(&self) -> Option<StoreError> {
        self.link.trouble().or_else(|| self.trouble.lock().unwrap_or_else(PoisonError::into_inner).clone())
    }

    /// In memory before anyone is told: whoever acknowledges an end refuses it from then on.
    fn publish(&self, revoked: &[Revocation]) {
        if revoked.is_empty() {
            return;
        }
        self.insert(revoked);
        self.give_back.acknowledged(revoked);
    }

    fn insert(&self, revoked: &[Revocation]) {
        revoked.iter().for_each(|revocation| self.revocations.insert(revocation));
    }

    async fn create(&self, session: Session, most: Option<NonZeroU32>) -> Result<Vec<SessionId>, StoreError> {
        let part = Part::of_user(&session.user);
        if Part::of_session(session.id) != part {
            // Made by another store, which did not know of parts.
            self.point(&session, part).await?;
        }
        let mut hints = vec![Read::Row(session.id), Read::Revocation(record::user_end_key(&session.user))];
        if most.is_some() {
            hints.push(Read::Users(record::user_prefix(&session.user)));
        }
        let create = |draft: &mut super::draft::Draft<'_>| {
            // Another gateway may have ended all of the user's sessions in this very second. The first token must be
            // dated behind that, so it must be known here, whether or not the feed has told yet.
            let end = draft.user_end(&session.user)?;
            Ok((draft.create(&session, most)?, end))
        };
        match self.transactions.run(part, hints, create, |revoked| self.publish(revoked)).await? {
            Outcome::Done((evicted, end)) => {
                for order in end.into_iter().flat_map(|end| end.orders(&session.user)) {
                    self.revocations.insert(&order);
                }
                Ok(evicted)
            }
            Outcome::Elsewhere(_) => Err(StoreError::Corrupt("session that exists already")),
        }
    }

    /// Leaves word of a session where its id says that it is.
    async fn point(&self, session: &Session, part: Part) -> Result<(), StoreError> {
        let derived = Part::of_session(session.id);
        let key = self.link.keys().session(derived, session.id);
        let (_, life) = self.transactions.life().millis();
        let mut set = redis::cmd("SET");
        set.arg(&key).arg(&pointer(part)).arg("NX");
        if life > 0 {
            set.arg("PXAT").arg(session.created_at.as_millis().saturating_add(life));
        }
        let mut pipe = redis::pipe();
        pipe.add_command(set).add_command(redis::cmd("GET").arg(&key).take());
        let deadline = self.transactions.deadline();
        match self.link.call_again(derived, &pipe, deadline).await?.as_slice() {
            // Or it has had its time and is gone already, as the row will be.
            [_, Value::BulkString(there)] if **there == pointer(part) => Ok(()),
            [Value::Okay, Value::Nil] => Ok(()),
            [_, _] => Err(StoreError::Corrupt("session that exists already")),
            _ => Err(UNREADABLE),
        }
    }

    async fn update(&self, id: SessionId, decide: &Decide) -> Result<Updated, StoreError> {
        let update = |draft: &mut super::draft::Draft<'_>| {
            match self.revocations.session_reason(&id.into()) {
                None => draft.update(id, decide),
                // A server that lost its last writes has the row back of a session that has ended. It stays ended.
                Some(reason) => {
                    let Updated { ended, .. } = draft.update(id, &end_always(reason))?;
                    Ok(Updated { before: None, change: Change::Keep, ended: ended.or(Some(reason)) })
                }
            }
        };
        let mut part = Part::of_session(id);
        for _ in 0..2 {
            let hints = vec![
                Read::Row(id),
                Read::Revocation(record::session_end_key(&id.into())),
                Read::Revocation(record::ended_key(id)),
            ];
            match self.transactions.run(part, hints, update, |revoked| self.publish(revoked)).await? {
                Outcome::Done(updated) => return Ok(updated),
                Outcome::Elsewhere(elsewhere) => part = elsewhere,
            }
        }
        Err(StoreError::Corrupt("pointer to a pointer"))
    }

    async fn find(&self, id: SessionId) -> Result<Option<Session>, StoreError> {
        self.transactions.row(id).await?.map(|row| record::decode_session(id, &row)).transpose()
    }

    async fn end_user(&self, end: EndUser) -> Result<Vec<SessionId>, StoreError> {
        let hints =
            vec![Read::Users(record::user_prefix(&end.user)), Read::Revocation(record::user_end_key(&end.user))];
        let operation = |draft: &mut super::draft::Draft<'_>| draft.end_user(&end);
        self.here(Part::of_user(&end.user), hints, operation).await
    }

    async fn revoke(&self, revocations: &[Revocation], part: Part) -> Result<(), StoreError> {
        let operation = |draft: &mut super::draft::Draft<'_>| {
            revocations.iter().try_for_each(|revocation| draft.revoke(revocation.clone()))
        };
        self.here(part, give_back::hints(revocations), operation).await
    }

    /// An operation that is about no row that could be elsewhere.
    async fn here<T>(
        &self,
        part: Part,
        hints: Vec<Read>,
        operation: impl Fn(&mut super::draft::Draft<'_>) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        match self.transactions.run(part, hints, operation, |revoked| self.publish(revoked)).await? {
            Outcome::Done(done) => Ok(done),
            Outcome::Elsewhere(_) => Err(StoreError::Corrupt("pointer among a user's sessions")),
        }
    }

    /// Keys of users in a part from `from` to `to`, as `ZRANGEBYLEX` has them.
    async fn users(&self, part: Part, from: &[u8], to: &[u8], most: usize) -> Result<Vec<Slice>, StoreError> {
        let range = redis::cmd("ZRANGEBYLEX")
            .arg(self.link.keys().by_user(part))
            .arg(from)
            .arg(to)
            .arg("LIMIT")
            .arg(0)
            .arg(most)
            .take();
        let mut pipe = redis::pipe();
        pipe.add_command(range);
        let mut answer = self.link.call_again(part, &pipe, self.transactions.deadline()).await?;
        let Some(Value::Array(members)) = answer.pop() else { return Err(UNREADABLE) };
        members.into_iter().map(|member| bytes(member)?.ok_or(UNREADABLE)).collect()
    }

    /// The sessions of these keys of users; those whose rows have gone by themselves are forgotten.
    async fn sessions(&self, part: Part, keys: &[Slice]) -> Result<Vec<Session>, StoreError> {
        let ids = keys.iter().map(|key| record::session_of_user_key(key)).collect::<Result<Vec<_>, _>>()?;
        let rows = self.transactions.rows(part, &ids).await?;
        let mut sessions = Vec::with_capacity(rows.len());
        let mut gone = Vec::new();
        for ((key, id), row) in keys.iter().zip(ids).zip(rows) {
            match row {
                Some(row) => sessions.push(record::decode_session(id, &row)?),
                None => gone.push(key.clone()),
            }
        }
        if !gone.is_empty() {
            self.here(part, Vec::new(), |draft| draft.forget_expired(&gone)).await?;
        }
        Ok(sessions)
    }

    async fn list(&self, user: &UserId, after: Option<ListPosition>, limit: usize) -> Result<Vec<Session>, StoreError> {
        let part = Part::of_user(user);
        let prefix = record::user_prefix(user);
        let to = [b"[", &prefix[..], &[0xff; 25]].concat();
        let mut from = match after {
            Some(after) => [b"(", &record::user_key(user, after.created_at, after.id)[..]].concat(),
            None => [b"[", &prefix[..]].concat(),
        };
        let mut found = Vec::new();
        loop {
            let wanted = limit - found.len();
            let keys = self.users(part, &from, &to, wanted).await?;
            found.extend(self.sessions(part, &keys).await?);
            match keys.last() {
                Some(last) if keys.len() == wanted && found.len() < limit => from = [b"(", &last[..]].concat(),
                _ => return Ok(found),
            }
        }
    }

    async fn scan(&self, after: Option<ScanPosition>, limit: usize) -> Result<ScanPage, StoreError> {
        let bad = StoreError::Corrupt("position of a scan");
        let (index, key) = match &after {
            None => (0, &[][..]),
            Some(ScanPosition(bytes)) => bytes.split_first().map(|(part, key)| (*part, key)).ok_or(bad.clone())?,
        };
        let part = Part::from_index(index).ok_or(bad)?;
        let from = if key.is_empty() { b"-".to_vec() } else { [b"(", key].concat() };
        let keys = self.users(part, &from, b"+", limit).await?;
        let sessions = self.sessions(part, &keys).await?;
        let next = match keys.last() {
            Some(last) if keys.len() == limit => Some([&[index], &last[..]].concat()),
            _ => Part::from_index(index + 1).map(|_| vec![index + 1]),
        };
        Ok(ScanPage { sessions, next: next.map(ScanPosition) })
    }

    async fn touch(self: Arc<Self>, seen: Vec<(SessionId, UnixTime)>) -> Result<(), StoreError> {
        let mut parts: HashMap<Part, Vec<(SessionId, UnixTime)>> = HashMap::new();
        seen.into_iter().for_each(|(id, at)| parts.entry(Part::of_session(id)).or_default().push((id, at)));
        for _ in 0..2 {
            let mut touching = JoinSet::new();
            for (part, seen) in std::mem::take(&mut parts) {
                let core = self.clone();
                touching.spawn(async move { core.touch_in(part, &seen).await });
            }
            for elsewhere in touching.join_all().await {
                elsewhere?.into_iter().for_each(|(part, one)| parts.entry(part).or_default().push(one));
            }
        }
        Ok(())
    }

    /// Returns those that are in another part.
    async fn touch_in(
        &self,
        part: Part,
        seen: &[(SessionId, UnixTime)],
    ) -> Result<Vec<(Part, (SessionId, UnixTime))>, StoreError> {
        let (idle, life) = self.transactions.life().millis();
        let mut elsewhere = Vec::new();
        for chunk in seen.chunks(CALL_CHUNK) {
            let keys: Vec<_> = chunk.iter().map(|(id, _)| self.link.keys().session(part, *id)).collect();
            let mut words = vec![idle.to_string().into_bytes(), life.to_string().into_bytes()];
            words.extend(chunk.iter().map(|(_, at)| at.as_millis().to_be_bytes().to_vec()));
            let deadline = self.transactions.deadline();
            let answer = self.transactions.repeat(part, &self.touch, &keys, &words, deadline).await?;
            let Value::Array(places) = answer else { return Err(UNREADABLE) };
            for (one, place) in chunk.iter().zip(places) {
                let Value::Int(place) = place else { return Err(UNREADABLE) };
                elsewhere.extend(u8::try_from(place).ok().and_then(Part::from_index).map(|part| (part, *one)));
            }
        }
        Ok(elsewhere)
    }

    async fn purge(&self, now: UnixTime) -> Result<usize, StoreError> {
        let words = [now.as_millis().to_string().into_bytes(), CALL_CHUNK.to_string().into_bytes()];
        let mut total = 0;
        for part in Part::all() {
            let keys = [self.link.keys().revocations(part), self.link.keys().expiry(part)];
            loop {
                let deadline = self.transactions.deadline();
                let answer = self.transactions.repeat(part, &self.purge, &keys, &words, deadline).await?;
                let Value::Int(gone) = answer else { return Err(UNREADABLE) };
                let gone = usize::try_from(gone).unwrap_or_default();
                total += gone;
                if gone < CALL_CHUNK {
                    break;
                }
            }
        }
        Ok(total)
    }

    async fn leads(&self, period: Duration) -> Result<bool, StoreError> {
        let (part, key) = self.link.keys().sweeper();
        // Less than the period, so that the same gateway may be the one the next time.
        let set = redis::cmd("SET").arg(key).arg(&self.gateway).arg("NX").arg("PX").arg(millis(period * 9 / 10)).take();
        let mut pipe = redis::pipe();
        pipe.add_command(set);
        let answer = self.link.call(part, &pipe, None, self.transactions.deadline()).await.map_err(StoreError::from)?;
        Ok(matches!(answer.as_slice(), [Value::Okay]))
    }
}

fn end_always(reason: crate::revocation::EndReason) -> Decide {
    Box::new(move |row, _| row.map_or(Change::Keep, |_| Change::End(reason)))
}

impl SessionStore for RedisStore {
    fn create(&self, session: Session, max_per_user: Option<NonZeroU32>) -> StoreFuture<'_, Vec<SessionId>> {
        let core = self.core.clone();
        self.started(async move { core.create(session, max_per_user).await })
    }

    fn update(&self, id: SessionId, decide: Decide) -> StoreFuture<'_, Updated> {
        let core = self.core.clone();
        self.started(async move { core.update(id, &decide).await })
    }

    fn find(&self, id: SessionId) -> StoreFuture<'_, Option<Session>> {
        let core = self.core.clone();
        self.started(async move { core.find(id).await })
    }

    fn list(&self, user: &UserId, after: Option<ListPosition>, limit: usize) -> StoreFuture<'_, Vec<Session>> {
        let (core, user) = (self.core.clone(), user.clone());
        self.started(async move { core.list(&user, after, limit).await })
    }

    fn end_user(&self, end: EndUser) -> StoreFuture<'_, Vec<SessionId>> {
        let core = self.core.clone();
        self.started(async move { core.end_user(end).await })
    }

    fn touch(&self, seen: Vec<(SessionId, UnixTime)>) -> StoreFuture<'_, ()> {
        let core = self.core.clone();
        self.started(async move { core.touch(seen).await })
    }

    fn revoke(&self, revocation: Revocation) -> StoreFuture<'_, ()> {
        let core = self.core.clone();
        self.started(async move {
            let part = Part::of_revocation(&revocation);
            core.revoke(&[revocation], part).await
        })
    }

    fn purge_revocations(&self, now: UnixTime) -> StoreFuture<'_, usize> {
        let core = self.core.clone();
        self.started(async move { core.purge(now).await })
    }

    fn scan(&self, after: Option<ScanPosition>, limit: usize) -> StoreFuture<'_, ScanPage> {
        let core = self.core.clone();
        self.started(async move { core.scan(after, limit).await })
    }

    fn place(&self, user: &UserId, random: SessionId) -> SessionId {
        Part::of_user(user).place(random)
    }

    fn freshness(&self) -> Option<&Arc<Freshness>> {
        Some(&self.core.freshness)
    }

    fn leads_sweep(&self, period: Duration) -> StoreFuture<'_, bool> {
        let core = self.core.clone();
        self.started(async move { core.leads(period).await })
    }

    fn revocations(&self) -> &Arc<Revocations> {
        &self.core.revocations
    }

    fn health(&self) -> Result<(), StoreError> {
        self.core.open()?;
        if self.core.freshness.lag() < UNREACHABLE_AFTER {
            return Ok(());
        }
        Err(self.core.trouble().unwrap_or(StoreError::Timeout))
    }

    fn close(&self) -> StoreFuture<'_, ()> {
        if let Err(error) = self.core.open() {
            return Box::pin(async { Err(error) });
        }
        self.core.closed.store(true, Ordering::Release);
        self.tasks.lock().unwrap_or_else(PoisonError::into_inner).abort_all();
        // What was started has its deadline.
        let (busy, most) = (self.core.busy.clone(), MOST_BUSY as u32);
        Box::pin(async move {
            drop(busy.acquire_many_owned(most).await);
            Ok(())
        })
    }
}

#[cfg(test)]
pub(crate) mod tests;
