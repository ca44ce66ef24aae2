//! Rows just written, over the tables they were written to.
//!
//! A row that was written a moment ago is in the newest table in memory, among all that was written since: finding it
//! there costs more than all else that a refresh has to do here. Clients that hold a session from several places ask for
//! it several times in a row, and what is asked again and again is in here.

use std::collections::HashMap;

use fjall::{Database, OwnedWriteBatch, Slice};

use super::StoreError;
use super::draft::{Rows, TABLES, Table, Written};
use super::tables::Tables;

/// Rows remembered at most, in two halves; each costs about 250 bytes.
const MOST: usize = 32_768;

/// Row of a session, or that there is none.
type Half = HashMap<Slice, Option<Slice>>;

/// The tables, and what was written to [`Table::Sessions`] last. For the one thread that writes.
pub(super) struct Recent {
    tables: Tables,
    new: Half,
    old: Half,
}

impl Recent {
    pub(super) fn new(tables: Tables) -> Self {
        Self { tables, new: Half::new(), old: Half::new() }
    }

    /// The changes of a draft as one atomic write.
    pub(super) fn batch(&self, database: &Database, written: &[Written; TABLES.len()]) -> OwnedWriteBatch {
        self.tables.batch(database, written)
    }

    /// These are in the tables from now on.
    pub(super) fn remember(&mut self, written: [Written; TABLES.len()]) {
        let [sessions, ..] = written;
        for (id, row) in sessions {
            // What was there before is forgotten with the other half, a while after it was written for the last time.
            if self.new.len() >= MOST / 2 {
                self.old = std::mem::take(&mut self.new);
            }
            self.new.insert(id, row);
        }
    }
}

impl Rows for Recent {
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Slice>, StoreError> {
        let known = if table == Table::Sessions { self.new.get(key).or_else(|| self.old.get(key)) } else { None };
        known.map_or_else(|| self.tables.get(table, key), |row| Ok(row.clone()))
    }

    fn keys_with(&self, prefix: &[u8]) -> Result<Vec<Slice>, StoreError> {
        self.tables.keys_with(prefix)
    }
}
