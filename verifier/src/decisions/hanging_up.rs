//! Decides what a client owes that hung up on a streamed answer, and which nodes are paid for it. Otherwise reading all tokens
//! but the last would be free.
//!
//! * Billed are the prompt and the tokens that the gateway passed on, whoever had told them: what a client was shown on one node's word
//!   alone it asked to be shown so.
//! * Paid is as far as a quorum of parties shared these tokens: a node by itself could have made them up. What was shown as agreed
//!   a quorum had told when it was shown, whatever its nodes say later; of one node's word, as much counts as a quorum shares
//!   now. As many are paid to each node that told all of them. A node that told another token in place of one of them agreed on
//!   nothing; it isn't paid, and its word doesn't count for the others.
//! * Where one replica was asked for, nothing was compared, and nobody is paid, as for a whole answer.
//! * Nothing is billed where the parties that contradict one node's word, which was shown, leave no quorum for it: the job would
//!   have ended without an answer.

use std::collections::{BTreeMap, BTreeSet};

use infera_types::ids::AssignmentId;
use infera_types::job::{Delivered, VerificationPolicy};
use infera_types::numbers::TokenId;
use infera_types::request::Release;

use crate::decisions::quorum::needed;

/// What one assignment's node has told, in frames or by its whole answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Told {
    /// The assignment.
    pub assignment: AssignmentId,
    /// The party that it counts for: its owner, or its machine where nodes of one owner are compared.
    pub party: String,
    /// The tokens; none if its frames or its answer don't count.
    pub tokens: Vec<TokenId>,
}

/// A client's hanging up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HangUp<'a> {
    /// Tokens of the rendered prompt.
    pub prompt_tokens: u32,
    /// The tokens that were passed on to the client.
    pub passed_on: &'a [TokenId],
    /// How much agreement was asked for.
    pub policy: VerificationPolicy,
    /// When tokens went to the client.
    pub release: Release,
}

/// Returns what the client owes and who is paid; none if it owes nothing.
#[must_use]
pub fn owed(hang_up: &HangUp<'_>, told: &[Told]) -> Option<Delivered> {
    let HangUp { prompt_tokens, passed_on, policy, release } = *hang_up;
    let shared =
        |one: &Told| one.tokens.iter().zip(passed_on).take_while(|(own, theirs)| own == theirs).count();
    let agrees = |one: &Told| shared(one) == one.tokens.len().min(passed_on.len());
    let mut furthest: BTreeMap<&str, usize> = BTreeMap::new();
    for one in told.iter().filter(|one| agrees(one)) {
        let most = furthest.entry(&one.party).or_default();
        *most = shared(one).max(*most);
    }
    let agreed_tokens = match (policy.replicas, release) {
        (1, _) => 0,
        (_, Release::Agreed) => passed_on.len(),
        _ => nth_largest(furthest.values().copied().collect(), needed(&policy)),
    };
    let against: BTreeSet<&str> =
        told.iter().filter(|one| !agrees(one)).map(|one| one.party.as_str()).collect();
    let may_disagree = usize::from(policy.replicas).saturating_sub(needed(&policy));
    if agreed_tokens < passed_on.len() && against.len() > may_disagree {
        return None;
    }
    let paid = told.iter().filter(|one| agreed_tokens > 0 && agrees(one) && shared(one) >= agreed_tokens);
    Some(Delivered {
        prompt_tokens,
        tokens: saturate(passed_on.len()),
        agreed_tokens: saturate(agreed_tokens),
        agreed: paid.map(|one| one.assignment).collect(),
    })
}

/// Returns the largest number that `n` of the values reach; 0 if there are fewer.
fn nth_largest(mut values: Vec<usize>, n: usize) -> usize {
    values.sort_unstable_by(|one, other| other.cmp(one));
    n.checked_sub(1).and_then(|place| values.get(place)).copied().unwrap_or(0)
}

fn saturate(count: usize) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}
