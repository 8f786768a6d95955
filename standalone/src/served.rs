//! The models that a running `infera up` serves beside the one that it was started with: they come and go by orders of commands.
//! Each has nodes of its own, one under each resident owner, which run until the model is removed and its jobs are answered.

use std::collections::{HashMap, HashSet};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use infera_engine_onnx::choices::ModelChoices;
use infera_engine_onnx::config::{EngineConfig, EngineKind};
use infera_ledger::{CatalogueEntry, Feeding as _, NetworkBook as _};
use infera_model::chat::ChatModel;
use infera_model::chat_source::{ChatSource, ChatSourceError};
use infera_model_store::chats::ChatFinder;
use infera_model_store::folder::Store;
use infera_model_store::source::Waits;
use infera_types::ids::{Digest, ModelName};
use infera_types::shutdown::Shutdown;
use infera_types::time::Timestamp;
use infera_verifier::catalogue::orders::{self, CatalogueOrderError};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::added_models::{AddedModel, AddedModels, AddedModelsError};
use crate::config::Config;
use crate::data_folder::DataFolder;
use crate::node::{Node, declare_queue};
use crate::operators::{Addition, ModelOrder, NotDone, Ordered};
use crate::residents;
use crate::seams::Seams;

/// How often it is looked whether jobs of a removed model still wait.
const LOOKS_APART: Duration = Duration::from_millis(500);

/// How long a removed model's nodes go on after the last of its waiting jobs was taken: gateways may accept another second of jobs,
/// and jobs that are taken may wait for room and take some seconds each.
const LINGERS: Duration = Duration::from_secs(30);

/// What serving a model needs.
struct Parts {
    config: Config,
    seams: Seams,
    data: Arc<DataFolder>,
}

/// A model whose nodes run, or are starting.
struct Serving {
    model: AddedModel,
    shutdown: Shutdown,
    /// The number of nodes that have loaded it.
    loaded: Arc<AtomicU32>,
    /// Since when a removed model has no waiting jobs.
    leaving: Option<Instant>,
    is_removed: bool,
    /// What is served under the name once these nodes have ended.
    next: Option<AddedModel>,
}

/// Carries out orders about models, and runs the nodes of those that were added.
pub(crate) struct ServedModels {
    parts: Arc<Parts>,
    /// The entries of the models that this process was started with.
    mains: Vec<CatalogueEntry>,
    file: AddedModels,
    known: KnownModels,
    serving: HashMap<ModelName, Serving>,
    nodes: JoinSet<(ModelName, Result<(), String>)>,
}

impl ServedModels {
    /// Makes it for a process that was started with the models `mains`, each with its folder, and for those that were added to its
    /// data folder before. Nothing runs yet.
    ///
    /// # Errors
    /// [`AddedModelsError`].
    pub(crate) fn new(
        config: &Config,
        seams: &Seams,
        data: Arc<DataFolder>,
        mains: Vec<(CatalogueEntry, PathBuf)>,
    ) -> Result<Self, AddedModelsError> {
        let file = AddedModels::of(&data);
        let known = KnownModels::new(config, seams);
        for model in file.read()? {
            known.put(model.name, model.folder);
        }
        for (main, folder) in &mains {
            known.put(main.name.clone(), folder.clone());
        }
        let mains = mains.into_iter().map(|(main, _)| main).collect();
        let parts = Arc::new(Parts { config: config.clone(), seams: seams.clone(), data });
        Ok(Self { parts, mains, file, known, serving: HashMap::new(), nodes: JoinSet::new() })
    }

    /// Returns the entry of the model of this name with which the process was started.
    fn main(&self, name: &ModelName) -> Option<&CatalogueEntry> {
        self.mains.iter().find(|main| main.name == *name)
    }

    /// Returns what finds the tokenizers of the models that are served here.
    pub(crate) fn chats(&self) -> Arc<dyn ChatSource> {
        Arc::new(self.known.clone())
    }

    /// Serves the models that were added before, and carries out orders until the shutdown; then ends the nodes.
    pub(crate) async fn run(mut self, mut ordered: mpsc::Receiver<Ordered>, shutdown: Shutdown) {
        self.resume().await;
        let mut looks = tokio::time::interval(LOOKS_APART);
        looks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = shutdown.cancelled() => break,
                Some(Ordered { order, answer }) = ordered.recv() => {
                    // The command may have gone away; what was done stays.
                    let _ = answer.send(self.carry_out(order).await);
                }
                Some(ended) = self.nodes.join_next(), if !self.nodes.is_empty() => self.ended(ended),
                _ = looks.tick() => self.look().await,
            }
        }
        for serving in self.serving.values() {
            serving.shutdown.cancel();
        }
        while self.nodes.join_next().await.is_some() {}
    }

    /// Starts the nodes of models that were added before this process began.
    async fn resume(&mut self) {
        let listed = match self.parts.seams.ledger.catalogue().await {
            Ok(listed) => listed,
            Err(error) => return tracing::error!(%error, "the models that were added before can't be served"),
        };
        let models = match self.file.read() {
            Ok(models) => models,
            Err(error) => return tracing::error!(%error, "the models that were added before can't be served"),
        };
        for model in models {
            let is_listed = listed.iter().any(|entry| entry.name == model.name && !entry.is_removed());
            if is_listed && self.main(&model.name).is_none() {
                self.start(model);
            }
        }
    }

    async fn carry_out(&mut self, order: ModelOrder) -> Result<String, NotDone> {
        match order {
            ModelOrder::Add(addition) => self.add(*addition).await,
            ModelOrder::Remove(name) => self.remove(name).await,
        }
    }

    async fn add(&mut self, addition: Addition) -> Result<String, NotDone> {
        let Addition { entry, model, replaces } = addition;
        let name = entry.name.clone();
        let is_main = self.main(&name).is_some_and(|main| main.digests == entry.digests);
        let added = orders::add(&*self.parts.seams.ledger, entry, replaces).await.map_err(not_done)?;
        let done = added.sentence(&name);
        if is_main {
            return Ok(format!("{done}; the nodes that `infera up` was started with serve it"));
        }
        self.file.put(&model).map_err(unkept)?;
        self.known.put(name.clone(), model.folder.clone());
        let count = self.parts.config.nodes.count;
        match self.serving.get_mut(&name) {
            Some(serving) if serving.model == model && !serving.shutdown.is_cancelled() => {
                (serving.is_removed, serving.leaving) = (false, None);
                let loaded = serving.loaded.load(Ordering::Relaxed);
                return Ok(format!("{done}; {}", standing(loaded, count)));
            }
            Some(serving) => {
                serving.shutdown.cancel();
                serving.next = Some(model);
            }
            None => self.start(model),
        }
        Ok(format!("{done}; {}", standing(0, count)))
    }

    async fn remove(&mut self, name: ModelName) -> Result<String, NotDone> {
        orders::remove(&*self.parts.seams.ledger, &name, Timestamp::now()).await.map_err(not_done)?;
        self.file.remove(&name).map_err(unkept)?;
        let done = format!("{name} is removed: requests for it are refused from now on");
        if let Some(serving) = self.serving.get_mut(&name) {
            (serving.is_removed, serving.next) = (true, None);
            return Ok(format!("{done}. Its nodes answer the jobs that wait, and end then"));
        }
        if self.main(&name).is_some() {
            return Ok(format!(
                "{done}. The nodes that `infera up` was started with answer the jobs that wait, and keep it in memory until \
                 `infera up` ends"
            ));
        }
        Ok(done)
    }

    fn start(&mut self, model: AddedModel) {
        let shutdown = Shutdown::new();
        let name = model.name.clone();
        let loaded = Arc::new(AtomicU32::new(0));
        self.nodes.spawn({
            let (parts, model, shutdown) = (Arc::clone(&self.parts), model.clone(), shutdown.clone());
            let loaded = Arc::clone(&loaded);
            async move { (model.name.clone(), serve(&parts, &model, &shutdown, &loaded).await) }
        });
        let serving = Serving { model, shutdown, loaded, leaving: None, is_removed: false, next: None };
        self.serving.insert(name, serving);
    }

    /// Takes in that a model's nodes have ended: of a removed one, of one that is replaced, or because they can't run.
    fn ended(&mut self, ended: Result<(ModelName, Result<(), String>), tokio::task::JoinError>) {
        let (name, outcome) = match ended {
            Ok(ended) => ended,
            Err(panic) => return tracing::error!(%panic, "the nodes of an added model broke"),
        };
        if let Err(problem) = outcome {
            tracing::error!(model = %name, problem, "its nodes don't run; other models go on");
        }
        let Some(serving) = self.serving.remove(&name) else { return };
        match serving.next {
            Some(next) => self.start(next),
            None if serving.is_removed => {
                if self.main(&name).is_none() {
                    self.known.forget(&name);
                }
                tracing::info!(model = %name, "its nodes have ended");
            }
            None => {}
        }
    }

    /// Ends the nodes of removed models that have had no waiting jobs for a while.
    async fn look(&mut self) {
        if !self.serving.values().any(|serving| serving.is_removed) {
            return;
        }
        let waiting: HashSet<ModelName> = match self.parts.seams.ledger.waiting(1).await {
            Ok(waiting) => waiting.into_iter().map(|kind| kind.model).collect(),
            Err(error) => {
                return tracing::warn!(%error, "whether jobs of removed models wait isn't known now");
            }
        };
        let now = Instant::now();
        for (name, serving) in self.serving.iter_mut().filter(|(_, serving)| serving.is_removed) {
            if waiting.contains(name) {
                serving.leaving = None;
            } else if now.duration_since(*serving.leaving.get_or_insert(now)) >= LINGERS {
                serving.shutdown.cancel();
            }
        }
    }
}

/// Returns what is said of an added model whose nodes may still be loading it: requests need all that a group is made of.
fn standing(loaded: u32, count: u32) -> String {
    if loaded >= count {
        return format!("{count} nodes serve it");
    }
    format!(
        "{loaded} of {count} nodes of this `infera up` have loaded it. Until the others have, which the log says of any that can't, \
         requests for it may get 503: GET /v1/models shows its nodes"
    )
}

/// Loads a model for each resident owner's node, one after the other, and runs the nodes until the shutdown. If one can't be loaded
/// the others go on.
async fn serve(
    parts: &Parts,
    model: &AddedModel,
    shutdown: &Shutdown,
    loaded: &AtomicU32,
) -> Result<(), String> {
    let folder = model.folder.clone();
    let chat = tokio::task::spawn_blocking(move || ChatModel::load(&folder)).await;
    let chat = Arc::new(chat.map_err(|panic| panic.to_string())?.map_err(|error| error.to_string())?);
    let mut nodes = JoinSet::new();
    let mut outcome = Ok(());
    for index in 1..=parts.config.nodes.count {
        match node(parts, model, &chat, index).await {
            Ok(_) if shutdown.is_cancelled() => break,
            Ok((node, queue)) => {
                nodes.spawn(node.run(parts.config.worker.clone(), queue, shutdown.clone()));
                loaded.fetch_add(1, Ordering::Relaxed);
            }
            Err(problem) => {
                outcome = Err(problem);
                break;
            }
        }
    }
    while let Some(ended) = nodes.join_next().await {
        let ended = ended.map_err(|panic| panic.to_string());
        outcome = outcome.and(ended.and_then(|ended| ended.map_err(|error| error.to_string())));
    }
    outcome
}

/// Loads the model for the node of the resident owner with this number; returns the node with its queue.
async fn node(
    parts: &Parts,
    model: &AddedModel,
    chat: &Arc<ChatModel>,
    index: u32,
) -> Result<(Node, String), String> {
    let Parts { config, seams, data } = parts;
    let engine = EngineConfig {
        kind: EngineKind::Onnx,
        folder: model.folder.clone(),
        variant: model.variant.clone(),
        models: ModelChoices::default(),
        ..config.engine.clone()
    };
    let engine = tokio::task::spawn_blocking(move || engine.load()).await;
    let engine = engine.map_err(|panic| panic.to_string())?.map_err(|error| error.to_string())?;
    let first = format!("resident-{index}");
    let record = residents::node_of(seams, data, &format!("{first}-{}", model.name), &first).await;
    let id = record.map_err(|error| error.to_string())?.id;
    let queue = declare_queue(seams.broker.as_ref(), &id).await.map_err(|error| error.to_string())?;
    let served = infera_worker::Model { name: model.name.clone(), chat: Arc::clone(chat), engine };
    Ok((Node { id, broker: Arc::clone(&seams.broker), models: vec![served] }, queue))
}

fn not_done(error: CatalogueOrderError) -> NotDone {
    NotDone { sentence: error.to_string(), may_pass: matches!(error, CatalogueOrderError::Ledger(_)) }
}

fn unkept(error: AddedModelsError) -> NotDone {
    NotDone { sentence: error.to_string(), may_pass: false }
}

/// Finds tokenizers of the models that this process has nodes for. What else the catalogue has, from an earlier start with another
/// model, isn't offered: no node here serves it.
#[derive(Clone, Debug)]
struct KnownModels {
    /// Each model's folder.
    folders: Arc<Mutex<HashMap<ModelName, PathBuf>>>,
    store: Store,
    seams: Seams,
}

impl KnownModels {
    fn new(config: &Config, seams: &Seams) -> Self {
        Self { folders: Arc::default(), store: Store::new(&config.models), seams: seams.clone() }
    }

    fn put(&self, name: ModelName, folder: PathBuf) {
        self.folders.lock().unwrap_or_else(PoisonError::into_inner).insert(name, folder);
    }

    fn forget(&self, name: &ModelName) {
        self.folders.lock().unwrap_or_else(PoisonError::into_inner).remove(name);
    }
}

#[async_trait]
impl ChatSource for KnownModels {
    async fn find(
        &self,
        model: &ModelName,
        tokenizer: Digest,
    ) -> Result<Option<Arc<ChatModel>>, ChatSourceError> {
        let folder = self.folders.lock().unwrap_or_else(PoisonError::into_inner).get(model).cloned();
        let Some(folder) = folder else { return Ok(None) };
        let finder = ChatFinder::new(vec![folder], self.store.clone());
        finder.with_archive(self.seams.archive.clone(), Waits::default()).find(model, tokenizer).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_model_is_said_to_be_served_once_all_nodes_have_loaded_it() {
        assert_eq!(standing(3, 3), "3 nodes serve it");
        for (loaded, said) in [(0, "0 of 3 nodes"), (2, "2 of 3 nodes")] {
            let told = standing(loaded, 3);
            assert!(
                told.starts_with(said) && told.contains("503") && !told.contains("3 nodes serve"),
                "{told}"
            );
        }
    }
}
