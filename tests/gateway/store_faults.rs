//! The store away, damaged or left by `kill -9`: clear refusals, nothing forgotten, nobody waiting.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use portcullis::clock::UnixTime;

use crate::support::{Backend, Client, Gateway, Process, Reply, Toml, Workplace, ends, get, portcullis, post, refresh};

fn logout(token: &str) -> String {
    format!("POST /auth/logout HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {token}\r\nContent-Length: 0\r\n\r\n")
}

/// Everything here is answered at once or soon, never after a wait for something that does not come.
fn soon(ask: impl FnOnce() -> Reply) -> Reply {
    let start = Instant::now();
    let reply = ask();
    assert!(start.elapsed() < Duration::from_secs(2), "{:?}: {}", start.elapsed(), reply.text());
    reply
}

fn assert_away(reply: &Reply) {
    assert_eq!(reply.refusal(), (503, "store_unavailable".to_owned()), "{}", reply.text());
    assert!(reply.header("retry-after").unwrap().parse::<u32>().unwrap() >= 1);
    assert_eq!(reply.header("www-authenticate"), None, "the token may be good");
}

#[test]
fn with_the_store_away_tokens_are_verified_and_nothing_else_is_pretended() {
    let backend = Backend::start();
    // With and without an activity to note for each request.
    for session in ["", "idle_timeout = \"1h\"\n"] {
        let gateway = Gateway::with(&Toml { session: session.into(), ..Toml::default() }, &[backend.address]);
        let pair = gateway.sign_in("ann");
        let ended = gateway.sign_in("ann");
        let mut client = gateway.connect();
        assert_eq!(client.ask(get("/", Some(&pair.access_token))).status, 200);
        assert_eq!(client.ask(logout(&ended.access_token)).status, 204);
        let admin_address = gateway.app().admin().unwrap();
        let mut admin = Client::plain(admin_address);
        let ready = "GET /readyz HTTP/1.1\r\nHost: a\r\n\r\n";
        assert_eq!(admin.ask(ready).status, 200);

        let sessions = gateway.app().gateway().sessions.clone();
        gateway.app().block_on(async move { sessions.close(UnixTime::now()).await }).unwrap();

        assert_away(&soon(|| client.ask(refresh(&pair.refresh_token))));
        let form = format!("grant_type=refresh_token&refresh_token={}", &*pair.refresh_token);
        assert_away(&soon(|| client.ask(post("/auth/refresh", "application/x-www-form-urlencoded", &form))));
        assert_away(&soon(|| client.ask(logout(&pair.access_token))));
        let body = format!("{{\"refresh_token\":\"{}\"}}", &*pair.refresh_token);
        assert_away(&soon(|| client.ask(post("/auth/logout", "application/json", &body))));
        let form = format!("token={}", &*pair.refresh_token);
        assert_away(&soon(|| client.ask(post("/auth/logout", "application/x-www-form-urlencoded", &form))));
        // What needs no store is told as ever.
        assert_eq!(soon(|| client.ask(refresh("pcr_nonsense"))).status, 400);

        let authorized = "Authorization: Bearer an-admin-token-of-32-characters!\r\nHost: a\r\n";
        let body = "{\"user_id\":\"ann\"}";
        for request in [
            format!(
                "POST /v1/sessions HTTP/1.1\r\n{authorized}Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
                body.len()
            ),
            format!("GET /v1/sessions?user_id=ann HTTP/1.1\r\n{authorized}\r\n"),
            format!("GET /v1/sessions/{} HTTP/1.1\r\n{authorized}\r\n", pair.session),
            format!("DELETE /v1/sessions/{} HTTP/1.1\r\n{authorized}\r\n", pair.session),
            format!("DELETE /v1/users/ann/sessions HTTP/1.1\r\n{authorized}\r\n"),
            format!(
                "POST /v1/revocations HTTP/1.1\r\n{authorized}Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
                body.len()
            ),
        ] {
            assert_away(&soon(|| admin.ask(&request)));
        }
        let told = soon(|| admin.ask(ready));
        assert_eq!((told.status, told.header("retry-after")), (503, Some("1")));
        let faults = told.json()["faults"].clone();
        assert!(
            faults[0].as_str().unwrap().starts_with("store: ") && faults.as_array().unwrap().len() == 1,
            "{faults}"
        );
        assert_eq!(
            soon(|| admin.ask("GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n")).status,
            200,
            "restarting helps nobody"
        );

        // Verified from memory on either worker, and what has ended stays so.
        for _ in 0..8 {
            let mut client = gateway.connect();
            assert_eq!(soon(|| client.ask(get("/", Some(&pair.access_token)))).status, 200);
            let refused = soon(|| client.ask(get("/", Some(&ended.access_token))));
            assert_eq!(refused.refusal(), (401, "signed_out".to_owned()));
        }
    }
}

fn files(directory: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files(&path, found);
        } else if path.metadata().unwrap().len() > 0 {
            found.push(path);
        }
    }
}

#[test]
fn a_damaged_data_directory_is_a_clear_error_at_the_start() {
    let backend = Backend::start();
    let place = Arc::new(Workplace::new());
    let gateway = Gateway::at(place.clone(), &Toml::default(), &[backend.address]);
    gateway.sign_in("ann");
    gateway.stop();
    let config = place.path("portcullis.toml");
    std::fs::write(&config, Toml::default().text(&[backend.address])).unwrap();
    let mut all = Vec::new();
    files(&place.path("data"), &mut all);
    assert!(all.len() > 10, "{all:?}");
    for file in all {
        let whole = std::fs::read(&file).unwrap();
        for damaged in [Vec::new(), vec![b'Z'; whole.len()]] {
            std::fs::write(&file, &damaged).unwrap();
            let mut command = portcullis();
            command.args(["run", "--config"]).arg(&config);
            let output = ends(command);
            let told = String::from_utf8(output.stderr).unwrap();
            assert_eq!(output.status.code(), Some(1), "{}: {told}", file.display());
            assert!(!told.contains("panicked"), "{}: {told}", file.display());
            // Behind whatever libraries have to say, one line for people that names the place.
            let line = told.lines().last().unwrap();
            assert!(line.starts_with("error: ") && line.contains("/data"), "{}: {told}", file.display());
        }
        std::fs::write(&file, &whole).unwrap();
    }
    // Nothing of this has changed anything.
    drop(Gateway::at(place, &Toml::default(), &[backend.address]));
}

#[test]
fn what_ended_stays_ended_over_kill_9_and_another_lifetime_of_tokens() {
    let backend = Backend::start();
    let place = Arc::new(Workplace::new());
    let toml = |ttl: &str| Toml {
        session: format!("access_token_ttl = \"{ttl}\"\nrefresh_grace = \"1ms\"\n"),
        ..Toml::default()
    };
    let mut process = Process::start(&place, &toml("1h"), &backend);
    let (before, kept) = (process.sign_in("ann"), process.sign_in("ann"));
    let global = process.sign_in("bob");
    assert_eq!(process.connect().ask(logout(&before.0)).status, 204);
    let everywhere = logout(&global.0).replacen("/auth/logout", "/auth/logout?scope=global", 1);
    assert_eq!(process.connect().ask(everywhere).status, 204);
    process.child.kill().unwrap();
    process.child.wait().unwrap();

    // Tokens of an hour are still around when new ones live for a minute, and are ended by that gateway too.
    let mut process = Process::start(&place, &toml("1m"), &backend);
    let mut client = process.connect();
    let later = process.sign_in("cid");
    assert_eq!(client.ask(get("/", Some(&kept.0))).status, 200);
    assert_eq!(client.ask(logout(&kept.0)).status, 204);
    for token in [&before.0, &kept.0, &global.0] {
        assert_eq!(client.ask(get("/", Some(token))).refusal(), (401, "signed_out".to_owned()));
    }
    drop(client);
    process.child.kill().unwrap();
    process.child.wait().unwrap();

    for ttl in ["1d", "1m"] {
        let mut process = Process::start(&place, &toml(ttl), &backend);
        let mut client = process.connect();
        for (token, successor) in [&before, &kept, &global] {
            assert_eq!(client.ask(get("/", Some(token))).refusal(), (401, "signed_out".to_owned()), "{ttl}");
            assert_eq!(client.ask(refresh(successor)).status, 400, "{ttl}");
        }
        assert_eq!(client.ask(get("/", Some(&later.0))).status, 200, "{ttl}");
        process.child.kill().unwrap();
        process.child.wait().unwrap();
    }
}
