//! The pages that tell what is promised name the tests that break each promise: all of them exist.

use std::path::{Path, PathBuf};

const PAGES: [&str; 2] = ["docs/security.md", "docs/known-faults.md"];
const SUITES: [&str; 6] = ["lib", "gateway", "attacks", "several", "backends", "durability"];

/// The names of tests on a page, as `cargo test` prints them: `suite: module::name` between backticks.
fn named(page: &str) -> Vec<(String, String)> {
    let spans = page.split('`').skip(1).step_by(2);
    let tests = spans.filter_map(|span| span.split_once(": ")).filter(|(suite, _)| SUITES.contains(suite));
    tests.map(|(suite, name)| (suite.to_owned(), name.to_owned())).collect()
}

/// Whether there is a test of this name, in a file that its modules lead to.
fn exists(root: &Path, suite: &str, name: &str) -> bool {
    let base = if suite == "lib" { root.join("src") } else { root.join("tests").join(suite) };
    let segments: Vec<&str> = name.split("::").collect();
    let Some((function, modules)) = segments.split_last() else { return false };
    (1..=modules.len()).rev().any(|depth| {
        let folder: PathBuf = modules[..depth].iter().fold(base.clone(), |path, module| path.join(module));
        [folder.with_extension("rs"), folder.join("mod.rs")].iter().any(|file| {
            let text = std::fs::read_to_string(file).unwrap_or_default();
            let is_test = |at: usize| {
                let before = text[..at].trim_end();
                let start = before.rfind("\n\n").unwrap_or(0);
                before[start..].contains("test]") || before[start..].contains("test(")
            };
            // Where a macro writes the tests, its list has their names.
            let is_listed = text.contains("#[test] fn $name") && text.contains(&format!("\n    {function}:"));
            is_listed || text.match_indices(&format!("fn {function}(")).any(|(at, _)| is_test(at))
        })
    })
}

#[test]
fn every_test_that_a_promise_names_exists() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut count = 0;
    let mut missing = Vec::new();
    for page in PAGES {
        let text = std::fs::read_to_string(root.join(page)).expect(page);
        for (suite, name) in named(&text) {
            count += 1;
            if !exists(root, &suite, &name) {
                missing.push(format!("{page}: {suite}: {name}"));
            }
        }
    }
    println!("threat model: {count} tests named");
    assert!(missing.is_empty(), "no such tests:\n{}", missing.join("\n"));
    assert!(count > 100, "{count}");
    assert!(!exists(root, "attacks", "threat_model::no_such_test"));
    assert!(!exists(root, "attacks", "framing::judge_all"), "a function that is no test");
    assert!(!exists(root, "attacks", "framing::standards::hold"), "nor is one beside a list");
    assert!(!exists(root, "attacks", "framing::standards::no_such_test"));
}
