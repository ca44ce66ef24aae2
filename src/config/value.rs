//! One value of a configuration file: what it must be, and what is said when it is something else.

use std::fmt::Display;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use toml::Spanned;
use toml::de::{DeString, DeTable, DeValue};

use super::document::{Cause, Document};
use super::nearest::suggestion;
use super::{Rate, foreign, units};

/// One value and where it stands.
#[derive(Clone)]
pub(super) struct Value<'d> {
    document: &'d Document,
    path: String,
    prefix: String,
    key: String,
    offset: usize,
    value: &'d DeValue<'d>,
}

impl<'d> Value<'d> {
    /// `prefix` and `key` are what its faults begin with.
    pub(super) fn new(
        document: &'d Document,
        path: String,
        prefix: &str,
        key: &str,
        value: &'d Spanned<DeValue<'d>>,
    ) -> Self {
        let offset = value.span().start;
        document.place(&path, offset);
        Self { document, path, prefix: prefix.to_owned(), key: key.to_owned(), offset, value: value.get_ref() }
    }

    pub(super) fn document(&self) -> &'d Document {
        self.document
    }

    /// Such as `route[1].path`.
    pub(super) fn key_path(&self) -> &str {
        &self.path
    }

    /// Where it stands, in bytes from the start of the file.
    pub(super) fn offset(&self) -> usize {
        self.offset
    }

    /// The entries of a table; `None` for another type.
    pub(super) fn entries(&self) -> Option<&'d DeTable<'d>> {
        match self.value {
            DeValue::Table(entries) => Some(entries),
            _ => None,
        }
    }

    /// Notes that the value `what`, and shows it.
    pub(super) fn fault(&self, what: impl Display) {
        self.note(Cause::Present, format_args!("{} {what}", self.shown()));
    }

    /// Notes that what the value names `what`: not to be believed when parts of the file are lost.
    pub(super) fn fault_absent(&self, what: impl Display) {
        self.note(Cause::Absent, format_args!("{} {what}", self.shown()));
    }

    /// Notes that the value `what` without showing it: for what may hold a secret.
    pub(super) fn report(&self, what: impl Display) {
        self.note(Cause::Present, what);
    }

    /// As [`Value::report`], of what is only a fault while something else is not there: not to be believed when parts of
    /// the file are lost.
    pub(super) fn report_absent(&self, what: impl Display) {
        self.note(Cause::Absent, what);
    }

    /// Notes that the value is of the wrong type.
    pub(super) fn wrong_type(&self, expected: &str) {
        self.report(format_args!("is {}, expected {expected}", type_name(self.value)));
    }

    fn note(&self, cause: Cause, what: impl Display) {
        self.document.fault(&self.path, self.offset, cause, format_args!("{}{} {what}", self.prefix, self.key));
    }

    /// The value as the file writes it, cut when long, and without the user of a URL, which may be a password.
    fn shown(&self) -> String {
        const LONGEST: usize = 100;
        let text = match self.value {
            DeValue::String(text) => {
                let host = text.rfind('@').filter(|_| text.contains("://") || text.contains(':'));
                format!("{:?}", host.map_or_else(|| text.to_string(), |at| format!("…{}", &text[at..])))
            }
            DeValue::Integer(number) => number.to_string(),
            DeValue::Float(number) => number.as_str().to_owned(),
            DeValue::Boolean(value) => value.to_string(),
            other => other.type_str().to_owned(),
        };
        match text.char_indices().nth(LONGEST) {
            Some((end, _)) => format!("{}…", &text[..end]),
            None => text,
        }
    }

    /// Whether it is written in braces, and not below a header.
    pub(super) fn is_inline(&self) -> bool {
        self.document.starts_with(self.offset, '{')
    }

    /// The text of a string.
    pub(super) fn text(&self, expected: &str) -> Option<&'d str> {
        match self.value {
            DeValue::String(text) => Some(text),
            _ => {
                self.wrong_type(expected);
                None
            }
        }
    }

    /// A string that is neither empty nor has control characters, nor space at its ends.
    pub(super) fn name(&self, expected: &str) -> Option<&'d str> {
        let text = self.text(expected)?;
        if text.is_empty() {
            self.report(format_args!("is empty, expected {expected}"));
        } else if text.chars().any(char::is_control) {
            // Not shown: text of several lines is no name, and may be a key that someone put where its path should be.
            self.report(format_args!("has control characters, expected {expected}"));
        } else if text.trim() != text {
            self.fault(format_args!("has surrounding space, expected {expected}"));
        } else {
            return Some(text);
        }
        None
    }

    /// The elements of an array of `expected`; none when it is another type.
    pub(super) fn items(&self, expected: &str) -> Vec<Value<'d>> {
        let DeValue::Array(items) = self.value else {
            self.wrong_type(&format!("an array of {expected}"));
            return Vec::new();
        };
        let element =
            |(index, item)| Value::new(self.document, format!("{}[{index}]", self.path), &self.prefix, &self.key, item);
        items.iter().enumerate().map(element).collect()
    }

    /// As [`Value::items`], but an empty array is a fault.
    pub(super) fn some_items(&self, expected: &str) -> Vec<Value<'d>> {
        let items = self.items(expected);
        if items.is_empty() && matches!(self.value, DeValue::Array(_)) {
            self.report(format_args!("is empty, expected an array of {expected}"));
        }
        items
    }

    /// One string, which stands for itself, or the elements of an array as [`Value::some_items`] gives them.
    pub(super) fn one_or_some_items(&self, one: &str, several: &str) -> Vec<Value<'d>> {
        match self.value {
            DeValue::String(_) => vec![self.clone()],
            DeValue::Array(_) => self.some_items(several),
            _ => {
                self.wrong_type(&format!("{one}, or an array of them"));
                Vec::new()
            }
        }
    }

    /// The elements of an array; none, and no fault, when it is another type.
    pub(super) fn peek(&self) -> Vec<Value<'d>> {
        match self.value {
            DeValue::Array(_) => self.items(""),
            _ => Vec::new(),
        }
    }

    /// The entries of a table whose keys are names, in the order of the file; none when it is another type.
    pub(super) fn members(&self, expected: &str) -> Vec<(&'d str, Value<'d>)> {
        let Some(entries) = self.entries() else {
            self.wrong_type(&format!("a table of {expected}"));
            return Vec::new();
        };
        let mut entries = entries.iter().collect::<Vec<_>>();
        entries.sort_by_key(|(name, _)| name.span().start);
        let prefix = format!("{}{}: ", self.prefix, self.key);
        let member = |(name, item): (&'d Spanned<DeString<'d>>, &'d Spanned<DeValue<'d>>)| {
            let name = &**name.get_ref();
            (name, Value::new(self.document, format!("{}.{name}", self.path), &prefix, name, item))
        };
        entries.into_iter().map(member).collect()
    }

    /// Reads each string of an array with `read`, and notes those that were there before.
    pub(super) fn each<T: PartialEq>(&self, items: Vec<Value<'d>>, read: impl Fn(&Value<'d>) -> Option<T>) -> Vec<T> {
        let mut values = Vec::with_capacity(items.len());
        for item in items {
            let Some(value) = read(&item) else { continue };
            if values.contains(&value) {
                item.fault("is listed twice");
            } else {
                values.push(value);
            }
        }
        values
    }

    /// `true` or `false`.
    pub(super) fn flag(&self) -> Option<bool> {
        self.switch("true or false")
    }

    /// As [`Value::flag`], where something else than the two could stand as well: `expected` says what.
    pub(super) fn switch(&self, expected: &str) -> Option<bool> {
        match self.value {
            DeValue::Boolean(value) => Some(*value),
            _ => {
                self.wrong_type(expected);
                None
            }
        }
    }

    /// One of the words of `choices`.
    pub(super) fn choice<T: Copy>(&self, choices: &[(&str, T)]) -> Option<T> {
        let words = choices.iter().map(|(word, _)| *word);
        let text = self.text(&quoted_list(words.clone()))?;
        let choice = choices.iter().find(|(word, _)| *word == text).map(|(_, choice)| *choice);
        if choice.is_none() {
            let meant = foreign::value(text, words.clone()).unwrap_or_else(|| suggestion(text, words));
            self.fault(format_args!("is not known{meant}"));
        }
        choice
    }

    /// Whether the value is the string `word`.
    pub(super) fn is_word(&self, word: &str) -> bool {
        matches!(self.value, DeValue::String(text) if text == word)
    }

    /// A whole number of `range`. `instead_of_zero` is the word that says what someone may have meant by 0.
    pub(super) fn count(&self, range: RangeInclusive<u64>, instead_of_zero: Option<&str>) -> Option<u64> {
        let (least, most) = (range.start(), range.end());
        let DeValue::Integer(number) = self.value else {
            let word = instead_of_zero.map(|word| format!(" or {word:?}")).unwrap_or_default();
            self.wrong_type(&format!("a whole number from {least} to {most}{word}"));
            return None;
        };
        let value = i128::from_str_radix(number.as_str(), number.radix()).ok();
        if let (Some(0), Some(word)) = (value, instead_of_zero) {
            self.fault(format_args!("is refused: say {word:?}"));
            return None;
        }
        let value = value.and_then(|value| u64::try_from(value).ok()).filter(|value| range.contains(value));
        if value.is_none() {
            self.fault(format_args!("is out of range, expected a whole number from {least} to {most}"));
        }
        value
    }

    /// A duration of at least `least`.
    pub(super) fn duration(&self, least: Duration) -> Option<Duration> {
        self.measured(least, None, "a duration such as \"30s\"", "s", units::parse_duration, units::show_duration)
    }

    /// A duration of `range`.
    pub(super) fn duration_within(&self, range: RangeInclusive<Duration>) -> Option<Duration> {
        let duration = self.duration(*range.start())?;
        if duration > *range.end() {
            self.fault(format_args!("is too long, expected at most {:?}", units::show_duration(*range.end())));
            return None;
        }
        Some(duration)
    }

    /// A duration, or `"never"`: `Some(None)`.
    pub(super) fn duration_or_never(&self, least: Duration) -> Option<Option<Duration>> {
        if self.is_word("never") {
            return Some(None);
        }
        let expected = "a duration such as \"30s\", or \"never\"";
        self.measured(least, Some("never"), expected, "s", units::parse_duration, units::show_duration).map(Some)
    }

    /// A size of `range`, in bytes.
    pub(super) fn size(&self, range: RangeInclusive<u64>) -> Option<u64> {
        let expected = "a size such as \"32KiB\"";
        let size = self.measured(*range.start(), None, expected, "B", units::parse_size, units::show_size)?;
        if size > *range.end() {
            self.fault(format_args!("is too large, expected at most {:?}", units::show_size(*range.end())));
            return None;
        }
        Some(size)
    }

    /// A size, or `"unlimited"`: `Some(None)`.
    pub(super) fn size_or_unlimited(&self) -> Option<Option<u64>> {
        if self.is_word("unlimited") {
            return Some(None);
        }
        let expected = "a size such as \"32KiB\", or \"unlimited\"";
        self.measured(1, Some("unlimited"), expected, "B", units::parse_size, units::show_size).map(Some)
    }

    /// A rate, or `"unlimited"`: `Some(None)`.
    pub(super) fn rate_or_unlimited(&self) -> Option<Option<Rate>> {
        if self.is_word("unlimited") {
            return Some(None);
        }
        self.rate_or("a rate such as \"60/1m\", or \"unlimited\"", Some("unlimited")).map(Some)
    }

    /// A rate.
    pub(super) fn rate(&self) -> Option<Rate> {
        self.rate_or("a rate such as \"60/1m\"", None)
    }

    fn rate_or(&self, expected: &str, instead_of_zero: Option<&str>) -> Option<Rate> {
        if let DeValue::Integer(number) = self.value {
            match number.as_str() {
                "0" if let Some(word) = instead_of_zero => self.fault(format_args!("is refused: say {word:?}")),
                _ => self.fault(format_args!("needs a period, such as \"{number}/1m\"")),
            }
            return None;
        }
        let rate = units::parse_rate(self.text(expected)?);
        rate.map_err(|why| self.fault(why)).ok()
    }

    /// A number with a unit, at least `least`. `never` is the word that says what someone may have meant by 0.
    fn measured<T: Copy + PartialOrd + Default>(
        &self,
        least: T,
        never: Option<&str>,
        expected: &str,
        unit: &str,
        parse: fn(&str) -> Result<T, String>,
        show: fn(T) -> String,
    ) -> Option<T> {
        let zero = || match never {
            Some(word) => self.fault(format_args!("is refused: say {word:?}")),
            None => self.fault(format_args!("is refused, expected at least {:?}", show(least))),
        };
        if let DeValue::Integer(number) = self.value {
            match number.as_str() {
                "0" => zero(),
                digits => {
                    self.fault(format_args!("needs a unit, such as \"{}{unit}\"", digits.trim_matches(['-', '+'])))
                }
            }
            return None;
        }
        let text = self.text(expected)?;
        if matches!(text, "never" | "unlimited") {
            self.fault(format_args!("is not possible here, expected {expected}"));
            return None;
        }
        let value = match parse(text) {
            Ok(value) => value,
            Err(why) => {
                self.fault(why);
                return None;
            }
        };
        if value == T::default() {
            zero();
        } else if value < least {
            self.fault(format_args!("is too small, expected at least {:?}", show(least)));
        } else {
            return Some(value);
        }
        None
    }

    /// A number that is not whole.
    pub(super) fn fraction(&self) -> Option<f64> {
        match self.value {
            DeValue::Float(number) => number.as_str().parse().ok(),
            _ => None,
        }
    }

    /// Whether the value is a number of any kind.
    pub(super) fn is_number(&self) -> bool {
        matches!(self.value, DeValue::Float(_) | DeValue::Integer(_))
    }

    /// A path, relative ones from the file's directory.
    pub(super) fn path(&self) -> Option<PathBuf> {
        let text = self.name("a path")?;
        if let Some(path) = text.strip_prefix("file:") {
            self.fault(format_args!("is a path without \"file:\", expected {path:?}"));
            return None;
        }
        Some(self.document.base_dir().join(text))
    }

    /// What `parse` makes of a string. Its error is put behind the value.
    pub(super) fn parsed<T>(&self, expected: &str, parse: impl FnOnce(&str) -> Result<T, String>) -> Option<T> {
        parse(self.text(expected)?).map_err(|why| self.fault(why)).ok()
    }
}

fn quoted_list<'w>(words: impl Iterator<Item = &'w str>) -> String {
    format!("one of {}", words.map(|word| format!("{word:?}")).collect::<Vec<_>>().join(", "))
}

fn type_name(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "a string",
        DeValue::Integer(_) => "a whole number",
        DeValue::Float(_) => "a number",
        DeValue::Boolean(_) => "true or false",
        DeValue::Datetime(_) => "a date",
        DeValue::Array(_) => "an array",
        DeValue::Table(_) => "a table",
    }
}
