//! Ports that servers come back to after a restart.

use std::net::{SocketAddr, TcpListener};
use std::sync::atomic::{AtomicU16, Ordering};

/// A loopback address that nobody listens on.
///
/// It is below the ports that the system gives to outgoing connections: while its server is away, none of the many
/// attempts to connect to it can be given its own destination as source and so meet itself. The port 10,000 above, where
/// a cluster's node talks to the others, is free too.
pub(crate) fn lasting_port() -> SocketAddr {
    const FIRST: u16 = 11_000;
    const COUNT: u16 = 9_000;
    static NEXT: AtomicU16 = AtomicU16::new(0);
    // Test programs that run at the same time start at different places.
    let start = u16::try_from(std::process::id() % u32::from(COUNT)).expect("less than the count") / 64 * 64;
    let free = |port| TcpListener::bind(("127.0.0.1", port)).is_ok();
    for _ in 0..COUNT {
        let port = FIRST + (start + NEXT.fetch_add(1, Ordering::Relaxed)) % COUNT;
        if free(port) && free(port + 10_000) {
            return SocketAddr::from(([127, 0, 0, 1], port));
        }
    }
    panic!("no free port");
}
