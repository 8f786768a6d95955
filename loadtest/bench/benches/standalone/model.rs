//! The engine's settings for a model folder: what decoding measures, and what the table's head names.

use std::path::Path;

use infera_bench::root;
use infera_engine_onnx::OnnxConfig;
use infera_engine_onnx::config::EngineConfig;

/// Returns the settings of an engine with as many sequences as the worker has slots.
pub(crate) fn onnx_config(folder: &Path, threads: usize) -> OnnxConfig {
    let config = EngineConfig { folder: folder.to_owned(), threads, ..EngineConfig::default() };
    let config = EngineConfig { library: root().join(&config.library), ..config };
    config.onnx()
}
