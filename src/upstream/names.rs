//! Names of servers: looked up beside requests, again and again, each time when the answer runs out.
//!
//! A request reads what is known and waits only while nothing is yet. While DNS fails the last good answer is used, for
//! [`KEPT_WHEN_FAILING`] beyond its time.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use hickory_resolver::net::NetError;
use tokio::sync::{Notify, watch};
use tokio::task::JoinSet;

use super::lookup::{System, look_up};

/// How long an answer is used beyond its time while nobody gives another. Longer than a restart of a DNS server takes,
/// and short enough that an address is not believed in for ever.
const KEPT_WHEN_FAILING: Duration = Duration::from_secs(300);

/// The pause after a look-up that failed; it doubles up to the second.
const RETRY: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(15));

/// A look-up that takes longer has failed.
const LOOK_UP_TIMEOUT: Duration = Duration::from_secs(20);

/// All names that are looked up, each once for all upstreams that have it.
#[derive(Debug, Default)]
pub struct Names {
    all: Vec<Arc<Name>>,
    system: Arc<System>,
}

impl Names {
    /// The name `host`, asked at `resolver` or, without one, as the system says.
    pub(super) fn add(&mut self, host: &str, resolver: Option<SocketAddr>) -> Arc<Name> {
        if let Some(known) = self.all.iter().find(|known| known.host == host && known.resolver == resolver) {
            return known.clone();
        }
        let name = Arc::new(Name::new(host, resolver));
        self.all.push(name.clone());
        name
    }

    /// Keeps all names fresh on the current runtime, until `stopping` turns true.
    pub fn keep_fresh(&self, tasks: &mut JoinSet<()>, stopping: &watch::Receiver<bool>) {
        for name in &self.all {
            let (name, system, mut stopping) = (name.clone(), self.system.clone(), stopping.clone());
            tasks.spawn(async move {
                tokio::select! {
                    () = keep_fresh(&name, &system) => {}
                    _ = stopping.wait_for(|stop| *stop) => {}
                }
            });
        }
    }
}

/// One name and what is known of it. Read by workers without a lock.
#[derive(Debug)]
pub(super) struct Name {
    host: String,
    resolver: Option<SocketAddr>,
    known: ArcSwap<Known>,
    /// Grows when the addresses change: what requests compare.
    generation: AtomicU64,
    answered: Notify,
}

#[derive(Clone, Debug)]
enum Known {
    /// The first look-up is on its way.
    Nothing,
    /// Its addresses, sorted, at least one.
    Addresses(Arc<[IpAddr]>),
    /// There was no answer, or none for too long.
    Failed(Arc<str>),
}

/// An address that was connected to and the name it was of.
#[derive(Debug)]
pub(super) struct Named {
    name: Arc<Name>,
    address: IpAddr,
    generation: u64,
}

impl Named {
    /// Whether the name still has the address, as far as is known.
    pub(super) fn is_current(&mut self) -> bool {
        let generation = self.name.generation.load(Ordering::Acquire);
        if generation != self.generation {
            if !self.name.may_have(self.address) {
                return false;
            }
            self.generation = generation;
        }
        true
    }
}

impl Name {
    fn new(host: &str, resolver: Option<SocketAddr>) -> Self {
        Self {
            host: host.to_owned(),
            resolver,
            known: ArcSwap::from_pointee(Known::Nothing),
            generation: AtomicU64::new(0),
            answered: Notify::new(),
        }
    }

    /// The addresses. Waits only until the first look-up has ended.
    ///
    /// # Errors
    /// When there are none.
    pub(super) async fn addresses(&self) -> io::Result<Arc<[IpAddr]>> {
        loop {
            // Listening before looking: an answer in between is not missed.
            let mut answered = std::pin::pin!(self.answered.notified());
            answered.as_mut().enable();
            match &**self.known.load() {
                Known::Addresses(addresses) => return Ok(addresses.clone()),
                Known::Failed(why) => return Err(io::Error::new(io::ErrorKind::NotFound, why.to_string())),
                Known::Nothing => {}
            }
            answered.await;
        }
    }

    /// Marks a connection to `address` as one of this name.
    pub(super) fn connected(self: &Arc<Self>, address: IpAddr) -> Named {
        // From before any change that is not yet seen: the first look at it compares addresses.
        Named { name: self.clone(), address, generation: 0 }
    }

    fn may_have(&self, address: IpAddr) -> bool {
        match &**self.known.load() {
            Known::Addresses(addresses) => addresses.contains(&address),
            // Nobody said that it has not.
            Known::Nothing | Known::Failed(_) => true,
        }
    }

    fn set(&self, known: Known) {
        self.known.store(Arc::new(known));
        self.generation.fetch_add(1, Ordering::Release);
        self.answered.notify_waiters();
    }

    fn take(&self, mut addresses: Vec<IpAddr>) {
        addresses.sort_unstable();
        addresses.dedup();
        // The order in which a server gives them changes with every answer and means nothing.
        if !matches!(&**self.known.load(), Known::Addresses(before) if **before == *addresses) {
            tracing::debug!(name = %self.host, ?addresses, "addresses of an upstream server");
            self.set(Known::Addresses(addresses.into()));
        }
    }

    fn fail(&self, why: &str) {
        self.set(Known::Failed(format!("cannot look up {}: {why}", self.host).into()));
    }
}

/// Looks a name up whenever its answer runs out. Never ends.
async fn keep_fresh(name: &Name, system: &System) {
    let mut patience = Patience::new(Instant::now());
    loop {
        let answer = tokio::time::timeout(LOOK_UP_TIMEOUT, look_up(&name.host, name.resolver, system)).await;
        let now = Instant::now();
        let wait = match answer.unwrap_or(Err(NetError::Timeout)) {
            Ok((addresses, ttl)) => {
                if patience.failing {
                    tracing::info!(name = %name.host, "the name of an upstream server can be looked up again");
                }
                name.take(addresses);
                patience.answered(now, ttl)
            }
            Err(error) => {
                if !patience.failing {
                    tracing::warn!(name = %name.host, error = %error, "cannot look up the name of an upstream server");
                }
                if now >= patience.good_until {
                    name.fail(&error.to_string());
                }
                patience.failed()
            }
        };
        tokio::time::sleep(wait).await;
    }
}

/// How long the last good answer is believed, and when to ask again.
#[derive(Debug)]
struct Patience {
    failing: bool,
    good_until: Instant,
    pause: Duration,
}

impl Patience {
    fn new(now: Instant) -> Self {
        Self { failing: false, good_until: now, pause: RETRY.0 }
    }

    /// The pause after an answer that holds for `ttl`.
    fn answered(&mut self, now: Instant, ttl: Duration) -> Duration {
        *self = Self { failing: false, good_until: now + ttl + KEPT_WHEN_FAILING, pause: RETRY.0 };
        ttl
    }

    /// The pause after a failure.
    fn failed(&mut self) -> Duration {
        self.failing = true;
        let next = (self.pause * 2).min(RETRY.1);
        std::mem::replace(&mut self.pause, next)
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    fn ip(last: u8) -> IpAddr {
        Ipv4Addr::new(10, 0, 0, last).into()
    }

    #[tokio::test]
    async fn only_a_change_of_the_addresses_is_one() {
        let name = Arc::new(Name::new("a", None));
        name.take(vec![ip(2), ip(1), ip(2)]);
        assert_eq!(*name.addresses().await.unwrap(), [ip(1), ip(2)]);
        let before = name.generation.load(Ordering::Relaxed);
        name.take(vec![ip(1), ip(2)]);
        assert_eq!(name.generation.load(Ordering::Relaxed), before);
        let (mut stays, mut goes) = (name.connected(ip(1)), name.connected(ip(2)));
        assert!(stays.is_current() && goes.is_current());
        name.take(vec![ip(1), ip(3)]);
        assert!(stays.is_current() && !goes.is_current());
    }

    #[tokio::test]
    async fn a_name_that_cannot_be_looked_up_any_more_takes_no_connection_away() {
        let name = Arc::new(Name::new("a", None));
        name.take(vec![ip(1)]);
        let mut connection = name.connected(ip(1));
        name.fail("no answer");
        assert!(connection.is_current());
        assert_eq!(name.addresses().await.unwrap_err().to_string(), "cannot look up a: no answer");
    }

    #[tokio::test]
    async fn who_comes_before_the_first_answer_waits_for_it() {
        let name = Arc::new(Name::new("a", None));
        let waiting = tokio::spawn({
            let name = name.clone();
            async move { name.addresses().await.unwrap() }
        });
        tokio::task::yield_now().await;
        name.take(vec![ip(1)]);
        assert_eq!(*waiting.await.unwrap(), [ip(1)]);
    }

    #[test]
    fn the_last_good_answer_is_kept_for_its_time_and_five_minutes_more() {
        let now = Instant::now();
        let mut patience = Patience::new(now);
        assert!(now >= patience.good_until, "there is none to keep");
        let ttl = Duration::from_secs(10);
        assert_eq!(patience.answered(now, ttl), ttl);
        assert_eq!(patience.good_until, now + ttl + Duration::from_secs(300));
        let pauses: Vec<u64> = (0..6).map(|_| patience.failed().as_secs()).collect();
        assert_eq!(pauses, [1, 2, 4, 8, 15, 15]);
        assert_eq!(patience.good_until, now + ttl + Duration::from_secs(300), "failing prolongs nothing");
        assert!(patience.failing);
        patience.answered(now, ttl);
        assert_eq!((patience.failing, patience.failed()), (false, RETRY.0));
    }
}
