//! What is told of the work: events, access log, metrics. No decision is taken here, and no secret comes in.

pub mod access;
pub mod metrics;

use std::borrow::Cow;
use std::io::IsTerminal;

use tracing::{Level, Metadata};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::{LevelFilter, ParseError, filter_fn};
use tracing_subscriber::prelude::*;

use crate::config::{Log, LogFormat};

/// Starts writing events to standard error: for people on a terminal, one JSON object a line otherwise.
///
/// Harmless when called twice (tests).
///
/// # Errors
/// When `log.level` is no filter.
pub fn init(log: &Log) -> Result<(), ParseError> {
    let registry = tracing_subscriber::registry().with(filter(&log.level)?).with(filter_fn(is_safe));
    let outcome = if is_human(log.format, std::io::stderr().is_terminal()) {
        registry.with(tracing_subscriber::fmt::layer().with_writer(std::io::stderr).with_target(false)).try_init()
    } else {
        registry
            .with(tracing_subscriber::fmt::layer().json().flatten_event(true).with_writer(std::io::stderr))
            .try_init()
    };
    // Somebody else's subscriber stays: only the first one of a process counts.
    drop(outcome);
    Ok(())
}

/// Whether an event of this origin and level can hold no secret, whatever `log.level` asks for.
///
/// Libraries know of no secrets, and at `trace` they write down whole handshakes and what they read. That no token is in
/// it today is no promise of theirs for tomorrow. Our own events are held to carry none at any level.
fn is_safe(origin: &Metadata<'_>) -> bool {
    *origin.level() <= Level::DEBUG || is_ours(origin.target())
}

fn is_ours(target: &str) -> bool {
    target.strip_prefix("portcullis").is_some_and(|rest| rest.is_empty() || rest.starts_with("::"))
}

/// `log.level` as a filter. A level alone is that of our own events: what the store's library tells of its files at
/// every start is nobody's business, so libraries speak from `warn` on. Directives are taken as they are.
///
/// # Errors
/// When it is none.
pub(crate) fn filter(level: &str) -> Result<EnvFilter, ParseError> {
    let ours = level.trim().parse::<LevelFilter>().is_ok_and(|level| level > LevelFilter::WARN);
    let directives = if ours { Cow::Owned(format!("warn,portcullis={}", level.trim())) } else { Cow::Borrowed(level) };
    EnvFilter::builder().parse(directives)
}

/// Whether this format is the one for people, on an output that is a terminal or not.
pub fn is_human(format: LogFormat, terminal: bool) -> bool {
    match format {
        LogFormat::Auto => terminal,
        LogFormat::Human => true,
        LogFormat::Json => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_level_alone_is_for_our_own_events() {
        for (level, directives) in [
            ("info", "portcullis=info,warn"),
            (" DEBUG ", "portcullis=debug,warn"),
            ("error", "error"),
            ("off", "off"),
            ("info,fjall=debug", "fjall=debug,info"),
        ] {
            assert_eq!(filter(level).unwrap().to_string(), directives, "{level}");
        }
        assert!(filter("a[b").is_err());
    }

    #[test]
    fn only_our_own_events_are_told_at_trace() {
        for (target, ours) in [
            ("portcullis", true),
            ("portcullis::gateway::forward", true),
            ("portcullis_not", false),
            ("h2::hpack::decoder", false),
            ("hyper::proto::h1::role", false),
            ("", false),
        ] {
            assert_eq!(is_ours(target), ours, "{target}");
        }
    }
}
