//! What is told of the work: events, access log, metrics. No decision is taken here, and no secret comes in.

pub mod access;
pub mod metrics;

use std::io::IsTerminal;

use tracing_subscriber::EnvFilter;
use tracing_subscriber::prelude::*;

use crate::config::{Log, LogFormat};

/// Starts writing events to standard error: for people on a terminal, one JSON object a line otherwise.
///
/// Harmless when called twice (tests).
///
/// # Errors
/// When `log.level` is no filter.
pub fn init(log: &Log) -> Result<(), tracing_subscriber::filter::ParseError> {
    let filter = EnvFilter::builder().parse(&log.level)?;
    let registry = tracing_subscriber::registry().with(filter);
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

/// Whether this format is the one for people, on an output that is a terminal or not.
pub fn is_human(format: LogFormat, terminal: bool) -> bool {
    match format {
        LogFormat::Auto => terminal,
        LogFormat::Human => true,
        LogFormat::Json => false,
    }
}
