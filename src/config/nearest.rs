//! "Did you mean": the known word nearest to one that is not known.

/// The one of `words` that `word` was most likely meant to be.
///
/// Case, `-` and `_` do not count, so that `idleTimeout` finds `idle_timeout`. A third of the letters may be wrong:
/// with more than that a suggestion confuses more than it helps.
pub(super) fn nearest<'w>(word: &str, words: impl IntoIterator<Item = &'w str>) -> Option<&'w str> {
    let folded = fold(word);
    let most = (folded.chars().count() / 3).max(1);
    words
        .into_iter()
        .map(|known| (strsim::osa_distance(&folded, &fold(known)), known))
        .filter(|(distance, known)| *distance <= most && *distance < known.chars().count())
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, known)| known)
}

/// `, did you mean "orders"?`, or the list of `words` when none is near.
pub(super) fn suggestion<'w>(word: &str, words: impl IntoIterator<Item = &'w str> + Clone) -> String {
    if let Some(known) = nearest(word, words.clone()) {
        return format!(", did you mean {known:?}?");
    }
    let list = words.into_iter().map(|word| format!("{word:?}")).collect::<Vec<_>>();
    match list.as_slice() {
        [] => String::new(),
        [only] => format!(", expected {only}"),
        // A long list hides the fault it belongs to.
        [first @ .., last] if first.len() < 16 => format!(", expected one of {} or {last}", first.join(", ")),
        _ => String::new(),
    }
}

/// `word` without what does not count.
pub(super) fn fold(word: &str) -> String {
    // A name longer than any known one has no near word; cutting it bounds the work, which is quadratic.
    word.chars().take(128).filter(|c| !matches!(c, '-' | '_')).flat_map(char::to_lowercase).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_word_is_found() {
        let words = ["listen", "workers", "trusted_proxies", "drain_timeout"];
        for (word, expected) in [
            ("lisen", Some("listen")),
            ("worker", Some("workers")),
            ("trustedProxies", Some("trusted_proxies")),
            ("drain-timeout", Some("drain_timeout")),
            ("certificate", None),
            ("", None),
        ] {
            assert_eq!(nearest(word, words), expected, "{word}");
        }
        assert_eq!(nearest("x", ["a"]), None, "nothing in common");
    }

    #[test]
    fn without_a_near_word_the_choices_are_listed() {
        assert_eq!(suggestion("whatever", ["a", "b", "c"]), ", expected one of \"a\", \"b\" or \"c\"");
        assert_eq!(suggestion("whatever", ["a"]), ", expected \"a\"");
        assert_eq!(suggestion("whatever", []), "");
        assert_eq!(suggestion("whatever", ["x"; 30]), "");
    }
}
