//! What the process gives up once its ports are bound and before it serves: whoever gets to run code in it finds little.
//!
//! Privileges, capabilities and Landlock belong to a thread and are inherited by those it starts: [`enter`] is called
//! before there is a second one. None of it needs `unsafe`, and nothing but `user` fails: a kernel or container that
//! does not let go of something is told of in the [`Report`].

mod account;
mod capabilities;
mod files;

use std::fmt::Display;
use std::io;

use rustix::fs::Mode;
use rustix::process::{DumpableBehavior, Resource, Rlimit};

pub use self::account::{Account, AccountError};
use crate::config::Config;

/// Forbids that this process's memory is written to the disk when it crashes (`PR_SET_DUMPABLE`), and that other programs
/// of the same user look at it: keys, tokens, and the environment that secrets may come from.
///
/// For the very start, before a secret is read; [`enter`] takes it back where `core_dumps` says so.
///
/// # Errors
/// As the system says.
pub fn forbid_core_dumps() -> io::Result<()> {
    Ok(rustix::process::set_dumpable_behavior(DumpableBehavior::NotDumpable)?)
}

/// What holds, and what does not and why, in words.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Report {
    holds: Vec<String>,
    /// Left as it was because the configuration says so.
    not_asked: Vec<&'static str>,
    /// Asked for, and not to be had.
    failed: Vec<String>,
}

impl Report {
    /// One line at the start: of level `warn` when something that was asked for does not hold.
    pub fn log(&self) {
        let list = |words: &[String]| if words.is_empty() { "nothing".to_owned() } else { words.join(", ") };
        let (holds, off) = (list(&self.holds), self.not_asked.join(", "));
        if self.failed.is_empty() {
            tracing::info!(%holds, off = %off, "sandbox");
        } else {
            tracing::warn!(%holds, off = %off, failed = %self.failed.join(", "), "sandbox: not all that was asked for");
        }
    }

    fn note(&mut self, what: &'static str, asked: bool, give_up: impl FnOnce() -> Result<(), io::Error>) {
        if !asked {
            return self.not_asked.push(what);
        }
        match give_up() {
            Ok(()) => self.holds.push(what.to_owned()),
            Err(error) => self.failed(what, error),
        }
    }

    fn failed(&mut self, what: &str, error: impl Display) {
        self.failed.push(format!("{what}: {error}"));
    }
}

/// Gives up what `config.sandbox` says. Called with the ports bound, before any thread is started.
///
/// # Errors
/// When the process cannot become the `user` that it should: it must not serve as another one.
pub fn enter(config: &Config) -> Result<Report, AccountError> {
    let asked = &config.sandbox;
    let mut report = Report::default();
    // Before a directory is made.
    report.note("files are private", asked.private_files, || {
        rustix::process::umask(Mode::from_raw_mode(0o077));
        Ok(())
    });
    if asked.drop_capabilities
        && let Err(error) = capabilities::bound()
    {
        // Only a process that starts programs would miss it, and this one starts none.
        tracing::debug!(error = %error, "the bounding set of capabilities stays");
    }
    match &asked.user {
        Some(user) => {
            Account::find(user)?.become_it()?;
            report.holds.push(format!("user {user}"));
        }
        None => report.not_asked.push("user"),
    }
    if asked.drop_capabilities {
        match capabilities::give_up(config) {
            Ok(None) => report.holds.push("no capabilities".to_owned()),
            Ok(Some(why)) => report.holds.push(format!("no capabilities but CAP_DAC_OVERRIDE ({why})")),
            Err(error) => report.failed("no capabilities", error),
        }
    } else {
        report.not_asked.push("no capabilities");
    }
    report.note("no new privileges", asked.no_new_privileges || asked.restrict_files, || {
        Ok(rustix::thread::set_no_new_privs(true)?)
    });
    if asked.restrict_files {
        match files::restrict(config) {
            Ok(()) => report.holds.push("files restricted".to_owned()),
            Err(why) => report.failed("files restricted", why),
        }
    } else {
        report.not_asked.push("files restricted");
    }
    // Last: becoming somebody else sets it anew.
    report.note("no core dumps", !asked.core_dumps, no_core_dumps);
    if asked.core_dumps
        && let Err(error) = rustix::process::set_dumpable_behavior(DumpableBehavior::Dumpable)
    {
        report.failed("core dumps", error);
    }
    Ok(report)
}

/// Both, for a program that takes core dumps over a pipe is not bound by the limit, and a file system is no judge of the
/// other.
fn no_core_dumps() -> io::Result<()> {
    forbid_core_dumps()?;
    Ok(rustix::process::setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) })?)
}
