//! Reads the bodies that ask for a conversation, each by the table of its route (`chat_form`), and makes the checks
//! beyond the tables. The shape is checked first, as pydantic does (`fastapi`), and then our own limits, in pydantic's words
//! too. Whether the model exists and has room is checked later.

use std::time::Duration;

use infera_ledger::Metadata;
use infera_types::ids::ModelName;
use infera_types::job::{ChatMessage, JobRequest, Seed, VerificationPolicy};
use infera_types::money::Price;
use infera_types::request::Release;
use infera_types::service::ServiceTier;
use serde_json::json;

use super::chat_form::{
    ANSWER_TOKENS_MIN, CHAT, CONTENTS, CONVERSATIONS, DEVELOPER, FOREIGN, MESSAGES_MIN, OPENAI, OPENAI_ROLES,
    QUORUMS, REPLICAS, ROLES, ROLES_OF_TOOLS, SUBMIT, TEMPERATURE, TEMPERATURE_DEFAULT, UNSUPPORTED,
    UNSUPPORTED_IN_MESSAGES, VERIFICATION,
};
use super::knobs::{self, Length, Turned};
use crate::api::nodes_wanted::NodesWanted;
use crate::api::stream_form::{self, StreamAsked};
use crate::api::{amounts, metadata};
use crate::config::{Config, REQUEST_TIMEOUT_S};
use crate::fastapi::{Checked, Flaw, Json, Mistakes, Step, Unfit, check, refuse_strangers};

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
    /// How many answers are wanted, from 1 to [`infera_types::choice::CHOICES_MAX`].
    pub(crate) choices: u32,
    /// Whether the ids of the answer's tokens are told.
    pub(crate) shows_tokens: bool,
    /// How many replicas are wanted, and how many of them must agree.
    pub(crate) policy: VerificationPolicy,
    /// Which nodes may be asked; none: what the key says.
    pub(crate) nodes: Option<NodesWanted>,
    /// The time that a synchronous client waits.
    pub(crate) timeout: Duration,
    /// The tier that the client asks for.
    pub(crate) tier: ServiceTier,
    /// The client's pairs, by which it finds the job again.
    pub(crate) metadata: Metadata,
    /// Whether the job is to be stored, if the client says so.
    pub(crate) store: Option<bool>,
    /// The most that the model may cost.
    pub(crate) max_price: Option<Price>,
    /// How the answer is streamed; none: it isn't.
    pub(crate) stream: Option<StreamAsked>,
}

impl ChatRequest {
    /// Returns the words by which the request says which nodes may be asked; empty if it says nothing.
    pub(crate) fn nodes_words(&self) -> String {
        self.nodes.as_ref().map(NodesWanted::words).unwrap_or_default()
    }
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

impl AnswerBounds {
    /// Returns the largest length that a body may ask for, in tokens.
    #[must_use]
    pub(crate) const fn tokens_max(self) -> u32 {
        self.tokens_max
    }
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
    // Both names are checked, although the newer one counts.
    let [max_tokens, newer] = [(length_name, length), ("max_completion_tokens", other_length)]
        .map(|(name, checked)| checked.integer().map(|value| ours.length(name, value, bounds)));
    let length_field = if newer.is_some() { "max_completion_tokens" } else { length_name };
    let given = newer.or(max_tokens);
    let length = Length {
        field: given.map(|_| length_field),
        tokens: given.unwrap_or(bounds.tokens_default.min(bounds.tokens_max)),
    };
    let turned = knobs::read(body, length, &mut ours.mistakes);
    let Turned { knobs, top_logprobs, choices, shows_tokens, max_tokens } = turned;
    let temperature = ours.temperature(temperature.number().unwrap_or(TEMPERATURE_DEFAULT));
    let (policy, nodes, tier, store) = (ours.policy(), ours.nodes(), ours.tier(), ours.store());
    let stream = stream_form::read(body, form != Form::Submit, policy.replicas, &mut ours.mistakes);
    // What goes after the settlement needs nothing of nodes.
    let tells = stream.map(|asked| asked.release).filter(|release| *release != Release::Verified);
    let model = ModelName::new(model.into_text());
    let request = JobRequest {
        model,
        messages,
        max_tokens,
        temperature,
        seed: seed_of(&seed),
        knobs,
        top_logprobs,
        stream: tells.filter(|_| top_logprobs.is_none()),
    };
    let metadata =
        if form == Form::OpenAi { metadata::read(body, &mut ours.mistakes) } else { Metadata::new() };
    let timeout = timeout_of(&timeout, bounds);
    let max_price = amounts::max_price(body, &mut ours.mistakes);
    let asked = ChatRequest {
        request,
        choices,
        shows_tokens,
        policy,
        nodes,
        timeout,
        tier,
        metadata,
        store,
        max_price,
        stream,
    };
    Ok(ours.mistakes.none_or(asked)?)
}

fn seed_of(checked: &Checked) -> Option<Seed> {
    match checked {
        Checked::Integer(seed) => Some(Seed::Signed(*seed)),
        Checked::Large(seed) => Some(Seed::Large(*seed)),
        _ => None,
    }
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
        if items.len() < MESSAGES_MIN {
            let message = "List should have at least 1 item after validation, not 0";
            let context = json!({ "field_type": "List", "min_length": 1, "actual_length": 0 });
            let flaw = Flaw::new("too_short", message).with(context);
            let accepted = if form == Form::OpenAi { CONVERSATIONS } else { "" };
            self.wrong(&[Step::name("messages")], flaw.accepting(accepted));
        }
        let given = self.body.get("messages");
        let mut messages = Vec::with_capacity(items.len());
        for (index, item) in items.into_iter().enumerate() {
            let [role, content] = item.into_fields();
            let role = match role.into_text() {
                role if role == DEVELOPER && form == Form::OpenAi => ROLES[0].to_owned(),
                role => role,
            };
            if !ROLES.contains(&role.as_str()) {
                let location = [Step::name("messages"), Step::Index(index), Step::name("role")];
                self.wrong(&location, no_role(&role, form));
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
        for option in &UNSUPPORTED_IN_MESSAGES {
            let asked = given.get(option.name).filter(|value| **value != Json::Null);
            if let Some(value) = asked.filter(|value| !(option.is_neutral)(value)) {
                self.mistakes.add(&location(option.name), unsupported(option.name), value);
            }
        }
        match content {
            Checked::Absent if role != "assistant" => {
                self.mistakes.add(&location("content"), Flaw::missing().accepting(CONTENTS), given);
            }
            Checked::Null if role != "assistant" => {
                let flaw = Flaw::new("string_type", "Input should be a valid string").accepting(CONTENTS);
                self.mistakes.add(&location("content"), flaw, &Json::Null);
            }
            _ => {}
        }
    }

    fn length(&mut self, field: &'static str, value: i64, bounds: AnswerBounds) -> u32 {
        let max = bounds.tokens_max;
        if value < ANSWER_TOKENS_MIN {
            self.wrong(&[Step::name(field)], Flaw::below(ANSWER_TOKENS_MIN));
        } else if value > i64::from(max) {
            self.wrong(&[Step::name(field)], Flaw::above(max));
        }
        u32::try_from(value).unwrap_or(max)
    }

    /// Checks the temperature against its range.
    fn temperature(&mut self, value: f64) -> f64 {
        let (least, most) = TEMPERATURE.into_inner();
        if value < least {
            self.wrong(&[Step::name("temperature")], Flaw::below(least));
        } else if value > most {
            self.wrong(&[Step::name("temperature")], Flaw::above(most));
        }
        // -0.0 asks for the same as 0.0, so both must have the same digest.
        if value == 0.0 { 0.0 } else { value }
    }

    fn policy(&mut self) -> VerificationPolicy {
        let default = VerificationPolicy::default();
        let given = match self.body.get("verification") {
            None | Some(Json::Null) => return default,
            Some(given @ Json::Object(_)) => given,
            Some(_) => {
                let flaw = Flaw::new("dict_type", "Input should be a valid dictionary");
                self.wrong(&[Step::name("verification")], flaw);
                return default;
            }
        };
        let known: Vec<&str> = VERIFICATION.iter().map(|field| field.name).collect();
        refuse_strangers(given, &known, &[Step::name("verification")], &mut self.mistakes);
        let replicas = self.choice("replicas", default.replicas, REPLICAS);
        let (quorum_default, quorums): (u8, &[u8]) =
            if replicas == 1 { (1, &[1]) } else { (default.quorum, QUORUMS) };
        let quorum = self.choice("quorum", quorum_default, quorums);
        VerificationPolicy { quorum, replicas }
    }

    /// Reads which nodes may be asked. What is no object at all was noted with the policy.
    fn nodes(&mut self) -> Option<NodesWanted> {
        let given = match self.body.get("verification")?.get("nodes")? {
            Json::Null => return None,
            Json::Text(words) => NodesWanted::read(words),
            _ => None,
        };
        if given.is_none() {
            let flaw = Flaw::not_among("'any', 'own' or 'group:' with the name or id of a group");
            self.wrong(&[Step::name("verification"), Step::name("nodes")], flaw);
        }
        given
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

    /// Reads whether the job is to be stored.
    fn store(&mut self) -> Option<bool> {
        match self.body.get("store") {
            None | Some(Json::Null) => None,
            Some(Json::Bool(store)) => Some(*store),
            Some(_) => {
                self.wrong(&[Step::name("store")], Flaw::new("bool_type", "Input should be a valid boolean"));
                None
            }
        }
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

    /// Refuses options of OpenAI's API and of other servers that this network doesn't support, where ignoring them would change the
    /// answer, in every form: clients send them to the network's own paths too. Values that change nothing are accepted,
    /// and so are unknown names.
    fn refuse_unsupported(&mut self) {
        for option in UNSUPPORTED.iter().chain(&FOREIGN) {
            let asked = self.body.get(option.name).filter(|value| **value != Json::Null);
            if asked.is_some_and(|value| !(option.is_neutral)(value)) {
                self.wrong(&[Step::name(option.name)], unsupported(option.name));
            }
        }
    }
}

/// Returns the flaw of a role that no message has.
fn no_role(role: &str, form: Form) -> Flaw {
    let flaw = Flaw::not_among("'system', 'user' or 'assistant'");
    match form {
        Form::OpenAi if ROLES_OF_TOOLS.contains(&role) => flaw
            .advising(format!("Messages of the role '{role}' are not supported, because no tools are"))
            .accepting(OPENAI_ROLES),
        Form::OpenAi => flaw.advising(format!("Input should be {OPENAI_ROLES}")),
        Form::Chat | Form::Submit => flaw,
    }
}

fn unsupported(field: &str) -> Flaw {
    Flaw::new("unsupported", format!("'{field}' with this value is not supported"))
}
