//! `infera calibrate`: makes honest replicas of a model's exports with the real engines in varying batches, scores them as a
//! referee does, compares them as the verifier does, and turns the distances into rows of the thresholds file. It also counts
//! how often a node that runs another export than it says would pass. The verifier's `calibration` computes the tolerances.

mod error;
mod jobs;
mod kept;
mod power;
mod replicas;
mod tables;

use std::path::{Path, PathBuf};

use clap::Args;
use infera_engine_onnx::config::EngineConfig;
use infera_model::chat::ChatModel;
use infera_model::folder::onnx_file;
use infera_verifier::decisions::compare::{Context, Scored, compare, compare_scored};
use infera_verifier::decisions::thresholds::Thresholds;
use infera_verifier::decisions::thresholds::calibration::{Calibration, PAIRS_MIN};

use crate::config::Config;
use crate::known_models::{self, KNOWN};
use crate::node::PLAIN_VARIANT;

pub use self::error::CalibrateError;
use self::jobs::Domain;
use self::replicas::{Bench, Export, Results, Work};

/// The options of `infera calibrate`.
#[derive(Debug, Args)]
pub struct Calibrate {
    /// The thresholds file: rows of other pairs of classes stay as they are in it.
    #[arg(long, default_value = "verifier/thresholds/committed.toml")]
    output: PathBuf,
    /// The version that verdicts will name.
    #[arg(long)]
    name: String,
    /// The model, as `infera up` takes it.
    #[arg(long, default_value = KNOWN[0].word)]
    model: String,
    /// Its ONNX files, separated by commas; all of `model`, `plain`, `q4` and `int8` that are there by default.
    #[arg(long, value_delimiter = ',')]
    variants: Vec<String>,
    /// An export of another model with the same tokenizer that a dishonest node might run, as FOLDER:VARIANT. It is measured
    /// against the tolerances and gets none.
    #[arg(long, value_name = "FOLDER:VARIANT")]
    impostor: Vec<String>,
    /// The number of honest jobs; each yields one pair for every pair of classes.
    #[arg(long, default_value_t = 2_400, value_parser = clap::value_parser!(u64).range(PAIRS_MIN..=1_000_000))]
    jobs: u64,
    /// Where what was computed is kept, so that the same command goes on after an interruption.
    #[arg(long, default_value = ".runtime/calibration")]
    state: PathBuf,
}

/// The exports that an impostor answers with are measured less: every fourth job.
const IMPOSTOR_EVERY: usize = 4;

/// What the exports are called that there may be.
const VARIANTS: [&str; 4] = ["model", PLAIN_VARIANT, "q4", "int8"];

/// Runs the calibration, writes the file, and prints what was measured.
///
/// # Errors
/// [`CalibrateError`]; the file is written whole or not at all.
pub fn run(config: &Config, options: &Calibrate) -> Result<(), CalibrateError> {
    let chosen = known_models::choose_in(&options.model, &config.models).map_err(CalibrateError::Model)?;
    let engine = EngineConfig { folder: chosen.folder.clone(), sequences_max: 32, ..config.engine.clone() };
    let variants = variants(options, &chosen.folder)?;
    let mut exports: Vec<Export> = variants
        .iter()
        .map(|variant| Export {
            name: variant.clone(),
            config: EngineConfig { variant: variant.clone(), ..engine.clone() },
            every: 1,
        })
        .collect();
    let honest = exports.len();
    for impostor in &options.impostor {
        exports.push(impostor_of(impostor, &engine)?);
    }
    let chat = ChatModel::load(&chosen.folder)?;
    let is_bundled = chosen.known.is_some_and(|known| known.word == KNOWN[0].word);
    let domain = if is_bundled { Domain::Bundled } else { Domain::Anything };
    let jobs = jobs::jobs(&chat, domain, options.jobs)?;
    let state = options.state.join(format!("{}-{}", options.name, model_name(&chosen.folder)));
    let output = |path: &Path| {
        let path = path.to_owned();
        move |source| CalibrateError::Output { path, source }
    };
    std::fs::create_dir_all(&state).map_err(output(&state))?;
    let bench = Bench { exports: &exports, jobs: &jobs, chat: &chat, state: &state };
    let results = compute(&bench, honest)?;

    let before = match std::fs::read_to_string(&options.output) {
        Ok(text) => Thresholds::parse(&text)?,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Thresholds::committed()?,
        Err(error) => return Err(output(&options.output)(error)),
    };
    let calibration = calibration(&bench, honest, &results, &before);
    let text = calibration.to_toml(&options.name, &before)?;
    let thresholds = Thresholds::parse(&text)?;
    std::fs::write(&options.output, text).map_err(output(&options.output))?;
    let said = tables::tables(&bench, honest, &results, &calibration, &thresholds);
    infera_program::print(&said).map_err(output(&options.output))
}

fn variants(options: &Calibrate, folder: &Path) -> Result<Vec<String>, CalibrateError> {
    let there = || VARIANTS.iter().filter(|variant| onnx_file(folder, variant).is_ok());
    let found = if options.variants.is_empty() {
        there().map(|variant| (*variant).to_owned()).collect()
    } else {
        options.variants.clone()
    };
    if found.is_empty() {
        let reason = format!(
            "{} has none of the exports {}: name some by --variants",
            folder.display(),
            VARIANTS.join(", ")
        );
        return Err(CalibrateError::Model(reason));
    }
    Ok(found)
}

fn impostor_of(words: &str, engine: &EngineConfig) -> Result<Export, CalibrateError> {
    let Some((folder, variant)) = words.rsplit_once(':') else {
        return Err(CalibrateError::Model(format!("--impostor {words}: it is written as FOLDER:VARIANT")));
    };
    let folder = PathBuf::from(folder);
    let name = format!("{}-{variant}", model_name(&folder));
    let config = EngineConfig { folder, variant: variant.to_owned(), ..engine.clone() };
    Ok(Export { name, config, every: IMPOSTOR_EVERY })
}

fn model_name(folder: &Path) -> String {
    folder.file_name().map_or_else(|| "model".to_owned(), |name| name.to_string_lossy().into_owned())
}

/// Each honest export answers every job twice, in batches of different sizes and with different neighbours; then each
/// scores what all of them answered.
fn compute(bench: &Bench<'_>, honest: usize) -> Result<Results, CalibrateError> {
    let all = 0..bench.exports.len();
    let first = all.clone().map(|export| Work::Decode { export, offset: 0 });
    let second = (0..honest).map(|export| Work::Decode { export, offset: 1 });
    let mut results = bench.compute(first.chain(second).collect(), &Results::new())?;
    let scores = (0..honest).flat_map(|by| all.clone().map(move |export| Work::Score { export, by }));
    let scored = bench.compute(scores.collect(), &results)?;
    results.extend(scored);
    Ok(results)
}

/// Compares all honest pairs.
fn calibration(bench: &Bench<'_>, honest: usize, results: &Results, thresholds: &Thresholds) -> Calibration {
    let mut calibration = Calibration::default();
    for (place, job) in bench.jobs.iter().enumerate() {
        let rules = job.rules();
        let context = Context { rules: &rules, noise: job.noise(), thresholds };
        for export in 0..honest {
            for other in export..honest {
                add_decoded(&mut calibration, results, (export, other), place, &context);
            }
            for by in 0..honest {
                add_scored(&mut calibration, results, (export, by), place, &context);
            }
        }
    }
    calibration
}

fn add_decoded(
    calibration: &mut Calibration,
    results: &Results,
    (export, other): (usize, usize),
    place: usize,
    context: &Context<'_>,
) {
    let replica = |export, offset| {
        let computed = results.get(&Work::Decode { export, offset })?;
        computed.replica(place, &computed.class)
    };
    if let (Some(a), Some(b)) = (replica(export, 0), replica(other, 1)) {
        calibration.add(&compare(&a, &b, context));
    }
}

fn add_scored(
    calibration: &mut Calibration,
    results: &Results,
    (export, by): (usize, usize),
    place: usize,
    context: &Context<'_>,
) {
    let decoded = results.get(&Work::Decode { export, offset: 0 });
    let scored = results.get(&Work::Score { export, by });
    let (Some(decoded), Some(scored)) = (decoded, scored) else { return };
    if let (Some(replica), Some(numbers)) = (decoded.replica(place, &decoded.class), scored.numbers(place)) {
        let scored = Scored { numbers, numeric_class: &scored.class };
        calibration.add(&compare_scored(&replica, &scored, context));
    }
}
