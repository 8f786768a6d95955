//! Runs language models on ONNX Runtime in this process: exports with a key and value cache, as Optimum and ONNX
//! Runtime's own model builder make them, on the CPU or on CUDA, depending on the loaded library.
//!
//! In short: graphs that write their cache in place (GroupQueryAttention) run on fixed buffers, in which each sequence has a row:
//! on the CPU in runs of the rows that are asked (`slab`), on a GPU in runs of fixed shapes (`padded`). With all others caches come
//! and go with each run, and stay on the device (`groups`). Prompts and answers to
//! score are computed in chunks, one chunk of each a call: first chunks together, later ones each by itself, because
//! GroupQueryAttention takes several tokens behind a cache in one row only.
//!
//! What rows depend on: with right padding (GroupQueryAttention) on the CPU a row is the same to the bit in any
//! batch, which the conformance suite checks, and so is one of a graph whose sequences run one at a time. It depends on the
//! chunks, so their size is part of the numeric class. With left padding kernels see different shapes in different batches, and
//! results differ by rounding; the numeric class says so ([`COMPUTE_VARYING`]). On CUDA the shape of a run decides which kernels
//! compute it, so steps are padded to buckets that the class names, and a self-check (`check`) finds whether two processes give
//! the same bits, before the class says so.

mod buckets;
mod caches;
pub mod check;
pub mod choices;
mod class;
pub mod config;
mod device;
pub mod devices;
mod elements;
pub mod fitting;
pub mod footprint;
mod gpu;
mod groups;
mod loading;
mod memory;
mod model;
mod padded;
mod ports;
mod prefixes;
mod rows;
mod runs;
mod runtime;
mod settings;
mod slab;
mod variants;

use std::collections::BTreeMap;

pub use class::{COMPUTE_BRAIN, COMPUTE_EXACT, COMPUTE_HALF, COMPUTE_VARYING};
pub use runtime::environment;
pub use settings::{Device, OnnxConfig, SelfCheck};

use self::buckets::Buckets;
use self::caches::Caches;
use self::class::Arithmetic;
use self::loading::{caches, load_error, load_model};
use self::model::{Answered, Model, row_at};
use self::ports::{Padding, Ports};
use self::prefixes::Prefixes;
use self::runs::runs;
use infera_engine::admission::{Extent, check_decode, check_prefill, check_score};
use infera_engine::{
    Engine, EngineDescription, EngineError, Progress, Prompt, Row, Scoring, SequenceId, SequenceRow,
};
use infera_model::folder::{self as model_folder, FolderError};
use infera_types::numbers::TokenId;

/// An engine on ONNX Runtime; see the module.
pub struct OnnxEngine {
    caches: Caches,
    model: Model,
    arithmetic: Arithmetic,
    description: EngineDescription,
    sequences: BTreeMap<SequenceId, Extent>,
    /// The score that is not complete.
    scored: Option<(SequenceId, Extent)>,
    prefixes: Prefixes,
}

fn failed(error: &ort::Error) -> EngineError {
    EngineError::Failed(error.to_string())
}

impl OnnxEngine {
    /// Checks settings without loading anything: their bounds, and that the model's file and the device's ONNX Runtime are there.
    ///
    /// # Errors
    /// [`EngineError::Load`], which names every mistake.
    pub fn check(config: &OnnxConfig) -> Result<(), EngineError> {
        let mistakes = config.mistakes();
        if !mistakes.is_empty() {
            return Err(EngineError::Load(mistakes.join("; ")));
        }
        runtime::check_build(config.device, &config.library_path)?;
        model_folder::onnx_file(&config.folder, &config.variant).map(drop).map_err(|error| load_error(&error))
    }

    /// Loads a model. That takes the time to read its files, and their size in memory.
    ///
    /// # Errors
    /// [`EngineError::Load`], which names what is missing or not understood and what to do about it.
    pub fn load(config: &OnnxConfig) -> Result<Self, EngineError> {
        Self::check(config)?;
        let file =
            model_folder::onnx_file(&config.folder, &config.variant).map_err(|error| load_error(&error))?;
        let (mut model, context_max) = load_model(config, &file)?;
        let in_place = config.fixed_buffers && model.ports.writes_in_place;
        let arithmetic = Arithmetic {
            device: config.device,
            element: model.ports.narrowest(),
            padding: model.ports.padding,
            chunk_tokens: config.chunk_tokens,
            buckets: if in_place { config.buckets() } else { Buckets::default() },
        };
        let made = caches(config, &model, &arithmetic, context_max);
        let unusable = |error: ort::Error| load_error(&FolderError::unusable(&file, error.to_string()));
        let mut caches = made.map_err(unusable)?;
        if config.device == Device::Cuda {
            caches.warm_up(&mut model).map_err(unusable)?;
        }
        let prefix_bytes_max = if matches!(caches, Caches::Slab(_)) { config.prefix_cache_bytes } else { 0 };
        let description = EngineDescription {
            numeric_class: class::numeric_class(config, &file, &arithmetic)?,
            vocabulary: model.ports.vocabulary,
            context_max,
            sequences_max: config.sequences_max,
            chunk_tokens: config.chunk_tokens,
            caches_prefixes: prefix_bytes_max > 0,
            gives_whole_rows: true,
        };
        Ok(Self {
            caches,
            model,
            arithmetic,
            prefixes: Prefixes::new(description.chunk_tokens, prefix_bytes_max),
            description,
            sequences: BTreeMap::new(),
            scored: None,
        })
    }

    /// Names the class by what the self-check has found.
    pub(crate) fn was_checked(&mut self, is_same_in_any_batch: bool) {
        self.description.numeric_class.compute = self.arithmetic.word(is_same_in_any_batch);
    }

    fn extent(&self, sequence: SequenceId) -> Option<Extent> {
        self.sequences.get(&sequence).copied()
    }

    /// Starts the prompts that are new, with what is cached of them. Returns how far each prompt is, in the order given.
    fn join(&mut self, prompts: &[Prompt<'_>]) -> ort::Result<Vec<Extent>> {
        let mut extents = Vec::with_capacity(prompts.len());
        for prompt in prompts {
            let extent = match self.extent(prompt.sequence) {
                Some(extent) => extent,
                None => {
                    let cached_tokens = self.restore(prompt)?;
                    Extent { tokens: cached_tokens, cached_tokens, ..Extent::new(prompt.tokens.len()) }
                }
            };
            self.sequences.insert(prompt.sequence, extent);
            extents.push(extent);
        }
        Ok(extents)
    }

    fn restore(&mut self, prompt: &Prompt<'_>) -> ort::Result<usize> {
        let (Caches::Slab(slab), Some(scope)) = (&mut self.caches, &prompt.scope) else { return Ok(0) };
        let blocks = self.prefixes.find(scope, prompt.tokens);
        if blocks.is_empty() {
            return Ok(0);
        }
        let chunk_tokens = self.description.chunk_tokens;
        slab.restore(prompt.sequence, &blocks, chunk_tokens)?;
        Ok(blocks.len() * chunk_tokens)
    }

    /// Keeps the chunk that ends a prompt's computed tokens for later prompts of its scope, if it is a whole one.
    fn keep(&mut self, prompt: &Prompt<'_>, tokens: usize) {
        let (Caches::Slab(slab), Some(scope)) = (&self.caches, &prompt.scope) else { return };
        let chunk_tokens = self.description.chunk_tokens;
        if tokens == 0 || !tokens.is_multiple_of(chunk_tokens) {
            return;
        }
        let block = || slab.read(prompt.sequence, tokens - chunk_tokens, tokens);
        self.prefixes.keep(scope, &prompt.tokens[..tokens], block);
    }

    /// Computes one chunk of each prompt; the caller has checked that there is room.
    fn prefill_chunks(
        &mut self,
        prompts: &[Prompt<'_>],
        rows: &mut dyn FnMut(&[SequenceRow<'_>]),
    ) -> ort::Result<Vec<Progress>> {
        let extents = self.join(prompts)?;
        let chunk_tokens = self.description.chunk_tokens;
        let chunks: Vec<(&Prompt<'_>, std::ops::Range<usize>)> = prompts
            .iter()
            .zip(&extents)
            .map(|(prompt, extent)| (prompt, extent.next_chunk(chunk_tokens)))
            .collect();
        let (begin, go_on): (Vec<_>, Vec<_>) = chunks.into_iter().partition(|(_, chunk)| chunk.start == 0);
        let firsts: Vec<(SequenceId, &[TokenId])> =
            begin.iter().map(|(prompt, chunk)| (prompt.sequence, &prompt.tokens[chunk.clone()])).collect();
        let mut begin = begin.as_slice();
        let Ports { vocabulary, padding, .. } = self.model.ports;
        let is_joined = padding != Padding::Never && self.caches.joins_prompts();
        for run in runs(&firsts, vocabulary, is_joined) {
            let answered = self.caches.first(&mut self.model, run, 1)?;
            let (these, others) = begin.split_at(run.len());
            self.take_in(&answered, these, rows)?;
            begin = others;
        }
        for one in &go_on {
            let (prompt, chunk) = one;
            let tokens = &prompt.tokens[chunk.clone()];
            let answered = self.caches.chunk(&mut self.model, (prompt.sequence, tokens), 1)?;
            self.take_in(&answered, std::slice::from_ref(one), rows)?;
        }
        let progress = |prompt: &Prompt<'_>| self.extent(prompt.sequence).map(Extent::progress);
        Ok(prompts.iter().filter_map(progress).collect())
    }

    /// Notes that chunks are computed, keeps whole ones, and gives `rows` the logits of those that end their prompts.
    fn take_in(
        &mut self,
        answered: &Answered,
        chunks: &[(&Prompt<'_>, std::ops::Range<usize>)],
        rows: &mut dyn FnMut(&[SequenceRow<'_>]),
    ) -> ort::Result<()> {
        let values = answered.values(self.model.ports.logits_element)?;
        let mut complete = Vec::with_capacity(chunks.len());
        for (&(prompt, ref chunk), place) in chunks.iter().zip(&answered.places) {
            if let Some(extent) = self.sequences.get_mut(&prompt.sequence) {
                extent.tokens = chunk.end;
            }
            self.keep(prompt, chunk.end);
            if chunk.end == prompt.tokens.len() {
                complete.push((prompt.sequence, row_at(&values, self.model.ports.vocabulary, *place)?));
            }
        }
        rows(&complete);
        Ok(())
    }

    fn step(
        &mut self,
        steps: &[(SequenceId, TokenId)],
        rows: &mut dyn FnMut(&[SequenceRow<'_>]),
    ) -> ort::Result<()> {
        let Ports { vocabulary, padding, logits_element, .. } = self.model.ports;
        let together = if padding == Padding::Never { 1 } else { steps.len() };
        for steps in steps.chunks(together) {
            let answered = self.caches.step(&mut self.model, steps)?;
            let values = answered.values(logits_element)?;
            let mut next = Vec::with_capacity(steps.len());
            for ((sequence, _), place) in steps.iter().zip(&answered.places) {
                if let Some(extent) = self.sequences.get_mut(sequence) {
                    extent.tokens += 1;
                }
                next.push((*sequence, row_at(&values, vocabulary, *place)?));
            }
            rows(&next);
        }
        Ok(())
    }

    /// Computes the next chunk of a score.
    fn score_chunk(
        &mut self,
        scoring: &Scoring<'_>,
        tokens: &[TokenId],
        row: &mut dyn FnMut(usize, Row<'_>),
    ) -> ort::Result<Extent> {
        let known = self.scored.take().map(|(_, extent)| extent);
        let mut extent = known.unwrap_or_else(|| Extent::new(tokens.len()));
        let chunk = extent.next_chunk(self.description.chunk_tokens);
        let these = &tokens[chunk.clone()];
        // The row after the prompt's last token precedes the answer's first.
        let of_answer = chunk.start.max(scoring.prompt.len() - 1)..chunk.end;
        let wanted = of_answer.len().max(1);
        let answered = if chunk.start == 0 {
            self.caches.first_of_score(&mut self.model, (scoring.sequence, these), wanted)?
        } else {
            self.caches.chunk(&mut self.model, (scoring.sequence, these), wanted)?
        };
        let Ports { vocabulary, logits_element, .. } = self.model.ports;
        let values = answered.values(logits_element)?;
        let last = answered.places.first().copied().unwrap_or_default();
        for place in of_answer {
            let found = row_at(&values, vocabulary, last + 1 + place - chunk.end)?;
            row(place + 1 - scoring.prompt.len(), found);
        }
        extent.tokens = chunk.end;
        Ok(extent)
    }
}

impl Engine for OnnxEngine {
    fn description(&self) -> &EngineDescription {
        &self.description
    }

    fn prefill(
        &mut self,
        prompts: &[Prompt<'_>],
        rows: &mut dyn FnMut(&[SequenceRow<'_>]),
    ) -> Result<Vec<Progress>, EngineError> {
        check_prefill(&self.description, prompts, self.sequences.len(), |sequence| self.extent(sequence))?;
        self.prefill_chunks(prompts, rows).map_err(|error| {
            self.release(&prompts.iter().map(|prompt| prompt.sequence).collect::<Vec<_>>());
            failed(&error)
        })
    }

    fn decode(
        &mut self,
        steps: &[(SequenceId, TokenId)],
        rows: &mut dyn FnMut(&[SequenceRow<'_>]),
    ) -> Result<(), EngineError> {
        check_decode(&self.description, steps, |sequence| self.extent(sequence))?;
        if steps.is_empty() {
            return Ok(());
        }
        self.step(steps, rows).map_err(|error| {
            self.release(&steps.iter().map(|step| step.0).collect::<Vec<_>>());
            failed(&error)
        })
    }

    fn release(&mut self, sequences: &[SequenceId]) {
        self.caches.release(sequences);
        self.sequences.retain(|sequence, _| !sequences.contains(sequence));
        self.scored = self.scored.filter(|(scored, _)| !sequences.contains(scored));
    }

    fn score(
        &mut self,
        scoring: &Scoring<'_>,
        row: &mut dyn FnMut(usize, Row<'_>),
    ) -> Result<Progress, EngineError> {
        let is_running = |sequence| self.sequences.contains_key(&sequence);
        let tokens = check_score(&self.description, scoring, self.scored, is_running)?;
        let result = self.score_chunk(scoring, &tokens, row);
        let extent = result.map_err(|error| {
            self.release(&[scoring.sequence]);
            failed(&error)
        })?;
        if extent.is_prefilling() {
            self.scored = Some((scoring.sequence, extent));
        } else {
            self.caches.release(&[scoring.sequence]);
        }
        Ok(extent.progress())
    }
}
