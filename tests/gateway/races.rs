//! One refresh token, many exchanges at once.

use std::collections::HashSet;
use std::sync::Barrier;

use crate::support::{Backend, Gateway, Toml, refresh};

/// Replies of 64 concurrent exchanges of one token over 64 connections to 4 workers.
fn race(gateway: &Gateway, token: &str) -> Vec<(u16, serde_json::Value)> {
    let mut clients: Vec<_> = (0..64).map(|_| gateway.connect()).collect();
    for client in &mut clients {
        // Connected and handshaken before the start.
        assert_eq!(client.ask("GET /public HTTP/1.1\r\nHost: a\r\n\r\n").status, 200);
    }
    let start = Barrier::new(clients.len());
    std::thread::scope(|scope| {
        let threads: Vec<_> = clients
            .into_iter()
            .map(|mut client| {
                let start = &start;
                scope.spawn(move || {
                    start.wait();
                    let reply = client.ask(refresh(token));
                    (reply.status, reply.json())
                })
            })
            .collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    })
}

fn gateway(grace: &str, backend: &Backend) -> Gateway {
    let toml = Toml {
        server: "workers = 4\n".into(),
        session: format!("refresh_grace = \"{grace}\"\n"),
        limits: "refreshes_per_session = \"unlimited\"\nrefreshes_per_address = \"unlimited\"\n".into(),
        ..Toml::default()
    };
    Gateway::with(&toml, &[backend.address])
}

#[test]
fn racing_exchanges_within_the_grace_yield_one_successor() {
    let backend = Backend::start();
    let gateway = gateway("10s", &backend);
    for round in 0..5 {
        let pair = gateway.sign_in("ann");
        let replies = race(&gateway, &pair.refresh_token);
        assert!(replies.iter().all(|(status, _)| *status == 200), "round {round}: {replies:?}");
        let successors: HashSet<_> = replies.iter().map(|(_, json)| json["refresh_token"].as_str().unwrap()).collect();
        assert_eq!(successors.len(), 1, "round {round}");
    }
}

#[test]
fn racing_exchanges_without_a_grace_to_speak_of_succeed_once() {
    let backend = Backend::start();
    let gateway = gateway("1ms", &backend);
    for round in 0..5 {
        let pair = gateway.sign_in("ann");
        let replies = race(&gateway, &pair.refresh_token);
        let (good, bad): (Vec<_>, Vec<_>) = replies.iter().partition(|(status, _)| *status == 200);
        // Within the millisecond itself the same successor is given again.
        let successors: HashSet<_> = good.iter().map(|(_, json)| json["refresh_token"].as_str().unwrap()).collect();
        assert_eq!(successors.len(), 1, "round {round}");
        for (status, json) in &bad {
            assert_eq!((*status, json["reason"].as_str()), (400, Some("refresh_reused")), "round {round}");
        }
        if bad.is_empty() {
            // All 64 within the millisecond: one more behind it.
            std::thread::sleep(std::time::Duration::from_millis(5));
            let late = race(&gateway, &pair.refresh_token);
            assert!(late.iter().all(|(status, json)| *status == 400 && json["reason"] == "refresh_reused"), "{late:?}");
        }
    }
}
