//! Disks that refuse, and directories that somebody clears away: refusals in words, and nothing forgotten.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use fuser::Errno;

use crate::disk::{Disk, Refusals};
use crate::power_cuts::{logout, successor, toml};
use crate::support::{Backend, Client, Process, Workplace, ends, get, portcullis, refresh};

/// Everybody who needs the store is told to come again, and whoever only shows a token is served.
fn assert_failed(process: &Process, name: &str, token: &str, access: &str) {
    let mut client = Client::plain(process.address);
    for _ in 0..3 {
        let reply = client.ask(refresh(token));
        assert_eq!(reply.refusal(), (503, "store_unavailable".to_owned()), "{name}");
        assert!(reply.header("retry-after").is_some(), "{name}");
    }
    assert_eq!(client.ask(get("/", Some(access))).status, 200, "{name}: a good token needs no disk");
    let ready = Client::plain(process.admin).ask("GET /readyz HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(ready.status, 503, "{name}: {}", ready.text());
    assert!(!process.log().contains("panicked"), "{name}: {}", process.log());
}

#[test]
fn a_disk_that_refuses_stops_the_store_until_a_restart_which_finds_all_that_was_acknowledged() {
    let writes = |error| Refusals { writes: Some(error), syncs: 0 };
    let cases = [
        ("disk full", writes(Errno::ENOSPC)),
        ("read-only from now on", writes(Errno::EROFS)),
        ("writes fail", writes(Errno::EIO)),
        // The kernel reports the next sync as good although it has dropped what this one was for.
        ("one sync fails", Refusals { writes: None, syncs: 1 }),
    ];
    let backend = Backend::start();
    for (name, refusals) in cases {
        let place = Arc::new(Workplace::new());
        let disk = Disk::new(place.root());
        let mounted = disk.mount(&place.path("data"));
        let mut process = Process::start(&place, &toml(), &backend);
        let (access, first) = process.sign_in("ann");
        let ended = process.sign_in("bob");
        let mut client = Client::plain(process.address);
        assert_eq!(client.ask(logout(&ended.0)).status, 204, "{name}");
        let second = successor(&mut client, &first).unwrap();

        disk.refuse(refusals);
        assert_failed(&process, name, &second, &access);
        assert_eq!(client.ask(get("/", Some(&ended.0))).refusal().1, "signed_out", "{name}");
        // It is not tried again when the disk is well: what it has is unknown.
        disk.refuse(Refusals::default());
        assert_failed(&process, name, &second, &access);

        disk.cut(None);
        process.child.kill().unwrap();
        process.child.wait().unwrap();
        drop((process, mounted));
        disk.power_on();
        let mounted = disk.mount(&place.path("data"));
        let process = Process::start(&place, &toml(), &backend);
        let mut client = Client::plain(process.address);
        assert_eq!(client.ask(get("/", Some(&ended.0))).refusal().1, "signed_out", "{name}");
        assert!(successor(&mut client, &second).is_some(), "{name}: the last token acknowledged is lost");
        drop((process, mounted));
    }
    println!("disks that refuse: {} cases", cases.len());
}

/// The one line for people that a start ends with.
fn refused_start(place: &Workplace, name: &str) -> String {
    let mut command = portcullis();
    command.args(["run", "--config"]).arg(place.path("portcullis.toml"));
    let output = ends(command);
    let told = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{name}: {told}");
    assert!(!told.contains("panicked"), "{name}: {told}");
    let line = told.lines().last().unwrap().to_owned();
    assert!(line.starts_with("error: ") && line.contains("/data"), "{name}: {told}");
    line
}

#[test]
fn a_start_on_a_disk_that_refuses_is_one_clear_error() {
    let backend = Backend::start();
    for (name, error, word) in [
        ("full", Errno::ENOSPC, "no space left"),
        ("read-only", Errno::EROFS, "read-only"),
        ("broken", Errno::EIO, "input/output error"),
    ] {
        for used in [false, true] {
            let place = Arc::new(Workplace::new());
            let disk = Disk::new(place.root());
            let mounted = disk.mount(&place.path("data"));
            std::fs::write(place.path("portcullis.toml"), toml().text(&[backend.address])).unwrap();
            if used {
                let process = Process::start(&place, &toml(), &backend);
                process.sign_in("ann");
                assert!(process.stop().success());
            }
            disk.refuse(Refusals { writes: Some(error), syncs: 0 });
            let line = refused_start(&place, name);
            assert!(line.to_lowercase().contains(word), "{name}, used {used}: {line}");
            drop(mounted);
        }
    }
}

/// Asks until the store is found failed, which must be soon.
fn fails_soon(process: &Process, name: &str, token: &str) -> String {
    let mut client = Client::plain(process.address);
    let (start, mut token) = (Instant::now(), token.to_owned());
    while let Some(next) = successor(&mut client, &token) {
        token = next;
        assert!(start.elapsed() < Duration::from_secs(20), "{name}: nobody has noticed");
        std::thread::sleep(Duration::from_millis(50));
    }
    token
}

#[test]
fn files_cleared_away_under_a_running_gateway_are_noticed_and_not_forgotten_at_the_next_start() {
    let backend = Backend::start();
    let remove = |path: &Path| {
        if path.is_dir() { std::fs::remove_dir_all(path).unwrap() } else { std::fs::remove_file(path).unwrap() }
    };
    for name in ["data/store", "data/store/0.jnl", "data/acknowledged", "data/store/keyspaces"] {
        let place = Arc::new(Workplace::new());
        let process = Process::start(&place, &toml(), &backend);
        let (access, token) = process.sign_in("ann");
        remove(&place.path(name));
        if name != "data/store/keyspaces" {
            // Commits go on into files without a name: a second of them at most.
            let token = fails_soon(&process, name, &token);
            assert_failed(&process, name, &token, &access);
        }
        drop(process);
        let line = refused_start(&place, name);
        assert!(line.contains("missing") || line.contains("cannot open the session store"), "{name}: {line}");
        println!("{name}: {line}");
    }
}
