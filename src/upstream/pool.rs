//! Connections of one worker to one upstream, kept for the next request.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::balance::Balancer;
use super::connection::{Connection, Server, Way};
use super::dialer::Dialer;
use super::shared::SharedUpstream;
use super::slots::{Claim, Slot};
use crate::config;
use crate::telemetry::metrics::WorkerMetrics;

/// A request that must not be sent twice goes over a kept connection only when it was used less than this ago.
///
/// The server may close a kept connection just as the request is on its way, and nobody can tell whether it was acted
/// on. Servers wait for whole seconds before they do (Apache and nginx 1 s at the least that is usual): within half of
/// one it happens only when the server stops.
const SURE_FOR: Duration = Duration::from_millis(500);

/// When a kept connection was used less than this ago, it is not asked for news from the kernel first: under load each
/// request would pay for that.
const JUST_USED: Duration = Duration::from_millis(1);

/// The servers of an upstream and the connections kept to them.
#[derive(Debug)]
pub struct UpstreamPool {
    pub(super) shared: Arc<SharedUpstream>,
    /// The worker's number among those that use the upstream.
    pub(super) seat: usize,
    pub(super) servers: Vec<ServerPool>,
    pub(super) balancer: Balancer,
    /// Connections that became free and belong to requests that wait: the place in the queue, the server, and it.
    handed: RefCell<Vec<(u64, usize, Idle)>>,
    pub(super) metrics: Arc<WorkerMetrics>,
    pub(super) index: usize,
    pub(super) connect_timeout: Duration,
    pub(super) queue_timeout: Duration,
    pub(super) retries: u32,
    /// Requests with a key go to its server only.
    pub(super) is_sticky: bool,
    pub(super) body_idle_timeout: Duration,
    pub(super) keep_alive_timeout: Duration,
    keep_alive_connections: usize,
}

#[derive(Debug)]
pub(super) struct ServerPool {
    pub(super) server: Server,
    /// The one used last is at the end: it is used next, and the others may grow old.
    kept: RefCell<Vec<Idle>>,
    /// As `kept`, those without a task.
    kept_direct: RefCell<Vec<Idle>>,
}

/// A connection without a request.
#[derive(Debug)]
pub(super) struct Idle {
    pub(super) connection: Connection,
    /// Its room at the server. The task that drives the connection holds it too: it is given back when both are done.
    /// `None` for a place on a shared connection, which has room of its own.
    pub(super) slot: Option<Rc<Slot>>,
}

impl UpstreamPool {
    pub(super) fn new(
        config: &config::Upstream,
        shared: Arc<SharedUpstream>,
        dialer: &Arc<Dialer>,
        index: usize,
        metrics: Arc<WorkerMetrics>,
    ) -> Self {
        let server = |(at, server): (usize, &config::UpstreamServer)| ServerPool {
            server: Server::new(&server.address, dialer, at),
            kept: RefCell::default(),
            kept_direct: RefCell::default(),
        };
        let seat = shared.take_seat();
        Self {
            servers: config.servers.iter().enumerate().map(server).collect(),
            balancer: Balancer::new(config, seat),
            handed: RefCell::default(),
            metrics,
            index,
            connect_timeout: config.connect_timeout,
            queue_timeout: config.connections.timeout,
            retries: config.retries.count,
            is_sticky: matches!(config.balance, config::Balance::Hash(_)),
            body_idle_timeout: config.body_idle_timeout,
            keep_alive_timeout: config.keep_alive_timeout,
            keep_alive_connections: config.keep_alive_connections.get(),
            shared,
            seat,
        }
    }

    /// A kept connection of `server`, ready for a request; for one that must not be sent twice when `careful`.
    pub(super) async fn take_kept(self: &Rc<Self>, server: usize, careful: bool, way: Way) -> Option<Lease> {
        if let Some(connection) = self.servers[server].server.take_shared(self.keep_alive_timeout) {
            return Some(Lease::new(self, server, Idle { connection, slot: None }));
        }
        loop {
            let now = Instant::now();
            let mut idle = {
                let mut kept = self.servers[server].kept(way).borrow_mut();
                let unused_for = now.saturating_duration_since(kept.last()?.connection.unused_since);
                // Those below it are older still. They are good for other requests.
                if careful && unused_for >= SURE_FOR {
                    return None;
                }
                kept.pop()?
            };
            self.shared.slots.idle_taken(server);
            let unused_for = now.saturating_duration_since(idle.connection.unused_since);
            if unused_for < self.keep_alive_timeout && idle.is_ready(careful && unused_for >= JUST_USED).await {
                return Some(Lease::new(self, server, idle));
            }
            // Busy, closed or too old.
        }
    }

    /// Room of the connection to `server` that was unused the longest, which is closed for it.
    pub(super) fn take_room(&self, server: usize) -> Option<Rc<Slot>> {
        let oldest = self.servers[server].take_oldest()?;
        self.shared.slots.idle_taken(server);
        oldest.slot
    }

    /// The connection that was kept for the place `id` of the queue.
    pub(super) fn take_handed(&self, id: u64) -> Option<(usize, Idle)> {
        let mut handed = self.handed.borrow_mut();
        let at = handed.iter().position(|(place, ..)| *place == id)?;
        let (_, server, idle) = handed.swap_remove(at);
        Some((server, idle))
    }

    /// Keeps a connection, or gives it to whoever waits for one.
    pub(super) fn keep(&self, server: usize, mut idle: Idle) {
        if idle.connection.is_shared() {
            drop(idle);
            return self.offer_shared(server);
        }
        if idle.connection.is_closed() {
            return;
        }
        idle.connection.release();
        match self.shared.slots.claim(server, self.seat) {
            Claim::Own(id) => self.handed.borrow_mut().push((id, server, idle)),
            Claim::Elsewhere => {}
            Claim::Nobody => {
                let pool = &self.servers[server];
                let way = idle.connection.way();
                if pool.kept_count() >= self.keep_alive_connections {
                    // Those that requests of the other way left must not keep all of this way out.
                    let Some(oldest) = pool.take_oldest_of(way.other()) else { return };
                    self.shared.slots.idle_taken(server);
                    drop(oldest);
                }
                pool.kept(way).borrow_mut().push(idle);
                self.shared.slots.idle_added(server);
                // Somebody of another worker may have come in between, and not have seen this connection.
                if self.shared.slots.waiting() > 0 {
                    self.release_idle();
                }
            }
        }
    }

    /// Gives places on shared connections to those that wait for one.
    pub(super) fn offer_shared(&self, server: usize) {
        let (pool, slots) = (&self.servers[server].server, &self.shared.slots);
        while slots.waiting() > 0 {
            let Some(connection) = pool.take_shared(self.keep_alive_timeout) else { return };
            match slots.claim(server, self.seat) {
                Claim::Own(id) => self.handed.borrow_mut().push((id, server, Idle { connection, slot: None })),
                Claim::Nobody => return,
                Claim::Elsewhere => {
                    drop(connection);
                    return pool.retire_shared(self.keep_alive_timeout);
                }
            }
        }
    }

    /// Gives unused connections, or their room, to those that wait.
    fn release_idle(&self) {
        let slots = &self.shared.slots;
        // Room is told of only when a connection is really closed: no more are closed than requests wait.
        let mut needed = slots.waiting();
        for (server, pool) in self.servers.iter().enumerate() {
            self.offer_shared(server);
            while needed > 0 {
                needed -= 1;
                if pool.kept_count() == 0 {
                    break;
                }
                let claim = slots.claim(server, self.seat);
                let oldest = if claim == Claim::Nobody { None } else { pool.take_oldest() };
                match (claim, oldest) {
                    (Claim::Own(id), Some(oldest)) => self.handed.borrow_mut().push((id, server, oldest)),
                    (Claim::Elsewhere, Some(oldest)) => drop(oldest),
                    (_, None) | (Claim::Nobody, _) => break,
                }
                slots.idle_taken(server);
            }
        }
    }

    /// Closes unused connections as soon as requests of another worker wait for their room. Ends with the pool.
    pub(super) fn watch_queue(self: &Rc<Self>) {
        if !self.shared.slots.is_limited() {
            return;
        }
        let (pool, shared) = (Rc::downgrade(self), self.shared.clone());
        tokio::task::spawn_local(async move {
            loop {
                // Listening begins before looking: what comes in between is not missed.
                let mut wanted = std::pin::pin!(shared.slots.wanted());
                wanted.as_mut().enable();
                match pool.upgrade() {
                    Some(pool) => pool.release_idle(),
                    None => return,
                }
                wanted.await;
            }
        });
    }

    pub(super) fn close_unused(&self, now: Instant) {
        for (server, pool) in self.servers.iter().enumerate() {
            for way in [Way::Driven, Way::Direct] {
                pool.kept(way).borrow_mut().retain_mut(|idle| {
                    let unused_for = now.saturating_duration_since(idle.connection.unused_since);
                    let fresh = !idle.connection.is_closed() && unused_for < self.keep_alive_timeout;
                    if !fresh {
                        self.shared.slots.idle_taken(server);
                    }
                    fresh
                });
            }
            pool.server.close_unused(self.keep_alive_timeout);
        }
    }
}

impl ServerPool {
    fn kept(&self, way: Way) -> &RefCell<Vec<Idle>> {
        match way {
            Way::Driven => &self.kept,
            Way::Direct => &self.kept_direct,
        }
    }

    fn kept_count(&self) -> usize {
        self.kept.borrow().len() + self.kept_direct.borrow().len()
    }

    fn take_oldest_of(&self, way: Way) -> Option<Idle> {
        let mut kept = self.kept(way).borrow_mut();
        if kept.is_empty() { None } else { Some(kept.remove(0)) }
    }

    /// Of both ways, the one that was unused the longest.
    fn take_oldest(&self) -> Option<Idle> {
        let (mut driven, mut direct) = (self.kept.borrow_mut(), self.kept_direct.borrow_mut());
        let since = |kept: &[Idle]| kept.first().map(|idle| idle.connection.unused_since);
        let kept = match (since(&driven), since(&direct)) {
            (None, None) => return None,
            (Some(one), Some(other)) if one <= other => &mut driven,
            (Some(_), None) => &mut driven,
            _ => &mut direct,
        };
        Some(kept.remove(0))
    }
}

impl Idle {
    /// Whether requests of this way may have it.
    pub(super) fn is_for(&self, way: Way) -> bool {
        self.connection.is_shared() || self.connection.way() == way
    }

    /// Whether a request may be sent over it. With `look` the kernel is asked first whether the server closed it.
    pub(super) async fn is_ready(&mut self, look: bool) -> bool {
        if look {
            // The runtime looks at its sockets before it comes back to who yielded.
            tokio::task::yield_now().await;
        }
        match self.connection.readiness().await {
            Some(false) if !look => {
                // Its driver has not yet seen the end of the last response: let it run once.
                tokio::task::yield_now().await;
                self.connection.readiness().await == Some(true)
            }
            ready => ready == Some(true),
        }
    }
}

/// A request that is counted as on its way to a server until this is dropped.
#[derive(Debug)]
pub(super) struct Flight {
    pub(super) pool: Rc<UpstreamPool>,
    server: usize,
}

impl Drop for Flight {
    fn drop(&mut self) {
        self.pool.shared.ended(self.server, self.pool.seat);
        // Mostly nobody waits. Of a shared connection, the place was given back just before.
        self.pool.offer_shared(self.server);
    }
}

/// A connection that is still giving a response. Dropped before the end of it, the connection is closed: what is left
/// in it must not become the start of somebody else's answer. One that requests share goes on: there, only the stream
/// of this one ends.
///
/// Whoever upgrades the connection keeps the lease until both are done with it: it is the connection's room at the
/// server, and dropped before the upgrade is complete it would close it.
#[derive(Debug)]
pub struct Lease {
    // Dropped first: the place is free when others are told.
    pub(super) idle: Idle,
    pub(super) flight: Flight,
}

impl Lease {
    pub(super) fn new(pool: &Rc<UpstreamPool>, server: usize, mut idle: Idle) -> Self {
        pool.shared.began(server, pool.seat);
        idle.connection.take();
        Self { idle, flight: Flight { pool: pool.clone(), server } }
    }

    pub(super) fn connection(&mut self) -> &mut Connection {
        &mut self.idle.connection
    }

    pub(super) fn server(&self) -> usize {
        self.flight.server
    }

    /// Closes the connection: its room, for another to the same server, when it was its own.
    pub(super) fn into_slot(self) -> Option<Rc<Slot>> {
        self.idle.slot.clone()
    }

    /// The response was read to its end. Whether the request was sent to its end too, the pool asks
    /// before the next use.
    pub fn give_back(self) {
        let Self { idle, flight } = self;
        flight.pool.keep(flight.server, idle);
    }
}
