//! The real program: as a gateway, and as a command that ends.

use std::io::Write as _;
use std::net::{SocketAddr, TcpListener};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::{Backend, Client, Toml, Workplace, leaks};

/// The program, with nothing of the environment that could name a configuration.
pub(crate) fn portcullis() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_portcullis"));
    command.env_remove("PORTCULLIS_CONFIG").env_remove("PORTCULLIS_ADMIN");
    command
}

/// A loopback address that nobody has at the moment: for files that must name a port.
pub(crate) fn free_port() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").expect("bound").local_addr().expect("bound")
}

/// A gateway process on ports of its own, killed when dropped.
pub(crate) struct Process {
    pub(crate) child: Child,
    pub(crate) place: Arc<Workplace>,
    pub(crate) address: SocketAddr,
    pub(crate) admin: SocketAddr,
}

impl Process {
    /// From the file `portcullis.toml` that this writes: `toml` with other ports.
    pub(crate) fn start(place: &Arc<Workplace>, toml: &Toml, backend: &Backend) -> Self {
        Self::start_with(place, &toml.text(&[backend.address]))
    }

    /// From a text that listens on `127.0.0.1:0` twice, which is replaced.
    pub(crate) fn start_with(place: &Arc<Workplace>, text: &str) -> Self {
        let (address, admin) = (free_port(), free_port());
        let text = text.replacen("listen = [\"127.0.0.1:0\"]", &format!("listen = [\"{address}\"]"), 1).replacen(
            "listen = \"127.0.0.1:0\"",
            &format!("listen = \"{admin}\""),
            1,
        );
        std::fs::write(place.path("portcullis.toml"), text).expect("written");
        Self::serve(place, address, admin)
    }

    /// What the file `portcullis.toml` says, which are these addresses. Its events are appended to `log`, its access log
    /// to `access`.
    pub(crate) fn serve(place: &Arc<Workplace>, address: SocketAddr, admin: SocketAddr) -> Self {
        let file = |name| {
            let path = place.path(name);
            std::fs::OpenOptions::new().create(true).append(true).open(path).expect("opened")
        };
        let child = portcullis()
            .args(["run", "--config"])
            .arg(place.path("portcullis.toml"))
            .stdout(file("access"))
            .stderr(file("log"))
            .spawn()
            .expect("started");
        let mut process = Self { child, place: place.clone(), address, admin };
        process.wait_until_ready();
        process
    }

    fn wait_until_ready(&mut self) {
        let start = Instant::now();
        loop {
            if std::net::TcpStream::connect(self.admin).is_ok()
                && Client::plain(self.admin).ask("GET /readyz HTTP/1.1\r\nHost: a\r\n\r\n").status == 200
            {
                return;
            }
            assert!(self.child.try_wait().expect("ours").is_none(), "ended: {}", self.log());
            assert!(start.elapsed() < Duration::from_secs(30), "not ready: {}", self.log());
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// All events so far.
    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(self.place.path("log")).expect("read")
    }

    pub(crate) fn connect(&self) -> Client {
        self.place.client(self.address)
    }

    /// Access and refresh token of a new session, as a login backend gets them.
    pub(crate) fn sign_in(&self, user: &str) -> (String, String) {
        let body = format!("{{\"user_id\":\"{user}\"}}");
        let reply = Client::plain(self.admin).ask(format!(
            "POST /v1/sessions HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer an-admin-token-of-32-characters!\r\n\
             Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        ));
        assert_eq!(reply.status, 201, "{}", reply.text());
        let json = reply.json();
        let text = |name: &str| json[name].as_str().expect("a token").to_owned();
        (text("access_token"), text("refresh_token"))
    }

    /// A command about this gateway: its configuration is that of `portcullis.toml`.
    pub(crate) fn command(&self, words: &[&str]) -> Ended {
        command(words, &["--config", self.place.path("portcullis.toml").to_str().expect("text")])
    }

    pub(crate) fn signal(&self, name: &str) {
        signal(&self.child, name);
    }

    /// Asks it to stop and waits for that.
    pub(crate) fn stop(mut self) -> ExitStatus {
        self.signal("TERM");
        self.child.wait().expect("ours")
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Already gone is as good.
        drop(self.child.kill());
        drop(self.child.wait());
        // Whatever the test was about: no process may write a secret down. One failure is enough for a test.
        if !std::thread::panicking() {
            for output in ["log", "access"] {
                let bytes = std::fs::read(self.place.path(output)).expect("read");
                let found = leaks(&String::from_utf8_lossy(&bytes), self.place.root());
                assert!(found.is_empty(), "secrets in {output}: {found:?}");
            }
        }
    }
}

pub(crate) fn signal(child: &Child, name: &str) {
    let done = Command::new("kill").args([&format!("-{name}"), &child.id().to_string()]).status().expect("started");
    assert!(done.success());
}

/// What a command said, and how it ended.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) code: i32,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Ended {
    /// The one JSON document on standard output.
    pub(crate) fn json(&self) -> serde_json::Value {
        assert_eq!(self.out.lines().count(), 1, "{self:?}");
        serde_json::from_str(&self.out).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// The result of a command that must have succeeded, with nothing else to say.
    pub(crate) fn done(&self) -> &str {
        assert_eq!((self.code, self.err.as_str()), (0, ""), "{self:?}");
        &self.out
    }

    /// What a command says that could not do its work: nothing on standard output.
    pub(crate) fn failed(&self, code: i32) -> &str {
        assert_eq!((self.code, self.out.as_str()), (code, ""), "{self:?}");
        assert!(!self.err.contains("panicked"), "{self:?}");
        &self.err
    }
}

/// Runs the program with `words`, then `more`, to its end.
pub(crate) fn command(words: &[&str], more: &[&str]) -> Ended {
    let mut program = portcullis();
    program.args(words).args(more);
    ended(program)
}

/// Runs to its end, which must come soon.
pub(crate) fn ended(command: Command) -> Ended {
    let output = ends(command);
    let text = |bytes| String::from_utf8(bytes).expect("text");
    Ended { code: output.status.code().unwrap_or(-1), out: text(output.stdout), err: text(output.stderr) }
}

/// Runs to its end, which must come soon.
pub(crate) fn ends(mut command: Command) -> Output {
    let child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("started");
    wait(child)
}

/// Runs to its end with `input` on standard input.
pub(crate) fn ends_with_input(mut command: Command, input: &str) -> Output {
    let mut child =
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("started");
    child.stdin.take().expect("piped").write_all(input.as_bytes()).expect("written");
    wait(child)
}

fn wait(child: Child) -> Output {
    let id = child.id().to_string();
    let (done, ended) = std::sync::mpsc::channel();
    let thread = std::thread::spawn(move || {
        let output = child.wait_with_output().expect("read");
        // The test may have given up.
        let _ = done.send(());
        output
    });
    let late = ended.recv_timeout(Duration::from_secs(30)).is_err();
    if late {
        drop(Command::new("kill").args(["-KILL", &id]).status());
    }
    let output = thread.join().expect("a reader");
    assert!(!late, "still running: {}", String::from_utf8_lossy(&output.stderr));
    output
}
