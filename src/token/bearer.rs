//! The token of a request's `Authorization` header.

use super::TokenError;

/// The token of the one `Authorization: Bearer` header: scheme in any case (RFC 9110 §11.1), one or more spaces, then a
/// `b64token` and nothing else (RFC 6750 §2.1).
///
/// `values` are the values of all `Authorization` headers in order, `max_bytes` bounds the token. Borrows from the
/// value, allocates nothing. Whether the token is a JWT is not judged here.
///
/// # Errors
/// [`TokenError::MissingToken`] with no header, [`TokenError::MalformedAuthorization`] with two, another scheme or other
/// bytes, [`TokenError::TokenTooLarge`] above `max_bytes`.
pub fn bearer_token<'a>(values: impl Iterator<Item = &'a [u8]>, max_bytes: usize) -> Result<&'a str, TokenError> {
    let mut values = values;
    let value = values.next().ok_or(TokenError::MissingToken)?;
    // Two credentials: whichever we judged, the upstream might believe the other one.
    if values.next().is_some() {
        return Err(TokenError::MalformedAuthorization);
    }
    let (scheme, rest) = value.split_at_checked(SCHEME.len()).ok_or(TokenError::MalformedAuthorization)?;
    let spaces = rest.iter().take_while(|&&b| b == b' ').count();
    let token = &rest[spaces..];
    if !scheme.eq_ignore_ascii_case(SCHEME) || spaces == 0 {
        return Err(TokenError::MalformedAuthorization);
    }
    // Before its bytes are looked at: the cost of a refusal stays bounded.
    if token.len() > max_bytes {
        return Err(TokenError::TokenTooLarge);
    }
    if !is_b64token(token) {
        return Err(TokenError::MalformedAuthorization);
    }
    match std::str::from_utf8(token) {
        Ok(token) => Ok(token),
        Err(_) => Err(TokenError::MalformedAuthorization),
    }
}

const SCHEME: &[u8] = b"Bearer";

/// `1*( ALPHA / DIGIT / "-" / "." / "_" / "~" / "+" / "/" ) *"="`
fn is_b64token(token: &[u8]) -> bool {
    let padding = token.iter().rev().take_while(|&&b| b == b'=').count();
    let body = &token[..token.len() - padding];
    // Every byte is looked at, also after a bad one: without the early exit this is vector code, and it runs on every
    // request.
    !body.is_empty() && body.iter().fold(true, |good, &b| good & is_token_byte(b))
}

/// In few comparisons, for each is made for all of the token: `-`, `.` and `/` stand before the digits, and letters of both
/// cases differ in one bit.
fn is_token_byte(b: u8) -> bool {
    matches!(b, b'-'..=b'9') | (b | 0x20).is_ascii_lowercase() | (b == b'_') | (b == b'~') | (b == b'+')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(values: &[&str]) -> Result<String, TokenError> {
        bearer_token(values.iter().map(|v| v.as_bytes()), 32).map(str::to_owned)
    }

    #[test]
    fn the_scheme_is_read_in_any_case_after_any_number_of_spaces() {
        for value in ["Bearer a.b.c", "bearer a.b.c", "BEARER a.b.c", "bEaReR    a.b.c"] {
            assert_eq!(read(&[value]).as_deref(), Ok("a.b.c"), "{value}");
        }
        assert_eq!(read(&["Bearer aA0-._~+/=="]).as_deref(), Ok("aA0-._~+/=="));
    }

    #[test]
    fn no_header_is_no_token() {
        assert_eq!(read(&[]), Err(TokenError::MissingToken));
    }

    #[test]
    fn a_second_authorization_header_is_refused() {
        for second in ["Bearer a.b.c", "Basic eDp5", ""] {
            assert_eq!(read(&["Bearer a.b.c", second]), Err(TokenError::MalformedAuthorization), "{second}");
        }
    }

    #[test]
    fn another_scheme_or_other_bytes_are_refused() {
        for value in [
            "",
            " ",
            "Bearer",
            "Bearer ",
            "Bearer   ",
            "Bearera.b.c",
            "Bearer\ta.b.c",
            "Bearer \ta.b.c",
            " Bearer a.b.c",
            "Bearer a.b.c ",
            "Bearer a.b.c\t",
            "Bearer a.b.c, Bearer a.b.c",
            "Bearer a.b.c a.b.c",
            "Bearer a.b.\u{0}c",
            "Bearer a.b.\u{e9}",
            "Bearer \"a.b.c\"",
            "Bearer =",
            "Bearer a=b",
            "Basic eDp5",
            "DPoP a.b.c",
            "Bear a.b.c",
        ] {
            assert_eq!(read(&[value]), Err(TokenError::MalformedAuthorization), "{value:?}");
        }
        assert_eq!(bearer_token([&b"Bearer a\xff"[..]].into_iter(), 32), Err(TokenError::MalformedAuthorization));
    }

    #[test]
    fn the_bytes_of_a_token_are_those_of_rfc_6750() {
        for b in 0..=u8::MAX {
            let expected = b.is_ascii_alphanumeric() || b"-._~+/".contains(&b);
            assert_eq!(is_token_byte(b), expected, "{b:#x}");
        }
    }

    #[test]
    fn the_bound_is_on_the_token_alone() {
        assert_eq!(read(&[&format!("Bearer {}", "a".repeat(32))]).unwrap().len(), 32);
        assert_eq!(read(&[&format!("Bearer {}", "a".repeat(33))]), Err(TokenError::TokenTooLarge));
    }

    proptest::proptest! {
        #[test]
        fn what_is_returned_is_a_b64token(value in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..48)) {
            if let Ok(token) = bearer_token([&value[..]].into_iter(), 32) {
                proptest::prop_assert!(is_b64token(token.as_bytes()));
                proptest::prop_assert!(value.ends_with(token.as_bytes()));
            }
        }

        #[test]
        fn every_b64token_is_taken(token in "[A-Za-z0-9._~+/-]{1,20}={0,3}", spaces in 1_usize..5) {
            let value = format!("Bearer{}{token}", " ".repeat(spaces));
            proptest::prop_assert_eq!(bearer_token([value.as_bytes()].into_iter(), 32), Ok(token.as_str()));
        }
    }
}
