use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use tempfile::TempDir;

use super::*;

fn at(millis: u64) -> UnixTime {
    UnixTime::from_millis(1_700_000_000_000 + millis)
}

fn policy() -> SessionPolicy {
    SessionPolicy {
        issuer: "https://id.example".into(),
        audience: "app".into(),
        access_token_ttl: Duration::from_secs(3600),
        idle_timeout: None,
        max_lifetime: None,
        max_per_user: None,
        refresh_grace: Duration::from_secs(10),
    }
}

struct Fixture {
    dir: TempDir,
    sessions: Arc<Sessions>,
}

impl Fixture {
    fn new(policy: SessionPolicy) -> Self {
        let dir = TempDir::new().unwrap();
        let sessions = Self::open(dir.path(), policy);
        Self { dir, sessions }
    }

    fn open(dir: &std::path::Path, policy: SessionPolicy) -> Arc<Sessions> {
        let revocations = Arc::new(Revocations::new());
        let store = Arc::new(EmbeddedStore::open(dir, revocations.clone()).unwrap());
        let signing = Arc::new(SigningKeys::open_managed(&dir.join("keys"), at(0)).unwrap());
        let refresh_keys = Arc::new(RefreshKeys::open_managed(dir).unwrap());
        Arc::new(Sessions::new(policy, store, signing, refresh_keys, revocations))
    }

    /// As after a restart.
    fn reopen(self, policy: SessionPolicy) -> Self {
        let Self { dir, sessions } = self;
        drop(sessions);
        let sessions = Self::open(dir.path(), policy);
        Self { dir, sessions }
    }
}

fn user(text: &str) -> UserId {
    UserId::parse(text).unwrap()
}

fn new_session(name: &str) -> NewSession {
    NewSession { user: user(name), label: None, claims: None }
}

/// A claim of an access token, unverified.
fn claim(pair: &TokenPair, name: &str) -> Value {
    let payload = pair.access_token.split('.').nth(1).unwrap();
    let payload: Value = serde_json::from_slice(&BASE64_URL_SAFE_NO_PAD.decode(payload).unwrap()).unwrap();
    payload[name].clone()
}

fn seconds(pair: &TokenPair, name: &str) -> u64 {
    claim(pair, name).as_u64().unwrap()
}

fn refused(sessions: &Sessions, pair: &TokenPair) -> Option<EndReason> {
    let issued_at = UnixTime::from_secs(seconds(pair, "iat"));
    sessions.revocations().check(&pair.session.into(), &pair.user, issued_at)
}

#[track_caller]
fn ended(result: Result<TokenPair, RefreshError>) -> EndReason {
    match result {
        Err(RefreshError::Ended(reason)) => reason,
        other => panic!("not ended: {other:?}"),
    }
}

#[tokio::test]
async fn sign_in_and_refresh_give_pairs_of_one_session() {
    let f = Fixture::new(policy());
    let claims = serde_json::json!({"role": "admin"}).as_object().cloned();
    let new = NewSession { user: user("ann"), label: Some("phone".into()), claims };
    let first = f.sessions.sign_in(new, at(0)).await.unwrap();
    assert_eq!(claim(&first, "iss"), "https://id.example");
    assert_eq!(claim(&first, "aud"), "app");
    assert_eq!(claim(&first, "sub"), "ann");
    assert_eq!(claim(&first, "sid"), first.session.to_string());
    assert_eq!(claim(&first, "role"), "admin");
    assert_eq!(seconds(&first, "exp") - seconds(&first, "iat"), 3600);
    assert_eq!(first.expires_in, Duration::from_secs(3600));
    let second = f.sessions.refresh(&first.refresh_token, at(1000)).await.unwrap();
    assert_eq!((second.session, second.repeated), (first.session, false));
    assert_ne!(second.refresh_token, first.refresh_token);
    assert_eq!(claim(&second, "role"), "admin");
    let row = f.sessions.find(&first.session).await.unwrap().unwrap();
    assert_eq!((row.counter, row.rotated_at, row.label.as_deref()), (1, at(1000), Some("phone")));
    assert_eq!(row.access_expires_at, UnixTime::from_secs(seconds(&second, "exp")));
}
