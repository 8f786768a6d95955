//! The engine's thread: takes in work, asks the batcher for the next step and carries it out. It ends when it is told
//! to, when no sender is left, or when the engine is gone.

use std::collections::HashMap;
use std::time::Instant;

use infera_engine::{Engine, EngineError, Prompt, Row, SequenceId, SequenceRow};
use infera_sampling::Choice;
use infera_telemetry::metrics::{WORKER_BATCH, WORKER_ENGINE_FAILURES, WORKER_TOKENS};
use infera_types::ids::ModelName;
use infera_types::numbers::TokenId;
use metrics::{Counter, Histogram, counter, histogram};
use rayon::prelude::*;
use tokio::sync::mpsc;

use super::batcher::{BatchLimits, Batcher, Candidate, Step};
use super::sequence::{Progress, Sequence};
use super::work::ExecutorError;

/// The commands that a handle sends to the thread.
pub(super) enum Command {
    Run(Box<Sequence>),
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

impl Meters {
    fn of(model: &ModelName) -> Self {
        let name = || model.to_string();
        Self {
            prefill: histogram!(WORKER_BATCH, "step" => "prefill", "model" => name()),
            decode: histogram!(WORKER_BATCH, "step" => "decode", "model" => name()),
            tokens: counter!(WORKER_TOKENS, "model" => name()),
            failures: counter!(WORKER_ENGINE_FAILURES, "model" => name()),
        }
    }
}

/// The state of the engine's thread.
pub(super) struct Stepper {
    model: ModelName,
    engine: Box<dyn Engine>,
    batcher: Batcher,
    inbox: mpsc::Receiver<Command>,
    sequences: HashMap<SequenceId, Sequence>,
    /// The number of sequence ids given out so far.
    named: u64,
    /// The number of failed engine calls since the last one that succeeded.
    failures: u32,
    meters: Meters,
}

impl Stepper {
    /// Makes a stepper of `model`'s engine that carries out the commands in `inbox`.
    pub(super) fn new(
        model: &ModelName,
        engine: Box<dyn Engine>,
        limits: BatchLimits,
        inbox: mpsc::Receiver<Command>,
    ) -> Self {
        let batcher = Batcher::new(limits, engine.description().chunk_tokens);
        Self {
            model: model.clone(),
            engine,
            batcher,
            inbox,
            sequences: HashMap::new(),
            named: 0,
            failures: 0,
            meters: Meters::of(model),
        }
    }

    /// Steps until it is told to stop. The error says why the engine is gone: `failures_max` calls of it in a row
    /// failed.
    pub(super) fn serve(mut self, failures_max: u32) -> Result<(), String> {
        while self.receive() {
            self.let_abandoned_go();
            match self.batcher.next_step() {
                Step::Idle => {}
                Step::Prefill(called) => self.prefill(&called),
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
                Some(Command::Run(sequence)) => self.admit(*sequence),
                Some(Command::Stop) | None => return false,
            }
        }
        loop {
            match self.inbox.try_recv() {
                Ok(Command::Run(sequence)) => self.admit(*sequence),
                Ok(Command::Stop) => return false,
                // The channel may be disconnected, but there is work to finish.
                Err(_) => return true,
            }
        }
    }

    fn admit(&mut self, sequence: Sequence) {
        if let Err(why) = sequence.check(self.engine.description()) {
            sequence.fail(ExecutorError::Unfit(why));
            return;
        }
        self.named += 1;
        let id = SequenceId(self.named);
        let (prompt_tokens, alone) = (sequence.prompt_tokens(), sequence.runs_alone());
        self.batcher.admit(Candidate { sequence: id, prompt_tokens, alone });
        self.sequences.insert(id, sequence);
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

    /// Computes a chunk of each prompt.
    fn prefill(&mut self, called: &[SequenceId]) {
        let now = Instant::now();
        for id in called {
            match self.sequences.get_mut(id) {
                Some(sequence) if self.batcher.begins(*id) => sequence.start(now),
                _ => {}
            }
        }
        let sequences = &self.sequences;
        let prompts: Vec<Prompt<'_>> =
            called.iter().filter_map(|id| sequences.get(id).map(|sequence| sequence.prompt(*id))).collect();
        self.meters.prefill.record(called.len() as f64);
        let mut choices = Vec::new();
        let result = self.engine.prefill(&prompts, &mut choosing(sequences, &mut choices));
        let result = result.and_then(|progress| {
            let complete = progress.iter().filter(|progress| progress.is_complete()).count();
            whole(progress.len() == called.len() && choices.len() == complete)?;
            Ok(progress)
        });
        match result {
            Ok(progress) => {
                for (id, progress) in called.iter().zip(progress) {
                    self.batcher.prefilled(*id, progress.tokens_left);
                    if let Some(sequence) = self.sequences.get_mut(id) {
                        sequence.found_cached(progress.cached_tokens);
                    }
                }
                self.take_in(choices);
            }
            Err(error) => self.lose(called, &error),
        }
    }

    fn decode(&mut self, running: &[SequenceId]) {
        let steps: Vec<(SequenceId, TokenId)> = running
            .iter()
            .filter_map(|id| self.sequences.get(id)?.last_token().map(|token| (*id, token)))
            .collect();
        self.meters.decode.record(running.len() as f64);
        let mut choices = Vec::with_capacity(running.len());
        let result = self.engine.decode(&steps, &mut choosing(&self.sequences, &mut choices));
        match result.and_then(|()| whole(choices.len() == running.len())) {
            Ok(()) => self.take_in(choices),
            Err(error) => self.lose(running, &error),
        }
    }

    /// Gives each sequence its chosen token, and lets those go that end by it.
    fn take_in(&mut self, choices: Vec<(SequenceId, Choice)>) {
        self.failures = 0;
        let ended: Vec<SequenceId> =
            choices.into_iter().filter_map(|(id, choice)| self.advance(id, choice).then_some(id)).collect();
        self.let_go(&ended);
    }

    /// Gives all sequences of an engine call the call's error.
    fn lose(&mut self, called: &[SequenceId], error: &EngineError) {
        let why = error.to_string();
        self.failures += 1;
        self.meters.failures.increment(1);
        let (model, sequences) = (&self.model, called.len());
        tracing::error!(%model, sequences, failures = self.failures, why, "engine step failed");
        for id in called {
            if let Some(sequence) = self.sequences.remove(id) {
                sequence.fail(ExecutorError::Failed(why.clone()));
            }
        }
        self.let_go(called);
    }

    fn let_go(&mut self, ended: &[SequenceId]) {
        if !ended.is_empty() {
            self.engine.release(ended);
            for id in ended {
                self.batcher.leave(*id);
            }
        }
    }

    /// Takes a token for a sequence, and returns whether it was the last.
    fn advance(&mut self, id: SequenceId, choice: Choice) -> bool {
        let Some(sequence) = self.sequences.get_mut(&id) else { return true };
        let progress = sequence.advance(choice);
        if progress == Progress::Running {
            return false;
        }
        let Some(sequence) = self.sequences.remove(&id) else { return true };
        self.meters.tokens.increment(sequence.tokens_count());
        match progress {
            Progress::Running => {}
            Progress::Complete(finish_reason) => sequence.complete(finish_reason),
            Progress::Failed(why) => sequence.fail(ExecutorError::Failed(why)),
        }
        true
    }
}

/// How many logits are worth waking other cores for: choosing takes some 4 ns for each, waking some 20 µs.
const SHARED_LOGITS_MIN: usize = 1 << 15;

/// Returns a visitor of rows that chooses each sequence's next token while the row lies in the engine's memory. The rows of
/// a large vocabulary are shared out among the cores, since the engine waits until the last one is read.
fn choosing<'a>(
    sequences: &'a HashMap<SequenceId, Sequence>,
    choices: &'a mut Vec<(SequenceId, Choice)>,
) -> impl FnMut(&[SequenceRow<'_>]) + 'a {
    let choice = |&(id, row): &(SequenceId, Row<'_>)| Some((id, sequences.get(&id)?.choose(row)));
    move |rows| {
        let logits: usize = rows.iter().map(|(_, row)| row.entries_count()).sum();
        if rows.len() > 1 && logits >= SHARED_LOGITS_MIN {
            choices.par_extend(rows.par_iter().filter_map(choice));
        } else {
            choices.extend(rows.iter().filter_map(choice));
        }
    }
}

/// Returns an error if an engine did not give what it was asked for.
fn whole(is_whole: bool) -> Result<(), EngineError> {
    if is_whole {
        Ok(())
    } else {
        Err(EngineError::Failed("it did not give one row per sequence".to_owned()))
    }
}
