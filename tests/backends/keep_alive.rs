//! Servers that close kept connections at awkward moments: after a number of requests, and after a short while of which
//! nobody is told.

use std::collections::HashSet;
use std::time::Duration;

use crate::support::{Counts, Front, Load, Server, Toml, alone, apache, in_turn, is_long, nginx};

const CLIENTS: usize = 8;

/// Requests in a row of each kind; with `PORTCULLIS_LONG_BACKENDS`, as many as one would not believe otherwise.
fn requests() -> usize {
    if is_long() { 100_000 } else { 20_000 }
}

/// After so long it closes an unused connection.
const NGINX: &str = "keepalive_requests 37; keepalive_timeout 1s;";
const APACHE: &str = "KeepAlive On\nMaxKeepAliveRequests 29\nKeepAliveTimeout 1\n";

fn front(server: &Server, upstream: &str) -> Front {
    let toml = Toml { tls: false, upstream: upstream.into(), ..Toml::default() };
    Front::with(&toml, &[server.address])
}

/// `clients` ask for `/echo`, `each` times one after the other.
fn run(load: &Load, clients: usize, each: usize) -> Counts {
    load.run(clients, each, |number, _, reply| {
        let echo = reply.header("x-echo").map_or_else(|| reply.text(), |echo| echo.trim_start_matches("n=").to_owned());
        reply.status == 200 && echo == format!("{number} ann")
    })
}

/// Requests with `method` that the server took down, and those of them that came more than once.
fn taken(server: &Server, method: &str) -> (usize, usize) {
    let log = std::fs::read_to_string(server.path("access")).unwrap();
    let all: Vec<_> = log.lines().filter(|line| line.starts_with(method)).collect();
    let different: HashSet<_> = all.iter().collect();
    (all.len(), all.len() - different.len())
}

/// Without a pause: connections end because of the number of their requests.
fn many_in_a_row(name: &str, server: &Server) {
    let asked = requests() / CLIENTS * CLIENTS;
    // On a busy machine a connection of the pool may be unused for as long as the server keeps it. For what cannot be sent
    // twice the gateway is the first to close.
    for (method, upstream) in [("GET", ""), ("POST", "keep_alive_timeout = \"500ms\"\n")] {
        let front = front(server, upstream);
        let idle = front.idle_sockets();
        let load = Load::new(&front);
        let load = if method == "POST" { load.post("/echo?n={n}") } else { load.get("/echo?n={n}") };
        let counts = run(&load, CLIENTS, requests() / CLIENTS);
        println!("{name}: {asked} {method} in a row: {:?}", counts.statuses);
        assert_eq!(counts.good, asked, "{method}: {:?}\n{}", counts.statuses, front.log());
        // Those that are not used are closed by the server or by us.
        front.settles_at(idle);
    }
    assert_eq!(taken(server, "POST"), (asked, 0), "each once");
}

/// All clients pause together for about as long as the server keeps a connection: some of the next requests meet a
/// connection that is being closed at that moment.
fn with_pauses(name: &str, server: &Server) {
    const TOGETHER: usize = 24;
    const EACH: usize = 10;
    const ALL: usize = TOGETHER * EACH;
    let pause = |at: usize| Duration::from_millis(985 + 4 * u64::try_from(at % 10).unwrap());
    let get = |front: &Front| run(&Load::new(front).get("/echo?n={n}").pausing(pause), TOGETHER, EACH);
    let post = |front: &Front| run(&Load::new(front).post("/echo?n={n}").pausing(pause), TOGETHER, EACH);

    let usual = front(server, "");
    let again = || usual.metric("portcullis_upstream_retries_total");
    for _ in 0..3 {
        let counts = get(&usual);
        println!("{name}: {ALL} GET with pauses: {:?}, {} of them sent again", counts.statuses, again());
        assert_eq!(counts.good, ALL, "{:?}\n{}", counts.statuses, usual.log());
        // The moment may be missed, but hardly ever by all.
        if again() > 0.5 {
            break;
        }
    }
    assert!(again() > 0.5, "no connection was closed at the wrong moment: nothing was tested");

    // A POST is never sent twice: it may be lost when the server closes while it is on its way.
    let before = taken(server, "POST");
    let counts = post(&usual);
    println!("{name}: {ALL} POST with pauses, kept for long: {:?}", counts.statuses);
    let lost = counts.statuses.get("502 upstream_broken").copied().unwrap_or_default();
    assert_eq!(counts.good + lost, ALL, "{:?}\n{}", counts.statuses, usual.log());
    let after = taken(server, "POST");
    assert_eq!((after.0 - before.0, after.1), (counts.good, 0), "what was answered came once, what was not never came");

    // It is safe when the gateway is the first to close: docs/backends.md says so.
    let short = front(server, "keep_alive_timeout = \"500ms\"\n");
    let counts = post(&short);
    println!("{name}: {ALL} POST with pauses, kept for less long: {:?}", counts.statuses);
    assert_eq!(counts.good, ALL, "{:?}\n{}", counts.statuses, short.log());
}

#[test]
fn nginx_closing_after_some_requests_loses_none() {
    let _turn = alone();
    many_in_a_row("nginx", &nginx(NGINX));
}

#[test]
fn nginx_closing_after_a_pause_loses_none() {
    let _turn = in_turn();
    with_pauses("nginx", &nginx(NGINX));
}

#[test]
fn apache_closing_after_some_requests_loses_none() {
    let _turn = alone();
    many_in_a_row("Apache", &apache(APACHE));
}

#[test]
fn apache_closing_after_a_pause_loses_none() {
    let _turn = in_turn();
    with_pauses("Apache", &apache(APACHE));
}
