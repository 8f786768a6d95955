//! What a subscription has received and its consumer not yet taken: the one thing that the subscription's task, the
//! consumer and the receipts of its deliveries share. Its lock is never held across a wait.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use futures::FutureExt as _;
use lapin::options::{BasicAckOptions, BasicNackOptions, BasicRejectOptions};
use lapin::{Acker, Channel};
use tokio::sync::{Notify, watch};

use super::credit::{Credit, Step};
use infera_broker::{Delivery, Message, Settle};

/// A delivery that has not been taken yet.
pub(super) struct Arrival {
    pub(super) message: Message,
    pub(super) routing_key: String,
    pub(super) redelivered: bool,
    pub(super) tap: u32,
    pub(super) acker: Acker,
}

/// What a consumer gets when it asks.
pub(super) enum Taken {
    /// This.
    Delivery(Delivery),
    /// Nothing that it may hold.
    Nothing,
    /// The subscription is over.
    Over,
}

#[derive(Default)]
struct State {
    /// Where deliveries are acked; none when the subscription is over.
    channel: Option<Channel>,
    /// By delivery tag, which is the order in which the broker gave them on this channel.
    waiting: BTreeMap<u64, Arrival>,
    credit: Credit,
    /// How often a prefetch was asked for.
    asked: u64,
}

/// Shared by one subscription's task, its consumer, and its receipts.
pub(super) struct Inbox {
    state: Mutex<State>,
    /// Told when the consumer should look again.
    pub(super) changed: Notify,
    /// Told when the task has something to do at the broker.
    pub(super) due: Notify,
    /// How many of the prefetches that were asked for are in effect.
    effected: watch::Sender<u64>,
}

impl Inbox {
    pub(super) fn new(prefetch: u16, channel: Channel) -> Self {
        let mut state = State { channel: Some(channel), ..State::default() };
        state.credit.want(prefetch);
        Self {
            state: Mutex::new(state),
            changed: Notify::new(),
            due: Notify::new(),
            effected: watch::Sender::new(0),
        }
    }

    /// No section under the lock can panic halfway, so a poisoned one is as good as any.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn put(&self, tag: u64, arrival: Arrival) {
        let mut state = self.lock();
        state.credit.arrived(arrival.tap);
        state.waiting.insert(tag, arrival);
        drop(state);
        self.changed.notify_one();
    }

    /// The oldest delivery, if its consumer may hold one more.
    pub(super) fn take(self: &Arc<Self>) -> Taken {
        let mut state = self.lock();
        if state.channel.is_none() {
            return Taken::Over;
        }
        let held = state.credit.unsettled() as usize - state.waiting.len();
        if held >= state.credit.wanted() as usize {
            return Taken::Nothing;
        }
        let Some((tag, arrival)) = state.waiting.pop_first() else { return Taken::Nothing };
        drop(state);
        let Arrival { message, routing_key, redelivered, tap, acker } = arrival;
        let receipt = Receipt { inbox: Arc::clone(self), tap, tag, acker };
        Taken::Delivery(Delivery::new(message, routing_key, redelivered, Box::new(receipt)))
    }

    /// Asks for another prefetch and returns how to know when it is in effect: the number to wait for.
    pub(super) fn want(&self, prefetch: u16) -> (u64, watch::Receiver<u64>) {
        let mut state = self.lock();
        state.credit.want(prefetch);
        state.asked += 1;
        let asked = state.asked;
        drop(state);
        self.due.notify_one();
        self.changed.notify_one();
        (asked, self.effected.subscribe())
    }

    /// What is to be done at the broker; `Err` with the number of prefetches that are in effect if nothing is.
    pub(super) fn step(&self) -> Result<Step, u64> {
        let state = self.lock();
        state.credit.step().ok_or(state.asked)
    }

    pub(super) fn opened(&self, tap: u32, limit: u16) {
        self.lock().credit.opened(tap, limit);
    }

    pub(super) fn closed(&self, tap: u32) {
        self.lock().credit.closed(tap);
    }

    pub(super) fn in_effect(&self, asked: u64) {
        self.effected.send_replace(asked);
    }

    /// The newest of what waits beyond what the consumer may hold: others shall have it.
    pub(super) fn surplus(&self) -> Vec<Acker> {
        let mut state = self.lock();
        let mut surplus = Vec::new();
        while state.credit.unsettled() > state.credit.wanted()
            && let Some((_, arrival)) = state.waiting.pop_last()
        {
            state.credit.settled(arrival.tap);
            surplus.push(arrival.acker);
        }
        surplus
    }

    /// Ends the subscription: nothing more is given out, and what is held can't be settled any more.
    pub(super) fn end(&self) {
        let mut state = self.lock();
        state.channel = None;
        state.waiting.clear();
        drop(state);
        self.changed.notify_one();
        self.effected.send_replace(u64::MAX);
    }

    /// Counts one delivery as settled; `false`: the subscription is over.
    fn settled(&self, tap: u32) -> bool {
        let state = self.lock();
        let lasts = state.channel.is_some();
        self.settle(state, tap);
        lasts
    }

    /// Hands an acknowledgement to the connection; `false`: there is none any more. That it was written isn't waited
    /// for. Not by the library's own `Acker`, which takes the way over a task of the connection's.
    fn ack(&self, tap: u32, tag: u64) -> bool {
        let state = self.lock();
        let Some(channel) = &state.channel else { return false };
        let acked = channel.basic_ack(tag, BasicAckOptions::default()).now_or_never();
        self.settle(state, tap);
        acked.is_none_or(|acked| acked.is_ok())
    }

    fn settle(&self, mut state: MutexGuard<'_, State>, tap: u32) {
        state.credit.settled(tap);
        let (is_due, waits) = (state.credit.step().is_some(), !state.waiting.is_empty());
        drop(state);
        if is_due {
            self.due.notify_one();
        }
        if waits {
            self.changed.notify_one();
        }
    }
}

/// The right to settle one delivery.
struct Receipt {
    inbox: Arc<Inbox>,
    tap: u32,
    tag: u64,
    acker: Acker,
}

#[async_trait]
impl Settle for Receipt {
    /// `true` says that the acknowledgement went to the connection. AMQP doesn't answer it: should the connection be cut
    /// just then, the message comes again.
    async fn ack(self: Box<Self>) -> bool {
        self.inbox.ack(self.tap, self.tag)
    }

    /// Gives it back by AMQP's `reject`: since 4.3 a quorum queue counts nothing that comes back by `nack`, so that a message
    /// which never can be settled would go round for ever.
    async fn nack(self: Box<Self>) {
        if self.inbox.settled(self.tap)
            && let Err(error) = self.acker.reject(BasicRejectOptions { requeue: true }).await
        {
            tracing::debug!(%error, "giving a delivery back");
        }
    }
}

/// Gives back to its queue a delivery that wasn't tried; since 4.3 that isn't counted against it. Where that fails the channel is gone, which gives back everything.
pub(super) async fn put_back(acker: &Acker) {
    let options = BasicNackOptions { requeue: true, multiple: false };
    if let Err(error) = acker.nack(options).await {
        tracing::debug!(%error, "giving a delivery back");
    }
}
