use std::os::unix::fs::PermissionsExt as _;

use tempfile::TempDir;

use super::*;
use crate::ids::SessionId;
use crate::session::refresh_token::Presented;

fn key_file(dir: &TempDir, name: &str, byte: u8) -> PathBuf {
    let path = dir.path().join(name);
    // As a mount changes a file: another one under the same name.
    fs::write(dir.path().join("new"), [byte; 32]).unwrap();
    fs::rename(dir.path().join("new"), &path).unwrap();
    path
}

const SID: SessionId = SessionId::from_bytes([0xa5; 16]);
const MILLISECOND: Duration = Duration::from_millis(1);

fn now() -> UnixTime {
    UnixTime::now()
}

fn states(keys: &RefreshKeys) -> Vec<(RefreshKeyState, u32)> {
    keys.list().iter().map(|key| (key.state, key.id)).collect()
}

/// Dates the file of a managed key.
fn written(dir: &Path, id: u32, at: UnixTime) {
    let file = File::options().append(true).open(dir.join(format!("refresh/{id:08x}.key"))).unwrap();
    file.set_modified(UNIX_EPOCH + Duration::from_millis(at.as_millis())).unwrap();
}

#[test]
fn a_managed_key_is_made_once_and_only_for_the_owner() {
    let dir = TempDir::new().unwrap();
    let data = dir.path().join("data");
    let first = RefreshKeys::open_managed(&data, now()).unwrap();
    let token = first.write(SID, 1, first.current());
    let second = RefreshKeys::open_managed(&data, now()).unwrap();
    assert_eq!(second.current(), first.current());
    assert!(second.read(&token).is_some());
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&data.join("refresh")), 0o700);
    let files: Vec<_> = fs::read_dir(data.join("refresh")).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert_eq!(files, [data.join("refresh").join(format!("{:08x}.key", first.current()))]);
    assert_eq!(mode(&files[0]), 0o600);

    fs::write(&files[0], [7; 32]).unwrap();
    assert!(matches!(RefreshKeys::open_managed(&data, now()), Err(RefreshKeysError::Changed { .. })));
}

#[test]
fn bad_key_files_are_named() {
    let dir = TempDir::new().unwrap();
    let short = dir.path().join("short");
    fs::write(&short, [1; 31]).unwrap();
    let error = RefreshKeys::from_files(std::slice::from_ref(&short)).unwrap_err().to_string();
    assert_eq!(error, format!("refresh key {} has 31 bytes, expected 32 to 4096", short.display()));
    let good = key_file(&dir, "good", 1);
    let error = RefreshKeys::from_files(&[good.clone(), good]).unwrap_err();
    assert!(matches!(error, RefreshKeysError::Twice { .. }));
    assert!(matches!(RefreshKeys::from_files(&[]), Err(RefreshKeysError::None)));
    let missing = RefreshKeys::from_files(&[dir.path().join("missing")]).unwrap_err();
    assert!(matches!(missing, RefreshKeysError::Io { doing: "read", .. }));
}

#[test]
fn debug_shows_no_key() {
    let dir = TempDir::new().unwrap();
    let keys = RefreshKeys::from_files(&[key_file(&dir, "a", 1)]).unwrap();
    assert_eq!(format!("{keys:?}"), format!("RefreshKeys {{ current: {}, count: 1 }}", keys.current()));
}

// --- Several processes ---

#[test]
fn a_key_made_in_the_same_moment_as_the_last_one_waits_all_the_same() {
    use RefreshKeyState::{Current, Next};
    for _ in 0..30 {
        let dir = TempDir::new().unwrap();
        let keys = RefreshKeys::open_managed(dir.path(), UnixTime::now()).unwrap();
        let old = keys.current();
        let new = keys.rotate(UnixTime::now()).unwrap();
        assert_eq!(states(&keys), [(Next, new), (Current, old)]);
    }
}

#[test]
fn a_new_key_is_accepted_at_once_and_makes_tokens_once_everyone_knows_it() {
    use RefreshKeyState::{Current, Next, Older};
    let dir = TempDir::new().unwrap();
    let (a, b) = (RefreshKeys::open_managed(dir.path(), now()), RefreshKeys::open_managed(dir.path(), now()));
    let (a, b) = (a.unwrap(), b.unwrap());
    let old = a.current();
    let start = UnixTime::from_secs(1_700_000_000);
    written(dir.path(), old, start);
    let rotated_at = start.plus(PUBLISHED_BEFORE_USE * 2);
    let new = a.rotate(rotated_at).unwrap();
    written(dir.path(), new, rotated_at);
    assert!(!a.reload(rotated_at).unwrap(), "made here, by another date");
    assert_eq!(states(&a), [(Next, new), (Current, old)]);
    assert_eq!(a.list()[0].created_at, Some(rotated_at));

    // Another gateway whose clock is ahead, or that saw it first, makes tokens that are accepted here.
    assert_eq!(states(&b), [(Current, old)], "not seen yet");
    assert!(b.reload(rotated_at).unwrap());
    assert_eq!(b.list(), a.list());
    let ahead = a.write(SID, 5, new);
    assert_eq!(b.read(&ahead), Some(Presented { session: SID, counter: 5 }));

    let in_use = rotated_at.plus(PUBLISHED_BEFORE_USE);
    for keys in [&a, &b] {
        assert!(!keys.reload(in_use.minus(MILLISECOND)).unwrap());
        assert_eq!(keys.current(), old);
        assert!(keys.reload(in_use).unwrap(), "without another change");
        assert_eq!(states(keys), [(Current, new), (Older, old)]);
    }
    let row = a.write(SID, 6, old);
    assert_eq!(*b.write(SID, 6, old), *row, "a repeat is the same text");
    assert!(b.read(&row).is_some());
    let started = RefreshKeys::open_managed(dir.path(), in_use).unwrap();
    assert_eq!(started.list(), a.list(), "a start finds the same");
    assert_eq!(RefreshKeys::open_managed(dir.path(), in_use.minus(MILLISECOND)).unwrap().current(), old);

    // With its file a key's tokens go.
    fs::remove_file(dir.path().join(format!("refresh/{old:08x}.key"))).unwrap();
    assert!(b.reload(in_use).unwrap());
    assert_eq!(b.read(&row), None);
    assert_eq!(states(&b), [(Current, new)]);
}

#[test]
fn a_rotation_waits_for_the_one_before_wherever_that_was() {
    let dir = TempDir::new().unwrap();
    let a = RefreshKeys::open_managed(dir.path(), now()).unwrap();
    let b = RefreshKeys::open_managed(dir.path(), now()).unwrap();
    written(dir.path(), a.current(), now().minus(PUBLISHED_BEFORE_USE));
    let made: Vec<_> = std::thread::scope(|scope| {
        [&a, &b].map(|keys| scope.spawn(|| keys.rotate(now()))).map(|one| one.join().unwrap()).into()
    });
    let (done, refused): (Vec<_>, Vec<_>) = made.into_iter().partition(Result::is_ok);
    let id = done.into_iter().next().unwrap().unwrap();
    let error = refused.into_iter().next().unwrap().unwrap_err();
    assert!(
        matches!(error, RefreshKeysError::NotYetInUse { id: waiting, left }
        if waiting == id && left <= PUBLISHED_BEFORE_USE + Duration::from_secs(5)),
        "{error}"
    );
    a.reload(now()).unwrap();
    b.reload(now()).unwrap();
    assert_eq!((a.list().len(), a.list()), (2, b.list()));
    let mode = fs::metadata(dir.path().join(format!("refresh/{id:08x}.key"))).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let late = now().plus(PUBLISHED_BEFORE_USE * 2);
    b.rotate(late).unwrap();
    assert_eq!(fs::read_dir(dir.path().join("refresh")).unwrap().count(), 3);
}

#[test]
fn a_half_written_key_leaves_the_keys_as_they_are_and_is_told_once() {
    let dir = TempDir::new().unwrap();
    let keys = RefreshKeys::open_managed(dir.path(), now()).unwrap();
    let before = states(&keys);
    let key = [7; 32];
    let path = dir.path().join(format!("refresh/{:08x}.key", key_id(&key)));
    fs::write(&path, &key[..20]).unwrap();
    assert!(matches!(keys.reload(now()), Err(RefreshKeysError::Length { bytes: 20, .. })));
    assert!(!keys.reload(now()).unwrap(), "told once");
    assert_eq!(states(&keys), before);
    fs::write(&path, key).unwrap();
    assert!(keys.reload(now()).unwrap());
    assert_eq!(states(&keys)[0], (RefreshKeyState::Next, key_id(&key)));
    let all = states(&keys);
    fs::remove_dir_all(dir.path().join("refresh")).unwrap();
    assert!(keys.reload(now()).is_err(), "without any key nobody could be signed in");
    assert_eq!(states(&keys), all);
}

#[test]
fn first_starts_at_once_end_with_the_same_key() {
    let parent = TempDir::new().unwrap();
    let dir = parent.path().join("keys");
    let all: Vec<_> = std::thread::scope(|scope| {
        let starts: Vec<_> =
            (0..8).map(|_| scope.spawn(|| RefreshKeys::open_managed(&dir, now()).unwrap().list())).collect();
        starts.into_iter().map(|start| start.join().unwrap()).collect()
    });
    assert!(all.iter().all(|list| list.len() == 1 && *list == all[0]), "{all:?}");
}

#[test]
fn a_new_first_file_makes_tokens_once_everyone_had_time_to_see_it() {
    use RefreshKeyState::{Current, Next, Older};
    let dir = TempDir::new().unwrap();
    let id = |byte: u8| key_id(&[byte; 32]);
    let paths = [key_file(&dir, "first", 1), key_file(&dir, "second", 2)];
    let keys = RefreshKeys::from_files(&paths).unwrap();
    assert_eq!(states(&keys), [(Current, id(1)), (Older, id(2))], "at once at the start");
    assert!(matches!(keys.rotate(now()), Err(RefreshKeysError::KeysFromFiles)));
    let start = UnixTime::from_secs(1_700_000_000);

    key_file(&dir, "second", 1);
    assert!(matches!(keys.reload(start), Err(RefreshKeysError::Twice { .. })), "half way");
    key_file(&dir, "first", 3);
    assert!(keys.reload(start).unwrap());
    assert_eq!(states(&keys), [(Next, id(3)), (Current, id(1))]);
    assert!(keys.read(&keys.write(SID, 1, id(3))).is_some());
    let in_use = start.plus(PUBLISHED_BEFORE_USE);
    assert!(!keys.reload(in_use.minus(MILLISECOND)).unwrap());
    assert!(keys.reload(in_use).unwrap());
    assert_eq!(states(&keys), [(Current, id(3)), (Older, id(1))]);
    assert_eq!(keys.list()[0].created_at, None);

    // Nothing is left of what was known.
    key_file(&dir, "first", 4);
    fs::remove_file(&paths[1]).unwrap();
    assert!(matches!(keys.reload(in_use), Err(RefreshKeysError::Io { doing: "read", .. })));
    assert_eq!(keys.current(), id(3));
    key_file(&dir, "second", 5);
    assert!(keys.reload(in_use).unwrap());
    assert_eq!(states(&keys), [(Current, id(4)), (Older, id(5))]);
}
