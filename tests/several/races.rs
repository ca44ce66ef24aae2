//! One thing asked of several gateways at once.

use std::collections::HashSet;
use std::sync::Barrier;

use crate::support::{Client, Gateways, Keep, Reply, Server, SignedIn, Toml, admin, get, in_turn, refresh, shared};

fn gateways(redis: &Server, session: &str) -> Gateways {
    let toml = shared(&format!("redis = \"redis://{}\"", redis.address));
    Gateways::start(3, &Toml { session: session.to_owned(), ..toml })
}

/// The replies to requests that are sent at the same time, each over a connection of its own.
fn at_once(requests: Vec<(Client, String)>) -> Vec<Reply> {
    let start = Barrier::new(requests.len());
    std::thread::scope(|scope| {
        let threads: Vec<_> = requests
            .into_iter()
            .map(|(mut client, request)| {
                let start = &start;
                scope.spawn(move || {
                    start.wait();
                    client.ask(request)
                })
            })
            .collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    })
}

#[test]
fn one_refresh_token_raced_over_three_gateways_buys_one_successor() {
    const ROUNDS: usize = 20;
    const CLIENTS: usize = 64;
    let _turn = in_turn();
    let redis = Server::start(Keep::Always);
    let gateways = gateways(&redis, "");
    for round in 0..ROUNDS {
        let tokens = gateways.sign_in(round % 3, "ann");
        let requests = (0..CLIENTS)
            .map(|number| {
                let mut client = gateways.connect(number % 3);
                // Accepted before the start.
                assert_eq!(client.ask(get("/public", None)).status, 200);
                (client, refresh(&tokens.refresh))
            })
            .collect();
        let replies = at_once(requests);
        let wrong: Vec<_> = replies.iter().filter(|reply| reply.status != 200).map(Reply::text).collect();
        assert!(wrong.is_empty(), "round {round}: {wrong:?}");
        let successors: HashSet<_> =
            replies.iter().map(|reply| reply.json()["refresh_token"].as_str().unwrap().to_owned()).collect();
        assert_eq!(successors.len(), 1, "round {round}");

        // The session goes on, at every gateway.
        let mut token = successors.into_iter().next().unwrap();
        for gateway in 0..3 {
            let reply = gateways.connect(gateway).ask(refresh(&token));
            assert_eq!(reply.status, 200, "round {round}: {}", reply.text());
            token = reply.json()["refresh_token"].as_str().unwrap().to_owned();
        }
    }
}

/// The sessions of a user as one gateway lists them, in pages of this size.
fn listed(gateways: &Gateways, gateway: usize, user: &str, page: usize) -> Vec<String> {
    let mut client = Client::plain(gateways.admin(gateway));
    let (mut all, mut cursor) = (Vec::new(), String::new());
    loop {
        let reply = client.ask(admin::list(user, &format!("&limit={page}{cursor}")));
        assert_eq!(reply.status, 200, "{}", reply.text());
        let json = reply.json();
        let sessions = json["sessions"].as_array().unwrap();
        assert!(sessions.len() <= page);
        all.extend(sessions.iter().map(|session| session["session_id"].as_str().unwrap().to_owned()));
        match json["next_cursor"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => return all,
        }
    }
}

#[test]
fn concurrent_sign_ins_over_three_gateways_leave_the_allowed_number_of_sessions() {
    const SIGN_INS: usize = 32;
    let _turn = in_turn();
    let redis = Server::start(Keep::EverySecond);
    let gateways = gateways(&redis, "max_per_user = 3\n");
    for round in 0..3 {
        let user = format!("ann-{round}");
        let requests =
            (0..SIGN_INS).map(|number| (Client::plain(gateways.admin(number % 3)), admin::sign_in(&user))).collect();
        let tokens: Vec<_> = at_once(requests)
            .iter()
            .map(|reply| SignedIn::from(reply).unwrap_or_else(|| panic!("{} {}", reply.status, reply.text())))
            .collect();

        let ids = listed(&gateways, 0, &user, 100);
        assert_eq!(ids.len(), 3, "round {round}");
        for gateway in 0..3 {
            for page in [1, 2, 3] {
                assert_eq!(listed(&gateways, gateway, &user, page), ids, "gateway {gateway}, pages of {page}");
            }
        }
        // What is listed is what lives; all others were told why they ended.
        std::thread::sleep(super::ends::HEARD);
        for gateway in 0..3 {
            let mut client = gateways.connect(gateway);
            for one in &tokens {
                let reply = client.ask(get("/", Some(&one.access)));
                if ids.contains(&one.session) {
                    assert_eq!(reply.status, 200, "{}", reply.text());
                } else {
                    assert_eq!(reply.refusal(), (401, "signed_in_elsewhere".to_owned()), "gateway {gateway}");
                }
            }
        }

        let ended = Client::plain(gateways.admin(round % 3)).ask(admin::end_user(&user));
        assert_eq!((ended.status, &ended.json()["ended"]), (200, &3.into()));
        std::thread::sleep(super::ends::HEARD);
        for gateway in 0..3 {
            assert_eq!(listed(&gateways, gateway, &user, 100), Vec::<String>::new());
            let mut client = gateways.connect(gateway);
            for one in tokens.iter().filter(|one| ids.contains(&one.session)) {
                let reply = client.ask(get("/", Some(&one.access)));
                assert_eq!(reply.refusal(), (401, "security_action".to_owned()), "gateway {gateway}");
                let reply = client.ask(refresh(&one.refresh));
                assert_eq!(reply.refusal(), (400, "security_action".to_owned()), "gateway {gateway}");
            }
        }
    }
}
