//! What is printed and written down: tables of what was seen, and each figure with its target.

use std::fmt::Write as _;

/// Printed as it grows.
#[derive(Default)]
pub(crate) struct Report {
    details: String,
    figures: Vec<Vec<String>>,
}

impl Report {
    pub(crate) fn section(&mut self, title: &str) {
        self.add(&format!("\n## {title}\n"));
    }

    pub(crate) fn text(&mut self, text: &str) {
        self.add(&format!("{text}\n"));
    }

    pub(crate) fn table(&mut self, head: &[&str], rows: &[Vec<String>]) {
        self.add(&format!("{}\n", table(head, rows)));
    }

    /// `met`: whether the target is; `None` without a target.
    pub(crate) fn figure(&mut self, what: &str, is: &str, target: &str, met: Option<bool>) {
        let met = met.map_or("", |met| if met { "yes" } else { "**no**" });
        println!("=> {what}: {is}{}{target} {met}", if target.is_empty() { "" } else { ", target: " });
        self.figures.push([what, is, target, met].map(str::to_owned).to_vec());
    }

    fn add(&mut self, text: &str) {
        println!("{text}");
        self.details.push_str(text);
        self.details.push('\n');
    }

    /// All of it as Markdown, the figures first.
    pub(crate) fn markdown(&self, machine: &str) -> String {
        let figures = table(&["what", "is", "target", "met"], &self.figures);
        format!("# What Portcullis' own state costs\n\nMade by `bench/scale`. {machine}.\n\n{figures}{}", self.details)
    }
}

fn table(head: &[&str], rows: &[Vec<String>]) -> String {
    let mut text = format!("| {} |\n|{}\n", head.join(" | "), " --- |".repeat(head.len()));
    for row in rows {
        writeln!(text, "| {} |", row.join(" | ")).expect("a string takes all");
    }
    text
}

/// The one in the middle.
pub(crate) fn median(figures: impl Iterator<Item = f64>) -> f64 {
    let mut figures: Vec<_> = figures.collect();
    figures.sort_unstable_by(f64::total_cmp);
    figures.get(figures.len() / 2).copied().unwrap_or(f64::NAN)
}

/// A count to reckon with.
#[expect(clippy::cast_precision_loss, reason = "counts here are far below 2^52")]
pub(crate) fn number(count: usize) -> f64 {
    count as f64
}
