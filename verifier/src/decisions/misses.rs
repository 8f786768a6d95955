//! Decides which lack of an answer counts against the node.

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
}

/// Returns whether a lack counts as the node's miss. Nothing counts that reaches into this verifier's deafness: what stopped
/// it may have stopped the assignment on its way, or the node beside it, until the assignment's time was over.
pub(crate) const fn counts(lack: Lack, was_deaf: bool) -> bool {
    !was_deaf
        && match lack {
            Lack::Silence { uncertain } => !uncertain,
            Lack::Refusal(reason) => reason.counts(),
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
        ] {
            assert_eq!((counts(lack, false), counts(lack, true)), (hearing, deaf), "{lack:?}");
        }
    }
}
