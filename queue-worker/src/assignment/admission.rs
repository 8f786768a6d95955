//! Decides what happens to an assignment that has neither an answer nor a run yet. Pure: a function of the situation.
//!
//! `desk` asks for this decision under its lock, and only if the assignment has neither an answer nor a run. Refusals
//! that don't follow from the situation are made elsewhere:
//!
//! * in `assignment`: the assignment has fields that this version doesn't know, or asks for what the engine can't do; its
//!   model has as many deliveries as it may; the deadline passes, or the worker gives back what runs, while the assignment
//!   waits; the prompt leaves no room for an answer; the run itself fails.
//! * in `stations`: the assignment names a model that isn't served, or isn't any more.
//! * in `publisher`: the replica is too large for a message.

use infera_types::messages::RefusalReason;

/// The reason why an assignment is given back, with a sentence for the verifier's operator.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Refused {
    pub(crate) reason: RefusalReason,
    pub(crate) detail: String,
}

impl Refused {
    pub(crate) fn new(reason: RefusalReason, detail: impl Into<String>) -> Self {
        Self { reason, detail: detail.into() }
    }

    pub(crate) fn broken(detail: impl Into<String>) -> Self {
        Self::new(RefusalReason::Broken, detail)
    }

    pub(crate) fn expired() -> Self {
        Self::new(RefusalReason::Expired, "the budget ended before the answer was complete")
    }

    pub(crate) fn unsupported(unknown: &[String]) -> Self {
        let detail = format!("this version of the worker doesn't know {}", unknown.join(", "));
        Self::new(RefusalReason::Unsupported, detail)
    }

    pub(crate) fn beyond_the_engine() -> Self {
        let detail = "the model's engine can't do what is asked for; see the features in its heartbeats";
        Self::new(RefusalReason::Unsupported, detail)
    }

    pub(crate) fn busy(detail: &str) -> Self {
        Self::new(RefusalReason::Busy, detail)
    }

    /// Refuses neutrally: the model was served until a moment ago, and a verifier may not know yet that it isn't.
    pub(crate) fn unloaded() -> Self {
        Self::new(RefusalReason::Draining, "this node serves the model no more")
    }

    pub(crate) fn engine_gone() -> Self {
        Self::new(RefusalReason::Broken, "the engine is gone")
    }

    pub(crate) fn draining() -> Self {
        Self::new(RefusalReason::Draining, "the worker is shutting down")
    }
}

/// The situation in which an assignment is admitted or refused.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Situation {
    /// Whether the worker, or the model alone, is drained.
    pub(crate) draining: bool,
    /// Whether the engine is gone for good.
    pub(crate) engine_gone: bool,
    /// Whether the assignment's budget has ended already.
    pub(crate) budget_over: bool,
    /// Whether the broker gave the assignment out before.
    pub(crate) redelivered: bool,
    /// Whether the assignment was run alone before and gave no answer.
    pub(crate) tried_alone: bool,
    /// The number of free slots.
    pub(crate) free_slots: u32,
}

/// What happens to an assignment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Admission {
    /// The assignment joins the batch.
    Run,
    /// The assignment runs when the engine is empty, and nothing runs beside it.
    RunAlone,
    /// The assignment goes back to the verifier.
    Refuse(Refused),
}

/// Decides what happens to an assignment. If several reasons for a refusal hold, draining goes first, because it
/// doesn't count against the node. A lack of slots doesn't count either but goes last: an assignment that this node
/// couldn't run even with a free slot must not be offered to it again.
pub(crate) fn admit(situation: Situation) -> Admission {
    if situation.draining {
        return Admission::Refuse(Refused::draining());
    }
    if situation.engine_gone {
        return Admission::Refuse(Refused::engine_gone());
    }
    if situation.budget_over {
        return Admission::Refuse(Refused::expired());
    }
    if situation.redelivered && situation.tried_alone {
        let detail = "redelivered, run alone, and redelivered again";
        return Admission::Refuse(Refused::new(RefusalReason::Crashed, detail));
    }
    if situation.free_slots == 0 {
        return Admission::Refuse(Refused::busy("no slot is free"));
    }
    if situation.redelivered { Admission::RunAlone } else { Admission::Run }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FINE: Situation = Situation {
        draining: false,
        engine_gone: false,
        budget_over: false,
        redelivered: false,
        tried_alone: false,
        free_slots: 1,
    };

    fn reason(situation: Situation) -> Option<RefusalReason> {
        match admit(situation) {
            Admission::Refuse(refused) => Some(refused.reason),
            Admission::Run | Admission::RunAlone => None,
        }
    }

    #[test]
    fn each_reason_has_its_case() {
        use RefusalReason::{Broken, Busy, Crashed, Draining, Expired};
        let cases = [
            (FINE, None),
            (Situation { redelivered: true, ..FINE }, None),
            (Situation { tried_alone: true, ..FINE }, None),
            (Situation { redelivered: true, tried_alone: true, ..FINE }, Some(Crashed)),
            (Situation { free_slots: 0, ..FINE }, Some(Busy)),
            (Situation { free_slots: 0, redelivered: true, ..FINE }, Some(Busy)),
            (Situation { budget_over: true, ..FINE }, Some(Expired)),
            (Situation { engine_gone: true, ..FINE }, Some(Broken)),
            (Situation { draining: true, ..FINE }, Some(Draining)),
            // If several hold, what can never be done here goes before what can't be done now.
            (Situation { free_slots: 0, engine_gone: true, ..FINE }, Some(Broken)),
            (Situation { draining: true, engine_gone: true, budget_over: true, ..FINE }, Some(Draining)),
        ];
        for (situation, expected) in cases {
            assert_eq!(reason(situation), expected, "{situation:?}");
        }
    }

    #[test]
    fn a_redelivered_assignment_runs_alone() {
        assert_eq!(admit(FINE), Admission::Run);
        assert_eq!(admit(Situation { redelivered: true, ..FINE }), Admission::RunAlone);
    }
}
