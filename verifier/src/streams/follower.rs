//! The gateways that follow a job's stream, and what their clients have of it.

use infera_types::frames::PassedOn;
use infera_types::ids::GatewayId;
use infera_types::numbers::TokenId;

use crate::decisions::passed_on::{Fit, fit};

/// A gateway, and what its clients have.
#[derive(Debug)]
pub(super) struct Follower {
    pub(super) gateway: GatewayId,
    pub(super) has: Has,
}

/// What a gateway's clients have.
#[derive(Clone, Copy, Debug)]
pub(super) enum Has {
    /// Unknown: the gateway hasn't said what it has passed on of an earlier owner's stream.
    Unsaid,
    /// The first of the tokens that were released here, by their number.
    Told(usize),
    /// What an earlier owner released, and more of it than was released here so far, or something else.
    Elsewhere(PassedOn),
}

impl Has {
    /// Returns what it comes to once these tokens are released.
    pub(super) fn beside(self, released: &[TokenId]) -> Self {
        match self {
            Self::Elsewhere(passed_on) => Self::of(passed_on, released),
            Self::Unsaid | Self::Told(_) => self,
        }
    }

    pub(super) fn of(passed_on: PassedOn, released: &[TokenId]) -> Self {
        match fit(released, &passed_on) {
            Fit::Extends(count) => Self::Told(count),
            Fit::IsBehind | Fit::Contradicts => Self::Elsewhere(passed_on),
        }
    }
}
