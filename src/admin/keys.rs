//! Own signing keys: look and rotate.

use std::sync::Arc;

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
use crate::token::signing::{KeyInfo, KeyState, PUBLISHED_BEFORE_USE, SigningKeys, SigningKeysError};

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
        let gateway = &admin.state.gateway;
        let Some(session) = &gateway.config.session else {
            let message = "the configuration has no [session]: no key signs anything";
            return Err(Refusal::because(AdminReason::NoSessionSection, message));
        };
        // One at a time: between two rotations at once the verifier would lack the key that the second one takes.
        let _rotating = admin.rotating.lock().await;
        let now = UnixTime::now();
        if !force {
            check_published(signing, now)?;
        }
        // Before, so that no token is signed with a key that the verifier was not told of, whatever was missed until
        // now. It knows the next key from then on, as others do from the published document.
        signing.publish_to(&gateway.verifier);
        let (keys, token_ttl) = (signing.clone(), session.access_token_ttl);
        // It writes files and waits for the disk.
        let rotated = tokio::task::spawn_blocking(move || keys.rotate(now, token_ttl)).await;
        // After, for the newly made next key; in case of an error for what is in use as before.
        signing.publish_to(&gateway.verifier);
        let rotated = match rotated {
            Ok(outcome) => outcome.map_err(not_rotated)?,
            Err(panicked) => {
                tracing::error!(error = %panicked, "a rotation of the signing keys broke off");
                return Err(AdminReason::KeysNotWritten.into());
            }
        };
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

/// Whether all who keep the key document have one with the next key by now.
fn check_published(signing: &SigningKeys, now: UnixTime) -> Result<(), Refusal> {
    let next = signing.list().into_iter().find(|key| key.state == KeyState::Next);
    // Without a next key there is nothing to rotate: the reason for that is found where it is tried.
    let Some(created_at) = next.and_then(|key| key.created_at) else { return Ok(()) };
    let Some(left) = PUBLISHED_BEFORE_USE.checked_sub(now.since(created_at)).filter(|left| !left.is_zero()) else {
        return Ok(());
    };
    let seconds = left.as_millis().div_ceil(1000);
    let message =
        format!("the next key is not known everywhere before {seconds} s have passed; force=true rotates now");
    let refusal = Refusal::because(AdminReason::KeyNotYetPublished, message);
    Err(refusal.retry_after(u64::try_from(seconds).unwrap_or(u64::MAX)))
}

fn not_rotated(error: SigningKeysError) -> Refusal {
    match error {
        SigningKeysError::KeysFromFiles | SigningKeysError::ReadOnly => {
            Refusal::because(AdminReason::KeysFromFiles, error.to_string())
        }
        _ => {
            tracing::error!(error = %chain(&error), "cannot rotate the signing keys");
            AdminReason::KeysNotWritten.into()
        }
    }
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
