//! Our side as a child process: the worker's executor with its own limits around our engine, fed from standard input. A
//! line asks for an answer, for what was counted, or (`--bare`) for steps of the engine alone; a line of output is the
//! number of a request that got a token, or what was asked for.

use std::io::{BufRead as _, Write as _};
use std::time::{Duration, Instant};

use infera_bench::measure::as_f64;
use infera_bench::{Fault, root};
use infera_engine::{Engine as _, Prompt, SequenceId, whole};
use infera_engine_onnx::OnnxEngine;
use infera_engine_onnx::config::EngineConfig;
use infera_types::ids::{Digest, ModelName};
use infera_types::numbers::TokenId;
use infera_worker::executor::{BatchLimits, Executor, ExecutorLimits, Work};
use serde::Deserialize;
use tokio::sync::mpsc;

use crate::jobs::{ANSWER_TOKENS, Job};
use crate::observed::{Counts, Names, Observed};
use crate::settings::{Pace, Settings};

/// A line of input.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Asked {
    Answer {
        id: u64,
        prompt: Vec<TokenId>,
        tokens: usize,
    },
    Steps {
        steps: usize,
        ms: u64,
    },
    Profile {
        #[expect(dead_code, reason = "the key alone says what is wanted")]
        profile: bool,
    },
}

/// Serves until the input ends.
pub(crate) async fn serve(settings: &Settings, variant: &str) -> Result<(), Fault> {
    let threads = settings.threads();
    let default = EngineConfig::default();
    let chunk_tokens = settings.chunk_tokens().unwrap_or(default.chunk_tokens);
    let config = EngineConfig { folder: settings.model().to_owned(), threads, chunk_tokens, ..default };
    let config = EngineConfig {
        library: root().join(&config.library),
        variant: variant.to_owned(),
        prefix_cache_bytes: 0,
        ..config
    };
    // Nothing is kept of earlier prompts, as in the other engines.
    let engine = OnnxEngine::load(&config.onnx())?;
    if settings.is_bare() {
        return serve_steps(engine, settings.pace());
    }
    let worker = infera_worker::Config::default();
    let batch = BatchLimits { slots: config.sequences_max, prefill_tokens_max: worker.prefill_tokens_max };
    let limits = ExecutorLimits { batch, failures_max: worker.engine_failures_max };
    let (counts, names) = (Counts::default(), Names::default());
    let observed = Observed::new(Box::new(engine), counts.clone(), names.clone(), tell);
    // No token ends an answer, so that its length is as asked for.
    let executor = Executor::start(&ModelName::new("benched"), Box::new(observed), Vec::new(), limits)?;
    let (lines, mut asked) = mpsc::unbounded_channel();
    std::thread::Builder::new().name("input".to_owned()).spawn(move || {
        // An unread line ends the child, and with it the run.
        for line in std::io::stdin().lock().lines().map_while(Result::ok) {
            if lines.send(line).is_err() {
                return;
            }
        }
    })?;
    say("ready\n");
    while let Some(line) = asked.recv().await {
        match serde_json::from_str(&line)? {
            Asked::Answer { id, prompt, tokens } => answer(&executor, &names, id, (prompt, tokens)),
            Asked::Profile { .. } => say(&format!("{}\n", serde_json::to_string(&counts.take())?)),
            Asked::Steps { .. } => return Err("steps need --bare".into()),
        }
    }
    Ok(())
}

/// Hands a request to the executor.
fn answer(executor: &Executor, names: &Names, id: u64, (prompt, tokens): (Vec<TokenId>, usize)) {
    let work = Work {
        prompt,
        answer_tokens_max: tokens,
        temperature: 0.0,
        sample_key: Digest::of(&id.to_le_bytes()),
        choice: 0,
        knobs: infera_types::knobs::Knobs::default(),
        top_logprobs: None,
        alone: false,
        cache_scope: Some(names.give(id)),
    };
    let executor = executor.clone();
    tokio::spawn(async move {
        if let Err(error) = executor.run(work).await {
            say(&format!("failed {error}\n"));
        }
    });
}

/// Tells of tokens, all of a call in one write.
fn tell(numbers: &[u64]) {
    say(&numbers.iter().map(|number| format!("{number}\n")).collect::<String>());
}

/// Writes to standard output. If nobody reads, the run is over, and the input's end ends this process.
fn say(text: &str) {
    let mut output = std::io::stdout().lock();
    let _ = output.write_all(text.as_bytes()).and_then(|()| output.flush());
}

fn serve_steps(mut engine: OnnxEngine, pace: Pace) -> Result<(), Fault> {
    say("ready\n");
    for line in std::io::stdin().lock().lines() {
        match serde_json::from_str(&line?)? {
            Asked::Steps { steps, ms } => {
                // With a point, so that it is not taken for the number of a request.
                say(&format!("{:.3}\n", rate(&mut engine, steps, Duration::from_millis(ms), pace)?));
            }
            other => return Err(format!("only steps are served here, not {other:?}").into()),
        }
    }
    Ok(())
}

/// Returns tokens per second of bare steps, prompts not counted, with sequences as long as those of the mixed jobs.
fn rate(engine: &mut OnnxEngine, batch: usize, span: Duration, pace: Pace) -> Result<f64, Fault> {
    let prompts: Vec<Job> = (0..batch).map(|index| Job::mixed(index, pace)).collect();
    let names = || (0..).map(SequenceId);
    let sequences: Vec<SequenceId> = names().take(batch).collect();
    let (mut decoding, mut tokens) = (Duration::ZERO, 0);
    while decoding < span {
        let joining: Vec<Prompt<'_>> =
            names().zip(&prompts).map(|(sequence, job)| Prompt::new(sequence, &job.prompt)).collect();
        whole::prefill(engine, &joining)?;
        let begun = Instant::now();
        for place in 1..ANSWER_TOKENS.end {
            if decoding + begun.elapsed() >= span {
                break;
            }
            let token =
                prompts.first().and_then(|job| job.prompt.get(place % 8)).copied().unwrap_or_default();
            let step: Vec<_> = sequences.iter().map(|sequence| (*sequence, token)).collect();
            engine.decode(&step, &mut |_| ())?;
            tokens += batch;
        }
        decoding += begun.elapsed();
        engine.release(&sequences);
    }
    Ok(as_f64(tokens) / decoding.as_secs_f64())
}
