//! Reads the knobs of a conversation by their table (`knob_fields`), and refuses what contradicts itself. A knob with a value that
//! changes nothing is left out, so that a request with it is the same as without.

use std::collections::BTreeMap;

use infera_types::knobs::Knobs;
use infera_types::numbers::TokenId;
use serde_json::json;

use super::evidence;
use super::knob_fields::{
    BIASES, BIASES_MAX, CHOICES, FREQUENCY_PENALTY, IGNORE_EOS, LOGIT_BIAS, LOGPROBS, MIN_P, MIN_TOKENS,
    PRESENCE_PENALTY, REPETITION_PENALTY, RETURN_TOKEN_IDS, STOP, STOP_MAX_CHARACTERS, STOPS_MAX, TOP_K,
    TOP_LOGPROBS, TOP_P,
};
use crate::fastapi::{Bound, Field, Flaw, Json, Mistakes, Range, Step, number};

/// The longest answer that a body asks for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Length {
    /// The field that says so; none if the body leaves it open.
    pub(super) field: Option<&'static str>,
    /// The length, in tokens.
    pub(super) tokens: u32,
}

/// What a body says by its knobs.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Turned {
    /// What decides how tokens are chosen and where the answer ends.
    pub(super) knobs: Knobs,
    /// How many of the likeliest tokens are told in each place; none if no log-probabilities are.
    pub(super) top_logprobs: Option<u8>,
    /// How many answers are wanted.
    pub(super) choices: u32,
    /// Whether the ids of the answer's tokens are told.
    pub(super) shows_tokens: bool,
    /// The longest answer, in tokens.
    pub(super) max_tokens: u32,
}

/// Reads the knobs of a body that asks for an answer of at most this length, and notes what is wrong with them.
pub(super) fn read(body: &Json, length: Length, mistakes: &mut Mistakes) -> Turned {
    let mut reader = Reader { body, mistakes };
    let unless = |neutral: f64| move |value: &f64| (*value - neutral).abs() > 0.0;
    let choices = reader.integer(&CHOICES).unwrap_or(1);
    reader.refuse_best_of(choices);
    let top_logprobs = reader.top_logprobs();
    let max_tokens = reader.fitting(length, top_logprobs);
    let knobs = Knobs {
        stop: reader.stop(),
        top_p: reader.number(&TOP_P).filter(unless(1.0)),
        top_k: reader.integer(&TOP_K).filter(|count| *count > 0).and_then(|count| u32::try_from(count).ok()),
        min_p: reader.number(&MIN_P).filter(unless(0.0)),
        frequency_penalty: reader.number(&FREQUENCY_PENALTY).filter(unless(0.0)),
        presence_penalty: reader.number(&PRESENCE_PENALTY).filter(unless(0.0)),
        repetition_penalty: reader.number(&REPETITION_PENALTY).filter(unless(1.0)),
        logit_bias: reader.biases(),
        min_tokens: reader.min_tokens(max_tokens),
        ignore_eos: reader.flag(&IGNORE_EOS),
    };
    Turned {
        knobs,
        top_logprobs,
        choices: u32::try_from(choices).unwrap_or(1),
        shows_tokens: reader.flag(&RETURN_TOKEN_IDS),
        max_tokens,
    }
}

struct Reader<'a, 'b> {
    body: &'a Json,
    mistakes: &'b mut Mistakes,
}

impl<'a> Reader<'a, '_> {
    /// Returns the value of a field, unless it is left out or `null`.
    fn given(&self, field: &Field) -> Option<&'a Json> {
        self.body.get(field.name).filter(|value| **value != Json::Null)
    }

    fn wrong(&mut self, field: &'static str, flaw: Flaw) {
        let value = self.body.get(field).unwrap_or(&Json::Null);
        self.mistakes.add(&[Step::name(field)], flaw, value);
    }

    fn or_wrong<T>(&mut self, field: &'static str, read: Result<T, Flaw>) -> Option<T> {
        read.map_err(|flaw| self.wrong(field, flaw)).ok()
    }

    fn number(&mut self, field: &Field) -> Option<f64> {
        let read = number::number(self.given(field)?).and_then(|value| within(value, field.range));
        self.or_wrong(field.name, read)
    }

    fn integer(&mut self, field: &Field) -> Option<i64> {
        let read =
            number::integer(self.given(field)?).and_then(|value| whole_within(value.nearest(), field.range));
        self.or_wrong(field.name, read)
    }

    fn flag(&mut self, field: &Field) -> bool {
        match self.given(field) {
            None => false,
            Some(Json::Bool(flag)) => *flag,
            Some(_) => {
                self.wrong(field.name, Flaw::new("bool_type", "Input should be a valid boolean"));
                false
            }
        }
    }

    /// Refuses a `best_of` that isn't as many as there are answers: none of them is left out.
    fn refuse_best_of(&mut self, choices: i64) {
        let asked = self.body.get("best_of").filter(|value| **value != Json::Null);
        if asked.is_some_and(|value| number::integer(value).map(number::Integer::nearest) != Ok(choices)) {
            let message = "'best_of' is not supported, but for the value of 'n': every answer is given out";
            self.wrong("best_of", Flaw::new("unsupported", message));
        }
    }

    fn stop(&mut self) -> Vec<String> {
        let Some(value) = self.given(&STOP) else { return Vec::new() };
        let Json::List(items) = value else {
            let read = stop_text(value);
            return self.or_wrong(STOP.name, read).into_iter().collect();
        };
        if items.len() > STOPS_MAX {
            self.wrong(STOP.name, too_many("List", STOPS_MAX, items.len()));
            return Vec::new();
        }
        let mut texts = Vec::with_capacity(items.len());
        for (index, item) in items.iter().enumerate() {
            match stop_text(item) {
                Ok(text) => texts.push(text),
                Err(flaw) => self.mistakes.add(&[Step::name(STOP.name), Step::Index(index)], flaw, item),
            }
        }
        texts
    }

    fn biases(&mut self) -> BTreeMap<TokenId, f64> {
        let members = match self.given(&LOGIT_BIAS) {
            None => return BTreeMap::new(),
            Some(Json::Object(members)) => members,
            Some(_) => {
                self.wrong(LOGIT_BIAS.name, Flaw::new("dict_type", "Input should be a valid dictionary"));
                return BTreeMap::new();
            }
        };
        if members.len() > BIASES_MAX {
            self.wrong(LOGIT_BIAS.name, too_many("Dictionary", BIASES_MAX, members.len()));
            return BTreeMap::new();
        }
        let mut biases = BTreeMap::new();
        for (name, value) in members {
            let bias = number::number(value)
                .and_then(|bias| within(bias, Range::Numbers(*BIASES.start(), *BIASES.end())));
            match token_id(name).and_then(|token| Ok((token, bias?))) {
                Ok((token, bias)) if bias != 0.0 => drop(biases.insert(token, bias)),
                Ok(_) => {}
                Err(flaw) => {
                    self.mistakes.add(&[Step::name(LOGIT_BIAS.name), Step::their_name(name)], flaw, value);
                }
            }
        }
        biases
    }

    fn min_tokens(&mut self, max_tokens: u32) -> u32 {
        let Some(value) = self.given(&MIN_TOKENS) else { return 0 };
        let range = Range::Integers { least: 0, most: Bound::Integer(max_tokens.into()) };
        let read = number::integer(value).and_then(|value| whole_within(value.nearest(), range));
        self.or_wrong(MIN_TOKENS.name, read).and_then(|tokens| u32::try_from(tokens).ok()).unwrap_or(0)
    }

    fn top_logprobs(&mut self) -> Option<u8> {
        let (is_asked, count) = (self.flag(&LOGPROBS), self.integer(&TOP_LOGPROBS));
        if !is_asked && count.is_some_and(|count| count > 0) {
            let message = "Input should be 0, or left out, unless 'logprobs' is true";
            self.wrong(TOP_LOGPROBS.name, Flaw::new("value_error", message));
        }
        is_asked.then(|| u8::try_from(count.unwrap_or(0)).unwrap_or(0))
    }

    /// Returns the longest answer of which all that is to be told fits into a message. A length that the body left open is shortened
    /// to it.
    fn fitting(&mut self, length: Length, top_logprobs: Option<u8>) -> u32 {
        let Some(likeliest) = top_logprobs else { return length.tokens };
        let most = evidence::tokens_max(likeliest);
        if let Some(field) = length.field
            && length.tokens > most
        {
            let message = format!(
                "Input should be less than or equal to {most}: with 'logprobs' and 'top_logprobs' {likeliest}, what is to be told of \
                 a longer answer doesn't fit into one message"
            );
            self.wrong(field, Flaw::new("less_than_equal", message).with(json!({ "le": most })));
        }
        length.tokens.min(most)
    }
}

/// Returns the number if the range has it.
fn within(value: f64, range: Range) -> Result<f64, Flaw> {
    match range {
        Range::Numbers(least, _) if value < least => Err(Flaw::below(least)),
        Range::NumbersAbove(bound, _) if value <= bound => Err(Flaw::not_above(bound)),
        Range::Numbers(_, most) | Range::NumbersAbove(_, most) if value > most => Err(Flaw::above(most)),
        _ => Ok(value),
    }
}

fn whole_within(value: i64, range: Range) -> Result<i64, Flaw> {
    match range {
        Range::Integers { least, .. } if value < least => Err(Flaw::below(least)),
        Range::Integers { most: Bound::Integer(most), .. } if value > most => Err(Flaw::above(most)),
        _ => Ok(value),
    }
}

fn stop_text(value: &Json) -> Result<String, Flaw> {
    match value {
        Json::Text(text) if text.is_empty() => {
            let message = "String should have at least 1 character";
            Err(Flaw::new("string_too_short", message).with(json!({ "min_length": 1 })))
        }
        Json::Text(text) if text.chars().count() > STOP_MAX_CHARACTERS => {
            let message = format!("String should have at most {STOP_MAX_CHARACTERS} characters");
            Err(Flaw::new("string_too_long", message).with(json!({ "max_length": STOP_MAX_CHARACTERS })))
        }
        Json::Text(text) => Ok(text.clone()),
        Json::BrokenText(_) => Err(Flaw::new(
            "string_unicode",
            "Input should be a valid string, unable to parse raw data as a unicode string",
        )),
        _ => Err(Flaw::new("string_type", "Input should be a valid string")),
    }
}

/// Reads a token's id as it is written in one way only, so that no two names stand for one token.
fn token_id(name: &str) -> Result<TokenId, Flaw> {
    let is_canonical = name == "0" || !name.starts_with('0');
    let is_short = (1..=9).contains(&name.len()) && name.bytes().all(|byte| byte.is_ascii_digit());
    let read = (is_canonical && is_short).then(|| name.parse().ok()).flatten();
    read.ok_or_else(|| {
        let message = "A token's id should be written with one to nine digits, and no zero before them";
        Flaw::new("string_pattern_mismatch", message)
    })
}

fn too_many(kind: &str, most: usize, actual: usize) -> Flaw {
    let message = format!("{kind} should have at most {most} items after validation, not {actual}");
    let context = json!({ "field_type": kind, "max_length": most, "actual_length": actual });
    Flaw::new("too_long", message).with(context)
}
