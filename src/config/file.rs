//! From the text of a configuration file to a [`Config`].

use std::fs;
use std::path::Path;

use super::document::{Document, Environment};
use super::fault::{Fault, Faults};
use super::reader::Table;
use super::{Config, consistency, limits, route, sandbox, server, session, store, upstream};

impl Config {
    /// Reads and checks the file at `path`. Secrets are read from the files and variables that it names; certificates
    /// and keys are not looked at.
    ///
    /// # Errors
    /// Everything that is wrong with it, each with its place; or that it cannot be read.
    pub fn load(path: &Path) -> Result<Self, Faults> {
        let file = path.display().to_string();
        let whole = |message: String| Faults::from(Fault { file: file.clone(), position: None, message });
        let bytes = fs::read(path)
            .map_err(|error| whole(format!("cannot read the configuration: {}", server::io_reason(&error))))?;
        let base_dir = path.parent().unwrap_or(Path::new(""));
        match std::str::from_utf8(&bytes) {
            Ok(text) => Self::parse(text, &file, base_dir),
            Err(error) => {
                let text = String::from_utf8_lossy(&bytes[..error.valid_up_to()]);
                let position = Document::new(&text, &file, base_dir, |_| None).position(error.valid_up_to());
                let message = String::from("the file is not UTF-8 from here on");
                Err(Faults::from(Fault { file, position: Some(position), message }))
            }
        }
    }

    /// Checks `text`. Faults call it `file_name`; relative paths in it are relative to `base_dir`. Secrets are read as
    /// by [`Config::load`].
    ///
    /// # Errors
    /// Everything that is wrong with it, each with its place, in the order of the text.
    pub fn parse(text: &str, file_name: &str, base_dir: &Path) -> Result<Self, Faults> {
        Self::parse_in(text, file_name, base_dir, |name| std::env::var_os(name))
    }

    /// As [`Config::parse`], in a given environment.
    pub(super) fn parse_in(
        text: &str,
        file_name: &str,
        base_dir: &Path,
        environment: Environment,
    ) -> Result<Self, Faults> {
        // Some editors begin a file with a mark that belongs to no line.
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        let document = Document::new(text, file_name, base_dir, environment);
        let (entries, syntax) = document.parse(text);
        let root = Table::root(&document, &entries);

        let upstreams = upstream::upstreams(&root);
        let auth = session::auth(&root);
        let routes = route::routes(&root, &upstreams, &auth);
        let mut config = Self {
            server: server::server(&root),
            admin: server::admin(&root),
            auth,
            session: session::session(&root),
            store: store::store(&root),
            limits: limits::limits(&root),
            log: server::log(&root),
            sandbox: sandbox::sandbox(&root),
            trusted_issuers: session::trusted_issuers(&root),
            upstreams,
            routes,
            source: super::Source::default(),
        };
        consistency::check(&document, &config);
        config.source = document.source();
        match document.into_faults(syntax) {
            None => Ok(config),
            Some(faults) => Err(faults),
        }
    }

    /// A fault of the value at `key_path`, such as `server.tls.certificate[0].chain`, found by a later check.
    pub fn fault_at(&self, key_path: &str, message: String) -> Fault {
        self.source.fault_at(key_path, message)
    }
}
