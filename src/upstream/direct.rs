//! An HTTP/1.1 connection without a task of its own: whoever has it writes and reads its bytes.
//!
//! Between two requests nobody looks at it; whether the server has closed it meanwhile, or said something that nobody
//! asked for, is found out when it is to be used again.

use std::future::{Future, poll_fn};
use std::io;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll, Waker, ready};

use http::StatusCode;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::connection::{Kind, Way};
use super::dialer::Dialed;
use super::names::Named;
use super::open::Plan;
use super::pool::Lease;
use super::stream::Stream;
use super::{Upstream, UpstreamError};
use crate::config::Protocol;

/// One connection.
#[derive(Debug)]
pub(super) struct Direct {
    stream: Stream,
    named: Option<Named>,
    uses: u32,
}

impl Direct {
    pub(super) fn new(dialed: Dialed) -> Self {
        Self { stream: dialed.stream, named: dialed.named, uses: 0 }
    }

    pub(super) fn is_reused(&self) -> bool {
        self.uses > 1
    }

    pub(super) fn take(&mut self) {
        self.uses = self.uses.saturating_add(1);
    }

    /// Whether nothing came since the last response: neither its end, nor bytes that would become the start of somebody
    /// else's answer.
    pub(super) fn is_quiet(&mut self, cx: &mut Context<'_>) -> bool {
        if self.named.as_mut().is_some_and(|named| !named.is_current()) {
            return false;
        }
        // Without the runtime's budget: a task that has used it up is told that nothing came, whatever came.
        let look = poll_fn(|cx| {
            let mut byte = [0];
            Poll::Ready(Pin::new(&mut self.stream).poll_read(cx, &mut ReadBuf::new(&mut byte)).is_pending())
        });
        pin!(tokio::task::unconstrained(look)).poll(cx) == Poll::Ready(true)
    }

    /// As [`Self::is_quiet`], asked by nobody who waits.
    pub(super) fn is_open(&mut self) -> bool {
        self.is_quiet(&mut Context::from_waker(Waker::noop()))
    }
}

/// A request whose bytes are sent by whoever has them: it finds connections for them.
#[derive(Debug)]
pub struct Errand<'u> {
    upstream: &'u Upstream,
    plan: Plan,
    /// It may be sent twice.
    replayable: bool,
}

/// What becomes of a request whose connection failed before a byte of a response.
#[derive(Debug)]
pub enum Failed {
    /// It is sent again, over the next connection.
    Again,
    /// It is answered with this.
    Error(UpstreamError),
}

impl Upstream {
    /// Whether its servers are spoken to in HTTP/1.1, one request at a time.
    pub fn takes_errands(&self) -> bool {
        self.protocol == Protocol::Http1
    }

    /// For a request that may be sent twice when it is `replayable`. `key` is of [`key_of`](super::key_of), when the
    /// server is chosen by it.
    pub fn errand(&self, key: Option<u64>, replayable: bool) -> Errand<'_> {
        Errand { upstream: self, plan: Plan::new(&self.pool, key, !replayable, Way::Direct), replayable }
    }
}

impl Errand<'_> {
    /// A connection for the request, kept or new: as [`Upstream::send`] finds one.
    ///
    /// # Errors
    /// [`UpstreamError`]
    pub async fn connection(&mut self) -> Result<Lease, UpstreamError> {
        let pool = &self.upstream.pool;
        match pool.kept(&mut self.plan).await {
            Some(kept) => Ok(kept),
            // Boxed: rare, and large with its name look-up.
            None => Box::pin(pool.open(&mut self.plan)).await,
        }
    }

    /// The connection ended, or failed, before any byte of a response; `unsent` when none of the request was taken,
    /// either. The same rules as for [`Upstream::send`] say whether the request is sent again.
    pub fn failed(&mut self, mut lease: Lease, unsent: bool, cause: io::Error) -> Failed {
        let pool = &self.upstream.pool;
        let (at, server, reused) = (lease.server(), lease.name(), lease.connection().is_reused());
        let again = if unsent && reused {
            // That a kept connection was closed is no news of the server.
            self.plan.again(lease);
            true
        } else if unsent && self.plan.take_attempt() {
            pool.shared.failed(at);
            true
        } else if self.replayable && reused && self.plan.take_attempt() && pool.shared.may_send_again() {
            self.plan.again(lease);
            true
        } else {
            if !(self.replayable && reused) {
                pool.shared.failed(at);
            }
            false
        };
        if again {
            pool.metrics.upstream_retried[pool.index].add(1);
            return Failed::Again;
        }
        Failed::Error(UpstreamError::Broken { server, cause: cause.into() })
    }

    /// The server answered something that is no response, or broke off in the middle of its header.
    pub fn broke(&self, lease: &Lease, cause: io::Error) -> UpstreamError {
        self.upstream.pool.shared.failed(lease.server());
        UpstreamError::Broken { server: lease.name(), cause: cause.into() }
    }

    /// The server did not answer in time.
    pub fn timed_out(&self, lease: &Lease) -> UpstreamError {
        self.upstream.pool.shared.failed(lease.server());
        UpstreamError::Timeout { server: lease.name() }
    }
}

/// The bytes of a connection for an [`Errand`].
impl Lease {
    /// `host:port` of the server.
    pub fn name(&self) -> Rc<str> {
        self.idle.connection.server()
    }

    /// The server answered.
    pub fn answered(&self, status: StatusCode) {
        self.flight.pool.shared.answered(self.server(), status);
    }

    fn stream(&mut self) -> io::Result<&mut Stream> {
        match &mut self.connection().kind {
            Kind::Direct(direct) => Ok(&mut direct.stream),
            // Errands get no others.
            Kind::Own(_) | Kind::Shared(_) => Err(io::ErrorKind::Unsupported.into()),
        }
    }

    /// Writes some of `bytes`, and sees to it that they leave.
    ///
    /// # Errors
    /// As the connection has it.
    pub fn poll_write(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(self.stream()?).poll_write(cx, bytes)
    }

    /// What was written leaves.
    ///
    /// # Errors
    /// As the connection has it.
    pub fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(self.stream()?).poll_flush(cx)
    }

    /// Reads to `bytes`: how many; 0 at the end.
    ///
    /// # Errors
    /// As the connection has it.
    pub fn poll_read(&mut self, cx: &mut Context<'_>, bytes: &mut [u8]) -> Poll<io::Result<usize>> {
        let mut buffer = ReadBuf::new(bytes);
        ready!(Pin::new(self.stream()?).poll_read(cx, &mut buffer))?;
        Poll::Ready(Ok(buffer.filled().len()))
    }
}
