//! Gateway processes that share one store and one directory of keys, and what is asked of them.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::common::{Backend, Client, Process, Reply, Toml, Workplace, ends, free_port, portcullis};
use super::eventually;
use super::ports::lasting_port;

/// A route that goes on while nothing is heard from the store, one that then refuses, and one for everybody.
const ROUTES: &str = "[[route]]\npath = \"/\"\nupstream = \"app\"\n\
    [[route]]\npath = \"/strict\"\nupstream = \"app\"\nwhen_stale = \"refuse\"\n\
    [[route]]\npath = \"/public\"\nupstream = \"app\"\nauth = \"public\"\n";

/// The configuration of gateways on `store`, the lines of `[store]`: plain HTTP, and no limit to refreshes.
pub(crate) fn shared(store: &str) -> Toml {
    Toml {
        store: format!("{store}\n"),
        limits: "refreshes_per_session = \"unlimited\"\nrefreshes_per_address = \"unlimited\"\n".into(),
        rest: ROUTES.into(),
        tls: false,
        ..Toml::default()
    }
}

/// Gateways that come back to their addresses when they are started again.
pub(crate) struct Gateways {
    all: Vec<Member>,
    keys: tempfile::TempDir,
    backend: Backend,
}

struct Member {
    place: Arc<Workplace>,
    address: SocketAddr,
    admin: SocketAddr,
    process: Option<Process>,
}

impl Member {
    fn start(&mut self) {
        assert!(self.process.is_none(), "it runs");
        self.process = Some(Process::serve(&self.place, self.address, self.admin));
    }
}

impl Gateways {
    /// So many with the same configuration, each in its own directory, started at the same time; all of them ready.
    pub(crate) fn start(count: usize, toml: &Toml) -> Self {
        Self::start_on(count, toml, tempfile::tempdir().expect("a temporary directory"))
    }

    fn start_on(count: usize, toml: &Toml, keys: tempfile::TempDir) -> Self {
        let mut gateways = Self { all: Vec::new(), keys, backend: Backend::start() };
        for _ in 0..count {
            gateways.prepare(toml);
        }
        // One of them makes the keys.
        std::thread::scope(|scope| {
            for member in &mut gateways.all {
                scope.spawn(|| member.start());
            }
        });
        gateways
    }

    /// The same, with the keys that another gateway had in `keys`.
    pub(crate) fn start_with_keys(count: usize, toml: &Toml, keys: &Path) -> Self {
        let copy = tempfile::tempdir().expect("a temporary directory");
        let done = Command::new("cp").arg("-a").arg(keys.join(".")).arg(copy.path()).status().expect("started");
        assert!(done.success());
        Self::start_on(count, toml, copy)
    }

    /// Another one, not yet started, in a workplace of its own.
    fn prepare(&mut self, toml: &Toml) {
        let place = Arc::new(Workplace::new());
        let (address, admin) = (lasting_port(), lasting_port());
        std::fs::write(place.path("portcullis.toml"), self.text(toml, address, admin)).expect("written");
        self.all.push(Member { place, address, admin, process: None });
    }

    fn text(&self, toml: &Toml, address: SocketAddr, admin: SocketAddr) -> String {
        let mut text = toml.text(&[self.backend.address]);
        for (any, own) in [("listen = [\"127.0.0.1:0\"]", address), ("listen = \"127.0.0.1:0\"", admin)] {
            text = text.replacen(any, &any.replace("127.0.0.1:0", &own.to_string()), 1);
        }
        let mut keys = String::new();
        write!(keys, "[session]\nkeys = \"{}\"", self.keys.path().display()).expect("a string takes all");
        text.replacen("[session]", &keys, 1)
    }

    pub(crate) fn count(&self) -> usize {
        self.all.len()
    }

    pub(crate) fn public(&self, index: usize) -> SocketAddr {
        self.all[index].address
    }

    pub(crate) fn admin(&self, index: usize) -> SocketAddr {
        self.all[index].admin
    }

    /// A connection to a gateway that is there.
    pub(crate) fn connect(&self, index: usize) -> Client {
        Client::plain(self.all[index].address)
    }

    /// `kill -9`
    pub(crate) fn kill(&mut self, index: usize) {
        // Dropping does it, and waits for the end.
        drop(self.all[index].process.take().expect("running"));
    }

    /// Starts it again with its configuration, and waits until it is ready.
    pub(crate) fn start_again(&mut self, index: usize) {
        self.all[index].start();
    }

    pub(crate) fn pause(&self, index: usize) {
        self.all[index].process.as_ref().expect("running").signal("STOP");
    }

    pub(crate) fn resume(&self, index: usize) {
        self.all[index].process.as_ref().expect("running").signal("CONT");
    }

    /// A session of `user`, made at one of the gateways.
    pub(crate) fn sign_in(&self, index: usize, user: &str) -> SignedIn {
        let reply = Client::plain(self.all[index].admin).ask(admin::sign_in(user));
        SignedIn::from(&reply).unwrap_or_else(|| panic!("{} {}", reply.status, reply.text()))
    }

    /// What `/metrics` says, without labels.
    pub(crate) fn metric(&self, index: usize, name: &str) -> Option<f64> {
        metric(self.all[index].admin, name)
    }

    /// Waits until every gateway reaches its store and has heard of all ends of sessions.
    pub(crate) fn wait_until_fresh(&self) {
        for index in 0..self.count() {
            eventually("the gateway is up to date with its store", Duration::from_secs(15), || self.is_fresh(index));
        }
    }

    fn is_fresh(&self, index: usize) -> Option<()> {
        let reachable = self.metric(index, "portcullis_store_reachable")? > 0.5;
        (reachable && self.metric(index, "portcullis_revocation_lag_seconds")? < 1.0).then_some(())
    }

    /// What starting one more gateway with this configuration says, which must fail.
    pub(crate) fn fails_to_start(&self, toml: &Toml, files: &[(&str, &str)]) -> String {
        let place = Workplace::new();
        for (name, content) in files {
            std::fs::write(place.path(name), content).expect("written");
        }
        std::fs::write(place.path("portcullis.toml"), self.text(toml, free_port(), free_port())).expect("written");
        let mut command = portcullis();
        command.args(["run", "--config"]).arg(place.path("portcullis.toml"));
        let output = ends(command);
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(1), "{text}");
        assert!(!text.contains("panicked"), "{text}");
        text
    }
}

fn metric(admin: SocketAddr, name: &str) -> Option<f64> {
    let mut client = Client::try_plain(admin, Duration::from_secs(2)).ok()?;
    client.try_send("GET /metrics HTTP/1.1\r\nHost: a\r\n\r\n").ok()?;
    let text = client.try_reply(false).ok()?.text();
    text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.parse().ok())
}

/// What a login backend gets.
#[derive(Clone, Debug)]
pub(crate) struct SignedIn {
    pub(crate) session: String,
    pub(crate) access: String,
    pub(crate) refresh: String,
}

impl SignedIn {
    /// `None` unless the reply is a 201.
    pub(crate) fn from(reply: &Reply) -> Option<Self> {
        if reply.status != 201 {
            return None;
        }
        let json = reply.json();
        let text = |name: &str| json[name].as_str().expect("text").to_owned();
        Some(Self { session: text("session_id"), access: text("access_token"), refresh: text("refresh_token") })
    }
}

/// `POST /auth/logout` with an access token.
pub(crate) fn logout(access: &str) -> String {
    format!("POST /auth/logout HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {access}\r\nContent-Length: 0\r\n\r\n")
}

/// Requests to an admin listener.
pub(crate) mod admin {
    const AUTHORIZATION: &str = "Host: a\r\nAuthorization: Bearer an-admin-token-of-32-characters!\r\n";

    pub(crate) fn sign_in(user: &str) -> String {
        let body = format!("{{\"user_id\":\"{user}\"}}");
        format!(
            "POST /v1/sessions HTTP/1.1\r\n{AUTHORIZATION}Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        )
    }

    pub(crate) fn list(user: &str, more: &str) -> String {
        format!("GET /v1/sessions?user_id={user}{more} HTTP/1.1\r\n{AUTHORIZATION}\r\n")
    }

    pub(crate) fn end(session: &str) -> String {
        format!("DELETE /v1/sessions/{session} HTTP/1.1\r\n{AUTHORIZATION}\r\n")
    }

    pub(crate) fn end_user(user: &str) -> String {
        format!("DELETE /v1/users/{user}/sessions HTTP/1.1\r\n{AUTHORIZATION}\r\n")
    }
}

/// A client that keeps its connection to one listener, and makes a new one after it was lost.
pub(crate) struct Caller {
    address: SocketAddr,
    patience: Duration,
    client: Option<Client>,
    opened: Instant,
}

impl Caller {
    /// A reply that takes longer than `patience` is an error.
    pub(crate) fn new(address: SocketAddr, patience: Duration) -> Self {
        Self { address, patience, client: None, opened: Instant::now() }
    }

    /// When the connection of the last request was opened.
    pub(crate) fn opened(&self) -> Instant {
        self.opened
    }

    /// One request, sent once.
    pub(crate) fn ask(&mut self, request: impl AsRef<[u8]>) -> std::io::Result<Reply> {
        let mut client = match self.client.take() {
            Some(client) => client,
            None => {
                self.opened = Instant::now();
                Client::try_plain(self.address, self.patience)?
            }
        };
        client.try_send(request)?;
        let reply = client.try_reply(false)?;
        self.client = Some(client);
        Ok(reply)
    }
}
