//! A server as a process of its own.

use std::net::{SocketAddr, TcpStream};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use super::eventually;
use super::ports::lasting_port;

/// How long a server may take until it takes connections, or until it is gone.
const PATIENCE: Duration = Duration::from_secs(30);

type MakeCommand = dyn Fn(SocketAddr, &Path) -> Command + Send + Sync;

/// A server on a loopback address that it comes back to, with a directory of its own. All its processes are killed when
/// it is dropped.
pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    command: Box<MakeCommand>,
    child: Option<Child>,
    dir: tempfile::TempDir,
}

impl Server {
    /// Starts what `command` makes of an address and a directory, and waits until it takes connections.
    pub(crate) fn start(command: impl Fn(SocketAddr, &Path) -> Command + Send + Sync + 'static) -> Self {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let mut server = Self { address: lasting_port(), command: Box::new(command), child: None, dir };
        server.start_again();
        server
    }

    pub(crate) fn start_again(&mut self) {
        assert!(self.child.is_none(), "it runs");
        let log = std::fs::OpenOptions::new().create(true).append(true).open(self.log_file()).expect("opened");
        let mut command = (self.command)(self.address, self.dir.path());
        // A group of its own: workers are signalled together with the process that started them.
        command.process_group(0).stdin(Stdio::null());
        command.stdout(log.try_clone().expect("a second handle")).stderr(log);
        self.child = Some(command.spawn().unwrap_or_else(|error| panic!("{command:?}: {error}")));
        eventually("the server takes connections", PATIENCE, || {
            let ended = self.child.as_mut().expect("just started").try_wait().expect("ours");
            assert!(ended.is_none(), "it ended: {}", self.log());
            TcpStream::connect(self.address).ok()
        });
    }

    fn log_file(&self) -> PathBuf {
        self.dir.path().join("log")
    }

    /// All it said so far.
    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(self.log_file()).expect("read")
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Signals every process of it.
    pub(crate) fn signal_all(&self, name: &str) {
        let group = format!("-{}", self.child.as_ref().expect("running").id());
        let done = Command::new("kill").args([&format!("-{name}"), "--", &group]).status().expect("started");
        assert!(done.success());
    }

    /// Asks it to read its configuration again and replace its workers.
    pub(crate) fn reload(&self) {
        super::common::signal(self.child.as_ref().expect("running"), "HUP");
    }

    /// `kill -9` of every process of it.
    pub(crate) fn kill(&mut self) {
        self.signal_all("KILL");
        self.child.take().expect("running").wait().expect("ours");
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let Some(mut child) = self.child.take() else { return };
        let group = format!("-{}", child.id());
        // What is already gone is as good.
        drop(Command::new("kill").args(["-KILL", "--", &group]).stderr(Stdio::null()).status());
        drop(child.wait());
    }
}
