//! The conformance suite against a real server, and what only a shared store can be asked.

use std::net::TcpListener;
use std::ops::Deref;
use std::process::{Child, Command, Stdio};

use tempfile::TempDir;

use super::*;
use crate::causes::chain;
use crate::config::{Origin, Topology};
use crate::revocation::EndReason;
use crate::session::store::conformance::{Store, at, conformance, id, session, user};

/// A server of its own, ended when dropped.
pub(crate) struct Server {
    child: Child,
    pub(crate) port: u16,
    _dir: TempDir,
}

impl Server {
    pub(crate) fn start() -> Self {
        Self::start_with(&[])
    }

    pub(super) fn start_with(more: &[&str]) -> Self {
        // A cluster's nodes talk on a port ten thousand higher.
        let port = std::iter::repeat_with(|| TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port())
            .map(|port| 10_000 + port % 20_000)
            .find(|port| [0, 10_000].iter().all(|more| TcpListener::bind(("127.0.0.1", port + more)).is_ok()))
            .unwrap();
        let dir = TempDir::new().unwrap();
        let child = Command::new("redis-server")
            .args(["--port", &port.to_string(), "--bind", "127.0.0.1", "--save", "", "--dir"])
            .arg(dir.path())
            .args(more)
            .stdout(Stdio::null())
            .spawn()
            .expect("redis-server can be started: install the package redis-server");
        let server = Self { child, port, _dir: dir };
        while std::net::TcpStream::connect(("127.0.0.1", port)).is_err() {
            std::thread::sleep(Duration::from_millis(5));
        }
        server
    }

    fn config(&self) -> Redis {
        config(self.port)
    }

    /// A command, carried out at once.
    pub(super) fn tell(&self, words: &[&str]) -> String {
        let told = Command::new("redis-cli").args(["-p", &self.port.to_string()]).args(words).output().unwrap();
        String::from_utf8_lossy(&told.stdout).into_owned()
    }

    /// Stops or continues it, as `kill` names that.
    fn signal(&self, signal: &str) {
        assert!(Command::new("kill").args([signal, &self.child.id().to_string()]).status().unwrap().success());
    }

    async fn open(&self) -> RedisStore {
        RedisStore::open(&self.config(), &policy(), Arc::new(Revocations::new())).await.unwrap()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

pub(crate) fn config(port: u16) -> Redis {
    Redis {
        servers: vec![Origin { host: "127.0.0.1".into(), port }],
        tls: false,
        database: 0,
        topology: Topology::Single,
        ca: None,
        username: None,
        password: None,
        sentinel_password: None,
        prefix: "portcullis".into(),
        replicas: 0,
        timeout: Duration::from_secs(5),
        max_revocation_lag: Duration::from_secs(5),
    }
}

pub(super) fn policy() -> SessionPolicy {
    (&crate::config::Session::unused()).into()
}

struct Opened {
    store: Store,
    _server: Server,
}

impl Deref for Opened {
    type Target = Store;

    fn deref(&self) -> &Store {
        &self.store
    }
}

fn opened() -> Opened {
    let server = Server::start();
    let store = tokio::task::block_in_place(|| Handle::current().block_on(server.open()));
    Opened { store: Arc::new(store), _server: server }
}

conformance!(opened);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_suite_passes_on_a_cluster() {
    let nodes: Vec<Server> =
        std::iter::repeat_with(|| Server::start_with(&["--cluster-enabled", "yes"])).take(3).collect();
    let addresses = nodes.iter().map(|node| format!("127.0.0.1:{}", node.port));
    let made =
        Command::new("redis-cli").args(["--cluster", "create"]).args(addresses).arg("--cluster-yes").output().unwrap();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stdout));
    // One seed: the others are found.
    let config = Redis { topology: Topology::Cluster, ..nodes[2].config() };
    super::super::conformance::all(async |name| {
        let config = Redis { prefix: name.to_owned(), ..config.clone() };
        Arc::new(RedisStore::open(&config, &policy(), Arc::new(Revocations::new())).await.unwrap()) as Store
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_suite_passes_when_every_write_waits_for_a_replica_and_without_one_nothing_is_acknowledged() {
    let primary = Server::start_with(&["--repl-diskless-sync-delay", "0"]);
    let replica = Server::start_with(&["--replicaof", "127.0.0.1", &primary.port.to_string()]);
    let config = Redis { replicas: 1, ..primary.config() };
    let open = async |name: &str| {
        let config = Redis { prefix: name.to_owned(), ..config.clone() };
        RedisStore::open(&config, &policy(), Arc::new(Revocations::new())).await.unwrap()
    };
    let first = open("first").await;
    while first.create(session(1, "ann", 1), None).await.is_err() {
        // The replica is still being made.
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    super::super::conformance::all(async |name| Arc::new(open(name).await) as Store).await;
    let lag = || first.freshness().unwrap().lag();
    soon("beats count once the replica has them", || lag() < Duration::from_secs(1)).await;
    drop(replica);
    soon("beats that no replica has do not count", || lag() > Duration::from_secs(2)).await;
    let end = first.update(id(1), end_always(EndReason::SignedOut)).await.unwrap_err();
    assert!(matches!(end, StoreError::NotReplicated), "{end:?}");
    assert!(matches!(first.health(), Err(StoreError::NotReplicated)) || lag() < UNREACHABLE_AFTER);
}

/// A primary with a replica that has caught up.
async fn pair() -> (Server, Server) {
    let primary = Server::start_with(&["--repl-diskless-sync-delay", "0"]);
    let replica = Server::start_with(&["--replicaof", "127.0.0.1", &primary.port.to_string()]);
    soon("the replica is made", || primary.tell(&["INFO", "replication"]).contains("state=online")).await;
    (primary, replica)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn reads_do_not_stand_behind_writes_that_wait_for_replicas() {
    let (primary, replica) = pair().await;
    let config = Redis { replicas: 1, timeout: Duration::from_secs(3), ..primary.config() };
    let store = Arc::new(RedisStore::open(&config, &policy(), Arc::new(Revocations::new())).await.unwrap());
    for byte in 1..=16 {
        store.create(session(byte, "ann", 1), None).await.unwrap();
    }
    replica.signal("-STOP");
    let writes: Vec<_> = (1..=16)
        .map(|byte| {
            let store = store.clone();
            tokio::spawn(async move { store.update(id(byte), end_always(EndReason::SignedOut)).await })
        })
        .collect();
    soon("writes wait on every lane", || {
        let clients = primary.tell(&["INFO", "clients"]);
        let waiting =
            clients.lines().filter_map(|line| line.strip_prefix("blocked_clients:")?.trim().parse::<usize>().ok());
        // The reader of the feed is one of them.
        waiting.sum::<usize>() > 8
    })
    .await;
    for _ in 0..16 {
        let found = tokio::time::timeout(Duration::from_millis(500), store.find(id(1))).await;
        assert!(found.expect("a read stood behind a write").is_ok());
    }
    replica.signal("-CONT");
    for write in writes {
        drop(write.await);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_write_made_but_not_waited_for_is_acknowledged_only_once_replicas_have_it() {
    let (primary, replica) = pair().await;
    let config = Redis { replicas: 1, timeout: Duration::from_secs(3), ..primary.config() };
    let store = Arc::new(RedisStore::open(&config, &policy(), Arc::new(Revocations::new())).await.unwrap());
    let end = async |byte, meanwhile: &mut dyn FnMut()| {
        store.create(session(byte, "ann", 1), None).await.unwrap();
        // The script is answered and the `WAIT` behind it is not.
        primary.tell(&["ACL", "SETUSER", "default", "-wait"]);
        let ending = tokio::spawn({
            let store = store.clone();
            async move { store.update(id(byte), end_always(EndReason::SignedOut)).await }
        });
        let key = store.core.link.keys().session(Part::of_user(&user("ann")), id(byte));
        let client = redis::Client::open(format!("redis://127.0.0.1:{}", primary.port)).unwrap();
        let mut raw = client.get_multiplexed_async_connection().await.unwrap();
        while redis::cmd("EXISTS").arg(&key).query_async::<bool>(&mut raw).await.unwrap() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        meanwhile();
        primary.tell(&["ACL", "SETUSER", "default", "+wait"]);
        ending.await.unwrap()
    };
    let updated = end(1, &mut || ()).await.unwrap();
    assert_eq!(updated.before.map(|row| row.id), Some(id(1)), "it was this call that ended it");
    let error = end(2, &mut || replica.signal("-STOP")).await.unwrap_err();
    assert!(matches!(error, StoreError::NotReplicated), "{error:?}");
}

async fn soon(what: &str, mut holds: impl FnMut() -> bool) {
    let wait = async {
        while !holds() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(5), wait).await.unwrap_or_else(|_| panic!("{what}"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_end_on_one_gateway_is_known_on_another_and_by_one_that_starts_later() {
    let server = Server::start();
    let (one, two) = (server.open().await, server.open().await);
    one.create(session(1, "ann", 1), None).await.unwrap();
    one.update(id(1), end_always(EndReason::SignedOut)).await.unwrap();
    let reason = |store: &RedisStore| store.revocations().session_reason(&id(1).into());
    assert_eq!(reason(&one), Some(EndReason::SignedOut));
    soon("the feed tells the other", || reason(&two).is_some()).await;
    let three = server.open().await;
    assert_eq!(reason(&three), Some(EndReason::SignedOut));
    soon("beats come back", || three.freshness().unwrap().lag() < Duration::from_secs(1)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_server_has_lost_is_given_back_and_a_session_that_came_back_stays_ended() {
    let server = Server::start();
    let one = server.open().await;
    let later = UnixTime::now().plus(Duration::from_secs(600));
    one.create(Session { access_expires_at: later, ..session(1, "ann", 1) }, None).await.unwrap();
    one.create(session(2, "eve", 1), None).await.unwrap();
    one.update(id(1), end_always(EndReason::SignedOut)).await.unwrap();
    let end = EndUser {
        user: user("eve"),
        except: None,
        issued_until: at(10),
        reason: EndReason::SecurityAction,
        expires_at: later,
    };
    one.end_user(end).await.unwrap();
    soon("a beat was read", || one.freshness().unwrap().steady_for() > Duration::ZERO).await;
    let client = redis::Client::open(format!("redis://127.0.0.1:{}", server.port)).unwrap();
    let mut raw = client.get_multiplexed_async_connection().await.unwrap();
    let () = redis::cmd("FLUSHALL").query_async(&mut raw).await.unwrap();
    // The rows are there again, as from an old copy: written by a gateway that knows of no end.
    let other = server.open().await;
    other.create(session(1, "ann", 1), None).await.unwrap();
    other.create(session(2, "eve", 1), None).await.unwrap();
    let () = redis::cmd("CLIENT")
        .arg("KILL")
        .arg("TYPE")
        .arg("normal")
        .arg("SKIPME")
        .arg("yes")
        .query_async(&mut raw)
        .await
        .unwrap();
    soon("the end of the session is given back", || other.revocations().session_reason(&id(1).into()).is_some()).await;
    soon("the end of the user is given back", || {
        other.revocations().check(&id(2).into(), &user("eve"), at(1)).is_some()
    })
    .await;
    // Nobody has asked for them: once the revocations are no longer needed they would buy tokens.
    for name in ["ann", "eve"] {
        for _ in 0..100 {
            if other.list(&user(name), None, 10).await.unwrap().is_empty() {
                break;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        assert_eq!(other.list(&user(name), None, 10).await.unwrap(), []);
    }
    let kept: Decide = Box::new(|_, _| Change::Keep);
    let updated = other.update(id(1), kept).await.unwrap();
    assert_eq!((updated.before, updated.ended), (None, Some(EndReason::SignedOut)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gateway_whose_clock_is_ahead_forgets_nothing_for_the_others() {
    let server = Server::start();
    let store = server.open().await;
    let now = UnixTime::now();
    let expires_at = now.plus(Duration::from_secs(600));
    store
        .revoke(Revocation::Session { session: id(1).into(), reason: EndReason::SignedOut, expires_at })
        .await
        .unwrap();
    assert_eq!(store.purge_revocations(now.plus(Duration::from_secs(3600))).await.unwrap(), 0);
    let later = server.open().await;
    assert_eq!(later.revocations().session_reason(&id(1).into()), Some(EndReason::SignedOut));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_verdict_is_told_the_time_of_the_store() {
    let server = Server::start();
    let store = server.open().await;
    store.create(session(1, "ann", 1), None).await.unwrap();
    let told = Arc::new(Mutex::new(None));
    let tell = told.clone();
    let before = UnixTime::now();
    let keep = move |_: Option<&Session>, clock: Option<UnixTime>| {
        *tell.lock().unwrap() = clock;
        Change::Keep
    };
    store.update(id(1), Box::new(keep)).await.unwrap();
    let told = told.lock().unwrap().expect("a shared store has a clock");
    assert!(told >= before && told <= UnixTime::now(), "{told}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_be_read_hides_nothing_behind_it() {
    let server = Server::start();
    let (one, two) = (server.open().await, server.open().await);
    let part = Part::of_session(id(1));
    let client = redis::Client::open(format!("redis://127.0.0.1:{}", server.port)).unwrap();
    let mut raw = client.get_multiplexed_async_connection().await.unwrap();
    let keys = one.core.link.keys();
    let mut add = redis::cmd("XADD");
    add.arg(keys.feed(part)).arg("*").arg("k").arg(&b"\x09from a later version"[..]).arg("r").arg("?");
    let _: String = add.query_async(&mut raw).await.unwrap();
    let () = redis::cmd("HSET").arg(keys.revocations(part)).arg("\x01?").arg("?").query_async(&mut raw).await.unwrap();
    one.create(session(1, "ann", 1), None).await.unwrap();
    one.update(id(1), end_always(EndReason::SignedOut)).await.unwrap();
    soon("the feed goes on", || two.revocations().session_reason(&id(1).into()).is_some()).await;
    let later = server.open().await;
    assert_eq!(later.revocations().session_reason(&id(1).into()), Some(EndReason::SignedOut));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_is_judged_by_what_may_be_the_trace_of_his_own_lost_answer() {
    let server = Server::start();
    let (one, two) = (server.open().await, server.open().await);
    one.create(session(1, "ann", 1), None).await.unwrap();
    let client = redis::Client::open(format!("redis://127.0.0.1:{}", server.port)).unwrap();
    let raw = Mutex::new(client.get_connection().unwrap());
    let asked = Arc::new(Mutex::new(0));
    let count = asked.clone();
    let rotate = move |row: Option<&Session>, _: Option<UnixTime>| {
        let mut count = count.lock().unwrap();
        *count += 1;
        if *count == 1 {
            // Between the read and the write all connections are cut, and a racer goes on from the same token.
            let (two, handle) = (&two, Handle::current());
            let kill = redis::cmd("CLIENT").arg("KILL").arg("TYPE").arg("normal").arg("SKIPME").arg("yes").take();
            let further = |row: Option<&Session>, _: Option<UnixTime>| {
                Change::Put(Session { counter: 9, ..row.unwrap().clone() })
            };
            tokio::task::block_in_place(|| {
                handle.block_on(two.update(id(1), Box::new(further))).unwrap();
                let _: u64 = kill.query(&mut *raw.lock().unwrap()).unwrap();
            });
        }
        Change::Put(Session { counter: 8, ..row.unwrap().clone() })
    };
    let error = one.update(id(1), Box::new(rotate)).await.unwrap_err();
    assert!(matches!(error, StoreError::Unreachable(_)), "{error:?}");
    assert_eq!(*asked.lock().unwrap(), 1);
    assert_eq!(one.find(id(1)).await.unwrap().unwrap().counter, 9);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_write_that_comes_too_late_is_not_made() {
    let server = Server::start();
    let mut config = server.config();
    config.timeout = Duration::from_millis(300);
    let store = RedisStore::open(&config, &policy(), Arc::new(Revocations::new())).await.unwrap();
    store.create(session(1, "ann", 1), None).await.unwrap();
    let pid = server.child.id().to_string();
    let stop = move |_: Option<&Session>, _: Option<UnixTime>| {
        // The row was read; before the write arrives the server stands still.
        drop(Command::new("kill").args(["-STOP", &pid]).status());
        Change::End(EndReason::SignedOut)
    };
    let error = store.update(id(1), Box::new(stop)).await.unwrap_err();
    assert!(matches!(error, StoreError::Timeout | StoreError::Unreachable(_)), "{error:?}");
    drop(Command::new("kill").args(["-CONT", &server.child.id().to_string()]).status());
    for _ in 0..50 {
        if let Ok(row) = store.find(id(1)).await {
            assert!(row.is_some(), "the late write was made");
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert!(store.find(id(1)).await.unwrap().is_some());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rows_of_limited_sessions_expire_and_leave_no_trace() {
    let server = Server::start();
    let limited = SessionPolicy {
        idle_timeout: Some(Duration::from_secs(60)),
        max_lifetime: Some(Duration::from_secs(600)),
        ..policy()
    };
    let store = RedisStore::open(&server.config(), &limited, Arc::new(Revocations::new())).await.unwrap();
    let now = UnixTime::now();
    let row = |byte| Session { created_at: now, last_seen: now, ..session(byte, "ann", 1) };
    store.create(row(1), None).await.unwrap();
    store.create(row(2), None).await.unwrap();
    let client = redis::Client::open(format!("redis://127.0.0.1:{}", server.port)).unwrap();
    let mut raw = client.get_multiplexed_async_connection().await.unwrap();
    let part = Part::of_user(&user("ann"));
    let key = |byte| store.core.link.keys().session(part, id(byte));
    let due: u64 = redis::cmd("PEXPIRETIME").arg(key(1)).query_async(&mut raw).await.unwrap();
    assert_eq!(due, now.as_millis() + 60_000 + 86_400_000);
    store.touch(vec![(id(1), now.plus(Duration::from_secs(30)))]).await.unwrap();
    let due: u64 = redis::cmd("PEXPIRETIME").arg(key(1)).query_async(&mut raw).await.unwrap();
    assert_eq!(due, now.as_millis() + 90_000 + 86_400_000);
    store.touch(vec![(id(1), now.plus(Duration::from_secs(6000)))]).await.unwrap();
    let due: u64 = redis::cmd("PEXPIRETIME").arg(key(1)).query_async(&mut raw).await.unwrap();
    assert_eq!(due, now.as_millis() + 600_000 + 86_400_000);
    let () = redis::cmd("DEL").arg(key(2)).query_async(&mut raw).await.unwrap();
    let listed = store.list(&user("ann"), None, 10).await.unwrap();
    assert_eq!(listed.iter().map(|row| row.id).collect::<Vec<_>>(), [id(1)]);
    let left: u64 = redis::cmd("ZCARD").arg(store.core.link.keys().by_user(part)).query_async(&mut raw).await.unwrap();
    assert_eq!(left, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_that_is_not_there_is_named_when_opened() {
    let mut config = Server::start().config();
    config.timeout = Duration::from_millis(200);
    // A port of which it is certain that nobody comes to listen on it.
    let held = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    held.bind(&std::net::SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
    config.servers[0].port = held.local_addr().unwrap().as_socket().unwrap().port();
    let error = RedisStore::open(&config, &policy(), Arc::new(Revocations::new())).await.unwrap_err();
    let text = chain(&error);
    assert!(
        text.starts_with(&format!(
            "cannot read the revocations from redis://127.0.0.1:{} within 10 s",
            config.servers[0].port
        )),
        "{text}"
    );
    assert!(text.contains("refused"), "{text}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_that_refuses_ends_the_start_at_once() {
    let server = Server::start_with(&["--requirepass", "right"]);
    let begun = Instant::now();
    let without = RedisStore::open(&server.config(), &policy(), Arc::new(Revocations::new())).await.unwrap_err();
    assert!(chain(&without).contains("NOAUTH"), "{}", chain(&without));
    let config = Redis { password: Some(crate::config::Secret::new("wrong".into())), ..server.config() };
    let wrong = RedisStore::open(&config, &policy(), Arc::new(Revocations::new())).await.unwrap_err();
    assert!(matches!(wrong, RedisOpenError::Refused { .. }), "{wrong:?}");
    assert!(chain(&wrong).contains("the session store refuses: "), "{}", chain(&wrong));
    assert!(begun.elapsed() < OPEN_DEADLINE / 2, "{:?}", begun.elapsed());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reader_that_was_away_for_long_trusts_no_stream_to_be_whole() {
    let server = Server::start();
    let break_of = Duration::from_millis(1500);
    let revocations = Arc::new(Revocations::new());
    let store = RedisStore::open_with(&server.config(), &policy(), revocations, break_of).await.unwrap();
    soon("it reads", || store.freshness().unwrap().lag() < Duration::from_secs(1)).await;
    // As when the entry that told of it has been trimmed: it is stored, and the stream says nothing.
    let client = redis::Client::open(format!("redis://127.0.0.1:{}", server.port)).unwrap();
    let mut raw = client.get_multiplexed_async_connection().await.unwrap();
    let key = record::session_end_key(&id(1).into());
    let value = record::encode_end(EndReason::SignedOut, UnixTime::now().plus(Duration::from_secs(600)));
    let hash = store.core.link.keys().revocations(Part::of_session(id(1)));
    let () = redis::cmd("HSET").arg(hash).arg(key).arg(value).query_async(&mut raw).await.unwrap();
    let pid = server.child.id().to_string();
    drop(Command::new("kill").args(["-STOP", &pid]).status());
    tokio::time::sleep(break_of * 2).await;
    drop(Command::new("kill").args(["-CONT", &pid]).status());
    soon("a snapshot is taken", || store.revocations().session_reason(&id(1).into()).is_some()).await;
}

#[test]
fn a_stream_of_a_server_whose_clock_was_ahead_does_not_grow_without_end() {
    let server = Server::start();
    let client = redis::Client::open(format!("redis://127.0.0.1:{}", server.port)).unwrap();
    let mut raw = client.get_connection().unwrap();
    let ahead = UnixTime::now().as_millis() + 86_400_000;
    let _: String = redis::cmd("XADD").arg("feed").arg(format!("{ahead}-0")).arg("g").arg("?").query(&mut raw).unwrap();
    let beat = redis::Script::new(include_str!("scripts/beat.lua"));
    for number in 0..1000 {
        let mut beat = beat.key("feed");
        beat.key("meta").arg(300_000).arg("gateway").arg(number).arg("name").arg(100);
        let _: Vec<u8> = beat.invoke(&mut raw).unwrap();
    }
    let length: u64 = redis::cmd("XLEN").arg("feed").query(&mut raw).unwrap();
    // About: whole nodes of a hundred entries go.
    assert!((100..=300).contains(&length), "{length}");
}
