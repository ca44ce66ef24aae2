//! Pages of other origins: preflights are answered here, and answers say who may read them.

use bytes::Bytes;
use http::Response;
use http::request::Parts;

use crate::headers::cors::CorsPolicy;
use crate::reject::{Reason, Rejection};
use crate::telemetry::access::AccessEntry;

/// The answer to a preflight, which carries no token and is not asked for one: it says what a page may do, and does
/// nothing.
///
/// # Errors
/// [`Reason::OriginNotAllowed`]: without the fields a browser looks for, so that the page learns nothing.
pub(super) fn preflight(
    policy: &CorsPolicy,
    parts: &Parts,
    entry: &mut AccessEntry,
) -> Result<Response<Bytes>, Rejection> {
    let fields = entry.answer_fields();
    fields.grant = Some(policy.grant(&parts.headers));
    fields.preflight = true;
    policy.answer(&parts.headers).ok_or_else(|| Reason::OriginNotAllowed.into())
}

/// Notes what the answer to this request must say, whatever the answer is: a refusal that a page may not read looks to
/// it like a network that is down.
pub(super) fn note(policy: &CorsPolicy, parts: &Parts, entry: &mut AccessEntry) {
    entry.answer_fields().grant = Some(policy.grant(&parts.headers));
}
