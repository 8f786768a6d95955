//! Describes the shape of a body as a table, and checks bodies against it. All mistakes are reported, with FastAPI's
//! messages and in its order. This file knows no route; each table stands with the routes that use it.

use serde_json::json;

use super::echo::cut;
use super::email;
use super::json::Json;
use super::mistakes::{Flaw, Mistakes, Step};
use super::number::{self, Integer};
use super::range::{Bound, Range};
use super::strangers::refuse_strangers;

/// The largest part that is shown of a word that the client chose, in bytes.
const SHOWN_MAX_BYTES: usize = 40;

/// The values that a field may have.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Kind {
    /// A string.
    Text,
    /// A string that is an e-mail address. It is checked as by `pydantic.EmailStr` and kept in its normal form.
    Email,
    /// A value that pydantic takes for an integer. Beyond 64 bits it becomes the nearest integer that fits, so that a
    /// range can be checked.
    Integer,
    /// The same for integers that identify something: a value that 64 bits, with or without a sign, can't hold exactly is
    /// refused.
    ExactInteger,
    /// A value that pydantic takes for a number, if it is finite.
    Number,
    /// `true` or `false`.
    Flag,
    /// The inner kind, or `null`.
    Nullable(&'static Kind),
    /// A list of the inner kind.
    List(&'static Kind),
    /// A string, or a list of strings. The route checks it.
    TextOrTexts,
    /// An object with any fields.
    Dictionary,
    /// An object with these fields. Other fields are ignored.
    Object(&'static [Field]),
    /// The content of a message in OpenAI's API: a string, or a list of `{"type": "text", "text": …}`.
    Content,
}

/// One field of an object.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Field {
    /// The field's name.
    pub(crate) name: &'static str,
    /// The values that the field may have.
    pub(crate) kind: Kind,
    /// Whether the field must be present.
    pub(crate) required: bool,
    /// What the field means, in sentences for the API's description.
    pub(crate) about: &'static str,
    /// The range of its values. The routes check it, not this file.
    pub(crate) range: Range,
    /// The value that counts if the field is left out, if there is one.
    pub(crate) default: Option<Bound>,
    /// What is accepted, which mistakes in the field's value tell beside pydantic's words; empty where these stand alone.
    pub(crate) accepted: &'static str,
}

impl Field {
    /// Describes a field that must be present.
    #[must_use]
    pub(crate) const fn required(name: &'static str, kind: Kind) -> Self {
        Self { name, kind, required: true, about: "", range: Range::Any, default: None, accepted: "" }
    }

    /// Describes a field that may be left out.
    #[must_use]
    pub(crate) const fn optional(name: &'static str, kind: Kind) -> Self {
        Self { required: false, ..Self::required(name, kind) }
    }

    /// Says what the field means.
    #[must_use]
    pub(crate) const fn about(self, about: &'static str) -> Self {
        Self { about, ..self }
    }

    /// Names the range of the field's values.
    #[must_use]
    pub(crate) const fn range(self, range: Range) -> Self {
        Self { range, ..self }
    }

    /// Says what is accepted, for those who made a mistake.
    #[must_use]
    pub(crate) const fn accepted(self, accepted: &'static str) -> Self {
        Self { accepted, ..self }
    }

    /// Names the value that counts if the field is left out.
    #[must_use]
    pub(crate) const fn default(self, default: Bound) -> Self {
        Self { default: Some(default), ..self }
    }
}

/// A checked value, converted to the kind that the table asks for.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Checked {
    /// The value is absent, or was refused (and a mistake was noted).
    Absent,
    /// `null`.
    Null,
    /// A string.
    Text(String),
    /// An integer.
    Integer(i64),
    /// An exact integer that fits into 64 bits without a sign only.
    Large(u64),
    /// A number.
    Number(f64),
    /// `true` or `false`.
    Flag(bool),
    /// A list.
    List(Vec<Checked>),
    /// An object, as the values of its table's fields, in the table's order; empty if it has no table.
    Object(Vec<Checked>),
}

impl Checked {
    /// Returns the fields of an object; all are absent for any other value.
    #[must_use]
    pub(crate) fn into_fields<const N: usize>(self) -> [Self; N] {
        let mut fields = match self {
            Self::Object(fields) => fields.into_iter(),
            _ => Vec::new().into_iter(),
        };
        std::array::from_fn(|_| fields.next().unwrap_or(Self::Absent))
    }

    /// Returns the items of a list; none for any other value.
    #[must_use]
    pub(crate) fn into_items(self) -> Vec<Self> {
        match self {
            Self::List(items) => items,
            _ => Vec::new(),
        }
    }

    /// Returns the text; empty for any other value.
    #[must_use]
    pub(crate) fn into_text(self) -> String {
        match self {
            Self::Text(text) => text,
            _ => String::new(),
        }
    }

    /// Returns the integer, if the value is one.
    #[must_use]
    pub(crate) const fn integer(&self) -> Option<i64> {
        match self {
            Self::Integer(value) => Some(*value),
            _ => None,
        }
    }

    /// Returns the flag, if the value is one.
    #[must_use]
    pub(crate) const fn flag(&self) -> Option<bool> {
        match self {
            Self::Flag(value) => Some(*value),
            _ => None,
        }
    }

    /// Returns the number, if the value is one.
    #[must_use]
    pub(crate) const fn number(&self) -> Option<f64> {
        match self {
            Self::Number(value) => Some(*value),
            _ => None,
        }
    }
}

/// Checks a body against the fields of its object.
///
/// # Errors
/// All mistakes, in the table's order.
pub(crate) fn check(body: &Json, fields: &'static [Field]) -> Result<Checked, Mistakes> {
    let mut checker = Checker { mistakes: Mistakes::default(), path: Vec::new(), accepted: "" };
    let checked = checker.object(body, fields);
    checker.mistakes.none_or(checked)
}

/// Checks the same, and refuses members that the table doesn't have: a misspelt one would be ignored, and the request would do
/// something else than was meant. FastAPI ignores them, so the seed's own bodies are checked by [`check`].
///
/// # Errors
/// All mistakes, unknown members first.
pub(crate) fn check_closed(body: &Json, fields: &'static [Field]) -> Result<Checked, Mistakes> {
    let known: Vec<&str> = fields.iter().map(|field| field.name).collect();
    let mut mistakes = Mistakes::default();
    refuse_strangers(body, &known, &[], &mut mistakes);
    match check(body, fields) {
        Ok(checked) => mistakes.none_or(checked),
        Err(others) => {
            mistakes.add_all(&[], others);
            Err(mistakes)
        }
    }
}

struct Checker {
    mistakes: Mistakes,
    path: Vec<Step>,
    /// What the field accepts that is being checked.
    accepted: &'static str,
}

impl Checker {
    fn wrong(&mut self, flaw: Flaw, input: &Json) -> Checked {
        self.mistakes.add(&self.path, flaw.accepting(self.accepted), input);
        Checked::Absent
    }

    fn object(&mut self, value: &Json, fields: &'static [Field]) -> Checked {
        if !matches!(value, Json::Object(_)) {
            let message = "Input should be a valid dictionary or object to extract fields from";
            return self.wrong(Flaw::new("model_attributes_type", message), value);
        }
        let mut checked = Vec::with_capacity(fields.len());
        for field in fields {
            self.path.push(Step::name(field.name));
            let outer = std::mem::replace(&mut self.accepted, field.accepted);
            checked.push(match value.get(field.name) {
                Some(member) => self.value(member, &field.kind),
                None if field.required => self.wrong(Flaw::missing(), value),
                None => Checked::Absent,
            });
            self.accepted = outer;
            self.path.pop();
        }
        Checked::Object(checked)
    }

    fn value(&mut self, value: &Json, kind: &'static Kind) -> Checked {
        match kind {
            Kind::Text => self.text(value).map_or(Checked::Absent, |text| Checked::Text(text.to_owned())),
            Kind::Email => self.email(value),
            Kind::Integer => number::integer(value)
                .map_or_else(|flaw| self.wrong(flaw, value), |integer| Checked::Integer(integer.nearest())),
            Kind::ExactInteger => match number::exact_integer(value) {
                Ok(Integer::Large(large)) => Checked::Large(large),
                Ok(integer) => Checked::Integer(integer.nearest()),
                Err(flaw) => self.wrong(flaw, value),
            },
            Kind::Number => {
                number::number(value).map_or_else(|flaw| self.wrong(flaw, value), Checked::Number)
            }
            Kind::Flag => match value {
                Json::Bool(value) => Checked::Flag(*value),
                _ => self.wrong(Flaw::new("bool_type", "Input should be a valid boolean"), value),
            },
            Kind::Nullable(_) if *value == Json::Null => Checked::Null,
            Kind::Nullable(inner) => self.value(value, inner),
            Kind::List(inner) => self.list(value, inner),
            Kind::Dictionary if matches!(value, Json::Object(_)) => Checked::Object(Vec::new()),
            Kind::Dictionary => {
                self.wrong(Flaw::new("dict_type", "Input should be a valid dictionary"), value)
            }
            Kind::Object(fields) => self.object(value, fields),
            // Nothing is read by the table.
            Kind::TextOrTexts => Checked::Absent,
            Kind::Content => self.content(value),
        }
    }

    fn text<'a>(&mut self, value: &'a Json) -> Option<&'a str> {
        match value {
            Json::Text(text) => return Some(text),
            Json::BrokenText(_) => {
                let message = "Input should be a valid string, unable to parse raw data as a unicode string";
                self.wrong(Flaw::new("string_unicode", message), value);
            }
            _ => {
                self.wrong(Flaw::new("string_type", "Input should be a valid string"), value);
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
                let message = format!("value is not a valid email address: {reason}");
                self.wrong(Flaw::new("value_error", message).with(json!({ "reason": reason })), value)
            }
        }
    }

    fn list(&mut self, value: &Json, inner: &'static Kind) -> Checked {
        let Json::List(items) = value else {
            return self.wrong(Flaw::new("list_type", "Input should be a valid list"), value);
        };
        let mut checked = Vec::with_capacity(items.len());
        for (index, item) in items.iter().enumerate() {
            self.path.push(Step::Index(index));
            checked.push(self.value(item, inner));
            self.path.pop();
        }
        Checked::List(checked)
    }

    /// Returns the texts of all parts, joined.
    fn content(&mut self, value: &Json) -> Checked {
        let Json::List(parts) = value else {
            return self.text(value).map_or(Checked::Absent, |text| Checked::Text(text.to_owned()));
        };
        let mut whole = String::new();
        for (index, part) in parts.iter().enumerate() {
            self.path.push(Step::Index(index));
            match (part, part.get("type")) {
                (_, Some(Json::Text(kind))) if kind == "text" => {
                    self.path.push(Step::name("text"));
                    match part.get("text") {
                        Some(text) => whole.push_str(self.text(text).unwrap_or_default()),
                        None => drop(self.wrong(Flaw::missing(), part)),
                    }
                    self.path.pop();
                }
                (_, Some(Json::Text(kind))) => {
                    let kind = cut(kind, SHOWN_MAX_BYTES);
                    let message =
                        format!("Parts of type '{kind}' are not supported: models here read text alone");
                    self.wrong(Flaw::new("unsupported", message), part);
                }
                (Json::Object(_), _) => {
                    self.wrong(
                        Flaw::new("unsupported", "A part should have a 'type', which is a text"),
                        part,
                    );
                }
                _ => drop(self.wrong(Flaw::new("unsupported", "A part should be an object"), part)),
            }
            self.path.pop();
        }
        Checked::Text(whole)
    }
}
