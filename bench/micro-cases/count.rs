//! Instructions of a step, counted by valgrind: the same on a busy machine as on a quiet one, and on another machine as
//! long as the compiler, the C library and what the processor can do for valgrind (AVX2) are the same.

use std::collections::BTreeMap;
use std::process::{Command, ExitCode};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::case::{Case, How, Work};
use super::cases;

/// The word that a counted process is started with.
pub(crate) const ONE: &str = "one";
/// How often a step is done for a count, after [`WARM`] that are not counted.
const TIMES: u32 = 48;
/// For what is made once and kept: buffers, tables, symbols.
const WARM: u32 = 3;

/// Dearer by more than this part is told, and is a failure. Hashes are keyed anew in every process, and that alone moves
/// a count by a part in a thousand or two.
const TOLERATED: f64 = 0.02;
/// And by more than so many instructions, about three nanoseconds.
const NEGLIGIBLE: u64 = 20;

/// What was counted when this was committed.
const BASELINE: &str = include_str!("../results/micro.md");

/// Does the work of a case, for whoever counts instructions between the beginning and the end of [`counted`].
pub(crate) fn run(case: &Case, times: u32) {
    let mut work = (case.prepare)();
    for _ in 0..WARM {
        work.make_ready();
        work.run();
    }
    for _ in 0..times {
        work.make_ready();
        counted(&mut *work);
    }
}

/// Valgrind counts from here to its end. Never inlined, for it would not be found then.
#[inline(never)]
fn counted(work: &mut dyn Work) {
    work.run();
    // Something after it, or this would be a jump and no call.
    std::hint::black_box(());
}

/// Counts all cases whose name has one of `filters`, prints them beside what they were, and fails if one got dearer.
pub(crate) fn compare(filters: &[&str]) -> ExitCode {
    let before = baseline();
    let counts = count(|name| filters.is_empty() || filters.iter().any(|filter| name.contains(filter)));
    let mut dearer = 0;
    println!("{:<58} {:>12} {:>12} {:>7}", "instructions of a step", "now", "baseline", "ratio");
    for (name, now) in &counts {
        let Some(&was) = before.get(name) else {
            println!("{name:<58} {now:>12} {:>12}", "none");
            continue;
        };
        let ratio = ratio(*now, was);
        let is_dearer = ratio > 1.0 + TOLERATED && *now > was + NEGLIGIBLE;
        let is_cheaper = ratio < 1.0 - TOLERATED && was > *now + NEGLIGIBLE;
        dearer += usize::from(is_dearer);
        let mark = if is_dearer {
            "  dearer"
        } else if is_cheaper {
            "  cheaper"
        } else {
            ""
        };
        println!("{name:<58} {now:>12} {was:>12} {ratio:>7.3}{mark}");
    }
    if counts.is_empty() {
        eprintln!("no step has such a name");
        return ExitCode::FAILURE;
    }
    if dearer > 0 {
        println!("\n{dearer} of {} got dearer. If that is worth it: bench/micro save", counts.len());
        return ExitCode::FAILURE;
    }
    ExitCode::SUCCESS
}

/// Prints all counts as the table of the results, which [`baseline`] reads.
pub(crate) fn table() -> ExitCode {
    println!("| step | instructions |\n|---|---:|");
    for (name, count) in count(|_| true) {
        println!("| {name} | {count} |");
    }
    ExitCode::SUCCESS
}

fn baseline() -> BTreeMap<&'static str, u64> {
    let row = |line: &'static str| {
        let mut cells = line.strip_prefix('|')?.split('|').map(str::trim);
        Some((cells.next()?, cells.next()?.parse().ok()?))
    };
    BASELINE.lines().filter_map(row).collect()
}

#[expect(clippy::cast_precision_loss, reason = "counts are far below 2^52")]
fn ratio(now: u64, was: u64) -> f64 {
    now as f64 / was.max(1) as f64
}

/// Instructions of each case that is wanted, in their order; as many at once as there are processors.
fn count(wanted: impl Fn(&str) -> bool) -> Vec<(&'static str, u64)> {
    let wanted: Vec<&Case> = cases().filter(|case| case.how != How::Timed && wanted(case.name)).collect();
    let (next, counts) = (AtomicUsize::new(0), Mutex::new(BTreeMap::new()));
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                while let Some(case) = wanted.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let count = counted_by_valgrind(case.name);
                    counts.lock().expect("no other thread has failed").insert(case.name, count);
                }
            });
        }
    });
    let counts = counts.into_inner().expect("no thread has failed");
    wanted.iter().map(|case| (case.name, counts[case.name])).collect()
}

fn counted_by_valgrind(name: &str) -> u64 {
    let program = std::env::current_exe().expect("the system tells which file this is");
    let output = Command::new("valgrind")
        .args(["--tool=callgrind", "--callgrind-out-file=/dev/null", "--toggle-collect=*count*counted*"])
        .arg(program)
        .args([ONE, name, &TIMES.to_string()])
        .output()
        .expect("valgrind can be started");
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{name}: {told}");
    let collected = told.lines().find_map(|line| line.split_once("Collected : ")?.1.trim().parse::<u64>().ok());
    let collected = collected.unwrap_or_else(|| panic!("{name}: valgrind tells no count: {told}"));
    assert!(collected > 0, "{name}: the step was not found");
    collected.div_ceil(u64::from(TIMES))
}
