//! The text of a configuration file: its tables, and what was found wrong in it so far.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::fmt::Display;
use std::path::{Path, PathBuf};

use toml::de::DeTable;

use super::fault::{self, Fault, Faults, Position, Source};

/// How a variable of the environment is asked for: an argument, so that tests need not change the process's own.
pub(super) type Environment = fn(&str) -> Option<OsString>;

/// Collects the faults and positions of one file while its tables are read.
pub(super) struct Document {
    file: String,
    text: String,
    base_dir: PathBuf,
    environment: Environment,
    line_starts: Vec<usize>,
    found: RefCell<Found>,
}

#[derive(Default)]
struct Found {
    faults: Vec<(Fault, Cause)>,
    positions: BTreeMap<String, Position>,
    faulty: BTreeSet<String>,
}

/// Whether a fault is of something that stands in the file.
#[derive(Clone, Copy, Eq, PartialEq)]
pub(super) enum Cause {
    /// It is there and wrong.
    Present,
    /// It is not there. Not to be believed when the parser lost parts of the file.
    Absent,
}

impl Document {
    pub(super) fn new(text: &str, file: &str, base_dir: &Path, environment: Environment) -> Self {
        let line_starts = std::iter::once(0).chain(text.match_indices('\n').map(|(at, _)| at + 1)).collect();
        Self {
            file: file.to_owned(),
            text: text.to_owned(),
            base_dir: base_dir.to_owned(),
            environment,
            line_starts,
            found: RefCell::default(),
        }
    }

    /// What relative paths are relative to.
    pub(super) fn base_dir(&self) -> &Path {
        &self.base_dir
    }

    /// The variable `name` of the environment.
    pub(super) fn variable(&self, name: &str) -> Option<OsString> {
        (self.environment)(name)
    }

    /// Of the byte at `offset`.
    pub(super) fn position(&self, offset: usize) -> Position {
        let line = self.line_starts.partition_point(|start| *start <= offset);
        let start = line.checked_sub(1).and_then(|index| self.line_starts.get(index)).copied().unwrap_or_default();
        let before = self.text.get(start..offset.min(self.text.len())).unwrap_or_default();
        Position { line, column: before.chars().count() + 1 }
    }

    /// Whether `sign` stands at `offset`.
    pub(super) fn starts_with(&self, offset: usize, sign: char) -> bool {
        self.text.get(offset..).is_some_and(|rest| rest.starts_with(sign))
    }

    /// Notes that the value of `path` stands at `offset`.
    pub(super) fn place(&self, path: &str, offset: usize) {
        let position = self.position(offset);
        self.found.borrow_mut().positions.insert(path.to_owned(), position);
    }

    /// Notes a fault of `path`, found at `offset`.
    pub(super) fn fault(&self, path: &str, offset: usize, cause: Cause, message: impl Display) {
        let position = Some(self.position(offset));
        let fault = Fault { file: self.file.clone(), position, message: message.to_string() };
        let mut found = self.found.borrow_mut();
        found.faulty.insert(path.to_owned());
        found.faults.push((fault, cause));
    }

    /// Whether a fault of `path` itself, of something inside it or of a table around it is known.
    ///
    /// Its value is then a stand-in, and comparing it with others would only find faults that are none.
    pub(super) fn faulty(&self, path: &str) -> bool {
        let faulty = &self.found.borrow().faulty;
        // All that begin alike stand beside each other.
        let mut inside = faulty.range(path.to_owned()..).map_while(|faulty| faulty.strip_prefix(path));
        let mut around = path.match_indices(['.', '[']).map(|(end, _)| &path[..end]);
        inside.any(|rest| rest.is_empty() || rest.starts_with(['.', '['])) || around.any(|path| faulty.contains(path))
    }

    /// Notes a fault of the value of `path` that shows only beside other values, at the place of `path`, or of its
    /// table when it was left out.
    pub(super) fn fault_beside(&self, path: &str, cause: Cause, message: impl Display) {
        let mut found = self.found.borrow_mut();
        let position = fault::lookup(&found.positions, path);
        let fault = Fault { file: self.file.clone(), position, message: message.to_string() };
        found.faulty.insert(path.to_owned());
        found.faults.push((fault, cause));
    }

    /// The positions noted so far.
    pub(super) fn source(&self) -> Source {
        Source::new(self.file.clone(), self.found.borrow().positions.clone())
    }

    /// The tables of the text, and the faults of its syntax.
    pub(super) fn parse<'t>(&self, text: &'t str) -> (DeTable<'t>, Syntax) {
        let (table, errors) = DeTable::parse_recoverable(text);
        let mut syntax = Syntax::default();
        for error in errors {
            let span = error.span().unwrap_or_default();
            let position = self.position(span.start);
            let (mut message, recovered) = explain(error.message());
            if let Some(key) = text.get(span).filter(|_| message == DUPLICATE_KEY) {
                message = format!("{DUPLICATE_KEY} {key:?}");
            }
            let fault = Fault { file: self.file.clone(), position: Some(position), message };
            // One slip often makes several errors of one line; the first names it best.
            if syntax.lines.insert(position.line) {
                syntax.faults.push(fault);
            }
            if !recovered {
                syntax.lost_from = Some(syntax.lost_from.map_or(position, |known| known.min(position)));
            }
        }
        (table.into_inner(), syntax)
    }

    /// All faults in the order of the file: those of the syntax, and those found in what the parser understood.
    pub(super) fn into_faults(self, syntax: Syntax) -> Option<Faults> {
        let Syntax { mut faults, lines, lost_from } = syntax;
        let believed = |fault: &Fault, cause: Cause| match (fault.position, lost_from) {
            (Some(position), _) if lines.contains(&position.line) => false,
            (_, Some(_)) if cause == Cause::Absent => false,
            (Some(position), Some(lost)) => position < lost,
            _ => true,
        };
        let found = self.found.into_inner().faults;
        faults.extend(found.into_iter().filter(|(fault, cause)| believed(fault, *cause)).map(|(fault, _)| fault));
        faults.sort_by_key(|fault| fault.position);
        faults.dedup();
        Faults::new(faults)
    }
}

/// What the parser itself could not read.
#[derive(Default)]
pub(super) struct Syntax {
    faults: Vec<Fault>,
    /// Lines with an error. What the parser made of their values is not judged further.
    lines: BTreeSet<usize>,
    /// From here on keys may be missing or in the wrong table.
    lost_from: Option<Position>,
}

/// What the parser says of a key that its table has already.
const DUPLICATE_KEY: &str = "duplicate key";

/// The parser's `message` in a form that helps, and whether it went on behind the value at fault as if nothing was
/// wrong. A message not known here counts as "did not": that hides faults until the next run, but invents none.
fn explain(message: &str) -> (String, bool) {
    const UNQUOTED: [&str; 5] =
        ["string values must be quoted", "invalid float", "invalid integer", "invalid boolean", "invalid date"];
    const RECOVERED: [&str; 5] = [
        DUPLICATE_KEY,
        "invalid basic string",
        "invalid literal string",
        "missing escaped value",
        "unexpected leading zero",
    ];
    let begins = |known: &&str| message.starts_with(*known);
    if UNQUOTED.iter().any(begins) {
        return (String::from("not a TOML value; text stands in quotes, as in \"30s\""), true);
    }
    (message.to_owned(), RECOVERED.iter().any(begins))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_column_counts_characters() {
        let document = Document::new("a = \"é\" x\n\nb", "f", Path::new(""), |_| None);
        for (offset, line, column) in [(0, 1, 1), (9, 1, 9), (11, 2, 1), (12, 3, 1), (13, 3, 2), (999, 3, 2)] {
            assert_eq!(document.position(offset), Position { line, column }, "{offset}");
        }
    }

    #[test]
    fn a_fault_counts_for_what_is_around_and_inside() {
        let document = Document::new("", "f", Path::new(""), |_| None);
        document.fault("route[1].path", 0, Cause::Present, "x");
        assert!(document.faulty("route[1].path") && document.faulty("route[1]") && document.faulty("route"));
        assert!(document.faulty("route[1].path.x") && document.faulty("route[1].path[0]"));
        assert!(!document.faulty("route[1].pat") && !document.faulty("route[0]") && !document.faulty("rout"));
    }
}
