//! Tests the bundled model on ONNX Runtime: every engine's promises for each of its exports, the answers that its
//! trainer recorded, and what loading refuses. If ONNX Runtime is not set up, the tests fail and say what to do.
#![expect(clippy::expect_used, clippy::panic, reason = "a test fails by panicking, in its helpers too")]

use std::path::{Path, PathBuf};

use infera_conformance::engine::{Promise, difference};
use infera_engine::{Engine, EngineError, Prompt, SequenceId, whole};
use infera_engine_onnx::{COMPUTE_EXACT, COMPUTE_VARYING, Device, OnnxConfig, OnnxEngine};
use infera_sampling::{Noise, choose};
use infera_types::ids::Digest;
use infera_types::numbers::TokenId;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../..")
}

fn library_path() -> PathBuf {
    let named = std::env::var_os("INFERA_ONNXRUNTIME_LIBRARY").map(PathBuf::from);
    let path = named.unwrap_or_else(|| root().join(".runtime/onnxruntime/libonnxruntime.so.1.31.1"));
    assert!(path.is_file(), "ONNX Runtime isn't at {}: run `make setup`", path.display());
    path
}

fn config(variant: &str) -> OnnxConfig {
    let new = OnnxConfig::new(root().join("models/infera-tiny"), library_path());
    OnnxConfig { variant: variant.to_owned(), threads: 1, ..new }
}

fn engine(variant: &str) -> OnnxEngine {
    OnnxEngine::load(&config(variant)).expect("the bundled model loads")
}

/// The largest difference allowed between one prefill and its steps, which sum in another order: logits differed by
/// up to 1.7e-5 (measured over 1,640 rows of each export with AVX-512). This is six times that.
const ROUNDING: f32 = 1e-4;

/// GroupQueryAttention with right padding: the reference that nodes must match to the bit.
mod reference {
    use super::*;
    infera_conformance::engine_conformance!(
        engine("model"),
        Promise { batch_tolerance: 0.0, score_tolerance: ROUNDING }
    );
}

/// The same graph with int4 weights.
mod four_bits {
    use super::*;
    infera_conformance::engine_conformance!(
        engine("q4"),
        Promise { batch_tolerance: 0.0, score_tolerance: ROUNDING }
    );
}

/// The reference in the shortest chunks, whose remainders are every length that a kernel might treat specially.
mod short_chunks {
    use super::*;
    infera_conformance::engine_conformance!(
        OnnxEngine::load(&OnnxConfig { chunk_tokens: 8, ..config("model") }).expect("loads"),
        Promise { batch_tolerance: 0.0, score_tolerance: ROUNDING }
    );
}

/// The reference with caches that come and go with each run.
mod without_fixed_buffers {
    use super::*;
    infera_conformance::engine_conformance!(
        OnnxEngine::load(&OnnxConfig { fixed_buffers: false, ..config("model") }).expect("loads"),
        Promise { batch_tolerance: 0.0, score_tolerance: ROUNDING }
    );
}

/// Plain operators with left padding: honest, and equal up to rounding.
mod plain {
    use super::*;
    infera_conformance::engine_conformance!(
        engine("plain"),
        Promise { batch_tolerance: ROUNDING, score_tolerance: ROUNDING }
    );
}

/// Any other model, by hand: `INFERA_TEST_MODEL=FOLDER INFERA_TEST_VARIANT=q4 cargo test … -- --ignored of_the_hub`.
#[test]
#[ignore = "takes minutes, and a model's folder in INFERA_TEST_MODEL"]
fn a_model_of_the_hub_keeps_the_promises() {
    use infera_conformance::engine as promises;
    let folder = std::env::var_os("INFERA_TEST_MODEL").expect("INFERA_TEST_MODEL names a model's folder");
    let variant = std::env::var("INFERA_TEST_VARIANT").unwrap_or_else(|_| "model".to_owned());
    let new = OnnxConfig::new(folder, library_path());
    // A chunk's attention sums in another order than a step's. In f32 that is rounding: up to 7.6e-5 in logits (SmolLM2's
    // `model`, 492 rows). Where activations have 8 bits, a sum next to a border is rounded to the other side, which the layers
    // after it amplify: up to 1.6 (`q4`) and 2.0 (`int8`), 0.15 in the mean of all logits.
    let score_tolerance = if variant == "model" { 1e-3 } else { 4.0 };
    let config = OnnxConfig { variant, threads: 2, chunk_tokens: 16, ..new };
    let mut engine = OnnxEngine::load(&config).expect("the model loads");
    let promise = Promise { batch_tolerance: 0.0, score_tolerance };
    promises::a_row_does_not_depend_on_the_batch(&mut engine, promise);
    promises::sequences_join_and_leave_between_any_two_steps(&mut engine, promise);
    promises::every_remainder_of_a_chunk_is_the_same_however_it_is_batched(&mut engine, promise);
    promises::prompts_and_scores_go_on_between_steps(&mut engine, promise);
    promises::only_prompts_of_one_scope_share_what_is_cached(&mut engine, promise);
    promises::scores_agree_with_decoding(&mut engine, promise);
}

/// Answers as a worker does: returns the answer's tokens and the end token.
fn answer(engine: &mut OnnxEngine, prompt: &[TokenId], end: TokenId) -> Vec<TokenId> {
    let (sequence, noise) = (SequenceId(1), Noise::new(&Digest::of(b"unused"), 0));
    let mut logits = whole::prefill(engine, &[Prompt::new(sequence, prompt)]).expect("room");
    let mut tokens = Vec::new();
    for position in 0..100 {
        tokens.push(choose(&logits.values, 0.0, &noise, position).token);
        if tokens.last() == Some(&end) {
            break;
        }
        logits = whole::decode(engine, &[(sequence, tokens[tokens.len() - 1])]).expect("within the context");
    }
    engine.release(&[sequence]);
    tokens
}

#[test]
fn answers_are_those_of_the_trainer() {
    use infera_model::chat::ChatModel;
    use infera_types::job::ChatMessage;
    use infera_types::time::Timestamp;

    #[derive(serde::Deserialize)]
    struct Expected {
        answers: Vec<Answer>,
    }
    #[derive(serde::Deserialize)]
    struct Answer {
        messages: Vec<ChatMessage>,
        greedy_token_ids: Vec<TokenId>,
    }
    let folder = root().join("models/infera-tiny");
    let text = std::fs::read(folder.join("expected.json")).expect("models/infera-tiny/expected.json");
    let expected: Expected = serde_json::from_slice(&text).expect("JSON as the trainer writes it");
    let chat = ChatModel::load(&folder).expect("the bundled model");
    assert!(expected.answers.len() >= 10);
    // The plain export's logits differ by rounding, on which no greedy choice of these answers depends.
    for variant in ["model", "plain"] {
        let mut engine = engine(variant);
        for Answer { messages, greedy_token_ids } in &expected.answers {
            let prompt = chat.render(messages, Timestamp::default()).expect("sound");
            assert_eq!(&answer(&mut engine, &prompt, chat.end_tokens()[0]), greedy_token_ids, "{messages:?}");
        }
    }
}

#[test]
fn threads_change_nothing() {
    let (mut one, mut two) =
        (engine("model"), OnnxEngine::load(&OnnxConfig { threads: 2, ..config("model") }).expect("loads"));
    let prompt: Vec<TokenId> = (7..60).collect();
    let scores = |engine: &mut OnnxEngine| whole::score(engine, &prompt, &[9, 10]).expect("fits");
    assert_eq!(scores(&mut one), scores(&mut two));
}

#[test]
fn fixed_buffers_change_nothing() {
    for variant in ["model", "q4"] {
        let mut fixed = engine(variant);
        let mut moving =
            OnnxEngine::load(&OnnxConfig { fixed_buffers: false, ..config(variant) }).expect("loads");
        assert_eq!(fixed.description().numeric_class, moving.description().numeric_class);
        let prompts: Vec<Vec<TokenId>> = [1, 2, 64, 65, 66, 130, 200]
            .map(|length| (0..length).map(|place| 7 + place * 5 % 700).collect())
            .into();
        let joining: Vec<Prompt<'_>> =
            (0..).map(SequenceId).zip(&prompts).map(|(name, tokens)| Prompt::new(name, tokens)).collect();
        let [one, other] = [&mut fixed, &mut moving].map(|engine| {
            let mut rows = whole::prefill(engine, &joining).expect("room").values;
            for token in 20..30 {
                let steps: Vec<_> = joining.iter().map(|prompt| (prompt.sequence, token)).collect();
                rows.extend(whole::decode(engine, &steps).expect("running").values);
            }
            rows
        });
        assert!(one == other, "{variant}");
    }
}

#[test]
fn exports_of_one_model_differ_as_their_classes_say() {
    let mut engines = ["model", "plain", "q4", "q2"].map(engine);
    let rows =
        engines.each_mut().map(|engine| whole::score(engine, &[1, 4, 20, 30], &[40]).expect("fits").values);
    let apart = [1, 2, 3].map(|index| difference(&rows[0], &rows[index]));
    assert!(apart[0] > 0.0 && apart[0] < 1e-4, "other arithmetic, equal up to rounding: {apart:?}");
    assert!(apart[1] > 0.01 && apart[2] > apart[1], "fewer bits, other numbers: {apart:?}");
    let classes = engines.each_ref().map(|engine| engine.description().numeric_class.clone());
    let digests: std::collections::BTreeSet<_> = classes.iter().map(|class| class.model_digest).collect();
    assert_eq!(digests.len(), 4);
    let exact = format!("{COMPUTE_EXACT}-chunk64");
    assert_eq!(
        classes.each_ref().map(|class| class.compute.as_str()),
        [exact.as_str(), COMPUTE_VARYING, &exact, &exact]
    );
    for class in &classes {
        assert_eq!(class.provider, "cpu");
        assert!(class.hardware.starts_with(std::env::consts::ARCH), "{class:?}");
        assert!(class.runtime.starts_with("1.31.1+"), "{class:?}");
    }
    assert_eq!(engines[0].description().vocabulary, 768);
    assert_eq!(engines[0].description().context_max, 512);
}

fn load_error(config: &OnnxConfig) -> String {
    match OnnxEngine::load(config) {
        Err(EngineError::Load(text)) => text,
        Err(error) => panic!("{error}"),
        Ok(_) => panic!("it must not load"),
    }
}

#[test]
fn telemetry_is_off_before_the_runtime_is_loaded() {
    let _engine = engine("model");
    assert_eq!(std::env::var("ORT_DISABLE_TELEMETRY").as_deref(), Ok("1"));
}

#[test]
fn settings_without_sense_are_refused() {
    for chunk_tokens in [0, 7, 1025] {
        let error = load_error(&OnnxConfig { chunk_tokens, ..config("model") });
        assert!(error.contains("chunk_tokens") && error.contains("8 to 1024"), "{error}");
    }
    assert!(load_error(&OnnxConfig { sequences_max: 0, ..config("model") }).contains("sequences_max"));
}

#[test]
fn what_can_not_be_loaded_is_named_with_its_remedy() {
    let absent =
        load_error(&OnnxConfig { library_path: PathBuf::from("/nowhere/lib.so"), ..config("model") });
    assert!(absent.contains("/nowhere/lib.so") && absent.contains("make setup"), "{absent}");
    let variant = load_error(&config("int9"));
    assert!(variant.contains("int9") && variant.contains("model_q4.onnx"), "{variant}");
    let folder = tempfile::TempDir::new().expect("a temporary folder");
    let empty = OnnxConfig { folder: folder.path().to_owned(), ..config("model") };
    assert!(load_error(&empty).contains("there are: none"));
    std::fs::write(folder.path().join("model.onnx"), b"garbage").expect("written");
    assert!(load_error(&empty).contains("config.json"));
    std::fs::copy(root().join("models/infera-tiny/config.json"), folder.path().join("config.json"))
        .expect("copied");
    assert!(load_error(&empty).contains("damaged"));
}

#[test]
fn another_library_needs_another_process() {
    let _first = engine("model");
    let folder = tempfile::TempDir::new().expect("a temporary folder");
    let other = folder.path().join("libonnxruntime.so");
    std::fs::write(&other, b"").expect("written");
    let text = load_error(&OnnxConfig { library_path: other, ..config("model") });
    assert!(text.contains("process of its own"), "{text}");
}

/// `make setup` fetches the CPU's library: asking it for CUDA must not yield a CPU session.
#[test]
fn cuda_is_never_replaced_by_the_cpu() {
    let loaded = OnnxEngine::load(&OnnxConfig { device: Device::Cuda, ..config("model") });
    match loaded {
        Err(EngineError::Load(text)) => {
            assert!(text.contains("cuda") && text.contains("GPU build"), "{text}")
        }
        Err(error) => panic!("{error}"),
        Ok(engine) => assert_eq!(engine.description().numeric_class.provider, "cuda"),
    }
}
