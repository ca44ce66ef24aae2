//! Fields that the answer to a request gets, whoever gives it: an upstream, the gateway, or a refusal.

use http::header::{HeaderMap, HeaderName, HeaderValue};

use super::cors::Grant;

/// `RateLimit-Policy` (draft-ietf-httpapi-ratelimit-headers)
const RATE_LIMIT_POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");
/// `RateLimit`
const RATE_LIMIT: HeaderName = HeaderName::from_static("ratelimit");

/// What was found out on the way to the answer and must be told with it. Only made on routes that have something to
/// tell.
#[derive(Debug, Default)]
pub struct AnswerFields {
    /// Which pages may read it.
    pub grant: Option<Grant>,
    /// The request was a preflight, and the answer is that to it.
    pub preflight: bool,
    /// The value of `RateLimit-Policy`, and that of `RateLimit` so far.
    pub limits: Option<(HeaderValue, String)>,
}

impl AnswerFields {
    /// Writes them over those of the same names.
    pub fn write(self, headers: &mut HeaderMap) {
        if let Some(grant) = self.grant {
            grant.write(headers, self.preflight);
        }
        if let Some((policy, state)) = self.limits
            && let Ok(state) = HeaderValue::from_str(&state)
        {
            headers.insert(RATE_LIMIT_POLICY, policy);
            headers.insert(RATE_LIMIT, state);
        }
    }
}
