//! Runs language models on ONNX Runtime in this process: exports with a key and value cache, as Optimum and ONNX
//! Runtime's own model builder make them, on the CPU or on CUDA, depending on the loaded library.
//!
//! In short: sequences that take a step together share cache tensors, whose values go from one run's outputs to the
//! next one's inputs without a copy while no sequence joins or leaves. When one does, the remaining rows are copied
//! into tensors of their own. Prompts run by themselves, with nothing before them.
//!
//! What rows depend on: with right padding (GroupQueryAttention) on the CPU a row is the same to the bit in any
//! batch, which the conformance suite checks. With left padding, and on CUDA, kernels see different shapes in
//! different batches, and results differ by rounding; the numeric class says so ([`COMPUTE_VARYING`]).

pub mod config;
mod elements;
mod ports;
mod rows;
mod runtime;
mod settings;
mod variants;

use std::path::Path;

use ort::session::{Session, SessionInputValue};
use ort::value::DynValue;

pub use runtime::environment;
pub use settings::{Device, OnnxConfig};

use self::elements::Float;
use self::ports::{ATTENTION_MASK, INPUT_IDS, KEPT, POSITION_IDS, Padding, Ports};
use self::rows::{Feed, Group};
use infera_engine::admission::{check_decode, check_prefill, check_score};
use infera_engine::{Engine, EngineDescription, EngineError, Logits, Prompt, SequenceId};
use infera_model::folder::{self as model_folder, FolderError, GraphFacts, ModelConfig};
use infera_types::numbers::{NumericClass, TokenId};

/// Arithmetic in f32; a row is the same to the bit in any batch.
pub const COMPUTE_EXACT: &str = "fp32";
/// Arithmetic in f32; a row differs by rounding from batch to batch.
pub const COMPUTE_VARYING: &str = "fp32-varying";
/// Caches or logits in f16; a row may differ by rounding from batch to batch.
pub const COMPUTE_HALF: &str = "fp16-varying";
/// Caches or logits in bf16; a row may differ by rounding from batch to batch.
pub const COMPUTE_BRAIN: &str = "bf16-varying";

/// How many logits one run of prompts may yield: 256 MiB of them. Models yield logits for every token of a prompt,
/// though only the last row is needed; prompts beyond the bound take several runs.
const LOGITS_MAX: usize = 64 << 20;

/// An engine on ONNX Runtime; see the module.
pub struct OnnxEngine {
    session: Session,
    ports: Ports,
    description: EngineDescription,
    pad: TokenId,
    groups: Vec<Group>,
}

/// The result of a run: logits `[rows, width, vocabulary]`, and the caches of all rows.
struct Ran {
    logits: DynValue,
    caches: Vec<DynValue>,
}

fn failed(error: &ort::Error) -> EngineError {
    EngineError::Failed(error.to_string())
}

fn load_error(error: &FolderError) -> EngineError {
    EngineError::Load(error.to_string())
}

impl OnnxEngine {
    /// Loads a model. That takes the time to read its files, and their size in memory.
    ///
    /// # Errors
    /// [`EngineError::Load`], which names what is missing or not understood and what to do about it.
    pub fn load(config: &OnnxConfig) -> Result<Self, EngineError> {
        let file =
            model_folder::onnx_file(&config.folder, &config.variant).map_err(|error| load_error(&error))?;
        let model = ModelConfig::read(&config.folder).map_err(|error| load_error(&error))?;
        let not_understood = |reason: &str| {
            let others = variants::others(&config.folder, &file);
            load_error(&FolderError::unusable(&file, format!("{reason}; {others}")))
        };
        let graph = model_folder::read(&file).map_err(|error| load_error(&error))?;
        let facts =
            GraphFacts::read(&graph).map_err(|_| not_understood("it is no ONNX file, or it is damaged"))?;
        drop(graph);
        model_folder::data_files(&file, &facts).map_err(|error| load_error(&error))?;
        // What the file says of itself is clearer than what ONNX Runtime makes of it.
        ports::refuse_other_kinds(&facts.inputs).map_err(|reason| not_understood(&reason))?;
        let session = runtime::session(config, &file).map_err(|error| {
            EngineError::Load(format!("{error}; {}", variants::others(&config.folder, &file)))
        })?;
        let ports = Ports::find(&session, &facts).map_err(|reason| not_understood(&reason))?;
        let description = EngineDescription {
            numeric_class: numeric_class(config, &file, &ports)?,
            vocabulary: ports.vocabulary,
            context_max: model.context_max,
            sequences_max: config.sequences_max,
        };
        let pad = model.pad_token.filter(|&pad| (pad as usize) < ports.vocabulary).unwrap_or_default();
        Ok(Self { session, ports, description, pad, groups: Vec::new() })
    }

    fn run(&mut self, feed: Feed, caches: Vec<DynValue>) -> ort::Result<Ran> {
        let Feed { rows, width, total, ids, mask, positions } = feed;
        let mut inputs: Vec<(&str, SessionInputValue<'_>)> = vec![
            (INPUT_IDS, self.ports.ids.tensor(&[rows, width], ids)?.into()),
            (ATTENTION_MASK, self.ports.mask.tensor(&[rows, total], mask)?.into()),
        ];
        if let Some(integer) = self.ports.positions {
            inputs.push((POSITION_IDS, integer.tensor(&[rows, width], positions)?.into()));
        }
        if let Some(integer) = self.ports.kept {
            inputs.push((KEPT, integer.tensor(&[], vec![0])?.into()));
        }
        for (port, value) in self.ports.caches.iter().zip(caches) {
            inputs.push((&port.input, value.into()));
        }
        let outputs = self.session.run(inputs)?;
        let mut values: Vec<Option<DynValue>> = outputs.into_iter().map(|(_, value)| Some(value)).collect();
        let mut output = |place: usize| {
            let value = values.get_mut(place).and_then(Option::take);
            value.ok_or_else(|| ort::Error::new("an output is missing"))
        };
        let logits = output(self.ports.logits)?;
        let caches = self.ports.caches.iter().map(|port| output(port.output)).collect::<Result<_, _>>()?;
        Ok(Ran { logits, caches })
    }

    /// Repeats the row of a lone token if a run needs more than one row.
    fn fill_up(&self, prompts: &mut Vec<&[TokenId]>) {
        while prompts.len() < self.ports.rows_min && prompts[0].len() < self.ports.rows_min {
            prompts.push(prompts[0]);
        }
    }

    /// Runs whole prompts; the caller has checked that there is room.
    fn run_prompts(&mut self, prompts: &[&[TokenId]]) -> ort::Result<Ran> {
        let feed = Feed::prompts(prompts, self.ports.padding, self.pad);
        let caches = rows::empty_caches(prompts.len(), &self.ports.caches)?;
        self.run(feed, caches)
    }

    /// Runs prompts as a group of their own, and adds the row after each prompt's last token.
    fn prefill_group(&mut self, prompts: &[Prompt<'_>], logits: &mut Logits) -> ort::Result<()> {
        let mut tokens: Vec<&[TokenId]> = prompts.iter().map(|prompt| prompt.tokens).collect();
        self.fill_up(&mut tokens);
        let ran = self.run_prompts(&tokens)?;
        let lengths: Vec<usize> = tokens.iter().map(|tokens| tokens.len()).collect();
        let width = lengths.iter().copied().max().unwrap_or_default();
        for (row, &length) in lengths.iter().enumerate().take(prompts.len()) {
            let last = row * width + rows::start(self.ports.padding, width, length) + length - 1;
            self.append_row(&ran, last, logits)?;
        }
        let mut rows: Vec<_> = prompts.iter().map(|prompt| Some(prompt.sequence)).collect();
        rows.resize(tokens.len(), None);
        self.groups.push(Group { rows, lengths, caches: ran.caches });
        Ok(())
    }

    /// Removes the group that suits a step of these sequences, or makes one by copying their rows out of other
    /// groups. In either case none of the engine's groups holds the sequences afterwards.
    fn take_group(&mut self, sequences: &[SequenceId]) -> ort::Result<Group> {
        let rows_min = self.ports.rows_min;
        if let Some(place) = self.groups.iter().position(|group| group.suits(sequences, rows_min)) {
            return Ok(self.groups.swap_remove(place));
        }
        let find = |sequence: &SequenceId| {
            self.groups.iter().find_map(|group| group.row_of(*sequence).map(|row| (group, row)))
        };
        let mut sources: Vec<(&Group, usize)> = sequences.iter().filter_map(find).collect();
        while sources.len() < rows_min && !sources.is_empty() {
            sources.push(sources[0]);
        }
        let gathered = rows::gather(&sources, &self.ports.caches, self.ports.padding);
        self.release(sequences);
        let mut group = gathered?;
        group.rows[sequences.len()..].fill(None);
        Ok(group)
    }

    /// Takes one step of these sequences together, and adds their rows.
    fn decode_group(&mut self, steps: &[(SequenceId, TokenId)], logits: &mut Logits) -> ort::Result<()> {
        let sequences: Vec<SequenceId> = steps.iter().map(|step| step.0).collect();
        let mut group = self.take_group(&sequences)?;
        let places: Vec<usize> = sequences.iter().filter_map(|&sequence| group.row_of(sequence)).collect();
        let mut tokens = vec![self.pad; group.rows.len()];
        for (&place, step) in places.iter().zip(steps) {
            tokens[place] = step.1;
        }
        let feed = Feed::step(&tokens, &group.lengths, self.ports.padding);
        let ran = self.run(feed, std::mem::take(&mut group.caches))?;
        for place in places {
            self.append_row(&ran, place, logits)?;
        }
        group.lengths.iter_mut().for_each(|length| *length += 1);
        group.caches = ran.caches;
        self.groups.push(group);
        Ok(())
    }

    /// Adds the row at `place` among all rows of a run's logits.
    fn append_row(&self, ran: &Ran, place: usize, logits: &mut Logits) -> ort::Result<()> {
        let vocabulary = logits.vocabulary;
        let range = place * vocabulary..(place + 1) * vocabulary;
        self.ports.logits_element.append(&ran.logits, range, &mut logits.values)
    }

    fn no_logits(&self) -> Logits {
        Logits { vocabulary: self.ports.vocabulary, values: Vec::new() }
    }

    fn length(&self, sequence: SequenceId) -> Option<usize> {
        self.groups.iter().find_map(|group| group.row_of(sequence).map(|row| group.lengths[row]))
    }
}

fn numeric_class(config: &OnnxConfig, file: &Path, ports: &Ports) -> Result<NumericClass, EngineError> {
    let model_digest =
        model_folder::model_digest(&config.folder, file).map_err(|error| load_error(&error))?;
    let hardware = match (config.device, &config.gpu_model) {
        (Device::Cpu, _) => runtime::instruction_set(),
        (Device::Cuda, Some(model)) => model.clone(),
        (Device::Cuda, None) => runtime::gpu_model()?,
    };
    let floats: Vec<Float> =
        ports.caches.iter().map(|port| port.element).chain([ports.logits_element]).collect();
    let compute = if floats.contains(&Float::Bfloat16) {
        COMPUTE_BRAIN
    } else if floats.contains(&Float::Float16) {
        COMPUTE_HALF
    } else if config.device == Device::Cpu && ports.padding != Padding::Left {
        COMPUTE_EXACT
    } else {
        COMPUTE_VARYING
    };
    let provider = config.device.word().to_owned();
    Ok(NumericClass {
        model_digest,
        provider,
        hardware,
        runtime: runtime::version(&config.library_path)?,
        compute: compute.to_owned(),
    })
}

/// Splits prompts into runs whose logits stay within [`LOGITS_MAX`]; each run has at least one prompt, and only one if
/// rows can't be padded.
fn runs<'p, 'a>(prompts: &'p [Prompt<'a>], vocabulary: usize, padding: Padding) -> Vec<&'p [Prompt<'a>]> {
    if padding == Padding::Never {
        return prompts.chunks(1).collect();
    }
    let (mut runs, mut begin, mut width) = (Vec::new(), 0, 0);
    for (end, prompt) in prompts.iter().enumerate() {
        let wider = width.max(prompt.tokens.len());
        if end > begin && (end + 1 - begin) * wider * vocabulary > LOGITS_MAX {
            runs.push(&prompts[begin..end]);
            (begin, width) = (end, prompt.tokens.len());
        } else {
            width = wider;
        }
    }
    if begin < prompts.len() {
        runs.push(&prompts[begin..]);
    }
    runs
}

impl Engine for OnnxEngine {
    fn description(&self) -> &EngineDescription {
        &self.description
    }

    fn prefill(&mut self, prompts: &[Prompt<'_>]) -> Result<Logits, EngineError> {
        let running = self.groups.iter().map(Group::live).sum();
        check_prefill(&self.description, prompts, running, |sequence| self.length(sequence).is_some())?;
        let mut logits = self.no_logits();
        for run in runs(prompts, self.ports.vocabulary, self.ports.padding) {
            if let Err(error) = self.prefill_group(run, &mut logits) {
                self.release(&prompts.iter().map(|prompt| prompt.sequence).collect::<Vec<_>>());
                return Err(failed(&error));
            }
        }
        Ok(logits)
    }

    fn decode(&mut self, steps: &[(SequenceId, TokenId)]) -> Result<Logits, EngineError> {
        check_decode(&self.description, steps, |sequence| self.length(sequence))?;
        if steps.is_empty() {
            return Ok(self.no_logits());
        }
        let together = if self.ports.padding == Padding::Never { 1 } else { steps.len() };
        let mut logits = self.no_logits();
        for part in steps.chunks(together) {
            if let Err(error) = self.decode_group(part, &mut logits) {
                self.release(&steps.iter().map(|step| step.0).collect::<Vec<_>>());
                return Err(failed(&error));
            }
        }
        Ok(logits)
    }

    fn release(&mut self, sequences: &[SequenceId]) {
        for group in &mut self.groups {
            for row in &mut group.rows {
                *row = row.filter(|sequence| !sequences.contains(sequence));
            }
        }
        self.groups.retain(|group| group.live() > 0);
    }

    fn score(&mut self, prompt: &[TokenId], answer: &[TokenId]) -> Result<Logits, EngineError> {
        let tokens = check_score(&self.description, prompt, answer)?;
        let mut rows = vec![tokens.as_slice()];
        self.fill_up(&mut rows);
        let ran = self.run_prompts(&rows).map_err(|error| failed(&error))?;
        let mut logits = self.no_logits();
        let wanted = (prompt.len() - 1) * logits.vocabulary..tokens.len() * logits.vocabulary;
        let element = self.ports.logits_element;
        element.append(&ran.logits, wanted, &mut logits.values).map_err(|error| failed(&error))?;
        Ok(logits)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prompts_run_together_as_far_as_their_logits_fit() {
        let tokens = vec![0; 1000];
        let prompt = |(index, length): (usize, usize)| Prompt {
            sequence: SequenceId(index as u64),
            tokens: &tokens[..length],
        };
        let sizes = |lengths: &[usize], vocabulary| {
            let prompts: Vec<_> = lengths.iter().copied().enumerate().map(prompt).collect();
            runs(&prompts, vocabulary, Padding::Right).iter().map(|run| run.len()).collect::<Vec<_>>()
        };
        assert_eq!(sizes(&[9; 16], 768), [16]);
        assert_eq!(sizes(&[], 768), [0; 0]);
        // Two rows of 1,000 tokens fit into 64 Mi logits of this vocabulary; every run with a long prompt is as wide.
        assert_eq!(sizes(&[10, 1000, 1, 10, 10], 30_000), [2, 3]);
        assert_eq!(sizes(&[1000, 1000], 1 << 20), [1, 1]);
    }
}
