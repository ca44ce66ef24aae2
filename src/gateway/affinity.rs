//! What a request's server is chosen by, where one value is to have one server.

use http::header::{HeaderName, HeaderValue};

use crate::config::HashBy;
use crate::ids::SessionName;
use crate::telemetry::access::AccessEntry;
use crate::upstream::key_of;

/// The key of a request. `value` is that of a header which the upstream gets: one that a client may not send decides
/// nothing. `None` when it has no such value.
pub(super) fn key<'h>(
    by: &HashBy,
    value: impl FnOnce(&HeaderName) -> Option<&'h HeaderValue>,
    entry: &AccessEntry,
) -> Option<u64> {
    let identity = || entry.caller();
    match by {
        HashBy::Session => identity().map(|identity| match &identity.session {
            SessionName::Own(id) => key_of(id.as_bytes()),
            SessionName::Other(name) => key_of(name.as_bytes()),
        }),
        HashBy::User => identity().map(|identity| key_of(identity.user.as_str().as_bytes())),
        HashBy::Address => Some(match entry.client {
            std::net::IpAddr::V4(address) => key_of(&address.octets()),
            std::net::IpAddr::V6(address) => key_of(&address.octets()),
        }),
        HashBy::Header(name) => value(name).map(|value| key_of(value.as_bytes())),
    }
}
