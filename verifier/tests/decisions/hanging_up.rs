//! What a client owes that hung up, and who is paid for it.

use infera_types::job::{Delivered, End, VerificationPolicy};
use infera_types::numbers::TokenId;
use infera_types::request::Release;
use infera_verifier::decisions::hanging_up::{HangUp, Told, owed};
use infera_verifier::decisions::verdicts::{Witness, close};
use proptest::prelude::*;

use super::verdicts::{assignment, with_case, word};

const PROMPT: u32 = 7;

fn tokens(letters: &str) -> Vec<TokenId> {
    letters.chars().map(TokenId::from).collect()
}

/// Members as `party:letters`, a letter for each token.
fn told(members: &str) -> Vec<Told> {
    let members = members.split_whitespace().enumerate();
    let one = |(place, member): (usize, &str)| {
        let (party, letters) = member.split_once(':').unwrap();
        Told { assignment: assignment(place), party: party.to_owned(), tokens: tokens(letters) }
    };
    members.map(one).collect()
}

/// Returns what is billed of one node's word that was shown, what is paid, and the places of those to whom, or that nothing is owed.
fn outcome(passed_on: &str, policy: (u8, u8), members: &str) -> String {
    outcome_of(Release::First, passed_on, policy, members)
}

fn outcome_of(release: Release, passed_on: &str, (replicas, quorum): (u8, u8), members: &str) -> String {
    let (told, passed_on) = (told(members), tokens(passed_on));
    let policy = VerificationPolicy { replicas, quorum };
    let hang_up = HangUp { prompt_tokens: PROMPT, passed_on: &passed_on, policy, release };
    let Some(delivered) = owed(&hang_up, &told) else { return "nothing".to_owned() };
    assert_eq!(delivered.prompt_tokens, PROMPT);
    let places = (0..told.len()).filter(|place| delivered.agreed.contains(&assignment(*place)));
    let places: Vec<String> = places.map(|place| place.to_string()).collect();
    format!("{} billed, {} to {}", delivered.tokens, delivered.agreed_tokens, places.join(","))
}

#[test]
fn table() {
    for (passed_on, policy, members, expected) in [
        ("abc", (3, 2), "a:abc b:abcd c:abcdef", "3 billed, 3 to 0,1,2"),
        // One that is behind is neither paid nor against it.
        ("abc", (3, 2), "a:abc b:abcd c:ab", "3 billed, 3 to 0,1"),
        ("abc", (3, 2), "a:abc b:abcd c:", "3 billed, 3 to 0,1"),
        ("abc", (3, 2), "a:abc b:abcd c:abx", "3 billed, 3 to 0,1"),
        // All that differs comes after what the client had.
        ("abc", (3, 2), "a:abcx b:abcy c:abcz", "3 billed, 3 to 0,1,2"),
        // One node's word was shown: it is paid as far as a quorum shares it.
        ("abcdef", (3, 2), "a:abcdefgh b:abcd c:ab", "6 billed, 4 to 0,1"),
        ("abcdef", (3, 3), "a:abcdefgh b:abcd c:ab", "6 billed, 2 to 0,1,2"),
        ("abcdef", (3, 2), "a:abcdefgh b: c:", "6 billed, 0 to "),
        ("abcdef", (3, 2), "a:abcdefgh b:abx c:ab", "6 billed, 2 to 0,2"),
        // The two others say something else: no quorum would have come of it.
        ("abcdef", (3, 2), "a:abcdefgh b:xb c:x", "nothing"),
        ("abcdef", (3, 3), "a:abcdefgh b:xb c:", "nothing"),
        // A third and a fourth node came in their places and agreed.
        ("abc", (3, 2), "a:abc b:x c:y d:abcd", "3 billed, 3 to 0,3"),
        // Several nodes of one party are one.
        ("abc", (3, 2), "a:abc a:abc c:ab", "3 billed, 2 to 0,1,2"),
        ("abc", (3, 2), "a:abc b:x b:y c:ab", "3 billed, 2 to 0,3"),
        // Nothing is compared with one replica, and nothing vouches for it.
        ("abc", (1, 1), "a:abcd", "3 billed, 0 to "),
        // Another answer of the same request was read; this one has the prompt.
        ("", (3, 2), "a: b: c:", "0 billed, 0 to "),
        ("", (3, 2), "a:abc b:abc c:x", "0 billed, 0 to "),
    ] {
        assert_eq!(outcome(passed_on, policy, members), expected, "{passed_on:?} {policy:?} {members}");
    }
}

/// A quorum had told what was shown as agreed: what its nodes say afterwards makes nothing free.
#[test]
fn what_was_agreed_is_owed_whatever_is_said_later() {
    for (policy, members, expected) in [
        ((3, 2), "a:abcd b:abc c:a", "3 billed, 3 to 0,1"),
        // One began again, was given up, or contradicts what it said.
        ((3, 2), "a:abcd b: c:a", "3 billed, 3 to 0"),
        ((3, 2), "a:abcd c:a", "3 billed, 3 to 0"),
        ((3, 3), "a:abcd b:abc c:x", "3 billed, 3 to 0,1"),
        ((3, 2), "a:x b:y c:z", "3 billed, 3 to "),
    ] {
        assert_eq!(outcome_of(Release::Agreed, "abc", policy, members), expected, "{policy:?} {members}");
    }
}

/// A node that told what a client had which hung up is paid for that part; only whole answers are judged.
#[test]
fn what_a_client_had_that_hung_up_is_paid_and_proves_nothing() {
    for (letters, agreed, expected) in [
        ("ooo", &[0, 1][..], "??N paid (4, 4, 1000, 5) (4, 4, 1000, 5)"),
        ("aao", &[0, 1, 2], "VV? paid (6, 4, 500, 5) (6, 4, 500, 5) (4, 4, 1000, 5)"),
        ("aoo", &[0, 1], "??N paid (6, 4, 500, 5) (4, 4, 1000, 5)"),
        ("loo", &[0, 1], "??N paid (6, 4, 1000, 5) (4, 4, 1000, 5)"),
        ("aao", &[], "VVN paid (6, 4, 500, 5) (6, 4, 500, 5)"),
        // Its time was up, but it had told all of it.
        ("Ooo", &[0, 1], "??N paid (4, 4, 1000, 5) (4, 4, 1000, 5)"),
        // A miss and a fault stand.
        ("x!o", &[0, 1, 2], "MI? paid (4, 4, 1000, 5)"),
        // This verifier may have missed its answer.
        ("no", &[0, 1], "?? paid (4, 4, 1000, 5) (4, 4, 1000, 5)"),
    ] {
        for witness in [Witness::Owner, Witness::Successor] {
            let agreed = agreed.iter().copied().map(assignment).collect();
            let delivered = Delivered { prompt_tokens: 5, tokens: 4, agreed_tokens: 4, agreed };
            let closing = with_case(letters, End::Cancelled { delivered: Some(delivered) }, witness, close);
            let paid = closing.judged.iter().filter(|one| one.is_paid);
            let paid =
                paid.map(|one| (one.own_tokens, one.canonical_tokens, one.elapsed_ms, one.prompt_tokens));
            let paid: Vec<String> = paid.map(|one| format!("{one:?}")).collect();
            // The time that an owner's death cost isn't the node's.
            let expected = if witness == Witness::Successor && letters == "Ooo" {
                expected.replacen("1000", "10", 1)
            } else {
                expected.to_owned()
            };
            assert_eq!(
                format!("{} paid {}", word(&closing), paid.join(" ")),
                expected,
                "{letters} {witness:?}"
            );
        }
    }
}

fn voice() -> impl Strategy<Value = (usize, Vec<TokenId>)> {
    (0..4_usize, prop::collection::vec(0..2_u32, 0..6))
}

proptest! {
    #[test]
    fn nobody_is_paid_for_what_no_quorum_told(
        voices in prop::collection::vec(voice(), 0..6),
        passed_on in prop::collection::vec(0..2_u32, 0..6),
        quorum in 1..4_u8,
        replicas in 1..4_u8,
    ) {
        let told: Vec<Told> = voices.into_iter().enumerate().map(|(place, (party, tokens))| {
            Told { assignment: assignment(place), party: format!("p{party}"), tokens }
        }).collect();
        let policy = VerificationPolicy { replicas, quorum };
        let release = Release::First;
        let hang_up = HangUp { prompt_tokens: PROMPT, passed_on: &passed_on, policy, release };
        let Some(delivered) = owed(&hang_up, &told) else { return Ok(()) };
        prop_assert_eq!(delivered.tokens as usize, passed_on.len());
        prop_assert!(delivered.agreed_tokens <= delivered.tokens);
        let part = &passed_on[..delivered.agreed_tokens as usize];
        let mut parties = std::collections::BTreeSet::new();
        for one in told.iter().filter(|one| delivered.agreed.contains(&one.assignment)) {
            prop_assert!(one.tokens.starts_with(part));
            parties.insert(one.party.clone());
        }
        let quorum = if replicas == 1 { usize::MAX } else { usize::from(quorum.max(2)) };
        prop_assert!(delivered.agreed.is_empty() || parties.len() >= quorum);
        prop_assert_eq!(delivered.agreed.is_empty(), delivered.agreed_tokens == 0);
    }
}
