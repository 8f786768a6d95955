//! What two replicas of one job say about each other: rungs L1 (tokens) and L1n (numbers) of the ladder. Both must
//! have passed L0. It says how they differ, never which of them is right. What an engine of ours says about a replica that it
//! scored ([`compare_scored`]) is measured in the same units.

use infera_sampling::{Noise, noised};
use infera_types::ids::Digest;
use infera_types::job::{Numbers, ReplicaSummary};
use infera_types::numbers::{NumericClass, TokenId, TokenNumbers};

use crate::decisions::thresholds::{ClassPair, Thresholds, Tolerance};

/// What is the same for all replicas of a job.
#[derive(Clone, Copy, Debug)]
pub struct Context<'a> {
    /// The temperature in force.
    pub temperature: f64,
    /// Keys the noise that the replicas were drawn with.
    pub sample_key: &'a Digest,
    /// The tolerances in force.
    pub thresholds: &'a Thresholds,
}

/// L1: how the tokens compare. The end-of-turn token counts as a token: stopping where another goes on is a
/// divergence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Agreement {
    /// The same tokens to the end.
    Identical,
    /// They diverge where both choices were nearly equal for both: excused, but nothing after it is vouched for.
    Benign {
        /// Where, counted in tokens from 0.
        position: usize,
    },
    /// They diverge, and nothing excuses it.
    Conflict {
        /// Where, counted in tokens from 0.
        position: usize,
    },
}

/// L1n: how far the reported log-probabilities are apart, in nats, over the positions whose prefix is the same for
/// both: up to the first divergence, that position included.
///
/// For a token that both lists have it is |logit - log-sum-exp| against the same of the other. For a token that only
/// one list has it is the least difference that can explain its absence: it must have scored below the other list's
/// last, and the noise is the same for both.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Distance {
    /// Mean over all reported tokens; 0 of none.
    pub mean: f64,
    /// The largest difference.
    pub max: f64,
    /// How many positions were compared.
    pub positions: usize,
}

/// What two replicas say about each other.
#[derive(Clone, Debug, PartialEq)]
pub struct Comparison {
    /// How their tokens compare.
    pub agreement: Agreement,
    /// Whether the distance is within the tolerance of the pair of classes.
    pub numbers: Numbers,
    /// How far apart their numbers are.
    pub distance: Distance,
    /// At the divergence, the larger of the two noised gaps between the two chosen tokens, in logits. `None` if they
    /// don't diverge, or if a choice of one isn't in the list of the other.
    pub gap: Option<f64>,
    /// The pair of classes whose tolerance was applied.
    pub pair: ClassPair,
}

/// Compares two replicas. The result is the same whichever comes first.
#[must_use]
pub fn compare(a: &ReplicaSummary, b: &ReplicaSummary, context: &Context<'_>) -> Comparison {
    let pair = ClassPair::of(&a.numeric_class, &b.numeric_class);
    let tolerance = context.thresholds.tolerance(&pair);
    let divergence = divergence(a, b);
    let compared = divergence.map_or(usize::MAX, |position| position.saturating_add(1));
    let distance = distance(a.numbers.iter().zip(&b.numbers).take(compared), context);
    let gap = divergence.and_then(|position| gap(a, b, context, position));
    let agreement = match (divergence, gap) {
        (None, _) => Agreement::Identical,
        (Some(position), Some(gap)) if gap <= tolerance.gap => Agreement::Benign { position },
        (Some(position), _) => Agreement::Conflict { position },
    };
    Comparison { agreement, numbers: judge(&distance, tolerance), distance, gap, pair }
}

/// What an engine computed over a replica's tokens: teacher-forced, with the job's noise.
#[derive(Clone, Copy, Debug)]
pub struct Scored<'a> {
    /// What its rows are reduced to: one for each token of the replica, and one more, which counts only if the replica
    /// ended its answer itself.
    pub numbers: &'a [TokenNumbers],
    /// The engine's class.
    pub numeric_class: &'a NumericClass,
}

/// Compares a replica with what an engine says of its tokens. Unlike two answers, these share their prefix at every
/// position, so none ends the comparison: the distance is over all of them. The position of an agreement is the first at
/// which the engine would have chosen otherwise (of a conflict: the first that nothing excuses), and `gap` is the largest of
/// all such positions; `None` if there is none, or if at one a choice isn't in the other's list.
#[must_use]
pub fn compare_scored(replica: &ReplicaSummary, scored: &Scored<'_>, context: &Context<'_>) -> Comparison {
    let pair = ClassPair::scored(&replica.numeric_class, scored.numeric_class);
    let tolerance = context.thresholds.tolerance(&pair);
    let rows = || replica.numbers.iter().zip(scored.numbers);
    let distance = distance(rows(), context);
    let mut agreement = Agreement::Identical;
    let mut gap = Some(0.0_f64);
    for (position, (own_row, our_row)) in rows().enumerate() {
        let (own, ours) = (choice(replica, position), our_row.top.first().map(|entry| entry.0));
        if own == ours {
            continue;
        }
        let both = own.zip(ours);
        let here = both.and_then(|(own, ours)| gap_between(own, ours, [own_row, our_row], context, position));
        gap = gap.zip(here).map(|(gap, here)| gap.max(here));
        agreement = match (agreement, here) {
            (Agreement::Conflict { position }, _) => Agreement::Conflict { position },
            (Agreement::Benign { position }, Some(here)) if here <= tolerance.gap => {
                Agreement::Benign { position }
            }
            (_, Some(here)) if here <= tolerance.gap => Agreement::Benign { position },
            _ => Agreement::Conflict { position },
        };
    }
    let gap = gap.filter(|_| agreement != Agreement::Identical);
    Comparison { agreement, numbers: judge(&distance, tolerance), distance, gap, pair }
}

/// Judges numbers by their distance. Without a position to compare they are outside: a replica that shows none has proven none.
fn judge(distance: &Distance, tolerance: &Tolerance) -> Numbers {
    let inside = distance.positions > 0 && distance.mean <= tolerance.mean && distance.max <= tolerance.max;
    if inside { Numbers::Inside } else { Numbers::Outside }
}

/// Returns the token chosen at `position`: one of the answer, or the one that ended it; `None` past the end.
fn choice(replica: &ReplicaSummary, position: usize) -> Option<TokenId> {
    let ended = || {
        let last = replica.numbers.get(position).filter(|_| position == replica.tokens.len());
        last.and_then(|row| row.top.first()).map(|(token, _)| *token)
    };
    replica.tokens.get(position).copied().or_else(ended)
}

fn divergence(a: &ReplicaSummary, b: &ReplicaSummary) -> Option<usize> {
    let length = a.tokens.len().max(b.tokens.len()) + 1;
    (0..length).find(|position| choice(a, *position) != choice(b, *position))
}

/// Returns the larger of both replicas' gaps between their own choice and the other's.
fn gap(a: &ReplicaSummary, b: &ReplicaSummary, context: &Context<'_>, position: usize) -> Option<f64> {
    let sides = [a.numbers.get(position)?, b.numbers.get(position)?];
    gap_between(choice(a, position)?, choice(b, position)?, sides, context, position)
}

/// Returns the larger of two rows' gaps between two tokens; `None` if a row doesn't list both.
fn gap_between(
    one: TokenId,
    other: TokenId,
    rows: [&TokenNumbers; 2],
    context: &Context<'_>,
    position: usize,
) -> Option<f64> {
    let gap_in = |row: &TokenNumbers| {
        let score = |wanted: TokenId| {
            let entry = row.top.iter().find(|(token, _)| *token == wanted)?;
            Some(score(entry, context, position))
        };
        Some((score(one)? - score(other)?).abs())
    };
    Some(gap_in(rows[0])?.max(gap_in(rows[1])?))
}

fn score(entry: &(TokenId, f32), context: &Context<'_>, position: usize) -> f64 {
    let noise = Noise::new(context.sample_key, 0);
    // Answers are bounded far below 2^32 tokens; past it nothing would match, which is the safe side.
    noised(entry.1, context.temperature, &noise, u32::try_from(position).unwrap_or(u32::MAX), entry.0)
}

/// Returns the distance of rows that follow the same prefix, from position 0 on.
fn distance<'a>(
    rows: impl ExactSizeIterator<Item = (&'a TokenNumbers, &'a TokenNumbers)>,
    context: &Context<'_>,
) -> Distance {
    let mut distance = Distance { positions: rows.len(), ..Distance::default() };
    let (mut sum, mut count) = (0.0, 0_u64);
    for (position, (row_a, row_b)) in rows.enumerate() {
        for difference in row_differences(row_a, row_b, context, position) {
            sum += difference;
            count += 1;
            distance.max = distance.max.max(difference);
        }
    }
    if count > 0 {
        distance.mean = sum / count as f64;
    }
    distance
}

fn row_differences(a: &TokenNumbers, b: &TokenNumbers, context: &Context<'_>, position: usize) -> Vec<f64> {
    let mut differences = Vec::with_capacity(2 * a.top.len());
    for entry in &a.top {
        differences.push(match b.top.iter().find(|(token, _)| *token == entry.0) {
            Some(other) => (log_probability(entry, a) - log_probability(other, b)).abs(),
            None => absence(entry, a, b, context, position),
        });
    }
    let missing = b.top.iter().filter(|entry| a.top.iter().all(|(token, _)| *token != entry.0));
    differences.extend(missing.map(|entry| absence(entry, b, a, context, position)));
    // Sums of floats depend on their order; this one is the same whichever replica comes first.
    differences.sort_by(f64::total_cmp);
    differences
}

fn log_probability(entry: &(TokenId, f32), row: &TokenNumbers) -> f64 {
    f64::from(entry.1) - row.log_sum_exp
}

/// Returns by how much at least the log-probability of `entry`, which `has` lists, must be lower in `lacks`: there its
/// noised score is at most that of the last one listed.
fn absence(
    entry: &(TokenId, f32),
    has: &TokenNumbers,
    lacks: &TokenNumbers,
    context: &Context<'_>,
    position: usize,
) -> f64 {
    let Some(last) = lacks.top.last() else { return f64::INFINITY };
    let here = score(entry, context, position) - has.log_sum_exp;
    let there = score(last, context, position) - lacks.log_sum_exp;
    (here - there).max(0.0)
}
