//! Refusals: the only place that picks an error status.
//!
//! [`Reason`] is the closed list of words; each has one status. Nothing internal and no claim of an unverified token gets
//! into an answer.

use bytes::Bytes;
use http::header::{self, HeaderName, HeaderValue};
use http::{Response, StatusCode};

use crate::http1::Malformed;
use crate::revocation::EndReason;
use crate::route::RouteError;
use crate::token::TokenError;

/// An enum of words, each with one status.
macro_rules! reasons {
    ($(#[$about:meta])* $vis:vis enum $name:ident {
        $($(#[$doc:meta])* $variant:ident = $status:literal $word:literal;)*
    }) => {
        $(#[$about])*
        #[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
        $vis enum $name {
            $($(#[$doc])* $variant,)*
        }

        impl $name {
            /// Every reason, in the order of their discriminants.
            $vis const ALL: &[Self] = &[$(Self::$variant,)*];

            /// The word.
            $vis const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $word,)* }
            }

            /// The status it is answered with.
            $vis const fn status(self) -> http::StatusCode {
                let code: u16 = match self { $(Self::$variant => $status,)* };
                match http::StatusCode::from_u16(code) {
                    Ok(status) => status,
                    Err(_) => http::StatusCode::INTERNAL_SERVER_ERROR,
                }
            }
        }

        // A refusal that says nothing is wrong would be taken for an answer.
        const _: () = {
            let mut at = 0;
            while at < $name::ALL.len() {
                assert!($name::ALL[at].status().as_u16() >= 400);
                at += 1;
            }
        };
    };
}
pub(crate) use reasons;

reasons! {
    /// Why a request was not answered by an upstream, or not well. The word is in the answer, the log and the metrics.
    pub enum Reason {
        /// No `Authorization` header on a route that asks for an identity.
        MissingToken = 401 "missing_token";
        /// Not exactly one `Authorization: Bearer`.
        MalformedAuthorization = 401 "malformed_authorization";
        /// Longer than `limits.token_bytes`.
        TokenTooLarge = 401 "token_too_large";
        /// Not a strict compact JWS.
        MalformedToken = 401 "malformed_token";
        /// Of an issuer that is not trusted, or not on this route.
        UnknownIssuer = 401 "unknown_issuer";
        /// Signed with a key the issuer does not publish.
        UnknownKey = 401 "unknown_key";
        /// An algorithm that is not the key's.
        WrongAlgorithm = 401 "wrong_algorithm";
        /// The signature does not fit.
        BadSignature = 401 "bad_signature";
        /// For somebody else.
        WrongAudience = 401 "wrong_audience";
        /// Past its `exp`.
        TokenExpired = 401 "token_expired";
        /// Before its `nbf` or `iat`.
        TokenNotYetValid = 401 "token_not_yet_valid";
        /// The session was signed out.
        SignedOut = 401 "signed_out";
        /// The session was ended through the admin API.
        SecurityAction = 401 "security_action";
        /// The session was idle for too long.
        SessionIdle = 401 "session_idle";
        /// The session is past its maximum lifetime.
        SessionMaxAge = 401 "session_max_age";
        /// The user signed in elsewhere and has no room for this session.
        SignedInElsewhere = 401 "signed_in_elsewhere";
        /// A refresh token of the session was used twice.
        RefreshReused = 401 "refresh_reused";
        /// The session ended, longer ago than the reason is kept.
        SessionEnded = 401 "session_ended";
        /// The keys of the token's issuer were never loaded.
        KeysUnavailable = 503 "keys_unavailable";
        /// The store did not answer.
        StoreUnavailable = 503 "store_unavailable";
        /// Ends of sessions made by other gateways are not known in time, and the route refuses then.
        RevocationsStale = 503 "revocations_stale";
        /// The request line or a header field is not written as RFC 9112 or RFC 9113 says: line ends, white space, bytes.
        MalformedRequest = 400 "malformed_request";
        /// `Host` is missing, repeated, malformed, or not what `:authority` or the target says.
        BadHost = 400 "bad_host";
        /// The path has a spelling that is always refused.
        BadPath = 400 "bad_path";
        /// The path has more than one reading.
        AmbiguousPath = 400 "ambiguous_path";
        /// The request target is no path.
        BadTarget = 400 "bad_target";
        /// `Content-Length` or `Transfer-Encoding` is repeated, malformed or contradictory.
        BadFraming = 400 "bad_framing";
        /// The client broke its body off, or broke its chunks.
        BodyBroken = 400 "body_broken";
        /// The client's body stalled.
        BodyTimeout = 408 "body_timeout";
        /// The body is longer than allowed.
        BodyTooLarge = 413 "body_too_large";
        /// The target is longer than `limits.uri_bytes`.
        UriTooLong = 414 "uri_too_long";
        /// The header is larger than `limits.header_bytes` or has more fields than `limits.header_count`.
        HeaderTooLarge = 431 "header_too_large";
        /// No route has this host and path.
        NoRoute = 404 "no_route";
        /// The route has other methods.
        MethodNotAllowed = 405 "method_not_allowed";
        /// `CONNECT` and `TRACE` are never forwarded; a transfer coding other than `chunked` is not understood.
        NotImplemented = 501 "not_implemented";
        /// No server of the upstream could be connected to.
        UpstreamUnreachable = 502 "upstream_unreachable";
        /// The upstream closed or broke its response.
        UpstreamBroken = 502 "upstream_broken";
        /// The upstream did not answer in time.
        UpstreamTimeout = 504 "upstream_timeout";
        /// Checks found no server of the upstream well.
        NoHealthyServer = 503 "no_healthy_server";
        /// All connections to the upstream are in use, and so is the queue before them.
        UpstreamOverloaded = 503 "upstream_overloaded";
        /// The client went away before the answer (never sent; for the log).
        ClientGone = 499 "client_gone";
        /// The form or JSON of an endpoint of ours is malformed.
        InvalidRequest = 400 "invalid_request";
        /// A refresh token that is none of ours.
        InvalidGrant = 400 "invalid_grant";
        /// A `grant_type` other than `refresh_token`.
        UnsupportedGrantType = 400 "unsupported_grant_type";
        /// A preflight of a page that may not call.
        OriginNotAllowed = 403 "origin_not_allowed";
        /// More requests than a `rate_limit` of the route.
        RateLimited = 429 "rate_limited";
        /// More refreshes than `limits.refreshes_per_session` or `limits.refreshes_per_address`.
        TooManyRefreshes = 429 "too_many_refreshes";
        /// More logouts of one session than `limits.refreshes_per_session`, or from one address with tokens that are none of
        /// ours than `limits.refreshes_per_address`.
        TooManyLogouts = 429 "too_many_logouts";
    }
}

impl Reason {
    /// Its place in [`Self::ALL`].
    pub const fn index(self) -> usize {
        self as usize
    }
}

impl From<TokenError> for Reason {
    fn from(error: TokenError) -> Self {
        match error {
            TokenError::MissingToken => Self::MissingToken,
            TokenError::MalformedAuthorization => Self::MalformedAuthorization,
            TokenError::TokenTooLarge => Self::TokenTooLarge,
            TokenError::MalformedToken => Self::MalformedToken,
            TokenError::UnknownIssuer => Self::UnknownIssuer,
            TokenError::UnknownKey => Self::UnknownKey,
            TokenError::WrongAlgorithm => Self::WrongAlgorithm,
            TokenError::BadSignature => Self::BadSignature,
            TokenError::WrongAudience => Self::WrongAudience,
            TokenError::TokenExpired => Self::TokenExpired,
            TokenError::TokenNotYetValid => Self::TokenNotYetValid,
            TokenError::KeysUnavailable => Self::KeysUnavailable,
        }
    }
}

impl From<EndReason> for Reason {
    fn from(reason: EndReason) -> Self {
        match reason {
            EndReason::SignedOut => Self::SignedOut,
            EndReason::SecurityAction => Self::SecurityAction,
            EndReason::SessionIdle => Self::SessionIdle,
            EndReason::SessionMaxAge => Self::SessionMaxAge,
            EndReason::SignedInElsewhere => Self::SignedInElsewhere,
            EndReason::RefreshReused => Self::RefreshReused,
            EndReason::Ended => Self::SessionEnded,
        }
    }
}

impl From<Malformed> for Reason {
    fn from(fault: Malformed) -> Self {
        match fault {
            Malformed::Target => Self::BadTarget,
            Malformed::Framing => Self::BadFraming,
            Malformed::Chunk => Self::BodyBroken,
            Malformed::NotImplemented => Self::NotImplemented,
            Malformed::TooLarge => Self::HeaderTooLarge,
            Malformed::TooLong => Self::UriTooLong,
            Malformed::RequestLine | Malformed::Field | Malformed::LineEnd => Self::MalformedRequest,
        }
    }
}

/// A refusal with what its answer needs beyond the reason.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Rejection {
    /// Why.
    pub reason: Reason,
    /// The value of `Allow` of a 405.
    pub allow: Option<HeaderValue>,
    /// Seconds of `Retry-After`.
    pub retry_after: Option<u32>,
}

impl<R: Into<Reason>> From<R> for Rejection {
    fn from(reason: R) -> Self {
        let reason = reason.into();
        // The only 503s are outages that pass.
        let retry_after = (reason.status() == StatusCode::SERVICE_UNAVAILABLE).then_some(1);
        Self { reason, allow: None, retry_after }
    }
}

impl From<RouteError> for Rejection {
    fn from(error: RouteError) -> Self {
        match error {
            RouteError::Path(_) => Reason::BadPath.into(),
            RouteError::AmbiguousPath => Reason::AmbiguousPath.into(),
            RouteError::NotFound => Reason::NoRoute.into(),
            RouteError::MethodNotAllowed(allow) => Self { allow: Some(allow), ..Reason::MethodNotAllowed.into() },
        }
    }
}

impl Rejection {
    /// The answer on a route: a JSON body with the reason and the request's id. The [`Reason`] is among its extensions,
    /// for the log.
    pub fn to_response(&self, request_id: &str) -> Response<Bytes> {
        self.answer(general_error(self.reason), request_id)
    }

    /// The answer of an OAuth endpoint: 400 and the error words of RFC 6749 §5.2 for what has one.
    pub fn to_oauth_response(&self, request_id: &str) -> Response<Bytes> {
        match self.reason {
            Reason::InvalidRequest | Reason::InvalidGrant | Reason::UnsupportedGrantType => {
                self.answer(self.reason.as_str(), request_id)
            }
            _ => self.answer(general_error(self.reason), request_id),
        }
    }

    /// The answer to a gRPC call: its client looks for a status among the trailers, here those that come alone, and takes
    /// anything else for a broken server.
    pub fn to_grpc_response(&self, request_id: &str) -> Response<Bytes> {
        let mut response = Response::new(Bytes::new());
        response.extensions_mut().insert(self.reason);
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
        headers.insert(GRPC_STATUS, HeaderValue::from(grpc_status(self.reason)));
        headers.insert(GRPC_MESSAGE, HeaderValue::from_static(self.reason.as_str()));
        if let Ok(id) = HeaderValue::from_str(request_id) {
            headers.insert(crate::headers::X_REQUEST_ID, id);
        }
        response
    }

    fn answer(&self, error: &str, request_id: &str) -> Response<Bytes> {
        // The words are ours and a request id has passed its check: nothing here needs escaping.
        let body = format!(
            "{{\"error\":\"{error}\",\"reason\":\"{}\",\"request_id\":\"{request_id}\"}}\n",
            self.reason.as_str()
        );
        let mut response = json(self.reason.status(), Bytes::from(body));
        response.extensions_mut().insert(self.reason);
        let headers = response.headers_mut();
        if let Some(challenge) = challenge(self.reason) {
            headers.insert(header::WWW_AUTHENTICATE, challenge);
        }
        if let Some(allow) = &self.allow {
            headers.insert(header::ALLOW, allow.clone());
        }
        if let Some(seconds) = self.retry_after {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        if let Ok(id) = HeaderValue::from_str(request_id) {
            headers.insert(crate::headers::X_REQUEST_ID, id);
        }
        response
    }
}

/// A JSON answer that nobody may keep.
pub fn json(status: StatusCode, body: Bytes) -> Response<Bytes> {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    // RFC 6749 §5.1 asks for both.
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(header::PRAGMA, HeaderValue::from_static("no-cache"));
    response
}

/// The answer of a refused refresh: `invalid_grant` with the reason the session ended for (RFC 6749 §5.2).
pub fn invalid_grant(reason: EndReason, request_id: &str) -> Response<Bytes> {
    let reason = Reason::from(reason);
    let body =
        format!("{{\"error\":\"invalid_grant\",\"reason\":\"{}\",\"request_id\":\"{request_id}\"}}\n", reason.as_str());
    let mut response = json(StatusCode::BAD_REQUEST, Bytes::from(body));
    response.extensions_mut().insert(reason);
    response
}

/// The `error` member by status.
fn general_error(reason: Reason) -> &'static str {
    match reason {
        Reason::MissingToken => "unauthorized",
        _ => match reason.status().as_u16() {
            400 => "invalid_request",
            401 => "invalid_token",
            403 => "forbidden",
            404 => "not_found",
            405 => "method_not_allowed",
            408 => "request_timeout",
            413 => "content_too_large",
            414 => "uri_too_long",
            429 => "too_many_requests",
            431 => "header_too_large",
            501 => "not_implemented",
            502 => "bad_gateway",
            503 => "temporarily_unavailable",
            504 => "gateway_timeout",
            _ => "error",
        },
    }
}

const GRPC_STATUS: HeaderName = HeaderName::from_static("grpc-status");
const GRPC_MESSAGE: HeaderName = HeaderName::from_static("grpc-message");

/// The gRPC status code for a refusal: as the protocol maps HTTP statuses, but for those that a client of the gateway can
/// tell apart better.
fn grpc_status(reason: Reason) -> u16 {
    match reason.status().as_u16() {
        // INVALID_ARGUMENT
        400 => 3,
        // UNAUTHENTICATED
        401 => 16,
        // PERMISSION_DENIED
        403 => 7,
        // UNIMPLEMENTED
        404 | 405 | 501 => 12,
        // DEADLINE_EXCEEDED
        408 | 504 => 4,
        // RESOURCE_EXHAUSTED
        413 | 414 | 429 | 431 => 8,
        // CANCELLED
        499 => 1,
        // UNAVAILABLE: try again
        502 | 503 => 14,
        // UNKNOWN
        _ => 2,
    }
}

/// The challenge of a 401 (RFC 6750 §3): with no error code when the request had no token at all (§3.1).
fn challenge(reason: Reason) -> Option<HeaderValue> {
    if reason.status() != StatusCode::UNAUTHORIZED {
        return None;
    }
    if reason == Reason::MissingToken {
        return Some(HeaderValue::from_static("Bearer"));
    }
    let text = format!("Bearer error=\"invalid_token\", error_description=\"{}\"", reason.as_str());
    HeaderValue::from_str(&text).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_has_a_word_and_a_status_of_its_own() {
        for (index, reason) in Reason::ALL.iter().enumerate() {
            assert_eq!(reason.index(), index);
            assert!(reason.status().as_u16() >= 400, "{reason:?}");
            assert_ne!(reason.status(), StatusCode::INTERNAL_SERVER_ERROR, "{reason:?}");
            assert!(Reason::ALL.iter().filter(|other| other.as_str() == reason.as_str()).count() == 1, "{reason:?}");
        }
    }

    #[test]
    fn a_missing_token_is_challenged_without_an_error_code() {
        let response = Rejection::from(Reason::MissingToken).to_response("r1");
        assert_eq!(response.status(), 401);
        assert_eq!(response.headers()["www-authenticate"], "Bearer");
        assert_eq!(response.headers()["x-request-id"], "r1");
        assert_eq!(
            response.body(),
            "{\"error\":\"unauthorized\",\"reason\":\"missing_token\",\"request_id\":\"r1\"}\n"
        );
    }

    #[test]
    fn an_ended_session_is_challenged_with_its_reason() {
        let response = Rejection::from(EndReason::SignedOut).to_response("r1");
        assert_eq!(
            response.headers()["www-authenticate"],
            "Bearer error=\"invalid_token\", error_description=\"signed_out\""
        );
        assert_eq!(response.headers()["cache-control"], "no-store");
    }

    #[test]
    fn a_grpc_call_is_told_in_its_own_terms() {
        let response = Rejection::from(Reason::MissingToken).to_grpc_response("r1");
        assert_eq!(response.status(), 200);
        assert_eq!(
            (&response.headers()["grpc-status"], &response.headers()["grpc-message"]),
            (&"16".parse().unwrap(), &"missing_token".parse().unwrap())
        );
        let status = |reason| grpc_status(reason);
        assert_eq!(status(Reason::UpstreamUnreachable), 14);
        assert_eq!(status(Reason::StoreUnavailable), 14);
        assert_eq!(status(Reason::UpstreamTimeout), 4);
        assert!(Reason::ALL.iter().all(|reason| (1..=16).contains(&status(*reason))), "never 0, which is OK");
    }

    #[test]
    fn an_outage_says_when_to_come_back_and_is_no_401() {
        let response = Rejection::from(Reason::StoreUnavailable).to_response("r1");
        assert_eq!((response.status().as_u16(), &response.headers()["retry-after"]), (503, &HeaderValue::from(1)));
        assert!(!response.headers().contains_key("www-authenticate"));
    }
}
