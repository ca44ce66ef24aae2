//! What the protocol asks of a server, in the words of others: the program named by `PORTCULLIS_H2SPEC`, if it is.

use std::process::Command;

use super::floods::backend;
use crate::measure::Target;

/// As many as there are in version 2.6.
const CASES: usize = 146;

#[test]
fn h2spec_has_nothing_to_say() {
    let Some(h2spec) = std::env::var_os("PORTCULLIS_H2SPEC") else {
        println!("h2spec: not run, PORTCULLIS_H2SPEC does not name it");
        return;
    };
    let backend = backend();
    let target = Target::start("", &backend);
    for (address, tls) in [(target.process.address, true), (target.plain, false)] {
        let mut command = Command::new(&h2spec);
        command.args(["-h", "127.0.0.1", "-p", &address.port().to_string(), "-P", "/public/x", "-o", "5"]);
        if tls {
            command.args(["-t", "-k"]);
        }
        let output = command.output().expect("it runs");
        let text = String::from_utf8_lossy(&output.stdout);
        // Without TLS, what is no preface is HTTP/1.1: it is answered 400 and closed, not with GOAWAY.
        let failed = usize::from(!tls);
        assert_eq!(text.contains("\u{d7} 2: Sends invalid connection preface"), !tls, "TLS: {tls}\n{text}");
        let summary = format!("{CASES} tests, {} passed, 0 skipped, {failed} failed", CASES - failed);
        assert!(text.contains(&summary), "TLS: {tls}\n{text}");
        println!("h2spec, TLS: {tls}: {summary}");
    }
}
