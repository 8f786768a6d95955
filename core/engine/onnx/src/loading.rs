//! Loads what an engine is made of: the graph, whose facts are checked before and after its session is made, and the caches that suit
//! it and the device.

use std::path::Path;

use crate::caches::Caches;
use crate::class::{self, Arithmetic};
use crate::device::Places;
use crate::elements::Float;
use crate::groups::Groups;
use crate::model::Model;
use crate::padded::Padded;
use crate::ports::{self, Ports};
use crate::runs::LOGITS_MAX;
use crate::settings::{Device, OnnxConfig};
use crate::slab::Slab;
use crate::{runtime, variants};
use infera_engine::EngineError;
use infera_model::folder::{self as model_folder, FolderError, GraphFacts, ModelConfig};

pub(super) fn load_error(error: &FolderError) -> EngineError {
    EngineError::Load(error.to_string())
}

/// Reads the graph, makes its session and finds its ports; returns the context that its settings name too.
pub(super) fn load_model(config: &OnnxConfig, file: &Path) -> Result<(Model, usize), EngineError> {
    let not_understood = |reason: &str| {
        let others = variants::others(&config.folder, file);
        load_error(&FolderError::unusable(file, format!("{reason}; {others}")))
    };
    let settings = ModelConfig::read(&config.folder).map_err(|error| load_error(&error))?;
    let graph = model_folder::read(file).map_err(|error| load_error(&error))?;
    let facts =
        GraphFacts::read(&graph).map_err(|_| not_understood("it is no ONNX file, or it is damaged"))?;
    drop(graph);
    model_folder::data_files(file, &facts).map_err(|error| load_error(&error))?;
    // What the file says of itself is clearer than what ONNX Runtime makes of it.
    ports::refuse_other_kinds(&facts.inputs).map_err(|reason| not_understood(&reason))?;
    let session = runtime::session(config, file)
        .map_err(|error| EngineError::Load(format!("{error}; {}", variants::others(&config.folder, file))))?;
    let ports = Ports::find(&session, &facts).map_err(|reason| not_understood(&reason))?;
    if let Some(reason) = class::unfit(config.device, &ports) {
        return Err(not_understood(&reason));
    }
    if config.chunk_tokens.saturating_mul(ports.vocabulary) > LOGITS_MAX {
        let most = LOGITS_MAX / ports.vocabulary;
        let reason =
            format!("chunk_tokens is {}; a vocabulary of its size allows {most}", config.chunk_tokens);
        return Err(load_error(&FolderError::unusable(file, reason)));
    }
    let pad = settings.pad_token.filter(|&pad| (pad as usize) < ports.vocabulary).unwrap_or_default();
    let places = Places::of(&session, config.device);
    let places = places.map_err(|error| EngineError::Load(format!("no memory on the device: {error}")))?;
    Ok((Model { session, ports, places, pad }, settings.context_max))
}

/// Makes the caches that suit the graph and the device.
pub(super) fn caches(
    config: &OnnxConfig,
    model: &Model,
    arithmetic: &Arithmetic,
    context_max: usize,
) -> ort::Result<Caches> {
    if !arithmetic.buckets.all().is_empty() {
        let buckets = arithmetic.buckets.clone();
        return Ok(Caches::Padded(Box::new(Padded::new(model, buckets, config.chunk_tokens, context_max)?)));
    }
    // The CPU's fixed buffers are of f32.
    let is_plain = config.device == Device::Cpu && model.ports.narrowest() == Float::Float32;
    if config.fixed_buffers && model.ports.writes_in_place && is_plain {
        // One row more than sequences, for a score beside all of them.
        let rows = config.sequences_max.saturating_add(1);
        return Ok(Caches::Slab(Box::new(Slab::new(&model.ports.caches, rows, context_max)?)));
    }
    Ok(Caches::Groups(Groups::default()))
}
