//! What stands before hyper on a connection of HTTP/1.1: bytes pass once they are known to be one request, or part of
//! the body of one.
//!
//! hyper is more lenient than a gateway may be: it takes a bare LF for the end of a line, merges equal lengths, drops a
//! length beside `chunked`, and cuts a target at `#`. Others in the chain read such bytes otherwise. Which bytes may pass
//! is told by [`Requests`]; here they are held back until it says so.
//!
//! What is refused must be answered in its turn, after the requests before it, and by the same code as every refusal.
//! So hyper gets a request of ours in its place, by which [`Front::refused`] is asked for the reason.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, Ordering::Relaxed};
use std::task::{Context, Poll, ready};

use http::Method;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::activity::Activity;
use crate::http1::{HeadLimits, Judged, Malformed, Requests};
use crate::reject::Reason;

/// In place of what is refused. A method begins with a letter wherever it passed: no client can send this one.
const REFUSED: &[u8] = b"- * HTTP/1.1\r\nhost: -\r\nconnection: close\r\n\r\n";
const REFUSED_METHOD: &str = "-";

/// Bytes of a refused connection that are read and thrown away: closed with unread bytes, it would be reset, and its
/// client might not see the answer.
const DISCARDED: usize = 256 * 1024;

/// Bytes read at once when some are held back.
const READ: usize = 4 * 1024;

/// What the stream of a connection and its requests tell one another. All on one thread.
#[derive(Debug, Default)]
pub(super) struct Front {
    /// One more than the index of the reason why what follows the last request is none.
    refused: AtomicU8,
    /// How many requests were answered.
    answers: AtomicU32,
    /// The last of them with `101`: what follows is no HTTP.
    switched: AtomicBool,
}

impl Front {
    /// Why `method` is none that a client sent.
    pub(super) fn refused(&self, method: &Method) -> Option<Reason> {
        if method.as_str() != REFUSED_METHOD {
            return None;
        }
        let index = usize::from(self.refused.load(Relaxed)).checked_sub(1);
        Some(index.and_then(|index| Reason::ALL.get(index)).copied().unwrap_or(Reason::MalformedRequest))
    }

    fn refuse(&self, reason: Reason) {
        self.refused.store(u8::try_from(reason.index() + 1).unwrap_or(0), Relaxed);
    }

    /// A request was answered.
    pub(super) fn answered(&self, switched: bool) {
        self.answers.store(self.answers.load(Relaxed).wrapping_add(1), Relaxed);
        if switched {
            self.switched.store(true, Relaxed);
        }
    }
}

/// A stream of which only requests can be read.
#[derive(Debug)]
pub(super) struct Strict<S> {
    stream: S,
    front: Arc<Front>,
    activity: Arc<Activity>,
    state: State,
    requests: Requests,
    /// What came and was not yet read. The first `passes` bytes may be.
    held: Vec<u8>,
    passes: usize,
    /// Bytes that were read and thrown away.
    discarded: usize,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum State {
    Requests,
    /// Something else was agreed on: everything passes.
    Switched,
    /// What is held is the last that passes, and then the connection is broken off in the middle of a body.
    Breaks(Malformed),
    /// What is held is the last that passes.
    Refused,
}

/// What became of a read straight to hyper.
enum Straight {
    /// Something passed.
    Passed,
    /// What came is held back, or refused.
    Held,
    /// Nothing came: the client sends nothing more.
    Ended,
}

impl<S> Strict<S> {
    pub(super) fn new(stream: S, front: &Arc<Front>, activity: &Arc<Activity>, limits: HeadLimits) -> Self {
        Self {
            stream,
            front: front.clone(),
            activity: activity.clone(),
            state: State::Requests,
            requests: Requests::new(limits),
            held: Vec::new(),
            passes: 0,
            discarded: 0,
        }
    }

    /// Gives what may pass; whether there was any.
    fn give(&mut self, buffer: &mut ReadBuf<'_>) -> bool {
        let count = self.passes.min(buffer.remaining());
        if count == 0 {
            return false;
        }
        buffer.put_slice(&self.held[..count]);
        self.passes -= count;
        self.held.drain(..count);
        if self.held.is_empty() {
            // An idle connection holds no memory for what came once.
            self.held = Vec::new();
        }
        true
    }

    /// Whether the answer was given to a request that asked for another protocol, and is still to be acted on.
    fn is_decided(&self) -> bool {
        self.state == State::Requests
            && self.requests.is_undecided()
            // Others before it may be answered only now.
            && self.front.answers.load(Relaxed) == self.requests.heads()
    }

    /// The answer to a request that asked for another protocol decides what follows it.
    fn settle(&mut self) {
        if self.front.switched.load(Relaxed) {
            self.state = State::Switched;
            self.passes = self.held.len();
        } else {
            self.requests.decline();
            self.judge_held();
        }
    }

    fn judge_held(&mut self) {
        let Judged { passes, fault } = self.requests.judge(&self.held);
        self.passes = passes;
        self.activity.header_waits(self.requests.is_in_head());
        if let Some(fault) = fault {
            self.refuse(fault);
        }
    }

    /// Nothing that is held beyond what passes will be.
    fn refuse(&mut self, fault: Malformed) {
        self.held.truncate(self.passes);
        self.state = if self.requests.is_in_body() {
            State::Breaks(fault)
        } else {
            self.front.refuse(fault.into());
            self.held.extend_from_slice(REFUSED);
            self.passes = self.held.len();
            State::Refused
        };
    }
}

impl<S: AsyncRead + Unpin> Strict<S> {
    /// Reads what goes straight to hyper when it may: bytes are held back only from the first that may not pass yet.
    fn poll_straight(&mut self, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<Straight>> {
        let before = buffer.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(cx, buffer))?;
        let came = &buffer.filled()[before..];
        if came.is_empty() {
            return Poll::Ready(Ok(Straight::Ended));
        }
        let Judged { passes, fault } = self.requests.judge(came);
        if passes < came.len() {
            self.held.extend_from_slice(&came[passes..]);
            buffer.set_filled(before + passes);
            self.activity.header_waits(self.requests.is_in_head());
        }
        if let Some(fault) = fault {
            self.refuse(fault);
        }
        Poll::Ready(Ok(if passes > 0 { Straight::Passed } else { Straight::Held }))
    }

    /// Reads to what is held; whether there was anything to read.
    fn poll_held(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<bool>> {
        let before = self.held.len();
        self.held.resize(before + READ, 0);
        let mut space = ReadBuf::new(&mut self.held[before..]);
        let read = Pin::new(&mut self.stream).poll_read(cx, &mut space);
        let came = space.filled().len();
        self.held.truncate(before + came);
        ready!(read)?;
        if came == 0 {
            self.ended();
        } else {
            self.judge_held();
        }
        Poll::Ready(Ok(came > 0))
    }

    /// The client sends nothing more. In the middle of a header that is a fault like any other; a body that ends too
    /// early hyper finds out itself.
    fn ended(&mut self) {
        if self.requests.is_in_head() {
            self.refuse(Malformed::RequestLine);
        }
    }

    /// Reads and throws away what a refused client still sends.
    fn discard(&mut self, cx: &mut Context<'_>) {
        let mut space = [0; READ];
        while self.discarded < DISCARDED {
            let mut space = ReadBuf::new(&mut space);
            match Pin::new(&mut self.stream).poll_read(cx, &mut space) {
                Poll::Ready(Ok(())) if !space.filled().is_empty() => self.discarded += space.filled().len(),
                _ => return,
            }
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Strict<S> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.is_decided() {
            this.settle();
        }
        loop {
            if this.give(buffer) {
                return Poll::Ready(Ok(()));
            }
            let goes_on = match this.state {
                // A little is read ahead, to see that the client is still there.
                State::Requests if this.requests.is_undecided() && this.held.len() >= READ => return Poll::Pending,
                State::Requests if this.held.is_empty() && !this.requests.is_undecided() => {
                    match ready!(this.poll_straight(cx, buffer))? {
                        Straight::Passed => return Poll::Ready(Ok(())),
                        Straight::Held => true,
                        Straight::Ended => false,
                    }
                }
                State::Requests => ready!(this.poll_held(cx))?,
                State::Switched => return Pin::new(&mut this.stream).poll_read(cx, buffer),
                // As when hyper finds the fault itself: the body breaks, and the connection is closed with the answer.
                State::Breaks(fault) => {
                    this.discard(cx);
                    return Poll::Ready(Err(io::Error::new(io::ErrorKind::InvalidData, fault)));
                }
                // Not the end of the stream, whatever it is: the answer is still to be given.
                State::Refused => {
                    this.discard(cx);
                    return Poll::Pending;
                }
            };
            // Where the client ends in the middle of a header, it still gets the answer to that.
            if !goes_on && this.state == State::Requests {
                return Poll::Ready(Ok(()));
            }
        }
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Strict<S> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().stream).poll_write(cx, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        // What is held may pass now, or be refused. hyper looks for it only when it is woken, as by more bytes, and none
        // may come: a request behind one whose wish for another protocol was declined would never be answered.
        if this.is_decided() {
            cx.waker().wake_by_ref();
        }
        Pin::new(&mut this.stream).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        ready!(Pin::new(&mut this.stream).poll_shutdown(cx))?;
        if matches!(this.state, State::Breaks(_) | State::Refused) {
            this.discard(cx);
        }
        Poll::Ready(Ok(()))
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
    use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};

    use super::*;

    const GET: &[u8] = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n";
    const ASKS: &[u8] = b"GET / HTTP/1.1\r\nHost: a\r\nUpgrade: x\r\n\r\n";

    fn strict() -> (DuplexStream, Strict<DuplexStream>, Arc<Front>) {
        let (client, server) = tokio::io::duplex(1024);
        let front = Arc::new(Front::default());
        (
            client,
            Strict::new(server, &front, &Activity::since(true, std::time::Instant::now()), HeadLimits::default()),
            front,
        )
    }

    /// What can be read at once, into a buffer of `size` bytes at a time; `None` at the end of the stream.
    async fn read(stream: &mut Strict<DuplexStream>, size: usize) -> Option<Vec<u8>> {
        let (mut all, mut piece) = (Vec::new(), vec![0; size]);
        loop {
            let mut read = std::pin::pin!(stream.read(&mut piece));
            match std::future::poll_fn(|cx| Poll::Ready(read.as_mut().poll(cx))).await {
                Poll::Ready(Ok(0)) => return if all.is_empty() { None } else { Some(all) },
                Poll::Ready(Ok(count)) => all.extend_from_slice(&piece[..count]),
                Poll::Ready(Err(error)) => panic!("{error}"),
                Poll::Pending => return Some(all),
            }
        }
    }

    #[tokio::test]
    async fn a_header_passes_when_it_is_whole_however_it_came() {
        for size in [1, 7, 1024] {
            let (mut client, mut stream, _) = strict();
            for byte in &GET[..GET.len() - 1] {
                client.write_all(&[*byte]).await.unwrap();
                assert_eq!(read(&mut stream, size).await.unwrap(), b"");
            }
            client.write_all(&[b"\n", GET, b"GET"].concat()).await.unwrap();
            assert_eq!(read(&mut stream, size).await.unwrap(), [GET, GET].concat());
            client.write_all(&GET[3..]).await.unwrap();
            assert_eq!(read(&mut stream, size).await.unwrap(), GET);
            assert_eq!(stream.held.capacity(), 0, "nothing is kept for an idle connection");
            drop(client);
            assert_eq!(read(&mut stream, size).await, None);
        }
    }

    #[tokio::test]
    async fn in_place_of_what_is_refused_comes_a_request_no_client_can_send() {
        for bad in [&b"GET / HTTP/1.1\nHost: a\n\n"[..], REFUSED, b"GET / HTTP/1.1\r\nHo"] {
            let (mut client, mut stream, front) = strict();
            client.write_all(&[GET, bad].concat()).await.unwrap();
            drop(client);
            assert_eq!(read(&mut stream, 1024).await.unwrap(), [GET, REFUSED].concat());
            let method = |name: &str| Method::from_bytes(name.as_bytes()).unwrap();
            assert_eq!(front.refused(&method("-")), Some(Reason::MalformedRequest));
            assert_eq!(front.refused(&Method::GET), None);
            assert_eq!(read(&mut stream, 1024).await.unwrap(), b"", "nor is this the end: there is an answer to give");
        }
    }

    #[tokio::test]
    async fn what_a_refused_client_still_sends_is_read_and_thrown_away() {
        let (mut client, mut stream, _) = strict();
        client.write_all(b"\0").await.unwrap();
        assert_eq!(read(&mut stream, 1024).await.unwrap(), REFUSED);
        for _ in 0..100 {
            client.write_all(&[b'x'; 1024]).await.unwrap();
            assert_eq!(read(&mut stream, 1024).await.unwrap(), b"");
        }
        assert_eq!(stream.discarded, 100 * 1024);
    }

    #[tokio::test]
    async fn a_broken_chunk_breaks_the_body() {
        let (mut client, mut stream, _) = strict();
        let good = b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n1\r\n";
        client.write_all(&[good, &b"ab"[..]].concat()).await.unwrap();
        let mut space = vec![0; 1024];
        assert_eq!(stream.read(&mut space).await.unwrap(), good.len() + 1);
        assert_eq!(stream.read(&mut space).await.unwrap_err().kind(), io::ErrorKind::InvalidData);
    }

    #[tokio::test]
    async fn the_answer_decides_what_follows_a_request_for_another_protocol() {
        for switched in [true, false] {
            let (mut client, mut stream, front) = strict();
            client.write_all(&[GET, ASKS, GET].concat()).await.unwrap();
            assert_eq!(read(&mut stream, 1024).await.unwrap(), [GET, ASKS].concat());
            front.answered(false);
            assert_eq!(read(&mut stream, 1024).await.unwrap(), b"", "that was the one before");
            front.answered(switched);
            assert_eq!(read(&mut stream, 1024).await.unwrap(), GET);
            client.write_all(b"\0\n").await.unwrap();
            assert_eq!(read(&mut stream, 1024).await.unwrap(), if switched { b"\0\n" } else { REFUSED });
        }
    }

    #[tokio::test]
    async fn while_it_is_undecided_little_is_read_and_the_end_is_seen() {
        let (mut client, mut stream, _) = strict();
        client.write_all(ASKS).await.unwrap();
        assert_eq!(read(&mut stream, 1024).await.unwrap(), ASKS);
        for _ in 0..2 * READ / 1024 {
            let write = client.write_all(&[b'x'; 1024]);
            if tokio::time::timeout(std::time::Duration::from_millis(20), write).await.is_err() {
                break;
            }
            assert_eq!(read(&mut stream, 1024).await.unwrap(), b"");
        }
        assert!(stream.held.len() <= 2 * READ, "{}", stream.held.len());
        let (mut client, mut stream, _) = strict();
        client.write_all(ASKS).await.unwrap();
        assert_eq!(read(&mut stream, 1024).await.unwrap(), ASKS);
        drop(client);
        assert_eq!(read(&mut stream, 1024).await, None);
    }
}
