//! The refresh token: `pcr_` and the base64url of version ‖ key id ‖ session ‖ counter ‖ MAC.
//!
//! It says which session and which counter, and the MAC says that we wrote it. So the store needs neither the token nor
//! a hash of it, a forged or mistyped one is refused without asking the store, and the successor can be written again
//! for a client whose reply was lost.

use std::collections::HashMap;
use std::fmt;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use aws_lc_rs::{digest, hmac, rand};
use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use zeroize::Zeroizing;

use crate::ids::SessionId;

/// How every refresh token starts, so that people and secret scanners know one when they see it.
pub const PREFIX: &str = "pcr_";

const VERSION: u8 = 1;
const MAC_BYTES: usize = 32;
/// Version, key id, session, counter: what the MAC covers.
const BODY_BYTES: usize = 1 + 4 + 16 + 8;
const TOKEN_BYTES: usize = BODY_BYTES + MAC_BYTES;
/// Characters of every refresh token.
pub const TOKEN_CHARS: usize = PREFIX.len() + (TOKEN_BYTES * 4).div_ceil(3);

/// Stands before the body in the MAC's input, so that no MAC made for another purpose can ever be one of a token.
const MAC_DOMAIN: &[u8] = b"portcullis refresh token\0";
/// The same for the hash that names a key.
const KEY_ID_DOMAIN: &[u8] = b"portcullis refresh key id\0";

/// The least bytes of a key: as many as the MAC has.
const MIN_KEY_BYTES: usize = 32;
/// The most: whatever is longer is some other file.
const MAX_KEY_BYTES: u64 = 4096;

/// What a refresh token with a right MAC says.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Presented {
    /// Whose it is.
    pub session: SessionId,
    /// Which one in the session's line.
    pub counter: u64,
}

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
    /// The system has no random bytes.
    #[error("no random bytes from the system")]
    NoRandomness,
}

/// The MAC keys of refresh tokens: the current one makes new tokens, all of them verify.
///
/// Removing a key refuses every token made under it. The raw bytes are zeroed once read; what remains is inside the
/// MAC contexts of the crypto library, which cleans them when dropped.
pub struct RefreshKeys {
    current: u32,
    keys: HashMap<u32, hmac::Key>,
}

impl fmt::Debug for RefreshKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Ids are hashes and stand in tokens; keys are never shown.
        f.debug_struct("RefreshKeys").field("current", &self.current).field("count", &self.keys.len()).finish()
    }
}

impl RefreshKeys {
    /// The keys in `<dir>/refresh/`, the newest file being the current one. The first is made when there is none:
    /// directory 0700, file 0600, on disk before this returns.
    ///
    /// # Errors
    /// [`RefreshKeysError`] names the file.
    pub fn open_managed(dir: &Path) -> Result<Self, RefreshKeysError> {
        let dir = dir.join("refresh");
        DirBuilder::new().recursive(true).mode(0o700).create(&dir).map_err(failed("create", &dir))?;
        let mut files: Vec<(SystemTime, PathBuf)> = Vec::new();
        for entry in fs::read_dir(&dir).map_err(failed("read", &dir))? {
            let path = entry.map_err(failed("read", &dir))?.path();
            // A half-written key of an interrupted first start has another ending.
            if path.extension().is_some_and(|ending| ending == "key") {
                let modified = fs::metadata(&path).and_then(|meta| meta.modified()).map_err(failed("read", &path))?;
                files.push((modified, path));
            }
        }
        if files.is_empty() {
            files.push((SystemTime::UNIX_EPOCH, make_key(&dir)?));
        }
        files.sort();
        let paths: Vec<PathBuf> = files.into_iter().rev().map(|(_, path)| path).collect();
        let keys = Self::from_files(&paths)?;
        for path in &paths {
            let named = path.file_stem().and_then(|stem| stem.to_str()).and_then(|s| u32::from_str_radix(s, 16).ok());
            if !named.is_some_and(|id| keys.keys.contains_key(&id)) {
                return Err(RefreshKeysError::Changed { path: path.clone() });
            }
        }
        Ok(keys)
    }

    /// Keys given as files of 32 random bytes or more, taken as they are. The first makes new tokens.
    ///
    /// # Errors
    /// [`RefreshKeysError`] names the file.
    pub fn from_files(paths: &[PathBuf]) -> Result<Self, RefreshKeysError> {
        let mut current = None;
        let mut keys = HashMap::new();
        for path in paths {
            let bytes = read_key(path)?;
            let id = key_id(&bytes);
            if keys.insert(id, hmac::Key::new(hmac::HMAC_SHA256, &bytes)).is_some() {
                return Err(RefreshKeysError::Twice { path: path.clone() });
            }
            current = current.or(Some(id));
        }
        Ok(Self { current: current.ok_or(RefreshKeysError::None)?, keys })
    }

    /// The id of the key that makes new tokens.
    pub fn current(&self) -> u32 {
        self.current
    }

    /// The token `counter` of `session` under the key `key`: the same text whenever it is written.
    ///
    /// When that key is no longer given, the current one is used: the text is then another one, but the earlier text is
    /// refused everywhere with its key, so there is still one successor.
    pub fn write(&self, session: SessionId, counter: u64, key: u32) -> Zeroizing<String> {
        let (id, key) = match self.keys.get(&key) {
            Some(found) => (key, found),
            None => (self.current, &self.keys[&self.current]),
        };
        let mut token = Zeroizing::new([0; TOKEN_BYTES]);
        let (body, mac) = token.split_at_mut(BODY_BYTES);
        body[0] = VERSION;
        body[1..5].copy_from_slice(&id.to_be_bytes());
        body[5..21].copy_from_slice(session.as_bytes());
        body[21..].copy_from_slice(&counter.to_be_bytes());
        mac.copy_from_slice(hmac::sign(key, &mac_input(body)).as_ref());
        let mut text = Zeroizing::new(String::with_capacity(TOKEN_CHARS));
        text.push_str(PREFIX);
        BASE64_URL_SAFE_NO_PAD.encode_string(token.as_slice(), &mut text);
        text
    }

    /// What `text` says, when it is exactly one of our tokens with a right MAC. Asks no store.
    pub fn read(&self, text: &str) -> Option<Presented> {
        // The length first: nothing is decoded for a text that cannot be a token.
        if text.len() != TOKEN_CHARS {
            return None;
        }
        let mut token = Zeroizing::new([0; TOKEN_BYTES]);
        // Strict: no padding, and no second spelling of the spare bits in the last character.
        let decoded = BASE64_URL_SAFE_NO_PAD.decode_slice(text.strip_prefix(PREFIX)?, token.as_mut_slice()).ok()?;
        if decoded != TOKEN_BYTES {
            return None;
        }
        let (body, mac) = token.split_at(BODY_BYTES);
        let (version, rest) = body.split_first()?;
        let (id, rest) = rest.split_first_chunk::<4>()?;
        let (session, counter) = rest.split_first_chunk::<16>()?;
        if *version != VERSION {
            return None;
        }
        let key = self.keys.get(&u32::from_be_bytes(*id))?;
        // In constant time; nothing of the body is used before.
        hmac::verify(key, &mac_input(body), mac).ok()?;
        Some(Presented {
            session: SessionId::from_bytes(*session),
            counter: u64::from_be_bytes(counter.try_into().ok()?),
        })
    }
}

fn mac_input(body: &[u8]) -> Vec<u8> {
    [MAC_DOMAIN, body].concat()
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

/// Makes a key in `dir`: whole and on disk under its name, or not there at all.
fn make_key(dir: &Path) -> Result<PathBuf, RefreshKeysError> {
    let mut key = Zeroizing::new([0; MIN_KEY_BYTES]);
    #[expect(clippy::map_err_ignore, reason = "the library's error says nothing")]
    rand::fill(key.as_mut_slice()).map_err(|_| RefreshKeysError::NoRandomness)?;
    let id = key_id(key.as_slice());
    let path = dir.join(format!("{id:08x}.key"));
    let unfinished = dir.join(format!("{id:08x}.new"));
    let written = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&unfinished).and_then(|mut file| {
        file.write_all(key.as_slice())?;
        file.sync_all()
    });
    written.map_err(failed("create", &unfinished))?;
    fs::rename(&unfinished, &path).map_err(failed("create", &path))?;
    // The names too: tokens made under a key that a power cut takes away would all be dead.
    for dir in [Some(dir), dir.parent()].into_iter().flatten() {
        File::open(dir).and_then(|dir| dir.sync_all()).map_err(failed("sync", dir))?;
    }
    Ok(path)
}

fn failed(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> RefreshKeysError {
    let path = path.to_owned();
    move |source| RefreshKeysError::Io { doing, path, source }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use proptest::prelude::*;
    use tempfile::TempDir;

    use super::*;

    fn key_file(dir: &TempDir, name: &str, byte: u8) -> PathBuf {
        let path = dir.path().join(name);
        fs::write(&path, [byte; 32]).unwrap();
        path
    }

    fn keys(bytes: &[u8]) -> RefreshKeys {
        let dir = TempDir::new().unwrap();
        let paths: Vec<_> = bytes.iter().map(|byte| key_file(&dir, &format!("{byte}"), *byte)).collect();
        RefreshKeys::from_files(&paths).unwrap()
    }

    const SID: SessionId = SessionId::from_bytes([0xa5; 16]);

    #[test]
    fn a_token_is_read_back_and_is_always_the_same_text() {
        let keys = keys(&[1, 2]);
        let token = keys.write(SID, 7, keys.current());
        assert_eq!(token.len(), TOKEN_CHARS);
        assert!(token.starts_with("pcr_"));
        assert_eq!(keys.read(&token), Some(Presented { session: SID, counter: 7 }));
        assert_eq!(*token, *keys.write(SID, 7, keys.current()));
        assert_ne!(*token, *keys.write(SID, 8, keys.current()));
    }

    #[test]
    fn tokens_of_an_older_key_are_read_and_those_of_a_removed_one_are_not() {
        let (old, both, new) = (keys(&[1]), keys(&[2, 1]), keys(&[2]));
        let token = old.write(SID, 3, old.current());
        assert_eq!(both.read(&token), Some(Presented { session: SID, counter: 3 }));
        assert_eq!(*both.write(SID, 3, old.current()), *token);
        assert_eq!(new.read(&token), None);
        assert!(new.read(&new.write(SID, 3, old.current())).is_some());
    }

    #[test]
    fn every_changed_character_is_refused() {
        let keys = keys(&[1]);
        let token = keys.write(SID, 7, keys.current());
        for place in 0..token.len() {
            for byte in ['A', 'B', 'C', 'D', 'E', 'z', '-', '_', '=', '+', '/', ' ', '\n', '\u{0}'] {
                let mut changed: Vec<char> = token.chars().collect();
                changed[place] = byte;
                let changed: String = changed.into_iter().collect();
                if changed != *token {
                    assert_eq!(keys.read(&changed), None, "{changed}");
                }
            }
        }
    }

    #[test]
    fn other_spellings_are_refused() {
        let keys = keys(&[1]);
        let token = keys.write(SID, 7, keys.current());
        for other in [
            String::new(),
            "pcr_".into(),
            token[4..].to_owned(),
            format!("{}=", *token),
            format!(" {}", *token),
            token.to_uppercase(),
            "é".repeat(TOKEN_CHARS / 2),
        ] {
            assert_eq!(keys.read(&other), None, "{other}");
        }
    }

    proptest! {
        #[test]
        fn no_text_panics(text in "\\PC{0,100}") {
            prop_assert_eq!(keys(&[1]).read(&text), None);
        }

        #[test]
        fn every_session_and_counter_round_trips(session: [u8; 16], counter: u64) {
            let keys = keys(&[9]);
            let presented = Presented { session: SessionId::from_bytes(session), counter };
            prop_assert_eq!(keys.read(&keys.write(presented.session, counter, keys.current())), Some(presented));
        }
    }

    #[test]
    fn a_managed_key_is_made_once_and_only_for_the_owner() {
        let dir = TempDir::new().unwrap();
        let data = dir.path().join("data");
        let first = RefreshKeys::open_managed(&data).unwrap();
        let token = first.write(SID, 1, first.current());
        let second = RefreshKeys::open_managed(&data).unwrap();
        assert_eq!(second.current(), first.current());
        assert!(second.read(&token).is_some());
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(&data.join("refresh")), 0o700);
        let files: Vec<_> = fs::read_dir(data.join("refresh")).unwrap().map(|entry| entry.unwrap().path()).collect();
        assert_eq!(files, [data.join("refresh").join(format!("{:08x}.key", first.current()))]);
        assert_eq!(mode(&files[0]), 0o600);

        fs::write(&files[0], [7; 32]).unwrap();
        assert!(matches!(RefreshKeys::open_managed(&data), Err(RefreshKeysError::Changed { .. })));
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
        assert_eq!(
            format!("{:?}", keys(&[1])),
            format!("RefreshKeys {{ current: {}, count: 1 }}", keys(&[1]).current())
        );
    }
}
