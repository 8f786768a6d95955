//! What an operator or a node's runner may change about a worker. Nothing here says where the broker or the model
//! is: the program that composes the worker hands those in.

use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// A worker's settings. Unknown keys are refused.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Jobs in work at once, and sequences in one batch. The engine's own limit lowers it.
    pub slots: u32,
    /// Deliveries taken beyond the slots. They are there to be refused at once as `busy`, answered from the result
    /// cache or attached to a running job; without them such assignments would wait unseen in the queue.
    pub prefetch_spare: u16,
    /// Between two heartbeats when nothing changes.
    pub heartbeat_ms: u64,
    /// Between two heartbeats at least, however often the slots fill and empty.
    pub heartbeat_gap_ms: u64,
    /// Answers kept for later assignments of the same job.
    pub result_cache_entries: usize,
    /// Bytes that those answers may take together.
    pub result_cache_bytes: usize,
    /// Prompt tokens in one prefill, padding included. While it runs, no other sequence gets a token.
    pub prefill_tokens_max: usize,
    /// Prompts rendered (and answers decoded to text) at the same time.
    pub tokenizer_threads: usize,
    /// Bytes of prompts that are rendered at the same time; a longer prompt is rendered alone.
    pub work_bytes_max: u32,
    /// Calls of the engine that may fail in a row before it counts as gone.
    pub engine_failures_max: u32,
    /// How long running work may take to finish after shutdown began; what is left is given back.
    pub drain_ms: u64,
    /// How long giving back, and the engine's last step, may take after that.
    pub stop_ms: u64,
    /// Where assignments that run alone after a redelivery are written down, so that one which kills this process
    /// every time is refused the second time. Without it only this process's memory counts, which is enough for
    /// a broker that ends with the process.
    pub alone_file: Option<PathBuf>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            // The largest batch that the engine's properties are tried at.
            slots: 16,
            // Half the slots: a burst from several verifiers that all saw the same free slots is answered at once.
            prefetch_spare: 8,
            // The network's rhythm: a verifier calls a node dead after three of these.
            heartbeat_ms: 10_000,
            // Two a second is quick against a job's length and cheap for the broker.
            heartbeat_gap_ms: 500,
            // A dead verifier's jobs come again within its lease; a node answers fewer than this in that time.
            result_cache_entries: 1_024,
            // An answer of 512 tokens with its numbers is about 60 KiB; this holds the entries above.
            result_cache_bytes: 64 * 1024 * 1024,
            // One long prompt, or sixteen short ones: a running stream pauses for one such call at most.
            prefill_tokens_max: 2_048,
            // Rendering is far cheaper than decoding; two keep one long prompt from holding up the short ones.
            tokenizer_threads: 2,
            // Two of the largest bodies. Turning text into tokens takes up to 280 times the text's memory (measured), so
            // some 300 MB.
            work_bytes_max: 1024 * 1024,
            // One bad step is an accident, eight in a row are a broken device.
            engine_failures_max: 8,
            // Longer than most answers take, shorter than a service manager's patience.
            drain_ms: 30_000,
            stop_ms: 5_000,
            alone_file: None,
        }
    }
}

impl Config {
    /// Returns everything that is wrong with the values, as sentences that name the key.
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
    }

    #[test]
    fn unknown_keys_are_refused() {
        assert!(serde_json::from_str::<Config>(r#"{"slots": 4}"#).is_ok_and(|config| config.slots == 4));
        assert!(serde_json::from_str::<Config>(r#"{"slot": 4}"#).is_err());
    }
}
