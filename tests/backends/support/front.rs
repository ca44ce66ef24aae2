//! The gateway in front.

use std::fs;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::common::{Client, Process, Reply, Toml, Workplace, refresh};
use super::eventually;

/// Open sockets are counted from outside, which a process without core dumps does not let its own user do.
const SEEN_INTO: &str = "[sandbox]\ncore_dumps = true\n";

/// What a login backend gets.
#[derive(Clone, Debug)]
pub(crate) struct SignedIn {
    pub(crate) session: String,
    pub(crate) access: String,
    refresh: String,
}

/// A gateway process in front of servers, and a user who is signed in.
pub(crate) struct Front {
    process: Process,
    tls: bool,
    /// The access token of the user `ann`.
    pub(crate) access: String,
}

impl Front {
    /// With TLS, and otherwise as most tests have it.
    pub(crate) fn of(server: SocketAddr) -> Self {
        Self::with(&Toml::default(), &[server])
    }

    pub(crate) fn with(toml: &Toml, servers: &[SocketAddr]) -> Self {
        let process = Process::start_with(&Arc::new(Workplace::new()), &format!("{}\n{SEEN_INTO}", toml.text(servers)));
        let (access, _) = process.sign_in("ann");
        Self { process, tls: toml.tls, access }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.process.address
    }

    /// A new connection.
    pub(crate) fn connect(&self) -> Client {
        if self.tls { self.process.connect() } else { Client::plain(self.process.address) }
    }

    /// An address as clients write it.
    pub(crate) fn url(&self, path: &str) -> String {
        let scheme = if self.tls { "https" } else { "http" };
        format!("{scheme}://localhost:{}{path}", self.process.address.port())
    }

    /// The certificate that clients trust.
    pub(crate) fn certificate(&self) -> PathBuf {
        self.process.place.path("cert.pem")
    }

    /// Another session.
    pub(crate) fn sign_in(&self, user: &str) -> SignedIn {
        let body = format!("{{\"user_id\":\"{user}\"}}");
        let json = self.ask_admin("POST", "/v1/sessions", &body, 201).json();
        let text = |name: &str| json[name].as_str().expect("text").to_owned();
        SignedIn { session: text("session_id"), access: text("access_token"), refresh: text("refresh_token") }
    }

    /// Ends a session through the admin listener.
    pub(crate) fn end(&self, session: &str) {
        self.ask_admin("DELETE", &format!("/v1/sessions/{session}"), "", 204);
    }

    fn ask_admin(&self, method: &str, path: &str, body: &str, expected: u16) -> Reply {
        let reply = Client::plain(self.process.admin).ask(format!(
            "{method} {path} HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer an-admin-token-of-32-characters!\r\n\
             Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        ));
        assert_eq!(reply.status, expected, "{}", reply.text());
        reply
    }

    /// The next pair of the session.
    pub(crate) fn refresh(&self, who: &SignedIn) -> SignedIn {
        let json = self.connect().ask(refresh(&who.refresh)).json();
        let text = |name: &str| json[name].as_str().expect("text").to_owned();
        SignedIn { session: who.session.clone(), access: text("access_token"), refresh: text("refresh_token") }
    }

    /// The user ends the session.
    pub(crate) fn log_out(&self, who: &SignedIn) {
        let access = &who.access;
        let reply = self.connect().ask(format!(
            "POST /auth/logout HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {access}\r\nContent-Length: 0\r\n\r\n"
        ));
        assert_eq!(reply.status, 204, "{}", reply.text());
    }

    /// All events so far.
    pub(crate) fn log(&self) -> String {
        self.process.log()
    }

    /// The sum of a metric over its labels.
    pub(crate) fn metric(&self, name: &str) -> f64 {
        let text = Client::plain(self.process.admin).ask("GET /metrics HTTP/1.1\r\nHost: a\r\n\r\n").text();
        let lines = text.lines().filter(|line| line.starts_with(name));
        lines.filter_map(|line| line.rsplit_once(' ')?.1.parse::<f64>().ok()).sum()
    }

    fn proc(&self, file: &str) -> PathBuf {
        PathBuf::from(format!("/proc/{}/{file}", self.process.child.id()))
    }

    /// Open sockets: listeners, clients and servers.
    pub(crate) fn sockets(&self) -> usize {
        let open = fs::read_dir(self.proc("fd")).expect("running").flatten();
        let targets = open.filter_map(|entry| fs::read_link(entry.path()).ok());
        targets.filter(|target| target.to_string_lossy().starts_with("socket:")).count()
    }

    /// Open sockets while nobody is there: waits until those of the start are closed.
    pub(crate) fn idle_sockets(&self) -> usize {
        let mut last = Vec::new();
        eventually("the number of sockets stays the same", Duration::from_secs(10), || {
            std::thread::sleep(Duration::from_millis(50));
            last.push(self.sockets());
            let same = last.iter().rev().take(4).all(|count| Some(count) == last.last());
            (last.len() >= 4 && same).then(|| self.sockets())
        })
    }

    /// Waits until it has at most so many sockets open, and returns how long that took.
    pub(crate) fn settles_at(&self, most: usize) -> Duration {
        let start = Instant::now();
        eventually(&format!("at most {most} sockets are open"), Duration::from_secs(20), || {
            (self.sockets() <= most).then_some(())
        });
        start.elapsed()
    }

    fn status_kib(&self, field: &str) -> u64 {
        let status = fs::read_to_string(self.proc("status")).expect("running");
        let line =
            status.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':')).expect("a field of Linux");
        line.trim().trim_end_matches(" kB").parse().expect("a number")
    }

    /// Memory in use, in MiB.
    pub(crate) fn memory(&self) -> u64 {
        self.status_kib("VmRSS") / 1024
    }

    /// The most memory in use since [`Self::forget_peak`], in MiB.
    pub(crate) fn peak_memory(&self) -> u64 {
        self.status_kib("VmHWM") / 1024
    }

    /// Measures the peak from now on.
    pub(crate) fn forget_peak(&self) {
        fs::write(self.proc("clear_refs"), "5").expect("our own process");
    }
}
