//! The feed of revocations: a snapshot, then every entry in order; and the beats that tell how current it is.
//!
//! Each part has a stream. An end is in it by the same script that made it, so whoever has read a stream up to some entry
//! knows every end before that. A reader goes on from its last entry; when that entry is gone, because the reader was
//! away for too long or the server has lost data, it takes a new snapshot and gives back what the server has forgotten.

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
use super::keys::{PARTS, Part};
use super::link::Script;
use super::transaction::{FEED_KEPT, UNREADABLE, millis};
use crate::config::Topology;
use crate::gateway::chain;
use crate::revocation::Revocations;

/// How often a beat is sent: so much the lag grows between two.
pub(super) const BEAT_INTERVAL: Duration = Duration::from_millis(500);
/// How long a read waits for an entry.
const BLOCK: Duration = Duration::from_millis(1000);
/// Entries of one read, and records of one step of a snapshot.
const CHUNK: usize = 1000;
/// Before the next try when the last one came to nothing.
const PAUSE: Duration = Duration::from_millis(50);
/// How often the sentinels are asked whether the primary is still the same.
const RELOCATE_INTERVAL: Duration = Duration::from_secs(2);
/// A read that comes so long after the last may have missed entries that are not kept any more.
const LONGEST_BREAK: Duration = FEED_KEPT.checked_div(2).expect("not by zero");

/// How far a reader has come in one stream.
struct Position {
    /// The last entry read, or the last there was at the snapshot.
    entry: String,
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

/// Starts the readers and the beats. Each part is sent to `synced` once its snapshot is complete.
pub(super) fn start(core: &Arc<Core>, synced: &mpsc::UnboundedSender<Part>) -> JoinSet<()> {
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
            synced: synced.clone(),
            giving_back: JoinSet::new(),
        };
        tasks.spawn(reader.run());
    }
    tasks.spawn(beat(core.clone()));
    tasks
}

struct Reader {
    core: Arc<Core>,
    parts: Vec<Part>,
    positions: HashMap<Part, Position>,
    synced: mpsc::UnboundedSender<Part>,
    /// Goes on beside the reading, and ends with the reader.
    giving_back: JoinSet<()>,
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
            self.core.feed_trouble(match reason {
                Break::Store(error) => error,
                other => StoreError::Unreachable(Arc::new(other)),
            });
            self.parts.iter().for_each(|part| self.core.link.forget_place(*part));
            if !was_reading {
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
        let mut lost = false;
        for part in self.parts.clone() {
            lost |= self.catch_up(&mut connection, part).await?;
        }
        // What we acknowledged just before may have gone with the server that we were connected to.
        let giving = core.clone();
        self.giving_back.spawn(async move { giving.give_back(lost).await });

        let mut read = redis::cmd("XREAD");
        read.arg("COUNT").arg(CHUNK).arg("BLOCK").arg(millis(BLOCK)).arg("STREAMS");
        for part in &self.parts {
            read.arg(core.link.keys().feed(*part));
        }
        let mut read_at = Instant::now();
        loop {
            let mut read = read.clone();
            for part in &self.parts {
                read.arg(self.positions.get(part).map_or("0-0", |position| &position.entry));
            }
            let answer: Value = ask(&mut connection, &read, BLOCK + timeout).await?;
            if read_at.elapsed() > LONGEST_BREAK {
                // Stopped for long, as a process or a machine may be.
                return Err(Break::Gap(read_at.elapsed()));
            }
            read_at = Instant::now();
            self.take_in(answer)?;
            // Read without a break, and yet so far behind that what comes next may have been trimmed.
            if core.freshness.lag() > LONGEST_BREAK {
                return Err(Break::Gap(core.freshness.lag()));
            }
            while self.giving_back.try_join_next().is_some() {}
            if core.link.known_place(first).is_some_and(|place| place != server) {
                return Err(Break::Moved);
            }
        }
    }

    /// Goes on from the last entry read, or takes a snapshot. `true`: the server has lost what we knew.
    async fn catch_up(&mut self, connection: &mut MultiplexedConnection, part: Part) -> Result<bool, Break> {
        let timeout = self.core.link.config().timeout;
        let feed = self.core.link.keys().feed(part);
        let known = self.positions.get(&part).map(|position| position.entry.clone());
        if let Some(entry) = &known {
            let range = redis::cmd("XRANGE").arg(&feed).arg(entry).arg(entry).take();
            let found: Vec<Value> = ask(connection, &range, timeout).await?;
            if !found.is_empty() {
                return Ok(false);
            }
        }
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
                insert(&self.core.revocations, key, record)?;
                count += 1;
            }
            cursor = next;
            if cursor == 0 {
                break;
            }
        }
        tracing::debug!(part = part.index(), count, entry, "snapshot of revocations");
        self.positions.insert(part, Position { entry });
        if known.is_none() {
            // Nobody listens any more once the store is open.
            let _ = self.synced.send(part);
        }
        Ok(known.is_some())
    }

    /// Takes in what was read.
    fn take_in(&mut self, answer: Value) -> Result<(), Break> {
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
                self.positions.insert(*part, Position { entry: entry_id(entry)?.to_owned() });
            }
        }
        Ok(())
    }
}

impl Core {
    /// Sends a beat; returns the name of what is stored.
    async fn beat_once(&self, part: Part, script: &Script) -> Result<Value, StoreError> {
        let words = [
            millis(FEED_KEPT).to_string(),
            self.gateway.clone(),
            self.freshness.beat().to_string(),
            format!("{}-{}", self.gateway, self.freshness.beat()),
        ];
        let keys = [self.link.keys().feed(part), self.link.keys().meta(part)];
        let deadline = self.transactions.deadline();
        self.transactions.repeat(part, script, &keys, &words.map(String::into_bytes), deadline).await
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
            b"k" => insert(&self.revocations, first, second),
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
}

fn insert(revocations: &Revocations, key: &[u8], record: &[u8]) -> Result<(), StoreError> {
    record::decode_revocation(key, record, |revocation| revocations.insert(revocation))
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
    match tokio::time::timeout(timeout, cmd.query_async(connection)).await {
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
        let mut beats = JoinSet::new();
        for part in Part::all() {
            let (core, script) = (core.clone(), script.clone());
            beats.spawn(async move { (part, core.beat_once(part, &script).await) });
        }
        let mut lost = false;
        for (part, name) in beats.join_all().await {
            // One that fails shows as lag.
            if let Ok(Value::BulkString(name)) = name {
                lost |= names.insert(part, name.clone()).is_some_and(|before| before != name);
            }
        }
        if lost {
            core.give_back(true).await;
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
