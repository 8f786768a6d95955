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
use crate::decisions::frame_rate::{CUT_OFF, FrameRate, Pace};
use crate::decisions::slots::Taken;
use crate::streams::Framed;
use crate::tenure::Tenure;

/// The prefetch, which bounds nothing where nothing is acknowledged.
const PREFETCH: u16 = 256;

/// How many nodes' rates are remembered. When there are more, those of nodes that are within their rate are forgotten, which changes
/// nothing for them.
const RATES_MAX: usize = 10_000;

/// Reads nodes' frames until the tenure ends.
pub(crate) async fn run(tenure: Arc<Tenure>) {
    let queue = topology::tokens(&tenure.id);
    let mut rates: HashMap<String, FrameRate> = HashMap::new();
    let began = Instant::now();
    loop {
        let mut consumer = until_consuming(&*tenure.seams.broker, &queue, PREFETCH).await;
        while let Some(delivery) = consumer.next().await {
            let sender = delivery.sender();
            if tenure.nodes.is_cut_off(sender, Instant::now()) {
                tenure.counters.frames_too_fast.add_one();
                continue;
            }
            let now_ms = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
            if rates.len() >= RATES_MAX {
                rates.retain(|_, rate| rate.is_in_excess(now_ms));
            }
            let pace = rates.entry(sender.to_owned()).or_default().count(now_ms);
            match pace {
                Pace::Fine => take(&tenure, &delivery),
                Pace::TooFast { .. } | Pace::Flooding => too_fast(&tenure, sender, pace),
            }
        }
        tokio::time::sleep(consuming::RETRY).await;
    }
}

/// Drops a frame that came too fast, and cuts its node off if that goes on. The warden closes the node's connections, where the
/// broker has any.
fn too_fast(tenure: &Tenure, node: &str, pace: Pace) {
    tenure.counters.frames_too_fast.add_one();
    match pace {
        Pace::Flooding => {
            tenure.counters.nodes_cut_off.add_one();
            tenure.nodes.cut_off(node, Instant::now() + CUT_OFF);
            let minutes = CUT_OFF.as_secs() / 60;
            tracing::warn!(node, minutes, "a node went on framing faster than it may; it is cut off");
        }
        Pace::TooFast { is_first: true } => {
            tracing::warn!(node, "a node frames faster than it may; what is over is dropped");
        }
        Pace::TooFast { is_first: false } | Pace::Fine => {}
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
