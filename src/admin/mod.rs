//! The admin listener: sessions, revocations, keys and the gateway's condition, for login backends and operators.
//!
//! Every endpoint stands once, in `endpoints`: the router, the token check and the test of `docs/openapi.json` read that
//! table. `listener` has the connections and their limits, `guard` what holds for every request, `input` reads strictly,
//! `refusal` is every answer that is an error. Then a file for each kind of thing: `sessions`, `revocations`, `keys`,
//! `status`.

#[cfg(any(test, fuzzing))]
pub(crate) mod fuzzing;
mod guard;
mod guesses;
mod input;
mod keys;
mod listener;
mod refusal;
mod revocations;
mod sessions;
mod status;

#[cfg(test)]
pub(crate) mod tests;

use std::sync::Arc;

use axum::Router;
use axum::handler::Handler;
use axum::routing::{MethodFilter, MethodRouter, on};
use http::Method;
use tokio::net::TcpListener;
use tokio::sync::watch;

use self::guard::TokenDigest;
use self::guesses::Guesses;
use self::refusal::{AdminReason, Refusal};
use crate::app::Readiness;
use crate::config::Secret;
use crate::gateway::Gateway;
use crate::telemetry::metrics::Metrics;
use crate::token::signing::SigningKeys;

/// What its handlers work on.
#[derive(Clone, Debug)]
pub struct AdminState {
    /// The gateway.
    pub gateway: Arc<Gateway>,
    /// Own signing keys.
    pub signing: Arc<SigningKeys>,
    /// All metrics.
    pub metrics: Arc<Metrics>,
    /// The admin token.
    pub token: Secret,
    /// Whether to send requests here.
    pub readiness: Readiness,
}

/// Serves until `stopping` turns true; requests in flight are then answered within 5 s.
///
/// Runs on the control runtime: its handlers ask the store.
pub async fn serve(listener: TcpListener, state: AdminState, stopping: watch::Receiver<bool>) {
    listener::run(listener, router(state), stopping, listener::Limits::default()).await;
}

/// The state, and what belongs to this listener alone.
#[derive(Debug)]
struct Admin {
    state: AdminState,
    token: TokenDigest,
    guesses: Guesses,
    /// Paths that ask for no token.
    open: Vec<&'static str>,
    /// Held by a rotation of keys.
    rotating: tokio::sync::Mutex<()>,
}

/// One method of one path.
struct Endpoint {
    #[cfg(test)]
    method: Method,
    path: &'static str,
    access: Access,
    handler: MethodRouter<Arc<Admin>>,
}

impl Endpoint {
    fn new<H, T>(method: Method, path: &'static str, access: Access, handler: H) -> Self
    where
        H: Handler<T, Arc<Admin>>,
        T: 'static,
    {
        let filter = match method {
            Method::POST => MethodFilter::POST,
            Method::DELETE => MethodFilter::DELETE,
            // `HEAD` comes with it.
            _ => MethodFilter::GET,
        };
        Self {
            #[cfg(test)]
            method,
            path,
            access,
            handler: on(filter, handler),
        }
    }
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Access {
    /// For whoever can connect: probes and scrapers have no token.
    Open,
    /// For who has the admin token.
    Token,
}

/// All endpoints.
fn endpoints() -> Vec<Endpoint> {
    use Access::{Open, Token};
    const SESSIONS: &str = "/v1/sessions";
    const SESSION: &str = "/v1/sessions/{session_id}";
    vec![
        Endpoint::new(Method::GET, "/healthz", Open, status::health),
        Endpoint::new(Method::GET, "/readyz", Open, status::ready),
        Endpoint::new(Method::GET, "/metrics", Open, status::metrics),
        Endpoint::new(Method::GET, "/openapi.json", Open, status::openapi),
        Endpoint::new(Method::POST, SESSIONS, Token, sessions::create),
        Endpoint::new(Method::GET, SESSIONS, Token, sessions::list),
        Endpoint::new(Method::GET, SESSION, Token, sessions::show),
        Endpoint::new(Method::DELETE, SESSION, Token, sessions::end),
        Endpoint::new(Method::DELETE, "/v1/users/{user_id}/sessions", Token, sessions::end_user),
        Endpoint::new(Method::POST, "/v1/revocations", Token, revocations::create),
        Endpoint::new(Method::GET, "/v1/keys", Token, keys::list),
        Endpoint::new(Method::POST, "/v1/keys/rotate", Token, keys::rotate),
        Endpoint::new(Method::GET, "/v1/config", Token, status::config),
    ]
}

fn router(state: AdminState) -> Router {
    let endpoints = endpoints();
    let open = endpoints.iter().filter(|one| one.access == Access::Open).map(|one| one.path).collect();
    let token = TokenDigest::of(state.token.expose().as_bytes());
    let admin =
        Arc::new(Admin { state, token, guesses: Guesses::default(), open, rotating: tokio::sync::Mutex::default() });
    let mut router = Router::new();
    for Endpoint { path, handler, .. } in endpoints {
        router = router.route(path, handler);
    }
    router
        .fallback(|| async { Refusal::from(AdminReason::NoSuchPath) })
        .method_not_allowed_fallback(|| async { Refusal::from(AdminReason::MethodNotAllowed) })
        // Outermost, around the fallbacks too: without the token nobody learns which paths there are.
        .layer(axum::middleware::from_fn_with_state(admin.clone(), guard::guard))
        .with_state(admin)
}

/// Carries a change out to its end also when the client goes away or its deadline passes: what was begun is finished,
/// counted and logged. It ends by itself, for every wait for the store has a deadline.
///
/// # Errors
/// Those of the change; [`AdminReason::StoreUnavailable`] when it panicked, as nobody knows how far it came.
async fn finish<T: Send + 'static>(
    change: impl Future<Output = Result<T, Refusal>> + Send + 'static,
) -> Result<T, Refusal> {
    match tokio::spawn(change).await {
        Ok(outcome) => outcome,
        Err(panicked) => {
            tracing::error!(error = %panicked, "an administrative change broke off");
            Err(AdminReason::StoreUnavailable.into())
        }
    }
}
