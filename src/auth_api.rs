//! The public endpoints: refresh, logout, keys and metadata. Parse, ask [`Sessions`], answer.

use std::borrow::Cow;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::header::{self, HeaderValue};
use http::request::Parts;
use http::{Method, Response, StatusCode};
use http_body_util::{BodyExt, Limited};
use hyper::body::Incoming;
use serde::Deserialize;
use zeroize::Zeroizing;

use crate::clock::UnixTime;
use crate::config::Config;
use crate::gateway::Gateway;
use crate::headers::cors::CorsPolicy;
use crate::ids::{SessionId, SessionName};
use crate::limiter::{Exceeded, Limiter, owner_of, seconds};
use crate::reject::{self, Reason, Rejection};
use crate::revocation::EndReason;
use crate::session::store::StoreError;
use crate::session::{RefreshError, RevocationTarget, Sessions, TokenPair};
use crate::telemetry::metrics::SharedMetrics;
use crate::token::bearer::bearer_token;
use crate::token::signing::{PUBLISHED_BEFORE_USE, SigningKeys};
use crate::token::{Identity, OWN_ISSUER, TokenError};

/// `GET /.well-known/jwks.json`
pub const JWKS_PATH: &str = "/.well-known/jwks.json";
/// RFC 8414 §3
pub const METADATA_PATH: &str = "/.well-known/oauth-authorization-server";

/// Most bytes of a request body here: a token and a few short parameters.
const MAX_BODY_BYTES: usize = 16 * 1024;
/// How long a client may take to send it.
const BODY_TIMEOUT: Duration = Duration::from_secs(10);

/// Which endpoint a path is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Endpoint {
    /// `POST {prefix}/refresh`
    Refresh,
    /// `POST {prefix}/logout`
    Logout,
    /// `GET /.well-known/jwks.json`
    Jwks,
    /// `GET /.well-known/oauth-authorization-server`
    Metadata,
    /// Anything else under the prefix: never an upstream's.
    Unknown,
}

impl Endpoint {
    /// The endpoint at `path` when they are under `prefix`, if it is one.
    pub fn at(prefix: &str, path: &str) -> Option<Self> {
        match path.strip_prefix(prefix) {
            Some("/refresh") => return Some(Self::Refresh),
            Some("/logout") => return Some(Self::Logout),
            Some(rest) if rest.is_empty() || rest.starts_with('/') => return Some(Self::Unknown),
            _ => {}
        }
        match path {
            JWKS_PATH => Some(Self::Jwks),
            METADATA_PATH => Some(Self::Metadata),
            _ => None,
        }
    }

    /// Judges the method of a call.
    ///
    /// # Errors
    /// [`Reason::MethodNotAllowed`], and [`Reason::NoRoute`] where there is no endpoint.
    pub fn judge(self, method: &Method) -> Result<(), Rejection> {
        let (allowed, allow): (&[Method], _) = match self {
            Self::Refresh | Self::Logout => (&[Method::POST], "POST"),
            Self::Jwks | Self::Metadata => (&[Method::GET, Method::HEAD], "GET, HEAD"),
            Self::Unknown => return Err(Reason::NoRoute.into()),
        };
        if allowed.contains(method) {
            return Ok(());
        }
        let allow = Some(HeaderValue::from_static(allow));
        Err(Rejection { allow, ..Rejection::from(Reason::MethodNotAllowed) })
    }
}

/// The endpoints' own state: paths, limits and the keys to publish.
#[derive(Debug)]
pub struct AuthApi {
    prefix: String,
    public_url: Option<String>,
    issuer: Option<String>,
    signing: Arc<SigningKeys>,
    per_session: Limiter,
    per_address: Limiter,
    /// Of logouts, which cost the store as much. Apart from refreshes: who floods one must not keep a user from the other.
    logouts_per_session: Limiter,
    /// Of logouts with tokens that are none of ours. Only these: a neighbour who guesses keeps nobody from signing out.
    logout_guesses: Limiter,
    /// What pages of other origins may do.
    pub cors: Option<CorsPolicy>,
    metrics: Arc<SharedMetrics>,
}

/// One call of an endpoint.
#[derive(Debug)]
pub struct Call<'a> {
    /// The gateway that serves it.
    pub gateway: &'a Arc<Gateway>,
    /// The request but for its body.
    pub parts: &'a Parts,
    /// The client's address.
    pub client: IpAddr,
    /// `https` or `http`
    pub scheme: &'static str,
    /// For the answer.
    pub request_id: &'a str,
}

impl AuthApi {
    /// Without `[session]` there are no endpoints and every path is an upstream's.
    pub fn new(config: &Config, signing: Arc<SigningKeys>, metrics: Arc<SharedMetrics>) -> Self {
        let limits = &config.limits;
        Self {
            prefix: config.auth.prefix.clone(),
            public_url: config.auth.public_url.clone(),
            issuer: config.session.as_ref().map(|session| session.issuer.clone()),
            signing,
            per_session: Limiter::new(limits.refreshes_per_session),
            per_address: Limiter::new(limits.refreshes_per_address),
            logouts_per_session: Limiter::new(limits.refreshes_per_session),
            logout_guesses: Limiter::new(limits.refreshes_per_address),
            cors: config.auth.cors.as_ref().map(CorsPolicy::new),
            metrics,
        }
    }

    /// The endpoint at `path`, if it is one.
    pub fn endpoint(&self, path: &str) -> Option<Endpoint> {
        self.issuer.as_ref()?;
        Endpoint::at(&self.prefix, path)
    }

    /// Answers a call.
    ///
    /// # Errors
    /// [`Rejection`] for what every route refuses alike; OAuth errors are answers.
    pub async fn serve(
        &self,
        endpoint: Endpoint,
        call: Call<'_>,
        body: Incoming,
    ) -> Result<Response<Bytes>, Rejection> {
        endpoint.judge(&call.parts.method)?;
        let sessions = call.gateway.sessions.clone();
        let request_id = call.request_id;
        let answer = match endpoint {
            Endpoint::Refresh => self.refresh(&sessions, &call, body).await,
            Endpoint::Logout => self.logout(&sessions, &call, body).await,
            Endpoint::Jwks => Ok(self.jwks()),
            Endpoint::Metadata => self.metadata(&call),
            Endpoint::Unknown => Err(Reason::NoRoute.into()),
        };
        // Their clients speak OAuth: the error words are RFC 6749's.
        answer.or_else(|rejection| match rejection.reason {
            Reason::InvalidRequest | Reason::InvalidGrant | Reason::UnsupportedGrantType => {
                Ok(rejection.to_oauth_response(request_id))
            }
            _ => Err(rejection),
        })
    }

    async fn refresh(
        &self,
        sessions: &Arc<Sessions>,
        call: &Call<'_>,
        body: Incoming,
    ) -> Result<Response<Bytes>, Rejection> {
        let now = Instant::now();
        self.per_address.take(owner_of(call.client), now).map_err(too_many_refreshes)?;
        let form = Form::read(call.parts, body).await?.without_empty();
        match form.grant_type.as_deref() {
            Some("refresh_token") => {}
            None if form.is_json => {}
            None => return Err(Reason::InvalidRequest.into()),
            Some(_) => return Err(Reason::UnsupportedGrantType.into()),
        }
        let token = form.refresh_token.ok_or(Reason::InvalidRequest)?;
        let Some(presented) = sessions.read_refresh_token(&token) else {
            self.metrics.refreshes_refused.add_shared(1);
            return Err(Reason::InvalidGrant.into());
        };
        self.per_session.take(presented.session, now).map_err(too_many_refreshes)?;
        let asked = sessions.clone();
        let exchange = async move { asked.exchange(presented, UnixTime::now()).await };
        // A task of its own, which goes on to its end when the client goes away. The store is asked on its own threads;
        // the worker goes on with other requests.
        let outcome = if sessions.exchanges_anywhere() {
            tokio::task::spawn_local(exchange).await
        } else {
            call.gateway.control.spawn(exchange).await
        };
        match outcome {
            Ok(Ok(pair)) => {
                let cell =
                    if pair.repeated { &self.metrics.refreshes_repeated } else { &self.metrics.refreshes_rotated };
                cell.add_shared(1);
                Ok(token_response(&pair))
            }
            Ok(Err(RefreshError::Malformed)) => {
                self.metrics.refreshes_refused.add_shared(1);
                Err(Reason::InvalidGrant.into())
            }
            Ok(Err(RefreshError::Ended(reason))) => {
                self.metrics.refreshes_refused.add_shared(1);
                Ok(reject::invalid_grant(reason, call.request_id))
            }
            // A store that fails must never read as "your token is bad": the client would throw it away.
            Ok(Err(RefreshError::Store(error))) => {
                self.metrics.refreshes_failed.add_shared(1);
                Err(store_failed("refresh", &error))
            }
            Err(_) => Err(Reason::StoreUnavailable.into()),
        }
    }

    async fn logout(
        &self,
        sessions: &Arc<Sessions>,
        call: &Call<'_>,
        body: Incoming,
    ) -> Result<Response<Bytes>, Rejection> {
        let scope = scope(call.parts.uri.query())?;
        let form = Form::read(call.parts, body).await?.without_empty();
        // RFC 7009 §2.2: 200, also for a token that means nothing to us.
        if let Some(token) = &form.token {
            match self.target_of(sessions, call, token, scope) {
                Some(target) => self.end(sessions, call, target, scope).await?,
                None => self.count_guess(call)?,
            }
            return Ok(reject::json(StatusCode::OK, Bytes::new()));
        }
        let target = match &form.refresh_token {
            Some(token) => match sessions.read_refresh_token(token) {
                Some(presented) => Target::Session(presented.session),
                None => return Err(self.count_guess(call).err().unwrap_or(Reason::InvalidGrant.into())),
            },
            None => {
                let values = call.parts.headers.get_all(header::AUTHORIZATION).iter().map(HeaderValue::as_bytes);
                let token = bearer_token(values, call.gateway.config.limits.token_bytes.get())?;
                match signed(call.gateway, token, scope) {
                    Ok(identity) => Target::Identity(Box::new(identity)),
                    Err(why) => return Err(self.count_guess(call).err().unwrap_or(why.into())),
                }
            }
        };
        self.end(sessions, call, target, scope).await?;
        let mut response = reject::json(StatusCode::NO_CONTENT, Bytes::new());
        response.headers_mut().remove(header::CONTENT_TYPE);
        Ok(response)
    }

    fn target_of(&self, sessions: &Sessions, call: &Call<'_>, token: &str, scope: Scope) -> Option<Target> {
        match sessions.read_refresh_token(token) {
            Some(presented) => Some(Target::Session(presented.session)),
            None => signed(call.gateway, token, scope).ok().map(|identity| Target::Identity(Box::new(identity))),
        }
    }

    /// A token that is none of ours.
    fn count_guess(&self, call: &Call<'_>) -> Result<(), Rejection> {
        self.logout_guesses.take(owner_of(call.client), Instant::now()).map(drop).map_err(too_many_logouts)
    }

    async fn end(
        &self,
        sessions: &Arc<Sessions>,
        call: &Call<'_>,
        target: Target,
        scope: Scope,
    ) -> Result<(), Rejection> {
        let now = Instant::now();
        let counted = match &target {
            Target::Session(id) => self.logouts_per_session.take((OWN_ISSUER, &SessionName::Own(*id)), now),
            Target::Identity(identity) => self.logouts_per_session.take((identity.issuer, &identity.session), now),
        };
        counted.map_err(too_many_logouts)?;
        let sessions = sessions.clone();
        let ended = async move { end(&sessions, &target, scope, UnixTime::now()).await };
        match call.gateway.control.spawn(ended).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => Err(store_failed("logout", &error)),
            Err(_) => Err(Reason::StoreUnavailable.into()),
        }
    }

    fn jwks(&self) -> Response<Bytes> {
        let mut response = reject::json(StatusCode::OK, Bytes::from(self.signing.public_jwks().to_vec()));
        let headers = response.headers_mut();
        let cache = format!("public, max-age={}", PUBLISHED_BEFORE_USE.as_secs());
        headers.insert(
            header::CACHE_CONTROL,
            HeaderValue::from_str(&cache).unwrap_or(HeaderValue::from_static("no-store")),
        );
        headers.remove(header::PRAGMA);
        response
    }

    /// RFC 8414 §2
    fn metadata(&self, call: &Call<'_>) -> Result<Response<Bytes>, Rejection> {
        let base = match &self.public_url {
            Some(url) => Cow::Borrowed(url.as_str()),
            None => {
                let host = crate::gateway::host_of(call.parts)?;
                Cow::Owned(format!("{}://{}", call.scheme, host.to_str().map_err(|_invalid| Reason::BadHost)?))
            }
        };
        let prefix = &self.prefix;
        let document = serde_json::json!({
            "issuer": self.issuer,
            "token_endpoint": format!("{base}{prefix}/refresh"),
            "revocation_endpoint": format!("{base}{prefix}/logout"),
            "jwks_uri": format!("{base}{JWKS_PATH}"),
            "response_types_supported": [],
            "grant_types_supported": ["refresh_token"],
            "token_endpoint_auth_methods_supported": ["none"],
            "revocation_endpoint_auth_methods_supported": ["none"],
            "access_token_signing_alg_values_supported": ["ES256"],
        });
        Ok(reject::json(StatusCode::OK, Bytes::from(document.to_string())))
    }
}

/// Whom a logout is about.
#[derive(Debug)]
enum Target {
    Session(SessionId),
    Identity(Box<Identity>),
}

/// `?scope=`
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Scope {
    Local,
    Others,
    Global,
}

/// The identity of a token that is signed and meant for us. An expired one still signs its own session out, and no other:
/// it may have been lying about for years.
fn signed(gateway: &Gateway, token: &str, scope: Scope) -> Result<Identity, TokenError> {
    match scope {
        Scope::Local => gateway.verifier.verify_even_expired(token, UnixTime::now()),
        Scope::Others | Scope::Global => gateway.verifier.verify(token, UnixTime::now()),
    }
}

/// Ends what the target and scope say.
async fn end(sessions: &Sessions, target: &Target, scope: Scope, now: UnixTime) -> Result<(), StoreError> {
    let reason = EndReason::SignedOut;
    let (id, user) = match target {
        Target::Session(id) => match scope {
            Scope::Local => (*id, None),
            // The user is known to the store only.
            Scope::Others | Scope::Global => (*id, sessions.find(id).await?.map(|session| session.user)),
        },
        // An ended session has no say over others. That it is ended already is no error.
        Target::Identity(identity)
            if scope != Scope::Local
                && sessions.revocations().check(&identity.session, &identity.user, identity.issued_at).is_some() =>
        {
            return Ok(());
        }
        Target::Identity(identity) => match identity.session {
            SessionName::Own(id) if identity.issuer == OWN_ISSUER => (id, Some(identity.user.clone())),
            // Somebody else's session: it ends here by a revocation.
            _ => {
                let target = match scope {
                    Scope::Local => RevocationTarget::Session(identity.session.clone()),
                    Scope::Global => RevocationTarget::User(identity.user.clone()),
                    // Which others there are, only their issuer knows.
                    Scope::Others => return Ok(()),
                };
                return sessions.revoke(target, reason, now).await;
            }
        },
    };
    match (scope, user) {
        (Scope::Others, Some(user)) => sessions.end_user(&user, Some(id), reason, now).await.map(drop),
        (Scope::Global, Some(user)) => sessions.end_user(&user, None, reason, now).await.map(drop),
        (Scope::Others, None) => Ok(()),
        (Scope::Local, _) | (Scope::Global, None) => sessions.end(id, reason, now).await.map(drop),
    }
}

fn store_failed(what: &str, error: &StoreError) -> Rejection {
    tracing::warn!(error = %crate::causes::chain(error), "{what} failed: the store did not answer");
    Reason::StoreUnavailable.into()
}

fn too_many_refreshes(exceeded: Exceeded) -> Rejection {
    too_many(Reason::TooManyRefreshes, exceeded)
}

fn too_many_logouts(exceeded: Exceeded) -> Rejection {
    too_many(Reason::TooManyLogouts, exceeded)
}

fn too_many(reason: Reason, exceeded: Exceeded) -> Rejection {
    Rejection { retry_after: Some(seconds(exceeded.retry_in).max(1)), ..Rejection::from(reason) }
}

/// RFC 6749 §5.1
fn token_response(pair: &TokenPair) -> Response<Bytes> {
    #[derive(serde::Serialize)]
    struct Tokens<'a> {
        access_token: &'a str,
        token_type: &'static str,
        expires_in: u64,
        refresh_token: &'a str,
    }
    let tokens = Tokens {
        access_token: &pair.access_token,
        token_type: "Bearer",
        expires_in: pair.expires_in.as_secs(),
        refresh_token: &pair.refresh_token,
    };
    // As large as it gets: growing would leave copies behind in memory. What is sent is cleared once it was.
    let mut body = Zeroizing::new(Vec::with_capacity(pair.access_token.len() + pair.refresh_token.len() + 128));
    match serde_json::to_writer(&mut *body, &tokens) {
        Ok(()) => reject::json(StatusCode::OK, Bytes::from_owner(body)),
        // Strings and a number always serialize.
        Err(_) => reject::json(StatusCode::INTERNAL_SERVER_ERROR, Bytes::new()),
    }
}

/// The last word of `?scope=…`; other parameters are ignored.
fn scope(query: Option<&str>) -> Result<Scope, Reason> {
    let mut scopes = query.unwrap_or_default().split('&').filter_map(|pair| pair.strip_prefix("scope="));
    match (scopes.next(), scopes.next()) {
        (None | Some("local"), None) => Ok(Scope::Local),
        (Some("others"), None) => Ok(Scope::Others),
        (Some("global"), None) => Ok(Scope::Global),
        _ => Err(Reason::InvalidRequest),
    }
}

/// The parameters of a call, from a form or a JSON object. Unknown ones are ignored (RFC 6749 §3.2).
#[derive(Default)]
struct Form {
    is_json: bool,
    grant_type: Option<String>,
    refresh_token: Option<Zeroizing<String>>,
    token: Option<Zeroizing<String>>,
}

impl Form {
    async fn read(parts: &Parts, body: Incoming) -> Result<Self, Reason> {
        let read = tokio::time::timeout(BODY_TIMEOUT, Limited::new(body, MAX_BODY_BYTES).collect());
        let bytes = match read.await {
            Ok(Ok(collected)) => collected.to_bytes(),
            Ok(Err(error)) if error.is::<http_body_util::LengthLimitError>() => return Err(Reason::BodyTooLarge),
            Ok(Err(_)) => return Err(Reason::BodyBroken),
            Err(_) => return Err(Reason::BodyTimeout),
        };
        if bytes.is_empty() {
            return Ok(Self::default());
        }
        let mut kinds = parts.headers.get_all(header::CONTENT_TYPE).iter();
        let kind = match (kinds.next(), kinds.next()) {
            (Some(kind), None) => kind.to_str().unwrap_or_default(),
            _ => return Err(Reason::InvalidRequest),
        };
        let kind = kind.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
        match kind.as_str() {
            "application/x-www-form-urlencoded" => Self::from_form(&bytes),
            "application/json" => Self::from_json(&bytes),
            _ => Err(Reason::InvalidRequest),
        }
    }

    /// A parameter without a value is as if it was not there (RFC 6749 §3.2).
    fn without_empty(self) -> Self {
        Self {
            grant_type: self.grant_type.filter(|value| !value.is_empty()),
            refresh_token: self.refresh_token.filter(|value| !value.is_empty()),
            token: self.token.filter(|value| !value.is_empty()),
            ..self
        }
    }

    fn from_json(bytes: &[u8]) -> Result<Self, Reason> {
        /// serde refuses a member that is there twice.
        #[derive(Deserialize)]
        struct Json {
            grant_type: Option<String>,
            refresh_token: Option<Zeroizing<String>>,
            token: Option<Zeroizing<String>>,
        }
        let json: Json = serde_json::from_slice(bytes).map_err(|_malformed| Reason::InvalidRequest)?;
        Ok(Self { is_json: true, grant_type: json.grant_type, refresh_token: json.refresh_token, token: json.token })
    }

    fn from_form(bytes: &[u8]) -> Result<Self, Reason> {
        let mut form = Self::default();
        for (name, value) in form_urlencoded::parse(bytes) {
            let repeated = match &*name {
                "grant_type" => form.grant_type.replace(value.into_owned()).is_some(),
                "refresh_token" => form.refresh_token.replace(Zeroizing::new(value.into_owned())).is_some(),
                "token" => form.token.replace(Zeroizing::new(value.into_owned())).is_some(),
                _ => false,
            };
            // RFC 6749 §3.2: a parameter must not be there more than once.
            if repeated {
                return Err(Reason::InvalidRequest);
            }
        }
        Ok(form)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_repeated_parameter_is_refused_and_an_unknown_one_ignored() {
        let form =
            Form::from_form(b"grant_type=refresh_token&refresh_token=pcr%5Fabc&client_id=x&client_id=y").unwrap();
        assert_eq!(form.refresh_token.unwrap().as_str(), "pcr_abc");
        for twice in ["grant_type=a&grant_type=a", "refresh_token=a&refresh_token=b", "token=a&token=a"] {
            assert_eq!(Form::from_form(twice.as_bytes()).err(), Some(Reason::InvalidRequest), "{twice}");
        }
        assert!(Form::from_json(br#"{"refresh_token":"a","x":[1]}"#).is_ok());
        for bad in [r#"{"refresh_token":"a","refresh_token":"a"}"#, r#"{"refresh_token":1}"#, "[]", "x", "{}x"] {
            assert_eq!(Form::from_json(bad.as_bytes()).err(), Some(Reason::InvalidRequest), "{bad}");
        }
    }

    #[test]
    fn a_scope_is_one_of_three_words() {
        assert_eq!(scope(None), Ok(Scope::Local));
        assert_eq!(scope(Some("x=1")), Ok(Scope::Local));
        assert_eq!(scope(Some("scope=others")), Ok(Scope::Others));
        assert_eq!(scope(Some("a=b&scope=global")), Ok(Scope::Global));
        for bad in ["scope=", "scope=all", "scope=local&scope=global"] {
            assert_eq!(scope(Some(bad)), Err(Reason::InvalidRequest), "{bad}");
        }
    }
}
