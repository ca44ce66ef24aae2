//! Files that are not as they were written: what a power cut does is mended, all else is refused in words. Nothing that
//! was acknowledged is ever forgotten in silence.

use std::os::unix::fs::FileExt as _;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;

use tempfile::TempDir;

use super::tests::{copy, end, open};
use super::*;
use crate::revocation::EndReason;
use crate::session::store::Change;
use crate::session::store::conformance::{at, id, session, user};

fn attempt(path: &Path) -> Result<EmbeddedStore, OpenError> {
    EmbeddedStore::open(path, Arc::new(Revocations::new()))
}

fn count(to: u64) -> Decide {
    Box::new(move |row, _| Change::Put(Session { counter: to, ..row.unwrap().clone() }))
}

fn journal(data: &Path) -> PathBuf {
    let home = data.join("store");
    journal::named(&home, journal::newest(&home).unwrap())
}

/// In memory where there is such a place: it is written thousands of times.
fn place() -> TempDir {
    TempDir::new_in("/dev/shm").or_else(|_| TempDir::new()).unwrap()
}

/// What is in a file before the zeros it was made with.
fn used(file: &Path) -> Vec<u8> {
    let mut bytes = fs::read(file).unwrap();
    bytes.truncate(bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1));
    bytes
}

/// A store with one session whose counter was moved to 1, then to 2: before and after the last of the three batches.
struct Two {
    dir: TempDir,
    before: Vec<u8>,
    after: Vec<u8>,
}

impl Two {
    async fn make() -> Self {
        let dir = place();
        let data = dir.path().join("data");
        let store = open(&data);
        store.create(session(1, "ann", 1), None).await.unwrap();
        store.update(id(1), count(1)).await.unwrap();
        let before = used(&journal(&data));
        copy(&data, &dir.path().join("then"));
        store.update(id(1), count(2)).await.unwrap();
        let after = used(&journal(&data));
        copy(&data, &dir.path().join("now"));
        assert!(after.starts_with(&before) && after.len() > before.len());
        Self { dir, before, after }
    }

    /// Opens the store as it was then or is now, as far as what was acknowledged goes, with this in its journal.
    fn open(&self, acknowledged: &str, journaled: &[u8]) -> Result<EmbeddedStore, OpenError> {
        let data = self.dir.path().join("case");
        drop(fs::remove_dir_all(&data));
        copy(&self.dir.path().join(acknowledged), &data);
        fs::write(journal(&data), journaled).unwrap();
        attempt(&data)
    }
}

#[tokio::test]
async fn a_write_cut_short_is_dropped_when_nobody_was_told_and_refused_when_somebody_was() {
    let two = Two::make().await;
    let (whole, from) = (&two.after, two.before.len());
    let mut cases = Vec::new();
    for length in from..whole.len() {
        let mut zeros = whole[..length].to_vec();
        zeros.resize(whole.len() + 5000, 0);
        cases.extend([(format!("cut at {length}"), whole[..length].to_vec()), (format!("zeros from {length}"), zeros)]);
    }
    // Sectors reach the disk in any order: a hole with the end behind it, which the database itself would not open.
    for (start, end) in [(from, from + 1), (from, from + 40), (from + 13, from + 60), (from + 60, from + 90)] {
        let mut hole = whole.clone();
        hole[start..end].fill(0);
        cases.push((format!("hole from {start} to {end}"), hole));
    }
    let mut wrong = Vec::new();
    for (name, journaled) in &cases {
        match two.open("then", journaled) {
            Ok(store) if store.find(id(1)).await.unwrap().is_some_and(|row| row.counter == 1) => {}
            Ok(_) => wrong.push(format!("{name}: another counter")),
            Err(error) => wrong.push(format!("{name}: {error}")),
        }
        match two.open("now", journaled) {
            Ok(_) => wrong.push(format!("{name}: opened although the change was acknowledged")),
            Err(OpenError::DamagedFile { file, offset }) if file.ends_with("0.jnl") && offset == from as u64 => {}
            Err(OpenError::Lost { found: 2, acknowledged: 3, .. }) => {}
            Err(error) => wrong.push(format!("{name}: {error}")),
        }
    }
    println!("unfinished writes: {} cases", cases.len() * 2);
    assert!(wrong.is_empty(), "{wrong:#?}");
    // What was there all the time counts, whoever was told.
    assert_eq!(two.open("then", whole).unwrap().find(id(1)).await.unwrap().unwrap().counter, 2);
    assert_eq!(two.open("now", whole).unwrap().find(id(1)).await.unwrap().unwrap().counter, 2);
}

#[tokio::test]
async fn damage_before_the_last_write_is_refused_whoever_was_told() {
    let two = Two::make().await;
    let mut wrong = Vec::new();
    let cases = two.before.len();
    for byte in 0..cases {
        let bit = 1_u8 << (byte % 8);
        let mut damaged = two.after.clone();
        damaged[byte] ^= bit;
        // Numbers of batches that only grow by the flip are harmless: their order stays what it was.
        match two.open("then", &damaged) {
            Ok(store) if store.find(id(1)).await.is_ok_and(|row| row.is_some_and(|row| row.counter == 2)) => {}
            Ok(_) => wrong.push(format!("byte {byte}, bit {bit:#x}: opened with less")),
            Err(OpenError::DamagedFile { file, .. }) if file.ends_with("0.jnl") => {}
            Err(error) => wrong.push(format!("byte {byte}, bit {bit:#x}: {error}")),
        }
    }
    println!("flipped bits before the last write: {cases} cases");
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[tokio::test]
async fn a_file_that_has_gone_is_named() {
    let two = Two::make().await;
    let mut wrong = Vec::new();
    let files = ["store", "store/0.jnl", "acknowledged"].map(str::to_owned);
    let tables = TABLE_DIRECTORIES.map(|number| format!("store/keyspaces/{number}"));
    let markers = TABLE_DIRECTORIES.map(|number| format!("store/keyspaces/{number}/current"));
    for file in files.into_iter().chain(tables).chain(markers) {
        let data = two.dir.path().join("case");
        drop(fs::remove_dir_all(&data));
        copy(&two.dir.path().join("now"), &data);
        let gone = data.join(&file);
        if gone.is_dir() {
            fs::remove_dir_all(&gone).unwrap()
        } else {
            fs::remove_file(&gone).unwrap()
        }
        // Twice: a refusal must not be what makes the next start go through.
        for start in 1..=2 {
            let told = attempt(&data).map(drop).map_err(|error| error.to_string());
            if !told.as_ref().is_err_and(|told| told.contains(&gone.display().to_string())) {
                wrong.push(format!("{file}, start {start}: {told:?}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[tokio::test]
async fn a_store_from_before_changes_were_counted_is_taken_over() {
    let dir = TempDir::new().unwrap();
    let store = open(dir.path());
    store.create(session(1, "ann", 1), None).await.unwrap();
    drop(store);
    fs::remove_file(dir.path().join("acknowledged")).unwrap();
    assert!(matches!(attempt(dir.path()), Err(OpenError::Missing(_))));
    let (database, _, meta) = open_database(&dir.path().join("store")).unwrap();
    meta.remove(SEQUENCE_KEY).unwrap();
    drop((database, meta));
    // The journal still has it; such a store has not.
    fs::write(dir.path().join("acknowledged"), "").unwrap();
    assert!(matches!(attempt(dir.path()), Err(OpenError::DamagedFile { .. })));
    fs::remove_file(dir.path().join("acknowledged")).unwrap();
    let store = open(dir.path());
    assert!(store.find(id(1)).await.unwrap().is_some());
    store.update(id(1), count(5)).await.unwrap();
    drop(store);
    assert!(Acknowledged::read(dir.path()).unwrap().unwrap().is_ok_and(|told| told.sequence == 1));
}

/// The same numbers each time.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        usize::try_from((mixed ^ (mixed >> 31)) % bound as u64).unwrap()
    }
}

/// A file of a store, without the zeros at its end.
struct Kept {
    name: PathBuf,
    bytes: Vec<u8>,
    length: u64,
}

/// The directories and files of a store.
#[derive(Default)]
struct Copied {
    directories: Vec<PathBuf>,
    files: Vec<Kept>,
}

fn keep(root: &Path, below: &Path, copied: &mut Copied) {
    for entry in fs::read_dir(below).unwrap() {
        let path = entry.unwrap().path();
        let name = path.strip_prefix(root).unwrap().to_owned();
        if path.is_dir() {
            copied.directories.push(name);
            keep(root, &path, copied);
        } else {
            let bytes = used(&path);
            // Of the zeros that a journal is made with, 64 MiB, fewer do: they are read a thousand times.
            let length = path.metadata().unwrap().len().min(bytes.len() as u64 + (1 << 20));
            copied.files.push(Kept { name, bytes, length });
        }
    }
}

fn put_back(root: &Path, copied: &Copied) {
    drop(fs::remove_dir_all(root));
    fs::create_dir_all(root).unwrap();
    copied.directories.iter().for_each(|name| fs::create_dir_all(root.join(name)).unwrap());
    for Kept { name, bytes, length } in &copied.files {
        let path = root.join(name);
        fs::write(&path, bytes).unwrap();
        OpenOptions::new().write(true).open(&path).unwrap().set_len(*length).unwrap();
    }
}

/// Rows in tables and rows in the journal, with those in the journal over those in the tables.
async fn with_tables(store: &EmbeddedStore) -> Vec<Option<Session>> {
    let mut rows: Vec<_> = (0..40).map(|byte| Some(session(byte, "ann", u64::from(byte)))).collect();
    for row in rows.iter().flatten() {
        store.create(row.clone(), None).await.unwrap();
    }
    let to = |byte: usize| id(u8::try_from(byte).unwrap());
    for (byte, row) in rows.iter_mut().enumerate() {
        if byte.is_multiple_of(5) {
            store.update(to(byte), end(EndReason::SignedOut)).await.unwrap();
            *row = None;
        }
    }
    let Tables { sessions, by_user, revocations, expiry } = &store.tables;
    for table in [sessions, by_user, revocations, expiry] {
        table.rotate_memtable_and_wait().unwrap();
    }
    for (byte, row) in rows.iter_mut().enumerate().filter(|(_, row)| row.is_some()) {
        if byte % 5 == 1 {
            store.update(to(byte), end(EndReason::RefreshReused)).await.unwrap();
            *row = None;
        } else {
            store.update(to(byte), count(7)).await.unwrap();
            row.as_mut().unwrap().counter = 7;
        }
    }
    rows
}

/// `Ok(true)`: all is there. `Ok(false)`: what is not there was refused. `Err`: something was forgotten in silence.
async fn judge(data: &Path, rows: &[Option<Session>]) -> Result<bool, String> {
    let store = match attempt(data) {
        Ok(store) => store,
        Err(error) if error.to_string().contains(&data.display().to_string()) => return Ok(false),
        Err(error) => return Err(format!("an error that names no file: {error}")),
    };
    let mut whole = true;
    for (byte, row) in rows.iter().enumerate() {
        let id = id(u8::try_from(byte).unwrap());
        match store.find(id).await {
            Ok(found) if found == *row => {}
            Ok(found) => return Err(format!("session {byte} is {:?}", found.map(|found| found.counter))),
            Err(_) => whole = false,
        }
        if row.is_none() && store.revocations().check(&id.into(), &user("ann"), at(1)).is_none() {
            return Err(format!("the end of session {byte} is forgotten"));
        }
    }
    Ok(whole)
}

#[test]
fn a_thousand_damaged_places_and_nothing_acknowledged_is_forgotten_in_silence() {
    const CASES: usize = 1000;
    let dir = place();
    let data = dir.path().join("data");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let store = open(&data);
    let rows = runtime.block_on(with_tables(&store));
    drop(store);
    let mut copied = Copied::default();
    keep(&data, &data, &mut copied);
    copied.files.sort_by(|a, b| a.name.cmp(&b.name));
    put_back(&data, &copied);
    assert_eq!(runtime.block_on(judge(&data, &rows)), Ok(true), "undamaged");

    let kept: Vec<_> = copied.files.iter().filter(|file| !file.bytes.is_empty()).collect();
    let is_journal = |file: &&Kept| file.name.extension().is_some_and(|ending| ending == "jnl");
    let journal = *kept.iter().find(|file| is_journal(file)).unwrap();
    let mut random = Random(8);
    let (mut wrong, mut refused) = (Vec::new(), 0);
    for case in 0..CASES {
        // Every other time the journal, which has what was acknowledged last; any file otherwise.
        let file = if case % 2 == 0 { journal } else { kept[random.below(kept.len())] };
        // In the last 200 bytes, or anywhere.
        let used = file.bytes.len();
        let place = if case % 4 < 2 { used - 1 - random.below(used.min(200)) } else { random.below(used) };
        put_back(&data, &copied);
        let damaged = OpenOptions::new().write(true).open(data.join(&file.name)).unwrap();
        let how = match random.below(3) {
            0 => {
                damaged.set_len(place as u64).unwrap();
                "cut".to_owned()
            }
            1 => {
                let bit = 1_u8 << random.below(8);
                damaged.write_all_at(&[file.bytes[place] ^ bit], place as u64).unwrap();
                format!("bit {bit:#x} flipped")
            }
            _ => {
                let zeros = vec![0; (used - place).min(512)];
                damaged.write_all_at(&zeros, place as u64).unwrap();
                "zeros".to_owned()
            }
        };
        let name = format!("case {case}: {} {how} at {place} of {used}", file.name.display());
        let judged = catch_unwind(AssertUnwindSafe(|| runtime.block_on(judge(&data, &rows))));
        match judged {
            Ok(Ok(whole)) => refused += usize::from(!whole),
            Ok(Err(fault)) => wrong.push(format!("{name}: {fault}")),
            Err(_) => wrong.push(format!("{name}: panicked")),
        }
    }
    println!("damaged places: {CASES} cases, {refused} refused, the others harmless");
    assert!(wrong.is_empty(), "{} of {CASES}: {wrong:#?}", wrong.len());
    assert!(refused > CASES / 2, "only {refused} refused: nothing was damaged");
}
