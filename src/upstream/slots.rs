//! Room for connections: so many to each server over all workers, and a queue of those that wait for one.
//!
//! First come, first served. A connection that becomes free in one worker goes to the request that has waited longest
//! there; when one of another worker has waited longer by more than [`FAIRNESS`], it is closed and its room goes to
//! that one. Closing at every turn would be fairer by less than that, and would cost a new connection for every
//! request.
//!
//! Without a limit all of this is one count.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::{Notify, oneshot};

use super::shared::SharedUpstream;
use crate::config::ConnectionLimit;

/// How much longer a request of another worker must have waited to be served before one's own.
const FAIRNESS: Duration = Duration::from_millis(50);

/// The room of all servers of an upstream.
#[derive(Debug)]
pub(super) struct Slots {
    limit: Option<usize>,
    most_waiting: usize,
    servers: Vec<Room>,
    /// The length of the queue, to be asked without its lock.
    waiting: AtomicUsize,
    queue: Mutex<Queue>,
    /// Somebody waits and there are unused connections: each worker closes its own.
    wanted: Notify,
}

#[derive(Debug, Default)]
struct Room {
    open: AtomicUsize,
    /// Connections open and unused. Counted only with a limit.
    idle: AtomicUsize,
    /// Checks say it is not well: nobody is sent there.
    shut: AtomicBool,
}

#[derive(Debug, Default)]
struct Queue {
    /// By id, which is by the time they came.
    waiters: VecDeque<Waiter>,
    next: u64,
}

#[derive(Debug)]
struct Waiter {
    id: u64,
    seat: usize,
    /// Only this server, or any.
    server: Option<usize>,
    since: Instant,
    grant: oneshot::Sender<Grant>,
}

/// What a request that waited gets.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Grant {
    /// Room at this server.
    Room(usize),
    /// A connection, which its own worker keeps for it.
    Connection,
    /// Its server is not to be waited for any more.
    Again,
}

/// What a wait ended with.
#[derive(Debug)]
pub(super) enum Granted {
    /// Room for a new connection.
    Slot(Slot),
    /// The worker holds a connection under the wait's id.
    Connection,
    /// Choose again.
    Again,
}

/// Who gets a connection that has become free.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Claim {
    /// Nobody waits.
    Nobody,
    /// The request of the same worker that waits under this id. It has been told.
    Own(u64),
    /// One of another worker: the connection is to be closed.
    Elsewhere,
}

/// The queue is full.
#[derive(Debug)]
pub(super) struct QueueFull;

/// Room for one connection, given back when dropped.
#[derive(Debug)]
pub(crate) struct Slot {
    upstream: Arc<SharedUpstream>,
    server: usize,
}

impl Slot {
    pub(super) fn server(&self) -> usize {
        self.server
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.upstream.slots.release(self.server);
    }
}

/// A place in the queue, left when dropped.
#[derive(Debug)]
pub(super) struct Waiting {
    upstream: Arc<SharedUpstream>,
    pub(super) id: u64,
    grant: oneshot::Receiver<Grant>,
    settled: bool,
}

impl Waiting {
    /// Waits for its turn.
    pub(super) async fn granted(&mut self) -> Granted {
        let grant = (&mut self.grant).await;
        self.settled = true;
        match grant {
            Ok(Grant::Room(server)) => Granted::Slot(Slot { upstream: self.upstream.clone(), server }),
            Ok(Grant::Connection) => Granted::Connection,
            Ok(Grant::Again) | Err(_) => Granted::Again,
        }
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        if self.settled || self.upstream.slots.leave(self.id) {
            return;
        }
        // Its turn had come and nobody was there to take it: on to the next.
        if let Ok(Grant::Room(server)) = self.grant.try_recv() {
            drop(Slot { upstream: self.upstream.clone(), server });
        }
    }
}

impl Slots {
    pub(super) fn new(config: &ConnectionLimit, servers: usize) -> Self {
        Self {
            limit: config.max.map(usize::from),
            most_waiting: config.queue.get(),
            servers: std::iter::repeat_with(Room::default).take(servers).collect(),
            waiting: AtomicUsize::new(0),
            queue: Mutex::default(),
            wanted: Notify::new(),
        }
    }

    pub(super) fn is_limited(&self) -> bool {
        self.limit.is_some()
    }

    pub(super) fn open(&self, server: usize) -> usize {
        self.servers[server].open.load(SeqCst)
    }

    pub(super) fn waiting(&self) -> usize {
        self.waiting.load(SeqCst)
    }

    /// Until somebody waits while there are unused connections.
    pub(super) fn wanted(&self) -> tokio::sync::futures::Notified<'_> {
        self.wanted.notified()
    }

    /// One more connection is kept unused.
    pub(super) fn idle_added(&self, server: usize) {
        if self.is_limited() {
            self.servers[server].idle.fetch_add(1, SeqCst);
        }
    }

    /// One fewer is.
    pub(super) fn idle_taken(&self, server: usize) {
        if self.is_limited() {
            self.servers[server].idle.fetch_sub(1, SeqCst);
        }
    }

    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes the first that waits for `server`, and counts it out.
    fn next_for(&self, queue: &mut Queue, server: usize) -> Option<Waiter> {
        let at = queue.waiters.iter().position(|waiter| waiter.takes(server))?;
        self.removed(queue, at)
    }

    fn removed(&self, queue: &mut Queue, at: usize) -> Option<Waiter> {
        let waiter = queue.waiters.remove(at);
        self.waiting.store(queue.waiters.len(), SeqCst);
        waiter
    }

    /// Gives free room at `server` to those that wait for it.
    fn hand_out(&self, queue: &mut Queue, server: usize) {
        let (Some(limit), room) = (self.limit, &self.servers[server]) else { return };
        while !room.shut.load(SeqCst) && room.open.load(SeqCst) < limit {
            let Some(waiter) = self.next_for(queue, server) else { return };
            if waiter.grant.send(Grant::Room(server)).is_ok() {
                room.open.fetch_add(1, SeqCst);
            }
        }
    }

    fn release(&self, server: usize) {
        let room = &self.servers[server];
        if self.limit.is_none() {
            room.open.fetch_sub(1, SeqCst);
            return;
        }
        let mut queue = self.queue();
        room.open.fetch_sub(1, SeqCst);
        self.hand_out(&mut queue, server);
    }

    /// Takes the place with this id out of the queue; `false` when its turn has come.
    fn leave(&self, id: u64) -> bool {
        let mut queue = self.queue();
        let Ok(at) = queue.waiters.binary_search_by_key(&id, |waiter| waiter.id) else { return false };
        self.removed(&mut queue, at).is_some()
    }

    /// Who gets a connection to `server` that has become free in the worker `seat`.
    pub(super) fn claim(&self, server: usize, seat: usize) -> Claim {
        if self.waiting.load(SeqCst) == 0 {
            return Claim::Nobody;
        }
        let mut queue = self.queue();
        loop {
            let mut waiters = queue.waiters.iter().enumerate().filter(|(_, waiter)| waiter.takes(server));
            let Some((first, oldest)) = waiters.next() else { return Claim::Nobody };
            let own = if oldest.seat == seat {
                Some(first)
            } else {
                let until = oldest.since + FAIRNESS;
                waiters.find(|(_, waiter)| waiter.seat == seat && waiter.since <= until).map(|(at, _)| at)
            };
            let Some(own) = own else { return Claim::Elsewhere };
            let Some(waiter) = self.removed(&mut queue, own) else { return Claim::Nobody };
            if waiter.grant.send(Grant::Connection).is_ok() {
                return Claim::Own(waiter.id);
            }
        }
    }

    /// Checks found `server` not to be well: nobody waits for it any more.
    pub(super) fn shut(&self, server: usize) {
        self.servers[server].shut.store(true, SeqCst);
        self.dismiss(server);
    }

    /// Checks found `server` to be well again.
    pub(super) fn reopen(&self, server: usize) {
        self.servers[server].shut.store(false, SeqCst);
        self.hand_out(&mut self.queue(), server);
    }

    /// Lets those that wait for `server` alone choose again.
    pub(super) fn dismiss(&self, server: usize) {
        let mut queue = self.queue();
        while let Some(at) = queue.waiters.iter().position(|waiter| waiter.server == Some(server)) {
            if let Some(waiter) = self.removed(&mut queue, at) {
                // It may have gone away.
                let _ = waiter.grant.send(Grant::Again);
            }
        }
    }
}

impl Waiter {
    fn takes(&self, server: usize) -> bool {
        self.server.is_none_or(|only| only == server)
    }
}

/// Room for a connection to `server`, at once; `None` when there is none, or others came first.
pub(super) fn try_open(upstream: &Arc<SharedUpstream>, server: usize) -> Option<Slot> {
    let slots = &upstream.slots;
    let room = &slots.servers[server];
    if let Some(limit) = slots.limit {
        let mut queue = slots.queue();
        // Room that nobody was told of, because the server was left out when it became free.
        slots.hand_out(&mut queue, server);
        if room.open.load(SeqCst) >= limit {
            return None;
        }
        room.open.fetch_add(1, SeqCst);
    } else {
        room.open.fetch_add(1, SeqCst);
    }
    Some(Slot { upstream: upstream.clone(), server })
}

/// A place at the end of the queue: for `only` this server, or for any. `full` are those that were just found to be
/// full.
///
/// # Errors
/// When too many wait already.
pub(super) fn wait(
    upstream: &Arc<SharedUpstream>,
    seat: usize,
    only: Option<usize>,
    full: &[usize],
) -> Result<Waiting, QueueFull> {
    let slots = &upstream.slots;
    let (grant, receiver) = oneshot::channel();
    let mut queue = slots.queue();
    if queue.waiters.len() >= slots.most_waiting {
        return Err(QueueFull);
    }
    let id = queue.next;
    queue.next += 1;
    queue.waiters.push_back(Waiter { id, seat, server: only, since: Instant::now(), grant });
    slots.waiting.store(queue.waiters.len(), SeqCst);
    // Room that became free since it was looked for: nobody would tell of it any more.
    for server in full {
        slots.hand_out(&mut queue, *server);
    }
    drop(queue);
    // Another worker that keeps a connection looks at `waiting` after it has counted it as unused, we the other way
    // around: one of us sees the other.
    if full.iter().any(|server| slots.servers[*server].idle.load(SeqCst) > 0) {
        slots.wanted.notify_waiters();
    }
    Ok(Waiting { upstream: upstream.clone(), id, grant: receiver, settled: false })
}

#[cfg(test)]
mod crowd;

#[cfg(test)]
mod tests {
    use std::task::{Context, Poll, Waker};

    use super::*;
    use crate::upstream::shared::tests::upstream;

    fn limited(max: usize, queue: usize, servers: usize) -> Arc<SharedUpstream> {
        upstream(servers, |config| {
            config.connections.max = Some(max.try_into().unwrap());
            config.connections.queue = queue.try_into().unwrap();
        })
    }

    fn now(waiting: &mut Waiting) -> Option<Granted> {
        match std::pin::pin!(waiting.granted()).poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(granted) => Some(granted),
            Poll::Pending => None,
        }
    }

    fn slot(waiting: &mut Waiting) -> Slot {
        match now(waiting) {
            Some(Granted::Slot(slot)) => slot,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn who_came_first_is_served_first_and_nobody_passes() {
        let upstream = limited(1, 10, 1);
        let first = try_open(&upstream, 0).unwrap();
        assert!(try_open(&upstream, 0).is_none());
        let [mut a, mut b] = [0, 1].map(|seat| wait(&upstream, seat, None, &[0]).unwrap());
        assert!(now(&mut a).is_none() && upstream.slots.waiting() == 2);
        drop(first);
        // The room is the first one's already, and not for those that come now.
        assert!(try_open(&upstream, 0).is_none());
        let taken = slot(&mut a);
        assert!(now(&mut b).is_none());
        drop(taken);
        drop(slot(&mut b));
        assert_eq!((upstream.slots.waiting(), upstream.slots.open(0)), (0, 0));
    }

    #[test]
    fn who_goes_away_leaves_the_queue_and_hands_on_what_came_too_late() {
        let upstream = limited(1, 10, 1);
        let held = try_open(&upstream, 0).unwrap();
        let [a, b, mut c] = [0; 3].map(|seat| wait(&upstream, seat, None, &[0]).unwrap());
        drop(a);
        assert_eq!(upstream.slots.waiting(), 2);
        // The room is granted to `b`, which goes away before it looks.
        drop(held);
        drop(b);
        drop(slot(&mut c));
        assert_eq!((upstream.slots.waiting(), upstream.slots.open(0)), (0, 0));
    }

    #[test]
    fn the_queue_is_bounded() {
        let upstream = limited(1, 2, 1);
        let _held = try_open(&upstream, 0).unwrap();
        let waiting = [0; 2].map(|seat| wait(&upstream, seat, None, &[0]).unwrap());
        assert!(wait(&upstream, 0, None, &[0]).is_err());
        drop(waiting);
        assert!(wait(&upstream, 0, None, &[0]).is_ok());
    }

    #[test]
    fn room_that_becomes_free_between_looking_and_waiting_is_not_lost() {
        let upstream = limited(1, 2, 2);
        let held = [0, 1].map(|server| try_open(&upstream, server).unwrap());
        assert!(try_open(&upstream, 0).is_none());
        drop(held);
        assert_eq!(slot(&mut wait(&upstream, 0, None, &[0, 1]).unwrap()).server(), 0);
        // Whoever wants one server does not get another.
        let _one = try_open(&upstream, 1).unwrap();
        assert!(now(&mut wait(&upstream, 0, Some(1), &[1]).unwrap()).is_none());
    }

    #[test]
    fn a_free_connection_goes_to_its_own_worker_unless_another_waits_much_longer() {
        let upstream = limited(1, 10, 1);
        let _held = try_open(&upstream, 0).unwrap();
        assert_eq!(upstream.slots.claim(0, 0), Claim::Nobody);
        let mut other = wait(&upstream, 1, None, &[0]).unwrap();
        assert_eq!(upstream.slots.claim(0, 0), Claim::Elsewhere);
        let mut own = wait(&upstream, 0, None, &[0]).unwrap();
        assert_eq!(upstream.slots.claim(0, 0), Claim::Own(own.id));
        assert!(matches!(now(&mut own), Some(Granted::Connection)));
        let mut late = wait(&upstream, 0, None, &[0]).unwrap();
        {
            let mut queue = upstream.slots.queue();
            queue.waiters[0].since -= FAIRNESS * 2;
        }
        assert_eq!(upstream.slots.claim(0, 0), Claim::Elsewhere);
        assert!(now(&mut other).is_none() && now(&mut late).is_none());
    }

    #[test]
    fn nobody_waits_for_a_server_that_is_not_well() {
        let upstream = limited(1, 10, 2);
        let held = [0, 1].map(|server| try_open(&upstream, server).unwrap());
        let mut only = wait(&upstream, 0, Some(0), &[0]).unwrap();
        let mut any = wait(&upstream, 0, None, &[0, 1]).unwrap();
        upstream.slots.shut(0);
        assert!(matches!(now(&mut only), Some(Granted::Again)));
        let [zero, one] = held;
        drop(zero);
        assert!(now(&mut any).is_none(), "sent to a server that is not well");
        // Room is told of when it is well again.
        upstream.slots.reopen(0);
        drop(slot(&mut any));
        drop(one);
        assert_eq!([0, 1].map(|server| upstream.slots.open(server)), [0, 0]);
    }
}
