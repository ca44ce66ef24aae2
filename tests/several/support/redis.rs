//! Redis as it is run in earnest: single servers, a primary with a replica under sentinels, a cluster.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use super::common::signal;
use super::eventually;
use super::ports::lasting_port;

/// How long a server or group of servers may take until it serves.
const PATIENCE: Duration = Duration::from_secs(20);

/// What a server keeps of its data.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Keep {
    /// Every write, before it is answered.
    Always,
    /// Writes up to a second ago.
    EverySecond,
    /// Nothing.
    Nothing,
}

impl Keep {
    fn arguments(self) -> Vec<String> {
        let append = match self {
            Self::Always => "--appendonly yes --appendfsync always",
            Self::EverySecond => "--appendonly yes --appendfsync everysec",
            Self::Nothing => "--appendonly no",
        };
        words(append)
    }
}

/// Certificates that a server shows, in files.
#[derive(Clone, Debug)]
pub(crate) struct Tls {
    pub(crate) ca: PathBuf,
    pub(crate) certificate: PathBuf,
    pub(crate) key: PathBuf,
}

/// One `redis-server` with a directory of its own, killed when dropped.
pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    child: Option<Child>,
    dir: tempfile::TempDir,
    arguments: Vec<String>,
    /// What `redis-cli` needs to reach it, besides the port.
    access: Vec<String>,
}

impl Server {
    pub(crate) fn start(keep: Keep) -> Self {
        Self::with(&keep.arguments())
    }

    /// With TLS only, and a password.
    pub(crate) fn guarded(tls: &Tls, password: &str) -> Self {
        let text = |path: &PathBuf| path.to_str().expect("text").to_owned();
        let (ca, certificate, key) = (text(&tls.ca), text(&tls.certificate), text(&tls.key));
        let mut server = Self::prepare();
        let port = server.address.port().to_string();
        server.arguments = [
            ["--port", "0"],
            ["--tls-port", &port],
            ["--tls-cert-file", &certificate],
            ["--tls-key-file", &key],
            ["--tls-ca-cert-file", &ca],
            ["--tls-auth-clients", "no"],
            ["--requirepass", password],
        ]
        .concat()
        .into_iter()
        .map(str::to_owned)
        .collect();
        server.access = ["--tls", "--cacert", &ca, "-a", password, "--no-auth-warning"].map(str::to_owned).to_vec();
        server.start_again();
        server
    }

    /// That follows `primary`.
    pub(crate) fn replica_of(primary: &Self) -> Self {
        let mut arguments = Keep::EverySecond.arguments();
        arguments.extend(words(&format!("--replicaof 127.0.0.1 {}", primary.address.port())));
        let replica = Self::with(&arguments);
        replica.wait_until_linked();
        replica
    }

    fn with(arguments: &[String]) -> Self {
        let mut server = Self::prepare();
        server.arguments = words(&format!("--port {}", server.address.port()));
        server.arguments.extend_from_slice(arguments);
        server.start_again();
        server
    }

    /// A sentinel: it writes down in its configuration what it learns.
    fn sentinel(name: &str, primary: &Self, quorum: usize) -> Self {
        let mut server = Self::prepare();
        let file = server.dir.path().join("sentinel.conf");
        let text = format!(
            "port {}\nsentinel monitor {name} 127.0.0.1 {} {quorum}\n\
             sentinel down-after-milliseconds {name} 1000\nsentinel failover-timeout {name} 3000\n",
            server.address.port(),
            primary.address.port(),
        );
        std::fs::write(&file, text).expect("written");
        server.arguments = vec![file.to_str().expect("text").to_owned(), "--sentinel".to_owned()];
        server.start_again();
        server
    }

    fn prepare() -> Self {
        let dir = tempfile::tempdir().expect("a temporary directory");
        std::fs::create_dir(dir.path().join("data")).expect("created");
        Self { address: lasting_port(), child: None, dir, arguments: Vec::new(), access: Vec::new() }
    }

    /// Starts it, at its address and with the data that is there, and waits until it serves.
    pub(crate) fn start_again(&mut self) {
        assert!(self.child.is_none(), "it runs");
        let log = std::fs::OpenOptions::new().create(true).append(true).open(self.dir.path().join("log"));
        let mut command = Command::new("redis-server");
        command.args(&self.arguments).args(["--bind", "127.0.0.1", "--save", ""]);
        // One replica is all that will come: the primary need not wait for more to start with.
        command.args(["--repl-diskless-sync-delay", "0"]);
        command.arg("--dir").arg(self.dir.path().join("data"));
        command.stdin(Stdio::null()).stdout(log.expect("opened"));
        let child = command.spawn().unwrap_or_else(|error| {
            panic!("cannot run redis-server ({error}): these tests need the packages redis-server and redis-tools")
        });
        self.child = Some(child);
        eventually("redis-server serves", PATIENCE, || {
            let ended = self.child.as_mut().expect("started").try_wait().expect("ours");
            assert!(ended.is_none(), "redis-server ended: {}", self.log());
            (self.try_ask(&["PING"])? == "PONG").then_some(())
        });
    }

    /// Asks it to end, and waits for that: what it should keep is on disk.
    pub(crate) fn stop(&mut self) {
        self.signal("TERM");
        self.child.take().expect("running").wait().expect("ours");
    }

    /// `kill -9`
    pub(crate) fn kill(&mut self) {
        let mut child = self.child.take().expect("running");
        child.kill().expect("killed");
        child.wait().expect("ours");
    }

    /// While it is stopped: all its data is gone.
    pub(crate) fn lose_data(&mut self) {
        assert!(self.child.is_none(), "it runs");
        let data = self.dir.path().join("data");
        std::fs::remove_dir_all(&data).expect("removed");
        std::fs::create_dir(data).expect("created");
    }

    /// It stands still: connections stay open and nothing is answered.
    pub(crate) fn pause(&self) {
        self.signal("STOP");
    }

    /// It goes on after [`Self::pause`].
    pub(crate) fn resume(&self) {
        self.signal("CONT");
    }

    fn signal(&self, name: &str) {
        signal(self.child.as_ref().expect("running"), name);
    }

    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(self.dir.path().join("log")).unwrap_or_default()
    }

    /// What `redis-cli` prints for a command.
    pub(crate) fn ask(&self, command: &[&str]) -> String {
        self.try_ask(command).unwrap_or_else(|| panic!("{command:?} failed: {}", self.log()))
    }

    fn try_ask(&self, command: &[&str]) -> Option<String> {
        let mut cli = Command::new("redis-cli");
        cli.args(["-p", &self.address.port().to_string()]).args(&self.access).args(command);
        let output = cli.output().unwrap_or_else(|error| {
            panic!("cannot run redis-cli ({error}): these tests need the packages redis-server and redis-tools")
        });
        let text = String::from_utf8_lossy(&output.stdout).trim().replace('\r', "");
        output.status.success().then_some(text)
    }

    /// A field of `INFO section`.
    pub(crate) fn info(&self, section: &str, field: &str) -> Option<String> {
        let text = self.try_ask(&["INFO", section])?;
        text.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':').map(str::to_owned))
    }

    fn is_primary(&self) -> bool {
        self.child.is_some() && self.info("replication", "role").as_deref() == Some("master")
    }

    /// A replica that has everything.
    fn is_linked(&self) -> bool {
        self.info("replication", "master_link_status").as_deref() == Some("up")
    }

    fn wait_until_linked(&self) {
        eventually("the replica follows", PATIENCE, || self.is_linked().then_some(()));
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            // Already gone is as good.
            drop(child.kill());
            drop(child.wait());
        }
    }
}

/// A primary, a replica, and three sentinels that look after them.
pub(crate) struct Sentinels {
    pub(crate) primary: Server,
    pub(crate) replica: Server,
    pub(crate) sentinels: Vec<Server>,
}

impl Sentinels {
    /// The primary's name.
    pub(crate) const NAME: &'static str = "sessions";

    pub(crate) fn start() -> Self {
        const COUNT: usize = 3;
        const QUORUM: usize = 2;
        let primary = Server::start(Keep::EverySecond);
        let replica = Server::replica_of(&primary);
        let sentinels: Vec<_> = (0..COUNT).map(|_| Server::sentinel(Self::NAME, &primary, QUORUM)).collect();
        for sentinel in &sentinels {
            eventually("the sentinels know all", PATIENCE, || {
                let known = sentinel.ask(&["SENTINEL", "MASTER", Self::NAME]);
                let mut lines = known.lines();
                let mut field = |name: &str| {
                    lines.find(|line| *line == name)?;
                    lines.next()?.parse::<usize>().ok()
                };
                // In this order they are printed.
                ((field("num-slaves"), field("num-other-sentinels")) == (Some(1), Some(COUNT - 1))).then_some(())
            });
        }
        Self { primary, replica, sentinels }
    }

    /// From now on the replica is told nothing more.
    pub(crate) fn cut_off_replica(&self) {
        let offset =
            |server: &Server, field| server.info("replication", field).and_then(|text| text.parse::<u64>().ok());
        let written = offset(&self.primary, "master_repl_offset").expect("a number");
        eventually("the replica has all", PATIENCE, || {
            (offset(&self.replica, "slave_repl_offset")? >= written).then_some(())
        });
        self.replica.pause();
        self.primary.ask(&["CLIENT", "KILL", "TYPE", "replica"]);
    }

    /// `kill -9` of the primary; waits until the replica has its place.
    pub(crate) fn fail_over(&mut self) {
        self.primary.kill();
        self.replica.resume();
        eventually("the replica is promoted", PATIENCE, || self.replica.is_primary().then_some(()));
    }
}

/// Six nodes: three primaries, each with a replica.
pub(crate) struct Cluster {
    pub(crate) nodes: Vec<Server>,
}

impl Cluster {
    const NODES: usize = 6;

    pub(crate) fn start() -> Self {
        let mut arguments = Keep::EverySecond.arguments();
        arguments.extend(words("--cluster-enabled yes --cluster-node-timeout 1000"));
        let nodes: Vec<_> = (0..Self::NODES).map(|_| Server::with(&arguments)).collect();
        let mut create = Command::new("redis-cli");
        create.args(["--cluster", "create"]).args(nodes.iter().map(|node| node.address.to_string()));
        let output = create.args(["--cluster-replicas", "1", "--cluster-yes"]).output().expect("redis-cli ran before");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
        let cluster = Self { nodes };
        cluster.wait_until_whole();
        cluster
    }

    /// Waits until all nodes agree that all is well, and every replica has everything.
    pub(crate) fn wait_until_whole(&self) {
        let known = format!("cluster_known_nodes:{}", Self::NODES);
        let well = ["cluster_state:ok", "cluster_slots_ok:16384", &known];
        eventually("the cluster is whole", PATIENCE, || {
            let agreed = self.nodes.iter().all(|node| {
                let info = node.ask(&["CLUSTER", "INFO"]);
                well.iter().all(|line| info.lines().any(|one| one == *line)) && (node.is_primary() || node.is_linked())
            });
            (agreed && self.primaries() == Self::NODES / 2).then_some(())
        });
    }

    fn primaries(&self) -> usize {
        self.nodes.iter().filter(|node| node.is_primary()).count()
    }

    /// `kill -9` of a primary; waits until its replica has its place. Returns which is gone.
    pub(crate) fn fail_over(&mut self) -> usize {
        let gone = self.nodes.iter().position(Server::is_primary).expect("three are");
        self.nodes[gone].kill();
        eventually("a replica is promoted", PATIENCE, || (self.primaries() == Self::NODES / 2).then_some(()));
        gone
    }

    pub(crate) fn addresses(&self) -> Vec<SocketAddr> {
        self.nodes.iter().map(|node| node.address).collect()
    }
}

fn words(text: &str) -> Vec<String> {
    text.split(' ').map(str::to_owned).collect()
}
