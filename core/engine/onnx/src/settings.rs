//! The settings of an engine on ONNX Runtime: the model and how it runs.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use strum::{IntoStaticStr, VariantArray};

use super::buckets::{self, Buckets};

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

/// Whether an engine is compared with a second process before it serves.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SelfCheck {
    /// On a GPU; on the CPU the test suite has compared them already.
    #[default]
    Auto,
    /// On every device.
    On,
    /// Never; on a GPU the numeric class then says that numbers vary.
    Off,
}

impl SelfCheck {
    /// Returns whether an engine on this device is checked.
    #[must_use]
    pub const fn is_wanted(self, device: Device) -> bool {
        match self {
            Self::On => true,
            Self::Off => false,
            Self::Auto => matches!(device, Device::Cuda),
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
    /// The tokens of a prompt that one run computes; 64 by default. A running sequence waits for one such run at most
    /// between two of its tokens, and what is cached of a prompt ends at a multiple. Fewer pause others less and take longer
    /// for the prompt. Part of the numeric class, so that a network whose nodes differ in it compares fewer of them to
    /// the bit.
    #[serde(default = "chunk_tokens_default")]
    pub chunk_tokens: usize,
    /// The bytes that the caches of prompts' beginnings may take; 0 keeps none. 256 MiB by default: some 5,800 tokens of
    /// a model with 135 million parameters.
    #[serde(default = "prefix_cache_bytes_default")]
    pub prefix_cache_bytes: usize,
    /// Whether caches lie in fixed buffers where the graph allows it, as they do by default. Otherwise they come and go with
    /// each run, which gives the same bits: to measure what fixed buffers are worth.
    #[serde(default = "fixed_buffers_default")]
    pub fixed_buffers: bool,
    /// The numbers of rows that steps are padded to, ascending; part of the numeric class. None: on the CPU steps aren't padded,
    /// because rows are the same in any batch there; on a GPU one bucket holds all sequences, because a row is the same only in
    /// runs of one shape.
    #[serde(default)]
    pub batch_buckets: Vec<usize>,
    /// Whether other engines share the machine's cores, as they don't by default. Its threads then sleep while they wait for each
    /// other, where they would keep cores busy that another engine could use. The bits are the same.
    #[serde(default)]
    pub shares_cores: bool,
    /// The GPU's model, for drivers that do not report it; part of the numeric class.
    #[serde(default)]
    pub gpu_model: Option<String>,
}

const fn fixed_buffers_default() -> bool {
    true
}

/// The bounds of `chunk_tokens`. Below, most of a run's time is the reading of weights; above, one run takes longer than
/// a client should wait for a token.
const CHUNK_TOKENS: std::ops::RangeInclusive<usize> = 8..=1024;

/// Four or more steps' worth of work on a CPU: efficient, and no longer a pause than a few tokens.
pub(super) const fn chunk_tokens_default() -> usize {
    64
}

pub(super) const fn prefix_cache_bytes_default() -> usize {
    256 << 20
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
            chunk_tokens: chunk_tokens_default(),
            prefix_cache_bytes: prefix_cache_bytes_default(),
            fixed_buffers: fixed_buffers_default(),
            batch_buckets: Vec::new(),
            shares_cores: false,
            gpu_model: None,
        }
    }

    /// Returns all mistakes in the settings, as sentences that name the key.
    #[must_use]
    pub fn mistakes(&self) -> Vec<String> {
        let mut mistakes = Vec::new();
        if !CHUNK_TOKENS.contains(&self.chunk_tokens) {
            let (least, most) = (CHUNK_TOKENS.start(), CHUNK_TOKENS.end());
            mistakes.push(format!("chunk_tokens is {}; it must be {least} to {most}", self.chunk_tokens));
        }
        if self.sequences_max == 0 {
            mistakes.push("sequences_max must be at least 1".to_owned());
        }
        mistakes.extend(buckets::mistake(&self.batch_buckets, self.sequences_max));
        mistakes
    }

    /// Returns the buckets that steps are padded to on the configured device; see `batch_buckets`.
    pub(super) fn buckets(&self) -> Buckets {
        Buckets::new(match (self.batch_buckets.as_slice(), self.device) {
            ([], Device::Cuda) => vec![self.sequences_max],
            (rows, _) => rows.to_vec(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gpu_has_one_bucket_of_all_sequences_unless_others_are_named() {
        let cpu = OnnxConfig { sequences_max: 8, ..OnnxConfig::new("folder", "library") };
        assert_eq!(cpu.buckets().all(), [0; 0]);
        let gpu = OnnxConfig { device: Device::Cuda, ..cpu };
        assert_eq!(gpu.buckets().all(), [8]);
        let named = OnnxConfig { batch_buckets: vec![1, 16], ..gpu };
        assert_eq!(named.buckets().all(), [1, 16]);
        assert!(named.mistakes().is_empty());
        let small = OnnxConfig { batch_buckets: vec![1, 4], ..named };
        assert!(small.mistakes()[0].contains("batch_buckets ends at 4"), "{:?}", small.mistakes());
    }

    #[test]
    fn gpus_are_checked_unless_it_is_said() {
        let wanted = |check: SelfCheck| [Device::Cpu, Device::Cuda].map(|device| check.is_wanted(device));
        assert_eq!(wanted(SelfCheck::Auto), [false, true]);
        assert_eq!(wanted(SelfCheck::On), [true, true]);
        assert_eq!(wanted(SelfCheck::Off), [false, false]);
    }

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
