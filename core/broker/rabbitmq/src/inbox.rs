//! Holds the deliveries that a subscription has received and its consumer has not taken yet. It is the only state
//! that the subscription's task, the consumer and the receipts of its deliveries share; its lock is never held across
//! a wait.

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

/// The answer to a consumer that asks for a delivery.
pub(super) enum Taken {
    /// The next delivery.
    Delivery(Delivery),
    /// There is no delivery that the consumer may hold.
    Nothing,
    /// The subscription has ended.
    Over,
}

#[derive(Default)]
struct State {
    /// The channel on which deliveries are acked; none once the subscription has ended.
    channel: Option<Channel>,
    /// The waiting deliveries by delivery tag, which is the order in which the broker gave them on this channel.
    waiting: BTreeMap<u64, Arrival>,
    credit: Credit,
    /// How many changes of prefetch were requested.
    asked: u64,
}

/// The state that one subscription's task, its consumer and its receipts share.
pub(super) struct Inbox {
    state: Mutex<State>,
    /// Notified when the consumer should check again.
    pub(super) changed: Notify,
    /// Notified when the task has something to do at the broker.
    pub(super) due: Notify,
    /// How many of the requested changes of prefetch are in effect.
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

    /// Locks the state. No section under the lock can panic halfway, so a poisoned lock holds sound data.
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

    /// Returns the oldest delivery, if the consumer may hold one more.
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

    /// Requests another prefetch, and returns the number to wait for and where to wait until it is in effect.
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

    /// Returns the next step to take at the broker, or as `Err` the number of changes that are in effect if there is
    /// none.
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

    /// Returns the newest of the waiting deliveries that exceed what the consumer may hold, so that others get them.
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

    /// Ends the subscription: nothing more is handed out, and held deliveries can no longer be settled.
    pub(super) fn end(&self) {
        let mut state = self.lock();
        state.channel = None;
        state.waiting.clear();
        drop(state);
        self.changed.notify_one();
        self.effected.send_replace(u64::MAX);
    }

    /// Counts one delivery as settled. Returns `false` if the subscription has ended.
    fn settled(&self, tap: u32) -> bool {
        let state = self.lock();
        let lasts = state.channel.is_some();
        self.settle(state, tap);
        lasts
    }

    /// Hands an acknowledgement to the connection, without waiting until it is written. Returns `false` if there is
    /// no connection any more. The library's own `Acker` is not used, because it goes through a task of the
    /// connection.
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
    /// Returns `true` if the acknowledgement was handed to the connection. AMQP does not answer it: if the connection
    /// is cut just then, the message comes again.
    async fn ack(self: Box<Self>) -> bool {
        self.inbox.ack(self.tap, self.tag)
    }

    /// Returns the message by AMQP's `reject`. Since 4.3 a quorum queue does not count what is returned by `nack`, so
    /// a message that can never be settled would circulate for ever.
    async fn nack(self: Box<Self>) {
        if self.inbox.settled(self.tap)
            && let Err(error) = self.acker.reject(BasicRejectOptions { requeue: true }).await
        {
            tracing::debug!(%error, "could not return a delivery");
        }
    }
}

/// Returns an untried delivery to its queue, which since 4.3 does not count against the message. If that fails, the
/// channel is gone, which returns everything.
pub(super) async fn put_back(acker: &Acker) {
    let options = BasicNackOptions { requeue: true, multiple: false };
    if let Err(error) = acker.nack(options).await {
        tracing::debug!(%error, "could not return a delivery");
    }
}
