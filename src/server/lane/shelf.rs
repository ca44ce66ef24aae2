//! What the connections of a worker use in turn, so that none holds memory while it waits.

use std::cell::{Cell, RefCell, RefMut};
use std::future::Future;

use tokio::sync::Notify;

/// Bytes read at once.
const SCRATCH: usize = 64 * 1024;
/// Buffers kept for the next request.
const KEPT: usize = 64;
/// A buffer that has grown beyond this is not kept.
const MOST: usize = 16 * 1024;
/// Room for a usual head.
const USUAL: usize = 2 * 1024;

/// Buffers of one worker.
#[derive(Debug)]
pub(in super::super) struct Shelf {
    scratch: RefCell<Box<[u8]>>,
    spare: RefCell<Vec<Vec<u8>>>,
}

impl Shelf {
    pub(in super::super) fn new() -> Self {
        Self { scratch: RefCell::new(vec![0; SCRATCH].into()), spare: RefCell::default() }
    }

    /// Room to read to, for as long as nothing is awaited.
    pub(super) fn scratch(&self) -> RefMut<'_, Box<[u8]>> {
        self.scratch.borrow_mut()
    }

    /// An empty buffer.
    pub(super) fn take(&self) -> Vec<u8> {
        self.spare.borrow_mut().pop().unwrap_or_else(|| Vec::with_capacity(USUAL))
    }

    /// A buffer that is not needed any more.
    pub(super) fn put(&self, mut buffer: Vec<u8>) {
        let mut spare = self.spare.borrow_mut();
        if spare.len() < KEPT && buffer.capacity() <= MOST {
            // Requests hold credentials: what was in it is overwritten by the next, and not read before.
            buffer.clear();
            spare.push(buffer);
        }
    }
}

/// Tells the connections of a worker that the gateway stops.
#[derive(Debug, Default)]
pub(in super::super) struct Drain {
    begun: Cell<bool>,
    notify: Notify,
}

impl Drain {
    /// Wakes every connection that waits.
    pub(in super::super) fn begin(&self) {
        self.begun.set(true);
        self.notify.notify_waiters();
    }

    pub(super) fn has_begun(&self) -> bool {
        self.begun.get()
    }

    /// Ready when it begins. What is polled once is woken for it.
    pub(super) fn begun(&self) -> impl Future<Output = ()> {
        self.notify.notified()
    }
}
