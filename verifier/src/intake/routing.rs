//! Routes and settles messages from nodes. Nothing is judged here: it is checked that the sender (the first word of the
//! delivered key) is the node that the assignment went to.

use infera_broker::Delivery;
use infera_types::messages::DecodeError;
use tokio::time::Instant;

use crate::nodes::{Arrived, Routed};
use crate::tenure::Tenure;

/// Bounds the unsettled deliveries of a queue that nodes write to. Each is settled as soon as it is routed, so this only keeps
/// the connection filled.
pub(super) const PREFETCH: u16 = 256;

/// Brings what came for an assignment to its job, if the assignment is open here and `sender` was asked.
pub(super) fn route(tenure: &Tenure, sender: &str, arrived: Arrived) {
    match tenure.routes.deliver(sender, arrived) {
        Routed::Delivered => {}
        Routed::Unknown => tenure.counters.replicas_unknown.add_one(),
        Routed::Impostor => impostor(tenure, sender, "a node answers for another's assignment"),
    }
}

/// Counts and reports a message in another's name.
pub(super) fn impostor(tenure: &Tenure, sender: &str, what: &str) {
    tenure.counters.replicas_impostor.add_one();
    if let Some(times) = tenure.throttles.impostor.count(Instant::now()) {
        tracing::warn!(sender, times, "{what}");
    }
}

/// Acks what was used; parks what a newer program may know; drops and counts what is malformed.
pub(super) async fn dispose(tenure: &Tenure, delivery: Delivery, error: Option<DecodeError>) {
    match error {
        Some(error) if error.is_parked() => return tenure.parking.park(delivery, &error).await,
        Some(error) => {
            tenure.counters.messages_malformed.add_one();
            if let Some(times) = tenure.throttles.malformed.count(Instant::now()) {
                tracing::warn!(sender = delivery.sender(), times, %error, "malformed messages are dropped");
            }
        }
        None => {}
    }
    delivery.ack().await;
}
