//! One direction of a tunnel. An idle one holds no buffer: bytes pass through one on the stack, and only what the other
//! side does not take at once is kept.

use std::io;
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::frames::Frames;

/// Bytes read at once.
const PIECE: usize = 16 * 1024;
/// Pieces passed on in one turn; then the other streams of the thread have theirs.
const PIECES_A_TURN: usize = 16;

/// What is on its way in one direction.
#[derive(Debug, Default)]
pub(super) struct Pipe {
    /// Read, and from `at` on not yet written.
    kept: Vec<u8>,
    at: usize,
    /// Nothing more will be read.
    ended: bool,
    /// The writing side has been told so.
    shut: bool,
    unflushed: bool,
    /// Pieces read since somebody last looked.
    pub(super) pieces: u32,
    /// Bytes passed on so far.
    pub(super) passed: u64,
    /// For a WebSocket: where its frames are.
    pub(super) frames: Option<Frames>,
}

impl Pipe {
    pub(super) fn new(is_websocket: bool) -> Self {
        Self { frames: is_websocket.then(Frames::default), ..Self::default() }
    }

    /// The reader ended, and the writer was told.
    pub(super) fn is_done(&self) -> bool {
        self.shut
    }

    /// Passes bytes on as long as there are some and they are taken. Ready when the reader has ended and the writer was
    /// told.
    pub(super) fn poll(
        &mut self,
        cx: &mut Context<'_>,
        mut from: Pin<&mut (impl AsyncRead + ?Sized)>,
        mut to: Pin<&mut (impl AsyncWrite + ?Sized)>,
    ) -> Poll<io::Result<()>> {
        for _ in 0..PIECES_A_TURN {
            if self.shut {
                return Poll::Ready(Ok(()));
            }
            ready!(self.poll_write_kept(cx, to.as_mut()))?;
            if self.ended {
                ready!(to.as_mut().poll_shutdown(cx))?;
                self.shut = true;
                return Poll::Ready(Ok(()));
            }
            let read = self.poll_read_piece(cx, from.as_mut(), to.as_mut(), PIECE);
            if read.is_pending() {
                ready!(self.poll_flush(cx, to.as_mut()))?;
            }
            ready!(read)?;
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    /// Ready when all that was read is written, up to the end of the frame that has begun: then a frame of our own may
    /// follow.
    pub(super) fn poll_finish_frame(
        &mut self,
        cx: &mut Context<'_>,
        mut from: Pin<&mut (impl AsyncRead + ?Sized)>,
        mut to: Pin<&mut (impl AsyncWrite + ?Sized)>,
    ) -> Poll<io::Result<()>> {
        loop {
            ready!(self.poll_write_kept(cx, to.as_mut()))?;
            let rest = self.frames.as_ref().map_or(0, Frames::rest);
            if rest == 0 {
                return Poll::Ready(Ok(()));
            }
            if self.ended {
                return Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into()));
            }
            ready!(self.poll_read_piece(cx, from.as_mut(), to.as_mut(), rest))?;
        }
    }

    /// Whether a frame of our own may be written now.
    pub(super) fn is_between_frames(&self) -> bool {
        !self.shut && self.kept.is_empty() && self.frames.as_ref().is_some_and(Frames::is_between)
    }

    /// Reads once, at most `limit` bytes, and writes as much of that as is taken at once.
    fn poll_read_piece(
        &mut self,
        cx: &mut Context<'_>,
        from: Pin<&mut (impl AsyncRead + ?Sized)>,
        to: Pin<&mut (impl AsyncWrite + ?Sized)>,
        limit: usize,
    ) -> Poll<io::Result<()>> {
        let mut scratch = [MaybeUninit::uninit(); PIECE];
        let mut buffer = ReadBuf::uninit(&mut scratch[..limit.min(PIECE)]);
        ready!(from.poll_read(cx, &mut buffer))?;
        let bytes = buffer.filled();
        if bytes.is_empty() {
            self.ended = true;
            return Poll::Ready(Ok(()));
        }
        self.pieces = self.pieces.saturating_add(1);
        if let Some(frames) = &mut self.frames {
            frames.advance(bytes);
        }
        let written = match to.poll_write(cx, bytes) {
            Poll::Ready(written) => written?,
            Poll::Pending => 0,
        };
        self.unflushed = true;
        self.passed += written as u64;
        self.kept.extend_from_slice(&bytes[written..]);
        Poll::Ready(Ok(()))
    }

    fn poll_write_kept(
        &mut self,
        cx: &mut Context<'_>,
        mut to: Pin<&mut (impl AsyncWrite + ?Sized)>,
    ) -> Poll<io::Result<()>> {
        while self.at < self.kept.len() {
            let written = ready!(to.as_mut().poll_write(cx, &self.kept[self.at..]))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.at += written;
            self.passed += written as u64;
        }
        if self.at > 0 {
            // Given back: a tunnel is mostly idle.
            self.kept = Vec::new();
            self.at = 0;
        }
        Poll::Ready(Ok(()))
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>, to: Pin<&mut (impl AsyncWrite + ?Sized)>) -> Poll<io::Result<()>> {
        if self.unflushed {
            ready!(to.poll_flush(cx))?;
            self.unflushed = false;
        }
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use tokio::io::AsyncWriteExt as _;

    use super::*;

    #[tokio::test]
    async fn pieces_are_counted_until_somebody_looks() {
        let (mut server, mut from) = tokio::io::duplex(64);
        let (mut to, _client) = tokio::io::duplex(1024);
        let mut pipe = Pipe::new(false);
        for (piece, count) in [(&b"one"[..], 1), (b"two", 2)] {
            server.write_all(piece).await.unwrap();
            let passed = poll_fn(|cx| Poll::Ready(pipe.poll(cx, Pin::new(&mut from), Pin::new(&mut to)))).await;
            assert!(passed.is_pending());
            assert_eq!((pipe.pieces, pipe.passed), (count, 3 * u64::from(count)));
        }
        drop(server);
        poll_fn(|cx| pipe.poll(cx, Pin::new(&mut from), Pin::new(&mut to))).await.unwrap();
        assert_eq!(std::mem::take(&mut pipe.pieces), 2, "the end is no piece");
    }
}
