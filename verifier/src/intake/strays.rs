//! Reads replicas whose verifier is gone, from the queue that all verifiers share. They are acked when they are scored.

use std::sync::Arc;

use infera_broker::consuming::{self, until_consuming};
use infera_broker::{Delivery, topology};
use infera_types::ids::NodeId;
use infera_types::messages::{Replica, Wire};
use infera_types::time::Timestamp;
use tokio::time::Instant;

use super::routing::{PREFETCH, dispose, route};
use crate::job::strays::{Stray, score_stray};
use crate::nodes::{Arrival, Arrived};
use crate::tenure::{LEDGER_RETRY, Tenure};

/// Reads strays until the tenure ends.
pub(crate) async fn run(tenure: Arc<Tenure>) {
    let tenure = &tenure;
    let queue = topology::replicas_any();
    loop {
        let mut consumer = until_consuming(&*tenure.seams.broker, &queue, PREFETCH).await;
        while let Some(delivery) = consumer.next().await {
            receive(tenure, delivery).await;
        }
        tokio::time::sleep(consuming::RETRY).await;
    }
}

/// Scores one stray, or brings it to its job if that is this verifier's after all. While the ledger is away the stray is held,
/// and those behind it wait in the queue: given back again and again, it would be one that came back too often, which the
/// broker drops, and its node would go unpaid. A tenure that ends before the ledger is back gives it back by that.
async fn receive(tenure: &Tenure, delivery: Delivery) {
    let replica = match Replica::from_message(&delivery.message) {
        Ok(replica) => replica,
        Err(error) => return dispose(tenure, delivery, Some(error)).await,
    };
    tenure.counters.replicas_stray.add_one();
    let sender = NodeId::new(delivery.sender());
    let job = replica.job_id;
    let mut failures = 0_u32;
    loop {
        let at = Timestamp::now();
        let error = match score_stray(tenure, &sender, &replica, at).await {
            Ok(Stray::Scored) => break,
            Ok(Stray::Unwanted) => {
                tenure.counters.replicas_unknown.add_one();
                break;
            }
            Ok(Stray::Ours) => {
                let (assignment, bytes) = (replica.assignment_id, delivery.message.body.len());
                let what = Arrival::Replica(Box::new(replica));
                route(tenure, sender.as_str(), Arrived { assignment, at, bytes, what, trace: None });
                break;
            }
            Err(error) => error,
        };
        if !error.may_pass() {
            tenure.counters.messages_malformed.add_one();
            tracing::error!(%job, %sender, %error, "a stray replica can't be scored and is dropped");
            break;
        }
        if let Some(times) = tenure.throttles.waiting.count(Instant::now()) {
            tracing::warn!(%job, times, %error, "a stray replica can't be scored now; trying again");
        }
        failures = failures.saturating_add(1);
        tokio::time::sleep(LEDGER_RETRY.wait(failures)).await;
    }
    delivery.ack().await;
}
