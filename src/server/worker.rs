//! A worker: one thread, one runtime, its own listening sockets and connections.

use std::cell::Cell;
use std::io;
use std::net::TcpListener as StdListener;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::runtime::{Builder, LocalOptions};
use tokio::sync::{Notify, watch};

use super::accept::{Admission, Full};
use super::conn::{Serving, serve};
use super::lane::{Drain, Shelf};
use super::listener::Terms;
use crate::gateway::Worker;
use crate::live::LOOK_INTERVAL;
use crate::telemetry::metrics::ConnectionLimit;

/// How often a worker tidies up.
const TICK: Duration = Duration::from_millis(500);
/// The wait after an accept that failed: most causes (no file descriptor left) need a moment to pass.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// What a worker thread needs.
#[derive(Debug)]
pub struct WorkerSetup {
    /// Its listening sockets, one for each address, with what is spoken there.
    pub listeners: Vec<(StdListener, Arc<Terms>)>,
    /// Counts connections of all workers.
    pub admission: Arc<Admission>,
    /// Turns true when the gateway stops.
    pub stopping: watch::Receiver<bool>,
    /// How long requests in flight may take after that.
    pub drain_timeout: Duration,
}

/// How a worker ended.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Drained {
    /// Connections still open at the deadline.
    pub cut: usize,
}

/// Runs a worker on this thread until it was told to stop and its connections have ended. `make` builds what handles
/// requests, on this thread, because it is not to leave it.
///
/// # Errors
/// When the runtime or a socket cannot be set up.
pub fn run(setup: WorkerSetup, make: impl FnOnce() -> Worker) -> io::Result<Drained> {
    let runtime = Builder::new_current_thread().enable_all().build_local(LocalOptions::default())?;
    runtime.block_on(async move {
        let open = Rc::new(Open::default());
        let (drain, shelf) = (Rc::new(Drain::default()), Rc::new(Shelf::new()));
        let mut stopping = setup.stopping.clone();
        let worker = Rc::new(make());
        for (listener, terms) in setup.listeners {
            let listener = TcpListener::from_std(listener)?;
            let (drain, shelf) = (drain.clone(), shelf.clone());
            let serving = Serving { worker: worker.clone(), terms, drain, shelf, stopping: setup.stopping.clone() };
            let (admission, open) = (setup.admission.clone(), open.clone());
            tokio::task::spawn_local(accept(listener, serving, admission, open));
        }
        let ticker = worker.clone();
        let ticking = tokio::task::spawn_local(async move {
            loop {
                tokio::time::sleep(TICK).await;
                ticker.tick();
            }
        });
        let looker = worker.clone();
        let looking = tokio::task::spawn_local(async move {
            loop {
                tokio::time::sleep(LOOK_INTERVAL).await;
                looker.look_through_streams();
            }
        });
        // An error means that the sender is gone: the gateway is being dropped.
        drop(stopping.wait_for(|stop| *stop).await);
        drain.begin();
        drop(tokio::time::timeout(setup.drain_timeout, open.none_left()).await);
        ticking.abort();
        looking.abort();
        worker.tick();
        Ok(Drained { cut: open.count.get() })
    })
}

async fn accept(listener: TcpListener, mut serving: Serving, admission: Arc<Admission>, open: Rc<Open>) {
    loop {
        let accepted = tokio::select! {
            biased;
            accepted = listener.accept() => accepted,
            // What the kernel had accepted for us was taken by the branch above: nobody is reset.
            _ = serving.stopping.wait_for(|stop| *stop) => return,
        };
        let (stream, address) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(error = %error, "cannot accept a connection");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        // An IPv4 client of an IPv6 socket under its own address.
        let address = address.ip().to_canonical();
        let metrics = serving.worker.metrics();
        if !serving.terms.admit(address) {
            metrics.limit(ConnectionLimit::NoBalancer);
            tracing::debug!(peer = %address, "connection refused: not a balancer of server.listener.proxy_protocol");
            continue;
        }
        // Behind a balancer its own address is that of all clients: it is limited by theirs, once they are known.
        let permit = if serving.terms.speak_proxy_protocol() { admission.reserve() } else { admission.admit(address) };
        let mut permit = match permit {
            Ok(permit) => permit,
            Err(full) => {
                metrics.limit(full.into());
                continue;
            }
        };
        metrics.accepted.add(1);
        let connection = open.enter(&serving.worker);
        let serving = serving.clone();
        tokio::task::spawn_local(async move {
            serve(stream, address, &mut permit, serving).await;
            drop((permit, connection));
        });
    }
}

impl From<Full> for ConnectionLimit {
    fn from(full: Full) -> Self {
        match full {
            Full::Connections => Self::Connections,
            Full::Address => Self::ConnectionsPerAddress,
        }
    }
}

/// Connections of a worker.
#[derive(Debug, Default)]
struct Open {
    count: Cell<usize>,
    left: Notify,
}

impl Open {
    fn enter(self: &Rc<Self>, worker: &Rc<Worker>) -> OpenConnection {
        self.count.set(self.count.get() + 1);
        let open = OpenConnection { open: self.clone(), worker: worker.clone() };
        open.show();
        open
    }

    async fn none_left(&self) {
        while self.count.get() > 0 {
            self.left.notified().await;
        }
    }
}

/// One of them.
struct OpenConnection {
    open: Rc<Open>,
    worker: Rc<Worker>,
}

impl OpenConnection {
    fn show(&self) {
        self.worker.metrics().open.set(u64::try_from(self.open.count.get()).unwrap_or(u64::MAX));
    }
}

impl Drop for OpenConnection {
    fn drop(&mut self) {
        self.open.count.set(self.open.count.get() - 1);
        self.show();
        self.open.left.notify_one();
    }
}
