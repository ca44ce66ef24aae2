//! What a request asks for, read strictly: what is not understood is refused by name, never skipped.

use std::time::Duration;

use axum::Json;
use axum::body::Bytes;
use axum::extract::rejection::JsonRejection;
use axum::extract::{FromRequest, FromRequestParts, Path, Query, Request};
use http::header;
use http::request::Parts;
use http_body_util::{BodyExt, LengthLimitError, Limited};
use serde::de::DeserializeOwned;

use super::refusal::{AdminReason, Refusal};
use crate::ids::{SessionId, UserId};
use crate::revocation::EndReason;
use crate::token::json::{JsonError, Object};

/// Most bytes of a body: claims of 4 KiB have room in any spelling.
pub(super) const MAX_BODY_BYTES: usize = 64 * 1024;
/// How long a client may take to send it. Less than the deadline of the request, so that what is late is named.
const BODY_TIMEOUT: Duration = Duration::from_secs(5);

/// A JSON object as a `T`, which refuses unknown members.
#[derive(Debug)]
pub(super) struct Body<T>(pub(super) T);

impl<T: DeserializeOwned, S: Sync> FromRequest<S> for Body<T> {
    type Rejection = Refusal;

    async fn from_request(request: Request, _state: &S) -> Result<Self, Refusal> {
        let (parts, body) = request.into_parts();
        if !is_json(&parts) {
            let message = "content-type: must be application/json";
            return Err(Refusal::because(AdminReason::NotJson, message));
        }
        let read = tokio::time::timeout(BODY_TIMEOUT, Limited::new(body, MAX_BODY_BYTES).collect());
        let bytes = match read.await {
            Ok(Ok(collected)) => collected.to_bytes(),
            Ok(Err(error)) if error.is::<LengthLimitError>() => return Err(AdminReason::BodyTooLarge.into()),
            Ok(Err(_)) => return Err(AdminReason::BodyBroken.into()),
            Err(_) => return Err(AdminReason::BodyTimeout.into()),
        };
        parse(&bytes).map(Self)
    }
}

/// Exactly one `Content-Type`, and it is JSON. A browser sends no other site's page with it unasked.
fn is_json(parts: &Parts) -> bool {
    let mut kinds = parts.headers.get_all(header::CONTENT_TYPE).iter();
    let (Some(kind), None) = (kinds.next(), kinds.next()) else { return false };
    let kind = kind.to_str().unwrap_or_default();
    kind.split(';').next().unwrap_or_default().trim().eq_ignore_ascii_case("application/json")
}

pub(super) fn parse<T: DeserializeOwned>(bytes: &Bytes) -> Result<T, Refusal> {
    // First, for serde takes the last of two members with one name inside claims: the reader of a token refuses both.
    if let Err(error) = Object::parse(bytes) {
        let reason =
            if error == JsonError::NotAnObject { AdminReason::InvalidField } else { AdminReason::MalformedJson };
        return Err(Refusal::because(reason, format!("body: {error}")));
    }
    Json::from_bytes(bytes).map(|Json(value)| value).map_err(|rejection: JsonRejection| {
        Refusal::because(AdminReason::InvalidField, without_preamble(&rejection.body_text()))
    })
}

/// The query as a `T`, which refuses unknown parameters. A parameter that is there twice is refused too.
#[derive(Debug)]
pub(super) struct Parameters<T>(pub(super) T);

impl<T: DeserializeOwned, S: Sync> FromRequestParts<S> for Parameters<T> {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, Refusal> {
        let Query(value) = Query::try_from_uri(&parts.uri).map_err(|rejection| {
            Refusal::because(AdminReason::InvalidParameter, without_preamble(&rejection.body_text()))
        })?;
        Ok(Self(value))
    }
}

/// `Failed to …: user_id: …` from its second part on.
fn without_preamble(text: &str) -> &str {
    text.split_once(": ").map_or(text, |(_, rest)| rest)
}

/// `{session_id}` of the path.
#[derive(Debug)]
pub(super) struct SessionInPath(pub(super) SessionId);

impl<S: Send + Sync> FromRequestParts<S> for SessionInPath {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Refusal> {
        let text = from_path(parts, state).await?;
        SessionId::parse(&text).map(Self).ok_or_else(|| Refusal::parameter("session_id", NOT_A_SESSION_ID))
    }
}

/// `{user_id}` of the path, decoded.
#[derive(Debug)]
pub(super) struct UserInPath(pub(super) UserId);

impl<S: Send + Sync> FromRequestParts<S> for UserInPath {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Refusal> {
        let text = from_path(parts, state).await?;
        UserId::parse(&text).map(Self).map_err(|fault| Refusal::parameter("user_id", fault))
    }
}

async fn from_path<S: Send + Sync>(parts: &mut Parts, state: &S) -> Result<String, Refusal> {
    let found = Path::<String>::from_request_parts(parts, state).await;
    found.map(|Path(text)| text).map_err(|rejection| Refusal::parameter("path", rejection.body_text()))
}

/// What is said of a text that is no session id.
pub(super) const NOT_A_SESSION_ID: &str = "is not 32 lowercase hexadecimal digits";

/// Why a session is ended by hand. The other reasons are for the gateway to find.
#[derive(Clone, Copy, Debug, Default, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum ByHand {
    /// The user signed out somewhere else.
    SignedOut,
    /// A password change, a ban.
    #[default]
    SecurityAction,
}

impl From<ByHand> for EndReason {
    fn from(reason: ByHand) -> Self {
        match reason {
            ByHand::SignedOut => Self::SignedOut,
            ByHand::SecurityAction => Self::SecurityAction,
        }
    }
}
