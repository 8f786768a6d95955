//! An engine that tells when each sequence gets a token, and counts where the time goes. It changes nothing.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use infera_engine::{
    Engine, EngineDescription, EngineError, Progress, Prompt, Row, Scoring, SequenceId, SequenceRow,
};
use infera_types::ids::Digest;
use infera_types::numbers::TokenId;
use serde::{Deserialize, Serialize};

/// Where the time went, in seconds, and how often.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Profile {
    /// In the engine's prefills.
    pub(crate) prefill_s: f64,
    /// In the engine's decoding steps.
    pub(crate) decode_s: f64,
    /// Choosing tokens and their numbers, inside of either, counted apart.
    pub(crate) choose_s: f64,
    pub(crate) prefills: u64,
    pub(crate) steps: u64,
    /// The sum of the steps' sequences.
    pub(crate) step_rows: u64,
}

/// Counts shared by an engine and who asks for them.
#[derive(Clone, Debug, Default)]
pub(crate) struct Counts(Arc<Mutex<Profile>>);

impl Counts {
    /// Returns what was counted since the last call.
    pub(crate) fn take(&self) -> Profile {
        std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn add(&self, count: impl FnOnce(&mut Profile)) {
        count(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner));
    }
}

/// The numbers of requests by the scope that each was given as its name: the executor names sequences in the order in which
/// it takes them, which is not that of the requests when more come than it has slots. The engine beneath caches nothing.
#[derive(Clone, Debug, Default)]
pub(crate) struct Names(Arc<Mutex<HashMap<Digest, u64>>>);

impl Names {
    /// Returns the scope by which a request will be known.
    pub(crate) fn give(&self, number: u64) -> Digest {
        let scope = Digest::of(&number.to_le_bytes());
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(scope, number);
        scope
    }

    fn take(&self, scope: &Digest) -> Option<u64> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(scope)
    }
}

/// An engine whose tokens are told of.
pub(crate) struct Observed {
    inner: Box<dyn Engine>,
    counts: Counts,
    names: Names,
    /// The numbers of the requests that run.
    numbers: HashMap<SequenceId, u64>,
    /// Is told after each call which requests got a token.
    tell: fn(&[u64]),
}

impl Observed {
    pub(crate) fn new(inner: Box<dyn Engine>, counts: Counts, names: Names, tell: fn(&[u64])) -> Self {
        Self { inner, counts, names, numbers: HashMap::new(), tell }
    }

    fn tell(&self, named: &[SequenceId]) {
        let numbers: Vec<u64> =
            named.iter().filter_map(|sequence| self.numbers.get(sequence).copied()).collect();
        (self.tell)(&numbers);
    }
}

/// Runs a call with a visitor that notes names and the time in the visitor itself.
fn timed<T>(
    rows: &mut dyn FnMut(&[SequenceRow<'_>]),
    call: impl FnOnce(&mut dyn FnMut(&[SequenceRow<'_>])) -> T,
) -> (T, Vec<SequenceId>, Duration, Duration) {
    let (mut named, mut choosing, begun) = (Vec::new(), Duration::ZERO, Instant::now());
    let result = call(&mut |given| {
        let at = Instant::now();
        rows(given);
        choosing += at.elapsed();
        named.extend(given.iter().map(|(sequence, _)| *sequence));
    });
    let engine = begun.elapsed().saturating_sub(choosing);
    (result, named, engine, choosing)
}

impl Engine for Observed {
    fn description(&self) -> &EngineDescription {
        self.inner.description()
    }

    fn prefill(
        &mut self,
        prompts: &[Prompt<'_>],
        rows: &mut dyn FnMut(&[SequenceRow<'_>]),
    ) -> Result<Vec<Progress>, EngineError> {
        for prompt in prompts {
            let number = prompt.scope.and_then(|scope| self.names.take(&scope));
            self.numbers.extend(number.map(|number| (prompt.sequence, number)));
        }
        let (result, named, engine, choosing) = timed(rows, |rows| self.inner.prefill(prompts, rows));
        self.counts.add(|counts| {
            counts.prefill_s += engine.as_secs_f64();
            counts.choose_s += choosing.as_secs_f64();
            counts.prefills += 1;
        });
        self.tell(&named);
        result
    }

    fn decode(
        &mut self,
        steps: &[(SequenceId, TokenId)],
        rows: &mut dyn FnMut(&[SequenceRow<'_>]),
    ) -> Result<(), EngineError> {
        let (result, named, engine, choosing) = timed(rows, |rows| self.inner.decode(steps, rows));
        self.counts.add(|counts| {
            counts.decode_s += engine.as_secs_f64();
            counts.choose_s += choosing.as_secs_f64();
            counts.steps += 1;
            counts.step_rows += steps.len() as u64;
        });
        self.tell(&named);
        result
    }

    fn release(&mut self, sequences: &[SequenceId]) {
        for sequence in sequences {
            self.numbers.remove(sequence);
        }
        self.inner.release(sequences);
    }

    fn score(
        &mut self,
        scoring: &Scoring<'_>,
        row: &mut dyn FnMut(usize, Row<'_>),
    ) -> Result<Progress, EngineError> {
        self.inner.score(scoring, row)
    }
}
