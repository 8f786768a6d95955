//! What nodes say, brought to the job that asked. One loop reads this verifier's queue, one the queue of strays that
//! all verifiers share. It judges nothing: it checks who speaks (the delivered key's first word must be the node that
//! the assignment went to) and passes on.

use std::collections::HashMap;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use infera_core::broker::{Address, Delivery, topology};
use infera_core::ids::{AssignmentId, NodeId};
use infera_core::messages::{CapacitySummary, DecodeError, Heartbeat, Refusal, Replica, Wire};
use infera_core::time::Timestamp;
use tokio::sync::mpsc;
use tokio::time::Instant;

use crate::counters::Counted;
use crate::scorer;
use crate::tenure::Tenure;

/// Unsettled deliveries at once: each is settled as soon as it is routed, so this only fills the pipe.
const PREFETCH: u16 = 256;

/// Before consuming again what went away.
const RETRY: Duration = Duration::from_millis(250);

/// What came for an assignment.
#[derive(Debug)]
pub(crate) enum Arrival {
    /// An answer, and how many bytes its message had.
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
        let consumer = match tenure.seams.broker.declare(&queue).await {
            Ok(()) => tenure.seams.broker.consume(&queue.name, PREFETCH).await,
            Err(error) => Err(error),
        };
        match consumer {
            Ok(mut consumer) => {
                tenure.listening.notify_one();
                tenure.vitals.listening.store(true, Ordering::Relaxed);
                while let Some(delivery) = consumer.next().await {
                    receive(tenure, delivery).await;
                }
                tenure.vitals.listening.store(false, Ordering::Relaxed);
            }
            Err(error) => tracing::warn!(queue = queue.name, %error, "can't consume; trying again"),
        }
        tokio::time::sleep(RETRY).await;
    }
}

/// Reads replicas whose verifier is gone, until the tenure ends. They are acked when they are scored. Makes sure too that
/// there is a queue for what nodes don't know: they declare none.
pub(crate) async fn run_strays(tenure: Arc<Tenure>) {
    let tenure = &tenure;
    while let Err(error) = tenure.seams.broker.declare(&topology::parked()).await {
        tracing::warn!(%error, "the queue for unknown messages can't be declared; trying again");
        tokio::time::sleep(RETRY).await;
    }
    let queue = topology::replicas_any();
    loop {
        let consumer = match tenure.seams.broker.declare(&queue).await {
            Ok(()) => tenure.seams.broker.consume(&queue.name, PREFETCH).await,
            Err(error) => Err(error),
        };
        match consumer {
            Ok(mut consumer) => {
                while let Some(delivery) = consumer.next().await {
                    receive_stray(tenure, delivery).await;
                }
            }
            Err(error) => tracing::warn!(queue = queue.name, %error, "can't consume; trying again"),
        }
        tokio::time::sleep(RETRY).await;
    }
}

/// Routes one message of this verifier's own queue, and settles it.
async fn receive(tenure: &Arc<Tenure>, delivery: Delivery) {
    tenure.hearing.heard(Timestamp::now());
    let is_summary = delivery.message.kind == CapacitySummary::KIND;
    if is_summary && delivery.routing_key != topology::CAPACITY_KEY {
        // A node that invents verifiers would take work from the real ones.
        tenure.counters.count(Counted::ReplicaImpostor);
        tracing::warn!(sender = delivery.sender(), "a node speaks as a verifier");
        delivery.ack().await;
        return;
    }
    let read = match delivery.message.kind.as_str() {
        Heartbeat::KIND => Heartbeat::from_message(&delivery.message).map(|heartbeat| {
            let known = tenure.nodes.hear(delivery.sender(), heartbeat, Instant::now());
            tenure.counters.count_unless(known, Counted::HeartbeatRefused);
        }),
        CapacitySummary::KIND => CapacitySummary::from_message(&delivery.message).map(|summary| {
            tenure.peers.hear(summary.verifier, Instant::now());
        }),
        Refusal::KIND => Refusal::from_message(&delivery.message).map(|refusal| {
            let assignment = refusal.assignment_id;
            route(tenure, &delivery, assignment, Arrival::Refusal(refusal));
        }),
        _ => Replica::from_message(&delivery.message).map(|replica| {
            let assignment = replica.assignment_id;
            route(tenure, &delivery, assignment, Arrival::Replica(Box::new(replica)));
        }),
    };
    dispose(tenure, delivery, read.err()).await;
}

fn route(tenure: &Tenure, delivery: &Delivery, assignment: AssignmentId, what: Arrival) {
    let (sender, trace) = (delivery.sender(), delivery.message.trace.clone());
    let arrived = Arrived { assignment, at: Timestamp::now(), what, trace };
    match tenure.routes.deliver(sender, arrived) {
        Routed::Delivered => {}
        Routed::Unknown => tenure.counters.count(Counted::ReplicaUnknown),
        Routed::Impostor => {
            tenure.counters.count(Counted::ReplicaImpostor);
            tracing::warn!(sender, %assignment, "a node answers for another's assignment");
        }
    }
}

/// A replica whose verifier is gone: ours after all, or one of a stored group's.
async fn receive_stray(tenure: &Arc<Tenure>, delivery: Delivery) {
    let replica = match Replica::from_message(&delivery.message) {
        Ok(replica) => replica,
        Err(error) => return dispose(tenure, delivery, Some(error)).await,
    };
    let sender = NodeId::new(delivery.sender());
    match scorer::score_stray(tenure, &sender, replica).await {
        Ok(()) => dispose(tenure, delivery, None).await,
        Err(error) => {
            // The ledger is away. Given back after a moment, so that another verifier may have better luck.
            tracing::warn!(%error, "a stray replica can't be scored now");
            tokio::time::sleep(RETRY).await;
            delivery.nack().await;
        }
    }
}

/// Acks what was used; parks what a newer program may know; drops and counts what is malformed.
async fn dispose(tenure: &Tenure, delivery: Delivery, error: Option<DecodeError>) {
    match error {
        Some(error) if error.is_parked() => park(tenure, delivery, &error).await,
        Some(error) => {
            tenure.counters.count(Counted::MessageMalformed);
            tracing::warn!(sender = delivery.sender(), %error, "malformed message dropped");
            delivery.ack().await;
        }
        None => {
            delivery.ack().await;
        }
    }
}

/// Moves a message that this version doesn't know to where an operator finds it.
pub(crate) async fn park(tenure: &Tenure, delivery: Delivery, error: &DecodeError) {
    tenure.counters.count(Counted::MessageParked);
    tracing::warn!(sender = delivery.sender(), %error, "unknown message parked");
    let parked = topology::parked();
    if let Err(error) = tenure.seams.broker.declare(&parked).await {
        tracing::warn!(%error, "the queue for unknown messages can't be declared");
    }
    let message = infera_core::broker::Message { ttl_ms: None, ..delivery.message.clone() };
    let published = tenure.seams.broker.publish(&Address::Queue(parked.name), message).await;
    if published != infera_core::broker::Published::Confirmed {
        tracing::warn!(?published, kind = delivery.message.kind, "an unknown message could not be parked");
    }
    delivery.ack().await;
}

#[cfg(test)]
mod tests {
    use infera_core::ids::JobId;
    use infera_core::messages::RefusalReason;

    use super::*;

    fn refusal(assignment: AssignmentId) -> Arrived {
        let refusal = Refusal {
            assignment_id: assignment,
            job_id: JobId::new(),
            reason: RefusalReason::Busy,
            detail: String::new(),
        };
        Arrived { assignment, at: Timestamp::from_millis(1), what: Arrival::Refusal(refusal), trace: None }
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
