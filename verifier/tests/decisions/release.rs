//! Which tokens a client sees before its job is settled.

use infera_types::numbers::TokenId;
use infera_types::request::Release;
use infera_verifier::decisions::release::{Voice, first, releasable};
use infera_verifier::decisions::slots::Standing;
use proptest::prelude::*;

fn voices<'a>(said: &'a [(&'a str, Vec<TokenId>)]) -> Vec<Voice<'a>> {
    said.iter().map(|(party, tokens)| voice(party, Standing::Writing, tokens)).collect()
}

fn voice<'a>(party: &'a str, standing: Standing, tokens: &'a [TokenId]) -> Voice<'a> {
    Voice { party, standing, tokens }
}

/// What each node has said, by its party.
type Said = Vec<(&'static str, Vec<TokenId>)>;

/// A name, the rule, what was said, the quorum, the first node's place, what is out already, what comes out now.
type Case<'a> = (&'a str, Release, &'a Said, usize, Option<usize>, &'a [TokenId], &'a [TokenId]);

#[test]
fn what_is_released_by_each_rule() {
    use Release::{Agreed, First, Verified};
    let three: Said = vec![("a", vec![1, 2, 3]), ("b", vec![1, 2]), ("c", vec![1, 9])];
    let one_owner: Said = vec![("a", vec![1, 2]), ("a", vec![1, 2]), ("b", vec![7])];
    let split: Said = vec![("a", vec![1]), ("b", vec![1]), ("c", vec![2]), ("d", vec![2])];
    let cases: [Case; 12] = [
        ("two share two", Agreed, &three, 2, None, &[], &[1, 2]),
        ("one is out already", Agreed, &three, 2, None, &[1], &[2]),
        ("three share one", Agreed, &three, 3, None, &[], &[1]),
        ("what none agrees with stays out", Agreed, &three, 2, None, &[1, 9], &[]),
        ("two nodes of one owner are one", Agreed, &one_owner, 2, None, &[], &[]),
        ("neither of two", Agreed, &split, 2, None, &[], &[]),
        ("one of them was released", Agreed, &split, 2, None, &[2], &[]),
        ("the first one's", First, &three, 2, Some(2), &[1], &[9]),
        ("no other's", First, &three, 2, Some(1), &[1, 9], &[]),
        ("none is the first yet", First, &three, 2, None, &[], &[]),
        ("before the settlement", Verified, &three, 2, Some(0), &[], &[]),
        ("nothing was told", Agreed, &Vec::new(), 2, None, &[], &[]),
    ];
    for (case, release, said, quorum, first, released, expected) in cases {
        assert_eq!(releasable(release, &voices(said), quorum, first, released), expected, "{case}");
    }
}

#[test]
fn a_voice_that_does_not_count_releases_nothing() {
    for standing in [Standing::GivenUp, Standing::Faulty] {
        let voices = [voice("a", Standing::Writing, &[1, 2]), voice("b", standing, &[1, 2])];
        assert_eq!(releasable(Release::Agreed, &voices, 2, None, &[]), [0; 0], "{standing:?}");
        assert_eq!(releasable(Release::First, &voices, 2, Some(1), &[]), [0; 0], "{standing:?}");
    }
    let voices = [voice("a", Standing::Writing, &[1, 2]), voice("b", Standing::Answered, &[1, 2])];
    assert_eq!(releasable(Release::Agreed, &voices, 2, None, &[]), [1, 2]);
}

#[test]
fn the_first_stays_until_it_can_not_go_on() {
    use Standing::{Answered, Faulty, GivenUp, Writing};
    type Case<'a> = (&'a str, [(Standing, &'a [TokenId]); 3], Option<usize>, &'a [TokenId], Option<usize>);
    let cases: [Case<'_>; 11] = [
        ("nobody has spoken", [(Writing, &[]), (Writing, &[]), (Writing, &[])], None, &[], None),
        ("who speaks first", [(Writing, &[]), (Writing, &[5]), (Writing, &[])], None, &[], Some(1)),
        ("an empty answer", [(Writing, &[]), (Answered, &[]), (Writing, &[])], None, &[], Some(1)),
        ("it stays", [(Writing, &[1, 2, 3]), (Writing, &[1]), (Writing, &[1])], Some(1), &[1], Some(1)),
        ("begun again", [(Writing, &[1, 2, 3]), (Writing, &[1]), (Writing, &[])], Some(1), &[1, 2], Some(1)),
        (
            "otherwise now",
            [(Writing, &[1, 2, 3]), (Writing, &[9]), (Writing, &[])],
            Some(1),
            &[1, 2],
            Some(0),
        ),
        (
            "ended before",
            [(Writing, &[1, 2, 3]), (Answered, &[1]), (Writing, &[])],
            Some(1),
            &[1, 2],
            Some(0),
        ),
        ("given up", [(Writing, &[1]), (GivenUp, &[]), (Writing, &[1, 2])], Some(1), &[1, 2], Some(2)),
        ("at fault", [(Writing, &[9, 2]), (Faulty, &[]), (Answered, &[1, 2])], Some(1), &[1, 2], Some(2)),
        ("none goes on", [(Writing, &[1]), (GivenUp, &[]), (Writing, &[1, 3])], Some(1), &[1, 2], None),
        ("nothing shown", [(Writing, &[]), (GivenUp, &[]), (Writing, &[4])], Some(1), &[], Some(2)),
    ];
    for (case, said, before, released, expected) in cases {
        let voices = said.map(|(standing, tokens)| voice("a", standing, tokens));
        assert_eq!(first(&voices, before, released), expected, "{case}");
    }
}

prop_compose! {
    /// What a node says at some moment: the answer up to somewhere, and from somewhere on its own tokens.
    fn said_by_a_liar()(honest in 0_usize..12, own in prop::collection::vec(0_u32..4, 0..12)) -> (usize, Vec<TokenId>) {
        (honest, own)
    }
}

proptest! {
    #[test]
    fn one_liar_shows_the_client_nothing(
        answer in prop::collection::vec(0_u32..4, 0..12),
        moments in prop::collection::vec((0_usize..13, 0_usize..13, said_by_a_liar()), 1..20),
    ) {
        let mut released: Vec<TokenId> = Vec::new();
        let mut lengths = (0, 0);
        for (one, other, (honest, own)) in moments {
            // Honest voices only grow; the liar says something else each time.
            lengths = (lengths.0.max(one.min(answer.len())), lengths.1.max(other.min(answer.len())));
            let mut lie = answer[..honest.min(answer.len())].to_vec();
            lie.extend(own);
            let said = [("a", answer[..lengths.0].to_vec()), ("b", answer[..lengths.1].to_vec()), ("liar", lie)];
            let more = releasable(Release::Agreed, &voices(&said), 2, None, &released);
            released.extend(more);
            prop_assert!(answer.starts_with(&released), "{:?} of {:?}", released, answer);
            prop_assert!(released.len() >= lengths.0.min(lengths.1), "what two have said is out");
        }
    }

    #[test]
    fn what_is_released_extends_and_has_its_quorum(
        said in prop::collection::vec((prop::sample::select(vec!["a", "b", "c"]), prop::collection::vec(0_u32..3, 0..8)), 0..6),
        released in prop::collection::vec(0_u32..3, 0..3),
        quorum in 1_usize..4,
    ) {
        let voices = voices(&said);
        let more = releasable(Release::Agreed, &voices, quorum, None, &released);
        if !more.is_empty() {
            let all = [&released[..], &more].concat();
            let parties: std::collections::BTreeSet<&str> =
                voices.iter().filter(|voice| voice.tokens.starts_with(&all)).map(|voice| voice.party).collect();
            prop_assert!(parties.len() >= quorum);
        }
    }
}
