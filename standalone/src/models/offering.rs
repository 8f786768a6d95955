//! Adds models to the catalogue of a data folder and removes them, whether an `infera up` runs on it or not.

use std::path::{Path, PathBuf};

use infera_ledger::CatalogueEntry;
use infera_ledger_sqlite::SqliteLedger;
use infera_model::chat::ChatModel;
use infera_model::folder::onnx_file;
use infera_model_store::folder::Store;
use infera_model_store::names::{check_model, check_repository};
use infera_program::Failure;
use infera_types::ids::ModelName;
use infera_types::time::Timestamp;
use infera_verifier::catalogue::ModelConfig;
use infera_verifier::catalogue::orders::{self, CatalogueOrderError};

use super::fetching::{self, From};
use super::serving;
use crate::added_models::{AddedModel, AddedModels};
use crate::config::Config;
use crate::data_folder::{DataFolder, DataFolderError};
use crate::known_models;
use crate::node::PLAIN_VARIANT;
use crate::operators::{self, Addition, AskError, ModelOrder};

/// What is to be added.
pub(super) struct Asked {
    pub(super) name: String,
    pub(super) from: Option<String>,
    pub(super) variant: Option<String>,
    pub(super) reference_token_us: Option<u64>,
    pub(super) replaces: bool,
}

/// The files of a model.
struct Files {
    folder: PathBuf,
    variant: String,
    /// Microseconds that a token takes on the reference machine, where that is known.
    reference_token_us: Option<u64>,
}

/// Adds a model; returns what was done.
pub(super) async fn add(config: &Config, asked: Asked) -> Result<String, Failure> {
    check_model(&asked.name).map_err(Failure::settings)?;
    let (fetched, files) = files(config, &asked).await?;
    let addition = addition(config, &asked, files)?;
    let done = match opened(config).await? {
        Some((folder, ledger)) => {
            let added = orders::add(ledger.as_ref(), addition.entry, addition.replaces).await;
            let added = added.map_err(not_done)?;
            AddedModels::of(&folder).put(&addition.model).map_err(Failure::refused)?;
            format!("{}; the next `infera up` on this folder serves it", added.sentence(&addition.model.name))
        }
        None => asked_of_up(&config.data, &ModelOrder::Add(Box::new(addition))).await?,
    };
    Ok(fetched.map_or_else(|| done.clone(), |fetched| format!("{fetched}\n{done}")))
}

/// Removes a model; returns what was done.
pub(super) async fn remove(config: &Config, name: &str) -> Result<String, Failure> {
    check_model(name).map_err(Failure::settings)?;
    let name = ModelName::new(name);
    let Some((folder, ledger)) = opened(config).await? else {
        return asked_of_up(&config.data, &ModelOrder::Remove(name)).await;
    };
    orders::remove(ledger.as_ref(), &name, Timestamp::now()).await.map_err(not_done)?;
    AddedModels::of(&folder).remove(&name).map_err(Failure::refused)?;
    Ok(format!(
        "{name} is removed: the next `infera up` on this folder serves it only if it is started with it. Jobs that wait for it \
         end as failed"
    ))
}

/// Opens the data folder with its ledger; none where an `infera up` has it.
async fn opened(config: &Config) -> Result<Option<(DataFolder, std::sync::Arc<SqliteLedger>)>, Failure> {
    let folder = match DataFolder::open_filled(&config.data) {
        Ok(folder) => folder,
        Err(DataFolderError::InUse(_)) => return Ok(None),
        Err(error) => return Err(Failure::refused(error)),
    };
    let path = folder.ledger();
    let ledger = tokio::task::spawn_blocking(move || SqliteLedger::open(&path)).await?;
    Ok(Some((folder, ledger.map_err(Failure::refused)?)))
}

async fn asked_of_up(data: &Path, order: &ModelOrder) -> Result<String, Failure> {
    operators::order(data, order).await.map_err(|error| match error {
        AskError::Away { .. } | AskError::Told { may_pass: true, .. } => error.into(),
        AskError::Told { may_pass: false, .. } => Failure::refused(error),
    })
}

/// Finds the files, and fetches those of a repository first; returns what is said of that too.
async fn files(config: &Config, asked: &Asked) -> Result<(Option<String>, Files), Failure> {
    let word = asked.from.as_deref().unwrap_or(&asked.name);
    let given = asked.variant.clone();
    if check_repository(word).is_ok() && word.contains('/') && !Path::new(word).is_dir() {
        let variant = given.unwrap_or_else(|| "model".to_owned());
        let order = fetching::Asked {
            repository: word.to_owned(),
            variant: variant.clone(),
            revision: None,
            name: Some(asked.name.clone()),
            pins: None,
            from: From::Hub,
        };
        let said = fetching::fetch(config, order).await?;
        let folder = Store::new(&config.models).folder(&asked.name).map_err(Failure::settings)?;
        let files = Files { folder: folder.path().to_owned(), variant, reference_token_us: None };
        return Ok((Some(said), files));
    }
    let chosen = known_models::choose_in(word, &config.models).map_err(Failure::settings)?;
    let variant = given.or(chosen.variant).unwrap_or_else(|| "model".to_owned());
    let reference_token_us = chosen.known.map(|known| known.reference_token_us);
    Ok((None, Files { folder: chosen.folder, variant, reference_token_us }))
}

/// Reads a model's files whole, and says what is to be added.
fn addition(config: &Config, asked: &Asked, files: Files) -> Result<Addition, Failure> {
    let Files { folder, variant, reference_token_us } = files;
    let absolute = folder.canonicalize();
    let folder = absolute.map_err(|error| Failure::settings(format!("{}: {error}", folder.display())))?;
    if let Some(problem) = serving::problem(&folder, &variant) {
        return Err(Failure::refused(format!("{} can't be served: {problem}", asked.name)));
    }
    let chat = ChatModel::load(&folder).map_err(Failure::refused)?;
    let mut variants = vec![variant.clone()];
    // The plain export's honest answers differ from the usual one's only within tolerance.
    if variant == "model" && onnx_file(&folder, PLAIN_VARIANT).is_ok() {
        variants.push(PLAIN_VARIANT.to_owned());
    }
    let reference_token_us =
        asked.reference_token_us.or(reference_token_us).unwrap_or(config.reference_token_us);
    let model = ModelConfig { folder: folder.clone(), variants, digests: Vec::new(), reference_token_us };
    let name = ModelName::new(&asked.name);
    let entry = model.entry(&chat).map_err(Failure::refused)?;
    let entry = CatalogueEntry { name: name.clone(), ..entry };
    Ok(Addition { entry, model: AddedModel { name, folder, variant }, replaces: asked.replaces })
}

/// Maps why an order isn't carried out to the exit code of whose fault it is.
fn not_done(error: CatalogueOrderError) -> Failure {
    match error {
        CatalogueOrderError::Ledger(error) => error.into(),
        error => Failure::refused(error),
    }
}
