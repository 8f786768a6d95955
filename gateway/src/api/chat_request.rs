//! The bodies that ask for a conversation: a table for each of the three routes that take one, and the checks beyond
//! the tables. The shape is checked first, as pydantic does (`fastapi`), and then our own limits, in pydantic's words
//! too. Whether the model exists and has room is checked later.

use std::time::Duration;

use infera_ledger::Metadata;
use infera_types::ids::ModelName;
use infera_types::job::{ChatMessage, JobRequest, VerificationPolicy};
use infera_types::service::ServiceTier;
use serde_json::json;

use crate::api::metadata;
use crate::config::{Config, REQUEST_TIMEOUT_S};
use crate::fastapi::{Checked, Field, Flaw, Json, Kind, Mistakes, Step, Unfit, check};

const MESSAGE: &[Field] = &[Field::required("role", Kind::Text), Field::required("content", Kind::Text)];
/// A message on OpenAI's face. Which roles may leave out the content is checked in code, because a table can't
/// express it.
const OPENAI_MESSAGE: &[Field] =
    &[Field::required("role", Kind::Text), Field::optional("content", Kind::Nullable(&Kind::Content))];
const OPTIONAL_INTEGER: Kind = Kind::Nullable(&Kind::Integer);
/// A seed, which is refused if it can't be kept exactly: two seeds rounded to the same number would share their
/// noise.
const SEED: Field = Field::optional("seed", Kind::Nullable(&Kind::ExactInteger));

/// The form of `POST /chat/completions`. In this form and the next two, the third field is the answer's length.
const CHAT: &[Field] = &[
    Field::required("model", Kind::Text),
    Field::required("messages", Kind::List(&Kind::Object(MESSAGE))),
    Field::required("max_tokens", Kind::Integer),
    Field::required("temperature", Kind::Number),
    Field::optional("request_timeout_time", OPTIONAL_INTEGER),
    SEED,
];
const SUBMIT: &[Field] = &[
    Field::required("model", Kind::Text),
    Field::required("messages", Kind::List(&Kind::Object(MESSAGE))),
    Field::required("max_output", Kind::Integer),
    Field::required("temperature", Kind::Number),
    Field::optional("request_timeout_time", OPTIONAL_INTEGER),
    SEED,
];
const OPENAI: &[Field] = &[
    Field::required("model", Kind::Text),
    Field::required("messages", Kind::List(&Kind::Object(OPENAI_MESSAGE))),
    Field::optional("max_tokens", OPTIONAL_INTEGER),
    Field::optional("temperature", Kind::Nullable(&Kind::Number)),
    Field::optional("request_timeout_time", OPTIONAL_INTEGER),
    SEED,
    Field::optional("max_completion_tokens", OPTIONAL_INTEGER),
];

/// The table that a body is read by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    /// `POST /chat/completions`.
    Chat,
    /// `POST /submit_job`.
    Submit,
    /// `POST /v1/chat/completions`.
    OpenAi,
}

/// A conversation that was read and checked.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct ChatRequest {
    /// The request as it is stored and sent to nodes.
    pub(crate) request: JobRequest,
    /// How many replicas are wanted, and how many of them must agree.
    pub(crate) policy: VerificationPolicy,
    /// The time that a synchronous client waits.
    pub(crate) timeout: Duration,
    /// The tier that the client asks for.
    pub(crate) tier: ServiceTier,
    /// The client's pairs, by which it finds the job again.
    pub(crate) metadata: Metadata,
}

/// The bounds of the answers that a body may ask for, and their defaults.
#[derive(Clone, Copy, Debug)]
pub(crate) struct AnswerBounds {
    /// The answer's length if the body doesn't give one, in tokens.
    tokens_default: u32,
    /// The largest length that a body may ask for, in tokens.
    tokens_max: u32,
    /// The time that a client waits if the body doesn't say, in seconds.
    timeout_s: u64,
}

impl From<&Config> for AnswerBounds {
    fn from(config: &Config) -> Self {
        Self {
            tokens_default: config.max_tokens_default,
            tokens_max: config.max_tokens_max,
            timeout_s: config.request_timeout_s,
        }
    }
}

/// Reads a conversation from a body's JSON, by the table of `form`.
///
/// # Errors
/// [`Unfit::Mistakes`]: the mistakes in the shape, or, if the shape is right, the values outside our limits.
pub(crate) fn read(form: Form, body: &Json, bounds: AnswerBounds) -> Result<ChatRequest, Unfit> {
    let fields = match form {
        Form::Chat => CHAT,
        Form::Submit => SUBMIT,
        Form::OpenAi => OPENAI,
    };
    let checked = check(body, fields)?;
    let mut ours = Ours { body, mistakes: Mistakes::default() };
    ours.refuse_unsupported();
    let [model, messages, length, temperature, timeout, seed, other_length] = checked.into_fields();
    let messages = ours.messages(messages, form);
    let length_name = if form == Form::Submit { "max_output" } else { "max_tokens" };
    let max_tokens = match (length.integer(), other_length.integer()) {
        (_, Some(value)) => ours.length("max_completion_tokens", value, bounds),
        (Some(value), None) => ours.length(length_name, value, bounds),
        (None, None) => bounds.tokens_default,
    };
    // OpenAI's default. The seed's forms require a temperature.
    let temperature = ours.temperature(temperature.number().unwrap_or(1.0));
    let (policy, tier) = (ours.policy(), ours.tier());
    let model = ModelName::new(model.into_text());
    let request = JobRequest { model, messages, max_tokens, temperature, seed: seed.integer() };
    let metadata =
        if form == Form::OpenAi { metadata::read(body, &mut ours.mistakes) } else { Metadata::new() };
    let timeout = timeout_of(&timeout, bounds);
    Ok(ours.mistakes.none_or(ChatRequest { request, policy, timeout, tier, metadata })?)
}

/// Returns how long the client waits. A time out of range is clamped and not refused, because the seed names no
/// range.
fn timeout_of(asked: &Checked, bounds: AnswerBounds) -> Duration {
    let seconds = asked.integer().map_or(bounds.timeout_s, |seconds| u64::try_from(seconds).unwrap_or(0));
    Duration::from_secs(seconds.clamp(*REQUEST_TIMEOUT_S.start(), *REQUEST_TIMEOUT_S.end()))
}

/// The checks that a table can't express.
struct Ours<'a> {
    body: &'a Json,
    mistakes: Mistakes,
}

impl Ours<'_> {
    /// Notes a flaw of the value at `location`.
    fn wrong(&mut self, location: &[Step], flaw: Flaw) {
        let input = location.iter().try_fold(self.body, |value, step| match (step, value) {
            (Step::Name(name), value) => value.get(name),
            (Step::Index(index), Json::List(items)) => items.get(*index),
            _ => None,
        });
        self.mistakes.add(location, flaw, input.unwrap_or(&Json::Null));
    }

    fn messages(&mut self, checked: Checked, form: Form) -> Vec<ChatMessage> {
        let items = checked.into_items();
        if items.is_empty() {
            let message = "List should have at least 1 item after validation, not 0";
            let context = json!({ "field_type": "List", "min_length": 1, "actual_length": 0 });
            self.wrong(&[Step::name("messages")], Flaw::new("too_short", message).with(context));
        }
        let given = self.body.get("messages");
        let mut messages = Vec::with_capacity(items.len());
        for (index, item) in items.into_iter().enumerate() {
            let [role, content] = item.into_fields();
            let role = match role.into_text() {
                // OpenAI's newer name for the same role.
                role if role == "developer" && form == Form::OpenAi => "system".to_owned(),
                role => role,
            };
            if !["system", "user", "assistant"].contains(&role.as_str()) {
                let location = [Step::name("messages"), Step::Index(index), Step::name("role")];
                self.wrong(&location, Flaw::not_among("'system', 'user' or 'assistant'"));
            } else if let Some(Json::List(given)) = given
                && let Some(given) = given.get(index)
            {
                self.message(index, given, &role, &content);
            }
            messages.push(ChatMessage { role, content: content.into_text() });
        }
        messages
    }

    /// Checks what OpenAI's API lets an assistant's message have in place of a content. A message with none of it has
    /// an empty text. Values that would be lost, such as tool calls, are refused.
    fn message(&mut self, index: usize, given: &Json, role: &str, content: &Checked) {
        let location = |field| [Step::name("messages"), Step::Index(index), Step::name(field)];
        for (field, is_neutral) in UNSUPPORTED_IN_MESSAGES {
            if let Some(value) = given.get(field).filter(|value| **value != Json::Null && !is_neutral(value))
            {
                self.mistakes.add(&location(field), unsupported(field), value);
            }
        }
        match content {
            Checked::Absent if role != "assistant" => {
                self.mistakes.add(&location("content"), Flaw::missing(), given);
            }
            Checked::Null if role != "assistant" => {
                let flaw = Flaw::new("string_type", "Input should be a valid string");
                self.mistakes.add(&location("content"), flaw, &Json::Null);
            }
            _ => {}
        }
    }

    fn length(&mut self, field: &'static str, value: i64, bounds: AnswerBounds) -> u32 {
        let max = bounds.tokens_max;
        if value < 1 {
            self.wrong(&[Step::name(field)], Flaw::below(1));
        } else if value > i64::from(max) {
            self.wrong(&[Step::name(field)], Flaw::above(max));
        }
        u32::try_from(value).unwrap_or(max)
    }

    /// Checks the temperature against OpenAI's range. Above 2, models answer nonsense, and so much noise would hide
    /// cheating.
    fn temperature(&mut self, value: f64) -> f64 {
        if value < 0.0 {
            self.wrong(&[Step::name("temperature")], Flaw::below(0.0));
        } else if value > 2.0 {
            self.wrong(&[Step::name("temperature")], Flaw::above(2.0));
        }
        // -0.0 asks for the same as 0.0, so both must have the same digest.
        if value == 0.0 { 0.0 } else { value }
    }

    fn policy(&mut self) -> VerificationPolicy {
        let default = VerificationPolicy::default();
        let members = match self.body.get("verification") {
            None | Some(Json::Null) => return default,
            Some(Json::Object(members)) => members,
            Some(_) => {
                let flaw = Flaw::new("dict_type", "Input should be a valid dictionary");
                self.wrong(&[Step::name("verification")], flaw);
                return default;
            }
        };
        for (key, value) in members.iter().filter(|(key, _)| key != "quorum" && key != "replicas") {
            let location = [Step::name("verification"), Step::their_name(key)];
            self.mistakes.add(
                &location,
                Flaw::new("extra_forbidden", "Extra inputs are not permitted"),
                value,
            );
        }
        let replicas = self.choice("replicas", default.replicas, &[1, 3]);
        let (quorum_default, quorums): (u8, &[u8]) = if replicas == 1 { (1, &[1]) } else { (2, &[2, 3]) };
        let quorum = self.choice("quorum", quorum_default, quorums);
        VerificationPolicy { quorum, replicas }
    }

    /// Reads the tier. `auto`, as in OpenAI's API, leaves the choice to us, and we choose the default tier.
    fn tier(&mut self) -> ServiceTier {
        let asked = match self.body.get("service_tier") {
            None | Some(Json::Null) => return ServiceTier::Default,
            Some(Json::Text(word)) if word == "auto" => return ServiceTier::Default,
            Some(Json::Text(word)) => word.parse().ok(),
            Some(_) => None,
        };
        asked.unwrap_or_else(|| {
            let flaw = Flaw::not_among("'auto', 'default', 'flex' or 'priority'");
            self.wrong(&[Step::name("service_tier")], flaw);
            ServiceTier::Default
        })
    }

    /// Reads a member of `verification` that has to be one of a few numbers.
    fn choice(&mut self, member: &'static str, default: u8, allowed: &[u8]) -> u8 {
        let asked = match self.body.get("verification").and_then(|verification| verification.get(member)) {
            None | Some(Json::Null) => return default,
            Some(Json::Int(value)) => allowed.iter().copied().find(|choice| i64::from(*choice) == *value),
            Some(_) => None,
        };
        asked.unwrap_or_else(|| {
            let words: Vec<String> = allowed.iter().map(u8::to_string).collect();
            let location = [Step::name("verification"), Step::name(member)];
            self.wrong(&location, Flaw::not_among(&words.join(" or ")));
            default
        })
    }

    /// Refuses options of OpenAI's API that this network doesn't support, where ignoring them would change the
    /// answer, in every form: clients send them to the network's own paths too. Values that change nothing are accepted, and so are unknown names.
    fn refuse_unsupported(&mut self) {
        for (field, is_neutral) in UNSUPPORTED {
            if self.body.get(field).is_some_and(|value| *value != Json::Null && !is_neutral(value)) {
                self.wrong(&[Step::name(field)], unsupported(field));
            }
        }
    }
}

fn unsupported(field: &str) -> Flaw {
    Flaw::new("unsupported", format!("'{field}' with this value is not supported"))
}

pub(crate) type IsNeutral = fn(&Json) -> bool;

/// Options of OpenAI's API that would change the answer, each with the values that don't.
pub(crate) const UNSUPPORTED: [(&str, IsNeutral); 17] = [
    ("stream", |value| *value == Json::Bool(false)),
    ("n", |value| is_number(value, 1.0)),
    ("top_p", |value| is_number(value, 1.0)),
    ("frequency_penalty", |value| is_number(value, 0.0)),
    ("presence_penalty", |value| is_number(value, 0.0)),
    ("logprobs", |value| *value == Json::Bool(false)),
    ("top_logprobs", |value| is_number(value, 0.0)),
    ("stop", is_empty),
    ("tools", is_empty),
    ("functions", is_empty),
    ("tool_choice", |value| is_text(value, "none") || is_text(value, "auto")),
    ("function_call", |value| is_text(value, "none") || is_text(value, "auto")),
    ("logit_bias", is_empty),
    ("response_format", |value| value.get("type").is_some_and(|kind| is_text(kind, "text"))),
    ("modalities", |value| *value == Json::List(vec![Json::Text("text".to_owned())])),
    ("audio", |_| false),
    ("web_search_options", |_| false),
];

/// The options within a message that are refused in the same way: an assistant's actions beside its text.
const UNSUPPORTED_IN_MESSAGES: [(&str, IsNeutral); 4] =
    [("tool_calls", is_empty), ("function_call", is_empty), ("refusal", is_empty), ("audio", is_empty)];

fn is_number(value: &Json, expected: f64) -> bool {
    crate::fastapi::number::number(value).is_ok_and(|value| (value - expected).abs() < f64::EPSILON)
}

fn is_text(value: &Json, expected: &str) -> bool {
    matches!(value, Json::Text(text) if text == expected)
}

fn is_empty(value: &Json) -> bool {
    match value {
        Json::List(items) => items.is_empty(),
        Json::Object(members) => members.is_empty(),
        Json::Text(text) => text.is_empty(),
        _ => false,
    }
}
