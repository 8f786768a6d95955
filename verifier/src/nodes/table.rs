//! Holds the live nodes and how much room they have, by their heartbeats and by what this verifier has outstanding there.
//! Whether a node is registered, ejected or wanted is decided where groups are drawn, not here.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::Duration;

use infera_types::features::Features;
use infera_types::ids::{Digest, NodeId};
use infera_types::messages::{Heartbeat, ServedModel, Version};
use infera_types::numbers::NumericClass;
use tokio::sync::watch;
use tokio::time::Instant;

/// Bounds the models of one heartbeat; those beyond it are ignored.
const MODELS_MAX: usize = 64;

/// Bounds the name of a machine, in bytes: workers of this network send 32.
const MACHINE_MAX_BYTES: usize = 64;

/// One node that serves one digest, as a draw sees it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct NodeView {
    /// The node.
    pub(crate) id: NodeId,
    /// The queue that it reads.
    pub(crate) queue: String,
    /// The class that it announced for the digest.
    pub(crate) class: NumericClass,
    /// The version of rendering that it announced.
    pub(crate) rendering: u32,
    /// What its engine can do beyond answering, as it announced.
    pub(crate) features: Features,
    /// The newest version of messages that it reads, as it announced.
    pub(crate) speaks: Version,
    /// How many assignments it has room for.
    pub(crate) free_slots: u32,
    /// Where it connects from; none where the broker doesn't say.
    pub(crate) address: Option<IpAddr>,
    /// The machine that it says it runs on.
    pub(crate) machine: Option<String>,
}

/// The slots of several nodes together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Slots {
    /// Those that are free.
    pub(crate) free: u32,
    /// All of them.
    pub(crate) all: u32,
}

#[derive(Debug)]
struct LiveNode {
    queue: String,
    machine: Option<String>,
    models: Vec<ServedModel>,
    speaks: Version,
    heard: Instant,
    /// This verifier's open assignments there, per digest, when its last heartbeat came.
    outstanding_then: HashMap<Digest, u32>,
    /// This verifier's open assignments there, per digest, now.
    outstanding: HashMap<Digest, u32>,
}

/// All nodes that sent a heartbeat, by id.
#[derive(Debug)]
pub(crate) struct NodeTable {
    silence_max: Duration,
    nodes_max: usize,
    nodes: Mutex<HashMap<NodeId, LiveNode>>,
    /// Where nodes connect from, as the broker sees it.
    addresses: RwLock<HashMap<NodeId, IpAddr>>,
    /// Nodes that are cut off, and until when.
    cut_off: RwLock<HashMap<String, Instant>>,
    changed: watch::Sender<()>,
}

/// Returns the slots that are free now: what the heartbeat said, less what this verifier has sent since, plus what has come
/// back since; never more than the node has, and never counting other verifiers' work as this one's.
fn free_slots(served: &ServedModel, outstanding_then: u32, outstanding_now: u32) -> u32 {
    let others = served.slots.saturating_sub(served.free_slots).saturating_sub(outstanding_then);
    served.slots.saturating_sub(others).saturating_sub(outstanding_now)
}

impl NodeTable {
    /// Makes an empty table; nodes silent for longer than `silence_max` are dead.
    pub(crate) fn new(silence_max: Duration, nodes_max: usize) -> Self {
        Self {
            silence_max,
            nodes_max,
            nodes: Mutex::default(),
            addresses: RwLock::default(),
            cut_off: RwLock::default(),
            changed: watch::Sender::default(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<NodeId, LiveNode>> {
        self.nodes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns a receiver that changes with the nodes' room.
    pub(crate) fn changes(&self) -> watch::Receiver<()> {
        self.changed.subscribe()
    }

    /// Takes in a heartbeat of `sender`. Returns false if it is refused: its queue isn't its own (assignments would go to
    /// whichever it names), or there are too many nodes.
    pub(crate) fn hear(&self, sender: &str, mut heartbeat: Heartbeat, now: Instant) -> bool {
        let id = NodeId::new(sender);
        if sender.is_empty() || !heartbeat.queue.starts_with(&format!("node.{id}.")) {
            return false;
        }
        heartbeat.models.truncate(MODELS_MAX);
        let mut nodes = self.lock();
        if nodes.len() >= self.nodes_max && !nodes.contains_key(&id) {
            return false;
        }
        let node = nodes.entry(id).or_insert_with(|| LiveNode {
            queue: String::new(),
            machine: None,
            models: Vec::new(),
            speaks: Version::First,
            heard: now,
            outstanding_then: HashMap::new(),
            outstanding: HashMap::new(),
        });
        node.queue = heartbeat.queue;
        // A node that says nonsense says nothing.
        node.machine = heartbeat.machine.filter(|machine| (1..=MACHINE_MAX_BYTES).contains(&machine.len()));
        node.models = heartbeat.models;
        node.speaks = heartbeat.speaks;
        node.heard = now;
        node.outstanding_then = node.outstanding.clone();
        drop(nodes);
        self.changed.send_replace(());
        true
    }

    /// Replaces the addresses that nodes connect from.
    pub(crate) fn set_addresses(&self, addresses: HashMap<NodeId, IpAddr>) {
        *self.addresses.write().unwrap_or_else(PoisonError::into_inner) = addresses;
    }

    /// Cuts a node off until then: it counts as if it weren't there, whatever it says, so that nothing is asked of it.
    pub(crate) fn cut_off(&self, node: &str, until: Instant) {
        self.cut_off.write().unwrap_or_else(PoisonError::into_inner).insert(node.to_owned(), until);
        self.changed.send_replace(());
    }

    /// Returns whether a node is cut off now.
    pub(crate) fn is_cut_off(&self, node: &str, now: Instant) -> bool {
        let cut_off = self.cut_off.read().unwrap_or_else(PoisonError::into_inner);
        cut_off.get(node).is_some_and(|until| now < *until)
    }

    /// Returns whether a node is heard and may be asked.
    fn is_there(&self, id: &NodeId, node: &LiveNode, now: Instant) -> bool {
        now.duration_since(node.heard) <= self.silence_max && !self.is_cut_off(id.as_str(), now)
    }

    /// Returns the queue that a node reads, as it announced it.
    pub(crate) fn queue(&self, node: &NodeId) -> Option<String> {
        self.lock().get(node).map(|node| node.queue.clone())
    }

    /// Drops nodes that are dead and have no open assignment, so that the table doesn't grow with those that left.
    pub(crate) fn forget_silent(&self, now: Instant) {
        let silence_max = self.silence_max;
        self.cut_off.write().unwrap_or_else(PoisonError::into_inner).retain(|_, until| now < *until);
        self.lock().retain(|_, node| {
            now.duration_since(node.heard) <= silence_max || node.outstanding.values().any(|count| *count > 0)
        });
    }

    /// Counts the slots of the live nodes that serve one of `digests` and that `is_counted` says yes to.
    pub(crate) fn slots(
        &self,
        digests: &[Digest],
        now: Instant,
        is_counted: impl Fn(&NodeId) -> bool,
    ) -> Slots {
        let nodes = self.lock();
        let mut slots = Slots::default();
        let alive = nodes.iter().filter(|(id, node)| self.is_there(id, node, now));
        for (_, node) in alive.filter(|(id, _)| is_counted(id)) {
            for served in &node.models {
                let digest = served.numeric_class.model_digest;
                if digests.contains(&digest) {
                    let count = |counts: &HashMap<Digest, u32>| counts.get(&digest).copied().unwrap_or(0);
                    let free = free_slots(served, count(&node.outstanding_then), count(&node.outstanding));
                    slots.free = slots.free.saturating_add(free);
                    slots.all = slots.all.saturating_add(served.slots);
                }
            }
        }
        slots
    }

    /// Returns the live nodes that serve one of `digests`.
    pub(crate) fn views(&self, digests: &[Digest], now: Instant) -> Vec<NodeView> {
        self.views_of(&self.lock(), digests, now)
    }

    fn views_of(&self, nodes: &HashMap<NodeId, LiveNode>, digests: &[Digest], now: Instant) -> Vec<NodeView> {
        let addresses = self.addresses.read().unwrap_or_else(PoisonError::into_inner);
        let alive = nodes.iter().filter(|(id, node)| self.is_there(id, node, now));
        let mut views = Vec::new();
        for (id, node) in alive {
            for served in &node.models {
                let digest = served.numeric_class.model_digest;
                if digests.contains(&digest) {
                    let count = |counts: &HashMap<Digest, u32>| counts.get(&digest).copied().unwrap_or(0);
                    views.push(NodeView {
                        id: id.clone(),
                        queue: node.queue.clone(),
                        class: served.numeric_class.clone(),
                        rendering: served.rendering,
                        features: served.features.clone(),
                        speaks: node.speaks,
                        free_slots: free_slots(
                            served,
                            count(&node.outstanding_then),
                            count(&node.outstanding),
                        ),
                        address: addresses.get(id).copied(),
                        machine: node.machine.clone(),
                    });
                }
            }
        }
        views
    }

    /// Lets `choose` pick among the live nodes and holds a slot on each that it picks, in one step, so that two jobs
    /// never take the same last slot.
    pub(crate) fn reserve<T>(
        self: &Arc<Self>,
        digests: &[Digest],
        now: Instant,
        choose: impl FnOnce(&[NodeView]) -> Result<Vec<usize>, T>,
    ) -> Result<Vec<(NodeView, Slot)>, T> {
        let mut nodes = self.lock();
        let views = self.views_of(&nodes, digests, now);
        let picked = choose(&views)?;
        let mut reserved = Vec::with_capacity(picked.len());
        for view in picked.into_iter().filter_map(|index| views.get(index)) {
            let digest = view.class.model_digest;
            if let Some(node) = nodes.get_mut(&view.id) {
                *node.outstanding.entry(digest).or_default() += 1;
            }
            let slot = Slot { table: Arc::clone(self), node: view.id.clone(), digest };
            reserved.push((view.clone(), slot));
        }
        Ok(reserved)
    }
}

/// One slot of a node, in use by an assignment of this verifier. Dropping it frees the slot and wakes jobs that wait for room.
#[derive(Debug)]
pub(crate) struct Slot {
    table: Arc<NodeTable>,
    node: NodeId,
    digest: Digest,
}

impl Drop for Slot {
    fn drop(&mut self) {
        if let Some(node) = self.table.lock().get_mut(&self.node)
            && let Some(count) = node.outstanding.get_mut(&self.digest)
        {
            *count = count.saturating_sub(1);
        }
        self.table.changed.send_replace(());
    }
}

#[cfg(test)]
mod tests;
