//! Merges the layers of a configuration into one table and remembers the source of every value. It does not know what
//! the keys mean; it learns that from the deserializer's refusals.

use std::collections::BTreeMap;

use toml::{Table, Value};

use super::mistakes::{ConfigErrors, Mistake};

/// The layer of a value; later ones win.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Layer {
    File,
    Environment,
    Flags,
}

/// The source of a value.
#[derive(Clone, Debug)]
struct Origin {
    layer: Layer,
    /// The file, the variable or the flag, in words.
    source: String,
    /// The value's literal text, while it may still have to be read as text.
    text: Option<String>,
    /// The deserializer's complaint before the value was read as text.
    first_problem: Option<String>,
}

/// What to do after a refused value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    /// The value was removed or has another reading: deserialize again.
    ReadAgain,
    /// The value cannot be removed, so no further mistakes can be found.
    Final,
}

/// The layers merged up to now.
#[derive(Debug, Default)]
pub(super) struct Layers {
    /// All values; those of later layers replace earlier ones.
    pub(super) table: Table,
    origins: BTreeMap<Vec<String>, Origin>,
    mistakes: Vec<Mistake>,
    /// Keys that were removed because of a mistake: mistakes that only follow from the removal are not reported.
    told: Vec<Vec<String>>,
}

impl Layers {
    /// Merges a file's values over the present ones.
    pub(super) fn add_table(&mut self, source: &str, table: Table) {
        let origin =
            Origin { layer: Layer::File, source: source.to_owned(), text: None, first_problem: None };
        self.merge(&origin, &[], table);
    }

    /// Sets one value, written as text, over the present one.
    pub(super) fn add_text(&mut self, layer: Layer, source: String, path: &[String], text: &str) {
        if path.iter().any(String::is_empty) {
            self.mistake(source, &path.join("."), "a part of this key is empty".to_owned());
            return;
        }
        let origin = Origin { layer, source, text: Some(text.to_owned()), first_problem: None };
        match value_of(text) {
            Value::Table(table) => self.merge(&origin, path, table),
            value => self.set(path, value, origin),
        }
    }

    fn merge(&mut self, origin: &Origin, above: &[String], table: Table) {
        for (key, value) in table {
            let path: Vec<String> = above.iter().cloned().chain([key]).collect();
            match value {
                Value::Table(inner) if !inner.is_empty() => self.merge(origin, &path, inner),
                value => self.set(&path, value, Origin { text: None, ..origin.clone() }),
            }
        }
    }

    /// Sets one value. It replaces what was at its key or below it, and any non-table above it.
    fn set(&mut self, path: &[String], value: Value, origin: Origin) {
        let Some((last, above)) = path.split_last() else { return };
        let mut table = &mut self.table;
        for (depth, word) in above.iter().enumerate() {
            let entry = table.entry(word.clone()).or_insert_with(|| Value::Table(Table::new()));
            if !entry.is_table() {
                *entry = Value::Table(Table::new());
                self.origins.remove(&path[..=depth]);
            }
            let Value::Table(inner) = entry else { return };
            table = inner;
        }
        table.insert(last.clone(), value);
        self.origins.retain(|other, _| !other.starts_with(path));
        self.origins.insert(path.to_vec(), origin);
    }

    /// Records a mistake.
    pub(super) fn mistake(&mut self, source: String, key: &str, problem: String) {
        self.mistakes.push(Mistake { source, key: key.to_owned(), problem });
    }

    /// Handles the deserializer's refusal of the value at `path`, for the reason `problem`.
    pub(super) fn refused(&mut self, path: &[String], problem: &str) -> Refusal {
        let unknown = problem.starts_with("unknown field");
        if let Some(origin) = self.origins.get_mut(path)
            && let Some(text) = origin.text.take()
        {
            let origin = Origin { first_problem: Some(problem.to_owned()), ..origin.clone() };
            if !unknown {
                self.set(path, Value::String(text), origin);
                return Refusal::ReadAgain;
            }
            let target = path.split_last().and_then(|(last, above)| {
                let key = last.strip_suffix("_file").filter(|key| !key.is_empty())?;
                Some([above, &[key.to_owned()]].concat())
            });
            if let Some(target) = target.filter(|_| origin.layer == Layer::Environment) {
                self.take_out(path);
                self.set_from_file(&target, &text, origin.source);
                return Refusal::ReadAgain;
            }
        }
        // A table is also refused because of a value that was removed from it.
        if !self.told.iter().any(|told| told.starts_with(path)) {
            let origin = self.origin_of(path);
            let source = origin.map_or_else(|| "no source".to_owned(), |origin| origin.source.clone());
            let first = origin.and_then(|origin| origin.first_problem.clone());
            self.mistake(source, &path.join("."), first.unwrap_or_else(|| problem.to_owned()));
        }
        self.told.push(path.to_vec());
        self.take_out(path)
    }

    /// Sets `target` to the content of `file`, unless a flag sets it.
    fn set_from_file(&mut self, target: &[String], file: &str, source: String) {
        let other = self.origins.get(target);
        if let Some(other) = other.filter(|other| other.layer == Layer::Environment) {
            let problem = format!("is set by {} too", other.source);
            return self.mistake(source, &target.join("."), problem);
        }
        if other.is_some_and(|other| other.layer == Layer::Flags) {
            return;
        }
        match std::fs::read_to_string(file) {
            Ok(content) => {
                let content = content.trim_end_matches(['\r', '\n']).to_owned();
                let origin = Origin { layer: Layer::Environment, source, text: None, first_problem: None };
                self.set(target, Value::String(content), origin);
            }
            Err(error) => self.mistake(source, &target.join("."), format!("{file} can't be read: {error}")),
        }
    }

    /// Returns the origin of the value at `path`, or of the list that it is in, or of something below it.
    fn origin_of(&self, path: &[String]) -> Option<&Origin> {
        let at_or_above = (1..=path.len()).rev().find_map(|length| self.origins.get(&path[..length]));
        let below = || self.origins.iter().find(|(other, _)| !path.is_empty() && other.starts_with(path));
        at_or_above.or_else(|| below().map(|(_, origin)| origin))
    }

    /// Removes the value at `path`. An element cannot leave its list without moving the others, so the whole list
    /// goes.
    fn take_out(&mut self, path: &[String]) -> Refusal {
        let keys = path.iter().rposition(|word| index_of(word).is_none()).map_or(0, |last| last + 1);
        let Some((last, above)) = path[..keys].split_last() else { return Refusal::Final };
        let mut table = Some(&mut self.table);
        let mut words = above.iter();
        while let Some(word) = words.next() {
            let mut value = table.and_then(|table| table.get_mut(word));
            for index in words.clone().map_while(|word| index_of(word)) {
                words.next();
                value = value.and_then(|value| value.get_mut(index));
            }
            table = value.and_then(Value::as_table_mut);
        }
        self.origins.retain(|other, _| !other.starts_with(&path[..keys]));
        match table.and_then(|table| table.remove(last)) {
            Some(_) => Refusal::ReadAgain,
            None => Refusal::Final,
        }
    }

    /// Returns the deserialized configuration, unless there were mistakes.
    pub(super) fn finish<T>(self, config: T) -> Result<T, ConfigErrors> {
        if self.mistakes.is_empty() { Ok(config) } else { Err(self.into_errors()) }
    }

    /// Returns the mistakes, in an order that does not depend on how they were found.
    pub(super) fn into_errors(mut self) -> ConfigErrors {
        self.mistakes.sort();
        ConfigErrors { mistakes: self.mistakes }
    }
}

/// Returns the path segment by which [`Layers::refused`] addresses an element of a list.
pub(super) fn index_word(index: usize) -> String {
    format!("[{index}]")
}

fn index_of(word: &str) -> Option<usize> {
    word.strip_prefix('[')?.strip_suffix(']')?.parse().ok()
}

/// Parses a text as TOML: a number, a boolean, a list or a table. Everything else is the literal text, quotes
/// included.
fn value_of(text: &str) -> Value {
    let key = "value";
    let parsed = format!("{key} = {text}").parse::<Table>().ok().filter(|table| table.len() == 1);
    match parsed.and_then(|mut table| table.remove(key)) {
        Some(value) if !value.is_str() => value,
        _ => Value::String(text.to_owned()),
    }
}
