//! The stream beneath hyper: it tells what it is doing, and writes what hyper cannot.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::activity::Activity;
use crate::interim::Interim;

/// A stream that tells what it is doing.
#[derive(Debug)]
pub(super) struct Watched<S> {
    stream: S,
    activity: Arc<Activity>,
    /// HTTP/1.1: what is sent before the response.
    interim: Option<Arc<Interim>>,
    /// Of that, what is still to be written. Begun where hyper had nothing to write, it goes before all that it has.
    rest: Vec<u8>,
    /// Much was read: before there is more, others of this thread have their turn.
    gives_way: bool,
}

/// A read of so many bytes is no lone request.
const MUCH: usize = 4 * 1024;

impl<S> Watched<S> {
    pub(super) fn new(stream: S, activity: &Arc<Activity>, interim: Option<Arc<Interim>>) -> Self {
        Self { stream, activity: activity.clone(), interim, rest: Vec::new(), gives_way: false }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Watched<S> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<std::io::Result<()>> {
        let this = self.get_mut();
        if this.gives_way {
            this.gives_way = false;
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        let before = buffer.filled().len();
        let read = Pin::new(&mut this.stream).poll_read(cx, buffer);
        let came = buffer.filled().len() - before;
        if came > 0 {
            this.activity.bytes_came();
            // HTTP/2 reads as long as something is there, and ends the connection when too many small frames wait to be
            // taken: a client that streams small messages would be cut before their taker had its turn.
            this.gives_way = came >= MUCH && !this.activity.one_at_a_time;
        }
        read
    }
}

impl<S: AsyncWrite + Unpin> Watched<S> {
    /// Writes the rest of what was begun.
    fn poll_rest(&mut self, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        while !self.rest.is_empty() {
            let outcome = Pin::new(&mut self.stream).poll_write(cx, &self.rest);
            match ready!(self.wrote(outcome))? {
                0 => return Poll::Ready(Err(std::io::ErrorKind::WriteZero.into())),
                count => drop(self.rest.drain(..count)),
            }
        }
        Poll::Ready(Ok(()))
    }

    /// Writes the interim responses that wait. hyper flushes only what it has wholly handed over: this is the place
    /// between two responses.
    fn poll_interim(&mut self, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        loop {
            ready!(self.poll_rest(cx))?;
            match self.interim.as_ref().and_then(|interim| interim.take()) {
                Some(heads) => self.rest = heads,
                None => return Poll::Ready(Ok(())),
            }
        }
    }

    fn wrote<T>(&self, outcome: Poll<T>) -> Poll<T> {
        self.activity.wrote(outcome.is_ready());
        outcome
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Watched<S> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<std::io::Result<usize>> {
        let this = self.get_mut();
        ready!(this.poll_rest(cx))?;
        let outcome = Pin::new(&mut this.stream).poll_write(cx, bytes);
        this.wrote(outcome)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        let this = self.get_mut();
        ready!(this.poll_interim(cx))?;
        let outcome = Pin::new(&mut this.stream).poll_flush(cx);
        this.wrote(outcome)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        let this = self.get_mut();
        let outcome = Pin::new(&mut this.stream).poll_shutdown(cx);
        this.wrote(outcome)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        pieces: &[std::io::IoSlice<'_>],
    ) -> Poll<std::io::Result<usize>> {
        let this = self.get_mut();
        ready!(this.poll_rest(cx))?;
        let outcome = Pin::new(&mut this.stream).poll_write_vectored(cx, pieces);
        this.wrote(outcome)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}
