//! An ASGI application under uvicorn: streams in both directions.

use std::io::{BufRead as _, BufReader};
use std::time::Duration;

use crate::support::{Front, Toml, alone, asgi, curl, eventually, in_turn, wall_clock};

const EVENTS: usize = 12;

/// How late an event may be: what the gateway adds is far below, and a busy machine may need it.
const LATE: f64 = 0.1;

/// Reads server-sent events with curl as they come, and returns by how much each was late.
fn lateness(front: &Front, version: &str) -> Vec<f64> {
    let url = front.url(&format!("/events?count={EVENTS}&gap=0.15"));
    let mut child = curl(front, &[version, "--no-buffer", &url]).spawn().unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines().map(Result::unwrap);
    let late = lines.filter_map(|line| Some(wall_clock() - line.strip_prefix("data: ")?.parse::<f64>().unwrap()));
    let late: Vec<f64> = late.collect();
    assert!(child.wait().unwrap().success(), "{version}");
    late
}

#[test]
fn events_arrive_one_by_one_at_once() {
    let _turn = alone();
    let app = asgi();
    let (encrypted, plain) =
        (Front::of(app.address), Front::with(&Toml { tls: false, ..Toml::default() }, &[app.address]));
    for (front, version) in
        [(&plain, "--http1.1"), (&encrypted, "--http1.1"), (&encrypted, "--http2"), (&plain, "--http1.0")]
    {
        let late = lateness(front, version);
        let worst = late.iter().copied().fold(0.0, f64::max);
        println!("{} {version}: {EVENTS} events, the latest {:.1} ms late", front.url(""), worst * 1000.0);
        assert_eq!(late.len(), EVENTS, "{version}");
        assert!(worst < LATE, "{version}: {late:?}");
    }
}

#[test]
fn asgi_app_answers_while_the_request_still_comes() {
    let _turn = in_turn();
    let app = asgi();
    let front = Front::of(app.address);
    let mut client = front.connect();
    client.send(format!(
        "POST /echo HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {}\r\nTransfer-Encoding: chunked\r\n\r\n",
        front.access
    ));
    for number in 0..5 {
        let word = format!("piece {number}");
        client.send(format!("{:x}\r\n{word}\r\n", word.len()));
        // The next is only sent once this one is back.
        client.until(word.as_bytes()).unwrap();
    }
    client.send("0\r\n\r\n");
    client.until(b"\r\n0\r\n\r\n").unwrap();
}

#[test]
fn asgi_app_sees_who_is_there_and_how_they_came() {
    let _turn = in_turn();
    let app = asgi();
    let front = Front::of(app.address);
    let ask = |path: &str| {
        let url = front.url(path);
        crate::support::stdout_of(curl(&front, &["--http2", "-H", "X-User-Id: eve", "-H", "X_User_Id: eve", &url]))
    };
    assert_eq!(ask("/user"), "['ann'] https 127.0.0.1");
    assert_eq!(ask("/public/user"), "[] https 127.0.0.1");
}

#[test]
fn asgi_app_learns_that_the_reader_went_away() {
    let _turn = in_turn();
    let app = asgi();
    let front = Front::of(app.address);
    let idle = front.idle_sockets();
    for version in ["--http1.1", "--http2"] {
        let url = front.url("/events?count=forever&gap=0.05");
        let mut child = curl(&front, &[version, "--no-buffer", &url]).spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        assert!(lines.any(|line| line.unwrap() == "id: 3"));
        child.kill().unwrap();
        child.wait().unwrap();
    }
    eventually("both were told", Duration::from_secs(10), || {
        (app.log().matches("reader left").count() == 2).then_some(())
    });
    front.settles_at(idle);
}
