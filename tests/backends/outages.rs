//! Real servers that die, stand still and come back while they are used.

use std::time::Duration;

use crate::support::{Counts, Front, Load, Server, Toml, alone, gunicorn};

const CLIENTS: usize = 6;
const APP: &str = "--workers 2 --worker-class gthread --threads 4 --keep-alive 75";

fn front(server: &Server) -> Front {
    // Kept connections are closed soon, so that every one that is left would be seen.
    let upstream = "response_timeout = \"1s\"\nconnect_timeout = \"1s\"\nkeep_alive_timeout = \"1s\"\n".into();
    Front::with(&Toml { tls: false, upstream, ..Toml::default() }, &[server.address])
}

/// `CLIENTS` clients with so many requests each, one every few milliseconds, while `meanwhile` happens.
fn under_load(load: &Load, each: usize, meanwhile: impl FnOnce()) -> Counts {
    std::thread::scope(|scope| {
        let counts = scope.spawn(|| {
            load.run(CLIENTS, each, |number, _, reply| reply.status == 200 && reply.text() == format!("{number} ann"))
        });
        meanwhile();
        counts.join().unwrap()
    })
}

fn load(front: &Front, method: &str) -> Load {
    let pausing = |_| Duration::from_millis(4);
    let load = Load::new(front);
    (if method == "POST" { load.post("/count?n={n}") } else { load.get("/count?n={n}") }).pausing(pausing)
}

/// Nothing is left of an outage: every request is answered by the server, and no connection is left.
fn all_is_well(front: &Front, idle: usize) {
    let counts = under_load(&load(front, "POST"), 50, || ());
    assert_eq!(counts.good, CLIENTS * 50, "{:?}\n{}", counts.statuses, front.log());
    front.settles_at(idle);
}

#[test]
fn a_server_killed_and_started_again_under_load_leaves_nothing_hanging() {
    let _turn = alone();
    let mut app = gunicorn(APP);
    let front = front(&app);
    let idle = front.idle_sockets();
    for method in ["GET", "POST"] {
        let counts = under_load(&load(&front, method), 500, || {
            std::thread::sleep(Duration::from_millis(700));
            app.kill();
            std::thread::sleep(Duration::from_millis(700));
            app.start_again();
        });
        println!("killed under {method}: {:?}, the slowest answer after {:.2?}", counts.statuses, counts.slowest);
        let told: Vec<&str> = counts.statuses.keys().map(String::as_str).collect();
        // The server may die between the header of a response and its body: then the client's connection is cut, too.
        const CUT: &str = "no answer: unexpected end of file";
        let expected = ["200", "502 upstream_broken", "502 upstream_unreachable", "504 upstream_timeout", CUT];
        assert!(told.iter().all(|status| expected.contains(status)), "{told:?}\n{}", front.log());
        assert!(told.contains(&"502 upstream_unreachable"), "it was not away: {told:?}");
        assert!(counts.slowest < Duration::from_secs(3), "{:?}", counts.slowest);
        // In flight when it died: at most one of each client, and again when it was not yet up.
        let broken: usize = ["502 upstream_broken", CUT].iter().filter_map(|status| counts.statuses.get(*status)).sum();
        assert!(broken <= 2 * CLIENTS, "{:?}", counts.statuses);
        all_is_well(&front, idle);
    }
}

#[test]
fn a_server_that_reloads_under_load_loses_no_idempotent_request() {
    let _turn = alone();
    let app = gunicorn(APP);
    let front = front(&app);
    let idle = front.idle_sockets();
    let counts = under_load(&load(&front, "GET"), 500, || {
        for _ in 0..3 {
            std::thread::sleep(Duration::from_millis(600));
            app.reload();
        }
    });
    println!("reloaded under GET: {:?}, the slowest answer after {:.2?}", counts.statuses, counts.slowest);
    assert_eq!(counts.good, CLIENTS * 500, "{:?}\n{}", counts.statuses, front.log());
    all_is_well(&front, idle);
}

#[test]
fn a_server_that_stands_still_is_a_timeout_and_serves_again_when_it_goes_on() {
    let _turn = alone();
    let app = gunicorn(APP);
    let front = front(&app);
    let idle = front.idle_sockets();
    all_is_well(&front, idle);
    app.signal_all("STOP");
    let counts = under_load(&load(&front, "POST"), 2, || ());
    app.signal_all("CONT");
    println!("standing still: {:?}, the slowest answer after {:.2?}", counts.statuses, counts.slowest);
    assert_eq!(counts.statuses.keys().collect::<Vec<_>>(), ["504 upstream_timeout"], "{}", front.log());
    assert!(counts.slowest < Duration::from_secs(3), "{:?}", counts.slowest);
    all_is_well(&front, idle);
}
