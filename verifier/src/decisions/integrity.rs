//! Checks by rung L0 of the ladder whether a replica is, by itself, what was asked for. Every fault here is objective: it can
//! be shown from the assignment and the replica alone, and no honest worker makes it. Whether the answer is right is
//! not asked here, and neither is whether it came in time: lateness is a miss, not a fault.
//!
//! Whether `top_p` and `top_k` left the right tokens can't be told from the few that are reported; that is the referee's.

mod fault;
mod rows;

use infera_sampling::{Noise, Rules};
use infera_types::ids::{AssignmentId, Digest, JobId};
use infera_types::job::FinishReason;
use infera_types::messages::Replica;
use infera_types::numbers::TokenId;

use self::fault::ensure;
use self::rows::check_rows;

pub use self::fault::Fault;

/// The text of an answer's tokens, by the verifier's own tokenizer and the request's stop strings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Spelled<'a> {
    /// The text.
    pub text: &'a str,
    /// The index of the token that completed a stop string; `None` if none did.
    pub stopped_at: Option<usize>,
}

/// What the verifier knows of the assignment that a replica claims to answer.
#[derive(Clone, Copy, Debug)]
pub struct Expected<'a> {
    /// The assignment.
    pub assignment: AssignmentId,
    /// Its job.
    pub job: JobId,
    /// The digest that the node announced and was asked to answer with.
    pub model_digest: &'a Digest,
    /// The hash of the prompt as the verifier rendered it.
    pub prompt_hash: &'a Digest,
    /// How many tokens that has.
    pub prompt_tokens: u32,
    /// The request's bound on the answer, in tokens.
    pub max_tokens: u32,
    /// Bounds prompt and answer together, in tokens.
    pub context_max: u32,
    /// Tokens that end a turn.
    pub end_tokens: &'a [TokenId],
    /// The text of the replica's tokens; `None` if the verifier's tokenizer has none for them.
    pub spelled: Option<Spelled<'a>>,
    /// By what the tokens are chosen.
    pub rules: &'a Rules,
    /// The noise that they are chosen with: that of the assignment's key and choice.
    pub noise: Noise,
    /// Whether the node announced what includes the highest logit of each row
    /// ([`Feature::Sampling2`](infera_types::features::Feature::Sampling2)).
    pub has_logit_max: bool,
}

/// Checks one replica.
///
/// # Errors
/// The first [`Fault`] found, in the order of the enum. Each makes the replica unsound and its verdict INVALID.
pub fn check(replica: &Replica, expected: &Expected<'_>) -> Result<(), Fault> {
    check_identity(replica, expected)?;
    check_text(replica, expected)?;
    check_finish(replica, expected)?;
    check_rows(replica, expected.rules, &expected.noise, expected.has_logit_max)
}

fn check_identity(replica: &Replica, expected: &Expected<'_>) -> Result<(), Fault> {
    ensure(replica.assignment_id == expected.assignment, Fault::Assignment)?;
    ensure(replica.job_id == expected.job, Fault::Job)?;
    ensure(replica.numeric_class.model_digest == *expected.model_digest, Fault::Model)?;
    let same_prompt =
        replica.prompt_hash == *expected.prompt_hash && replica.prompt_tokens == expected.prompt_tokens;
    ensure(same_prompt, Fault::Prompt)
}

/// Bounds the tokens of the answer: what was asked for, or what the context has room for.
fn tokens_max(expected: &Expected<'_>) -> usize {
    let room = expected.context_max.saturating_sub(expected.prompt_tokens);
    usize::try_from(expected.max_tokens.min(room)).unwrap_or(usize::MAX)
}

fn check_text(replica: &Replica, expected: &Expected<'_>) -> Result<(), Fault> {
    ensure(replica.tokens.len() <= tokens_max(expected), Fault::TooLong)?;
    let spelled = expected.spelled.filter(|spelled| spelled.text == replica.text).ok_or(Fault::Text)?;
    if let Some(position) = replica.tokens.iter().position(|token| expected.end_tokens.contains(token)) {
        return Err(Fault::EndInside { position });
    }
    match spelled.stopped_at {
        Some(position) if position + 1 < replica.tokens.len() => Err(Fault::StopInside { position }),
        _ => Ok(()),
    }
}

fn check_finish(replica: &Replica, expected: &Expected<'_>) -> Result<(), Fault> {
    let tokens = replica.tokens.len();
    let is_stopped = expected.spelled.is_some_and(|spelled| spelled.stopped_at.is_some());
    match replica.finish_reason {
        // Nothing is chosen after the token that completes a stop string.
        FinishReason::Stop if is_stopped => ensure(replica.numbers.len() == tokens, Fault::NumbersCount),
        FinishReason::Stop => {
            ensure(replica.numbers.len() == tokens + 1, Fault::NumbersCount)?;
            let winner = replica.numbers.last().and_then(|row| row.top.first());
            ensure(winner.is_some_and(|(token, _)| expected.end_tokens.contains(token)), Fault::Stop)
        }
        FinishReason::Length => {
            ensure(tokens == tokens_max(expected) && !is_stopped, Fault::Length)?;
            ensure(replica.numbers.len() == tokens, Fault::NumbersCount)
        }
    }
}
