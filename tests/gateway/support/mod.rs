//! What the tests stand on: a gateway started from TOML, a recording backend, and clients that say exactly what they are
//! told to.

mod authority;
mod client;
mod counts;
mod dns;
mod http2;
mod http2_client;
mod leaks;
mod process;
mod switching;
mod upstream;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use portcullis::app::App;
use portcullis::clock::UnixTime;
use portcullis::config::Config;
use portcullis::ids::{SessionId, UserId};
use portcullis::revocation::EndReason;
use portcullis::session::{NewSession, TokenPair};

pub(crate) use authority::{Authority, Issued, tls_backend, tls_backend_answering};
pub(crate) use client::{AnyCertificate, Client, Reply, tls_config};
pub(crate) use counts::{CountingBackend, eventually, metric};
pub(crate) use dns::Dns;
pub(crate) use http2::{Http2Server, RawHttp2, frame};
pub(crate) use http2_client::connect_http2;
pub(crate) use leaks::{ADMIN_TOKEN, leaks};
pub(crate) use process::{Ended, Process, command, ended, ends, ends_with_input, free_port, portcullis, signal};
pub(crate) use switching::Switching;
pub(crate) use upstream::{Answer, Backend};

/// A directory with a certificate for `localhost`, removed at the end.
pub(crate) struct Workplace {
    dir: tempfile::TempDir,
}

impl Workplace {
    pub(crate) fn new() -> Self {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let names = ["localhost", "shop.example", "127.0.0.1"].map(str::to_owned);
        let rcgen::CertifiedKey { cert, signing_key } =
            rcgen::generate_simple_self_signed(names).expect("a certificate");
        std::fs::write(dir.path().join("cert.pem"), cert.pem()).expect("written");
        std::fs::write(dir.path().join("key.pem"), signing_key.serialize_pem()).expect("written");
        std::fs::write(dir.path().join("admin-token"), format!("{ADMIN_TOKEN}\n")).expect("written");
        Self { dir }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub(crate) fn root(&self) -> &Path {
        self.dir.path()
    }

    pub(crate) fn client(&self, address: SocketAddr) -> Client {
        Client::tls(address, &self.path("cert.pem"))
    }
}

/// The configuration most tests start from. `extra` may add to any of the tables by repeating their header as
/// `# server`, `# session`, `# limits` comment lines are replaced.
pub(crate) struct Toml {
    pub(crate) server: String,
    pub(crate) session: String,
    pub(crate) store: String,
    pub(crate) limits: String,
    pub(crate) upstream: String,
    pub(crate) rest: String,
    pub(crate) tls: bool,
}

impl Default for Toml {
    fn default() -> Self {
        Self {
            server: "workers = 2\n".into(),
            session: String::new(),
            store: "path = \"data\"\n".into(),
            limits: String::new(),
            upstream: String::new(),
            rest: "[[route]]\npath = \"/\"\nupstream = \"app\"\n\
                   [[route]]\npath = \"/public\"\nupstream = \"app\"\nauth = \"public\"\n\
                   [[route]]\npath = \"/optional\"\nupstream = \"app\"\nauth = \"optional\"\n"
                .into(),
            tls: true,
        }
    }
}

impl Toml {
    pub(crate) fn text(&self, servers: &[SocketAddr]) -> String {
        self.text_before(&servers.iter().map(|server| format!("http://{server}")).collect::<Vec<_>>())
    }

    /// The same with servers as the file writes them.
    pub(crate) fn text_before(&self, servers: &[String]) -> String {
        let servers: Vec<String> = servers.iter().map(|server| format!("{server:?}")).collect();
        let certificate = "[[server.tls.certificate]]\nchain = \"cert.pem\"\nkey = \"key.pem\"\n";
        format!(
            "[server]\nlisten = [\"127.0.0.1:0\"]\n{}{}\n\
             [admin]\nlisten = \"127.0.0.1:0\"\ntoken = \"file:admin-token\"\n\
             [session]\nissuer = \"https://id.test\"\naudience = \"app\"\n{}\n\
             [store]\n{}\n[limits]\n{}\n[log]\naccess = \"off\"\n\
             [upstream.app]\nservers = [{}]\n{}\n{}",
            self.server,
            if self.tls { certificate } else { "" },
            self.session,
            self.store,
            self.limits,
            servers.join(", "),
            self.upstream,
            self.rest,
        )
    }
}

/// A gateway in this process, on ports of its own.
pub(crate) struct Gateway {
    app: Option<App>,
    pub(crate) place: Arc<Workplace>,
    pub(crate) address: SocketAddr,
    tls: bool,
}

impl Gateway {
    /// In front of `backend`, as the default configuration says.
    pub(crate) fn start(backend: &Backend) -> Self {
        Self::with(&Toml::default(), &[backend.address])
    }

    pub(crate) fn with(toml: &Toml, servers: &[SocketAddr]) -> Self {
        Self::at(Arc::new(Workplace::new()), toml, servers)
    }

    /// In a workplace that may hold the store of an earlier one.
    pub(crate) fn at(place: Arc<Workplace>, toml: &Toml, servers: &[SocketAddr]) -> Self {
        Self::of(place, toml, &toml.text(servers))
    }

    /// In front of servers as the file writes them, such as `https://localhost:8443`.
    pub(crate) fn before(place: Arc<Workplace>, toml: &Toml, servers: &[String]) -> Self {
        Self::of(place, toml, &toml.text_before(servers))
    }

    /// In front of servers with weights.
    pub(crate) fn weighted(toml: &Toml, servers: &[(SocketAddr, u32)]) -> Self {
        let plain = servers.iter().map(|(address, _)| *address).collect::<Vec<_>>();
        let text = servers.iter().fold(toml.text(&plain), |text, (address, weight)| {
            text.replace(
                &format!("\"http://{address}\""),
                &format!("{{ url = \"http://{address}\", weight = {weight} }}"),
            )
        });
        Self::of(Arc::new(Workplace::new()), toml, &text)
    }

    fn of(place: Arc<Workplace>, toml: &Toml, text: &str) -> Self {
        let mut config =
            Config::parse(text, "test.toml", place.root()).unwrap_or_else(|faults| panic!("{faults}\n{text}"));
        config.server.fast_lane &= std::env::var_os("PORTCULLIS_TEST_WITHOUT_FAST_LANE").is_none();
        let app = App::start(config).unwrap_or_else(|error| panic!("{error:?}"));
        let address = app.listening()[0];
        Self { app: Some(app), place, address, tls: toml.tls }
    }

    pub(crate) fn app(&self) -> &App {
        self.app.as_ref().expect("running until dropped")
    }

    /// A new connection.
    pub(crate) fn connect(&self) -> Client {
        if self.tls { self.place.client(self.address) } else { Client::plain(self.address) }
    }

    /// A session of `user`.
    pub(crate) fn sign_in(&self, user: &str) -> TokenPair {
        let new = NewSession { user: UserId::parse(user).expect("a user id"), label: None, claims: None };
        let sessions = self.app().gateway().sessions.clone();
        self.app().block_on(async move { sessions.sign_in(new, UnixTime::now()).await }).expect("signed in")
    }

    /// Ends a session.
    pub(crate) fn end(&self, session: SessionId, reason: EndReason) {
        let sessions = self.app().gateway().sessions.clone();
        let end = async move { sessions.end(session, reason, UnixTime::now()).await };
        assert!(self.app().block_on(end).expect("a store that answers"), "there was one");
    }

    /// Stops it and gives the workplace back.
    pub(crate) fn stop(mut self) -> Arc<Workplace> {
        self.app.take().expect("running").stop().expect("stopped cleanly");
        self.place.clone()
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        if let Some(app) = self.app.take() {
            // A failing test must not wait for the drain deadline of its connections: threads end with the process.
            if std::thread::panicking() {
                std::mem::forget(app);
            } else {
                let _ = app.stop();
            }
        }
    }
}

/// `GET path` with a token.
pub(crate) fn get(path: &str, token: Option<&str>) -> String {
    let authorization = token.map(|token| format!("Authorization: Bearer {token}\r\n")).unwrap_or_default();
    format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n{authorization}\r\n")
}

/// A WebSocket handshake.
pub(crate) fn handshake(path: &str, token: Option<&str>) -> String {
    let authorization = token.map(|token| format!("Authorization: Bearer {token}\r\n")).unwrap_or_default();
    format!(
        "GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: keep-alive, Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n{authorization}\r\n"
    )
}

/// `POST path` with a body.
pub(crate) fn post(path: &str, kind: &str, body: &str) -> String {
    format!(
        "POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: {kind}\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
}

/// `POST /auth/refresh` as JSON.
pub(crate) fn refresh(token: &str) -> String {
    post("/auth/refresh", "application/json", &format!("{{\"refresh_token\":\"{token}\"}}"))
}
