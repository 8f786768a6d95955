//! Writes shapes and tables of bodies as JSON Schema (2020-12), as OpenAPI 3.1 wants it. Bounds that the operator sets
//! are read from the settings.

use serde_json::{Map, Value, json};

use super::chat_form::{
    HARMLESS, OPENAI, OPTIONS, UNSUPPORTED, UNSUPPORTED_IN_MESSAGES, Unsupported, VERIFICATION,
};
use super::jobs_request::{ITEM, ITEMS_MAX};
use super::knob_fields::KNOBS;
use super::metadata::METADATA;
use super::operation::{Member, Named, Shape};
use crate::config::Config;
use crate::fastapi::{Bound, Field, Kind, Range};

/// A writer of schemas. It collects the named shapes that it meets.
#[derive(Debug)]
pub(crate) struct Schemas {
    settings: Value,
    named: Map<String, Value>,
}

impl Schemas {
    /// Makes a writer for a gateway with these settings.
    pub(crate) fn new(config: &Config) -> Self {
        // Settings are plain values; if they couldn't be written, bounds would be missing, which a test would show.
        Self { settings: serde_json::to_value(config).unwrap_or_default(), named: Map::new() }
    }

    /// Returns the schemas of all named shapes that were met.
    pub(crate) fn into_named(self) -> Map<String, Value> {
        self.named
    }

    /// Writes a shape.
    pub(crate) fn of(&mut self, shape: Shape) -> Value {
        match shape {
            Shape::Text => json!({ "type": "string" }),
            Shape::Pattern(pattern) => json!({ "type": "string", "pattern": pattern }),
            Shape::Words(words) => json!({ "type": "string", "enum": words }),
            Shape::Day => json!({ "type": "string", "format": "date" }),
            Shape::Between(least, most) => json!({ "type": "integer", "minimum": least, "maximum": most }),
            Shape::SecondsWithin(setting) => {
                let most = self.settings[setting].as_u64().unwrap_or_default() / 1_000;
                json!({ "type": "integer", "minimum": 1, "maximum": most })
            }
            Shape::Number => json!({ "type": "number" }),
            Shape::Pairs => self.field(&METADATA),
            Shape::Either(shapes) => {
                let all: Vec<Value> = shapes.iter().map(|shape| self.of(*shape)).collect();
                json!({ "anyOf": all })
            }
            Shape::Count => json!({ "type": "integer", "minimum": 0 }),
            Shape::Time => json!({ "type": "integer", "format": "unix-time", "minimum": 0 }),
            Shape::Flag => json!({ "type": "boolean" }),
            Shape::Null => json!({ "type": "null" }),
            Shape::Any => json!({}),
            Shape::Maybe(inner) => nullable(self.of(*inner)),
            Shape::List(inner) => json!({ "type": "array", "items": self.of(*inner) }),
            Shape::Map(inner) => json!({ "type": "object", "additionalProperties": self.of(*inner) }),
            Shape::Members(members) => self.members(members),
            Shape::Fields(fields) => self.fields(fields),
            Shape::Closed(fields) => {
                let mut schema = self.fields(fields);
                schema["additionalProperties"] = false.into();
                schema
            }
            Shape::Conversation { fields, is_openais } => self.conversation(fields, is_openais),
            Shape::Jobs => self.jobs(),
            Shape::Named(named) => self.reference(named),
        }
    }

    fn reference(&mut self, named: &'static Named) -> Value {
        if !self.named.contains_key(named.name) {
            // The name is taken first, so that a shape may contain itself.
            self.named.insert(named.name.to_owned(), Value::Null);
            let mut schema = self.of(named.shape);
            schema["title"] = named.name.into();
            schema["description"] = named.about.into();
            self.named.insert(named.name.to_owned(), schema);
        }
        json!({ "$ref": format!("#/components/schemas/{}", named.name) })
    }

    fn members(&mut self, members: &'static [Member]) -> Value {
        let mut properties = Map::new();
        for member in members {
            let mut schema = self.of(member.shape);
            schema["description"] = member.about.into();
            properties.insert(member.name.to_owned(), schema);
        }
        let required: Vec<&str> =
            members.iter().filter(|member| member.always).map(|member| member.name).collect();
        json!({ "type": "object", "properties": properties, "required": required })
    }

    /// Writes the table of a body.
    fn fields(&self, fields: &'static [Field]) -> Value {
        let mut properties = Map::new();
        for field in fields {
            properties.insert(field.name.to_owned(), self.field(field));
        }
        let required: Vec<&str> =
            fields.iter().filter(|field| field.required).map(|field| field.name).collect();
        json!({ "type": "object", "properties": properties, "required": required })
    }

    /// Writes a body that asks for one job or for several.
    fn jobs(&self) -> Value {
        let mut job = self.conversation(OPENAI, true);
        for field in ITEM {
            job["properties"][field.name] = self.field(field);
        }
        for name in HARMLESS {
            job["properties"][name] =
                json!({ "description": "Taken as in OpenAI's API, with any value. It changes nothing." });
        }
        job["additionalProperties"] = false.into();
        let several = json!({
            "type": "object",
            "properties": { "jobs": { "type": "array", "items": job.clone(), "minItems": 1, "maxItems": ITEMS_MAX } },
            "required": ["jobs"],
            "additionalProperties": false,
        });
        job["title"] = "One job".into();
        json!({ "anyOf": [job, several] })
    }

    fn conversation(&self, fields: &'static [Field], is_openais: bool) -> Value {
        let mut schema = self.fields(fields);
        for field in OPTIONS.iter().chain(KNOBS) {
            schema["properties"][field.name] = self.field(field);
        }
        // The likeliest tokens are told with the log-probabilities alone.
        schema["if"] = json!({
            "properties": { "top_logprobs": { "type": "integer", "minimum": 1 } }, "required": ["top_logprobs"],
        });
        schema["then"] = json!({ "properties": { "logprobs": { "const": true } }, "required": ["logprobs"] });
        schema["properties"]["verification"] = self.verification();
        for option in &UNSUPPORTED {
            schema["properties"][option.name] = neutral(option);
        }
        let message = &mut schema["properties"]["messages"]["items"];
        for option in &UNSUPPORTED_IN_MESSAGES {
            message["properties"][option.name] = neutral(option);
        }
        if is_openais {
            // Only an assistant's message may leave out the content.
            message["if"] = json!({ "properties": { "role": { "const": "assistant" } } });
            message["else"] = json!({ "properties": { "content": { "not": { "type": "null" } } }, "required": ["content"] });
            schema["properties"][METADATA.name] = self.field(&METADATA);
        }
        schema
    }

    /// Writes how answers are checked. One replica has no other to agree with, so the range of the quorum and when a stream shows a
    /// token depend on the replicas.
    fn verification(&self) -> Value {
        let mut schema = self.fields(VERIFICATION);
        schema["type"] = json!(["object", "null"]);
        schema["additionalProperties"] = false.into();
        schema["description"] = "How many nodes are asked, and how many of them must agree.".into();
        let quorum = &mut schema["properties"]["quorum"];
        let of_three = quorum["enum"].take();
        if let Some(members) = quorum.as_object_mut() {
            members.shift_remove("enum");
        }
        schema["if"] = json!({ "properties": { "replicas": { "const": 1 } }, "required": ["replicas"] });
        schema["then"] = json!({ "properties": {
            "quorum": { "enum": [1, null] },
            "release": { "enum": ["first", "verified", null] },
        } });
        schema["else"] = json!({ "properties": { "quorum": { "enum": of_three } } });
        schema
    }

    fn field(&self, field: &'static Field) -> Value {
        let mut schema = self.kind(&field.kind);
        self.narrow(&mut schema, field.range, matches!(field.kind, Kind::Nullable(_)));
        if !field.about.is_empty() {
            schema["description"] = field.about.into();
        }
        if let Some(default) = field.default {
            schema["default"] = self.bound(default);
        }
        schema
    }

    fn kind(&self, kind: &'static Kind) -> Value {
        match kind {
            Kind::Text => json!({ "type": "string" }),
            Kind::Email => json!({ "type": "string", "format": "email" }),
            Kind::Integer | Kind::ExactInteger => json!({ "type": "integer" }),
            Kind::Number => json!({ "type": "number" }),
            Kind::Flag => json!({ "type": "boolean" }),
            Kind::Nullable(inner) => nullable(self.kind(inner)),
            Kind::List(inner) => json!({ "type": "array", "items": self.kind(inner) }),
            Kind::Dictionary => json!({ "type": "object" }),
            Kind::TextOrTexts => json!({ "anyOf": [
                { "type": "string" },
                { "type": "array", "items": { "type": "string" } },
            ] }),
            Kind::Object(fields) => self.fields(fields),
            Kind::Content => json!({ "anyOf": [
                { "type": "string" },
                { "type": "array", "items": {
                    "type": "object",
                    "properties": { "type": { "const": "text" }, "text": { "type": "string" } },
                    "required": ["type", "text"],
                } },
            ] }),
        }
    }

    /// Narrows a schema to a range.
    fn narrow(&self, schema: &mut Value, range: Range, or_null: bool) {
        let with_null = |mut values: Vec<Value>| {
            values.extend(or_null.then_some(Value::Null));
            Value::from(values)
        };
        match range {
            Range::Any => {}
            Range::Integers { least, most } => {
                schema["minimum"] = least.into();
                schema["maximum"] = self.bound(most);
            }
            Range::Numbers(least, most) => {
                schema["minimum"] = least.into();
                schema["maximum"] = most.into();
            }
            Range::NumbersAbove(bound, most) => {
                schema["exclusiveMinimum"] = bound.into();
                schema["maximum"] = most.into();
            }
            Range::Texts { most, characters_max } => {
                let text = json!({ "type": "string", "minLength": 1, "maxLength": characters_max });
                schema["anyOf"][1]["items"] = text.clone();
                schema["anyOf"][0] = text;
                schema["anyOf"][1]["maxItems"] = most.into();
            }
            Range::NumbersByName { most, name, bounds: (least, largest) } => {
                schema["maxProperties"] = most.into();
                schema["propertyNames"] = json!({ "pattern": name });
                schema["additionalProperties"] =
                    json!({ "type": "number", "minimum": least, "maximum": largest });
            }
            Range::Characters(least, most) => {
                schema["minLength"] = least.into();
                schema["maxLength"] = most.into();
            }
            Range::Plain(least, most) => {
                schema["minLength"] = least.into();
                schema["maxLength"] = most.into();
                schema["pattern"] = "^[^\\x00-\\x1f\\x7f-\\x9f]*$".into();
            }
            Range::Items(least) => schema["minItems"] = least.into(),
            Range::ItemsWithin(least, most) => {
                schema["minItems"] = least.into();
                schema["maxItems"] = most.into();
            }
            Range::ItemsAmong(words) => {
                schema["minItems"] = 1.into();
                schema["items"]["enum"] = words.into();
            }
            Range::Pattern(pattern) => schema["pattern"] = pattern.into(),
            Range::Pairs { most, key_max, value_max } => {
                let text =
                    |most: usize| json!({ "type": "string", "maxLength": most, "pattern": "^[^\\x00]*$" });
                schema["maxProperties"] = most.into();
                schema["propertyNames"] = text(key_max);
                schema["additionalProperties"] = text(value_max);
            }
            Range::NoOthers => schema["additionalProperties"] = false.into(),
            Range::Words(words) => {
                schema["enum"] = with_null(words.iter().copied().map(Value::from).collect())
            }
            Range::Choices(choices) => {
                schema["enum"] = with_null(choices.iter().copied().map(Value::from).collect());
            }
        }
    }

    fn bound(&self, bound: Bound) -> Value {
        match bound {
            Bound::Integer(value) => value.into(),
            Bound::Unsigned(value) => value.into(),
            Bound::Number(value) => value.into(),
            Bound::Setting(name) => self.settings[name].clone(),
        }
    }
}

/// Writes an option that is taken with neutral values alone.
fn neutral(option: &Unsupported) -> Value {
    let mut values: Vec<Value> = serde_json::from_str(option.neutral).unwrap_or_default();
    values.push(Value::Null);
    json!({ "enum": values, "description": "Not supported. Values that change nothing are taken; all others are refused." })
}

/// Adds `null` to the values of a schema.
fn nullable(mut schema: Value) -> Value {
    match &mut schema {
        Value::Object(members) if members.get("type").is_some_and(Value::is_string) => {
            let kind = members["type"].clone();
            members.insert("type".to_owned(), json!([kind, "null"]));
            if let Some(Value::Array(values)) = members.get_mut("enum") {
                values.push(Value::Null);
            }
            schema
        }
        Value::Object(members) if members.contains_key("anyOf") => {
            if let Some(Value::Array(choices)) = members.get_mut("anyOf") {
                choices.push(json!({ "type": "null" }));
            }
            schema
        }
        _ => json!({ "anyOf": [schema, { "type": "null" }] }),
    }
}
