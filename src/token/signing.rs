//! Own signing keys: P-256, made and rotated here or given as files.
//!
//! Managed keys live in `<dir>/signing`: `<kid>.pem` (PKCS#8) for each, and `keys.json`, which says what each is for.
//! A change is a new key file first, then one rename of `keys.json`: a crash leaves the state before or after, never one
//! in between. Files are 0600, directories 0700.
//!
//! Several gateways may share the keys: each watches the files and takes over what another changed, and who changes
//! them holds a lock and decides by what the disk says. A key is published first, signs later and is retired last, so it
//! does not matter that they see a change at different times, as long as all have seen it within
//! [`PUBLISHED_BEFORE_USE`].

mod files;
mod own_key;

use std::collections::HashMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;

use self::files::Entry;
use self::own_key::OwnKey;
use super::OWN_ISSUER;
use super::keys::KeySet;
use super::verify::Verifier;
use crate::clock::{LEEWAY, UnixTime};
use crate::ids::KeyId;
use crate::shared_files::{Place, Watched};

/// How long a key is published before it may be used, and how long others may keep the key document (its `max-age`).
///
/// Every gateway of several must have seen a change of the keys within this time.
pub const PUBLISHED_BEFORE_USE: Duration = Duration::from_secs(300);

/// The keys of own access tokens. One for the process; reading takes no lock.
pub struct SigningKeys {
    ring: ArcSwap<Ring>,
    source: Source,
    /// Held while the keys change, here or on the disk. Whoever needs the lock of the directory too takes that first:
    /// it may be long in coming.
    state: Mutex<State>,
}

enum Source {
    Managed(PathBuf),
    ReadOnly,
    Files(Vec<PathBuf>),
}

struct State {
    watched: Watched,
    /// Is told of every key before it signs.
    verifier: Option<Arc<Verifier>>,
    /// Keys given as files: in their order, and since when each is known here.
    given: Given,
}

#[derive(Default)]
struct Given {
    order: Vec<KeyId>,
    since: HashMap<KeyId, UnixTime>,
}

/// What a key is for.
#[derive(Clone, Copy, Debug, Eq, PartialEq, serde::Deserialize, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum KeyState {
    /// Signs.
    Current,
    /// Published, so that it is known everywhere before it signs. Of files: the first, when it is new.
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
    /// The next key may not be known everywhere yet.
    #[error("the next key is not known everywhere before {} s have passed", seconds_up(*.left))]
    NotYetPublished {
        /// How long until it is.
        left: Duration,
    },
    /// The keys were given as files: whoever made these rotates them.
    #[error("signing keys come from session.signing_keys and are rotated by changing those files")]
    KeysFromFiles,
    /// Opened to be read only.
    #[error("signing keys were opened to be read only")]
    ReadOnly,
}

impl SigningKeys {
    /// The keys in `<dir>/signing`; made when there are none. Of several processes that start at once one makes them.
    ///
    /// # Errors
    /// [`SigningKeysError`]. Keys that are there but unusable are never replaced by new ones.
    pub fn open_managed(dir: &Path, now: UnixTime) -> Result<Self, SigningKeysError> {
        // Without the lock when there are keys: the directory may be mounted to be read only.
        if !files::exist(dir)? {
            Self::make(dir, now)?;
        }
        files::clean(dir);
        let (watched, ring) = Watched::first(files::place(dir), || load(dir, &[]))?;
        Ok(Self::new(ring, Source::Managed(dir.to_owned()), watched, Given::default()))
    }

    fn make(dir: &Path, now: UnixTime) -> Result<(), SigningKeysError> {
        let _turn = files::lock(dir)?;
        if files::exist(dir)? {
            return Ok(());
        }
        let (current, current_pem) = OwnKey::generate(now, KeyState::Current);
        let (next, next_pem) = OwnKey::generate(now, KeyState::Next);
        match files::create(dir, &[(current.entry(), current_pem), (next.entry(), next_pem)]) {
            Ok(()) => tracing::info!(kid = %current.kid, next_kid = %next.kid, "signing keys made"),
            // Somebody who takes no lock put keys there: the rename failed, and theirs are as good.
            Err(error) if !files::exist(dir)? => return Err(error),
            Err(_) => {}
        }
        Ok(())
    }

    /// The keys in `<dir>/signing`, to look at: makes and changes nothing.
    ///
    /// # Errors
    /// [`SigningKeysError::NoKeys`] when there are none, else as [`Self::open_managed`].
    pub fn read_only(dir: &Path) -> Result<Self, SigningKeysError> {
        if !files::exist(dir)? {
            return Err(SigningKeysError::NoKeys(files::directory(dir)));
        }
        let (watched, ring) = Watched::first(files::place(dir), || load(dir, &[]))?;
        Ok(Self::new(ring, Source::ReadOnly, watched, Given::default()))
    }

    /// Keys given as PEM files, PKCS#8 or SEC 1. The first signs, the others only verify.
    ///
    /// A file that others can read is a warning only: container platforms mount secrets that way.
    ///
    /// # Errors
    /// [`SigningKeysError`] for the first file that is no P-256 private key, or no files at all.
    pub fn from_files(paths: &[PathBuf]) -> Result<Self, SigningKeysError> {
        let (watched, keys) = Watched::first(Place::Files(paths.to_owned()), || load_files(paths, &[]))?;
        let mut given = Given::default();
        // What was there at the start counts as known everywhere: nobody can tell since when it is.
        given.take(&keys, UnixTime::default());
        let ring = given.ring(&keys, None, UnixTime::default()).ok_or_else(no_files)?;
        Ok(Self::new(ring, Source::Files(paths.to_owned()), watched, given))
    }

    /// Keys that nothing is signed with, for a gateway without sessions of its own: in memory alone.
    ///
    /// # Errors
    /// None that is known: a ring of one key that signs can be made.
    pub fn unused(now: UnixTime) -> Result<Self, SigningKeysError> {
        let nowhere = Place::Files(Vec::new());
        let ring = || Ring::new(vec![Arc::new(OwnKey::generate(now, KeyState::Current).0)]).ok_or_else(no_files);
        let (watched, ring) = Watched::first(nowhere, ring)?;
        Ok(Self::new(ring, Source::ReadOnly, watched, Given::default()))
    }

    fn new(ring: Ring, source: Source, watched: Watched, given: Given) -> Self {
        let state = Mutex::new(State { watched, verifier: None, given });
        Self { ring: ArcSwap::from_pointee(ring), source, state }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes over what was changed in the files since they were last read. Whether the keys here have changed.
    ///
    /// Managed keys are what `keys.json` says. For keys given as files the first signs, but one that was not among
    /// them before waits for [`PUBLISHED_BEFORE_USE`], while the key that signed goes on: other gateways may get the
    /// files later. When the key that signed is gone, the first signs at once. A start begins anew: the first signs.
    ///
    /// Looks at the files' metadata; reads only when these have changed. Blocks on the disk.
    ///
    /// # Errors
    /// [`SigningKeysError`] when a file is missing, half written or bad, once until it changes again. The keys here
    /// stay as they were.
    pub fn reload(&self, now: UnixTime) -> Result<bool, SigningKeysError> {
        let mut state = self.state();
        let old = self.ring.load_full();
        let ring = match &self.source {
            Source::ReadOnly => return Ok(false),
            Source::Managed(dir) => match state.watched.changed(|| load(dir, &old.keys))? {
                Some(ring) => ring,
                None => return Ok(false),
            },
            Source::Files(paths) => {
                let keys = match state.watched.changed(|| load_files(paths, &old.keys))? {
                    Some(keys) => {
                        state.given.take(&keys, now);
                        keys
                    }
                    None if old.keys.iter().any(|key| key.state == KeyState::Next) => state.given.sort(&old.keys),
                    None => return Ok(false),
                };
                state.given.ring(&keys, Some(&old.current.kid), now).ok_or_else(no_files)?
            }
        };
        if ring.list() == old.list() {
            return Ok(false);
        }
        let signs = &ring.current.kid;
        if matches!(self.source, Source::Managed(_)) && old.keys.iter().all(|key| key.kid != *signs) {
            // A forced rotation, or copies of the directory that come too late: its tokens were refused here until now.
            tracing::warn!(kid = %signs, "a signing key was in use elsewhere before it was known here");
        }
        self.set(&state, ring);
        Ok(true)
    }

    /// The keys that sign and verify from now on.
    fn set(&self, state: &State, ring: Ring) {
        // The verifier first: a token may be back before the next line has run.
        if let Some(verifier) = &state.verifier {
            verifier.swap_keys(OWN_ISSUER, ring.key_set());
        }
        self.ring.store(Arc::new(ring));
    }

    /// What the disk says, under the lock of the directory: another process may have changed it a moment ago.
    fn read_again(&self, state: &mut State, dir: &Path) -> Result<Arc<Ring>, SigningKeysError> {
        let old = self.ring.load_full();
        let ring = state.watched.again(|| load(dir, &old.keys))?;
        if ring.list() != old.list() {
            self.set(state, ring);
        }
        Ok(self.ring.load_full())
    }

    /// Next becomes current, current is retired, a new next is made, retired keys that no token needs are dropped.
    ///
    /// Decided by what the disk says, under its lock: of two gateways that rotate at once the second one rotates what
    /// the first one made, or is told that it is too early. The key that signs from now on was published when it
    /// became next, at start or by the rotation before; unless `force` is given, long enough ago for every gateway to
    /// know it. All is on disk before the first signature. On an error nothing has changed but what another process
    /// did; what the disk says is whole in any case. Blocks on the disk and the lock.
    ///
    /// # Errors
    /// [`SigningKeysError::NotYetPublished`] when it is too early, [`SigningKeysError::KeysFromFiles`] and
    /// [`SigningKeysError::ReadOnly`] for keys that are not managed, [`SigningKeysError::Io`] when they could not be
    /// written, others when what is on the disk cannot be used.
    pub fn rotate(&self, now: UnixTime, token_ttl: Duration, force: bool) -> Result<RotatedKeys, SigningKeysError> {
        let dir = self.managed()?;
        let _turn = files::lock(dir)?;
        let mut state = self.state();
        let ring = self.read_again(&mut state, dir)?;
        if !force {
            ring.check_published(now)?;
        }
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
        self.replace(&state, dir, keys, &expired)?;
        Ok(rotated)
    }

    /// Drops retired keys whose last token has expired, from memory, disk and the published set. Returns how many.
    ///
    /// # Errors
    /// [`SigningKeysError`] when what the disk says could not be read, or the change not be written.
    pub fn purge_retired(&self, now: UnixTime, token_ttl: Duration) -> Result<usize, SigningKeysError> {
        let Source::Managed(dir) = &self.source else { return Ok(0) };
        // Mostly there is nothing to do, and no lock needed for it.
        if self.ring.load().split_expired(now, token_ttl).1.is_empty() {
            return Ok(0);
        }
        let _turn = files::lock(dir)?;
        let mut state = self.state();
        let (keys, expired) = self.read_again(&mut state, dir)?.split_expired(now, token_ttl);
        if !expired.is_empty() {
            self.replace(&state, dir, keys, &expired)?;
        }
        Ok(expired.len())
    }

    /// Tells the verifier which keys there are: now, and before every change.
    pub fn publish_to(&self, verifier: &Arc<Verifier>) {
        let mut state = self.state();
        verifier.swap_keys(OWN_ISSUER, self.key_set());
        state.verifier = Some(Arc::clone(verifier));
    }

    /// Disk first, then memory, then the files that nothing names any more.
    fn replace(
        &self,
        state: &State,
        dir: &Path,
        keys: Vec<Arc<OwnKey>>,
        gone: &[KeyId],
    ) -> Result<(), SigningKeysError> {
        let entries: Vec<Entry> = keys.iter().map(|key| key.entry()).collect();
        let ring = Ring::new(keys).ok_or_else(|| SigningKeysError::NoKeys(files::directory(dir)))?;
        files::write_manifest(dir, &entries)?;
        self.set(state, ring);
        for kid in gone {
            files::remove_key(dir, kid.as_str());
        }
        Ok(())
    }

    fn managed(&self) -> Result<&Path, SigningKeysError> {
        match &self.source {
            Source::Managed(dir) => Ok(dir),
            Source::ReadOnly => Err(SigningKeysError::ReadOnly),
            Source::Files(_) => Err(SigningKeysError::KeysFromFiles),
        }
    }

    /// The document of `/.well-known/jwks.json` (RFC 7517 §5), ready made.
    pub fn public_jwks(&self) -> Arc<[u8]> {
        Arc::clone(&self.ring.load().jwks)
    }

    /// The public keys, for the verifier. Keys that stay are the same `Arc`s every time.
    pub fn key_set(&self) -> KeySet {
        self.ring.load().key_set()
    }

    /// All keys: current, next, then the others.
    pub fn list(&self) -> Vec<KeyInfo> {
        self.ring.load().list()
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

/// The managed keys in `dir`. Those that are among `known` stay the same.
fn load(dir: &Path, known: &[Arc<OwnKey>]) -> Result<Ring, SigningKeysError> {
    let mut keys = Vec::new();
    for (entry, secret) in files::load(dir)? {
        let mut key = OwnKey::new(&secret, entry.state).or_known(known);
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

/// The keys in `paths`, in their order. Those that are among `known` stay the same.
fn load_files(paths: &[PathBuf], known: &[Arc<OwnKey>]) -> Result<Vec<Arc<OwnKey>>, SigningKeysError> {
    let mut keys: Vec<Arc<OwnKey>> = Vec::with_capacity(paths.len());
    for path in paths {
        let (secret, mode) = files::read_key(path)?;
        if mode & 0o077 != 0 {
            tracing::warn!(path = %path.display(), mode = format!("{mode:04o}"), "signing key can be read by others");
        }
        let key = OwnKey::new(&secret, KeyState::VerifyOnly).or_known(known);
        if keys.iter().any(|other| other.kid == key.kid) {
            return Err(SigningKeysError::Duplicate(path.clone()));
        }
        keys.push(Arc::new(key));
    }
    Ok(keys)
}

fn no_files() -> SigningKeysError {
    SigningKeysError::NoKeys(PathBuf::from("session.signing_keys"))
}

/// Whole seconds, rounded up.
fn seconds_up(time: Duration) -> u128 {
    time.as_millis().div_ceil(1000)
}

impl Given {
    /// `keys` are what the files hold from `now` on.
    fn take(&mut self, keys: &[Arc<OwnKey>], now: UnixTime) {
        self.order = keys.iter().map(|key| key.kid.clone()).collect();
        // One that is taken away and comes back later is new again.
        self.since.retain(|kid, _| self.order.contains(kid));
        for kid in &self.order {
            self.since.entry(kid.clone()).or_insert(now);
        }
    }

    /// `keys` in the order of their files.
    fn sort(&self, keys: &[Arc<OwnKey>]) -> Vec<Arc<OwnKey>> {
        self.order.iter().filter_map(|kid| keys.iter().find(|key| key.kid == *kid)).cloned().collect()
    }

    /// Who signs at `now`, when `previous` did before. `None` without keys.
    fn ring(&self, keys: &[Arc<OwnKey>], previous: Option<&KeyId>, now: UnixTime) -> Option<Ring> {
        let first = self.order.first()?;
        let known_everywhere = self.since.get(first)?.plus(PUBLISHED_BEFORE_USE) <= now;
        let signs = match previous.filter(|kid| self.order.contains(kid)) {
            Some(previous) if !known_everywhere => previous,
            None if previous.is_some() && !known_everywhere => {
                tracing::warn!(kid = %first, "the key that signed is gone: one signs that others may not know yet");
                first
            }
            _ => first,
        };
        let with_state = |key: &Arc<OwnKey>| {
            let mut key = key.with_same_key();
            key.state = match () {
                () if key.kid == *signs => KeyState::Current,
                () if key.kid == *first => KeyState::Next,
                () => KeyState::VerifyOnly,
            };
            Arc::new(key)
        };
        Ring::new(keys.iter().map(with_state).collect())
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

    fn key_set(&self) -> KeySet {
        KeySet::from_keys(self.keys.iter().map(|key| Arc::clone(&key.verifying)).collect())
    }

    fn list(&self) -> Vec<KeyInfo> {
        self.keys.iter().map(|key| key.info()).collect()
    }

    /// Whether all who share the keys or keep the key document know the next key by now.
    fn check_published(&self, now: UnixTime) -> Result<(), SigningKeysError> {
        let next = self.keys.iter().find(|key| key.state == KeyState::Next);
        let Some(made) = next.and_then(|key| key.created_at) else { return Ok(()) };
        match PUBLISHED_BEFORE_USE.checked_sub(now.since(made)).filter(|left| !left.is_zero()) {
            Some(left) => Err(SigningKeysError::NotYetPublished { left }),
            None => Ok(()),
        }
    }

    /// The keys without the retired ones that no valid token names any more, and the names of those.
    fn split_expired(&self, now: UnixTime, token_ttl: Duration) -> (Vec<Arc<OwnKey>>, Vec<KeyId>) {
        // Another gateway may have signed until it saw the change. The verifier accepts a token until `exp + LEEWAY`:
        // its key must be there as long.
        let needed = PUBLISHED_BEFORE_USE + token_ttl + LEEWAY;
        let expired = |key: &OwnKey| key.retired_at.is_some_and(|retired| retired.plus(needed) < now);
        let (gone, kept): (Vec<_>, Vec<_>) = self.keys.iter().cloned().partition(|key| expired(key));
        (kept, gone.iter().map(|key| key.kid.clone()).collect())
    }
}

#[cfg(test)]
mod tests;
