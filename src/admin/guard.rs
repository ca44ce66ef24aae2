//! What holds for every request: the admin token, a deadline, and answers that nobody keeps.

use std::sync::Arc;
use std::time::{Duration, Instant};

use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::digest::{Digest, SHA256, digest};
use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use http::HeaderMap;
use http::header::{self, HeaderValue};

use super::Admin;
use super::listener::Client;
use super::refusal::{AdminReason, Refusal};

/// From the header of a request to the header of its answer.
pub(super) const REQUEST_DEADLINE: Duration = Duration::from_secs(10);

/// The hash of a token. Hashes have one length, so comparing them says nothing about the length of the token either.
pub(super) struct TokenDigest(Digest);

impl TokenDigest {
    pub(super) fn of(token: &[u8]) -> Self {
        Self(digest(&SHA256, token))
    }

    /// In a time that does not depend on where they differ.
    fn is(&self, other: &Self) -> bool {
        verify_slices_are_equal(self.0.as_ref(), other.0.as_ref()).is_ok()
    }
}

impl std::fmt::Debug for TokenDigest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("[redacted]")
    }
}

/// Asks for the token, then has the request answered in time.
pub(super) async fn guard(State(admin): State<Arc<Admin>>, request: Request, next: Next) -> Response {
    // The raw path, as the router matches it: any other spelling of an open path is not open.
    let asks = !admin.open.contains(&request.uri().path());
    let client = request.extensions().get::<Client>().map(|client| client.0);
    if let Some(wait) = client.filter(|_| asks).and_then(|client| admin.guesses.wait(client.ip(), Instant::now())) {
        tokio::time::sleep(wait).await;
    }
    let checked = if asks { check(request.headers(), &admin.token) } else { Ok(()) };
    let mut response = match checked {
        Ok(()) => match tokio::time::timeout(REQUEST_DEADLINE, next.run(request)).await {
            Ok(response) => response,
            Err(_) => Refusal::from(AdminReason::DeadlineExceeded).into_response(),
        },
        Err(reason) => {
            let guessed = client.filter(|_| reason == AdminReason::WrongToken);
            if guessed.is_none_or(|client| admin.guesses.count(client.ip(), Instant::now())) {
                tracing::warn!(?client, reason = reason.as_str(), "an admin request without the admin token");
            }
            Refusal::from(reason).into_response()
        }
    };
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

/// Whether there is exactly one `Authorization: Bearer` with the admin token, which may have any printable bytes.
fn check(headers: &HeaderMap, token: &TokenDigest) -> Result<(), AdminReason> {
    let mut values = headers.get_all(header::AUTHORIZATION).iter();
    let value = values.next().ok_or(AdminReason::MissingToken)?.as_bytes();
    if values.next().is_some() {
        return Err(AdminReason::MalformedAuthorization);
    }
    let (scheme, rest) = value.split_at_checked(SCHEME.len()).ok_or(AdminReason::MalformedAuthorization)?;
    let spaces = rest.iter().take_while(|byte| **byte == b' ').count();
    if !scheme.eq_ignore_ascii_case(SCHEME) || spaces == 0 || spaces == rest.len() {
        return Err(AdminReason::MalformedAuthorization);
    }
    if token.is(&TokenDigest::of(&rest[spaces..])) { Ok(()) } else { Err(AdminReason::WrongToken) }
}

const SCHEME: &[u8] = b"Bearer";
