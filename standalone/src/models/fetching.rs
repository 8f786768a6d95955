//! Fetches a model for a person in front of a terminal, or for a script.

use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

use clap::ValueEnum;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use infera_model_store::archived::ArchivedSource;
use infera_model_store::fetching::{Event, FetchError, Fetched, Order, Way, fetch as run};
use infera_model_store::folder::{FolderProblem, Store};
use infera_model_store::hub::{Endpoint, HubSource};
use infera_model_store::names::{check_model, model_of};
use infera_model_store::pins::Pins;
use infera_model_store::source::{Source, Waits};
use infera_program::Failure;
use infera_types::secret::Secret;

use super::bytes::shown;
use super::places::{archive, unusable};
use super::serving;
use crate::config::Config;
use crate::known_models::KNOWN;

/// Where a model is fetched from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum From {
    /// The Hub at HF_ENDPOINT; huggingface.co if that isn't set.
    Hub,
    /// The archive of the data folder, while nothing runs on it.
    Archive,
}

/// What was asked for.
pub(super) struct Asked {
    pub(super) repository: String,
    pub(super) variant: String,
    pub(super) revision: Option<String>,
    pub(super) name: Option<String>,
    pub(super) pins: Option<PathBuf>,
    pub(super) from: From,
}

/// The most bytes of a file of pins.
const PINS_MAX_BYTES: u64 = 4 << 20;

/// Fetches what was asked for; returns what is said of it.
pub(super) async fn fetch(config: &Config, asked: Asked) -> Result<String, Failure> {
    let store = Store::new(&config.models);
    let order = order(&store, &asked)?;
    let waits = Waits::default();
    let bars = Bars::default();
    let report = |event: Event<'_>| bars.show(event);
    let (order, fetched) = match asked.from {
        From::Hub => {
            let token = std::env::var("HF_TOKEN").ok().map(Secret::new);
            let endpoint = std::env::var("HF_ENDPOINT").ok();
            let endpoint = Endpoint::new(endpoint.as_deref(), token).map_err(Failure::settings)?;
            let source = HubSource::new(&endpoint, &order.repository, waits).map_err(Failure::settings)?;
            let fetched = run(&store, Way { source: &source, waits, report: &report }, &order).await;
            (order, fetched.map_err(failed)?)
        }
        From::Archive => {
            let (_held, archive) = archive(config)?;
            let source = ArchivedSource::new(archive, &order.name, waits).map_err(Failure::settings)?;
            let repository = source.pins().await.map_err(|error| failed(error.into()))?.repository;
            let order = Order { repository, ..order };
            let source: &dyn Source = &source;
            let fetched = run(&store, Way { source, waits, report: &report }, &order).await;
            (order, fetched.map_err(failed)?)
        }
    };
    Ok(said(&order, &fetched))
}

/// Makes the order of what was asked for.
fn order(store: &Store, asked: &Asked) -> Result<Order, Failure> {
    let given = asked.pins.as_ref().map(read_pins).transpose()?;
    let word = asked.repository.as_str();
    let is_repository = word.contains('/');
    if let Some(command) = KNOWN.iter().find(|known| known.word == word).and_then(|known| known.made_by) {
        return Err(Failure::settings(format!("{word} isn't fetched from a Hub: `{command}` makes it")));
    }
    let name = match &asked.name {
        Some(name) => check_model(name).map(|()| name.clone()),
        None if is_repository => model_of(word),
        None => check_model(word).map(|()| word.to_owned()),
    };
    let name = name.map_err(Failure::settings)?;
    let repository = if is_repository {
        word.to_owned()
    } else {
        // A model's name stands for the repository that it was pinned to; otherwise some repositories have no owner.
        let pins = store.folder(&name).map_err(Failure::settings)?.pins().map_err(unusable)?;
        pins.map_or_else(|| word.to_owned(), |pins| pins.repository)
    };
    Ok(Order {
        name,
        repository,
        variant: asked.variant.clone(),
        revision: asked.revision.clone(),
        pins: given,
    })
}

fn read_pins(path: &PathBuf) -> Result<Pins, Failure> {
    let wrong = |problem: String| Failure::settings(format!("--pins {}: {problem}", path.display()));
    let length = std::fs::metadata(path).map_err(|error| wrong(error.to_string()))?.len();
    if length > PINS_MAX_BYTES {
        return Err(wrong(format!("it has {length} bytes, which no pins have")));
    }
    let text = std::fs::read(path).map_err(|error| wrong(error.to_string()))?;
    Pins::parse(&text).map_err(|error| wrong(error.to_string()))
}

/// Maps a fetch's error to the exit code of whose fault it is.
fn failed(error: FetchError) -> Failure {
    match error {
        FetchError::Folder(FolderProblem::Name(error)) => Failure::settings(error),
        error if error.may_pass() => error.into(),
        error => Failure::refused(error),
    }
}

fn said(order: &Order, fetched: &Fetched) -> String {
    let Fetched { folder, pins, is_pinned_now } = fetched;
    let mut lines = vec![format!(
        "{} {} is there: {} files, {}, in {}, of {} at {}",
        order.name,
        order.variant,
        pins.files.len(),
        shown(pins.bytes()),
        folder.display(),
        pins.repository,
        pins.revision
    )];
    if *is_pinned_now {
        lines.push(
            "Its digests are pinned as its source stated them; later fetches must get the same.".to_owned(),
        );
    }
    match serving::problem(folder, &order.variant) {
        None if order.variant == "model" => {
            lines.push(format!("`infera up --model {}` serves it.", order.name))
        }
        None => lines.push(format!(
            "`infera up --model {} --set engine.variant={}` serves it.",
            order.name, order.variant
        )),
        Some(problem) => lines.push(format!("It can't be served: {problem}")),
    }
    lines.join("\n")
}

/// Returns how bars look.
pub(super) fn style() -> ProgressStyle {
    let template = "{msg:30!} [{wide_bar}] {bytes}/{total_bytes} {bytes_per_sec} {eta}";
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar())
}

/// Shows what a fetch does: bars for a person in front of a terminal, lines in the log otherwise.
#[derive(Default)]
struct Bars {
    bar: Mutex<Option<ProgressBar>>,
}

impl Bars {
    fn show(&self, event: Event<'_>) {
        let mut bar = self.bar.lock().unwrap_or_else(PoisonError::into_inner);
        match event {
            Event::Begins { path, bytes, from } => {
                let new = ProgressBar::with_draw_target(Some(bytes), ProgressDrawTarget::stderr())
                    .with_style(style());
                new.set_message(path.to_owned());
                new.set_position(from);
                // What was there before counts for no speed.
                new.reset_eta();
                if new.is_hidden() {
                    tracing::info!(path, bytes, from, "fetching");
                }
                *bar = Some(new);
            }
            Event::Came(bytes) => bar.iter().for_each(|bar| bar.inc(bytes)),
            Event::Restarts { path } => {
                bar.iter().for_each(|bar| bar.set_position(0));
                told(bar.as_ref(), &format!("{path} begins again from its first byte"));
            }
            Event::Retries { path, reason, pause } => {
                let seconds = pause.as_secs_f32();
                told(bar.as_ref(), &format!("{path}: {reason}; again in {seconds:.1} s"));
            }
            Event::Ends { path, was_there } => {
                if let Some(bar) = bar.take() {
                    bar.finish();
                }
                tracing::debug!(path, was_there, "there");
            }
        }
    }
}

/// Says a line above the bar; to the log where there is no terminal.
fn told(bar: Option<&ProgressBar>, line: &str) {
    match bar.filter(|bar| !bar.is_hidden()) {
        Some(bar) => bar.println(line),
        None => tracing::warn!("{line}"),
    }
}
