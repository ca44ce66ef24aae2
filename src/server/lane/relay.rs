//! A response on its way from a server to the client.

use std::future::Future;
use std::io;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::AsyncWrite;

use super::sending::Sending;
use crate::http1::{Chunked, Malformed, Piece, ResponseFraming};
use crate::upstream::Lease;

/// So much is passed on without a pause before others of the thread have their turn.
const A_TURN: usize = 256 * 1024;

/// How much was passed on since there was last a pause.
#[derive(Debug, Default)]
pub(super) struct Turn(usize);

impl Turn {
    /// Whether others are to have their turn after so many bytes more; whoever asked is then woken for the next.
    pub(super) fn is_over(&mut self, bytes: usize, cx: &mut Context<'_>) -> bool {
        self.0 += bytes;
        if self.0 < A_TURN {
            return false;
        }
        self.0 = 0;
        // Woken only after the runtime has looked at its sockets and timers; woken at once, it would do so rarely.
        let _first_poll = pin!(tokio::task::yield_now()).poll(cx);
        true
    }
}

/// A response that is passed on.
#[derive(Debug)]
pub(super) struct Relay {
    /// What is still to be written, from `written` on.
    out: Vec<u8>,
    written: usize,
    body: Body,
    idle: Duration,
    /// The connection that the rest comes over, and whether it is of use afterwards.
    lease: Option<(Lease, bool)>,
    /// What was not sent of the request when the response began.
    unsent: Option<Sending>,
    /// The client took something since somebody asked.
    progress: bool,
    /// Bytes of the body that went to the client since somebody asked.
    passed: usize,
    /// Something came behind the end of the response.
    overran: bool,
}

/// What of the body is still to come.
#[derive(Debug)]
enum Body {
    Complete,
    Length(u64),
    Chunked(Box<Chunked>),
    UntilClose,
}

impl Relay {
    /// All of it is there.
    pub(super) fn whole(out: Vec<u8>) -> Self {
        let (body, idle) = (Body::Complete, Duration::ZERO);
        Self { out, written: 0, body, idle, lease: None, unsent: None, progress: false, passed: 0, overran: false }
    }

    /// Begins with a head that is in `out`; `came` came with it.
    ///
    /// # Errors
    /// When that is not the start of a body framed like this.
    pub(super) fn begin(
        out: Vec<u8>,
        framing: ResponseFraming,
        idle: Duration,
        came: &[u8],
    ) -> Result<Self, Malformed> {
        let body = match framing {
            ResponseFraming::None | ResponseFraming::Length(0) => Body::Complete,
            ResponseFraming::Length(length) => Body::Length(length),
            ResponseFraming::Chunked => Body::Chunked(Box::new(Chunked::of_response())),
            ResponseFraming::UntilClose => Body::UntilClose,
        };
        let mut relay = Self { body, idle, ..Self::whole(out) };
        relay.take(came)?;
        Ok(relay)
    }

    /// The rest comes over this connection, which the server keeps open afterwards, or not. So much of the request is
    /// `unsent`.
    pub(super) fn holds(&mut self, lease: Lease, keeps_alive: bool, unsent: Option<Sending>) {
        (self.lease, self.unsent) = (Some((lease, keeps_alive)), unsent);
        self.let_go();
    }

    /// How long its pieces may be apart.
    pub(super) fn idle(&self) -> Duration {
        self.idle
    }

    /// Whether all of it came.
    pub(super) fn is_complete(&self) -> bool {
        matches!(self.body, Body::Complete)
    }

    /// Bytes of the body that were passed on since this was last asked.
    pub(super) fn take_passed(&mut self) -> usize {
        std::mem::take(&mut self.passed)
    }

    /// Whether the client took something since this was last asked.
    pub(super) fn take_progress(&mut self) -> bool {
        std::mem::take(&mut self.progress)
    }

    pub(super) fn into_buffer(self) -> Vec<u8> {
        self.out
    }

    /// Writes what came; ready when nothing of it is left.
    pub(super) fn poll_write(
        &mut self,
        cx: &mut Context<'_>,
        client: &mut (impl AsyncWrite + Unpin),
    ) -> Poll<io::Result<()>> {
        while self.written < self.out.len() {
            match ready!(Pin::new(&mut *client).poll_write(cx, &self.out[self.written..]))? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                count => self.written += count,
            }
            self.progress = true;
        }
        self.out.clear();
        self.written = 0;
        Poll::Ready(Ok(()))
    }

    /// Reads more, when nothing is left to be written: how much came. What the client takes at once is not copied.
    ///
    /// # Errors
    /// When the response is broken off, or its framing is.
    pub(super) fn poll_more(
        &mut self,
        cx: &mut Context<'_>,
        scratch: &mut [u8],
        client: &mut (impl AsyncWrite + Unpin),
    ) -> Poll<io::Result<usize>> {
        let Some((lease, _)) = &mut self.lease else { return Poll::Ready(Err(io::ErrorKind::NotConnected.into())) };
        if let Some(unsent) = &mut self.unsent {
            unsent.poll_on(cx, lease);
            if unsent.is_done() {
                self.unsent = None;
            }
        }
        let count = ready!(lease.poll_read(cx, scratch))?;
        let mut came = &scratch[..count];
        if count == 0 {
            if !matches!(self.body, Body::UntilClose) {
                return Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into()));
            }
            self.out.extend_from_slice(LAST_CHUNK);
            self.body = Body::Complete;
        } else if let Body::Length(left) = &mut self.body {
            let within = usize::try_from(*left).unwrap_or(usize::MAX).min(count);
            let taken = match Pin::new(client).poll_write(cx, &came[..within]) {
                // A failure shows again at the next write, where it is the client's.
                Poll::Pending | Poll::Ready(Err(_)) => 0,
                Poll::Ready(Ok(taken)) => taken,
            };
            *left -= taken as u64;
            self.passed += taken;
            came = &came[taken..];
            if *left == 0 {
                self.body = Body::Complete;
            }
        }
        self.take(came).map_err(|fault| io::Error::new(io::ErrorKind::InvalidData, fault))?;
        self.let_go();
        Poll::Ready(Ok(count))
    }

    /// Takes bytes of the body, to be written.
    fn take(&mut self, mut came: &[u8]) -> Result<(), Malformed> {
        while !came.is_empty() {
            match &mut self.body {
                Body::Complete => {
                    self.overran = true;
                    return Ok(());
                }
                Body::Length(left) => {
                    let count = usize::try_from(*left).unwrap_or(usize::MAX).min(came.len());
                    self.out.extend_from_slice(&came[..count]);
                    self.passed += count;
                    *left -= count as u64;
                    came = &came[count..];
                    if *left == 0 {
                        self.body = Body::Complete;
                    }
                }
                Body::Chunked(chunks) => {
                    let (count, piece) = chunks.next(came)?;
                    came = &came[count..];
                    match piece {
                        Piece::Data(data) => {
                            chunk(&mut self.out, data);
                            self.passed += data.len();
                        }
                        Piece::More => {}
                        Piece::End => {
                            self.out.extend_from_slice(LAST_CHUNK);
                            self.body = Body::Complete;
                        }
                    }
                }
                Body::UntilClose => {
                    chunk(&mut self.out, came);
                    self.passed += came.len();
                    return Ok(());
                }
            }
        }
        Ok(())
    }

    /// A connection that has given all of its response goes to the next request. Closed, when it said more than that:
    /// it would become the start of somebody else's answer. So it is when the request was not sent to its end: the next
    /// one would become the rest of it.
    fn let_go(&mut self) {
        if self.is_complete()
            && let Some((lease, keeps_alive)) = self.lease.take()
            && keeps_alive
            && !self.overran
            && self.unsent.is_none()
        {
            lease.give_back();
        }
    }
}

/// The last chunk, without trailers: only a client that asks for them gets any (RFC 9110 §6.5.1).
const LAST_CHUNK: &[u8] = b"0\r\n\r\n";

fn chunk(out: &mut Vec<u8>, data: &[u8]) {
    let mut digits = [0; 16];
    let mut at = digits.len();
    let mut length = data.len();
    while length > 0 {
        at -= 1;
        digits[at] = b"0123456789abcdef"[length & 15];
        length >>= 4;
    }
    out.extend_from_slice(&digits[at..]);
    out.extend_from_slice(b"\r\n");
    out.extend_from_slice(data);
    out.extend_from_slice(b"\r\n");
}
