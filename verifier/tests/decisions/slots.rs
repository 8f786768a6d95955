//! What frames of answers in progress come to.

use infera_types::frames::AnswerTokens;
use infera_types::ids::AssignmentId;
use infera_types::numbers::TokenId;
use infera_verifier::decisions::slots::{Completed, RERUNS_MAX, Slot, Standing, Taken};
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
    assert_eq!((slot.standing(), slot.reruns()), (Standing::Faulty, 2));
    assert_eq!(slot.take(&told(10, 0, &[1])), Taken::Nothing, "nothing counts any more");
    assert_eq!(slot.complete(Some(9), &[2, 3]), Completed::Fault);
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
    for attempt in 2..RERUNS_MAX as u64 + 2 {
        assert_eq!(slot.take(&told(attempt, 0, &[1])), Taken::Rerun);
    }
    assert_eq!(slot.take(&told(99, 0, &[1])), Taken::Fault);
}

fn framed(attempts: &[(u64, &[TokenId])]) -> Slot {
    let mut slot = Slot::new(10);
    for (attempt, tokens) in attempts {
        slot.take(&told(*attempt, 0, tokens));
    }
    slot
}

#[test]
fn the_replica_must_be_what_its_attempt_framed() {
    use Completed::{AsFramed, Fault, OfAnotherAttempt};
    type Case<'a> = (&'a str, &'a [(u64, &'a [TokenId])], Option<u64>, Completed, usize);
    let cases: [Case<'_>; 15] = [
        ("honest", &[(5, &[1, 2])], Some(5), AsFramed, 0),
        ("nothing was framed", &[], Some(5), AsFramed, 0),
        ("nothing was framed, and no attempt is named", &[], None, AsFramed, 0),
        ("something else was framed", &[(5, &[1, 9])], Some(5), Fault, 0),
        ("more was framed", &[(5, &[1, 2, 3, 4])], Some(5), Fault, 0),
        ("an older node", &[(5, &[1, 2])], None, AsFramed, 0),
        ("an older node framed something else", &[(5, &[1, 9])], None, Fault, 0),
        ("an older node's second run", &[(5, &[1, 9]), (6, &[1])], None, AsFramed, 1),
        ("the second run's frames were lost", &[(5, &[1, 9])], Some(6), OfAnotherAttempt, 1),
        ("the first run's frames were lost", &[(6, &[1, 9])], Some(5), OfAnotherAttempt, 1),
        ("the first run's answer came late", &[(5, &[1]), (6, &[1, 9])], Some(5), OfAnotherAttempt, 1),
        ("three runs, the last's answer", &[(5, &[1]), (6, &[9]), (7, &[1])], Some(7), AsFramed, 2),
        (
            "three runs, and the first's answer",
            &[(5, &[1]), (6, &[9]), (7, &[9])],
            Some(5),
            OfAnotherAttempt,
            2,
        ),
        ("a fourth run", &[(5, &[1]), (6, &[1]), (7, &[1])], Some(8), Fault, 3),
        ("a fourth run, before the others", &[(5, &[1]), (6, &[1]), (7, &[1])], Some(4), Fault, 3),
    ];
    for (case, frames, attempt, expected, reruns) in cases {
        let mut slot = framed(frames);
        assert_eq!(slot.complete(attempt, &[1, 2, 3]), expected, "{case}");
        let (standing, tokens): (_, &[TokenId]) = match expected {
            Fault => (Standing::Faulty, &[]),
            AsFramed | OfAnotherAttempt => (Standing::Answered, &[1, 2, 3]),
        };
        assert_eq!((slot.standing(), slot.tokens(), slot.reruns()), (standing, tokens, reruns), "{case}");
    }
}

#[test]
fn nothing_is_framed_after_the_answer() {
    for later in [told(5, 2, &[3]), told(5, 0, &[9]), told(6, 0, &[9]), told(4, 0, &[9])] {
        let mut slot = framed(&[(4, &[1]), (5, &[1, 2])]);
        slot.complete(Some(4), &[1, 2, 3]);
        assert_eq!(slot.take(&later), Taken::Nothing, "{later:?}");
        assert_eq!((slot.tokens(), slot.reruns()), (&[1, 2, 3][..], 1), "{later:?}");
    }
}

#[test]
fn who_is_given_up_says_nothing_and_is_not_at_fault() {
    let mut slot = framed(&[(5, &[1, 2])]);
    assert!(slot.give_up());
    assert_eq!((slot.tokens(), slot.standing()), (&[][..], Standing::GivenUp));
    assert_eq!(slot.take(&told(5, 0, &[1, 2, 3])), Taken::Nothing);
    assert_eq!(slot.complete(Some(5), &[9]), Completed::AsFramed);
    assert!(!slot.give_up() && slot.tokens().is_empty());
    let mut answered = framed(&[]);
    answered.complete(Some(5), &[1]);
    let mut faulty = framed(&[(5, &[1]), (5, &[2])]);
    assert!(!answered.give_up() && !faulty.give_up());
    assert_eq!((answered.standing(), faulty.standing()), (Standing::Answered, Standing::Faulty));
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
        prop_assert_eq!(slot.complete(Some(3), &answer), Completed::AsFramed);
        prop_assert_eq!(slot.tokens(), &answer[..]);
    }
}
