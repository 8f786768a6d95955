//! Reads the query of a path, such as `?after=…&limit=20`. A parameter that a path doesn't know is refused, because a
//! misspelt filter would otherwise show everything.

use std::ops::RangeInclusive;

use crate::fastapi::form::{decoded, pairs};
use crate::fastapi::{Flaw, Json, Mistakes, Step, Unfit};
use infera_ledger::Metadata;

/// The largest number of parameters. No path has half as many names, and each pair of metadata is one.
const PARAMETERS_MAX: usize = 40;

/// The parameters of a query, and what is wrong with them.
#[derive(Debug, Default)]
pub(crate) struct Query {
    pairs: Vec<(String, String)>,
    mistakes: Mistakes,
}

impl Query {
    /// Reads a query whose parameters have to be among `known`. The name `metadata` stands for `metadata[key]`.
    #[must_use]
    pub(crate) fn read(text: Option<&str>, known: &[&str]) -> Self {
        let mut query = Self::default();
        for (place, (name, value)) in pairs(text.unwrap_or_default()).enumerate() {
            let (Some(name), Some(value)) = (decoded(name), decoded(value)) else {
                query.wrong(name, "Input should be percent-encoded UTF-8".to_owned(), value);
                continue;
            };
            let stands_for = if key_of(&name).is_some() { "metadata" } else { name.as_str() };
            if !known.contains(&stands_for) || name == "metadata" {
                let message = format!("This parameter is not known here; known are {}", known.join(", "));
                query.wrong(&name, message, &value);
            } else if query.text(&name).is_some() {
                query.wrong(&name, "This parameter is given twice".to_owned(), &value);
            } else if place >= PARAMETERS_MAX {
                query.wrong(&name, format!("A query has at most {PARAMETERS_MAX} parameters"), &value);
            } else {
                query.pairs.push((name, value));
            }
        }
        query
    }

    /// Notes what is wrong with a parameter.
    pub(crate) fn wrong(&mut self, name: &str, message: String, value: &str) {
        let flaw = Flaw::new("value_error", message);
        self.mistakes.add(&[Step::their_name(name)], flaw, &Json::Text(value.to_owned()));
    }

    /// Returns a parameter's text.
    #[must_use]
    pub(crate) fn text(&self, name: &str) -> Option<&str> {
        self.pairs.iter().find(|(given, _)| given == name).map(|(_, value)| value.as_str())
    }

    /// Returns what `read` makes of a parameter, if it is given. Where `read` returns none, the parameter is noted as
    /// wrong: it should be `expected`.
    pub(crate) fn parsed<T>(
        &mut self,
        name: &str,
        expected: &str,
        read: impl FnOnce(&str) -> Option<T>,
    ) -> Option<T> {
        let text = self.text(name)?.to_owned();
        let value = read(&text);
        if value.is_none() {
            self.wrong(name, format!("Input should be {expected}"), &text);
        }
        value
    }

    /// Returns a whole number within `range`, or `default` if it isn't given or is wrong.
    pub(crate) fn number(&mut self, name: &str, range: RangeInclusive<u64>, default: u64) -> u64 {
        let expected = format!("a whole number from {} to {}", range.start(), range.end());
        let within = |text: &str| text.parse().ok().filter(|number| range.contains(number));
        self.parsed(name, &expected, within).unwrap_or(default)
    }

    /// Returns the pairs that are given as `metadata[key]=value`.
    #[must_use]
    pub(crate) fn metadata(&self) -> Metadata {
        let pair = |(name, value): &(String, String)| Some((key_of(name)?.to_owned(), value.clone()));
        self.pairs.iter().filter_map(pair).collect()
    }

    /// Returns `value` if nothing is wrong with the query.
    ///
    /// # Errors
    /// [`Unfit::Mistakes`]: all that is wrong.
    pub(crate) fn none_wrong<T>(self, value: T) -> Result<T, Unfit> {
        Ok(self.mistakes.none_or(value)?)
    }
}

fn key_of(name: &str) -> Option<&str> {
    name.strip_prefix("metadata[")?.strip_suffix(']')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mistakes(query: Query) -> usize {
        match query.none_wrong(()) {
            Err(Unfit::Mistakes(mistakes)) => mistakes.count(),
            _ => 0,
        }
    }

    #[test]
    fn a_query_is_read_as_a_form_is_written() {
        let known = ["after", "limit", "metadata"];
        let text = "after=a%20b+c&limit=7&metadata[k]=v&metadata%5Bl%5D=%C3%A9";
        let mut query = Query::read(Some(text), &known);
        assert_eq!(query.text("after"), Some("a b c"));
        assert_eq!((query.number("limit", 1..=9, 3), query.number("wait", 0..=60, 5)), (7, 5));
        let pairs: Vec<_> = query.metadata().into_iter().collect();
        assert_eq!(pairs, [("k".to_owned(), "v".to_owned()), ("l".to_owned(), "é".to_owned())]);
        assert_eq!(mistakes(query), 0);
        assert_eq!(mistakes(Query::read(None, &[])), 0);
        assert_eq!(mistakes(Query::read(Some("&&"), &[])), 0);
    }

    #[test]
    fn what_is_wrong_is_counted() {
        let many = (0..50).map(|number| format!("metadata[{number}]=x")).collect::<Vec<_>>().join("&");
        for (text, wrong) in [
            ("aftre=1", 1),
            ("after=1&after=2", 1),
            ("after=%ff&%ff=1", 2),
            ("metadata=1", 1),
            ("metadata[k]=1&metadata[k]=2", 1),
            (many.as_str(), 10),
        ] {
            assert_eq!(mistakes(Query::read(Some(text), &["after", "metadata"])), wrong, "{text}");
        }
        for text in
            ["limit=0", "limit=10", "limit=x", "limit=", "limit", "limit=-1", "limit=99999999999999999999"]
        {
            let mut query = Query::read(Some(text), &["limit"]);
            assert_eq!((query.number("limit", 1..=9, 3), mistakes(query)), (3, 1), "{text}");
        }
    }
}
