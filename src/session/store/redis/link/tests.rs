//! The link against real servers, and against made-up ones where a real one cannot be brought to do it.

use std::sync::atomic::AtomicBool;

use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

use super::*;
use crate::config::Topology;
use crate::revocation::{EndReason, Revocation};
use crate::session::store::redis::tests::{Server, config, policy};
use crate::session::store::redis::transaction::{RowLife, Transactions};

/// What a made-up server does about a command.
enum Reply {
    Say(String),
    Later(Duration, String),
    Nothing,
    Close,
}

fn say(text: impl Into<String>) -> Reply {
    Reply::Say(text.into())
}

/// A server made up of answers to commands; it is told which connection it is, from 0 on.
struct Fake {
    port: u16,
    accepted: Arc<AtomicUsize>,
    _serving: JoinSet<()>,
}

impl Fake {
    async fn start(answer: impl Fn(usize, &[String]) -> Reply + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let accepted = Arc::new(AtomicUsize::new(0));
        let (count, answer) = (accepted.clone(), Arc::new(answer));
        let mut serving = JoinSet::new();
        serving.spawn(async move {
            let mut connections = JoinSet::new();
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let (number, answer) = (count.fetch_add(1, Ordering::Relaxed), answer.clone());
                connections.spawn(async move {
                    // The other side goes away when it likes.
                    let _ = serve(stream, |words| answer(number, words)).await;
                });
            }
        });
        Self { port, accepted, _serving: serving }
    }

    fn accepted(&self) -> usize {
        self.accepted.load(Ordering::Relaxed)
    }
}

async fn serve(stream: TcpStream, answer: impl Fn(&[String]) -> Reply) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    let mut stream = BufReader::new(stream);
    loop {
        let mut count = String::new();
        if stream.read_line(&mut count).await? == 0 {
            return Ok(());
        }
        let mut words = Vec::new();
        for _ in 0..count[1..].trim().parse().unwrap() {
            let mut length = String::new();
            stream.read_line(&mut length).await?;
            let mut word = vec![0; length[1..].trim().parse::<usize>().unwrap() + 2];
            stream.read_exact(&mut word).await?;
            words.push(String::from_utf8_lossy(&word[..word.len() - 2]).into_owned());
        }
        match answer(&words) {
            Reply::Say(text) => stream.write_all(text.as_bytes()).await?,
            Reply::Later(pause, text) => {
                tokio::time::sleep(pause).await;
                stream.write_all(text.as_bytes()).await?;
            }
            Reply::Nothing => {}
            Reply::Close => return Ok(()),
        }
    }
}

/// What every server answers when a connection is made.
fn greeting(words: &[String]) -> Option<Reply> {
    match words[0].as_str() {
        "CLIENT" | "SELECT" => Some(say("+OK\r\n")),
        "HELLO" => Some(say("*2\r\n$4\r\nrole\r\n$6\r\nmaster\r\n")),
        _ => None,
    }
}

fn local(port: u16) -> Origin {
    Origin { host: "127.0.0.1".into(), port }
}

/// A sentinel's word that the primary is at this port.
fn primary_at(port: u16) -> String {
    format!("*2\r\n$9\r\n127.0.0.1\r\n${}\r\n{port}\r\n", port.to_string().len())
}

/// A cluster's map: all slots at this port.
fn all_slots_at(port: u16) -> String {
    format!("*1\r\n*3\r\n:0\r\n:16383\r\n*2\r\n$9\r\n127.0.0.1\r\n:{port}\r\n")
}

fn link(topology: Topology, ports: &[u16]) -> Link {
    let servers = ports.iter().copied().map(local).collect();
    Link::new(&Redis { topology, servers, ..config(0) }).unwrap()
}

fn sentinel(ports: &[u16]) -> Link {
    link(Topology::Sentinel { primary: "main".into() }, ports)
}

fn part() -> Part {
    Part::from_index(3).unwrap()
}

fn pipe(commands: &[&[&str]]) -> Pipeline {
    let mut pipe = redis::pipe();
    for words in commands {
        let mut cmd = redis::cmd(words[0]);
        cmd.arg(&words[1..]);
        pipe.add_command(cmd);
    }
    pipe
}

fn within(millis: u64) -> Instant {
    Instant::now() + Duration::from_millis(millis)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_asks_for_all_who_do_not_know_the_place() {
    let told = Fake::start(|_, words| {
        greeting(words).unwrap_or_else(|| Reply::Later(Duration::from_millis(100), primary_at(7000)))
    })
    .await;
    let link = Arc::new(sentinel(&[told.port]));
    let mut asking = JoinSet::new();
    for _ in 0..50 {
        let link = link.clone();
        asking.spawn(async move { link.place(part(), within(2000)).await.unwrap() });
    }
    assert_eq!(asking.join_all().await, vec![local(7000); 50]);
    assert_eq!(told.accepted(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sentinel_that_fails_is_left_alone_for_a_moment_and_nobody_waits_past_the_deadline() {
    let broken = Fake::start(|_, _| Reply::Close).await;
    let link_to_broken = Arc::new(sentinel(&[broken.port]));
    let until = within(300);
    let mut asking = JoinSet::new();
    for _ in 0..20 {
        let link = link_to_broken.clone();
        asking.spawn(async move {
            while Instant::now() < until {
                link.place(part(), until).await.unwrap_err();
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        });
    }
    asking.join_all().await;
    assert!(broken.accepted() <= 8, "{} connections", broken.accepted());

    let silent = Fake::start(|_, _| Reply::Nothing).await;
    let link = Arc::new(sentinel(&[silent.port]));
    let begun = Instant::now();
    let mut asking = JoinSet::new();
    for _ in 0..20 {
        let link = link.clone();
        asking.spawn(async move { link.call(part(), &pipe(&[&["PING"]]), None, within(200)).await.unwrap_err() });
    }
    asking.join_all().await;
    assert!(begun.elapsed() < Duration::from_millis(700), "{:?}", begun.elapsed());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_without_slots_does_not_speak_for_the_cluster() {
    let lonely = Server::start_with(&["--cluster-enabled", "yes"]);
    let whole = Server::start_with(&["--cluster-enabled", "yes"]);
    whole.tell(&["CLUSTER", "ADDSLOTSRANGE", "0", "16383"]);
    let link = link(Topology::Cluster, &[lonely.port, whole.port]);
    let key = String::from_utf8(link.keys().meta(part())).unwrap();
    let answer = link.call(part(), &pipe(&[&["SET", &key, "x"]]), None, within(3000)).await;
    assert_eq!(answer.unwrap(), [Value::Okay]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_a_move_the_seeds_are_asked_rather_than_what_was_left_and_that_is_let_go() {
    let (moved, new) = (Arc::new(AtomicBool::new(false)), Server::start());
    let new_port = new.port;
    let left = Fake::start({
        let moved = moved.clone();
        move |_, words| {
            greeting(words).unwrap_or_else(|| match (words[0].as_str(), moved.load(Ordering::Relaxed)) {
                // It has not heard that others have forgotten it.
                ("CLUSTER", _) => say(all_slots_at(1)),
                (_, false) => say("+PONG\r\n"),
                (_, true) => say(format!("-MOVED 1 127.0.0.1:{new_port}\r\n")),
            })
        }
    })
    .await;
    let left_port = left.port;
    let seed = Fake::start({
        let moved = moved.clone();
        move |_, words| {
            let port = if moved.load(Ordering::Relaxed) { new_port } else { left_port };
            greeting(words).unwrap_or_else(|| say(all_slots_at(port)))
        }
    })
    .await;
    let link = link(Topology::Cluster, &[seed.port]);
    let ping = pipe(&[&["PING"]]);
    let pong = [Value::SimpleString("PONG".into())];
    assert_eq!(link.call(part(), &ping, None, within(1000)).await.unwrap(), pong);
    moved.store(true, Ordering::Relaxed);
    assert_eq!(link.call(part(), &ping, None, within(1000)).await.unwrap(), pong);
    assert_eq!(lock(&link.servers).keys().collect::<Vec<_>>(), [&local(new_port)]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_seed_with_an_old_map_does_not_hold_up_a_move() {
    let new = Server::start();
    let (new_port, old) = (
        new.port,
        Fake::start(|_, words| greeting(words).unwrap_or_else(|| say("-CLUSTERDOWN The cluster is down\r\n"))).await,
    );
    let old_port = old.port;
    let [stale, fresh] = [old_port, new_port]
        .map(|port| Fake::start(move |_, words| greeting(words).unwrap_or_else(|| say(all_slots_at(port)))));
    let (stale, fresh) = (stale.await, fresh.await);
    let link = link(Topology::Cluster, &[stale.port, fresh.port]);
    let answer = link.call(part(), &pipe(&[&["PING"]]), None, within(1000)).await;
    assert_eq!(answer.unwrap(), [Value::SimpleString("PONG".into())]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sentinel_that_names_a_replica_is_not_believed() {
    let primary = Server::start();
    let replica = Server::start_with(&["--replicaof", "127.0.0.1", &primary.port.to_string()]);
    let [stale, fresh] = [replica.port, primary.port]
        .map(|port| Fake::start(move |_, words| greeting(words).unwrap_or_else(|| say(primary_at(port)))));
    let (stale, fresh) = (stale.await, fresh.await);
    let link = sentinel(&[stale.port, fresh.port]);
    let answer = link.call(part(), &pipe(&[&["ROLE"]]), None, within(1000)).await.unwrap();
    let [Value::Array(role)] = answer.as_slice() else { panic!("{answer:?}") };
    assert_eq!(role[0], Value::BulkString(b"master".to_vec()));
    // The stale one is not asked again as long as the other answers.
    let before = stale.accepted();
    assert!(!link.relocate().await.unwrap());
    assert_eq!(stale.accepted(), before);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_loads_may_have_been_replaced() {
    let new = Server::start();
    let loading = Fake::start(|_, words| {
        greeting(words).unwrap_or_else(|| say("-LOADING Redis is loading the dataset in memory\r\n"))
    })
    .await;
    let (old_port, new_port) = (loading.port, new.port);
    let told = Fake::start(move |number, words| {
        greeting(words).unwrap_or_else(|| say(primary_at(if number == 0 { old_port } else { new_port })))
    })
    .await;
    let answer = sentinel(&[told.port]).call(part(), &pipe(&[&["PING"]]), None, within(1000)).await;
    assert_eq!(answer.unwrap(), [Value::SimpleString("PONG".into())]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_closes_every_connection_is_not_hammered() {
    let read = redis::Script::new(include_str!("../scripts/read.lua")).get_hash().to_owned();
    let commits = Arc::new(AtomicUsize::new(0));
    let closing = Fake::start({
        let commits = commits.clone();
        move |_, words| {
            greeting(words).unwrap_or_else(|| {
                if words.get(1) != Some(&read) {
                    commits.fetch_add(1, Ordering::Relaxed);
                    return Reply::Close;
                }
                // The time, no rows, as many revocations as were asked for, no users.
                let keys: usize = words[2].parse().unwrap();
                let asked: usize = words[3 + keys].parse().unwrap();
                say(format!("*4\r\n:1\r\n*0\r\n*{asked}\r\n{}*0\r\n", "$-1\r\n".repeat(asked)))
            })
        }
    })
    .await;
    let config = Redis { timeout: Duration::from_millis(400), ..config(closing.port) };
    let link = Arc::new(Link::new(&config).unwrap());
    let most = 400 / 20 + 2;

    let begun = Instant::now();
    link.call_again(part(), &pipe(&[&["PING"]]), within(400)).await.unwrap_err();
    assert!(closing.accepted() <= most, "{} connections", closing.accepted());

    let transactions = Transactions::new(link.clone(), RowLife::of(&policy()));
    let before = closing.accepted();
    transactions.repeat(part(), &Script::new("return 1"), &[], &[], within(400)).await.unwrap_err();
    assert!(closing.accepted() - before <= most, "{} connections", closing.accepted() - before);

    commits.store(0, Ordering::Relaxed);
    let revocation = Revocation::Session {
        session: crate::session::store::conformance::id(1).into(),
        reason: EndReason::SignedOut,
        expires_at: crate::session::store::conformance::at(90_000),
    };
    let revoke = |draft: &mut crate::session::store::draft::Draft<'_>| draft.revoke(revocation.clone());
    assert!(transactions.run(part(), Vec::new(), revoke, |_| ()).await.is_err());
    let commits = commits.load(Ordering::Relaxed);
    assert!((2..=most).contains(&commits), "{commits} commits");
    assert!(begun.elapsed() < Duration::from_millis(3 * 450), "{:?}", begun.elapsed());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_ends_at_its_deadline_while_another_connects() {
    // The first connection swallows every call, the others do not even greet.
    let server = Fake::start(
        |number, words| {
            if number == 0 { greeting(words).unwrap_or(Reply::Nothing) } else { Reply::Nothing }
        },
    )
    .await;
    let link = Arc::new(link(Topology::Single, &[server.port]));
    let call = |millis| {
        let link = link.clone();
        async move { link.call(part(), &pipe(&[&["PING"]]), None, within(millis)).await.unwrap_err() }
    };
    let begun = Instant::now();
    let long = tokio::spawn(call(400));
    call(200).await;
    let connecting = tokio::spawn(call(2000));
    long.await.unwrap();
    assert!(begun.elapsed() < Duration::from_millis(1000), "{:?}", begun.elapsed());
    connecting.abort();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_ends_at_its_deadline_when_nobody_answers_the_tls_hello() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let silent = config(listener.local_addr().unwrap().port());
    let link = Link::new(&Redis { tls: true, ..silent }).unwrap();
    let begun = Instant::now();
    link.call(part(), &pipe(&[&["PING"]]), None, within(300)).await.unwrap_err();
    assert!(begun.elapsed() < Duration::from_millis(1000), "{:?}", begun.elapsed());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_stands_before_an_error_may_have_been_carried_out() {
    let server = Server::start();
    let link = link(Topology::Single, &[server.port]);
    server.tell(&["SET", "text", "x"]);
    // The first fails: nothing was done.
    let first_fails = pipe(&[&["HGET", "text", "x"], &["WAIT", "0", "1"]]);
    let error = link.call(part(), &first_fails, None, within(1000)).await.unwrap_err();
    assert!(matches!(error, CallError::Failed(StoreError::Refused(_))), "{error:?}");
    // So it does when the script is not known: its text is sent.
    let (call, text) = Script::new("return 7").calls(&[], &[], Some(&redis::cmd("WAIT").arg(0).arg(1).take()));
    let answer = link.call(part(), &call, Some(&text), within(1000)).await.unwrap();
    assert_eq!(answer, [Value::Int(7), Value::Int(0)]);
    // The second fails: the first was done.
    server.tell(&["ACL", "SETUSER", "default", "-wait"]);
    let second_fails = pipe(&[&["INCR", "count"], &["WAIT", "0", "1"]]);
    let error = link.call(part(), &second_fails, None, within(1000)).await.unwrap_err();
    assert!(matches!(error, CallError::Unknown(StoreError::Refused(_))), "{error:?}");
    assert_eq!(server.tell(&["GET", "count"]).trim(), "1");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_unreadable_reply_leaves_it_unknown_and_costs_the_connection() {
    let server = Fake::start(|number, words| {
        greeting(words).unwrap_or_else(|| say(if number == 0 { "what?\r\n" } else { "+PONG\r\n" }))
    })
    .await;
    let link = link(Topology::Single, &[server.port]);
    let answer = link.call_again(part(), &pipe(&[&["PING"]]), within(1000)).await;
    assert_eq!(answer.unwrap(), [Value::SimpleString("PONG".into())]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_command_of_a_call_goes_to_a_server_that_takes_the_slot_over() {
    let [from, to] = [(); 2].map(|()| Server::start_with(&["--cluster-enabled", "yes"]));
    from.tell(&["CLUSTER", "ADDSLOTSRANGE", "0", "16383"]);
    from.tell(&["CLUSTER", "MEET", "127.0.0.1", &to.port.to_string()]);
    let id = |of: &Server| of.tell(&["CLUSTER", "MYID"]).trim().to_owned();
    let (from_id, to_id) = (id(&from), id(&to));
    let link = link(Topology::Cluster, &[from.port]);
    let slot = link.keys().slot(part()).to_string();
    let met = async {
        while ![&from, &to].iter().all(|node| node.tell(&["CLUSTER", "INFO"]).contains("cluster_state:ok")) {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), met).await.expect("the nodes do not meet");
    to.tell(&["CLUSTER", "SETSLOT", &slot, "IMPORTING", &from_id]);
    from.tell(&["CLUSTER", "SETSLOT", &slot, "MIGRATING", &to_id]);
    let key = String::from_utf8(link.keys().meta(part())).unwrap();
    let answer = link.call(part(), &pipe(&[&["SET", &key, "x"], &["GET", &key]]), None, within(2000)).await;
    assert_eq!(answer.unwrap(), [Value::Okay, Value::BulkString(b"x".to_vec())]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_sent_on_and_on_is_not_sent_without_end() {
    let calls = Arc::new(AtomicUsize::new(0));
    let port = Arc::new(AtomicUsize::new(0));
    let server = Fake::start({
        let (calls, port) = (calls.clone(), port.clone());
        move |_, words| {
            greeting(words).unwrap_or_else(|| {
                calls.fetch_add(1, Ordering::Relaxed);
                say(format!("-ASK 1 127.0.0.1:{}\r\n", port.load(Ordering::Relaxed)))
            })
        }
    })
    .await;
    port.store(server.port.into(), Ordering::Relaxed);
    let link = link(Topology::Single, &[server.port]);
    link.call(part(), &pipe(&[&["PING"]]), None, within(300)).await.unwrap_err();
    // One plain and one behind ASKING for each pause.
    let calls = calls.load(Ordering::Relaxed);
    assert!(calls <= (300 / 20 + 1) * 3, "{calls} calls");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_with_gaps_takes_no_known_place_away() {
    let seed = Fake::start(|number, words| {
        greeting(words).unwrap_or_else(|| match number {
            0 => say(all_slots_at(7000)),
            // The first quarter of the slots, and that elsewhere.
            _ => say("*1\r\n*3\r\n:0\r\n:4095\r\n*2\r\n$9\r\n127.0.0.1\r\n:7001\r\n"),
        })
    })
    .await;
    let link = link(Topology::Cluster, &[seed.port]);
    assert_eq!(link.place(part(), within(1000)).await.unwrap(), local(7000));
    assert!(link.relocate().await.unwrap());
    let places = Part::all().map(|part| link.known_place(part).unwrap().port).collect::<Vec<_>>();
    assert_eq!(places, [[7001; 4].as_slice(), &[7000; 12]].concat());
}
