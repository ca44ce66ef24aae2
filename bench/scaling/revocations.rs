//! Ten million ended sessions in memory: what they take, what a request pays for them, and how long anybody is kept
//! waiting while they come and go.

use std::hint::black_box;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use portcullis::clock::UnixTime;
use portcullis::ids::{SessionId, SessionName, UserId};
use portcullis::revocation::{EndReason, Revocation, Revocations};
use rustix::time::{ClockId, clock_gettime};

use crate::load::{Ask, Load, Tokens};
use crate::machine;
use crate::report::{Report, median, number};
use crate::support::{Gateway, Toml, Workplace};

const COUNT: usize = 10_000_000;
/// Bytes each at most.
const MOST_BYTES: f64 = 40.0;

const CONNECTIONS: usize = 64;
const SESSIONS: usize = 1_024;
const ROUNDS: usize = 5;
const ROUND: Duration = Duration::from_secs(3);
const ENDS_PER_SECOND: u32 = 1_000;
/// A difference of this share in CPU time is within what two gateways that do the same show here.
const NOTICEABLE: f64 = 1.02;

/// Random ids, the same each time.
pub(crate) struct Ids(pub(crate) u64);

impl Iterator for Ids {
    type Item = SessionId;

    fn next(&mut self) -> Option<SessionId> {
        let mut half = || {
            self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mut mixed = self.0;
            mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            (mixed ^ (mixed >> 31)).to_be_bytes()
        };
        let mut id = [0; 16];
        id[..8].copy_from_slice(&half());
        id[8..].copy_from_slice(&half());
        Some(SessionId::from_bytes(id))
    }
}

pub(crate) fn end(id: SessionId, expires_at: UnixTime) -> Revocation {
    Revocation::Session { session: id.into(), reason: EndReason::SignedOut, expires_at }
}

/// CPU time of this thread: what others on its core do is not in it.
fn used() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(u64::try_from(time.tv_sec).unwrap_or(0), u32::try_from(time.tv_nsec).unwrap_or(0))
}

/// The first of all measurements: nothing that was freed before may hide what is taken now.
pub(crate) fn memory(report: &mut Report) {
    report.section("Ended sessions in memory");
    let own = || machine::memory(std::process::id());
    let revocations = Arc::new(Revocations::new());
    let user = UserId::parse("user-000001").expect("an id");
    let soon = UnixTime::now().plus(Duration::from_secs(3600));
    // Somebody looks sessions up all the while.
    let done = Arc::new(AtomicBool::new(false));
    let reader = {
        let (revocations, done, user) = (revocations.clone(), done.clone(), user.clone());
        std::thread::spawn(move || {
            machine::run_on([machine::cores() - 1]);
            read_until(&revocations, &user, &done)
        })
    };
    std::thread::sleep(Duration::from_millis(100));
    machine::run_on([0]);
    let before = own();
    let (mut at, mut longest, mut rows) = (Duration::ZERO, Duration::ZERO, Vec::new());
    let (mut worst, mut start) = (0.0_f64, used());
    for (number_so_far, id) in (1_usize..).zip(Ids(1).take(COUNT)) {
        revocations.insert(&end(id, soon));
        let now = used();
        longest = longest.max(now - start);
        at += now - start;
        // Memory moves in steps: it is looked at all the way from one million on, not where a step has just paid off.
        if number_so_far >= COUNT / 10 && number_so_far.is_multiple_of(COUNT / 100) {
            worst = worst.max(bytes(own() - before) / number(number_so_far));
        }
        if number_so_far.is_multiple_of(COUNT / 10) {
            let each = bytes(own() - before) / number(number_so_far);
            rows.push(vec![
                format!("{} M", number_so_far / 1_000_000),
                format!("{each:.1}"),
                format!("{:.0}", at.as_secs_f64() * 1e9 / number(COUNT / 10)),
                format!("{:.2}", longest.as_secs_f64() * 1e3),
            ]);
            (at, longest) = (Duration::ZERO, Duration::ZERO);
        }
        start = used();
    }
    let each = bytes(own() - before) / number(COUNT);
    report.table(&["entries", "bytes each", "insert, ns of CPU", "longest insert, ms of CPU"], &rows);
    report.figure(
        "10 M revoked sessions: bytes each",
        &format!("{each:.1} (at most {worst:.1} on the way from 1 M)"),
        "at most 40",
        Some(each <= MOST_BYTES && worst <= MOST_BYTES),
    );

    let there: Vec<SessionName> = Ids(1).step_by(10).take(100_000).map(SessionName::from).collect();
    let absent: Vec<SessionName> = Ids(2).take(100_000).map(SessionName::from).collect();
    let look_up = |sessions: &[SessionName]| {
        let start = used();
        for session in sessions {
            black_box(revocations.check(session, &user, UnixTime::from_secs(1)));
        }
        (used() - start).as_secs_f64() * 1e9 / number(sessions.len())
    };
    let unchanged = {
        let epoch = revocations.epoch();
        let start = used();
        for _ in 0..100_000_000 {
            black_box(black_box(&revocations).epoch() == black_box(epoch));
        }
        (used() - start).as_secs_f64() * 1e9 / 1e8
    };
    report.text(&format!(
        "With 10 M: to see that nothing has changed {unchanged:.1} ns; a look-up {:.0} ns of one that is there, {:.0} ns \
         of one that is not.\n",
        look_up(&there),
        look_up(&absent)
    ));

    let filled = used();
    let gone = revocations.purge(soon.plus(Duration::from_secs(2)));
    assert!(gone == COUNT && revocations.is_empty(), "{gone} went");
    let purged = used() - filled;
    done.store(true, Ordering::Relaxed);
    let waits = reader.join().expect("a reader");
    report.text(&format!(
        "A purge of all of them: {:.0} ms of its thread. Of the {:.1} million look-ups beside all this, one in a hundred \
         thousand took longer than {} µs, one in a million {} µs, the longest {} µs, whatever else the machine did \
         meanwhile included.\n",
        purged.as_secs_f64() * 1e3,
        number(waits.count) / 1e6,
        waits.all_but_one_in(100_000),
        waits.all_but_one_in(1_000_000),
        waits.all_but_one_in(usize::MAX),
    ));
    report.text(&format!(
        "Left after the purge: {:.1} bytes for each that was there.\n",
        bytes(own().saturating_sub(before)) / number(COUNT)
    ));
    machine::run_on(0..machine::cores());
}

/// How long look-ups took.
struct Waits {
    count: usize,
    /// Those that took [`LONG`] at least.
    long: Vec<Duration>,
}

/// Few take as long: remembering them takes no memory to speak of.
const LONG: Duration = Duration::from_micros(5);

impl Waits {
    /// What all but one in `so_many` stayed below, in microseconds.
    fn all_but_one_in(&self, so_many: usize) -> String {
        let rank = self.count / so_many;
        match self.long.len().checked_sub(rank + 1).and_then(|at| self.long.get(at)) {
            Some(wait) => format!("{:.0}", wait.as_secs_f64() * 1e6),
            None => format!("less than {}", LONG.as_micros()),
        }
    }
}

/// Looks up one session after the other.
fn read_until(revocations: &Revocations, user: &UserId, done: &AtomicBool) -> Waits {
    let mut waits = Waits { count: 0, long: Vec::new() };
    let mut start = Instant::now();
    for id in Ids(3) {
        black_box(revocations.check(&id.into(), user, UnixTime::from_secs(1)));
        let now = Instant::now();
        waits.count += 1;
        if now - start >= LONG {
            waits.long.push(now - start);
        }
        start = now;
        if done.load(Ordering::Relaxed) {
            break;
        }
    }
    waits.long.sort_unstable();
    waits
}

/// CPU time of a request with and without all of them, at two gateways in this process.
pub(crate) fn requests(report: &mut Report) {
    let mut loads = Vec::new();
    for _ in 0..2 {
        let mut load = Load::new();
        let toml = Toml { server: "workers = 1\n".into(), tls: false, ..Toml::default() };
        machine::run_on([0]);
        let gateway = Gateway::at(Arc::new(Workplace::new()), &toml, &[load.upstream]);
        machine::run_on(1..machine::cores());
        let tokens = (0..SESSIONS).map(|number| {
            let pair = gateway.sign_in(&format!("user-{number:06}"));
            Tokens { access: pair.access_token.to_string(), refresh: pair.refresh_token.to_string() }
        });
        load.connect(gateway.address, CONNECTIONS, tokens.collect());
        loads.push((load, gateway));
    }
    let soon = UnixTime::now().plus(Duration::from_secs(3600));
    let revocations = loads[1].1.app().gateway().revocations.clone();
    Ids(1).take(COUNT).for_each(|id| revocations.insert(&end(id, soon)));

    let round = |which: usize| {
        let workers = || machine::cpu_by_thread(std::process::id()).get("worker").copied().unwrap_or_default();
        let before = workers();
        let answered = loads[which].0.run(Ask::Get, ROUND);
        (workers() - before).as_secs_f64() * 1e6 / number(answered.count)
    };
    for which in 0..2 {
        black_box(round(which));
    }
    let (mut none, mut many, mut changing) = (Vec::new(), Vec::new(), Vec::new());
    let mut more = Ids(4);
    for _ in 0..ROUNDS {
        none.push(round(0));
        many.push(round(1));
        let done = AtomicBool::new(false);
        let taken = std::thread::scope(|scope| {
            scope.spawn(|| {
                while !done.load(Ordering::Relaxed) {
                    if let Some(id) = more.next() {
                        revocations.insert(&end(id, soon));
                    }
                    std::thread::sleep(Duration::from_secs(1) / ENDS_PER_SECOND);
                }
            });
            let taken = round(1);
            done.store(true, Ordering::Relaxed);
            taken
        });
        changing.push(taken);
    }
    report.section("Requests beside ended sessions");
    report.text(&format!(
        "Two gateways of one worker each on core 0, one of them with 10 M ended sessions; {CONNECTIONS} connections and \
         {SESSIONS} tokens at each. {ROUNDS} rounds of {} s, in turn; medians of CPU time of the worker.",
        ROUND.as_secs()
    ));
    let micros = |rounds: &[f64]| format!("{:.2}", median(rounds.iter().copied()));
    let rows = [("none", &none), ("10 M, none comes", &many), ("10 M, about a thousand a second come", &changing)];
    let rows: Vec<_> = rows.iter().map(|(name, rounds)| vec![(*name).to_owned(), micros(rounds)]).collect();
    report.table(&["ended sessions", "CPU µs/request"], &rows);
    let ratio = |rounds: &[f64]| median(rounds.iter().zip(&none).map(|(many, none)| many / none));
    let (still, moving) = (ratio(&many), ratio(&changing));
    report.figure(
        "CPU of a request with 10 M ended sessions against none",
        &format!("{still:.3} ×"),
        "no difference (1.02 ×)",
        Some(still <= NOTICEABLE),
    );
    report.figure("the same while a thousand a second end", &format!("{moving:.3} ×"), "", None);
}

#[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
fn bytes(count: u64) -> f64 {
    count as f64
}
