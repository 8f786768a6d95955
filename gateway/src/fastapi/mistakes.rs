//! Collects everything that is wrong with a body or a query, bounded in size: a limited number of mistakes are listed, the
//! others are counted, and what is echoed of the body is cut. A body of half a megabyte can have a hundred thousand
//! mistakes, each of which would echo the rest of the body.

use std::borrow::Cow;
use std::fmt;

use serde_json::{Value, json};

use super::echo::{cut, echo};
use super::json::Json;

/// The largest number of mistakes that are listed. More don't help to mend a body.
pub(crate) const MISTAKES_MAX: usize = 100;

/// The approximate largest size of the echo of one input, in bytes. The longest integer that Python reads fits.
const ECHO_MAX_BYTES: usize = 8 * 1024;

/// The approximate largest size of the echoes of all inputs together, in bytes. Later ones are cut shorter.
const ECHOES_MAX_BYTES: usize = 32 * 1024;

/// The largest part that is shown of a name that the client chose, in bytes.
const NAME_MAX_BYTES: usize = 200;

/// One step of the path to a mistake.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// A step into the member of an object.
    Name(Cow<'static, str>),
    /// A step into an item of a list.
    Index(usize),
}

impl Step {
    /// Returns the step into a member whose name we chose.
    #[must_use]
    pub(crate) const fn name(name: &'static str) -> Self {
        Self::Name(Cow::Borrowed(name))
    }

    /// Returns the step into a member whose name the client chose. A long name is cut.
    #[must_use]
    pub(crate) fn their_name(name: &str) -> Self {
        Self::Name(Cow::Owned(cut(name, NAME_MAX_BYTES)))
    }
}

/// What is wrong with a value, in pydantic's words where it has some.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Flaw {
    /// The kind of flaw: pydantic's word, or ours.
    pub(crate) kind: &'static str,
    /// The message, which is a sentence.
    pub(crate) message: Cow<'static, str>,
    /// Pydantic's `ctx`: an object with the values from which the message was made.
    pub(crate) context: Option<Value>,
    /// What is told in place of the message where FastAPI's words aren't expected: more of what is wrong and what to do.
    pub(crate) advice: Option<Box<Cow<'static, str>>>,
}

impl Flaw {
    /// Makes a flaw without context.
    #[must_use]
    pub(crate) fn new(kind: &'static str, message: impl Into<Cow<'static, str>>) -> Self {
        Self { kind, message: message.into(), context: None, advice: None }
    }

    /// Adds context.
    #[must_use]
    pub(crate) fn with(mut self, context: Value) -> Self {
        self.context = Some(context);
        self
    }

    /// Says what is told where FastAPI's words aren't expected.
    #[must_use]
    pub(crate) fn advising(self, advice: String) -> Self {
        Self { advice: Some(Box::new(advice.into())), ..self }
    }

    /// Adds what is accepted to the advice; nothing if that is empty.
    #[must_use]
    pub(crate) fn accepting(self, accepted: &str) -> Self {
        if accepted.is_empty() {
            return self;
        }
        let advice = format!("{}; accepted is {accepted}", self.advice());
        self.advising(advice)
    }

    /// Returns the advice, or the message where there is none.
    #[must_use]
    pub(crate) fn advice(&self) -> &str {
        self.advice.as_deref().unwrap_or(&self.message).as_ref()
    }

    /// Returns the flaw of a required member that is missing.
    #[must_use]
    pub(crate) fn missing() -> Self {
        Self::new("missing", "Field required")
    }

    /// Returns the flaw of a number that is less than `least`.
    #[must_use]
    pub(crate) fn below(least: impl fmt::Display + Into<Value>) -> Self {
        let message = format!("Input should be greater than or equal to {least}");
        Self::new("greater_than_equal", message).with(json!({ "ge": least.into() }))
    }

    /// Returns the flaw of a number that isn't more than `bound`.
    #[must_use]
    pub(crate) fn not_above(bound: f64) -> Self {
        Self::new("greater_than", format!("Input should be greater than {bound}"))
            .with(json!({ "gt": bound }))
    }

    /// Returns the flaw of a number that is more than `most`.
    #[must_use]
    pub(crate) fn above(most: impl fmt::Display + Into<Value>) -> Self {
        let message = format!("Input should be less than or equal to {most}");
        Self::new("less_than_equal", message).with(json!({ "le": most.into() }))
    }

    /// Returns the flaw of a value that is none of a few. `expected` names those, as in "1 or 3".
    #[must_use]
    pub(crate) fn not_among(expected: &str) -> Self {
        let message = format!("Input should be {expected}");
        Self::new("literal_error", message).with(json!({ "expected": expected }))
    }
}

/// The part of a request that is wrong.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Part {
    /// The body.
    #[default]
    Body,
    /// The query behind the path.
    Query,
}

impl Part {
    /// Returns FastAPI's word for the part, with which each place begins.
    #[must_use]
    pub(crate) const fn word(self) -> &'static str {
        match self {
            Self::Body => "body",
            Self::Query => "query",
        }
    }
}

/// One flaw and its place in the body.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Mistake {
    /// The path to the value, from the body inwards (without `body` itself).
    pub(crate) location: Vec<Step>,
    /// What is wrong with the value.
    pub(crate) flaw: Flaw,
    /// The value that was found, as JSON, cut if it is long.
    pub(crate) input: String,
}

/// All mistakes in a body, in the order found.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Mistakes {
    part: Part,
    listed: Vec<Mistake>,
    unlisted: usize,
    echoed_bytes: usize,
}

impl Mistakes {
    /// Makes a list of one mistake, which concerns the whole body.
    #[must_use]
    pub(crate) fn one(flaw: Flaw, input: &Json) -> Self {
        let mut mistakes = Self::default();
        mistakes.add(&[], flaw, input);
        mistakes
    }

    /// Makes an empty list of mistakes in a query.
    #[must_use]
    pub(crate) fn in_query() -> Self {
        Self { part: Part::Query, ..Self::default() }
    }

    /// Returns the part of the request that is wrong.
    #[must_use]
    pub(crate) const fn part(&self) -> Part {
        self.part
    }

    /// Adds a mistake at `location`. Beyond [`MISTAKES_MAX`] it is only counted.
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

    /// Adds the mistakes of a part of the body, which is at `location`. The bounds hold for all together.
    pub(crate) fn add_all(&mut self, location: &[Step], others: Self) {
        self.unlisted += others.unlisted;
        for mistake in others.listed {
            let left = ECHOES_MAX_BYTES.saturating_sub(self.echoed_bytes);
            if self.listed.len() >= MISTAKES_MAX {
                self.unlisted += 1;
                continue;
            }
            let input = if mistake.input.len() > left { "null".to_owned() } else { mistake.input };
            self.echoed_bytes += input.len();
            let location = location.iter().cloned().chain(mistake.location).collect();
            self.listed.push(Mistake { location, flaw: mistake.flaw, input });
        }
    }

    /// Returns the mistakes that are listed.
    #[must_use]
    pub(crate) fn listed(&self) -> &[Mistake] {
        &self.listed
    }

    /// Returns the number of all mistakes, including those that aren't listed.
    #[must_use]
    pub(crate) const fn count(&self) -> usize {
        self.listed.len() + self.unlisted
    }

    /// Returns `fine` if nothing is wrong.
    ///
    /// # Errors
    /// The mistakes, if there are any.
    pub(crate) fn none_or<T>(self, fine: T) -> Result<T, Self> {
        if self.listed.is_empty() { Ok(fine) } else { Err(self) }
    }
}
