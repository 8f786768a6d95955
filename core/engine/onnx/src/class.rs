//! The numeric class of an engine: what its numbers depend on, in words.

use std::path::Path;

use super::elements::Float;
use super::ports::{Padding, Ports};
use super::runtime;
use super::settings::{Device, OnnxConfig};
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

pub(super) fn numeric_class(
    config: &OnnxConfig,
    file: &Path,
    ports: &Ports,
) -> Result<NumericClass, EngineError> {
    let model_digest = model_folder::model_digest(&config.folder, file)
        .map_err(|error| EngineError::Load(error.to_string()))?;
    let hardware = match (config.device, &config.gpu_model) {
        (Device::Cpu, _) => runtime::instruction_set(),
        (Device::Cuda, Some(model)) => model.clone(),
        (Device::Cuda, None) => runtime::gpu_model()?,
    };
    let floats: Vec<Float> =
        ports.caches.iter().map(|port| port.element).chain([ports.logits_element]).collect();
    let compute = if floats.contains(&Float::Bfloat16) {
        COMPUTE_BRAIN.to_owned()
    } else if floats.contains(&Float::Float16) {
        COMPUTE_HALF.to_owned()
    } else if config.device == Device::Cpu && ports.padding != Padding::Left {
        format!("{COMPUTE_EXACT}-chunk{}", config.chunk_tokens)
    } else {
        COMPUTE_VARYING.to_owned()
    };
    let provider = config.device.word().to_owned();
    Ok(NumericClass {
        model_digest,
        provider,
        hardware,
        runtime: runtime::version(&config.library_path)?,
        compute,
    })
}
