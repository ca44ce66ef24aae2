//! The same moment, many times over: what sixteen clients ask at once of one session or one user.

use std::collections::HashSet;
use std::sync::{Arc, Barrier, Mutex};
use std::time::{Duration, Instant};

use portcullis::clock::UnixTime;
use portcullis::session::TokenPair;

use crate::support::{Backend, Client, Gateway, Reply, Toml, get, refresh};

/// Clients of a race.
const CLIENTS: usize = 16;

/// So many races by default, and so many with `PORTCULLIS_LONG_ATTACKS=1`.
fn rounds(usual: usize, long: usize) -> usize {
    if std::env::var("PORTCULLIS_LONG_ATTACKS").is_ok_and(|value| value == "1") { long } else { usual }
}

fn gateway(session: &str, limits: &str, backend: &Backend) -> Gateway {
    let limits = match limits {
        "" => "refreshes_per_session = \"unlimited\"\nrefreshes_per_address = \"unlimited\"\n",
        limits => limits,
    };
    let toml = Toml {
        server: "workers = 4\n".into(),
        session: session.into(),
        limits: limits.into(),
        tls: false,
        ..Toml::default()
    };
    Gateway::with(&toml, &[backend.address])
}

/// Threads that each keep a connection and send what they are given at the same moment, again and again.
struct Pack {
    start: Arc<Barrier>,
    done: Arc<Barrier>,
    /// A request for each, then its reply. `None`: it is over.
    turn: Arc<Vec<Mutex<Option<Turn>>>>,
    threads: Vec<std::thread::JoinHandle<()>>,
}

enum Turn {
    Ask(String),
    Told(Reply),
}

impl Pack {
    fn new(clients: Vec<Client>) -> Self {
        let (start, done) = [(); 2].map(|()| Arc::new(Barrier::new(clients.len() + 1))).into();
        let turn: Arc<Vec<_>> = Arc::new(clients.iter().map(|_| Mutex::new(None)).collect());
        let threads = clients.into_iter().enumerate().map(|(number, mut client)| {
            let (start, done, turn): (Arc<Barrier>, Arc<Barrier>, _) = (start.clone(), done.clone(), turn.clone());
            std::thread::spawn(move || {
                loop {
                    start.wait();
                    let Some(Turn::Ask(request)) = turn[number].lock().unwrap().take() else { return };
                    // Caught, or the others would wait at the barrier for ever.
                    let asked = std::panic::AssertUnwindSafe(|| client.ask(request));
                    let reply = std::panic::catch_unwind(asked).ok();
                    *turn[number].lock().unwrap() = reply.map(Turn::Told);
                    done.wait();
                }
            })
        });
        let threads = threads.collect();
        Self { start, done, turn, threads }
    }

    /// Sends all of these at once; the replies in the same order.
    fn race(&self, requests: Vec<String>) -> Vec<Reply> {
        assert_eq!(requests.len(), self.turn.len());
        for (turn, request) in self.turn.iter().zip(requests) {
            *turn.lock().unwrap() = Some(Turn::Ask(request));
        }
        self.start.wait();
        self.done.wait();
        let told = self.turn.iter().map(|turn| match turn.lock().unwrap().take() {
            Some(Turn::Told(reply)) => reply,
            _ => panic!("a client got no reply"),
        });
        told.collect()
    }
}

impl Drop for Pack {
    fn drop(&mut self) {
        self.start.wait();
        for thread in self.threads.drain(..) {
            drop(thread.join());
        }
    }
}

fn clients(gateway: &Gateway) -> Vec<Client> {
    (0..CLIENTS).map(|_| gateway.connect()).collect()
}

fn word(reply: &Reply, name: &str) -> String {
    reply.json()[name].as_str().unwrap_or_else(|| panic!("no {name}: {} {}", reply.status, reply.text())).to_owned()
}

/// Access and refresh token of a good reply.
fn tokens(reply: &Reply) -> Option<(String, String)> {
    (matches!(reply.status, 200 | 201)).then(|| (word(reply, "access_token"), word(reply, "refresh_token")))
}

fn logout(access: &str) -> String {
    format!("POST /auth/logout HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {access}\r\nContent-Length: 0\r\n\r\n")
}

fn admin(method: &str, path: &str, body: &str) -> String {
    format!(
        "{method} {path} HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer an-admin-token-of-32-characters!\r\n\
         Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
}

fn sign_in(user: &str) -> String {
    admin("POST", "/v1/sessions", &format!("{{\"user_id\":\"{user}\"}}"))
}

/// Says of each pair whether it buys anything, access token first, and that both say the same.
#[track_caller]
fn works(client: &mut Client, pair: &(String, String), context: &str) -> Result<(), String> {
    let asked = client.ask(get("/", Some(&pair.0)));
    let exchanged = client.ask(refresh(&pair.1));
    match (asked.status, exchanged.status) {
        (200, 200) => Ok(()),
        (401, 400) => {
            assert_eq!(word(&asked, "reason"), word(&exchanged, "reason"), "{context}");
            Err(word(&asked, "reason"))
        }
        other => panic!("{context}: half alive: {other:?}: {} {}", asked.text(), exchanged.text()),
    }
}

fn report(what: &str, races: usize, since: Instant) {
    println!("races: {races} of {CLIENTS}: {what}: {:.1} s", since.elapsed().as_secs_f64());
}

#[test]
fn one_refresh_token_raced_by_sixteen_buys_one_successor_and_the_line_goes_on() {
    let backend = Backend::start();
    let gateway = gateway("", "", &backend);
    let (pack, mut client) = (Pack::new(clients(&gateway)), gateway.connect());
    let (rounds, since) = (rounds(200, 10_000), Instant::now());
    let mut given = HashSet::new();
    let mut token = String::new();
    for round in 0..rounds {
        // A line of a hundred, each raced for.
        if round.is_multiple_of(100) {
            token = gateway.sign_in("ann").refresh_token.to_string();
        }
        let replies = pack.race(vec![refresh(&token); CLIENTS]);
        let wrong: Vec<_> = replies.iter().filter(|reply| reply.status != 200).map(Reply::text).collect();
        assert!(wrong.is_empty(), "round {round}: {wrong:?}");
        let pairs: Vec<_> = replies.iter().filter_map(tokens).collect();
        let successors: HashSet<_> = pairs.iter().map(|pair| pair.1.clone()).collect();
        assert_eq!(successors.len(), 1, "round {round}: {successors:?}");
        let last = pairs.into_iter().next_back().unwrap();
        assert!(given.insert(last.1.clone()), "round {round}: a successor of an earlier race");
        assert_eq!(client.ask(get("/", Some(&last.0))).status, 200, "round {round}");
        token = last.1;
    }
    assert_eq!(client.ask(refresh(&token)).status, 200);
    report("one token within the grace", rounds, since);
}

#[test]
fn one_refresh_token_raced_without_a_grace_buys_one_successor_and_the_rest_end_the_session() {
    let backend = Backend::start();
    let gateway = gateway("refresh_grace = \"1ms\"\n", "", &backend);
    let (pack, mut client) = (Pack::new(clients(&gateway)), gateway.connect());
    let (rounds, since, mut reused) = (rounds(50, 2_000), Instant::now(), 0);
    for round in 0..rounds {
        let first = gateway.sign_in("ann");
        let replies = pack.race(vec![refresh(&first.refresh_token); CLIENTS]);
        let pairs: Vec<_> = replies.iter().filter_map(tokens).collect();
        let successors: HashSet<_> = pairs.iter().map(|pair| pair.1.clone()).collect();
        // Within the millisecond the same one is given again.
        assert_eq!(successors.len(), 1, "round {round}");
        let refused: Vec<_> = replies.iter().filter(|reply| reply.status != 200).collect();
        for reply in &refused {
            assert_eq!(reply.refusal(), (400, "refresh_reused".to_owned()), "round {round}");
        }
        if refused.is_empty() {
            continue;
        }
        reused += 1;
        for pair in &pairs {
            assert_eq!(works(&mut client, pair, "after reuse"), Err("refresh_reused".to_owned()), "round {round}");
        }
    }
    // How many come too late is the machine's to say.
    assert!(reused > rounds / 20, "{reused} of {rounds}");
    report("one token without a grace", rounds, since);
}

#[test]
fn after_a_sign_out_that_raced_with_refreshes_nothing_works() {
    let backend = Backend::start();
    let gateway = gateway("", "", &backend);
    let (pack, mut client) = (Pack::new(clients(&gateway)), gateway.connect());
    let (rounds, since, mut late) = (rounds(60, 2_000), Instant::now(), 0);
    for round in 0..rounds {
        let first = gateway.sign_in("ann");
        let mut requests = vec![refresh(&first.refresh_token); CLIENTS];
        requests[round % CLIENTS] = logout(&first.access_token);
        let replies = pack.race(requests);
        assert_eq!(replies[round % CLIENTS].status, 204, "round {round}: {}", replies[round % CLIENTS].text());
        let mut pairs = vec![(first.access_token.to_string(), first.refresh_token.to_string())];
        for reply in replies.iter().filter(|reply| reply.status != 204) {
            match tokens(reply) {
                Some(pair) => pairs.push(pair),
                None => assert_eq!(reply.refusal(), (400, "signed_out".to_owned()), "round {round}"),
            }
        }
        late += pairs.len() - 1;
        for pair in &pairs {
            assert_eq!(works(&mut client, pair, "after sign-out"), Err("signed_out".to_owned()), "round {round}");
        }
    }
    assert!(late > 0, "no refresh ever came before the sign-out");
    report("sign-out against refreshes", rounds, since);
}

#[test]
fn a_stolen_old_token_that_races_with_the_good_one_ends_the_session_for_both() {
    let backend = Backend::start();
    let gateway = gateway("", "", &backend);
    let (pack, mut client) = (Pack::new(clients(&gateway)), gateway.connect());
    let (rounds, since, mut late) = (rounds(60, 2_000), Instant::now(), 0);
    for round in 0..rounds {
        let first = gateway.sign_in("ann");
        let second = tokens(&client.ask(refresh(&first.refresh_token))).unwrap();
        let third = tokens(&client.ask(refresh(&second.1))).unwrap();
        let stolen = round % CLIENTS;
        let mut requests = vec![refresh(&third.1); CLIENTS];
        requests[stolen] = refresh(&first.refresh_token);
        let replies = pack.race(requests);
        assert_eq!(replies[stolen].refusal(), (400, "refresh_reused".to_owned()), "round {round}");
        let mut pairs = vec![third];
        for reply in &replies {
            match tokens(reply) {
                Some(pair) => pairs.push(pair),
                None => assert_eq!(reply.refusal(), (400, "refresh_reused".to_owned()), "round {round}"),
            }
        }
        late += pairs.len() - 1;
        for pair in &pairs {
            assert_eq!(works(&mut client, pair, "after reuse"), Err("refresh_reused".to_owned()), "round {round}");
        }
    }
    assert!(late > 0, "no refresh ever came before the reuse");
    report("an old token against the good one", rounds, since);
}

#[test]
fn racing_sign_ins_of_a_user_with_one_session_leave_one_and_it_works() {
    let backend = Backend::start();
    let gateway = gateway("max_per_user = 1\n", "", &backend);
    let admin_address = gateway.app().admin().unwrap();
    // Half sign in, half exchange the token of the session that is there.
    let mut half: Vec<_> = (0..CLIENTS / 2).map(|_| Client::plain(admin_address)).collect();
    half.extend((0..CLIENTS / 2).map(|_| gateway.connect()));
    let (pack, mut client) = (Pack::new(half), gateway.connect());
    let (rounds, since) = (rounds(40, 1_000), Instant::now());
    for round in 0..rounds {
        let user = format!("ann-{round}");
        let first = gateway.sign_in(&user);
        let mut requests = vec![sign_in(&user); CLIENTS / 2];
        requests.extend(vec![refresh(&first.refresh_token); CLIENTS / 2]);
        let replies = pack.race(requests);
        let mut outcomes = Vec::new();
        for (number, reply) in replies.iter().enumerate() {
            match tokens(reply) {
                Some(pair) => outcomes.push((number, works(&mut client, &pair, "after sign-ins"))),
                None => assert_eq!(reply.refusal(), (400, "signed_in_elsewhere".to_owned()), "round {round}"),
            }
        }
        let (alive, over): (Vec<_>, Vec<_>) = outcomes.iter().partition(|(_, outcome)| outcome.is_ok());
        assert_eq!(alive.len(), 1, "round {round}: {outcomes:?}");
        assert!(alive[0].0 < CLIENTS / 2, "round {round}: the session from before lives");
        assert!(over.iter().all(|(_, it)| *it == Err("signed_in_elsewhere".to_owned())), "round {round}: {over:?}");
    }
    report("sign-ins of a user with one session", rounds, since);
}

#[test]
fn an_end_of_all_sessions_that_races_with_sign_ins_and_refreshes_leaves_nothing_half_alive() {
    let backend = Backend::start();
    let gateway = gateway("", "", &backend);
    let admin_address = gateway.app().admin().unwrap();
    let mut half: Vec<_> = (0..CLIENTS / 2).map(|_| Client::plain(admin_address)).collect();
    half.extend((0..CLIENTS / 2).map(|_| gateway.connect()));
    let (pack, mut client) = (Pack::new(half), gateway.connect());
    // Whoever signs in within the second of the end waits for the next: a race takes about a second.
    let (rounds, since, mut alive) = (rounds(8, 300), Instant::now(), 0);
    for round in 0..rounds {
        let user = format!("ann-{round}");
        let first = gateway.sign_in(&user);
        let mut requests = vec![sign_in(&user); CLIENTS / 2];
        requests[round % (CLIENTS / 2)] = admin("DELETE", &format!("/v1/users/{user}/sessions"), "");
        requests.extend(vec![refresh(&first.refresh_token); CLIENTS / 2]);
        let replies = pack.race(requests);
        let before = (first.access_token.to_string(), first.refresh_token.to_string());
        assert_eq!(works(&mut client, &before, "from before"), Err("security_action".to_owned()), "round {round}");
        for (number, reply) in replies.iter().enumerate() {
            if number == round % (CLIENTS / 2) {
                assert_eq!(reply.status, 200, "round {round}: {}", reply.text());
                continue;
            }
            let Some(pair) = tokens(reply) else {
                assert_eq!(reply.refusal(), (400, "security_action".to_owned()), "round {round}");
                continue;
            };
            let outcome = works(&mut client, &pair, "signed in while all ended");
            if number >= CLIENTS / 2 {
                assert_eq!(outcome, Err("security_action".to_owned()), "round {round}: a refresh outlived the end");
            }
            alive += usize::from(outcome.is_ok());
        }
    }
    report("the end of all sessions against sign-ins and refreshes", rounds, since);
    println!("races: {alive} sign-ins came after the end");
}

#[test]
fn no_more_refreshes_are_let_through_than_allowed_however_many_come_at_once() {
    const ALLOWED: usize = 5;
    let backend = Backend::start();
    let limits = format!("refreshes_per_session = \"{ALLOWED}/1h\"\nrefreshes_per_address = \"unlimited\"\n");
    let gateway = gateway("", &limits, &backend);
    let pack = Pack::new(clients(&gateway));
    let (rounds, since) = (rounds(40, 2_000), Instant::now());
    for round in 0..rounds {
        let first = gateway.sign_in("ann");
        let replies = pack.race(vec![refresh(&first.refresh_token); CLIENTS]);
        let statuses = |wanted| replies.iter().filter(|reply| reply.status == wanted).count();
        assert_eq!((statuses(200), statuses(429)), (ALLOWED, CLIENTS - ALLOWED), "round {round}");
    }
    report("the limit of a session", rounds, since);
}

#[test]
fn no_more_refreshes_of_an_address_are_let_through_than_allowed() {
    const ALLOWED: usize = 21;
    let backend = Backend::start();
    let limits = format!("refreshes_per_session = \"unlimited\"\nrefreshes_per_address = \"{ALLOWED}/1h\"\n");
    for round in 0..3 {
        let gateway = gateway("", &limits, &backend);
        let pack = Pack::new(clients(&gateway));
        let (mut good, mut refused) = (0, 0);
        for _ in 0..4 {
            // Each of a session of its own.
            let requests = (0..CLIENTS).map(|_| refresh(&gateway.sign_in("ann").refresh_token)).collect();
            let replies = pack.race(requests);
            good += replies.iter().filter(|reply| reply.status == 200).count();
            refused += replies.iter().filter(|reply| reply.status == 429).count();
        }
        assert_eq!((good, refused), (ALLOWED, 4 * CLIENTS - ALLOWED), "round {round}");
    }
}

/// Without sockets between, so that all sixteen meet in the store's queue and often in one batch of it.
#[test]
fn one_refresh_token_raced_in_the_store_itself_buys_one_successor() {
    let backend = Backend::start();
    let gateway = gateway("", "", &backend);
    let (rounds, since, mut together) = (rounds(300, 10_000), Instant::now(), 0);
    let sessions = gateway.app().gateway().sessions.clone();
    let mut token = gateway.sign_in("ann").refresh_token;
    for round in 0..rounds {
        let pairs: Vec<TokenPair> = gateway.app().block_on(async {
            let mut racing = tokio::task::JoinSet::new();
            for _ in 0..CLIENTS {
                let (sessions, token) = (sessions.clone(), token.clone());
                racing.spawn(async move { sessions.refresh(&token, UnixTime::now()).await.unwrap() });
            }
            racing.join_all().await
        });
        assert!(pairs.iter().all(|pair| pair.refresh_token == pairs[0].refresh_token), "round {round}");
        assert_eq!(pairs.iter().filter(|pair| !pair.repeated).count(), 1, "round {round}");
        assert_ne!(pairs[0].refresh_token, token, "round {round}");
        token = pairs[0].refresh_token.clone();
        together += pairs.len();
    }
    assert_eq!(together, rounds * CLIENTS);
    // Every race was of the token that the last one gave.
    assert!(gateway.app().block_on(sessions.refresh(&token, UnixTime::now().plus(Duration::from_secs(60)))).is_ok());
    report("one token in the store itself", rounds, since);
}
