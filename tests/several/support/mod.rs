//! What the tests of several gateways stand on: real Redis servers, a relay that breaks connections, gateways that share
//! one store, and a load that notices every wrong answer.

mod gateways;
mod load;
mod ports;
mod redis;
mod relay;
mod turn;

#[path = "../../gateway/support/mod.rs"]
#[expect(dead_code, unused_imports, reason = "shared with the tests of one gateway, which use more of it")]
mod common;

use std::time::{Duration, Instant};

pub(crate) use common::{
    Backend, Client, Process, Reply, Switching, Toml, Workplace, command, get, handshake, refresh,
};
pub(crate) use gateways::{Gateways, SignedIn, admin, logout, shared};
pub(crate) use load::{Disturbance, Load};
pub(crate) use redis::{Cluster, Keep, Sentinels, Server, Tls};
pub(crate) use relay::Relay;
pub(crate) use turn::{alone, in_turn};

/// Looks until `found` says that there is something, or gives up: `what` was waited for.
pub(crate) fn eventually<T>(what: &str, patience: Duration, mut found: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(found) = found() {
            return found;
        }
        assert!(start.elapsed() < patience, "not within {patience:?}: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}
