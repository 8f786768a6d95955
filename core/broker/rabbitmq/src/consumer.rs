//! One consumer: a channel on the consuming connection, and the task that owns it. Deliveries go to an inbox, from
//! which `next` takes them, so giving up the wait loses nothing.

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
use super::terms::{Refusal, message};
use infera_broker::{Consumer, Delivery};

/// How often a consumer that waits in silence looks whether its channel is still there.
const LOOK: Duration = Duration::from_secs(1);

/// How long a change of prefetch waits to be in effect. It comes into effect later too; meanwhile nothing is given out
/// that it forbids.
const EFFECT: Duration = Duration::from_secs(2);

/// How long a consumer that goes may take to give back what it holds, before it just closes its channel.
const FAREWELL: Duration = Duration::from_secs(5);

/// Counts deliveries that were dropped because their sender is in doubt, by why.
const DROPPED: &str = "infera_broker_dropped_deliveries_total";

/// One subscription at the broker.
struct Tap {
    number: u32,
    stream: lapin::Consumer,
}

/// A consumer's task.
pub(super) struct Subscription {
    queue: ShortString,
    channel: Channel,
    taps: Vec<Tap>,
    inbox: Arc<Inbox>,
    /// Of an exclusive queue, which ends with its consumer.
    claim: Option<Claim>,
    /// Keeps the connection open.
    line: Arc<Line>,
}

/// Begins to consume. The queue must be there.
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
                    tracing::debug!(queue = %self.queue, ?refusal, "the subscription can't be changed");
                    break None;
                },
                _ = looks.tick() => if !self.channel.status().connected() { break None },
            }
        };
        self.inbox.end();
        match timeout(FAREWELL, self.give_back()).await {
            Ok(Ok(())) => {}
            // Closing the channel, or losing it, gives back the same, if later.
            Ok(Err(error)) => tracing::debug!(queue = %self.queue, %error, "leaving a queue"),
            Err(_) => tracing::debug!(queue = %self.queue, "leaving a queue takes too long"),
        }
        drop(self);
        // Only now may this queue be consumed or declared again by whoever waits for that.
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
            // Only a rogue sends such; it must not fill our logs.
            Err(why) => {
                metrics::counter!(DROPPED, "why" => why.word()).increment(1);
                tracing::debug!(queue = %self.queue, key = %routing_key, ?why, "dropped a delivery");
                if let Err(error) = acker.reject(BasicRejectOptions { requeue: false }).await {
                    tracing::debug!(%error, "dropping a delivery");
                }
            }
        }
    }

    /// Opens and closes taps until the broker gives what is wanted, and gives back what came for more.
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

    /// Ends a tap and takes in what it had on the way.
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

    /// Gives back everything at once and in order, and removes an exclusive queue. Closing the channel alone would do,
    /// but a quorum queue hears of that later than the next consumer comes.
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
            // Tag 0 with `multiple`: all that is unsettled on this channel.
            self.channel.basic_nack(0, BasicNackOptions { multiple: true, requeue: true }).await?;
        }
        self.channel.close(200, "done".into()).await
    }
}

fn tag(number: u32) -> Result<ShortString, Refusal> {
    ShortString::try_new(number.to_string()).map_err(|error| Refusal::Away(error.to_string()))
}

/// The next delivery of any tap, with its number; for ever if there is none. Giving up the wait loses nothing.
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

/// The seam's side of a subscription.
struct RabbitConsumer {
    inbox: Arc<Inbox>,
    stop: Option<oneshot::Sender<Leave>>,
    leaving: Leaving,
}

#[async_trait]
impl Consumer for RabbitConsumer {
    async fn next(&mut self) -> Option<Delivery> {
        // A consumer that finds a message at every call must still let the others of its thread have theirs.
        consume_budget().await;
        loop {
            match self.inbox.take() {
                Taken::Delivery(delivery) => return Some(delivery),
                // Told between the look and the wait, it keeps that for the wait: this is its only listener.
                Taken::Nothing => self.inbox.changed.notified().await,
                Taken::Over => return None,
            }
        }
    }

    async fn set_prefetch(&mut self, prefetch: u16) {
        let (asked, mut effected) = self.inbox.want(prefetch);
        if timeout(EFFECT, effected.wait_for(|effected| *effected >= asked)).await.is_err() {
            tracing::debug!(prefetch, "a change of prefetch takes long");
        }
    }
}

impl Drop for RabbitConsumer {
    fn drop(&mut self) {
        // At once for what is held here, even before its task runs.
        self.inbox.end();
        if let Some(stop) = self.stop.take() {
            // If the task is over there is nothing left to wait for.
            let _ = stop.send(self.leaving.enter());
        }
    }
}
