//! The streams of an HTTP/2 connection, each in a task of its own.

use std::cell::Cell;
use std::future::{Future, poll_fn};
use std::rc::Rc;
use std::task::Poll;

use tokio::sync::watch;

use super::activity::ActiveRequest;
use super::unread::{Opened, Unread};
use crate::gateway::Worker;
use crate::telemetry::metrics::ConnectionLimit;

/// Runs the streams of an HTTP/2 connection on its own thread. The connection owns them: they end with it.
///
/// hyper asks the service for its future and hands the stream with that future in it over at once. What the service left
/// in `next` therefore belongs to that stream, which can so be cut, or go on as a tunnel.
#[derive(Clone)]
pub(super) struct StreamExecutor {
    pub(super) next: Rc<Cell<Option<Next>>>,
    pub(super) worker: Rc<Worker>,
    pub(super) stopping: watch::Receiver<bool>,
}

/// A stream that was just opened. The connection is busy until it has ended, as a tunnel too.
type Next = (Rc<Opened>, ActiveRequest);

impl<F: Future + 'static> hyper::rt::Executor<F> for StreamExecutor
where
    F::Output: 'static,
{
    fn execute(&self, future: F) {
        let Some((opened, active)) = self.next.take() else {
            drop(tokio::task::spawn_local(future));
            return;
        };
        let (worker, stopping) = (self.worker.clone(), self.stopping.clone());
        // Pinned within the task, a future has room there twice: where it was captured, and where it is polled.
        let mut future = Box::pin(future);
        drop(tokio::task::spawn_local(async move {
            let exchange = &opened.exchange;
            let mut unread = Unread::new(worker.gateway().config.limits.body_idle_timeout);
            let done = poll_fn(|cx| match future.as_mut().poll(cx) {
                Poll::Ready(_) => {
                    opened.ended();
                    Poll::Ready(())
                }
                Poll::Pending if exchange.stream.poll_cut(cx).is_ready() => Poll::Ready(()),
                Poll::Pending => unread.poll(cx, &opened).map(|()| {
                    worker.metrics().limit(ConnectionLimit::WriteTimeout);
                    tracing::debug!(limit = ?ConnectionLimit::WriteTimeout, "stream reset");
                }),
            });
            done.await;
            // Before its end, this resets the stream.
            drop(future);
            let tunnel = exchange.tunnel.borrow_mut().take();
            if let Some(tunnel) = tunnel {
                Box::pin(tunnel.run(stopping, |pieces| opened.tunnelled(pieces))).await;
            }
            drop(active);
        }));
    }
}
