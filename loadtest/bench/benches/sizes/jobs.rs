//! Makes ends of jobs whose answers have a given length and whose numbers are as a model's are.

use infera_types::ids::{Digest, NodeId, OwnerId};
use infera_types::job::{End, Settlement};
use infera_types::numbers::{TokenId, TokenNumbers};

/// The size of SmolLM2's vocabulary.
const VOCABULARY: u32 = 49_152;

/// How many nodes there are.
const NODES: u32 = 30;

/// Words of answers, so that their text compresses as text does.
const WORDS: [&str; 24] = [
    "the", "sum", "of", "numbers", "answer", "is", "river", "small", "because", "often", "model", "light",
    "and", "water", "to", "a", "quickly", "house", "seven", "which", "under", "seen", "in", "garden",
];

/// Returns the settlement with an answer and replicas of this many tokens. Jobs of different numbers have different ones.
pub(crate) fn of_length(mut settlement: Settlement, tokens: u32, number: u32) -> Settlement {
    let numbers: Vec<TokenNumbers> = (0..=tokens).map(|place| row(number, place)).collect();
    let chosen: Vec<TokenId> = numbers.iter().take(tokens as usize).map(|row| row.top[0].0).collect();
    if let End::Succeeded { answer, .. } = &mut settlement.end {
        let words = chosen.iter().map(|token| WORDS[*token as usize % WORDS.len()]);
        answer.text = words.collect::<Vec<_>>().join(" ");
        answer.tokens.clone_from(&chosen);
        answer.model = Some(Digest::of(b"model"));
    }
    for assignment in settlement.group.iter_mut().flat_map(|group| &mut group.assignments) {
        if let Some(replica) = &mut assignment.replica {
            replica.tokens.clone_from(&chosen);
            replica.numbers.clone_from(&numbers);
        }
    }
    settlement
}

/// Returns the settlement with its work done by nodes of a small network: what is kept of each node is no part of a job.
pub(crate) fn of_few_nodes(mut settlement: Settlement, number: u32) -> Settlement {
    let mut nodes = Vec::new();
    for (assignment, place) in
        settlement.group.iter_mut().flat_map(|group| &mut group.assignments).zip(number * 7..)
    {
        let id = Digest::of(&(place % NODES).to_le_bytes()).to_string();
        assignment.node = NodeId::new(format!("n{}", &id[..32]));
        assignment.owner = OwnerId::new(format!("acct{}", &id[32..]));
        nodes.push(assignment.node.clone());
    }
    if let (End::Succeeded { answer, .. }, Some(node)) = (&mut settlement.end, nodes.pop()) {
        answer.node = node;
    }
    settlement
}

/// Returns the numbers of one token: logits fall from about 20, each with noise in all its bits.
fn row(number: u32, place: u32) -> TokenNumbers {
    let noise = Digest::of(&[number.to_le_bytes(), place.to_le_bytes()].concat());
    let word = |at: usize| u32::from_le_bytes(std::array::from_fn(|byte| noise.as_bytes()[at * 4 + byte]));
    let unit = |at: usize| f64::from(word(at)) / f64::from(u32::MAX);
    let logit = |at: usize| {
        #[expect(clippy::cast_possible_truncation, reason = "as engines round")]
        let logit = (20.0 - 2.0 * at as f64 + unit(at)) as f32;
        logit
    };
    let top: Vec<(TokenId, f32)> = (0..4).map(|at| (word(at + 4) % VOCABULARY, logit(at))).collect();
    let log_sum_exp = f64::from(top[0].1) + 0.3 * unit(7);
    let logit_max = Some(top[0].1);
    TokenNumbers { top, log_sum_exp, logit_max, likeliest: Vec::new() }
}
