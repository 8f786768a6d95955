//! Keeps the door between strangers' nodes and the broker: closes the connections of nodes that are revoked or whose
//! token ran out, and of those that hold too many. RabbitMQ lets all of them go on: it looks at a token when somebody
//! logs in or publishes, and a consumer does neither. One verifier closes, under a shared lease; every verifier learns
//! here from which address each node comes.

use std::collections::{HashMap, HashSet};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use infera_broker::connections::{Connection, Connections, ConnectionsError};
use infera_ledger::{LedgerError, NodeBook};
use infera_types::ids::NodeId;
use infera_types::time::Timestamp;

use crate::counters::Counted;
use crate::tenure::Tenure;

/// The shared lease's name, and how long it lasts: two rounds, so that one late round changes nothing.
const LEASE: (&str, Duration) = ("warden", Duration::from_secs(30));

/// Between two looks. A node that is out must be off within a minute: a token's slack, a round, the broker's own delay
/// of five seconds, and closing take three quarters of that.
const ROUND: Duration = Duration::from_secs(15);

/// Clocks of gateways and verifiers differ by less.
const SLACK: Duration = Duration::from_secs(10);

/// Bounds the connections of one node. A worker has two, one to publish and one for the rest, and twice as many for the
/// moment in which it opens both again while the broker still waits for the old ones.
const PER_NODE_MAX: usize = 4;

/// Bounds the connections that are closed in one round; a flood is worn off in several.
const CLOSED_MAX: usize = 2_000;

/// How many connections are closed at once: closing waits for the connection's end, for milliseconds.
const AT_ONCE: usize = 8;

/// What a warden needs beside the ledger's other halves.
#[derive(Clone, Debug)]
pub struct Gate {
    /// Lists the open connections and closes them.
    pub connections: Arc<dyn Connections>,
    /// Tells which nodes are admitted.
    pub book: Arc<dyn NodeBook>,
}

/// Why a connection is closed; its owner is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Closing {
    NotAdmitted,
    TooMany,
}

impl Closing {
    const fn reason(self) -> &'static str {
        match self {
            Self::NotAdmitted => "this node's token has run out, or it was revoked",
            Self::TooMany => "this node has too many connections",
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

/// Looks until the tenure ends.
pub(crate) async fn run(tenure: Arc<Tenure>, gate: Arc<Gate>) {
    let mut rounds = tokio::time::interval(ROUND);
    rounds.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        rounds.tick().await;
        if let Err(error) = round(&tenure, &gate).await {
            tracing::warn!(%error, "nobody looks after nodes' connections now");
        }
    }
}

async fn round(tenure: &Tenure, gate: &Gate) -> Result<(), RoundError> {
    // In this order: whoever is in the list was let in before the book is read.
    let connections = gate.connections.list().await?;
    tenure.nodes.set_addresses(addresses(&connections));
    let now = Timestamp::now();
    if !tenure.seams.sweeping.lease(LEASE.0, &tenure.id, now, LEASE.1).await? {
        return Ok(());
    }
    let asked_ms = u64::try_from(SLACK.as_millis()).unwrap_or(0);
    let admitted =
        gate.book.admitted(Timestamp::from_millis(now.as_millis().saturating_sub(asked_ms))).await?;
    let closings = closings(&connections, &admitted.into_iter().collect());
    remove_queues(tenure, &closings).await;
    for together in closings.chunks(AT_ONCE).take(CLOSED_MAX / AT_ONCE) {
        let closed = together.iter().map(|(connection, why)| close(gate, connection, *why));
        for outcome in futures::future::join_all(closed).await {
            outcome?;
            tenure.counters.count(Counted::ConnectionClosed);
        }
    }
    Ok(())
}

async fn close(gate: &Gate, connection: &Connection, why: Closing) -> Result<(), ConnectionsError> {
    let Connection { name, user, peer, .. } = connection;
    tracing::warn!(node = user, ?peer, reason = why.reason(), "closing a connection");
    gate.connections.close(name, why.reason()).await
}

/// Takes the queues of revoked nodes away, as far as they were heard of; those of nodes that may come back stay.
async fn remove_queues(tenure: &Tenure, closings: &[(Connection, Closing)]) {
    let page = tenure.book.page();
    let revoked: HashSet<NodeId> = closings
        .iter()
        .filter(|(_, why)| *why == Closing::NotAdmitted)
        .map(|(connection, _)| NodeId::new(connection.user.as_str()))
        .filter(|node| !page.nodes.contains_key(node))
        .collect();
    for queue in revoked.iter().filter_map(|node| tenure.nodes.queue(node)) {
        if let Err(error) = tenure.seams.broker.delete(&queue).await {
            tracing::warn!(queue, %error, "the queue of a revoked node stays until it is idle for long enough");
        }
    }
}

/// Whether a user of the broker is a node: the operator's are called otherwise.
fn is_node(user: &str) -> bool {
    let word = user.strip_prefix('n').unwrap_or_default();
    word.len() == 32 && word.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte))
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

/// Where each node comes from: of several addresses that of its oldest connection, so that a second one elsewhere
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
