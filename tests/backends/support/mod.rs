//! What these tests stand on: servers of others as processes of their own, a gateway in front of them, and how much both
//! hold.

mod clients;
mod front;
mod load;
mod python;
mod server;
mod web;

#[path = "../../gateway/support/mod.rs"]
#[expect(dead_code, unused_imports, reason = "shared with the tests of the gateway alone, which use more of it")]
mod common;
#[path = "../../several/support/ports.rs"]
mod ports;
#[path = "../../several/support/turn.rs"]
mod turn;

use std::path::PathBuf;
use std::time::{Duration, Instant, SystemTime};

pub(crate) use clients::{curl, curl_as, hashed, hexadecimal, stdout_of};
pub(crate) use common::{Answer, Backend, Client, Toml, get};
pub(crate) use front::{Front, SignedIn};
pub(crate) use load::{Counts, Load};
pub(crate) use ports::lasting_port as unused_address;
pub(crate) use python::{asgi, gunicorn, python_script};
pub(crate) use server::Server;
pub(crate) use turn::{alone, in_turn};
pub(crate) use web::{apache, nginx};

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

/// Whether the longer tests were asked for too.
pub(crate) fn is_long() -> bool {
    std::env::var_os("PORTCULLIS_LONG_BACKENDS").is_some()
}

/// Seconds since 1970, as Python's `time.time()` gives them on the same machine.
pub(crate) fn wall_clock() -> f64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).expect("after 1970").as_secs_f64()
}

/// Where a program of the system is.
fn installed(program: &str) -> PathBuf {
    let path = std::env::var_os("PATH").unwrap_or_default();
    // Servers are not in the search path of a normal user.
    let places = std::env::split_paths(&path).chain(["/usr/sbin", "/usr/local/sbin"].map(PathBuf::from));
    let found = places.map(|place| place.join(program)).find(|candidate| candidate.is_file());
    found.unwrap_or_else(|| panic!("{program} is not installed: run scripts/test once"))
}
