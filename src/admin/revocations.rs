//! Revocations by hand: of own sessions and of those of trusted issuers.

use std::sync::Arc;

use axum::extract::State;
use http::StatusCode;
use serde::Deserialize;

use super::input::{Body, ByHand};
use super::refusal::{AdminReason, Refusal};
use super::{Admin, finish};
use crate::clock::UnixTime;
use crate::ids::{SessionName, UserId};
use crate::revocation::EndReason;
use crate::session::RevocationTarget;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Revoke {
    session_id: Option<String>,
    user_id: Option<String>,
    #[serde(default)]
    reason: ByHand,
}

/// `POST /v1/revocations`: tokens of the session, or of the user up to now, are refused from now on, whoever signed them.
pub(super) async fn create(State(admin): State<Arc<Admin>>, Body(revoke): Body<Revoke>) -> Result<StatusCode, Refusal> {
    let target = match (&revoke.session_id, &revoke.user_id) {
        (Some(session), None) => {
            let name = SessionName::parse(session).map_err(|fault| Refusal::field("session_id", fault))?;
            RevocationTarget::Session(name)
        }
        (None, Some(user)) => {
            RevocationTarget::User(UserId::parse(user).map_err(|fault| Refusal::field("user_id", fault))?)
        }
        _ => {
            let message = "session_id, user_id: exactly one of them must be there";
            return Err(Refusal::because(AdminReason::InvalidField, message));
        }
    };
    let reason = EndReason::from(revoke.reason);
    finish(async move {
        let (sessions, now) = (&admin.state.gateway.sessions, UnixTime::now());
        // Own sessions end here, for the log to say how many; what remains is that tokens signed elsewhere are refused too,
        // and for as long as those may live.
        let ended = match &target {
            RevocationTarget::Session(SessionName::Own(id)) => u64::from(sessions.end(*id, reason, now).await?),
            RevocationTarget::Session(SessionName::Other(_)) => 0,
            RevocationTarget::User(user) => sessions.end_user(user, None, reason, now).await?,
        };
        sessions.revoke(target.clone(), reason, now).await?;
        let reason = reason.as_str();
        match &target {
            RevocationTarget::Session(name) => {
                tracing::info!(session_id = %name, reason, ended, "admin: session revoked")
            }
            RevocationTarget::User(user) => tracing::info!(user_id = %user, reason, ended, "admin: user revoked"),
        }
        Ok(StatusCode::NO_CONTENT)
    })
    .await
}
