//! Nodes that lie about themselves: an honest worker whose replicas are rewritten on their way to the broker, or
//! whose engine announces another model's digest. The faults are wrappers around seams, never code inside them.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use infera_broker::{Address, Broker, BrokerError, Consumer, Fleeting, Message, Published, Queue, Sent};
use infera_engine::{
    Engine, EngineDescription, EngineError, Progress, Prompt, Row, Scoring, SequenceId, SequenceRow,
};
use infera_model::chat::ChatModel;
use infera_types::frames::TokensFrame;
use infera_types::numbers::TokenId;
use infera_types::{
    messages::{Replica, Wire as _},
    numbers::NumericClass,
};

/// How a lie changes a replica.
pub(crate) type Lie = Arc<dyn Fn(&mut Replica, &ChatModel) + Send + Sync>;

/// A broker that passes everything on, but replicas only after a lie and a delay.
pub(crate) struct LyingBroker {
    pub(crate) honest: Arc<dyn Broker>,
    pub(crate) chat: Arc<ChatModel>,
    pub(crate) lie: Lie,
    pub(crate) delay: Duration,
}

impl fmt::Debug for LyingBroker {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("LyingBroker")
    }
}

impl Fleeting for LyingBroker {
    fn publish_fleeting(&self, address: &Address, message: Message) -> Sent {
        self.honest.publish_fleeting(address, message)
    }
}

#[async_trait]
impl Broker for LyingBroker {
    async fn declare(&self, queue: &Queue) -> Result<(), BrokerError> {
        self.honest.declare(queue).await
    }

    async fn publish(&self, address: &Address, message: Message) -> Published {
        let Ok(mut replica) = Replica::from_message(&message) else {
            return self.honest.publish(address, message).await;
        };
        tokio::time::sleep(self.delay).await;
        (self.lie)(&mut replica, &self.chat);
        self.honest.publish(address, replica.to_message(message.id)).await
    }

    async fn consume(&self, queue: &str, prefetch: u16) -> Result<Box<dyn Consumer>, BrokerError> {
        self.honest.consume(queue, prefetch).await
    }

    async fn depth(&self, queue: &str) -> Result<Option<u64>, BrokerError> {
        self.honest.depth(queue).await
    }

    async fn delete(&self, queue: &str) -> Result<(), BrokerError> {
        self.honest.delete(queue).await
    }
}

/// How a lie changes a frame of tokens.
pub(crate) type FramedLie = Arc<dyn Fn(&mut TokensFrame) + Send + Sync>;

/// A broker that passes everything on, but frames only after a lie.
pub(crate) struct FramingBroker {
    pub(crate) honest: Arc<dyn Broker>,
    pub(crate) lie: FramedLie,
}

impl fmt::Debug for FramingBroker {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("FramingBroker")
    }
}

impl Fleeting for FramingBroker {
    fn publish_fleeting(&self, address: &Address, message: Message) -> Sent {
        let Ok(mut frame) = TokensFrame::from_message(&message) else {
            return self.honest.publish_fleeting(address, message);
        };
        (self.lie)(&mut frame);
        self.honest.publish_fleeting(address, frame.to_message(message.id))
    }
}

#[async_trait]
impl Broker for FramingBroker {
    async fn declare(&self, queue: &Queue) -> Result<(), BrokerError> {
        self.honest.declare(queue).await
    }

    async fn publish(&self, address: &Address, message: Message) -> Published {
        self.honest.publish(address, message).await
    }

    async fn consume(&self, queue: &str, prefetch: u16) -> Result<Box<dyn Consumer>, BrokerError> {
        self.honest.consume(queue, prefetch).await
    }

    async fn depth(&self, queue: &str) -> Result<Option<u64>, BrokerError> {
        self.honest.depth(queue).await
    }

    async fn delete(&self, queue: &str) -> Result<(), BrokerError> {
        self.honest.delete(queue).await
    }
}

/// Swaps the token at `position` (from the end, 0 is the last) with the runner-up of rank `rank`, and makes text and
/// numbers look as if the model had meant it: greedy answers only, where noise doesn't enter.
pub(crate) fn swapped_token(position: usize, rank: usize) -> Lie {
    Arc::new(move |replica, chat| {
        let Some(index) = replica.tokens.len().checked_sub(position + 1) else { return };
        let top = &mut replica.numbers[index].top;
        let (winner, loser) = (top[0], top[rank]);
        top[0] = (loser.0, winner.1);
        top[rank] = (winner.0, loser.1);
        replica.tokens[index] = loser.0;
        replica.text = chat.decode(&replica.tokens).expect("any tokens have a text");
    })
}

/// An engine that does one model's work under another's name.
pub(crate) struct Disguised {
    pub(crate) engine: Box<dyn Engine>,
    pub(crate) description: EngineDescription,
}

impl Disguised {
    /// `engine`, announced as of class `numeric_class`.
    pub(crate) fn as_class(engine: Box<dyn Engine>, numeric_class: NumericClass) -> Box<dyn Engine> {
        let description = EngineDescription { numeric_class, ..engine.description().clone() };
        Box::new(Self { engine, description })
    }
}

impl Engine for Disguised {
    fn description(&self) -> &EngineDescription {
        &self.description
    }

    fn prefill(
        &mut self,
        prompts: &[Prompt<'_>],
        rows: &mut dyn FnMut(&[SequenceRow<'_>]),
    ) -> Result<Vec<Progress>, EngineError> {
        self.engine.prefill(prompts, rows)
    }

    fn decode(
        &mut self,
        steps: &[(SequenceId, TokenId)],
        rows: &mut dyn FnMut(&[SequenceRow<'_>]),
    ) -> Result<(), EngineError> {
        self.engine.decode(steps, rows)
    }

    fn release(&mut self, sequences: &[SequenceId]) {
        self.engine.release(sequences);
    }

    fn score(
        &mut self,
        scoring: &Scoring<'_>,
        row: &mut dyn FnMut(usize, Row<'_>),
    ) -> Result<Progress, EngineError> {
        self.engine.score(scoring, row)
    }
}
