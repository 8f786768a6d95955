//! One named thread that owns the engine and does what the batcher says: prefill or decode, choose each sequence's
//! token by job-bound sampling, let those go that are complete. It knows tokens only: no text, no broker, no budget.
//!
//! Work whose caller stopped waiting leaves between two steps. A step that fails loses the sequences of that call,
//! each told so; the thread goes on, until [`ExecutorLimits::failures_max`] calls in a row have failed or the
//! engine has panicked. Then the executor is [`Health::Gone`], once and for all.

mod sequence;

use std::collections::HashMap;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::thread;
use std::time::{Duration, Instant};

use infera_engine::{Engine, EngineDescription, EngineError, Logits, Prompt, SequenceId};
use infera_telemetry::metrics::{WORKER_BATCH, WORKER_ENGINE_FAILURES, WORKER_TOKENS};
use infera_types::ids::Digest;
use infera_types::numbers::TokenNumbers;
use infera_types::{job::FinishReason, numbers::TokenId};
use metrics::{Counter, Histogram, counter, histogram};
use tokio::sync::{mpsc, oneshot, watch};

use crate::batcher::{BatchLimits, Batcher, Candidate, Step};
use sequence::{Progress, Sequence};

/// A prompt to be answered.
#[derive(Clone, Debug)]
pub struct Work {
    /// The rendered prompt; at least one token.
    pub prompt: Vec<TokenId>,
    /// How many tokens the answer may have at most, at least one; prompt and answer together fit the engine's context.
    pub answer_tokens_max: usize,
    /// See `core::sampling`.
    pub temperature: f64,
    /// See `core::sampling`.
    pub sample_key: Digest,
    /// Whether no other sequence may be in the engine meanwhile.
    pub alone: bool,
}

/// A complete answer, in tokens.
#[derive(Clone, Debug, PartialEq)]
pub struct Decoded {
    /// Without the end token.
    pub tokens: Vec<TokenId>,
    /// One entry per token, and one for the end token where one was chosen.
    pub numbers: Vec<TokenNumbers>,
    /// `Stop` exactly if an end token was chosen.
    pub finish_reason: FinishReason,
    /// When its prefill began.
    pub started: Instant,
    /// When its last token was chosen.
    pub ended: Instant,
}

/// Why there is no answer. Retrying here is pointless for this work; other work may do well.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ExecutorError {
    /// The work can't be done by this engine.
    #[error("the engine can't take it: {0}")]
    Unfit(String),
    /// A step that it took part in failed.
    #[error("{0}")]
    Failed(String),
    /// The engine is gone.
    #[error("the engine is gone")]
    Gone,
}

/// How the executor is.
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

enum Command {
    Run(Work, oneshot::Sender<Result<Decoded, ExecutorError>>),
    Stop,
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
        let batcher = Batcher::new(limits.batch);
        let failures_max = limits.failures_max;
        let stepper = Stepper {
            engine,
            batcher,
            end_tokens,
            inbox,
            sequences: HashMap::new(),
            named: 0,
            failures: 0,
            meters: Meters::default(),
        };
        thread::Builder::new().name("engine".to_owned()).spawn(move || {
            // The engine is never used again after a panic, so a broken invariant in it can't be seen.
            let end = catch_unwind(AssertUnwindSafe(|| stepper.serve(failures_max)));
            health.send_replace(end.unwrap_or_else(|_| Health::Gone("the engine panicked".to_owned())));
        })?;
        Ok(Self { commands, health: health_receiver, description })
    }

    /// What the engine is.
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

    /// How it is, and when that changes.
    #[must_use]
    pub fn health(&self) -> watch::Receiver<Health> {
        self.health.clone()
    }

    /// Stops after the step in progress, whatever waits or runs, and waits at most `patience` for it. `false`: the
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

/// Handles taken once: a step takes milliseconds, and a look-up among all metrics need not be part of each.
struct Meters {
    prefill: Histogram,
    decode: Histogram,
    tokens: Counter,
    failures: Counter,
}

impl Default for Meters {
    fn default() -> Self {
        Self {
            prefill: histogram!(WORKER_BATCH, "step" => "prefill"),
            decode: histogram!(WORKER_BATCH, "step" => "decode"),
            tokens: counter!(WORKER_TOKENS),
            failures: counter!(WORKER_ENGINE_FAILURES),
        }
    }
}

/// The thread's state.
struct Stepper {
    engine: Box<dyn Engine>,
    batcher: Batcher,
    end_tokens: Vec<TokenId>,
    inbox: mpsc::Receiver<Command>,
    sequences: HashMap<SequenceId, Sequence>,
    /// Sequences named so far.
    named: u64,
    /// Calls of the engine that failed since the last one that didn't.
    failures: u32,
    meters: Meters,
}

impl Stepper {
    fn serve(mut self, failures_max: u32) -> Health {
        while self.receive() {
            self.let_abandoned_go();
            match self.batcher.next_step() {
                Step::Idle => {}
                Step::Prefill(joining) => self.prefill(&joining),
                Step::Decode(running) => self.decode(&running),
            }
            if self.failures >= failures_max {
                return Health::Gone(format!("{failures_max} calls in a row failed"));
            }
        }
        Health::Stopped
    }

    /// Takes in what has been sent; waits for something only if there is nothing else to do. `false`: stop.
    fn receive(&mut self) -> bool {
        if self.batcher.is_empty() {
            match self.inbox.blocking_recv() {
                Some(Command::Run(work, reply)) => self.admit(work, reply),
                Some(Command::Stop) | None => return false,
            }
        }
        loop {
            match self.inbox.try_recv() {
                Ok(Command::Run(work, reply)) => self.admit(work, reply),
                Ok(Command::Stop) => return false,
                // Disconnected, but with work to finish.
                Err(_) => return true,
            }
        }
    }

    fn admit(&mut self, work: Work, reply: oneshot::Sender<Result<Decoded, ExecutorError>>) {
        if let Err(why) = sequence::check(&work, self.engine.description()) {
            // An error means that the caller has stopped waiting.
            let _ = reply.send(Err(ExecutorError::Unfit(why)));
            return;
        }
        self.named += 1;
        let sequence = SequenceId(self.named);
        let (prompt_tokens, alone) = (work.prompt.len(), work.alone);
        self.batcher.admit(Candidate { sequence, prompt_tokens, alone });
        self.sequences.insert(sequence, Sequence::new(work, reply));
    }

    fn let_abandoned_go(&mut self) {
        let abandoned: Vec<SequenceId> = self
            .sequences
            .iter()
            .filter(|(_, sequence)| sequence.is_abandoned())
            .map(|(id, _)| *id)
            .collect();
        if !abandoned.is_empty() {
            self.engine.release(&abandoned);
            for id in abandoned {
                self.sequences.remove(&id);
                self.batcher.leave(id);
            }
        }
    }

    fn prefill(&mut self, joining: &[SequenceId]) {
        let now = Instant::now();
        for id in joining {
            if let Some(sequence) = self.sequences.get_mut(id) {
                sequence.start(now);
            }
        }
        let prompts: Vec<Prompt<'_>> = joining
            .iter()
            .filter_map(|id| self.sequences.get(id).map(|sequence| (id, sequence)))
            .map(|(id, sequence)| Prompt { sequence: *id, tokens: sequence.prompt() })
            .collect();
        self.meters.prefill.record(joining.len() as f64);
        let result = self.engine.prefill(&prompts);
        self.take_in(joining, result);
    }

    fn decode(&mut self, running: &[SequenceId]) {
        let steps: Vec<(SequenceId, TokenId)> = running
            .iter()
            .filter_map(|id| self.sequences.get(id)?.last_token().map(|token| (*id, token)))
            .collect();
        self.meters.decode.record(running.len() as f64);
        let result = self.engine.decode(&steps);
        self.take_in(running, result);
    }

    /// Gives each sequence of a call its row, or all of them the call's failure.
    fn take_in(&mut self, called: &[SequenceId], result: Result<Logits, EngineError>) {
        let vocabulary = self.engine.description().vocabulary;
        let result = result.map_err(|error| error.to_string()).and_then(|logits| {
            let whole = logits.vocabulary == vocabulary && logits.values.len() == called.len() * vocabulary;
            if whole { Ok(logits) } else { Err("engine failed: not one row per sequence".to_owned()) }
        });
        let ended: Vec<SequenceId> = match result {
            Ok(logits) => {
                self.failures = 0;
                let rows = called.iter().zip(logits.rows());
                rows.filter(|(id, row)| self.advance(**id, row)).map(|(id, _)| *id).collect()
            }
            Err(why) => {
                self.failures += 1;
                self.meters.failures.increment(1);
                tracing::error!(
                    sequences = called.len(),
                    failures = self.failures,
                    why,
                    "engine step failed"
                );
                for id in called {
                    if let Some(sequence) = self.sequences.remove(id) {
                        sequence.fail(ExecutorError::Failed(why.clone()));
                    }
                }
                called.to_vec()
            }
        };
        if !ended.is_empty() {
            self.engine.release(&ended);
            for id in ended {
                self.batcher.leave(id);
            }
        }
    }

    /// One more token for one sequence. Whether that was its last.
    fn advance(&mut self, id: SequenceId, row: &[f32]) -> bool {
        let Some(sequence) = self.sequences.get_mut(&id) else { return true };
        let Progress::Complete(finish_reason) = sequence.advance(row, &self.end_tokens) else { return false };
        if let Some(sequence) = self.sequences.remove(&id) {
            self.meters.tokens.increment(sequence.tokens_count());
            sequence.complete(finish_reason);
        }
        true
    }
}
