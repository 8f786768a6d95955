//! Reads what is fleeting: frames of tokens from nodes, and what gateways have passed on. It is read apart from replicas, so
//! that no flood of frames delays an answer.

use std::collections::HashMap;
use std::sync::Arc;

use infera_broker::consuming::{self, until_consuming};
use infera_broker::{Delivery, topology};
use infera_types::frames::{TokensFrame, Watch};
use infera_types::messages::Wire as _;
use tokio::time::Instant;

use super::routing::impostor;
use crate::decisions::frame_rate::{FrameRate, Pace};
use crate::decisions::slots::Taken;
use crate::streams::Framed;
use crate::tenure::Tenure;

/// The prefetch, which bounds nothing where nothing is acknowledged.
const PREFETCH: u16 = 256;

/// How many nodes' rates are remembered; all are forgotten when there are more, since rates are of the last second.
const RATES_MAX: usize = 10_000;

/// Reads nodes' frames until the tenure ends.
pub(crate) async fn run(tenure: Arc<Tenure>) {
    let queue = topology::tokens(&tenure.id);
    let mut rates: HashMap<String, FrameRate> = HashMap::new();
    let began = Instant::now();
    loop {
        let mut consumer = until_consuming(&*tenure.seams.broker, &queue, PREFETCH).await;
        while let Some(delivery) = consumer.next().await {
            if rates.len() >= RATES_MAX {
                rates.clear();
            }
            let now_ms = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
            let rate = rates.entry(delivery.sender().to_owned()).or_default();
            match rate.count(now_ms) {
                Pace::Fine => take(&tenure, &delivery),
                Pace::TooFast { is_first } => {
                    tenure.counters.frames_too_fast.add_one();
                    if is_first {
                        tracing::warn!(
                            node = delivery.sender(),
                            "a node frames faster than it may; what is over is dropped"
                        );
                    }
                }
            }
        }
        tokio::time::sleep(consuming::RETRY).await;
    }
}

fn take(tenure: &Tenure, delivery: &Delivery) {
    let frame = match TokensFrame::from_message(&delivery.message) {
        Ok(frame) => frame,
        Err(error) => return unreadable(tenure, delivery, &error),
    };
    tenure.counters.frames.add_one();
    for told in &frame.answers {
        match tenure.streams.take(delivery.sender(), told) {
            Framed::Impostor => impostor(tenure, delivery.sender(), "a node frames another's assignment"),
            Framed::Taken(Taken::Fault) => {
                tenure.counters.frames_broken.add_one();
                let (assignment, node) = (told.assignment, delivery.sender());
                tracing::warn!(%assignment, node, "frames that contradict each other, or say more than was asked");
            }
            // Frames of an assignment that ended just now come late.
            Framed::Unknown | Framed::Taken(_) => {}
        }
    }
}

/// Reads what gateways have passed on, until the tenure ends.
pub(crate) async fn watch(tenure: Arc<Tenure>) {
    let queue = topology::watch(&tenure.id);
    loop {
        let mut consumer = until_consuming(&*tenure.seams.broker, &queue, PREFETCH).await;
        while let Some(delivery) = consumer.next().await {
            match Watch::from_message(&delivery.message) {
                Ok(watch) => hear(&tenure, &delivery, &watch),
                Err(error) => unreadable(&tenure, &delivery, &error),
            }
        }
        tokio::time::sleep(consuming::RETRY).await;
    }
}

/// Takes in what a gateway has passed on. Gateways of before named themselves in the message alone, and never stopped a job.
fn hear(tenure: &Tenure, delivery: &Delivery, watch: &Watch) {
    let is_of_before = delivery.routing_key == topology::WATCH_KEY;
    if !is_of_before && delivery.sender() != watch.gateway.as_str() {
        return impostor(tenure, delivery.sender(), "a gateway speaks as another");
    }
    let said = watch.jobs.iter().filter(|watched| !(is_of_before && watched.stop));
    said.for_each(|watched| tenure.streams.watch(&watch.gateway, watched));
}

/// Drops and counts what can't be read. Nothing fleeting is parked: it is worth nothing later.
fn unreadable(tenure: &Tenure, delivery: &Delivery, error: &infera_types::messages::DecodeError) {
    tenure.counters.messages_malformed.add_one();
    if let Some(times) = tenure.throttles.malformed.count(Instant::now()) {
        tracing::warn!(sender = delivery.sender(), times, %error, "malformed frames are dropped");
    }
}
