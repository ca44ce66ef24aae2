//! What a route makes of a request that may pass, besides sending it on; and of an answer that is no refusal.

use bytes::Bytes;
use http::header::HeaderMap;
use http::{Response, Uri};

use crate::headers;
use crate::reject::{Reason, Rejection};
use crate::route::{Action, Forward, Route};
use crate::telemetry::access::AccessEntry;

/// Where a request goes.
pub(crate) enum Way<'r> {
    /// To an upstream.
    Forward(&'r Forward),
    /// Nowhere: this is the answer.
    Answered(Response<Bytes>),
}

/// Where the route sends a request for `target`, which becomes what the upstream is asked for.
///
/// # Errors
/// When the rewritten path is not canonical, or a redirect's URL cannot be written.
pub(crate) fn way<'r>(route: &'r Route, target: &mut Uri) -> Result<Way<'r>, Rejection> {
    match &route.action {
        Action::Forward(forward) => {
            if let Some(rewrite) = &forward.rewrite {
                // Nothing is decided anew by the new path: the route was chosen by the one that was asked for.
                *target = rewrite.apply(target)?.into();
            }
            Ok(Way::Forward(forward))
        }
        Action::Redirect(redirect) => redirect.answer(target).map(Way::Answered).ok_or(Reason::BadTarget.into()),
        Action::Respond(response) => Ok(Way::Answered(Response::clone(response))),
    }
}

/// The header of an answer, as the route and the caller ask for it. `known` tells whether there is an identity.
pub(crate) fn dress(headers: &mut HeaderMap, route: &Route, known: bool) {
    route.response_headers.apply(headers);
    if known {
        headers::keep_private(headers);
    }
}

/// Refuses a request for want of an identity. On a route that only observes, it is noted that it would be refused, and
/// the request goes on as nobody's.
pub(crate) fn refuse(route: &Route, rejection: Rejection, entry: &mut AccessEntry) -> Result<(), Rejection> {
    if !route.observes {
        return Err(rejection);
    }
    entry.would_refuse = Some(rejection.reason);
    Ok(())
}
