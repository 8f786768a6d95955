//! The settings of an engine on ONNX Runtime: the model and how it runs.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// The device that does the arithmetic.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Device {
    /// The CPU; every build of ONNX Runtime supports it.
    #[default]
    Cpu,
    /// An NVIDIA GPU, with ONNX Runtime's GPU build; an error if there is none.
    Cuda,
}

impl Device {
    /// Returns the device's word in numeric classes and flags.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Cpu => "cpu",
            Self::Cuda => "cuda",
        }
    }
}

/// The model and how it runs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OnnxConfig {
    /// The model's folder.
    pub folder: PathBuf,
    /// ONNX Runtime's shared library.
    pub library_path: PathBuf,
    /// The folder's ONNX file: `model` (by default), `q4`, ...
    #[serde(default)]
    pub variant: String,
    /// The device; the CPU by default.
    #[serde(default)]
    pub device: Device,
    /// Threads for one run. As many as the machine has cores by default, because a node's machine serves one engine.
    #[serde(default = "threads_default")]
    pub threads: usize,
    /// Sequences that may run at once. 16 by default: on CPUs more hardly raise the tokens per second.
    #[serde(default = "sequences_default")]
    pub sequences_max: usize,
    /// The GPU's model, for drivers that do not report it; part of the numeric class.
    #[serde(default)]
    pub gpu_model: Option<String>,
}

fn threads_default() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

const fn sequences_default() -> usize {
    16
}

impl OnnxConfig {
    /// Makes settings for the plain model of a folder, with everything else at its default.
    #[must_use]
    pub fn new(folder: impl Into<PathBuf>, library_path: impl Into<PathBuf>) -> Self {
        Self {
            folder: folder.into(),
            library_path: library_path.into(),
            variant: String::new(),
            device: Device::default(),
            threads: threads_default(),
            sequences_max: sequences_default(),
            gpu_model: None,
        }
    }
}
