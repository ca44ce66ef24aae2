//! Where the parts are: told by the configuration, by a sentinel, or by any node of a cluster.
//!
//! There are sixteen parts and a part is where its slot is, so the map of a cluster is sixteen addresses.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use redis::{RedisError, Value};
use tokio::time::Instant;

use super::connect::{Connector, timed_out};
use super::lock;
use crate::config::{Origin, Topology};
use crate::session::store::redis::keys::{Keys, PARTS, Part};

/// After a failed try to find out nobody asks again for so long.
const ASK_COOLDOWN: Duration = Duration::from_millis(50);

/// Of each part, its server.
type Map = [Option<Origin>; PARTS];

/// What was told last, and by whom.
#[derive(Default)]
struct Told {
    map: Map,
    /// Which of the configured servers said so.
    by: Option<usize>,
    /// Which of them is asked first the next time.
    first: usize,
    /// The servers of the last map without gaps.
    servers: Vec<Origin>,
}

/// Of each part, where it was last.
pub(super) struct Places {
    connector: Arc<Connector>,
    keys: Keys,
    told: Mutex<Told>,
    /// Held by the one who asks, while the others wait for the answer; and why the last asking failed.
    asking: tokio::sync::Mutex<Option<(Instant, RedisError)>>,
}

/// Where a part is.
pub(super) struct Found {
    pub(super) place: Origin,
    /// Whether somebody was asked for that just now.
    pub(super) asked: bool,
}

impl Places {
    pub(super) fn new(connector: Arc<Connector>) -> Self {
        Self {
            keys: Keys::new(&connector.config().prefix),
            connector,
            told: Mutex::default(),
            asking: tokio::sync::Mutex::default(),
        }
    }

    /// The server that has a part, if that is known.
    pub(super) fn known(&self, part: Part) -> Option<Origin> {
        lock(&self.told).map[part.index()].clone()
    }

    /// Whether a server has anything, as was told last.
    pub(super) fn are_at(&self, server: &Origin) -> bool {
        let told = lock(&self.told);
        told.servers.contains(server) || told.map.iter().flatten().any(|place| place == server)
    }

    /// A part may be elsewhere by now: the next call asks, and first somebody else than who said where it was.
    ///
    /// With `tried`, only when that is still the place: another call may know better by now.
    pub(super) fn forget(&self, part: Part, tried: Option<&Origin>) {
        let mut told = lock(&self.told);
        let place = &mut told.map[part.index()];
        if place.is_some() && tried.is_none_or(|tried| place.as_ref() == Some(tried)) {
            *place = None;
            if let Some(by) = told.by {
                told.first = by + 1;
            }
        }
    }

    /// The server that has a part. One caller asks for all who want to know.
    pub(super) async fn find(&self, part: Part, deadline: Instant) -> Result<Found, RedisError> {
        let known = || self.known(part).map(|place| Found { place, asked: false });
        if let Some(found) = known() {
            return Ok(found);
        }
        let ask = async {
            let mut failed = self.asking.lock().await;
            // Whoever asked meanwhile may have been told.
            if let Some(found) = known() {
                return Ok(found);
            }
            if let Some((at, error)) = &*failed
                && at.elapsed() < ASK_COOLDOWN
            {
                return Err(error.clone());
            }
            *failed = None;
            let found = self
                .ask_in_time()
                .await
                .and_then(|_moved| Ok(Found { place: self.known(part).ok_or_else(no_server)?, asked: true }));
            if let Err(error) = &found {
                *failed = Some((Instant::now(), error.clone()));
            }
            found
        };
        tokio::time::timeout_at(deadline, ask).await.unwrap_or_else(|_late| Err(late()))
    }

    /// Asks again where everything is. Returns whether something has moved.
    pub(super) async fn refresh(&self) -> Result<bool, RedisError> {
        let ask = async {
            let _failed = self.asking.lock().await;
            self.ask_in_time().await
        };
        tokio::time::timeout(self.connector.config().timeout, ask).await.unwrap_or_else(|_late| Err(late()))
    }

    /// So long at most also when the caller has more time: others wait for the answer.
    async fn ask_in_time(&self) -> Result<bool, RedisError> {
        tokio::time::timeout(self.connector.config().timeout, self.ask()).await.unwrap_or_else(|_late| Err(late()))
    }

    /// Asks one after the other, each for a fair part of the time, until one knows where everything is; or goes by who
    /// knew most.
    async fn ask(&self) -> Result<bool, RedisError> {
        let config = self.connector.config();
        let count = config.servers.len();
        let mut last = no_server();
        let mut most: Option<(Option<usize>, Map)> = None;
        for (index, server) in self.whom() {
            if let Some(index) = index {
                // Also when this is dropped before there is an answer: who does not answer is not asked first again.
                lock(&self.told).first = index + 1;
            }
            let asked = async {
                match &config.topology {
                    Topology::Single => Ok(std::array::from_fn(|_| Some(server.clone()))),
                    Topology::Sentinel { primary } => self.ask_sentinel(&server, primary).await,
                    Topology::Cluster => self.ask_node(&server).await,
                }
            };
            let share = config.timeout / u32::try_from(count.clamp(1, 4)).unwrap_or(1);
            let map = match tokio::time::timeout(share, asked).await.unwrap_or_else(|_late| Err(late())) {
                Ok(map) => map,
                Err(error) => {
                    last = error;
                    continue;
                }
            };
            let known = |map: &Map| map.iter().flatten().count();
            if known(&map) == PARTS {
                return Ok(self.take_in(index, map));
            }
            // A node that was taken out of the cluster knows of no slots, or of few.
            if known(&map) > most.as_ref().map_or(0, |(_, map)| known(map)) {
                most = Some((index, map));
            }
        }
        most.map(|(index, map)| self.take_in(index, map)).ok_or(last)
    }

    /// Whom to ask, in this order: the configured servers, which somebody looks after, beginning with the one that was
    /// right last; then, in a cluster, those it was said to have.
    fn whom(&self) -> Vec<(Option<usize>, Origin)> {
        let config = self.connector.config();
        let told = lock(&self.told);
        let count = config.servers.len();
        let configured = config.servers.iter().enumerate().cycle().skip(told.first % count.max(1)).take(count);
        let mut whom: Vec<_> = configured.map(|(index, server)| (Some(index), server.clone())).collect();
        if config.topology == Topology::Cluster {
            let others = told.servers.iter().filter(|server| !config.servers.contains(server));
            whom.extend(others.map(|server| (None, server.clone())));
        }
        whom
    }

    /// Goes by `map` from now on. Returns whether something has moved.
    fn take_in(&self, by: Option<usize>, map: Map) -> bool {
        let mut told = lock(&self.told);
        if let Some(servers) = map.iter().cloned().collect::<Option<Vec<_>>>() {
            told.servers = servers;
            told.servers.sort_unstable_by(|a, b| (&a.host, a.port).cmp(&(&b.host, b.port)));
            told.servers.dedup();
        }
        let mut moved = false;
        for (place, new) in told.map.iter_mut().zip(map) {
            // A gap in the answer is no news.
            if new.is_some() && *place != new {
                moved |= place.is_some();
                *place = new;
            }
        }
        told.by = by;
        if let Some(by) = by {
            told.first = by;
        }
        moved
    }

    async fn ask_sentinel(&self, server: &Origin, primary: &str) -> Result<Map, RedisError> {
        let mut sentinel = self.connector.sentinel(server).await?;
        let ask = redis::cmd("SENTINEL").arg("GET-MASTER-ADDR-BY-NAME").arg(primary).take();
        let answer: Option<(String, u16)> = ask.query_async(&mut sentinel).await?;
        let (host, port) = answer.ok_or_else(|| {
            RedisError::from((redis::ErrorKind::MasterNameNotFoundBySentinel, "the sentinel knows no such primary"))
        })?;
        Ok(std::array::from_fn(|_| Some(Origin { host: host.clone(), port })))
    }

    async fn ask_node(&self, node: &Origin) -> Result<Map, RedisError> {
        let mut connection = self.connector.server(node, Some(self.connector.config().timeout)).await?;
        let ranges: Vec<Value> = redis::cmd("CLUSTER").arg("SLOTS").query_async(&mut connection).await?;
        let mut map = [const { None }; PARTS];
        for range in ranges {
            // From, to, the primary, replicas.
            let Value::Array(range) = range else { continue };
            let [Value::Int(from), Value::Int(to), Value::Array(primary), ..] = range.as_slice() else { continue };
            let [host, Value::Int(port), ..] = primary.as_slice() else { continue };
            let host = match host {
                Value::BulkString(host) if !host.is_empty() => String::from_utf8_lossy(host).into_owned(),
                // The server does not know its own name: the one we know it by.
                _ => node.host.clone(),
            };
            let Ok(port) = u16::try_from(*port) else { continue };
            for part in Part::all() {
                if (*from..=*to).contains(&i64::from(self.keys.slot(part))) {
                    map[part.index()] = Some(Origin { host: host.clone(), port });
                }
            }
        }
        Ok(map)
    }
}

fn late() -> RedisError {
    timed_out("asking where the store is")
}

fn no_server() -> RedisError {
    RedisError::from((redis::ErrorKind::Client, "no server of the cluster has the slot"))
}
