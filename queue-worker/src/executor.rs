//! Owns the engine on a thread of its own (`stepper`). The thread does what the `batcher` decides: it prefills or
//! decodes, chooses each sequence's next token by job-bound sampling, and releases the sequences that are complete.
//! This room knows tokens only: no text, no broker, no budget. Where text decides when an answer ends, its caller gives it a
//! [`Watcher`].
//!
//! Work whose caller stopped waiting leaves between two steps. If a step fails, the sequences of that call are lost
//! and each caller is told. The thread goes on until [`ExecutorLimits::failures_max`] calls in a row have failed or
//! the engine has panicked. Then the executor is [`Health::Gone`] for good.

mod batcher;
mod sequence;
mod stepper;
mod work;

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use infera_engine::{Engine, EngineDescription};
use infera_types::ids::ModelName;
use infera_types::numbers::TokenId;
use tokio::sync::{mpsc, oneshot, watch};

pub use self::batcher::BatchLimits;
use self::sequence::Sequence;
use self::stepper::{Command, Stepper};
pub use self::work::{Decoded, ExecutorError, Watcher, Work};

/// The state of the executor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Health {
    /// It works.
    Ready,
    /// It will never work again, for this reason.
    Gone(String),
    /// It was told to stop, or all of its handles were dropped.
    Stopped,
}

/// The limits of an executor.
#[derive(Clone, Copy, Debug)]
pub struct ExecutorLimits {
    /// The limits of a step.
    pub batch: BatchLimits,
    /// The number of failed engine calls in a row after which the engine counts as gone.
    pub failures_max: u32,
}

/// A handle to the executor. When all handles are dropped, the thread finishes its work and ends.
#[derive(Clone, Debug)]
pub struct Executor {
    commands: mpsc::Sender<Command>,
    health: watch::Receiver<Health>,
    description: EngineDescription,
    end_tokens: Arc<[TokenId]>,
}

impl Executor {
    /// Starts the thread of `model`'s engine. Each engine has its own, so that no model's step waits for another's. Any of
    /// `end_tokens` ends an answer.
    ///
    /// # Errors
    /// The operating system gave no thread.
    pub fn start(
        model: &ModelName,
        engine: Box<dyn Engine>,
        end_tokens: Vec<TokenId>,
        limits: ExecutorLimits,
    ) -> io::Result<Self> {
        let description = engine.description().clone();
        // Each caller holds a slot, so no more than that many can wait; a further sender waits for its turn.
        let (commands, inbox) = mpsc::channel(limits.batch.slots.max(1));
        let (health, health_receiver) = watch::channel(Health::Ready);
        let stepper = Stepper::new(model, engine, limits.batch, inbox);
        let failures_max = limits.failures_max;
        thread::Builder::new().name("engine".to_owned()).spawn(move || {
            // The engine is never used again after a panic, so no broken state in it can be seen.
            let end = catch_unwind(AssertUnwindSafe(|| stepper.serve(failures_max)));
            health.send_replace(match end {
                Ok(Ok(())) => Health::Stopped,
                Ok(Err(why)) => Health::Gone(why),
                Err(_) => Health::Gone("the engine panicked".to_owned()),
            });
        })?;
        Ok(Self { commands, health: health_receiver, description, end_tokens: end_tokens.into() })
    }

    /// Returns the engine's description.
    #[must_use]
    pub const fn description(&self) -> &EngineDescription {
        &self.description
    }

    /// Answers `work`. Dropping the future takes the work out of the batch before the next step.
    ///
    /// # Errors
    /// [`ExecutorError`].
    pub async fn run(&self, work: Work) -> Result<Decoded, ExecutorError> {
        self.run_watched(work, None).await
    }

    /// Answers `work` as [`Self::run`] does, up to the token at which the watcher ends the answer.
    ///
    /// # Errors
    /// [`ExecutorError`].
    pub async fn run_watched(&self, work: Work, watcher: Option<Watcher>) -> Result<Decoded, ExecutorError> {
        let (reply, answer) = oneshot::channel();
        // Made here, so that the batch doesn't wait while a long prompt's tokens are put in order for the rules.
        let sequence = Sequence::new(work, watcher, Arc::clone(&self.end_tokens), reply);
        let command = Command::Run(Box::new(sequence));
        self.commands.send(command).await.map_err(|_| ExecutorError::Gone)?;
        answer.await.unwrap_or(Err(ExecutorError::Gone))
    }

    /// Returns a receiver of the executor's health.
    #[must_use]
    pub fn health(&self) -> watch::Receiver<Health> {
        self.health.clone()
    }

    /// Stops after the step in progress, whatever waits or runs, and waits at most `patience` for it. Returns false
    /// if the engine hangs in that step.
    pub async fn stop(&self, patience: Duration) -> bool {
        let stopping = async {
            // An error means that the thread has already ended.
            let _ = self.commands.send(Command::Stop).await;
            let mut health = self.health.clone();
            let _ = health.wait_for(|health| *health != Health::Ready).await;
        };
        tokio::time::timeout(patience, stopping).await.is_ok()
    }
}
