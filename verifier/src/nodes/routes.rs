//! Finds the job that a node's message belongs to: each open assignment has a route to its job's channel, for the node that it
//! went to and for no other.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use infera_types::ids::{AssignmentId, NodeId};
use infera_types::messages::{Refusal, Replica};
use infera_types::time::Timestamp;
use tokio::sync::mpsc;

/// What came for an assignment.
#[derive(Debug)]
pub(crate) enum Arrival {
    /// An answer.
    Replica(Box<Replica>),
    /// The node's word that no answer will come.
    Refusal(Refusal),
}

/// One message for a job, from one of its nodes.
#[derive(Debug)]
pub(crate) struct Arrived {
    /// The assignment that it is for.
    pub(crate) assignment: AssignmentId,
    /// When it was read from the queue.
    pub(crate) at: Timestamp,
    /// The size of its message in bytes.
    pub(crate) bytes: usize,
    /// What it says.
    pub(crate) what: Arrival,
    /// The span that its node sent it in, as the node claims.
    pub(crate) trace: Option<String>,
}

/// Where an open assignment's messages go, and which node they must come from.
#[derive(Debug)]
struct Route {
    node: NodeId,
    to: mpsc::Sender<Arrived>,
}

/// All open assignments of this verifier. A route is used once: the first message that fits takes it away, so a
/// job's channel never holds more than it has assignments.
#[derive(Debug, Default)]
pub(crate) struct Routes {
    open: Mutex<HashMap<AssignmentId, Route>>,
}

/// What became of a message for an assignment.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Routed {
    /// The job's channel has it.
    Delivered,
    /// No such assignment is open here.
    Unknown,
    /// The assignment went to another node than the sender: the message is dropped.
    Impostor,
}

impl Routes {
    /// Sends messages for `assignment` from `node` to `to` from now on, until the returned route is dropped.
    pub(crate) fn open(
        self: &Arc<Self>,
        assignment: AssignmentId,
        node: &NodeId,
        to: mpsc::Sender<Arrived>,
    ) -> OpenRoute {
        let route = Route { node: node.clone(), to };
        self.open.lock().unwrap_or_else(PoisonError::into_inner).insert(assignment, route);
        OpenRoute { routes: Arc::clone(self), assignment }
    }

    /// Brings one message to its job, if `sender` is the node that was asked.
    pub(crate) fn deliver(&self, sender: &str, arrived: Arrived) -> Routed {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        match open.get(&arrived.assignment) {
            None => return Routed::Unknown,
            Some(route) if route.node.as_str() != sender => return Routed::Impostor,
            Some(_) => {}
        }
        let Some(route) = open.remove(&arrived.assignment) else { return Routed::Unknown };
        // Full can't be (see `Routes`); closed means that the job's task is just ending.
        if route.to.try_send(arrived).is_ok() { Routed::Delivered } else { Routed::Unknown }
    }
}

/// Keeps an assignment reachable; dropping it makes later messages for it unknown.
#[derive(Debug)]
pub(crate) struct OpenRoute {
    routes: Arc<Routes>,
    assignment: AssignmentId,
}

impl Drop for OpenRoute {
    fn drop(&mut self) {
        self.routes.open.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.assignment);
    }
}

#[cfg(test)]
mod tests {
    use infera_types::ids::JobId;
    use infera_types::messages::RefusalReason;

    use super::*;

    fn refusal(assignment: AssignmentId) -> Arrived {
        let refusal = Refusal {
            assignment_id: assignment,
            job_id: JobId::new(),
            reason: RefusalReason::Busy,
            detail: String::new(),
        };
        let (at, what) = (Timestamp::from_millis(1), Arrival::Refusal(refusal));
        Arrived { assignment, at, bytes: 99, what, trace: None }
    }

    #[test]
    fn only_the_asked_node_is_heard_and_only_once() {
        let routes = Arc::new(Routes::default());
        let (sender, mut receiver) = mpsc::channel(4);
        let (assignment, node) = (AssignmentId::new(), NodeId::fresh());
        let _open = routes.open(assignment, &node, sender);
        assert_eq!(routes.deliver("nother", refusal(assignment)), Routed::Impostor);
        assert_eq!(routes.deliver(node.as_str(), refusal(AssignmentId::new())), Routed::Unknown);
        assert_eq!(routes.deliver(node.as_str(), refusal(assignment)), Routed::Delivered);
        assert_eq!(routes.deliver(node.as_str(), refusal(assignment)), Routed::Unknown);
        assert!(receiver.try_recv().is_ok());
        assert!(receiver.try_recv().is_err());
    }

    #[test]
    fn a_dropped_route_is_closed() {
        let routes = Arc::new(Routes::default());
        let (sender, _receiver) = mpsc::channel(4);
        let (assignment, node) = (AssignmentId::new(), NodeId::fresh());
        drop(routes.open(assignment, &node, sender));
        assert_eq!(routes.deliver(node.as_str(), refusal(assignment)), Routed::Unknown);
    }
}
