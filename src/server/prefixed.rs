//! A stream whose first bytes were looked at before whoever reads it does.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf};

/// A stream that gives back what was read ahead. Once that is drained a read costs one comparison more.
#[derive(Debug)]
pub(super) struct Prefixed<S> {
    /// Read and not yet given back; freed when drained.
    ahead: Vec<u8>,
    /// How much of `ahead` was given back.
    given: usize,
    stream: S,
}

impl<S> Prefixed<S> {
    pub(super) fn new(stream: S) -> Self {
        Self { ahead: Vec::new(), given: 0, stream }
    }

    /// What was read ahead.
    pub(super) fn ahead(&self) -> &[u8] {
        self.ahead.get(self.given..).unwrap_or_default()
    }

    /// Gives back what was read of the stream before it was wrapped.
    pub(super) fn put_back(&mut self, bytes: Vec<u8>) {
        (self.ahead, self.given) = (bytes, 0);
    }

    /// Leaves the first `count` bytes out: nobody after us reads them.
    pub(super) fn skip(&mut self, count: usize) {
        self.given = self.ahead.len().min(self.given + count);
        self.free_when_drained();
    }

    fn free_when_drained(&mut self) {
        if self.given == self.ahead.len() {
            (self.ahead, self.given) = (Vec::new(), 0);
        }
    }
}

impl<S: AsyncRead + Unpin> Prefixed<S> {
    /// Waits for more bytes and keeps up to `most` of them ahead; 0 at the end of the stream. Nothing is lost when the
    /// wait is given up.
    ///
    /// # Errors
    /// As the stream has it.
    pub(super) async fn read_ahead(&mut self, most: usize) -> io::Result<usize> {
        self.ahead.reserve_exact(most);
        let limit = u64::try_from(most).unwrap_or(u64::MAX);
        (&mut self.stream).take(limit).read_buf(&mut self.ahead).await
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Prefixed<S> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.ahead.is_empty() {
            return Pin::new(&mut this.stream).poll_read(cx, buffer);
        }
        let ahead = this.ahead();
        let count = ahead.len().min(buffer.remaining());
        buffer.put_slice(&ahead[..count]);
        this.skip(count);
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Prefixed<S> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().stream).poll_write(cx, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(cx)
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
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncWriteExt;

    use super::*;

    #[tokio::test]
    async fn what_was_read_ahead_is_given_back_once_and_in_order() {
        let (mut client, server) = tokio::io::duplex(64);
        client.write_all(b"header;hello").await.unwrap();
        let mut stream = Prefixed::new(server);
        assert_eq!(stream.read_ahead(9).await.unwrap(), 9, "no more than was asked for");
        assert_eq!(stream.ahead(), b"header;he");
        stream.skip(7);
        let mut byte = [0];
        stream.read_exact(&mut byte).await.unwrap();
        assert_eq!((&byte, stream.ahead()), (b"h", &b"e"[..]), "a small buffer leaves the rest");
        client.write_all(b" you").await.unwrap();
        drop(client);
        let mut rest = String::new();
        stream.read_to_string(&mut rest).await.unwrap();
        assert_eq!(rest, "ello you");
        assert_eq!((stream.read_ahead(1).await.unwrap(), stream.ahead.capacity()), (0, 1));
    }
}
