//! Checks the numbers of a replica, row by row, and that each token is the one that they make the sampler choose.

use infera_sampling::{Noise, Rules, Said};
use infera_types::messages::Replica;
use infera_types::numbers::{TokenId, TokenNumbers};

use super::fault::{Fault, ensure};

/// How far below the log-sum-exp of its own logits a reported log-sum-exp may lie: rounding of f32 sums. It is the sum over
/// all logits, so by right it lies above.
const LOG_SUM_EXP_SLACK: f64 = 1e-3;

/// Checks all rows of a replica that has as many as it should.
pub(super) fn check_rows(
    replica: &Replica,
    rules: &Rules,
    noise: &Noise,
    has_logit_max: bool,
) -> Result<(), Fault> {
    let mut said = Said::default();
    for (position, row) in replica.numbers.iter().enumerate() {
        let chosen = replica.tokens.get(position).copied();
        RowCheck { row, rules, noise, said: &said, position }.check(has_logit_max, chosen)?;
        chosen.into_iter().for_each(|token| said.push(token));
    }
    Ok(())
}

/// A row's numbers, and what decides which token follows from it.
struct RowCheck<'a> {
    row: &'a TokenNumbers,
    rules: &'a Rules,
    noise: &'a Noise,
    said: &'a Said,
    position: usize,
}

/// One of the logits of a row that its numbers tell.
#[derive(Clone, Copy)]
struct Known {
    /// The token; `None` where only the logit is known, because it is the row's highest and no list has it.
    token: Option<TokenId>,
    raw: f32,
}

/// Returns whether one entry precedes another in a list that is sorted by value, and by id among equals.
fn precedes(one: (f64, TokenId), other: (f64, TokenId)) -> bool {
    one.0 > other.0 || (one.0 == other.0 && one.1 < other.1)
}

fn by_logit(entry: &(TokenId, f32)) -> (f64, TokenId) {
    (f64::from(entry.1), entry.0)
}

fn is_distinct(entries: &[(TokenId, f32)]) -> bool {
    (1..entries.len()).all(|at| entries[..at].iter().all(|(token, _)| *token != entries[at].0))
}

fn find(entries: &[(TokenId, f32)], token: TokenId) -> Option<f32> {
    entries.iter().find(|entry| entry.0 == token).map(|entry| entry.1)
}

impl RowCheck<'_> {
    fn check(&self, has_logit_max: bool, chosen: Option<TokenId>) -> Result<(), Fault> {
        let Self { row, position, .. } = *self;
        let is_list = self.rules.listed().contains(&row.top.len()) && is_distinct(&row.top);
        ensure(is_list, Fault::List { position })?;
        // Counted before it is looked through: its node chooses how many it sends.
        let is_whole = row.likeliest.len() == self.rules.likeliest_count();
        ensure(is_whole, Fault::Likeliest { position })?;
        let logits = row.top.iter().chain(&row.likeliest).map(|(_, logit)| *logit).chain(row.logit_max);
        let finite = row.log_sum_exp.is_finite() && logits.clone().all(f32::is_finite);
        ensure(finite, Fault::NotFinite { position })?;
        ensure(self.are_likeliest(), Fault::Likeliest { position })?;
        let listed = self.known().into_iter().filter(|one| one.token.is_some());
        ensure(self.may_sum_up(listed), Fault::LogSumExp { position })?;
        ensure(self.is_logit_max_possible(has_logit_max), Fault::LogitMax { position })?;
        let is_masked = row.top.iter().any(|(token, _)| self.rules.is_masked(*token, self.said));
        ensure(!is_masked, Fault::Masked { position })?;
        ensure(self.are_left(), Fault::LeftOut { position })?;
        ensure(self.is_ordered(), Fault::Order { position })?;
        let best = row.top.first().map(|entry| entry.0);
        ensure(chosen.is_none() || chosen == best, Fault::NotBest { position })
    }

    /// Returns whether the likeliest tokens are in order, and agree with the list of the best: a token in both has one logit, and
    /// none of the best is likelier than the last of them without being among them.
    fn are_likeliest(&self) -> bool {
        let TokenNumbers { top, likeliest, .. } = self.row;
        let is_sorted = likeliest.is_sorted_by(|one, other| precedes(by_logit(one), by_logit(other)));
        let agrees = |entry: &(TokenId, f32)| match find(likeliest, entry.0) {
            Some(logit) => logit == entry.1,
            None => likeliest.last().is_none_or(|last| precedes(by_logit(last), by_logit(entry))),
        };
        is_sorted && is_distinct(likeliest) && top.iter().all(agrees)
    }

    /// Returns whether the highest logit is one that a row with these lists may have. Where logits are as they are, some token has
    /// it and scores at least what it gives with the least noise, so the best scores no less.
    fn is_logit_max_possible(&self, has_logit_max: bool) -> bool {
        let TokenNumbers { top, likeliest, .. } = self.row;
        let Some(highest) = self.row.logit_max else { return !has_logit_max };
        let is_highest = top.iter().chain(likeliest).all(|(_, logit)| *logit <= highest)
            && likeliest.first().is_none_or(|(_, logit)| *logit == highest);
        let outscored = || {
            let best = top.first().map(|entry| self.score(entry));
            self.rules.keep_logits(self.said)
                && best.is_some_and(|best| best < self.rules.score_min(f64::from(highest)))
        };
        is_highest && self.may_sum_up(self.known().into_iter()) && !outscored()
    }

    /// Returns whether the log-sum-exp may be that of a row with these logits.
    fn may_sum_up(&self, known: impl Iterator<Item = Known> + Clone) -> bool {
        let logits = known.map(|one| f64::from(one.raw));
        let highest = logits.clone().fold(f64::NEG_INFINITY, f64::max);
        let sum: f64 = logits.map(|logit| (logit - highest).exp()).sum();
        self.row.log_sum_exp >= highest + sum.ln() - LOG_SUM_EXP_SLACK
    }

    /// Returns whether no listed token is one that `top_k` or `min_p` leaves out, as far as the known logits tell: `top_k` leaves
    /// out what as many of them precede, `min_p` what lies too far below the highest of them.
    fn are_left(&self) -> bool {
        if !self.rules.leave_out() {
            return true;
        }
        let candidates: Vec<(f64, Option<TokenId>)> =
            self.known().iter().filter_map(|one| Some((self.adjusted(one)?, one.token))).collect();
        let highest = candidates.iter().map(|one| one.0).fold(f64::NEG_INFINITY, f64::max);
        let least = self.rules.least_of(highest);
        self.row.top.iter().all(|(token, raw)| {
            let own = self.rules.adjusted(*token, *raw, self.said);
            // Zeros of both signs are equal, and the lower id precedes.
            let before = candidates.iter().filter(|(other, id)| match id {
                Some(id) => (own + 0.0).total_cmp(&(other + 0.0)).then(id.cmp(token)).is_lt(),
                None => *other > own,
            });
            self.rules.left_max().is_none_or(|count| before.count() < count)
                && least.is_none_or(|least| own >= least)
        })
    }

    /// Returns whether the list is in the order that `infera_sampling` chooses by: noised score, then the lower id. Where nothing is
    /// left out, no other token that is known may belong into it.
    fn is_ordered(&self) -> bool {
        let TokenNumbers { top, likeliest, .. } = self.row;
        let key = |entry: &(TokenId, f32)| (self.score(entry), entry.0);
        let is_sorted = top.is_sorted_by(|one, other| precedes(key(one), key(other)));
        let belongs = |entry: &&(TokenId, f32)| {
            !self.rules.leave_out()
                && find(top, entry.0).is_none()
                && !self.rules.is_masked(entry.0, self.said)
                && top.last().is_some_and(|last| precedes(key(entry), key(last)))
        };
        is_sorted && !likeliest.iter().any(|entry| belongs(&entry))
    }

    fn score(&self, (token, raw): &(TokenId, f32)) -> f64 {
        self.rules.score(*token, *raw, self.said, self.noise)
    }

    /// Returns the different logits that the numbers tell.
    fn known(&self) -> Vec<Known> {
        let TokenNumbers { top, likeliest, logit_max, .. } = self.row;
        let others = likeliest.iter().filter(|entry| find(top, entry.0).is_none());
        let mut known: Vec<Known> =
            top.iter().chain(others).map(|&(token, raw)| Known { token: Some(token), raw }).collect();
        let highest = logit_max.filter(|highest| known.iter().all(|one| one.raw != *highest));
        known.extend(highest.map(|raw| Known { token: None, raw }));
        known
    }

    /// Returns a logit after penalties and bias; `None` if it can't be told or its token is masked.
    fn adjusted(&self, known: &Known) -> Option<f64> {
        match known.token {
            Some(token) if self.rules.is_masked(token, self.said) => None,
            Some(token) => Some(self.rules.adjusted(token, known.raw, self.said)),
            None => self.rules.keep_logits(self.said).then_some(f64::from(known.raw)),
        }
    }
}
