//! Own signing keys: P-256, made and rotated here or given as files.
//!
//! Managed keys live in `<dir>/signing`: `<kid>.pem` (PKCS#8) for each, and `keys.json`, which says what each is for.
//! A change is a new key file first, then one rename of `keys.json`: a crash leaves the state before or after, never one
//! in between. Files are 0600, directories 0700.

mod files;
mod own_key;

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;

use self::files::Entry;
use self::own_key::OwnKey;
use super::OWN_ISSUER;
use super::keys::KeySet;
use super::verify::Verifier;
use crate::clock::{LEEWAY, UnixTime};
use crate::ids::KeyId;

/// How long a key is published before it may sign, and how long others may keep the key document (its `max-age`).
pub const PUBLISHED_BEFORE_USE: Duration = Duration::from_secs(300);

/// The keys of own access tokens. One for the process; reading takes no lock.
pub struct SigningKeys {
    ring: ArcSwap<Ring>,
    source: Source,
    /// Held while the files are changed.
    changing: Mutex<()>,
}

enum Source {
    Managed(PathBuf),
    ReadOnly,
    Files,
}

/// What a key is for.
#[derive(Clone, Copy, Debug, Eq, PartialEq, serde::Deserialize, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum KeyState {
    /// Signs.
    Current,
    /// Published, so that it is known everywhere before it signs.
    Next,
    /// Signs no more; published until the last token it signed has expired.
    Retired,
    /// Given as a file after the first: published, signs never.
    VerifyOnly,
}

impl KeyState {
    /// The word for it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Current => "current",
            Self::Next => "next",
            Self::Retired => "retired",
            Self::VerifyOnly => "verify_only",
        }
    }
}

/// A key as operators see it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct KeyInfo {
    /// RFC 7638 thumbprint.
    pub kid: KeyId,
    /// What it is for.
    pub state: KeyState,
    /// Unknown for a key given as a file.
    pub created_at: Option<UnixTime>,
    /// Since when it signs.
    pub activated_at: Option<UnixTime>,
    /// Since when it signs no more.
    pub retired_at: Option<UnixTime>,
}

/// What a rotation changed.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct RotatedKeys {
    /// Signs from now on; was next.
    pub current: KeyId,
    /// Newly made.
    pub next: KeyId,
    /// Was current.
    pub retired: KeyId,
}

/// Why signing keys could not be loaded, made or changed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SigningKeysError {
    /// The file system refused.
    #[error("cannot {doing} {}", path.display())]
    Io {
        /// What was being done.
        doing: &'static str,
        /// To what.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// A private key that others can read is no secret.
    #[error("private key {} can be read by others (mode {mode:04o}): chmod 600 it", path.display())]
    Permissions {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// The file holds no usable key.
    #[error("{} {reason}", path.display())]
    NotAKey {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// `keys.json` is not what this program wrote.
    #[error("{} {reason}", path.display())]
    BadManifest {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// There are no keys to read.
    #[error("no signing keys in {}", .0.display())]
    NoKeys(PathBuf),
    /// `keys.json` names a key whose file is gone.
    #[error("signing key {} is missing, but {} names it", path.display(), manifest.display())]
    MissingKey {
        /// The key's file.
        path: PathBuf,
        /// `keys.json`
        manifest: PathBuf,
    },
    /// The file holds another key than its name says.
    #[error("{} holds the key {found}, not the one it is named after", path.display())]
    WrongKey {
        /// The file.
        path: PathBuf,
        /// The `kid` of the key in it.
        found: KeyId,
    },
    /// One key given twice.
    #[error("{} holds the same key as another of the signing keys", .0.display())]
    Duplicate(PathBuf),
    /// The keys were given as files: whoever made these rotates them.
    #[error("signing keys come from session.signing_keys and are rotated by changing those files")]
    KeysFromFiles,
    /// Opened to be read only.
    #[error("signing keys were opened to be read only")]
    ReadOnly,
}

impl SigningKeys {
    /// The keys in `<dir>/signing`; made when there are none.
    ///
    /// # Errors
    /// [`SigningKeysError`]. Keys that are there but unusable are never replaced by new ones.
    pub fn open_managed(dir: &Path, now: UnixTime) -> Result<Self, SigningKeysError> {
        if !files::exist(dir)? {
            let (current, current_pem) = OwnKey::generate(now, KeyState::Current);
            let (next, next_pem) = OwnKey::generate(now, KeyState::Next);
            files::create(dir, &[(current.entry(), current_pem), (next.entry(), next_pem)])?;
            tracing::info!(kid = %current.kid, next_kid = %next.kid, "signing keys made");
        }
        files::clean(dir);
        Ok(Self::new(Self::load(dir)?, Source::Managed(dir.to_owned())))
    }

    /// The keys in `<dir>/signing`, to look at: makes and changes nothing.
    ///
    /// # Errors
    /// [`SigningKeysError::NoKeys`] when there are none, else as [`Self::open_managed`].
    pub fn read_only(dir: &Path) -> Result<Self, SigningKeysError> {
        if !files::exist(dir)? {
            return Err(SigningKeysError::NoKeys(files::directory(dir)));
        }
        Ok(Self::new(Self::load(dir)?, Source::ReadOnly))
    }

    /// Keys given as PEM files, PKCS#8 or SEC 1. The first signs, the others only verify.
    ///
    /// A file that others can read is a warning only: container platforms mount secrets that way.
    ///
    /// # Errors
    /// [`SigningKeysError`] for the first file that is no P-256 private key, or no files at all.
    pub fn from_files(paths: &[PathBuf]) -> Result<Self, SigningKeysError> {
        let mut keys: Vec<Arc<OwnKey>> = Vec::with_capacity(paths.len());
        for path in paths {
            let (secret, mode) = files::read_key(path)?;
            if mode & 0o077 != 0 {
                tracing::warn!(path = %path.display(), mode = format!("{mode:04o}"), "signing key can be read by others");
            }
            let state = if keys.is_empty() { KeyState::Current } else { KeyState::VerifyOnly };
            let key = OwnKey::new(&secret, state);
            if keys.iter().any(|known| known.kid == key.kid) {
                return Err(SigningKeysError::Duplicate(path.clone()));
            }
            keys.push(Arc::new(key));
        }
        let ring = Ring::new(keys).ok_or_else(|| SigningKeysError::NoKeys(PathBuf::from("session.signing_keys")))?;
        Ok(Self::new(ring, Source::Files))
    }

    fn new(ring: Ring, source: Source) -> Self {
        Self { ring: ArcSwap::from_pointee(ring), source, changing: Mutex::new(()) }
    }

    fn load(dir: &Path) -> Result<Ring, SigningKeysError> {
        let mut keys = Vec::new();
        for (entry, secret) in files::load(dir)? {
            let mut key = OwnKey::new(&secret, entry.state);
            if key.kid.as_str() != entry.kid {
                return Err(SigningKeysError::WrongKey { path: files::key_path(dir, &entry.kid), found: key.kid });
            }
            key.created_at = Some(UnixTime::from_millis(entry.created_at));
            key.activated_at = entry.activated_at.map(UnixTime::from_millis);
            key.retired_at = entry.retired_at.map(UnixTime::from_millis);
            keys.push(Arc::new(key));
        }
        Ring::new(keys).ok_or_else(|| SigningKeysError::NoKeys(files::directory(dir)))
    }

    /// Next becomes current, current is retired, a new next is made, retired keys that no token needs are dropped.
    ///
    /// The key that signs from now on was published when it became next, at start or by the rotation before. All is on
    /// disk before the first signature. On an error nothing has changed here; what the disk says is whole in either case.
    ///
    /// # Errors
    /// [`SigningKeysError::KeysFromFiles`] and [`SigningKeysError::ReadOnly`] for keys that are not managed,
    /// [`SigningKeysError::Io`] when they could not be written.
    pub fn rotate(&self, now: UnixTime, token_ttl: Duration) -> Result<RotatedKeys, SigningKeysError> {
        let dir = self.managed()?;
        let _changing = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
        let ring = self.ring.load_full();
        let (new, pem) = OwnKey::generate(now, KeyState::Next);
        files::write_key(dir, new.kid.as_str(), &pem)?;
        let (mut keys, expired) = ring.split_expired(now, token_ttl);
        let mut rotated = RotatedKeys { current: new.kid.clone(), next: new.kid.clone(), retired: new.kid.clone() };
        for key in &mut keys {
            let mut changed = key.with_same_key();
            match key.state {
                KeyState::Current => {
                    changed.state = KeyState::Retired;
                    changed.retired_at = Some(now);
                    rotated.retired = key.kid.clone();
                }
                KeyState::Next => {
                    changed.state = KeyState::Current;
                    changed.activated_at = Some(now);
                    rotated.current = key.kid.clone();
                }
                KeyState::Retired | KeyState::VerifyOnly => continue,
            }
            *key = Arc::new(changed);
        }
        keys.push(Arc::new(new));
        // On an error the new file stays: if only the last sync failed, `keys.json` already names it.
        self.replace(dir, keys, &expired)?;
        Ok(rotated)
    }

    /// Drops retired keys whose last token has expired, from memory, disk and the published set. Returns how many.
    ///
    /// # Errors
    /// [`SigningKeysError::Io`] when the change could not be written.
    pub fn purge_retired(&self, now: UnixTime, token_ttl: Duration) -> Result<usize, SigningKeysError> {
        let Source::Managed(dir) = &self.source else { return Ok(0) };
        let _changing = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
        let (keys, expired) = self.ring.load_full().split_expired(now, token_ttl);
        if !expired.is_empty() {
            self.replace(dir, keys, &expired)?;
        }
        Ok(expired.len())
    }

    /// Tells the verifier which keys there are: at the start and after every change.
    ///
    /// No change comes between reading them and telling, so that an older set never replaces a newer one.
    pub fn publish_to(&self, verifier: &Verifier) {
        let _changing = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
        verifier.swap_keys(OWN_ISSUER, self.key_set());
    }

    /// Disk first, then memory, then the files that nothing names any more.
    fn replace(&self, dir: &Path, keys: Vec<Arc<OwnKey>>, gone: &[KeyId]) -> Result<(), SigningKeysError> {
        let entries: Vec<Entry> = keys.iter().map(|key| key.entry()).collect();
        let ring = Ring::new(keys).ok_or_else(|| SigningKeysError::NoKeys(files::directory(dir)))?;
        files::write_manifest(dir, &entries)?;
        self.ring.store(Arc::new(ring));
        for kid in gone {
            files::remove_key(dir, kid.as_str());
        }
        Ok(())
    }

    fn managed(&self) -> Result<&Path, SigningKeysError> {
        match &self.source {
            Source::Managed(dir) => Ok(dir),
            Source::ReadOnly => Err(SigningKeysError::ReadOnly),
            Source::Files => Err(SigningKeysError::KeysFromFiles),
        }
    }

    /// The document of `/.well-known/jwks.json` (RFC 7517 §5), ready made.
    pub fn public_jwks(&self) -> Arc<[u8]> {
        Arc::clone(&self.ring.load().jwks)
    }

    /// The public keys, for the verifier. Keys that stay are the same `Arc`s every time.
    pub fn key_set(&self) -> KeySet {
        KeySet::from_keys(self.ring.load().keys.iter().map(|key| Arc::clone(&key.verifying)).collect())
    }

    /// All keys: current, next, then the others.
    pub fn list(&self) -> Vec<KeyInfo> {
        self.ring.load().keys.iter().map(|key| key.info()).collect()
    }

    /// The key that signs.
    pub(super) fn current(&self) -> Arc<OwnKey> {
        let ring = self.ring.load();
        Arc::clone(&ring.current)
    }
}

/// Prints names only.
impl fmt::Debug for SigningKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SigningKeys").field("keys", &self.list()).finish_non_exhaustive()
    }
}

/// The keys at one moment, and what is made from them once.
struct Ring {
    current: Arc<OwnKey>,
    keys: Vec<Arc<OwnKey>>,
    jwks: Arc<[u8]>,
}

impl Ring {
    /// `None` without a key that signs.
    fn new(mut keys: Vec<Arc<OwnKey>>) -> Option<Self> {
        keys.sort_by_key(|key| match key.state {
            KeyState::Current => 0,
            KeyState::Next => 1,
            KeyState::VerifyOnly | KeyState::Retired => 2,
        });
        let current = keys.first().filter(|key| key.state == KeyState::Current).cloned()?;
        let jwks: Vec<&str> = keys.iter().map(|key| &*key.jwk).collect();
        let jwks = format!("{{\"keys\":[{}]}}", jwks.join(","));
        Some(Self { current, keys, jwks: jwks.into_bytes().into() })
    }

    /// The keys without the retired ones that no valid token names any more, and the names of those.
    fn split_expired(&self, now: UnixTime, token_ttl: Duration) -> (Vec<Arc<OwnKey>>, Vec<KeyId>) {
        // The verifier accepts a token until `exp + LEEWAY`: its key must be there as long.
        let expired = |key: &OwnKey| key.retired_at.is_some_and(|retired| retired.plus(token_ttl).plus(LEEWAY) < now);
        let (gone, kept): (Vec<_>, Vec<_>) = self.keys.iter().cloned().partition(|key| expired(key));
        (kept, gone.iter().map(|key| key.kid.clone()).collect())
    }
}

#[cfg(test)]
mod tests;
