//! Tables of a configuration file, read one key at a time.
//!
//! A value at fault is noted in the [`Document`] and read as `None`; whoever asked puts a stand-in in its place and
//! goes on, so that all faults are found in one run. A `Config` made with stand-ins is never handed out.

use std::cell::Cell;
use std::fmt::Display;
use std::sync::LazyLock;

use toml::Spanned;
use toml::de::{DeString, DeTable, DeValue};

use super::document::{Cause, Document};
use super::foreign;
use super::nearest::suggestion;
use super::shape::{self, Shape};
pub(super) use super::value::Value;

/// One table, whether it stands in the file or not.
pub(super) struct Table<'d> {
    document: &'d Document,
    shape: &'static Shape,
    /// Such as `route[1]`; empty for the root.
    path: String,
    /// What faults of this table begin with, such as `route "orders"`. Empty for the root.
    label: String,
    offset: usize,
    /// `None` when there is no such table.
    entries: Option<&'d DeTable<'d>>,
    /// Something else stands where the table should. That is noted, and its keys are not called missing as well.
    misshapen: bool,
}

impl<'d> Table<'d> {
    pub(super) fn root(document: &'d Document, entries: &'d DeTable<'d>) -> Self {
        let table = Self {
            document,
            shape: &shape::ROOT,
            path: String::new(),
            label: String::new(),
            offset: 0,
            entries: Some(entries),
            misshapen: false,
        };
        table.check_keys();
        table
    }

    pub(super) fn document(&self) -> &'d Document {
        self.document
    }

    pub(super) fn path(&self) -> &str {
        &self.path
    }

    pub(super) fn is_present(&self) -> bool {
        self.entries.is_some()
    }

    /// The value of `key`, one of the table's shape.
    pub(super) fn get(&self, key: &'static str) -> Option<Value<'d>> {
        debug_assert!(self.shape.keys.contains(&key), "{} has no key {key}", self.shape.title);
        let value = self.entries?.get(key)?;
        Some(Value::new(self.document, join(&self.path, key), &self.prefix(), key, value))
    }

    /// The value of `key`, or a fault that says what was expected.
    pub(super) fn require(&self, key: &'static str, expected: &str) -> Option<Value<'d>> {
        let value = self.get(key);
        if value.is_none() {
            self.missing(key, expected);
        }
        value
    }

    /// Notes that `key` is missing.
    pub(super) fn missing(&self, key: &str, expected: &str) {
        if self.misshapen {
            return;
        }
        self.document.fault(
            &join(&self.path, key),
            self.offset,
            Cause::Absent,
            format_args!("{}{key} is missing, expected {expected}", self.prefix()),
        );
    }

    /// Notes a fault of the table as a whole.
    pub(super) fn fault(&self, what: impl Display) {
        self.document.fault(&self.path, self.offset, Cause::Present, format_args!("{}{what}", self.prefix()));
    }

    /// The table at `key`; an empty one when it is not there or no table.
    pub(super) fn section(&self, key: &'static str, shape: &'static Shape) -> Table<'d> {
        self.labelled_section(key, shape, shape.title.trim_matches(['[', ']']).to_owned())
    }

    /// As [`Table::section`], of a table that has a name: its faults begin with that name and `key`.
    pub(super) fn subsection(&self, key: &'static str, shape: &'static Shape) -> Table<'d> {
        self.labelled_section(key, shape, format!("{}: {key}", self.label))
    }

    fn labelled_section(&self, key: &'static str, shape: &'static Shape, label: String) -> Table<'d> {
        match self.get(key) {
            Some(value) => Table::of(value, shape, label),
            None => Table {
                document: self.document,
                shape,
                path: join(&self.path, key),
                label,
                offset: self.offset,
                entries: None,
                misshapen: false,
            },
        }
    }

    /// The tables of the array at `key`, written `[[key]]`. Their faults begin with what `label` makes of each, or else
    /// with its number.
    pub(super) fn sections(
        &self,
        key: &'static str,
        shape: &'static Shape,
        label: impl Fn(&DeTable<'d>) -> Option<String>,
    ) -> Vec<Table<'d>> {
        self.array(key, shape, "[{ … }]", label)
    }

    /// As [`Table::sections`]; `example` is how the array looks on one line.
    fn array(
        &self,
        key: &'static str,
        shape: &'static Shape,
        example: &str,
        label: impl Fn(&DeTable<'d>) -> Option<String>,
    ) -> Vec<Table<'d>> {
        let Some(value) = self.get(key) else { return Vec::new() };
        let title = shape.title.trim_matches(['[', ']']);
        let label = |item: &Value<'d>, index: usize| {
            item.entries().and_then(&label).unwrap_or_else(|| format!("{title} {}", index + 1))
        };
        if value.entries().is_some() {
            if value.is_inline() {
                value.report(format_args!("is a single table, expected an array such as {example}"));
            } else {
                value
                    .report(format_args!("is a single table, expected its header in double brackets: {}", shape.title));
            }
            // Read all the same: it holds what the array should.
            let label = label(&value, 0);
            return vec![Table::of(value, shape, label)];
        }
        let items = value.items(&format!("tables, each below a line {}", shape.title)).into_iter().enumerate();
        let table = |(index, item)| {
            let label = label(&item, index);
            Table::of(item, shape, label)
        };
        items.map(table).collect()
    }

    /// The table at `key` of this one, such as `route.cors`. Its faults begin with this one's label.
    pub(super) fn inner(&self, key: &'static str, shape: &'static Shape) -> Table<'d> {
        let label = format!("{}{key}", self.prefix());
        match self.get(key) {
            Some(value) => Table::of(value, shape, label),
            None => Table { label, ..self.section(key, shape) },
        }
    }

    /// The tables of the array at `key` of this one, on one line as in `example`. Their faults begin with this one's
    /// label and their number.
    pub(super) fn inner_all(&self, key: &'static str, shape: &'static Shape, example: &str) -> Vec<Table<'d>> {
        let (prefix, count) = (self.prefix(), Cell::new(0));
        self.array(key, shape, example, |_| {
            count.set(count.get() + 1);
            Some(format!("{prefix}{key} {}", count.get()))
        })
    }

    /// The tables of `[key.NAME]` with their names, in the order of the file.
    pub(super) fn named(&self, key: &'static str, shape: &'static Shape) -> Vec<(&'d str, Table<'d>)> {
        let Some(value) = self.get(key) else { return Vec::new() };
        let Some(entries) = value.entries() else {
            value.wrong_type(&format!("tables, each below a line {}", shape.title));
            return Vec::new();
        };
        let mut named = entries.iter().collect::<Vec<_>>();
        named.sort_by_key(|(name, _)| name.span().start);
        let table = |(name, item): (&'d Spanned<DeString<'d>>, &'d Spanned<DeValue<'d>>)| {
            let name = &**name.get_ref();
            let item = Value::new(self.document, join(value.key_path(), name), "", &format!("{key}.{name}"), item);
            (name, Table::of(item, shape, format!("{key} {name:?}")))
        };
        named.into_iter().map(table).collect()
    }

    /// The table that `value` is; an empty one, and a fault, when it is something else.
    pub(super) fn of(value: Value<'d>, shape: &'static Shape, label: String) -> Self {
        static NOTHING: LazyLock<DeTable<'static>> = LazyLock::new(DeTable::new);
        let entries = value.entries();
        if entries.is_none() {
            value.wrong_type(&format!("a table below a line {}", shape.title));
        }
        let table = Self {
            document: value.document(),
            shape,
            path: value.key_path().to_owned(),
            label,
            offset: value.offset(),
            entries: Some(entries.unwrap_or(&NOTHING)),
            misshapen: entries.is_none(),
        };
        table.check_keys();
        table
    }

    fn prefix(&self) -> String {
        if self.label.is_empty() { String::new() } else { format!("{}: ", self.label) }
    }

    /// Notes each key that the shape does not have.
    fn check_keys(&self) {
        for key in self.entries.into_iter().flat_map(DeTable::keys) {
            let (name, offset) = (key.get_ref(), key.span().start);
            if self.shape.keys.contains(&&**name) {
                continue;
            }
            self.document.fault(
                &join(&self.path, name),
                offset,
                Cause::Present,
                format_args!("{}unknown key {name:?}{}", self.prefix(), self.hint(name)),
            );
        }
    }

    /// What an unknown key was most likely meant to be.
    fn hint(&self, name: &str) -> String {
        if let Some(meant) = foreign::key(name, self.shape) {
            return meant;
        }
        // `timeout` of an upstream means one of its own, not that of the store.
        let part_of_own = format!("_{name}");
        if self.shape.keys.iter().any(|key| key.ends_with(&part_of_own)) {
            return suggestion(name, self.shape.keys.iter().copied());
        }
        // The tables of an upstream have keys with names of the most common kind: they mean something to it alone.
        let inside = |shape: &Shape| shape.title.trim_matches('[').starts_with("upstream.NAME");
        let homes = shape::ALL.iter().filter(|home| home.keys.contains(&name));
        let homes = homes.filter(|home| inside(self.shape) || !inside(home) || std::ptr::eq(**home, &shape::UPSTREAM));
        let homes = homes.map(|home| home.title).collect::<Vec<_>>();
        match homes.as_slice() {
            [] => {}
            [one] => return format!(", which belongs in {one}"),
            [first @ .., last] => return format!(", which belongs in {} or {last}", first.join(", ")),
        }
        suggestion(name, self.shape.keys.iter().copied())
    }
}

fn join(path: &str, key: &str) -> String {
    if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") }
}
