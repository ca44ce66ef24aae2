//! Refusals of the admin listener: a closed list of words, each with one status.

use axum::response::{IntoResponse, Response};
use http::header::{self, HeaderValue};
use http::{HeaderMap, StatusCode};

use crate::causes::chain;
use crate::reject::reasons;
use crate::session::StoreError;

reasons! {
    /// Why the admin listener did not do what was asked. The word is the `reason` of the answer.
    pub(crate) enum AdminReason {
        /// No `Authorization` header.
        MissingToken = 401 "missing_token";
        /// Not exactly one `Authorization: Bearer`.
        MalformedAuthorization = 401 "malformed_authorization";
        /// Not the admin token.
        WrongToken = 401 "wrong_token";
        /// There is no such path.
        NoSuchPath = 404 "no_such_path";
        /// There is no such session, or not any more.
        NoSuchSession = 404 "no_such_session";
        /// The path has other methods.
        MethodNotAllowed = 405 "method_not_allowed";
        /// The body is not `application/json`.
        NotJson = 415 "unsupported_media_type";
        /// The body is not strict JSON.
        MalformedJson = 400 "malformed_json";
        /// A member of the body is missing, unknown or not what it must be.
        InvalidField = 400 "invalid_field";
        /// A part of the path or query is missing, unknown or not what it must be.
        InvalidParameter = 400 "invalid_parameter";
        /// The body was broken off.
        BodyBroken = 400 "body_broken";
        /// The body took too long.
        BodyTimeout = 408 "body_timeout";
        /// The body is longer than 64 KiB.
        BodyTooLarge = 413 "body_too_large";
        /// Without `[session]` nothing is signed here.
        NoSessionSection = 409 "no_session_section";
        /// The next key may not be known everywhere yet.
        KeyNotYetPublished = 409 "key_not_yet_published";
        /// The keys were given as files.
        KeysFromFiles = 409 "keys_from_files";
        /// A fault of the gateway's own.
        Internal = 500 "internal_error";
        /// The new keys could not be written; the old ones are in use as before.
        KeysNotWritten = 503 "keys_not_written";
        /// The store did not answer: whether the change was made is unknown.
        StoreUnavailable = 503 "store_unavailable";
        /// The answer took too long: whether the change was made is unknown.
        DeadlineExceeded = 503 "deadline_exceeded";
    }
}

/// An answer that is an error.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Refusal {
    reason: AdminReason,
    /// For people: which field and what is wrong with it. The caller's own words may stand in it, no one else's.
    message: Option<String>,
    /// Seconds of `Retry-After`.
    retry_after: Option<u64>,
}

impl From<AdminReason> for Refusal {
    fn from(reason: AdminReason) -> Self {
        // The only 503s are outages that pass.
        let retry_after = (reason.status() == StatusCode::SERVICE_UNAVAILABLE).then_some(1);
        Self { reason, message: None, retry_after }
    }
}

impl Refusal {
    /// With words for people.
    pub(super) fn because(reason: AdminReason, message: impl Into<String>) -> Self {
        Self { message: Some(message.into()), ..reason.into() }
    }

    /// A member of the body that is not what it must be.
    pub(super) fn field(name: &str, fault: impl std::fmt::Display) -> Self {
        Self::because(AdminReason::InvalidField, format!("{name}: {fault}"))
    }

    /// A part of the path or query that is not what it must be.
    pub(super) fn parameter(name: &str, fault: impl std::fmt::Display) -> Self {
        Self::because(AdminReason::InvalidParameter, format!("{name}: {fault}"))
    }

    /// With a time after which the same request would do.
    pub(super) fn retry_after(self, seconds: u64) -> Self {
        Self { retry_after: Some(seconds), ..self }
    }
}

/// A store that fails is never the session's fault: 503, not 404.
impl From<StoreError> for Refusal {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::BadCursor => Self::parameter("cursor", error),
            _ => {
                tracing::warn!(error = %chain(&error), "an admin request failed: the store did not answer");
                AdminReason::StoreUnavailable.into()
            }
        }
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        #[derive(serde::Serialize)]
        struct Body {
            error: &'static str,
            reason: &'static str,
            #[serde(skip_serializing_if = "Option::is_none")]
            message: Option<String>,
        }
        let Self { reason, message, retry_after } = self;
        let mut headers = HeaderMap::new();
        if reason.status() == StatusCode::UNAUTHORIZED {
            headers.insert(header::WWW_AUTHENTICATE, challenge(reason));
        }
        if let Some(seconds) = retry_after {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        let body = Body { error: general_error(reason), reason: reason.as_str(), message };
        (reason.status(), headers, axum::Json(body)).into_response()
    }
}

/// RFC 6750 §3, with no error code when the request had no token at all (§3.1).
fn challenge(reason: AdminReason) -> HeaderValue {
    match reason {
        AdminReason::MissingToken => HeaderValue::from_static("Bearer"),
        _ => HeaderValue::from_static("Bearer error=\"invalid_token\""),
    }
}

/// The `error` member by status: the words of the public endpoints.
fn general_error(reason: AdminReason) -> &'static str {
    match reason {
        AdminReason::MissingToken => "unauthorized",
        _ => match reason.status().as_u16() {
            401 => "invalid_token",
            404 => "not_found",
            405 => "method_not_allowed",
            408 => "request_timeout",
            409 => "conflict",
            413 => "content_too_large",
            415 => "unsupported_media_type",
            500 => "internal_error",
            503 => "temporarily_unavailable",
            _ => "invalid_request",
        },
    }
}
