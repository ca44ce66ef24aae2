//! Files that other processes change, too: seeing that they did, and changing them in turns.

use std::fs::{self, DirBuilder, File, Metadata, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// How long a change waits for another process's. One takes some writes to the disk, and a request 10 s at most.
const LOCK_WAIT: Duration = Duration::from_secs(5);
/// How often it looks whether its turn has come.
const LOCK_POLL: Duration = Duration::from_millis(20);

/// Makes a directory with mode 0700, and those above it that are not there: on disk when this returns.
///
/// The name too, which is in the directory above: after a power cut a directory without one is gone, with every file in
/// it, synced or not.
pub(crate) fn make_directory(path: &Path) -> io::Result<()> {
    let missing = path.ancestors().take_while(|path| !path.as_os_str().is_empty() && !path.exists()).count();
    DirBuilder::new().recursive(true).mode(0o700).create(path)?;
    // One that is there may be as new: its maker was killed, and has not come to this line.
    for made in path.ancestors().take(missing.max(1)) {
        match File::open(made.join("..")).and_then(|above| above.sync_all()) {
            // Another user's, who made this one for us.
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {}
            synced => synced?,
        }
    }
    Ok(())
}

/// The right to change a directory, until it is dropped: one holder among all processes (and threads).
///
/// Its file stays where it is: were it removed, two could hold locks of two files with one name.
#[derive(Debug)]
pub(crate) struct DirectoryLock {
    _file: File,
}

impl DirectoryLock {
    /// The file that is locked in `dir`.
    pub(crate) fn path(dir: &Path) -> PathBuf {
        dir.join("keys.lock")
    }

    /// Waits for the turn, 5 s at most. Blocks.
    ///
    /// # Errors
    /// [`io::ErrorKind::TimedOut`] when it did not come; the system's error where files cannot be locked.
    pub(crate) fn wait(dir: &Path) -> io::Result<Self> {
        let deadline = Instant::now() + LOCK_WAIT;
        loop {
            match Self::take(dir) {
                Ok(lock) => return Ok(lock),
                Err(TryLockError::Error(error)) => return Err(error),
                Err(TryLockError::WouldBlock) if Instant::now() >= deadline => {
                    return Err(io::Error::new(
                        io::ErrorKind::TimedOut,
                        "another process has been changing it for 5 s",
                    ));
                }
                Err(TryLockError::WouldBlock) => std::thread::sleep(LOCK_POLL),
            }
        }
    }

    /// Takes the turn when nobody has it.
    pub(crate) fn take(dir: &Path) -> Result<Self, TryLockError> {
        // Opened to write: network file systems give an exclusive lock for nothing less.
        let open = OpenOptions::new().create(true).append(true).mode(0o600).open(Self::path(dir));
        let file = open.map_err(TryLockError::Error)?;
        file.try_lock()?;
        // A copying tool may have removed the file meanwhile: somebody else then locks another one of this name.
        let same = |ours: &Metadata, named: &Metadata| (ours.dev(), ours.ino()) == (named.dev(), named.ino());
        match (file.metadata(), fs::metadata(Self::path(dir))) {
            (Ok(ours), Ok(named)) if same(&ours, &named) => Ok(Self { _file: file }),
            _ => Err(TryLockError::WouldBlock),
        }
    }
}

/// What is watched.
#[derive(Debug)]
pub(crate) enum Place {
    /// These files.
    Files(Vec<PathBuf>),
    /// The files of a directory with one of these endings: so that what comes piece by piece, in whatever order, is
    /// read again with each piece.
    Directory(PathBuf, &'static [&'static str]),
}

/// Files, and what they looked like when they were read last.
#[derive(Debug)]
pub(crate) struct Watched {
    place: Place,
    seen: Look,
}

impl Watched {
    /// Reads `place` with `load` for the first time.
    ///
    /// # Errors
    /// Those of `load`.
    pub(crate) fn first<T, E>(place: Place, load: impl FnOnce() -> Result<T, E>) -> Result<(Self, T), E> {
        // Before it is read: what changes meanwhile is then seen as a change.
        let seen = place.look();
        Ok((Self { place, seen }, load()?))
    }

    /// Reads again with `load` when the files have changed; `None` when not.
    ///
    /// # Errors
    /// Those of `load`, once: what could not be used is read again only when it has changed again.
    pub(crate) fn changed<T, E>(&mut self, load: impl FnOnce() -> Result<T, E>) -> Result<Option<T>, E> {
        let look = self.place.look();
        if look == self.seen {
            return Ok(None);
        }
        let loaded = load();
        // Changed under our eyes: whether it is any good shows next time.
        if loaded.is_err() && self.place.look() != look {
            return Ok(None);
        }
        self.seen = look;
        loaded.map(Some)
    }

    /// Reads again with `load`, whatever the files look like.
    ///
    /// # Errors
    /// Those of `load`.
    pub(crate) fn again<T, E>(&mut self, load: impl FnOnce() -> Result<T, E>) -> Result<T, E> {
        let look = self.place.look();
        let loaded = load()?;
        self.seen = look;
        Ok(loaded)
    }
}

impl Place {
    /// A `stat` for each file; nothing is read.
    fn look(&self) -> Look {
        let stamp = |path: &Path| fs::metadata(path).ok().map(|metadata| Stamp::of(&metadata));
        match self {
            Self::Files(paths) => paths.iter().map(|path| (path.clone(), stamp(path))).collect(),
            Self::Directory(directory, endings) => {
                let mut look: Look = fs::read_dir(directory)
                    .into_iter()
                    .flatten()
                    .flatten()
                    .map(|entry| entry.path())
                    .filter(|path| path.extension().is_some_and(|ending| endings.iter().any(|one| ending == *one)))
                    .map(|path| (path.clone(), stamp(&path)))
                    .collect();
                look.sort();
                look
            }
        }
    }
}

/// Each file with its stamp; `None` for one that is not there.
type Look = Vec<(PathBuf, Option<Stamp>)>;

/// What changes with a file: one of these does, whether it is written in place, replaced, or made readable.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
struct Stamp {
    device: u64,
    inode: u64,
    length: u64,
    modified: (i64, i64),
    /// Of the inode: a copy that keeps the time of the content has its own.
    changed: (i64, i64),
}

impl Stamp {
    fn of(metadata: &Metadata) -> Self {
        Self {
            device: metadata.dev(),
            inode: metadata.ino(),
            length: metadata.len(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn one_holder_at_a_time_changes_a_directory() {
        let dir = tempfile::tempdir().unwrap();
        let first = DirectoryLock::take(dir.path()).unwrap();
        assert!(matches!(DirectoryLock::take(dir.path()), Err(TryLockError::WouldBlock)));
        let mode = fs::metadata(DirectoryLock::path(dir.path())).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode, 0o600);
        drop(first);
        DirectoryLock::wait(dir.path()).unwrap();
        assert_eq!(DirectoryLock::wait(&dir.path().join("none")).unwrap_err().kind(), io::ErrorKind::NotFound);
    }

    #[test]
    fn what_changed_is_read_once_and_what_did_not_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.key");
        fs::write(&path, "1").unwrap();
        for place in [Place::Files(vec![path.clone()]), Place::Directory(dir.path().to_owned(), &["key"])] {
            let load = || fs::read_to_string(&path);
            let (mut watched, text) = Watched::first(place, load).unwrap();
            assert_eq!(text, "1");
            assert_eq!(watched.changed(load).unwrap(), None);
            // As long, and in another file of the same name.
            fs::write(dir.path().join("a.tmp"), "2").unwrap();
            assert_eq!(watched.changed(load).unwrap(), None);
            fs::rename(dir.path().join("a.tmp"), &path).unwrap();
            assert_eq!(watched.changed(load).unwrap(), Some("2".to_owned()));
            assert_eq!(watched.changed(load).unwrap(), None);
            fs::remove_file(&path).unwrap();
            assert!(watched.changed(load).is_err());
            assert_eq!(watched.changed(load).unwrap(), None, "a fault is told once");
            fs::write(&path, "1").unwrap();
            assert_eq!(watched.changed(load).unwrap(), Some("1".to_owned()));
        }
    }

    #[test]
    fn what_changes_while_it_is_read_is_read_again() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.key");
        fs::write(&path, "1").unwrap();
        let (mut watched, ()) = Watched::first(Place::Files(vec![path.clone()]), || Ok::<_, ()>(())).unwrap();
        fs::write(&path, "half").unwrap();
        let finished = watched.changed(|| {
            fs::write(&path, "half and half").unwrap();
            Err::<(), _>("half")
        });
        assert_eq!(finished, Ok(None));
        assert_eq!(watched.changed(|| Ok::<_, &str>("whole")), Ok(Some("whole")));
    }
}
