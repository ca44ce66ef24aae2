//! A steady load on several gateways, with a ledger of what each client may rightly be told.
//!
//! Some clients send requests with the tokens of sessions that live or were ended; each of some others holds one refresh
//! chain, and presents its latest token until that has bought the next; one ends sessions. Whatever is answered is
//! held against the ledger at once. What is wrong only outside of a disturbance is judged by the times at which the
//! request was sent and answered.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fmt::Write as _;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::common::{Reply, get, refresh};
use super::gateways::{Caller, Gateways, SignedIn, admin, logout};

/// How long after its acknowledgement the end of a session may be unknown to another gateway that hears from the store.
pub(crate) const HEARD: Duration = Duration::from_millis(50);

/// `store.max_revocation_lag` of gateways under load.
pub(crate) const MAX_LAG: Duration = Duration::from_secs(2);

/// No answer after this is a hanging gateway: the deadline of a store call is 1 s, and a busy machine is slow.
const PATIENCE: Duration = Duration::from_secs(5);

/// The same for a gateway that stands still for a while.
const LONG_PATIENCE: Duration = Duration::from_secs(60);

const CHAINS: usize = 20;
const REQUESTERS: usize = 6;
const SESSIONS: usize = 40;
/// Sessions whose end is still asked about.
const REMEMBERED: usize = 40;

/// Pauses between what one client sends: some 400 requests, 150 refreshes and 7 ends of a session in a second.
const REQUEST_PAUSE: Duration = Duration::from_millis(12);
const CHAIN_PAUSE: Duration = Duration::from_millis(120);
const END_PAUSE: Duration = Duration::from_millis(140);
const RETRY_PAUSE: Duration = Duration::from_millis(50);

/// What is wrong for a while, and what may therefore be answered.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Disturbance {
    /// The store is away, or answers late or not at all: 503 where it is needed, and on `refuse` routes after a while.
    Store,
    /// It comes back without its data: besides, sessions are gone.
    StoreLost,
    /// A gateway is away or stands still.
    Gateway(usize),
}

#[derive(Clone, Copy, Debug)]
struct Period {
    what: Disturbance,
    since: Instant,
    until: Option<Instant>,
}

/// A session that requests are made for.
struct Tracked {
    tokens: SignedIn,
    state: Mutex<State>,
}

#[derive(Clone, Copy, Debug)]
enum State {
    Live,
    /// Its end was asked for: nobody knows from when on it holds.
    Ending,
    /// Its end was acknowledged at this time.
    Ended(Instant),
}

impl Tracked {
    fn new(tokens: SignedIn) -> Arc<Self> {
        Arc::new(Self { tokens, state: Mutex::new(State::Live) })
    }

    fn state(&self) -> State {
        *lock(&self.state)
    }

    fn set(&self, state: State) {
        *lock(&self.state) = state;
    }
}

struct Shared {
    /// Front door and admin listener of each gateway.
    addresses: Vec<(SocketAddr, SocketAddr)>,
    stop: AtomicBool,
    periods: Mutex<Vec<Period>>,
    live: Mutex<Vec<Arc<Tracked>>>,
    ended: Mutex<Vec<Arc<Tracked>>>,
    /// Every refresh token that was presented, with all it ever bought.
    successors: Mutex<HashMap<String, HashSet<String>>>,
    counts: Mutex<BTreeMap<(&'static str, String), u64>>,
    wrong: Mutex<Vec<String>>,
    names: AtomicUsize,
}

/// The load, from its start until [`Self::finish`].
pub(crate) struct Load {
    shared: Arc<Shared>,
    started: Instant,
    threads: Vec<JoinHandle<()>>,
    chains: Vec<JoinHandle<String>>,
}

/// A request's two times.
#[derive(Clone, Copy)]
struct Span {
    sent: Instant,
    answered: Instant,
}

impl Load {
    pub(crate) fn start(gateways: &Gateways) -> Self {
        let addresses = (0..gateways.count()).map(|index| (gateways.public(index), gateways.admin(index))).collect();
        let shared = Arc::new(Shared {
            addresses,
            stop: AtomicBool::new(false),
            periods: Mutex::default(),
            live: Mutex::default(),
            ended: Mutex::default(),
            successors: Mutex::default(),
            counts: Mutex::default(),
            wrong: Mutex::default(),
            names: AtomicUsize::new(0),
        });
        let started = Instant::now();
        for number in 0..SESSIONS {
            let tokens = gateways.sign_in(number % gateways.count(), &shared.name());
            lock(&shared.live).push(Tracked::new(tokens));
        }
        let first: Vec<_> =
            (0..CHAINS).map(|number| gateways.sign_in(number % gateways.count(), &shared.name())).collect();
        let mut threads = Vec::new();
        for number in 0..REQUESTERS {
            let shared = shared.clone();
            // The first asks gateways that stand still, and then waits as long as they do.
            let patient = number == 0;
            threads.push(std::thread::spawn(move || shared.requests(Random::new(number), patient)));
        }
        let ending = shared.clone();
        threads.push(std::thread::spawn(move || ending.ends(Random::new(REQUESTERS))));
        let chains = first
            .into_iter()
            .enumerate()
            .map(|(number, tokens)| {
                let shared = shared.clone();
                std::thread::spawn(move || shared.chain(tokens, Random::new(100 + number)))
            })
            .collect();
        Self { shared, started, threads, chains }
    }

    /// From now on, until [`Self::calm`].
    pub(crate) fn disturb(&self, what: Disturbance) {
        lock(&self.shared.periods).push(Period { what, since: Instant::now(), until: None });
    }

    /// All is well again.
    pub(crate) fn calm(&self) {
        for period in lock(&self.shared.periods).iter_mut() {
            period.until.get_or_insert_with(Instant::now);
        }
    }

    /// Ends one of the sessions at this gateway, as the load does now and then: its access token.
    pub(crate) fn end_one(&self, gateway: usize) -> String {
        let session = lock(&self.shared.live).pop().expect("a session");
        session.set(State::Ending);
        let reply = self.shared.front(gateway, PATIENCE).ask(logout(&session.tokens.access)).expect("a reply");
        assert_eq!(reply.status, 204, "{}", reply.text());
        session.set(State::Ended(Instant::now()));
        let access = session.tokens.access.clone();
        lock(&self.shared.ended).push(session);
        access
    }

    /// How often something was answered, such as `("strict", "503 revocations_stale")`.
    pub(crate) fn count(&self, what: &'static str, answer: &str) -> u64 {
        lock(&self.shared.counts).get(&(what, answer.to_owned())).copied().unwrap_or(0)
    }

    /// Stops it, then asks every gateway about every session: prints what was answered, and fails if any of it was wrong.
    pub(crate) fn finish(mut self, name: &str) {
        self.shared.stop.store(true, Ordering::SeqCst);
        let seconds = self.started.elapsed().as_secs_f64();
        for thread in self.threads.drain(..) {
            thread.join().expect("no panic");
        }
        let chains: Vec<String> = self.chains.drain(..).map(|chain| chain.join().expect("no panic")).collect();
        let shared = &self.shared;
        let counts = std::mem::take(&mut *lock(&shared.counts));
        shared.ask_for_all(&chains);

        let mut line = format!("{name}: {seconds:.0} s");
        let mut last = "";
        for ((what, answer), count) in &counts {
            let between = if *what == last { ", " } else { "; " };
            let what_else = if *what == last { String::new() } else { format!("{what}: ") };
            write!(line, "{between}{what_else}{answer} × {count}").expect("a string takes all");
            last = what;
        }
        let successors = lock(&shared.successors);
        println!("{line}; {} refresh tokens spent", successors.len());
        let doubled = successors.values().filter(|successors| successors.len() > 1).count();
        let wrong = lock(&shared.wrong);
        let first = wrong.iter().take(12).cloned().collect::<Vec<_>>().join("\n");
        let wrong = wrong.len();
        assert!(wrong + doubled == 0, "{name}: {doubled} tokens with two successors, {wrong} wrong answers:\n{first}");
        let good: u64 = counts.iter().filter(|((_, answer), _)| answer == "200").map(|(_, count)| count).sum();
        assert!(good > 500, "{name}: hardly anything was asked");
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::SeqCst);
    }
}

impl Shared {
    fn name(&self) -> String {
        format!("user-{}", self.names.fetch_add(1, Ordering::SeqCst))
    }

    fn front(&self, gateway: usize, patience: Duration) -> Caller {
        Caller::new(self.addresses[gateway].0, patience)
    }

    fn stopped(&self) -> bool {
        self.stop.load(Ordering::SeqCst)
    }

    /// Whether any part of this span was disturbed so.
    fn disturbed(&self, from: Instant, to: Instant, what: impl Fn(Disturbance) -> bool) -> bool {
        let overlaps = |period: &Period| period.since <= to && period.until.is_none_or(|until| from <= until);
        lock(&self.periods).iter().any(|period| what(period.what) && overlaps(period))
    }

    fn down(&self, gateway: usize, span: Span) -> bool {
        self.disturbed(span.sent, span.answered, |what| what == Disturbance::Gateway(gateway))
    }

    /// A gateway that just came back may be as little up to date as one without a store.
    fn store_away(&self, gateway: usize, span: Span) -> bool {
        self.disturbed(span.sent, span.answered, |what| match what {
            Disturbance::Store | Disturbance::StoreLost => true,
            Disturbance::Gateway(down) => down == gateway,
        })
    }

    /// From when on a gateway must know of an end that was acknowledged then; `None` is not yet.
    ///
    /// While it hears nothing from the store it cannot know, but it does know that it may have missed something.
    fn known_from(&self, gateway: usize, strict: bool, acknowledged: Instant, span: Span) -> Option<Instant> {
        let mut known = acknowledged;
        for period in lock(&self.periods).iter() {
            let concerns = !matches!(period.what, Disturbance::Gateway(other) if other != gateway);
            let over = period.until.is_some_and(|until| until < acknowledged);
            if !concerns || over || period.since > span.answered {
                continue;
            }
            let refusing = strict.then(|| acknowledged + MAX_LAG);
            known = known.max([period.until, refusing].into_iter().flatten().min()?);
        }
        Some(known)
    }

    fn wrong(&self, text: String) {
        lock(&self.wrong).push(text);
    }

    fn counted(&self, what: &'static str, answer: String) {
        *lock(&self.counts).entry((what, answer)).or_default() += 1;
    }

    /// A gateway to be asked next; one that is away only if `any`.
    fn some_gateway(&self, random: &mut Random, any: bool) -> usize {
        loop {
            let gateway = random.below(self.addresses.len());
            let now = Instant::now();
            if any || !self.down(gateway, Span { sent: now, answered: now }) {
                return gateway;
            }
        }
    }

    /// One request, counted; the reply, unless there was none.
    fn send(&self, what: &'static str, gateway: usize, caller: &mut Caller, request: &str) -> (Option<Reply>, Span) {
        let sent = Instant::now();
        let reply = caller.ask(request);
        let span = Span { sent, answered: Instant::now() };
        match &reply {
            Ok(reply) => {
                let reason = serde_json::from_slice::<serde_json::Value>(&reply.body).ok();
                let reason = reason.and_then(|json| json["reason"].as_str().map(|reason| format!(" {reason}")));
                self.counted(what, format!("{}{}", reply.status, reason.unwrap_or_default()));
            }
            Err(error) => {
                self.counted(what, "no answer".to_owned());
                // A connection may have been lost while it was not used.
                if !self.down(gateway, Span { sent: caller.opened(), ..span }) {
                    let took = span.answered - span.sent;
                    self.wrong(format!("{what}: no answer from gateway {gateway} after {took:?}: {error}"));
                }
            }
        }
        (reply.ok(), span)
    }

    /// Requests on both routes, for sessions that live and such that were ended.
    fn requests(&self, mut random: Random, patient: bool) {
        let mut callers: Vec<_> = (0..self.addresses.len()).map(|gateway| self.front(gateway, LONG_PATIENCE)).collect();
        for caller in &mut callers {
            // Already connected when something happens to the gateway.
            drop(caller.ask(get("/public", None)));
        }
        while !self.stopped() {
            std::thread::sleep(REQUEST_PAUSE);
            let sessions = if random.below(2) == 0 { &self.live } else { &self.ended };
            let Some(session) = random.of(&lock(sessions)).cloned() else { continue };
            let gateway = self.some_gateway(&mut random, patient);
            self.request(gateway, &mut callers[gateway], random.below(2) == 0, &session);
        }
    }

    fn request(&self, gateway: usize, caller: &mut Caller, strict: bool, session: &Tracked) {
        let (what, path) = if strict { ("strict", "/strict") } else { ("serve", "/") };
        let before = session.state();
        let (reply, span) = self.send(what, gateway, caller, &get(path, Some(&session.tokens.access)));
        let Some(reply) = reply else { return };
        let after = session.state();
        let text = || {
            format!("{what}, gateway {gateway}: {} {} though {before:?}, then {after:?}", reply.status, reply.text())
        };
        let hung = span.answered - span.sent > PATIENCE && !self.down(gateway, span);
        if hung {
            self.wrong(format!("{}, after {:?}", text(), span.answered - span.sent));
        }
        match (reply.status, before) {
            (200, State::Live | State::Ending) => {}
            (200, State::Ended(acknowledged)) => {
                let known = self.known_from(gateway, strict, acknowledged, span);
                if known.is_some_and(|known| span.sent > known + HEARD) {
                    self.wrong(format!("{}, sent {:?} after its end", text(), span.sent - acknowledged));
                }
            }
            (401, _) if !matches!(after, State::Live) => {}
            (503, _) if strict && self.store_away(gateway, span) => {
                if reply.json()["reason"] != "revocations_stale" {
                    self.wrong(text());
                }
            }
            _ => self.wrong(text()),
        }
    }

    /// Holds one chain of refresh tokens: its last token.
    fn chain(&self, first: SignedIn, mut random: Random) -> String {
        let mut token = first.refresh;
        let mut callers: Vec<_> = (0..self.addresses.len()).map(|gateway| self.front(gateway, LONG_PATIENCE)).collect();
        while !self.stopped() {
            let gateway = self.some_gateway(&mut random, false);
            let (reply, span) = self.send("refresh", gateway, &mut callers[gateway], &refresh(&token));
            let answer = reply.as_ref().map(|reply| (reply.status, reply.json()));
            match answer {
                Some((200, json)) => {
                    let text = |name: &str| json[name].as_str().expect("a token").to_owned();
                    let next = text("refresh_token");
                    lock(&self.successors).entry(token).or_default().insert(next.clone());
                    token = next;
                    self.own_request(gateway, &mut callers[gateway], &text("access_token"));
                    std::thread::sleep(CHAIN_PAUSE);
                }
                Some((400, json))
                    if json["reason"] == "session_ended"
                        && self.disturbed(span.sent, span.answered, |what| what == Disturbance::StoreLost) =>
                {
                    // The session is gone with the store's data, which its client is told: it signs in again.
                    match self.sign_in(&mut random) {
                        Some(again) => token = again.refresh,
                        None => std::thread::sleep(RETRY_PAUSE),
                    }
                }
                Some((503, _)) if self.store_away(gateway, span) => {
                    self.in_time("refresh", gateway, span);
                    if reply.is_some_and(|reply| reply.header("retry-after").is_none()) {
                        self.wrong(format!("refresh, gateway {gateway}: 503 without Retry-After"));
                    }
                    std::thread::sleep(RETRY_PAUSE);
                }
                Some((status, json)) => {
                    self.wrong(format!("refresh, gateway {gateway}: {status} {json}"));
                    std::thread::sleep(CHAIN_PAUSE);
                    if status == 400 {
                        // It will be answered so for ever.
                        return token;
                    }
                }
                // Was judged; the token in hand is still the one to present.
                None => std::thread::sleep(RETRY_PAUSE),
            }
        }
        token
    }

    /// With an access token of a session that nobody ends, just issued.
    fn own_request(&self, gateway: usize, caller: &mut Caller, access: &str) {
        let (reply, _) = self.send("own", gateway, caller, &get("/", Some(access)));
        if let Some(reply) = reply.filter(|reply| reply.status != 200) {
            self.wrong(format!("new token, gateway {gateway}: {} {}", reply.status, reply.text()));
        }
    }

    /// What needs the store is answered within its deadline, and some time for a busy machine.
    fn in_time(&self, what: &str, gateway: usize, span: Span) {
        let took = span.answered - span.sent;
        if took > Duration::from_millis(2500) && !self.down(gateway, span) {
            self.wrong(format!("{what}, gateway {gateway}: 503 only after {took:?}"));
        }
    }

    /// `None` when the store or the gateway was away.
    fn sign_in(&self, random: &mut Random) -> Option<SignedIn> {
        let gateway = self.some_gateway(random, false);
        let mut caller = Caller::new(self.addresses[gateway].1, PATIENCE);
        let (reply, span) = self.send("sign-in", gateway, &mut caller, &admin::sign_in(&self.name()));
        let reply = reply?;
        if reply.status == 503 && self.store_away(gateway, span) {
            self.in_time("sign-in", gateway, span);
            return None;
        }
        let tokens = SignedIn::from(&reply);
        if tokens.is_none() {
            self.wrong(format!("sign-in, gateway {gateway}: {} {}", reply.status, reply.text()));
        }
        tokens
    }

    /// Ends a session now and then, by its client or from above, and signs another one in.
    fn ends(&self, mut random: Random) {
        while !self.stopped() {
            std::thread::sleep(END_PAUSE);
            let Some(session) = self.take_one(&mut random) else { continue };
            session.set(State::Ending);
            loop {
                let gateway = self.some_gateway(&mut random, false);
                let (mut caller, request) = match random.below(2) {
                    0 => (self.front(gateway, PATIENCE), logout(&session.tokens.access)),
                    _ => (Caller::new(self.addresses[gateway].1, PATIENCE), admin::end(&session.tokens.session)),
                };
                let (reply, span) = self.send("end", gateway, &mut caller, &request);
                match reply.map(|reply| reply.status) {
                    Some(204) => {
                        session.set(State::Ended(span.answered));
                        break;
                    }
                    Some(503) if self.store_away(gateway, span) => self.in_time("end", gateway, span),
                    Some(status) => self.wrong(format!("end, gateway {gateway}: {status}")),
                    None => {}
                }
                if self.stopped() {
                    return;
                }
                std::thread::sleep(RETRY_PAUSE);
            }
            {
                let mut ended = lock(&self.ended);
                ended.push(session);
                let more = ended.len().saturating_sub(REMEMBERED);
                ended.drain(..more);
            }
            if let Some(tokens) = self.sign_in(&mut random) {
                lock(&self.live).push(Tracked::new(tokens));
            }
        }
    }

    fn take_one(&self, random: &mut Random) -> Option<Arc<Tracked>> {
        let mut live = lock(&self.live);
        if live.len() <= SESSIONS / 2 {
            return None;
        }
        let at = random.below(live.len());
        Some(live.swap_remove(at))
    }

    /// At the end every gateway says the same of every session, and every chain goes on.
    fn ask_for_all(&self, chains: &[String]) {
        let mut callers: Vec<_> = (0..self.addresses.len()).map(|gateway| self.front(gateway, PATIENCE)).collect();
        std::thread::sleep(HEARD);
        for sessions in [&self.live, &self.ended] {
            for session in lock(sessions).iter() {
                for (gateway, caller) in callers.iter_mut().enumerate() {
                    for strict in [false, true] {
                        self.request(gateway, caller, strict, session);
                    }
                }
            }
        }
        for token in chains {
            let gateway = self.names.fetch_add(1, Ordering::SeqCst) % callers.len();
            match callers[gateway].ask(refresh(token)) {
                Ok(reply) if reply.status == 200 => {
                    let next = reply.json()["refresh_token"].as_str().expect("a token").to_owned();
                    lock(&self.successors).entry(token.clone()).or_default().insert(next);
                }
                Ok(reply) => self.wrong(format!("a chain is dead at the end: {} {}", reply.status, reply.text())),
                Err(error) => self.wrong(format!("a chain is dead at the end: {error}")),
            }
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Which of several, never the same way for two clients (xorshift).
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: usize) -> Self {
        Self(0x9E37_79B9_7F4A_7C15_u64.wrapping_mul(u64::try_from(seed).expect("small") + 1) | 1)
    }

    pub(crate) fn below(&mut self, count: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from((self.0 >> 32) % u64::try_from(count).expect("small")).expect("small")
    }

    fn of<'a, T>(&mut self, all: &'a [T]) -> Option<&'a T> {
        if all.is_empty() { None } else { Some(&all[self.below(all.len())]) }
    }
}
