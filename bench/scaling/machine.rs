//! The machine that is measured on, and what a process on it used.

use std::collections::BTreeMap;
use std::fs;
use std::sync::OnceLock;
use std::time::Duration;

use rustix::thread::{CpuSet, sched_setaffinity};

/// Clock ticks of a second, in which the kernel counts for every process.
const TICKS_PER_SECOND: u64 = 100;

/// What this thread and those that it starts, processes too, run on from now on.
pub(crate) fn run_on(cores: impl IntoIterator<Item = usize>) {
    let mut set = CpuSet::new();
    cores.into_iter().for_each(|core| set.set(core));
    sched_setaffinity(None, &set).expect("these cores");
}

/// How many there were when this was asked first: later, a thread is told how many it may run on.
pub(crate) fn cores() -> usize {
    static CORES: OnceLock<usize> = OnceLock::new();
    *CORES.get_or_init(|| std::thread::available_parallelism().map_or(1, usize::from))
}

/// Cores, model, kernel and file system of the stores, in a line.
pub(crate) fn describe(store: &std::path::Path) -> String {
    let read = |file| fs::read_to_string(file).unwrap_or_default();
    let cpu = read("/proc/cpuinfo");
    let model = cpu.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    let mounts = read("/proc/self/mounts");
    // The longest place that the store is below.
    let below = mounts.lines().filter_map(|line| {
        let mut words = line.split(' ').skip(1);
        let (place, kind) = (words.next()?, words.next()?);
        store.starts_with(place).then_some((place.len(), kind))
    });
    let kind = below.max().map_or("unknown", |(_, kind)| kind);
    format!(
        "{} cores, {}, Linux {}, store on {kind}",
        cores(),
        model.map_or("unknown", |(_, model)| model.trim()),
        read("/proc/sys/kernel/osrelease").trim(),
    )
}

/// CPU time of a process so far, by the name of its threads.
pub(crate) fn cpu_by_thread(pid: u32) -> BTreeMap<String, Duration> {
    let mut used = BTreeMap::new();
    for entry in fs::read_dir(format!("/proc/{pid}/task")).expect("a process that runs").flatten() {
        // A thread that ends meanwhile has little to tell.
        let Ok(stat) = fs::read_to_string(entry.path().join("stat")) else { continue };
        let Some((name, rest)) = stat.split_once('(').and_then(|(_, rest)| rest.rsplit_once(") ")) else { continue };
        let ticks = rest.split(' ').skip(11).take(2).filter_map(|ticks| ticks.parse::<u64>().ok()).sum::<u64>();
        let name = name.trim_end_matches(|last: char| last.is_ascii_digit() || last == '-').to_owned();
        *used.entry(name).or_default() += Duration::from_millis(ticks * 1000 / TICKS_PER_SECOND);
    }
    used
}

/// Memory of a process that is its own: resident and not of a file, in bytes.
pub(crate) fn memory(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("a process that runs");
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).expect("Linux 4.5 or later");
    line.trim().trim_end_matches(" kB").parse::<u64>().expect("a number") * 1024
}
