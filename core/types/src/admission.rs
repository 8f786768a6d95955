//! The words by which a gateway lets a node in, keeps it out or refuses what is asked about one, on both sides: the gateway says them, the worker acts by
//! them. Sentences and statuses are the gateway's.

use serde::{Deserialize, Serialize};
use strum::VariantArray;

use crate::ids::{Digest, ModelName, NodeId};
use crate::secret::Secret;

/// Why a node isn't let in or what is asked about it isn't done, and who can change that.
#[derive(Clone, Copy, Debug, PartialEq, Eq, VariantArray)]
pub enum Refusal {
    /// This gateway has no key to sign tokens with: its operator. Another gateway may have one.
    NoAdmission,
    /// The account has no scope `fleet`, or there is no account: the operator.
    NoFleet,
    /// The name has another secret: the runner.
    NameTaken,
    /// No node of this name has this secret: the runner.
    Unknown,
    /// Shut out for good: the operator did that.
    Revoked,
    /// The broker is away: a retry is safe.
    BrokerAway,
    /// No node of this name belongs to the caller's account, whether there is one or not: the runner.
    NotYours,
    /// The account has as many nodes as it may: the runner.
    TooMany,
    /// This gateway takes no results over HTTPS: a node that isn't of this network's programs.
    NoLeases,
}

impl Refusal {
    /// All of them.
    pub const ALL: &'static [Self] = Self::VARIANTS;

    /// Returns the word that programs compare.
    #[must_use]
    pub const fn code(self) -> &'static str {
        match self {
            Self::NoAdmission => "nodes_not_admitted",
            Self::NoFleet => "fleet_scope_required",
            Self::NameTaken => "node_name_taken",
            Self::Unknown => "node_unknown",
            Self::Revoked => "node_revoked",
            Self::BrokerAway => "broker_unavailable",
            Self::NotYours => "node_not_found",
            Self::TooMany => "too_many_nodes",
            Self::NoLeases => "results_not_taken",
        }
    }

    /// Returns the refusal of a word; none for one that this program doesn't know.
    #[must_use]
    pub fn of_code(code: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|refusal| refusal.code() == code)
    }

    /// Returns whether another gateway, or this one later, may let the node in without anybody doing something.
    #[must_use]
    pub const fn may_pass(self) -> bool {
        matches!(self, Self::NoAdmission | Self::BrokerAway)
    }
}

/// What a node that is let in is told: the reply to `POST /check_node_secret`. A reader passes over fields that it doesn't know.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Admission {
    /// The node's inner id.
    pub node: NodeId,
    /// The name that its runner gave it.
    #[serde(default)]
    pub node_id: String,
    /// Its proof towards the broker. Serialised in plain text: the reply is for the node alone.
    #[serde(serialize_with = "exposed")]
    pub token: Secret,
    /// How long the token lives, in seconds; above 0.
    pub expires_in_s: u64,
    /// The queue that the node reads.
    pub queue: String,
    /// Where the broker is.
    pub broker: Broker,
    /// Models that the network serves no more, those that were removed last first; at most [`REMOVED_MODELS_MAX`].
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub removed_models: Vec<RemovedModel>,
}

/// The most removed models that a node is told of. A node that serves one is told at its next visit, minutes later, so only those
/// removed lately matter; with 32 the reply stays below the size that nodes read.
pub const REMOVED_MODELS_MAX: usize = 32;

/// A model that the network serves no more.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RemovedModel {
    /// The name under which it was served.
    pub name: ModelName,
    /// The digests of its files that stand for no other name.
    pub digests: Vec<Digest>,
}

/// Where the broker is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Broker {
    /// `amqp(s)://host:port/vhost`, without user and password.
    pub url: String,
}

fn exposed<S: serde::Serializer>(secret: &Secret, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(secret.expose())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_refusal_is_known_again_by_its_word() {
        for refusal in Refusal::ALL {
            assert_eq!(Refusal::of_code(refusal.code()), Some(*refusal));
        }
        assert_eq!(Refusal::of_code("tomorrow's"), None);
    }
}
