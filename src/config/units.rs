//! Durations, sizes and rates as the file writes them.
//!
//! Every number of them carries its unit, and each value is written back in the form that is read.

use std::fmt::{self, Write as _};
use std::num::NonZeroU32;
use std::time::Duration;

use super::Rate;

/// Units of time, in milliseconds. No month and no year: they have no fixed length, and `M` reads like a minute.
const TIME: [(&str, u64); 5] = [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1000), ("ms", 1)];

/// Units of size, in bytes.
const SIZE: [(&str, u64); 4] = [("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10), ("B", 1)];

/// A century: far beyond any use, and far from where sums of times overflow.
const LONGEST_MS: u64 = 36_500 * 86_400_000;

/// Reads `10s`, `250ms` or `1h30m`. Zero is a duration here; whoever reads a key refuses it.
///
/// # Errors
/// What is wrong, to be put behind the text.
pub(super) fn parse_duration(text: &str) -> Result<Duration, String> {
    let mut rest = text;
    let mut millis: u64 = 0;
    let mut last_unit = u64::MAX;
    if rest.is_empty() {
        return Err(String::from("is empty, expected a duration such as \"30s\""));
    }
    while !rest.is_empty() {
        let (number, unit, tail) = number_and_unit(rest);
        rest = tail;
        if number.is_empty() {
            return Err(String::from("is not a duration, expected one such as \"30s\" or \"1h30m\""));
        }
        if unit.is_empty() {
            return Err(format!("needs a unit, such as \"{number}s\""));
        }
        let Some((_, factor)) = TIME.iter().find(|(name, _)| *name == unit) else {
            return Err(format!("has the unit {unit:?}, expected \"ms\", \"s\", \"m\", \"h\" or \"d\""));
        };
        if *factor >= last_unit {
            return Err(String::from("has its units out of order, expected the larger first, as in \"1h30m\""));
        }
        last_unit = *factor;
        millis = number
            .parse::<u64>()
            .ok()
            .and_then(|number| number.checked_mul(*factor))
            .and_then(|part| millis.checked_add(part))
            .filter(|sum| *sum <= LONGEST_MS)
            .ok_or_else(|| format!("is too long, expected at most \"{}d\"", LONGEST_MS / TIME[0].1))?;
    }
    Ok(Duration::from_millis(millis))
}

/// Reads `32KiB`. Zero is a size here; whoever reads a key refuses it.
///
/// # Errors
/// What is wrong, to be put behind the text.
pub(super) fn parse_size(text: &str) -> Result<u64, String> {
    let (number, unit, rest) = number_and_unit(text);
    if number.is_empty() || !rest.is_empty() {
        return Err(String::from("is not a size, expected one such as \"32KiB\""));
    }
    if unit.is_empty() {
        return Err(format!("needs a unit, such as \"{number}B\" or \"{number}KiB\""));
    }
    let Some((_, factor)) = SIZE.iter().find(|(name, _)| *name == unit) else {
        return Err(format!("has the unit {unit:?}, expected \"B\", \"KiB\", \"MiB\" or \"GiB\""));
    };
    number
        .parse::<u64>()
        .ok()
        .and_then(|number| number.checked_mul(*factor))
        .filter(|bytes| *bytes <= 1 << 50)
        .ok_or_else(|| String::from("is too large, expected at most \"1048576GiB\""))
}

/// Reads `60/1m`: so many in so long.
///
/// # Errors
/// What is wrong, to be put behind the text.
pub(super) fn parse_rate(text: &str) -> Result<Rate, String> {
    let Some((count, period)) = text.split_once('/') else {
        return Err(String::from("is not a rate, expected one such as \"60/1m\""));
    };
    let count = match count.parse::<u32>().map(NonZeroU32::new) {
        Ok(Some(count)) if !text.starts_with('+') => count,
        Ok(None) => return Err(String::from("allows nothing, expected at least 1, as in \"1/1m\"")),
        _ => return Err(String::from("does not start with a whole number, expected a rate such as \"60/1m\"")),
    };
    let period = parse_duration(period).map_err(|why| format!("is not a rate: {period:?} {why}"))?;
    if period.is_zero() {
        return Err(String::from("has a period of zero, expected a rate such as \"60/1m\""));
    }
    Ok(Rate { count, period })
}

/// Splits digits and what follows them up to the next digit from the front of `text`.
fn number_and_unit(text: &str) -> (&str, &str, &str) {
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, rest) = text.split_at(digits);
    let letters = rest.find(|c: char| c.is_ascii_digit()).unwrap_or(rest.len());
    let (unit, rest) = rest.split_at(letters);
    (number, unit, rest)
}

/// `duration` in the form that [`parse_duration`] reads, in the fewest units, such as `90s` and `1h`.
pub(super) fn show_duration(duration: Duration) -> String {
    let millis = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    show(millis, &TIME)
}

/// `bytes` in the form that [`parse_size`] reads.
pub(super) fn show_size(bytes: u64) -> String {
    show(bytes, &SIZE)
}

/// In the largest unit that leaves no remainder.
fn show(value: u64, units: &[(&str, u64)]) -> String {
    let mut text = String::new();
    if let Some((unit, factor)) = units.iter().find(|(_, factor)| value.is_multiple_of(*factor) && value != 0) {
        // Writing to a string cannot fail.
        write!(text, "{}{unit}", value / factor).ok();
    } else if let Some((unit, _)) = units.last() {
        write!(text, "0{unit}").ok();
    }
    text
}

/// As the file writes it, such as `60/1m`.
impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.count, show_duration(self.period))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn durations_are_read_with_their_units() {
        for (text, millis) in [("250ms", 250), ("30s", 30_000), ("1h30m", 5_400_000), ("90d", 7_776_000_000), ("0s", 0)]
        {
            assert_eq!(parse_duration(text), Ok(Duration::from_millis(millis)), "{text}");
        }
    }

    #[test]
    fn a_wrong_duration_says_what_was_expected() {
        for (text, expected) in [
            ("", "is empty, expected a duration such as \"30s\""),
            ("30", "needs a unit, such as \"30s\""),
            ("1h30", "needs a unit, such as \"30s\""),
            ("s", "is not a duration, expected one such as \"30s\" or \"1h30m\""),
            ("-1s", "is not a duration, expected one such as \"30s\" or \"1h30m\""),
            ("1.5h", "has the unit \".\", expected \"ms\", \"s\", \"m\", \"h\" or \"d\""),
            ("1 s", "has the unit \" s\", expected \"ms\", \"s\", \"m\", \"h\" or \"d\""),
            ("1M", "has the unit \"M\", expected \"ms\", \"s\", \"m\", \"h\" or \"d\""),
            ("30m1h", "has its units out of order, expected the larger first, as in \"1h30m\""),
            ("99999999999999999999s", "is too long, expected at most \"36500d\""),
            ("36501d", "is too long, expected at most \"36500d\""),
        ] {
            assert_eq!(parse_duration(text), Err(expected.to_owned()), "{text}");
        }
    }

    #[test]
    fn sizes_are_read_with_their_units() {
        for (text, bytes) in [("1B", 1), ("32KiB", 32 << 10), ("64MiB", 64 << 20), ("1GiB", 1 << 30)] {
            assert_eq!(parse_size(text), Ok(bytes), "{text}");
            assert_eq!(show_size(bytes), text);
        }
        for (text, expected) in [
            ("32", "needs a unit, such as \"32B\" or \"32KiB\""),
            ("32KB", "has the unit \"KB\", expected \"B\", \"KiB\", \"MiB\" or \"GiB\""),
            ("1MiB1KiB", "is not a size, expected one such as \"32KiB\""),
            ("lots", "is not a size, expected one such as \"32KiB\""),
            ("99999999999999999999B", "is too large, expected at most \"1048576GiB\""),
        ] {
            assert_eq!(parse_size(text), Err(expected.to_owned()), "{text}");
        }
    }

    #[test]
    fn a_wrong_rate_says_what_was_expected() {
        for (text, expected) in [
            ("60", "is not a rate, expected one such as \"60/1m\""),
            ("0/1m", "allows nothing, expected at least 1, as in \"1/1m\""),
            ("+1/1m", "does not start with a whole number, expected a rate such as \"60/1m\""),
            ("many/1m", "does not start with a whole number, expected a rate such as \"60/1m\""),
            ("60/m", "is not a rate: \"m\" is not a duration, expected one such as \"30s\" or \"1h30m\""),
            ("60/0s", "has a period of zero, expected a rate such as \"60/1m\""),
        ] {
            assert_eq!(parse_rate(text), Err(expected.to_owned()), "{text}");
        }
    }

    proptest! {
        #[test]
        fn what_is_shown_reads_back(millis in 0..=LONGEST_MS, bytes in 0_u64..1 << 50, count in 1_u32..) {
            let duration = Duration::from_millis(millis);
            prop_assert_eq!(parse_duration(&show_duration(duration)), Ok(duration));
            prop_assert_eq!(parse_size(&show_size(bytes)), Ok(bytes));
            if let Some(count) = NonZeroU32::new(count).filter(|_| millis > 0) {
                let rate = Rate { count, period: duration };
                prop_assert_eq!(parse_rate(&rate.to_string()), Ok(rate));
            }
        }

        #[test]
        fn no_text_panics(text in "\\PC*") {
            drop((parse_duration(&text), parse_size(&text), parse_rate(&text)));
        }
    }
}
