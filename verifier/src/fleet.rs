//! Joins live nodes with what the ledger says of them, and makes the harmonizer's candidates: the nodes that may be
//! drawn. The draw itself is the harmonizer's.

use std::collections::HashMap;

use infera_ledger::NodeStanding;
use infera_types::ids::{ModelName, NodeId};
use infera_types::time::Timestamp;

use crate::book::Page;
use crate::harmonizer::{Candidate, Medians};
use crate::nodes::NodeView;
use crate::reputation::{Circumstances, Reputation, tokens_per_second};

/// What a node's record for one model is worth, as of the last reading of the book.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Profile {
    reputation: f64,
    tokens_per_second: Option<f64>,
    newcomer: bool,
    ejected: bool,
}

/// The worth of every record of one model, and of none.
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
}

fn profile(reputation: &Reputation, tokens_per_second: Option<f64>) -> Profile {
    Profile {
        reputation: reputation.weight(),
        tokens_per_second,
        newcomer: reputation.is_newcomer(),
        ejected: reputation.is_ejected(),
    }
}

/// The candidates for one draw, each beside the index of the view that it was made from.
#[derive(Debug, Default)]
pub(crate) struct Fleet {
    /// Indexes of views, one per candidate.
    pub(crate) views: Vec<usize>,
    /// The candidates.
    pub(crate) candidates: Vec<Candidate>,
    /// Of these candidates.
    pub(crate) medians: Option<Medians>,
}

impl Fleet {
    /// Without the candidates whose view `keeps` says no to.
    pub(crate) fn only(self, views: &[NodeView], keeps: impl Fn(&NodeView) -> bool) -> Self {
        let Self { views: indexes, candidates, medians } = self;
        let both = indexes.into_iter().zip(candidates);
        let (views, candidates) = both.filter(|(index, _)| views.get(*index).is_some_and(&keeps)).unzip();
        Self { views, candidates, medians }
    }
}

/// Joins live nodes with the book. Nodes that aren't registered (any more) are left out.
pub(crate) fn fleet(page: &Page, model: &ModelName, views: &[NodeView]) -> Fleet {
    let Some(profiles) = page.profiles.get(model) else { return Fleet::default() };
    let registered =
        views.iter().enumerate().filter_map(|(index, view)| Some((index, view, page.nodes.get(&view.id)?)));
    let (indexes, candidates): (Vec<_>, Vec<_>) = registered
        .map(|(index, view, node)| {
            let profile = profiles.known.get(&view.id).unwrap_or(&profiles.unknown);
            let candidate = Candidate {
                node: view.id.clone(),
                owner: node.owner.clone(),
                // Known where a warden looks at the broker's connections; nodes of one process have none.
                address: view.address,
                numeric_class: view.class.clone(),
                free_slots: view.free_slots,
                reputation: profile.reputation,
                tokens_per_second: profile.tokens_per_second,
                newcomer: profile.newcomer,
                ejected: profile.ejected,
            };
            (index, candidate)
        })
        .unzip();
    let medians = Some(Medians::of(&candidates));
    Fleet { views: indexes, candidates, medians }
}
