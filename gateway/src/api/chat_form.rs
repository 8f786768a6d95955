//! The tables of the three bodies that ask for a conversation: their fields with kinds, ranges and meanings. Bodies are
//! checked by them (`chat_request`), and the description of the API is made from them.

use super::amounts::MAX_PRICE_FIELD;
use super::nodes_wanted;
use crate::fastapi::{Bound, Field, Json, Kind, Range};

/// The fewest messages that a conversation has.
pub(super) const MESSAGES_MIN: usize = 1;
/// The shortest answer that can be asked for, in tokens.
pub(super) const ANSWER_TOKENS_MIN: i64 = 1;
/// OpenAI's range of temperatures. Above it, models answer nonsense, and so much noise would hide cheating.
pub(super) const TEMPERATURE: std::ops::RangeInclusive<f64> = 0.0..=2.0;
/// OpenAI's default. The network's own forms require a temperature.
pub(super) const TEMPERATURE_DEFAULT: f64 = 1.0;
/// The roles of a message that models know.
pub(super) const ROLES: [&str; 3] = ["system", "user", "assistant"];
/// What OpenAI's face accepts as messages, as a role and as a content, for those who made a mistake there.
pub(super) const CONVERSATIONS: &str =
    "a list of one message or more, each an object with 'role' and 'content'";
pub(super) const OPENAI_ROLES: &str = "'system', 'developer', 'user' or 'assistant'";
pub(super) const CONTENTS: &str = "a text, or a list of parts {'type': 'text', 'text': '…'}";
/// The roles of OpenAI's API that belong to tools, which this network doesn't run.
pub(super) const ROLES_OF_TOOLS: [&str; 2] = ["tool", "function"];
/// OpenAI's newer name for the role `system`.
pub(super) const DEVELOPER: &str = "developer";
/// The numbers of replicas that can be asked for.
pub(super) const REPLICAS: &[u8] = &[1, 3];
/// The numbers of agreeing replicas that can be asked for, of three.
pub(super) const QUORUMS: &[u8] = &[2, 3];

const MODEL: Field =
    Field::required("model", Kind::Text).about("The model's name, as `GET /v1/models` lists it.");
const MESSAGES_ABOUT: &str = "The conversation so far, the oldest message first. It must leave room for an answer in the model's context.";
const ROLE_ABOUT: &str =
    "Who speaks. Some models' chat templates take no `system`, or ask that `user` and `assistant` alternate.";
const MESSAGE: &[Field] = &[
    Field::required("role", Kind::Text).about(ROLE_ABOUT).range(Range::Words(&ROLES)),
    Field::required("content", Kind::Text).about("What was said."),
];
/// A message on OpenAI's face. Which roles may leave out the content is checked in code, because a table can't
/// express it.
const OPENAI_MESSAGE: &[Field] = &[
    Field::required("role", Kind::Text)
        .about("Who speaks; `developer` is taken as `system`. Some models' chat templates take no `system`, or ask that `user` and `assistant` alternate.")
        .range(Range::Words(&[ROLES[0], ROLES[1], ROLES[2], DEVELOPER]))
        .accepted(OPENAI_ROLES),
    Field::optional("content", Kind::Nullable(&Kind::Content))
        .about("What was said: a text, or a list of parts of type `text`, which are joined. Only `assistant` may leave it out.")
        .accepted(CONTENTS),
];
const MESSAGES: Field = Field::required("messages", Kind::List(&Kind::Object(MESSAGE)))
    .about(MESSAGES_ABOUT)
    .range(Range::Items(MESSAGES_MIN));
const OPENAI_MESSAGES: Field = Field::required("messages", Kind::List(&Kind::Object(OPENAI_MESSAGE)))
    .about(MESSAGES_ABOUT)
    .range(Range::Items(MESSAGES_MIN))
    .accepted(CONVERSATIONS);

const OPTIONAL_INTEGER: Kind = Kind::Nullable(&Kind::Integer);
const ANSWER_TOKENS: Range =
    Range::Integers { least: ANSWER_TOKENS_MIN, most: Bound::Setting("max_tokens_max") };
const LENGTH_ABOUT: &str = "The largest length of the answer, in tokens. A longer answer is cut there, with `finish_reason` \"length\".";
const TEMPERATURE_ABOUT: &str = "How much chance there is in the choice of tokens; 0 always takes the likeliest. Verified answers are possible at every temperature.";
const TEMPERATURES: Range = Range::Numbers(*TEMPERATURE.start(), *TEMPERATURE.end());
/// Values out of range are moved into it and not refused, so the table gives no range.
const TIMEOUT: Field = Field::optional("request_timeout_time", OPTIONAL_INTEGER)
    .about("How long the client waits, in seconds. Values below 1 count as 1, and values above 600 as 600. Afterwards the reply is 504.")
    .default(Bound::Setting("request_timeout_s"));
/// The same field of a body whose client doesn't wait, which is accepted and ignored.
const NO_TIMEOUT: Field = Field::optional("request_timeout_time", OPTIONAL_INTEGER)
    .about("Accepted for compatibility and ignored: a submitted job has the deadline that the gateway's operator set.");
/// A seed, which is refused if it can't be kept exactly: two seeds rounded to the same number would share their
/// noise.
const SEED: Field = Field::optional("seed", Kind::Nullable(&Kind::ExactInteger))
    .about("Makes the same request choose the same tokens again, as long as the model's `system_fingerprint` stays the same.")
    .range(Range::Integers { least: i64::MIN, most: Bound::Unsigned(u64::MAX) });

/// The form of `POST /chat/completions`. In this form and the next two, the third field is the answer's length.
pub(crate) const CHAT: &[Field] = &[
    MODEL,
    MESSAGES,
    Field::required("max_tokens", Kind::Integer).about(LENGTH_ABOUT).range(ANSWER_TOKENS),
    Field::required("temperature", Kind::Number).about(TEMPERATURE_ABOUT).range(TEMPERATURES),
    TIMEOUT,
    SEED,
];
/// The form of `POST /submit_job`.
pub(crate) const SUBMIT: &[Field] = &[
    MODEL,
    MESSAGES,
    Field::required("max_output", Kind::Integer).about(LENGTH_ABOUT).range(ANSWER_TOKENS),
    Field::required("temperature", Kind::Number).about(TEMPERATURE_ABOUT).range(TEMPERATURES),
    NO_TIMEOUT,
    SEED,
];
/// The form of `POST /v1/chat/completions`.
pub(crate) const OPENAI: &[Field] = &[
    MODEL,
    OPENAI_MESSAGES,
    Field::optional("max_tokens", OPTIONAL_INTEGER)
        .about("The older name of `max_completion_tokens`, which counts if both are given.")
        .range(ANSWER_TOKENS),
    Field::optional("temperature", Kind::Nullable(&Kind::Number))
        .about(TEMPERATURE_ABOUT)
        .range(TEMPERATURES)
        .default(Bound::Number(TEMPERATURE_DEFAULT)),
    TIMEOUT,
    SEED,
    Field::optional("max_completion_tokens", OPTIONAL_INTEGER)
        .about(LENGTH_ABOUT)
        .range(ANSWER_TOKENS)
        .default(Bound::Setting("max_tokens_default")),
];

/// The members of `verification`, which all three forms take. They are checked in code, because pydantic has no words
/// for one member's range that depends on another's. Other members are refused.
pub(crate) const VERIFICATION: &[Field] = &[
    Field::optional("replicas", Kind::Nullable(&Kind::Integer))
        .about("How many nodes are asked. One node's answer is not verified.")
        .range(Range::Choices(REPLICAS))
        .default(Bound::Integer(3)),
    Field::optional("quorum", Kind::Nullable(&Kind::Integer))
        .about("How many replicas of different owners must agree. With `replicas` 1 it may only be left out or be 1.")
        .range(Range::Choices(QUORUMS))
        .default(Bound::Integer(2)),
    Field::optional("nodes", Kind::Nullable(&Kind::Text))
        .about("Which nodes are asked: `any` for strangers', `own` for the account's own, `group:` and the name or id of a group of nodes. Own and group nodes are compared like others, and told apart by their machines. What the key says if left out, else `any`.")
        .range(Range::Pattern(nodes_wanted::PATTERN)),
    Field::optional("release", Kind::Nullable(&Kind::Text))
        .about("When a stream shows a token: `agreed`, once nodes of as many owners as the quorum have said it and all before it; `first`, once one node has, and the verdict comes at the end; `verified`, after the settlement. `agreed` by default, with one replica `first`.")
        .range(Range::Words(&RELEASES)),
];

/// The words for `release`.
const RELEASES: [&str; 3] = ["agreed", "first", "verified"];

/// The words for `service_tier`. `auto`, as in OpenAI's API, leaves the choice to the network, which takes the default tier.
pub(super) const TIERS: [&str; 4] = ["auto", "default", "flex", "priority"];

/// The other options that all three forms take, which are checked in code.
pub(crate) const OPTIONS: &[Field] = &[
    Field::optional("service_tier", Kind::Nullable(&Kind::Text))
        .about("The tier in which the job waits: `flex` for what may take longer, `priority` for keys with the right to it, and `default`, which `auto` stands for.")
        .range(Range::Words(&TIERS)),
    Field::optional("store", Kind::Nullable(&Kind::Flag))
        .about("With `false`, request, answer and metadata are erased some minutes after the job's end. Without it, the key says whether jobs are stored, and most do."),
    MAX_PRICE_FIELD,
    Field::optional("stream", Kind::Nullable(&Kind::Flag))
        .about("Whether the answer comes as server-sent events while it is written. Submitted jobs aren't streamed."),
    Field::optional("stream_options", Kind::Nullable(&Kind::Object(STREAM_OPTIONS)))
        .about("Only with `stream`."),
];

/// The members of `stream_options`.
const STREAM_OPTIONS: &[Field] = &[Field::optional("include_usage", Kind::Nullable(&Kind::Flag))
    .about("Whether one more chunk, before the end, tells the usage.")];

/// Decides whether a value changes nothing.
type IsNeutral = fn(&Json) -> bool;

/// An option of OpenAI's API that this network doesn't support. Where ignoring it would change the answer it is refused;
/// values that change nothing are accepted.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Unsupported {
    /// The option's name.
    pub(crate) name: &'static str,
    /// Whether a value changes nothing.
    pub(super) is_neutral: IsNeutral,
    /// Values that change nothing, as a list in JSON, for the API's description. `null` is always another.
    pub(crate) neutral: &'static str,
}

const fn unless(name: &'static str, neutral: &'static str, is_neutral: IsNeutral) -> Unsupported {
    Unsupported { name, is_neutral, neutral }
}

/// The options of OpenAI's API that are refused.
pub(crate) const UNSUPPORTED: [Unsupported; 8] = [
    unless("tools", "[[]]", is_empty),
    unless("functions", "[[]]", is_empty),
    unless("tool_choice", "[\"none\", \"auto\"]", |value| is_text(value, "none") || is_text(value, "auto")),
    unless("function_call", "[\"none\", \"auto\"]", |value| is_text(value, "none") || is_text(value, "auto")),
    unless("response_format", "[{\"type\": \"text\"}]", |value| {
        value.get("type").is_some_and(|kind| is_text(kind, "text"))
    }),
    unless("modalities", "[[\"text\"]]", |value| *value == Json::List(vec![Json::Text("text".to_owned())])),
    unless("audio", "[]", |_| false),
    unless("web_search_options", "[]", |_| false),
];

/// The options of other servers (vLLM, llama.cpp and those that follow them) that change an answer or what is told of it, and are
/// refused. They are not in the API's description, which would be longer by them than by all that is taken. `best_of`
/// is checked with `n`.
pub(crate) const FOREIGN: [Unsupported; 52] = [
    unless("use_beam_search", "[false]", is_false),
    unless("num_beams", "[1]", |value| is_number(value, 1.0)),
    unless("length_penalty", "[1]", |value| is_number(value, 1.0)),
    unless("early_stopping", "[false]", is_false),
    unless("stop_token_ids", "[[]]", is_empty),
    unless("stop_regex", "[[], \"\"]", is_empty),
    unless("no_stop_trim", "[false]", is_false),
    unless("include_stop_str_in_output", "[false]", is_false),
    unless("skip_special_tokens", "[true]", is_true),
    unless("spaces_between_special_tokens", "[true]", is_true),
    unless("bad_words", "[[]]", is_empty),
    unless("banned_tokens", "[[], \"\"]", is_empty),
    unless("allowed_token_ids", "[[]]", is_empty),
    unless("logits_processors", "[[]]", is_empty),
    unless("vllm_xargs", "[{}]", is_empty),
    unless("prompt_logprobs", "[]", |_| false),
    unless("prompt_logprob", "[]", |_| false),
    unless("echo", "[false]", is_false),
    unless("suffix", "[\"\"]", is_empty),
    unless("add_generation_prompt", "[true]", is_true),
    unless("continue_final_message", "[false]", is_false),
    unless("add_special_tokens", "[false]", is_false),
    unless("truncate_prompt_tokens", "[]", |_| false),
    unless("chat_template", "[]", |_| false),
    unless("chat_template_kwargs", "[{}]", is_empty),
    unless("documents", "[[]]", is_empty),
    unless("structured_outputs", "[{}]", is_empty),
    unless("guided_json", "[]", |_| false),
    unless("guided_regex", "[\"\"]", is_empty),
    unless("guided_choice", "[[]]", is_empty),
    unless("guided_grammar", "[\"\"]", is_empty),
    unless("grammar", "[\"\"]", is_empty),
    unless("json_schema", "[]", |_| false),
    unless("regex", "[\"\"]", is_empty),
    unless("ebnf", "[\"\"]", is_empty),
    unless("top_a", "[0]", is_zero),
    unless("top_n_sigma", "[-1]", |value| is_number(value, -1.0)),
    unless("typical_p", "[1]", |value| is_number(value, 1.0)),
    unless("tfs", "[1]", |value| is_number(value, 1.0)),
    unless("tfs_z", "[1]", |value| is_number(value, 1.0)),
    unless("epsilon_cutoff", "[0]", is_zero),
    unless("eta_cutoff", "[0]", is_zero),
    unless("mirostat", "[0]", is_zero),
    unless("mirostat_mode", "[0]", is_zero),
    unless("dynatemp_range", "[0]", is_zero),
    unless("smoothing_factor", "[0]", is_zero),
    unless("xtc_probability", "[0]", is_zero),
    unless("dry_multiplier", "[0]", is_zero),
    unless("repeat_penalty", "[1]", |value| is_number(value, 1.0)),
    unless("no_repeat_ngram_size", "[0]", is_zero),
    unless("guidance_scale", "[1]", |value| is_number(value, 1.0)),
    unless("n_probs", "[0]", is_zero),
];

/// The options of OpenAI's API that are taken with any value and change nothing here: they name the user, steer caches, or hint at
/// what the answer may be.
pub(crate) const HARMLESS: [&str; 8] = [
    "user",
    "safety_identifier",
    "prompt_cache_key",
    "prompt_cache_retention",
    "parallel_tool_calls",
    "prediction",
    "reasoning_effort",
    "verbosity",
];

/// The options within a message that are refused in the same way: an assistant's actions beside its text.
pub(crate) const UNSUPPORTED_IN_MESSAGES: [Unsupported; 4] = [
    unless("tool_calls", "[[]]", is_empty),
    unless("function_call", "[{}]", is_empty),
    unless("refusal", "[\"\"]", is_empty),
    unless("audio", "[{}]", is_empty),
];

fn is_false(value: &Json) -> bool {
    *value == Json::Bool(false)
}

fn is_true(value: &Json) -> bool {
    *value == Json::Bool(true)
}

fn is_zero(value: &Json) -> bool {
    is_number(value, 0.0)
}

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

#[cfg(test)]
mod tests {
    use super::*;
    use infera_types::job::VerificationPolicy;

    #[test]
    fn what_is_described_as_neutral_is_taken() {
        for option in UNSUPPORTED.iter().chain(&FOREIGN).chain(&UNSUPPORTED_IN_MESSAGES) {
            let Ok(Json::List(values)) = crate::fastapi::json::read(option.neutral.as_bytes()) else {
                panic!("{} is no list", option.neutral)
            };
            assert!(values.iter().all(option.is_neutral), "{option:?}");
        }
    }

    #[test]
    fn the_words_for_tiers_are_those_that_are_read() {
        let words: std::collections::BTreeSet<&str> =
            infera_types::service::ServiceTier::ALL.iter().map(|tier| tier.word()).chain(["auto"]).collect();
        assert_eq!(words, TIERS.into_iter().collect());
    }

    #[test]
    fn the_described_policy_is_the_default_one() {
        let described = |name: &str| match VERIFICATION.iter().find(|field| field.name == name)?.default? {
            Bound::Integer(value) => u8::try_from(value).ok(),
            Bound::Number(_) | Bound::Unsigned(_) | Bound::Setting(_) => None,
        };
        let policy = VerificationPolicy::default();
        assert_eq!(
            (described("quorum"), described("replicas")),
            (Some(policy.quorum), Some(policy.replicas))
        );
    }
}
