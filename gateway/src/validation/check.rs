//! A request's shape as a table, and the check of a body against it: every mistake, in FastAPI's words and order.
//! It knows no route; the tables stand with the routes that use them.

use std::borrow::Cow;

use super::email;
use super::json::Json;
use super::number::{self, NotANumber};

/// No more mistakes than this are listed, so that a body of a million wrong items isn't answered with a reply many
/// times its size.
pub const MISTAKES_MAX: usize = 100;

/// What a field may hold.
#[derive(Clone, Copy, Debug)]
pub enum Kind {
    /// A string.
    Text,
    /// A string that is an e-mail address; checked as `pydantic.EmailStr`, kept in its normal form.
    Email,
    /// What pydantic takes for an integer.
    Integer,
    /// What pydantic takes for a number, finite.
    Number,
    /// The inner kind, or `null`.
    Nullable(&'static Kind),
    /// A list of the inner kind.
    List(&'static Kind),
    /// An object with these fields; others are ignored.
    Object(&'static [Field]),
    /// A message's content as OpenAI has it: a string, or a list of `{"type": "text", "text": …}`.
    Content,
}

/// One field of an object.
#[derive(Clone, Copy, Debug)]
pub struct Field {
    /// Its name.
    pub name: &'static str,
    /// What it may hold.
    pub kind: Kind,
    /// Whether it must be there.
    pub required: bool,
}

impl Field {
    /// A field that must be there.
    #[must_use]
    pub const fn required(name: &'static str, kind: Kind) -> Self {
        Self { name, kind, required: true }
    }

    /// A field that may be left out.
    #[must_use]
    pub const fn optional(name: &'static str, kind: Kind) -> Self {
        Self { name, kind, required: false }
    }
}

/// One step on the way to a mistake.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Into a member.
    Name(Cow<'static, str>),
    /// Into an item.
    Index(usize),
}

/// One thing that is wrong with a body.
#[derive(Clone, Debug, PartialEq)]
pub struct Mistake {
    /// Pydantic's word for it, or ours.
    pub kind: &'static str,
    /// Where, from the body inwards (`body` itself left out).
    pub location: Vec<Step>,
    /// The sentence.
    pub message: Cow<'static, str>,
    /// What was there instead.
    pub input: Json,
    /// Pydantic's `ctx`: one name and one text.
    pub context: Option<(&'static str, String)>,
}

/// A checked value: what the table promised, coerced.
#[derive(Clone, Debug, PartialEq)]
pub enum Checked {
    /// Left out, or not understood (then there is a mistake).
    Absent,
    /// `null`.
    Null,
    /// A string.
    Text(String),
    /// An integer.
    Integer(i64),
    /// A number.
    Number(f64),
    /// A list.
    List(Vec<Checked>),
    /// An object: one value per field of its table, in the table's order.
    Object(Vec<Checked>),
}

impl Checked {
    /// The fields of an object; nothing for anything else.
    #[must_use]
    pub fn into_fields<const N: usize>(self) -> [Self; N] {
        let mut fields = match self {
            Self::Object(fields) => fields.into_iter(),
            _ => Vec::new().into_iter(),
        };
        std::array::from_fn(|_| fields.next().unwrap_or(Self::Absent))
    }

    /// The items of a list; none for anything else.
    #[must_use]
    pub fn into_items(self) -> Vec<Self> {
        match self {
            Self::List(items) => items,
            _ => Vec::new(),
        }
    }

    /// The text; empty for anything else.
    #[must_use]
    pub fn into_text(self) -> String {
        match self {
            Self::Text(text) => text,
            _ => String::new(),
        }
    }

    /// The integer, if it is one.
    #[must_use]
    pub const fn integer(&self) -> Option<i64> {
        match self {
            Self::Integer(value) => Some(*value),
            _ => None,
        }
    }

    /// The number, if it is one.
    #[must_use]
    pub const fn number(&self) -> Option<f64> {
        match self {
            Self::Number(value) => Some(*value),
            _ => None,
        }
    }
}

/// Checks a body against the fields of its object.
///
/// # Errors
/// All mistakes, in the order of the table, at most [`MISTAKES_MAX`].
pub fn check(body: &Json, fields: &'static [Field]) -> Result<Checked, Vec<Mistake>> {
    let mut checker = Checker { mistakes: Vec::new(), path: Vec::new() };
    let checked = checker.object(body, fields);
    if checker.mistakes.is_empty() { Ok(checked) } else { Err(checker.mistakes) }
}

struct Checker {
    mistakes: Vec<Mistake>,
    path: Vec<Step>,
}

impl Checker {
    fn wrong(&mut self, kind: &'static str, message: impl Into<Cow<'static, str>>, input: &Json) -> Checked {
        if self.mistakes.len() < MISTAKES_MAX {
            let location = self.path.clone();
            let input = input.clone();
            self.mistakes.push(Mistake { kind, location, message: message.into(), input, context: None });
        }
        Checked::Absent
    }

    fn object(&mut self, value: &Json, fields: &'static [Field]) -> Checked {
        if !matches!(value, Json::Object(_)) {
            let message = "Input should be a valid dictionary or object to extract fields from";
            return self.wrong("model_attributes_type", message, value);
        }
        let mut checked = Vec::with_capacity(fields.len());
        for field in fields {
            self.path.push(Step::Name(Cow::Borrowed(field.name)));
            checked.push(match value.get(field.name) {
                Some(member) => self.value(member, &field.kind),
                None if field.required => self.wrong("missing", "Field required", value),
                None => Checked::Absent,
            });
            self.path.pop();
        }
        Checked::Object(checked)
    }

    fn value(&mut self, value: &Json, kind: &'static Kind) -> Checked {
        match kind {
            Kind::Text => self.text(value).map_or(Checked::Absent, |text| Checked::Text(text.to_owned())),
            Kind::Email => self.email(value),
            Kind::Integer => {
                number::integer(value).map_or_else(|not| self.not_a_number(not, value), Checked::Integer)
            }
            Kind::Number => {
                number::number(value).map_or_else(|not| self.not_a_number(not, value), Checked::Number)
            }
            Kind::Nullable(_) if *value == Json::Null => Checked::Null,
            Kind::Nullable(inner) => self.value(value, inner),
            Kind::List(inner) => self.list(value, inner),
            Kind::Object(fields) => self.object(value, fields),
            Kind::Content => self.content(value),
        }
    }

    fn not_a_number(&mut self, not: NotANumber, value: &Json) -> Checked {
        self.wrong(not.kind, not.message, value)
    }

    fn text<'a>(&mut self, value: &'a Json) -> Option<&'a str> {
        match value {
            Json::Text(text) => return Some(text),
            Json::BrokenText(_) => {
                let message = "Input should be a valid string, unable to parse raw data as a unicode string";
                self.wrong("string_unicode", message, value);
            }
            _ => {
                self.wrong("string_type", "Input should be a valid string", value);
            }
        }
        None
    }

    fn email(&mut self, value: &Json) -> Checked {
        let Some(text) = self.text(value) else {
            return Checked::Absent;
        };
        match email::normalise(text) {
            Ok(address) => Checked::Text(address),
            Err(reason) => {
                self.wrong("value_error", format!("value is not a valid email address: {reason}"), value);
                if let Some(mistake) = self.mistakes.last_mut() {
                    mistake.context = Some(("reason", reason));
                }
                Checked::Absent
            }
        }
    }

    fn list(&mut self, value: &Json, inner: &'static Kind) -> Checked {
        let Json::List(items) = value else {
            return self.wrong("list_type", "Input should be a valid list", value);
        };
        let mut checked = Vec::with_capacity(items.len());
        for (index, item) in items.iter().enumerate() {
            if self.mistakes.len() >= MISTAKES_MAX {
                break;
            }
            self.path.push(Step::Index(index));
            checked.push(self.value(item, inner));
            self.path.pop();
        }
        Checked::List(checked)
    }

    /// The texts of all parts, one after the other.
    fn content(&mut self, value: &Json) -> Checked {
        let Json::List(parts) = value else {
            return self.text(value).map_or(Checked::Absent, |text| Checked::Text(text.to_owned()));
        };
        let mut whole = String::new();
        for (index, part) in parts.iter().enumerate() {
            if self.mistakes.len() >= MISTAKES_MAX {
                break;
            }
            self.path.push(Step::Index(index));
            if part.get("type") == Some(&Json::Text("text".to_owned())) {
                self.path.push(Step::Name(Cow::Borrowed("text")));
                whole.push_str(self.text(part.get("text").unwrap_or(&Json::Null)).unwrap_or_default());
                self.path.pop();
            } else {
                self.wrong("unsupported", "Only parts of type 'text' are supported", part);
            }
            self.path.pop();
        }
        Checked::Text(whole)
    }
}
