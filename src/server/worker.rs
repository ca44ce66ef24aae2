//! A worker: one thread, one runtime, its own listening sockets and connections.

use std::cell::Cell;
use std::io;
use std::net::{IpAddr, TcpListener as StdListener};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use rustls::ServerConfig;
use tokio::net::TcpListener;
use tokio::runtime::{Builder, LocalOptions};
use tokio::sync::{Notify, watch};

use super::accept::{Admission, Full};
use super::conn::{Serving, serve};
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
    /// Its listening sockets, one for each address.
    pub listeners: Vec<StdListener>,
    /// TLS on all of them, or none.
    pub tls: Option<Arc<ServerConfig>>,
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
        let mut stopping = setup.stopping.clone();
        let serving = Serving { worker: Rc::new(make()), tls: setup.tls.clone(), stopping: setup.stopping.clone() };
        for listener in setup.listeners {
            let listener = TcpListener::from_std(listener)?;
            let (serving, admission, open) = (serving.clone(), setup.admission.clone(), open.clone());
            tokio::task::spawn_local(accept(listener, serving, admission, open));
        }
        let worker = serving.worker.clone();
        let ticking = tokio::task::spawn_local(async move {
            loop {
                tokio::time::sleep(TICK).await;
                worker.tick();
            }
        });
        let worker = serving.worker.clone();
        let looking = tokio::task::spawn_local(async move {
            loop {
                tokio::time::sleep(LOOK_INTERVAL).await;
                worker.look_through_streams();
            }
        });
        // An error means that the sender is gone: the gateway is being dropped.
        drop(stopping.wait_for(|stop| *stop).await);
        drop(tokio::time::timeout(setup.drain_timeout, open.none_left()).await);
        ticking.abort();
        looking.abort();
        serving.worker.tick();
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
        let address = plain(address.ip());
        let metrics = serving.worker.metrics();
        let permit = match admission.admit(address) {
            Ok(permit) => permit,
            Err(full) => {
                metrics.limit(match full {
                    Full::Connections => ConnectionLimit::Connections,
                    Full::Address => ConnectionLimit::ConnectionsPerAddress,
                });
                continue;
            }
        };
        metrics.accepted.add(1);
        let connection = open.enter(&serving.worker);
        let serving = serving.clone();
        tokio::task::spawn_local(async move {
            serve(stream, address, serving).await;
            drop((permit, connection));
        });
    }
}

/// An IPv4 client of an IPv6 socket under its own address.
fn plain(address: IpAddr) -> IpAddr {
    address.to_canonical()
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
