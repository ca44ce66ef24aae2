//! What threads of the gateway share without a lock around it, in every interleaving and with every outcome that the
//! memory model allows.
//!
//! The files come from the gateway's sources as they are (`build.rs`). Run by `scripts/models`; a run without
//! `--cfg loom` has nothing to check.
#![cfg(all(test, loom))]
#![allow(dead_code, missing_docs, unreachable_pub, reason = "most of what the files have is used by the gateway alone")]

#[path = "../../src/clock.rs"]
mod clock;
#[path = "../../src/ids.rs"]
mod ids;
mod map;

mod config {
    /// So many in so long.
    #[derive(Clone, Copy, Debug)]
    pub(crate) struct Rate {
        pub(crate) count: std::num::NonZeroU32,
        pub(crate) period: std::time::Duration,
    }
}

mod revocation {
    include!(concat!(env!("OUT_DIR"), "/revocation.rs"));

    mod own {
        include!(concat!(env!("OUT_DIR"), "/own.rs"));
    }
}

mod activity {
    include!(concat!(env!("OUT_DIR"), "/activity.rs"));
}

mod limiter {
    include!(concat!(env!("OUT_DIR"), "/limiter.rs"));
}

mod activity_models;
mod limiter_models;
mod revocation_models;

/// Tries everything, and says how much that was.
fn every_interleaving(name: &str, model: impl Fn() + Send + Sync + 'static) {
    let tried = std::sync::Arc::new(std::sync::atomic::AtomicU64::new(0));
    let count = tried.clone();
    loom::model(move || {
        count.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        model();
    });
    println!("models: {name}: {} executions", tried.load(std::sync::atomic::Ordering::Relaxed));
}
