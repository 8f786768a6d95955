//! The settings of an engine on ONNX Runtime: the model and how it runs.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use strum::{IntoStaticStr, VariantArray};

/// The device that does the arithmetic.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, IntoStaticStr, VariantArray)]
#[serde(rename_all = "lowercase")]
#[strum(serialize_all = "lowercase")]
pub enum Device {
    /// The CPU; every build of ONNX Runtime supports it.
    #[default]
    Cpu,
    /// An NVIDIA GPU, with ONNX Runtime's GPU build; an error if there is none.
    Cuda,
}

impl Device {
    /// Returns the device's word in numeric classes and settings.
    #[must_use]
    pub fn word(self) -> &'static str {
        self.into()
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

#[cfg(test)]
mod tests {
    use super::*;

    /// Settings and numeric classes say the words, so a variant that is renamed keeps its word.
    #[test]
    fn devices_keep_their_words() {
        for device in Device::VARIANTS {
            assert_eq!(serde_json::to_value(device).unwrap(), device.word());
        }
        let words: Vec<_> = Device::VARIANTS.iter().map(|device| device.word()).collect();
        assert_eq!(words, ["cpu", "cuda"]);
    }
}
