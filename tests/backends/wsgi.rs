//! A WSGI application under gunicorn.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use crate::support::{Client, Front, Load, Toml, get, gunicorn, wall_clock};

const THREADS: &str = "--workers 1 --worker-class gthread --threads 8 --keep-alive 75";

fn authorized(front: &Front, line: &str, more: &str) -> String {
    format!("{line} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {}\r\n{more}\r\n", front.access)
}

#[test]
fn wsgi_app_sees_the_identity_and_never_a_forged_one() {
    let app = gunicorn(THREADS);
    let front = Front::of(app.address);
    let forged = "X-User-Id: eve\r\nX_User_Id: eve\r\nx-user_id: eve\r\nX-Session-Id: eve\r\nX_Session_Id: eve\r\n\
                  X-Forwarded-Proto: http\r\nX-Forwarded-For: 10.9.9.9\r\n";

    let seen = front.connect().ask(authorized(&front, "GET /environ?a=%20b", forged)).json();
    assert_eq!(seen["HTTP_X_USER_ID"], "ann");
    assert_eq!(seen["HTTP_X_SESSION_ID"].as_str().unwrap().len(), 32, "{seen}");
    assert_eq!(seen["HTTP_X_FORWARDED_FOR"], "127.0.0.1");
    // What the application makes its links with: gunicorn believes a proxy on the same machine.
    assert_eq!((&seen["wsgi.url_scheme"], &seen["HTTP_HOST"]), (&"https".into(), &"localhost".into()));
    assert_eq!(seen["QUERY_STRING"], "a=%20b");
    assert!(seen.get("HTTP_AUTHORIZATION").is_none(), "{seen}");

    let seen = front.connect().ask(authorized(&front, "GET /public/environ", forged)).json();
    assert!(seen.get("HTTP_X_USER_ID").is_none() && seen.get("HTTP_X_SESSION_ID").is_none(), "{seen}");
    assert!(!seen.to_string().contains("eve"), "{seen}");
}

#[test]
fn wsgi_app_reads_uploads_with_a_length_and_chunked() {
    let app = gunicorn(THREADS);
    let front = Front::of(app.address);
    // sha256 of a million times "a": one of the examples of FIPS 180-2.
    const EXPECTED: &str = "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0 1000000";
    let mut client = front.connect();

    client.send(authorized(&front, "POST /upload", "Content-Length: 1000000\r\n"));
    assert_eq!(client.ask(vec![b'a'; 1_000_000]).text(), EXPECTED);

    client.send(authorized(&front, "PUT /upload", "Transfer-Encoding: chunked\r\n"));
    for size in [1, 9_999, 990_000] {
        client.send(format!("{size:x}\r\n{}\r\n", "a".repeat(size)));
    }
    assert_eq!(client.ask("0\r\n\r\n").text(), EXPECTED);

    let nothing = client.ask(authorized(&front, "POST /upload", "Content-Length: 0\r\n"));
    assert_eq!(nothing.text(), "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855 0");
}

#[test]
fn wsgi_streams_arrive_piece_by_piece() {
    let app = gunicorn(THREADS);
    let front = Front::of(app.address);
    let mut client = front.connect();
    client.send(authorized(&front, "GET /stream?count=6&gap=0.2", ""));
    for number in 0..6 {
        client.until(format!("piece {number} ").as_bytes()).unwrap();
        let sent: f64 = String::from_utf8(client.until(b"\n").unwrap()).unwrap().trim().parse().unwrap();
        let late = wall_clock() - sent;
        // The next piece is sent 200 ms later: none was held back until there was another.
        assert!(late < 0.15, "piece {number} came {late} s after it was sent");
    }
    client.until(b"0\r\n\r\n").unwrap();
    assert_eq!(client.ask(get("/public/worker", None)).status, 200, "the connection goes on");
}

#[test]
fn head_unchanged_and_redirects_pass_as_the_app_said_them() {
    let app = gunicorn(THREADS);
    let front = Front::of(app.address);
    let mut client = front.connect();

    let whole = client.ask(authorized(&front, "GET /status?status=200%20OK&body=abcdef", ""));
    client.send(authorized(&front, "HEAD /status?status=200%20OK&body=abcdef", ""));
    let head = client.head_reply();
    assert_eq!((head.status, head.header("content-length")), (200, Some("6")));
    assert_eq!(whole.text(), "abcdef");

    let unchanged = client.ask(authorized(&front, "GET /unchanged", "If-None-Match: \"abc\"\r\n"));
    assert_eq!((unchanged.status, unchanged.header("etag")), (304, Some("\"abc\"")));
    let redirect = client.ask(authorized(&front, "GET /redirect", ""));
    assert_eq!((redirect.status, redirect.header("location")), (302, Some("/elsewhere?a=b#c")));
}

#[test]
fn answers_of_a_failing_app_pass_unchanged() {
    let app = gunicorn(THREADS);
    let front = Front::of(app.address);
    let mut client = front.connect();
    for (status, code) in [("500%20Oh", 500), ("502%20Bad", 502), ("503%20Later", 503), ("507%20Disk%20full", 507)] {
        let reply = client.ask(authorized(&front, &format!("GET /status?status={status}&body=no+space+left"), ""));
        assert_eq!((reply.status, reply.text().as_str()), (code, "no space left"));
        assert_eq!(reply.header("x-of"), Some("the application"));
    }
}

#[test]
fn workers_that_retire_lose_no_request() {
    const REQUESTS: usize = 800;
    let app = gunicorn("--workers 2 --worker-class gthread --threads 4 --keep-alive 75 --max-requests 50");
    let front = Front::with(&Toml { tls: false, ..Toml::default() }, &[app.address]);
    let counts = Load::new(&front)
        .get("/worker")
        .run(4, REQUESTS / 4, |_, _, reply| reply.text().parse::<u32>().is_ok_and(|_| reply.status == 200));
    let workers: HashSet<_> = counts.bodies.iter().collect();
    println!("{REQUESTS} requests to {} workers: {:?}", workers.len(), counts.statuses);
    assert_eq!(counts.good, REQUESTS, "{:?}\n{}", counts.statuses, front.log());
    assert!(workers.len() >= REQUESTS / 50 / 2, "workers did not retire: {workers:?}");
}

#[test]
fn reports_have_until_the_deadline() {
    let app = gunicorn(THREADS);
    let toml = Toml { upstream: "response_timeout = \"1500ms\"\n".into(), ..Toml::default() };
    let front = Front::with(&toml, &[app.address]);
    let mut client = front.connect();
    assert_eq!(client.ask(authorized(&front, "GET /slow?seconds=0.8", "")).text(), "done");
    let start = Instant::now();
    let late = client.ask(authorized(&front, "GET /slow?seconds=4", ""));
    assert_eq!(late.refusal(), (504, "upstream_timeout".to_owned()));
    let took = start.elapsed();
    assert!(took > Duration::from_millis(1400) && took < Duration::from_millis(2500), "{took:?}");
    assert_eq!(client.ask(authorized(&front, "GET /slow?seconds=0", "")).text(), "done");
}

#[test]
fn a_worker_that_is_killed_for_its_time_is_a_broken_upstream() {
    // The worker of this class answers one request at a time, and is killed from outside when it takes too long.
    let app = gunicorn("--workers 1 --worker-class sync --timeout 1");
    let front = Front::of(app.address);
    let reply = front.connect().ask(authorized(&front, "POST /slow?seconds=20", "Content-Length: 0\r\n"));
    // gunicorn has its say when it gets to it, and closes without a word otherwise.
    assert!(reply.status == 500 || reply.refusal() == (502, "upstream_broken".to_owned()), "{reply:?}");
    let next = front.connect().ask(authorized(&front, "GET /slow?seconds=0", ""));
    assert_eq!(next.text(), "done", "the next worker serves");
}

#[test]
fn app_learns_that_the_client_went_away() {
    let app = gunicorn(THREADS);
    let front = Front::of(app.address);
    let idle = front.idle_sockets();
    let mut clients: Vec<Client> = (0..4).map(|_| front.connect()).collect();
    for client in &mut clients {
        client.send(authorized(&front, "GET /stream?count=forever&gap=0.05", ""));
        client.until(b"piece 3 ").unwrap();
    }
    drop(clients);
    crate::support::eventually("all four generators are closed", Duration::from_secs(10), || {
        (app.log().matches("stream ended").count() == 4).then_some(())
    });
    front.settles_at(idle);
}
