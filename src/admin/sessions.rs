//! Sessions: sign-in, look-up and end.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::{StatusCode, header};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::input::{Body, ByHand, NOT_A_SESSION_ID, Parameters, SessionInPath, UserInPath};
use super::refusal::{AdminReason, Refusal};
use super::{Admin, finish};
use crate::causes::chain;
use crate::clock::UnixTime;
use crate::ids::{SessionId, UserId};
use crate::revocation::EndReason;
use crate::session::{MAX_PAGE, NewSession, Session, SignInError};

/// Sessions of a page unless `limit` says otherwise.
const DEFAULT_PAGE: usize = 100;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct SignIn {
    user_id: String,
    label: Option<String>,
    claims: Option<Map<String, Value>>,
}

/// `POST /v1/sessions`
pub(super) async fn create(State(admin): State<Arc<Admin>>, Body(sign_in): Body<SignIn>) -> Result<Response, Refusal> {
    let user = UserId::parse(&sign_in.user_id).map_err(|fault| Refusal::field("user_id", fault))?;
    if admin.state.gateway.config.session.is_none() {
        return Err(Refusal::because(
            AdminReason::NoSessionSection,
            "the configuration has no [session]: nobody is signed in here",
        ));
    }
    let new = NewSession { user, label: sign_in.label, claims: sign_in.claims };
    let pair = finish(async move {
        let pair = admin.state.gateway.sessions.sign_in(new, UnixTime::now()).await.map_err(sign_in_refused)?;
        admin.state.metrics.shared.sign_ins.add_shared(1);
        tracing::info!(session_id = %pair.session, user_id = %pair.user, "admin: session created");
        Ok(pair)
    })
    .await?;

    #[derive(Serialize)]
    struct SignedIn<'a> {
        session_id: String,
        user_id: &'a str,
        access_token: &'a str,
        token_type: &'static str,
        expires_in: u64,
        refresh_token: &'a str,
    }
    let session_id = pair.session.to_string();
    let location = format!("/v1/sessions/{session_id}");
    let signed_in = SignedIn {
        session_id,
        user_id: pair.user.as_str(),
        access_token: &pair.access_token,
        token_type: "Bearer",
        expires_in: pair.expires_in.as_secs(),
        refresh_token: &pair.refresh_token,
    };
    Ok((StatusCode::CREATED, [(header::LOCATION, location)], Json(signed_in)).into_response())
}

fn sign_in_refused(error: SignInError) -> Refusal {
    match error {
        SignInError::BadLabel => Refusal::field("label", error),
        SignInError::ClaimsTooLong | SignInError::ClaimsTooDeep | SignInError::ReservedClaim(_) => {
            Refusal::field("claims", error)
        }
        SignInError::Store(error) => error.into(),
        _ => {
            tracing::error!(error = %chain(&error), "cannot sign anybody in");
            AdminReason::StoreUnavailable.into()
        }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Listed {
    user_id: String,
    limit: Option<usize>,
    cursor: Option<String>,
}

/// `GET /v1/sessions?user_id=…`: a page of a user's sessions, oldest first.
pub(super) async fn list(
    State(admin): State<Arc<Admin>>,
    Parameters(listed): Parameters<Listed>,
) -> Result<Response, Refusal> {
    let user = UserId::parse(&listed.user_id).map_err(|fault| Refusal::parameter("user_id", fault))?;
    let limit = listed.limit.unwrap_or(DEFAULT_PAGE);
    if !(1..=MAX_PAGE).contains(&limit) {
        return Err(Refusal::parameter("limit", format_args!("is not 1 to {MAX_PAGE}")));
    }
    let page = admin.state.gateway.sessions.list(&user, listed.cursor.as_deref(), limit).await?;
    let sessions: Vec<View<'_>> = page.sessions.iter().map(View::of).collect();
    Ok(Json(json!({ "sessions": sessions, "next_cursor": page.next })).into_response())
}

/// `GET /v1/sessions/{session_id}`
pub(super) async fn show(
    State(admin): State<Arc<Admin>>,
    SessionInPath(id): SessionInPath,
) -> Result<Response, Refusal> {
    let session = admin.state.gateway.sessions.find(&id).await?.ok_or(AdminReason::NoSuchSession)?;
    Ok(Json(View::of(&session)).into_response())
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct End {
    #[serde(default)]
    reason: ByHand,
}

/// `DELETE /v1/sessions/{session_id}`: 204 also when it has ended before.
pub(super) async fn end(
    State(admin): State<Arc<Admin>>,
    SessionInPath(id): SessionInPath,
    Parameters(end): Parameters<End>,
) -> Result<StatusCode, Refusal> {
    let reason = EndReason::from(end.reason);
    finish(async move {
        let ended = admin.state.gateway.sessions.end(id, reason, UnixTime::now()).await?;
        tracing::info!(session_id = %id, reason = reason.as_str(), ended, "admin: session ended");
        Ok(StatusCode::NO_CONTENT)
    })
    .await
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct EndUser {
    except: Option<String>,
}

/// `DELETE /v1/users/{user_id}/sessions`
pub(super) async fn end_user(
    State(admin): State<Arc<Admin>>,
    UserInPath(user): UserInPath,
    Parameters(end): Parameters<EndUser>,
) -> Result<Response, Refusal> {
    let except = match &end.except {
        Some(text) => Some(SessionId::parse(text).ok_or_else(|| Refusal::parameter("except", NOT_A_SESSION_ID))?),
        None => None,
    };
    finish(async move {
        let reason = EndReason::SecurityAction;
        let ended = admin.state.gateway.sessions.end_user(&user, except, reason, UnixTime::now()).await?;
        tracing::info!(
            user_id = %user,
            except = except.map(tracing::field::display),
            reason = reason.as_str(),
            ended,
            "admin: sessions of a user ended"
        );
        Ok(Json(json!({ "ended": ended })).into_response())
    })
    .await
}

/// A session as it is shown. There is no token in a row.
#[derive(Serialize)]
struct View<'a> {
    session_id: String,
    user_id: &'a str,
    label: Option<&'a str>,
    claims: Option<&'a Map<String, Value>>,
    created_at: String,
    last_seen: String,
    refreshes: u64,
    access_expires_at: String,
}

impl<'a> View<'a> {
    fn of(session: &'a Session) -> Self {
        Self {
            session_id: session.id.to_string(),
            user_id: session.user.as_str(),
            label: session.label.as_deref(),
            claims: session.claims.as_ref(),
            created_at: session.created_at.to_string(),
            last_seen: session.last_seen.to_string(),
            refreshes: session.counter,
            access_expires_at: session.access_expires_at.to_string(),
        }
    }
}
