//! What gateways tell each other of the limits of keys.

use serde::{Deserialize, Serialize};

use crate::ids::{AccountId, Digest, GatewayId};
use crate::wire::{Columned, Wire};

/// Reports on the network's exchange what keys spent at one gateway since its last report, and what they have in flight there,
/// so that their limits hold at all gateways together. A report that is lost lets its keys spend that much more, once.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Spending {
    /// The gateway that reports.
    pub gateway: GatewayId,
    /// What each key spent; keys that spent nothing are left out.
    pub keys: Vec<Spent>,
}

/// What one key spent. Negative numbers were given back.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Spent {
    /// SHA-256 of the key.
    pub key: Digest,
    /// Its account.
    pub account: AccountId,
    /// Requests.
    pub requests: i64,
    /// Tokens.
    pub tokens: i64,
    /// Looks and cancels.
    pub looks: i64,
    /// How many of the key's requests are in flight at the gateway; none if that is as it was last told. A count that isn't
    /// told again for some seconds is over, because its gateway is gone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub in_flight: Option<u32>,
}

impl Spent {
    /// Makes the report of a key that spent nothing.
    #[must_use]
    pub const fn nothing(key: Digest, account: AccountId) -> Self {
        Self { key, account, requests: 0, tokens: 0, looks: 0, in_flight: None }
    }
}

impl Columned for Spending {}

impl Wire for Spending {
    const KIND: &'static str = "spending";
}
