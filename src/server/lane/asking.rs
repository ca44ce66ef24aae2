//! A request on its way to a server, up to the head of the response.

use std::future::poll_fn;
use std::io;
use std::pin::pin;
use std::task::Poll;
use std::time::{Duration, Instant};

use tokio::io::{AsyncRead, AsyncWrite};

use super::relay::{Relay, Turn};
use super::sending::Sending;
use super::{Closes, Ended, Lane, Shelf};
use crate::gateway::lane::{Begun, Passage};
use crate::http1::{Malformed, ResponseHead};
use crate::telemetry::metrics::ConnectionLimit;
use crate::upstream::{Failed, Lease};

/// The most of a response's head that is waited for: as much as hyper's client takes.
const MOST_RESPONSE_HEAD: usize = 400 * 1024;

/// Longer than any deadline.
const NEVER: Duration = Duration::from_secs(365 * 24 * 3600);

/// The answer that the client gets instead of a server's.
type Instead = Box<http::Response<bytes::Bytes>>;

/// What was heard of a server.
#[expect(clippy::large_enum_variant, reason = "made once for a response, and taken apart at once")]
enum Heard {
    Begun(Begun, Relay),
    Instead(Instead),
    /// It broke off before a byte of a response; of the request, some was taken.
    Silent {
        unsent: bool,
        cause: io::Error,
    },
    /// It broke off, or what it says is none.
    Broken(io::Error),
    Late,
}

impl<'c, S: AsyncRead + AsyncWrite + Unpin> Lane<'c, S> {
    /// Sends a request and waits for the head of its response.
    pub(super) async fn ask(
        &mut self,
        passage: &mut Passage<'c>,
        bytes: Vec<u8>,
        closes: &mut Closes,
    ) -> Result<Result<Relay, Instead>, Ended> {
        let mut errand = passage.errand();
        let mut sending = Sending::new(bytes);
        loop {
            // A connection has deadlines of its own.
            self.wait_until(Instant::now() + NEVER, ConnectionLimit::IdleTimeout);
            let found = self.beside(pin!(errand.connection())).await?;
            let mut lease = match found {
                Ok(lease) => lease,
                Err(error) => return Ok(Err(passage.failed(&error))),
            };
            let error = match self.hear(&mut lease, passage, &mut sending, closes).await? {
                Heard::Begun(begun, mut relay) => {
                    // What is left of the request goes on: the server may read it while it answers.
                    let rest = if sending.is_done() {
                        self.context.shelf.put(sending.into_buffer());
                        None
                    } else {
                        Some(sending)
                    };
                    relay.holds(lease, begun.keeps_alive, rest);
                    return Ok(Ok(relay));
                }
                Heard::Instead(response) => return Ok(Err(response)),
                Heard::Silent { unsent, cause } => match errand.failed(lease, unsent, cause) {
                    Failed::Again => {
                        sending.restart();
                        continue;
                    }
                    Failed::Error(error) => error,
                },
                Heard::Broken(cause) => errand.broke(&lease, cause),
                Heard::Late => errand.timed_out(&lease),
            };
            return Ok(Err(passage.failed(&error)));
        }
    }

    /// Sends the request over one connection, and listens.
    async fn hear(
        &mut self,
        lease: &mut Lease,
        passage: &mut Passage<'c>,
        sending: &mut Sending,
        closes: &mut Closes,
    ) -> Result<Heard, Ended> {
        let (shelf, drain) = (&self.context.shelf, &self.context.drain);
        let mut early: Vec<u8> = Vec::new();
        let mut turn = Turn::default();
        let mut counted = None;
        poll_fn(|cx| {
            sending.poll_on(cx, lease);
            // The time for an answer begins when the request was sent: what was waited for before is not the server's
            // fault, and as long as it takes pieces, it is not late.
            if counted != Some(sending.written()) {
                counted = Some(sending.written());
                self.wait_until(Instant::now() + passage.response_timeout(), ConnectionLimit::IdleTimeout);
            }
            let mut scratch = shelf.scratch();
            loop {
                let count = match lease.poll_read(cx, &mut scratch) {
                    Poll::Ready(Ok(count)) => count,
                    Poll::Ready(Err(error)) => {
                        let cause = sending.take_refused().unwrap_or(error);
                        return Poll::Ready(Ok(heard_nothing(&early, sending.written() == 0, cause)));
                    }
                    Poll::Pending => break,
                };
                if count == 0 {
                    let cause = sending.take_refused().unwrap_or_else(|| io::ErrorKind::UnexpectedEof.into());
                    return Poll::Ready(Ok(heard_nothing(&early, sending.written() == 0, cause)));
                }
                let mut came = &scratch[..count];
                if !early.is_empty() {
                    early.extend_from_slice(came);
                    came = &early;
                }
                *closes |= drain.has_begun();
                match listen(passage, lease, came, *closes, shelf) {
                    Ok(Listened::Heard(heard)) => return Poll::Ready(Ok(heard)),
                    Ok(Listened::More(rest)) if rest > MOST_RESPONSE_HEAD => {
                        return Poll::Ready(Ok(Heard::Broken(told(Malformed::TooLarge))));
                    }
                    Ok(Listened::More(rest)) => early = came[came.len() - rest..].to_vec(),
                    Err(fault) => return Poll::Ready(Ok(Heard::Broken(told(fault)))),
                }
                // However much it says: the client and the deadline are looked at all the same.
                if turn.is_over(count, cx) {
                    break;
                }
            }
            drop(scratch);
            self.poll_client(cx)?;
            self.poll_late(cx).map(|()| Ok(Heard::Late))
        })
        .await
    }
}

/// What came of listening to a server.
#[expect(clippy::large_enum_variant, reason = "made once for a response, and taken apart at once")]
enum Listened {
    Heard(Heard),
    /// More must come behind the last so many bytes.
    More(usize),
}

/// Reads what a server said.
fn listen(
    passage: &mut Passage<'_>,
    lease: &Lease,
    mut bytes: &[u8],
    closes: bool,
    shelf: &Shelf,
) -> Result<Listened, Malformed> {
    loop {
        let Some(head) = ResponseHead::read(bytes)? else { return Ok(Listened::More(bytes.len())) };
        // What comes before the response is for those who asked for it (RFC 9110 §15.2).
        if head.status.is_informational() && head.status != http::StatusCode::SWITCHING_PROTOCOLS {
            bytes = &bytes[head.length..];
            continue;
        }
        lease.answered(head.status);
        let mut out = shelf.take();
        return Ok(Listened::Heard(match passage.begin(&head, lease.name(), closes, &mut out) {
            Err(response) => Heard::Instead(response),
            Ok(begun) => {
                let relay = Relay::begin(out, begun.framing, begun.idle, &bytes[head.length..])?;
                Heard::Begun(begun, relay)
            }
        }));
    }
}

fn heard_nothing(early: &[u8], unsent: bool, cause: io::Error) -> Heard {
    if early.is_empty() { Heard::Silent { unsent, cause } } else { Heard::Broken(cause) }
}

fn told(fault: Malformed) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, fault)
}
