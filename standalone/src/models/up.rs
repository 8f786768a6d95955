//! What `infera up` needs for a model by its settings: every node has an engine of its own, which may hold as many sequences as the
//! settings say, each as long as the model allows. The start of several models is checked by the same figures.

use infera_engine_onnx::footprint::{Load, Shape, needed};
use serde::Serialize;

use crate::config::Config;

/// The settings that decide it.
#[derive(Clone, Copy)]
pub(super) struct Terms {
    nodes: u64,
    sequences: u64,
    chunk_tokens: u64,
    prefix_cache_bytes: u64,
}

/// The need of all nodes together, in the worst case.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Up {
    pub(super) nodes: u64,
    /// Of each node's engine.
    pub(super) sequences: u64,
    /// Of each sequence, in tokens.
    pub(super) context: u64,
    pub(super) needed_bytes: u64,
    /// The most sequences an engine with which it fits; none if one doesn't fit, or if the device doesn't say what is free.
    pub(super) sequences_fit: Option<u64>,
}

impl Terms {
    /// Takes them from the settings.
    pub(super) fn of(config: &Config) -> Self {
        let engine = &config.engine;
        Self {
            nodes: u64::from(config.nodes.count),
            sequences: (engine.sequences_max as u64).min(u64::from(config.worker.slots)),
            chunk_tokens: engine.chunk_tokens as u64,
            prefix_cache_bytes: engine.prefix_cache_bytes as u64,
        }
    }

    /// Returns what a model of this shape needs where `free_bytes` are free.
    pub(super) fn need(self, shape: &Shape, free_bytes: Option<u64>) -> Up {
        let Self { nodes, sequences, chunk_tokens, prefix_cache_bytes } = self;
        let context = shape.context_max;
        let bytes = |sequences| {
            let load = Load { context, sequences, chunk_tokens, prefix_cache_bytes };
            needed(shape, &load).total().saturating_mul(nodes)
        };
        let fitting = free_bytes.and_then(|free| (1..=sequences).rev().find(|count| bytes(*count) <= free));
        Up { nodes, sequences, context, needed_bytes: bytes(sequences), sequences_fit: fitting }
    }
}

#[cfg(test)]
mod tests {
    use infera_engine_onnx::config::EngineConfig;
    use infera_engine_onnx::fitting::{Bound, admit};

    use super::*;

    /// What is said to fit is what `infera up` starts with, to the byte.
    #[test]
    fn it_needs_what_the_start_is_checked_by() {
        let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../models/infera-tiny");
        let mut config = Config::default();
        config.engine = EngineConfig { folder: folder.clone(), ..config.engine };
        let shape = Shape::read(&folder, "model").expect("bundled");
        let up = Terms::of(&config).need(&shape, None);
        assert_eq!((up.nodes, up.sequences_fit), (3, None));
        let starts = |bytes, sequences_max| {
            let engine = EngineConfig { sequences_max, ..config.engine.clone() };
            let wanted = engine.wanted(config.worker.slots).expect("bundled");
            admit(&wanted, u64::from(config.nodes.count), Bound { bytes, is_set: true }).is_ok()
        };
        let most = config.engine.sequences_max;
        assert!(starts(up.needed_bytes, most) && !starts(up.needed_bytes - 1, most));
        let fitting =
            Terms::of(&config).need(&shape, Some(up.needed_bytes - 1)).sequences_fit.expect("fewer fit");
        let fitting = usize::try_from(fitting).expect("few");
        assert!(starts(up.needed_bytes - 1, fitting) && !starts(up.needed_bytes - 1, fitting + 1));
    }
}
