//! The table against the rule as it is told, on tables and requests of any kind.

use http::Method;
use proptest::prelude::*;
use proptest::test_runner::RngSeed;

use super::*;
use crate::config::Config;
use crate::fuzzing::naive::{self, Entry};

fn entries() -> impl Strategy<Value = Vec<Entry>> {
    let host = prop_oneof![
        Just(String::new()),
        "[ab](\\.[ab]){0,2}".prop_map(String::from),
        "[ab](\\.[ab]){0,2}".prop_map(|domain| format!("*.{domain}")),
    ];
    let path = "(/[ab]{1,2}){0,3}/?".prop_map(|path| if path.is_empty() { "/".to_owned() } else { path });
    let methods = prop_oneof![Just(Vec::new()), Just(vec![Method::GET]), Just(vec![Method::POST, Method::DELETE]),];
    let entry = (host, path, methods).prop_map(|(host, path, methods)| Entry { host, path, methods });
    proptest::collection::vec(entry, 1..8)
}

/// `None` for tables with routes that overlap: they are faults.
fn table(entries: &[Entry]) -> Option<RouteTable> {
    let text = naive::toml(entries, |_| "public", &[]);
    let config = Config::parse(&text, "test.toml", std::path::Path::new("/")).ok()?;
    Some(RouteTable::new(&config, |_| None))
}

/// The same questions in every run, and many others with `PORTCULLIS_LONG_ATTACKS`: what only chance finds belongs to a run
/// that looks for it.
fn config() -> ProptestConfig {
    let long = std::env::var_os("PORTCULLIS_LONG_ATTACKS").is_some();
    ProptestConfig {
        cases: if long { 20_000 } else { 600 },
        max_global_rejects: 20_000,
        failure_persistence: None,
        rng_seed: if long { RngSeed::Random } else { RngSeed::Fixed(2026) },
        ..ProptestConfig::default()
    }
}

proptest! {
    #![proptest_config(config())]
    #[test]
    fn any_table_agrees_with_the_plain_rule(
        entries in entries(),
        asked in proptest::collection::vec(("[abc](\\.[abc]){0,3}", "(/[abc]{1,2}){0,4}/?"), 20),
    ) {
        let Some(table) = table(&entries) else { return Err(TestCaseError::reject("routes overlap")) };
        for (host, path) in &asked {
            let path = if path.is_empty() { "/" } else { path };
            for method in [Method::GET, Method::POST, Method::PUT] {
                let found = match table.find(host, path, &method) {
                    Ok(route) => Ok(route.index()),
                    Err(RouteError::MethodNotAllowed(_)) => Err(true),
                    Err(RouteError::NotFound) => Err(false),
                    Err(other) => return Err(TestCaseError::fail(format!("{host} {path}: {other:?}"))),
                };
                prop_assert_eq!(found, naive::route(&entries, host, path.as_bytes(), &method), "{} {}", host, path);
            }
        }
    }

    /// Whatever is done to a protected path that some backend undoes, the public route does not take it.
    #[test]
    fn no_reading_of_what_passes_as_public_is_protected(
        first in any::<u8>(),
        path in "(/|admin|shop|mine|open|x|y|b|c|\\.|;|%2e|%2f|%5c|%25|%3b|%3f|A|%61|%20|%00|%e2%80%a5|%ef%bd%81|\\\\){1,9}",
    ) {
        crate::fuzzing::route(&[&[first], b"/", path.as_bytes()].concat());
    }
}
