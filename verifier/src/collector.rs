//! What nodes say, brought to the job that asked. One loop reads this verifier's queue, one the queue of strays that
//! all verifiers share. It judges nothing: it checks who speaks (the delivered key's first word must be the node that
//! the assignment went to) and passes on.

use std::collections::HashMap;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};

use infera_broker::{Delivery, topology};
use infera_types::ids::{AssignmentId, NodeId};
use infera_types::messages::{CapacitySummary, DecodeError, Heartbeat, Refusal, Replica, Wire};
use infera_types::time::Timestamp;
use tokio::sync::mpsc;
use tokio::time::Instant;

use crate::counters::Counted;
use crate::tenure::Tenure;
use crate::{parking, queues, scorer};

/// Unsettled deliveries at once: each is settled as soon as it is routed, so this only fills the pipe.
const PREFETCH: u16 = 256;

/// What came for an assignment.
#[derive(Debug)]
pub(crate) enum Arrival {
    /// An answer.
    Replica(Box<Replica>),
    /// None will come.
    Refusal(Refusal),
}

/// One message for a job.
#[derive(Debug)]
pub(crate) struct Arrived {
    /// For which assignment.
    pub(crate) assignment: AssignmentId,
    /// When it was read.
    pub(crate) at: Timestamp,
    /// How many bytes its message had.
    pub(crate) bytes: usize,
    /// What it is.
    pub(crate) what: Arrival,
    /// The span that its node sent it in, as the node says.
    pub(crate) trace: Option<String>,
}

/// Where an open assignment's messages go, and from whom they must come.
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
    /// The job has it.
    Delivered,
    /// No such assignment is open here.
    Unknown,
    /// Someone else's assignment: dropped, whoever sent it.
    Impostor,
}

impl Routes {
    /// Messages for `assignment` from `node` go to `to` from now on, until the returned route is dropped.
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

    /// Brings one message to its job.
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

/// Reads what nodes send to this verifier, until the tenure ends.
pub(crate) async fn run(tenure: Arc<Tenure>) {
    let tenure = &tenure;
    let queue = topology::replicas(&tenure.id);
    loop {
        let mut consumer = queues::consume(tenure, &queue, PREFETCH).await;
        tenure.listening.notify_one();
        tenure.vitals.listening.store(true, Ordering::Relaxed);
        while let Some(delivery) = consumer.next().await {
            receive(tenure, delivery).await;
        }
        tenure.vitals.listening.store(false, Ordering::Relaxed);
        tokio::time::sleep(queues::RETRY).await;
    }
}

/// Reads replicas whose verifier is gone, until the tenure ends. They are acked when they are scored.
pub(crate) async fn run_strays(tenure: Arc<Tenure>) {
    let tenure = &tenure;
    let queue = topology::replicas_any();
    loop {
        let mut consumer = queues::consume(tenure, &queue, PREFETCH).await;
        while let Some(delivery) = consumer.next().await {
            receive_stray(tenure, delivery).await;
        }
        tokio::time::sleep(queues::RETRY).await;
    }
}

/// Routes one message of this verifier's own queue, and settles it. One is read at a time, of 1 MiB at most, which is
/// bound enough: were it to wait until others' work is done, this verifier would be deaf meanwhile.
async fn receive(tenure: &Arc<Tenure>, delivery: Delivery) {
    // Whatever it is, and whoever sent it: it came the way that replicas come, and all that was said before it came too.
    tenure.hearing.heard(Timestamp::now());
    let is_summary = delivery.message.kind == CapacitySummary::KIND;
    if is_summary && delivery.routing_key != topology::CAPACITY_KEY {
        // A node that invents verifiers would take work from the real ones.
        impostor(tenure, delivery.sender(), "a node speaks as a verifier");
        delivery.ack().await;
        return;
    }
    let sender = delivery.sender();
    let read = match delivery.message.kind.as_str() {
        Heartbeat::KIND => Heartbeat::from_message(&delivery.message).map(|heartbeat| {
            let known = tenure.nodes.hear(sender, heartbeat, Instant::now());
            tenure.counters.count_unless(known, Counted::HeartbeatRefused);
        }),
        CapacitySummary::KIND => CapacitySummary::from_message(&delivery.message).map(|summary| {
            tenure.peers.hear(summary.verifier, Instant::now());
        }),
        Refusal::KIND => Refusal::from_message(&delivery.message).map(|refusal| {
            route(tenure, sender, arrived(&delivery, refusal.assignment_id, Arrival::Refusal(refusal)));
        }),
        _ => Replica::from_message(&delivery.message).map(|replica| {
            let assignment = replica.assignment_id;
            route(tenure, sender, arrived(&delivery, assignment, Arrival::Replica(Box::new(replica))));
        }),
    };
    dispose(tenure, delivery, read.err()).await;
}

fn arrived(delivery: &Delivery, assignment: AssignmentId, what: Arrival) -> Arrived {
    let (bytes, trace) = (delivery.message.body.len(), delivery.message.trace.clone());
    Arrived { assignment, at: Timestamp::now(), bytes, what, trace }
}

/// Brings what came for an assignment to its job, if it is one of ours and `sender` was asked.
pub(crate) fn route(tenure: &Tenure, sender: &str, arrived: Arrived) {
    match tenure.routes.deliver(sender, arrived) {
        Routed::Delivered => {}
        Routed::Unknown => tenure.counters.count(Counted::ReplicaUnknown),
        Routed::Impostor => impostor(tenure, sender, "a node answers for another's assignment"),
    }
}

fn impostor(tenure: &Tenure, sender: &str, what: &str) {
    tenure.counters.count(Counted::ReplicaImpostor);
    if let Some(times) = tenure.complaints.impostor.again(Instant::now()) {
        tracing::warn!(sender, times, "{what}");
    }
}

/// A replica whose verifier is gone: ours after all, or one of a stored group's. While the ledger is away it is held, and
/// those behind it wait in the queue: given back again and again, it would be one that came back too often, which the
/// broker drops, and its node would go unpaid. When the tenure ends before the ledger is back, it is given back by that.
async fn receive_stray(tenure: &Arc<Tenure>, delivery: Delivery) {
    let replica = match Replica::from_message(&delivery.message) {
        Ok(replica) => replica,
        Err(error) => return dispose(tenure, delivery, Some(error)).await,
    };
    tenure.counters.count(Counted::ReplicaStray);
    let sender = NodeId::new(delivery.sender());
    while let Err(error) = scorer::score_stray(tenure, &sender, (&replica, delivery.message.body.len())).await
    {
        let job = replica.job_id;
        if !error.may_pass() {
            tenure.counters.count(Counted::MessageMalformed);
            tracing::error!(%job, %sender, %error, "a stray replica can't be scored and is dropped");
            break;
        }
        if let Some(times) = tenure.complaints.waiting.again(Instant::now()) {
            tracing::warn!(%job, times, %error, "a stray replica can't be scored now; trying again");
        }
        tokio::time::sleep(queues::RETRY).await;
    }
    delivery.ack().await;
}

/// Acks what was used; parks what a newer program may know; drops and counts what is malformed.
async fn dispose(tenure: &Tenure, delivery: Delivery, error: Option<DecodeError>) {
    match error {
        Some(error) if error.is_parked() => return parking::park(tenure, delivery, &error).await,
        Some(error) => {
            tenure.counters.count(Counted::MessageMalformed);
            if let Some(times) = tenure.complaints.malformed.again(Instant::now()) {
                tracing::warn!(sender = delivery.sender(), times, %error, "malformed messages are dropped");
            }
        }
        None => {}
    }
    delivery.ack().await;
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
