//! Tests runs of fixed shapes, as a GPU computes them, on the CPU: with one bucket and with several, in fp32 and fp16, on the
//! bundled model and on a tiny graph of GroupQueryAttention; and the self-check with a real second process.
#![expect(clippy::expect_used, reason = "a test fails by panicking, in its helpers too")]

#[path = "padded/attention.rs"]
mod attention;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use infera_conformance::engine::{Promise, difference};
use infera_engine::{Engine, EngineError, Prompt, SequenceId, whole};
use infera_engine_onnx::check::{self, Second, load_checked};
use infera_engine_onnx::{Device, OnnxConfig, OnnxEngine};
use infera_types::numbers::TokenId;
use tempfile::TempDir;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../..")
}

fn library_path() -> PathBuf {
    let named = std::env::var_os("INFERA_ONNXRUNTIME_LIBRARY").map(PathBuf::from);
    let path = named.unwrap_or_else(|| root().join(".runtime/onnxruntime/libonnxruntime.so.1.31.1"));
    assert!(path.is_file(), "ONNX Runtime isn't at {}: run `make setup`", path.display());
    path
}

fn bundled(variant: &str, batch_buckets: &[usize]) -> OnnxConfig {
    let new = OnnxConfig::new(root().join("models/infera-tiny"), library_path());
    OnnxConfig { variant: variant.to_owned(), threads: 1, batch_buckets: batch_buckets.to_vec(), ..new }
}

fn load(config: &OnnxConfig) -> OnnxEngine {
    OnnxEngine::load(config).expect("the model loads")
}

/// See `engine_onnx.rs`.
const ROUNDING: f32 = 1e-4;
const EXACT: Promise = Promise { batch_tolerance: 0.0, score_tolerance: ROUNDING };

/// One bucket, as a GPU has it by default.
mod one_bucket {
    use super::*;
    infera_conformance::engine_conformance!(load(&bundled("model", &[16])), EXACT);
}

/// Several buckets with weights whose single rows have a kernel of their own.
mod several_buckets {
    use super::*;
    infera_conformance::engine_conformance!(load(&bundled("q4", &[1, 3, 16])), EXACT);
}

/// The shortest chunks, a context that isn't a multiple of them, and more rows than sequences.
mod short_chunks {
    use super::*;
    infera_conformance::engine_conformance!(
        load(&OnnxConfig { chunk_tokens: 9, ..bundled("model", &[20]) }),
        EXACT
    );
}

/// A graph whose activations, caches and logits are of one type; its folder goes when the session is made.
fn tiny(element: u64, batch_buckets: &[usize]) -> OnnxEngine {
    let folder = attention::folder(element);
    load(&of_folder(&folder, batch_buckets))
}

fn of_folder(folder: &TempDir, batch_buckets: &[usize]) -> OnnxConfig {
    let new = OnnxConfig::new(folder.path(), library_path());
    let batch_buckets = batch_buckets.to_vec();
    OnnxConfig { threads: 1, chunk_tokens: 8, sequences_max: 8, batch_buckets, ..new }
}

/// Numbers of fp16 have 11 bits: a chunk's sums differ from a step's by a few of their last.
const HALF_ROUNDING: f32 = 0.02;

/// Buffers of fp16, which no other engine of the CPU has.
mod halves {
    use super::*;
    infera_conformance::engine_conformance!(
        tiny(attention::FLOAT16, &[8]),
        Promise { batch_tolerance: 0.0, score_tolerance: HALF_ROUNDING }
    );
}

/// The same graph with caches that come and go, as fp16 has them on the CPU without buckets.
mod halves_without_buckets {
    use super::*;
    infera_conformance::engine_conformance!(
        tiny(attention::FLOAT16, &[]),
        Promise { batch_tolerance: 0.0, score_tolerance: HALF_ROUNDING }
    );
}

/// Prefills prompts of several lengths and takes steps with all of them and with some; returns all rows. No prompt has a last chunk
/// of one token, which runs without buckets compute as a step.
fn rows(engine: &mut OnnxEngine, vocabulary: u32) -> Vec<f32> {
    let lengths = [2, 7, 8, 10, 20];
    let prompts: Vec<Vec<TokenId>> =
        lengths.map(|length| (0..length).map(|place| 1 + place * 5 % (vocabulary - 1)).collect()).into();
    let joining: Vec<Prompt<'_>> =
        (0..).map(SequenceId).zip(&prompts).map(|(name, tokens)| Prompt::new(name, tokens)).collect();
    let mut rows = whole::prefill(engine, &joining).expect("room").values;
    for step in 0..6 {
        let some = joining.iter().skip(step % 3);
        let steps: Vec<_> = some.map(|prompt| (prompt.sequence, step as u32 % vocabulary)).collect();
        rows.extend(whole::decode(engine, &steps).expect("running").values);
    }
    rows.extend(whole::score(engine, &prompts[4], &[1, 2, 3]).expect("fits").values);
    engine.release(&joining.iter().map(|prompt| prompt.sequence).collect::<Vec<_>>());
    rows
}

/// Padding changes no bit on the CPU, so that what padded runs compute is what the reference computes.
#[test]
fn padding_changes_no_bit_on_the_cpu() {
    for variant in ["model", "q4"] {
        let expected = rows(&mut load(&bundled(variant, &[])), 768);
        for buckets in [&[16][..], &[1, 4, 16], &[32]] {
            let mut padded = load(&bundled(variant, buckets));
            assert!(rows(&mut padded, 768) == expected, "{variant} {buckets:?}");
            assert!(rows(&mut padded, 768) == expected, "{variant} {buckets:?}, in rows used before");
        }
    }
    let half = rows(&mut tiny(attention::FLOAT16, &[]), 32);
    assert!(rows(&mut tiny(attention::FLOAT16, &[2, 8]), 32) == half, "fp16");
    let apart = difference(&rows(&mut tiny(attention::FLOAT, &[8]), 32), &half);
    assert!(apart > 0.0 && apart < HALF_ROUNDING, "fewer bits, the same function: {apart}");
}

#[test]
fn classes_name_type_buckets_and_chunk() {
    let compute = |engine: &OnnxEngine| engine.description().numeric_class.compute.clone();
    assert_eq!(compute(&load(&bundled("model", &[16]))), "fp32-b16-chunk64");
    assert_eq!(compute(&load(&bundled("model", &[1, 4, 16]))), "fp32-b1.4.16-chunk64");
    assert_eq!(compute(&tiny(attention::FLOAT16, &[8])), "fp16-b8-chunk8-varying");
    assert_eq!(compute(&tiny(attention::FLOAT16, &[])), "fp16-varying");
    // A graph of plain operators has no fixed buffers, and so no buckets.
    assert_eq!(compute(&load(&bundled("plain", &[16]))), "fp32-varying");
}

#[test]
fn buckets_without_sense_are_refused() {
    for buckets in [&[0, 16][..], &[8, 4, 16], &[1, 4], &[4096]] {
        let error = match OnnxEngine::load(&bundled("model", buckets)) {
            Err(EngineError::Load(text)) => text,
            other => panic!("{buckets:?}: {}", other.is_ok()),
        };
        assert!(error.contains("batch_buckets"), "{error}");
    }
}

/// GroupQueryAttention in fp32 has no kernel on CUDA; whatever the machine has, that graph must not run half on the CPU.
#[test]
fn a_gpu_takes_no_attention_in_fp32() {
    let loaded = OnnxEngine::load(&OnnxConfig { device: Device::Cuda, ..bundled("model", &[]) });
    let error = loaded.err().expect("no session, or no such kernel").to_string();
    assert!(error.contains("float16") || error.contains("GPU build"), "{error}");
}

/// The variable by which the second process is told to give other bits.
const SHIFTED: &str = "INFERA_PADDED_SHIFTED";

/// Is the second process of the tests below.
#[test]
#[ignore = "a process of its own, which the tests of the self-check start"]
fn second_process() {
    if std::env::var_os(SHIFTED).is_none() {
        check::answer().expect("its streams");
        return;
    }
    let mut text = String::new();
    std::io::Read::read_to_string(&mut std::io::stdin(), &mut text).expect("settings");
    let config: OnnxConfig = serde_json::from_str(&text).expect("settings");
    let mut transcript = check::transcript(&mut load(&config)).expect("it runs");
    // What a driver that races would do: one row has another last bit.
    transcript.rows.swap(3, 4);
    let said = serde_json::json!({ "transcript": transcript });
    println!("infera-engine-check: {said}");
}

fn second(shifted: bool) -> Second {
    let mut command = Command::new(std::env::current_exe().expect("this program"));
    command.args(["--exact", "second_process", "--ignored", "--nocapture", "--test-threads=1"]);
    if shifted {
        command.env(SHIFTED, "1");
    }
    Second { command, within: Duration::from_secs(120) }
}

#[test]
fn two_processes_give_the_same_bits_and_the_class_says_so() {
    let folder = attention::folder(attention::FLOAT16);
    let config = of_folder(&folder, &[8]);
    let engine = load_checked(&config, second(false)).expect("the same bits");
    assert_eq!(engine.description().numeric_class.compute, "fp16-b8-chunk8");
    let fp32 = load_checked(&bundled("model", &[]), second(false)).expect("the same bits");
    assert_eq!(fp32.description().numeric_class.compute, "fp32-chunk64", "the CPU's own word stays");
}

/// Plain operators with left padding sum in an order that depends on the batch.
#[test]
fn a_row_that_depends_on_its_batch_is_found() {
    let transcript =
        |variant, buckets| check::transcript(&mut load(&bundled(variant, buckets))).expect("runs");
    let (plain, padded) = (transcript("plain", &[]), transcript("model", &[1, 3, 7, 16]));
    assert!(!plain.is_same_in_any_batch && padded.is_same_in_any_batch);
    let without = transcript("model", &[]);
    assert_ne!(padded.class, without.class, "buckets are part of the class");
}

#[test]
fn other_bits_are_no_engine() {
    let told = load_checked(&bundled("model", &[16]), second(true)).err().expect("other bits").to_string();
    assert!(told.contains("2 of ") && told.contains("row 3") && told.contains("self_check"), "{told}");
}

#[test]
fn what_can_not_be_loaded_is_told_by_this_process() {
    let absent = OnnxConfig { variant: "int9".to_owned(), ..bundled("model", &[]) };
    let told = load_checked(&absent, second(false)).err().expect("no such variant").to_string();
    assert!(told.contains("int9") && !told.contains("second process"), "{told}");
    let library = OnnxConfig { library_path: PathBuf::from("/nowhere/lib.so"), ..bundled("model", &[]) };
    let told = load_checked(&library, second(false)).err().expect("no library").to_string();
    assert!(told.contains("/nowhere/lib.so") && told.contains("make setup"), "{told}");
}
