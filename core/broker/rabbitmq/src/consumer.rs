//! One consumer: a channel on the consuming connection, and the task that owns it. Deliveries go to an inbox, from
//! which `next` takes them, so cancelling the wait loses nothing.

use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use async_trait::async_trait;
use futures::Stream as _;
use lapin::Channel;
use lapin::message::Delivery as Delivered;
use lapin::options::{
    BasicCancelOptions, BasicConsumeOptions, BasicNackOptions, BasicQosOptions, BasicRejectOptions,
    QueueDeclareOptions, QueueDeleteOptions,
};
use lapin::types::{FieldTable, ShortString};
use tokio::sync::oneshot;
use tokio::task::consume_budget;
use tokio::time::timeout;

use super::claims::{Claim, Leave, Leaving};
use super::credit::Step;
use super::inbox::{Arrival, Inbox, Taken, put_back};
use super::line::{Line, answer, answer_of_queue};
use super::terms::{Dubious, Refusal, message};
use infera_broker::{Consumer, Delivery};

/// How often a consumer without deliveries checks that its channel still exists.
pub(super) const LOOK: Duration = Duration::from_secs(1);

/// How long to wait for a change of prefetch to take effect. It may take effect later; until then no delivery that it
/// forbids is handed out.
const EFFECT: Duration = Duration::from_secs(2);

/// How long a leaving consumer may take to return what it holds, before it just closes its channel.
pub(super) const FAREWELL: Duration = Duration::from_secs(5);

/// Counts deliveries that were dropped because their sender is in doubt, by reason.
const DROPPED: &str = "infera_broker_dropped_deliveries_total";

/// Counts a delivery that was dropped. Only a hostile sender causes this, so it must not fill our logs.
pub(super) fn count_dropped(queue: &ShortString, key: &ShortString, why: Dubious) {
    let why: &'static str = why.into();
    metrics::counter!(DROPPED, "why" => why).increment(1);
    tracing::debug!(%queue, %key, why, "dropped a delivery");
}

/// One subscription at the broker.
struct Tap {
    number: u32,
    stream: lapin::Consumer,
}

/// The task of a consumer.
pub(super) struct Subscription {
    queue: ShortString,
    channel: Channel,
    taps: Vec<Tap>,
    inbox: Arc<Inbox>,
    /// The claim to an exclusive queue, which ends with its consumer.
    claim: Option<Claim>,
    /// The connection, which stays open while this is held.
    line: Arc<Line>,
}

/// Begins to consume a queue, which must exist.
pub(super) async fn open(
    queue: ShortString,
    prefetch: u16,
    (line, channel): (Arc<Line>, Channel),
    claim: Option<Claim>,
    leaving: Leaving,
) -> Result<Box<dyn Consumer>, Refusal> {
    let options = QueueDeclareOptions { passive: true, ..QueueDeclareOptions::default() };
    answer_of_queue(&line, channel.queue_declare(queue.clone(), options, FieldTable::default())).await?;
    let inbox = Arc::new(Inbox::new(prefetch, channel.clone()));
    let mut subscription =
        Subscription { queue, channel, taps: Vec::new(), inbox: Arc::clone(&inbox), claim, line };
    subscription.adjust().await?;
    let (stop, stopped) = oneshot::channel();
    tokio::spawn(subscription.run(stopped));
    Ok(Box::new(RabbitConsumer { inbox, stop: Some(stop), leaving }))
}

impl Subscription {
    async fn run(mut self, mut stopped: oneshot::Receiver<Leave>) {
        let mut looks = tokio::time::interval(LOOK);
        let leave = loop {
            tokio::select! {
                leave = &mut stopped => break leave.ok(),
                arrival = arrival(&mut self.taps) => match arrival {
                    (tap, Some(Ok(delivered))) => self.receive(tap, delivered).await,
                    // The queue was deleted, or the channel or the connection is gone.
                    (_, Some(Err(_)) | None) => break None,
                },
                () = self.inbox.due.notified() => if let Err(refusal) = self.adjust().await {
                    tracing::debug!(queue = %self.queue, ?refusal, "the subscription could not be changed");
                    break None;
                },
                _ = looks.tick() => if !self.channel.status().connected() { break None },
            }
        };
        self.inbox.end();
        match timeout(FAREWELL, self.give_back()).await {
            Ok(Ok(())) => {}
            // Closing or losing the channel returns the same messages, only later.
            Ok(Err(error)) => {
                tracing::debug!(queue = %self.queue, %error, "held messages could not be returned")
            }
            Err(_) => tracing::debug!(queue = %self.queue, "returning held messages takes too long"),
        }
        drop(self);
        // Only now may others consume or declare this queue again.
        drop(leave);
    }

    async fn receive(&self, tap: u32, delivered: Delivered) {
        let Delivered { delivery_tag, exchange, routing_key, redelivered, properties, data, acker } =
            delivered;
        match message((exchange.as_str(), routing_key.as_str()), &properties, data) {
            Ok(message) => {
                let routing_key = routing_key.to_string();
                self.inbox.put(delivery_tag, Arrival { message, routing_key, redelivered, tap, acker });
            }
            Err(why) => {
                count_dropped(&self.queue, &routing_key, why);
                if let Err(error) = acker.reject(BasicRejectOptions { requeue: false }).await {
                    tracing::debug!(%error, "could not drop a delivery");
                }
            }
        }
    }

    /// Opens and closes taps until the broker delivers as much as is wanted, and returns surplus deliveries.
    async fn adjust(&mut self) -> Result<(), Refusal> {
        let asked = loop {
            match self.inbox.step() {
                Ok(Step::Open(tap, limit)) => self.open_tap(tap, limit).await?,
                Ok(Step::Close(tap)) => self.close_tap(tap).await?,
                Err(asked) => break asked,
            }
        };
        for acker in self.inbox.surplus() {
            put_back(&acker).await;
        }
        self.inbox.in_effect(asked);
        Ok(())
    }

    async fn open_tap(&mut self, number: u32, limit: u16) -> Result<(), Refusal> {
        answer(self.channel.basic_qos(limit, BasicQosOptions { global: false })).await?;
        let tag = tag(number)?;
        let consuming = self.channel.basic_consume(
            self.queue.clone(),
            tag,
            BasicConsumeOptions::default(),
            FieldTable::default(),
        );
        let stream = answer_of_queue(&self.line, consuming).await?;
        self.inbox.opened(number, limit);
        self.taps.push(Tap { number, stream });
        Ok(())
    }

    /// Closes a tap and takes in the deliveries that were on their way.
    async fn close_tap(&mut self, number: u32) -> Result<(), Refusal> {
        if let Some(at) = self.taps.iter().position(|tap| tap.number == number) {
            answer(self.channel.basic_cancel(tag(number)?, BasicCancelOptions::default())).await?;
            let mut rest = vec![self.taps.remove(at)];
            while let (tap, Some(Ok(delivered))) = answer(async { Ok(arrival(&mut rest).await) }).await? {
                self.receive(tap, delivered).await;
            }
        }
        self.inbox.closed(number);
        Ok(())
    }

    /// Returns everything at once and in order, and deletes an exclusive queue. Closing the channel would have the
    /// same effect, but a quorum queue learns of that later than the next consumer arrives.
    async fn give_back(&mut self) -> lapin::Result<()> {
        if !self.channel.status().connected() {
            return Ok(());
        }
        if self.claim.is_some() {
            self.channel.queue_delete(self.queue.clone(), QueueDeleteOptions::default()).await?;
        } else {
            for tap in std::mem::take(&mut self.taps) {
                self.channel.basic_cancel(tap.stream.tag(), BasicCancelOptions::default()).await?;
            }
            // Tag 0 with `multiple` means everything that is unsettled on this channel.
            self.channel.basic_nack(0, BasicNackOptions { multiple: true, requeue: true }).await?;
        }
        self.channel.close(200, "done".into()).await
    }
}

fn tag(number: u32) -> Result<ShortString, Refusal> {
    ShortString::try_new(number.to_string()).map_err(|error| Refusal::Away(error.to_string()))
}

/// Waits for the next delivery of any tap and returns it with the tap's number; waits for ever if there is no tap.
/// Cancelling the wait loses nothing.
async fn arrival(taps: &mut [Tap]) -> (u32, Option<lapin::Result<Delivered>>) {
    std::future::poll_fn(|context| {
        for tap in taps.iter_mut() {
            if let Poll::Ready(arrival) = Pin::new(&mut tap.stream).poll_next(context) {
                return Poll::Ready((tap.number, arrival));
            }
        }
        Poll::Pending
    })
    .await
}

/// The consumer that the seam hands out.
struct RabbitConsumer {
    inbox: Arc<Inbox>,
    stop: Option<oneshot::Sender<Leave>>,
    leaving: Leaving,
}

#[async_trait]
impl Consumer for RabbitConsumer {
    async fn next(&mut self) -> Option<Delivery> {
        // A consumer that finds a message at every call must still let other tasks of its thread run.
        consume_budget().await;
        loop {
            match self.inbox.take() {
                Taken::Delivery(delivery) => return Some(delivery),
                // A notification between the check and the wait is stored for the wait: this is its only listener.
                Taken::Nothing => self.inbox.changed.notified().await,
                Taken::Over => return None,
            }
        }
    }

    async fn set_prefetch(&mut self, prefetch: u16) {
        let (asked, mut effected) = self.inbox.want(prefetch);
        if timeout(EFFECT, effected.wait_for(|effected| *effected >= asked)).await.is_err() {
            tracing::debug!(prefetch, "a change of prefetch takes long to take effect");
        }
    }
}

impl Drop for RabbitConsumer {
    fn drop(&mut self) {
        // Ends what is held here at once, even before the task runs.
        self.inbox.end();
        if let Some(stop) = self.stop.take() {
            // If the task has ended, there is nothing to wait for.
            let _ = stop.send(self.leaving.enter());
        }
    }
}
