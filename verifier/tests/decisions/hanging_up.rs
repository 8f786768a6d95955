//! What a client owes that hung up, and who is paid for it.

use infera_types::ids::AssignmentId;
use infera_types::job::VerificationPolicy;
use infera_types::numbers::TokenId;
use infera_verifier::decisions::hanging_up::{HangUp, Told, owed};
use proptest::prelude::*;

const PROMPT: u32 = 7;

fn assignment(place: usize) -> AssignmentId {
    AssignmentId::from_bytes([u8::try_from(place + 1).unwrap(); 16])
}

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

/// Returns what is billed, what is paid, and the places of those to whom, or that nothing is owed.
fn outcome(passed_on: &str, (replicas, quorum): (u8, u8), members: &str) -> String {
    let (told, passed_on) = (told(members), tokens(passed_on));
    let policy = VerificationPolicy { replicas, quorum };
    let hang_up = HangUp { prompt_tokens: PROMPT, passed_on: &passed_on, policy };
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
        let hang_up = HangUp { prompt_tokens: PROMPT, passed_on: &passed_on, policy };
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
