//! Keeps in memory what the ledger says about the network, so that no draw waits for a read: the catalogue, the registered
//! nodes, what their owners want of them, how they stand, and epochs' secrets. It is read again each second.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use infera_ledger::{
    CatalogueEntry, LedgerError, NetworkBook, NodeReader, NodeRecord, NodeStanding, NodeWish, Standing,
};
use infera_types::ids::{Digest, ModelName, NodeId};
use infera_types::time::Timestamp;

use super::pools::Pools;
use super::profile::Profiles;

/// Epochs last days; more than this in use at once is a mistake somewhere, and only costs a read.
const EPOCHS_MAX: usize = 64;

/// How long what is noted of nodes is kept unread at most, though its number is the same: a ledger that was put back to a copy of
/// itself may give a number out twice.
const POOLS_KEPT: Duration = Duration::from_secs(60);

/// One reading of the ledger.
#[derive(Debug, Default)]
pub(crate) struct Snapshot {
    /// What models' names mean.
    pub(crate) catalogue: HashMap<ModelName, Arc<CatalogueEntry>>,
    /// Registered nodes that are not revoked.
    pub(crate) nodes: HashMap<NodeId, NodeRecord>,
    /// What owners want of their nodes; those whose owners said nothing are left out.
    pub(crate) wishes: HashMap<NodeId, NodeWish>,
    /// Which jobs nodes are for.
    pub(crate) pools: Arc<Pools>,
    /// The number of that in the ledger, and when it was read.
    pools_read: Option<(u64, Instant)>,
    /// How each node stands for each model.
    pub(crate) standings: HashMap<ModelName, HashMap<NodeId, NodeStanding>>,
    /// What those records are worth, for each model of the catalogue.
    pub(crate) profiles: HashMap<ModelName, Profiles>,
}

impl Snapshot {
    /// Returns whether a node's owner lets it be drawn for a model.
    pub(crate) fn allows(&self, node: &NodeId, model: &ModelName) -> bool {
        self.wishes.get(node).is_none_or(|wish| wish.allows(model))
    }

    /// Returns how a node stands for a model; none while it has no verdict.
    pub(crate) fn standing(&self, node: &NodeId, model: &ModelName) -> Option<&NodeStanding> {
        self.standings.get(model)?.get(node)
    }
}

/// The last reading, and the epochs met so far.
#[derive(Debug, Default)]
pub(crate) struct LedgerView {
    snapshot: ArcSwap<Snapshot>,
    epochs: Mutex<HashMap<u64, Digest>>,
}

impl LedgerView {
    /// Returns the last reading.
    pub(crate) fn snapshot(&self) -> Arc<Snapshot> {
        self.snapshot.load_full()
    }

    /// Reads everything again. On an error the last snapshot stays.
    pub(crate) async fn refresh(
        &self,
        network: &dyn NetworkBook,
        nodes: &dyn NodeReader,
        standing: &dyn Standing,
    ) -> Result<(), LedgerError> {
        let mut snapshot = Snapshot::default();
        for entry in network.catalogue().await? {
            snapshot.catalogue.insert(entry.name.clone(), Arc::new(entry));
        }
        for node in network.nodes().await? {
            snapshot.nodes.insert(node.id.clone(), node);
        }
        for wish in nodes.wishes().await? {
            snapshot.wishes.insert(wish.node.clone(), wish);
        }
        (snapshot.pools, snapshot.pools_read) = self.pools(nodes).await?;
        for standing in standing.standings().await? {
            let of_model = snapshot.standings.entry(standing.model.clone()).or_default();
            of_model.insert(standing.node.clone(), standing);
        }
        let now = Timestamp::now();
        for model in snapshot.catalogue.keys() {
            snapshot.profiles.insert(model.clone(), Profiles::of(snapshot.standings.get(model), now));
        }
        self.snapshot.store(Arc::new(snapshot));
        Ok(())
    }

    /// Returns what is noted of nodes, with its number and when it was read. It is read only if the number has changed: there may be
    /// many groups. A change between the two readings comes with the next number.
    async fn pools(
        &self,
        nodes: &dyn NodeReader,
    ) -> Result<(Arc<Pools>, Option<(u64, Instant)>), LedgerError> {
        let (last, number) = (self.snapshot(), nodes.pools_version().await?);
        match last.pools_read {
            Some((read, at)) if read == number && at.elapsed() < POOLS_KEPT => {
                Ok((Arc::clone(&last.pools), last.pools_read))
            }
            _ => {
                let now = Instant::now();
                Ok((Arc::new(Pools::of(nodes.pools().await?)), Some((number, now))))
            }
        }
    }

    /// Returns the secret of epoch `number`, which never changes.
    pub(crate) async fn epoch_secret(
        &self,
        network: &dyn NetworkBook,
        number: u64,
    ) -> Result<Digest, LedgerError> {
        let known = self.epochs.lock().unwrap_or_else(PoisonError::into_inner).get(&number).copied();
        if let Some(secret) = known {
            return Ok(secret);
        }
        // A fresh secret is only used where no number is asked for.
        let unused = Digest::from_bytes([0; 32]);
        let epoch = network.epoch(Some(number), unused, Timestamp::now()).await?;
        let mut epochs = self.epochs.lock().unwrap_or_else(PoisonError::into_inner);
        if epochs.len() >= EPOCHS_MAX {
            epochs.clear();
        }
        epochs.insert(number, epoch.secret);
        Ok(epoch.secret)
    }
}

#[cfg(test)]
mod tests {
    use infera_ledger::{
        AccountBook as _, GroupBounds, GroupMade, NewGroup, NewNode, NodeGroupBook as _, NodePool,
        PoolBook as _, Registered,
    };
    use infera_ledger_sqlite::SqliteLedger;
    use infera_types::ids::GroupId;

    use super::*;

    #[tokio::test]
    async fn what_is_noted_of_nodes_is_read_when_it_changed() {
        let folder = tempfile::tempdir().unwrap();
        let ledger = SqliteLedger::open(&folder.path().join("ledger.sqlite")).unwrap();
        let now = Timestamp::now();
        let account = ledger.sign_up("ada@example.org", None, now).await.unwrap().account;
        let new = NewNode { name: "a".to_owned(), secret: Digest::of(b"s"), account: Some(account.clone()) };
        let Registered::Node(node) = ledger.register_node(&new, now).await.unwrap() else { unreachable!() };
        let view = LedgerView::default();
        let read = async || {
            view.refresh(&*ledger, &*ledger, &*ledger).await.unwrap();
            view.snapshot()
        };
        let (first, second) = (read().await, read().await);
        assert!(Arc::ptr_eq(&first.pools, &second.pools), "nothing was noted");
        ledger.set_backstop("a", true, now).await.unwrap();
        assert!(read().await.pools.is_backstop(&node.id));
        let group = NewGroup { id: GroupId::fresh(), account: account.clone(), name: "lab".to_owned() };
        let pool = NodePool::Group(group.id.clone());
        assert!(!read().await.pools.is_open_to(&pool, &account));
        let bounds = GroupBounds {
            groups_max: 9,
            nodes_max: 9,
            accounts_max: 9,
            uses_max: 9,
            invitations_max: 9,
            memberships_max: 9,
        };
        assert_eq!(ledger.create_group(&group, &bounds, now).await.unwrap(), GroupMade::Made);
        assert!(read().await.pools.is_open_to(&pool, &account));
    }
}
