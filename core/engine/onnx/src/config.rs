//! The operator's choice of a node's engine, and loading it. Each engine's own module says what it does; the
//! catalogue says which digests the network accepts.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use infera_engine::stub::{StubConfig, StubEngine};
use infera_engine::{Engine, EngineError};

use crate::OnnxEngine;
use crate::check::{Second, load_checked};
use crate::settings::{Device, OnnxConfig, SelfCheck, chunk_tokens_default, prefix_cache_bytes_default};

/// The engine that a node runs.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct EngineConfig {
    /// `onnx`: the model in `folder`. `stub`: no model at all, to measure the cost of everything else.
    pub kind: EngineKind,
    /// The model's folder, as the Hub lays it out. The folder's name is the model's name.
    pub folder: PathBuf,
    /// The folder's ONNX file: `model`, or `q4` for `model_q4.onnx` and the like.
    pub variant: String,
    /// ONNX Runtime's shared library.
    pub library: PathBuf,
    /// `cpu` or `cuda`; the engine never falls back to the other.
    pub device: Device,
    /// Threads within one engine. One by default: several nodes may share a machine's cores, and the bundled model is
    /// too small to be worth splitting.
    pub threads: usize,
    /// Sequences that one engine holds at once.
    pub sequences_max: usize,
    /// The tokens of a prompt that one run computes: how long others wait for a long prompt. Part of the numeric class, so
    /// leave it as the network's other nodes have it.
    pub chunk_tokens: usize,
    /// The bytes that the cached beginnings of prompts may take; 0 caches none.
    pub prefix_cache_bytes: usize,
    /// The numbers of rows that steps are padded to, such as `[1, 8, 32]`; part of the numeric class. The last must hold
    /// `sequences_max`. Empty by default: none on the CPU, and on a GPU one of `sequences_max`, with which a row is the same
    /// whatever runs beside it. More buckets are faster while few sequences run, and the class then says that numbers vary.
    /// Graphs without GroupQueryAttention don't use them.
    pub batch_buckets: Vec<usize>,
    /// Whether a second process must give the same bits before the engine serves: `auto` (the default: on a GPU), `on`, `off`.
    pub self_check: SelfCheck,
    /// The GPU's model, for drivers that do not report it; part of the numeric class.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gpu_model: Option<String>,
    /// How the stub behaves.
    pub stub: StubConfig,
}

impl Default for EngineConfig {
    fn default() -> Self {
        Self {
            kind: EngineKind::Onnx,
            folder: PathBuf::from("models/infera-tiny"),
            variant: "model".to_owned(),
            library: PathBuf::from(LIBRARY),
            device: Device::Cpu,
            threads: 1,
            // As many as the worker's slots, which is the largest batch that the engine's properties are tested with.
            sequences_max: 16,
            chunk_tokens: chunk_tokens_default(),
            prefix_cache_bytes: prefix_cache_bytes_default(),
            batch_buckets: Vec::new(),
            self_check: SelfCheck::default(),
            gpu_model: None,
            stub: StubConfig::default(),
        }
    }
}

/// The path at which `make setup` puts the library.
#[cfg(target_os = "macos")]
const LIBRARY: &str = ".runtime/onnxruntime/libonnxruntime.1.31.1.dylib";
/// The path at which `make setup` puts the library.
#[cfg(not(target_os = "macos"))]
const LIBRARY: &str = ".runtime/onnxruntime/libonnxruntime.so.1.31.1";

/// A kind of engine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EngineKind {
    /// A real model on ONNX Runtime.
    Onnx,
    /// Canned tokens after a fixed service time.
    Stub,
}

impl EngineConfig {
    /// Loads the engine. That takes as long as its file is large, so don't call it on a thread that others wait for.
    /// Each node gets its own engine, as it would on its own machine. With a self-check this program is started a second time, with
    /// the argument [`check::ARGUMENT`](crate::check::ARGUMENT), which it must know.
    ///
    /// # Errors
    /// [`EngineError::Load`], which says what is missing and what to do.
    pub fn load(&self) -> Result<Box<dyn Engine>, EngineError> {
        Ok(match self.kind {
            EngineKind::Stub => Box::new(StubEngine::new(self.stub.clone())?),
            EngineKind::Onnx if self.self_check.is_wanted(self.device) => {
                Box::new(load_checked(&self.onnx(), Second::this_program()?)?)
            }
            EngineKind::Onnx => Box::new(OnnxEngine::load(&self.onnx())?),
        })
    }

    /// Returns the settings for an ONNX engine.
    #[must_use]
    pub fn onnx(&self) -> OnnxConfig {
        OnnxConfig {
            folder: self.folder.clone(),
            variant: self.variant.clone(),
            library_path: self.library.clone(),
            device: self.device,
            threads: self.threads,
            sequences_max: self.sequences_max,
            chunk_tokens: self.chunk_tokens,
            prefix_cache_bytes: self.prefix_cache_bytes,
            fixed_buffers: true,
            batch_buckets: self.batch_buckets.clone(),
            gpu_model: self.gpu_model.clone(),
        }
    }
}
