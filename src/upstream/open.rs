//! Finding a connection for a request: which server, whether there is room, and whether it can be connected to.

use std::rc::Rc;
use std::time::Instant;

use smallvec::{SmallVec, smallvec};

use super::UpstreamError;
use super::balance::Choice;
use super::connection::Way;
use super::pool::{Idle, Lease, UpstreamPool};
use super::slots::{self, Granted, Slot, Waiting};

/// What is known of a request while a way is found for it.
#[derive(Debug)]
pub(super) struct Plan {
    /// What it is hashed by, if it is.
    key: Option<u64>,
    /// It must not be sent twice.
    careful: bool,
    way: Way,
    /// The server whose turn it is, when that is settled.
    server: Option<usize>,
    /// Room for a new connection to it; a kept one is not good enough.
    slot: Option<Rc<Slot>>,
    /// Servers that failed it.
    tried: SmallVec<[usize; 4]>,
    /// Further attempts.
    left: u32,
    /// Until when it may wait for room.
    queue_until: Option<Instant>,
}

impl Plan {
    pub(super) fn new(pool: &UpstreamPool, key: Option<u64>, careful: bool, way: Way) -> Self {
        let key = key.filter(|_| pool.is_sticky);
        Self {
            key,
            careful,
            way,
            server: None,
            slot: None,
            tried: SmallVec::new(),
            left: pool.retries,
            queue_until: None,
        }
    }

    /// Takes one attempt of those left.
    pub(super) fn take_attempt(&mut self) -> bool {
        let some = self.left > 0;
        self.left = self.left.saturating_sub(1);
        some
    }

    /// Next, the same server over a new connection: the kept one was closed, which says nothing against the server.
    pub(super) fn again(&mut self, lease: Lease) {
        self.server = Some(lease.server());
        self.slot = lease.into_slot();
    }
}

impl UpstreamPool {
    fn choose(&self, plan: &Plan) -> Choice {
        self.balancer.choose(&self.shared, plan.key, &plan.tried, true)
    }

    /// A kept connection of the server whose turn it is; `None` when there is none, or no such server.
    pub(super) async fn kept(self: &Rc<Self>, plan: &mut Plan) -> Option<Lease> {
        if plan.slot.is_some() {
            return None;
        }
        let server = match plan.server {
            Some(server) => server,
            None => match self.choose(plan) {
                Choice::Server(server) => *plan.server.insert(server),
                Choice::AllTried | Choice::NoneHealthy => return None,
            },
        };
        self.take_kept(server, plan.careful, plan.way).await
    }

    /// A new connection: to the server whose turn it is, else to the next that has room and can be connected to; or a
    /// kept one that was waited for.
    pub(super) async fn open(self: &Rc<Self>, plan: &mut Plan) -> Result<Lease, UpstreamError> {
        let mut last = None;
        loop {
            let server = match plan.server.take() {
                Some(server) => server,
                None => match self.choose(plan) {
                    Choice::Server(server) => server,
                    Choice::AllTried => return Err(last.unwrap_or_else(nothing_left)),
                    Choice::NoneHealthy => return Err(last.unwrap_or(UpstreamError::NoHealthyServer)),
                },
            };
            let slot = match plan.slot.take() {
                Some(slot) => slot,
                None => match self.room(plan, server).await? {
                    Found::Slot(slot) => slot,
                    Found::Lease(lease) => return Ok(lease),
                    Found::Nothing => continue,
                },
            };
            match self.connect(slot, plan.way).await {
                Ok(lease) => return Ok(lease),
                Err((server, error)) => {
                    plan.tried.push(server);
                    last = Some(error);
                }
            }
            if !plan.take_attempt() {
                return Err(last.unwrap_or_else(nothing_left));
            }
        }
    }

    async fn connect(self: &Rc<Self>, slot: Rc<Slot>, way: Way) -> Result<Lease, (usize, UpstreamError)> {
        let at = slot.server();
        let server = &self.servers[at].server;
        self.metrics.upstream_opened[self.index].add(1);
        match server.connect(self.connect_timeout, self.keep_alive_timeout, &slot, way).await {
            Ok(connection) => {
                let slot = (!connection.is_shared()).then_some(slot);
                let lease = Lease::new(self, at, Idle { connection, slot });
                // A shared one has places for others, too.
                self.offer_shared(at);
                Ok(lease)
            }
            Err(cause) => {
                self.shared.failed(at);
                // Told by whoever handles it; passed over here, it is nobody's fault yet.
                tracing::debug!(server = %server.name, error = %cause, "cannot connect to upstream server");
                Err((at, UpstreamError::Unreachable { server: server.name.clone(), cause }))
            }
        }
    }

    /// Room for a new connection: at `server`, or else at another that may be asked, or else the first that becomes
    /// free.
    async fn room(self: &Rc<Self>, plan: &mut Plan, server: usize) -> Result<Found, UpstreamError> {
        if let Some(slot) = self.room_at(server) {
            return Ok(Found::Slot(slot));
        }
        let mut full: SmallVec<[usize; 4]> = smallvec![server];
        if plan.key.is_none() {
            loop {
                let tried: SmallVec<[usize; 8]> = plan.tried.iter().chain(&full).copied().collect();
                // It is better to wait for a server that answers than to ask one that did not.
                let Choice::Server(other) = self.balancer.choose(&self.shared, None, &tried, false) else { break };
                if let Some(lease) = self.take_kept(other, plan.careful, plan.way).await {
                    return Ok(Found::Lease(lease));
                }
                if let Some(slot) = self.room_at(other) {
                    return Ok(Found::Slot(slot));
                }
                full.push(other);
            }
        }
        let until = *plan.queue_until.get_or_insert_with(|| Instant::now() + self.queue_timeout);
        let only = plan.key.map(|_| server);
        let waiting = slots::wait(&self.shared, self.seat, only, &full).map_err(|_full| UpstreamError::Overloaded)?;
        let mut place = Place { pool: self, waiting };
        match tokio::time::timeout_at(until.into(), place.waiting.granted()).await {
            Err(_) => Err(UpstreamError::Overloaded),
            Ok(Granted::Again) => Ok(Found::Nothing),
            Ok(Granted::Slot(slot)) => Ok(Found::Slot(Rc::new(slot))),
            Ok(Granted::Connection) => {
                let Some((server, mut idle)) = self.take_handed(place.waiting.id) else { return Ok(Found::Nothing) };
                Ok(match idle.is_for(plan.way) && idle.is_ready(false).await {
                    true => Found::Lease(Lease::new(self, server, idle)),
                    // Closed in the meantime, or used otherwise: its room is ours all the same.
                    false => idle.slot.map_or(Found::Nothing, Found::Slot),
                })
            }
        }
    }

    fn room_at(&self, server: usize) -> Option<Rc<Slot>> {
        let slot = slots::try_open(&self.shared, server).map(Rc::new);
        // Kept ones that were not good enough for the request are in its way.
        slot.or_else(|| self.take_room(server))
    }
}

/// What came of looking for room.
enum Found {
    Slot(Rc<Slot>),
    Lease(Lease),
    /// Choose again.
    Nothing,
}

/// A place in the queue. Left with a connection kept for it, that goes to the next.
struct Place<'p> {
    pool: &'p UpstreamPool,
    waiting: Waiting,
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        if let Some((server, idle)) = self.pool.take_handed(self.waiting.id) {
            self.pool.keep(server, idle);
        }
    }
}

/// Every server was tried, and each told why it was not the last.
fn nothing_left() -> UpstreamError {
    UpstreamError::Unreachable { server: "-".into(), cause: std::io::Error::other("no server is left to try") }
}
