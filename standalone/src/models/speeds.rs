//! How fast models decode on this machine: measured when it is asked for, and kept beside the models for later looks.

use std::io::ErrorKind;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use infera_engine::{Engine, EngineError, Prompt, SequenceId, whole};
use infera_engine_onnx::config::EngineConfig;
use infera_engine_onnx::{Device, OnnxEngine};
use infera_model::folder::{model_digest, onnx_file};
use infera_program::Failure;
use infera_types::ids::Digest;
use infera_types::numbers::TokenId;
use infera_types::time::Timestamp;
use serde::{Deserialize, Serialize};

use crate::config::Config;
use crate::data_folder::write_private;

/// The file, in the folder of models.
const FILE: &str = ".speeds.json";

/// How long steps are counted: as long as a machine's other work takes to even out, and no longer than a person waits gladly.
const MEASURED_FOR: Duration = Duration::from_secs(5);

/// Steps that aren't counted: buffers grow in the first.
const WARM_UP_STEPS: usize = 3;

/// The tokens of each prompt: those of a short question.
const PROMPT_TOKENS: usize = 16;

/// A measurement of one file on one device.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Speed {
    /// The digest of the model's files.
    digest: Digest,
    /// `cpu` or `cuda:0`.
    device: String,
    /// The engine's threads.
    threads: usize,
    /// The sequences at once.
    batch: u64,
    /// Tokens of all of them in a second.
    tokens_per_s: f64,
    measured_ms: Timestamp,
}

/// All measurements of this machine that are kept.
pub(super) struct Speeds {
    path: PathBuf,
    kept: Vec<Speed>,
}

impl Speeds {
    /// Reads what is kept. A file that can't be read counts as none: measuring again replaces it.
    pub(super) fn read(config: &Config) -> Result<Self, Failure> {
        let path = config.models.join(FILE);
        let kept = match std::fs::read(&path) {
            Ok(bytes) => serde_json::from_slice(&bytes).unwrap_or_default(),
            Err(error) if error.kind() == ErrorKind::NotFound => Vec::new(),
            Err(error) => return Err(Failure::refused(format!("{}: {error}", path.display()))),
        };
        Ok(Self { path, kept })
    }

    /// Returns the tokens per second of a file on a device, if they were measured with these threads and this batch.
    pub(super) fn find(&self, digest: Digest, device: &str, threads: usize, batch: u64) -> Option<f64> {
        let is_same = |speed: &&Speed| {
            speed.digest == digest
                && speed.device == device
                && speed.threads == threads
                && speed.batch == batch
        };
        self.kept.iter().find(is_same).map(|speed| speed.tokens_per_s)
    }

    /// Decodes with the model of `engine` on its device for some seconds, and keeps what was measured in place of what was
    /// kept of the same.
    pub(super) fn measure(&mut self, engine: &EngineConfig, batch: u64) -> Result<(), Failure> {
        let problem = |error: EngineError| Failure::refused(format!("{}: {error}", engine.variant));
        let digest = digest_of(engine).ok_or_else(|| Failure::refused("the model's file is gone"))?;
        let tokens_per_s = decode(engine, batch).map_err(problem)?;
        let device = device_of(engine.device).to_owned();
        let threads = engine.threads;
        let speed = Speed { digest, device, threads, batch, tokens_per_s, measured_ms: Timestamp::now() };
        self.kept.retain(|kept| {
            let is_same = kept.digest == digest && kept.device == speed.device;
            !(is_same && kept.threads == threads && kept.batch == batch)
        });
        self.kept.push(speed);
        let unwritable = |error: std::io::Error| {
            Failure::refused(format!("the measurement can't be kept: {}: {error}", self.path.display()))
        };
        if let Some(folder) = self.path.parent() {
            std::fs::create_dir_all(folder).map_err(unwritable)?;
        }
        let text = serde_json::to_string_pretty(&self.kept)?;
        write_private(&self.path, &text).map_err(Failure::refused)
    }
}

/// Returns the digest of the files that an engine would run.
pub(super) fn digest_of(engine: &EngineConfig) -> Option<Digest> {
    let file = onnx_file(&engine.folder, &engine.variant).ok()?;
    model_digest(&engine.folder, &file).ok()
}

/// Returns the name by which devices are listed.
pub(super) const fn device_of(device: Device) -> &'static str {
    match device {
        Device::Cpu => "cpu",
        Device::Cuda => "cuda:0",
    }
}

/// Returns the tokens per second of `batch` sequences that decode at once. Choosing tokens isn't part of it.
fn decode(engine: &EngineConfig, batch: u64) -> Result<f64, EngineError> {
    let sequences = usize::try_from(batch).unwrap_or(usize::MAX);
    let mut config = engine.onnx();
    config.sequences_max = sequences;
    if !config.batch_buckets.is_empty() {
        config.batch_buckets = vec![sequences];
    }
    let mut engine = OnnxEngine::load(&config)?;
    let (context, vocabulary) = (engine.description().context_max, engine.description().vocabulary);
    let prompt_tokens = PROMPT_TOKENS.min(context / 2).max(1);
    let known = |token: usize| TokenId::try_from(token % vocabulary).unwrap_or_default();
    let prompt: Vec<TokenId> = (1..=prompt_tokens).map(known).collect();
    let prompts: Vec<Prompt<'_>> = (0..batch).map(|name| Prompt::new(SequenceId(name), &prompt)).collect();
    whole::prefill(&mut engine, &prompts)?;
    let next: Vec<(SequenceId, TokenId)> = prompts.iter().map(|prompt| (prompt.sequence, known(1))).collect();
    let room = context - prompt_tokens;
    let warm_up = WARM_UP_STEPS.min(room / 2);
    for _ in 0..warm_up {
        engine.decode(&next, &mut |_| {})?;
    }
    let (began, mut steps) = (Instant::now(), 0_u32);
    for _ in warm_up..room {
        engine.decode(&next, &mut |_| {})?;
        steps += 1;
        if began.elapsed() >= MEASURED_FOR {
            break;
        }
    }
    Ok(f64::from(steps) * batch as f64 / began.elapsed().as_secs_f64())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_measurement_of_the_same_counts() {
        let (digest, other) = (Digest::of(b"a"), Digest::of(b"b"));
        let speed = Speed {
            digest,
            device: "cpu".to_owned(),
            threads: 2,
            batch: 16,
            tokens_per_s: 83.5,
            measured_ms: Timestamp::from_millis(1),
        };
        let speeds = Speeds { path: PathBuf::new(), kept: vec![speed] };
        assert_eq!(speeds.find(digest, "cpu", 2, 16), Some(83.5));
        let others =
            [(other, "cpu", 2, 16), (digest, "cuda:0", 2, 16), (digest, "cpu", 1, 16), (digest, "cpu", 2, 1)];
        for (digest, device, threads, batch) in others {
            assert_eq!(speeds.find(digest, device, threads, batch), None);
        }
    }
}
