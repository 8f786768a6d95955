//! Computes what an answer earns: `P = V * kappa * (0.15 n_in + n_out) * ctx(n_in) * speed`, in thousandths of a point. Pure
//! arithmetic over counts that verifiers made themselves; it posts nothing and judges nothing.
//!
//! * `V` is 1 for work that is paid ([`Judged::is_paid`](super::verdicts::Judged::is_paid)) and 0 for everything else.
//! * `kappa`: milliseconds that the reference machine takes per token of the model. Work is paid, not hardware
//!   (Folding@home and BOINC benchmark jobs the same way).
//! * `n_in`, `n_out`: tokens by the verifier's tokenizer. `n_out` is the lesser of the node's own and the canonical count, so
//!   padding earns nothing. A prompt's token costs about 0.15 of an answer's: it is read in one pass.
//! * `ctx`: longer contexts cost more per token; AI Horde's `clamp(1.2 + 2.2^log2(n / 1024), 0.1, 30)`.
//! * `speed = clamp(sqrt(k budget / elapsed), 1, 1.25)` (Folding@home's quick-return bonus), only for nodes with at
//!   least 10 VALID, 80 % success and a clean record: otherwise it would pay those that compute less.
//! * Late: a quarter after the node's own deadline, nothing after 24 hours.

use infera_ledger::NodeStanding;

/// What a prompt's token costs, in units of an answer's.
const PROMPT_SHARE: f64 = 0.15;
/// The context at which AI Horde's formula has its bend.
const CONTEXT_UNIT: f64 = 1024.0;
/// The bonus begins within this share of the budget. Budgets are made for the slowest node that is still useful; a
/// fifth of that is quick.
const QUICK_SHARE: f64 = 0.2;
/// The largest bonus.
const SPEED_MAX: f64 = 1.25;
/// The share of its points that a late answer is worth.
const LATE_SHARE: f64 = 0.25;
/// How late an answer may be before it is worth nothing: 24 hours.
const WORTHLESS_MS: u64 = 24 * 3600 * 1000;
/// How many VALID verdicts ever the bonus asks for.
const BONUS_VALID_COUNT: u64 = 10;
/// The share of VALID among all assignments that the bonus asks for.
const BONUS_SUCCESS: f64 = 0.8;
/// A record with more weight of INVALID and misses than this isn't clean: an INVALID (20) is forgotten in about
/// thirty days, a miss (2) in seven.
const BONUS_BAD_MAX: f64 = 1.0;

/// One judged answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Work {
    /// Whether it is paid at all.
    pub is_paid: bool,
    /// Tokens of the prompt as the verifier rendered it.
    pub prompt_tokens: u32,
    /// Tokens of the node's answer.
    pub own_tokens: u64,
    /// Tokens of the job's answer, or of the part that its client had; the node's own where the job has neither.
    pub canonical_tokens: u64,
    /// The catalogue's microseconds per token on the reference machine: kappa.
    pub reference_token_us: u64,
    /// The time from sending to arrival, as the verifier saw it.
    pub elapsed_ms: u64,
    /// The time that it had, in milliseconds.
    pub budget_ms: u64,
    /// Whether the node has earned the speed bonus: see [`earns_bonus`].
    pub bonus: bool,
}

/// Returns whether a node's record earns the speed bonus. `numbers_outside` is of the answer at hand: a node whose numbers are
/// off is not paid extra for being quick.
#[must_use]
pub fn earns_bonus(standing: Option<&NodeStanding>, numbers_outside: bool) -> bool {
    standing.is_some_and(|record| {
        let success = record.asked > 0.0 && record.good / record.asked >= BONUS_SUCCESS;
        !numbers_outside && record.valid_count >= BONUS_VALID_COUNT && success && record.bad <= BONUS_BAD_MAX
    })
}

/// Returns the thousandths of a point that an answer earns, rounded to the nearest.
#[must_use]
pub fn millipoints(work: &Work) -> i64 {
    if !work.is_paid {
        return 0;
    }
    let kappa_ms = work.reference_token_us as f64 / 1000.0;
    let prompt = f64::from(work.prompt_tokens);
    let answer = work.own_tokens.min(work.canonical_tokens) as f64;
    let tokens = PROMPT_SHARE * prompt + answer;
    // Casting to an integer saturates; no real answer comes near.
    (1000.0 * kappa_ms * tokens * context(prompt) * pace(work)).round() as i64
}

/// Returns AI Horde's factor for the length of the context.
fn context(prompt_tokens: f64) -> f64 {
    // 2.2^log2(x) is x^log2(2.2), which is 0 at 0.
    (1.2 + (prompt_tokens / CONTEXT_UNIT).powf(2.2_f64.log2())).clamp(0.1, 30.0)
}

fn pace(work: &Work) -> f64 {
    if work.elapsed_ms > work.budget_ms {
        return if work.elapsed_ms > WORTHLESS_MS.max(work.budget_ms) { 0.0 } else { LATE_SHARE };
    }
    if !work.bonus {
        return 1.0;
    }
    // The clock counts milliseconds.
    let ratio = QUICK_SHARE * work.budget_ms as f64 / work.elapsed_ms.max(1) as f64;
    ratio.sqrt().clamp(1.0, SPEED_MAX)
}
