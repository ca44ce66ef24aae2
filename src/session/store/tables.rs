//! The rows of the embedded store on its disk.

use std::ops::Bound;
use std::panic::resume_unwind;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use fjall::{Database, Keyspace, OwnedWriteBatch, Slice};

use super::draft::{Rows, TABLES, Table, Written};
use super::{StoreError, record};
use crate::clock::UnixTime;
use crate::revocation::Revocations;

/// Threads that load revocations at a start at most: beyond, they wait for the memory more than for each other.
const MOST_LOADERS: usize = 8;

/// The keyspaces of the database, one for each [`Table`].
#[derive(Clone)]
pub(super) struct Tables {
    pub(super) sessions: Keyspace,
    pub(super) by_user: Keyspace,
    pub(super) revocations: Keyspace,
    pub(super) expiry: Keyspace,
}

/// A read of the database that failed.
pub(super) fn unreadable(error: fjall::Error) -> StoreError {
    StoreError::Read(Arc::new(error))
}

impl Tables {
    fn table(&self, table: Table) -> &Keyspace {
        match table {
            Table::Sessions => &self.sessions,
            Table::ByUser => &self.by_user,
            Table::Revocations => &self.revocations,
            Table::Expiry => &self.expiry,
        }
    }

    /// The changes of a draft as one atomic write.
    pub(super) fn batch(&self, database: &Database, written: &[Written; TABLES.len()]) -> OwnedWriteBatch {
        // One more for who adds to it.
        let count = written.iter().map(Written::len).sum::<usize>() + 1;
        let mut batch = OwnedWriteBatch::with_capacity(database.clone(), count);
        for (table, written) in TABLES.into_iter().zip(written) {
            let keyspace = self.table(table);
            for (key, value) in written {
                match value {
                    Some(value) => batch.insert(keyspace, key.clone(), value.clone()),
                    None => batch.remove(keyspace, key.clone()),
                }
            }
        }
        batch
    }

    /// The first `limit` places of [`Table::Expiry`] behind `after` and before `now`.
    ///
    /// Places written by the batch at work are left for the next purge.
    pub(super) fn due(&self, after: Option<Slice>, now: UnixTime, limit: usize) -> Result<Vec<Slice>, StoreError> {
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        let until = Bound::Excluded(Slice::from(now.as_millis().to_be_bytes()));
        let places = self.expiry.range::<Slice, _>((from, until)).take(limit);
        places.map(|entry| entry.key().map_err(unreadable)).collect()
    }
}

impl Tables {
    /// Puts all stored revocations into memory. Several threads read, each its part of the keys.
    pub(super) fn load_revocations(&self, revocations: &Revocations) -> Result<(), StoreError> {
        let threads = std::thread::available_parallelism().map_or(1, usize::from).min(MOST_LOADERS);
        let next = AtomicUsize::new(0);
        let parts = record::revocation_parts();
        let load = || -> Result<(), StoreError> {
            while let Some(part) = parts.get(next.fetch_add(1, Ordering::Relaxed)) {
                for entry in self.revocations.range::<Vec<u8>, _>(part.clone()) {
                    let (key, value) = entry.into_inner().map_err(unreadable)?;
                    record::decode_revocation(&key, &value, |revocation| revocations.insert(revocation))?;
                }
            }
            Ok(())
        };
        std::thread::scope(|scope| {
            let others: Vec<_> = (1..threads).map(|_| scope.spawn(load)).collect();
            let mine = load();
            // A panic goes on here, as it would without threads.
            let others = others.into_iter().map(|thread| thread.join().unwrap_or_else(|panic| resume_unwind(panic)));
            others.fold(mine, Result::and)
        })
    }
}

impl Rows for Tables {
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Slice>, StoreError> {
        self.table(table).get(key).map_err(unreadable)
    }

    fn keys_with(&self, prefix: &[u8]) -> Result<Vec<Slice>, StoreError> {
        self.by_user.prefix(prefix).map(|entry| entry.key().map_err(unreadable)).collect()
    }
}
