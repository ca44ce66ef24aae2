//! The number of the last change that was acknowledged, in a small file beside the database.
//!
//! Each batch carries its number, so the database knows how far it goes; but a database whose end was lost, cut off or
//! eaten away ends somewhere earlier and looks as whole as ever. What it ought to end with is known only from outside.
//!
//! The file is written after each commit and before its answers: a killed process leaves it exact. It is synced once a
//! second and not with every commit, which would cost a second fsync; so after a power cut it may be a second behind,
//! and never ahead.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{FileExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, mpsc};
use std::thread::JoinHandle;
use std::time::Duration;

use xxhash_rust::xxh3::xxh3_64;

use super::embedded::journal;

/// The key, in the table of the format, of the last batch's number.
pub(super) const SEQUENCE_KEY: &[u8] = b"sequence";

const FILE: &str = "acknowledged";
const MAGIC: [u8; 8] = *b"pcrlast1";
/// Magic, number of the batch, number of the newest journal, checksum: within one sector, which disks write whole.
const LENGTH: usize = 32;
/// How far the file may be behind after a power cut.
const SYNC_INTERVAL: Duration = Duration::from_secs(1);

/// What the file says.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(super) struct Acknowledged {
    /// The number of the last batch whose operations were answered.
    pub(super) sequence: u64,
    /// The number of a journal that was there by then.
    pub(super) journal: u64,
}

impl Acknowledged {
    fn encode(self) -> [u8; LENGTH] {
        let mut bytes = [0; LENGTH];
        bytes[..8].copy_from_slice(&MAGIC);
        bytes[8..16].copy_from_slice(&self.sequence.to_be_bytes());
        bytes[16..24].copy_from_slice(&self.journal.to_be_bytes());
        let checksum = xxh3_64(&bytes[..24]);
        bytes[24..].copy_from_slice(&checksum.to_be_bytes());
        bytes
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        let number = |at: usize| Some(u64::from_be_bytes(bytes.get(at..at + 8)?.try_into().ok()?));
        let found = Self { sequence: number(8)?, journal: number(16)? };
        (found.encode() == bytes).then_some(found)
    }

    /// What stands in the data directory `path`; `None` when there is no such file. The inner error: it is damaged.
    pub(super) fn read(path: &Path) -> io::Result<Option<Result<Self, PathBuf>>> {
        let file = file(path);
        match fs::read(&file) {
            Ok(bytes) => Ok(Some(Self::decode(&bytes).ok_or(file))),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }
}

/// Where it is.
pub(super) fn file(path: &Path) -> PathBuf {
    path.join(FILE)
}

/// Makes the file of a store that nobody was told anything of.
pub(super) fn create(path: &Path) -> io::Result<()> {
    // Whole or not at all, also when the power is cut now.
    let unfinished = path.join("acknowledged.new");
    let mut new = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&unfinished)?;
    new.write_all(&Acknowledged::default().encode())?;
    new.sync_all()?;
    fs::rename(&unfinished, file(path))?;
    File::open(path)?.sync_all()
}

/// Counts batches and writes down those that are acknowledged. Dropping it syncs the file.
pub(super) struct Ledger {
    last: u64,
    shared: Arc<Shared>,
    stop: Option<mpsc::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

struct Shared {
    file: File,
    /// Where the journals are.
    home: PathBuf,
    newest: AtomicU64,
    unsynced: AtomicBool,
    failed: AtomicBool,
}

impl Ledger {
    /// Goes on behind batch `last` in the data directory `path`, whose database is in `home`.
    pub(super) fn open(path: &Path, home: &Path, last: u64, newest: u64) -> io::Result<Self> {
        let shared = Arc::new(Shared {
            file: OpenOptions::new().write(true).open(file(path))?,
            home: home.to_owned(),
            newest: AtomicU64::new(newest),
            // What is there after a start was just made durable, so it counts as acknowledged.
            unsynced: AtomicBool::new(true),
            failed: AtomicBool::new(false),
        });
        shared.write(last)?;
        let (stop, stopped) = mpsc::channel();
        let syncing = shared.clone();
        let thread = std::thread::Builder::new().name("session-ledger".into()).spawn(move || syncing.run(&stopped))?;
        Ok(Self { last, shared, stop: Some(stop), thread: Some(thread) })
    }

    /// The number of the next batch.
    pub(super) fn next(&self) -> u64 {
        self.last + 1
    }

    /// The [next](Self::next) batch is durable and about to be acknowledged.
    ///
    /// # Errors
    /// The disk refuses, now or at the last sync: what it refuses here it will refuse elsewhere.
    pub(super) fn acknowledge(&mut self) -> io::Result<()> {
        if self.shared.failed.load(Ordering::Acquire) {
            return Err(io::Error::other("a sync of the number of acknowledged changes failed"));
        }
        self.last += 1;
        self.shared.write(self.last)?;
        self.shared.unsynced.store(true, Ordering::Release);
        Ok(())
    }
}

impl Drop for Ledger {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            // It panicked: that was said when it happened.
            drop(thread.join());
        }
    }
}

impl Shared {
    fn write(&self, sequence: u64) -> io::Result<()> {
        let record = Acknowledged { sequence, journal: self.newest.load(Ordering::Acquire) };
        self.file.write_all_at(&record.encode(), 0)
    }

    fn run(&self, stopped: &mpsc::Receiver<()>) {
        while !self.failed.load(Ordering::Acquire) {
            let stop = stopped.recv_timeout(SYNC_INTERVAL) == Err(mpsc::RecvTimeoutError::Disconnected);
            if self.unsynced.swap(false, Ordering::AcqRel)
                && let Err(error) = self.sync()
            {
                self.failed.store(true, Ordering::Release);
                tracing::error!(error = %error, "cannot sync the number of acknowledged changes");
            }
            if stop {
                return;
            }
        }
    }

    fn sync(&self) -> io::Result<()> {
        // Files without a name take writes as ever, and are gone at the next start.
        if self.file.metadata()?.nlink() == 0 {
            return Err(io::Error::new(io::ErrorKind::NotFound, "the file was removed"));
        }
        // Seldom another one than before: a journal is full after 64 MB.
        let newest = journal::newest(&self.home)?;
        if newest < self.newest.fetch_max(newest, Ordering::AcqRel) {
            return Err(io::Error::new(io::ErrorKind::NotFound, "the newest journal was removed"));
        }
        self.file.sync_data()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_changed_bit_anywhere_is_noticed() {
        let written = Acknowledged { sequence: 77, journal: 3 };
        let bytes = written.encode();
        assert_eq!(Acknowledged::decode(&bytes), Some(written));
        for bit in 0..LENGTH * 8 {
            let mut damaged = bytes;
            damaged[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(Acknowledged::decode(&damaged), None, "bit {bit}");
        }
        for length in 0..LENGTH {
            assert_eq!(Acknowledged::decode(&bytes[..length]), None, "length {length}");
        }
        assert_eq!(Acknowledged::decode(&[&bytes[..], b"x"].concat()), None);
    }
}
