//! The way to Redis: a connection to the server that has a part, and a call with a deadline.
//!
//! The library's connections, not its cluster client: a script and the `WAIT` behind it must go over one connection, a
//! read that blocks needs one of its own, and what may be sent again after a lost reply is for the caller to know.
//! `connect` opens connections, a `lane` holds one, `places` finds out which server has what.

mod connect;
mod lane;
mod places;

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use redis::aio::{ConnectionLike as _, MultiplexedConnection};
use redis::{Cmd, Pipeline, RedisError, ServerError, ServerErrorKind, Value};
use tokio::time::Instant;

use self::connect::{Connector, timed_out};
use self::lane::Lane;
use self::places::{Found, Places};
use super::keys::{Keys, Part};
use crate::config::{Origin, Redis};
use crate::session::store::StoreError;

/// Between two tries of a call.
const RETRY_PAUSE: Duration = Duration::from_millis(20);
/// Connections to each server for calls that wait for replicas: one that waits holds up what comes behind it.
const WAITING_LANES: usize = 8;

/// Whether an answer is held back until replicas have what was written.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Waits {
    No,
    /// A `WAIT` ends the pipeline.
    ForReplicas,
}

/// Why a call has no answer.
#[derive(Debug)]
pub(super) enum CallError {
    /// It may have been carried out or not.
    Unknown(StoreError),
    /// It was not carried out.
    Failed(StoreError),
}

impl From<CallError> for StoreError {
    fn from(error: CallError) -> Self {
        match error {
            CallError::Unknown(error) | CallError::Failed(error) => error,
        }
    }
}

/// What one try came to, when it was not answered.
enum Trouble {
    /// It did not reach the server, or the server would not do it now: try again.
    NotDone(RedisError),
    /// The same, and the part may be elsewhere.
    Moved(RedisError),
    /// This one call is for another server.
    Ask(Origin, RedisError),
    /// The connection was lost, or there was no answer in time.
    Lost(StoreError),
    /// No use to try again.
    Refused(RedisError),
}

/// The connections to one server. What waits for nobody does not stand behind what does.
#[derive(Default)]
struct Lanes {
    plain: Lane,
    waiting: [Lane; WAITING_LANES],
    next_waiting: AtomicUsize,
}

impl Lanes {
    fn lane(&self, waits: Waits) -> &Lane {
        match waits {
            Waits::No => &self.plain,
            Waits::ForReplicas => &self.waiting[self.next_waiting.fetch_add(1, Ordering::Relaxed) % WAITING_LANES],
        }
    }
}

/// The connections of a gateway to its store.
pub(super) struct Link {
    connector: Arc<Connector>,
    keys: Keys,
    places: Places,
    servers: Mutex<HashMap<Origin, Arc<Lanes>>>,
    /// Why the store could not be reached last; `None` while it can.
    trouble: Mutex<Option<StoreError>>,
}

impl Link {
    /// # Errors
    /// When `store.ca` cannot be read.
    pub(super) fn new(config: &Redis) -> Result<Self, std::io::Error> {
        let connector = Arc::new(Connector::new(config)?);
        Ok(Self {
            keys: Keys::new(&config.prefix),
            places: Places::new(connector.clone()),
            connector,
            servers: Mutex::default(),
            trouble: Mutex::default(),
        })
    }

    pub(super) fn keys(&self) -> &Keys {
        &self.keys
    }

    pub(super) fn config(&self) -> &Redis {
        self.connector.config()
    }

    /// Why the last try to reach the store failed, if it did.
    pub(super) fn trouble(&self) -> Option<StoreError> {
        lock(&self.trouble).clone()
    }

    /// Has a pipeline of commands on one part answered by `deadline`, trying again as long as it was surely not carried
    /// out.
    pub(super) async fn call(
        &self,
        part: Part,
        pipeline: &Pipeline,
        fallback: Option<&Pipeline>,
        deadline: Instant,
    ) -> Result<Vec<Value>, CallError> {
        self.carry_out(part, pipeline, fallback, Waits::No, deadline).await
    }

    /// [`call`](Self::call) for a pipeline that may wait for replicas at its end.
    pub(super) async fn carry_out(
        &self,
        part: Part,
        pipeline: &Pipeline,
        fallback: Option<&Pipeline>,
        waits: Waits,
        deadline: Instant,
    ) -> Result<Vec<Value>, CallError> {
        let mut asked = None;
        let mut scripted = pipeline;
        let mut fallback = fallback;
        loop {
            let asking = asked.is_some();
            let trouble = match self.attempt(part, asked.take(), scripted, waits, deadline).await {
                Ok(values) => {
                    *lock(&self.trouble) = None;
                    return Ok(values);
                }
                Err(trouble) => trouble,
            };
            let error = match trouble {
                Trouble::Refused(error) if is_missing_script(&error) && fallback.is_some() => {
                    // The server has not seen this script since its start: once with its text.
                    scripted = fallback.take().unwrap_or(pipeline);
                    continue;
                }
                Trouble::Refused(error) => return Err(CallError::Failed(StoreError::Refused(Arc::new(error)))),
                // Once: who was asked and sends on does not take the slot over after all.
                Trouble::Ask(server, _) if !asking => {
                    asked = Some(server);
                    continue;
                }
                Trouble::Lost(error) => {
                    *lock(&self.trouble) = Some(error.clone());
                    return Err(CallError::Unknown(error));
                }
                Trouble::NotDone(error) | Trouble::Moved(error) | Trouble::Ask(_, error) => error,
            };
            let error = StoreError::Unreachable(Arc::new(error));
            *lock(&self.trouble) = Some(error.clone());
            if !pause(deadline).await {
                return Err(CallError::Failed(error));
            }
        }
    }

    /// [`call`](Self::call) for what may be done twice without harm.
    pub(super) async fn call_again(
        &self,
        part: Part,
        pipeline: &Pipeline,
        deadline: Instant,
    ) -> Result<Vec<Value>, StoreError> {
        loop {
            match self.call(part, pipeline, None, deadline).await {
                Ok(values) => return Ok(values),
                Err(CallError::Unknown(_)) if pause(deadline).await => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    async fn attempt(
        &self,
        part: Part,
        asked: Option<Origin>,
        pipeline: &Pipeline,
        waits: Waits,
        deadline: Instant,
    ) -> Result<Vec<Value>, Trouble> {
        let asking = asked.is_some();
        let server = match asked {
            Some(server) => server,
            None => self.place(part, deadline).await.map_err(Trouble::NotDone)?,
        };
        let lanes = self.lanes(&server);
        let lane = lanes.lane(waits);
        let mut open = match lane.open(&self.connector, &server, deadline).await {
            Ok(open) => open,
            // It may have gone for good, and the part with it.
            Err(error) => {
                self.places.forget(part, Some(&server));
                return Err(Trouble::Moved(error));
            }
        };
        if Instant::now() >= deadline {
            return Err(Trouble::NotDone(timed_out("connecting")));
        }
        let sent = if asking { Cow::Owned(asking_each(pipeline)) } else { Cow::Borrowed(pipeline) };
        let answered =
            tokio::time::timeout_at(deadline, open.connection.req_packed_commands(&sent, 0, sent.len())).await;
        let lost = match answered {
            Ok(Ok(values)) => {
                let values = if asking { values.into_iter().skip(1).step_by(2).collect() } else { values };
                return self.look_at(part, &server, values);
            }
            // An error of the server is a value. This is one of the connection, and what comes behind it is not to be
            // trusted.
            Ok(Err(error)) => StoreError::Unreachable(Arc::new(error)),
            // Behind this one nothing is answered either: the next call finds out on a connection of its own.
            Err(_late) => StoreError::Timeout,
        };
        lane.drop_broken(&open);
        self.places.forget(part, Some(&server));
        Err(Trouble::Lost(lost))
    }

    /// Tells an answer from an error. Only an error of the first command says that nothing was carried out: behind an
    /// answer it leaves open how much of the whole holds.
    fn look_at(&self, part: Part, server: &Origin, values: Vec<Value>) -> Result<Vec<Value>, Trouble> {
        let Some(at) = values.iter().position(|value| server_error(value).is_some()) else { return Ok(values) };
        let Some(error) = server_error(&values[at]) else { return Ok(values) };
        let trouble = judge(error);
        if matches!(trouble, Trouble::Moved(_)) {
            self.places.forget(part, Some(server));
        }
        if at == 0 {
            return Err(trouble);
        }
        Err(Trouble::Lost(StoreError::Refused(Arc::new(RedisError::from(error.clone())))))
    }

    fn lanes(&self, server: &Origin) -> Arc<Lanes> {
        lock(&self.servers).entry(server.clone()).or_default().clone()
    }

    /// A new connection to a server, its answers awaited without a deadline of its own.
    pub(super) async fn connect(
        &self,
        server: &Origin,
        timeout: Option<Duration>,
    ) -> Result<MultiplexedConnection, RedisError> {
        self.connector.server(server, timeout).await
    }

    /// The server that has a part, if that is known.
    pub(super) fn known_place(&self, part: Part) -> Option<Origin> {
        self.places.known(part)
    }

    /// A part may be elsewhere by now: the next call asks.
    pub(super) fn forget_place(&self, part: Part) {
        self.places.forget(part, None);
    }

    /// The server that has a part.
    pub(super) async fn place(&self, part: Part, deadline: Instant) -> Result<Origin, RedisError> {
        let Found { place, asked } = self.places.find(part, deadline).await?;
        if asked {
            self.let_go();
        }
        Ok(place)
    }

    /// Asks again where everything is. Returns whether something has moved.
    pub(super) async fn relocate(&self) -> Result<bool, RedisError> {
        let moved = self.places.refresh().await?;
        self.let_go();
        Ok(moved)
    }

    /// Closes connections to servers that have nothing any more, each once it has answered all it was asked.
    fn let_go(&self) {
        lock(&self.servers).retain(|server, _| self.places.are_at(server));
    }
}

/// The same commands for a server that is about to take the slot over. `ASKING` is about one command behind it.
fn asking_each(pipeline: &Pipeline) -> Pipeline {
    let mut pipe = redis::pipe();
    for cmd in pipeline.cmd_iter() {
        pipe.add_command(redis::cmd("ASKING")).add_command(cmd.clone());
    }
    pipe
}

/// What is to be done about an error of a server.
fn judge(error: &ServerError) -> Trouble {
    let told = RedisError::from(error.clone());
    match error.kind() {
        Some(ServerErrorKind::Moved) => Trouble::Moved(told),
        Some(ServerErrorKind::Ask) => match told.redirect_node().and_then(|(address, _)| origin(address)) {
            Some(server) => Trouble::Ask(server, told),
            None => Trouble::Refused(told),
        },
        // One that loads was started again, and may have been replaced meanwhile.
        Some(
            ServerErrorKind::ClusterDown
            | ServerErrorKind::ReadOnly
            | ServerErrorKind::MasterDown
            | ServerErrorKind::BusyLoading,
        ) => Trouble::Moved(told),
        Some(ServerErrorKind::TryAgain) => Trouble::NotDone(told),
        // A script of somebody else runs for long; or there are too few replicas for the server's own rule.
        _ if matches!(error.code(), "BUSY" | "NOREPLICAS") => Trouble::NotDone(told),
        _ => Trouble::Refused(told),
    }
}

/// Waits a moment before the next try, so that a server which fails at once is not asked without end. `false`, and at
/// once: no time is left for another.
pub(super) async fn pause(deadline: Instant) -> bool {
    let next = Instant::now() + RETRY_PAUSE;
    let in_time = next < deadline;
    if in_time {
        tokio::time::sleep_until(next).await;
    }
    in_time
}

/// A lock that is never held while something can fail.
fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The first error in an answer, which may stand inside of it.
fn server_error(value: &Value) -> Option<&ServerError> {
    match value {
        Value::ServerError(error) => Some(error),
        Value::Array(values) => values.iter().find_map(server_error),
        _ => None,
    }
}

pub(super) fn is_missing_script(error: &RedisError) -> bool {
    error.code() == Some("NOSCRIPT")
}

/// `host:port`, as a cluster names its nodes.
fn origin(address: &str) -> Option<Origin> {
    let (host, port) = address.rsplit_once(':')?;
    Some(Origin { host: host.trim_matches(['[', ']']).to_owned(), port: port.parse().ok()? })
}

/// A script by the hash of its text, and by the text for a server that has not seen it.
pub(super) struct Script {
    code: &'static str,
    hash: String,
}

impl Script {
    pub(super) fn new(code: &'static str) -> Self {
        Self { code, hash: redis::Script::new(code).get_hash().to_owned() }
    }

    /// The call and its fallback: `keys`, then `words`, then what `more` adds behind it.
    pub(super) fn calls(&self, keys: &[Vec<u8>], words: &[Vec<u8>], more: Option<&Cmd>) -> (Pipeline, Pipeline) {
        let call = |name: &str, script: &str| {
            let mut pipe = redis::pipe();
            let mut cmd = redis::cmd(name);
            cmd.arg(script).arg(keys.len());
            for word in keys.iter().chain(words) {
                cmd.arg(&word[..]);
            }
            pipe.add_command(cmd);
            if let Some(more) = more {
                pipe.add_command(more.clone());
            }
            pipe
        };
        (call("EVALSHA", &self.hash), call("EVAL", self.code))
    }
}

#[cfg(test)]
mod tests;
