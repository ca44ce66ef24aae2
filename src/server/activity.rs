//! What a connection is doing, and which of its deadlines has passed.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicU64, Ordering::Relaxed};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use http_body::{Body, Frame, SizeHint};

use crate::config::Limits;
use crate::telemetry::metrics::ConnectionLimit;

/// What a connection is doing, as seen from its socket and its requests. Written without locks, read by the alarm.
#[derive(Debug)]
pub(super) struct Activity {
    start: Instant,
    /// HTTP/1.1: a byte after an answer is the start of the next header.
    pub(super) one_at_a_time: bool,
    /// Part of the next header came with what was before it, and waits.
    header_begun: AtomicBool,
    requests: AtomicU32,
    phase: AtomicU8,
    /// Milliseconds after `start` when the phase began.
    since: AtomicU64,
    /// Milliseconds after `start` since when writing makes no progress; `u64::MAX` when it does.
    blocked_since: AtomicU64,
}

/// Waiting for (the rest of) a header.
const HEADER: u8 = 0;
/// Between two requests.
const IDLE: u8 = 1;
/// A request is being answered.
const BUSY: u8 = 2;

impl Activity {
    /// Of a connection whose first header is waited for since `start`.
    pub(super) fn since(one_at_a_time: bool, start: Instant) -> Arc<Self> {
        Arc::new(Self {
            start,
            one_at_a_time,
            header_begun: AtomicBool::new(false),
            requests: AtomicU32::new(0),
            // The first byte has the deadline of a header: a silent connection is no idle one.
            phase: AtomicU8::new(HEADER),
            since: AtomicU64::new(0),
            blocked_since: AtomicU64::new(u64::MAX),
        })
    }

    fn now(&self) -> u64 {
        u64::try_from(self.start.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    fn enter(&self, phase: u8) {
        self.phase.store(phase, Relaxed);
        self.since.store(self.now(), Relaxed);
    }

    /// A header is complete.
    pub(super) fn request(self: &Arc<Self>) -> ActiveRequest {
        self.requests.fetch_add(1, Relaxed);
        self.phase.store(BUSY, Relaxed);
        ActiveRequest(self.clone())
    }

    /// Whether a part of the next header is held back.
    pub(super) fn header_waits(&self, begun: bool) {
        self.header_begun.store(begun, Relaxed);
    }

    pub(super) fn bytes_came(&self) {
        if self.one_at_a_time && self.phase.load(Relaxed) == IDLE {
            self.enter(HEADER);
        }
    }

    /// A write went through, or made no progress.
    pub(super) fn wrote(&self, progress: bool) {
        if progress {
            self.blocked_since.store(u64::MAX, Relaxed);
        } else if self.blocked_since.load(Relaxed) == u64::MAX {
            self.blocked_since.store(self.now(), Relaxed);
        }
    }

    /// Which limit is crossed, or how long until one can be.
    pub(super) fn overdue(&self, limits: &Limits) -> Result<Duration, ConnectionLimit> {
        let now = self.now();
        let blocked = self.blocked_since.load(Relaxed);
        let check = |since: u64, limit: Duration, name| {
            let passed = Duration::from_millis(now.saturating_sub(since));
            limit.checked_sub(passed).filter(|left| !left.is_zero()).ok_or(name)
        };
        let writing = match blocked {
            u64::MAX => limits.body_idle_timeout,
            since => check(since, limits.body_idle_timeout, ConnectionLimit::WriteTimeout)?,
        };
        let since = self.since.load(Relaxed);
        let waiting = match self.phase.load(Relaxed) {
            HEADER => check(since, limits.header_timeout, ConnectionLimit::HeaderTimeout)?,
            IDLE => check(since, limits.idle_timeout, ConnectionLimit::IdleTimeout)?.min(limits.header_timeout),
            _ => limits.header_timeout,
        };
        Ok(writing.min(waiting))
    }
}

/// A request that is being answered.
#[derive(Debug)]
pub(super) struct ActiveRequest(Arc<Activity>);

impl Drop for ActiveRequest {
    fn drop(&mut self) {
        if self.0.requests.fetch_sub(1, Relaxed) == 1 {
            self.0.enter(if self.0.header_begun.load(Relaxed) { HEADER } else { IDLE });
        }
    }
}

/// A response body that keeps its request active.
#[derive(Debug)]
pub(super) struct WithGuard<B> {
    pub(super) body: B,
    pub(super) active: ActiveRequest,
}

impl<B: Body + Unpin> Body for WithGuard<B> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<B::Data>, B::Error>>> {
        let this = self.get_mut();
        debug_assert!(this.active.0.requests.load(Relaxed) > 0);
        Pin::new(&mut this.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
