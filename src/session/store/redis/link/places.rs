//! Where the parts are: told by the configuration, by a sentinel, or by any node of a cluster.
//!
//! There are sixteen parts and a part is where its slot is, so the map of a cluster is sixteen addresses.

use std::sync::{Arc, Mutex};

use redis::{RedisError, Value};
use tokio::time::Instant;

use super::connect::{Connector, timed_out};
use super::lock;
use crate::config::{Origin, Topology};
use crate::session::store::redis::keys::{Keys, PARTS, Part};

type Map = [Option<Origin>; PARTS];

/// Of each part, where it was last.
pub(super) struct Places {
    connector: Arc<Connector>,
    keys: Keys,
    map: Mutex<Map>,
}

impl Places {
    pub(super) fn new(connector: Arc<Connector>) -> Self {
        Self { keys: Keys::new(&connector.config().prefix), connector, map: Mutex::default() }
    }

    /// The server that has a part, if that is known.
    pub(super) fn known(&self, part: Part) -> Option<Origin> {
        lock(&self.map)[part.index()].clone()
    }

    /// A part may be elsewhere by now: the next call asks.
    pub(super) fn forget(&self, part: Part) {
        lock(&self.map)[part.index()] = None;
    }

    /// The server that has a part. `others` may be asked too, besides those of the configuration.
    pub(super) async fn find(&self, part: Part, others: &[Origin], deadline: Instant) -> Result<Origin, RedisError> {
        if let Some(place) = self.known(part) {
            return Ok(place);
        }
        let found = tokio::time::timeout_at(deadline, self.ask(others)).await;
        let map = found.unwrap_or_else(|_late| Err(timed_out("asking where the store is")))?;
        let place = map[part.index()].clone();
        *lock(&self.map) = map;
        place.ok_or_else(|| RedisError::from((redis::ErrorKind::Client, "no server of the cluster has the slot")))
    }

    /// Asks again where everything is. Returns whether something has moved.
    pub(super) async fn refresh(&self, others: &[Origin]) -> Result<bool, RedisError> {
        let found = tokio::time::timeout(self.connector.config().timeout, self.ask(others)).await;
        let map = found.unwrap_or_else(|_late| Err(timed_out("asking where the store is")))?;
        let mut known = lock(&self.map);
        let moved = known.iter().zip(&map).any(|(old, new)| old.is_some() && old != new);
        *known = map;
        Ok(moved)
    }

    async fn ask(&self, others: &[Origin]) -> Result<Map, RedisError> {
        let config = self.connector.config();
        match &config.topology {
            Topology::Single => {
                let server = config.servers.first().cloned();
                Ok(std::array::from_fn(|_| server.clone()))
            }
            Topology::Sentinel { primary } => {
                let server = self.first_answer(config.servers.clone(), |server| async move {
                    self.ask_sentinel(&server, primary).await
                });
                let server = server.await?;
                Ok(std::array::from_fn(|_| Some(server.clone())))
            }
            Topology::Cluster => {
                let mut nodes = others.to_vec();
                nodes.extend(config.servers.iter().filter(|seed| !others.contains(seed)).cloned());
                self.first_answer(nodes, |node| async move { self.ask_node(&node).await }).await
            }
        }
    }

    /// The first good answer of `servers`, asked one after the other, each for a fair part of the time.
    async fn first_answer<T, F>(&self, servers: Vec<Origin>, ask: impl Fn(Origin) -> F) -> Result<T, RedisError>
    where
        F: Future<Output = Result<T, RedisError>>,
    {
        let share = self.connector.config().timeout / u32::try_from(servers.len().clamp(1, 4)).unwrap_or(1);
        let mut last = RedisError::from((redis::ErrorKind::Client, "no server to ask"));
        for server in servers {
            match tokio::time::timeout(share, ask(server)).await {
                Ok(Ok(answer)) => return Ok(answer),
                Ok(Err(error)) => last = error,
                Err(_late) => last = timed_out("asking where the store is"),
            }
        }
        Err(last)
    }

    async fn ask_sentinel(&self, server: &Origin, primary: &str) -> Result<Origin, RedisError> {
        let mut sentinel = self.connector.sentinel(server).await?;
        let ask = redis::cmd("SENTINEL").arg("GET-MASTER-ADDR-BY-NAME").arg(primary).take();
        let answer: Option<(String, u16)> = ask.query_async(&mut sentinel).await?;
        let (host, port) = answer.ok_or_else(|| {
            RedisError::from((redis::ErrorKind::MasterNameNotFoundBySentinel, "the sentinel knows no such primary"))
        })?;
        Ok(Origin { host, port })
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
