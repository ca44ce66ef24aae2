//! The limits of a route, counted on the way to its answer and told with it.

use std::time::Instant;

use http::request::Parts;

use crate::limiter::{Exceeded, RouteLimits, seconds};
use crate::reject::{Reason, Rejection};
use crate::telemetry::access::AccessEntry;

/// Counts a request by its client's address, before its token is looked at.
pub(super) fn before_identity(limits: &RouteLimits, entry: &mut AccessEntry) -> Result<(), Rejection> {
    let mut state = String::new();
    let taken = limits.take_address(entry.client, Instant::now(), &mut state);
    entry.answer_fields().limits = Some((limits.policy().clone(), state));
    taken.map_err(refusal)
}

/// Counts a request by all else, once it is known who calls.
pub(super) fn after_identity(limits: &RouteLimits, parts: &Parts, entry: &mut AccessEntry) -> Result<(), Rejection> {
    let (policy, mut state) =
        entry.answer_fields().limits.take().unwrap_or_else(|| (limits.policy().clone(), String::new()));
    let taken = limits.take_others(entry.client, entry.caller(), &parts.headers, Instant::now(), &mut state);
    entry.answer_fields().limits = Some((policy, state));
    taken.map_err(refusal)
}

fn refusal(exceeded: Exceeded) -> Rejection {
    Rejection { retry_after: Some(seconds(exceeded.retry_in).max(1)), ..Rejection::from(Reason::RateLimited) }
}
