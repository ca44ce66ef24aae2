//! A request on its way to a server.

use std::io;
use std::task::{Context, Poll};

use crate::upstream::Lease;

/// The bytes of a request, of which some were sent over a connection.
#[derive(Debug)]
pub(super) struct Sending {
    bytes: Vec<u8>,
    written: usize,
    flushed: bool,
    /// Why no more is taken. The server may have said why before it stopped to read.
    refused: Option<io::Error>,
}

impl Sending {
    pub(super) fn new(bytes: Vec<u8>) -> Self {
        Self { bytes, written: 0, flushed: false, refused: None }
    }

    /// All of it again, over another connection.
    pub(super) fn restart(&mut self) {
        (self.written, self.flushed, self.refused) = (0, false, None);
    }

    /// How many bytes were taken.
    pub(super) fn written(&self) -> usize {
        self.written
    }

    /// Whether all of it has left.
    pub(super) fn is_done(&self) -> bool {
        self.flushed
    }

    pub(super) fn take_refused(&mut self) -> Option<io::Error> {
        self.refused.take()
    }

    pub(super) fn into_buffer(self) -> Vec<u8> {
        self.bytes
    }

    /// Sends as much as is taken. Whoever asked is woken when there may be more.
    pub(super) fn poll_on(&mut self, cx: &mut Context<'_>, lease: &mut Lease) {
        while self.written < self.bytes.len() && self.refused.is_none() {
            match lease.poll_write(cx, &self.bytes[self.written..]) {
                Poll::Ready(Ok(0)) => self.refused = Some(io::ErrorKind::WriteZero.into()),
                Poll::Ready(Ok(count)) => self.written += count,
                Poll::Ready(Err(error)) => self.refused = Some(error),
                Poll::Pending => return,
            }
        }
        if !self.flushed && self.refused.is_none() {
            match lease.poll_flush(cx) {
                Poll::Ready(Ok(())) => self.flushed = true,
                Poll::Ready(Err(error)) => self.refused = Some(error),
                Poll::Pending => {}
            }
        }
    }
}
