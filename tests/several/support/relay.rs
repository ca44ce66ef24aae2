//! A TCP relay between gateways and Redis that breaks connections as it is told.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// Passes everything on to one server.
pub(crate) struct Relay {
    pub(crate) address: SocketAddr,
    shared: Arc<Shared>,
}

struct Shared {
    target: SocketAddr,
    /// Replies that shall not arrive whole: their connection is cut instead.
    cuts: AtomicUsize,
    /// Replies cut so far.
    done: AtomicUsize,
    /// Hold everything back.
    mute: AtomicBool,
    /// Milliseconds that each piece of a reply is held back.
    delay: AtomicU64,
    open: Mutex<Vec<TcpStream>>,
    stop: AtomicBool,
}

impl Relay {
    pub(crate) fn start(target: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("bound");
        let address = listener.local_addr().expect("bound");
        let shared = Arc::new(Shared {
            target,
            cuts: AtomicUsize::new(0),
            done: AtomicUsize::new(0),
            mute: AtomicBool::new(false),
            delay: AtomicU64::new(0),
            open: Mutex::default(),
            stop: AtomicBool::new(false),
        });
        let serving = shared.clone();
        std::thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                if serving.stop.load(Ordering::SeqCst) {
                    return;
                }
                // A server that is away: the client sees its connection closed.
                let Ok(server) = TcpStream::connect(serving.target) else { continue };
                serving.join(&client, &server);
            }
        });
        Self { address, shared }
    }

    /// The next `count` replies do not arrive: the server has carried out what it was sent, and the connection is cut
    /// before a reply or in the middle of it.
    pub(crate) fn cut_replies(&self, count: usize) {
        self.shared.cuts.store(count, Ordering::SeqCst);
    }

    /// Replies cut so far.
    pub(crate) fn cut(&self) -> usize {
        self.shared.done.load(Ordering::SeqCst)
    }

    /// Nothing gets through, as when packets are lost; afterwards all of it does.
    pub(crate) fn mute(&self, mute: bool) {
        self.shared.mute.store(mute, Ordering::SeqCst);
    }

    /// Every piece of a reply is held back this long.
    pub(crate) fn delay(&self, delay: Duration) {
        self.shared.delay.store(u64::try_from(delay.as_millis()).expect("short"), Ordering::SeqCst);
    }

    /// Closes every connection there is.
    pub(crate) fn cut_all(&self) {
        for stream in self.shared.open.lock().unwrap_or_else(PoisonError::into_inner).drain(..) {
            // Already closed is as good.
            drop(stream.shutdown(Shutdown::Both));
        }
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::SeqCst);
        drop(TcpStream::connect(self.address));
        self.cut_all();
    }
}

impl Shared {
    fn join(self: &Arc<Self>, client: &TcpStream, server: &TcpStream) {
        let twice = |stream: &TcpStream| {
            stream.set_nodelay(true).expect("set");
            (stream.try_clone().expect("cloned"), stream.try_clone().expect("cloned"))
        };
        let ((client_in, client_out), (server_in, server_out)) = (twice(client), twice(server));
        {
            let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
            open.extend([client_out.try_clone().expect("cloned"), server_out.try_clone().expect("cloned")]);
        }
        let (requests, replies) = (self.clone(), self.clone());
        std::thread::spawn(move || requests.copy(client_in, server_out, false));
        std::thread::spawn(move || replies.copy(server_in, client_out, true));
    }

    fn copy(&self, mut from: TcpStream, mut to: TcpStream, replies: bool) {
        let mut piece = [0; 16 * 1024];
        while let Ok(count @ 1..) = from.read(&mut piece) {
            if replies {
                std::thread::sleep(Duration::from_millis(self.delay.load(Ordering::SeqCst)));
            }
            while self.mute.load(Ordering::SeqCst) {
                std::thread::sleep(Duration::from_millis(5));
            }
            let cut = replies
                && self.cuts.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1)).is_ok();
            let pass = match cut {
                // In turn nothing of the reply and half of it.
                true => count / 2 * (self.done.fetch_add(1, Ordering::SeqCst) % 2),
                false => count,
            };
            if to.write_all(&piece[..pass]).is_err() || cut {
                break;
            }
        }
        // Already closed is as good.
        drop(from.shutdown(Shutdown::Both));
        drop(to.shutdown(Shutdown::Both));
    }
}
