//! A look through the database's journals before the database is opened.
//!
//! The database takes the first damaged byte of a journal for its end and cuts the file there, without a word: right
//! after a power cut, wrong when the damage is in what was synced long ago, for all that follows would be forgotten with
//! it. So the journals are read here first, and only the one damage that a power cut can do is let through: the last
//! batch, half written. The batch before it was synced before it began, so damage that a whole batch follows, or damage
//! in a journal that another follows, is of another kind.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufRead as _, BufReader, Read, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};

use xxhash_rust::xxh3::Xxh3;

use super::super::ledger::SEQUENCE_KEY;
use super::OpenError;

/// Entries of a journal, as fjall 3 writes them: integers little-endian, behind a byte that says which it is.
const START: u8 = 1;
const ITEM: u8 = 2;
const END: u8 = 3;
const CLEAR: u8 = 4;
/// Behind the checksum at the end of each batch.
const TRAILER: [u8; 4] = *b"FJL\x03";

/// Read at a time.
const CHUNK: usize = 64 << 10;
static ZEROS: [u8; CHUNK] = [0; CHUNK];

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
        let mut reader = BufReader::with_capacity(CHUNK, File::open(file)?);
        let mut offset = 0;
        while reader.fill_buf()?.first() == Some(&START) {
            let Some(batch) = whole(batch(&mut reader))? else { return Ok(Some(offset)) };
            // Every batch of ours has the number behind that of the one before. The order is under no checksum, and
            // with a lower one a row would be older than the row it replaces.
            let next = self.last.zip(batch.number).is_none_or(|(last, number)| number == last + 1);
            if !next || self.order.is_some_and(|order| batch.order <= order) {
                return Ok(Some(offset));
            }
            self.last = batch.number.or(self.last);
            self.order = Some(batch.order);
            offset += batch.length;
        }
        // A journal is made with its full length, as zeros.
        loop {
            let rest = reader.fill_buf()?;
            if rest.is_empty() {
                return Ok(None);
            }
            if *rest != ZEROS[..rest.len()] {
                return Ok(Some(offset));
            }
            let length = rest.len();
            reader.consume(length);
        }
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
    // 64 MiB and a batch at most: more than that is in the next journal.
    let mut rest = Vec::new();
    file.read_to_end(&mut rest)?;
    let used = rest.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
    let mut starts = rest[..used].iter().enumerate().filter(|(_, byte)| **byte == START);
    Ok(starts.any(|(start, _)| matches!(whole(batch(&mut &rest[start..])), Ok(Some(_)))))
}

/// One batch as it was written.
struct Batch {
    length: u64,
    order: u64,
    number: Option<u64>,
}

/// An end in the middle is damage like any other.
fn whole(batch: io::Result<Option<Batch>>) -> io::Result<Option<Batch>> {
    match batch {
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(None),
        batch => batch,
    }
}

/// Reads a batch; `None` when that is not one.
fn batch(reader: &mut impl Read) -> io::Result<Option<Batch>> {
    let start: [u8; 13] = take(reader)?;
    let [tag, c0, c1, c2, c3, order @ ..] = start;
    if tag != START {
        return Ok(None);
    }
    let mut batch = Batch { length: start.len() as u64, order: u64::from_le_bytes(order), number: None };
    let mut checksum = Xxh3::new();
    let mut text = Vec::new();
    for _ in 0..u32::from_le_bytes([c0, c1, c2, c3]) {
        let tag: [u8; 1] = take(reader)?;
        checksum.update(&tag);
        batch.length += 1;
        match tag {
            [ITEM] => {
                let item: [u8; 20] = take(reader)?;
                // Kind of value, compression, table; then three lengths, of which the second is that of the value
                // before it was compressed.
                let [_, _, _, _, _, _, _, _, _, _, k0, k1, _, _, _, _, v0, v1, v2, v3] = item;
                let key_length = usize::from(u16::from_le_bytes([k0, k1]));
                let length = key_length as u64 + u64::from(u32::from_le_bytes([v0, v1, v2, v3]));
                // Grows as it is read: a damaged length asks for no memory.
                text.clear();
                reader.take(length).read_to_end(&mut text)?;
                if text.len() as u64 != length {
                    return Ok(None);
                }
                checksum.update(&item);
                checksum.update(&text);
                batch.length += item.len() as u64 + length;
                // No key of another table is this one: they are shorter or longer.
                if let Some((SEQUENCE_KEY, number)) = text.split_at_checked(key_length) {
                    batch.number = number.try_into().ok().map(u64::from_be_bytes).or(batch.number);
                }
            }
            [CLEAR] => {
                let table: [u8; 8] = take(reader)?;
                checksum.update(&table);
                batch.length += table.len() as u64;
            }
            _ => return Ok(None),
        }
    }
    let end: [u8; 13] = take(reader)?;
    let mut expected = [0; 13];
    expected[0] = END;
    expected[1..9].copy_from_slice(&checksum.digest().to_le_bytes());
    expected[9..].copy_from_slice(&TRAILER);
    batch.length += end.len() as u64;
    Ok((end == expected).then_some(batch))
}

fn take<const N: usize>(reader: &mut impl Read) -> io::Result<[u8; N]> {
    let mut bytes = [0; N];
    reader.read_exact(&mut bytes)?;
    Ok(bytes)
}
