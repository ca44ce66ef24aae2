//! What is wrong in a configuration file, and where.

use std::collections::BTreeMap;
use std::fmt;

use serde::Serialize;

/// A place in the configuration file. Both count from 1; a column is a character, not a byte.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd, Serialize)]
pub struct Position {
    /// The line.
    pub line: usize,
    /// The column.
    pub column: usize,
}

/// One thing to put right. Shown as `config.toml:12:5: route "orders": …`.
///
/// The text holds no secret, so it may be printed and logged.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
pub struct Fault {
    /// The configuration file, as it was named by whoever asked for it.
    pub file: String,
    /// Where in it; `None` when the file as a whole is meant, for instance because it cannot be read. As JSON the
    /// members `line` and `column` stand beside the others, or are absent.
    #[serde(flatten)]
    pub position: Option<Position>,
    /// What is wrong and what was expected instead.
    pub message: String,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.position {
            Some(Position { line, column }) => write!(f, "{}:{line}:{column}: {}", self.file, self.message),
            None => write!(f, "{}: {}", self.file, self.message),
        }
    }
}

/// Everything that is wrong in a configuration file, in the order of the file. Never empty.
///
/// Shown as one line for each fault and a last one with their number.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Faults(Vec<Fault>);

impl Faults {
    /// `None` when `faults` is empty: then there is nothing to report.
    pub fn new(faults: Vec<Fault>) -> Option<Self> {
        if faults.is_empty() { None } else { Some(Self(faults)) }
    }

    /// The faults, in the order of the file.
    pub fn iter(&self) -> std::slice::Iter<'_, Fault> {
        self.0.iter()
    }
}

impl From<Fault> for Faults {
    fn from(fault: Fault) -> Self {
        Self(vec![fault])
    }
}

impl IntoIterator for Faults {
    type Item = Fault;
    type IntoIter = std::vec::IntoIter<Fault>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter()
    }
}

impl<'a> IntoIterator for &'a Faults {
    type Item = &'a Fault;
    type IntoIter = std::slice::Iter<'a, Fault>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl fmt::Display for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for fault in &self.0 {
            writeln!(f, "{fault}")?;
        }
        match self.0.len() {
            1 => f.write_str("1 fault"),
            count => write!(f, "{count} faults"),
        }
    }
}

impl std::error::Error for Faults {}

/// Where each value of a configuration came from, so that a later check can blame the right line.
///
/// A key path is spelled as in the file, elements of arrays counted from 0: `server.tls.certificate[0].chain`,
/// `upstream.orders.servers[1]`, `route[3].path`.
#[derive(Clone, Debug, Default)]
pub struct Source {
    file: String,
    positions: BTreeMap<String, Position>,
}

impl Source {
    pub(super) fn new(file: String, positions: BTreeMap<String, Position>) -> Self {
        Self { file, positions }
    }

    /// The configuration file, as it was named by whoever loaded it.
    pub fn file(&self) -> &str {
        &self.file
    }

    /// Where the value of `key_path` stands. For one that the file leaves out, where its table starts; `None` when that
    /// is not there either.
    pub fn position(&self, key_path: &str) -> Option<Position> {
        lookup(&self.positions, key_path)
    }

    /// Whether the file gives a value for `key_path`.
    pub(super) fn has(&self, key_path: &str) -> bool {
        self.positions.contains_key(key_path)
    }

    /// A fault of the value at `key_path`. See [`Source::position`] for the line that is blamed.
    pub fn fault_at(&self, key_path: &str, message: String) -> Fault {
        Fault { file: self.file.clone(), position: self.position(key_path), message }
    }

    #[cfg(test)]
    pub(super) fn key_paths(&self) -> impl Iterator<Item = &str> {
        self.positions.keys().map(String::as_str)
    }
}

/// The position of `key_path`, or of the nearest table around it.
pub(super) fn lookup(positions: &BTreeMap<String, Position>, key_path: &str) -> Option<Position> {
    let mut path = key_path;
    loop {
        if let Some(position) = positions.get(path) {
            return Some(*position);
        }
        path = &path[..path.rfind(['.', '['])?];
    }
}
