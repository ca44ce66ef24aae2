//! One connection to a server, made when somebody needs it and shared by all who do.

use std::sync::Mutex;
use std::time::Duration;

use redis::RedisError;
use redis::aio::MultiplexedConnection;
use tokio::time::Instant;

use super::connect::{Connector, timed_out};
use super::lock;
use crate::config::Origin;

/// After a failed try to connect nobody tries again for so long.
const CONNECT_COOLDOWN: Duration = Duration::from_millis(50);

/// A connection of a lane. The number names it among all the lane has had, so that a broken one is dropped once.
#[derive(Clone)]
pub(super) struct Open {
    number: usize,
    pub(super) connection: MultiplexedConnection,
}

#[derive(Default)]
pub(super) struct Lane {
    open: Mutex<Option<Open>>,
    /// Held by the one who connects, while others wait for the connection. Apart from `open`, so that nobody waits for
    /// it who wants to drop a broken one.
    connecting: tokio::sync::Mutex<Tries>,
}

#[derive(Default)]
struct Tries {
    made: usize,
    /// When the last one failed, and how.
    failed: Option<(Instant, RedisError)>,
}

impl Lane {
    /// The connection, made now if there is none.
    pub(super) async fn open(
        &self,
        connector: &Connector,
        server: &Origin,
        deadline: Instant,
    ) -> Result<Open, RedisError> {
        let is_open = || lock(&self.open).clone();
        if let Some(open) = is_open() {
            return Ok(open);
        }
        let connect = async {
            let mut tries = self.connecting.lock().await;
            // Whoever connected meanwhile did it for all.
            if let Some(open) = is_open() {
                return Ok(open);
            }
            if let Some((at, error)) = &tries.failed
                && at.elapsed() < CONNECT_COOLDOWN
            {
                return Err(error.clone());
            }
            tries.made += 1;
            tries.failed = None;
            // So long at most also when the caller has more time: others wait for the lane.
            match connector.server(server, Some(connector.config().timeout)).await {
                Ok(connection) => {
                    let open = Open { number: tries.made, connection };
                    *lock(&self.open) = Some(open.clone());
                    Ok(open)
                }
                Err(error) => {
                    tries.failed = Some((Instant::now(), error.clone()));
                    Err(error)
                }
            }
        };
        tokio::time::timeout_at(deadline, connect).await.unwrap_or_else(|_late| Err(timed_out("connecting")))
    }

    /// Gives a broken connection up: the next call makes another.
    pub(super) fn drop_broken(&self, broken: &Open) {
        let mut open = lock(&self.open);
        if open.as_ref().is_some_and(|open| open.number == broken.number) {
            *open = None;
        }
    }
}
