//! An operation as an optimistic transaction: the rows it asks for are fetched, [`Draft`] says what it means, and a
//! script writes that if every row read is still what it was. Otherwise it begins again.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use fjall::Slice;
use redis::{Cmd, Value};
use tokio::time::Instant;

use super::super::draft::{Draft, Rows, TABLES, Table, Written};
use super::super::{StoreError, record};
use super::keys::Part;
use super::link::{self, CallError, Link, Script, Waits};
use crate::clock::UnixTime;
use crate::ids::SessionId;
use crate::revocation::Revocation;
use crate::session::rules::SessionPolicy;

/// How long the feed is kept: a gateway that reads nothing for longer takes a new snapshot instead.
pub(super) const FEED_KEPT: Duration = Duration::from_secs(300);
/// What is left of a call's time when its write may begin at the latest: the way back.
const WAY_BACK: Duration = Duration::from_millis(10);
/// A row goes by itself so long after a sweep should have ended it: only when no gateway has run for as long.
const ROW_KEPT: Duration = Duration::from_secs(24 * 3600);
/// Longest pause before an operation that lost a race begins again.
const MOST_BACKOFF_MICROS: u64 = 4_000;

/// First byte of what stands in a row's place when the row is in another part; the second says which.
const POINTER: u8 = 0;

/// What a row holds when the session is in `part`.
pub(super) fn pointer(part: Part) -> [u8; 2] {
    [POINTER, part.index() as u8]
}

/// The part a pointer points to; `None` for a row.
fn pointed_to(row: &[u8]) -> Option<Part> {
    match row {
        [POINTER, part] => Part::from_index(*part),
        _ => None,
    }
}

/// What an operation came to, or where it must be tried instead.
pub(super) enum Outcome<T> {
    /// Carried out.
    Done(T),
    /// The session it is about is in another part.
    Elsewhere(Part),
}

/// Something to read.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum Read {
    Row(SessionId),
    Revocation(Vec<u8>),
    /// The keys of users with this prefix.
    Users(Vec<u8>),
}

/// What has been fetched of a part, and what was asked for and is not there yet.
#[derive(Default)]
struct Fetched {
    rows: HashMap<Vec<u8>, Option<Slice>>,
    revocations: HashMap<Vec<u8>, Option<Slice>>,
    users: HashMap<Vec<u8>, Vec<Slice>>,
    missing: Mutex<Vec<Read>>,
    /// The server's clock when the last of it was read.
    clock: UnixTime,
}

/// Never seen outside: the operation begins again with what was missing.
const NOT_FETCHED: StoreError = StoreError::Corrupt("not fetched yet");

impl Fetched {
    fn want(&self, read: Read) {
        let mut missing = self.missing.lock().unwrap_or_else(PoisonError::into_inner);
        if !missing.contains(&read) {
            missing.push(read);
        }
    }

    fn find(&self, table: Table, key: &[u8]) -> Option<Option<Slice>> {
        match table {
            Table::Sessions => self.rows.get(key).cloned(),
            Table::Revocations => self.revocations.get(key).cloned(),
            // Nothing is read of these two by key.
            Table::ByUser | Table::Expiry => Some(None),
        }
    }

    /// Everything fetched, to be fetched again.
    fn reads(&self) -> Vec<Read> {
        let rows = self.rows.keys().filter_map(|key| record::session_of_key(key).ok().map(Read::Row));
        let revocations = self.revocations.keys().cloned().map(Read::Revocation);
        rows.chain(revocations).chain(self.users.keys().cloned().map(Read::Users)).collect()
    }
}

fn read_of(table: Table, key: &[u8]) -> Result<Read, StoreError> {
    match table {
        Table::Sessions => Ok(Read::Row(record::session_of_key(key)?)),
        _ => Ok(Read::Revocation(key.to_vec())),
    }
}

impl Rows for Fetched {
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Slice>, StoreError> {
        if let Some(found) = self.find(table, key) {
            return Ok(found);
        }
        self.want(read_of(table, key)?);
        Err(NOT_FETCHED)
    }

    fn keys_with(&self, prefix: &[u8]) -> Result<Vec<Slice>, StoreError> {
        match self.users.get(prefix) {
            Some(keys) => Ok(keys.clone()),
            None => {
                self.want(Read::Users(prefix.to_vec()));
                Err(NOT_FETCHED)
            }
        }
    }

    fn announce(&self, wanted: &mut dyn Iterator<Item = (Table, Vec<u8>)>) -> Result<(), StoreError> {
        for (table, key) in wanted {
            if self.find(table, &key).is_none() {
                self.want(read_of(table, &key)?);
            }
        }
        if self.missing.lock().unwrap_or_else(PoisonError::into_inner).is_empty() { Ok(()) } else { Err(NOT_FETCHED) }
    }

    fn clock(&self) -> Option<UnixTime> {
        Some(self.clock)
    }

    fn rows_expire(&self) -> bool {
        true
    }
}

/// The limits of sessions, for the expiry of their rows.
#[derive(Clone, Copy, Debug)]
pub(super) struct RowLife {
    idle: Option<Duration>,
    life: Option<Duration>,
}

impl RowLife {
    pub(super) fn of(policy: &SessionPolicy) -> Self {
        Self { idle: policy.idle_timeout, life: policy.max_lifetime }
    }

    /// In milliseconds from the last request and from the creation; 0: no limit.
    pub(super) fn millis(self) -> (u64, u64) {
        let kept = |limit: Option<Duration>| limit.map_or(0, |limit| millis(limit + ROW_KEPT));
        (kept(self.idle), kept(self.life))
    }

    /// When a row may go by itself, in milliseconds since 1970; 0: never.
    fn expiry(self, row: &[u8]) -> Result<u64, StoreError> {
        let (last_seen, created_at) = record::times_of(row)?;
        let (idle, life) = self.millis();
        let at = |from: UnixTime, limit: u64| (limit > 0).then(|| from.as_millis().saturating_add(limit));
        let at = [at(last_seen, idle), at(created_at, life)].into_iter().flatten().min();
        // Redis takes no time past 2^63.
        Ok(at.unwrap_or(0).min(i64::MAX as u64 / 2))
    }
}

/// A draft to be committed, with what it was made from.
struct Attempt<T> {
    value: T,
    written: [Written; TABLES.len()],
    revoked: Vec<Revocation>,
}

impl<T> Attempt<T> {
    fn is_empty(&self) -> bool {
        self.written.iter().all(Written::is_empty)
    }

    /// What must be read to see whether it was carried out.
    fn reads(&self) -> Vec<Read> {
        let rows = self.written[Table::Sessions as usize].keys();
        let rows = rows.filter_map(|key| record::session_of_key(key).ok().map(Read::Row));
        let revocations = self.written[Table::Revocations as usize].keys();
        rows.chain(revocations.map(|key| Read::Revocation(key.to_vec()))).collect()
    }

    /// Whether the sessions it writes are now as they were `before`.
    fn has_sessions_as_they_were(&self, before: &Fetched, now: &Fetched) -> bool {
        let mut keys = self.written[Table::Sessions as usize].keys();
        keys.all(|key| before.find(Table::Sessions, key) == now.find(Table::Sessions, key))
    }

    /// Whether all of it is there: then it was carried out, or somebody else has done exactly the same.
    fn is_in(&self, fetched: &Fetched) -> bool {
        let is_there = |table: Table| {
            self.written[table as usize]
                .iter()
                .all(|(key, value)| fetched.find(table, key).is_some_and(|it| it == *value))
        };
        is_there(Table::Sessions) && is_there(Table::Revocations)
    }
}

/// What the operation means over what was fetched, or what more it wants to see.
fn draft<T>(
    fetched: &mut Fetched,
    operation: impl Fn(&mut Draft<'_>) -> Result<T, StoreError>,
) -> Result<Result<Attempt<T>, StoreError>, Vec<Read>> {
    let mut draft = Draft::new(fetched);
    let result = draft.attempt(operation);
    let (written, revoked) = draft.finish();
    let missing = std::mem::take(fetched.missing.get_mut().unwrap_or_else(PoisonError::into_inner));
    if missing.is_empty() { Ok(result.map(|value| Attempt { value, written, revoked })) } else { Err(missing) }
}

enum Commit {
    Done,
    Changed,
}

/// Carries out operations on the parts.
pub(super) struct Transactions {
    link: Arc<Link>,
    life: RowLife,
    read: Script,
    commit: Script,
}

impl Transactions {
    pub(super) fn new(link: Arc<Link>, life: RowLife) -> Self {
        let read = Script::new(include_str!("scripts/read.lua"));
        Self { link, life, read, commit: Script::new(include_str!("scripts/commit.lua")) }
    }

    pub(super) fn life(&self) -> RowLife {
        self.life
    }

    pub(super) fn deadline(&self) -> Instant {
        Instant::now() + self.link.config().timeout
    }

    /// What follows a write that `store.replicas` replicas must have.
    pub(super) fn wait(&self, deadline: Instant) -> Option<Cmd> {
        let replicas = self.link.config().replicas;
        (replicas > 0).then(|| {
            // Less than we wait ourselves, so that a missing replica is told from a missing server.
            let left = millis(deadline.saturating_duration_since(Instant::now()) * 9 / 10).max(1);
            redis::cmd("WAIT").arg(replicas).arg(left).take()
        })
    }

    /// Carries `operation` out on `part`. `hints` are what it will surely read. `publish` is told what was revoked,
    /// before this returns.
    ///
    /// It may be asked several times, each time over newer rows.
    pub(super) async fn run<T>(
        &self,
        part: Part,
        hints: Vec<Read>,
        operation: impl Fn(&mut Draft<'_>) -> Result<T, StoreError>,
        publish: impl Fn(&[Revocation]),
    ) -> Result<Outcome<T>, StoreError> {
        let deadline = self.deadline();
        let mut fetched = Fetched::default();
        let mut wanted = hints;
        let mut unknown: Option<(Attempt<T>, Fetched, StoreError)> = None;
        let mut races = 0_u32;
        loop {
            self.fetch(part, &wanted, &mut fetched, deadline).await?;
            let (server_time, answered_at) = (fetched.clock, Instant::now());
            if let Some(elsewhere) = fetched.rows.values().flatten().find_map(|row| pointed_to(row)) {
                return Ok(Outcome::Elsewhere(elsewhere));
            }
            // Looked at again each time: what was lost on the way may still arrive.
            let mut made = None;
            if let Some((attempt, before, error)) = unknown.take() {
                if attempt.is_in(&fetched) {
                    made = Some((attempt, before, error));
                } else if attempt.has_sessions_as_they_were(&before, &fetched) {
                    unknown = Some((attempt, before, error));
                } else {
                    // Neither as it would leave it nor as it was: somebody went on from there, perhaps from our own
                    // write. A rotation would then look like a theft to itself. Who asks again gets a verdict of its own.
                    return Err(error);
                }
            }
            let (attempt, lost) = match made {
                Some((attempt, before, error)) => (attempt, Some((before, error))),
                None => match draft(&mut fetched, &operation) {
                    Ok(attempt) => (attempt?, None),
                    Err(missing) => {
                        wanted = missing;
                        continue;
                    }
                },
            };
            // Nothing to write: it is made already, or is a verdict on rows as they are. That is an answer, unless
            // replicas must have those rows too, and nobody has said that they do.
            let is_written = lost.is_some() || attempt.is_empty();
            if is_written && self.link.config().replicas == 0 {
                publish(&attempt.revoked);
                return Ok(Outcome::Done(attempt.value));
            }
            // The last moment to begin, by the server's clock. Ours was read after it: this can only be early.
            let left = deadline.saturating_duration_since(answered_at).saturating_sub(WAY_BACK);
            let not_after = server_time.plus(left).as_millis();
            let nothing = Default::default();
            let written = if is_written { &nothing } else { &attempt.written };
            match self.commit(part, &fetched, written, not_after, deadline).await {
                Ok(Commit::Done) => {
                    publish(&attempt.revoked);
                    return Ok(Outcome::Done(attempt.value));
                }
                Ok(Commit::Changed) => {
                    races += 1;
                    tokio::time::sleep(backoff(races)).await;
                    wanted = fetched.reads();
                    if let Some((before, error)) = lost {
                        unknown = Some((attempt, before, error));
                    }
                }
                Err(CallError::Failed(error)) => return Err(error),
                Err(CallError::Unknown(error)) => {
                    if !link::pause(deadline).await {
                        return Err(error);
                    }
                    wanted = fetched.reads();
                    wanted
                        .extend(attempt.reads().into_iter().filter(|read| !wanted.contains(read)).collect::<Vec<_>>());
                    let before = lost.map_or_else(|| std::mem::take(&mut fetched), |(before, _)| before);
                    unknown = Some((attempt, before, error));
                }
            }
            fetched = Fetched::default();
        }
    }

    /// The rows themselves.
    pub(super) async fn rows(&self, part: Part, ids: &[SessionId]) -> Result<Vec<Option<Slice>>, StoreError> {
        let mut fetched = Fetched::default();
        let wanted: Vec<Read> = ids.iter().map(|id| Read::Row(*id)).collect();
        self.fetch(part, &wanted, &mut fetched, self.deadline()).await?;
        Ok(ids.iter().map(|id| fetched.rows.remove(&id.as_bytes()[..]).flatten()).collect())
    }

    /// The row of a session, wherever it is.
    pub(super) async fn row(&self, id: SessionId) -> Result<Option<Slice>, StoreError> {
        let mut part = Part::of_session(id);
        for _ in 0..2 {
            let row = self.rows(part, &[id]).await?.pop().flatten();
            match row.as_deref().and_then(pointed_to) {
                Some(elsewhere) => part = elsewhere,
                None => return Ok(row),
            }
        }
        Err(StoreError::Corrupt("pointer to a pointer"))
    }

    /// A call that may be made twice without harm, again and again until its deadline.
    pub(super) async fn repeat(
        &self,
        part: Part,
        script: &Script,
        keys: &[Vec<u8>],
        words: &[Vec<u8>],
        deadline: Instant,
    ) -> Result<Value, StoreError> {
        let (call, fallback) = script.calls(keys, words, None);
        loop {
            match self.link.call(part, &call, Some(&fallback), deadline).await {
                Ok(mut values) => return values.pop().ok_or(UNREADABLE),
                Err(CallError::Unknown(_)) if link::pause(deadline).await => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Reads into `fetched`, all at one moment.
    async fn fetch(
        &self,
        part: Part,
        wanted: &[Read],
        fetched: &mut Fetched,
        deadline: Instant,
    ) -> Result<(), StoreError> {
        let keys = self.link.keys();
        let mut names = vec![keys.by_user(part), keys.revocations(part)];
        let (mut rows, mut revocations, mut ranges) = (Vec::new(), Vec::new(), Vec::new());
        for read in wanted {
            match read {
                Read::Row(id) => {
                    names.push(keys.session(part, *id));
                    rows.push(id.as_bytes().to_vec());
                }
                Read::Revocation(key) => revocations.push(key.clone()),
                Read::Users(prefix) => ranges.push(prefix.clone()),
            }
        }
        let mut words = vec![revocations.len().to_string().into_bytes()];
        words.extend(revocations.iter().cloned());
        for prefix in &ranges {
            words.extend(range_of(prefix));
        }
        let answer = self.repeat(part, &self.read, &names, &words, deadline).await?;
        let Value::Array(answer) = answer else { return Err(UNREADABLE) };
        let Ok(
            [Value::Int(time), Value::Array(found_rows), Value::Array(found_revocations), Value::Array(found_users)],
        ) = <[Value; 4]>::try_from(answer)
        else {
            return Err(UNREADABLE);
        };
        if (found_rows.len(), found_revocations.len(), found_users.len())
            != (rows.len(), revocations.len(), ranges.len())
        {
            return Err(UNREADABLE);
        }
        for (key, value) in rows.into_iter().zip(found_rows) {
            fetched.rows.insert(key, bytes(value)?);
        }
        for (key, value) in revocations.into_iter().zip(found_revocations) {
            fetched.revocations.insert(key, bytes(value)?);
        }
        for (prefix, value) in ranges.into_iter().zip(found_users) {
            let Value::Array(members) = value else { return Err(UNREADABLE) };
            let members = members.into_iter().map(|member| bytes(member)?.ok_or(UNREADABLE));
            fetched.users.insert(prefix, members.collect::<Result<_, _>>()?);
        }
        fetched.clock = UnixTime::from_millis(u64::try_from(time).map_err(|_negative| UNREADABLE)?);
        Ok(())
    }

    /// Writes what is `written` if everything is as it was `fetched`. Nothing written: a mark, to wait for.
    async fn commit(
        &self,
        part: Part,
        fetched: &Fetched,
        written: &[Written; TABLES.len()],
        not_after: u64,
        deadline: Instant,
    ) -> Result<Commit, CallError> {
        let mut words = Words::default();
        words.number(not_after).number(millis(FEED_KEPT));
        let mut rows = RowKeys { link: &self.link, part, keys: Vec::new(), places: HashMap::new() };
        let checks = fetched.rows.len() + fetched.revocations.len() + fetched.users.len();
        words.number(checks as u64);
        for (key, value) in &fetched.rows {
            words
                .text("row")
                .number(rows.place(key).map_err(CallError::Failed)?)
                .bytes(value.as_deref().unwrap_or_default());
        }
        for (key, value) in &fetched.revocations {
            words.text("revocation").bytes(key).bytes(value.as_deref().unwrap_or_default());
        }
        for (prefix, members) in &fetched.users {
            let [from, to] = range_of(prefix);
            // All members of a range have one length, so no two lists look alike when joined.
            words.text("users").bytes(&from).bytes(&to).bytes(&members.concat());
        }
        self.writes(written, &mut words, &mut rows).map_err(CallError::Failed)?;

        let keys = self.link.keys();
        let mut names =
            vec![keys.by_user(part), keys.revocations(part), keys.expiry(part), keys.feed(part), keys.meta(part)];
        names.append(&mut rows.keys);
        let replicas = self.link.config().replicas;
        let wait = self.wait(deadline);
        let (call, fallback) = self.commit.calls(&names, &words.0, wait.as_ref());
        let waits = if replicas > 0 { Waits::ForReplicas } else { Waits::No };
        let answer = self.link.carry_out(part, &call, Some(&fallback), waits, deadline).await?;
        match answer.as_slice() {
            [Value::Int(0), ..] => Ok(Commit::Changed),
            [Value::Int(2), ..] => Err(CallError::Failed(StoreError::Timeout)),
            [Value::Int(1)] if replicas == 0 => Ok(Commit::Done),
            [Value::Int(1), Value::Int(have)] if *have >= i64::from(replicas) => Ok(Commit::Done),
            // It is made, and may be lost with the primary: to say it was done would be to promise too much.
            [Value::Int(1), Value::Int(_)] => Err(CallError::Failed(StoreError::NotReplicated)),
            _ => Err(CallError::Unknown(UNREADABLE)),
        }
    }

    fn writes(
        &self,
        written: &[Written; TABLES.len()],
        words: &mut Words,
        rows: &mut RowKeys<'_>,
    ) -> Result<(), StoreError> {
        let [sessions, by_user, revocations, _] = written;
        if written.iter().all(Written::is_empty) {
            words.number(1).text("mark");
            return Ok(());
        }
        words.number((sessions.len() + by_user.len() + revocations.len()) as u64);
        for (key, value) in sessions {
            match value {
                Some(row) => {
                    words.text("put").number(rows.place(key)?).bytes(row).number(self.life.expiry(row)?);
                }
                None => {
                    words.text("delete").number(rows.place(key)?);
                }
            }
        }
        for (key, value) in by_user {
            words.text(if value.is_some() { "index" } else { "unindex" }).bytes(key);
        }
        for (key, value) in revocations {
            // No operation that is drafted here takes one back: that is for the purge.
            let record = value.as_deref().ok_or(StoreError::Corrupt("revocation taken back"))?;
            let kind = if record::is_revocation(key) { "revoke" } else { "note" };
            words.text(kind).bytes(key).bytes(record).number(record::expiry_of(record)?.as_millis());
        }
        Ok(())
    }
}

/// An answer that no script of ours gives.
pub(super) const UNREADABLE: StoreError = StoreError::Corrupt("unexpected answer");

/// The arguments of a script.
#[derive(Default)]
struct Words(Vec<Vec<u8>>);

impl Words {
    fn text(&mut self, text: &str) -> &mut Self {
        self.bytes(text.as_bytes())
    }

    fn number(&mut self, number: u64) -> &mut Self {
        self.text(&number.to_string())
    }

    fn bytes(&mut self, bytes: &[u8]) -> &mut Self {
        self.0.push(bytes.to_vec());
        self
    }
}

/// The keys of rows that a script is given, each once.
struct RowKeys<'a> {
    link: &'a Link,
    part: Part,
    keys: Vec<Vec<u8>>,
    places: HashMap<Vec<u8>, u64>,
}

impl RowKeys<'_> {
    /// The place of a row's key among them, from 1 on.
    fn place(&mut self, id: &[u8]) -> Result<u64, StoreError> {
        if let Some(place) = self.places.get(id) {
            return Ok(*place);
        }
        self.keys.push(self.link.keys().session(self.part, record::session_of_key(id)?));
        let place = self.keys.len() as u64;
        self.places.insert(id.to_vec(), place);
        Ok(place)
    }
}

/// The bounds of all members of a sorted set that begin with `prefix` and go on with the 24 bytes of a time and an id.
fn range_of(prefix: &[u8]) -> [Vec<u8>; 2] {
    [[b"[", prefix].concat(), [b"[", prefix, &[0xff; 25]].concat()]
}

/// A string or nothing.
pub(super) fn bytes(value: Value) -> Result<Option<Slice>, StoreError> {
    match value {
        Value::Nil => Ok(None),
        Value::BulkString(bytes) => Ok(Some(bytes.into())),
        _ => Err(UNREADABLE),
    }
}

pub(super) fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// Up to a doubled time after each lost race, by chance, so that those who lost do not meet again.
fn backoff(races: u32) -> Duration {
    let most = (100_u64 << races.min(10)).min(MOST_BACKOFF_MICROS);
    let mut random = [0; 8];
    // Without randomness all wait equally long, which is no worse than not waiting.
    let _ = aws_lc_rs::rand::fill(&mut random);
    Duration::from_micros(u64::from_le_bytes(random) % most)
}
