//! The real process: start, errors, signals, and `kill -9` under load.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::support::{Answer, Backend, Process, Toml, Workplace, ends, get, portcullis, refresh};

fn fails(place: &Workplace, config: &str) -> String {
    std::fs::write(place.path("bad.toml"), config).unwrap();
    let mut command = portcullis();
    command.args(["run", "--config"]).arg(place.path("bad.toml"));
    let output = ends(command);
    let text = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert!(!text.contains("panicked"), "{text}");
    text
}

#[test]
fn each_fault_at_the_start_is_one_clear_error() {
    let backend = Backend::start();
    let place = Arc::new(Workplace::new());
    let running = Process::start(&place, &Toml::default(), &backend);
    let config = std::fs::read_to_string(place.path("portcullis.toml")).unwrap();

    let same_store = fails(
        &place,
        &config.replace(&running.address.to_string(), "127.0.0.1:0").replace(&running.admin.to_string(), "127.0.0.1:0"),
    );
    assert!(same_store.contains("data") && same_store.contains("another process"), "{same_store}");
    let same_port = fails(&place, &config.replace("path = \"data\"", "path = \"data2\""));
    assert!(
        same_port.contains(&format!("cannot listen on {}", running.address)) && same_port.contains("in use"),
        "{same_port}"
    );
    assert!(!place.path("data2").exists(), "a start that fails on a taken port leaves nothing behind");
    drop(running);

    std::fs::write(place.path("file"), "").unwrap();
    let no_directory = fails(&place, &config.replace("path = \"data\"", "path = \"file\""));
    assert!(no_directory.contains("/file"), "{no_directory}");
    let no_certificate = fails(&place, &config.replace("cert.pem", "absent.pem"));
    assert!(
        no_certificate.contains("absent.pem") && no_certificate.to_lowercase().contains("no such file"),
        "{no_certificate}"
    );
    let faults = fails(&place, &config.replace("[limits]", "[limits]\nidle_timout = \"1s\"\nbody_bytes = 0"));
    assert!(faults.contains("did you mean \"idle_timeout\"") && faults.contains("2 faults"), "{faults}");
    let mut command = portcullis();
    command.args(["run", "--config"]).arg(place.path("absent.toml"));
    let output = ends(command);
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8(output.stderr).unwrap().contains("absent.toml"));
}

#[test]
fn sigterm_drains_and_exits_with_success() {
    let backend = Backend::answering(|_| {
        Answer::Slowly(vec![(Duration::from_millis(500), b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nlate".to_vec())])
    });
    let place = Arc::new(Workplace::new());
    for signal in ["TERM", "INT"] {
        let mut process = Process::start(&place, &Toml::default(), &backend);
        let mut client = process.connect();
        client.send("GET /public HTTP/1.1\r\nHost: a\r\n\r\n");
        backend.next();
        process.signal(signal);
        assert_eq!(client.reply().text(), "late");
        assert_eq!(process.child.wait().unwrap().code(), Some(0), "{}", process.log());
    }
}

/// What one client knows of a session: every token it presented, with every successor it was ever given.
type Successors = Mutex<HashMap<String, HashSet<String>>>;

/// `kill -9` under concurrent refreshes, each sent twice at once.
#[test]
fn no_acknowledged_rotation_is_lost_and_none_is_doubled_by_kill_9() {
    const ROUNDS: u64 = 20;
    const SESSIONS: usize = 12;
    let backend = Backend::start();
    let place = Arc::new(Workplace::new());
    let toml = Toml {
        session: "refresh_grace = \"60s\"\n".into(),
        limits: "refreshes_per_session = \"unlimited\"\nrefreshes_per_address = \"unlimited\"\n".into(),
        ..Toml::default()
    };
    let mut process = Process::start(&place, &toml, &backend);
    let mut current: Vec<String> = (0..SESSIONS).map(|number| process.sign_in(&format!("user-{number}")).1).collect();
    let ended = process.sign_in("ended");
    let logout = format!(
        "POST /auth/logout HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {}\r\nContent-Length: 0\r\n\r\n",
        ended.0
    );
    assert_eq!(process.connect().ask(logout).status, 204);
    let successors = Successors::default();
    let mut rotations = 0;
    for round in 0..ROUNDS {
        let stop = AtomicBool::new(false);
        let pairs: Vec<_> = (0..SESSIONS).map(|_| [process.connect(), process.connect()]).collect();
        current = std::thread::scope(|scope| {
            let threads: Vec<_> = pairs
                .into_iter()
                .zip(&current)
                .map(|(mut pair, token)| {
                    let (mut token, stop, successors) = (token.clone(), &stop, &successors);
                    scope.spawn(move || {
                        while !stop.load(Ordering::SeqCst) {
                            // Both at once, over two connections that may be on two workers.
                            let sent = pair.each_mut().map(|client| client.try_send(refresh(&token)).is_ok());
                            let replies = pair.each_mut().map(|client| client.try_reply(false));
                            let mut next = None;
                            for reply in replies.into_iter().flatten() {
                                assert_eq!(reply.status, 200, "{}", reply.text());
                                let successor = reply.json()["refresh_token"].as_str().unwrap().to_owned();
                                successors.lock().unwrap().entry(token.clone()).or_default().insert(successor.clone());
                                next = Some(successor);
                            }
                            // No reply: the token in hand is still the one to present after the restart.
                            let Some(next) = next else { break };
                            token = next;
                            if sent.contains(&false) {
                                break;
                            }
                        }
                        token
                    })
                })
                .collect();
            // Each round is cut at another moment, spread over the time of some hundred commits.
            std::thread::sleep(Duration::from_millis(40 + round * 17 % 160));
            process.child.kill().unwrap();
            stop.store(true, Ordering::SeqCst);
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        process.child.wait().unwrap();
        process = Process::start(&place, &toml, &backend);
        let mut client = process.connect();
        for token in &mut current {
            let reply = client.ask(refresh(token));
            assert_eq!(reply.status, 200, "round {round}: a session was lost: {}", reply.text());
            let next = reply.json()["refresh_token"].as_str().unwrap().to_owned();
            successors.lock().unwrap().entry(token.clone()).or_default().insert(next.clone());
            *token = next;
        }
        assert_eq!(client.ask(get("/", Some(&ended.0))).refusal().1, "signed_out", "round {round}");
        let seen = successors.lock().unwrap();
        let doubled: Vec<_> = seen.values().filter(|successors| successors.len() > 1).collect();
        assert!(doubled.is_empty(), "round {round}: {doubled:?}");
        rotations = seen.len();
    }
    assert!(
        rotations > SESSIONS * usize::try_from(ROUNDS).unwrap() * 2,
        "only {rotations} rotations: nothing was tested"
    );
    println!("{rotations} rotations over {ROUNDS} kills");
}
