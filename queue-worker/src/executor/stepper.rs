//! The engine's thread: takes in work, asks the batcher for the next step and carries it out. It ends when it is told
//! to, when no sender is left, or when the engine is gone.

use std::collections::HashMap;
use std::time::Instant;

use infera_engine::{Engine, EngineError, Logits, Prompt, SequenceId};
use infera_telemetry::metrics::{WORKER_BATCH, WORKER_ENGINE_FAILURES, WORKER_TOKENS};
use infera_types::numbers::TokenId;
use metrics::{Counter, Histogram, counter, histogram};
use tokio::sync::{mpsc, oneshot};

use super::batcher::{BatchLimits, Batcher, Candidate, Step};
use super::sequence::{self, Progress, Sequence};
use super::work::{Decoded, ExecutorError, Work};

/// The commands that a handle sends to the thread.
pub(super) enum Command {
    Run(Work, oneshot::Sender<Result<Decoded, ExecutorError>>),
    Stop,
}

/// The metrics of a step. They are looked up once, because a step takes milliseconds and need not include a look-up
/// among all metrics.
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

/// The state of the engine's thread.
pub(super) struct Stepper {
    engine: Box<dyn Engine>,
    batcher: Batcher,
    end_tokens: Vec<TokenId>,
    inbox: mpsc::Receiver<Command>,
    sequences: HashMap<SequenceId, Sequence>,
    /// The number of sequence ids given out so far.
    named: u64,
    /// The number of failed engine calls since the last one that succeeded.
    failures: u32,
    meters: Meters,
}

impl Stepper {
    /// Makes a stepper that carries out the commands in `inbox`. Any of `end_tokens` ends an answer.
    pub(super) fn new(
        engine: Box<dyn Engine>,
        limits: BatchLimits,
        end_tokens: Vec<TokenId>,
        inbox: mpsc::Receiver<Command>,
    ) -> Self {
        Self {
            engine,
            batcher: Batcher::new(limits),
            end_tokens,
            inbox,
            sequences: HashMap::new(),
            named: 0,
            failures: 0,
            meters: Meters::default(),
        }
    }

    /// Steps until it is told to stop. The error says why the engine is gone: `failures_max` calls of it in a row
    /// failed.
    pub(super) fn serve(mut self, failures_max: u32) -> Result<(), String> {
        while self.receive() {
            self.let_abandoned_go();
            match self.batcher.next_step() {
                Step::Idle => {}
                Step::Prefill(joining) => self.prefill(&joining),
                Step::Decode(running) => self.decode(&running),
            }
            if self.failures >= failures_max {
                return Err(format!("{failures_max} calls in a row failed"));
            }
        }
        Ok(())
    }

    /// Takes in the commands that were sent, and waits for one only if there is nothing else to do. Returns false
    /// when the thread must stop.
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
                // The channel may be disconnected, but there is work to finish.
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

    /// Gives each sequence of an engine call its row of logits, or gives all of them the call's error.
    fn take_in(&mut self, called: &[SequenceId], result: Result<Logits, EngineError>) {
        let vocabulary = self.engine.description().vocabulary;
        let result = result.map_err(|error| error.to_string()).and_then(|logits| {
            let whole = logits.vocabulary == vocabulary && logits.values.len() == called.len() * vocabulary;
            if whole {
                Ok(logits)
            } else {
                Err("engine failed: it did not return one row per sequence".to_owned())
            }
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

    /// Chooses one more token for a sequence, and returns whether it was the last.
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
