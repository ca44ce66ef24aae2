//! Durable refreshes beside ordinary requests of the same sessions, at the same gateway, from the same clients.

use std::sync::Arc;
use std::time::Duration;

use crate::load::{Answered, Ask, Load, Tokens};
use crate::report::{Report, median};
use crate::support::{Process, Toml, Workplace};
use crate::{machine, report};

const CONNECTIONS: usize = 64;
const SESSIONS: usize = 1_024;
const ROUNDS: usize = 5;
const ROUND: Duration = Duration::from_secs(3);

/// One round of one kind.
struct Round {
    answered: Answered,
    /// By the name of threads, in microseconds a request.
    cpu: Vec<(String, f64)>,
}

impl Round {
    fn rate(&self) -> f64 {
        report::number(self.answered.count) / self.answered.seconds
    }

    fn cpu(&self) -> f64 {
        self.cpu.iter().map(|(_, micros)| micros).sum()
    }
}

/// The gateway has the first core alone, with all of its threads; clients and upstream the others.
pub(crate) fn measure(report: &mut Report) {
    let mut load = Load::new();
    let place = Arc::new(Workplace::new());
    let toml = Toml {
        server: "workers = 1\n".into(),
        limits: "refreshes_per_session = \"unlimited\"\nrefreshes_per_address = \"unlimited\"\n".into(),
        tls: false,
        ..Toml::default()
    };
    machine::run_on([0]);
    let gateway = Process::start_with(&place, &toml.text(&[load.upstream]));
    machine::run_on(1..machine::cores());
    let tokens = (0..SESSIONS).map(|number| {
        let (access, refresh) = gateway.sign_in(&format!("user-{number:06}"));
        Tokens { access, refresh }
    });
    load.connect(gateway.address, CONNECTIONS, tokens.collect());

    let round = |ask| {
        let pid = gateway.child.id();
        let before = machine::cpu_by_thread(pid);
        let answered = load.run(ask, ROUND);
        let cpu = machine::cpu_by_thread(pid).into_iter().map(|(name, used)| {
            let used = used - before.get(&name).copied().unwrap_or_default();
            (name, used.as_secs_f64() * 1e6 / report::number(answered.count))
        });
        Round { cpu: cpu.filter(|(_, micros)| *micros >= 0.05).collect(), answered }
    };
    // Nothing is remembered and no file is there at first.
    for ask in [Ask::Get, Ask::Refresh] {
        round(ask);
    }
    let (mut gets, mut refreshes) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        gets.push(round(Ask::Get));
        refreshes.push(round(Ask::Refresh));
    }

    report.section("`POST /auth/refresh`, durable");
    report.text(&format!(
        "{CONNECTIONS} connections over plain HTTP/1.1, {SESSIONS} sessions in turn, each refreshed with the successor \
         it got last. The gateway with one worker, and all of its threads, on core 0; clients and upstream, one thread, \
         on the others. {ROUNDS} rounds of {} s of each kind, in turn; medians.",
        ROUND.as_secs()
    ));
    let mut rows = Vec::new();
    for (name, rounds) in [("authenticated GET", &gets), ("refresh", &refreshes)] {
        let of = |figure: &dyn Fn(&Round) -> f64| median(rounds.iter().map(figure));
        let millis = |time: Duration| time.as_secs_f64() * 1e3;
        let mut threads: Vec<_> = rounds.iter().flat_map(|round| round.cpu.iter().map(|(name, _)| name)).collect();
        threads.sort_unstable();
        threads.dedup();
        let share = |thread: &String| {
            let of_thread = |round: &Round| round.cpu.iter().find(|(name, _)| name == thread).map_or(0.0, |one| one.1);
            format!("{thread} {:.1}", median(rounds.iter().map(of_thread)))
        };
        rows.push(vec![
            name.to_owned(),
            format!("{:.0}", of(&Round::rate)),
            format!("{:.1}", of(&Round::cpu)),
            threads.into_iter().map(share).collect::<Vec<_>>().join(", "),
            format!("{:.0} %", of(&|round: &Round| round.rate() * round.cpu() / 1e4)),
            format!("{:.2}", of(&|round: &Round| millis(round.answered.p50))),
            format!("{:.2}", of(&|round: &Round| millis(round.answered.p99))),
        ]);
    }
    report.table(&["", "requests/s", "CPU µs/request", "of which", "core 0 busy with it", "p50 ms", "p99 ms"], &rows);
    let ratios = |figure: &dyn Fn(&Round, &Round) -> f64| {
        median(gets.iter().zip(&refreshes).map(|(get, refresh)| figure(get, refresh)))
    };
    let rate = ratios(&|get, refresh| refresh.rate() / get.rate());
    let cpu = ratios(&|get, refresh| get.cpu() / refresh.cpu());
    report.figure("refreshes/s for each authenticated GET/s", &format!("{rate:.2}"), "at least 0.4", Some(rate >= 0.4));
    report.figure("the same by CPU: GETs for the CPU time of a refresh", &format!("1 / {:.2}", 1.0 / cpu), "", None);
}
