//! Holds a job's notice and its place among those of its consumer that run.

use std::sync::Arc;

use infera_broker::Delivery;
use infera_types::messages::Version;
use infera_types::service::Lane;

use crate::tenure::{Counted, HeldNotice, Trial};

/// What a job's task holds: its notice, its trial, and a place among the running once its nodes are at work.
pub(crate) struct Held {
    delivery: Option<Delivery>,
    /// The newest version that the gateway reads which waits for the job's end.
    pub(crate) speaks: Version,
    /// The lane that the notice came from.
    pub(crate) lane: Lane,
    counted: Option<Counted>,
    /// The job's trial, until it is over.
    pub(crate) trial: Arc<Trial>,
}

impl Held {
    /// Holds a notice whose job doesn't run yet.
    pub(crate) fn new(notice: HeldNotice, trial: Arc<Trial>) -> Self {
        let HeldNotice { delivery, counted, speaks } = notice;
        Self { delivery: Some(delivery), speaks, lane: counted.lane(), counted: Some(counted), trial }
    }

    /// Returns the span that the notice was sent in, as its sender says.
    pub(crate) fn trace(&self) -> Option<&str> {
        self.delivery.as_ref()?.message.trace.as_deref()
    }

    /// Notes that the job's nodes are at work: it no longer counts against the share of those that wait for room.
    pub(crate) fn dispatched(&mut self) {
        if let Some(counted) = &mut self.counted {
            counted.run();
        }
    }

    /// Acks the notice.
    pub(crate) async fn ack(&mut self) {
        self.counted = None;
        if let Some(delivery) = self.delivery.take() {
            delivery.ack().await;
        }
    }

    /// Gives the notice back at once, as if this verifier had died with it.
    pub(crate) async fn nack(&mut self) {
        self.counted = None;
        if let Some(delivery) = self.delivery.take() {
            delivery.nack().await;
        }
    }
}
