//! The table: rows of figures, printed for people and written as JSON. It measures nothing.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use serde_json::{Value, json};

use crate::Fault;
use crate::measure::median;

/// One figure, with one value per round.
#[derive(Debug)]
pub struct Row {
    name: String,
    unit: &'static str,
    values: Vec<f64>,
    least: Option<f64>,
    most: Option<f64>,
    loads: Vec<f64>,
}

impl Row {
    /// Makes a figure with its value in each round.
    pub fn new(name: impl Into<String>, unit: &'static str, values: Vec<f64>) -> Self {
        Self { name: name.into(), unit, values, least: None, most: None, loads: Vec::new() }
    }

    /// Sets the lower limit of the figure.
    #[must_use]
    pub fn at_least(self, least: f64) -> Self {
        Self { least: Some(least), ..self }
    }

    /// Sets the upper limit of the figure.
    #[must_use]
    pub fn at_most(self, most: f64) -> Self {
        Self { most: Some(most), ..self }
    }

    /// Adds the machine's load average in each round.
    #[must_use]
    pub fn under(self, loads: &[f64]) -> Self {
        Self { loads: loads.to_vec(), ..self }
    }

    /// Returns the limit in words, and whether the median keeps it.
    fn verdict(&self) -> Option<(String, bool)> {
        let median = median(&self.values);
        match (self.least, self.most) {
            (Some(least), Some(most)) => {
                Some((format!("{least} to {most}"), (least..=most).contains(&median)))
            }
            (Some(least), None) => Some((format!("at least {least}"), median >= least)),
            (None, Some(most)) => Some((format!("at most {most}"), median <= most)),
            (None, None) => None,
        }
    }

    fn line(&self) -> String {
        let low = self.values.iter().copied().fold(f64::INFINITY, f64::min);
        let high = self.values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let spread = format!("{} to {}", figure(low), figure(high));
        let mut line = format!(
            "    {:<58} {:>9} {:<9} {:>19}",
            self.name,
            figure(median(&self.values)),
            self.unit,
            spread
        );
        if !self.loads.is_empty() {
            let _ = write!(line, "   load {:.1}", median(&self.loads));
        }
        if let Some((limit, holds)) = self.verdict() {
            let _ = write!(line, "   {limit}: {}", if holds { "holds" } else { "MISSED" });
        }
        line
    }

    fn json(&self) -> Value {
        json!({
            "name": self.name,
            "unit": self.unit,
            "median": median(&self.values),
            "rounds": self.values,
            "at_least": self.least,
            "at_most": self.most,
            "loads": self.loads,
        })
    }
}

/// Formats a value with three significant digits and separated thousands.
fn figure(value: f64) -> String {
    let digits = match value.abs() {
        size if size >= 100.0 => 0,
        size if size >= 10.0 => 1,
        size if size >= 1.0 => 2,
        _ => 3,
    };
    let plain = format!("{value:.digits$}");
    let (sign, number) = plain.strip_prefix('-').map_or(("", plain.as_str()), |number| ("-", number));
    let whole = number.split('.').next().unwrap_or_default().len();
    let mut text = sign.to_owned();
    for (place, character) in number.chars().enumerate() {
        if place > 0 && place < whole && (whole - place).is_multiple_of(3) {
            text.push(',');
        }
        text.push(character);
    }
    text
}

/// Formats a note as an item of a list, in lines no longer than the table's.
fn wrapped(note: &str) -> String {
    const WIDTH: usize = 104;
    let (mut text, mut line) = (String::new(), String::from("  *"));
    for word in note.split_whitespace() {
        if line.len() + 1 + word.len() > WIDTH {
            text.push_str(&line);
            text.push('\n');
            line = String::from("   ");
        }
        line.push(' ');
        line.push_str(word);
    }
    text + &line + "\n"
}

/// A part of the table, with notes on how to read it.
#[derive(Debug)]
pub struct Section {
    /// What is measured.
    pub title: String,
    /// The figures.
    pub rows: Vec<Row>,
    /// The notes on how to read the figures.
    pub notes: Vec<String>,
}

/// The whole table.
#[derive(Debug)]
pub struct Report {
    machine: Vec<(&'static str, String)>,
    quick: bool,
    sections: Vec<Section>,
}

impl Report {
    /// Makes a table without a section, measured on this machine.
    #[must_use]
    pub const fn new(machine: Vec<(&'static str, String)>, quick: bool) -> Self {
        Self { machine, quick, sections: Vec::new() }
    }

    /// Adds a section at its end.
    pub fn add(&mut self, section: Section) {
        self.sections.push(section);
    }

    /// Records the machine's load at the end.
    pub fn end(&mut self, load: String) {
        self.machine.push(("load at the end", load));
    }

    /// Returns the table as text for people.
    #[must_use]
    pub fn text(&self) -> String {
        let mut text = String::from(
            "\nInfera, measured. Medians of interleaved rounds, lowest to highest beside them.\n\n",
        );
        if self.quick {
            text.push_str(
                "QUICK: rounds of a fraction of a second try the harness; these figures mean nothing.\n\n",
            );
        }
        for (name, value) in &self.machine {
            let _ = writeln!(text, "    {name:<20} {value}");
        }
        for section in &self.sections {
            let _ = writeln!(text, "\n{}", section.title);
            for row in &section.rows {
                let _ = writeln!(text, "{}", row.line());
            }
            for note in &section.notes {
                text.push_str(&wrapped(note));
            }
        }
        text
    }

    /// Writes the table as JSON, with every round's value.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn write(&self, path: &Path) -> Result<(), Fault> {
        let machine: serde_json::Map<String, Value> =
            self.machine.iter().map(|(name, value)| ((*name).to_owned(), json!(value))).collect();
        let sections: Vec<Value> = self
            .sections
            .iter()
            .map(|section| {
                let rows: Vec<Value> = section.rows.iter().map(Row::json).collect();
                json!({ "title": section.title, "rows": rows, "notes": section.notes })
            })
            .collect();
        let json = json!({ "quick": self.quick, "machine": machine, "sections": sections });
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder)?;
        }
        Ok(fs::write(path, serde_json::to_string_pretty(&json)? + "\n")?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_figure_keeps_both_of_its_limits_or_is_said_to_miss_them() {
        let row = |value| Row::new("a ratio", "", vec![value]).at_least(0.95).at_most(1.05);
        let verdicts =
            [0.94, 0.95, 1.0, 1.06].map(|value| row(value).verdict().is_some_and(|(_, holds)| holds));
        assert_eq!(verdicts, [false, true, true, false]);
        assert!(row(1.0).line().ends_with("0.95 to 1.05: holds"));
    }
}
