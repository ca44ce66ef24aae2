//! The sessions under test, with what a gateway puts around them: a store, keys, a verifier, a worker's token cache.

use std::cell::RefCell;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use crate::clock::{LEEWAY, UnixTime};
use crate::gateway::authenticate::{self, Known, Refused};
use crate::ids::SessionName;
use crate::revocation::Revocations;
use crate::route::{Route, RouteTable};
use crate::session::store::SessionStore;
use crate::session::{EmbeddedStore, RedisStore, RefreshKeys, SessionPolicy, Sessions};
use crate::telemetry::metrics::{Metrics, WorkerMetrics};
use crate::token::OWN_ISSUER;
use crate::token::cache::{TokenCache, Verified};
use crate::token::signing::SigningKeys;
use crate::token::verify::{IssuerPolicy, Verifier};

/// Where the sessions are.
#[derive(Clone)]
pub(super) enum Place {
    /// In the directory of the keys.
    Directory,
    /// On a server that is there already, under a prefix of this case.
    Server(Box<crate::config::Redis>),
}

/// A running process.
pub(super) struct Machine {
    pub(super) dir: PathBuf,
    place: Place,
    policy: SessionPolicy,
    pub(super) sessions: Arc<Sessions>,
    pub(super) signing: Arc<SigningKeys>,
    pub(super) verifier: Arc<Verifier>,
    cache: RefCell<TokenCache>,
    metrics: Arc<WorkerMetrics>,
}

thread_local! {
    /// One route for all cases: it asks for an identity and for nothing else.
    static ROUTES: RouteTable = {
        let text = "[server]\nlisten = [\"127.0.0.1:0\"]\n[session]\nissuer = \"i\"\naudience = \"a\"\n\
                    [upstream.u]\nservers = [\"http://127.0.0.1:1\"]\n[[route]]\npath = \"/\"\nupstream = \"u\"\n";
        let config = crate::config::Config::parse(text, "test.toml", Path::new("/")).unwrap();
        RouteTable::new(&config, |_| None)
    };
}

fn with_route<T>(ask: impl FnOnce(&Route) -> T) -> T {
    ROUTES.with(|table| ask(table.find("", "/", &http::Method::GET).unwrap()))
}

impl Machine {
    pub(super) async fn start(dir: PathBuf, place: Place, policy: SessionPolicy, signing: Arc<SigningKeys>) -> Self {
        let now = UnixTime::now();
        let revocations = Arc::new(Revocations::new());
        let store: Arc<dyn SessionStore> = match &place {
            Place::Directory => Arc::new(EmbeddedStore::open(&dir, revocations.clone()).unwrap()),
            Place::Server(config) => Arc::new(RedisStore::open(config, &policy, revocations.clone()).await.unwrap()),
        };
        let refresh_keys = Arc::new(RefreshKeys::open_managed(&dir, now).unwrap());
        let own = IssuerPolicy {
            issuer: policy.issuer.clone(),
            audience: vec![policy.audience.clone()],
            algorithms: vec![jsonwebtoken::Algorithm::ES256],
            session_claim: "sid".into(),
            max_token_lifetime: None,
        };
        let verifier = Arc::new(Verifier::new(Some(own), Vec::new(), 8192));
        signing.publish_to(&verifier);
        let sessions = Sessions::new(policy.clone(), store, signing.clone(), refresh_keys, revocations);
        Self {
            dir,
            place,
            policy,
            sessions: Arc::new(sessions),
            signing,
            verifier,
            cache: RefCell::new(TokenCache::new(1 << 20)),
            metrics: Metrics::new(1, Vec::new(), Vec::new(), Arc::default()).worker(0),
        }
    }

    /// Goes as it is, and comes again.
    pub(super) async fn crash(self) -> Self {
        let Self { dir, place, policy, sessions, signing, .. } = self;
        drop(sessions);
        Self::start(dir, place, policy, signing).await
    }

    /// What a request with this token is told, by a worker that has seen it before when `warm`.
    pub(super) fn identify(&self, token: &str, now: UnixTime, warm: bool) -> Result<std::rc::Rc<Verified>, Refused> {
        let (header, cold) = (format!("Bearer {token}"), RefCell::new(TokenCache::new(0)));
        let known = Known {
            verifier: &self.verifier,
            revocations: self.sessions.revocations(),
            freshness: None,
            cache: if warm { &self.cache } else { &cold },
            metrics: &self.metrics,
            token_bytes: 8192,
        };
        let values = std::iter::once(header.as_bytes());
        let identity = with_route(|route| authenticate::identify(&known, values, route, now))?;
        Ok(identity.expect("the route asks for an identity"))
    }

    /// Why a request with this token is refused, without its being noted: as [`identify`](Self::identify), and as the
    /// store says of a session whose end may have been forgotten.
    pub(super) async fn refusal(&self, token: &str, now: UnixTime, warm: bool) -> Option<String> {
        match self.identify(token, now, warm) {
            Err(refused) => Some(refused.reason.as_str().to_owned()),
            Ok(verified) if authenticate::needs_proof(&verified, self.sessions.revocations()) => {
                let SessionName::Own(id) = verified.identity.session else { return None };
                let found = self.sessions.find(&id).await.unwrap();
                found.is_none().then(|| "no session".to_owned())
            }
            Ok(_) => None,
        }
    }

    /// Whether the key of this name is still one of ours.
    pub(super) fn has_key(&self, kid: &str) -> bool {
        self.verifier.keys(OWN_ISSUER).keys().iter().any(|key| key.kid().is_some_and(|it| it.as_str() == kid))
    }
}

/// Whether a token of these times is one of this moment (RFC 7519 §4.1.4, §4.1.6).
pub(super) fn is_of_now(issued_at: u64, expires_at: u64, now: UnixTime) -> bool {
    UnixTime::from_secs(issued_at) <= now.plus(LEEWAY) && now <= UnixTime::from_secs(expires_at).plus(LEEWAY)
}

/// A true clock and a wall clock that may differ from it.
pub(super) struct Clock {
    pub(super) truth: UnixTime,
    /// Seconds.
    pub(super) ahead: i64,
    /// It differed once.
    pub(super) was_wrong: bool,
}

impl Clock {
    pub(super) fn wall(&self) -> UnixTime {
        let by = Duration::from_secs(self.ahead.unsigned_abs());
        if self.ahead < 0 { self.truth.minus(by) } else { self.truth.plus(by) }
    }

    /// As [`SteadyClock`](crate::tasks::SteadyClock) does: never ahead of true time.
    pub(super) fn steady(&self) -> UnixTime {
        self.wall().min(self.truth)
    }
}
