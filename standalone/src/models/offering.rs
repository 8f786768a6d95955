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
use infera_verifier::catalogue::reference::{self, Basis};

use super::fetching::{self, From};
use super::serving;
use crate::added_models::{AddedModel, AddedModels};
use crate::config::Config;
use crate::data_folder::{DataFolder, DataFolderError};
use crate::known_models;
use crate::node::PLAIN_VARIANT;
use crate::operators::{self, Addition, ModelOrder};

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
}

/// Adds a model; returns what was done.
pub(super) async fn add(config: &Config, asked: Asked) -> Result<String, Failure> {
    check_model(&asked.name).map_err(Failure::settings)?;
    let (fetched, files) = files(config, &asked).await?;
    let (addition, basis) = addition(&asked, files)?;
    let time = reference::sentence(addition.entry.reference_token_us, basis, &config.verifier);
    let done = match opened(config).await? {
        Some((folder, ledger)) => {
            let added = orders::add(ledger.as_ref(), addition.entry, addition.replaces).await;
            let added = added.map_err(not_done)?;
            AddedModels::of(&folder).put(&addition.model).map_err(Failure::refused)?;
            format!("{}; the next `infera up` on this folder serves it", added.sentence(&addition.model.name))
        }
        None => asked_of_up(&config.data, &ModelOrder::Add(Box::new(addition))).await?,
    };
    Ok([fetched, Some(done), Some(time)].into_iter().flatten().collect::<Vec<_>>().join("\n"))
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
    operators::order(data, order).await.map_err(operators::AskError::into_failure)
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
        return Ok((Some(said), Files { folder: folder.path().to_owned(), variant }));
    }
    let chosen = known_models::choose_in(word, &config.models).map_err(Failure::settings)?;
    let variant = given.or(chosen.variant).unwrap_or_else(|| "model".to_owned());
    Ok((None, Files { folder: chosen.folder, variant }))
}

/// Reads a model's files whole, and says what is to be added, and what the time of a token was taken from.
fn addition(asked: &Asked, files: Files) -> Result<(Addition, Basis), Failure> {
    let Files { folder, variant } = files;
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
    let measured = known_models::measured_token_us(&folder, &variant);
    let reference_token_us = asked.reference_token_us.or(measured);
    let model = ModelConfig { folder: folder.clone(), variants, digests: Vec::new(), reference_token_us };
    let name = ModelName::new(&asked.name);
    let entry = model.entry(&chat).map_err(Failure::refused)?;
    let entry = CatalogueEntry { name: name.clone(), ..entry };
    let basis = match (asked.reference_token_us, measured) {
        (Some(_), _) => Basis::Said,
        (None, Some(_)) => Basis::Known,
        (None, None) => Basis::Weights(entry.bytes.unwrap_or_default()),
    };
    Ok((Addition { entry, model: AddedModel { name, folder, variant }, replaces: asked.replaces }, basis))
}

/// Maps why an order isn't carried out to the exit code of whose fault it is.
fn not_done(error: CatalogueOrderError) -> Failure {
    match error {
        CatalogueOrderError::Ledger(error) => error.into(),
        error => Failure::refused(error),
    }
}
