//! A look through the database's journals before the database is opened.
//!
//! The database takes the first damaged byte of a journal for its end and cuts the file there, without a word: right
//! after a power cut, wrong when the damage is in what was synced long ago, for all that follows would be forgotten with
//! it. So the journals are read here first, and only the one damage that a power cut can do is let through: the last
//! batch, half written. The batch before it was synced before it began, so damage that a whole batch follows, or damage
//! in a journal that another follows, is of another kind.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};

use xxhash_rust::xxh3::xxh3_64;

use super::super::ledger::SEQUENCE_KEY;
use super::OpenError;

/// Entries of a journal, as fjall 3 writes them: integers little-endian, behind a byte that says which it is.
const START: u8 = 1;
const ITEM: u8 = 2;
const END: u8 = 3;
const CLEAR: u8 = 4;
/// Behind the checksum at the end of each batch.
const TRAILER: [u8; 4] = *b"FJL\x03";

/// What the journals hold.
#[derive(Debug, Default)]
pub(super) struct Journals {
    /// The number of the last batch that has one; `None` when all of them are in tables by now.
    pub(super) last: Option<u64>,
    /// The number in the name of the newest file; `None` when there is none, which no database leaves.
    pub(super) newest: Option<u64>,
    /// The journal whose last batch is half written, and where that begins.
    pub(super) torn: Option<(PathBuf, u64)>,
    /// The place of the last batch in the order of all writes.
    order: Option<u64>,
}

impl Journals {
    /// Reads the journals of the database in `home`. Changes nothing.
    ///
    /// # Errors
    /// [`OpenError::DamagedFile`] and [`OpenError::Missing`] when more than an unfinished batch is lost.
    pub(super) fn read(home: &Path) -> Result<Self, OpenError> {
        let io = |source| OpenError::Io { doing: "read", path: home.to_owned(), source };
        let files = files(home).map_err(io)?;
        let mut found = Self::default();
        for (place, (number, file)) in files.iter().enumerate() {
            if let Some(before) = found.newest
                && *number != before + 1
            {
                return Err(OpenError::Missing(named(home, before + 1)));
            }
            found.newest = Some(*number);
            if let Some(offset) = found.replay(file).map_err(io)? {
                let sealed = place + 1 < files.len();
                if sealed || batch_behind(file, offset).map_err(io)? {
                    return Err(OpenError::DamagedFile { file: file.clone(), offset });
                }
                found.torn = Some((file.clone(), offset));
            }
        }
        Ok(found)
    }

    /// Reads one journal to its end: where it is not as it was written, if that is so.
    fn replay(&mut self, file: &Path) -> io::Result<Option<u64>> {
        // 64 MiB and a batch at most: more than that is in the next journal.
        let bytes = fs::read(file)?;
        let mut offset = 0;
        while bytes.get(offset) == Some(&START) {
            let Some(batch) = batch(&bytes[offset..]) else { return Ok(Some(offset as u64)) };
            // Every batch of ours has the number behind that of the one before. The order is under no checksum, and
            // with a lower one a row would be older than the row it replaces.
            let next = self.last.zip(batch.number).is_none_or(|(last, number)| number == last + 1);
            if !next || self.order.is_some_and(|order| batch.order <= order) {
                return Ok(Some(offset as u64));
            }
            self.last = batch.number.or(self.last);
            self.order = Some(batch.order);
            offset += batch.length;
        }
        // A journal is made with its full length, as zeros.
        Ok(bytes[offset..].iter().any(|byte| *byte != 0).then_some(offset as u64))
    }
}

/// Drops a half-written batch: nobody was told that it was made.
pub(super) fn cut(file: &Path, offset: u64) -> io::Result<()> {
    let file = OpenOptions::new().write(true).open(file)?;
    file.set_len(offset)?;
    file.sync_all()
}

/// The number of the newest journal in `home`.
///
/// # Errors
/// Also when there is none.
pub(in super::super) fn newest(home: &Path) -> io::Result<u64> {
    let none = || io::Error::new(io::ErrorKind::NotFound, "no journal is there");
    files(home)?.last().map(|(number, _)| *number).ok_or_else(none)
}

/// The journal with this number.
pub(super) fn named(home: &Path, number: u64) -> PathBuf {
    home.join(format!("{number}.jnl"))
}

/// The journals by their number.
fn files(home: &Path) -> io::Result<Vec<(u64, PathBuf)>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(home)? {
        let file = entry?.path();
        if file.extension().is_some_and(|ending| ending == "jnl")
            && let Some(number) = file.file_stem().and_then(|stem| stem.to_str()?.parse().ok())
        {
            files.push((number, file));
        }
    }
    files.sort_unstable();
    Ok(files)
}

/// Whether a whole batch is anywhere behind `offset`.
fn batch_behind(file: &Path, offset: u64) -> io::Result<bool> {
    let mut file = File::open(file)?;
    file.seek(SeekFrom::Start(offset))?;
    let mut rest = Vec::new();
    file.read_to_end(&mut rest)?;
    let used = rest.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
    let mut starts = rest[..used].iter().enumerate().filter(|(_, byte)| **byte == START);
    Ok(starts.any(|(start, _)| batch(&rest[start..]).is_some()))
}

/// One batch as it was written.
struct Batch {
    length: usize,
    order: u64,
    number: Option<u64>,
}

/// The batch that `bytes` begin with; `None` when that is not one, or not whole.
fn batch(bytes: &[u8]) -> Option<Batch> {
    let mut rest = bytes;
    let [tag, c0, c1, c2, c3, order @ ..] = take::<13>(&mut rest)?;
    if tag != START {
        return None;
    }
    let items = rest;
    let mut number = None;
    for _ in 0..u32::from_le_bytes([c0, c1, c2, c3]) {
        match take(&mut rest)? {
            [ITEM] => {
                // Kind of value, compression, table; then three lengths, of which the second is that of the value
                // before it was compressed.
                let [_, _, _, _, _, _, _, _, _, _, k0, k1, _, _, _, _, v0, v1, v2, v3] = take(&mut rest)?;
                let key_length = usize::from(u16::from_le_bytes([k0, k1]));
                let value_length = usize::try_from(u32::from_le_bytes([v0, v1, v2, v3])).ok()?;
                let (text, behind) = rest.split_at_checked(key_length + value_length)?;
                rest = behind;
                // No key of another table is this one: they are shorter or longer.
                if let Some((SEQUENCE_KEY, value)) = text.split_at_checked(key_length) {
                    number = value.try_into().ok().map(u64::from_be_bytes).or(number);
                }
            }
            [CLEAR] => {
                take::<8>(&mut rest)?;
            }
            _ => return None,
        }
    }
    let checksum = xxh3_64(&items[..items.len() - rest.len()]);
    let end: [u8; 13] = take(&mut rest)?;
    let mut expected = [0; 13];
    expected[0] = END;
    expected[1..9].copy_from_slice(&checksum.to_le_bytes());
    expected[9..].copy_from_slice(&TRAILER);
    let length = bytes.len() - rest.len();
    (end == expected).then_some(Batch { length, order: u64::from_le_bytes(order), number })
}

fn take<const N: usize>(bytes: &mut &[u8]) -> Option<[u8; N]> {
    let (taken, rest) = bytes.split_first_chunk()?;
    *bytes = rest;
    Some(*taken)
}
