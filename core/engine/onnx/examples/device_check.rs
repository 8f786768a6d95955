//! Checks a device by one engine on it; `infra/gpu_check.sh` calls this for each of its steps.
//!
//! ```text
//! device_check conformance|self-check|speed FOLDER VARIANT LIBRARY DEVICE BUCKETS [SCORE_TOLERANCE|STEPS]
//! ```
//!
//! BUCKETS are numbers of rows with commas between them, and `0` for none. `conformance` runs every promise of the engines' suite,
//! `self-check` compares two processes and prints the class, `speed` measures decoding with as many sequences as each bucket has
//! rows. `engine-check` is the second process of the self-check.
#![expect(clippy::print_stdout, reason = "it is a program of its own")]

use std::error::Error;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;

use infera_conformance::engine::{self as promises, Promise};
use infera_engine::{Engine, Prompt, SequenceId, whole};
use infera_engine_onnx::check::{self, Second, load_checked};
use infera_engine_onnx::{OnnxConfig, OnnxEngine};
use infera_types::numbers::TokenId;

type Checked = fn(&mut dyn Engine, Promise);

/// Every promise of the suite by its name.
const PROMISES: [(&str, Checked); 11] = [
    ("a row does not depend on the batch", promises::a_row_does_not_depend_on_the_batch),
    (
        "sequences join and leave between any two steps",
        promises::sequences_join_and_leave_between_any_two_steps,
    ),
    ("names and places are free after release", promises::names_and_places_are_free_after_release),
    ("misuse changes nothing", promises::misuse_changes_nothing),
    ("scores agree with decoding", promises::scores_agree_with_decoding),
    ("scoring leaves sequences alone", promises::scoring_leaves_sequences_alone),
    ("the context ends where it is said to", promises::the_context_ends_where_it_is_said_to),
    (
        "every remainder of a chunk is the same however it is batched",
        promises::every_remainder_of_a_chunk_is_the_same_however_it_is_batched,
    ),
    ("prompts and scores go on between steps", promises::prompts_and_scores_go_on_between_steps),
    (
        "only prompts of one scope share what is cached",
        promises::only_prompts_of_one_scope_share_what_is_cached,
    ),
    ("nothing asked is nothing done", promises::nothing_asked_is_nothing_done),
];

const USAGE: &str = "usage: device_check conformance|self-check|speed FOLDER VARIANT LIBRARY DEVICE BUCKETS \
                     [SCORE_TOLERANCE|STEPS], or device_check engine-check";

fn main() -> ExitCode {
    match act(&std::env::args().skip(1).collect::<Vec<_>>()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            println!("device_check: {error}");
            ExitCode::FAILURE
        }
    }
}

fn act(words: &[String]) -> Result<bool, Box<dyn Error>> {
    if words.first().is_some_and(|word| word == check::ARGUMENT) {
        check::answer()?;
        return Ok(true);
    }
    let [what, folder, variant, library, device, buckets, rest @ ..] = words else {
        return Err(USAGE.into());
    };
    let batch_buckets: Vec<usize> = buckets.split(',').map(str::parse).collect::<Result<_, _>>()?;
    let config = OnnxConfig {
        variant: variant.clone(),
        device: serde_json::from_value(device.as_str().into())?,
        sequences_max: batch_buckets.last().copied().filter(|&rows| rows > 0).unwrap_or(16),
        batch_buckets: batch_buckets.iter().copied().filter(|&rows| rows > 0).collect(),
        prefix_cache_bytes: 0,
        ..OnnxConfig::new(folder, PathBuf::from(library))
    };
    match what.as_str() {
        "conformance" => {
            let score_tolerance = rest.first().map_or(Ok(1e-4), |word| word.parse())?;
            conformance(&config, Promise { batch_tolerance: 0.0, score_tolerance })
        }
        "self-check" => self_check(&config),
        "speed" => {
            let steps = rest.first().map_or(Ok(32), |word| word.parse())?;
            batch_buckets.iter().try_for_each(|&batch| speed(&config, batch, steps))?;
            Ok(true)
        }
        _ => Err(USAGE.into()),
    }
}

fn conformance(config: &OnnxConfig, promise: Promise) -> Result<bool, Box<dyn Error>> {
    let mut engine = OnnxEngine::load(config)?;
    let mut broken = 0;
    for (name, promised) in PROMISES {
        let began = Instant::now();
        let kept = catch_unwind(AssertUnwindSafe(|| promised(&mut engine, promise))).is_ok();
        let word = if kept { "kept" } else { "BROKEN" };
        println!("{word}: {name} ({:.1} s)", began.elapsed().as_secs_f64());
        if !kept {
            broken += 1;
            // What it left behind is not known.
            drop(engine);
            engine = OnnxEngine::load(config)?;
        }
    }
    println!("conformance: {} promises kept, {broken} broken", PROMISES.len() - broken);
    Ok(broken == 0)
}

fn self_check(config: &OnnxConfig) -> Result<bool, Box<dyn Error>> {
    let began = Instant::now();
    let engine = load_checked(config, Second::this_program()?)?;
    let class = &engine.description().numeric_class;
    println!("class: {} {} {} {}", class.provider, class.hardware, class.runtime, class.compute);
    println!("two processes gave the same bits ({:.1} s)", began.elapsed().as_secs_f64());
    println!("self check: 1 promises kept, 0 broken");
    Ok(true)
}

/// Measures steps of `batch` sequences in a bucket of as many rows.
fn speed(config: &OnnxConfig, batch: usize, steps: usize) -> Result<(), Box<dyn Error>> {
    let batch_buckets = if config.batch_buckets.is_empty() { Vec::new() } else { vec![batch] };
    let config = OnnxConfig { sequences_max: batch.max(1), batch_buckets, ..config.clone() };
    let mut engine = OnnxEngine::load(&config)?;
    let prompt: Vec<TokenId> = (1..17).collect();
    let prompts: Vec<Prompt<'_>> =
        (0..config.sequences_max).map(|name| Prompt::new(SequenceId(name as u64), &prompt)).collect();
    whole::prefill(&mut engine, &prompts)?;
    let next: Vec<(SequenceId, TokenId)> = prompts.iter().map(|prompt| (prompt.sequence, 7)).collect();
    let mut seen = 0;
    for _ in 0..4 {
        engine.decode(&next, &mut |rows| seen += rows.len())?;
    }
    let began = Instant::now();
    for _ in 0..steps {
        engine.decode(&next, &mut |rows| seen += rows.len())?;
    }
    let seconds = began.elapsed().as_secs_f64();
    if seen != (steps + 4) * next.len() {
        return Err(format!("{seen} rows came").into());
    }
    let (rate, step_ms) = ((steps * next.len()) as f64 / seconds, 1e3 * seconds / steps as f64);
    println!("speed: batch {}: {rate:.1} tokens/s, {step_ms:.2} ms a step", next.len());
    Ok(())
}
