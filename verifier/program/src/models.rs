//! What an operator orders of the catalogue and puts into the archive beside serving: models come and go while gateways, verifiers
//! and nodes run.

use std::path::{Path, PathBuf};

use clap::Subcommand;
use infera_archive_s3::S3Archive;
use infera_ledger::{CatalogueEntry, NetworkBook};
use infera_ledger_postgres::waiting;
use infera_model::chat::ChatModel;
use infera_model_store::archived;
use infera_model_store::folder::Store;
use infera_model_store::names::check_model;
use infera_program::{Failure, print};
use infera_types::ids::ModelName;
use infera_types::shutdown::Shutdown;
use infera_types::time::Timestamp;
use infera_verifier::catalogue::ModelConfig;
use infera_verifier::catalogue::orders::{self, CatalogueOrderError};
use infera_verifier::catalogue::reference::{self, Basis};

use crate::Config;

/// About models.
#[derive(Debug, Subcommand)]
pub enum ModelCommand {
    /// Enter a model in the catalogue, under the digests of its files. Verifiers look for its tokenizer in `model_folders` and in the
    /// archive; nodes that serve these files answer for the name. A removed model comes back in the same way.
    #[command(
        after_help = "Example:\n  infera-verifier model add sea-poet ./models/sea-poet --variant q4 --variant model"
    )]
    Add {
        /// The name by which clients ask for it.
        name: String,
        /// Its folder.
        folder: PathBuf,
        /// The ONNX files that nodes may answer with, the first of which keys the noise; `model` unless others are named.
        #[arg(long = "variant", value_name = "VARIANT")]
        variants: Vec<String>,
        /// Microseconds that a token takes on the reference machine: what the time for each answer is reckoned by (10 s and 20 times
        /// this a token, by the default settings), and points are scaled by. By the bytes of the first variant's weights if left out.
        #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=reference::TOKEN_US_MAX))]
        reference_token_us: Option<u64>,
        /// Replace what the name stands for.
        #[arg(long)]
        replace: bool,
    },
    /// Have the network serve a model no more. Requests for it are refused from then on; jobs that were accepted before are answered
    /// while nodes serve it, and the others fail, which costs nothing.
    Remove {
        /// The model's name.
        name: String,
    },
    /// List the catalogue: one model a line, with its context, the bytes of its weights and the digests of its files.
    List,
    /// Put a fetched model of `model_folders` into the archive, where verifiers find its tokenizer.
    Publish {
        /// The model's name.
        name: String,
    },
}

/// Carries out a command. The ledger is waited for; an archive that is away is an error.
///
/// # Errors
/// What is wrong, whose fault it is, and what to do.
pub async fn act(command: ModelCommand, config: &Config, shutdown: &Shutdown) -> Result<(), Failure> {
    if let ModelCommand::Publish { name } = &command {
        return Ok(print(&publish(config, name).await?)?);
    }
    let Some(ledger) = waiting::ledger(&config.ledger, shutdown).await.map_err(Failure::refused)? else {
        return Ok(());
    };
    let said = match command {
        ModelCommand::Add { name, folder, variants, reference_token_us, replace } => {
            let variants = if variants.is_empty() { vec!["model".to_owned()] } else { variants };
            let model = ModelConfig { folder, variants, digests: Vec::new(), reference_token_us };
            let entry = tokio::task::spawn_blocking(move || entry(&name, &model)).await??;
            let (name, token_us) = (entry.name.clone(), entry.reference_token_us);
            let basis = match reference_token_us {
                Some(_) => Basis::Said,
                None => Basis::Weights(entry.bytes.unwrap_or_default()),
            };
            let time = reference::sentence(token_us, basis, &config.verifier);
            let added = orders::add(ledger.as_ref(), entry, replace).await.map_err(not_done)?;
            format!("{}\n{time}", added.sentence(&name))
        }
        ModelCommand::Remove { name } => {
            let name = ModelName::new(name);
            orders::remove(ledger.as_ref(), &name, Timestamp::now()).await.map_err(not_done)?;
            format!("{name} is removed: gateways refuse requests for it within a second or two")
        }
        ModelCommand::List => listed(&ledger.catalogue().await?),
        ModelCommand::Publish { .. } => return Ok(()),
    };
    Ok(print(&said)?)
}

/// Makes the entry of a model from its files, which are read whole.
fn entry(name: &str, model: &ModelConfig) -> Result<CatalogueEntry, Failure> {
    check_model(name).map_err(Failure::settings)?;
    let chat = ChatModel::load(&model.folder).map_err(Failure::refused)?;
    let entry = model.entry(&chat).map_err(Failure::refused)?;
    Ok(CatalogueEntry { name: ModelName::new(name), ..entry })
}

fn listed(entries: &[CatalogueEntry]) -> String {
    let line = |entry: &CatalogueEntry| {
        let state = if entry.is_removed() { "removed" } else { "on offer" };
        let bytes = entry.bytes.map_or_else(|| "?".to_owned(), |bytes| bytes.to_string());
        let digests: Vec<String> = entry.digests.iter().map(ToString::to_string).collect();
        let (name, context) = (&entry.name, entry.context_max);
        format!("{name}\t{state}\t{context} tokens\t{bytes} bytes\t{}", digests.join(" "))
    };
    if entries.is_empty() {
        return "the catalogue is empty".to_owned();
    }
    entries.iter().map(line).collect::<Vec<_>>().join("\n")
}

async fn publish(config: &Config, name: &str) -> Result<String, Failure> {
    let folder = Store::new(&config.model_folders).folder(name).map_err(Failure::settings)?;
    let unpinned = || {
        let folder = Path::new(&config.model_folders).join(name);
        Failure::refused(format!("{} has no pins: `infera model fetch` makes them", folder.display()))
    };
    let pins = folder.pins().map_err(Failure::refused)?.ok_or_else(unpinned)?;
    let archive = S3Archive::open(&config.archive).await.map_err(Failure::refused)?;
    archived::publish(archive.as_ref(), folder.path(), &pins).await?;
    Ok(format!("{name} is in the archive: {} files, {} MiB", pins.files.len(), pins.bytes() >> 20))
}

fn not_done(error: CatalogueOrderError) -> Failure {
    match error {
        CatalogueOrderError::Ledger(error) => error.into(),
        error => Failure::refused(error),
    }
}
