//! What attacks cost: the memory, the descriptors and the time of a gateway in a process of its own, and how long its other
//! clients wait meanwhile.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::support::{Backend, Client, Process, Toml, Workplace, free_port};

/// Whether to do all of it, which takes minutes.
pub(crate) fn long() -> bool {
    std::env::var_os("PORTCULLIS_LONG_ATTACKS").is_some()
}

/// A gateway process that listens with TLS and without.
pub(crate) struct Target {
    pub(crate) process: Process,
    /// Without TLS.
    pub(crate) plain: SocketAddr,
}

impl Target {
    pub(crate) fn start(limits: &str, backend: &Backend) -> Self {
        let plain = free_port();
        // TLS is told by its name: a table after these lines would take the certificate for its own.
        let server = "workers = 2\n".to_owned();
        let rest = format!("[[server.listener]]\naddress = \"{plain}\"\ntls = false\n{}", Toml::default().rest);
        let toml = Toml {
            server,
            limits: limits.to_owned(),
            upstream: "keep_alive_timeout = \"1s\"\n".into(),
            rest,
            ..Toml::default()
        };
        Self { process: Process::start(&Arc::new(Workplace::new()), &toml, backend), plain }
    }

    /// Resident memory, in KiB.
    pub(crate) fn memory(&self) -> u64 {
        let status = self.read("status");
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("a process with memory");
        line.trim().trim_end_matches(" kB").parse().expect("a number")
    }

    /// Open descriptors.
    pub(crate) fn descriptors(&self) -> usize {
        std::fs::read_dir(format!("/proc/{}/fd", self.process.child.id())).expect("a process").count()
    }

    /// Time on a processor, in ticks of 10 ms.
    pub(crate) fn ticks(&self) -> u64 {
        let stat = self.read("stat");
        let fields: Vec<&str> = stat.rsplit(") ").next().unwrap_or_default().split(' ').collect();
        [11, 12].map(|at| fields[at].parse::<u64>().expect("a number")).iter().sum()
    }

    fn read(&self, what: &str) -> String {
        std::fs::read_to_string(format!("/proc/{}/{what}", self.process.child.id())).expect("a process")
    }

    /// The sum of a metric over all its labels, or of those with `label`.
    pub(crate) fn metric(&self, name: &str, label: &str) -> f64 {
        let text = Client::plain(self.process.admin).ask("GET /metrics HTTP/1.1\r\nHost: a\r\n\r\n").text();
        let lines = text.lines().filter(|line| line.starts_with(name) && line.contains(label));
        lines.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum()
    }

    /// Descriptors and memory are as they were: within some descriptors and MiB, and in at most 20 s.
    pub(crate) fn settles(&self, descriptors: usize, memory: u64, more_mib: u64) -> Result<(), String> {
        let start = Instant::now();
        loop {
            let now = (self.descriptors(), self.memory());
            if now.0 <= descriptors + 20 && now.1 <= memory + more_mib * 1024 {
                return Ok(());
            }
            if start.elapsed() > Duration::from_secs(20) {
                return Err(format!("{} descriptors and {} KiB after {descriptors} and {memory}", now.0, now.1));
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}

/// Clients that do no harm: two, each with one connection over TLS and one request after the other.
pub(crate) struct Others {
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<Result<Vec<Duration>, String>>>,
}

impl Others {
    pub(crate) fn start(target: &Target) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let threads = [(); 2].map(|()| {
            let (stop, mut client) = (stop.clone(), target.process.connect());
            std::thread::spawn(move || {
                let mut took = Vec::new();
                while !stop.load(Ordering::Relaxed) {
                    let start = Instant::now();
                    client.send("GET /public/others HTTP/1.1\r\nHost: a\r\n\r\n");
                    let reply =
                        client.try_reply(false).map_err(|error| format!("after {:?}: {error}", start.elapsed()))?;
                    if reply.status != 200 {
                        return Err(reply.text());
                    }
                    took.push(start.elapsed());
                    std::thread::sleep(Duration::from_millis(2));
                }
                Ok(took)
            })
        });
        Self { stop, threads: threads.into() }
    }

    /// Ends them: 99 of 100 requests were answered within this time, or one was not.
    pub(crate) fn p99(self) -> Result<Duration, String> {
        self.stop.store(true, Ordering::Relaxed);
        let mut took = Vec::new();
        for thread in self.threads {
            took.extend(thread.join().expect("no panic")?);
        }
        took.sort_unstable();
        Ok(took[(took.len() * 99 / 100).min(took.len() - 1)])
    }

    /// The same while nothing else happens.
    pub(crate) fn alone(target: &Target) -> Duration {
        let others = Self::start(target);
        std::thread::sleep(Duration::from_secs(1));
        others.p99().expect("all were answered")
    }
}

/// Whether others were served `during` an attack as they were `before`: a build for tests on a machine that does other
/// things has noise of its own, of seconds when every processor is taken.
pub(crate) fn still_served(before: Duration, during: &Result<Duration, String>) -> bool {
    during.as_ref().is_ok_and(|during| *during <= before * 20 + Duration::from_secs(3))
}
