//! Latency of HTTP/1.1 at a fixed rate, whatever the proxy does: requests are due on a clock, and the time of each counts
//! from when it was due, not from when it could be sent.
//!
//! A proxy that stalls makes all wait that were due meanwhile, as it would with real clients; a closed loop would have
//! asked less and seen one slow reply (coordinated omission).

use std::collections::VecDeque;
use std::num::NonZeroU64;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::event::epoll;
use rustix::time::Timespec;

use crate::Fault;
use crate::target::Target;
use crate::transport::{Transport, client};

/// After the end, for replies that are still to come.
const PATIENCE: Duration = Duration::from_secs(10);

/// Whom to ask, how often, and how long.
#[derive(serde::Deserialize)]
pub(crate) struct Job {
    #[serde(flatten)]
    target: Target,
    connections: usize,
    /// Requests a second.
    rate: f64,
    seconds: f64,
}

/// How long the replies took, in microseconds.
#[derive(serde::Serialize)]
pub(crate) struct Told {
    requests: usize,
    /// Replies a second, over the whole time.
    rate: f64,
    p50_us: f64,
    p90_us: f64,
    p99_us: f64,
    p999_us: f64,
    max_us: f64,
    /// How late requests were sent for which a connection was free: what the generator itself adds, at the 99th
    /// percentile.
    late_p99_us: f64,
}

/// A connection and what it waits for.
struct Line {
    transport: Transport,
    due: Instant,
    read: Vec<u8>,
}

/// A load under way.
struct Load<'a> {
    target: &'a Target,
    requests: Vec<Vec<u8>>,
    lines: Vec<Line>,
    /// The connection that has been idle for longest is the next to be used: all of them are.
    idle: VecDeque<usize>,
    /// When the next request is due.
    next: Instant,
    between: Duration,
    end: Instant,
    /// Whether a request that was due has found no connection, and all since are late because of it.
    behind: bool,
    sent: usize,
    latencies: Vec<Duration>,
    late: Vec<Duration>,
}

impl Job {
    /// Sends what is due until the time is over, and waits for what is still to come.
    pub(crate) fn run(&self) -> Result<Told, Fault> {
        // Timers of the system may be 50 µs late by default: as long as a request takes.
        rustix::thread::set_current_timer_slack(NonZeroU64::new(1))?;
        let tls = if self.target.tls { Some(Arc::new(client(false, b"http/1.1")?)) } else { None };
        let watch = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        let mut lines = Vec::new();
        for number in 0..self.connections {
            let transport = Transport::connect(self.target.address, tls.as_ref())?;
            let number = epoll::EventData::new_u64(u64::try_from(number)?);
            epoll::add(&watch, &transport, number, epoll::EventFlags::IN)?;
            lines.push(Line { transport, due: Instant::now(), read: Vec::new() });
        }
        let begin = Instant::now();
        let mut load = Load {
            target: &self.target,
            requests: self.target.requests()?,
            idle: (0..lines.len()).collect(),
            lines,
            next: begin,
            between: Duration::from_secs_f64(1.0 / self.rate),
            end: begin + Duration::from_secs_f64(self.seconds),
            behind: false,
            sent: 0,
            latencies: Vec::new(),
            late: Vec::new(),
        };
        let mut events = Vec::with_capacity(self.connections);
        loop {
            load.send()?;
            let Some(wait) = load.wait()? else { break };
            epoll::wait(&watch, rustix::buffer::spare_capacity(&mut events), Some(&wait))?;
            for event in events.drain(..) {
                load.take(usize::try_from(event.data.u64())?)?;
            }
        }
        Ok(told(load.latencies, load.late, begin.elapsed()))
    }
}

impl Load<'_> {
    /// Sends what is due, as far as connections are free. What waits for one keeps the time at which it was due.
    fn send(&mut self) -> Result<(), Fault> {
        let now = Instant::now();
        while self.next <= now && self.next < self.end {
            let Some(free) = self.idle.pop_front() else {
                self.behind = true;
                return Ok(());
            };
            let line = &mut self.lines[free];
            line.due = self.next;
            line.transport.send(&self.requests[self.sent % self.requests.len()])?;
            self.sent += 1;
            if !self.behind {
                self.late.push(self.next.elapsed());
            }
            self.next += self.between;
        }
        self.behind = false;
        Ok(())
    }

    /// How long to wait for replies at most; `None` when all is done.
    fn wait(&self) -> Result<Option<Timespec>, Fault> {
        let missing = self.sent - self.latencies.len();
        let all_sent = self.next >= self.end;
        if all_sent && missing == 0 {
            return Ok(None);
        }
        if self.end.elapsed() > PATIENCE {
            return Err(format!("{missing} replies never came").into());
        }
        let next = if all_sent || self.idle.is_empty() { Duration::from_secs(1) } else { until(self.next) };
        Ok(Some(Timespec { tv_sec: i64::try_from(next.as_secs())?, tv_nsec: i64::from(next.subsec_nanos()) }))
    }

    /// Takes what has come over a connection.
    fn take(&mut self, number: usize) -> Result<(), Fault> {
        let line = &mut self.lines[number];
        line.transport.receive(&mut line.read)?;
        // Tickets of TLS are no reply.
        if !line.read.is_empty() && self.target.answered(&line.read)? {
            self.latencies.push(line.due.elapsed());
            line.read.clear();
            self.idle.push_back(number);
        }
        Ok(())
    }
}

/// The figures of all that was seen.
fn told(mut latencies: Vec<Duration>, mut late: Vec<Duration>, took: Duration) -> Told {
    latencies.sort_unstable();
    late.sort_unstable();
    Told {
        requests: latencies.len(),
        rate: count(latencies.len()) / took.as_secs_f64(),
        p50_us: percentile(&latencies, 0.5),
        p90_us: percentile(&latencies, 0.9),
        p99_us: percentile(&latencies, 0.99),
        p999_us: percentile(&latencies, 0.999),
        max_us: percentile(&latencies, 1.0),
        late_p99_us: percentile(&late, 0.99),
    }
}

/// The time from now until `then`; none when it is over.
fn until(then: Instant) -> Duration {
    then.saturating_duration_since(Instant::now())
}

/// The least value that so large a share of them does not exceed, in microseconds; 0 of none.
fn percentile(sorted: &[Duration], share: f64) -> f64 {
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "an index within the slice")]
    let rank = (count(sorted.len()) * share).ceil() as usize;
    sorted.get(rank.saturating_sub(1)).map_or(0.0, |value| value.as_secs_f64() * 1e6)
}

/// As a number that can be divided.
#[expect(clippy::cast_precision_loss, reason = "counts of a few seconds")]
pub(crate) fn count(number: usize) -> f64 {
    number as f64
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::percentile;

    #[test]
    fn percentile_is_a_value_that_was_seen() {
        let seen: Vec<_> = (1..=100).map(Duration::from_micros).collect();
        assert!((percentile(&seen, 0.5) - 50.0).abs() < 0.01);
        assert!((percentile(&seen, 0.99) - 99.0).abs() < 0.01);
        assert!((percentile(&seen, 1.0) - 100.0).abs() < 0.01);
        assert!(percentile(&[], 0.99).abs() < 0.01);
    }
}
