//! The models that `infera up` is started with, by the settings: checked together before any is loaded.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

use infera_engine_onnx::config::EngineConfig;
use infera_engine_onnx::{devices, fitting};
use infera_ledger::CatalogueEntry;
use infera_model::chat::ChatModel;
use infera_types::ids::ModelName;
use infera_verifier::catalogue;
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
        // The setting is about the one model; of several each has its own, as far as it is known.
        let known = if alone { None } else { known_models::by_folder(&engine.folder) };
        let reference_token_us = known.map_or(config.reference_token_us, |known| known.reference_token_us);
        let entry = catalogue::entry(&engine.folder, digests, reference_token_us, &chat);
        started.push(StartedModel { name: entry.name.clone(), entry, chat, engine });
    }
    Ok(started)
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
