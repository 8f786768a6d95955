//! The models of a node: which are to be served by the settings, whether they may be, loading them, and the changes of a running
//! worker that new settings ask for.

use std::sync::Arc;

use infera_engine_onnx::config::EngineConfig;
use infera_engine_onnx::{devices, fitting};
use infera_model::chat::ChatModel;
use infera_program::Failure;
use infera_types::ids::ModelName;
use infera_worker::{Model, ModelError, WorkerHandle};

/// Checks models before any is loaded.
#[derive(Clone, Copy, Debug)]
pub struct Admission {
    /// What was free when the program started, in bytes. Later looks would count what its own models take.
    free_bytes: Option<u64>,
    /// The jobs of one model that the worker runs at once.
    slots: u32,
}

impl Admission {
    /// Notes what is free now on the engine's device.
    ///
    /// # Errors
    /// The look panicked, which is a bug of ours.
    pub async fn now(config: &EngineConfig, slots: u32) -> Result<Self, Failure> {
        let device = config.device;
        let looked = tokio::task::spawn_blocking(move || devices::free_bytes(device)).await;
        Ok(Self { free_bytes: looked?, slots })
    }

    /// Returns the settings of each model's engine, once all of them may be served together.
    ///
    /// # Errors
    /// Mistakes in the list, files that can't be read, or more memory than there may be, each in words.
    pub fn admit(&self, config: &EngineConfig) -> Result<Vec<EngineConfig>, Failure> {
        let mistakes = config.mistakes();
        if !mistakes.is_empty() {
            return Err(Failure::settings(mistakes.join("\n")));
        }
        if let Some(bound) = config.memory_bound(self.free_bytes) {
            let wanted = config.wanted(self.slots).map_err(Failure::refused)?;
            fitting::admit(&wanted, 1, bound).map_err(Failure::refused)?;
        }
        let each = config.each();
        let (threads, cores) = (each.iter().map(|one| one.threads).sum::<usize>(), cores());
        if each.len() > 1 && threads > cores {
            tracing::warn!(
                threads,
                cores,
                "the engines have more threads than there are cores: busy ones share them"
            );
        }
        Ok(each)
    }
}

fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// Loads a model, on a thread that may block.
///
/// # Errors
/// What its files lack, and what to do.
pub async fn load(config: &EngineConfig) -> Result<Model, Failure> {
    let config = config.clone();
    let loaded = tokio::task::spawn_blocking(move || {
        let chat = Arc::new(ChatModel::load(&config.folder).map_err(Failure::refused)?);
        let engine = config.load().map_err(Failure::refused)?;
        Ok(Model { name: config.name(), chat, engine })
    });
    loaded.await?
}

/// The settings of the models that are served.
#[derive(Debug, Default)]
pub struct Served(Vec<EngineConfig>);

/// What changes between the models that are served and those that are to be.
#[derive(Debug, PartialEq)]
struct Changes<'a> {
    go: Vec<ModelName>,
    come: Vec<&'a EngineConfig>,
}

impl Served {
    /// Notes the models with which a worker began.
    #[must_use]
    pub const fn new(models: Vec<EngineConfig>) -> Self {
        Self(models)
    }

    /// Returns the settings of the models that are served.
    #[must_use]
    pub fn models(&self) -> &[EngineConfig] {
        &self.0
    }

    /// Compares settings alone: a folder whose files were replaced is the same model until it goes and comes again.
    /// A model that is not among the `working`, because its engine is gone, comes again.
    fn changes<'a>(&self, wanted: &'a [EngineConfig], working: &[ModelName]) -> Changes<'a> {
        let go = self.0.iter().filter(|served| !is_among(served, wanted)).map(EngineConfig::name).collect();
        let stays = |one: &EngineConfig| is_among(one, &self.0) && working.contains(&one.name());
        Changes { go, come: wanted.iter().filter(|one| !stays(one)).collect() }
    }

    /// Has a running worker serve the wanted models: those that go are drained and unloaded first, so that their memory is free
    /// for those that come. What can't be done is logged, and everything else is done.
    pub async fn change(&mut self, wanted: &[EngineConfig], worker: &WorkerHandle) {
        let Changes { go, come } = self.changes(wanted, &worker.models());
        if go.is_empty() && come.is_empty() {
            tracing::info!("the settings name the models that are served already");
        }
        let gone = go.iter().map(|model| async move { (model, worker.remove(model).await) });
        for (model, outcome) in futures::future::join_all(gone).await {
            match outcome {
                Ok(()) | Err(ModelError::Unknown(_)) => tracing::info!(%model, "the model is unloaded"),
                Err(error) => tracing::error!(%model, %error, "the model isn't unloaded"),
            }
        }
        self.0.retain(|served| is_among(served, wanted) && !is_among(served, come.iter().copied()));
        for config in come {
            let model = config.name();
            let added = match load(config).await {
                Ok(loaded) => worker.add(loaded).await.map_err(Failure::from),
                Err(error) => Err(error),
            };
            match added {
                Ok(()) => {
                    tracing::info!(%model, "the model is served");
                    self.0.push(config.clone());
                }
                Err(error) => tracing::error!(%model, %error, "the model can't be served"),
            }
        }
    }
}

/// Returns whether a model is among others with the same settings. Whether it shares the cores is no setting of its own: the
/// first of several isn't loaded again because a second one comes.
fn is_among<'a>(model: &EngineConfig, others: impl IntoIterator<Item = &'a EngineConfig>) -> bool {
    others.into_iter().any(|other| {
        let shares_cores = model.shares_cores;
        *model == EngineConfig { shares_cores, ..other.clone() }
    })
}

#[cfg(test)]
mod tests {
    use infera_engine_onnx::choices::ModelChoices;

    use super::*;

    fn each(models: &str) -> Vec<EngineConfig> {
        let models: ModelChoices = serde_json::from_str(models).expect("a list");
        EngineConfig { models, ..EngineConfig::default() }.each()
    }

    #[test]
    fn a_second_model_leaves_the_first_alone() {
        let served = Served::new(EngineConfig { folder: "/m/a".into(), ..EngineConfig::default() }.each());
        let wanted = each(r#"["/m/a", "/m/b"]"#);
        let Changes { go, come } = served.changes(&wanted, &[ModelName::new("a")]);
        assert_eq!((go, come), (Vec::new(), vec![&wanted[1]]));
    }

    #[test]
    fn only_what_differs_goes_and_comes() {
        let served = Served::new(each(r#"["/m/a", "/m/b", {"folder": "/m/c", "threads": 2}]"#));
        let wanted = each(r#"["/m/d", {"folder": "/m/c", "threads": 3}, "/m/a"]"#);
        let working = served.0.iter().map(EngineConfig::name).collect::<Vec<_>>();
        let Changes { go, come } = served.changes(&wanted, &working);
        let names: Vec<String> = come.iter().map(|config| config.name().to_string()).collect();
        assert_eq!(
            (go, names),
            (vec![ModelName::new("b"), ModelName::new("c")], vec!["d".to_owned(), "c".to_owned()])
        );
        assert_eq!(served.changes(&served.0, &working), Changes { go: Vec::new(), come: Vec::new() });
        let Changes { go, come } = served.changes(&served.0, &working[1..]);
        assert_eq!((go, come), (Vec::new(), vec![&served.0[0]]), "its engine is gone");
    }
}
