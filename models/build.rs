//! Copies the files that are checked out of the gateway's sources, with atomics and maps that loom knows.
//!
//! What is checked is the very text that the gateway is built from: nothing of it is written a second time here. A line
//! that is to be exchanged and is not there any more fails the build.

use std::path::Path;

/// A file, its name here, and what is exchanged in it.
const FILES: &[(&str, &str, &[(&str, &str)])] = &[
    (
        "revocation.rs",
        "revocation.rs",
        &[
            ("use std::sync::atomic::", "use loom::sync::atomic::"),
            ("use dashmap::DashMap;", "use crate::map::{self as dashmap, DashMap};"),
            ("mod freshness;\nmod own;\n", ""),
            ("pub use self::freshness::Freshness;\n", ""),
        ],
    ),
    (
        "revocation/own.rs",
        "own.rs",
        &[
            ("use std::sync::{PoisonError, RwLock,", "use std::sync::PoisonError;\nuse loom::sync::{RwLock,"),
            // Two parts are two locks that know nothing of each other: one shows all that can happen.
            ("const PARTS: usize = 4096;", "const PARTS: usize = 1;"),
        ],
    ),
    (
        "session/activity.rs",
        "activity.rs",
        &[
            ("use std::sync::atomic::", "use loom::sync::atomic::"),
            ("use dashmap::DashMap;", "use crate::map::DashMap;"),
            ("*noted.last.get_mut()", "noted.last.with_mut(|last| *last)"),
        ],
    ),
    (
        "limiter/mod.rs",
        "limiter.rs",
        &[
            ("use std::sync::atomic::", "use loom::sync::atomic::"),
            ("mod route;\n", ""),
            ("pub use self::route::{RouteLimits, seconds};\n", ""),
        ],
    ),
];

fn main() {
    let target = std::env::var("OUT_DIR").expect("set by cargo");
    for (from, to, exchanges) in FILES {
        let path = Path::new("../src").join(from);
        println!("cargo::rerun-if-changed={}", path.display());
        let mut text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        // The tests of the file stay behind.
        if let Some(tests) = text.find("#[cfg(test)]\nmod tests") {
            text.truncate(tests);
        }
        for (old, new) in *exchanges {
            assert!(text.contains(old), "{} has no `{old}` any more", path.display());
            text = text.replace(old, new);
        }
        // An included file may not speak of the module it is in.
        let text: String = text.lines().map(|line| line.replacen("//!", "//", 1) + "\n").collect();
        std::fs::write(Path::new(&target).join(to), text).expect("written");
    }
}
