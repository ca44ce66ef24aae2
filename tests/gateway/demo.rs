//! `portcullis demo` as someone new to it meets it: the lines that it prints are pasted into a shell.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};

use serde_json::Value;

use crate::support::{ends_with_input, portcullis, signal};

/// A demo on free ports, with a directory for temporary files of its own. Killed when dropped.
struct Demo {
    child: Child,
    temporary: tempfile::TempDir,
    /// What it printed up to the end of its walk.
    walk: String,
    rest: Option<std::thread::JoinHandle<String>>,
}

impl Demo {
    fn start() -> Self {
        let temporary = tempfile::tempdir().unwrap();
        let mut child = portcullis()
            .args(["demo", "--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0"])
            .env("TMPDIR", temporary.path())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut out = BufReader::new(child.stdout.take().unwrap());
        let mut walk = String::new();
        while !walk.contains("Ctrl-C ends the demo") {
            assert_ne!(out.read_line(&mut walk).unwrap(), 0, "ended: {walk}");
        }
        // Read on: a demo whose output nobody takes is another one.
        let rest = Some(std::thread::spawn(move || out.lines().map_while(Result::ok).collect::<Vec<_>>().join("\n")));
        Self { child, temporary, walk, rest }
    }

    /// The lines to paste.
    fn lines(&self) -> &str {
        let (_, lines) = self.walk.split_once("all at once:\n\n").unwrap();
        lines.split_once("\n\nThe files are in ").unwrap().0
    }
}

/// What bash printed, by the number that stands before what to expect.
fn pasted(lines: &str) -> BTreeMap<u32, String> {
    let mut shell = Command::new("bash");
    // Not what this machine's user has set for curl or bash.
    shell.args(["--noprofile", "--norc"]).env("CURL_HOME", "/nowhere").env_remove("BASH_ENV");
    for proxy in ["http_proxy", "https_proxy", "HTTPS_PROXY", "ALL_PROXY", "all_proxy"] {
        shell.env_remove(proxy);
    }
    let output = ends_with_input(shell, &format!("{lines}\n"));
    let (out, err) = (String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap());
    assert_eq!(err, "", "{out}");
    let mut steps = BTreeMap::new();
    let mut step = 0;
    for line in out.lines() {
        let number = line.split_once(". ").and_then(|(number, _)| number.parse().ok());
        match number.filter(|number| *number == step + 1) {
            Some(next) => step = next,
            None => *steps.entry(step).or_insert_with(String::new) += &format!("{line}\n"),
        }
    }
    steps
}

/// The JSON and status that curl printed.
fn answer(step: &str) -> (Value, u16) {
    let (body, status) = step.trim_end().rsplit_once("HTTP ").unwrap_or_else(|| panic!("{step}"));
    let body = if body.trim().is_empty() { Value::Null } else { serde_json::from_str(body).unwrap() };
    (body, status.parse().unwrap())
}

fn refused(step: &str) -> (u16, String) {
    let (body, status) = answer(step);
    (status, body["reason"].as_str().unwrap_or_else(|| panic!("{step}")).to_owned())
}

#[test]
fn the_lines_of_the_demo_show_what_they_say() {
    let mut demo = Demo::start();
    let directories: Vec<_> = std::fs::read_dir(demo.temporary.path()).unwrap().collect();
    assert_eq!(directories.len(), 1);
    let steps = pasted(demo.lines());
    assert_eq!(steps.keys().copied().collect::<Vec<_>>(), (1..=10).collect::<Vec<_>>(), "{steps:?}");

    // A request passes, and the backend is told who is calling: not who the client says.
    let (seen, status) = answer(&steps[&1]);
    assert_eq!((status, &seen["path"]), (200, &"/hello".into()));
    assert_eq!(seen["headers"]["x-user-id"], "ann");
    assert_eq!(seen["headers"]["x-session-id"].as_str().unwrap().len(), 32, "{seen}");
    assert_eq!(seen["headers"]["authorization"], Value::Null);
    assert!(!steps[&1].contains("admin"), "{seen}");
    assert_eq!(refused(&steps[&2]), (401, "missing_token".to_owned()));
    // A refresh, the same token again, and what that has done to the session.
    let (pair, status) = answer(&steps[&3]);
    assert_eq!((status, &pair["token_type"]), (200, &"Bearer".into()));
    assert!(pair["refresh_token"].as_str().unwrap().starts_with("pcr_"), "{pair}");
    let (again, status) = answer(&steps[&4]);
    assert_eq!((status, &again["error"], &again["reason"]), (400, &"invalid_grant".into(), &"refresh_reused".into()));
    assert_eq!(refused(&steps[&5]), (401, "refresh_reused".to_owned()));
    // A logout, and the very next request.
    assert_eq!(answer(&steps[&6]), (Value::Null, 204));
    assert_eq!(refused(&steps[&7]), (401, "signed_out".to_owned()));
    let (seen, status) = answer(&steps[&8]);
    assert_eq!((status, &seen["headers"]["x-user-id"]), (200, &Value::Null));
    let (pair, status) = answer(&steps[&9]);
    assert_eq!((status, &pair["user_id"]), (201, &"ben".into()));
    assert!(steps[&10].contains("refused: 401 Unauthorized, reason missing_token"), "{}", steps[&10]);

    signal(&demo.child, "INT");
    assert_eq!(demo.child.wait().unwrap().code(), Some(0));
    assert_eq!(std::fs::read_dir(demo.temporary.path()).unwrap().count(), 0, "it leaves nothing");
    // Each request had its line, none of them with a token.
    let log = demo.rest.take().unwrap().join().unwrap();
    assert_eq!(log.lines().filter(|line| line.contains("\"route\"")).count(), 8, "{log}");
    for token in
        demo.lines().lines().filter_map(|line| line.split_once("='")).map(|(_, value)| value.trim_end_matches('\''))
    {
        assert!(token.len() > 20 && !log.contains(token), "{log}");
    }
}

impl Drop for Demo {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}
