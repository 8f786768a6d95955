//! Joins live nodes with what the ledger says of them into the harmonizer's candidates. The draw itself is the
//! harmonizer's.

use infera_types::ids::ModelName;

use super::ledger_view::Snapshot;
use super::table::NodeView;
use crate::decisions::group_draw::{Candidate, Medians};

/// The candidates for one draw, each beside the index of the view that it was made from.
#[derive(Debug, Default)]
pub(crate) struct Fleet {
    /// The index of each candidate's view.
    pub(crate) views: Vec<usize>,
    /// The candidates.
    pub(crate) candidates: Vec<Candidate>,
    /// The medians of these candidates.
    pub(crate) medians: Option<Medians>,
}

impl Fleet {
    /// Leaves out the candidates whose view `keeps` says no to.
    pub(crate) fn only(self, views: &[NodeView], keeps: impl Fn(&NodeView) -> bool) -> Self {
        let Self { views: indexes, candidates, medians } = self;
        let both = indexes.into_iter().zip(candidates);
        let (views, candidates) = both.filter(|(index, _)| views.get(*index).is_some_and(&keeps)).unzip();
        Self { views, candidates, medians }
    }
}

/// Joins live nodes with the ledger's snapshot. Nodes that aren't registered (any more) are left out, and so are those
/// whose owner deregistered them, or chose other models for them: they end what they have and are asked for no more.
pub(crate) fn fleet(snapshot: &Snapshot, model: &ModelName, views: &[NodeView]) -> Fleet {
    let Some(profiles) = snapshot.profiles.get(model) else { return Fleet::default() };
    let registered = views
        .iter()
        .enumerate()
        .filter(|(_, view)| snapshot.allows(&view.id, model))
        .filter_map(|(index, view)| Some((index, view, snapshot.nodes.get(&view.id)?)));
    let (indexes, candidates): (Vec<_>, Vec<_>) = registered
        .map(|(index, view, node)| {
            let profile = profiles.of_node(&view.id);
            let candidate = Candidate {
                node: view.id.clone(),
                owner: node.owner.clone(),
                // Known where a warden looks at the broker's connections; nodes of one process have none.
                address: view.address,
                numeric_class: view.class.clone(),
                features: view.features.clone(),
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
