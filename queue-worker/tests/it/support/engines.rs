//! Engines for tests: the stub, a model made of hashes, and a wrapper that watches an engine and breaks it.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use infera_engine::stub::{StubConfig, StubEngine};
use infera_engine::{
    Engine, EngineDescription, EngineError, Progress, Prompt, Row, Scoring, SequenceId, SequenceRow,
};
use infera_types::ids::Digest;
use infera_types::numbers::NumericClass;
use infera_types::numbers::TokenId;

pub(crate) fn stub_digest() -> Digest {
    StubConfig::default().model_digest
}

/// Makes a stub whose steps take `step_us` each and whose answers have 16 tokens.
pub(crate) fn stub(step_us: u64) -> StubEngine {
    StubEngine::new(StubConfig { prefill_us: step_us, decode_us: step_us, ..StubConfig::default() }).unwrap()
}

/// Makes a stub whose answers don't end by themselves and whose tokens take 10 ms each. With 64 tokens to a request,
/// there is time to do something meanwhile.
pub(crate) fn slow() -> StubEngine {
    let config = StubConfig { decode_us: 10_000, answer_tokens: 1_000, ..StubConfig::default() };
    StubEngine::new(config).unwrap()
}

/// One call of an engine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Call {
    Prefill(Vec<SequenceId>),
    Decode(Vec<SequenceId>),
    /// The engine was dropped, so its thread no longer uses it.
    Dropped,
}

impl Call {
    pub(crate) fn size(&self) -> usize {
        match self {
            Self::Prefill(sequences) | Self::Decode(sequences) => sequences.len(),
            Self::Dropped => 0,
        }
    }
}

/// What happens at one call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    Well,
    Fails,
    Panics,
    /// The call doesn't return while a test's worker lives.
    Hangs,
}

/// The calls that a watched engine has got so far.
#[derive(Clone, Debug, Default)]
pub(crate) struct Calls(Arc<Mutex<Vec<Call>>>);

impl Calls {
    pub(crate) fn all(&self) -> Vec<Call> {
        self.0.lock().unwrap().clone()
    }

    pub(crate) fn count(&self) -> usize {
        self.all().len()
    }

    fn push(&self, call: Call) {
        self.0.lock().unwrap().push(call);
    }
}

/// An engine whose calls are recorded. Each call ends as `fate` says of its number (from 0).
pub(crate) struct Watched<E> {
    inner: E,
    calls: Calls,
    fate: fn(usize) -> Fate,
}

impl<E: Engine> Watched<E> {
    pub(crate) fn new(inner: E, fate: fn(usize) -> Fate) -> (Box<Self>, Calls) {
        let calls = Calls::default();
        (Box::new(Self { inner, calls: calls.clone(), fate }), calls)
    }

    fn meet_fate(&mut self, call: Call, sequences: &[SequenceId]) -> Result<(), EngineError> {
        let number = self.calls.count();
        self.calls.push(call);
        match (self.fate)(number) {
            Fate::Well => Ok(()),
            Fate::Fails => {
                self.inner.release(sequences);
                Err(EngineError::Failed(format!("call {number} was meant to fail")))
            }
            Fate::Hangs => {
                thread::sleep(Duration::from_secs(5));
                Ok(())
            }
            Fate::Panics => panic!("call {number} was meant to panic"),
        }
    }
}

impl<E: Engine> Engine for Watched<E> {
    fn description(&self) -> &EngineDescription {
        self.inner.description()
    }

    fn prefill(
        &mut self,
        prompts: &[Prompt<'_>],
        rows: &mut dyn FnMut(&[SequenceRow<'_>]),
    ) -> Result<Vec<Progress>, EngineError> {
        let sequences: Vec<SequenceId> = prompts.iter().map(|prompt| prompt.sequence).collect();
        self.meet_fate(Call::Prefill(sequences.clone()), &sequences)?;
        self.inner.prefill(prompts, rows)
    }

    fn decode(
        &mut self,
        steps: &[(SequenceId, TokenId)],
        rows: &mut dyn FnMut(&[SequenceRow<'_>]),
    ) -> Result<(), EngineError> {
        let sequences: Vec<SequenceId> = steps.iter().map(|(sequence, _)| *sequence).collect();
        self.meet_fate(Call::Decode(sequences.clone()), &sequences)?;
        self.inner.decode(steps, rows)
    }

    fn release(&mut self, sequences: &[SequenceId]) {
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

impl<E> Drop for Watched<E> {
    fn drop(&mut self) {
        self.calls.push(Call::Dropped);
    }
}

/// A model made of hashes. A row looks random and depends on every token before it, so a token that went to the wrong
/// sequence, was lost or came twice changes everything after it. Each step takes a moment, so that others can join.
pub(crate) struct HashEngine {
    description: EngineDescription,
    /// The tokens that each sequence has so far.
    sequences: BTreeMap<SequenceId, Vec<TokenId>>,
}

impl HashEngine {
    pub(crate) const VOCABULARY: u32 = 40;
    /// Short, so that prompts take several calls.
    const CHUNK_TOKENS: usize = 7;

    pub(crate) fn new() -> Self {
        let numeric_class = NumericClass {
            model_digest: Digest::of(b"hashes"),
            provider: "hash".to_owned(),
            hardware: "any".to_owned(),
            runtime: "none".to_owned(),
            compute: "none".to_owned(),
        };
        let description = EngineDescription {
            numeric_class,
            vocabulary: usize::try_from(Self::VOCABULARY).unwrap(),
            context_max: 512,
            sequences_max: 16,
            chunk_tokens: Self::CHUNK_TOKENS,
            caches_prefixes: false,
            gives_whole_rows: true,
        };
        Self { description, sequences: BTreeMap::new() }
    }

    fn give_row(&self, sequence: SequenceId, rows: &mut dyn FnMut(&[SequenceRow<'_>])) {
        let bytes: Vec<u8> = self.sequences[&sequence].iter().flat_map(|token| token.to_le_bytes()).collect();
        let history = Digest::of(&bytes);
        let logit = |token: TokenId| {
            let hash = Digest::of(&[history.as_bytes().as_slice(), &token.to_le_bytes()].concat());
            f32::from(u16::from_le_bytes([hash.as_bytes()[0], hash.as_bytes()[1]])) / 8_192.0
        };
        let logits: Vec<f32> = (0..Self::VOCABULARY).map(logit).collect();
        rows(&[(sequence, Row::Full(&logits))]);
    }
}

impl Engine for HashEngine {
    fn description(&self) -> &EngineDescription {
        &self.description
    }

    fn prefill(
        &mut self,
        prompts: &[Prompt<'_>],
        rows: &mut dyn FnMut(&[SequenceRow<'_>]),
    ) -> Result<Vec<Progress>, EngineError> {
        thread::sleep(Duration::from_micros(200));
        let mut progress = Vec::new();
        for prompt in prompts {
            let tokens = self.sequences.entry(prompt.sequence).or_default();
            assert!(tokens.len() < prompt.tokens.len(), "a name is in use");
            assert!(prompt.tokens.starts_with(tokens), "the prompt is another one");
            let end = prompt.tokens.len().min(tokens.len() + Self::CHUNK_TOKENS);
            tokens.extend_from_slice(&prompt.tokens[tokens.len()..end]);
            if end == prompt.tokens.len() {
                self.give_row(prompt.sequence, rows);
            }
            progress.push(Progress { tokens_left: prompt.tokens.len() - end, cached_tokens: 0 });
        }
        assert!(self.sequences.len() <= self.description.sequences_max, "too many sequences");
        Ok(progress)
    }

    fn decode(
        &mut self,
        steps: &[(SequenceId, TokenId)],
        rows: &mut dyn FnMut(&[SequenceRow<'_>]),
    ) -> Result<(), EngineError> {
        thread::sleep(Duration::from_micros(200));
        for (sequence, token) in steps {
            self.sequences.get_mut(sequence).unwrap().push(*token);
            self.give_row(*sequence, rows);
        }
        Ok(())
    }

    fn release(&mut self, sequences: &[SequenceId]) {
        for sequence in sequences {
            self.sequences.remove(sequence);
        }
    }

    fn score(&mut self, _: &Scoring<'_>, _: &mut dyn FnMut(usize, Row<'_>)) -> Result<Progress, EngineError> {
        Err(EngineError::Misuse("a model made of hashes is never asked to score".to_owned()))
    }
}
