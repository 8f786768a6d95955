//! Sampling version 2: a request's knobs. What they do, in this order, to the raw logits of a row, in f64, each operation
//! rounded once:
//!
//! 1. Repetition penalty `r`, for tokens that the prompt or the answer so far has: logits above 0 are divided by `r`, the
//!    others multiplied by it.
//! 2. For tokens that the answer has `n > 0` times: first `n * frequency_penalty`, then `presence_penalty` is taken off.
//! 3. The logit bias is added.
//! 4. Masks: no end-of-turn token is allowed before `min_tokens` tokens, nor ever with `ignore_eos`. Masks that would allow
//!    nothing are lifted.
//! 5. `top_k`: as many of the highest stay, the lower ids among equals.
//! 6. `top_p`: of what is left, by descending logit (ascending id among equals), the fewest stay whose weights `exp(logit -
//!    highest)` (by `libm::exp`) add up, in that order, to at least `top_p` times the sum of all weights, which is added in the order of the
//!    ids; weights of logits more than 64 below the highest count as 0.
//! 7. `min_p`: of what is left, logits stay that are at least `highest + libm::log(min_p)`.
//!
//! The choice is then that of version 1: the highest `logit + temperature * gumbel`. Without knobs the two versions are the same. What is reported are raw
//! logits: those of the four best of the tokens that are left, the highest of the row, the row's log-sum-exp, and the
//! likeliest by raw logit where the request asks for them.
//!
//! Values that mean nothing (not finite, a `top_p` of 1 or more, a `top_k` or `min_p` of 0, a repetition penalty that isn't
//! above 0) count as absent.

mod evidence;

use std::collections::{BTreeMap, HashMap};

use infera_types::knobs::Knobs;
use infera_types::messages::TOP_COUNT;
use infera_types::numbers::{Rest, Row, TokenId, TokenNumbers};

use crate::best::Best;
use crate::blocks::{Blocks, finite};
use crate::choosing::{self, Choice, GUMBEL_MAX, GUMBEL_MIN, Noise, best_by_logit, best_by_score, is_greedy};
use crate::leaving::{Candidate, highest, leave_highest, leave_likeliest};

/// What decides, beside a row and the noise, which token follows: the same for all tokens of one answer.
#[derive(Clone, Debug)]
pub struct Rules {
    temperature: f64,
    repetition_penalty: Option<f64>,
    frequency_penalty: f64,
    presence_penalty: f64,
    logit_bias: BTreeMap<TokenId, f64>,
    min_tokens: u32,
    ignore_eos: bool,
    top_k: Option<usize>,
    top_p: Option<f64>,
    /// The natural logarithm of `min_p`.
    min_p_log: Option<f64>,
    /// In ascending order.
    end_tokens: Vec<TokenId>,
    /// The different tokens of the prompt, in ascending order, if they count.
    prompt: Vec<TokenId>,
    likeliest: usize,
}

/// What rules are made of.
#[derive(Clone, Copy, Debug)]
pub struct Terms<'a> {
    /// Scales the noise; 0 is greedy.
    pub temperature: f64,
    /// The request's knobs.
    pub knobs: &'a Knobs,
    /// How many of the likeliest tokens are reported of each row.
    pub top_logprobs: Option<u8>,
    /// Tokens that end a turn.
    pub end_tokens: &'a [TokenId],
    /// The prompt's tokens, in any order; needed only if [`Knobs::look_at_prompt`].
    pub prompt: &'a [TokenId],
}

/// What an answer has said so far, as far as its next token depends on it.
#[derive(Clone, Debug, Default)]
pub struct Said {
    times: HashMap<TokenId, u32>,
    tokens: u32,
}

impl Said {
    /// Returns what an answer has said that begins with `tokens`.
    #[must_use]
    pub fn of(tokens: &[TokenId]) -> Self {
        let mut said = Self::default();
        tokens.iter().for_each(|token| said.push(*token));
        said
    }

    /// Adds the next token.
    pub fn push(&mut self, token: TokenId) {
        let times = self.times.entry(token).or_default();
        *times = times.saturating_add(1);
        self.tokens = self.tokens.saturating_add(1);
    }

    /// Returns how many tokens there are: the position of the next one.
    #[must_use]
    pub const fn position(&self) -> u32 {
        self.tokens
    }

    fn times(&self, token: TokenId) -> u32 {
        self.times.get(&token).copied().unwrap_or_default()
    }
}

impl Rules {
    /// Makes the rules of an answer.
    #[must_use]
    pub fn new(terms: &Terms<'_>) -> Self {
        let Terms { temperature, knobs, top_logprobs, end_tokens, prompt } = *terms;
        let number = |knob: Option<f64>| knob.filter(|value| value.is_finite());
        let sorted = |tokens: &[TokenId]| {
            let mut tokens = tokens.to_vec();
            tokens.sort_unstable();
            tokens.dedup();
            tokens
        };
        let repetition_penalty = number(knobs.repetition_penalty).filter(|value| *value > 0.0);
        Self {
            temperature: if is_greedy(temperature) { 0.0 } else { temperature },
            repetition_penalty,
            frequency_penalty: number(knobs.frequency_penalty).unwrap_or_default(),
            presence_penalty: number(knobs.presence_penalty).unwrap_or_default(),
            logit_bias: knobs
                .logit_bias
                .iter()
                .filter(|(_, bias)| bias.is_finite())
                .map(|(&token, &bias)| (token, bias))
                .collect(),
            min_tokens: knobs.min_tokens,
            ignore_eos: knobs.ignore_eos,
            top_k: knobs.top_k.filter(|count| *count > 0).and_then(|count| usize::try_from(count).ok()),
            top_p: number(knobs.top_p).filter(|value| *value < 1.0),
            min_p_log: number(knobs.min_p)
                .filter(|value| *value > 0.0)
                .map(|value| libm::log(value.min(1.0))),
            end_tokens: sorted(end_tokens),
            prompt: if repetition_penalty.is_some() { sorted(prompt) } else { Vec::new() },
            likeliest: usize::from(top_logprobs.unwrap_or_default()),
        }
    }

    /// Returns the different tokens of the prompt, in ascending order; none where tokens are chosen without a look at them.
    #[must_use]
    pub fn prompt(&self) -> &[TokenId] {
        &self.prompt
    }

    /// Returns how many of the likeliest tokens are reported of each row.
    #[must_use]
    pub const fn likeliest_count(&self) -> usize {
        self.likeliest
    }

    /// Returns whether tokens are left out of a row for their rank or their probability.
    #[must_use]
    pub const fn leave_out(&self) -> bool {
        self.top_k.is_some() || self.top_p.is_some() || self.min_p_log.is_some()
    }

    /// Returns the most tokens that are left of any row, if there is such a bound.
    #[must_use]
    pub const fn left_max(&self) -> Option<usize> {
        self.top_k
    }

    /// Returns how far below the highest logit that is left the others may lie (both after penalties and bias), by `min_p`.
    #[must_use]
    pub fn least_of(&self, highest: f64) -> Option<f64> {
        self.min_p_log.map(|log| highest + log)
    }

    /// Returns whether an end-of-turn token may be chosen next.
    #[must_use]
    pub const fn may_end(&self, said: &Said) -> bool {
        !self.ignore_eos && said.tokens >= self.min_tokens
    }

    /// Returns whether a stop text may end the answer with the token that was said last.
    #[must_use]
    pub const fn may_stop(&self, said: &Said) -> bool {
        said.tokens >= self.min_tokens
    }

    /// Returns whether a token is masked.
    #[must_use]
    pub fn is_masked(&self, token: TokenId, said: &Said) -> bool {
        !self.may_end(said) && self.end_tokens.binary_search(&token).is_ok()
    }

    /// Returns a token's logit after penalties and bias.
    #[must_use]
    pub fn adjusted(&self, token: TokenId, raw: f32, said: &Said) -> f64 {
        let mut logit = f64::from(finite(raw));
        let times = said.times(token);
        if let Some(penalty) = self.repetition_penalty_of(token, said) {
            logit = if logit > 0.0 { logit / penalty } else { logit * penalty };
        }
        if times > 0 {
            logit -= f64::from(times) * self.frequency_penalty;
            logit -= self.presence_penalty;
        }
        if let Some(bias) = self.logit_bias.get(&token) {
            logit += bias;
        }
        logit
    }

    fn repetition_penalty_of(&self, token: TokenId, said: &Said) -> Option<f64> {
        let is_repeated = || said.times(token) > 0 || self.prompt.binary_search(&token).is_ok();
        self.repetition_penalty.filter(|_| is_repeated())
    }

    /// Returns the score by which tokens are ranked, of one that is not masked: the logit after penalties and bias, plus
    /// noise, in units of logits.
    #[must_use]
    pub fn score(&self, token: TokenId, raw: f32, said: &Said, noise: &Noise) -> f64 {
        self.noised(self.adjusted(token, raw, said), token, said, noise)
    }

    fn noised(&self, logit: f64, token: TokenId, said: &Said, noise: &Noise) -> f64 {
        if self.temperature == 0.0 {
            return logit;
        }
        logit + self.temperature * noise.gumbel(said.position(), token)
    }

    /// Chooses the token that follows from a row as an engine gives it, after what was said. An empty row, which no engine
    /// produces, gives token 0 and no numbers.
    #[must_use]
    pub fn choose(&self, row: Row<'_>, said: &Said, noise: &Noise) -> Choice {
        let plain = choosing::choose_of_row(row, self.temperature, noise, said.position());
        let likeliest = self.likeliest_of(row);
        let top = if self.change_nothing(said) { plain.numbers.top } else { self.best_of(row, said, noise) };
        let token = top.first().map_or(0, |entry| entry.0);
        Choice { token, numbers: TokenNumbers { top, likeliest, ..plain.numbers } }
    }

    /// Returns whether these rules choose after `said` as if there were no knobs.
    fn change_nothing(&self, said: &Said) -> bool {
        self.keep_logits(said) && !self.leave_out()
    }

    /// Returns whether after `said` all tokens may be chosen and have their raw logits, as far as none is left out for its rank or
    /// its probability.
    #[must_use]
    pub fn keep_logits(&self, said: &Said) -> bool {
        let no_penalty = (self.frequency_penalty == 0.0 && self.presence_penalty == 0.0) || said.tokens == 0;
        let no_mask = self.may_end(said) || self.end_tokens.is_empty();
        no_penalty && no_mask && self.repetition_penalty.is_none() && self.logit_bias.is_empty()
    }

    /// Returns the tokens whose scores differ from those without knobs, or which are masked, in ascending order.
    fn changed(&self, said: &Said) -> Vec<TokenId> {
        let masked = if self.may_end(said) { &[][..] } else { &self.end_tokens };
        let mut changed: Vec<TokenId> = masked.iter().chain(&self.prompt).copied().collect();
        changed.extend(said.times.keys().chain(self.logit_bias.keys()));
        changed.sort_unstable();
        changed.dedup();
        changed
    }

    /// Returns the best of the tokens that are left of a row, by noised score.
    fn best_of(&self, row: Row<'_>, said: &Said, noise: &Noise) -> Vec<(TokenId, f32)> {
        let changed = self.changed(said);
        if let Row::Full(logits) = row
            && !self.leave_out()
        {
            let best = self.best_of_all(logits, &changed, said, noise);
            if !best.entries.is_empty() {
                return best.tokens();
            }
        }
        let mut candidates = self.candidates(row, &changed, said);
        let rest = match row {
            Row::Full(_) => None,
            Row::Top { rest, .. } => Some(rest),
        };
        self.leave_best(&mut candidates, rest);
        candidates.sort_unstable_by_key(|candidate| candidate.token);
        self.best_of_candidates(&candidates, said, noise).tokens()
    }

    /// Returns the best where nothing is left out for its rank: those among the unchanged tokens are found as without
    /// knobs, and then the changed ones join them.
    fn best_of_all(&self, logits: &[f32], changed: &[TokenId], said: &Said, noise: &Noise) -> Best {
        let row = Blocks::of(logits);
        let position = said.position();
        let is_changed = |token: TokenId| changed.binary_search(&token).is_ok();
        let raw = best_by_logit(&row, TOP_COUNT, is_changed);
        let mut best = if self.temperature == 0.0 {
            raw
        } else {
            best_by_score(&row, (self.temperature, noise, position), &raw, is_changed)
        };
        for &token in changed {
            if let Some(&logit) = logits.get(token as usize)
                && !self.is_masked(token, said)
            {
                best.offer(self.score(token, logit, said, noise), token, finite(logit));
            }
        }
        best
    }

    /// Returns all tokens of a row that are not masked, in the row's order.
    fn candidates(&self, row: Row<'_>, changed: &[TokenId], said: &Said) -> Vec<Candidate> {
        let candidate = |(token, raw): (TokenId, f32)| {
            let raw = finite(raw);
            let is_changed = changed.binary_search(&token).is_ok();
            let logit = if is_changed { self.adjusted(token, raw, said) } else { f64::from(raw) };
            Candidate { token, raw, logit }
        };
        let all: Vec<Candidate> = match row {
            Row::Full(logits) => (0..).zip(logits.iter().copied()).map(candidate).collect(),
            Row::Top { entries, .. } => entries.iter().copied().map(candidate).collect(),
        };
        let allowed: Vec<Candidate> =
            all.iter().copied().filter(|candidate| !self.is_masked(candidate.token, said)).collect();
        if allowed.is_empty() { all } else { allowed }
    }

    /// Leaves of the candidates those that `top_k`, `top_p` and `min_p` leave, in no order.
    fn leave_best(&self, candidates: &mut Vec<Candidate>, rest: Option<Rest>) {
        let mut rest = rest;
        if let Some(count) = self.top_k
            && count < candidates.len()
        {
            leave_highest(candidates, count);
            rest = None;
        }
        if let Some(share) = self.top_p {
            leave_likeliest(candidates, share, rest);
        }
        let highest = highest(candidates);
        if let Some(least) = self.least_of(highest) {
            candidates.retain(|candidate| candidate.logit >= least);
        }
    }

    /// Returns the best of candidates that are in the order of their ids. Noise is computed only for those that it can lift
    /// among the best.
    fn best_of_candidates(&self, candidates: &[Candidate], said: &Said, noise: &Noise) -> Best {
        let mut logits = Best::of(TOP_COUNT);
        for candidate in candidates {
            logits.offer(candidate.logit, candidate.token, candidate.raw);
        }
        if self.temperature == 0.0 {
            return logits;
        }
        // The highest logits score at least this, whatever their noise.
        let sure = logits.bar() + self.temperature * GUMBEL_MIN;
        let mut best = Best::of(TOP_COUNT);
        for candidate in candidates {
            if candidate.logit + self.temperature * GUMBEL_MAX >= best.bar().max(sure) {
                let score = self.noised(candidate.logit, candidate.token, said, noise);
                best.offer(score, candidate.token, candidate.raw);
            }
        }
        best
    }

    /// Returns the likeliest tokens of a row that are reported of it, likeliest first.
    fn likeliest_of(&self, row: Row<'_>) -> Vec<(TokenId, f32)> {
        if self.likeliest == 0 {
            return Vec::new();
        }
        match row {
            Row::Full(logits) => best_by_logit(&Blocks::of(logits), self.likeliest, |_| false).tokens(),
            Row::Top { entries, .. } => {
                let mut best = Best::of(self.likeliest);
                for &(token, logit) in entries {
                    best.offer(f64::from(finite(logit)), token, finite(logit));
                }
                best.tokens()
            }
        }
    }
}
