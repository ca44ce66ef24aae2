//! Any bytes as the bodies of the endpoints that take one.

use axum::body::Bytes;

use super::input::parse;
use crate::token::json::Object;

/// Nothing but a JSON object is taken, and no name in it is there twice.
pub(crate) fn bodies(data: &[u8]) {
    let bytes = Bytes::copy_from_slice(data);
    let taken = [
        parse::<super::sessions::SignIn>(&bytes).is_ok(),
        parse::<super::sessions::End>(&bytes).is_ok(),
        parse::<super::revocations::Revoke>(&bytes).is_ok(),
        parse::<super::keys::Rotate>(&bytes).is_ok(),
    ];
    if taken.contains(&true) {
        assert!(Object::parse(data).is_ok(), "taken, but not by the strict reader");
        assert!(serde_json::from_slice::<serde_json::Value>(data).is_ok_and(|value| value.is_object()));
    }
}
