//! What several gateways on one Redis cost and how fast they are: from the acknowledged end of a session to its first
//! refusal at each other gateway, memory for a session, and commands for a refresh.
#![expect(clippy::expect_used, reason = "a measurement that cannot go on ends")]

#[path = "../tests/several/support/mod.rs"]
#[expect(dead_code, unused_imports, reason = "shared with the tests, which use more of it")]
mod support;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use support::{Client, Gateways, Keep, Server, SignedIn, Toml, admin, get, logout, refresh, shared};

const GATEWAYS: usize = 3;

/// Sessions signed in for their memory; the first of them are those that end.
const SESSIONS: usize = 100_000;
const LOADERS: usize = 24;

const ENDS_PER_SECOND: usize = 1_000;
const SECONDS: usize = 20;
/// No divisor of it is one of how requests are spread: each of them uses all of its connections all the time.
const ENDERS: usize = 17;

/// One in so many ends is watched: watching means asking all the time.
const WATCHED: usize = 10;

const REFRESHES: usize = 1_000;

fn main() {
    let redis = Server::start(Keep::EverySecond);
    let toml = shared(&format!("redis = \"redis://{}\"", redis.address));
    let gateways = Gateways::start(GATEWAYS, &Toml { server: "workers = 1\n".into(), ..toml });
    let sessions = memory(&redis, &gateways);
    lag(&gateways, &sessions);
    memory_of_ends(&redis);
    commands(&redis, &gateways);
}

/// Signs everybody in, each a user of their own; the tokens of those that will end.
fn memory(redis: &Server, gateways: &Gateways) -> Vec<SignedIn> {
    let used = || redis.info("memory", "used_memory").and_then(|text| text.parse::<u64>().ok()).expect("a number");
    let (before, start) = (used(), Instant::now());
    let next = AtomicUsize::new(0);
    let kept = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for loader in 0..LOADERS {
            let (next, kept) = (&next, &kept);
            scope.spawn(move || {
                let mut client = Client::plain(gateways.admin(loader % GATEWAYS));
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if number >= SESSIONS {
                        return;
                    }
                    let reply = client.ask(admin::sign_in(&format!("user-{number:06}")));
                    let tokens = SignedIn::from(&reply).expect("signed in");
                    if number < ENDS_PER_SECOND * SECONDS {
                        kept.lock().unwrap_or_else(PoisonError::into_inner).push(tokens);
                    }
                }
            });
        }
    });
    let (grown, seconds) = (used() - before, start.elapsed().as_secs_f64());
    let (count, rate) = (u64::try_from(SESSIONS).expect("small"), rate(SESSIONS, seconds));
    println!(
        "memory in Redis: {} bytes a session ({SESSIONS} users with one each, {rate:.0} sign-ins/s)",
        grown / count
    );
    kept.into_inner().unwrap_or_else(PoisonError::into_inner)
}

/// A session whose end is about to be asked for, for who watches it at another gateway.
struct Watched {
    number: usize,
    access: String,
}

/// Ends sessions at a steady rate, at one gateway after the other, by their clients and from above.
fn lag(gateways: &Gateways, sessions: &[SignedIn]) {
    let acknowledged: Vec<Mutex<Option<Instant>>> = sessions.iter().map(|_| Mutex::new(None)).collect();
    let next = AtomicUsize::new(0);
    let (watchers, watched): (Vec<Sender<Watched>>, Vec<Receiver<Watched>>) = (0..GATEWAYS).map(|_| channel()).unzip();
    let start = Instant::now();
    let seen: Vec<Vec<(usize, Instant)>> = std::thread::scope(|scope| {
        let watching: Vec<_> = watched
            .into_iter()
            .enumerate()
            .map(|(gateway, watched)| scope.spawn(move || watch(gateways, gateway, &watched)))
            .collect();
        for _ in 0..ENDERS {
            let (acknowledged, next, watchers) = (&acknowledged, &next, watchers.clone());
            scope.spawn(move || {
                let mut fronts: Vec<_> = (0..GATEWAYS).map(|gateway| gateways.connect(gateway)).collect();
                let mut admins: Vec<_> = (0..GATEWAYS).map(|gateway| Client::plain(gateways.admin(gateway))).collect();
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    let Some(session) = sessions.get(number) else { return };
                    // What is late is not made up for by waiting less than its turn.
                    let due = start
                        + Duration::from_secs(1) * u32::try_from(number).expect("small")
                            / u32::try_from(ENDS_PER_SECOND).expect("small");
                    std::thread::sleep(due.saturating_duration_since(Instant::now()));
                    let at = number % GATEWAYS;
                    if number.is_multiple_of(WATCHED) {
                        for (gateway, watcher) in watchers.iter().enumerate().filter(|(gateway, _)| *gateway != at) {
                            let one = Watched { number, access: session.access.clone() };
                            watcher.send(one).unwrap_or_else(|_| panic!("nobody watches gateway {gateway}"));
                        }
                    }
                    let reply = match number / GATEWAYS % 2 {
                        0 => fronts[at].ask(logout(&session.access)),
                        _ => admins[at].ask(admin::end(&session.session)),
                    };
                    let now = Instant::now();
                    assert_eq!(reply.status, 204, "{}", reply.text());
                    *acknowledged[number].lock().unwrap_or_else(PoisonError::into_inner) = Some(now);
                }
            });
        }
        // Each ends when the last ender has gone.
        drop(watchers);
        watching.into_iter().map(|thread| thread.join().expect("watched")).collect()
    });
    let rate = rate(sessions.len(), start.elapsed().as_secs_f64());

    println!("\nfrom the acknowledged end of a session to its refusal elsewhere ({rate:.0} ends/s, ms):");
    println!("{:>10} {:>8} {:>8} {:>8} {:>8}", "at gateway", "watched", "p50", "p99", "max");
    let mut all = Vec::new();
    for (gateway, seen) in seen.iter().enumerate() {
        let lags = seen.iter().map(|(number, refused)| {
            let acknowledged = *acknowledged[*number].lock().unwrap_or_else(PoisonError::into_inner);
            refused.saturating_duration_since(acknowledged.expect("acknowledged before the end"))
        });
        let mut lags: Vec<_> = lags.collect();
        all.extend_from_slice(&lags);
        row(&gateway.to_string(), &mut lags);
    }
    row("all", &mut all);
}

/// Asks one gateway for one session after the other until it is refused; when that was.
fn watch(gateways: &Gateways, gateway: usize, watched: &Receiver<Watched>) -> Vec<(usize, Instant)> {
    let mut client = gateways.connect(gateway);
    let mut open: Vec<(Watched, bool)> = Vec::new();
    let mut seen = Vec::new();
    loop {
        if open.is_empty() {
            match watched.recv() {
                Ok(one) => open.push((one, false)),
                Err(_) => return seen,
            }
        }
        open.extend(watched.try_iter().map(|one| (one, false)));
        for (one, refused) in &mut open {
            let reply = client.ask(get("/", Some(&one.access)));
            *refused = reply.status == 401;
            if *refused {
                seen.push((one.number, Instant::now()));
            }
        }
        open.retain(|(_, refused)| !refused);
    }
}

fn row(name: &str, lags: &mut [Duration]) {
    lags.sort_unstable();
    let at = |share: usize| {
        let index = (lags.len() * share / 100).min(lags.len().saturating_sub(1));
        lags.get(index).map_or(f64::NAN, |lag| lag.as_secs_f64() * 1000.0)
    };
    println!("{name:>10} {:>8} {:>8.2} {:>8.2} {:>8.2}", lags.len(), at(50), at(99), at(100));
}

/// What the ends just made take until they expire, and in the feed.
fn memory_of_ends(redis: &Server) {
    let number = |command: &[&str]| redis.ask(command).trim().parse::<u32>().expect("a number");
    let of = |pattern: &str, count: &str| {
        let keys = redis.ask(&["KEYS", pattern]);
        let each = keys.lines().map(|key| (number(&["MEMORY", "USAGE", key, "SAMPLES", "0"]), number(&[count, key])));
        let (bytes, count) = each.fold((0, 0), |(bytes, count), one| (bytes + one.0, count + one.1));
        f64::from(bytes) / f64::from(count)
    };
    let stored = of("*:revocations", "HLEN") + of("*:expiry", "ZCARD");
    println!(
        "\nmemory in Redis: {stored:.0} bytes an ended session, and {:.0} an entry of the feed",
        of("*:feed", "XLEN")
    );
}

/// What Redis is asked for a refresh, less what the gateways ask in the same time anyway.
fn commands(redis: &Server, gateways: &Gateways) {
    let tokens = gateways.sign_in(0, "refreshing");
    let mut token = tokens.refresh;
    let mut client = gateways.connect(0);
    let before = calls(redis);
    let start = Instant::now();
    for _ in 0..REFRESHES {
        let reply = client.ask(refresh(&token));
        assert_eq!(reply.status, 200, "{}", reply.text());
        token = reply.json()["refresh_token"].as_str().expect("a token").to_owned();
    }
    let took = start.elapsed();
    let after = calls(redis);
    std::thread::sleep(took);
    let quiet = calls(redis);
    let each = took / u32::try_from(REFRESHES).expect("small");
    println!("\ncommands in Redis for a refresh ({each:.2?} each, one after the other):");
    for (command, then) in &after {
        let count = |all: &BTreeMap<String, i64>| all.get(command).copied().unwrap_or(0);
        let made = (then - count(&before)) - (count(&quiet) - then);
        let each = f64::from(i32::try_from(made).expect("small")) / f64::from(u32::try_from(REFRESHES).expect("small"));
        // The command that asked for these figures, and a heartbeat more or less, are none.
        if each >= 0.05 {
            println!("{command:>12} {each:.2}");
        }
    }
}

/// Calls of each command so far; those inside of scripts are among them.
fn calls(redis: &Server) -> BTreeMap<String, i64> {
    let text = redis.ask(&["INFO", "commandstats"]);
    let parsed = text.lines().filter_map(|line| {
        let (name, rest) = line.strip_prefix("cmdstat_")?.split_once(":calls=")?;
        Some((name.to_owned(), rest.split(',').next()?.parse().ok()?))
    });
    parsed.collect()
}

fn rate(count: usize, seconds: f64) -> f64 {
    f64::from(u32::try_from(count).expect("small")) / seconds
}
