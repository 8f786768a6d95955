//! The numeric class of an engine: what its numbers depend on, in words.

use std::path::Path;

use super::buckets::Buckets;
use super::elements::Float;
use super::ports::{Padding, Ports};
use super::settings::{Device, OnnxConfig};
use super::{gpu, runtime};
use infera_engine::EngineError;
use infera_model::folder as model_folder;
use infera_types::numbers::NumericClass;

/// Arithmetic in f32; a row is the same to the bit in any batch. The size of the chunks that prompts are computed in
/// follows, as in `fp32-chunk64`, because rows depend on it.
pub const COMPUTE_EXACT: &str = "fp32";
/// Arithmetic in f32; a row differs by rounding from batch to batch.
pub const COMPUTE_VARYING: &str = "fp32-varying";
/// Caches or logits in f16; a row may differ by rounding from batch to batch.
pub const COMPUTE_HALF: &str = "fp16-varying";
/// Caches or logits in bf16; a row may differ by rounding from batch to batch.
pub const COMPUTE_BRAIN: &str = "bf16-varying";

/// How an engine computes, as far as its numbers depend on it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Arithmetic {
    pub(super) device: Device,
    pub(super) element: Float,
    pub(super) padding: Padding,
    pub(super) chunk_tokens: usize,
    /// None if runs have the shapes that come.
    pub(super) buckets: Buckets,
}

impl Arithmetic {
    /// Returns the word for the class. `is_same_in_any_batch` is what the self-check found; false if there was none.
    ///
    /// With buckets it names the type, `tf32off` on a GPU, the buckets and the chunk, as in `fp16-tf32off-b16-chunk64`, and ends with
    /// `-varying` where rows aren't known to be the same in any batch.
    pub(super) fn word(&self, is_same_in_any_batch: bool) -> String {
        let on_gpu = if self.device == Device::Cuda { "-tf32off" } else { "" };
        if self.buckets.all().is_empty() {
            let word = match self.element {
                Float::Bfloat16 => COMPUTE_BRAIN.to_owned(),
                Float::Float16 => COMPUTE_HALF.to_owned(),
                Float::Float32 if self.device == Device::Cpu && self.padding != Padding::Left => {
                    format!("{COMPUTE_EXACT}-chunk{}", self.chunk_tokens)
                }
                Float::Float32 => COMPUTE_VARYING.to_owned(),
            };
            return word + on_gpu;
        }
        let element = match self.element {
            Float::Float32 => "fp32",
            Float::Float16 => "fp16",
            Float::Bfloat16 => "bf16",
        };
        // On the CPU the suite of tests has checked f32.
        let is_exact = is_same_in_any_batch || (self.device, self.element) == (Device::Cpu, Float::Float32);
        let varying = if is_exact { "" } else { "-varying" };
        format!("{element}{on_gpu}-{}-chunk{}{varying}", self.buckets.word(), self.chunk_tokens)
    }
}

/// Names the class of an engine that has run: libraries that a GPU needs are loaded by then.
pub(super) fn numeric_class(
    config: &OnnxConfig,
    file: &Path,
    arithmetic: &Arithmetic,
) -> Result<NumericClass, EngineError> {
    let model_digest = model_folder::model_digest(&config.folder, file)
        .map_err(|error| EngineError::Load(error.to_string()))?;
    let (hardware, libraries) = match (config.device, &config.gpu_model) {
        (Device::Cpu, _) => (runtime::instruction_set(), String::new()),
        (Device::Cuda, Some(model)) => (model.clone(), gpu::libraries()),
        (Device::Cuda, None) => (gpu::hardware()?, gpu::libraries()),
    };
    Ok(NumericClass {
        model_digest,
        provider: config.device.word().to_owned(),
        hardware,
        runtime: runtime::version(&config.library_path)? + &libraries,
        compute: arithmetic.word(false),
    })
}

/// Returns why a graph can't be computed on a device without a part of it falling back to the CPU, if it can't.
pub(super) fn unfit(device: Device, ports: &Ports) -> Option<String> {
    (device == Device::Cuda && ports.writes_in_place && ports.narrowest() == Float::Float32).then(|| {
        "its caches are float32, and CUDA computes GroupQueryAttention in float16 and bfloat16 alone: the CPU would do \
         that part, and every step would wait for copies; take a variant in float16"
            .to_owned()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn word(device: Device, element: Float, padding: Padding, buckets: &[usize], checked: bool) -> String {
        let buckets = Buckets::new(buckets.to_vec());
        Arithmetic { device, element, padding, chunk_tokens: 64, buckets }.word(checked)
    }

    #[test]
    fn without_buckets_the_cpus_words_stay() {
        use Float::{Bfloat16, Float16, Float32};
        use Padding::{Left, Never, Right};
        for (element, padding, expected) in [
            (Float32, Right, "fp32-chunk64"),
            (Float32, Never, "fp32-chunk64"),
            (Float32, Left, "fp32-varying"),
            (Float16, Right, "fp16-varying"),
            (Bfloat16, Left, "bf16-varying"),
        ] {
            for checked in [false, true] {
                assert_eq!(word(Device::Cpu, element, padding, &[], checked), expected);
            }
        }
        assert_eq!(word(Device::Cuda, Float32, Left, &[], true), "fp32-varying-tf32off");
        assert_eq!(word(Device::Cuda, Float16, Left, &[], true), "fp16-varying-tf32off");
    }

    #[test]
    fn with_buckets_only_what_was_checked_is_called_exact() {
        let gpu = |element, checked| word(Device::Cuda, element, Padding::Right, &[16], checked);
        assert_eq!(gpu(Float::Float16, true), "fp16-tf32off-b16-chunk64");
        assert_eq!(gpu(Float::Float16, false), "fp16-tf32off-b16-chunk64-varying");
        assert_eq!(gpu(Float::Bfloat16, true), "bf16-tf32off-b16-chunk64");
        let several = |checked| word(Device::Cuda, Float::Float16, Padding::Right, &[1, 8, 32], checked);
        assert_eq!(several(false), "fp16-tf32off-b1.8.32-chunk64-varying");
        let cpu = |element, checked| word(Device::Cpu, element, Padding::Right, &[4], checked);
        assert_eq!(cpu(Float::Float32, false), "fp32-b4-chunk64");
        assert_eq!(cpu(Float::Float16, false), "fp16-b4-chunk64-varying");
        assert_eq!(cpu(Float::Float16, true), "fp16-b4-chunk64");
    }

    #[test]
    fn different_arithmetic_never_has_the_same_word() {
        let mut words = std::collections::BTreeSet::new();
        let mut count = 0;
        for device in [Device::Cpu, Device::Cuda] {
            for element in [Float::Float32, Float::Float16, Float::Bfloat16] {
                for buckets in [&[1][..], &[16], &[1, 16], &[11, 6]] {
                    words.insert(word(device, element, Padding::Right, buckets, true));
                    count += 1;
                }
            }
        }
        assert_eq!(words.len(), count);
    }
}
