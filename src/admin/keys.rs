//! Own signing keys: look and rotate.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::input::Parameters;
use super::refusal::{AdminReason, Refusal};
use super::{Admin, finish};
use crate::clock::UnixTime;
use crate::gateway::chain;
use crate::token::signing::{KeyInfo, SigningKeys, SigningKeysError};

/// `GET /v1/keys`
pub(super) async fn list(State(admin): State<Arc<Admin>>) -> Response {
    shown(&admin.state.signing)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Rotate {
    #[serde(default)]
    force: bool,
}

/// `POST /v1/keys/rotate`: the next key signs from now on.
pub(super) async fn rotate(
    State(admin): State<Arc<Admin>>,
    Parameters(Rotate { force }): Parameters<Rotate>,
) -> Result<Response, Refusal> {
    finish(async move {
        let signing = &admin.state.signing;
        let Some(session) = &admin.state.gateway.config.session else {
            let message = "the configuration has no [session]: no key signs anything";
            return Err(Refusal::because(AdminReason::NoSessionSection, message));
        };
        // One at a time: the others need not each have a thread that waits for the lock of the directory.
        let _rotating = admin.rotating.lock().await;
        let (keys, now, token_ttl) = (signing.clone(), UnixTime::now(), session.access_token_ttl);
        // It writes files and waits for the disk.
        let rotated = in_background(move || keys.rotate(now, token_ttl, force)).await?.map_err(not_rotated)?;
        tracing::info!(
            current = %rotated.current,
            next = %rotated.next,
            retired = %rotated.retired,
            force,
            "admin: signing keys rotated"
        );
        Ok(shown(signing))
    })
    .await
}

/// Carries out what waits for the disk.
async fn in_background<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, Refusal> {
    tokio::task::spawn_blocking(work).await.map_err(|panicked| {
        tracing::error!(error = %panicked, "a rotation of keys broke off");
        AdminReason::KeysNotWritten.into()
    })
}

fn not_rotated(error: SigningKeysError) -> Refusal {
    match error {
        SigningKeysError::NotYetPublished { left } => {
            let message = format!("{error}; force=true rotates now");
            Refusal::because(AdminReason::KeyNotYetPublished, message).retry_after(seconds_up(left))
        }
        SigningKeysError::KeysFromFiles | SigningKeysError::ReadOnly => {
            Refusal::because(AdminReason::KeysFromFiles, error.to_string())
        }
        _ => {
            tracing::error!(error = %chain(&error), "cannot rotate the signing keys");
            AdminReason::KeysNotWritten.into()
        }
    }
}

fn seconds_up(time: Duration) -> u64 {
    u64::try_from(time.as_millis().div_ceil(1000)).unwrap_or(u64::MAX)
}

fn shown(signing: &SigningKeys) -> Response {
    let keys: Vec<View> = signing.list().into_iter().map(View::of).collect();
    Json(json!({ "keys": keys })).into_response()
}

/// A key as it is shown: nothing of it that is secret. Times that are not known are null.
#[derive(Serialize)]
struct View {
    kid: String,
    state: &'static str,
    created_at: Option<String>,
    activated_at: Option<String>,
    retired_at: Option<String>,
}

impl View {
    fn of(key: KeyInfo) -> Self {
        let shown = |time: UnixTime| time.to_string();
        Self {
            kid: key.kid.to_string(),
            state: key.state.as_str(),
            created_at: key.created_at.map(shown),
            activated_at: key.activated_at.map(shown),
            retired_at: key.retired_at.map(shown),
        }
    }
}
