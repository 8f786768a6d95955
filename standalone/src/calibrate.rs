//! `infera calibrate`: makes honest replicas with the real engines in varying batches, compares them as the verifier
//! does, and turns the distances into the thresholds file. The verifier's `calibration` computes the tolerances.

use std::path::PathBuf;

use clap::Args;
use infera_engine::{Engine, EngineError, Prompt, SequenceId, whole};
use infera_engine_onnx::config::EngineConfig;
use infera_model::chat::{ChatError, ChatModel};
use infera_sampling::{Noise, choose};
use infera_types::ids::Digest;
use infera_types::time::Timestamp;
use infera_types::{
    job::{ChatMessage, ReplicaSummary},
    numbers::TokenId,
};
use infera_verifier::decisions::compare::{Context, compare};
use infera_verifier::decisions::thresholds::calibration::{
    Calibration, CalibrationError, PAIRS_MIN, Quantiles,
};
use infera_verifier::decisions::thresholds::{Thresholds, ThresholdsError};

use crate::config::Config;
use crate::node::PLAIN_VARIANT;

/// The options of `infera calibrate`.
#[derive(Debug, Args)]
pub struct Calibrate {
    /// The file to write the thresholds to.
    #[arg(long, default_value = "verifier/thresholds/committed.toml")]
    output: PathBuf,
    /// The version that verdicts will name.
    #[arg(long)]
    name: String,
    /// The number of honest jobs; each yields one pair for every pair of classes.
    #[arg(long, default_value_t = 2_400, value_parser = clap::value_parser!(u64).range(PAIRS_MIN..=1_000_000))]
    jobs: u64,
}

/// Why no file was written.
#[derive(Debug, thiserror::Error)]
pub enum CalibrateError {
    /// The model's folder cannot be used.
    #[error(transparent)]
    Chat(#[from] ChatError),
    /// An engine failed.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// The thresholds that this build contains cannot be used.
    #[error(transparent)]
    Thresholds(#[from] ThresholdsError),
    /// There were too few pairs.
    #[error(transparent)]
    Calibration(#[from] CalibrationError),
    /// The file could not be written.
    #[error("{path}: {source}")]
    Output {
        /// The file.
        path: PathBuf,
        /// The operating system's error.
        source: std::io::Error,
    },
}

/// The temperatures, in equal shares: greedy, the usual chat temperature, and the model's own distribution.
const TEMPERATURES: [f64; 3] = [0.0, 0.7, 1.0];
/// The most tokens of an answer; those of the bundled model are shorter.
const ANSWER_TOKENS_MAX: usize = 48;
/// The levels whose quantiles are printed.
const LEVELS: [f64; 4] = [0.5, 0.99, 0.999, 1.0];
/// How many jobs share a batch, in turn: pairs compare answers from batches of different sizes.
const BATCHES: [usize; 4] = [1, 16, 3, 8];

/// One honest job.
struct Job {
    prompt: Vec<TokenId>,
    sample_key: Digest,
    temperature: f64,
}

/// Runs the calibration, prints the quantiles and writes the file.
///
/// # Errors
/// [`CalibrateError`]; the file is written whole or not at all.
pub fn run(config: &Config, options: &Calibrate) -> Result<(), CalibrateError> {
    let chat = ChatModel::load(&config.engine.folder)?;
    let jobs = jobs(&chat, options.jobs)?;
    let variant = |name: &str| EngineConfig { variant: name.to_owned(), ..config.engine.clone() }.load();
    let (mut model, mut plain) = (variant(&config.engine.variant)?, variant(PLAIN_VARIANT)?);
    // Each export answers every job twice, in batches of different sizes and with different neighbours.
    let answers = [
        answer_all(model.as_mut(), &chat, &jobs, 0)?,
        answer_all(model.as_mut(), &chat, &jobs, 1)?,
        answer_all(plain.as_mut(), &chat, &jobs, 0)?,
        answer_all(plain.as_mut(), &chat, &jobs, 1)?,
    ];
    let thresholds = Thresholds::committed()?;
    let mut calibration = Calibration::default();
    for (first, second) in [(0, 1), (2, 3), (0, 3)] {
        for (job, (a, b)) in jobs.iter().zip(answers[first].iter().zip(&answers[second])) {
            let context = Context {
                temperature: job.temperature,
                sample_key: &job.sample_key,
                thresholds: &thresholds,
            };
            calibration.add(&compare(a, b, &context));
        }
    }
    let text = calibration.to_toml(&options.name, thresholds.default_tolerance())?;
    let output = |source| CalibrateError::Output { path: options.output.clone(), source };
    std::fs::write(&options.output, text).map_err(output)?;
    infera_program::print(&table(&calibration.quantiles(&LEVELS))).map_err(output)
}

/// Makes questions of the bundled model's domain with varying operands, each with a key of its own.
fn jobs(chat: &ChatModel, count: u64) -> Result<Vec<Job>, ChatError> {
    let now = Timestamp::from_millis(0);
    let job = |index: u64| {
        let (a, b) = (index * 37 % 100, index * 61 % 97);
        let content = match index % 5 {
            0 => format!("What is {a} + {b}?"),
            1 => format!("Subtract {b} from {a}."),
            2 => format!("How many minutes are in {} hours?", a % 20 + 1),
            3 => format!("Tell me about number {a} and {b}."),
            _ => [
                "What is the capital of Peru?",
                "Spell kitchen.",
                "What is the opposite of hot?",
                "Define river.",
            ][(a % 4) as usize]
                .to_owned(),
        };
        let prompt = chat.render(&[ChatMessage { role: "user".to_owned(), content }], now)?;
        let sample_key = Digest::of(format!("calibration job {index}").as_bytes());
        Ok(Job { prompt, sample_key, temperature: TEMPERATURES[(index % 3) as usize] })
    };
    (0..count).map(job).collect()
}

/// Answers all jobs in order, in batches whose sizes follow [`BATCHES`] from `offset` on.
fn answer_all(
    engine: &mut dyn Engine,
    chat: &ChatModel,
    jobs: &[Job],
    offset: usize,
) -> Result<Vec<ReplicaSummary>, EngineError> {
    let mut answers = Vec::with_capacity(jobs.len());
    let mut sizes = BATCHES.iter().cycle().skip(offset);
    while answers.len() < jobs.len() {
        let size = sizes.next().copied().unwrap_or(1).min(jobs.len() - answers.len());
        let batch = &jobs[answers.len()..answers.len() + size];
        answers.extend(answer_batch(engine, chat, batch)?);
    }
    Ok(answers)
}

/// Answers one batch: prompts are prefilled together and decoded together, and each leaves when its answer ends.
fn answer_batch(
    engine: &mut dyn Engine,
    chat: &ChatModel,
    batch: &[Job],
) -> Result<Vec<ReplicaSummary>, EngineError> {
    let name = |index: usize| SequenceId(index as u64);
    let prompts: Vec<_> =
        batch.iter().enumerate().map(|(index, job)| Prompt::new(name(index), &job.prompt)).collect();
    let mut replicas: Vec<_> = batch.iter().map(|job| empty(engine, job)).collect();
    let mut logits = whole::prefill(engine, &prompts)?;
    let mut running: Vec<usize> = (0..batch.len()).collect();
    while !running.is_empty() {
        let mut steps = Vec::new();
        for (index, row) in running.iter().copied().zip(logits.rows()) {
            let (job, replica) = (&batch[index], &mut replicas[index]);
            let position = u32::try_from(replica.tokens.len()).unwrap_or(u32::MAX);
            let choice = choose(row, job.temperature, &Noise::new(&job.sample_key, 0), position);
            replica.numbers.push(choice.numbers);
            if chat.end_tokens().contains(&choice.token) {
                continue;
            }
            replica.tokens.push(choice.token);
            if replica.tokens.len() < ANSWER_TOKENS_MAX {
                steps.push((name(index), choice.token));
            }
        }
        let going: Vec<usize> = steps.iter().map(|(sequence, _)| sequence.0 as usize).collect();
        let ended: Vec<_> =
            running.iter().filter(|index| !going.contains(index)).map(|index| name(*index)).collect();
        engine.release(&ended);
        running = going;
        if !running.is_empty() {
            logits = whole::decode(engine, &steps)?;
        }
    }
    Ok(replicas)
}

fn empty(engine: &dyn Engine, job: &Job) -> ReplicaSummary {
    ReplicaSummary {
        tokens: Vec::new(),
        numbers: Vec::new(),
        numeric_class: engine.description().numeric_class.clone(),
        arrived_ms: Timestamp::from_millis(0),
        prompt_tokens: u32::try_from(job.prompt.len()).unwrap_or(u32::MAX),
        sound: true,
    }
}

fn table(quantiles: &[Quantiles]) -> String {
    let mut text = format!("honest distances at the quantiles {LEVELS:?}\n");
    for row in quantiles {
        let differs =
            if row.pair.is_one_class() { "one class".to_owned() } else { format!("{:?}", row.pair.differs) };
        let head = row.pair.digests.map(|digest| digest.to_string()[..8].to_owned()).join(" with ");
        text.push_str(&format!("{head} ({differs}): {} pairs, {} diverged\n", row.pairs, row.diverged));
        text.push_str(&format!("  mean    {}\n  largest {}\n", line(&row.means), line(&row.maxima)));
        if row.diverged > 0 {
            text.push_str(&format!("  gap     {}\n", line(&row.gaps)));
        }
    }
    text
}

fn line(values: &[f64]) -> String {
    values.iter().map(|value| format!("{value:>10.2e}")).collect::<Vec<_>>().join(" ")
}
