//! The operator's choice of a node's engine, and loading it. Each engine's own module says what it does; the
//! catalogue says which digests the network accepts.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use infera_engine::stub::{StubConfig, StubEngine};
use infera_engine::{Engine, EngineError};
use infera_model::folder::{CONFIG, FolderError};
use infera_types::ids::ModelName;

use crate::OnnxEngine;
use crate::check::{Second, load_checked};
use crate::choices::{ModelChoice, ModelChoices};
use crate::fitting::{Bound, Wanted};
use crate::footprint::{Load, Shape};
use crate::settings::{Device, OnnxConfig, SelfCheck, chunk_tokens_default, prefix_cache_bytes_default};

/// The engine that a node runs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct EngineConfig {
    /// `onnx`: the model in `folder`. `stub`: no model at all, to measure the cost of everything else.
    pub kind: EngineKind,
    /// The model's folder, as the Hub lays it out. The folder's name is the model's name. Not read where `models` names any.
    pub folder: PathBuf,
    /// The folder's ONNX file: `model`, or `q4` for `model_q4.onnx` and the like.
    pub variant: String,
    /// ONNX Runtime's shared library.
    pub library: PathBuf,
    /// `cpu` or `cuda`; the engine never falls back to the other.
    pub device: Device,
    /// Threads within one engine, each engine its own. The system shares the cores among them, so that no model's step waits for
    /// another's and a busy one takes what idle ones leave. One by default: several nodes may share a machine's cores, and the bundled model is
    /// too small to be worth splitting.
    pub threads: usize,
    /// Sequences that one engine holds at once.
    pub sequences_max: usize,
    /// The tokens of a prompt that one run computes: how long others wait for a long prompt. Part of the numeric class, so
    /// leave it as the network's other nodes have it.
    pub chunk_tokens: usize,
    /// The bytes that the cached beginnings of prompts may take, in each engine; 0 caches none.
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
    /// The most that all models together may need, in bytes, where the engine's device has its memory: in the worst case, with
    /// every sequence at its full length. Without it, several models may need what is free when the program starts, because
    /// beyond that the system would swap or end it; a single one isn't bounded, because few loads ever reach the worst case, and
    /// with one model there is nothing to choose.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory_bytes_max: Option<u64>,
    /// Several models in place of `folder`, an engine for each: a text of folders with commas between them, or a list of folders
    /// or of tables (`[[engine.models]]`), which may have a `variant`, `threads`, `sequences_max` and `prefix_cache_bytes` of
    /// their own. Everything else is the same for all.
    #[serde(skip_serializing_if = "ModelChoices::is_empty")]
    pub models: ModelChoices,
    /// Whether other engines share the machine's cores; follows from the number of models.
    #[serde(skip)]
    pub shares_cores: bool,
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
            memory_bytes_max: None,
            models: ModelChoices::default(),
            shares_cores: false,
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
    /// Returns the settings of each model's engine: those of `models`, or the one of `folder`.
    #[must_use]
    pub fn each(&self) -> Vec<Self> {
        let alone = Self { models: ModelChoices::default(), memory_bytes_max: None, ..self.clone() };
        if self.models.is_empty() {
            return vec![alone];
        }
        let shares_cores = self.models.0.len() > 1;
        let of = |choice: &ModelChoice| Self {
            folder: choice.folder.clone(),
            variant: choice.variant.clone().unwrap_or_else(|| self.variant.clone()),
            threads: choice.threads.unwrap_or(self.threads),
            sequences_max: choice.sequences_max.unwrap_or(self.sequences_max),
            prefix_cache_bytes: choice.prefix_cache_bytes.unwrap_or(self.prefix_cache_bytes),
            shares_cores,
            ..alone.clone()
        };
        self.models.0.iter().map(of).collect()
    }

    /// Returns the model's name, by which the catalogue knows it too: the folder's.
    #[must_use]
    pub fn name(&self) -> ModelName {
        let name = self.folder.file_name().map(|name| name.to_string_lossy().into_owned());
        ModelName::new(name.unwrap_or_default())
    }

    /// Returns all mistakes in the list of models, as sentences that name the key.
    #[must_use]
    pub fn mistakes(&self) -> Vec<String> {
        let mut mistakes = Vec::new();
        if self.models.0.len() > 1 && self.kind == EngineKind::Stub {
            mistakes
                .push("engine.models: the stub stands for one model; several need the kind onnx".to_owned());
        }
        let all = if self.models.is_empty() { Vec::new() } else { self.each() };
        for (place, one) in all.iter().enumerate() {
            let folder = one.folder.display();
            if let Some(first) = all[..place].iter().find(|first| first.name() == one.name()) {
                let (name, first) = (one.name(), first.folder.display());
                mistakes.push(format!(
                    "engine.models: {first} and {folder} are both called {name}, and a node serves one model of a name: leave one out, or give its folder another name"
                ));
            }
            if !one.folder.join(CONFIG).is_file() {
                mistakes.push(format!(
                    "engine.models: {folder} is no model's folder, {CONFIG} isn't there: fetch the model first, or correct the path"
                ));
            }
            for (key, is_zero) in [("threads", one.threads == 0), ("sequences_max", one.sequences_max == 0)] {
                if is_zero {
                    mistakes.push(format!("engine.models: {key} of {folder} must be at least 1"));
                }
            }
        }
        mistakes
    }

    /// Returns the bound on the memory of all models together, where `free_bytes` were free when the program started; none if
    /// there is none, or nothing says what is free.
    #[must_use]
    pub fn memory_bound(&self, free_bytes: Option<u64>) -> Option<Bound> {
        match self.memory_bytes_max {
            Some(bytes) => Some(Bound { bytes, is_set: true }),
            None if self.models.0.len() > 1 => free_bytes.map(|bytes| Bound { bytes, is_set: false }),
            None => None,
        }
    }

    /// Returns what each model needs, where a worker runs at most `slots` jobs of one at once: what the files say, without
    /// loading them. A stub needs nothing.
    ///
    /// # Errors
    /// [`FolderError`], which names the file.
    pub fn wanted(&self, slots: u32) -> Result<Vec<Wanted>, FolderError> {
        if self.kind == EngineKind::Stub {
            return Ok(Vec::new());
        }
        let of = |one: &Self| {
            let shape = Shape::read(&one.folder, &one.variant)?;
            let load = Load {
                context: shape.context_max,
                sequences: (one.sequences_max as u64).min(u64::from(slots)),
                chunk_tokens: one.chunk_tokens as u64,
                prefix_cache_bytes: one.prefix_cache_bytes as u64,
            };
            Ok(Wanted { name: one.name(), shape, load })
        };
        self.each().iter().map(of).collect()
    }

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
            shares_cores: self.shares_cores,
            gpu_model: self.gpu_model.clone(),
        }
    }
}
