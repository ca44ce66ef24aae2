//! How commands speak: results, failures, and text that came from elsewhere.

use std::error::Error;
use std::io::{self, Write as _};
use std::process::ExitCode;
use std::time::Duration;

use rustls::pki_types::pem;
use serde::Serialize;
use serde_json::json;

use crate::clock::UnixTime;
use crate::config::Faults;

/// For whom results are written.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Format {
    /// People.
    Human,
    /// Programs: one JSON document on one line.
    Json,
}

/// How a command ended that could do its work.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Outcome {
    /// Exit code 0.
    Done,
    /// The answer is no: exit code 1. What was refused has been printed.
    Refused,
}

/// Why a command could not do its work.
#[derive(Debug)]
pub(super) enum Failure {
    /// Exit code 1.
    Failed(String),
    /// The configuration is wrong: exit code 1.
    Faults(Faults),
    /// The arguments make no sense together: exit code 2.
    Usage(String),
    /// Nobody reads standard output any more, as behind `| head`: exit code 141, and not a word.
    Unheard,
}

/// What a shell says of a program that SIGPIPE ended, as it would any other.
const UNHEARD: u8 = 128 + 13;

impl Failure {
    pub(super) fn print(&self, format: Format) {
        let text = match (self, format) {
            (Self::Failed(why) | Self::Usage(why), Format::Human) => format!("error: {why}"),
            (Self::Unheard, _) => return,
            (Self::Faults(faults), Format::Human) => faults.to_string(),
            (Self::Failed(why) | Self::Usage(why), Format::Json) => json!({ "error": why }).to_string(),
            (Self::Faults(faults), Format::Json) => {
                let all: Vec<_> = faults.iter().collect();
                json!({ "error": "the configuration is wrong", "faults": all }).to_string()
            }
        };
        // With standard error closed, the exit code still tells.
        drop(writeln!(io::stderr(), "{text}"));
    }

    pub(super) fn exit_code(&self) -> ExitCode {
        match self {
            Self::Failed(_) | Self::Faults(_) => ExitCode::FAILURE,
            Self::Usage(_) => ExitCode::from(2),
            Self::Unheard => ExitCode::from(UNHEARD),
        }
    }
}

/// Not an `Error` itself, so that every error can become one with `?`.
impl<E: Error + 'static> From<E> for Failure {
    fn from(error: E) -> Self {
        let error: &(dyn Error + 'static) = &error;
        match error.downcast_ref::<Faults>() {
            Some(faults) => Self::Faults(faults.clone()),
            None => Self::Failed(causes(error)),
        }
    }
}

/// An error with its causes on one line, each said once.
pub(super) fn causes(error: &(dyn Error + 'static)) -> String {
    let mut text = plain(error);
    let mut cause = error.source();
    while let Some(next) = cause {
        let next_text = plain(next);
        // Some errors repeat their cause in their own text.
        if !text.ends_with(&next_text) {
            text = format!("{text}: {next_text}");
        }
        cause = next.source();
    }
    text
}

/// The system's errors without their number and capital letter: `address already in use`.
fn plain(error: &(dyn Error + 'static)) -> String {
    // The PEM reader puts the system's error into its own text.
    let system = match error.downcast_ref::<pem::Error>() {
        Some(pem::Error::Io(system)) => Some(system),
        _ => error.downcast_ref::<io::Error>(),
    };
    let text = system.map_or_else(|| error.to_string(), ToString::to_string);
    let Some(code) = system.and_then(io::Error::raw_os_error) else { return text };
    let text = text.strip_suffix(&format!(" (os error {code})")).unwrap_or(&text);
    let mut letters = text.chars();
    match letters.next() {
        Some(first) => first.to_lowercase().chain(letters).collect(),
        None => String::new(),
    }
}

/// Writes a result and a line end to standard output.
///
/// # Errors
/// [`Failure::Unheard`] when nobody reads it: `portcullis … | head` is no reason to complain.
pub(super) fn print(text: &str) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    writeln!(out, "{text}").and_then(|()| out.flush()).map_err(|error| match error.kind() {
        io::ErrorKind::BrokenPipe => Failure::Unheard,
        _ => error.into(),
    })
}

/// Writes a result as JSON on one line.
///
/// # Errors
/// As [`print()`].
pub(super) fn print_json(value: &impl Serialize) -> Result<(), Failure> {
    print(&serde_json::to_string(value)?)
}

/// Writes what is worth knowing beside a result, to standard error.
pub(super) fn remark(kind: &str, text: &str) {
    drop(writeln!(io::stderr(), "{kind}: {text}"));
}

/// Text from elsewhere for a terminal: what could move the cursor, reorder letters or hide is shown by its number.
pub(super) fn printable(text: &str) -> String {
    let hidden = |c: char| {
        (c.is_control() && c != '\n')
            || matches!(c, '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
    };
    text.chars().map(|c| if hidden(c) { format!("\\u{{{:x}}}", u32::from(c)) } else { c.to_string() }).collect()
}

/// `in 42 min`, `3 h ago`, `now`: the largest unit that fits, rounded down.
pub(super) fn from_now(at: UnixTime, now: UnixTime) -> String {
    if at.as_secs() == now.as_secs() {
        return String::from("now");
    }
    if at > now { format!("in {}", rough(at.since(now))) } else { format!("{} ago", rough(now.since(at))) }
}

fn rough(time: Duration) -> String {
    let seconds = time.as_secs();
    match seconds {
        0..120 => format!("{seconds} s"),
        120..7200 => format!("{} min", seconds / 60),
        7200..172_800 => format!("{} h", seconds / 3600),
        _ => format!("{} days", seconds / 86_400),
    }
}

/// `1 route`, `2 routes`
pub(super) fn count(number: usize, one: &str) -> String {
    if number == 1 { format!("1 {one}") } else { format!("{number} {one}s") }
}

/// To the second: milliseconds of a token's times are always zero.
pub(super) fn seconds(at: UnixTime) -> String {
    at.to_string().replace(".000Z", "Z")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("cannot listen on 0.0.0.0:8443")]
    struct Outer(#[source] io::Error);

    #[test]
    fn an_error_is_one_line_with_its_causes() {
        let error = Outer(io::Error::from_raw_os_error(98));
        assert_eq!(causes(&error), "cannot listen on 0.0.0.0:8443: address already in use");
        assert_eq!(causes(&Outer(io::Error::other("no"))), "cannot listen on 0.0.0.0:8443: no");
    }

    #[test]
    fn what_could_move_the_cursor_is_shown_by_number() {
        assert_eq!(printable("a\u{1b}[2J\nb\u{9b}1m\u{202e}ë"), "a\\u{1b}[2J\nb\\u{9b}1m\\u{202e}ë");
    }

    #[test]
    fn times_are_said_from_now() {
        let now = UnixTime::from_secs(1_000_000);
        for (seconds, text) in [
            (1_000_000, "now"),
            (1_000_001, "in 1 s"),
            (1_000_119, "in 119 s"),
            (1_002_520, "in 42 min"),
            (1_086_400, "in 24 h"),
            (2_000_000, "in 11 days"),
            (999_941, "59 s ago"),
            (989_200, "3 h ago"),
        ] {
            assert_eq!(from_now(UnixTime::from_secs(seconds), now), text);
        }
    }
}
