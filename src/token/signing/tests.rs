use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use p256::SecretKey;
use p256::elliptic_curve::sec1::ToEncodedPoint as _;
use p256::pkcs8::{EncodePrivateKey as _, LineEnding};
use serde_json::Value;
use tempfile::TempDir;

use super::super::testing::{b64, now};
use super::*;

const TTL: Duration = Duration::from_secs(3600);

fn open(dir: &TempDir) -> Result<SigningKeys, SigningKeysError> {
    SigningKeys::open_managed(dir.path(), now())
}

fn made() -> (TempDir, SigningKeys) {
    let dir = tempfile::tempdir().unwrap();
    let keys = open(&dir).unwrap();
    (dir, keys)
}

fn states(keys: &SigningKeys) -> Vec<(KeyState, KeyId)> {
    keys.list().into_iter().map(|key| (key.state, key.kid)).collect()
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

fn published(keys: &SigningKeys) -> Vec<Value> {
    let document: Value = serde_json::from_slice(&keys.public_jwks()).unwrap();
    document["keys"].as_array().unwrap().clone()
}

/// Every file in the directory of keys, by name.
fn files(dir: &TempDir) -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(dir.path().join("signing"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

#[test]
fn a_first_start_makes_a_current_and_a_next_key() {
    let parent = tempfile::tempdir().unwrap();
    let dir = parent.path().join("not/yet/there");
    let keys = SigningKeys::open_managed(&dir, now()).unwrap();
    let list = keys.list();
    assert_eq!(list.iter().map(|key| key.state).collect::<Vec<_>>(), [KeyState::Current, KeyState::Next]);
    assert_eq!((list[0].created_at, list[0].activated_at, list[0].retired_at), (Some(now()), Some(now()), None));
    assert_eq!((list[1].created_at, list[1].activated_at, list[1].retired_at), (Some(now()), None, None));
    let signing = dir.join("signing");
    assert_eq!((mode(&dir), mode(&signing)), (0o700, 0o700));
    for entry in fs::read_dir(&signing).unwrap() {
        assert_eq!(mode(&entry.unwrap().path()), 0o600);
    }
    assert!(!dir.join("signing.new").exists());
    let again = SigningKeys::open_managed(&dir, now().plus(TTL)).unwrap();
    assert_eq!(again.list(), list, "a second start changes nothing");
}

#[test]
fn the_published_document_has_public_members_only() {
    let (_dir, keys) = made();
    let published = published(&keys);
    assert_eq!(published.len(), 2);
    for (jwk, info) in published.iter().zip(keys.list()) {
        let members: Vec<&str> = jwk.as_object().unwrap().keys().map(String::as_str).collect();
        assert_eq!(members, ["alg", "crv", "kid", "kty", "use", "x", "y"]);
        assert_eq!(
            (&jwk["kty"], &jwk["crv"], &jwk["use"], &jwk["alg"]),
            (&"EC".into(), &"P-256".into(), &"sig".into(), &"ES256".into())
        );
        assert_eq!(jwk["kid"], info.kid.as_str());
    }
    let read = KeySet::from_jwks(&keys.public_jwks(), &[jsonwebtoken::Algorithm::ES256], &KeySet::empty()).unwrap();
    assert!(read.same_keys(&keys.key_set()));
}

#[test]
fn a_kid_is_the_rfc_7638_thumbprint() {
    // The key of RFC 7517 §A.2, and the thumbprint other implementations give it.
    let d = "870MB6gfuTJ4HtUnUvYMyJpr5eUZNP4Bk43bVdj3eAE";
    let secret = SecretKey::from_slice(&URL_SAFE_NO_PAD.decode(d).unwrap()).unwrap();
    let key = OwnKey::new(&secret, KeyState::Current);
    assert!(key.jwk.contains(r#""x":"MKBCTNIcKUSDii11ySs3526iDZ8AiTo7Tu6KPAqv7D4""#));
    assert!(key.jwk.contains(r#""y":"4Etl6SRW2YiLUrN5vfvVHuhp7x8PxltmWWlbbM4IFyM""#));
    assert_eq!(key.kid.as_str(), "cn-I_WNMClehiVp51i_0VpOENW1upEerA8sEam5hn-s");
    let point = secret.public_key().to_encoded_point(false);
    assert_eq!(key.verifying.algorithm(), jsonwebtoken::Algorithm::ES256);
    assert_eq!(b64(point.x().unwrap()), "MKBCTNIcKUSDii11ySs3526iDZ8AiTo7Tu6KPAqv7D4");
}

#[test]
fn a_rotation_moves_every_key_one_step_on_and_survives_a_restart() {
    let (dir, keys) = made();
    let before = states(&keys);
    let later = now().plus(Duration::from_secs(60));
    let rotated = keys.rotate(later, TTL, true).unwrap();
    let list = keys.list();
    assert_eq!((rotated.retired.clone(), rotated.current.clone()), (before[0].1.clone(), before[1].1.clone()));
    assert_eq!(
        states(&keys),
        [(KeyState::Current, rotated.current), (KeyState::Next, rotated.next), (KeyState::Retired, rotated.retired),]
    );
    assert_eq!((list[0].activated_at, list[1].created_at, list[2].retired_at), (Some(later), Some(later), Some(later)));
    assert_eq!(published(&keys).len(), 3);
    assert_eq!(keys.current().kid, list[0].kid);
    assert_eq!(open(&dir).unwrap().list(), list);
    assert_eq!(files(&dir).len(), 4);
    for name in files(&dir) {
        assert_eq!(mode(&dir.path().join("signing").join(name)), 0o600);
    }
}

#[test]
fn keys_that_stay_keep_their_identity_in_the_verifier() {
    let (_dir, keys) = made();
    let before = keys.key_set();
    keys.rotate(now(), TTL, true).unwrap();
    let after = keys.key_set();
    for key in before.keys() {
        assert!(after.keys().iter().any(|other| Arc::ptr_eq(key, other)));
    }
}

#[test]
fn a_retired_key_is_kept_until_its_last_token_has_expired() {
    let (dir, keys) = made();
    keys.rotate(now(), TTL, true).unwrap();
    // Another gateway may have signed with it until it saw the rotation.
    let last = now().plus(PUBLISHED_BEFORE_USE).plus(TTL).plus(LEEWAY);
    assert_eq!(keys.purge_retired(last, TTL).unwrap(), 0);
    assert_eq!(keys.purge_retired(last.plus(Duration::from_millis(1)), TTL).unwrap(), 1);
    assert_eq!((keys.list().len(), published(&keys).len(), files(&dir).len()), (2, 2, 3));
    assert_eq!(open(&dir).unwrap().list(), keys.list());
    // A rotation purges too.
    keys.rotate(now(), TTL, true).unwrap();
    keys.rotate(last.plus(Duration::from_secs(1)), TTL, true).unwrap();
    assert_eq!((keys.list().len(), files(&dir).len()), (3, 4));
}

#[test]
fn a_crash_before_the_manifest_changes_nothing() {
    let (dir, keys) = made();
    let before = states(&keys);
    // What a rotation leaves when it stops after the new key, and in the middle of writing it.
    let (orphan, pem) = OwnKey::generate(now(), KeyState::Next);
    files::write_key(dir.path(), orphan.kid.as_str(), &pem).unwrap();
    fs::write(dir.path().join("signing/half.tmp"), "half a ke").unwrap();
    fs::write(dir.path().join("signing/keys.tmp"), "{\"version\":1,").unwrap();
    let opened = open(&dir).unwrap();
    assert_eq!(states(&opened), before);
    assert!(!files(&dir).iter().any(|name| name.ends_with(".tmp")), "{:?}", files(&dir));
    opened.rotate(now(), TTL, true).unwrap();
    assert_eq!(states(&open(&dir).unwrap()), states(&opened));
}

#[test]
fn a_crash_during_the_first_start_is_made_good() {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir(dir.path().join("signing.new")).unwrap();
    fs::write(dir.path().join("signing.new/x.pem"), "half").unwrap();
    fs::create_dir(dir.path().join("signing")).unwrap();
    assert_eq!(open(&dir).unwrap().list().len(), 2);
    assert_eq!(files(&dir).len(), 3);
}

#[test]
fn a_rotation_that_cannot_be_written_changes_nothing() {
    let (dir, keys) = made();
    let before = states(&keys);
    fs::remove_dir_all(dir.path().join("signing")).unwrap();
    let error = keys.rotate(now(), TTL, true).unwrap_err();
    assert!(matches!(error, SigningKeysError::BadManifest { .. }), "{error}");
    assert_eq!(states(&keys), before);
    assert_eq!(keys.current().kid, before[0].1);
}

#[test]
fn unusable_files_are_told_of_and_never_replaced() {
    let check = |damage: &dyn Fn(&Path, &KeyInfo), expected: &str| {
        let (dir, keys) = made();
        let signing = dir.path().join("signing");
        damage(&signing, &keys.list()[0]);
        let before = files(&dir);
        let error = open(&dir).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
        assert!(error.contains(&*signing.to_string_lossy()), "{error}");
        assert!(SigningKeys::read_only(dir.path()).is_err());
        assert_eq!(files(&dir), before);
    };
    let pem = |info: &KeyInfo| format!("{}.pem", info.kid);
    let edit = |dir: &Path, edit: &dyn Fn(String) -> String| {
        let path = dir.join("keys.json");
        fs::write(&path, edit(fs::read_to_string(&path).unwrap())).unwrap();
    };
    for bits in [0o640, 0o604, 0o620, 0o601, 0o644] {
        check(
            &|dir, key| fs::set_permissions(dir.join(pem(key)), fs::Permissions::from_mode(bits)).unwrap(),
            &format!("can be read by others (mode 0{bits:o}): chmod 600 it"),
        );
    }
    check(&|dir, key| fs::remove_file(dir.join(pem(key))).unwrap(), "is missing, but");
    check(&|dir, key| fs::write(dir.join(pem(key)), "garbage").unwrap(), "has no PEM block");
    check(&|dir, key| fs::write(dir.join(pem(key)), [0xff, 0xfe]).unwrap(), "is no PEM file");
    check(&|dir, key| fs::write(dir.join(pem(key)), vec![b'x'; 65_537]).unwrap(), "is longer than 64 KiB");
    check(
        &|dir, key| {
            let path = dir.join(pem(key));
            let text = fs::read_to_string(&path).unwrap();
            fs::write(&path, &text[..text.len() / 2]).unwrap();
        },
        "has no PEM block",
    );
    check(
        &|dir, key| fs::write(dir.join(pem(key)), &*OwnKey::generate(now(), KeyState::Next).1).unwrap(),
        "not the one it is named after",
    );
    check(&|dir, _| fs::remove_file(dir.join("keys.json")).unwrap(), "is missing beside its keys");
    check(&|dir, _| edit(dir, &|text| text[..text.len() / 2].to_owned()), "is damaged");
    check(&|dir, _| edit(dir, &|_| "{}".into()), "is damaged");
    check(&|dir, _| edit(dir, &|text| text.replace("\"version\": 1", "\"version\": 2")), "has version 2");
    check(&|dir, _| edit(dir, &|text| text.replace("next", "current")), "expected one current and one next key");
    check(&|dir, _| edit(dir, &|text| text.replace("next", "verify_only")), "expected one current and one next key");
    check(&|dir, _| edit(dir, &|text| text.replace("next", "other")), "is damaged");
    check(&|dir, key| edit(dir, &|text| text.replace(key.kid.as_str(), "../../../../etc/passwd")), "is no key id");
    check(
        &|dir, key| {
            let next = open_next(dir);
            edit(dir, &|text| text.replace(next.as_str(), key.kid.as_str()));
        },
        "stands there twice",
    );
}

fn open_next(signing: &Path) -> KeyId {
    SigningKeys::read_only(signing.parent().unwrap()).unwrap().list()[1].kid.clone()
}

#[test]
fn reading_only_makes_and_changes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    assert!(matches!(SigningKeys::read_only(dir.path()), Err(SigningKeysError::NoKeys(_))));
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    let made = open(&dir).unwrap();
    let keys = SigningKeys::read_only(dir.path()).unwrap();
    assert_eq!(keys.list(), made.list());
    assert!(matches!(keys.rotate(now(), TTL, true), Err(SigningKeysError::ReadOnly)));
    assert_eq!(keys.purge_retired(now().plus(TTL * 99), TTL).unwrap(), 0);
}

#[test]
fn given_files_may_be_pkcs8_or_sec1_and_the_first_signs() {
    let dir = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| {
        let path = dir.path().join(name);
        fs::write(&path, text).unwrap();
        path
    };
    let secret = |seed: u8| SecretKey::from_slice(&[seed; 32]).unwrap();
    let parameters = "-----BEGIN EC PARAMETERS-----\nBggqhkjOPQMBBw==\n-----END EC PARAMETERS-----\n";
    let paths = [
        write("sec1.pem", &format!("{parameters}{}", secret(1).to_sec1_pem(LineEnding::LF).unwrap().as_str())),
        write("pkcs8.pem", &secret(2).to_pkcs8_pem(LineEnding::CRLF).unwrap()),
        write("text.pem", &format!("a comment\n{}trailer\n", secret(3).to_pkcs8_pem(LineEnding::LF).unwrap().as_str())),
    ];
    let keys = SigningKeys::from_files(&paths).unwrap();
    let of = |seed| OwnKey::new(&secret(seed), KeyState::Current).kid;
    assert_eq!(
        states(&keys),
        [(KeyState::Current, of(1)), (KeyState::VerifyOnly, of(2)), (KeyState::VerifyOnly, of(3))]
    );
    assert_eq!(published(&keys).len(), 3);
    assert!(matches!(keys.rotate(now(), TTL, true), Err(SigningKeysError::KeysFromFiles)));
    assert_eq!(keys.purge_retired(now().plus(TTL * 99), TTL).unwrap(), 0);
    assert_eq!(states(&SigningKeys::from_files(&[paths[1].clone(), paths[0].clone()]).unwrap())[0].1, of(2));

    let twice = write("twice.pem", &secret(1).to_pkcs8_pem(LineEnding::LF).unwrap());
    let error = SigningKeys::from_files(&[paths[0].clone(), twice]).unwrap_err();
    assert!(matches!(error, SigningKeysError::Duplicate(_)), "{error}");
    assert!(matches!(SigningKeys::from_files(&[]), Err(SigningKeysError::NoKeys(_))));
    let public = "-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n";
    let rsa = "-----BEGIN RSA PRIVATE KEY-----\nAAAA\n-----END RSA PRIVATE KEY-----\n";
    let encrypted = "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n";
    let p384 = "-----BEGIN PRIVATE KEY-----\nMIG2AgEAMBAGByqGSM49AgEGBSuBBAAiBIGeMIGbAgEBBDAAAAAA\n-----END PRIVATE KEY-----\n";
    for (text, expected) in [
        (public, "has no PEM block"),
        (rsa, "has no PEM block"),
        ("", "has no PEM block"),
        (encrypted, "is encrypted"),
        (p384, "is no P-256 private key"),
    ] {
        let path = write("bad.pem", text);
        let error = SigningKeys::from_files(&[path]).unwrap_err().to_string();
        assert!(error.contains(expected) && error.contains("bad.pem"), "{error}");
    }
    let error = SigningKeys::from_files(&[dir.path().join("none.pem")]).unwrap_err();
    assert!(error.to_string().ends_with("none.pem"), "{error}");
}

#[test]
fn debug_prints_no_secret() {
    let (dir, keys) = made();
    let printed = format!("{keys:?} {:?}", keys.key_set());
    for name in files(&dir).iter().filter(|name| name.ends_with(".pem")) {
        let pem = fs::read_to_string(dir.path().join("signing").join(name)).unwrap();
        for line in pem.lines().filter(|line| !line.starts_with('-')) {
            assert!(!printed.contains(line));
        }
    }
    assert!(printed.contains(keys.list()[0].kid.as_str()));
}

#[test]
fn rotations_at_the_same_time_take_turns() {
    let (dir, keys) = made();
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| (0..3).for_each(|_| drop(keys.rotate(now(), TTL, true).unwrap())));
        }
    });
    assert_eq!(keys.list().len(), 14);
    assert_eq!(open(&dir).unwrap().list().len(), 14);
    assert_eq!(states(&keys).iter().filter(|(state, _)| *state == KeyState::Current).count(), 1);
}

// --- Several processes ---

/// A second process with the same keys.
fn other(dir: &TempDir) -> SigningKeys {
    open(dir).unwrap()
}

fn listening(keys: &SigningKeys) -> Arc<Verifier> {
    let policy = crate::token::verify::IssuerPolicy {
        issuer: "gw".into(),
        audience: vec!["app".into()],
        algorithms: vec![jsonwebtoken::Algorithm::ES256],
        session_claim: "sid".into(),
        max_token_lifetime: None,
    };
    let verifier = Arc::new(Verifier::new(Some(policy), vec![], 16_384));
    keys.publish_to(&verifier);
    verifier
}

fn token(keys: &SigningKeys, at: UnixTime) -> String {
    let claims = crate::token::mint::AccessClaims {
        issuer: "gw",
        audience: "app",
        user: &crate::ids::UserId::parse("ann").unwrap(),
        session: crate::ids::SessionId::from_bytes([1; 16]),
        issued_at: at,
        expires_at: at.plus(TTL),
        extra: None,
    };
    crate::token::mint::mint(keys, &claims).to_string()
}

#[test]
fn a_token_of_a_key_rotated_elsewhere_is_accepted_before_and_after_it_is_seen_here() {
    let (dir, a) = made();
    let b = other(&dir);
    let (at_a, at_b) = (listening(&a), listening(&b));
    let before = states(&b);
    let later = now().plus(PUBLISHED_BEFORE_USE);
    a.rotate(later, TTL, false).unwrap();
    let new = token(&a, later);
    assert_eq!(a.current().kid, before[1].1);
    assert!(at_b.verify(&new, later).is_ok(), "it was the next key here");
    assert_eq!(b.current().kid, before[0].1, "not seen yet");
    let old = token(&b, later);
    assert!(at_a.verify(&old, later).is_ok(), "it is a retired key there");
    assert!(b.reload(later).unwrap());
    assert_eq!(b.list(), a.list());
    for token in [&new, &old, &token(&b, later)] {
        assert!(at_a.verify(token, later).is_ok() && at_b.verify(token, later).is_ok());
    }
    assert_eq!(at_b.keys(OWN_ISSUER).len(), 3, "the new next key was published here too");
    assert!(!b.reload(later).unwrap(), "seen already");
    assert!(!a.reload(later).unwrap(), "made here");
}

#[test]
fn a_rotation_is_judged_by_what_the_disk_says() {
    let (dir, a) = made();
    let b = other(&dir);
    let later = now().plus(PUBLISHED_BEFORE_USE);
    let early = later.minus(Duration::from_millis(1));
    assert!(
        matches!(a.rotate(early, TTL, false), Err(SigningKeysError::NotYetPublished { left }) if left.as_millis() == 1)
    );
    a.rotate(later, TTL, false).unwrap();
    // By what it remembers its next key is old enough; on the disk that key signs already and the next one is new.
    let error = b.rotate(later, TTL, false).unwrap_err();
    assert!(matches!(error, SigningKeysError::NotYetPublished { left } if left == PUBLISHED_BEFORE_USE), "{error}");
    assert_eq!(error.to_string(), "the next key is not known everywhere before 300 s have passed");
    assert_eq!(b.list(), a.list());
    b.rotate(later.plus(PUBLISHED_BEFORE_USE), TTL, false).unwrap();
    assert_eq!(b.list().len(), 4);
}

#[test]
fn keys_stay_the_same_in_the_verifier_when_they_are_read_again() {
    let (dir, a) = made();
    let b = other(&dir);
    let before = b.key_set();
    a.rotate(now(), TTL, true).unwrap();
    b.reload(now()).unwrap();
    let after = b.key_set();
    for key in before.keys() {
        assert!(after.keys().iter().any(|other| Arc::ptr_eq(key, other)));
    }
}

#[test]
fn rotations_and_purges_of_two_processes_lose_nothing() {
    let (dir, a) = made();
    let b = other(&dir);
    std::thread::scope(|scope| {
        for keys in [&a, &b] {
            scope.spawn(|| {
                for _ in 0..6 {
                    keys.rotate(now(), TTL, true).unwrap();
                    assert_eq!(keys.purge_retired(now(), TTL).unwrap(), 0);
                }
            });
        }
    });
    a.reload(now()).unwrap();
    b.reload(now()).unwrap();
    assert_eq!((a.list().len(), files(&dir).len()), (14, 15));
    assert_eq!(a.list(), b.list());
    assert_eq!(open(&dir).unwrap().list(), a.list());
    // What one drops, the other does not bring back.
    let gone = now().plus(PUBLISHED_BEFORE_USE + TTL + LEEWAY + Duration::from_millis(1));
    assert_eq!(a.purge_retired(gone, TTL).unwrap(), 12);
    assert_eq!(b.purge_retired(gone, TTL).unwrap(), 0);
    b.rotate(gone, TTL, true).unwrap();
    assert_eq!((b.list().len(), files(&dir).len()), (3, 4));
}

#[test]
fn a_half_written_or_missing_file_leaves_the_keys_as_they_are_and_is_told_once() {
    let (dir, a) = made();
    let b = other(&dir);
    let verifier = listening(&b);
    let before = states(&b);
    let manifest = dir.path().join("signing/keys.json");
    let whole = fs::read(&manifest).unwrap();
    let kept = |b: &SigningKeys, expected: &str| {
        let error = b.reload(now()).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
        assert!(!b.reload(now()).unwrap(), "told once");
        assert_eq!(states(b), before);
        assert!(verifier.verify(&token(b, now()), now()).is_ok());
    };
    fs::write(&manifest, &whole[..whole.len() / 2]).unwrap();
    kept(&b, "is damaged");
    assert!(b.rotate(now(), TTL, true).is_err(), "nothing is changed on top of it");
    fs::write(&manifest, &whole[..whole.len() / 3]).unwrap();
    kept(&b, "is damaged");
    fs::remove_file(&manifest).unwrap();
    kept(&b, "is missing beside its keys");
    fs::write(&manifest, &whole).unwrap();
    assert!(!b.reload(now()).unwrap(), "as before");

    // A copy in the wrong order: what names the new key comes before the key.
    a.rotate(now(), TTL, true).unwrap();
    let new = dir.path().join(format!("signing/{}.pem", a.list()[1].kid));
    let aside = dir.path().join("aside");
    fs::rename(&new, &aside).unwrap();
    kept(&b, "is missing, but");
    fs::rename(&aside, &new).unwrap();
    assert!(b.reload(now()).unwrap());
    assert_eq!(b.list(), a.list());
}

#[test]
fn first_starts_at_once_end_with_the_same_keys() {
    let parent = tempfile::tempdir().unwrap();
    let dir = parent.path().join("keys");
    let all: Vec<Vec<KeyInfo>> = std::thread::scope(|scope| {
        let starts: Vec<_> =
            (0..8).map(|_| scope.spawn(|| SigningKeys::open_managed(&dir, now()).unwrap().list())).collect();
        starts.into_iter().map(|start| start.join().unwrap()).collect()
    });
    assert!(all.iter().all(|list| *list == all[0]), "{all:?}");
    assert_eq!((mode(&dir), mode(&dir.join("signing")), mode(&dir.join("keys.lock"))), (0o700, 0o700, 0o600));
}

#[test]
fn a_new_first_file_signs_once_every_gateway_had_time_to_see_it() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name);
    let pem = |seed: u8| SecretKey::from_slice(&[seed; 32]).unwrap().to_pkcs8_pem(LineEnding::LF).unwrap();
    let write = |name: &str, seed: u8| {
        // As a mount changes a file: another one under the same name.
        fs::write(path("new"), pem(seed).as_bytes()).unwrap();
        fs::rename(path("new"), path(name)).unwrap();
    };
    let of = |seed: u8| OwnKey::new(&SecretKey::from_slice(&[seed; 32]).unwrap(), KeyState::Current).kid;
    write("first.pem", 1);
    write("second.pem", 2);
    let keys = SigningKeys::from_files(&[path("first.pem"), path("second.pem")]).unwrap();
    let verifier = listening(&keys);
    assert!(!keys.reload(now()).unwrap());

    // The new key in the first place, the one that signs in the second.
    write("second.pem", 1);
    assert!(matches!(keys.reload(now()), Err(SigningKeysError::Duplicate(_))), "half way");
    write("first.pem", 3);
    assert!(keys.reload(now()).unwrap());
    assert_eq!(states(&keys), [(KeyState::Current, of(1)), (KeyState::Next, of(3))]);
    assert_eq!(verifier.keys(OWN_ISSUER).len(), 2, "accepted at once");
    let late = now().plus(PUBLISHED_BEFORE_USE);
    assert!(!keys.reload(late.minus(Duration::from_millis(1))).unwrap());
    assert!(keys.reload(late).unwrap(), "without another change");
    assert_eq!(states(&keys), [(KeyState::Current, of(3)), (KeyState::VerifyOnly, of(1))]);

    // Back to one that is known.
    write("first.pem", 4);
    write("second.pem", 3);
    assert!(keys.reload(late).unwrap());
    write("first.pem", 3);
    write("second.pem", 4);
    assert!(keys.reload(late).unwrap());
    assert_eq!(states(&keys), [(KeyState::Current, of(3)), (KeyState::VerifyOnly, of(4))]);

    // Nothing is left of the key that signed.
    write("first.pem", 5);
    assert!(keys.reload(late).unwrap());
    assert_eq!(states(&keys), [(KeyState::Current, of(5)), (KeyState::VerifyOnly, of(4))]);
    // A file that is gone leaves all as it is; a start begins with the first.
    fs::remove_file(path("second.pem")).unwrap();
    assert!(keys.reload(late).is_err());
    assert_eq!(keys.list().len(), 2);
    write("second.pem", 5);
    write("first.pem", 6);
    let started = SigningKeys::from_files(&[path("first.pem"), path("second.pem")]).unwrap();
    assert_eq!(started.current().kid, of(6));
}
