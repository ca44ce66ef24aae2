//! Latency of HTTP/1.1 at a fixed rate, whatever the proxy does: requests are due on a clock, and each one's time counts
//! from when it was due, not from when it could be sent. A proxy that stalls makes all wait that were due meanwhile, as it
//! would with real clients; a closed loop would have asked less and seen one slow reply (coordinated omission).

use std::collections::VecDeque;
use std::num::NonZeroU64;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::event::epoll;
use rustix::time::Timespec;

use crate::Fault;
use crate::target::Target;
use crate::transport::{Transport, client};

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

impl Job {
    /// Sends what is due until the time is over, and waits for what is still to come.
    pub(crate) fn run(&self) -> Result<Told, Fault> {
        // Timers of the system may be 50 µs late by default: as long as a request takes.
        rustix::thread::set_current_timer_slack(NonZeroU64::new(1))?;
        let requests = self.target.requests()?;
        let tls = if self.target.tls { Some(Arc::new(client(false, b"http/1.1")?)) } else { None };
        let watch = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        let mut lines = Vec::new();
        for number in 0..self.connections {
            let transport = Transport::connect(self.target.address, tls.as_ref())?;
            let number = epoll::EventData::new_u64(u64::try_from(number)?);
            epoll::add(&watch, &transport, number, epoll::EventFlags::IN)?;
            lines.push(Line { transport, due: Instant::now(), read: Vec::new() });
        }

        let between = Duration::from_secs_f64(1.0 / self.rate);
        let begin = Instant::now();
        let end = begin + Duration::from_secs_f64(self.seconds);
        let mut next = begin;
        // The connection that has been idle for longest is next: all are in use.
        let mut idle: VecDeque<usize> = (0..lines.len()).collect();
        let (mut latencies, mut late) = (Vec::new(), Vec::new());
        let mut sent = 0;
        let mut waited = false;
        let mut events = Vec::with_capacity(self.connections);
        loop {
            // What waited for a connection keeps the time at which it was due.
            let now = Instant::now();
            while next <= now && next < end {
                let Some(free) = idle.pop_front() else {
                    waited = true;
                    break;
                };
                let line = &mut lines[free];
                line.due = next;
                line.transport.send(&requests[sent % requests.len()])?;
                sent += 1;
                if !waited {
                    late.push(next.elapsed());
                }
                next += between;
            }
            if next > now {
                waited = false;
            }
            if next >= end && latencies.len() == sent {
                break;
            }
            let wake = if idle.is_empty() || next >= end { None } else { Some(timespec(next)?) };
            if wake.is_none() && end.elapsed() > Duration::from_secs(10) {
                return Err(format!("{} replies never came", sent - latencies.len()).into());
            }
            let patience = Timespec { tv_sec: 1, tv_nsec: 0 };
            epoll::wait(&watch, rustix::buffer::spare_capacity(&mut events), Some(&wake.unwrap_or(patience)))?;
            for event in events.drain(..) {
                let number = usize::try_from(event.data.u64())?;
                let line = &mut lines[number];
                line.transport.receive(&mut line.read)?;
                if line.read.is_empty() {
                    // Tickets of TLS.
                    continue;
                }
                if self.target.answered(&line.read)? {
                    latencies.push(line.due.elapsed());
                    line.read.clear();
                    idle.push_back(number);
                }
            }
        }
        let took = begin.elapsed();
        latencies.sort_unstable();
        late.sort_unstable();
        Ok(Told {
            requests: latencies.len(),
            rate: count(latencies.len()) / took.as_secs_f64(),
            p50_us: percentile(&latencies, 0.5),
            p90_us: percentile(&latencies, 0.9),
            p99_us: percentile(&latencies, 0.99),
            p999_us: percentile(&latencies, 0.999),
            max_us: percentile(&latencies, 1.0),
            late_p99_us: percentile(&late, 0.99),
        })
    }
}

/// The time from now until `then`; none when it is over.
fn timespec(then: Instant) -> Result<Timespec, Fault> {
    let left = then.saturating_duration_since(Instant::now());
    Ok(Timespec { tv_sec: i64::try_from(left.as_secs())?, tv_nsec: i64::from(left.subsec_nanos()) })
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
