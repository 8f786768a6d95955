//! Sends an assignment to its node: one message on the node's own queue, with a time to live. What the outcome means for
//! the job is decided elsewhere.

use std::sync::Arc;

use infera_broker::{Address, Broker, Published};
use infera_telemetry::trace;
use infera_types::messages::{Assignment, Wire};

use crate::nodes::NodeView;

/// How sending ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sent {
    /// The node's queue has it.
    Confirmed,
    /// The node may have it: if nothing comes back, that isn't the node's fault.
    Uncertain,
    /// The queue is gone or full: no node has it.
    Undeliverable,
}

/// Sends `assignment` to `node` in the version that it reads, at most `tries` times under one message id while the outcome is
/// unknown.
pub(super) async fn send(
    broker: &Arc<dyn Broker>,
    node: &NodeView,
    assignment: &Assignment,
    tries: u32,
) -> Sent {
    let mut message = assignment.to_message_in(node.speaks, assignment.id.to_string());
    // On the broker's clock from now; the node's own clock counts the same budget from receipt.
    message.ttl_ms = Some(assignment.budget_ms);
    message.trace = trace::current();
    let address = Address::Queue(node.queue.clone());
    for _ in 0..tries {
        match broker.publish(&address, message.clone()).await {
            Published::Confirmed => return Sent::Confirmed,
            Published::Full | Published::Unroutable => return Sent::Undeliverable,
            Published::Refused | Published::Unknown => {}
        }
    }
    Sent::Uncertain
}
