//! Consumes this gateway's own queue, on which the ends of jobs, summaries of capacity and other gateways' reports arrive. The queue is
//! declared and consumed again whenever it is lost.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use infera_broker::consuming::{self, declare_and_consume};
use infera_broker::parking::park;
use infera_broker::{Broker, Consumer, Delivery, Published, topology};
use infera_types::ids::GatewayId;
use infera_types::messages::{CapacitySummary, Completion, DecodeError, Wire};
use infera_types::shutdown::Shutdown;
use infera_types::spending::Spending;

use super::waiters::Waiters;
use crate::access::{Limits, Used};
use crate::network::Capacity;

/// The largest number of unacknowledged deliveries. Handling one is a look-up in a map.
const PREFETCH: u16 = 256;

/// Consumes `completions.{gateway}`.
#[derive(Debug)]
pub(crate) struct Completions {
    /// The id of the gateway to which the queue belongs.
    pub(crate) gateway: GatewayId,
    /// The broker that has the queue.
    pub(crate) broker: Arc<dyn Broker>,
    /// The clients that wait for the ends of jobs.
    pub(crate) waiters: Arc<Waiters>,
    /// The limits, whose reserved tokens the ends settle.
    pub(crate) limits: Arc<Limits>,
    /// The capacity, which the summaries update.
    pub(crate) capacity: Arc<Capacity>,
    /// Whether the queue is being consumed.
    pub(crate) ready: Arc<AtomicBool>,
}

impl Completions {
    /// Consumes until told to stop.
    pub(crate) async fn run(self, stop: Shutdown) {
        while !stop.is_cancelled() {
            let queue = topology::completions(&self.gateway);
            let begun = declare_and_consume(&*self.broker, &queue, PREFETCH).await;
            self.ready.store(begun.is_ok(), Ordering::Relaxed);
            match begun {
                Ok(consumer) => self.consume(consumer, &stop).await,
                Err(error) => tracing::warn!(%error, "the completions queue can't be consumed; trying again"),
            }
            self.ready.store(false, Ordering::Relaxed);
            tokio::select! {
                () = stop.cancelled() => {}
                () = tokio::time::sleep(consuming::RETRY) => {}
            }
        }
    }

    async fn consume(&self, mut consumer: Box<dyn Consumer>, stop: &Shutdown) {
        loop {
            let delivery = tokio::select! {
                () = stop.cancelled() => return,
                delivery = consumer.next() => delivery,
            };
            let Some(delivery) = delivery else { return };
            self.handle(delivery).await;
        }
    }

    async fn handle(&self, delivery: Delivery) {
        let kind = delivery.message.kind.as_str();
        let handled = if kind == Spending::KIND {
            Spending::from_message(&delivery.message).map(|report| {
                // A report comes back to its sender, too.
                if report.gateway != self.gateway {
                    self.limits.hear_of(&report);
                }
            })
        } else if kind == CapacitySummary::KIND {
            CapacitySummary::from_message(&delivery.message)
                .map(|summary| self.capacity.update(summary, Instant::now()))
        } else {
            Completion::from_message(&delivery.message).map(|end| {
                self.limits.settle(end.settlement.job_id, Used::of(&end.settlement));
                self.waiters.complete(end.settlement);
            })
        };
        if let Err(error) = handled {
            self.refuse(&delivery, &error).await;
        }
        delivery.ack().await;
    }

    async fn refuse(&self, delivery: &Delivery, error: &DecodeError) {
        tracing::warn!(%error, key = delivery.routing_key, parked = error.is_parked(), "message not understood");
        if error.is_parked() {
            let parked = park(&*self.broker, &delivery.message).await;
            if parked != Published::Confirmed {
                let (id, outcome) = (&delivery.message.id, parked.word());
                tracing::error!(
                    id,
                    outcome,
                    "a message that is not understood could not be parked and is lost"
                );
            }
        }
    }
}
