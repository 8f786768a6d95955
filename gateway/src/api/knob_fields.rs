//! The table of the knobs that all forms of a conversation take: their names, kinds, ranges and meanings. `knobs` reads them by it,
//! and the description of the API is made from it.

use infera_types::choice::CHOICES_MAX;

use crate::fastapi::{Bound, Field, Kind, Range};

/// The most texts that may end an answer, as in OpenAI's API.
pub(super) const STOPS_MAX: usize = 4;

/// The longest of them, in characters, and so 2 KiB at most. Each is looked for behind every token, and as much of an answer is
/// held back while it may still become one; markers that programs look for have some dozens of characters.
pub(super) const STOP_MAX_CHARACTERS: usize = 512;

/// The most tokens with a bias, as in OpenAI's API.
pub(super) const BIASES_MAX: usize = 300;

/// The form of a token's id. No vocabulary has as many tokens as nine digits count.
pub(super) const TOKEN_ID: &str = "^(0|[1-9][0-9]{0,8})$";

/// The range of a bias and, with the other bounds, that of OpenAI's API.
pub(super) const BIASES: std::ops::RangeInclusive<f64> = -100.0..=100.0;

/// The most likely tokens that are told beside each token of an answer, as in OpenAI's API.
const LIKELIEST_MAX: i64 = 20;

const NUMBER: Kind = Kind::Nullable(&Kind::Number);
const INTEGER: Kind = Kind::Nullable(&Kind::Integer);
const FLAG: Kind = Kind::Nullable(&Kind::Flag);

pub(super) const CHOICES: Field = Field::optional("n", INTEGER)
    .about("How many answers are wanted. Each is a job of its own, with chance of its own; the prompt is counted once. If one fails, the request fails. Where the client waits, each counts as a request in flight, and more than a key may have at once are refused.")
    .range(Range::Integers { least: 1, most: Bound::Integer(CHOICES_MAX as i64) })
    .default(Bound::Integer(1));
pub(super) const STOP: Field = Field::optional("stop", Kind::Nullable(&Kind::TextOrTexts))
    .about("A text, or up to four, that end the answer: it is cut before the first that it comes to.")
    .range(Range::Texts { most: STOPS_MAX, characters_max: STOP_MAX_CHARACTERS });
pub(super) const TOP_P: Field = Field::optional("top_p", NUMBER)
    .about("Only the likeliest tokens are chosen from, as many as together have this probability.")
    .range(Range::NumbersAbove(0.0, 1.0))
    .default(Bound::Number(1.0));
pub(super) const TOP_K: Field = Field::optional("top_k", INTEGER)
    .about("Only this many of the likeliest tokens are chosen from. -1 and 0 mean all.")
    .range(Range::Integers { least: -1, most: Bound::Integer(u32::MAX as i64) })
    .default(Bound::Integer(-1));
pub(super) const MIN_P: Field = Field::optional("min_p", NUMBER)
    .about("Only tokens are chosen from that are at least this many times as likely as the likeliest.")
    .range(Range::Numbers(0.0, 1.0))
    .default(Bound::Number(0.0));
pub(super) const FREQUENCY_PENALTY: Field = Field::optional("frequency_penalty", NUMBER)
    .about("Is taken from a token's logit each time that the answer has it.")
    .range(Range::Numbers(-2.0, 2.0))
    .default(Bound::Number(0.0));
pub(super) const PRESENCE_PENALTY: Field = Field::optional("presence_penalty", NUMBER)
    .about("Is taken from the logits of all tokens that the answer has.")
    .range(Range::Numbers(-2.0, 2.0))
    .default(Bound::Number(0.0));
pub(super) const REPETITION_PENALTY: Field = Field::optional("repetition_penalty", NUMBER)
    .about("Divides the logits above 0, and multiplies those below, of tokens that prompt or answer have.")
    .range(Range::NumbersAbove(0.0, 2.0))
    .default(Bound::Number(1.0));
pub(super) const LOGIT_BIAS: Field = Field::optional("logit_bias", Kind::Nullable(&Kind::Dictionary))
    .about("What is added to the logits of single tokens, by their ids. Ids that the model doesn't have change nothing.")
    .range(Range::NumbersByName {
        most: BIASES_MAX,
        name: TOKEN_ID,
        bounds: (*BIASES.start(), *BIASES.end()),
    });
pub(super) const MIN_TOKENS: Field = Field::optional("min_tokens", INTEGER)
    .about("The shortest answer, in tokens, at most the longest one: before it the model can't end its turn, and no `stop` counts.")
    .range(Range::Integers { least: 0, most: Bound::Setting("max_tokens_max") })
    .default(Bound::Integer(0));
pub(super) const IGNORE_EOS: Field = Field::optional("ignore_eos", FLAG)
    .about("Whether the model can't end its turn at all, so that the answer has its longest length, or ends by `stop`.");
pub(super) const LOGPROBS: Field = Field::optional("logprobs", FLAG)
    .about("Whether the log-probability of each token of the answer is told. It makes answers shorter that fit into a message.");
pub(super) const TOP_LOGPROBS: Field = Field::optional("top_logprobs", INTEGER)
    .about("How many of the likeliest tokens are told in each place, with `logprobs`.")
    .range(Range::Integers { least: 0, most: Bound::Integer(LIKELIEST_MAX) })
    .default(Bound::Integer(0));
pub(super) const RETURN_TOKEN_IDS: Field = Field::optional("return_token_ids", FLAG)
    .about("Whether the ids of the answer's tokens are told. Those of the prompt are not.");

/// The knobs, in the order in which they are described.
pub(crate) const KNOBS: &[Field] = &[
    CHOICES,
    STOP,
    TOP_P,
    TOP_K,
    MIN_P,
    FREQUENCY_PENALTY,
    PRESENCE_PENALTY,
    REPETITION_PENALTY,
    LOGIT_BIAS,
    MIN_TOKENS,
    IGNORE_EOS,
    LOGPROBS,
    TOP_LOGPROBS,
    RETURN_TOKEN_IDS,
];
