//! Connections of one worker to one upstream, kept for the next request.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::UpstreamError;
use super::connection::{Connection, Server};
use super::dialer::Dialer;
use crate::config;

/// How long a server that could not be connected to is passed over, while there is another.
const SKIP_UNREACHABLE: Duration = Duration::from_secs(1);

/// The servers of an upstream and the connections kept to them.
#[derive(Debug)]
pub struct UpstreamPool {
    servers: Vec<Slot>,
    next: Cell<usize>,
    connect_timeout: Duration,
    pub(super) body_idle_timeout: Duration,
    keep_alive_timeout: Duration,
    keep_alive_connections: usize,
}

#[derive(Debug)]
struct Slot {
    server: Server,
    /// The one used last is at the end: it is used next, and the others may grow old.
    kept: RefCell<Vec<Connection>>,
    skip_until: Cell<Option<Instant>>,
}

impl UpstreamPool {
    pub(super) fn new(config: &config::Upstream, dialer: &Arc<Dialer>) -> Self {
        let slot = |(index, address)| Slot {
            server: Server::new(address, dialer, index),
            kept: RefCell::default(),
            skip_until: Cell::new(None),
        };
        Self {
            servers: config.servers.iter().enumerate().map(slot).collect(),
            next: Cell::new(0),
            connect_timeout: config.connect_timeout,
            body_idle_timeout: config.body_idle_timeout,
            keep_alive_timeout: config.keep_alive_timeout,
            keep_alive_connections: config.keep_alive_connections.get(),
        }
    }

    /// The servers in the order to try them: round robin, those lately unreachable at the end.
    fn order(&self, from: usize) -> impl Iterator<Item = &Slot> {
        let now = Instant::now();
        let turn = move |skipped: bool| {
            let (before, after) = self.servers.split_at(from);
            let skip = move |slot: &Slot| slot.skip_until.get().is_some_and(|until| now < until);
            after.iter().chain(before).filter(move |slot| skip(slot) == skipped)
        };
        turn(false).chain(turn(true))
    }

    /// Whose turn it is.
    pub(super) fn turn(&self) -> usize {
        let at = self.next.get();
        self.next.set(if at + 1 >= self.servers.len() { 0 } else { at + 1 });
        at
    }

    /// A kept connection of the server whose turn it is, ready for a request.
    pub(super) async fn take_kept(&self, turn: usize) -> Option<Connection> {
        let slot = match self.servers.as_slice() {
            [only] => only,
            _ => self.order(turn).next()?,
        };
        if let Some(shared) = slot.server.take_shared(self.keep_alive_timeout) {
            return Some(shared);
        }
        let mut yielded = false;
        loop {
            let mut connection = slot.kept.borrow_mut().pop()?;
            match connection.readiness().await {
                Some(true) if connection.unused_since.elapsed() < self.keep_alive_timeout => {
                    connection.count_use();
                    return Some(connection);
                }
                // Its driver has not yet seen the end of the last response: let it run once.
                Some(false) if !yielded => {
                    yielded = true;
                    slot.kept.borrow_mut().push(connection);
                    tokio::task::yield_now().await;
                }
                // Busy, closed or too old.
                _ => drop(connection),
            }
        }
    }

    /// A new connection: to the server whose turn it is, else to the next that can be connected to.
    pub(super) async fn connect(&self, turn: usize) -> Result<Connection, UpstreamError> {
        let mut last = None;
        for slot in self.order(turn).collect::<Vec<_>>() {
            match slot.server.connect(self.connect_timeout, self.keep_alive_timeout).await {
                Ok(mut connection) => {
                    slot.skip_until.set(None);
                    connection.count_use();
                    return Ok(connection);
                }
                Err(cause) => {
                    slot.skip_until.set(Some(Instant::now() + SKIP_UNREACHABLE));
                    // Told by whoever handles it; passed over here, it is nobody's fault yet.
                    tracing::debug!(server = %slot.server.name, error = %cause, "cannot connect to upstream server");
                    last = Some(UpstreamError::Unreachable { server: slot.server.name.clone(), cause });
                }
            }
        }
        Err(last.unwrap_or_else(|| UpstreamError::Unreachable {
            server: "-".into(),
            cause: std::io::Error::other("the upstream has no servers"),
        }))
    }

    fn keep(&self, mut connection: Connection) {
        if connection.is_shared() || connection.is_closed() {
            return;
        }
        let server = connection.server();
        if let Some(slot) = self.servers.iter().find(|slot| Rc::ptr_eq(&slot.server.name, &server)) {
            let mut kept = slot.kept.borrow_mut();
            if kept.len() < self.keep_alive_connections {
                connection.unused_since = Instant::now();
                kept.push(connection);
            }
        }
    }

    pub(super) fn close_unused(&self, now: Instant) {
        for slot in &self.servers {
            let fresh = |connection: &Connection| {
                !connection.is_closed() && now.duration_since(connection.unused_since) < self.keep_alive_timeout
            };
            slot.kept.borrow_mut().retain(fresh);
            slot.server.close_unused(self.keep_alive_timeout);
        }
    }
}

/// A connection that is still giving a response. Dropped before the end of it, the connection is closed: what is left in
/// it must not become the start of somebody else's answer. One that requests share goes on: there, only the stream of
/// this one ends.
#[derive(Debug)]
pub struct Lease {
    pool: Rc<UpstreamPool>,
    connection: Connection,
}

impl Lease {
    pub(super) fn new(pool: Rc<UpstreamPool>, connection: Connection) -> Self {
        Self { pool, connection }
    }

    /// The response was read to its end. Whether the request was sent to its end too, the pool asks
    /// before the next use.
    pub fn give_back(self) {
        self.pool.keep(self.connection);
    }
}
