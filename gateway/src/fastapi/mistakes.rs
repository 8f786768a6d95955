//! Everything that is wrong with a body, in bounds: so many mistakes are listed and the others counted, and what is echoed
//! of the body is cut. A body of half a megabyte can be wrong in a hundred thousand places, each of which holds the rest.

use std::borrow::Cow;
use std::fmt;

use serde_json::{Value, json};

use super::echo::{cut, echo};
use super::json::Json;

/// Bounds how many mistakes are listed. More are no help in mending a body.
pub(crate) const MISTAKES_MAX: usize = 100;

/// Bounds the echo of one input, about: the longest integer that Python reads fits.
const ECHO_MAX_BYTES: usize = 8 * 1024;

/// Bounds the echoes of all inputs together, about; the later ones are cut shorter.
const ECHOES_MAX_BYTES: usize = 32 * 1024;

/// Bounds what is shown of a member's name that the client chose.
const NAME_MAX_BYTES: usize = 200;

/// Leads one step towards a mistake.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// Leads into a member.
    Name(Cow<'static, str>),
    /// Leads into an item.
    Index(usize),
}

impl Step {
    /// Leads into a member whose name is ours.
    #[must_use]
    pub(crate) const fn name(name: &'static str) -> Self {
        Self::Name(Cow::Borrowed(name))
    }

    /// Leads into a member whose name the client chose, cut if it is long.
    #[must_use]
    pub(crate) fn their_name(name: &str) -> Self {
        Self::Name(Cow::Owned(cut(name, NAME_MAX_BYTES)))
    }
}

/// Says what is wrong with a value, in pydantic's words where it has some.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Flaw {
    /// Pydantic's word for it, or ours.
    pub(crate) kind: &'static str,
    /// The sentence.
    pub(crate) message: Cow<'static, str>,
    /// Pydantic's `ctx`: an object of what the sentence was made from.
    pub(crate) context: Option<Value>,
}

impl Flaw {
    /// Makes a flaw without context.
    #[must_use]
    pub(crate) fn new(kind: &'static str, message: impl Into<Cow<'static, str>>) -> Self {
        Self { kind, message: message.into(), context: None }
    }

    /// Adds context.
    #[must_use]
    pub(crate) fn with(mut self, context: Value) -> Self {
        self.context = Some(context);
        self
    }

    /// Says that a member isn't there and must be.
    #[must_use]
    pub(crate) fn missing() -> Self {
        Self::new("missing", "Field required")
    }

    /// Says that a number is less than `least`.
    #[must_use]
    pub(crate) fn below(least: impl fmt::Display + Into<Value>) -> Self {
        let message = format!("Input should be greater than or equal to {least}");
        Self::new("greater_than_equal", message).with(json!({ "ge": least.into() }))
    }

    /// Says that a number is more than `most`.
    #[must_use]
    pub(crate) fn above(most: impl fmt::Display + Into<Value>) -> Self {
        let message = format!("Input should be less than or equal to {most}");
        Self::new("less_than_equal", message).with(json!({ "le": most.into() }))
    }

    /// Says that a value is none of a few; `expected` names them, as in "1 or 3".
    #[must_use]
    pub(crate) fn not_among(expected: &str) -> Self {
        let message = format!("Input should be {expected}");
        Self::new("literal_error", message).with(json!({ "expected": expected }))
    }
}

/// Places one flaw in a body.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Mistake {
    /// Where, from the body inwards (`body` itself left out).
    pub(crate) location: Vec<Step>,
    /// What.
    pub(crate) flaw: Flaw,
    /// What was there instead, as JSON, cut if it is long.
    pub(crate) input: String,
}

/// Collects all that is wrong with a body, in the order found.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Mistakes {
    listed: Vec<Mistake>,
    unlisted: usize,
    echoed_bytes: usize,
}

impl Mistakes {
    /// Makes a list of one mistake, about the whole body.
    #[must_use]
    pub(crate) fn one(flaw: Flaw, input: &Json) -> Self {
        let mut mistakes = Self::default();
        mistakes.add(&[], flaw, input);
        mistakes
    }

    /// Lists another one at `location`, or only counts it.
    pub(crate) fn add(&mut self, location: &[Step], flaw: Flaw, input: &Json) {
        if self.listed.len() >= MISTAKES_MAX {
            self.unlisted += 1;
            return;
        }
        let left = ECHOES_MAX_BYTES.saturating_sub(self.echoed_bytes);
        let input = echo(input, left.min(ECHO_MAX_BYTES));
        self.echoed_bytes += input.len();
        self.listed.push(Mistake { location: location.to_vec(), flaw, input });
    }

    /// Returns those that are listed.
    #[must_use]
    pub(crate) fn listed(&self) -> &[Mistake] {
        &self.listed
    }

    /// Returns how many there are, those that aren't listed included.
    #[must_use]
    pub(crate) const fn count(&self) -> usize {
        self.listed.len() + self.unlisted
    }

    /// Returns `fine` if nothing is wrong.
    ///
    /// # Errors
    /// These mistakes.
    pub(crate) fn none_or<T>(self, fine: T) -> Result<T, Self> {
        if self.listed.is_empty() { Ok(fine) } else { Err(self) }
    }
}
