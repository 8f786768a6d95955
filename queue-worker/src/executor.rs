//! Owns the engine on a thread of its own (`stepper`), which does what the `batcher` says: prefill or decode, choose each
//! sequence's token by job-bound sampling, release those that are complete. This room knows tokens only: no text, no broker,
//! no budget.
//!
//! Work whose caller stopped waiting leaves between two steps. A step that fails loses the sequences of that call,
//! each told so; the thread goes on, until [`ExecutorLimits::failures_max`] calls in a row have failed or the
//! engine has panicked. Then the executor is [`Health::Gone`] for good.

mod batcher;
mod sequence;
mod stepper;
mod work;

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::thread;
use std::time::Duration;

use infera_engine::{Engine, EngineDescription};
use infera_types::numbers::TokenId;
use tokio::sync::{mpsc, oneshot, watch};

pub use self::batcher::BatchLimits;
use self::stepper::{Command, Stepper};
pub use self::work::{Decoded, ExecutorError, Work};

/// Says whether the executor works.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Health {
    /// It works.
    Ready,
    /// It will never work again, and why.
    Gone(String),
    /// It was told to stop, or everything that could send it work is gone.
    Stopped,
}

/// What bounds an executor.
#[derive(Clone, Copy, Debug)]
pub struct ExecutorLimits {
    /// What a step may hold.
    pub batch: BatchLimits,
    /// How many failed calls of the engine in a row mean that it is gone.
    pub failures_max: u32,
}

/// The executor's handle. When all are dropped, the thread finishes its work and ends.
#[derive(Clone, Debug)]
pub struct Executor {
    commands: mpsc::Sender<Command>,
    health: watch::Receiver<Health>,
    description: EngineDescription,
}

impl Executor {
    /// Starts the thread `engine`.
    ///
    /// # Errors
    /// The operating system gives no thread.
    pub fn start(
        engine: Box<dyn Engine>,
        end_tokens: Vec<TokenId>,
        limits: ExecutorLimits,
    ) -> io::Result<Self> {
        let description = engine.description().clone();
        // Callers hold slots, so more than that many can't wait; a sender beyond waits its turn.
        let (commands, inbox) = mpsc::channel(limits.batch.slots.max(1));
        let (health, health_receiver) = watch::channel(Health::Ready);
        let stepper = Stepper::new(engine, limits.batch, end_tokens, inbox);
        let failures_max = limits.failures_max;
        thread::Builder::new().name("engine".to_owned()).spawn(move || {
            // The engine is never used again after a panic, so a broken invariant in it can't be seen.
            let end = catch_unwind(AssertUnwindSafe(|| stepper.serve(failures_max)));
            health.send_replace(match end {
                Ok(Ok(())) => Health::Stopped,
                Ok(Err(why)) => Health::Gone(why),
                Err(_) => Health::Gone("the engine panicked".to_owned()),
            });
        })?;
        Ok(Self { commands, health: health_receiver, description })
    }

    /// Returns what the engine is.
    #[must_use]
    pub const fn description(&self) -> &EngineDescription {
        &self.description
    }

    /// Does `work`. Dropping the future takes it out of the batch before the next step.
    ///
    /// # Errors
    /// See [`ExecutorError`].
    pub async fn run(&self, work: Work) -> Result<Decoded, ExecutorError> {
        let (reply, answer) = oneshot::channel();
        self.commands.send(Command::Run(work, reply)).await.map_err(|_| ExecutorError::Gone)?;
        answer.await.unwrap_or(Err(ExecutorError::Gone))
    }

    /// Returns its health, and when that changes.
    #[must_use]
    pub fn health(&self) -> watch::Receiver<Health> {
        self.health.clone()
    }

    /// Stops after the step in progress, whatever waits or runs, and waits at most `patience` for it. Returns `false` if the
    /// engine hangs in that step.
    pub async fn stop(&self, patience: Duration) -> bool {
        let stopping = async {
            // An error means that it has ended already.
            let _ = self.commands.send(Command::Stop).await;
            let mut health = self.health.clone();
            let _ = health.wait_for(|health| *health != Health::Ready).await;
        };
        tokio::time::timeout(patience, stopping).await.is_ok()
    }
}
