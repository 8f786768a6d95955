//! Says whether an answer earns its node points at all; [`points`](super::points) says how many.
//!
//! Points are for work that others want and pay for. A node earns nothing from a job of its own owner's account: an account
//! could make points for itself by asking its own nodes. Where the job's model has a price, it earns nothing either unless the
//! account pays and the job's end is billed: what expires or fails, or is cancelled before its client had anything, would be points
//! for nothing. Verdicts are the same either way, and so is the node's reputation.
//!
//! A job for chosen nodes, of its account or of a group, earns nothing either, whatever its model costs: its account could be
//! another one in the same hand, and the answers would agree among machines of that hand. Verdicts on it say nothing about the
//! nodes to strangers, so they change no reputation ([`infera_ledger::fold::counts`]).

use infera_types::ids::{AccountId, OwnerId};
use infera_types::money::Payment;

/// A job as far as it decides what its nodes earn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Demand<'a> {
    /// The account that asked.
    pub account: &'a AccountId,
    /// The payment for it.
    pub payment: Payment,
    /// Whether the job's end is billed, if only with nothing because its answer is disputed.
    pub is_billed: bool,
    /// Whether it was for nodes of its account or of a group alone.
    pub is_for_chosen_nodes: bool,
}

impl Demand<'_> {
    /// Returns whether the job earns a node of `owner` points.
    #[must_use]
    pub fn earns(&self, owner: &OwnerId) -> bool {
        let is_wanted = match self.payment {
            Payment::Free => true,
            Payment::Paid => self.is_billed,
            Payment::Unpaid => false,
        };
        is_wanted && !self.is_for_chosen_nodes && *owner != OwnerId::of_account(self.account)
    }
}
