//! Section (c): tokens per second of the engine alone, and of the worker's executor with jobs that come and go; with caches in
//! fixed buffers, and with caches that come and go with each run.

use std::time::{Duration, Instant};

use infera_engine::{Engine as _, Prompt, SequenceId, whole};
use infera_engine_onnx::config::EngineConfig;
use infera_engine_onnx::{OnnxConfig, OnnxEngine};
use infera_types::ids::{Digest, ModelName};
use infera_types::numbers::TokenId;
use infera_worker::executor::{Executor, ExecutorLimits, Work};
use tokio::runtime::Runtime;
use tokio::task::JoinSet;

use crate::model::onnx_config;
use crate::settings::{Pace, Settings};
use infera_bench::measure::{as_f64, cpu_time, cpu_us_each};
use infera_bench::report::{Row, Section};
use infera_bench::{Fault, root};

/// The numbers of sequences that decode side by side.
const BATCHES: [usize; 3] = [1, 4, 16];
/// The number of jobs of mixed length that come all at once.
const MIXED_JOBS: usize = 32;
/// How long these jobs may take; after that something is broken.
const MIXED_WITHIN: Duration = Duration::from_secs(600);
/// The ranges of the tokens of prompts and answers, evenly spread and mixed: short chat turns.
const PROMPT_TOKENS: std::ops::Range<usize> = 8..25;
const ANSWER_TOKENS: std::ops::Range<usize> = 8..65;
/// The range of tokens that are used here: valid in either vocabulary, and without special tokens.
const TOKENS: std::ops::Range<u32> = 7..768;
/// After how many steps a batch is started again, before any context is full.
const STEPS_MAX: usize = 128;

pub(crate) fn measure(settings: &Settings, runtime: &Runtime) -> Result<Section, Fault> {
    let mut rows = Vec::new();
    for (folder, variant) in settings.models() {
        let name = folder.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        // The bundled model is too small to be split over threads; the larger one has the machine to itself, as on a
        // node.
        let threads = if folder.starts_with(root().join("models")) {
            EngineConfig::default().threads
        } else {
            std::thread::available_parallelism()?.get()
        };
        let label = format!("{name} ({variant}), {threads} thread(s)");
        let config = OnnxConfig { variant: variant.to_owned(), ..onnx_config(&folder, threads) };
        rows.extend(alone(&label, &config, settings.pace())?);
        rows.extend(runtime.block_on(mixed(&label, &config, settings.pace()))?);
    }
    Ok(Section {
        title: "(c) decoding: ONNX Runtime on the CPU".to_owned(),
        rows,
        notes: vec![
            "Batches: steps of the engine alone, prompts not counted, tokens fed back without choosing them.".to_owned(),
            "Fixed over moving: the engine as nodes run it, with caches in fixed buffers, over the same engine with caches \
             that come and go with each run and are copied when a sequence joins or leaves."
                .to_owned(),
            format!(
                "Mixed: {MIXED_JOBS} jobs at once through the worker's executor (prefill, sampling and numbers \
                 included), prompts of {} to {} tokens, answers of {} to {}, over the same jobs with one slot.",
                PROMPT_TOKENS.start,
                PROMPT_TOKENS.end - 1,
                ANSWER_TOKENS.start,
                ANSWER_TOKENS.end - 1
            ),
            "Wall time on a machine that does other work swings several times more than CPU time; CPU time includes \
             waiting in a spin where there are two threads."
                .to_owned(),
        ],
    })
}

/// Returns numbers spread evenly over a range, in an order that mixes large and small: multiples of a prime.
fn spread(index: usize, range: &std::ops::Range<usize>) -> usize {
    range.start + index * 37 % range.len()
}

fn prompt(index: usize) -> Vec<TokenId> {
    let words = TOKENS.len();
    (0..spread(index, &PROMPT_TOKENS))
        .filter_map(|place| TOKENS.clone().nth((index * 131 + place * 17) % words))
        .collect()
}

/// Measures tokens per second and CPU time per step at each batch, all with one engine.
fn alone(label: &str, config: &OnnxConfig, pace: Pace) -> Result<Vec<Row>, Fault> {
    let (mut engine, mut moving) = (OnnxEngine::load(config)?, OnnxEngine::load(&moving_caches(config))?);
    let (mut rates, mut steps_cpu) = (vec![Vec::new(); BATCHES.len()], vec![Vec::new(); BATCHES.len()]);
    let mut over_moving = vec![Vec::new(); BATCHES.len()];
    for _ in 0..pace.rounds {
        for (place, &batch) in BATCHES.iter().enumerate() {
            let (before, _) = steps(&mut moving, batch, pace.span)?;
            let (rate, cpu_us) = steps(&mut engine, batch, pace.span)?;
            over_moving[place].push(rate / before);
            rates[place].push(rate);
            steps_cpu[place].extend(cpu_us.map(|us| us / 1e3));
        }
    }
    let single = rates[0].clone();
    let mut rows = Vec::new();
    for (((batch, rates), cpu_ms), over_moving) in
        BATCHES.into_iter().zip(rates).zip(steps_cpu).zip(over_moving)
    {
        let over_single = rates.iter().zip(&single).map(|(rate, single)| rate / single).collect();
        rows.push(Row::new(format!("{label}: batch {batch}"), "tokens/s", rates));
        rows.push(Row::new(format!("{label}: batch {batch}, fixed over moving"), "", over_moving));
        if batch > 1 {
            rows.push(Row::new(format!("{label}: batch {batch} over batch 1"), "", over_single));
        }
        if !cpu_ms.is_empty() {
            rows.push(Row::new(format!("{label}: CPU for each step of batch {batch}"), "ms", cpu_ms));
        }
    }
    Ok(rows)
}

/// Decodes for `span`, not counting prompts. Returns tokens per second and CPU microseconds per step.
fn steps(engine: &mut OnnxEngine, batch: usize, span: Duration) -> Result<(f64, Option<f64>), Fault> {
    let prompts: Vec<Vec<TokenId>> = (0..batch).map(prompt).collect();
    let names = || (0..).map(SequenceId);
    let sequences: Vec<SequenceId> = names().take(batch).collect();
    let (mut decoding, mut count, mut cpu_us) = (Duration::ZERO, 0, Some(0.0));
    while decoding < span {
        let joining: Vec<Prompt<'_>> =
            names().zip(&prompts).map(|(sequence, tokens)| Prompt::new(sequence, tokens)).collect();
        whole::prefill(engine, &joining)?;
        let (cpu_before, begun, before) = (cpu_time(), Instant::now(), count);
        while count - before < STEPS_MAX && decoding + begun.elapsed() < span {
            let token = TOKENS.start + u32::try_from(count % TOKENS.len())?;
            let step: Vec<_> = sequences.iter().map(|sequence| (*sequence, token)).collect();
            engine.decode(&step, &mut |_| ())?;
            count += 1;
        }
        decoding += begun.elapsed();
        let steps = count - before;
        let used = cpu_us_each(cpu_before, steps).map(|each| each * as_f64(steps));
        cpu_us = cpu_us.zip(used).map(|(sum, used)| sum + used);
        engine.release(&sequences);
    }
    Ok((as_f64(count * batch) / decoding.as_secs_f64(), cpu_us.map(|sum| sum / as_f64(count))))
}

/// Measures tokens per second of the mixed jobs: with all slots, with one slot, and the ratio.
async fn mixed(label: &str, config: &OnnxConfig, pace: Pace) -> Result<Vec<Row>, Fault> {
    let (many, single) = (executor(config, config.sequences_max)?, executor(config, 1)?);
    let moving = executor(&moving_caches(config), config.sequences_max)?;
    let (mut batched, mut serial, mut ratios, mut over_moving) =
        (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for _ in 0..pace.rounds {
        let alone = tokio::time::timeout(MIXED_WITHIN, run_mixed(&single)).await??;
        let before = tokio::time::timeout(MIXED_WITHIN, run_mixed(&moving)).await??;
        let together = tokio::time::timeout(MIXED_WITHIN, run_mixed(&many)).await??;
        over_moving.push(together / before);
        ratios.push(together / alone);
        serial.push(alone);
        batched.push(together);
    }
    Ok(vec![
        Row::new(format!("{label}: {MIXED_JOBS} mixed jobs, one slot"), "tokens/s", serial),
        Row::new(
            format!("{label}: {MIXED_JOBS} mixed jobs, {} slots", config.sequences_max),
            "tokens/s",
            batched,
        ),
        Row::new(format!("{label}: mixed, slots over one"), "", ratios),
        Row::new(format!("{label}: mixed, fixed over moving"), "", over_moving),
    ])
}

/// Returns the settings of an engine whose caches come and go with each run.
fn moving_caches(config: &OnnxConfig) -> OnnxConfig {
    OnnxConfig { fixed_buffers: false, ..config.clone() }
}

/// Makes the worker's own executor with its own limits. No token ends an answer, so that lengths are as asked for.
fn executor(config: &OnnxConfig, slots: usize) -> Result<Executor, Fault> {
    let worker = infera_worker::Config::default();
    let batch = infera_worker::executor::BatchLimits { slots, prefill_tokens_max: worker.prefill_tokens_max };
    let limits = ExecutorLimits { batch, failures_max: worker.engine_failures_max };
    Ok(Executor::start(&ModelName::new("benched"), Box::new(OnnxEngine::load(config)?), Vec::new(), limits)?)
}

async fn run_mixed(executor: &Executor) -> Result<f64, Fault> {
    let begun = Instant::now();
    let mut tasks = JoinSet::new();
    for job in 0..MIXED_JOBS {
        let work = Work {
            prompt: prompt(job),
            answer_tokens_max: spread(job, &ANSWER_TOKENS),
            temperature: 0.7,
            sample_key: Digest::of(&job.to_le_bytes()),
            choice: 0,
            knobs: infera_types::knobs::Knobs::default(),
            top_logprobs: None,
            alone: false,
            cache_scope: None,
        };
        let executor = executor.clone();
        tasks.spawn(async move { executor.run(work).await });
    }
    let mut tokens = 0;
    while let Some(decoded) = tasks.join_next().await {
        tokens += decoded??.tokens.len();
    }
    Ok(as_f64(tokens) / begun.elapsed().as_secs_f64())
}
