//! Reads what nodes say to this verifier: heartbeats, replicas, refusals; and what verifiers say to all.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use infera_broker::consuming::{self, until_consuming};
use infera_broker::{Delivery, topology};
use infera_types::ids::AssignmentId;
use infera_types::messages::{CapacitySummary, Heartbeat, Refusal, Replica, Wire};
use infera_types::time::Timestamp;
use tokio::time::Instant;

use super::routing::{PREFETCH, dispose, impostor, route};
use crate::nodes::{Arrival, Arrived};
use crate::tenure::Tenure;

/// Reads what nodes send to this verifier, until the tenure ends.
pub(crate) async fn run(tenure: Arc<Tenure>) {
    let tenure = &tenure;
    let queue = topology::replicas(&tenure.id);
    loop {
        let mut consumer = until_consuming(&*tenure.seams.broker, &queue, PREFETCH).await;
        tenure.listening.notify_one();
        tenure.vitals.listening.store(true, Ordering::Relaxed);
        while let Some(delivery) = consumer.next().await {
            receive(tenure, delivery).await;
        }
        tenure.vitals.listening.store(false, Ordering::Relaxed);
        tokio::time::sleep(consuming::RETRY).await;
    }
}

/// Routes one message of this verifier's own queue, and settles it. One is read at a time, of 1 MiB at most, which bounds the
/// bytes well enough: a reader that waited for other work to end would be deaf meanwhile.
async fn receive(tenure: &Arc<Tenure>, delivery: Delivery) {
    // Whatever it is and wherever it is from: it came the way that replicas come, and all that was sent before it came too.
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
            if !tenure.nodes.hear(sender, heartbeat, Instant::now()) {
                tenure.counters.heartbeats_refused.add_one();
            }
        }),
        CapacitySummary::KIND => CapacitySummary::from_message(&delivery.message).map(|summary| {
            tenure.peers.hear(summary.verifier, summary.speaks, Instant::now());
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
