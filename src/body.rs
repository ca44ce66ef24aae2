//! Bodies on their way through: streamed, bounded in size and in time, never kept.

use std::cell::Cell;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::HeaderMap;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use tokio::time::Sleep;

use crate::headers::HeaderPolicy;
use crate::live::{LiveStream, Stream};
use crate::reject::Reason;
use crate::telemetry::access::AccessEntry;
use crate::upstream::Lease;

/// Why a body ended early. Only to end the connection it travels on: the client's answer comes from [`RequestProgress`].
#[derive(Debug, thiserror::Error)]
pub enum BodyError {
    /// It was broken off, or its framing was.
    #[error("body broken off")]
    Broken(#[source] hyper::Error),
    /// Nothing came for too long.
    #[error("body stalled")]
    Stalled,
    /// The session of whoever sends it is over.
    #[error("session over")]
    SessionOver,
    /// More than the route allows.
    #[error("body longer than allowed")]
    TooLarge,
}

/// What the forwarding side may know of a request body while it is being sent.
#[derive(Debug)]
pub struct RequestProgress {
    /// What the client did wrong, if anything: then it is not the upstream's fault that the request failed.
    pub fault: Cell<Option<Reason>>,
    /// Whether all of it was read.
    pub complete: Cell<bool>,
    /// When a piece of it last came.
    pub last: Cell<Instant>,
}

/// A client's body on its way to the upstream.
#[derive(Debug)]
pub struct RequestBody(Option<Streaming>);

#[derive(Debug)]
struct Streaming {
    incoming: Incoming,
    progress: Rc<RequestProgress>,
    policy: Rc<HeaderPolicy>,
    left: Option<u64>,
    idle: Paced,
    live: Option<Rc<Stream>>,
}

impl RequestBody {
    /// No body.
    pub const fn empty() -> Self {
        Self(None)
    }

    /// A client's body of at most `limit` bytes that comes as `pace` says. It is broken off when the session of `live` is
    /// over before all of it came.
    pub fn streaming(
        incoming: Incoming,
        limit: Option<u64>,
        pace: Pace,
        policy: Rc<HeaderPolicy>,
        live: Option<Rc<Stream>>,
    ) -> (Self, Rc<RequestProgress>) {
        let progress = Rc::new(RequestProgress {
            fault: Cell::new(None),
            complete: Cell::new(false),
            last: Cell::new(Instant::now()),
        });
        let streaming =
            Streaming { incoming, progress: progress.clone(), policy, left: limit, idle: Paced::new(pace), live };
        (Self(Some(streaming)), progress)
    }
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let Some(body) = self.get_mut().0.as_mut() else { return Poll::Ready(None) };
        let fail = |reason, error| {
            body.progress.fault.set(Some(reason));
            Poll::Ready(Some(Err(error)))
        };
        let frame = match Pin::new(&mut body.incoming).poll_frame(cx) {
            Poll::Ready(frame) => frame,
            Poll::Pending => {
                if let Some(Poll::Ready(reason)) = body.live.as_ref().map(|live| live.poll_upload(cx)) {
                    return fail(reason, BodyError::SessionOver);
                }
                ready!(body.idle.poll(cx));
                return fail(Reason::BodyTimeout, BodyError::Stalled);
            }
        };
        // Pieces may come so fast that nobody ever waits for one.
        if let (Some(Ok(_)), Some(reason)) = (&frame, body.live.as_ref().and_then(|live| live.ended())) {
            return fail(reason, BodyError::SessionOver);
        }
        let now = Instant::now();
        let length =
            frame.as_ref().and_then(|frame| frame.as_ref().ok()).and_then(Frame::data_ref).map_or(0, Bytes::len);
        body.idle.came(length, now);
        body.progress.last.set(now);
        match frame {
            None => {
                body.progress.complete.set(true);
                Poll::Ready(None)
            }
            Some(Err(error)) => fail(Reason::BodyBroken, BodyError::Broken(error)),
            Some(Ok(frame)) => {
                if let (Some(data), Some(left)) = (frame.data_ref(), body.left.as_mut()) {
                    let length = u64::try_from(data.len()).unwrap_or(u64::MAX);
                    match left.checked_sub(length) {
                        Some(rest) => *left = rest,
                        None => return fail(Reason::BodyTooLarge, BodyError::TooLarge),
                    }
                }
                if body.incoming.is_end_stream() {
                    body.progress.complete.set(true);
                }
                Poll::Ready(Some(Ok(match frame.into_trailers() {
                    Ok(trailers) => Frame::trailers(cleaned(trailers, &body.policy)),
                    Err(data) => data,
                })))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.0.as_ref().is_none_or(|body| body.incoming.is_end_stream())
    }

    fn size_hint(&self) -> SizeHint {
        self.0.as_ref().map_or_else(|| SizeHint::with_exact(0), |body| body.incoming.size_hint())
    }
}

/// Trailers obey the rules of headers: an identity field is no less one for coming late.
fn cleaned(mut trailers: HeaderMap, policy: &HeaderPolicy) -> HeaderMap {
    let gone: Vec<_> = trailers.keys().filter(|name| !policy.trailer_may_pass(name.as_str())).cloned().collect();
    for name in gone {
        trailers.remove(name);
    }
    trailers
}

/// How fast a body must come.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    /// At most so long is waited for the next `least` bytes.
    pub limit: Duration,
    /// Less than this is no progress: a client that sends a byte now and then would hold its connection to a server for
    /// as long as it likes. With 1 every byte is.
    pub least: usize,
}

/// A deadline for what comes next. The timer is made on the first wait, and looked at again only when it fires.
#[derive(Debug)]
struct Idle {
    limit: Duration,
    since: Option<Instant>,
    sleep: Option<Pin<Box<Sleep>>>,
}

/// A deadline for the next bytes, however many pieces they come in. Only waiting for them counts, not the time in which
/// nobody takes them.
#[derive(Debug)]
struct Paced {
    idle: Idle,
    least: usize,
    /// Came since there was progress.
    came: usize,
    /// Waited since there was progress, but for the wait that goes on.
    waited: Duration,
}

impl Paced {
    fn new(pace: Pace) -> Self {
        Self { idle: Idle::new(pace.limit), least: pace.least, came: 0, waited: Duration::ZERO }
    }

    /// A piece of so many bytes came.
    fn came(&mut self, length: usize, now: Instant) {
        self.came = self.came.saturating_add(length);
        let since = self.idle.since.take();
        if self.came >= self.least {
            (self.came, self.waited) = (0, Duration::ZERO);
        } else if let Some(since) = since {
            self.waited += now.saturating_duration_since(since);
        }
    }

    /// Ready when there was no progress for the whole limit.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.idle.poll_after(cx, self.waited)
    }
}

impl Idle {
    fn new(limit: Duration) -> Self {
        Self { limit, since: None, sleep: None }
    }

    /// Something came.
    fn reset(&mut self) {
        self.since = None;
    }

    /// When nothing will have come for the whole limit, of which some was `waited` before.
    fn deadline(&mut self, now: impl FnOnce() -> Instant, waited: Duration) -> Instant {
        *self.since.get_or_insert_with(now) + self.limit.saturating_sub(waited)
    }

    /// Ready when nothing came for the whole limit.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.poll_after(cx, Duration::ZERO)
    }

    fn poll_after(&mut self, cx: &mut Context<'_>, waited: Duration) -> Poll<()> {
        let deadline = tokio::time::Instant::from_std(self.deadline(Instant::now, waited));
        let sleep = self.sleep.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(deadline)));
        loop {
            if sleep.deadline() < deadline && sleep.is_elapsed() {
                sleep.as_mut().reset(deadline);
            }
            ready!(sleep.as_mut().poll(cx));
            if sleep.deadline() >= deadline {
                return Poll::Ready(());
            }
        }
    }
}

/// A response body on its way to the client. The request's log entry ends with it.
#[derive(Debug)]
pub struct ResponseBody {
    kind: Kind,
    entry: Option<Box<AccessEntry>>,
    live: Option<LiveStream>,
}

#[derive(Debug)]
enum Kind {
    /// Ours, whole.
    Full(Option<Bytes>),
    /// An upstream's.
    Upstream { incoming: Incoming, lease: Option<Lease>, idle: Idle },
}

impl ResponseBody {
    /// An answer of our own.
    pub fn full(bytes: Bytes, entry: Option<Box<AccessEntry>>) -> Self {
        Self { kind: Kind::Full((!bytes.is_empty()).then_some(bytes)), entry, live: None }
    }

    /// An upstream's answer: its connection goes back to the pool when it was read to its end. From here on it ends with
    /// the session of whoever asked, if `live` says whose that is.
    pub fn upstream(
        incoming: Incoming,
        lease: Lease,
        idle: Duration,
        entry: Box<AccessEntry>,
        live: Option<LiveStream>,
    ) -> Self {
        let mut lease = Some(lease);
        if incoming.is_end_stream() {
            give_back(&mut lease);
        }
        if let Some(live) = &live {
            live.begin();
        }
        Self { kind: Kind::Upstream { incoming, lease, idle: Idle::new(idle) }, entry: Some(entry), live }
    }
}

fn give_back(lease: &mut Option<Lease>) {
    if let Some(lease) = lease.take() {
        lease.give_back();
    }
}

impl Body for ResponseBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = self.get_mut();
        let frame = match &mut this.kind {
            Kind::Full(bytes) => bytes.take().map(|bytes| Ok(Frame::data(bytes))),
            Kind::Upstream { incoming, lease, idle } => {
                let mut frame = match Pin::new(&mut *incoming).poll_frame(cx) {
                    Poll::Ready(frame) => frame,
                    Poll::Pending => {
                        ready!(idle.poll(cx));
                        return Poll::Ready(Some(Err(fail(
                            &mut this.entry,
                            Reason::UpstreamTimeout,
                            BodyError::Stalled,
                        ))));
                    }
                };
                idle.reset();
                match &mut frame {
                    None => give_back(lease),
                    Some(Ok(piece)) => {
                        if let Some(trailers) = piece.trailers_mut() {
                            crate::headers::trailers_to_client(trailers);
                        }
                        if incoming.is_end_stream() {
                            give_back(lease);
                        }
                    }
                    Some(Err(_)) => {}
                }
                match frame {
                    Some(Err(error)) => {
                        let error = BodyError::Broken(error);
                        return Poll::Ready(Some(Err(fail(&mut this.entry, Reason::UpstreamBroken, error))));
                    }
                    Some(Ok(piece)) => Some(Ok(piece)),
                    None => None,
                }
            }
        };
        if let (Some(entry), Some(Ok(piece))) = (&mut this.entry, &frame) {
            entry.sent += piece.data_ref().map_or(0, |data| u64::try_from(data.len()).unwrap_or(u64::MAX));
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        match &self.kind {
            Kind::Full(bytes) => bytes.is_none(),
            Kind::Upstream { incoming, .. } => incoming.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.kind {
            Kind::Full(bytes) => {
                SizeHint::with_exact(bytes.as_ref().map_or(0, |bytes| u64::try_from(bytes.len()).unwrap_or(u64::MAX)))
            }
            Kind::Upstream { incoming, .. } => incoming.size_hint(),
        }
    }
}

impl Drop for ResponseBody {
    fn drop(&mut self) {
        if let (Some(entry), Some(live)) = (&mut self.entry, &self.live) {
            entry.note_end(live.stream());
        }
    }
}

fn fail(entry: &mut Option<Box<AccessEntry>>, reason: Reason, error: BodyError) -> BodyError {
    if let Some(entry) = entry {
        entry.reason = Some(reason);
    }
    error
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whether the deadline passes in waits of so many seconds, each followed by so many bytes that are taken so many
    /// seconds later.
    fn stalls(pace: Pace, waits: &[(u64, usize, u64)]) -> bool {
        let mut idle = Paced::new(pace);
        let mut now = Instant::now();
        for (wait, came, taken_after) in waits {
            let deadline = idle.idle.deadline(|| now, idle.waited);
            now += Duration::from_secs(*wait);
            if deadline <= now {
                return true;
            }
            idle.came(*came, now);
            now += Duration::from_secs(*taken_after);
        }
        false
    }

    #[test]
    fn a_body_must_come_on_and_only_waiting_for_it_counts() {
        let pace = |least| Pace { limit: Duration::from_secs(10), least };
        let byte_a_second = [(1, 1, 0); 30];
        let cases: &[(&str, usize, &[(u64, usize, u64)], bool)] = &[
            ("nothing comes", 1, &[(11, 0, 0)], true),
            ("a byte a second, and any byte is progress", 1, &byte_a_second, false),
            ("a byte a second is too little", 100, &byte_a_second, true),
            ("a byte a second is just enough", 9, &byte_a_second, false),
            ("enough at the last moment, again and again", 100, &[(9, 100, 0); 5], false),
            ("little, and then enough", 100, &[(4, 50, 0), (4, 50, 0), (9, 100, 0)], false),
            ("little, and taken late", 100, &[(1, 1, 60), (1, 1, 60), (1, 98, 60), (9, 1, 0)], false),
            ("nothing more after a little", 100, &[(6, 50, 0), (6, 0, 0)], true),
        ];
        let mut failed = Vec::new();
        for (name, least, waits, expected) in cases {
            if stalls(pace(*least), waits) != *expected {
                failed.push(*name);
            }
        }
        assert!(failed.is_empty(), "{failed:?}");
    }
}
