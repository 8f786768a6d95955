//! Which model runs on ONNX Runtime, and how: what its owner may choose.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// What the arithmetic is done on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Device {
    /// The CPU; every build of ONNX Runtime can.
    #[default]
    Cpu,
    /// An NVIDIA GPU, by ONNX Runtime's GPU build; an error where there is none.
    Cuda,
}

impl Device {
    /// The word for it in numeric classes and flags.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Cpu => "cpu",
            Self::Cuda => "cuda",
        }
    }
}

/// Which model runs, and how.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OnnxConfig {
    /// The model's folder.
    pub folder: PathBuf,
    /// ONNX Runtime's shared library.
    pub library_path: PathBuf,
    /// Which of the folder's ONNX files: `model` (by default), `q4`, ...
    #[serde(default)]
    pub variant: String,
    /// The CPU by default.
    #[serde(default)]
    pub device: Device,
    /// Threads for one run. As many as the machine has cores by default: one engine is what a node's machine is for.
    #[serde(default = "threads_default")]
    pub threads: usize,
    /// Sequences that may run at once. 16 by default: on CPUs the tokens per second hardly grow beyond.
    #[serde(default = "sequences_default")]
    pub sequences_max: usize,
    /// What the GPU is, where its driver doesn't say; part of the numeric class.
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
    /// The plain model of a folder with everything else by default.
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
