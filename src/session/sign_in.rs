//! What a sign-in may ask for.

use serde_json::{Map, Value};

use super::store::StoreError;
use crate::ids::UserId;
use crate::token::mint::RESERVED_CLAIMS;

/// Most bytes of a label.
pub const MAX_LABEL_BYTES: usize = 128;
/// Most bytes of the extra claims as JSON: they travel with every request.
pub const MAX_CLAIMS_BYTES: usize = 4096;
/// Most levels of the extra claims, the object itself being the first. Our own verifier bounds nesting too.
pub const MAX_CLAIMS_DEPTH: usize = 5;

/// A session to be.
#[derive(Clone, Debug)]
pub struct NewSession {
    /// Whose.
    pub user: UserId,
    /// What the user knows it by, such as the device: 1 to [`MAX_LABEL_BYTES`] bytes without control characters.
    pub label: Option<String>,
    /// More claims of its access tokens: at most [`MAX_CLAIMS_BYTES`] as JSON, [`MAX_CLAIMS_DEPTH`] levels, none of
    /// [`RESERVED_CLAIMS`].
    pub claims: Option<Map<String, Value>>,
}

/// Why nobody was signed in.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SignInError {
    /// The caller's mistake.
    #[error("label must have 1 to {MAX_LABEL_BYTES} bytes and no control characters")]
    BadLabel,
    /// The caller's mistake.
    #[error("claims are longer than {MAX_CLAIMS_BYTES} bytes of JSON")]
    ClaimsTooLong,
    /// The caller's mistake.
    #[error("claims are nested more than {MAX_CLAIMS_DEPTH} levels deep")]
    ClaimsTooDeep,
    /// The caller's mistake: these say what Portcullis itself vouches for.
    #[error("claim \"{0}\" is set by Portcullis")]
    ReservedClaim(&'static str),
    /// The store could not be asked.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Without random bytes there are no session ids.
    #[error("no random bytes from the system")]
    NoRandomness,
}

/// Whether `new` may become a session.
pub(super) fn check(new: &NewSession) -> Result<(), SignInError> {
    if let Some(label) = &new.label
        && (label.is_empty() || label.len() > MAX_LABEL_BYTES || label.chars().any(char::is_control))
    {
        return Err(SignInError::BadLabel);
    }
    let Some(claims) = &new.claims else {
        return Ok(());
    };
    if let Some(reserved) = RESERVED_CLAIMS.into_iter().find(|name| claims.contains_key(*name)) {
        return Err(SignInError::ReservedClaim(reserved));
    }
    // The depth first: writing JSON recurses.
    if claims.values().any(|value| deeper_than(value, MAX_CLAIMS_DEPTH - 1)) {
        return Err(SignInError::ClaimsTooDeep);
    }
    let bytes = serde_json::to_vec(claims).map_or(usize::MAX, |json| json.len());
    if bytes > MAX_CLAIMS_BYTES { Err(SignInError::ClaimsTooLong) } else { Ok(()) }
}

fn deeper_than(value: &Value, levels: usize) -> bool {
    let Some(below) = levels.checked_sub(1) else {
        return matches!(value, Value::Array(_) | Value::Object(_));
    };
    match value {
        Value::Array(values) => values.iter().any(|value| deeper_than(value, below)),
        Value::Object(members) => members.values().any(|value| deeper_than(value, below)),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn check_with(label: Option<&str>, claims: Option<Value>) -> Result<(), String> {
        let claims = claims.map(|claims| claims.as_object().unwrap().clone());
        let new = NewSession { user: UserId::parse("u").unwrap(), label: label.map(Into::into), claims };
        check(&new).map_err(|error| error.to_string())
    }

    #[test]
    fn labels_are_short_and_printable() {
        for good in ["Zoë's phone", &"a".repeat(128)] {
            assert_eq!(check_with(Some(good), None), Ok(()));
        }
        for bad in ["", "a\nb", "\u{0}", "\u{85}", &"a".repeat(129)] {
            let error = check_with(Some(bad), None).unwrap_err();
            assert_eq!(error, "label must have 1 to 128 bytes and no control characters");
        }
    }

    #[test]
    fn claims_are_bounded_and_none_is_ours() {
        let fits = "x".repeat(MAX_CLAIMS_BYTES - r#"{"a":""}"#.len());
        assert_eq!(check_with(None, Some(json!({ "a": fits }))), Ok(()));
        let error = check_with(None, Some(json!({ "a": format!("{fits}x") }))).unwrap_err();
        assert_eq!(error, "claims are longer than 4096 bytes of JSON");

        assert_eq!(check_with(None, Some(json!({"a": [[[[1]]]]}))), Ok(()));
        let error = check_with(None, Some(json!({"a": [[[[[]]]]]}))).unwrap_err();
        assert_eq!(error, "claims are nested more than 5 levels deep");

        for name in RESERVED_CLAIMS {
            let error = check_with(None, Some(json!({ name: 1 }))).unwrap_err();
            assert_eq!(error, format!("claim \"{name}\" is set by Portcullis"));
        }
    }
}
