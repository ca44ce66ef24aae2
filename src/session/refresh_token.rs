//! The refresh token: `pcr_` and the base64url of version ‖ key id ‖ session ‖ counter ‖ MAC.
//!
//! It says which session and which counter, and the MAC says that we wrote it. So the store needs neither the token nor
//! a hash of it, a forged or mistyped one is refused without asking the store, and the successor can be written again
//! for a client whose reply was lost.

use aws_lc_rs::hmac;
use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use zeroize::Zeroizing;

use super::RefreshKeys;
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

/// What a refresh token with a right MAC says.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Presented {
    /// Whose it is.
    pub session: SessionId,
    /// Which one in the session's line.
    pub counter: u64,
}

impl RefreshKeys {
    /// The token `counter` of `session` under the key `key`: the same text whenever it is written.
    ///
    /// When that key is no longer given, the current one is used: the text is then another one, but the earlier text is
    /// refused everywhere with its key, so there is still one successor.
    pub fn write(&self, session: SessionId, counter: u64, key: u32) -> Zeroizing<String> {
        let ring = self.ring();
        let (id, key) = ring.find(key).map_or_else(|| ring.current(), |found| (key, found));
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
        let ring = self.ring();
        let key = ring.find(u32::from_be_bytes(*id))?;
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

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::PathBuf;

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
}
