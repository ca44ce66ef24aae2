//! The password of a shared store: in no output while it is there, while it is wrong, and while the store is away.

use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::watch::{Secrets, start};
use crate::support::{Backend, Client, Process, Toml, Workplace, command, free_port, refresh};

const PASSWORD: &str = "the-password-of-a-store-0123456789";
const WRONG: &str = "not-the-password-of-a-store-543210";

/// A Redis with a password, killed when dropped.
struct Redis {
    child: Child,
    address: SocketAddr,
    _dir: tempfile::TempDir,
}

impl Redis {
    fn start() -> Self {
        let (address, dir) = (free_port(), tempfile::tempdir().unwrap());
        let port = address.port().to_string();
        let child = Command::new("redis-server")
            .args(["--port", &port, "--bind", "127.0.0.1", "--save", "", "--requirepass", PASSWORD])
            .current_dir(dir.path())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let start = Instant::now();
        while std::net::TcpStream::connect(address).is_err() {
            assert!(start.elapsed() < Duration::from_secs(20), "no Redis");
            std::thread::sleep(Duration::from_millis(20));
        }
        Self { child, address, _dir: dir }
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

fn toml(redis: SocketAddr) -> Toml {
    Toml {
        session: "keys = \"keys\"\n".into(),
        store: format!("redis = \"redis://{redis}\"\npassword = \"file:password\"\ntimeout = \"200ms\"\n"),
        ..Toml::default()
    }
}

#[test]
fn the_password_of_a_shared_store_is_in_no_output() {
    let (place, backend, redis) = (Arc::new(Workplace::new()), Backend::start(), Redis::start());
    let mut secrets = Secrets::of(&place);
    secrets.add("password", PASSWORD);
    secrets.add("wrong password", WRONG);
    let servers = [format!("http://{}", backend.address)];

    std::fs::write(place.path("password"), PASSWORD).unwrap();
    let process = start(&place, &toml(redis.address), &servers);
    let (access, token) = process.sign_in("ann");
    secrets.add_token("access token", &access);
    secrets.add_token("refresh token", &token);
    let mut said = Vec::new();
    let shown = "GET /v1/config HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer an-admin-token-of-32-characters!\r\n\r\n";
    said.push(Client::plain(process.admin).ask(shown).text());
    assert!(said[0].contains("\"password\":\"[redacted]\""), "{}", said[0]);
    said.push(Client::plain(process.admin).ask("GET /metrics HTTP/1.1\r\nHost: a\r\n\r\n").text());
    drop(redis);
    let away = process.connect().ask(refresh(&token));
    assert_eq!(away.refusal(), (503, "store_unavailable".to_owned()));
    said.push(away.text());
    said.push(Client::plain(process.admin).ask("GET /readyz HTTP/1.1\r\nHost: a\r\n\r\n").text());
    let mut found = Vec::new();
    for text in &said {
        found.extend(secrets.found_in(text.as_bytes(), "an answer"));
    }
    finish(process, &secrets, &mut found);

    let redis = Redis::start();
    std::fs::write(place.path("password"), WRONG).unwrap();
    let servers = [format!("http://{}", backend.address)];
    let text = super::watch::loud(&toml(redis.address).text_before(&servers));
    std::fs::write(place.path("portcullis.toml"), text).unwrap();
    let ended = command(&["run"], &["--config", place.path("portcullis.toml").to_str().unwrap()]);
    assert_eq!(ended.code, 1, "{}", ended.err);
    found.extend(secrets.found_in(ended.err.as_bytes(), "the start with a wrong password"));
    assert!(found.is_empty(), "{found:#?}");
}

fn finish(process: Process, secrets: &Secrets, found: &mut Vec<String>) {
    let place = process.place.clone();
    // With the store away there is something that cannot be written: how it ends is another test's.
    let _ = process.stop();
    assert!(std::fs::read_to_string(place.path("log")).unwrap().contains("store"), "nothing was heard of the store");
    found.extend(secrets.found_in_outputs(&place));
}
