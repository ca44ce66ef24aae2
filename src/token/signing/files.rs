//! The files of managed signing keys: what is read is checked, what is written is whole or not there.

use std::collections::HashSet;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use p256::SecretKey;
use p256::pkcs8::DecodePrivateKey as _;
use zeroize::Zeroizing;

use super::{KeyState, SigningKeysError};
use crate::shared_files::{self, DirectoryLock, Place};

/// One key in `keys.json`. Times are Unix milliseconds.
#[derive(Clone, Debug, serde::Deserialize, serde::Serialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Entry {
    pub(super) kid: String,
    pub(super) state: KeyState,
    pub(super) created_at: u64,
    pub(super) activated_at: Option<u64>,
    pub(super) retired_at: Option<u64>,
}

#[derive(serde::Deserialize, serde::Serialize)]
#[serde(deny_unknown_fields)]
struct Manifest {
    version: u32,
    keys: Vec<Entry>,
}

/// Of the form of [`Manifest`].
const VERSION: u32 = 1;

/// A PEM file of one P-256 key has some 250 bytes, `keys.json` 250 for each key.
const MAX_FILE_BYTES: u64 = 64 * 1024;

pub(super) fn directory(dir: &Path) -> PathBuf {
    dir.join("signing")
}

/// What is watched of it.
pub(super) fn place(dir: &Path) -> Place {
    Place::Directory(directory(dir), &["json", "pem"])
}

/// The turn to change the keys in `dir`, which is made when it is not there.
pub(super) fn lock(dir: &Path) -> Result<DirectoryLock, SigningKeysError> {
    make_directory(dir)?;
    DirectoryLock::wait(dir).map_err(error("lock", &DirectoryLock::path(dir)))
}

fn manifest_path(dir: &Path) -> PathBuf {
    directory(dir).join("keys.json")
}

pub(super) fn key_path(dir: &Path, kid: &str) -> PathBuf {
    directory(dir).join(format!("{kid}.pem"))
}

fn error<'a>(doing: &'static str, path: &'a Path) -> impl FnOnce(io::Error) -> SigningKeysError + use<'a> {
    move |source| SigningKeysError::Io { doing, path: path.to_owned(), source }
}

/// Whether keys were ever made in `dir`. An empty directory counts as none: it may have been made for us.
pub(super) fn exist(dir: &Path) -> Result<bool, SigningKeysError> {
    let path = directory(dir);
    match fs::read_dir(&path) {
        Ok(mut entries) => Ok(entries.next().is_some()),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(e) => Err(error("read", &path)(e)),
    }
}

/// Makes the directory with all of `keys`, in one rename: it is either not there or complete.
pub(super) fn create(dir: &Path, keys: &[(Entry, Zeroizing<String>)]) -> Result<(), SigningKeysError> {
    let target = directory(dir);
    let building = dir.join("signing.new");
    make_directory(dir)?;
    // Left by a crash; never used.
    match fs::remove_dir_all(&building) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(error("remove", &building)(e)),
        _ => make_directory(&building)?,
    }
    for (entry, pem) in keys {
        write(&building.join(format!("{}.pem", entry.kid)), pem.as_bytes())?;
    }
    let entries: Vec<Entry> = keys.iter().map(|(entry, _)| entry.clone()).collect();
    write(&building.join("keys.json"), &manifest_bytes(&entries))?;
    fs::rename(&building, &target).map_err(error("create", &target))?;
    sync_directory(dir)
}

fn make_directory(path: &Path) -> Result<(), SigningKeysError> {
    shared_files::make_directory(path).map_err(error("create", path))
}

/// Removes what a crash in the middle of a write left behind, unless somebody is writing.
pub(super) fn clean(dir: &Path) {
    let Ok(_turn) = DirectoryLock::take(dir) else { return };
    let Ok(entries) = fs::read_dir(directory(dir)) else { return };
    for path in entries.flatten().map(|entry| entry.path()) {
        if path.extension().is_some_and(|extension| extension == "tmp")
            && let Err(e) = fs::remove_file(&path)
        {
            tracing::warn!(path = %path.display(), error = %e, "cannot remove an unfinished file");
        }
    }
}

/// All keys that `keys.json` names.
pub(super) fn load(dir: &Path) -> Result<Vec<(Entry, SecretKey)>, SigningKeysError> {
    let path = manifest_path(dir);
    let bad = |reason: String| SigningKeysError::BadManifest { path: path.clone(), reason };
    let bytes = match read(&path) {
        Ok((bytes, _)) => bytes,
        // New keys would silently end every token: only a person can tell a lost file from an old directory.
        Err(SigningKeysError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
            return Err(bad(
                "is missing beside its keys: restore it, or move the directory away to get new keys".into()
            ));
        }
        Err(e) => return Err(e),
    };
    let manifest: Manifest = serde_json::from_slice(&bytes).map_err(|e| bad(format!("is damaged: {e}")))?;
    if manifest.version != VERSION {
        return Err(bad(format!("has version {}, expected {VERSION}", manifest.version)));
    }
    let count = |state| manifest.keys.iter().filter(|entry| entry.state == state).count();
    if count(KeyState::Current) != 1 || count(KeyState::Next) != 1 || count(KeyState::VerifyOnly) != 0 {
        return Err(bad("is damaged: expected one current and one next key".into()));
    }
    let mut seen = HashSet::new();
    let mut keys = Vec::with_capacity(manifest.keys.len());
    for entry in manifest.keys {
        // It becomes a file name.
        let is_thumbprint =
            entry.kid.len() == 43 && entry.kid.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_');
        if !is_thumbprint || !seen.insert(entry.kid.clone()) {
            return Err(bad(format!("is damaged: {:?} is no key id or stands there twice", entry.kid)));
        }
        let path = key_path(dir, &entry.kid);
        let (secret, mode) = match read_key(&path) {
            Err(SigningKeysError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
                return Err(SigningKeysError::MissingKey { path, manifest: manifest_path(dir) });
            }
            other => other?,
        };
        if mode & 0o077 != 0 {
            return Err(SigningKeysError::Permissions { path, mode });
        }
        keys.push((entry, secret));
    }
    Ok(keys)
}

/// A P-256 private key in PEM, PKCS#8 (RFC 5958) or SEC 1 (RFC 5915), and its file's permission bits.
pub(super) fn read_key(path: &Path) -> Result<(SecretKey, u32), SigningKeysError> {
    let not_a_key = |reason| SigningKeysError::NotAKey { path: path.to_owned(), reason };
    let (bytes, mode) = read(path)?;
    let Ok(text) = std::str::from_utf8(&bytes) else { return Err(not_a_key("is no PEM file")) };
    if block(text, "ENCRYPTED PRIVATE KEY").is_some() || text.contains("Proc-Type: 4,ENCRYPTED") {
        return Err(not_a_key("is encrypted with a passphrase: give it without one"));
    }
    // openssl writes an EC PARAMETERS block before a SEC 1 key.
    let secret = if let Some(pem) = block(text, "PRIVATE KEY") {
        SecretKey::from_pkcs8_pem(pem).ok()
    } else if let Some(pem) = block(text, "EC PRIVATE KEY") {
        SecretKey::from_sec1_pem(pem).ok()
    } else {
        return Err(not_a_key("has no PEM block PRIVATE KEY or EC PRIVATE KEY"));
    };
    let secret = secret.ok_or_else(|| not_a_key("is no P-256 private key (ES256 needs one)"))?;
    Ok((secret, mode))
}

fn block<'a>(text: &'a str, label: &str) -> Option<&'a str> {
    let (begin, end) = (format!("-----BEGIN {label}-----"), format!("-----END {label}-----"));
    let text = &text[text.find(&begin)?..];
    Some(&text[..text.find(&end)? + end.len()])
}

fn read(path: &Path) -> Result<(Zeroizing<Vec<u8>>, u32), SigningKeysError> {
    let file = File::open(path).map_err(error("read", path))?;
    let metadata = file.metadata().map_err(error("read", path))?;
    // With room for all of it, so that reading does not grow the buffer and leave copies behind.
    let mut bytes = Zeroizing::new(Vec::with_capacity(MAX_FILE_BYTES as usize + 1));
    file.take(MAX_FILE_BYTES + 1).read_to_end(&mut bytes).map_err(error("read", path))?;
    if bytes.len() as u64 > MAX_FILE_BYTES {
        return Err(SigningKeysError::NotAKey { path: path.to_owned(), reason: "is longer than 64 KiB" });
    }
    Ok((bytes, metadata.permissions().mode() & 0o7777))
}

pub(super) fn write_key(dir: &Path, kid: &str, pem: &str) -> Result<(), SigningKeysError> {
    write(&key_path(dir, kid), pem.as_bytes())
}

pub(super) fn write_manifest(dir: &Path, entries: &[Entry]) -> Result<(), SigningKeysError> {
    write(&manifest_path(dir), &manifest_bytes(entries))
}

/// A file that nothing names any more: that it stays is untidy, not wrong.
pub(super) fn remove_key(dir: &Path, kid: &str) {
    let path = key_path(dir, kid);
    if let Err(e) = fs::remove_file(&path) {
        tracing::warn!(path = %path.display(), error = %e, "cannot remove an expired signing key");
    }
}

#[expect(clippy::expect_used, reason = "a struct of strings and numbers has a JSON form")]
fn manifest_bytes(entries: &[Entry]) -> Vec<u8> {
    let manifest = Manifest { version: VERSION, keys: entries.to_vec() };
    serde_json::to_vec_pretty(&manifest).expect("a manifest can be written as JSON")
}

/// Replaces `path` in one step, on disk when this returns.
fn write(path: &Path, bytes: &[u8]) -> Result<(), SigningKeysError> {
    let temporary = path.with_extension("tmp");
    let written = (|| {
        match fs::remove_file(&temporary) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
            _ => {}
        }
        // The mode from the first moment: a chmod afterwards leaves a gap in which others can open it.
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&temporary)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&temporary, path)
    })();
    written.map_err(error("write", path))?;
    match path.parent() {
        Some(parent) => sync_directory(parent),
        None => Ok(()),
    }
}

/// A rename is on disk only when its directory is.
fn sync_directory(path: &Path) -> Result<(), SigningKeysError> {
    File::open(path).and_then(|directory| directory.sync_all()).map_err(error("sync", path))
}
