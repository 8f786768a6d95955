//! How much memory a model takes on a device: a pure function of what its files state and of how it is used. Its constants
//! were measured; the test `footprint` compares them with the growth of a real process.

use std::path::Path;

use infera_model::folder::{self as model_folder, FolderError, GraphFacts, ModelConfig};

use crate::ports::{self, Ports};
use crate::runs::LOGITS_MAX;

/// What a model's files state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    /// The bytes of the graph and its weights.
    pub weights_bytes: u64,
    /// The bytes that one token of one sequence takes in all caches.
    pub cache_bytes_per_token: u64,
    /// The length of a row of logits.
    pub vocabulary: u64,
    /// The bytes of the files that text's side reads.
    pub tokenizer_bytes: u64,
    /// The most tokens that prompt and answer may have together.
    pub context_max: u64,
}

/// How a model is used at most.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Load {
    /// The tokens of each sequence.
    pub context: u64,
    /// The sequences at once.
    pub sequences: u64,
    /// The tokens of a prompt that one run computes.
    pub chunk_tokens: u64,
    /// The bytes that the cached beginnings of prompts may take.
    pub prefix_cache_bytes: u64,
}

/// The memory that is needed, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Needed {
    /// The weights, as the runtime holds them.
    pub weights: u64,
    /// The caches of all sequences, and of prompts' beginnings.
    pub caches: u64,
    /// The logits of the largest run.
    pub working: u64,
    /// The runtime, the tokenizer and the threads.
    pub fixed: u64,
    /// The peak while the model is loaded, all in all.
    pub loading: u64,
}

impl Needed {
    /// Returns the most that is needed at any time.
    #[must_use]
    pub fn total(&self) -> u64 {
        let running =
            self.weights.saturating_add(self.caches).saturating_add(self.working).saturating_add(self.fixed);
        running.max(self.loading)
    }
}

impl Shape {
    /// Reads the shape of a variant, and checks without loading it that the engine can run it.
    ///
    /// # Errors
    /// [`FolderError`] names the file or fact that is missing.
    pub fn read(folder: &Path, variant: &str) -> Result<Self, FolderError> {
        let file = model_folder::onnx_file(folder, variant)?;
        let config = ModelConfig::read(folder)?;
        let graph = model_folder::read(&file)?;
        let facts = GraphFacts::read(&graph)
            .map_err(|_| FolderError::unusable(&file, "it is no ONNX file, or it is damaged"))?;
        let length = |path: &Path| path.metadata().map_or(0, |metadata| metadata.len());
        let data = model_folder::data_files(&file, &facts)?;
        let weights_bytes =
            data.iter().fold(graph.len() as u64, |sum, path| sum.saturating_add(length(path)));
        let not_understood = |reason: String| FolderError::unusable(&file, reason);
        ports::refuse_other_kinds(&facts.inputs).map_err(not_understood)?;
        Ports::check(&facts).map_err(not_understood)?;
        Ok(Self {
            weights_bytes,
            cache_bytes_per_token: cache_bytes_per_token(&facts),
            vocabulary: vocabulary(&facts),
            tokenizer_bytes: length(&folder.join(model_folder::TOKENIZER)),
            context_max: config.context_max as u64,
        })
    }
}

/// The prefix of the inputs that are caches, `[batch, heads, length, size]`.
const PAST: &str = "past_key_values.";
/// The output with the logits, `[batch, length, vocabulary]`.
const LOGITS: &str = "logits";

fn cache_bytes_per_token(facts: &GraphFacts) -> u64 {
    let caches = facts.inputs.iter().filter(|input| input.name.starts_with(PAST));
    let fixed = |port: &model_folder::Port, place: usize| {
        port.sizes.get(place).copied().flatten().unwrap_or(0) as u64
    };
    caches.map(|port| fixed(port, 1) * fixed(port, 3) * bytes_of(port.element)).sum()
}

fn vocabulary(facts: &GraphFacts) -> u64 {
    let logits = facts.outputs.iter().find(|output| output.name == LOGITS);
    logits.and_then(|port| port.sizes.get(2).copied().flatten()).unwrap_or(0) as u64
}

const fn bytes_of(element: model_folder::ElementType) -> u64 {
    match element {
        model_folder::ElementType::FLOAT16 | model_folder::ElementType::BFLOAT16 => 2,
        _ => 4,
    }
}

/// The bytes of a number of logits, which are handed on as 32-bit floats.
const LOGIT_BYTES: u64 = 4;
/// The runtime with its threads and what its allocator keeps, in bytes.
const RUNTIME_BYTES: u64 = 50 << 20;
/// The bytes in memory for one byte of `tokenizer.json`: its tokens and merges become tables.
const TOKENIZER_FACTOR: u64 = 16;
/// What loading takes beyond the weights, as one part of them of this many, because tensors are repacked one by one.
const LOADING_SHARE: u64 = 10;
/// What loading takes in any case, beyond the runtime and the tokenizer.
const LOADING_BYTES: u64 = 12 << 20;

/// Returns the memory that a model needs under a load, with fixed buffers for the caches. The constants are SmolLM2-135M's on the
/// CPU; on CUDA they are an estimate.
#[must_use]
pub fn needed(shape: &Shape, load: &Load) -> Needed {
    let all_tokens = load.context.saturating_mul(load.sequences);
    // A run has at least one whole chunk.
    let chunk = load.chunk_tokens.min(load.context);
    let run_max = (LOGITS_MAX as u64 / shape.vocabulary.max(1)).max(chunk);
    let numbers = chunk.saturating_mul(load.sequences).min(run_max).saturating_mul(shape.vocabulary);
    let caches = all_tokens.saturating_mul(shape.cache_bytes_per_token);
    let fixed = RUNTIME_BYTES.saturating_add(shape.tokenizer_bytes.saturating_mul(TOKENIZER_FACTOR));
    let repacked = shape.weights_bytes.saturating_add(shape.weights_bytes / LOADING_SHARE);
    Needed {
        weights: shape.weights_bytes,
        caches: caches.saturating_add(load.prefix_cache_bytes),
        working: numbers.saturating_mul(LOGIT_BYTES),
        fixed,
        loading: repacked.saturating_add(fixed).saturating_add(LOADING_BYTES),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SMOL: Shape = Shape {
        weights_bytes: 103_773_945,
        cache_bytes_per_token: 46_080,
        vocabulary: 49_152,
        tokenizer_bytes: 2_690_090,
        context_max: 8192,
    };

    fn load(context: u64, sequences: u64) -> Load {
        Load { context, sequences, chunk_tokens: 64, prefix_cache_bytes: 0 }
    }

    #[test]
    fn more_of_anything_never_needs_less() {
        let mut last = 0;
        for context in [1, 64, 512, 2048, 8192, u64::MAX] {
            let total = needed(&SMOL, &load(context, 4)).total();
            assert!(total >= last, "{context}");
            last = total;
        }
        let (one, two) = (needed(&SMOL, &load(2048, 8)), needed(&SMOL, &load(2048, 16)));
        assert_eq!(
            (two.caches, two.working),
            (2 * one.caches, one.working),
            "chunks beyond the bound take several runs"
        );
        assert_eq!(one.caches, 8 * 2048 * 46_080);
        let cached = Load { prefix_cache_bytes: 1 << 20, ..load(2048, 8) };
        assert_eq!(needed(&SMOL, &cached).caches, one.caches + (1 << 20));
        let large = Shape { weights_bytes: 1 << 40, ..SMOL };
        let loading = needed(&large, &load(1, 1));
        assert_eq!(loading.total(), loading.loading);
    }

    #[test]
    fn a_shape_is_read_or_what_is_missing_is_named() {
        let tiny = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../models/infera-tiny");
        let shape = Shape::read(&tiny, "model").expect("it is bundled");
        assert!(
            shape.cache_bytes_per_token > 0 && shape.vocabulary == 768 && shape.weights_bytes > 1_800_000,
            "{shape:?}"
        );
        let told = Shape::read(&tiny, "fp16").expect_err("no such").to_string();
        assert!(told.contains("fp16") && told.contains("model_q4.onnx"), "{told}");
    }
}
