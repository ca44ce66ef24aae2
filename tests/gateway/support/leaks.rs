//! Secrets where they have no place: what a gateway process wrote is searched when it ends, in every test that starts one.

use std::path::Path;

/// The admin token of all workplaces.
pub(crate) const ADMIN_TOKEN: &str = "an-admin-token-of-32-characters!";

/// What in `text` is a secret of the workplace `place` or has the shape of a token, whoever it is for. Shortened, so that
/// the failure that names it is no second leak.
pub(crate) fn leaks(text: &str, place: &Path) -> Vec<String> {
    let key = std::fs::read_to_string(place.join("key.pem")).unwrap_or_default();
    let lines = key.lines().filter(|line| line.len() >= 40 && !line.starts_with('-'));
    let known = lines.chain([ADMIN_TOKEN]).filter(|secret| text.contains(secret)).map(shortened);
    known.chain(tokens(text).map(shortened)).collect()
}

/// Refresh tokens by their prefix, and compact JWS with all three parts.
fn tokens(text: &str) -> impl Iterator<Item = &str> {
    let is_part = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    let words = text.split(move |c: char| !is_part(c) && c != '.');
    words.filter(move |word| {
        let refresh = word.find("pcr_").is_some_and(|at| word[at..].len() >= 24);
        let mut parts = word.split('.');
        let header = parts.next().is_some_and(|part| part.contains("eyJ"));
        let signed =
            parts.next().is_some_and(|part| part.len() >= 16) && parts.next().is_some_and(|part| part.len() >= 40);
        refresh || (header && signed)
    })
}

fn shortened(secret: &str) -> String {
    secret.chars().take(12).chain("…".chars()).collect()
}
