//! The MAC keys of refresh tokens: which ones there are, and which one makes new tokens.
//!
//! Managed keys are the files `<dir>/refresh/<id>.key`. Several gateways may share keys, so each watches the files. A key
//! is accepted as soon as it is seen, and makes tokens only when all have had [`PUBLISHED_BEFORE_USE`] to see it.

use std::fmt;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, UNIX_EPOCH};

use arc_swap::{ArcSwap, Guard};
use aws_lc_rs::{digest, hmac, rand};
use zeroize::Zeroizing;

use crate::clock::UnixTime;
use crate::shared_files::{self, DirectoryLock, Place, Watched};
use crate::token::signing::PUBLISHED_BEFORE_USE;

/// Stands before a key in the input of the hash that names it, so that the name is no other hash of the key.
const KEY_ID_DOMAIN: &[u8] = b"portcullis refresh key id\0";

/// The least bytes of a key: as many as the MAC has.
const MIN_KEY_BYTES: usize = 32;
/// The most: whatever is longer is some other file.
const MAX_KEY_BYTES: u64 = 4096;

/// Why the keys of refresh tokens cannot be had.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RefreshKeysError {
    /// A file or directory cannot be read or made.
    #[error("cannot {doing} {}", path.display())]
    Io {
        /// `read`, `create`, …
        doing: &'static str,
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Fewer than 32 bytes, or more than 4096.
    #[error("refresh key {} has {bytes} bytes, expected 32 to {MAX_KEY_BYTES}", path.display())]
    Length {
        /// Which.
        path: PathBuf,
        /// How many it has; for a longer one what was read.
        bytes: usize,
    },
    /// A managed key whose content is not what its name says: it was changed after it was written.
    #[error("refresh key {} does not hold the key of its name", path.display())]
    Changed {
        /// Which.
        path: PathBuf,
    },
    /// Two files with the same key.
    #[error("refresh key {} is given twice", path.display())]
    Twice {
        /// The second.
        path: PathBuf,
    },
    /// `from_files` with no file.
    #[error("no refresh key given")]
    None,
    /// A key made by an earlier rotation is not in use yet.
    #[error("refresh key {} makes no tokens before {} s have passed", name(*id), .left.as_millis().div_ceil(1000))]
    NotYetInUse {
        /// Which.
        id: u32,
        /// How long until it does.
        left: Duration,
    },
    /// The keys were given as files: whoever made these rotates them.
    #[error("refresh keys come from session.refresh_keys and are rotated by changing those files")]
    KeysFromFiles,
    /// The system has no random bytes.
    #[error("no random bytes from the system")]
    NoRandomness,
}

/// What a MAC key is for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum RefreshKeyState {
    /// Makes new tokens.
    Current,
    /// Newer; accepted, and makes tokens once every gateway had time to see it.
    Next,
    /// Accepted.
    Older,
}

impl RefreshKeyState {
    /// The word for it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Current => "current",
            Self::Next => "next",
            Self::Older => "older",
        }
    }
}

/// A MAC key as operators see it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct RefreshKeyInfo {
    /// A hash, and the name of a managed key's file, in eight hexadecimal digits.
    pub id: u32,
    /// What it is for.
    pub state: RefreshKeyState,
    /// When its file was written; unknown for a key given as a file.
    pub created_at: Option<UnixTime>,
}

/// The id of a key as the name of its file has it.
pub fn name(id: u32) -> String {
    format!("{id:08x}")
}

/// The MAC keys of refresh tokens: the current one makes new tokens, all of them verify. Reading takes no lock.
///
/// Removing a key refuses every token made under it. The raw bytes are zeroed once read; what remains is inside the
/// MAC contexts of the crypto library, which cleans them when dropped.
pub struct RefreshKeys {
    ring: ArcSwap<Ring>,
    source: Source,
    /// Held while the keys change. Whoever needs the lock of the directory too takes that first.
    watched: Mutex<Watched>,
}

enum Source {
    /// The directory that `refresh` is in.
    Managed(PathBuf),
    Files(Vec<PathBuf>),
}

/// Ids are hashes and stand in tokens; keys are never shown.
impl fmt::Debug for RefreshKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ring = self.ring.load();
        f.debug_struct("RefreshKeys").field("current", &ring.current().0).field("count", &ring.keys.len()).finish()
    }
}

impl RefreshKeys {
    /// The keys in `<dir>/refresh/`. The first is made when there is none: directories 0700, file 0600, on disk before
    /// this returns; of several processes that start at once one makes it.
    ///
    /// # Errors
    /// [`RefreshKeysError`] names the file.
    pub fn open_managed(dir: &Path, now: UnixTime) -> Result<Self, RefreshKeysError> {
        let keys = directory(dir);
        make_directory(&keys)?;
        // Without the lock when there is a key: the directory may be mounted to be read only.
        if files(&keys)?.is_empty() {
            let _turn = lock(dir)?;
            if files(&keys)?.is_empty() {
                make_key(&keys, None)?;
            }
        }
        let (watched, keys) = Watched::first(Place::Directory(keys, &["key"]), || load(dir))?;
        Self::new(keys, Source::Managed(dir.to_owned()), watched, now)
    }

    /// Keys given as files of 32 random bytes or more, taken as they are. The first makes new tokens.
    ///
    /// # Errors
    /// [`RefreshKeysError`] names the file.
    pub fn from_files(paths: &[PathBuf]) -> Result<Self, RefreshKeysError> {
        // What was there at the start counts as known everywhere: nobody can tell since when it is.
        let start = UnixTime::default();
        let (watched, keys) = Watched::first(Place::Files(paths.to_owned()), || load_files(paths, |_| start))?;
        Self::new(keys, Source::Files(paths.to_owned()), watched, start)
    }

    /// A key that makes no token, for a gateway without sessions of its own: in memory alone.
    ///
    /// # Errors
    /// [`RefreshKeysError::NoRandomness`]
    pub fn unused() -> Result<Self, RefreshKeysError> {
        let mut key = Zeroizing::new([0; MIN_KEY_BYTES]);
        #[expect(clippy::map_err_ignore, reason = "the library's error says nothing")]
        rand::fill(key.as_mut_slice()).map_err(|_| RefreshKeysError::NoRandomness)?;
        let since = UnixTime::default();
        let key = MacKey { id: key_id(key.as_slice()), key: hmac::Key::new(hmac::HMAC_SHA256, key.as_slice()), since };
        let (watched, keys) = Watched::first(Place::Files(Vec::new()), || Ok::<_, RefreshKeysError>(vec![key]))?;
        Self::new(keys, Source::Files(Vec::new()), watched, since)
    }

    fn new(keys: Vec<MacKey>, source: Source, watched: Watched, now: UnixTime) -> Result<Self, RefreshKeysError> {
        let ring = Ring::new(keys, &source, now).ok_or(RefreshKeysError::None)?;
        Ok(Self { ring: ArcSwap::from_pointee(ring), source, watched: Mutex::new(watched) })
    }

    /// Takes over what was changed in the files since they were last read, and begins to use a key whose time has come.
    /// Whether the keys or their use have changed.
    ///
    /// New tokens are made by the newest managed key whose file is [`PUBLISHED_BEFORE_USE`] old, or by the first file
    /// whose key has been here that long or since the start. With none so old, by the oldest key or the first file.
    ///
    /// Looks at the files' metadata; reads only when these have changed. Blocks on the disk.
    ///
    /// # Errors
    /// [`RefreshKeysError`] when a file is missing, half written or bad, once until it changes again. The keys here
    /// stay as they were.
    pub fn reload(&self, now: UnixTime) -> Result<bool, RefreshKeysError> {
        let mut watched = self.watched();
        let loaded = watched.changed(|| self.load(now));
        if let Ok(Some(keys)) = loaded {
            return self.set(keys, now);
        }
        // Also beside a file that cannot be used: the time of the others passes.
        let ring = self.ring.load();
        let changed = Ring::choose(&ring.keys, &self.source, now) != Some(ring.current);
        if changed {
            self.set(ring.keys.clone(), now)?;
        }
        loaded.map(|_unchanged| changed)
    }

    /// Makes a new key, which is accepted at once and makes tokens when its file is [`PUBLISHED_BEFORE_USE`] old. The
    /// others stay. Returns its id. Blocks on the disk and the lock.
    ///
    /// # Errors
    /// [`RefreshKeysError::NotYetInUse`] while the key of an earlier rotation waits, whichever gateway made it;
    /// [`RefreshKeysError::KeysFromFiles`] for keys that are not managed; others when the files cannot be read or
    /// written.
    pub fn rotate(&self, now: UnixTime) -> Result<u32, RefreshKeysError> {
        let Source::Managed(dir) = &self.source else { return Err(RefreshKeysError::KeysFromFiles) };
        let _turn = lock(dir)?;
        let mut watched = self.watched();
        let keys = watched.again(|| load(dir))?;
        self.set(keys, now)?;
        if let Some(waiting) = self.ring.load().next() {
            let left = waiting.since.plus(PUBLISHED_BEFORE_USE).since(now);
            return Err(RefreshKeysError::NotYetInUse { id: waiting.id, left });
        }
        let newest = self.ring.load().keys.first().map(|key| key.since);
        let id = make_key(&directory(dir), newest)?;
        let keys = watched.again(|| load(dir))?;
        self.set(keys, now)?;
        Ok(id)
    }

    fn watched(&self) -> MutexGuard<'_, Watched> {
        self.watched.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn load(&self, now: UnixTime) -> Result<Vec<MacKey>, RefreshKeysError> {
        match &self.source {
            Source::Managed(dir) => load(dir),
            Source::Files(paths) => {
                let known = self.ring.load();
                load_files(paths, |id| known.keys.iter().find(|key| key.id == id).map_or(now, |key| key.since))
            }
        }
    }

    /// Whether that is a change. No keys are none: those from before stay.
    fn set(&self, keys: Vec<MacKey>, now: UnixTime) -> Result<bool, RefreshKeysError> {
        let ring = Ring::new(keys, &self.source, now).ok_or(RefreshKeysError::None)?;
        let changed = ring.names() != self.ring.load().names();
        self.ring.store(Arc::new(ring));
        Ok(changed)
    }

    /// The id of the key that makes new tokens.
    pub fn current(&self) -> u32 {
        self.ring.load().current().0
    }

    /// All keys, the newest or the first file first.
    pub fn list(&self) -> Vec<RefreshKeyInfo> {
        let ring = self.ring.load();
        let managed = matches!(self.source, Source::Managed(_));
        let info = |(place, key): (usize, &MacKey)| RefreshKeyInfo {
            id: key.id,
            state: match place.cmp(&ring.current) {
                std::cmp::Ordering::Less => RefreshKeyState::Next,
                std::cmp::Ordering::Equal => RefreshKeyState::Current,
                std::cmp::Ordering::Greater => RefreshKeyState::Older,
            },
            created_at: managed.then_some(key.since),
        };
        ring.keys.iter().enumerate().map(info).collect()
    }

    pub(super) fn ring(&self) -> Guard<Arc<Ring>> {
        self.ring.load()
    }
}

/// The keys at one moment.
pub(super) struct Ring {
    /// The newest, or that of the first file, first.
    keys: Vec<MacKey>,
    /// Which of them makes new tokens.
    current: usize,
}

#[derive(Clone)]
struct MacKey {
    id: u32,
    key: hmac::Key,
    /// When its file was written or, of a key given as a file, when it was first seen here.
    since: UnixTime,
}

impl Ring {
    /// `None` without keys.
    fn new(keys: Vec<MacKey>, source: &Source, now: UnixTime) -> Option<Self> {
        Self::choose(&keys, source, now).map(|current| Self { keys, current })
    }

    /// Which of `keys` makes new tokens.
    fn choose(keys: &[MacKey], source: &Source, now: UnixTime) -> Option<usize> {
        let oldest = keys.len().checked_sub(1)?;
        let known_everywhere = keys.iter().position(|key| key.since.plus(PUBLISHED_BEFORE_USE) <= now);
        Some(known_everywhere.unwrap_or(match source {
            // The others may have been made since: all know this one, or there is no other.
            Source::Managed(_) => oldest,
            Source::Files(_) => 0,
        }))
    }

    /// The key with this id, to write or check a token.
    pub(super) fn find(&self, id: u32) -> Option<&hmac::Key> {
        self.keys.iter().find(|key| key.id == id).map(|key| &key.key)
    }

    /// The key that makes new tokens, after its id.
    pub(super) fn current(&self) -> (u32, &hmac::Key) {
        let key = &self.keys[self.current];
        (key.id, &key.key)
    }

    /// The newest of those that are not in use yet.
    fn next(&self) -> Option<&MacKey> {
        self.keys[..self.current].first()
    }

    fn names(&self) -> (u32, Vec<u32>) {
        (self.current().0, self.keys.iter().map(|key| key.id).collect())
    }
}

fn directory(dir: &Path) -> PathBuf {
    dir.join("refresh")
}

fn make_directory(path: &Path) -> Result<(), RefreshKeysError> {
    shared_files::make_directory(path).map_err(failed("create", path))
}

/// The turn to change the keys in `dir`: the signing keys beside these have the same lock.
fn lock(dir: &Path) -> Result<DirectoryLock, RefreshKeysError> {
    DirectoryLock::wait(dir).map_err(failed("lock", &DirectoryLock::path(dir)))
}

/// The files of keys in `directory` with the times they were written, the newest first.
fn files(directory: &Path) -> Result<Vec<(UnixTime, PathBuf)>, RefreshKeysError> {
    let mut files = Vec::new();
    for entry in fs::read_dir(directory).map_err(failed("read", directory))? {
        let path = entry.map_err(failed("read", directory))?.path();
        // A key that is being written, or was when the power went, has another ending.
        if path.extension().is_some_and(|ending| ending == "key") {
            let modified = fs::metadata(&path).and_then(|meta| meta.modified()).map_err(failed("read", &path))?;
            let since_1970 = modified.duration_since(UNIX_EPOCH).unwrap_or_default();
            files.push((UnixTime::default().plus(since_1970), path));
        }
    }
    files.sort();
    files.reverse();
    Ok(files)
}

/// The managed keys in `dir`, the newest first.
fn load(dir: &Path) -> Result<Vec<MacKey>, RefreshKeysError> {
    let mut keys: Vec<MacKey> = Vec::new();
    for (written, path) in files(&directory(dir))? {
        let key = load_key(&path, |_| written)?;
        let named = path.file_stem().and_then(|stem| stem.to_str()).and_then(|s| u32::from_str_radix(s, 16).ok());
        if named != Some(key.id) {
            return Err(RefreshKeysError::Changed { path });
        }
        if keys.iter().any(|other| other.id == key.id) {
            return Err(RefreshKeysError::Twice { path });
        }
        keys.push(key);
    }
    Ok(keys)
}

/// The keys in `paths`, in their order.
fn load_files(paths: &[PathBuf], since: impl Fn(u32) -> UnixTime) -> Result<Vec<MacKey>, RefreshKeysError> {
    let mut keys: Vec<MacKey> = Vec::new();
    for path in paths {
        let key = load_key(path, &since)?;
        if keys.iter().any(|other| other.id == key.id) {
            return Err(RefreshKeysError::Twice { path: path.clone() });
        }
        keys.push(key);
    }
    Ok(keys)
}

fn load_key(path: &Path, since: impl Fn(u32) -> UnixTime) -> Result<MacKey, RefreshKeysError> {
    let bytes = read_key(path)?;
    let id = key_id(&bytes);
    Ok(MacKey { id, key: hmac::Key::new(hmac::HMAC_SHA256, &bytes), since: since(id) })
}

/// The first four bytes of a labelled hash: names the key and tells nothing of it.
fn key_id(key: &[u8]) -> u32 {
    let mut hash = digest::Context::new(&digest::SHA256);
    hash.update(KEY_ID_DOMAIN);
    hash.update(key);
    let hash = hash.finish();
    hash.as_ref().iter().take(4).fold(0, |id, byte| id << 8 | u32::from(*byte))
}

fn read_key(path: &Path) -> Result<Zeroizing<Vec<u8>>, RefreshKeysError> {
    // Room for all of it at once: a vector that grows leaves copies of the key behind.
    let mut bytes = Zeroizing::new(Vec::with_capacity(8192));
    let file = File::open(path).map_err(failed("read", path))?;
    file.take(MAX_KEY_BYTES + 1).read_to_end(&mut bytes).map_err(failed("read", path))?;
    if bytes.len() < MIN_KEY_BYTES || bytes.len() as u64 > MAX_KEY_BYTES {
        return Err(RefreshKeysError::Length { path: path.to_owned(), bytes: bytes.len() });
    }
    Ok(bytes)
}

/// Makes a key in `dir`: whole and on disk under its name, or not there at all. Returns its id.
///
/// Its file is newer than `newest`: many file systems tell times no finer than some milliseconds, and of two keys of one
/// time nobody could tell which was there first.
fn make_key(dir: &Path, newest: Option<UnixTime>) -> Result<u32, RefreshKeysError> {
    let mut key = Zeroizing::new([0; MIN_KEY_BYTES]);
    #[expect(clippy::map_err_ignore, reason = "the library's error says nothing")]
    rand::fill(key.as_mut_slice()).map_err(|_| RefreshKeysError::NoRandomness)?;
    let id = key_id(key.as_slice());
    let path = dir.join(format!("{}.key", name(id)));
    let unfinished = dir.join(format!("{}.new", name(id)));
    // One in 2^32, and it would take an older key's file away.
    if path.try_exists().map_err(failed("read", &path))? {
        return make_key(dir, newest);
    }
    let written = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&unfinished).and_then(|mut file| {
        file.write_all(key.as_slice())?;
        if let Some(newest) = newest {
            let after = UNIX_EPOCH.checked_add(Duration::from_millis(newest.as_millis().saturating_add(1)));
            if let Some(after) = after
                && file.metadata()?.modified()? < after
            {
                file.set_modified(after)?;
            }
        }
        file.sync_all()
    });
    written.map_err(failed("create", &unfinished))?;
    fs::rename(&unfinished, &path).map_err(failed("create", &path))?;
    // The names too: tokens made under a key that a power cut takes away would all be dead.
    for dir in [Some(dir), dir.parent()].into_iter().flatten() {
        File::open(dir).and_then(|dir| dir.sync_all()).map_err(failed("sync", dir))?;
    }
    Ok(id)
}

fn failed(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> RefreshKeysError {
    let path = path.to_owned();
    move |source| RefreshKeysError::Io { doing, path, source }
}

#[cfg(test)]
mod tests;
