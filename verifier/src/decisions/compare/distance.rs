//! Measures how far apart the numbers of rows are that follow the same prefix.

use infera_sampling::Said;
use infera_types::numbers::{TokenId, TokenNumbers};

use super::context::{Context, Place};

/// L1n: how far the reported numbers are apart, in logits, over the positions whose prefix is the same for both: up to the
/// first divergence, that position included.
///
/// Raw numbers are compared: the logits of the tokens that both report, the log-sum-exps, and the highest logits where both tell
/// them. Log-probabilities, which are differences of these, are what clients are given: a client that works with a node could
/// hand it those of other nodes' answers, with which it would save itself the work. They don't tell the raw numbers.
///
/// For a token that only one list has, the least difference counts that can explain its absence: of the likeliest, it must lie
/// below the other's last; of the best, it must have scored below the other's last, the noise being the same for both. Where
/// knobs leave tokens out for their rank or their probability, absence from the best says nothing, and doesn't count.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Distance {
    /// Mean over all compared numbers; 0 of none.
    pub mean: f64,
    /// The largest difference.
    pub max: f64,
    /// How many positions were compared.
    pub positions: usize,
}

/// Returns the distance of rows that follow the same prefix, from position 0 on; `tokens` begins with that prefix.
pub(super) fn distance<'a>(
    rows: impl ExactSizeIterator<Item = (&'a TokenNumbers, &'a TokenNumbers)>,
    tokens: &[TokenId],
    context: &Context<'_>,
) -> Distance {
    let mut distance = Distance { positions: rows.len(), ..Distance::default() };
    let (mut sum, mut count) = (0.0, 0_u64);
    let mut said = Said::default();
    for (position, (row_a, row_b)) in rows.enumerate() {
        for difference in row_differences(row_a, row_b, Place { context, said: &said }) {
            sum += difference;
            count += 1;
            distance.max = distance.max.max(difference);
        }
        tokens.get(position).into_iter().for_each(|token| said.push(*token));
    }
    if count > 0 {
        distance.mean = sum / count as f64;
    }
    distance
}

fn row_differences(a: &TokenNumbers, b: &TokenNumbers, place: Place<'_>) -> Vec<f64> {
    let mut differences = vec![(a.log_sum_exp - b.log_sum_exp).abs()];
    differences.extend(a.logit_max.zip(b.logit_max).map(|(a, b)| apart(a, b)));
    for (token, logit) in reported(a) {
        differences.extend(match logit_of(b, token) {
            Some(other) => Some(apart(logit, other)),
            None => absence((token, logit), (a, b), place),
        });
    }
    let missing = reported(b).filter(|(token, _)| logit_of(a, *token).is_none());
    differences.extend(missing.filter_map(|entry| absence(entry, (b, a), place)));
    // Sums of floats depend on their order; this one is the same whichever replica comes first.
    differences.sort_by(f64::total_cmp);
    differences
}

fn apart(one: f32, other: f32) -> f64 {
    (f64::from(one) - f64::from(other)).abs()
}

fn logit_in(entries: &[(TokenId, f32)], wanted: TokenId) -> Option<f32> {
    entries.iter().find(|(token, _)| *token == wanted).map(|(_, logit)| *logit)
}

/// Returns the raw logit that a row reports of a token.
fn logit_of(row: &TokenNumbers, token: TokenId) -> Option<f32> {
    logit_in(&row.top, token).or_else(|| logit_in(&row.likeliest, token))
}

/// Returns the tokens that a row reports, each once.
fn reported(row: &TokenNumbers) -> impl Iterator<Item = (TokenId, f32)> {
    let others = row.likeliest.iter().filter(|(token, _)| logit_in(&row.top, *token).is_none());
    row.top.iter().chain(others).copied()
}

/// Returns by how much at least the raw logit of a token, which `has` reports, must be lower in `lacks`, which doesn't; `None` if
/// nothing follows from that.
fn absence(
    (token, logit): (TokenId, f32),
    (has, lacks): (&TokenNumbers, &TokenNumbers),
    place: Place<'_>,
) -> Option<f64> {
    let of_best = logit_in(&has.top, token)
        .filter(|_| !place.context.rules.leave_out())
        .map(|_| lacks.top.last().map_or(f64::NEG_INFINITY, |last| highest_below(*last, token, place)));
    let is_likely = logit_in(&has.likeliest, token).is_some();
    let of_likeliest = lacks.likeliest.last().filter(|_| is_likely).map(|last| f64::from(last.1));
    // It is at most each of these.
    let most = of_best.into_iter().chain(of_likeliest).reduce(f64::min)?;
    Some((f64::from(logit) - most).max(0.0))
}

/// Returns the highest raw logit with which `token` scores no more than `last`.
fn highest_below(last: (TokenId, f32), token: TokenId, place: Place<'_>) -> f64 {
    let Place { context, said } = place;
    let noise = place.score(token, 0.0) - context.rules.adjusted(token, 0.0, said);
    context.rules.raw_of(token, place.score(last.0, last.1) - noise, said)
}
