//! The fast lane: a connection of HTTP/1.1 whose requests all come in their strictest form.
//!
//! A request that came whole is judged where it lies, written to a connection of its upstream, and the response goes back
//! from one read to one write, without a task, a channel or a buffer that outlives it. At the first doubt about a request
//! (another form, a part of one, a route that asks for more) the connection goes to hyper with all bytes of it, and hyper
//! never knows that anybody looked: nothing was sent, counted or answered by then.
//!
//! - [`Lane::next`] waits for a request, and has it judged;
//! - [`Lane::ask`] (`asking`) sends it and waits for the head of the response;
//! - [`Lane::reply`] gives the client what came, and what comes.

mod asking;
mod relay;
mod sending;
mod shelf;

use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::task::{Context, Poll};
use std::time::Instant;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Sleep;

use self::relay::{Relay, Turn};
pub(super) use self::shelf::{Drain, Shelf};
use super::conn::Serving;
use super::prefixed::Prefixed;
use crate::config::Limits;
use crate::gateway::lane::{Passage, Taken};
use crate::gateway::{Exchange, Worker};
use crate::headers::Peer;
use crate::http1::{Canonical, Framing, HeadLimits};
use crate::reject::Reason;
use crate::telemetry::metrics::ConnectionLimit;

/// So much of the next request is read while one is answered, to see that its client is still there.
const AHEAD: usize = 512;

/// The most of a body that is held until it is whole.
const MOST_BODY: usize = 64 * 1024;

/// What a connection goes on with in hyper.
pub(super) struct Handed<S> {
    pub(super) stream: Prefixed<S>,
    /// When the first byte of what was read ahead came.
    pub(super) since: Instant,
}

/// Serves requests until the connection ends, or goes on in hyper.
pub(super) async fn serve<S>(
    stream: S,
    peer: &Peer,
    exchange: &Exchange,
    context: &Serving,
    limits: &Limits,
) -> Option<Handed<S>>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let start = Instant::now();
    let due = start + limits.header_timeout;
    let alarm = pin!(tokio::time::sleep_until(due.into()));
    let mut drained = pin!(context.drain.begun());
    // Polled once: it wakes this task when the gateway stops, and what it wakes for is asked of the flag.
    poll_fn(|cx| Poll::Ready(drained.as_mut().poll(cx).is_ready())).await;
    let mut lane = Lane {
        stream,
        ahead: Vec::new(),
        since: start,
        peer,
        exchange,
        context,
        worker: &context.worker,
        limits,
        alarm,
        due,
        late: ConnectionLimit::HeaderTimeout,
    };
    match lane.run().await {
        Ok(()) => {
            let mut stream = Prefixed::new(lane.stream);
            stream.put_back(lane.ahead);
            Some(Handed { stream, since: lane.since })
        }
        Err(Ended) => None,
    }
}

/// The connection is over.
struct Ended;

struct Lane<'c, S> {
    stream: S,
    /// Read and not yet judged. Empty between requests: nothing is held for a connection that waits.
    ahead: Vec<u8>,
    /// When it came.
    since: Instant,
    peer: &'c Peer,
    exchange: &'c Exchange,
    context: &'c Serving,
    worker: &'c Worker,
    limits: &'c Limits,
    /// Set anew only when it fires, or for something sooner: not at every request.
    alarm: Pin<&'c mut Sleep>,
    /// When what is waited for is late.
    due: Instant,
    /// Which limit is crossed then.
    late: ConnectionLimit,
}

/// A request that came whole.
enum Next<'c> {
    /// It goes to its upstream, and these are its bytes.
    Forward(Box<Passage<'c>>, Vec<u8>, Closes),
    /// It is answered already, with this.
    Answer(Vec<u8>, Closes),
    /// It is for hyper.
    Other,
    /// There will be none.
    End,
}

/// Whether the connection ends with the request.
type Closes = bool;

impl<'c, S: AsyncRead + AsyncWrite + Unpin> Lane<'c, S> {
    /// `Ok` when hyper goes on.
    async fn run(&mut self) -> Result<(), Ended> {
        loop {
            let closes = match self.next().await? {
                Next::Other => return Ok(()),
                Next::End => {
                    self.shut_down().await;
                    return Err(Ended);
                }
                Next::Answer(bytes, closes) => {
                    self.reply(Relay::whole(bytes), None).await?;
                    closes
                }
                Next::Forward(mut passage, bytes, mut closes) => {
                    let relay = match self.ask(&mut passage, bytes, &mut closes).await? {
                        Ok(relay) => relay,
                        Err(response) => {
                            closes |= self.context.drain.has_begun();
                            let mut bytes = self.context.shelf.take();
                            passage.sent(self.worker.write_own(&response, passage.is_head(), closes, &mut bytes));
                            Relay::whole(bytes)
                        }
                    };
                    self.reply(relay, Some(&mut passage)).await?;
                    closes
                }
            };
            if closes {
                self.shut_down().await;
                return Err(Ended);
            }
            self.wait_until(Instant::now() + self.limits.idle_timeout, ConnectionLimit::IdleTimeout);
        }
    }

    /// Waits for a request, and has it judged.
    async fn next(&mut self) -> Result<Next<'c>, Ended> {
        let (shelf, worker) = (&self.context.shelf, self.worker);
        let bounds = HeadLimits { bytes: self.limits.header_bytes.get(), fields: self.limits.header_count.get() };
        let drain = &self.context.drain;
        poll_fn(|cx| {
            let mut scratch = shelf.scratch();
            loop {
                if !self.ahead.is_empty() {
                    match judge(worker, self.peer, self.exchange, &self.ahead, &bounds, shelf, drain) {
                        Judged::Taken(next, length) => {
                            self.ahead.drain(..length);
                            self.ahead.shrink_to_fit();
                            return Poll::Ready(Ok(next));
                        }
                        Judged::Other => return Poll::Ready(Ok(Next::Other)),
                        // What is there is looked at, and not waited for.
                        Judged::Incomplete => {}
                    }
                }
                let mut buffer = ReadBuf::new(&mut scratch);
                match Pin::new(&mut self.stream).poll_read(cx, &mut buffer) {
                    Poll::Ready(Ok(())) => {}
                    Poll::Ready(Err(_)) => return Poll::Ready(Err(Ended)),
                    Poll::Pending if !self.ahead.is_empty() => return Poll::Ready(Ok(Next::Other)),
                    Poll::Pending if drain.has_begun() => return Poll::Ready(Ok(Next::Other)),
                    Poll::Pending => return self.poll_late(cx).map(|()| Err(self.crossed())),
                }
                let came = buffer.filled();
                if came.is_empty() {
                    // Whoever ends in the middle of a header is told so.
                    return Poll::Ready(Ok(if self.ahead.is_empty() { Next::End } else { Next::Other }));
                }
                if self.ahead.is_empty() {
                    self.since = Instant::now();
                    match judge(worker, self.peer, self.exchange, came, &bounds, shelf, drain) {
                        Judged::Taken(next, length) => {
                            self.ahead.extend_from_slice(&came[length..]);
                            return Poll::Ready(Ok(next));
                        }
                        Judged::Other => {
                            self.ahead.extend_from_slice(came);
                            return Poll::Ready(Ok(Next::Other));
                        }
                        Judged::Incomplete => {}
                    }
                }
                self.ahead.extend_from_slice(came);
            }
        })
        .await
    }

    /// Gives the client what came, and what comes.
    async fn reply(&mut self, mut relay: Relay, mut passage: Option<&mut Passage<'c>>) -> Result<(), Ended> {
        let shelf = &self.context.shelf;
        let mut turn = Turn::default();
        let mut waits_for = None;
        let done = poll_fn(|cx| {
            loop {
                let written = match relay.poll_write(cx, &mut self.stream) {
                    Poll::Ready(Ok(())) => true,
                    Poll::Ready(Err(_)) => return Poll::Ready(Err(Ended)),
                    Poll::Pending => false,
                };
                // Whoever takes a little at a time is slow, but not gone.
                if relay.take_progress() {
                    waits_for = None;
                }
                let waits = if !written {
                    Waits::Client
                } else if relay.is_complete() {
                    return match Pin::new(&mut self.stream).poll_flush(cx) {
                        Poll::Ready(Ok(())) => Poll::Ready(Ok(())),
                        Poll::Ready(Err(_)) => Poll::Ready(Err(Ended)),
                        Poll::Pending => self.poll_waiting(cx, Waits::Client, &mut waits_for, &relay, &mut passage),
                    };
                } else {
                    let mut scratch = shelf.scratch();
                    match relay.poll_more(cx, &mut scratch, &mut self.stream) {
                        Poll::Ready(Ok(count)) => {
                            waits_for = None;
                            if let Some(passage) = &mut passage {
                                passage.sent(relay.take_passed());
                            }
                            if turn.is_over(count, cx) {
                                drop(scratch);
                                // A response that never waits for anybody ends with its session, too.
                                return if is_cut(&passage, cx) { Poll::Ready(Err(Ended)) } else { Poll::Pending };
                            }
                            continue;
                        }
                        Poll::Ready(Err(error)) => {
                            tracing::debug!(%error, "upstream response broken off");
                            if let Some(passage) = &mut passage {
                                passage.broke_off(Reason::UpstreamBroken);
                            }
                            return Poll::Ready(Err(Ended));
                        }
                        Poll::Pending => Waits::Server,
                    }
                };
                return self.poll_waiting(cx, waits, &mut waits_for, &relay, &mut passage);
            }
        });
        let done = done.await;
        // What went on before it was broken off counts, too.
        if let Some(passage) = passage {
            passage.sent(relay.take_passed());
        }
        done?;
        shelf.put(relay.into_buffer());
        Ok(())
    }

    /// While nothing goes on: the deadline of whoever is waited for, the end of the session, the client.
    fn poll_waiting(
        &mut self,
        cx: &mut Context<'_>,
        waits: Waits,
        waits_for: &mut Option<Waits>,
        relay: &Relay,
        passage: &mut Option<&mut Passage<'c>>,
    ) -> Poll<Result<(), Ended>> {
        if *waits_for != Some(waits) {
            *waits_for = Some(waits);
            let limit = if waits == Waits::Client { self.limits.body_idle_timeout } else { relay.idle() };
            self.wait_until(Instant::now() + limit, ConnectionLimit::WriteTimeout);
            // Streamed pieces must not wait in TLS for those that follow.
            if waits == Waits::Server {
                match Pin::new(&mut self.stream).poll_flush(cx) {
                    Poll::Ready(Ok(())) => {}
                    Poll::Ready(Err(_)) => return Poll::Ready(Err(Ended)),
                    Poll::Pending => *waits_for = None,
                }
            }
        }
        if is_cut(passage, cx) {
            return Poll::Ready(Err(Ended));
        }
        self.poll_client(cx)?;
        self.poll_late(cx).map(|()| {
            if waits == Waits::Client {
                return Err(self.crossed());
            }
            if let Some(passage) = passage {
                passage.broke_off(Reason::UpstreamTimeout);
            }
            Err(Ended)
        })
    }

    /// Awaits something that the client's leaving makes useless.
    async fn beside<T>(&mut self, mut future: Pin<&mut impl Future<Output = T>>) -> Result<T, Ended> {
        poll_fn(|cx| {
            if let Poll::Ready(done) = future.as_mut().poll(cx) {
                return Poll::Ready(Ok(done));
            }
            self.poll_client(cx)?;
            Poll::Pending
        })
        .await
    }

    /// Whether the client is still there. What it sends meanwhile is its next request.
    fn poll_client(&mut self, cx: &mut Context<'_>) -> Result<(), Ended> {
        while self.ahead.is_empty() {
            let mut bytes = [0; AHEAD];
            let mut buffer = ReadBuf::new(&mut bytes);
            match Pin::new(&mut self.stream).poll_read(cx, &mut buffer) {
                Poll::Pending => break,
                Poll::Ready(Ok(())) if !buffer.filled().is_empty() => {
                    self.since = Instant::now();
                    self.ahead.extend_from_slice(buffer.filled());
                }
                Poll::Ready(_) => return Err(Ended),
            }
        }
        Ok(())
    }

    fn wait_until(&mut self, due: Instant, late: ConnectionLimit) {
        (self.due, self.late) = (due, late);
        if self.alarm.deadline() > due.into() {
            self.alarm.as_mut().reset(due.into());
        }
    }

    fn poll_late(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        while self.alarm.as_mut().poll(cx).is_ready() {
            if self.due <= Instant::now() {
                return Poll::Ready(());
            }
            self.alarm.as_mut().reset(self.due.into());
        }
        Poll::Pending
    }

    fn crossed(&self) -> Ended {
        self.worker.metrics().limit(self.late);
        tracing::debug!(limit = ?self.late, "connection closed");
        Ended
    }

    /// Says that nothing more comes.
    async fn shut_down(&mut self) {
        let shut = poll_fn(|cx| Pin::new(&mut self.stream).poll_shutdown(cx));
        // A client that takes nothing is not waited for any longer than for an answer.
        drop(tokio::time::timeout(self.limits.body_idle_timeout, shut).await);
    }
}

/// Who is waited for in the middle of a response.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Waits {
    Client,
    Server,
}

/// Whether the response ends now, with its session: in the middle, so that nobody takes what came for all of it. Whoever
/// asked is woken for that.
fn is_cut(passage: &Option<&mut Passage<'_>>, cx: &mut Context<'_>) -> bool {
    let Some(live) = passage.as_ref().and_then(|passage| passage.live()) else { return false };
    let Poll::Ready(reason) = live.stream().poll_cut(cx) else { return false };
    tracing::debug!(reason = reason.as_str(), "connection cut with its session");
    true
}

/// What some bytes of a client are.
enum Judged<'c> {
    /// A request, and its length.
    Taken(Next<'c>, usize),
    Incomplete,
    Other,
}

fn judge<'c>(
    worker: &'c Worker,
    peer: &Peer,
    exchange: &Exchange,
    bytes: &[u8],
    bounds: &HeadLimits,
    shelf: &Shelf,
    drain: &Drain,
) -> Judged<'c> {
    let head = match Canonical::read(bytes, bounds) {
        Canonical::Head(head) => head,
        Canonical::Incomplete => return Judged::Incomplete,
        Canonical::Other => return Judged::Other,
    };
    let body = match head.framing {
        Framing::Length(length) => usize::try_from(length).unwrap_or(usize::MAX),
        Framing::None | Framing::Chunked => 0,
    };
    // Not held here until it is whole.
    if body > MOST_BODY {
        return Judged::Other;
    }
    // A body that is not there yet comes at a pace of its own.
    let Some(body) = bytes[head.length..].get(..body) else { return Judged::Incomplete };
    let length = head.length + body.len();
    let mut out = shelf.take();
    match worker.take(peer, &head, body, exchange, &mut out) {
        Taken::Not => {
            shelf.put(out);
            Judged::Other
        }
        Taken::Refused(mut entry, response) => {
            let closes = head.closes || drain.has_begun();
            entry.sent += worker.write_own(&response, head.method == http::Method::HEAD, closes, &mut out) as u64;
            drop(entry);
            Judged::Taken(Next::Answer(out, closes), length)
        }
        Taken::Forward(passage) => Judged::Taken(Next::Forward(passage, out, head.closes), length),
    }
}
