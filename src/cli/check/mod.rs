//! `portcullis check`: everything that `run` would find out, short of binding.

mod directory;
mod shared_store;
mod upstreams;

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Serialize;

use crate::app::keys_directory;
use crate::certificate;
use crate::cli::output::{Failure, Format, Outcome, causes, count, from_now, print, print_json, remark};
use crate::cli::{ConfigArg, keys_offline};
use crate::clock::UnixTime;
use crate::config::{Access, Certificate, Config, Fault, Faults, JwksSource, Listener, Mode, Session};
use crate::sandbox::Account;
use crate::server::tls::{self, TlsError};
use crate::session::RefreshKeys;
use crate::telemetry;
use crate::token::signing::{SigningKeys, SigningKeysError};

/// A certificate that ends sooner than this is worth a word: most are renewed a month before.
const EXPIRES_SOON: Duration = Duration::from_secs(14 * 24 * 3600);

/// Check a configuration and all files it names, without serving it
///
/// Prints every fault with its line. Nothing is bound, fetched or changed, so it may run beside a running gateway.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  portcullis check --config portcullis.toml && systemctl restart portcullis")]
pub(super) struct Args {
    #[command(flatten)]
    config: ConfigArg,
}

pub(super) fn run(args: &Args, format: Format) -> Result<Outcome, Failure> {
    let now = UnixTime::now();
    let report = match Config::load(&args.config.file) {
        Ok(config) => Report::of(&config, now)?,
        Err(faults) => Report { faults: faults.into_iter().collect(), ..Report::default() },
    };
    report.print(format)
}

/// What was found.
#[derive(Debug, Default, Serialize)]
struct Report {
    ok: bool,
    #[serde(skip)]
    summary: String,
    /// Must be mended before the gateway starts.
    faults: Vec<Fault>,
    /// Works, but may not be meant.
    warnings: Vec<String>,
    /// What was not looked at.
    notes: Vec<String>,
}

impl Report {
    fn of(config: &Config, now: UnixTime) -> Result<Self, Failure> {
        let mut report = Self { summary: summary(config), warnings: warnings(config, now), ..Self::default() };
        if let Err(error) = telemetry::filter(&config.log.level) {
            report.fault(config, "log.level", format!("log: level {:?}: {error}", config.log.level));
        }
        report.certificates(config, now);
        report.user(config);
        if let Some(session) = &config.session {
            report.signing_keys(config, session);
            report.refresh_keys(config, session);
            report.room_for_keys(config, session);
        }
        report.trusted_issuers(config)?;
        report.store(config);
        upstreams::check(&mut report, config, now);
        report.ok = report.faults.is_empty();
        Ok(report)
    }

    fn fault(&mut self, config: &Config, key_path: &str, message: String) {
        self.faults.push(config.source.fault_at(key_path, message));
    }

    fn certificates(&mut self, config: &Config, now: UnixTime) {
        for (index, certificate) in config.server.certificates.iter().enumerate() {
            let Err(error) = tls::load(certificate, now) else { continue };
            let key = blamed(&error, certificate);
            self.fault(
                config,
                &format!("server.tls.certificate[{index}].{key}"),
                format!("server.tls: {}", causes(&error)),
            );
            // Looked at last by the loader: say so now, not after the next try.
            if key == "chain"
                && let Err(error) = std::fs::File::open(&certificate.key)
            {
                let message = format!("server.tls: cannot read {}: {}", certificate.key.display(), causes(&error));
                self.fault(config, &format!("server.tls.certificate[{index}].key"), message);
            }
        }
    }

    fn user(&mut self, config: &Config) {
        let Some(user) = &config.sandbox.user else { return };
        if let Err(error) = Account::find(user) {
            self.fault(config, "sandbox.user", format!("sandbox: {}", causes(&error)));
        }
    }

    fn store(&mut self, config: &Config) {
        let Some(redis) = &config.store.redis else {
            if let Err(why) = directory::usable(&config.store.path) {
                self.fault(config, "store.path", format!("store: {why}"));
            }
            return;
        };
        if let Some(ca) = &redis.ca
            && let Err(error) = certificate::authorities(ca)
        {
            self.fault(config, "store.ca", format!("store: {}", causes(&error)));
        }
        self.notes.push(format!("the store {} is connected to at start; this was not tried", config.store.describe()));
    }

    /// That the first start can make the keys that are not there yet. Without `session.keys` they are made in the
    /// store's directory, which is looked at anyway.
    fn room_for_keys(&mut self, config: &Config, session: &Session) {
        let Some(keys) = &session.keys else { return };
        let no_signing_key = || matches!(SigningKeys::read_only(keys), Err(SigningKeysError::NoKeys(_)));
        let makes_signing_key = session.signing_keys.is_empty() && no_signing_key();
        let makes_refresh_key = session.refresh_keys.is_empty() && !has_key_file(&keys.join("refresh"));
        if (makes_signing_key || makes_refresh_key)
            && let Err(why) = directory::usable(keys)
        {
            self.fault(config, "session.keys", format!("session: {why}"));
        }
    }

    /// Notes what is wrong with keys that are not given as files, at the key that says where they are.
    fn managed_keys_fault(&mut self, config: &Config, session: &Session, why: &str) {
        match session.keys {
            Some(_) => self.fault(config, "session.keys", format!("session: {why}")),
            None => self.fault(config, "store.path", format!("store: {why}")),
        }
    }

    fn signing_keys(&mut self, config: &Config, session: &Session) {
        if !session.signing_keys.is_empty() {
            return self.key_files(config, "signing_keys", &session.signing_keys, |files| {
                SigningKeys::from_files(files).map(drop).map_err(|error| causes(&error))
            });
        }
        match SigningKeys::read_only(&keys_directory(config)) {
            // The first start makes them.
            Ok(_) | Err(SigningKeysError::NoKeys(_)) => {}
            Err(error) => self.managed_keys_fault(config, session, &causes(&error)),
        }
    }

    fn refresh_keys(&mut self, config: &Config, session: &Session) {
        if !session.refresh_keys.is_empty() {
            return self.key_files(config, "refresh_keys", &session.refresh_keys, |files| {
                RefreshKeys::from_files(files).map(drop).map_err(|error| causes(&error))
            });
        }
        let keys = keys_directory(config);
        // Opening would make the first key; with one there it only reads.
        if has_key_file(&keys.join("refresh"))
            && let Err(error) = RefreshKeys::open_managed(&keys, UnixTime::now())
        {
            self.managed_keys_fault(config, session, &causes(&error));
        }
    }

    /// Tries each of `files` alone, so that every fault is told, and then all together: what is left to find is a key
    /// given twice.
    fn key_files(
        &mut self,
        config: &Config,
        key: &str,
        files: &[PathBuf],
        load: impl Fn(&[PathBuf]) -> Result<(), String>,
    ) {
        let before = self.faults.len();
        for (index, file) in files.iter().enumerate() {
            if let Err(why) = load(std::slice::from_ref(file)) {
                self.fault(config, &format!("session.{key}[{index}]"), format!("session: {why}"));
            }
        }
        if self.faults.len() == before
            && let Err(why) = load(files)
        {
            self.fault(config, &format!("session.{key}"), format!("session: {why}"));
        }
    }

    fn trusted_issuers(&mut self, config: &Config) -> Result<(), Failure> {
        let runtime = keys_offline::runtime()?;
        for (index, issuer) in config.trusted_issuers.iter().enumerate() {
            let name = &issuer.issuer;
            let file = match &issuer.jwks {
                JwksSource::Url(url) => {
                    self.notes.push(format!("keys of {name} are fetched from {url} at start; this was not tried"));
                    continue;
                }
                JwksSource::File(file) => file.display(),
            };
            match runtime.block_on(keys_offline::key_set(issuer)) {
                Ok(keys) => self.warnings.extend(keys.skipped().iter().map(|key| {
                    let kid = key.kid.as_ref().map_or_else(|| format!("number {}", key.index + 1), ToString::to_string);
                    format!("trusted_issuer {name:?}: key {kid} in {file} is not used: {}", key.reason)
                })),
                Err(error) => {
                    let path = format!("trusted_issuer[{index}].jwks_file");
                    self.fault(config, &path, format!("trusted_issuer {name:?}: {file}: {}", causes(&error)));
                }
            }
        }
        Ok(())
    }

    fn print(mut self, format: Format) -> Result<Outcome, Failure> {
        self.faults.sort_by_key(|fault| fault.position);
        if format == Format::Json {
            print_json(&self)?;
            return Ok(if self.ok { Outcome::Done } else { Outcome::Refused });
        }
        self.warnings.iter().for_each(|text| remark("warning", text));
        self.notes.iter().for_each(|text| remark("note", text));
        match Faults::new(self.faults) {
            Some(faults) => Err(Failure::Faults(faults)),
            None => {
                print(&format!("ok: {}", self.summary))?;
                Ok(Outcome::Done)
            }
        }
    }
}

/// Which of a certificate's two keys in the configuration names the file at fault.
fn blamed(error: &TlsError, certificate: &Certificate) -> &'static str {
    let of_key = |path: &PathBuf| *path == certificate.key && *path != certificate.chain;
    match error {
        TlsError::Key { .. } | TlsError::KeyMismatch { .. } => "key",
        TlsError::Read { path, .. } if of_key(path) => "key",
        _ => "chain",
    }
}

fn has_key_file(directory: &Path) -> bool {
    let Ok(mut entries) = std::fs::read_dir(directory) else { return false };
    entries.any(|entry| entry.is_ok_and(|entry| entry.path().extension().is_some_and(|ending| ending == "key")))
}

/// What works but may not be meant.
pub(super) fn warnings(config: &Config, now: UnixTime) -> Vec<String> {
    let mut warnings = Vec::new();
    // One that redirects gets no tokens, or only those that a client had sent in the clear already.
    let in_clear = |listener: &&Listener| !listener.tls && listener.redirect_to_https.is_none();
    for address in config.server.listeners.iter().filter(in_clear).map(|listener| listener.address) {
        if !address.ip().is_loopback() {
            warnings.push(format!(
                "plain HTTP on {address}: without TLS there, tokens can be read on the way unless a proxy in front \
                 takes it off"
            ));
        }
    }
    if let Some(admin) = config.admin.as_ref().filter(|admin| !admin.listen.ip().is_loopback()) {
        warnings.push(format!(
            "the admin listener is on {}, plain HTTP and beyond this machine: keep that network private",
            admin.listen
        ));
    }
    warnings.extend(observing(config));
    warnings.extend(config.store.redis.as_ref().and_then(shared_store::password_in_clear));
    for certificate in &config.server.certificates {
        if let Ok(loaded) = tls::load(certificate, now)
            && loaded.expires.since(now) < EXPIRES_SOON
        {
            let (file, when) = (certificate.chain.display(), from_now(loaded.expires, now));
            warnings.push(format!("the certificate in {file} expires {when}, on {}", loaded.expires));
        }
    }
    warnings.extend(upstreams::warnings(config, now));
    warnings
}

/// Which routes let everybody through: nobody should find that out from who got in.
fn observing(config: &Config) -> Option<String> {
    let judging = config.routes.iter().filter(|route| route.access != Access::Public);
    let (observing, enforcing): (Vec<_>, Vec<_>) = judging.partition(|route| route.mode == Mode::Observe);
    let names = observing.iter().map(|route| format!("{:?}", route.name)).collect::<Vec<_>>().join(", ");
    let which = match (observing.len(), enforcing.len()) {
        (0, _) => return None,
        (_, 0) => String::from("no route refuses anybody"),
        (1, _) => format!("the route {names} refuses nobody"),
        _ => format!("the routes {names} refuse nobody"),
    };
    Some(format!(
        "mode \"observe\": {which} for want of an identity; what would be refused is logged and counted (would_refuse)"
    ))
}

fn summary(config: &Config) -> String {
    let mut parts = vec![count(config.routes.len(), "route"), count(config.upstreams.len(), "upstream")];
    for (tls, how) in [(true, "TLS"), (false, "plain HTTP")] {
        let listeners = config.server.listeners.iter().filter(|listener| listener.tls == tls);
        let places: Vec<String> = listeners.map(|listener| listener.describe(listener.address)).collect();
        if !places.is_empty() {
            parts.push(format!("{how} on {}", places.join(", ")));
        }
    }
    if !config.server.certificates.is_empty() {
        parts.push(count(config.server.certificates.len(), "certificate"));
    }
    if !config.trusted_issuers.is_empty() {
        parts.push(count(config.trusted_issuers.len(), "trusted issuer"));
    }
    parts.push(match &config.admin {
        Some(admin) => format!("admin on {}", admin.listen),
        None => String::from("no admin listener"),
    });
    parts.push(format!("store {}", config.store.describe()));
    parts.join(", ")
}

#[cfg(test)]
mod tests;
