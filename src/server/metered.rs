//! The stream beneath an HTTP/2 connection: it ends with a word when its client has used up what it is allowed.

use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Instant;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::allowance::Allowance;
use super::frames::Frames;

/// So many bytes sent are worth one frame of the client: it opens a window for them now and then.
const BYTES_A_FRAME: usize = 1024;

/// GOAWAY on the connection, 8 bytes long (RFC 9113 §6.8).
const GO_AWAY: [u8; 9] = [0, 0, 8, 7, 0, 0, 0, 0, 0];
/// RFC 9113 §7
const ENHANCE_YOUR_CALM: u32 = 11;

/// A stream whose client has an [`Allowance`].
#[derive(Debug)]
pub(super) struct Metered<S> {
    stream: S,
    frames: Frames,
    allowance: Rc<Allowance>,
    /// What was sent since the last frame was given back for it.
    sent: usize,
    /// The last thing was a flush: HTTP/2 flushes when it has nothing more to write, so nothing is half written.
    between_frames: bool,
}

impl<S> Metered<S> {
    pub(super) fn new(stream: S, allowance: Rc<Allowance>) -> Self {
        Self { stream, frames: Frames::new(), allowance, sent: 0, between_frames: false }
    }

    fn wrote(&mut self, outcome: &Poll<io::Result<usize>>) {
        self.between_frames = false;
        let Poll::Ready(Ok(count)) = outcome else { return };
        self.sent += count;
        if self.sent >= BYTES_A_FRAME {
            self.allowance.give(u32::try_from(self.sent / BYTES_A_FRAME).unwrap_or(u32::MAX));
            self.sent %= BYTES_A_FRAME;
        }
    }
}

impl<S: AsyncWrite + Unpin> Metered<S> {
    /// Says why, if the client takes it at once: whoever floods us is not waited for.
    fn end(&mut self, cx: &mut Context<'_>) -> io::Error {
        if std::mem::take(&mut self.between_frames) {
            let [last, why] = [self.frames.last_stream(), ENHANCE_YOUR_CALM].map(u32::to_be_bytes);
            let mut frame = [0; 17];
            for (to, from) in frame.iter_mut().zip(GO_AWAY.into_iter().chain(last).chain(why)) {
                *to = from;
            }
            if Pin::new(&mut self.stream).poll_write(cx, &frame).is_ready() {
                drop(Pin::new(&mut self.stream).poll_flush(cx));
            }
        }
        io::Error::other("the client has used up what a connection is allowed")
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for Metered<S> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.allowance.crossed().is_some() {
            return Poll::Ready(Err(this.end(cx)));
        }
        let before = buffer.filled().len();
        ready!(Pin::new(&mut this.stream).poll_read(cx, buffer))?;
        let count = this.frames.count(buffer.filled().get(before..).unwrap_or_default());
        match this.allowance.take(count, Instant::now) {
            true => Poll::Ready(Ok(())),
            false => Poll::Ready(Err(this.end(cx))),
        }
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Metered<S> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let outcome = Pin::new(&mut this.stream).poll_write(cx, bytes);
        this.wrote(&outcome);
        outcome
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        this.between_frames = true;
        Pin::new(&mut this.stream).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        this.between_frames = false;
        Pin::new(&mut this.stream).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        pieces: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let outcome = Pin::new(&mut this.stream).poll_write_vectored(cx, pieces);
        this.wrote(&outcome);
        outcome
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}
