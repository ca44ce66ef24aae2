//! The feed of revocations: a snapshot, then every entry in order; and the beats that tell how current it is.
//!
//! Each part has a stream. An end is in it by the same script that made it, so whoever has read a stream up to some entry
//! knows every end before that. A reader goes on from its last entry; when that entry is gone, because the reader was
//! away for too long or the server has lost data, it takes a new snapshot, and memory is compared with the server.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::{Cmd, RedisError, Value};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::super::{StoreError, record};
use super::Core;
use super::give_back::{self, Due};
use super::keys::{PARTS, Part};
use super::link::{Script, Waits};
use super::transaction::{FEED_KEPT, UNREADABLE, millis};
use crate::causes::chain;
use crate::config::{Origin, Topology};

/// How often a beat is sent: so much the lag grows between two.
pub(super) const BEAT_INTERVAL: Duration = Duration::from_millis(500);
/// How long a read waits for an entry.
const BLOCK: Duration = Duration::from_millis(1000);
/// Entries of one read, and records of one step of a snapshot.
const CHUNK: usize = 1000;
/// Before the next try when the last one came to nothing.
const PAUSE: Duration = Duration::from_millis(50);
/// The same when the server says no: it takes somebody to change that.
const REFUSED_PAUSE: Duration = Duration::from_secs(1);
/// How often the sentinels are asked whether the primary is still the same.
const RELOCATE_INTERVAL: Duration = Duration::from_secs(2);
/// Entries a part's feed keeps at most: more than any reader is behind. About 50 MB.
const MOST_ENTRIES: usize = 500_000;
/// A read that comes so long after the last may have missed entries that are not kept any more.
pub(super) const LONGEST_BREAK: Duration = FEED_KEPT.checked_div(2).expect("not by zero");

/// How far a reader has come in one stream.
struct Position {
    /// The last entry read, or the last there was at the snapshot.
    entry: String,
    /// Whether all entries behind it are sure to be there.
    is_good: bool,
}

/// Why a reader must begin again.
#[derive(Debug, thiserror::Error)]
enum Break {
    #[error(transparent)]
    Redis(#[from] RedisError),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("no answer in time")]
    Late,
    #[error("the primary is another server now")]
    Moved,
    #[error("nothing was read for {} s", .0.as_secs())]
    Gap(Duration),
}

impl Break {
    /// Whether the server was reached and says no, which another try does not change.
    fn is_refusal(&self) -> bool {
        let Self::Redis(error) = self else { return false };
        error.kind() == redis::ErrorKind::AuthenticationFailed || matches!(error.code(), Some("NOAUTH" | "NOPERM"))
    }
}

/// What whoever opens the store waits for: a part whose snapshot is complete, or that there will be none.
pub(super) type Synced = Result<Part, StoreError>;

/// Starts the readers and the beats. Each part is sent to `synced` once its snapshot is complete.
///
/// A reader that was away for longer than `longest_break` takes a new snapshot.
pub(super) fn start(core: &Arc<Core>, longest_break: Duration, synced: &mpsc::UnboundedSender<Synced>) -> JoinSet<()> {
    let mut tasks = JoinSet::new();
    // One read of many streams needs them on one server, and in a cluster even in one slot.
    let groups: Vec<Vec<Part>> = match core.link.config().topology {
        Topology::Cluster => Part::all().map(|part| vec![part]).collect(),
        Topology::Single | Topology::Sentinel { .. } => vec![Part::all().collect()],
    };
    for parts in groups {
        let reader = Reader {
            core: core.clone(),
            parts,
            positions: HashMap::with_capacity(PARTS),
            longest_break,
            synced: synced.clone(),
        };
        tasks.spawn(reader.run());
    }
    tasks.spawn(beat(core.clone()));
    tasks.spawn(give_back::run(core.clone()));
    tasks
}

struct Reader {
    core: Arc<Core>,
    parts: Vec<Part>,
    positions: HashMap<Part, Position>,
    longest_break: Duration,
    synced: mpsc::UnboundedSender<Synced>,
}

impl Reader {
    async fn run(mut self) {
        let mut told = false;
        loop {
            let begun = Instant::now();
            let reason = match self.read_on().await {
                Ok(never) => match never {},
                Err(reason) => reason,
            };
            // It had read: one line for an outage, not one for each try, and the first try at once.
            let was_reading = begun.elapsed() > BLOCK;
            if !told || was_reading {
                tracing::warn!(reason = %chain(&reason), "the feed of revocations broke off, trying again");
                told = true;
            }
            if matches!(reason, Break::Gap(_)) {
                self.positions.values_mut().for_each(|position| position.is_good = false);
            }
            let is_refusal = reason.is_refusal();
            let trouble = match reason {
                Break::Store(error) => error,
                refusal if is_refusal => StoreError::Refused(Arc::new(refusal)),
                other => StoreError::Unreachable(Arc::new(other)),
            };
            self.core.feed_trouble(trouble.clone());
            if is_refusal {
                let _ = self.synced.send(Err(trouble));
            }
            self.parts.iter().for_each(|part| self.core.link.forget_place(*part));
            if is_refusal {
                tokio::time::sleep(REFUSED_PAUSE).await;
            } else if !was_reading {
                tokio::time::sleep(PAUSE).await;
            }
        }
    }

    async fn read_on(&mut self) -> Result<std::convert::Infallible, Break> {
        let core = self.core.clone();
        let timeout = core.link.config().timeout;
        let Some(first) = self.parts.first().copied() else { return Err(UNREADABLE.into()) };
        let server = core.link.place(first, Instant::now() + timeout).await?;
        let mut connection = core.link.connect(&server, Some(timeout)).await?;
        // What was acknowledged just before may have gone with the server that we were connected to.
        let mut due = Due::Recent;
        for part in self.parts.clone() {
            if !self.catch_up(&mut connection, part).await? {
                due = Due::All;
            }
        }
        core.give_back.owe(due);

        let mut read = redis::cmd("XREAD");
        read.arg("COUNT").arg(CHUNK).arg("BLOCK").arg(millis(BLOCK)).arg("STREAMS");
        for part in &self.parts {
            read.arg(core.link.keys().feed(*part));
        }
        let mut last_read = None;
        loop {
            let mut read = read.clone();
            for part in &self.parts {
                read.arg(self.positions.get(part).map_or("0-0", |position| &position.entry));
            }
            let mut pipe = redis::pipe();
            pipe.add_command(redis::cmd("TIME")).add_command(read);
            let (time, answer): ((u64, u64), Value) =
                in_time(pipe.query_async(&mut connection), BLOCK + timeout).await?;
            // By the server's clock, for it also counts the time that this machine was suspended or restored from an
            // image: what came meanwhile may have been trimmed, and the stream would go on as if nothing were missing.
            let time = Duration::from_secs(time.0) + Duration::from_micros(time.1);
            let since = time.saturating_sub(last_read.unwrap_or(time));
            if since > self.longest_break {
                return Err(Break::Gap(since));
            }
            last_read = Some(time);
            self.take_in(answer, time)?;
            if core.link.known_place(first).is_some_and(|place| place != server) {
                return Err(Break::Moved);
            }
        }
    }

    /// Goes on from the last entry read, or takes a snapshot. `false`: what this reader knew of the stream is not how it
    /// is now, because it was away for too long or the server has lost something.
    async fn catch_up(&mut self, connection: &mut MultiplexedConnection, part: Part) -> Result<bool, Break> {
        let timeout = self.core.link.config().timeout;
        let feed = self.core.link.keys().feed(part);
        let known = self.positions.get(&part);
        if let Some(Position { entry, is_good: true }) = known {
            let range = redis::cmd("XRANGE").arg(&feed).arg(entry).arg(entry).take();
            let found: Vec<Value> = ask(connection, &range, timeout).await?;
            if !found.is_empty() {
                return Ok(true);
            }
        }
        let is_first = known.is_none();
        // The end of the stream first: what comes during the snapshot is then read again rather than missed.
        let last = redis::cmd("XREVRANGE").arg(&feed).arg("+").arg("-").arg("COUNT").arg(1).take();
        let last: Value = ask(connection, &last, timeout).await?;
        let entry = match last {
            Value::Array(entries) => match entries.first() {
                Some(entry) => entry_id(entry)?.to_owned(),
                None => "0-0".to_owned(),
            },
            _ => return Err(UNREADABLE.into()),
        };
        let revocations = self.core.link.keys().revocations(part);
        let mut cursor = 0_u64;
        let mut count = 0_usize;
        loop {
            let scan = redis::cmd("HSCAN").arg(&revocations).arg(cursor).arg("COUNT").arg(CHUNK).take();
            let (next, records): (u64, Vec<Vec<u8>>) = ask(connection, &scan, timeout).await?;
            for [key, record] in records.as_chunks().0 {
                self.core.read_record(key, record);
                count += 1;
            }
            cursor = next;
            if cursor == 0 {
                break;
            }
        }
        tracing::debug!(part = part.index(), count, entry, "snapshot of revocations");
        self.positions.insert(part, Position { entry, is_good: true });
        if is_first {
            // Nobody listens any more once the store is open.
            let _ = self.synced.send(Ok(part));
        }
        Ok(is_first)
    }

    /// Takes in what was read when the server's clock showed `time`.
    fn take_in(&mut self, answer: Value, time: Duration) -> Result<(), Break> {
        let streams = match answer {
            // Nothing came in time.
            Value::Nil => return Ok(()),
            Value::Array(streams) => streams,
            _ => return Err(UNREADABLE.into()),
        };
        for stream in streams {
            let Value::Array(stream) = stream else { return Err(UNREADABLE.into()) };
            let [Value::BulkString(name), Value::Array(entries)] = stream.as_slice() else {
                return Err(UNREADABLE.into());
            };
            let Some(part) = self.parts.iter().find(|part| self.core.link.keys().feed(**part) == *name) else {
                return Err(UNREADABLE.into());
            };
            for entry in entries {
                self.core.read_entry(*part, entry)?;
            }
            let Some(last) = entries.last().map(entry_id).transpose()? else { continue };
            self.positions.insert(*part, Position { entry: last.to_owned(), is_good: true });
            // Read without a break, and yet so far behind that what comes next may be trimmed before it is read.
            let behind = time.saturating_sub(entry_time(last)?);
            if entries.len() == CHUNK && behind > self.longest_break {
                return Err(Break::Gap(behind));
            }
        }
        Ok(())
    }
}

impl Core {
    /// Sends a beat to parts of one server; returns the names of what is stored there.
    async fn beat_once(&self, parts: &[Part], script: &Script) -> Result<Vec<(Part, Value)>, StoreError> {
        let Some(first) = parts.first() else { return Ok(Vec::new()) };
        let beat = self.freshness.beat();
        let words = [
            millis(FEED_KEPT).to_string(),
            self.gateway.clone(),
            beat.to_string(),
            format!("{}-{beat}", self.gateway),
            MOST_ENTRIES.to_string(),
        ]
        .map(String::into_bytes);
        let (mut calls, mut fallbacks) = (redis::pipe(), redis::pipe());
        for part in parts {
            let keys = [self.link.keys().feed(*part), self.link.keys().meta(*part)];
            let (call, fallback) = script.calls(&keys, &words, None);
            for (from, to) in [(call, &mut calls), (fallback, &mut fallbacks)] {
                for cmd in from.cmd_iter() {
                    to.add_command(cmd.clone());
                }
            }
        }
        let deadline = self.transactions.deadline();
        let mut waits = Waits::No;
        if let Some(wait) = self.transactions.wait(deadline) {
            // One for all that went before it on the connection.
            calls.add_command(wait.clone());
            fallbacks.add_command(wait);
            waits = Waits::ForReplicas;
        }
        let mut names = self.link.carry_out(*first, &calls, Some(&fallbacks), waits, deadline).await?;
        if names.len() > parts.len() {
            match names.pop() {
                Some(Value::Int(have)) if have >= i64::from(self.link.config().replicas) => {
                    parts.iter().for_each(|part| self.freshness.held(part.index(), beat));
                }
                _ => self.feed_trouble(StoreError::NotReplicated),
            }
        }
        Ok(parts.iter().copied().zip(names).collect())
    }

    fn read_entry(&self, part: Part, entry: &Value) -> Result<(), StoreError> {
        let Value::Array(entry) = entry else { return Err(UNREADABLE) };
        let [_, Value::Array(fields)] = entry.as_slice() else { return Err(UNREADABLE) };
        let [Value::BulkString(kind), Value::BulkString(first), Value::BulkString(_), Value::BulkString(second)] =
            fields.as_slice()
        else {
            return Err(UNREADABLE);
        };
        match kind.as_slice() {
            b"k" => {
                self.read_record(first, second);
                Ok(())
            }
            b"g" => {
                if *first == self.gateway.as_bytes() {
                    let beat = std::str::from_utf8(second).ok().and_then(|text| text.parse().ok()).ok_or(UNREADABLE)?;
                    self.freshness.came_back(part.index(), beat);
                } else {
                    *self.others.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
                }
                Ok(())
            }
            // Of a later version.
            _ => Ok(()),
        }
    }

    /// Takes in a stored revocation. One that cannot be read is told and passed over: to stop at it would be to miss all
    /// that come behind it.
    fn read_record(&self, key: &[u8], record: &[u8]) {
        let read = record::decode_revocation(key, record, |revocation| self.revocations.insert(revocation));
        if let Err(error) = read {
            let key = key.escape_ascii();
            tracing::error!(error = %chain(&error), %key, "a stored revocation cannot be read and is not known here");
        }
    }
}

/// When an entry was made, by the server's clock.
fn entry_time(id: &str) -> Result<Duration, StoreError> {
    let millis = id.split_once('-').and_then(|(millis, _)| millis.parse().ok());
    millis.map(Duration::from_millis).ok_or(UNREADABLE)
}

fn entry_id(entry: &Value) -> Result<&str, StoreError> {
    match entry {
        Value::Array(entry) => match entry.first() {
            Some(Value::BulkString(id)) => std::str::from_utf8(id).map_err(|_bytes| UNREADABLE),
            _ => Err(UNREADABLE),
        },
        _ => Err(UNREADABLE),
    }
}

async fn ask<T: redis::FromRedisValue>(
    connection: &mut MultiplexedConnection,
    cmd: &Cmd,
    timeout: Duration,
) -> Result<T, Break> {
    in_time(cmd.query_async(connection), timeout).await
}

async fn in_time<T>(asking: impl Future<Output = Result<T, RedisError>>, timeout: Duration) -> Result<T, Break> {
    match tokio::time::timeout(timeout, asking).await {
        Ok(answer) => Ok(answer?),
        Err(_late) => Err(Break::Late),
    }
}

/// Sends beats, watches where the store is, and tells when the lag passes its limit and when it is back.
async fn beat(core: Arc<Core>) {
    let script = Arc::new(Script::new(include_str!("scripts/beat.lua")));
    let mut clock = tokio::time::interval(BEAT_INTERVAL);
    clock.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut stale = false;
    let mut names: HashMap<Part, Vec<u8>> = HashMap::with_capacity(PARTS);
    let mut located = Instant::now();
    loop {
        clock.tick().await;
        if matches!(core.link.config().topology, Topology::Sentinel { .. }) && located.elapsed() > RELOCATE_INTERVAL {
            located = Instant::now();
            match core.link.relocate().await {
                Ok(true) => tracing::info!("the store has another primary"),
                Ok(false) => {}
                Err(error) => tracing::debug!(error = %chain(&error), "no sentinel answers"),
            }
        }
        let mut servers: HashMap<Option<Origin>, Vec<Part>> = HashMap::new();
        Part::all().for_each(|part| servers.entry(core.link.known_place(part)).or_default().push(part));
        let mut beats = JoinSet::new();
        for parts in servers.into_values() {
            let (core, script) = (core.clone(), script.clone());
            beats.spawn(async move { core.beat_once(&parts, &script).await });
        }
        let mut is_another = false;
        // One that fails shows as lag.
        for (part, name) in beats.join_all().await.into_iter().flatten().flatten() {
            if let Value::BulkString(name) = name {
                is_another |= names.insert(part, name.clone()).is_some_and(|before| before != name);
            }
        }
        if is_another {
            tracing::warn!("the store has lost what it had, or is another one");
            core.give_back.owe(Due::All);
        }
        if core.freshness.is_stale() != stale {
            stale = !stale;
            let lag_s = core.freshness.lag().as_secs_f64();
            if stale {
                let reason = core.trouble().map(|error| chain(&error)).unwrap_or_default();
                tracing::warn!(lag_s, %reason, "ends of sessions made by other gateways are not known in time");
            } else {
                tracing::info!(lag_s, "ends of sessions made by other gateways are known again");
            }
        }
    }
}
