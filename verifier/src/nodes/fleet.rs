//! Joins live nodes with what the ledger says of them into the harmonizer's candidates. The draw itself is the
//! harmonizer's.

use infera_ledger::NodePool;
use infera_types::ids::{AccountId, ModelName, OwnerId};

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

/// Joins live nodes with the ledger's snapshot, for a job of `account` in `pool`, or for counting what there is for any account.
/// Nodes that aren't registered (any more) are left out, and so are those whose owner deregistered them, or chose other models
/// for them: they end what they have and are asked for no more. In the open pool a backstop's owner is the network, and it is left
/// out for jobs of the account that registered it. A pool that isn't open to the account has no nodes.
pub(crate) fn fleet(
    snapshot: &Snapshot,
    model: &ModelName,
    views: &[NodeView],
    pool: &NodePool,
    account: Option<&AccountId>,
) -> Fleet {
    let Some(profiles) = snapshot.profiles.get(model) else { return Fleet::default() };
    if account.is_some_and(|account| !snapshot.pools.is_open_to(pool, account)) {
        return Fleet::default();
    }
    let registered = views
        .iter()
        .enumerate()
        .filter(|(_, view)| snapshot.allows(&view.id, model))
        .filter_map(|(index, view)| Some((index, view, snapshot.nodes.get(&view.id)?)));
    let own = account.map(OwnerId::of_account);
    let (indexes, candidates): (Vec<_>, Vec<_>) = registered
        .filter_map(|(index, view, node)| {
            let is_backstop = snapshot.pools.is_backstop(&view.id);
            let is_networks = is_backstop && pool.is_open();
            if is_networks && own.as_ref() == Some(&node.owner) {
                return None;
            }
            let profile = profiles.of_node(&view.id);
            let candidate = Candidate {
                node: view.id.clone(),
                owner: if is_networks { OwnerId::network() } else { node.owner.clone() },
                // Known where a warden looks at the broker's connections; nodes of one process have none.
                address: view.address,
                machine: view.machine.clone(),
                is_private: snapshot.pools.is_private(&view.id),
                is_backstop,
                groups: snapshot.pools.groups_of(&view.id).to_vec(),
                numeric_class: view.class.clone(),
                features: view.features.clone(),
                free_slots: view.free_slots,
                reputation: profile.reputation,
                tokens_per_second: profile.tokens_per_second,
                newcomer: profile.newcomer,
                ejected: profile.ejected,
            };
            Some((index, candidate))
        })
        .unzip();
    let medians = Some(Medians::of(&candidates));
    Fleet { views: indexes, candidates, medians }
}
