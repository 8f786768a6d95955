//! How often a node that runs another export than it says lies within the tolerances all the same, from one short answer.

use infera_types::job::Numbers;
use infera_types::numbers::NumericClass;
use infera_verifier::decisions::compare::{Agreement, Comparison, Context, Scored, compare, compare_scored};
use infera_verifier::decisions::thresholds::{Against, Thresholds};

use super::jobs::Job;
use super::replicas::{Computed, Results, Work};

/// Who is compared with whom.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Pretence {
    /// What the honest node runs, or the referee.
    pub(super) honest: usize,
    /// What the other node says it runs.
    pub(super) claimed: usize,
    /// What it runs.
    pub(super) actual: usize,
    pub(super) against: Against,
}

/// How many of the pretender's answers pass.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Passed {
    pub(super) answers: u64,
    /// The same tokens as the honest node, or those that the referee would have chosen.
    pub(super) identical: u64,
    /// These, and those whose divergence is excused.
    pub(super) excused: u64,
    /// Those whose numbers are inside.
    pub(super) inside: u64,
    /// Those that are excused and inside: nothing speaks against them.
    pub(super) unnoticed: u64,
}

impl Passed {
    fn count(&mut self, comparison: &Comparison) {
        let is_excused = !matches!(comparison.agreement, Agreement::Conflict { .. });
        let is_inside = comparison.numbers == Numbers::Inside;
        self.answers += 1;
        self.identical += u64::from(comparison.agreement == Agreement::Identical);
        self.excused += u64::from(is_excused);
        self.inside += u64::from(is_inside);
        self.unnoticed += u64::from(is_excused && is_inside);
    }
}

/// Counts the answers of a pretender that pass. Where all three are one, it counts honest answers.
pub(super) fn passed(
    pretence: Pretence,
    jobs: &[Job],
    results: &Results,
    thresholds: &Thresholds,
) -> Option<Passed> {
    let Pretence { honest, claimed, actual, against } = pretence;
    let class = |export: usize| Some(&results.get(&Work::Decode { export, offset: 0 })?.class);
    let claimed: &NumericClass = class(claimed)?;
    let answers: &Computed = results.get(&Work::Decode { export: actual, offset: 0 })?;
    let other = results.get(&match against {
        Against::Decoded => Work::Decode { export: honest, offset: 1 },
        Against::Scored => Work::Score { export: actual, by: honest },
    })?;
    let mut passed = Passed::default();
    for (place, job) in jobs.iter().enumerate() {
        let rules = job.rules();
        let context = Context { rules: &rules, noise: job.noise(), thresholds };
        let Some(replica) = answers.replica(place, claimed) else { continue };
        let comparison = match against {
            Against::Decoded => {
                other.replica(place, &other.class).map(|own| compare(&own, &replica, &context))
            }
            Against::Scored => other.numbers(place).map(|numbers| {
                compare_scored(&replica, &Scored { numbers, numeric_class: &other.class }, &context)
            }),
        };
        comparison.iter().for_each(|comparison| passed.count(comparison));
    }
    Some(passed)
}
