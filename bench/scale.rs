//! What Portcullis' own state costs: durable refreshes beside ordinary requests, ten million revocations, and a start with
//! a million sessions. Prints each figure with its target and writes them to `bench/results/scale.md`.
//!
//! Names of parts (`refresh`, `revocations`, `start`) leave the others out; nothing is written then.
#![expect(clippy::expect_used, reason = "a measurement that cannot go on ends")]

#[path = "scaling/load.rs"]
mod load;
#[path = "scaling/machine.rs"]
mod machine;
#[path = "scaling/refresh.rs"]
mod refresh;
#[path = "scaling/report.rs"]
mod report;
#[path = "scaling/revocations.rs"]
mod revocations;
#[path = "scaling/start.rs"]
mod start;

#[path = "../tests/gateway/support/mod.rs"]
#[expect(dead_code, unused_imports, reason = "shared with the tests, which use more of it")]
mod support;

use report::Report;

const RESULTS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/bench/results/scale.md");

fn main() {
    // cargo adds a word of its own.
    let parts: Vec<String> = std::env::args().skip(1).filter(|word| !word.starts_with("--")).collect();
    let wanted = |part: &str| parts.is_empty() || parts.iter().any(|one| one == part);
    // Asked for the first time before any thread is bound to one of them.
    assert!(machine::cores() > 1, "the load needs a core of its own");
    let mut report = Report::default();
    if wanted("revocations") {
        revocations::memory(&mut report);
    }
    if wanted("refresh") {
        refresh::measure(&mut report);
    }
    if wanted("revocations") {
        revocations::requests(&mut report);
    }
    if wanted("start") {
        start::measure(&mut report);
    }
    if parts.is_empty() {
        let results = std::path::Path::new(RESULTS);
        std::fs::create_dir_all(results.parent().expect("in a directory")).expect("made");
        std::fs::write(results, report.markdown(&machine::describe(&std::env::temp_dir()))).expect("written");
    }
}
