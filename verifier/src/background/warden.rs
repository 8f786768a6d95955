//! Closes the connections to the broker of nodes that are revoked, whose token ran out, or that hold too many. RabbitMQ lets
//! all of them go on: it looks at a token at login and at each publish, and a consumer does neither. One verifier closes, under
//! a shared lease; every verifier learns here from which address each node comes, and closes those of nodes that it has cut off
//! itself, as often as they come back.

use std::collections::{HashMap, HashSet};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use infera_broker::Broker;
use infera_broker::connections::{Connection, ConnectionsError};
use infera_ledger::LedgerError;
use infera_types::ids::NodeId;
use infera_types::time::Timestamp;
use tokio::time::Instant;

use crate::nodes::{LedgerView, NodeTable};
use crate::seams::Gate;
use crate::tenure::{Counters, LeaseName, Leases};

/// How long the shared lease lasts: two rounds, so that one late round changes nothing.
const LEASE_TTL: Duration = Duration::from_secs(30);

/// How often connections are looked at. A node that is shut out must be off within a minute: a token's slack, a round, the
/// broker's own delay of five seconds, and closing take three quarters of that.
const ROUND: Duration = Duration::from_secs(15);

/// Clocks of gateways and verifiers differ by less than this.
const SLACK: Duration = Duration::from_secs(10);

/// Bounds the connections of one node. A worker has two, one to publish and one for the rest, and twice as many for the
/// moment in which it opens both again while the broker still waits for the old ones.
const PER_NODE_MAX: usize = 4;

/// Bounds the connections that are closed in one round; a flood is worn off in several.
const CLOSED_MAX: usize = 2_000;

/// How many connections are closed at once: closing waits for the connection's end, for milliseconds.
const AT_ONCE: usize = 8;

/// Why a connection is closed, which its owner is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Closing {
    NotAdmitted,
    TooMany,
    CutOff,
}

impl Closing {
    const fn reason(self) -> &'static str {
        match self {
            Self::NotAdmitted => "this node's token has run out, or it was revoked",
            Self::TooMany => "this node has too many connections",
            Self::CutOff => {
                "this node went on sending frames of tokens faster than it may; it is cut off for ten minutes"
            }
        }
    }
}

/// Why a round came to nothing.
#[derive(Debug, thiserror::Error)]
enum RoundError {
    #[error(transparent)]
    Connections(#[from] ConnectionsError),
    #[error(transparent)]
    Ledger(#[from] LedgerError),
}

/// What the task needs.
pub(crate) struct Warden {
    /// The broker's connections, and which nodes are admitted.
    pub(crate) gate: Gate,
    /// What the ledger says of the network.
    pub(crate) ledger_view: Arc<LedgerView>,
    /// The live nodes, which are told their addresses.
    pub(crate) nodes: Arc<NodeTable>,
    /// Holds the queues of revoked nodes.
    pub(crate) broker: Arc<dyn Broker>,
    /// Keeps the shared lease.
    pub(crate) leases: Arc<Leases>,
    /// Counts closed connections.
    pub(crate) counters: Arc<Counters>,
}

impl Warden {
    /// Looks until the tenure ends.
    pub(crate) async fn run(self) {
        let mut rounds = tokio::time::interval(ROUND);
        rounds.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            rounds.tick().await;
            if let Err(error) = self.round().await {
                tracing::warn!(%error, "nodes' connections can't be checked now");
            }
        }
    }

    async fn round(&self) -> Result<(), RoundError> {
        // In this order: a node in the list was admitted before the book is read.
        let connections = self.gate.connections.list().await?;
        self.nodes.set_addresses(addresses(&connections));
        // Only this verifier knows of these, whoever has the lease.
        let cut_off = |node: &str| self.nodes.is_cut_off(node, Instant::now());
        self.close_all(&of_cut_off(&connections, cut_off)).await?;
        let now = Timestamp::now();
        if !self.leases.hold(LeaseName::Warden, LEASE_TTL).await? {
            return Ok(());
        }
        let asked_ms = u64::try_from(SLACK.as_millis()).unwrap_or(0);
        let since = Timestamp::from_millis(now.as_millis().saturating_sub(asked_ms));
        let admitted = self.gate.book.admitted(since).await?;
        let closings = closings(&connections, &admitted.into_iter().collect());
        self.remove_queues(&closings).await;
        self.close_all(&closings).await
    }

    async fn close_all(&self, closings: &[(Connection, Closing)]) -> Result<(), RoundError> {
        for together in closings.chunks(AT_ONCE).take(CLOSED_MAX / AT_ONCE) {
            let closed = together.iter().map(|(connection, why)| self.close(connection, *why));
            for outcome in futures::future::join_all(closed).await {
                outcome?;
                self.counters.connections_closed.add_one();
            }
        }
        Ok(())
    }

    async fn close(&self, connection: &Connection, why: Closing) -> Result<(), ConnectionsError> {
        let Connection { name, user, peer, .. } = connection;
        tracing::warn!(node = user, ?peer, reason = why.reason(), "closing a connection");
        self.gate.connections.close(name, why.reason()).await
    }

    /// Deletes the queues of revoked nodes, as far as they were heard of; those of nodes that may come back stay.
    async fn remove_queues(&self, closings: &[(Connection, Closing)]) {
        let snapshot = self.ledger_view.snapshot();
        let revoked: HashSet<NodeId> = closings
            .iter()
            .filter(|(_, why)| *why == Closing::NotAdmitted)
            .map(|(connection, _)| NodeId::new(connection.user.as_str()))
            .filter(|node| !snapshot.nodes.contains_key(node))
            .collect();
        for queue in revoked.iter().filter_map(|node| self.nodes.queue(node)) {
            if let Err(error) = self.broker.delete(&queue).await {
                tracing::warn!(queue, %error, "the queue of a revoked node stays until it is idle for long enough");
            }
        }
    }
}

/// Returns whether a user of the broker is a node: the operator's users have other names.
fn is_node(user: &str) -> bool {
    let word = user.strip_prefix('n').unwrap_or_default();
    word.len() == 32 && word.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte))
}

/// Returns the connections of nodes that are cut off.
fn of_cut_off(connections: &[Connection], is_cut_off: impl Fn(&str) -> bool) -> Vec<(Connection, Closing)> {
    let theirs = connections.iter().filter(|one| is_node(&one.user) && is_cut_off(&one.user));
    theirs.map(|one| (one.clone(), Closing::CutOff)).collect()
}

/// Returns which connections go, and why. Of too many the oldest go: of a worker that connects again those are the dead ones.
fn closings(connections: &[Connection], admitted: &HashSet<NodeId>) -> Vec<(Connection, Closing)> {
    let mut by_node: HashMap<&str, Vec<&Connection>> = HashMap::new();
    for connection in connections.iter().filter(|connection| is_node(&connection.user)) {
        by_node.entry(&connection.user).or_default().push(connection);
    }
    let mut closings = Vec::new();
    for (user, mut held) in by_node {
        let (kept, why) = if admitted.contains(&NodeId::new(user)) {
            (PER_NODE_MAX, Closing::TooMany)
        } else {
            (0, Closing::NotAdmitted)
        };
        held.sort_by_key(|connection| std::cmp::Reverse(connection.since));
        closings.extend(held.into_iter().skip(kept).map(|connection| (connection.clone(), why)));
    }
    closings
}

/// Returns where each node comes from: of several addresses that of its oldest connection, so that a second one elsewhere
/// doesn't move it.
fn addresses(connections: &[Connection]) -> HashMap<NodeId, IpAddr> {
    let mut newest_first: Vec<&Connection> =
        connections.iter().filter(|connection| is_node(&connection.user)).collect();
    newest_first.sort_by_key(|connection| std::cmp::Reverse(connection.since));
    newest_first
        .into_iter()
        .filter_map(|connection| Some((NodeId::new(connection.user.as_str()), connection.peer?)))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn connection(user: &str, since_s: u64, peer: &str) -> Connection {
        Connection {
            name: format!("{peer} of {user} since {since_s}"),
            user: user.to_owned(),
            peer: peer.parse().ok(),
            since: Timestamp::from_millis(since_s * 1_000),
        }
    }

    #[test]
    fn only_the_admitted_stay_and_none_with_too_many() {
        let (stays, gone, greedy) = (NodeId::fresh(), NodeId::fresh(), NodeId::fresh());
        let mut connections = vec![
            connection("infera", 1, "10.0.0.1"),
            connection("n1", 1, "10.0.0.1"),
            connection(stays.as_str(), 1, "10.0.0.2"),
            connection(stays.as_str(), 2, "10.0.0.2"),
            connection(gone.as_str(), 3, "10.0.0.3"),
        ];
        connections.extend((1..=6).map(|since| connection(greedy.as_str(), since, "10.0.0.4")));
        let admitted = HashSet::from([stays, greedy.clone()]);
        let closings = closings(&connections, &admitted);
        let mut found: Vec<(&str, u64, Closing)> = closings
            .iter()
            .map(|(connection, why)| (connection.user.as_str(), connection.since.as_secs(), *why))
            .collect();
        found.sort_by_key(|(_, since, _)| *since);
        let expected = [
            (greedy.as_str(), 1, Closing::TooMany),
            (greedy.as_str(), 2, Closing::TooMany),
            (gone.as_str(), 3, Closing::NotAdmitted),
        ];
        assert_eq!(found, expected);
    }

    #[test]
    fn who_is_cut_off_keeps_no_connection() {
        let (floods, stays) = (NodeId::fresh(), NodeId::fresh());
        let connections = [
            connection(floods.as_str(), 1, "10.0.0.1"),
            connection(stays.as_str(), 2, "10.0.0.2"),
            connection(floods.as_str(), 3, "10.0.0.1"),
            connection("infera", 4, "10.0.0.9"),
        ];
        let closings = of_cut_off(&connections, |user| user != stays.as_str());
        let found: Vec<_> = closings.iter().map(|(one, why)| (one.since.as_secs(), *why)).collect();
        assert_eq!(found, [(1, Closing::CutOff), (3, Closing::CutOff)], "and the operator's stays");
    }

    #[test]
    fn a_node_is_where_it_was_first() {
        let node = NodeId::fresh();
        let connections = [
            connection(node.as_str(), 2, "10.0.0.2"),
            connection(node.as_str(), 1, "10.0.0.1"),
            connection(node.as_str(), 3, "no address"),
            connection("infera", 1, "10.0.0.9"),
        ];
        let found = addresses(&connections);
        assert_eq!(found, HashMap::from([(node, IpAddr::from([10, 0, 0, 1]))]));
    }

    #[test]
    fn nodes_are_told_from_the_operators_users() {
        assert!(is_node(NodeId::fresh().as_str()));
        for user in ["", "n", "n1", "infera", "guest", &format!("n{}", "g".repeat(32)), &"a".repeat(33)] {
            assert!(!is_node(user), "{user}");
        }
    }
}
