//! The settings that an operator or a node's runner may change. Where the broker and the model are is set elsewhere:
//! the program that assembles the worker passes them in.

use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// The largest number of models that one worker serves: verifiers ignore those beyond it in a heartbeat.
pub const MODELS_MAX: usize = 64;

/// The longest name of a machine, in bytes: verifiers ignore a longer one.
const MACHINE_MAX_BYTES: usize = 64;

/// The settings of a worker. Unknown keys are refused.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// The largest number of jobs of one model in work at once, and of sequences in one batch of its engine. The engine's own
    /// limit may lower it. Models have slots of their own, so that none waits for another's.
    pub slots: u32,
    /// The number of deliveries that are taken for each model beyond its slots. They are refused at once as `busy`, answered from
    /// the result cache or attached to a running job. Without them, such assignments would wait unseen in the queue.
    pub prefetch_spare: u16,
    /// The time between two heartbeats when nothing changes, in milliseconds.
    pub heartbeat_ms: u64,
    /// The shortest time between two heartbeats, in milliseconds, however fast the slots fill and empty.
    pub heartbeat_gap_ms: u64,
    /// The largest number of answers that are kept for later assignments of the same jobs, of all models together.
    pub result_cache_entries: usize,
    /// The largest size of these answers together, in bytes.
    pub result_cache_bytes: usize,
    /// The largest number of prompt tokens in one prefill, padding included. During a prefill, no other sequence gets
    /// a token. Of each prompt a prefill computes one of the engine's chunks, so that a long one takes many.
    pub prefill_tokens_max: usize,
    /// The largest number of prompts that are rendered, or answers that are decoded to text, at the same time, for all models
    /// together.
    pub tokenizer_threads: usize,
    /// The largest sum of prompts that are rendered at the same time, in bytes. A longer prompt is rendered alone.
    pub work_bytes_max: u32,
    /// The number of engine calls that may fail in a row before the engine counts as gone.
    pub engine_failures_max: u32,
    /// How long running work may take to finish after shutdown began, or after its model was removed, in milliseconds. What is
    /// left is given back.
    pub drain_ms: u64,
    /// How long giving back, and the engine's last step, may take after that, in milliseconds.
    pub stop_ms: u64,
    /// The file that records which assignments run alone after a redelivery, so that an assignment which kills this
    /// process every time is refused the second time. Without a file, only the process's memory counts, which is
    /// enough if the broker ends with the process.
    pub alone_file: Option<PathBuf>,
    /// The name of the machine, of at most 64 printable ASCII characters: nodes that name the same one are not asked together
    /// for a job of their owner's. Without it, the program `infera-worker` makes one from the machine's own id.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub machine: Option<String>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            // The largest batch at which the engine's properties are tested.
            slots: 16,
            // Half of the slots: a burst from several verifiers that all saw the same free slots is answered at once.
            prefetch_spare: 8,
            // The pace of the whole network: a verifier calls a node dead after three missed heartbeats.
            heartbeat_ms: 10_000,
            // Two a second are fast compared with a job, and cheap for the broker.
            heartbeat_gap_ms: 500,
            // The jobs of a dead verifier come again within its lease; a node answers fewer jobs than this in that
            // time.
            result_cache_entries: 1_024,
            // An answer of 512 tokens with its numbers takes about 60 KiB, so this holds the number of answers above.
            result_cache_bytes: 64 * 1024 * 1024,
            // Four of the engine's chunks, or some sixteen short prompts: a running stream pauses for one such call at
            // most, and a prompt of 2,000 tokens pauses it for one chunk at a time.
            prefill_tokens_max: 256,
            // Rendering is far cheaper than decoding. With two, one long prompt doesn't hold up the short ones.
            tokenizer_threads: 2,
            // Two of the largest bodies. Turning text into tokens takes up to 280 times the memory of the text
            // (measured), so some 300 MB.
            work_bytes_max: 1024 * 1024,
            // One bad step is an accident; eight in a row mean a broken device.
            engine_failures_max: 8,
            // Longer than most answers take, and shorter than a service manager waits.
            drain_ms: 30_000,
            stop_ms: 5_000,
            alone_file: None,
            // What the machine says of itself is right unless it is copied or hidden.
            machine: None,
        }
    }
}

impl Config {
    /// Returns all mistakes in the settings, as sentences that name the key.
    #[must_use]
    pub fn mistakes(&self) -> Vec<String> {
        let above_zero = [
            ("slots", self.slots == 0),
            ("heartbeat_ms", self.heartbeat_ms == 0),
            ("result_cache_entries", self.result_cache_entries == 0),
            ("result_cache_bytes", self.result_cache_bytes == 0),
            ("prefill_tokens_max", self.prefill_tokens_max == 0),
            ("tokenizer_threads", self.tokenizer_threads == 0),
            ("work_bytes_max", self.work_bytes_max == 0),
            ("engine_failures_max", self.engine_failures_max == 0),
        ];
        let mut mistakes: Vec<String> = above_zero
            .into_iter()
            .filter(|(_, is_zero)| *is_zero)
            .map(|(key, _)| format!("{key} must be at least 1"))
            .collect();
        if self.slots > u32::from(u16::MAX - self.prefetch_spare) {
            mistakes.push(format!("slots and prefetch_spare together must be at most {}", u16::MAX));
        }
        let is_name = |machine: &String| {
            (1..=MACHINE_MAX_BYTES).contains(&machine.len())
                && machine.bytes().all(|byte| byte.is_ascii_graphic())
        };
        if !self.machine.as_ref().is_none_or(is_name) {
            mistakes.push(format!(
                "machine must have 1 to {MACHINE_MAX_BYTES} printable ASCII characters without spaces"
            ));
        }
        mistakes
    }

    pub(crate) const fn drain(&self) -> Duration {
        Duration::from_millis(self.drain_ms)
    }

    pub(crate) const fn stop(&self) -> Duration {
        Duration::from_millis(self.stop_ms)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_are_valid() {
        assert_eq!(Config::default().mistakes(), Vec::<String>::new());
    }

    #[test]
    fn all_mistakes_are_listed_at_once() {
        let config = Config { slots: 0, tokenizer_threads: 0, ..Config::default() };
        let mistakes = config.mistakes();
        assert_eq!(mistakes, ["slots must be at least 1", "tokenizer_threads must be at least 1"]);
        assert_eq!(Config { slots: 70_000, ..Config::default() }.mistakes().len(), 1);
        for (machine, mistakes) in [("rack-3", 0), ("", 1), ("a b", 1), (&"x".repeat(65), 1)] {
            let config = Config { machine: Some(machine.to_owned()), ..Config::default() };
            assert_eq!(config.mistakes().len(), mistakes, "{machine:?}");
        }
    }

    #[test]
    fn unknown_keys_are_refused() {
        assert!(serde_json::from_str::<Config>(r#"{"slots": 4}"#).is_ok_and(|config| config.slots == 4));
        assert!(serde_json::from_str::<Config>(r#"{"slot": 4}"#).is_err());
    }
}
