//! The operations of every store, over a draft: what they have changed so far, and the rows below.
//!
//! The embedded store drafts a batch over its tables and commits it with one fsync; the shared one drafts an operation
//! over the rows it has fetched and commits it if they are still what they were. What an operation means stands here,
//! once.

use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::ops::Bound;
use std::time::Duration;

use fjall::Slice;

use super::{Change, Decide, EndUser, StoreError, Updated, record};
use crate::clock::{LEEWAY, UnixTime};
use crate::ids::{SessionId, SessionName, UserId};
use crate::revocation::{EndReason, Revocation, UserEnd};
use crate::session::Session;

/// How long the end of a session is kept at least, though all its tokens have expired.
///
/// What was opened with a token may last longer than the token (`on_token_expiry = "keep"`), and ends because its
/// gateway finds the end among the revocations: it looks five times a second, and other gateways learn of an end within
/// seconds. An entry that a purge may take at once could be gone before.
const LEAST_LIFE: Duration = Duration::from_secs(60);

/// The kinds of rows.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Table {
    /// Session id → row.
    Sessions,
    /// User, creation and session id → nothing.
    ByUser,
    /// Kind and name → when it may go, why, what.
    Revocations,
    /// Expiry and key of a revocation → nothing: what a purge may take.
    Expiry,
}

/// What a draft is made over.
pub(super) trait Rows {
    /// The value of a key.
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Slice>, StoreError>;

    /// All keys of [`Table::ByUser`] with `prefix`, in order.
    fn keys_with(&self, prefix: &[u8]) -> Result<Vec<Slice>, StoreError>;

    /// Says which keys will be asked for, so that a store across a network can fetch them at once.
    fn announce(&self, _wanted: &mut dyn Iterator<Item = (Table, Vec<u8>)>) -> Result<(), StoreError> {
        Ok(())
    }

    /// The time by the clock that all gateways of a shared store go by.
    fn clock(&self) -> Option<UnixTime> {
        None
    }

    /// The time as well as it is known here.
    fn now(&self) -> UnixTime {
        self.clock().unwrap_or_else(UnixTime::now)
    }

    /// Whether a row of [`Table::Sessions`] can go by itself and leave its key in [`Table::ByUser`] behind.
    fn rows_expire(&self) -> bool {
        false
    }
}

/// In the order of their discriminants.
pub(super) const TABLES: [Table; 4] = [Table::Sessions, Table::ByUser, Table::Revocations, Table::Expiry];

/// Value or absence of a key, as it will be once the batch is committed.
pub(super) type Written = BTreeMap<Slice, Option<Slice>>;

/// The changes of one batch, visible to the operations that follow in it and to nobody else before the commit.
pub(super) struct Draft<'a> {
    rows: &'a dyn Rows,
    written: [Written; TABLES.len()],
    revoked: Vec<Revocation>,
    /// What was in `written` before, so that an operation that fails half-way leaves nothing behind.
    undo: Vec<(Table, Slice, Option<Option<Slice>>)>,
}

impl<'a> Draft<'a> {
    pub(super) fn new(rows: &'a dyn Rows) -> Self {
        Self { rows, written: Default::default(), revoked: Vec::new(), undo: Vec::new() }
    }

    /// Runs one operation; when it fails the draft is as before.
    pub(super) fn attempt<T>(
        &mut self,
        operation: impl FnOnce(&mut Self) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let revoked = self.revoked.len();
        self.undo.clear();
        let result = operation(self);
        if result.is_err() {
            self.revoked.truncate(revoked);
            while let Some((table, key, before)) = self.undo.pop() {
                match before {
                    Some(value) => self.written[table as usize].insert(key, value),
                    None => self.written[table as usize].remove(&key),
                };
            }
        }
        result
    }

    /// Whether there is anything to commit.
    pub(super) fn is_empty(&self) -> bool {
        self.written.iter().all(BTreeMap::is_empty)
    }

    /// The changes by [`Table`], for one atomic write, and the revocations to publish once that is durable.
    pub(super) fn finish(self) -> ([Written; TABLES.len()], Vec<Revocation>) {
        (self.written, self.revoked)
    }

    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Slice>, StoreError> {
        match self.written[table as usize].get(key) {
            Some(value) => Ok(value.clone()),
            None => self.rows.get(table, key),
        }
    }

    fn write(&mut self, table: Table, key: &[u8], value: Option<Slice>) {
        let key = Slice::from(key);
        let before = self.written[table as usize].insert(key.clone(), value);
        self.undo.push((table, key, before));
    }

    fn put(&mut self, table: Table, key: &[u8], value: Vec<u8>) {
        self.write(table, key, Some(value.into()));
    }

    fn remove(&mut self, table: Table, key: &[u8]) {
        self.write(table, key, None);
    }

    /// All keys of `by_user` with `prefix`, in order.
    fn keys_with(&self, prefix: &[u8]) -> Result<Vec<Slice>, StoreError> {
        let mut keys: BTreeMap<Slice, bool> = self.rows.keys_with(prefix)?.into_iter().map(|key| (key, true)).collect();
        let from = (Bound::Included(prefix), Bound::Unbounded);
        for (key, value) in self.written[Table::ByUser as usize].range::<[u8], _>(from) {
            if !key.starts_with(prefix) {
                break;
            }
            keys.insert(key.clone(), value.is_some());
        }
        Ok(keys.into_iter().filter_map(|(key, there)| there.then_some(key)).collect())
    }

    fn session(&self, id: SessionId) -> Result<Option<Session>, StoreError> {
        self.get(Table::Sessions, id.as_bytes())?.map(|row| record::decode_session(id, &row)).transpose()
    }

    /// Those keys of [`Table::ByUser`] whose rows are there; the others are removed.
    fn without_expired(&mut self, keys: Vec<Slice>) -> Result<Vec<Slice>, StoreError> {
        if !self.rows.rows_expire() {
            return Ok(keys);
        }
        let ids = keys.iter().map(|key| record::session_of_user_key(key)).collect::<Result<Vec<_>, _>>()?;
        self.rows.announce(&mut ids.iter().map(|id| (Table::Sessions, id.as_bytes().to_vec())))?;
        let mut kept = Vec::with_capacity(keys.len());
        for (key, id) in keys.into_iter().zip(ids) {
            if self.get(Table::Sessions, id.as_bytes())?.is_some() {
                kept.push(key);
            } else {
                self.remove(Table::ByUser, &key);
            }
        }
        Ok(kept)
    }

    /// Removes keys of [`Table::ByUser`] whose rows have gone by themselves.
    pub(super) fn forget_expired(&mut self, keys: &[Slice]) -> Result<(), StoreError> {
        self.without_expired(keys.to_vec()).map(drop)
    }

    fn delete(&mut self, session: &Session) {
        self.remove(Table::Sessions, session.id.as_bytes());
        self.remove(Table::ByUser, &record::user_key(&session.user, session.created_at, session.id));
    }

    /// Writes a record of `revocations` and where a purge finds it. A place for an earlier expiry stays; the purge sees
    /// from the record that it is no longer true.
    fn put_revocation(&mut self, key: &[u8], record: Vec<u8>) -> Result<(), StoreError> {
        self.put(Table::Expiry, &record::expiry_key(record::expiry_of(&record)?, key), Vec::new());
        self.put(Table::Revocations, key, record);
        Ok(())
    }

    fn put_end(&mut self, key: &[u8], reason: EndReason, expires_at: UnixTime) -> Result<(), StoreError> {
        let (mut reason, mut expires_at) = (reason, expires_at);
        if let Some(old) = self.get(Table::Revocations, key)? {
            let (old_reason, old_expiry) = record::decode_end(&old)?;
            // The first reason is why it ended, and no entry is ever shortened.
            reason = if old_reason == EndReason::Ended { reason } else { old_reason };
            expires_at = expires_at.max(old_expiry);
        }
        let record = record::encode_end(reason, expires_at);
        if self.get(Table::Revocations, key)?.as_deref() == Some(&record[..]) {
            return Ok(());
        }
        self.put_revocation(key, record)
    }

    /// Deletes the row and refuses its tokens until the last one must have expired, but for [`LEAST_LIFE`] at least.
    fn end(&mut self, session: &Session, reason: EndReason) -> Result<(), StoreError> {
        self.delete(session);
        let expires_at = session.access_expires_at.plus(LEEWAY).max(self.rows.now().plus(LEAST_LIFE));
        self.revoke(Revocation::Session { session: session.id.into(), reason, expires_at })
    }

    pub(super) fn create(
        &mut self,
        session: &Session,
        max_per_user: Option<NonZeroU32>,
    ) -> Result<Vec<SessionId>, StoreError> {
        // 128 random bits do not meet again; if they do, two users must not share a session.
        if self.get(Table::Sessions, session.id.as_bytes())?.is_some() {
            return Err(StoreError::Corrupt("session that exists already"));
        }
        let mut evicted = Vec::new();
        if let Some(most) = max_per_user {
            let mut keys = self.keys_with(&record::user_prefix(&session.user))?;
            let most = usize::try_from(most.get()).unwrap_or(usize::MAX);
            if keys.len() >= most {
                keys = self.without_expired(keys)?;
            }
            for key in &keys[..(keys.len() + 1).saturating_sub(most).min(keys.len())] {
                let id = record::session_of_user_key(key)?;
                let old = self.session(id)?.ok_or(StoreError::Corrupt("user's session without a row"))?;
                self.end(&old, EndReason::SignedInElsewhere)?;
                evicted.push(id);
            }
        }
        self.put(Table::Sessions, session.id.as_bytes(), record::encode_session(session)?);
        self.put(Table::ByUser, &record::user_key(&session.user, session.created_at, session.id), Vec::new());
        Ok(evicted)
    }

    pub(super) fn update(&mut self, id: SessionId, decide: &Decide) -> Result<Updated, StoreError> {
        let before = self.session(id)?;
        let change = decide(before.as_ref(), self.clock());
        let Some(row) = &before else {
            return Ok(Updated { before, change: Change::Keep, ended: self.end_reason(id)? });
        };
        match &change {
            Change::Keep => {}
            Change::Put(after) => {
                debug_assert!((after.id, &after.user, after.created_at) == (row.id, &row.user, row.created_at));
                self.put(Table::Sessions, id.as_bytes(), record::encode_session(after)?);
            }
            Change::End(reason) => self.end(row, *reason)?,
        }
        Ok(Updated { before, change, ended: None })
    }

    fn end_reason(&self, id: SessionId) -> Result<Option<EndReason>, StoreError> {
        for key in [record::session_end_key(&id.into()), record::ended_key(id)] {
            if let Some(end) = self.get(Table::Revocations, &key)? {
                return Ok(Some(record::decode_end(&end)?.0));
            }
        }
        Ok(None)
    }

    pub(super) fn end_user(&mut self, end: &EndUser) -> Result<Vec<SessionId>, StoreError> {
        let EndUser { user, except, issued_until, reason, mut expires_at } = end.clone();
        let mut excepted: Option<SessionName> = None;
        let mut ended = Vec::new();
        let keys = self.keys_with(&record::user_prefix(&user))?;
        let keys = self.without_expired(keys)?;
        let ids = keys.iter().map(|key| record::session_of_user_key(key)).collect::<Result<Vec<_>, _>>()?;
        self.rows.announce(&mut ids.iter().flat_map(|id| {
            [record::ended_key(*id), record::session_end_key(&(*id).into())].map(|key| (Table::Revocations, key))
        }))?;
        for id in ids {
            // Only a live session of this very user is excepted: naming one that has ended must not revive its tokens.
            if Some(id) == except {
                excepted = Some(id.into());
                continue;
            }
            let row = self.session(id)?.ok_or(StoreError::Corrupt("user's session without a row"))?;
            self.delete(&row);
            let until = row.access_expires_at.plus(LEEWAY);
            if row.access_issued_at.as_secs() > issued_until.as_secs() {
                // The clock was set back since: the user's revocation does not reach this session's last token.
                self.revoke(Revocation::Session { session: id.into(), reason, expires_at: until })?;
            } else {
                expires_at = expires_at.max(until);
                self.put_end(&record::ended_key(id), reason, until)?;
            }
            ended.push(id);
        }
        self.revoke(Revocation::User { user, issued_until, except: excepted, reason, expires_at })?;
        Ok(ended)
    }

    pub(super) fn touch(&mut self, seen: &[(SessionId, UnixTime)]) -> Result<(), StoreError> {
        for (id, seen) in seen {
            if let Some(row) = self.get(Table::Sessions, id.as_bytes())?
                && let Some(row) = record::with_last_seen(&row, *seen)?
            {
                self.put(Table::Sessions, id.as_bytes(), row);
            }
        }
        Ok(())
    }

    pub(super) fn revoke(&mut self, revocation: Revocation) -> Result<(), StoreError> {
        match &revocation {
            Revocation::Session { session, reason, expires_at } => {
                self.put_end(&record::session_end_key(session), *reason, *expires_at)?;
            }
            Revocation::User { user, issued_until, except, reason, expires_at } => {
                let key = record::user_end_key(user);
                let mut end = UserEnd::new(*issued_until, except.clone(), *reason, *expires_at);
                if let Some(old) = self.get(Table::Revocations, &key)? {
                    end = record::decode_user_end(&old)?.union(end);
                }
                self.put_revocation(&key, record::encode_user_end(&end)?)?;
            }
        }
        self.revoked.push(revocation);
        Ok(())
    }

    /// The time by the clock that all gateways of a shared store go by.
    pub(super) fn clock(&self) -> Option<UnixTime> {
        self.rows.clock()
    }

    /// Whether what is stored refuses less than `revocation`, or for a shorter time.
    ///
    /// Stored times are in milliseconds, those of memory in whole seconds, rounded up: they count as equal.
    pub(super) fn lacks(&self, revocation: &Revocation) -> Result<bool, StoreError> {
        let kept = |stored: UnixTime, wanted: UnixTime| stored.as_millis().div_ceil(1000) >= wanted.as_secs();
        match revocation {
            Revocation::Session { session, expires_at, .. } => {
                let stored = self.get(Table::Revocations, &record::session_end_key(session))?;
                let stored = stored.map(|stored| record::decode_end(&stored)).transpose()?;
                Ok(!stored.is_some_and(|(_, stored)| kept(stored, *expires_at)))
            }
            Revocation::User { user, issued_until, except, reason, expires_at } => {
                let Some(stored) = self.user_end(user)? else { return Ok(true) };
                let with = stored.clone().union(UserEnd::new(*issued_until, except.clone(), *reason, *expires_at));
                let refused = |end: &UserEnd| (end.all_until, end.issued_until, end.except.clone());
                Ok(refused(&with) != refused(&stored) || !kept(stored.expires_at, *expires_at))
            }
        }
    }

    /// The end of all of a user's sessions that is stored; from now on part of what the commit depends on.
    pub(super) fn user_end(&self, user: &UserId) -> Result<Option<UserEnd>, StoreError> {
        let found = self.get(Table::Revocations, &record::user_end_key(user))?;
        found.map(|found| record::decode_user_end(&found)).transpose()
    }

    /// Removes these places of [`Table::Expiry`], and the records they still tell the truth of: those that expired
    /// before `now`. Returns how many records went.
    pub(super) fn purge(&mut self, places: &[Slice], now: UnixTime) -> Result<usize, StoreError> {
        let mut gone = 0;
        for place in places {
            let (_, key) = record::split_expiry_key(place)?;
            if let Some(found) = self.get(Table::Revocations, key)?
                && record::expiry_of(&found)? < now
            {
                self.remove(Table::Revocations, key);
                gone += 1;
            }
            // Also when the record has a later expiry by now: that has a place of its own.
            self.remove(Table::Expiry, place);
        }
        Ok(gone)
    }
}
