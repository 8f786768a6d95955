//! Weighs nodes' records in the ledger for draws, at each reading of the ledger and not at each draw.

use std::collections::HashMap;

use infera_ledger::NodeStanding;
use infera_types::ids::NodeId;
use infera_types::time::Timestamp;

use crate::decisions::reputation::{Circumstances, Reputation, tokens_per_second};

/// What a node's record for one model is worth, as of the last reading of the ledger.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Profile {
    pub(super) reputation: f64,
    pub(super) tokens_per_second: Option<f64>,
    pub(super) newcomer: bool,
    pub(super) ejected: bool,
}

/// What each node's record for one model is worth, and what having none is.
#[derive(Clone, Debug)]
pub(crate) struct Profiles {
    known: HashMap<NodeId, Profile>,
    unknown: Profile,
}

impl Profiles {
    /// Weighs the records of one model.
    pub(crate) fn of(standings: Option<&HashMap<NodeId, NodeStanding>>, now: Timestamp) -> Self {
        let mut speeds: Vec<f64> =
            standings.into_iter().flat_map(HashMap::values).filter_map(tokens_per_second).collect();
        speeds.sort_by(f64::total_cmp);
        let circumstances = Circumstances {
            reference_tokens_per_second: speeds.get(speeds.len() / 2).copied().unwrap_or(1.0),
            // Nodes don't declare hours yet, so none is absent from them.
            uptime: 1.0,
        };
        let known = standings.into_iter().flatten().map(|(node, standing)| {
            let reputation = Reputation::of(standing, &circumstances, now);
            (node.clone(), profile(&reputation, tokens_per_second(standing)))
        });
        Self { known: known.collect(), unknown: profile(&Reputation::unknown(&circumstances), None) }
    }

    /// Returns the worth of a node's record.
    pub(super) fn of_node(&self, node: &NodeId) -> &Profile {
        self.known.get(node).unwrap_or(&self.unknown)
    }
}

fn profile(reputation: &Reputation, tokens_per_second: Option<f64>) -> Profile {
    Profile {
        reputation: reputation.weight(),
        tokens_per_second,
        newcomer: reputation.is_newcomer(),
        ejected: reputation.is_ejected(),
    }
}
