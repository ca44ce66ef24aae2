//! A connection to a server that sends without a pause, beside other tasks of the thread.

use std::future::Future;
use std::io;
use std::pin::{Pin, pin};
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::stream::Stream;

/// So much is read without a pause before others have their turn.
///
/// hyper reads interim responses for as long as there are some, and only the runtime stops it, after 128 reads that may
/// be of 400 KiB each: a server that sends nothing else would hold up all requests of the worker, and their deadlines
/// with them.
const A_TURN: usize = 256 * 1024;

/// A stream that lets others have their turn.
#[derive(Debug)]
pub(super) struct Fair {
    stream: Stream,
    /// Bytes read since there was last a pause.
    read: usize,
}

impl Fair {
    pub(super) fn new(stream: Stream) -> Self {
        Self { stream, read: 0 }
    }
}

impl AsyncRead for Fair {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.read >= A_TURN {
            this.read = 0;
            // Woken only after the runtime has looked at its sockets and timers; woken at once, it would do so rarely.
            let _first_poll = pin!(tokio::task::yield_now()).poll(cx);
            return Poll::Pending;
        }
        let before = buffer.filled().len();
        let read = Pin::new(&mut this.stream).poll_read(cx, buffer);
        this.read = if read.is_ready() { this.read + (buffer.filled().len() - before) } else { 0 };
        read
    }
}

impl AsyncWrite for Fair {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().stream).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        pieces: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().stream).poll_write_vectored(cx, pieces)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(cx)
    }
}
