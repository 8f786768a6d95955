//! What two replicas of one job say about each other: rungs L1 (tokens) and L1n (numbers) of the ladder. Both must
//! have passed L0. It says how they differ, never which of them is right. What an engine of ours says about a replica that it
//! scored ([`compare_scored`]) is measured in the same units.

mod context;
mod distance;

use infera_sampling::Said;
use infera_types::job::{Numbers, ReplicaSummary};
use infera_types::numbers::{NumericClass, TokenId, TokenNumbers};

use self::context::Place;
use self::distance::distance;
use crate::decisions::thresholds::{ClassPair, Tolerance};

pub use self::context::Context;
pub use self::distance::Distance;

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
    let distance = distance(a.numbers.iter().zip(&b.numbers).take(compared), &a.tokens, context);
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
    let distance = distance(rows(), &replica.tokens, context);
    let mut agreement = Agreement::Identical;
    let mut gap = Some(0.0_f64);
    let mut said = Said::default();
    for (position, (own_row, our_row)) in rows().enumerate() {
        let before = position.checked_sub(1).and_then(|before| replica.tokens.get(before));
        before.into_iter().for_each(|token| said.push(*token));
        let (own, ours) = (choice(replica, position), our_row.top.first().map(|entry| entry.0));
        if own == ours {
            continue;
        }
        let both = own.zip(ours);
        let place = Place { context, said: &said };
        let here = both.and_then(|(own, ours)| place.gap_between(own, ours, [own_row, our_row]));
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

/// Returns the larger of both replicas' gaps between their own choice and the other's, where they diverge first.
fn gap(a: &ReplicaSummary, b: &ReplicaSummary, context: &Context<'_>, position: usize) -> Option<f64> {
    let sides = [a.numbers.get(position)?, b.numbers.get(position)?];
    let said = Said::of(a.tokens.get(..position)?);
    let place = Place { context, said: &said };
    place.gap_between(choice(a, position)?, choice(b, position)?, sides)
}
