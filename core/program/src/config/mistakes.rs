//! What is wrong with a configuration, and how it is told.

use std::fmt;

/// One thing that is wrong with a configuration.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Mistake {
    /// The file, the environment variable or the flag.
    pub source: String,
    /// The full dotted key; empty if it is about no single key.
    pub key: String,
    /// What is wrong. It may quote the value.
    pub problem: String,
}

impl fmt::Display for Mistake {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { source, key, problem } = self;
        if key.is_empty() {
            write!(formatter, "{source}: {problem}")
        } else {
            write!(formatter, "{source}: {key}: {problem}")
        }
    }
}

/// Everything that is wrong with a configuration; the operator's to mend.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct ConfigErrors {
    /// The mistakes, at least one.
    pub mistakes: Vec<Mistake>,
}

impl fmt::Display for ConfigErrors {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("the configuration has mistakes:")?;
        self.mistakes.iter().try_for_each(|mistake| write!(formatter, "\n  {mistake}"))
    }
}
