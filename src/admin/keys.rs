//! Own keys, those that sign access tokens and those of refresh tokens: look and rotate.

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
use crate::causes::chain;
use crate::clock::UnixTime;
use crate::config::Session;
use crate::session::RefreshKeysError;
use crate::session::refresh_keys::{self, RefreshKeyInfo};
use crate::token::signing::{KeyInfo, SigningKeysError};

/// `GET /v1/keys`
pub(super) async fn list(State(admin): State<Arc<Admin>>) -> Response {
    shown(&admin)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Rotate {
    #[serde(default)]
    kind: Kind,
    #[serde(default)]
    force: bool,
}

/// Which keys are rotated.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Kind {
    /// Those of access tokens.
    #[default]
    Signing,
    /// Those of refresh tokens.
    Refresh,
}

/// `POST /v1/keys/rotate`: the next signing key signs from now on, or a new refresh key is made.
pub(super) async fn rotate(
    State(admin): State<Arc<Admin>>,
    Parameters(Rotate { kind, force }): Parameters<Rotate>,
) -> Result<Response, Refusal> {
    finish(async move {
        if admin.state.gateway.config.session.is_none() {
            let message = "the configuration has no [session]: no key signs anything";
            return Err(Refusal::because(AdminReason::NoSessionSection, message));
        }
        // One at a time: the others need not each have a thread that waits for the lock of the directory.
        let _rotating = admin.rotating.lock().await;
        match kind {
            Kind::Signing => rotate_signing(&admin, force).await?,
            Kind::Refresh if force => {
                return Err(Refusal::parameter("force", "is for signing keys: no refresh key is in use early"));
            }
            Kind::Refresh => rotate_refresh(&admin).await?,
        }
        Ok(shown(&admin))
    })
    .await
}

async fn rotate_signing(admin: &Admin, force: bool) -> Result<(), Refusal> {
    let session = admin.state.gateway.config.session.as_ref();
    let token_ttl = session.map_or(Session::unused().access_token_ttl, |session| session.access_token_ttl);
    let (keys, now) = (admin.state.signing.clone(), UnixTime::now());
    let rotated = in_background(move || keys.rotate(now, token_ttl, force)).await?.map_err(not_rotated)?;
    tracing::info!(
        current = %rotated.current,
        next = %rotated.next,
        retired = %rotated.retired,
        force,
        "admin: signing keys rotated"
    );
    Ok(())
}

async fn rotate_refresh(admin: &Admin) -> Result<(), Refusal> {
    let (keys, now) = (admin.state.gateway.sessions.refresh_keys().clone(), UnixTime::now());
    let made = in_background(move || keys.rotate(now)).await?.map_err(no_refresh_key)?;
    tracing::info!(id = refresh_keys::name(made), "admin: a refresh key was made");
    Ok(())
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

fn no_refresh_key(error: RefreshKeysError) -> Refusal {
    match error {
        RefreshKeysError::NotYetInUse { left, .. } => {
            Refusal::because(AdminReason::KeyNotYetPublished, error.to_string()).retry_after(seconds_up(left))
        }
        RefreshKeysError::KeysFromFiles => Refusal::because(AdminReason::KeysFromFiles, error.to_string()),
        _ => {
            tracing::error!(error = %chain(&error), "cannot make a refresh key");
            AdminReason::KeysNotWritten.into()
        }
    }
}

fn seconds_up(time: Duration) -> u64 {
    u64::try_from(time.as_millis().div_ceil(1000)).unwrap_or(u64::MAX)
}

fn shown(admin: &Admin) -> Response {
    let keys: Vec<View> = admin.state.signing.list().into_iter().map(View::of).collect();
    let macs: Vec<RefreshView> =
        admin.state.gateway.sessions.refresh_keys().list().into_iter().map(RefreshView::of).collect();
    Json(json!({ "keys": keys, "refresh_keys": macs })).into_response()
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

/// A refresh key as it is shown: its id is a hash and stands in tokens. The time is null when it is not known.
#[derive(Serialize)]
struct RefreshView {
    id: String,
    state: &'static str,
    created_at: Option<String>,
}

impl RefreshView {
    fn of(key: RefreshKeyInfo) -> Self {
        Self {
            id: refresh_keys::name(key.id),
            state: key.state.as_str(),
            created_at: key.created_at.map(|time| time.to_string()),
        }
    }
}
