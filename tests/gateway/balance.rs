//! Which server a request goes to.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::mpsc::channel;

use crate::support::{Answer, Backend, Gateway, Toml, get};

const GET: &str = "GET /public HTTP/1.1\r\nHost: a\r\n\r\n";

fn toml(upstream: &str) -> Toml {
    Toml { server: "workers = 1\n".into(), upstream: upstream.into(), tls: false, ..Toml::default() }
}

/// A backend that says its name and closes, so that none outlives its listener.
fn named(name: &'static str) -> Backend {
    Backend::answering(move |_| closing(name))
}

fn closing(name: &str) -> Answer {
    Answer::Close(
        format!("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{name}", name.len()).into(),
    )
}

#[test]
fn weights_are_kept_exactly() {
    let backends = [named("a"), named("b")];
    let [a, b] = backends.each_ref().map(|backend| backend.address);
    let gateway = Gateway::weighted(&toml(""), &[(a, 1), (b, 3)]);
    let mut client = gateway.connect();
    let answers = (0..40).map(|_| client.ask(GET).text()).collect::<String>();
    assert_eq!(answers.matches('a').count(), 10, "{answers}");
    // Not one after the other, but spread.
    assert!(
        answers.as_bytes().chunks(4).all(|four| four.iter().filter(|name| **name == b'a').count() == 1),
        "{answers}"
    );
}

#[test]
fn requests_go_to_the_server_with_the_fewest_in_flight_of_all_workers() {
    let (hold, held) = (Arc::new(std::sync::Mutex::new(())), channel());
    let (guard, gate, arrived) = (hold.lock().unwrap(), hold.clone(), held.0);
    let slow = Backend::answering(move |_| {
        // The test may be over.
        let _ = arrived.send(());
        drop(gate.lock());
        Answer::ok("slow")
    });
    let quick = Backend::start();
    let toml = Toml { server: "workers = 2\n".into(), ..toml("balance = \"least_requests\"\n") };
    let gateway = Gateway::with(&toml, &[slow.address, quick.address]);
    // Until one hangs in the slow one.
    let mut waiting = gateway.connect();
    loop {
        waiting.send(GET);
        if held.1.recv_timeout(std::time::Duration::from_millis(200)).is_ok() {
            break;
        }
        assert_eq!(waiting.reply().text(), "hello");
    }
    // From then on all go to the other, from whichever worker.
    for _ in 0..16 {
        let mut client = gateway.connect();
        assert_eq!([client.ask(GET).text(), client.ask(GET).text()], ["hello", "hello"]);
    }
    drop(guard);
    assert_eq!(waiting.reply().text(), "slow");
}

#[test]
fn a_value_keeps_its_server_and_only_those_of_a_server_that_goes_away_move() {
    let mut backends = ["a", "b", "c"].map(|name| Some(named(name)));
    let addresses = backends.each_ref().map(|backend| backend.as_ref().unwrap().address);
    let gateway = Gateway::with(&toml("balance = \"hash\"\nhash_by = \"header:X-Tenant\"\n"), &addresses);
    let mut client = gateway.connect();
    let mut ask =
        |tenant: &str| client.ask(format!("GET /public HTTP/1.1\r\nHost: a\r\nX-Tenant: {tenant}\r\n\r\n")).text();
    // The servers' ports are others each time, and with them who gets what: of so many, none ever gets as few.
    let tenants = (0..90).map(|number| format!("tenant-{number}")).collect::<Vec<_>>();
    let owners = tenants.iter().map(|tenant| (tenant, ask(tenant))).collect::<HashMap<_, _>>();
    for name in ["a", "b", "c"] {
        let count = owners.values().filter(|owner| *owner == name).count();
        assert!((9..=60).contains(&count), "{name}: {count}");
    }
    for tenant in &tenants {
        assert_eq!(ask(tenant), owners[tenant]);
    }
    let address = addresses[1];
    backends[1] = None;
    for tenant in &tenants {
        match owners[tenant].as_str() {
            "b" => assert_ne!(ask(tenant), "b"),
            owner => assert_eq!(ask(tenant), owner),
        }
    }
    // Back again, it gets its own again, as soon as its share has grown.
    backends[1] = Some(Backend::answering_at(address, |_| closing("b")));
    let others = tenants.iter().filter(|tenant| owners[*tenant] != "b");
    for tenant in others {
        assert_eq!(ask(tenant), owners[tenant]);
    }
}

#[test]
fn a_session_keeps_its_server_and_a_request_without_one_takes_turns() {
    let backends = [named("a"), named("b")];
    let addresses = backends.each_ref().map(|backend| backend.address);
    for by in ["", "hash_by = \"user\"\n"] {
        let gateway = Gateway::with(&toml(&format!("balance = \"hash\"\n{by}")), &addresses);
        let mut client = gateway.connect();
        let mut seen = std::collections::HashSet::new();
        for user in 0..12 {
            let token = gateway.sign_in(&format!("user-{user}")).access_token;
            let mut ask = || client.ask(get("/", Some(&token))).text();
            let first = ask();
            assert_eq!([ask(), ask(), ask()], [&*first; 3]);
            seen.insert(first);
        }
        assert_eq!(seen.len(), 2);
        // Nobody's: in turn.
        let answers = [0; 4].map(|_| client.ask(GET).text());
        assert!(answers[0] != answers[1] && answers[0] == answers[2] && answers[1] == answers[3], "{answers:?}");
    }
}

#[test]
fn a_header_that_a_client_may_not_send_decides_nothing() {
    let backends = [named("a"), named("b")];
    let addresses = backends.each_ref().map(|backend| backend.address);
    let gateway = Gateway::with(&toml("balance = \"hash\"\nhash_by = \"header:X-User-Id\"\n"), &addresses);
    let mut client = gateway.connect();
    let mut ask = || client.ask("GET /public HTTP/1.1\r\nHost: a\r\nX-User-Id: alice\r\n\r\n").text();
    let answers = [ask(), ask(), ask(), ask()];
    assert!(answers[0] != answers[1] && answers[0] == answers[2], "{answers:?}");
}

#[test]
fn a_client_keeps_its_server_by_its_address() {
    let backends = [named("a"), named("b"), named("c")];
    let addresses = backends.each_ref().map(|backend| backend.address);
    let trusting = Toml {
        server: "workers = 1\ntrusted_proxies = [\"127.0.0.1\"]\n".into(),
        ..toml("balance = \"hash\"\nhash_by = \"address\"\n")
    };
    let gateway = Gateway::with(&trusting, &addresses);
    let mut client = gateway.connect();
    let mut ask =
        |last| client.ask(format!("GET /public HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: 192.0.2.{last}\r\n\r\n")).text();
    let owners = (0..20).map(&mut ask).collect::<Vec<_>>();
    assert_eq!((0..20).map(&mut ask).collect::<Vec<_>>(), owners);
    assert!(["a", "b", "c"].iter().all(|name| owners.iter().any(|owner| owner == name)), "{owners:?}");
}
