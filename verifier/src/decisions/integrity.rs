//! Checks by rung L0 of the ladder whether a replica is, by itself, what was asked for. Every fault here is objective: it can
//! be shown from the assignment and the replica alone, and no honest worker makes it. Whether the answer is right is
//! not asked here, and neither is whether it came in time: lateness is a miss, not a fault.

use infera_sampling::{Noise, noised};
use infera_types::ids::{AssignmentId, Digest, JobId};
use infera_types::job::FinishReason;
use infera_types::messages::{Replica, TOP_COUNT};
use infera_types::numbers::{TokenId, TokenNumbers};

/// How far below the log-sum-exp of its own four logits a reported log-sum-exp may lie: rounding of f32 sums. It
/// is the sum over all logits, so by right it lies above.
const LOG_SUM_EXP_SLACK: f64 = 1e-3;

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
    /// The replica's tokens as the verifier's tokenizer decodes them; `None` if it can't.
    pub decoded: Option<&'a str>,
    /// The temperature in force.
    pub temperature: f64,
    /// The key of the noise.
    pub sample_key: &'a Digest,
}

/// An objective fault of a replica.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// Answers an assignment that it wasn't asked for.
    #[error("answers another assignment")]
    Assignment,
    /// Names another job than its assignment's.
    #[error("answers another job")]
    Job,
    /// Used other model files than announced.
    #[error("another model than announced")]
    Model,
    /// Rendered another prompt.
    #[error("another prompt")]
    Prompt,
    /// Has more tokens than were allowed.
    #[error("more tokens than allowed")]
    TooLong,
    /// The tokens don't decode to the text.
    #[error("the tokens do not decode to the text")]
    Text,
    /// An end-of-turn token stands within the answer.
    #[error("goes on after the end of the turn at token {position}")]
    EndInside {
        /// The token's position, from 0.
        position: usize,
    },
    /// Says that the model ended its turn, but no end-of-turn token won.
    #[error("claims an end that the model did not choose")]
    Stop,
    /// Says that the length ran out, but it didn't.
    #[error("claims the length's end before it")]
    Length,
    /// Has not one entry of numbers per token.
    #[error("not one entry of numbers per token")]
    NumbersCount,
    /// Has a list without exactly the four best tokens, or with one of them twice.
    #[error("malformed list of best tokens at token {position}")]
    List {
        /// The token's position, from 0.
        position: usize,
    },
    /// Has a number that is not finite.
    #[error("a number is not finite at token {position}")]
    NotFinite {
        /// The token's position, from 0.
        position: usize,
    },
    /// Has a log-sum-exp below that of its own list.
    #[error("an impossible log-sum-exp at token {position}")]
    LogSumExp {
        /// The token's position, from 0.
        position: usize,
    },
    /// The list isn't in the order of noised scores.
    #[error("the list is out of order at token {position}")]
    Order {
        /// The token's position, from 0.
        position: usize,
    },
    /// The token isn't the best of its own list.
    #[error("the token is not the best of its own list at token {position}")]
    NotBest {
        /// The token's position, from 0.
        position: usize,
    },
}

/// Checks one replica.
///
/// # Errors
/// The first [`Fault`] found, in the order of the enum. Each makes the replica unsound and its verdict INVALID.
pub fn check(replica: &Replica, expected: &Expected<'_>) -> Result<(), Fault> {
    check_identity(replica, expected)?;
    check_text(replica, expected)?;
    check_finish(replica, expected)?;
    let noise = Noise::new(expected.sample_key, 0);
    for (position, row) in replica.numbers.iter().enumerate() {
        check_row(row, position)?;
        check_choice(replica, position, row, |token, logit| {
            let position = u32::try_from(position).unwrap_or(u32::MAX);
            noised(logit, expected.temperature, &noise, position, token)
        })?;
    }
    Ok(())
}

fn ensure(holds: bool, fault: Fault) -> Result<(), Fault> {
    if holds { Ok(()) } else { Err(fault) }
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
    ensure(expected.decoded == Some(replica.text.as_str()), Fault::Text)?;
    match replica.tokens.iter().position(|token| expected.end_tokens.contains(token)) {
        Some(position) => Err(Fault::EndInside { position }),
        None => Ok(()),
    }
}

fn check_finish(replica: &Replica, expected: &Expected<'_>) -> Result<(), Fault> {
    let tokens = replica.tokens.len();
    match replica.finish_reason {
        FinishReason::Stop => {
            ensure(replica.numbers.len() == tokens + 1, Fault::NumbersCount)?;
            let winner = replica.numbers.last().and_then(|row| row.top.first());
            ensure(winner.is_some_and(|(token, _)| expected.end_tokens.contains(token)), Fault::Stop)
        }
        FinishReason::Length => {
            ensure(tokens == tokens_max(expected), Fault::Length)?;
            ensure(replica.numbers.len() == tokens, Fault::NumbersCount)
        }
    }
}

fn check_row(row: &TokenNumbers, position: usize) -> Result<(), Fault> {
    let repeated =
        (1..row.top.len()).any(|at| row.top[..at].iter().any(|(token, _)| *token == row.top[at].0));
    ensure(row.top.len() == TOP_COUNT && !repeated, Fault::List { position })?;
    let finite = row.log_sum_exp.is_finite() && row.top.iter().all(|(_, logit)| logit.is_finite());
    ensure(finite, Fault::NotFinite { position })?;
    let highest =
        row.top.iter().fold(f64::NEG_INFINITY, |highest, (_, logit)| highest.max(f64::from(*logit)));
    let sum: f64 = row.top.iter().map(|(_, logit)| (f64::from(*logit) - highest).exp()).sum();
    ensure(row.log_sum_exp >= highest + sum.ln() - LOG_SUM_EXP_SLACK, Fault::LogSumExp { position })
}

/// Checks that the list is in the order that `infera_sampling` chooses by (noised score, then the lower id), and that the token
/// is its first.
fn check_choice(
    replica: &Replica,
    position: usize,
    row: &TokenNumbers,
    score: impl Fn(TokenId, f32) -> f64,
) -> Result<(), Fault> {
    let keys: Vec<_> = row.top.iter().map(|(token, logit)| (score(*token, *logit), *token)).collect();
    let ordered =
        keys.windows(2).all(|two| two[0].0 > two[1].0 || (two[0].0 == two[1].0 && two[0].1 < two[1].1));
    ensure(ordered, Fault::Order { position })?;
    let chosen = replica.tokens.get(position);
    ensure(chosen.is_none_or(|token| *token == row.top[0].0), Fault::NotBest { position })
}
