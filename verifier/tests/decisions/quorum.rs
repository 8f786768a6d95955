//! The quorum: named cases, and every small situation against rules written the other way round.

use std::collections::{BTreeMap, BTreeSet};

use infera_types::ids::{Digest, NodeId, OwnerId};
use infera_types::job::{FailureReason, Numbers, Rung, VerificationPolicy, VerificationStatus};
use infera_verifier::decisions::compare::{Agreement, Comparison, Distance};
use infera_verifier::decisions::group_draw::Distinct;
use infera_verifier::decisions::quorum::{Decision, Reply, Situation, decide};
use infera_verifier::decisions::thresholds::ClassPair;

use super::sample::class;

const TWO: VerificationPolicy = VerificationPolicy { quorum: 2, replicas: 3 };
const THREE: VerificationPolicy = VerificationPolicy { quorum: 3, replicas: 3 };
const ONE: VerificationPolicy = VerificationPolicy { quorum: 1, replicas: 1 };

/// A reply: its owner, what it answers (equal letters are identical, `?` is benign to everybody), whether it's sound.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Given {
    node: u8,
    owner: u8,
    answer: char,
    sound: bool,
}

fn comparison(agreement: Agreement, numbers: Numbers) -> Comparison {
    let pair = ClassPair::of(&class("toy", "a"), &class("toy", "a"));
    Comparison { agreement, numbers, distance: Distance::default(), gap: None, pair }
}

/// Replies and what they say about each other, made once and decided about often.
struct Group {
    replies: Vec<Reply>,
    pairs: BTreeMap<(usize, usize), Comparison>,
    over_numbers: bool,
}

impl Group {
    fn of(given: &[Given]) -> Self {
        let reply = |one: &Given| Reply {
            node: NodeId::new(format!("n{}", one.node)),
            owner: OwnerId::new(format!("o{}", one.owner)),
            sound: one.sound,
            extends: true,
        };
        let mut pairs = BTreeMap::new();
        for second in 0..given.len() {
            for first in 0..second {
                let (a, b) = (given[first].answer, given[second].answer);
                let agreement = match (a, b) {
                    ('?', _) | (_, '?') => Agreement::Benign { position: 3 },
                    (a, b) if a.eq_ignore_ascii_case(&b) => Agreement::Identical,
                    _ => Agreement::Conflict { position: 3 },
                };
                // Letters of different case: equal tokens, numbers outside.
                let numbers = if a == b { Numbers::Inside } else { Numbers::Outside };
                pairs.insert((first, second), comparison(agreement, numbers));
            }
        }
        Self { replies: given.iter().map(reply).collect(), pairs, over_numbers: false }
    }

    fn decide(
        &self,
        policy: VerificationPolicy,
        (open, replacements_left): (usize, usize),
        distinct: Distinct,
    ) -> Decision {
        let draw_key = Digest::from_bytes([7; 32]);
        let (replies, pairs) = (&self.replies, &self.pairs);
        let draw_key = &draw_key;
        let over_numbers = self.over_numbers;
        decide(&Situation {
            policy,
            replies,
            pairs,
            open,
            replacements_left,
            distinct,
            over_numbers,
            draw_key,
        })
    }
}

fn decided(policy: VerificationPolicy, given: &[Given], open: usize, left: usize) -> Decision {
    Group::of(given).decide(policy, (open, left), Distinct::Owner)
}

/// Replies of different owners with these answers; `!` before one makes it unsound.
fn replies(text: &str) -> Vec<Given> {
    let mut given: Vec<Given> = Vec::new();
    let mut sound = true;
    for answer in text.chars() {
        if answer == '!' {
            sound = false;
            continue;
        }
        let node = u8::try_from(given.len()).unwrap();
        given.push(Given { node, owner: node, answer, sound });
        sound = true;
    }
    given
}

/// The decision in a word: `wait`, `draw 1`, `fail ...`, or `settle agreed/answered/asked`.
fn word(decision: &Decision) -> String {
    match decision {
        Decision::Wait => "wait".to_owned(),
        Decision::Draw(count) => format!("draw {count}"),
        Decision::Fail(FailureReason::NoConsensus) => "fail no_consensus".to_owned(),
        Decision::Fail(FailureReason::TooManyMisses) => "fail too_many_misses".to_owned(),
        Decision::Fail(other) => format!("fail {other:?}"),
        Decision::Settle(agreed) => {
            let counts = agreed.counts;
            format!("settle {}/{}/{}", counts.agreed, counts.answered, counts.asked)
        }
    }
}

#[test]
fn named_cases() {
    let table = [
        // Policy, replies, open, replacements left, decision.
        (TWO, "", 3, 6, "wait"),
        (TWO, "a", 2, 6, "wait"),
        (TWO, "aa", 1, 6, "settle 2/2/3"),
        (TWO, "aaa", 0, 6, "settle 3/3/3"),
        (TWO, "ab", 1, 6, "wait"),
        (TWO, "aba", 0, 6, "settle 2/3/3"),
        (TWO, "a?", 1, 6, "wait"),
        (TWO, "a?a", 0, 6, "settle 2/3/3"),
        (TWO, "a??", 0, 6, "draw 1"),
        (TWO, "a??", 0, 0, "fail no_consensus"),
        (TWO, "abc", 0, 6, "draw 1"),
        (TWO, "abc", 1, 6, "wait"),
        (TWO, "abc", 0, 0, "fail no_consensus"),
        (TWO, "abcb", 0, 0, "settle 2/4/4"),
        (TWO, "aabb", 0, 6, "draw 1"),
        (TWO, "aabb", 1, 6, "wait"),
        (TWO, "aabb", 0, 0, "fail no_consensus"),
        (TWO, "aabba", 0, 0, "settle 3/5/5"),
        // Misses and faults are replaced; a replaced one isn't counted as asked.
        (TWO, "", 0, 6, "draw 2"),
        (TWO, "", 2, 6, "wait"),
        (TWO, "a", 0, 6, "draw 1"),
        (TWO, "a", 0, 0, "fail too_many_misses"),
        (TWO, "a!a", 1, 6, "wait"),
        (TWO, "a!a", 0, 1, "draw 1"),
        (TWO, "!a!a!a", 0, 1, "fail too_many_misses"),
        (TWO, "a!aa", 0, 0, "settle 2/2/3"),
        // Numbers outside stop nothing.
        (TWO, "aA", 1, 6, "settle 2/2/3"),
        (THREE, "aaa", 0, 6, "settle 3/3/3"),
        (THREE, "aa", 1, 6, "wait"),
        (THREE, "aab", 0, 6, "draw 1"),
        (THREE, "ab", 1, 6, "draw 1"),
        (THREE, "ab", 1, 0, "fail no_consensus"),
        (THREE, "aaba", 0, 0, "settle 3/4/4"),
        (THREE, "aa", 0, 0, "fail too_many_misses"),
        (ONE, "", 1, 6, "wait"),
        (ONE, "", 0, 6, "draw 1"),
        (ONE, "!a", 0, 6, "draw 1"),
        (ONE, "!a", 0, 0, "fail too_many_misses"),
        (ONE, "a", 0, 6, "settle 1/1/1"),
        (ONE, "ab", 0, 6, "settle 1/2/2"),
    ];
    for (policy, text, open, left, expected) in table {
        let decision = decided(policy, &replies(text), open, left);
        assert_eq!(word(&decision), expected, "{policy:?} {text:?} open {open} left {left}");
    }
}

#[test]
fn what_the_client_is_told() {
    let settled = |policy, text| match decided(policy, &replies(text), 0, 0) {
        Decision::Settle(agreed) => agreed.verification("v1"),
        other => panic!("{other:?}"),
    };
    let verified = settled(TWO, "aab");
    assert_eq!((verified.status, verified.rung), (VerificationStatus::Verified, Some(Rung::Identical)));
    assert_eq!(verified.numbers, Some(Numbers::Inside), "the third one's numbers are not this answer's");
    assert_eq!(settled(TWO, "aA").numbers, Some(Numbers::Outside));
    let unverified = settled(ONE, "a");
    assert_eq!(unverified.status, VerificationStatus::Unverified);
    assert_eq!((unverified.rung, unverified.numbers), (None, None));
    assert_eq!(unverified.thresholds, "v1");
}

#[test]
fn one_owner_counts_once() {
    let mut pair = replies("aa");
    pair[1].owner = pair[0].owner;
    assert_eq!(decided(TWO, &pair, 1, 6), Decision::Wait);
    assert_eq!(decided(TWO, &pair, 0, 6), Decision::Draw(1));
    // Unless the operator owns all nodes and says so.
    let decision = Group::of(&pair).decide(TWO, (1, 6), Distinct::Node);
    assert_eq!(word(&decision), "settle 2/2/3");
}

#[test]
fn the_answer_is_drawn_among_those_that_agree() {
    let mut seen = BTreeSet::new();
    for first in 0..40_u8 {
        let mut given = replies("aaab");
        for (offset, one) in (0..).zip(&mut given) {
            one.node = first + offset;
        }
        let Decision::Settle(agreed) = decided(TWO, &given, 0, 0) else { panic!("settles") };
        assert!(agreed.canonical < 3);
        seen.insert(agreed.canonical);
    }
    assert_eq!(seen.len(), 3, "each of the three is drawn now and then");
}

/// All situations of up to four replies: three owners, three answers, sound or not.
fn situations() -> Vec<Vec<Given>> {
    let mut all = vec![Vec::new()];
    let mut layer: Vec<Vec<Given>> = vec![Vec::new()];
    for node in 0..4 {
        let mut next = Vec::new();
        for before in &layer {
            for owner in 0..=node.min(2) {
                // What an unsound one answers must not matter, so one answer is enough for it.
                for (answer, sound) in [('a', true), ('b', true), ('?', true), ('a', false)] {
                    let mut longer = before.clone();
                    longer.push(Given { node, owner, answer, sound });
                    next.push(longer);
                }
            }
        }
        all.extend(next.iter().cloned());
        layer = next;
    }
    all
}

/// Owners behind each answer; a benign one stands for itself alone.
fn voices(given: &[Given]) -> Vec<usize> {
    let mut owners: BTreeMap<String, BTreeSet<u8>> = BTreeMap::new();
    for one in given.iter().filter(|one| one.sound) {
        let answer = if one.answer == '?' { format!("?{}", one.node) } else { one.answer.to_string() };
        owners.entry(answer).or_default().insert(one.owner);
    }
    let mut voices: Vec<usize> = owners.values().map(BTreeSet::len).collect();
    voices.sort_unstable_by(|a, b| b.cmp(a));
    voices
}

fn check_settled(policy: VerificationPolicy, given: &[Given], decision: &Decision) {
    let Decision::Settle(agreed) = decision else { return };
    let counts = agreed.counts;
    let voices = voices(given);
    assert!(given[agreed.canonical].sound, "{given:?}");
    assert!(counts.agreed <= counts.answered && counts.answered <= counts.asked, "{given:?}");
    if policy != ONE {
        assert_eq!(usize::from(counts.agreed), voices[0], "{given:?}");
        assert!(counts.agreed >= policy.quorum, "{given:?}");
        assert!(voices.get(1).is_none_or(|second| *second < voices[0]), "{given:?}");
    }
}

fn check_decision(policy: VerificationPolicy, given: &[Given], rest: (usize, usize), decision: &Decision) {
    let (open, left) = rest;
    let voices = voices(given);
    let best = voices.first().copied().unwrap_or(0);
    let needed = if policy == ONE { 1 } else { usize::from(policy.quorum) };
    match decision {
        Decision::Settle(_) => check_settled(policy, given, decision),
        Decision::Wait => assert!(open > 0 && best + open >= needed, "{given:?}"),
        Decision::Draw(count) => assert!((1..=left).contains(count), "{given:?}"),
        Decision::Fail(FailureReason::NoConsensus) => assert!(voices.len() > 1, "{given:?}"),
        Decision::Fail(reason) => {
            assert_eq!(*reason, FailureReason::TooManyMisses);
            assert!(voices.len() <= 1 && best < needed, "{given:?}");
        }
    }
    if policy == ONE {
        assert_eq!(matches!(decision, Decision::Settle(_)), best > 0, "{given:?}");
    }
}

/// The same replies the other way round lead to the same decision and the same node's answer.
fn check_same(given: &[Given], decision: &Decision, reversed: &Decision) {
    match (decision, reversed) {
        (Decision::Settle(first), Decision::Settle(second)) => {
            assert_eq!(first.canonical, given.len() - 1 - second.canonical, "{given:?}");
            assert_eq!((first.counts, first.numbers), (second.counts, second.numbers), "{given:?}");
        }
        _ => assert_eq!(decision, reversed, "{given:?}"),
    }
}

#[test]
fn every_small_situation() {
    let mut settled = 0;
    for given in situations() {
        let group = Group::of(&given);
        let reversed = Group::of(&given.iter().rev().copied().collect::<Vec<_>>());
        for policy in [TWO, THREE, ONE] {
            for rest in [(0, 0), (0, 6), (1, 0), (1, 6), (2, 1)] {
                let decision = group.decide(policy, rest, Distinct::Owner);
                check_decision(policy, &given, rest, &decision);
                check_same(&given, &decision, &reversed.decide(policy, rest, Distinct::Owner));
                settled += u32::from(matches!(decision, Decision::Settle(_)));
            }
        }
    }
    assert!(settled > 1_000, "{settled}");
}

/// Where the client is given numbers, letters of different case are different answers.
#[test]
fn numbers_are_agreed_on_where_the_client_is_given_them() {
    let table = [
        (TWO, "aA", 1, 6, "wait"),
        (TWO, "aA", 0, 6, "draw 1"),
        (TWO, "aAa", 0, 6, "settle 2/3/3"),
        (TWO, "aAaA", 0, 6, "draw 1"),
        (TWO, "aAaA", 0, 0, "fail no_consensus"),
        (TWO, "aAaAA", 0, 0, "settle 3/5/5"),
        (THREE, "aaA", 0, 6, "draw 1"),
        (THREE, "aaA", 0, 0, "fail no_consensus"),
        (THREE, "aaa", 0, 0, "settle 3/3/3"),
        (ONE, "a", 0, 6, "settle 1/1/1"),
        (ONE, "aA", 0, 6, "settle 1/2/2"),
        (TWO, "", 0, 0, "fail too_many_misses"),
        (TWO, "a", 0, 0, "fail too_many_misses"),
    ];
    for (policy, text, open, left, expected) in table {
        let group = Group { over_numbers: true, ..Group::of(&replies(text)) };
        let decision = group.decide(policy, (open, left), Distinct::Owner);
        assert_eq!(word(&decision), expected, "{policy:?} {text:?} open {open} left {left}");
        if let (Decision::Settle(agreed), true) = (decision, policy != ONE) {
            assert_eq!(agreed.numbers, Some(Numbers::Inside), "{text:?}");
        }
    }
}

/// Numbers that agree with the same third ones need not agree with each other: every way in which the numbers of four replies
/// with the same tokens can agree.
#[test]
fn an_answer_is_backed_by_numbers_that_agree_with_its_own() {
    let places: Vec<(usize, usize)> =
        (0..4).flat_map(|second| (0..second).map(move |first| (first, second))).collect();
    let mut settled = 0;
    for mask in 0..1_u32 << places.len() {
        let is_inside = |one: usize, other: usize| {
            let pair = (one.min(other), one.max(other));
            one == other
                || places.iter().position(|place| *place == pair).is_some_and(|at| mask >> at & 1 == 1)
        };
        let group_of = |order: [usize; 4]| {
            let mut group = Group { over_numbers: true, ..Group::of(&replies("aaaa")) };
            group.replies = order.iter().map(|at| group.replies[*at].clone()).collect();
            for ((first, second), pair) in &mut group.pairs {
                let inside = is_inside(order[*first], order[*second]);
                pair.numbers = if inside { Numbers::Inside } else { Numbers::Outside };
            }
            group
        };
        let backing = |one: usize| (0..4).filter(|other| is_inside(one, *other)).count();
        let best = (0..4).map(backing).max().unwrap();
        let best_ones: Vec<usize> = (0..4).filter(|one| backing(*one) == best).collect();
        let is_one = best_ones.iter().all(|one| best_ones.iter().all(|other| is_inside(*one, *other)));
        for (policy, needed) in [(TWO, 2), (THREE, 3)] {
            let served = [[0, 1, 2, 3], [3, 2, 1, 0], [2, 0, 3, 1]].map(|order| {
                match group_of(order).decide(policy, (0, 0), Distinct::Owner) {
                    Decision::Settle(agreed) => {
                        assert_eq!(usize::from(agreed.counts.agreed), best, "{mask:b}");
                        assert_eq!(agreed.numbers, Some(Numbers::Inside));
                        Some(order[agreed.canonical])
                    }
                    Decision::Fail(reason) => {
                        assert_eq!(reason, FailureReason::NoConsensus, "{mask:b}");
                        None
                    }
                    other => panic!("{other:?}"),
                }
            });
            assert!(served.iter().all(|one| *one == served[0]), "whatever the order: {served:?}");
            assert_eq!(served[0].is_some(), best >= needed && is_one, "{mask:b} {policy:?}");
            assert!(served[0].is_none_or(|one| best_ones.contains(&one)));
            settled += u32::from(served[0].is_some());
        }
    }
    assert!((20..128).contains(&settled), "{settled}");
}

#[test]
fn only_what_begins_with_what_the_client_has_seen_can_be_the_answer() {
    let (wait, settle, fail) = ("wait", "settle 2/4/4", "fail no_consensus");
    for (text, open, left, expected) in [("bba", 1, 6, wait), ("bbaa", 0, 6, settle), ("bb", 1, 0, fail)] {
        let mut group = Group::of(&replies(text));
        group.replies.iter_mut().zip(text.chars()).for_each(|(reply, answer)| reply.extends = answer == 'a');
        assert_eq!(word(&group.decide(TWO, (open, left), Distinct::Owner)), expected, "{text} {open} {left}");
    }
}
