//! What `Cargo.lock` holds: where it comes from, and no version that is known to be broken.

use std::collections::HashMap;

fn packages() -> Vec<toml::Table> {
    let text = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.lock")).unwrap();
    let lock: toml::Table = text.parse().unwrap();
    lock["package"].as_array().unwrap().iter().map(|package| package.as_table().unwrap().clone()).collect()
}

fn text<'a>(package: &'a toml::Table, key: &str) -> &'a str {
    package.get(key).and_then(toml::Value::as_str).unwrap_or_default()
}

fn version(text: &str) -> Vec<u64> {
    let numbers = text.split(['+', '-']).next().unwrap_or_default();
    numbers.split('.').map(|number| number.parse().unwrap()).collect()
}

/// The first version without the fault that is named.
const AT_LEAST: &[(&str, &str, &str)] = &[
    ("h2", "0.4.18", "RUSTSEC-2026-0258: empty DATA frames; CVE-2025-8671: resets that the server is made to send"),
    ("rustls", "0.23.18", "RUSTSEC-2024-0399: a hello in pieces panics; RUSTSEC-2024-0336: an endless loop"),
    ("rustls-webpki", "0.103.13", "RUSTSEC-2026-0098, 0099, 0104: constraints of names; a panic on revocation lists"),
    ("bytes", "1.11.1", "RUSTSEC-2026-0007: an overflow in reserve"),
    ("hyper", "1.11.0", "what is refused of framing is written against its parser"),
    ("jsonwebtoken", "10.3.0", "CVE-2026-25537: a time of the wrong type passes as absent"),
    ("aws-lc-sys", "0.39.0", "RUSTSEC-2026-0044 to 0048: checks of certificates, timing of AES-CCM"),
    ("hickory-proto", "0.26.1", "RUSTSEC-2026-0118, 0119: answers that keep it busy"),
    ("time", "0.3.47", "RUSTSEC-2026-0009: recursion without a bound"),
    ("tokio", "1.44.2", "RUSTSEC-2025-0023: a broadcast of what must not be shared"),
];

#[test]
fn no_version_is_older_than_the_mending_of_a_known_fault() {
    let packages = packages();
    let mut failed = Vec::new();
    println!("versions: {} cases", AT_LEAST.len());
    for (name, least, why) in AT_LEAST {
        let found = packages.iter().filter(|package| text(package, "name") == *name).collect::<Vec<_>>();
        if found.is_empty() {
            failed.push(format!("{name}: no longer there, nor needed here"));
        }
        for package in found {
            if version(text(package, "version")) < version(least) {
                failed.push(format!("{name} {}: {why}", text(package, "version")));
            }
        }
    }
    assert!(failed.is_empty(), "{}", failed.join("\n"));
}

#[test]
fn every_crate_comes_from_the_registry_with_its_hash() {
    let packages = packages();
    let mut failed = Vec::new();
    for package in packages.iter().filter(|package| text(package, "name") != "portcullis") {
        let (source, hash) = (text(package, "source"), text(package, "checksum"));
        if source != "registry+https://github.com/rust-lang/crates.io-index" || hash.len() != 64 {
            failed.push(format!("{} {}: {source} {hash}", text(package, "name"), text(package, "version")));
        }
    }
    println!("crates: {}", packages.len());
    assert!(packages.len() > 100);
    assert!(failed.is_empty(), "{}", failed.join("\n"));
}

/// What keeps secrets is one thing that is looked after well, not several.
#[test]
fn there_is_one_library_of_primitives_and_one_of_tls() {
    let packages = packages();
    let mut by_name: HashMap<&str, usize> = HashMap::new();
    for package in &packages {
        *by_name.entry(text(package, "name")).or_default() += 1;
    }
    for one in ["aws-lc-rs", "aws-lc-sys", "rustls", "rustls-webpki", "hyper", "h2", "http", "jsonwebtoken"] {
        assert_eq!(by_name.get(one), Some(&1), "{one}");
    }
    for none in ["openssl", "openssl-sys", "native-tls", "rsa", "serde_yaml", "git2"] {
        assert_eq!(by_name.get(none), None, "{none}");
    }
    // In Cargo.lock for the sake of features that are off.
    let tree = std::process::Command::new(env!("CARGO"))
        .args(["tree", "--locked", "--offline", "--edges", "normal,build", "--prefix", "none", "--format", "{p}"])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .unwrap();
    let tree = String::from_utf8(tree.stdout).unwrap();
    assert!(tree.lines().any(|line| line.starts_with("aws-lc-rs v")), "{tree}");
    assert!(!tree.lines().any(|line| line.starts_with("ring v")), "{tree}");
}
