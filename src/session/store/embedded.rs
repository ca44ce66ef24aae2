//! The embedded store: a log-structured database in a directory of this machine, written by one thread.

use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io;
use std::num::NonZeroU32;
use std::ops::Bound;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use fjall::{Database, Keyspace, KeyspaceCreateOptions, PersistMode, Readable as _};

use super::committer::Committer;
use super::tables::{Tables, unreadable};
use super::{
    Decide, EndUser, ListPosition, ScanPage, ScanPosition, SessionStore, StoreError, StoreFuture, Updated, record,
};
use crate::clock::UnixTime;
use crate::ids::{SessionId, UserId};
use crate::revocation::{Revocation, Revocations};
use crate::session::Session;

/// Blocks of tables kept in memory.
const CACHE_BYTES: u64 = 64 << 20;
/// Rows written and not yet in a table, for each kind of row; up to four times that while the disk is behind.
const MEMTABLE_BYTES: u64 = 16 << 20;
/// The journal on disk at most.
const JOURNAL_BYTES: u64 = 256 << 20;
/// One flushes while the other compacts.
const WORKERS: usize = 2;
/// Places of a purge in one operation: about a millisecond of the writing thread.
const PURGE_CHUNK: usize = 512;

const FORMAT_KEY: &str = "format";

/// Why a data directory cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// There is a file in its place.
    #[error("data directory {} is not a directory", .0.display())]
    NotADirectory(PathBuf),
    /// Another process has it open. Two would hand out two successors of one refresh token.
    #[error("data directory {} is used by another process", .0.display())]
    InUse(PathBuf),
    /// It, or something in it, cannot be made, read or written.
    #[error("cannot {doing} data directory {}", path.display())]
    Io {
        /// `create`, `lock`, …
        doing: &'static str,
        /// The directory.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A later version of Portcullis has written it.
    #[error("data directory {} has format {found}, this version knows formats up to {}", path.display(), record::FORMAT)]
    NewerFormat {
        /// The directory.
        path: PathBuf,
        /// What is there.
        found: u32,
    },
    /// The database in it cannot be read.
    #[error("cannot open the session store in {}", path.display())]
    Damaged {
        /// The directory.
        path: PathBuf,
        /// Why.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

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
        DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(io("create"))?;
        let lock = lock(path)?;
        let damaged = |source: fjall::Error| match source {
            fjall::Error::Locked => OpenError::InUse(path.to_owned()),
            source => OpenError::Damaged { path: path.to_owned(), source: Box::new(source) },
        };

        let home = path.join("store");
        if !home.try_exists().map_err(io("read"))? {
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
            fs::rename(&unfinished, &home).map_err(io("write to"))?;
            File::open(path).and_then(|dir| dir.sync_all()).map_err(io("sync"))?;
        }

        let (database, tables, meta) = open_database(&home).map_err(damaged)?;
        check_format(path, &meta, damaged)?;
        // A process that was killed leaves writes that the kernel has and the disk has not. We are about to act on
        // them, so they must be as durable as if we had acknowledged them.
        database.persist(PersistMode::SyncAll).map_err(damaged)?;
        let bad_record = |source: StoreError| OpenError::Damaged { path: path.to_owned(), source: Box::new(source) };
        for entry in tables.revocations.iter() {
            let (key, value) = entry.into_inner().map_err(damaged)?;
            record::decode_revocation(&key, &value, |revocation| revocations.insert(revocation)).map_err(bad_record)?;
        }
        let committer = Committer::start(database.clone(), tables.clone(), revocations.clone())
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
mod hand_over;
#[cfg(test)]
mod tests;
