//! Responses over HTTP/2 that their client does not take.
//!
//! Over HTTP/1.1 such a client is found out by its socket, which takes no more bytes. Of HTTP/2 each stream has a window
//! of its own, which its client may never open while it answers every ping: each stream would then hold its connection
//! to a server for ever (as in CVE-2019-9517), and needs no token for that on a public route.

use std::cell::Cell;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use tokio::time::{Instant, Sleep};

use super::allowance::Allowance;
use crate::gateway::Exchange;

/// The most that is handed over at once. More than the buffer of the stream takes would count as one piece, however
/// long a slow client reads on it.
const PIECE: usize = 64 * 1024;

/// One request on an HTTP/2 connection, as its stream and its response body see it.
#[derive(Debug)]
pub(super) struct Opened {
    pub(super) exchange: Exchange,
    /// Of its connection.
    allowance: Rc<Allowance>,
    /// Pieces of the response that were handed over, the header among them; 0 before that.
    handed: Cell<u64>,
    /// The next piece is there as soon as the client takes it: what is waited for is not the server.
    client_is_next: Cell<bool>,
}

impl Opened {
    pub(super) fn new(allowance: Rc<Allowance>) -> Self {
        allowance.requested();
        Self { exchange: Exchange::default(), allowance, handed: Cell::new(0), client_is_next: Cell::new(false) }
    }

    /// The stream came to its end by itself. Before its answer it does so only when the client reset it.
    pub(super) fn ended(&self) {
        if self.handed.get() == 0 { self.allowance.reset() } else { self.allowance.answered() }
    }

    /// So many pieces of a tunnel went to the client.
    pub(super) fn tunnelled(&self, pieces: u32) {
        (0..pieces).for_each(|_| self.allowance.handed());
    }

    fn hand(&self) {
        self.allowance.handed();
        self.handed.set(self.handed.get() + 1);
        self.client_is_next.set(true);
    }
}

/// A response body that notes when a piece of it is taken.
#[derive(Debug)]
pub(super) struct Noted<B> {
    body: B,
    /// Of a long piece, what is still to be handed over.
    rest: Bytes,
    opened: Rc<Opened>,
}

impl<B> Noted<B> {
    /// The header has just been made.
    pub(super) fn new(body: B, opened: Rc<Opened>) -> Self {
        opened.hand();
        Self { body, rest: Bytes::new(), opened }
    }
}

impl<B: Body<Data = Bytes> + Unpin> Body for Noted<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        let this = self.get_mut();
        if this.rest.is_empty() {
            match Pin::new(&mut this.body).poll_frame(cx) {
                Poll::Pending => {
                    this.opened.client_is_next.set(false);
                    return Poll::Pending;
                }
                Poll::Ready(Some(Ok(frame))) => match frame.into_data() {
                    Ok(data) if data.len() > PIECE => this.rest = data,
                    Ok(data) => {
                        this.opened.hand();
                        return Poll::Ready(Some(Ok(Frame::data(data))));
                    }
                    Err(trailers) => return Poll::Ready(Some(Ok(trailers))),
                },
                ended => return ended,
            }
        }
        this.opened.hand();
        let piece = this.rest.split_to(this.rest.len().min(PIECE));
        Poll::Ready(Some(Ok(Frame::data(piece))))
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_empty() && self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let mut hint = self.body.size_hint();
        let rest = self.rest.len() as u64;
        if let Some(upper) = hint.upper() {
            hint.set_upper(upper.saturating_add(rest));
        }
        hint.set_lower(hint.lower().saturating_add(rest));
        hint
    }
}

/// Finds out a client that takes nothing more of its response. Without a timer until the client is waited for.
#[derive(Debug)]
pub(super) struct Unread {
    limit: Duration,
    /// How much was handed over when the timer was set.
    handed: u64,
    alarm: Option<Pin<Box<Sleep>>>,
}

impl Unread {
    pub(super) fn new(limit: Duration) -> Self {
        Self { limit, handed: 0, alarm: None }
    }

    /// Ready when the same piece has been waiting for the client for the whole limit. Asked each time that the stream
    /// cannot go on.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>, opened: &Opened) -> Poll<()> {
        if !opened.client_is_next.get() {
            return Poll::Pending;
        }
        let deadline = || Instant::now() + self.limit;
        let alarm = self.alarm.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(deadline())));
        if self.handed != opened.handed.get() {
            self.handed = opened.handed.get();
            alarm.as_mut().reset(deadline());
        }
        alarm.as_mut().poll(cx)
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::{BodyExt, Full};

    use super::*;

    #[tokio::test]
    async fn a_long_piece_is_handed_over_in_shorter_ones() {
        let all = Bytes::from((0..200_000).map(|at| at as u8).collect::<Vec<_>>());
        let mut body = Noted::new(Full::new(all.clone()), Rc::new(Opened::new(Rc::default())));
        assert_eq!(body.size_hint().exact(), Some(200_000));
        let first = body.frame().await.unwrap().unwrap().into_data().unwrap();
        assert_eq!((first.len(), body.is_end_stream()), (PIECE, false));
        let rest = body.collect().await.unwrap().to_bytes();
        assert_eq!([first, rest].concat(), all);
    }
}
