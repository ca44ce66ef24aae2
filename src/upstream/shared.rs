//! What all workers know of an upstream together: which servers are well, how busy they are, and how much room there
//! is.

use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use http::StatusCode;

use super::balance::{Choice, Weights, key_of};
use super::budget::RetryBudget;
use super::ejection::{Record, Share, has_room, millis};
use super::slots::Slots;
use crate::config;
use crate::telemetry::metrics::Metrics;

/// One upstream of the process.
#[derive(Debug)]
pub struct SharedUpstream {
    name: Arc<str>,
    pub(super) servers: Vec<ServerState>,
    /// Reasons for which servers are not in full service. None in usual times: then no server is looked at.
    troubles: AtomicUsize,
    ejection: Option<config::Ejection>,
    /// One at a time, so that two workers do not leave out one server too many.
    ejecting: Mutex<()>,
    pub(super) slots: Slots,
    budget: RetryBudget,
    start: Instant,
    workers: usize,
    seats: AtomicUsize,
}

/// One of its servers.
#[derive(Debug)]
pub(super) struct ServerState {
    pub(super) name: Arc<str>,
    weight: u32,
    /// Of the name: what keys are matched with.
    pub(super) hash: u64,
    by_worker: Box<[WorkerCounts]>,
    /// What checks say; without checks it stays false.
    unhealthy: AtomicBool,
    record: Record,
}

/// What one worker counts of one server: on lines of its own, so that counting is never waiting for another's.
#[derive(Debug, Default)]
#[repr(align(128))]
struct WorkerCounts {
    in_flight: AtomicUsize,
    sent: AtomicU64,
}

impl SharedUpstream {
    /// For so many workers.
    pub fn new(config: &config::Upstream, workers: usize) -> Self {
        let workers = workers.max(1);
        let start = Instant::now();
        let server = |server: &config::UpstreamServer| {
            let name: Arc<str> = server.address.name().into();
            ServerState {
                hash: key_of(name.as_bytes()),
                name,
                weight: server.weight,
                by_worker: std::iter::repeat_with(WorkerCounts::default).take(workers).collect(),
                unhealthy: AtomicBool::new(false),
                record: Record::default(),
            }
        };
        Self {
            name: config.name.clone(),
            servers: config.servers.iter().map(server).collect(),
            troubles: AtomicUsize::new(0),
            ejection: config.ejection.clone(),
            ejecting: Mutex::default(),
            slots: Slots::new(&config.connections, config.servers.len()),
            budget: RetryBudget::new(config.retries.budget, start),
            start,
            workers,
            seats: AtomicUsize::new(0),
        }
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// A number for a worker.
    pub(super) fn take_seat(&self) -> usize {
        self.seats.fetch_add(1, Relaxed) % self.workers
    }

    pub(super) fn is_untroubled(&self) -> bool {
        self.troubles.load(Relaxed) == 0
    }

    fn now(&self) -> u64 {
        millis(self.start.elapsed())
    }

    /// Weights as they are now, without those of `tried`: of the servers in service, or else of those that are left out
    /// only because they failed, as a `last_resort`. Whether they still do can be found out by trying.
    ///
    /// # Errors
    /// [`Choice`], when no server is left.
    pub(super) fn weights(&self, tried: &[usize], last_resort: bool) -> Result<Weights, Choice> {
        let slow_start = self.ejection.as_ref().and_then(|rules| rules.slow_start);
        let mut now = None;
        let untroubled = self.is_untroubled();
        let mut weights = Weights::new();
        let (mut any, mut any_healthy, mut any_ejected) = (false, false, false);
        for (at, server) in self.servers.iter().enumerate() {
            let healthy = !server.unhealthy.load(Relaxed);
            any_healthy |= healthy;
            let percent = if !healthy || tried.contains(&at) {
                0
            } else if untroubled {
                100
            } else {
                match server.record.share(slow_start, *now.get_or_insert_with(|| self.now())) {
                    Share::Full => 100,
                    Share::Returned => {
                        self.settle(server);
                        100
                    }
                    Share::Growing(percent) => percent,
                    Share::Ejected => {
                        any_ejected = true;
                        0
                    }
                }
            };
            any |= percent > 0;
            weights.push(server.weight * percent);
        }
        if any {
            return Ok(weights);
        }
        if any_ejected && last_resort {
            for (at, server) in self.servers.iter().enumerate() {
                let able = !server.unhealthy.load(Relaxed) && !tried.contains(&at);
                weights[at] = if able { server.weight * 100 } else { 0 };
            }
            return Ok(weights);
        }
        Err(if any_healthy { Choice::AllTried } else { Choice::NoneHealthy })
    }

    /// `server` is in full service again.
    fn settle(&self, server: &ServerState) {
        if server.record.settle() {
            self.troubles.fetch_sub(1, Relaxed);
            tracing::info!(upstream = %self.name, server = %server.name, "upstream server is in full service again");
        }
    }

    /// Requests in flight to a server, those of all workers.
    pub(super) fn in_flight(&self, server: usize) -> usize {
        self.servers[server].by_worker.iter().map(|worker| worker.in_flight.load(Relaxed)).sum()
    }

    /// One request more is on its way to `server`, sent by the worker `seat`.
    pub(super) fn began(&self, server: usize, seat: usize) {
        let counts = &self.servers[server].by_worker[seat];
        counts.in_flight.fetch_add(1, Relaxed);
        counts.sent.fetch_add(1, Relaxed);
    }

    /// It is answered to the end, or given up.
    pub(super) fn ended(&self, server: usize, seat: usize) {
        self.servers[server].by_worker[seat].in_flight.fetch_sub(1, Relaxed);
    }

    /// Whether a request may be sent once more.
    pub(super) fn may_send_again(&self) -> bool {
        let sent = |server: &ServerState| server.by_worker.iter().map(|worker| worker.sent.load(Relaxed)).sum::<u64>();
        self.budget.take(self.servers.iter().map(sent).sum(), Instant::now())
    }

    /// `server` answered with `status`.
    pub(super) fn answered(&self, server: usize, status: StatusCode) {
        let bad = status.is_server_error()
            && self.ejection.as_ref().is_some_and(|rules| rules.statuses.contains(&status.as_u16()));
        if bad {
            self.failed(server);
        } else {
            self.servers[server].record.succeeded();
        }
    }

    /// `server` could not be connected to, broke off or did not answer in time. Never called for what a client caused:
    /// or clients could have servers left out.
    pub(super) fn failed(&self, server: usize) {
        let Some(rules) = &self.ejection else { return };
        if self.servers.len() > 1 && self.servers[server].record.failed(rules) {
            self.eject(server, rules);
        }
    }

    fn eject(&self, server: usize, rules: &config::Ejection) {
        let _one_at_a_time = self.ejecting.lock().unwrap_or_else(PoisonError::into_inner);
        let now = self.now();
        let ejected = |server: &ServerState| server.record.share(None, now) == Share::Ejected;
        let others = || self.servers.iter().enumerate().filter(|(at, _)| *at != server).map(|(_, server)| server);
        let out = others().filter(|other| ejected(other)).count();
        let stays = others().any(|other| !ejected(other) && !other.unhealthy.load(Relaxed));
        let failing = &self.servers[server];
        if ejected(failing) || !stays || !has_room(rules, self.servers.len(), out) {
            return;
        }
        let (time, was_full) = failing.record.eject(rules, now);
        if was_full {
            self.troubles.fetch_add(1, Relaxed);
        }
        tracing::warn!(
            upstream = %self.name,
            server = %failing.name,
            duration_ms = millis(time),
            "upstream server failed too often and is left out"
        );
        self.slots.dismiss(server);
    }

    /// What checks say of `server`.
    pub(super) fn set_healthy(&self, server: usize, healthy: bool) {
        let state = &self.servers[server];
        if state.unhealthy.swap(!healthy, Relaxed) != healthy {
            return;
        }
        if healthy {
            self.troubles.fetch_sub(1, Relaxed);
            self.slots.reopen(server);
        } else {
            self.troubles.fetch_add(1, Relaxed);
            self.slots.shut(server);
        }
    }

    fn is_ejected(&self, server: usize) -> bool {
        self.servers[server].record.share(None, self.now()) == Share::Ejected
    }
}

/// Adds the gauges of all upstreams.
pub fn add_gauges(metrics: &mut Metrics, upstreams: &[Arc<SharedUpstream>]) {
    type Read = fn(&SharedUpstream, usize) -> usize;
    const BY_SERVER: [(&str, &str, Read); 4] = [
        (
            "portcullis_upstream_healthy",
            "1 while checks find a server well, or nobody checks, else 0.",
            |it, server| usize::from(!it.servers[server].unhealthy.load(Relaxed)),
        ),
        ("portcullis_upstream_ejected", "1 while a server is left out because it failed, else 0.", |it, server| {
            usize::from(it.is_ejected(server))
        }),
        ("portcullis_upstream_connections", "Connections open to a server.", |it, server| it.slots.open(server)),
        ("portcullis_upstream_requests_in_flight", "Requests on their way to a server or back.", |it, server| {
            it.in_flight(server)
        }),
    ];
    for (name, help, read) in BY_SERVER {
        for upstream in upstreams {
            for (at, server) in upstream.servers.iter().enumerate() {
                let labels = vec![("upstream", upstream.name.to_string()), ("server", server.name.to_string())];
                let upstream = upstream.clone();
                metrics.gauge(name, help, labels, move || float(read(&upstream, at)));
            }
        }
    }
    for upstream in upstreams {
        let (labels, upstream) = (vec![("upstream", upstream.name.to_string())], upstream.clone());
        let help = "Requests that wait for a connection.";
        metrics.gauge("portcullis_upstream_queued", help, labels, move || float(upstream.slots.waiting()));
    }
}

#[expect(clippy::cast_precision_loss, reason = "gauges are read as approximations")]
fn float(count: usize) -> f64 {
    count as f64
}

#[cfg(test)]
pub(super) mod tests {
    use std::path::Path;
    use std::time::Duration;

    use super::*;

    pub(crate) fn upstream(servers: usize, change: impl FnOnce(&mut config::Upstream)) -> Arc<SharedUpstream> {
        let names = (0..servers).map(|at| format!("'http://10.0.0.{at}:80'")).collect::<Vec<_>>().join(", ");
        let text = format!(
            "server.listen = ['127.0.0.1:0']\nupstream.u.servers = [{names}]\n\
             route = [{{ path = '/', upstream = 'u', auth = 'public' }}]\n"
        );
        let mut config = config::Config::parse(&text, "t", Path::new("")).unwrap();
        change(&mut config.upstreams[0]);
        Arc::new(SharedUpstream::new(&config.upstreams[0], 2))
    }

    fn fail(upstream: &SharedUpstream, server: usize, times: usize) {
        for _ in 0..times {
            upstream.failed(server);
        }
    }

    #[test]
    fn a_server_that_fails_is_left_out_but_never_the_last_one() {
        let upstream = upstream(4, |_| {});
        fail(&upstream, 0, 4);
        upstream.answered(0, StatusCode::OK);
        fail(&upstream, 0, 4);
        assert!(upstream.is_untroubled());
        fail(&upstream, 0, 1);
        assert_eq!(upstream.weights(&[], true).unwrap().as_slice(), [0, 100, 100, 100]);
        // Half of them at most.
        fail(&upstream, 1, 9);
        fail(&upstream, 2, 9);
        assert_eq!(upstream.weights(&[], true).unwrap().as_slice(), [0, 0, 100, 100]);
        // With nothing else left, those are tried that only failed.
        assert_eq!(upstream.weights(&[2, 3], true).unwrap().as_slice(), [100, 100, 0, 0]);
        assert_eq!(upstream.weights(&[2, 3], false), Err(Choice::AllTried));
        assert_eq!(upstream.weights(&[0, 1, 2, 3], true), Err(Choice::AllTried));
    }

    #[test]
    fn the_only_healthy_server_is_not_left_out() {
        let upstream = upstream(2, |_| {});
        upstream.set_healthy(1, false);
        fail(&upstream, 0, 9);
        assert_eq!(upstream.weights(&[], true).unwrap().as_slice(), [100, 0]);
        upstream.set_healthy(0, false);
        assert_eq!(upstream.weights(&[], true), Err(Choice::NoneHealthy));
        upstream.set_healthy(0, true);
        upstream.set_healthy(1, true);
        assert!(upstream.is_untroubled());
    }

    #[test]
    fn a_server_left_out_comes_back_with_a_share_that_grows() {
        let upstream = upstream(2, |config| {
            let rules = config.ejection.as_mut().unwrap();
            rules.base = Duration::from_millis(1);
            rules.slow_start = Some(Duration::from_secs(3600));
        });
        fail(&upstream, 1, 5);
        let start = Instant::now();
        while upstream.is_ejected(1) {
            assert!(start.elapsed() < Duration::from_secs(5));
        }
        assert_eq!(upstream.weights(&[], true).unwrap().as_slice(), [100, 10]);
        assert!(!upstream.is_untroubled());
    }

    #[test]
    fn statuses_are_failures_only_when_named() {
        let upstream = upstream(2, |config| config.ejection.as_mut().unwrap().statuses = vec![503]);
        for _ in 0..9 {
            upstream.answered(0, StatusCode::INTERNAL_SERVER_ERROR);
            upstream.answered(1, StatusCode::SERVICE_UNAVAILABLE);
        }
        assert_eq!(upstream.weights(&[], true).unwrap().as_slice(), [100, 0]);
    }

    #[test]
    fn requests_in_flight_are_those_of_all_workers() {
        let upstream = upstream(2, |_| {});
        let seats = [upstream.take_seat(), upstream.take_seat()];
        for seat in seats {
            upstream.began(1, seat);
        }
        assert_eq!((upstream.in_flight(0), upstream.in_flight(1)), (0, 2));
        for seat in seats {
            upstream.ended(1, seat);
        }
        assert_eq!(upstream.in_flight(1), 0);
    }
}
