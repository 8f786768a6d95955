//! Decides which lack of an answer counts against the node, and which answers that it had to begin again do.

use infera_ledger::Verdict;
use infera_types::messages::RefusalReason;

/// How an assignment comes to have no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Lack {
    /// The assignment's time is up.
    Silence {
        /// Whether the broker may have lost the assignment.
        uncertain: bool,
    },
    /// The node refused it.
    Refusal(RefusalReason),
    /// The node lost what it had written and began again: the answer that its first run owed never came.
    Rerun,
}

/// Returns whether a lack counts as the node's miss. Nothing counts that reaches into this verifier's deafness: what stopped
/// it may have stopped the assignment on its way, or the node beside it, until the assignment's time was over.
pub(crate) const fn counts(lack: Lack, was_deaf: bool) -> bool {
    !was_deaf
        && match lack {
            Lack::Silence { uncertain } => !uncertain,
            Lack::Refusal(reason) => reason.counts(),
            Lack::Rerun => true,
        }
}

/// Returns whether the times that a node began an assignment again are posted as misses beside its verdict. They end nothing and
/// take no pay away, since the answer came after all. A verdict that is a miss or a fault itself says it already, and a neutral one
/// says that the node isn't judged at all.
pub(crate) const fn counts_reruns(verdict: Verdict) -> bool {
    match verdict {
        Verdict::Valid | Verdict::Inconclusive => true,
        Verdict::Missed | Verdict::Invalid | Verdict::Neutral => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_counts_that_reaches_into_deafness() {
        use RefusalReason::{Broken, Busy, Crashed, Draining, Expired, Unsupported};
        for (lack, hearing, deaf) in [
            (Lack::Silence { uncertain: false }, true, false),
            (Lack::Silence { uncertain: true }, false, false),
            (Lack::Refusal(Expired), true, false),
            (Lack::Refusal(Crashed), true, false),
            (Lack::Refusal(Broken), true, false),
            (Lack::Refusal(Busy), false, false),
            (Lack::Refusal(Draining), false, false),
            (Lack::Refusal(Unsupported), false, false),
            (Lack::Rerun, true, false),
        ] {
            assert_eq!((counts(lack, false), counts(lack, true)), (hearing, deaf), "{lack:?}");
        }
    }

    #[test]
    fn what_was_begun_again_counts_beside_an_answer_alone() {
        let counting: Vec<Verdict> =
            [Verdict::Valid, Verdict::Invalid, Verdict::Inconclusive, Verdict::Missed, Verdict::Neutral]
                .into_iter()
                .filter(|verdict| counts_reruns(*verdict))
                .collect();
        assert_eq!(counting, [Verdict::Valid, Verdict::Inconclusive]);
    }
}
