//! The mistakes in a configuration and how they are printed.

use std::fmt;

/// One mistake in a configuration.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Mistake {
    /// The file, the environment variable or the flag.
    pub source: String,
    /// The full dotted key; empty if the mistake concerns no single key.
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

/// All mistakes in a configuration, for the operator to mend.
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
