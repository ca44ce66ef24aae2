//! The embedded store: a log-structured database in a directory of this machine, written by one thread.

mod error;
pub(super) mod journal;

use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::num::NonZeroU32;
use std::ops::Bound;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::Path;
use std::sync::Arc;

use fjall::{Database, Keyspace, KeyspaceCreateOptions, PersistMode, Readable as _};

pub use self::error::OpenError;
use self::journal::Journals;
use super::committer::Committer;
use super::ledger::{self, Acknowledged, Ledger, SEQUENCE_KEY};
use super::tables::{Tables, unreadable};
use super::{
    Decide, EndUser, ListPosition, ScanPage, ScanPosition, SessionStore, StoreError, StoreFuture, Updated, record,
};
use crate::clock::UnixTime;
use crate::ids::{SessionId, UserId};
use crate::revocation::{Revocation, Revocations};
use crate::session::Session;
use crate::shared_files;

/// Blocks of tables kept in memory.
const CACHE_BYTES: u64 = 64 << 20;
/// Rows written and not yet in a table, for each kind of row; up to four times that while the disk is behind.
const MEMTABLE_BYTES: u64 = 16 << 20;
/// The journal on disk, but for what is being written to: as little as the database takes, for a start reads all of it.
const JOURNAL_BYTES: u64 = 64 << 20;
/// One flushes while the other compacts.
const WORKERS: usize = 2;
/// Places of a purge in one operation: about a millisecond of the writing thread.
const PURGE_CHUNK: usize = 512;

const FORMAT_KEY: &str = "format";

/// The directories of tables, one for each keyspace, and the database's own.
const TABLE_DIRECTORIES: std::ops::RangeInclusive<u32> = 0..=5;

/// Sessions in a directory, for one process.
pub struct EmbeddedStore {
    // In the order they must go: the writer first, the lock last.
    committer: Committer,
    tables: Tables,
    database: Database,
    revocations: Arc<Revocations>,
    _lock: File,
}

impl std::fmt::Debug for EmbeddedStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("EmbeddedStore").field("health", &self.health()).finish_non_exhaustive()
    }
}

impl EmbeddedStore {
    /// Opens the store in `<path>/store`, made when it is not there, and puts every stored revocation into
    /// `revocations`, whatever its expiry: what may go is for the purge to say, whose clock is trusted.
    ///
    /// The directory is made with mode 0700 and locked against a second process until the store is dropped. Blocks on
    /// the disk.
    ///
    /// # Errors
    /// [`OpenError`] names the directory.
    pub fn open(path: &Path, revocations: Arc<Revocations>) -> Result<Self, OpenError> {
        if path.exists() && !path.is_dir() {
            return Err(OpenError::NotADirectory(path.to_owned()));
        }
        let io = |doing| move |source| OpenError::Io { doing, path: path.to_owned(), source };
        shared_files::make_directory(path).map_err(io("create"))?;
        let lock = lock(path)?;
        let damaged = |source: fjall::Error| match source {
            fjall::Error::Locked => OpenError::InUse(path.to_owned()),
            source => OpenError::Damaged { path: path.to_owned(), source: Box::new(source) },
        };

        let home = path.join("store");
        let told = Acknowledged::read(path).map_err(io("read"))?.transpose();
        let told = told.map_err(|file| OpenError::DamagedFile { file, offset: 0 })?;
        if home.try_exists().map_err(io("read"))? {
            check_files(path, &home, told)?;
        } else if told.is_some_and(|told| told.sequence > 0) {
            return Err(OpenError::Missing(home));
        } else {
            ledger::create(path).map_err(io("write to"))?;
            // Made beside and moved into place whole: a first start that is cut off leaves nothing half-made.
            let unfinished = path.join("store.new");
            if unfinished.try_exists().map_err(io("read"))? {
                fs::remove_dir_all(&unfinished).map_err(io("write to"))?;
            }
            DirBuilder::new().mode(0o700).create(&unfinished).map_err(io("write to"))?;
            let (database, _, meta) = open_database(&unfinished).map_err(damaged)?;
            meta.insert(FORMAT_KEY, record::FORMAT.to_be_bytes()).map_err(damaged)?;
            database.persist(PersistMode::SyncAll).map_err(damaged)?;
            drop((meta, database));
            // The database does not sync the directories that it makes its tables in.
            sync_all(&unfinished).map_err(io("sync"))?;
            fs::rename(&unfinished, &home).map_err(io("write to"))?;
            File::open(path).and_then(|dir| dir.sync_all()).map_err(io("sync"))?;
        }

        let (database, tables, meta) = open_database(&home).map_err(damaged)?;
        check_format(path, &meta, damaged)?;
        // A process that was killed leaves writes that the kernel has and the disk has not. We are about to act on
        // them, so they must be as durable as if we had acknowledged them.
        database.persist(PersistMode::SyncAll).map_err(damaged)?;
        let last = check_sequence(path, &meta, told)?;
        let newest = journal::newest(&home).map_err(io("read"))?;
        let ledger = Ledger::open(path, &home, last, newest).map_err(io("write to"))?;
        let bad_record = |source: StoreError| OpenError::Damaged { path: path.to_owned(), source: Box::new(source) };
        tables.load_revocations(&revocations).map_err(bad_record)?;
        let committer = Committer::start(database.clone(), tables.clone(), revocations.clone(), (meta, ledger))
            .map_err(io("start a thread for"))?;
        Ok(Self { committer, tables, database, revocations, _lock: lock })
    }

    /// Has the next commit fail.
    #[cfg(test)]
    pub(crate) fn inject(&self, fault: super::Fault) {
        self.committer.inject(fault);
    }

    /// Raw access for tests that damage or inspect rows.
    #[cfg(test)]
    pub(crate) fn rows(&self) -> &Keyspace {
        &self.tables.sessions
    }

    fn list_now(&self, user: &UserId, after: Option<ListPosition>, limit: usize) -> Result<Vec<Session>, StoreError> {
        self.committer.health()?;
        let prefix = record::user_prefix(user);
        let from = match after {
            Some(after) => Bound::Excluded(record::user_key(user, after.created_at, after.id)),
            None => Bound::Included(prefix.clone()),
        };
        // One moment for both tables, or a session that ends meanwhile would look damaged.
        let snapshot = self.database.snapshot();
        let mut found = Vec::new();
        for entry in snapshot.range(&self.tables.by_user, (from, Bound::Unbounded)).take(limit) {
            let key = entry.key().map_err(unreadable)?;
            if !key.starts_with(&prefix) {
                break;
            }
            let id = record::session_of_user_key(&key)?;
            let row = snapshot.get(&self.tables.sessions, id.as_bytes()).map_err(unreadable)?;
            let row = row.ok_or(StoreError::Corrupt("user's session without a row"))?;
            found.push(record::decode_session(id, &row)?);
        }
        Ok(found)
    }

    fn scan_now(&self, after: Option<ScanPosition>, limit: usize) -> Result<ScanPage, StoreError> {
        self.committer.health()?;
        let from = after.map_or(Bound::Unbounded, |after| Bound::Excluded(after.0));
        let rows = self.tables.sessions.range::<Vec<u8>, _>((from, Bound::Unbounded));
        let sessions = rows
            .take(limit)
            .map(|entry| {
                let (key, row) = entry.into_inner().map_err(unreadable)?;
                record::decode_session(record::session_of_key(&key)?, &row)
            })
            .collect::<Result<Vec<_>, _>>()?;
        let next = sessions.last().map(|last| ScanPosition(last.id.as_bytes().to_vec()));
        Ok(ScanPage { sessions, next })
    }
}

fn lock(path: &Path) -> Result<File, OpenError> {
    let io = |source| OpenError::Io { doing: "lock", path: path.to_owned(), source };
    let file = OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(path.join("lock"));
    let file = file.map_err(io)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(OpenError::InUse(path.to_owned())),
        Err(TryLockError::Error(source)) => Err(io(source)),
    }
}

/// Makes a directory durable, with all that is in it.
fn sync_all(directory: &Path) -> std::io::Result<()> {
    for entry in fs::read_dir(directory)? {
        let path = entry?.path();
        if path.is_dir() { sync_all(&path)? } else { File::open(path)?.sync_all()? }
    }
    File::open(directory)?.sync_all()
}

/// Whether the files of the database in `home` are there and whole, as far as it would not say so itself. Drops a batch
/// that a power cut left half written.
fn check_files(path: &Path, home: &Path, told: Option<Acknowledged>) -> Result<(), OpenError> {
    for number in TABLE_DIRECTORIES {
        // Without it the database takes the table for one that was never finished, and removes it.
        let current = home.join("keyspaces").join(number.to_string()).join("current");
        let there = current.try_exists();
        if !there.map_err(|source| OpenError::Io { doing: "read", path: path.to_owned(), source })? {
            return Err(OpenError::Missing(current));
        }
    }
    let found = Journals::read(home)?;
    let told = told.unwrap_or_default();
    if found.newest.is_none_or(|newest| newest < told.journal) {
        return Err(OpenError::Missing(journal::named(home, told.journal)));
    }
    // Journals go when all of them is in tables, the oldest first: when any batch is there, so is the last.
    let behind = found.last.is_some_and(|last| last < told.sequence);
    match found.torn {
        Some((file, offset)) if behind => Err(OpenError::DamagedFile { file, offset }),
        None if behind => Err(lost(path, found.last.unwrap_or_default(), told)),
        Some((file, offset)) => {
            tracing::warn!(
                file = %file.display(),
                offset,
                "dropped a write that a power cut left unfinished and that nobody was told of"
            );
            let io = |source| OpenError::Io { doing: "write to", path: path.to_owned(), source };
            journal::cut(&file, offset).map_err(io)
        }
        None => Ok(()),
    }
}

/// The number of the last batch, which must not be before the last that was acknowledged.
fn check_sequence(path: &Path, meta: &Keyspace, told: Option<Acknowledged>) -> Result<u64, OpenError> {
    let damaged = |source: StoreError| OpenError::Damaged { path: path.to_owned(), source: Box::new(source) };
    let last = match meta.get(SEQUENCE_KEY).map_err(unreadable).map_err(damaged)? {
        None => None,
        Some(number) => {
            let number = (&*number).try_into().ok().map(u64::from_be_bytes);
            Some(number.ok_or_else(|| damaged(StoreError::Corrupt("number of the last change")))?)
        }
    };
    match (last, told) {
        (_, Some(told)) if last.unwrap_or_default() < told.sequence => Err(lost(path, last.unwrap_or_default(), told)),
        (Some(_), None) => Err(OpenError::Missing(ledger::file(path))),
        (None, None) => {
            // A store from before changes were counted.
            let io = |source| OpenError::Io { doing: "write to", path: path.to_owned(), source };
            ledger::create(path).map_err(io).map(|()| 0)
        }
        (last, Some(_)) => Ok(last.unwrap_or_default()),
    }
}

fn lost(path: &Path, found: u64, told: Acknowledged) -> OpenError {
    OpenError::Lost { path: path.to_owned(), found, acknowledged: told.sequence }
}

fn open_database(home: &Path) -> Result<(Database, Tables, Keyspace), fjall::Error> {
    let database = Database::builder(home)
        .cache_size(CACHE_BYTES)
        .max_journaling_size(JOURNAL_BYTES)
        .worker_threads(WORKERS)
        // Every batch says itself how durable it is.
        .manual_journal_persist(true)
        .open()?;
    let keyspace = |name: &str, hits| {
        database.keyspace(name, || {
            KeyspaceCreateOptions::default().max_memtable_size(MEMTABLE_BYTES).expect_point_read_hits(hits)
        })
    };
    let tables = Tables {
        // Only ids with a right MAC are looked up, so nearly all are found and a filter for the last level is waste.
        sessions: keyspace("sessions", true)?,
        by_user: keyspace("by_user", false)?,
        revocations: keyspace("revocations", false)?,
        expiry: keyspace("expiry", false)?,
    };
    let meta = keyspace("meta", true)?;
    Ok((database, tables, meta))
}

fn check_format(
    path: &Path,
    meta: &Keyspace,
    damaged: impl FnOnce(fjall::Error) -> OpenError,
) -> Result<(), OpenError> {
    let found = meta.get(FORMAT_KEY).map_err(damaged)?;
    match found.as_deref().and_then(|bytes| bytes.try_into().ok()).map(u32::from_be_bytes) {
        Some(record::FORMAT) => Ok(()),
        Some(found) if found > record::FORMAT => Err(OpenError::NewerFormat { path: path.to_owned(), found }),
        _ => Err(OpenError::Damaged {
            path: path.to_owned(),
            source: Box::new(StoreError::Corrupt("no format this version knows")),
        }),
    }
}

impl SessionStore for EmbeddedStore {
    fn create(&self, session: Session, max_per_user: Option<NonZeroU32>) -> StoreFuture<'_, Vec<SessionId>> {
        Box::pin(self.committer.submit(1, move |draft| draft.create(&session, max_per_user)))
    }

    fn update(&self, id: SessionId, decide: Decide) -> StoreFuture<'_, Updated> {
        Box::pin(self.committer.submit(1, move |draft| draft.update(id, &decide)))
    }

    /// The writing thread reads and writes.
    fn updates_anywhere(&self) -> bool {
        true
    }

    fn find(&self, id: SessionId) -> StoreFuture<'_, Option<Session>> {
        // Straight from the database: a row becomes visible there only once it is durable.
        Box::pin(async move {
            self.committer.health()?;
            let row = self.tables.sessions.get(id.as_bytes()).map_err(unreadable)?;
            row.map(|row| record::decode_session(id, &row)).transpose()
        })
    }

    fn list(&self, user: &UserId, after: Option<ListPosition>, limit: usize) -> StoreFuture<'_, Vec<Session>> {
        let user = user.clone();
        Box::pin(async move { self.list_now(&user, after, limit) })
    }

    fn end_user(&self, end: EndUser) -> StoreFuture<'_, Vec<SessionId>> {
        Box::pin(self.committer.submit(1, move |draft| draft.end_user(&end)))
    }

    fn touch(&self, seen: Vec<(SessionId, UnixTime)>) -> StoreFuture<'_, ()> {
        Box::pin(self.committer.submit(seen.len(), move |draft| draft.touch(&seen)))
    }

    fn revoke(&self, revocation: Revocation) -> StoreFuture<'_, ()> {
        Box::pin(self.committer.submit(1, move |draft| draft.revoke(revocation)))
    }

    fn purge_revocations(&self, now: UnixTime) -> StoreFuture<'_, usize> {
        Box::pin(async move {
            let mut total = 0;
            let mut after = None;
            loop {
                let tables = self.tables.clone();
                let purge = self.committer.submit(PURGE_CHUNK, move |draft| {
                    let due = tables.due(after, now, PURGE_CHUNK)?;
                    Ok((draft.purge(&due, now)?, due.last().filter(|_| due.len() == PURGE_CHUNK).cloned()))
                });
                let (gone, more) = purge.await?;
                total += gone;
                if more.is_none() {
                    return Ok(total);
                }
                after = more;
            }
        })
    }

    fn scan(&self, after: Option<ScanPosition>, limit: usize) -> StoreFuture<'_, ScanPage> {
        Box::pin(async move { self.scan_now(after, limit) })
    }

    fn revocations(&self) -> &Arc<Revocations> {
        &self.revocations
    }

    fn health(&self) -> Result<(), StoreError> {
        self.committer.health()
    }

    fn close(&self) -> StoreFuture<'_, ()> {
        Box::pin(self.committer.close())
    }
}

#[cfg(test)]
mod damage;
#[cfg(test)]
mod hand_over;
#[cfg(test)]
mod tests;
