//! A start with a million sessions and a million revocations, and the memory they take.

use std::net::SocketAddr;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use portcullis::clock::UnixTime;
use portcullis::ids::{SessionId, UserId};
use portcullis::revocation::Revocations;
use portcullis::session::store::{Change, EmbeddedStore, SessionStore};
use portcullis::session::{Session, StoreError};
use tokio::task::JoinSet;

use crate::machine;
use crate::report::{Report, median};
use crate::revocations::{Ids, end};
use crate::support::{Client, Toml, Workplace, free_port, portcullis};

const SESSIONS: usize = 1_000_000;
const REVOCATIONS: usize = 1_000_000;
const STARTS: usize = 5;
/// From the start of the process to ready.
const MOST: Duration = Duration::from_secs(2);
/// Refreshes at most, until the journal is so long.
const ROTATIONS: usize = 1_000_000;
const ROTATED_AT_ONCE: usize = 20_000;
const JOURNAL_BYTES: u64 = 60_000_000;
/// Less than may wait for the store.
const AT_ONCE: usize = 1_000;

pub(crate) fn measure(report: &mut Report) {
    let place = Workplace::new();
    let toml = Toml { server: String::new(), store: "path = \"data\"\n".into(), tls: false, ..Toml::default() };
    let (address, admin) = (free_port(), free_port());
    let text = toml.text(&[free_port()]);
    let text = text.replacen("127.0.0.1:0", &address.to_string(), 1).replacen("127.0.0.1:0", &admin.to_string(), 1);
    std::fs::write(place.path("portcullis.toml"), text).expect("written");

    let empty = start(&place, admin, &mut || {});
    std::fs::remove_dir_all(place.path("data")).expect("removed");
    let built = Instant::now();
    fill(&place.path("data"));
    println!("the store took {:.0} s to fill", built.elapsed().as_secs_f64());

    let warm: Vec<_> = (0..STARTS).map(|_| start(&place, admin, &mut || {})).collect();
    let mut could = true;
    let mut drop_caches = || could &= std::fs::write("/proc/sys/vm/drop_caches", "3").is_ok();
    let cold: Vec<_> = (0..3).map(|_| start(&place, admin, &mut drop_caches)).collect();

    let seconds = |starts: &[Started]| median(starts.iter().map(|start| start.after.as_secs_f64()));
    report.section("Start with 1 M sessions and 1 M revocations");
    report.text(&format!(
        "The embedded store, {} MB on disk, {} of them a journal nearly as long as it gets. From `exec` to 200 of \
         `/readyz`, after the process before was killed; medians of {STARTS} starts. An empty store: {:.2} s.",
        size(&place.path("data")) / 1_000_000,
        journal_bytes(&place.path("data")) / 1_000_000,
        empty.after.as_secs_f64(),
    ));
    let ready = seconds(&warm);
    report.figure(
        "start with 1 M sessions and 1 M revocations, files in the page cache",
        &format!("{ready:.2} s"),
        "at most 2 s",
        Some(ready <= MOST.as_secs_f64()),
    );
    if could {
        report.figure("the same with nothing in the page cache", &format!("{:.2} s", seconds(&cold)), "", None);
    }
    let megabytes = |start: &Started| start.memory / 1_000_000;
    let most = warm.iter().map(megabytes).max().unwrap_or(0);
    let each = (most - megabytes(&empty)) * 1_000_000 / SESSIONS as u64;
    report.figure(
        "memory of the process with them, once ready",
        &format!("{most} MB ({} MB without any; {each} bytes for a session and a revocation)", megabytes(&empty)),
        "",
        None,
    );
}

struct Started {
    after: Duration,
    memory: u64,
}

/// Starts the gateway, waits until it is ready, and kills it.
fn start(place: &Workplace, admin: SocketAddr, before: &mut dyn FnMut()) -> Started {
    before();
    let log = std::fs::File::create(place.path("log")).expect("made");
    let start = Instant::now();
    let mut child = portcullis()
        .args(["run", "--config"])
        .arg(place.path("portcullis.toml"))
        .stdout(std::process::Stdio::null())
        .stderr(log)
        .spawn()
        .expect("started");
    let ready = || {
        std::net::TcpStream::connect(admin).is_ok()
            && Client::plain(admin).ask("GET /readyz HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").status == 200
    };
    while !ready() {
        let log = std::fs::read_to_string(place.path("log")).expect("read");
        assert!(child.try_wait().expect("ours").is_none(), "ended: {log}");
        std::thread::sleep(Duration::from_millis(2));
    }
    let started = Started { after: start.elapsed(), memory: machine::memory(child.id()) };
    child.kill().expect("running");
    child.wait().expect("ours");
    started
}

/// Sessions of as many users, and revocations of others, as a gateway makes them.
fn fill(path: &Path) {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let store = Arc::new(EmbeddedStore::open(path, Arc::new(Revocations::new())).expect("a store"));
    let now = UnixTime::now();
    let later = now.plus(Duration::from_secs(3600));
    let of = store.clone();
    let created = move |number, id| {
        let session = session(number, id, now, later);
        let store = of.clone();
        async move { store.create(session, None).await.map(drop) }
    };
    runtime.block_on(all(SESSIONS, Ids(5), created)).expect("created");
    let of = store.clone();
    let ended = move |_, id| {
        let store = of.clone();
        async move { store.revoke(end(id, later)).await }
    };
    runtime.block_on(all(REVOCATIONS, Ids(6), ended)).expect("revoked");
    // Sessions are refreshed until the journal, all of which a start reads, is nearly as long as it gets.
    for round in 0..ROTATIONS / ROTATED_AT_ONCE {
        if journal_bytes(path) >= JOURNAL_BYTES {
            break;
        }
        let of = store.clone();
        let refreshed = move |_, id| {
            let store = of.clone();
            let rotate = |row: Option<&Session>, _: Option<UnixTime>| {
                row.map_or(Change::Keep, |row| Change::Put(Session { counter: row.counter + 1, ..row.clone() }))
            };
            async move { store.update(id, Box::new(rotate)).await.map(drop) }
        };
        let ids = Ids(5).skip(round * ROTATED_AT_ONCE);
        runtime.block_on(all(ROTATED_AT_ONCE, ids, refreshed)).expect("refreshed");
    }
    runtime.block_on(store.close()).expect("closed");
    println!("{} MB of journal", journal_bytes(path) / 1_000_000);
}

/// What journals have of the disk: they are made with more length than that.
fn journal_bytes(path: &Path) -> u64 {
    let entries = std::fs::read_dir(path.join("store")).expect("a store");
    let journals = entries.flatten().filter(|entry| entry.path().extension().is_some_and(|end| end == "jnl"));
    journals.filter_map(|entry| Some(entry.metadata().ok()?.blocks() * 512)).sum()
}

async fn all<F>(
    count: usize,
    ids: impl Iterator<Item = SessionId>,
    each: impl Fn(usize, SessionId) -> F,
) -> Result<(), StoreError>
where
    F: Future<Output = Result<(), StoreError>> + Send + 'static,
{
    let mut running = JoinSet::new();
    for (number, id) in ids.take(count).enumerate() {
        if running.len() >= AT_ONCE {
            running.join_next().await.expect("some run").expect("no panic")?;
        }
        running.spawn(each(number, id));
    }
    while let Some(done) = running.join_next().await {
        done.expect("no panic")?;
    }
    Ok(())
}

fn session(number: usize, id: SessionId, now: UnixTime, later: UnixTime) -> Session {
    Session {
        id,
        user: UserId::parse(&format!("user-{number:07}")).expect("an id"),
        created_at: now,
        label: Some("Firefox on Linux".into()),
        claims: None,
        counter: 0,
        rotated_at: now,
        refresh_key: 1,
        last_seen: now,
        access_issued_at: now,
        access_expires_at: later,
    }
}

/// Of all files below.
fn size(path: &Path) -> u64 {
    let Ok(entries) = std::fs::read_dir(path) else { return 0 };
    let each = entries.flatten().map(|entry| match entry.metadata() {
        Ok(meta) if meta.is_dir() => size(&entry.path()),
        // What is on the disk: journals are made with more length than they have blocks.
        Ok(meta) => meta.blocks() * 512,
        Err(_) => 0,
    });
    each.sum()
}
