//! What memory a real process takes for a model, beside what is reckoned for it. Each case is a process of its own, because a
//! process never gives all of its memory back.

#![expect(clippy::expect_used, reason = "a test fails by panicking, in its helpers too")]

use std::path::{Path, PathBuf};
use std::process::Command;

use infera_engine::{Prompt, SequenceId, whole};
use infera_engine_onnx::footprint::{Load, Shape, needed};
use infera_engine_onnx::{OnnxConfig, OnnxEngine};
use infera_model::chat::ChatModel;

/// The variable by which a test's process is told its case: variant, context, sequences.
const CASE: &str = "INFERA_FOOTPRINT_CASE";
/// The last tokens of a sequence are steps.
const STEPS: u64 = 8;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../..")
}

fn folder() -> PathBuf {
    let named = std::env::var_os("INFERA_FOOTPRINT_MODEL").map(PathBuf::from);
    named.unwrap_or_else(|| root().join(".runtime/models/smollm2-135m-instruct"))
}

/// Returns a line of this process's status, in bytes.
fn status(name: &str) -> u64 {
    let text = std::fs::read_to_string("/proc/self/status").expect("Linux");
    let line = text.lines().find_map(|line| line.strip_prefix(name)).expect("a line");
    let kibibytes: u64 = line.trim_matches([':', '\t', ' ', 'k', 'B']).parse().expect("a number");
    kibibytes << 10
}

/// Loads the model and uses it as the case says; prints by how much this process has grown.
#[test]
#[ignore = "a process of its own, which `needs_are_never_below_and_little_above` starts"]
fn case() {
    let Ok(case) = std::env::var(CASE) else { return };
    let mut words = case.split(' ');
    let variant = words.next().expect("a variant").to_owned();
    let mut number = || words.next().and_then(|word| word.parse::<u64>().ok()).expect("a number");
    let (context, sequences) = (number(), number());
    let before = status("VmRSS");
    let chat = ChatModel::load(&folder()).expect("a tokenizer");
    let library = root().join(".runtime/onnxruntime/libonnxruntime.so.1.31.1");
    let sequences_max = usize::try_from(sequences).expect("small");
    let (threads, prefix_cache_bytes) = (1, 0);
    let config = OnnxConfig::new(folder(), library);
    let config = OnnxConfig { variant, threads, sequences_max, prefix_cache_bytes, ..config };
    let mut engine = OnnxEngine::load(&config).expect("an engine");
    let loaded = status("VmHWM") - before;
    let tokens: Vec<u32> = (0..context - STEPS).map(|index| 100 + (index % 1000) as u32).collect();
    let prompts: Vec<Prompt<'_>> =
        (0..sequences).map(|sequence| Prompt::new(SequenceId(sequence), &tokens)).collect();
    whole::prefill(&mut engine, &prompts).expect("prompts");
    let steps: Vec<(SequenceId, u32)> = (0..sequences).map(|sequence| (SequenceId(sequence), 200)).collect();
    for _ in 0..STEPS {
        whole::decode(&mut engine, &steps).expect("a step");
    }
    println!("MEASURED {} {loaded}", status("VmHWM") - before);
    drop(chat);
}

#[test]
#[ignore = "needs SmolLM2 (`make model-smollm2`), 2 GB of memory and some minutes"]
fn needs_are_never_below_and_little_above() {
    let mut wrong = Vec::new();
    let cases = std::env::var("INFERA_FOOTPRINT_CASES")
        .unwrap_or_else(|_| "64 1,512 1,256 4,1024 2,2048 1,128 16".to_owned());
    for variant in ["model", "q4", "int8"] {
        let shape = Shape::read(&folder(), variant).expect("a shape");
        for case in cases.split(',') {
            let numbers: Vec<u64> = case.split(' ').map(|word| word.parse().expect("a number")).collect();
            let load =
                Load { context: numbers[0], sequences: numbers[1], chunk_tokens: 64, prefix_cache_bytes: 0 };
            let output = Command::new(std::env::current_exe().expect("this program"))
                .args(["--exact", "case", "--ignored", "--nocapture"])
                .env(CASE, format!("{variant} {case}"))
                .output()
                .expect("runs");
            let text = String::from_utf8_lossy(&output.stdout).into_owned();
            let line = text.lines().find_map(|line| line.split("MEASURED ").nth(1));
            let line = line.unwrap_or_else(|| panic!("{text}{}", String::from_utf8_lossy(&output.stderr)));
            let mut figures = line.split(' ').map(|word| word.parse::<u64>().expect("a number"));
            let (measured, loaded) = (figures.next().expect("a figure"), figures.next().expect("a figure"));
            let needed = needed(&shape, &load);
            let ratio = needed.total() as f64 / measured as f64;
            let mega = |bytes: u64| bytes >> 20;
            println!(
                "{variant} context {} sequences {}: measured {} MiB (loaded {}), reckoned {} MiB, ratio {ratio:.3} {needed:?}",
                load.context,
                load.sequences,
                mega(measured),
                mega(loaded),
                mega(needed.total()),
            );
            if !(1.0..=1.2).contains(&ratio) {
                wrong.push(format!("{variant} {load:?}: {ratio:.3}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
