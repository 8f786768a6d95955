//! `infera model …`: fetching models, looking at those that are there, and reckoning whether they fit this machine.

mod bytes;
mod fetching;
mod fitting;
mod listing;
mod offering;
mod places;
mod serving;
mod speeds;
mod up;
mod verifying;

use std::path::PathBuf;

use clap::{Args, Subcommand};
use infera_model_store::archived;
use infera_program::{Failure, Settings};
use infera_verifier::catalogue::reference;

pub use self::fetching::From;
use self::places::{archive, folder};
use crate::config::Config;

/// About models' folders.
#[derive(Debug, Subcommand)]
pub enum StoreCommand {
    /// List the models that are there: where they come from, which variants they have, and whether they can be served.
    List {
        /// Print JSON.
        #[arg(long)]
        json: bool,
        /// Where settings come from.
        #[command(flatten)]
        settings: Settings,
    },
    /// Fetch a model: settings, tokenizer, and the ONNX file of a variant with its weights. Each file's digest is pinned at the
    /// first fetch, and later ones must get the same. What was cut goes on where it was.
    #[command(
        after_help = "HF_ENDPOINT names another Hub, HF_TOKEN a token for repositories that let only some in.\n\nExamples:\n  infera model fetch onnx-community/SmolLM2-135M-Instruct-ONNX --variant q4\n  infera up --model smollm2-135m-instruct-onnx"
    )]
    Fetch(Fetch),
    /// Read all files of a model and compare them with the digests that are pinned; say whether it can be served.
    Verify {
        /// The model's name, a known model's word, or a folder, written with a slash.
        model: String,
        /// Print JSON.
        #[arg(long)]
        json: bool,
        /// Where settings come from.
        #[command(flatten)]
        settings: Settings,
    },
    /// Reckon for each device whether a model fits: the memory that weights and caches need, and what is free; for one engine, and for
    /// `infera up` by its settings. Several models need the sum.
    Fit(Fit),
    /// Have the network serve a model: enter it in the catalogue, under the digests of its files. Where `up` runs on the folder, it
    /// loads the model beside its others; otherwise the next `up` does. A removed model comes back in the same way.
    #[command(
        after_help = "Examples:\n  infera model add smollm2\n  infera model add sea-poet ./models/sea-poet --variant q4\n  infera model add smol onnx-community/SmolLM2-135M-Instruct-ONNX --variant q4"
    )]
    Add(Add),
    /// Have the network serve a model no more. Requests for it are refused from then on; jobs that were accepted before are answered
    /// while nodes serve it, and the others fail, which costs nothing.
    Remove {
        /// The model's name.
        model: String,
        /// Where settings come from.
        #[command(flatten)]
        settings: Settings,
        /// The data folder; short for `--set data=DIR`.
        #[arg(long, value_name = "DIR")]
        data: Option<PathBuf>,
    },
    /// Put a fetched model into the archive of a data folder, while nothing runs on it, for `infera model fetch --from archive`.
    Publish {
        /// The model's name.
        model: String,
        /// Where settings come from.
        #[command(flatten)]
        settings: Settings,
    },
}

/// What is fetched, and where to.
#[derive(Debug, Args)]
pub struct Fetch {
    /// The repository, as owner/name; or the name of a model that was pinned before.
    repository: String,
    /// The variant: `model`, `q4`, `int8`, as the ONNX files are called.
    #[arg(long, default_value = "model")]
    variant: String,
    /// A branch, tag or commit. The commit is pinned at the first fetch.
    #[arg(long)]
    revision: Option<String>,
    /// The model's name here, by which clients ask for it; the repository's without its owner, in lower case, by default.
    #[arg(long)]
    name: Option<String>,
    /// Pins that somebody else made: `pins.json` of a fetched model. The files must be these, and no listing is asked for.
    #[arg(long, value_name = "FILE")]
    pins: Option<PathBuf>,
    /// Where to fetch from.
    #[arg(long, value_enum, default_value_t = From::Hub)]
    from: From,
    /// Where settings come from.
    #[command(flatten)]
    settings: Settings,
}

/// What is added.
#[derive(Debug, Args)]
pub struct Add {
    /// The name by which clients ask for it.
    name: String,
    /// Its folder, written with a slash; the name of one that is there; or a repository to fetch, as owner/name. The fetched model
    /// of that name by default.
    #[arg(value_name = "FOLDER|REPO")]
    from: Option<String>,
    /// The ONNX file that nodes run: `model`, `q4`, `int8`.
    #[arg(long)]
    variant: Option<String>,
    /// Microseconds that a token takes on the reference machine: what the time for each answer is reckoned by (10 s and 20 times
    /// this a token, by the default settings), and points are scaled by. If left out, that of a known model, or by the bytes of its
    /// weights; too small a time ends long answers as `too_many_misses`.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=reference::TOKEN_US_MAX))]
    reference_token_us: Option<u64>,
    /// Replace what the name stands for.
    #[arg(long)]
    replace: bool,
    /// Where settings come from.
    #[command(flatten)]
    settings: Settings,
    /// The data folder; short for `--set data=DIR`.
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
}

/// What is to fit.
#[derive(Debug, Args)]
pub struct Fit {
    /// The model's name, or a folder, written with a slash.
    model: String,
    /// The variant; all that are there by default.
    #[arg(long)]
    variant: Option<String>,
    /// The tokens of prompt and answer together; the model's longest by default, but at most 4,096.
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..=10_000_000))]
    context: Option<u64>,
    /// The sequences at once; as many as an engine holds by its settings (`engine.sequences_max`) by default.
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..=4096))]
    batch: Option<u64>,
    /// The engines on the machine, each with the model of its own: `infera up` runs one a node.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..=1000))]
    engines: u64,
    /// First measure tokens per second: each variant that fits decodes for five seconds with this batch on the device of the
    /// settings (`engine.device`, `engine.threads`). What was measured is kept and shown from then on.
    #[arg(long)]
    measure: bool,
    /// Print JSON.
    #[arg(long)]
    json: bool,
    /// Where settings come from.
    #[command(flatten)]
    settings: Settings,
}

/// Carries out a command about models' folders; returns what it shows.
///
/// # Errors
/// What is wrong, whose fault it is, and what to do.
pub async fn act(command: StoreCommand) -> Result<String, Failure> {
    match command {
        StoreCommand::List { json, settings } => listing::list(&load(settings)?, json),
        StoreCommand::Fetch(Fetch { repository, variant, revision, name, pins, from, settings }) => {
            let config = load(settings)?;
            fetching::fetch(&config, fetching::Asked { repository, variant, revision, name, pins, from })
                .await
        }
        StoreCommand::Verify { model, json, settings } => verifying::verify(&load(settings)?, &model, json),
        StoreCommand::Fit(Fit { model, variant, context, batch, engines, measure, json, settings }) => {
            let config = load(settings)?;
            let engine = &config.engine;
            let asked = fitting::Asked {
                model,
                variant,
                context,
                batch: batch.unwrap_or(engine.sequences_max as u64),
                chunk_tokens: engine.chunk_tokens as u64,
                prefix_cache_bytes: engine.prefix_cache_bytes as u64,
                engines,
                measures: measure,
                up: up::Terms::of(&config),
                json,
            };
            fitting::fit(&config, &asked)
        }
        StoreCommand::Add(Add { name, from, variant, reference_token_us, replace, settings, data }) => {
            let asked = offering::Asked { name, from, variant, reference_token_us, replaces: replace };
            offering::add(&load(on(settings, data))?, asked).await
        }
        StoreCommand::Remove { model, settings, data } => {
            offering::remove(&load(on(settings, data))?, &model).await
        }
        StoreCommand::Publish { model, settings } => publish(&load(settings)?, &model).await,
    }
}

/// Names the data folder, if one is given.
fn on(mut settings: Settings, data: Option<PathBuf>) -> Settings {
    if let Some(folder) = data {
        settings.set("data", folder.display());
    }
    settings
}

/// Loads the configuration, and begins the log as it says.
fn load(settings: Settings) -> Result<Config, Failure> {
    let config = settings.load("infera.toml", |config: &mut Config| &mut config.log);
    let config = config.map_err(Failure::settings)?;
    infera_telemetry::start(&config.log)?;
    Ok(config)
}

async fn publish(config: &Config, model: &str) -> Result<String, Failure> {
    let folder = folder(config, model)?;
    let missing = || Failure::refused(format!("{model} wasn't fetched, so nothing is pinned of it"));
    let pins = folder.pins().map_err(Failure::refused)?.ok_or_else(missing)?;
    let (_held, archive) = archive(config)?;
    archived::publish(archive.as_ref(), folder.path(), &pins).await?;
    let mebibytes = pins.bytes() >> 20;
    Ok(format!(
        "{model} is in the archive: {} files, {mebibytes} MiB, variants {}",
        pins.files.len(),
        pins.variants.join(", ")
    ))
}
