//! The models that `infera up` is started with, by the settings: checked together before any is loaded.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

use infera_engine_onnx::config::{EngineConfig, EngineKind};
use infera_engine_onnx::{devices, fitting};
use infera_ledger::CatalogueEntry;
use infera_model::chat::ChatModel;
use infera_types::ids::ModelName;
use infera_verifier::catalogue::{self, reference};
use infera_worker::Model;

use crate::config::Config;
use crate::known_models;
use crate::node::{self, ModelError};

/// One model of the network: what the verifier renders prompts with, and the settings of its engine on each node.
#[derive(Clone)]
pub(crate) struct StartedModel {
    pub(crate) name: ModelName,
    pub(crate) entry: CatalogueEntry,
    chat: Arc<ChatModel>,
    engine: EngineConfig,
}

/// Reads the models of the settings, in the order in which they were named.
///
/// # Errors
/// [`ModelError`]: what the list, a folder or the memory lacks.
pub(crate) async fn read(config: &Config) -> Result<Vec<StartedModel>, ModelError> {
    let each = admit(config).await?;
    let alone = each.len() == 1;
    let mut started = Vec::with_capacity(each.len());
    for engine in each {
        let chat = Arc::new(ChatModel::load(&engine.folder)?);
        let digests = node::digests(&engine)?;
        let reference_token_us = reference_token_us(config.reference_token_us, alone, &engine)?;
        let entry = catalogue::entry(&engine.folder, digests, reference_token_us, &chat);
        started.push(StartedModel { name: entry.name.clone(), entry, chat, engine });
    }
    Ok(started)
}

/// Returns the microseconds that a token takes on the reference machine: what the setting says of a single model, what was measured of
/// a known one, or what the bytes of its weights come to.
fn reference_token_us(setting: Option<u64>, alone: bool, engine: &EngineConfig) -> Result<u64, ModelError> {
    let measured = known_models::measured_token_us(&engine.folder, &engine.variant);
    // The setting is about the one model; of several each has its own, as far as it is known.
    let told = if alone { setting.or(measured) } else { measured.or(setting) };
    match told {
        Some(token_us) => Ok(token_us),
        // It has no weights.
        None if engine.kind == EngineKind::Stub => Ok(known_models::KNOWN[0].reference_token_us),
        None => Ok(reference::of_weights(catalogue::weights_bytes(&engine.folder, &engine.variant)?)),
    }
}

impl StartedModel {
    /// Returns the folder that it is read from.
    pub(crate) fn folder(&self) -> &Path {
        &self.engine.folder
    }
}

async fn admit(config: &Config) -> Result<Vec<EngineConfig>, ModelError> {
    let engine = config.engine.clone();
    let mistakes = engine.mistakes();
    if !mistakes.is_empty() {
        return Err(ModelError::Settings(mistakes.join("\n")));
    }
    let (slots, nodes) = (config.worker.slots, u64::from(config.nodes.count));
    let checked = tokio::task::spawn_blocking(move || {
        let Some(bound) = engine.memory_bound(devices::free_bytes(engine.device)) else {
            return Ok(engine.each());
        };
        fitting::admit(&engine.wanted(slots)?, nodes, bound)?;
        Ok(engine.each())
    });
    checked.await?
}

/// Returns what a verifier renders prompts with.
pub(crate) fn chats(models: &[StartedModel]) -> HashMap<ModelName, Arc<ChatModel>> {
    models.iter().map(|model| (model.name.clone(), Arc::clone(&model.chat))).collect()
}

/// Loads the models for one more node, each with an engine of its own.
///
/// # Errors
/// [`ModelError::Engine`].
pub(crate) async fn load(models: &[StartedModel]) -> Result<Vec<Model>, ModelError> {
    let mut loaded = Vec::with_capacity(models.len());
    for model in models {
        let config = model.engine.clone();
        let engine = tokio::task::spawn_blocking(move || config.load()).await??;
        let (name, chat) = (model.name.clone(), Arc::clone(&model.chat));
        loaded.push(Model { name, chat, engine });
    }
    Ok(loaded)
}

#[cfg(test)]
mod tests {
    use infera_engine_onnx::config::EngineConfig;

    use super::*;

    /// A model of which nothing is known has the time that its weights come to, and not that of another model.
    #[test]
    fn a_models_time_is_the_setting_what_was_measured_or_by_its_weights() {
        let folder = tempfile::tempdir().expect("a folder");
        let tiny = Path::new(env!("CARGO_MANIFEST_DIR")).join("../models/infera-tiny");
        let copy = folder.path().join("any-name");
        std::fs::create_dir_all(copy.join("onnx")).expect("a folder");
        std::fs::copy(tiny.join("onnx/model.onnx"), copy.join("onnx/model.onnx")).expect("bundled");
        let engine = |folder: &Path, variant: &str| EngineConfig {
            folder: folder.to_owned(),
            variant: variant.to_owned(),
            ..EngineConfig::default()
        };
        let (known, unknown) = (engine(&tiny, "model"), engine(&copy, "model"));
        let of = |setting, alone, engine| {
            reference_token_us(setting, alone, engine).expect("its weights are there")
        };
        assert_eq!(
            (of(None, true, &known), of(Some(7), true, &known), of(Some(7), false, &known)),
            (150, 7, 150)
        );
        assert_eq!((of(None, true, &unknown), of(None, false, &unknown)), (186, 186));
        assert_eq!((of(Some(7), true, &unknown), of(Some(7), false, &unknown)), (7, 7));
        assert_eq!(of(None, true, &engine(&tiny, "q4")), 84, "another file of it was not measured");
        assert!(reference_token_us(None, true, &engine(&copy, "q4")).is_err(), "no such file");
    }
}
