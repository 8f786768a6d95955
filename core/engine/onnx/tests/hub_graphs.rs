//! Tests what graphs of the Hub differ in, on tiny ones that the tests write: types of caches, logits and inputs, inputs that
//! are there or not, weights in files of their own, and kinds of graphs that can't be served.
#![expect(clippy::expect_used, clippy::panic, reason = "a test fails by panicking, in its helpers too")]

#[path = "hub_graphs/writer.rs"]
mod writer;

use std::path::{Path, PathBuf};

use infera_conformance::engine::Promise;
use infera_engine::{Engine, EngineError, Prompt, SequenceId, whole};
use infera_engine_onnx::{
    COMPUTE_BRAIN, COMPUTE_EXACT, COMPUTE_HALF, COMPUTE_VARYING, OnnxConfig, OnnxEngine,
};
use infera_model::folder::{model_digest, onnx_file};
use infera_types::numbers::TokenId;
use tempfile::TempDir;
use writer::{Kept, Tiny, VOCABULARY, element, row, write};

fn library_path() -> PathBuf {
    let named = std::env::var_os("INFERA_ONNXRUNTIME_LIBRARY").map(PathBuf::from);
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../..");
    let path = named.unwrap_or_else(|| root.join(".runtime/onnxruntime/libonnxruntime.so.1.31.1"));
    assert!(path.is_file(), "ONNX Runtime isn't at {}: run `make setup`", path.display());
    path
}

/// Makes a folder with these variants.
fn folder(variants: &[(&str, Tiny)]) -> TempDir {
    let folder = TempDir::new().expect("a temporary folder");
    for (name, content) in [
        ("config.json", r#"{"max_position_embeddings": 32}"#),
        ("tokenizer.json", "{}"),
        ("tokenizer_config.json", "{}"),
    ] {
        std::fs::write(folder.path().join(name), content).expect("written");
    }
    for (variant, tiny) in variants {
        write(folder.path(), variant, tiny);
    }
    folder
}

fn load(folder: &Path, variant: &str) -> Result<OnnxEngine, EngineError> {
    let new = OnnxConfig::new(folder, library_path());
    // The shortest chunks, so that prompts within this context take several.
    OnnxEngine::load(&OnnxConfig { variant: variant.to_owned(), threads: 1, chunk_tokens: 8, ..new })
}

fn engine(tiny: Tiny) -> OnnxEngine {
    load(folder(&[("model", tiny)]).path(), "model").expect("it can be served")
}

/// The files may be deleted once the session is made.
mod bytes_of_half_a_float {
    use super::*;
    infera_conformance::engine_conformance!(
        engine(Tiny { float: element::FLOAT16, ..Tiny::default() }),
        Promise::EXACT
    );
}

/// No positions, so that no two sequences of different length can run together.
mod without_positions {
    use super::*;
    infera_conformance::engine_conformance!(
        engine(Tiny {
            float: element::BFLOAT16,
            integer: element::INT32,
            takes_positions: false,
            ..Tiny::default()
        }),
        Promise::EXACT
    );
}

/// Checks all rows of a few sequences of different length against what they must be.
fn check(engine: &mut OnnxEngine, takes_positions: bool, what: &str) {
    let prompts: [&[TokenId]; 3] = [&[1, 5, 2], &[7], &[3, 3, 0, 4, 6, 1, 1, 2, 5, 7, 0]];
    let named: Vec<Prompt<'_>> =
        prompts.iter().zip(0..).map(|(tokens, index)| Prompt::new(SequenceId(index), tokens)).collect();
    let mut texts = prompts.map(<[TokenId]>::to_vec);
    let mut logits = whole::prefill(engine, &named).expect("room");
    for step in 0..4 {
        let expected: Vec<f32> = texts.iter().flat_map(|tokens| row(tokens, takes_positions)).collect();
        assert_eq!(logits.values, expected, "{what}, step {step}");
        let steps: Vec<_> = (0..3).map(|index| (SequenceId(index), (step + index as u32) % 8)).collect();
        for (tokens, (_, token)) in texts.iter_mut().zip(&steps) {
            tokens.push(*token);
        }
        logits = whole::decode(engine, &steps).expect("within the context");
    }
    engine.release(&[0, 1, 2].map(SequenceId));
    let scores = whole::score(engine, &[1, 5], &[2, 7]).expect("fits");
    let expected: Vec<f32> = [&[1, 5][..], &[1, 5, 2], &[1, 5, 2, 7]]
        .iter()
        .flat_map(|tokens| row(tokens, takes_positions))
        .collect();
    assert_eq!(scores.values, expected, "{what}, scores");
}

#[test]
fn every_type_gives_the_same_numbers() {
    for (float, compute) in [
        (element::FLOAT, COMPUTE_VARYING),
        (element::FLOAT16, COMPUTE_HALF),
        (element::BFLOAT16, COMPUTE_BRAIN),
    ] {
        for integer in [element::INT64, element::INT32] {
            for takes_positions in [true, false] {
                let tiny = Tiny { float, integer, takes_positions, ..Tiny::default() };
                let what = format!("{tiny:?}");
                let mut engine = engine(tiny);
                check(&mut engine, takes_positions, &what);
                let description = engine.description();
                assert_eq!((description.vocabulary, description.context_max), (VOCABULARY, 32));
                // A row that always runs alone is always the same.
                let alone = float == element::FLOAT && !takes_positions;
                let expected = if alone { format!("{COMPUTE_EXACT}-chunk8") } else { compute.to_owned() };
                assert_eq!(description.numeric_class.compute, expected, "{what}");
            }
        }
    }
}

#[test]
fn a_graph_that_asks_how_many_logits_is_told_those_that_are_wanted() {
    for kept in [Kept::Asked, Kept::Optional] {
        for (integer, float) in [(element::INT64, element::FLOAT), (element::INT32, element::FLOAT16)] {
            let tiny = Tiny { kept, integer, float, ..Tiny::default() };
            let what = format!("{tiny:?}");
            check(&mut engine(tiny), true, &what);
        }
    }
}

/// Rows are found by their place, so a graph that doesn't do as it was told must be found out.
#[test]
fn a_graph_that_gives_other_logits_than_were_wanted_fails() {
    let extra = vec![("num_logits_to_keep", element::INT64)];
    let mut engine = engine(Tiny { extra, ..Tiny::default() });
    let prompt = [Prompt::new(SequenceId(1), &[1, 5, 2])];
    let error = whole::prefill(&mut engine, &prompt).expect_err("three rows in place of one").to_string();
    assert!(error.contains("[1, 3, 8] in place of [1, 1, 8]"), "{error}");
}

#[test]
fn weights_may_lie_in_several_files() {
    let folder = folder(&[("model", Tiny { is_sharded: true, ..Tiny::default() })]);
    check(&mut load(folder.path(), "").expect("whole"), true, "two files of weights");
    let digest = || model_digest(folder.path(), &onnx_file(folder.path(), "").expect("there"));
    let before = digest().expect("whole");
    let second = folder.path().join("model.onnx_data_1");
    let mut bytes = std::fs::read(&second).expect("written");
    bytes[3] ^= 1;
    std::fs::write(&second, bytes).expect("written");
    assert_ne!(digest().expect("whole"), before, "the second file counts");
    std::fs::remove_file(&second).expect("removed");
    let error = load_error(folder.path(), "model");
    assert!(error.contains("model.onnx_data_1 is missing") && error.contains("keeps weights"), "{error}");
}

fn load_error(folder: &Path, variant: &str) -> String {
    match load(folder, variant) {
        Err(EngineError::Load(text)) => text,
        Err(error) => panic!("{error}"),
        Ok(_) => panic!("it must not load"),
    }
}

#[test]
fn what_can_not_be_served_names_the_fact_and_what_would_do() {
    let merged = Tiny { extra: vec![("use_cache_branch", element::BOOL)], ..Tiny::default() };
    let lone = folder(&[("model", merged.clone())]);
    let error = load_error(lone.path(), "");
    assert!(error.contains("its input use_cache_branch switches between two graphs"), "{error}");
    assert!(error.ends_with("there is no other variant in this folder"), "{error}");

    let vectors = Tiny { extra: vec![("inputs_embeds", element::FLOAT)], ..Tiny::default() };
    let both = folder(&[("model", merged.clone()), ("model_q4", vectors.clone())]);
    let error = load_error(both.path(), "");
    assert!(error.ends_with("no other variant in this folder can be served either"), "{error}");
    assert!(load_error(both.path(), "q4").contains("inputs_embeds takes vectors"));

    let half = Tiny { float: element::FLOAT16, is_sharded: true, ..Tiny::default() };
    let several = folder(&[
        ("decoder_model_merged", merged),
        ("model_fp16", half),
        ("model_q4", Tiny::default()),
        ("model_vectors", vectors),
    ]);
    let error = load_error(several.path(), "decoder_model_merged");
    assert!(error.ends_with("these variants in this folder can be served: fp16, q4"), "{error}");
    std::fs::remove_file(several.path().join("model_fp16.onnx_data")).expect("removed");
    let error = load_error(several.path(), "decoder_model_merged");
    assert!(error.ends_with("can be served: q4"), "a variant without its weights is none: {error}");
    assert!(load(several.path(), "q4").is_ok(), "and what is named does load");

    std::fs::write(several.path().join("config.json"), "{}").expect("written");
    let error = load_error(several.path(), "q4");
    assert!(error.contains("config.json") && error.contains("max_position_embeddings"), "{error}");
}
