//! When to stop: the signals of an operator, a service manager or a terminal.

use std::io;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use tokio::runtime::Builder;
use tokio::signal::unix::{Signal, SignalKind, signal};

/// What a closed terminal (SIGHUP) means.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Hangup {
    /// Nothing: a service outlives it.
    Ignore,
    /// The end, as Ctrl-C.
    Stop,
}

/// Becomes true once. Made before anything else is started, so that no signal kills half-done work.
#[derive(Debug)]
pub(super) struct Stop {
    asked: Receiver<()>,
}

impl Stop {
    /// Watches for SIGTERM and SIGINT from now on, on a thread of its own. The second one ends the process with exit
    /// code 1, after `before_exit`.
    ///
    /// # Errors
    /// When the system gives no thread or no signal handler.
    pub(super) fn watch(hangup: Hangup, before_exit: impl FnOnce() + Send + 'static) -> io::Result<Self> {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let signals = {
            let _inside = runtime.enter();
            Signals {
                terminate: signal(SignalKind::terminate())?,
                interrupt: signal(SignalKind::interrupt())?,
                hangup: signal(SignalKind::hangup())?,
            }
        };
        let (tell, asked) = sync_channel(1);
        std::thread::Builder::new()
            .name("signals".into())
            .spawn(move || runtime.block_on(signals.watch(hangup, &tell, before_exit)))?;
        Ok(Self { asked })
    }

    /// Waits for the first signal to stop.
    pub(super) fn wait(&self) {
        // The other end goes only with the process.
        let _ = self.asked.recv();
    }
}

struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
}

impl Signals {
    async fn watch(mut self, hangup: Hangup, tell: &SyncSender<()>, before_exit: impl FnOnce()) {
        let mut told = false;
        loop {
            let hung_up = tokio::select! {
                _ = self.terminate.recv() => false,
                _ = self.interrupt.recv() => false,
                _ = self.hangup.recv() => true,
            };
            if hung_up && hangup == Hangup::Ignore {
                tracing::info!("SIGHUP ignored: the configuration is read at start only");
            } else if !told {
                told = true;
                // Nobody waits only when the process is ending already.
                let _ = tell.send(());
            } else {
                tracing::warn!("second signal: stopping at once, requests in flight are cut");
                before_exit();
                std::process::exit(1);
            }
        }
    }
}
