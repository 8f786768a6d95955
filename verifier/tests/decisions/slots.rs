//! What frames of answers in progress come to.

use infera_types::frames::AnswerTokens;
use infera_types::ids::AssignmentId;
use infera_types::numbers::TokenId;
use infera_verifier::decisions::slots::{RERUNS_MAX, Slot, Taken};
use proptest::prelude::*;

fn told(attempt: u64, from: usize, tokens: &[TokenId]) -> AnswerTokens {
    AnswerTokens {
        assignment: AssignmentId::new(),
        attempt,
        from: u32::try_from(from).unwrap(),
        tokens: tokens.to_vec(),
    }
}

#[test]
fn a_slot_takes_what_fits_and_nothing_else() {
    let mut slot = Slot::new(5);
    let cases: [(AnswerTokens, Taken, &[TokenId]); 12] = [
        (told(7, 0, &[1, 2]), Taken::Grown, &[1, 2]),
        (told(7, 0, &[1, 2]), Taken::Nothing, &[1, 2]),
        (told(7, 3, &[4]), Taken::Gap, &[1, 2]),
        (told(7, 2, &[]), Taken::Nothing, &[1, 2]),
        (told(7, 1, &[2, 3, 4]), Taken::Grown, &[1, 2, 3, 4]),
        (told(6, 0, &[9, 9]), Taken::Nothing, &[1, 2, 3, 4]),
        (told(8, 0, &[1]), Taken::Rerun, &[1]),
        (told(7, 0, &[1, 2]), Taken::Nothing, &[1]),
        (told(8, 1, &[5, 6]), Taken::Grown, &[1, 5, 6]),
        (told(9, 1, &[5]), Taken::Rerun, &[]),
        (told(9, 0, &[2, 3, 4, 5, 6]), Taken::Grown, &[2, 3, 4, 5, 6]),
        (told(9, 4, &[6, 7]), Taken::Fault, &[]),
    ];
    for (frame, taken, tokens) in cases {
        assert_eq!(slot.take(&frame), taken, "{frame:?}");
        assert_eq!(slot.tokens(), tokens, "{frame:?}");
    }
    assert!(slot.is_broken());
    assert_eq!(slot.take(&told(10, 0, &[1])), Taken::Nothing, "nothing counts any more");
    assert!(!slot.complete(9, &[2, 3]));
}

#[test]
fn a_contradiction_is_a_fault() {
    for second in [told(1, 0, &[1, 3]), told(1, 1, &[3]), told(1, 9, &[1, 2])] {
        let mut slot = Slot::new(10);
        assert_eq!(slot.take(&told(1, 0, &[1, 2])), Taken::Grown);
        assert_eq!(slot.take(&second), Taken::Fault, "{second:?}");
        assert_eq!(slot.tokens(), [0; 0]);
    }
}

#[test]
fn a_node_begins_again_so_many_times_and_no_more() {
    let mut slot = Slot::new(10);
    slot.take(&told(1, 0, &[1]));
    for attempt in 2..u64::from(RERUNS_MAX) + 2 {
        assert_eq!(slot.take(&told(attempt, 0, &[1])), Taken::Rerun);
    }
    assert_eq!(slot.take(&told(99, 0, &[1])), Taken::Fault);
}

#[test]
fn the_replica_must_be_what_its_attempt_framed() {
    let framed = |tokens: &[TokenId]| {
        let mut slot = Slot::new(10);
        slot.take(&told(5, 0, tokens));
        slot
    };
    let mut honest = framed(&[1, 2]);
    assert!(honest.complete(5, &[1, 2, 3]));
    assert_eq!(honest.take(&told(5, 2, &[3])), Taken::Nothing);
    assert_eq!(honest.tokens(), [1, 2, 3]);
    let mut turned = framed(&[1, 9]);
    assert!(!turned.complete(5, &[1, 2, 3]));
    assert!(turned.is_broken());
    let mut shortened = framed(&[1, 2, 3]);
    assert!(!shortened.complete(5, &[1, 2]));
    // The frames of the run that the replica is of were lost.
    let mut rerun = framed(&[1, 9]);
    assert!(rerun.complete(6, &[1, 2, 3]));
    assert_eq!(rerun.tokens(), [1, 2, 3]);
}

proptest! {
    #[test]
    fn frames_of_an_honest_node_never_break_its_slot(
        answer in prop::collection::vec(0_u32..9, 0..40),
        frames in prop::collection::vec((0_usize..40, 0_usize..40), 0..60),
    ) {
        let mut slot = Slot::new(answer.len());
        let mut longest = 0;
        for (from, to) in frames {
            // As a node sends them, in any order, some twice and some never.
            let to = to.min(answer.len());
            let from = from.min(to);
            let before = slot.tokens().len();
            let taken = slot.take(&told(3, from, &answer[from..to]));
            prop_assert!(matches!(taken, Taken::Grown | Taken::Nothing | Taken::Gap), "{:?}", taken);
            prop_assert_eq!(taken == Taken::Grown, slot.tokens().len() > before);
            prop_assert!(answer.starts_with(slot.tokens()));
            longest = longest.max(slot.tokens().len());
            prop_assert_eq!(slot.tokens().len(), longest, "what was told stays");
        }
        prop_assert!(slot.complete(3, &answer));
        prop_assert_eq!(slot.tokens(), &answer[..]);
    }
}
