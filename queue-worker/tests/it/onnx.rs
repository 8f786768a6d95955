//! The bundled model on ONNX Runtime, through the whole worker. If the runtime isn't installed, the test fails and
//! says what to do.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use infera_engine::Engine as _;
use infera_engine_onnx::{OnnxConfig, OnnxEngine};
use infera_model::chat::ChatModel;
use infera_types::ids::{Digest, ModelName};
use infera_types::{job::ChatMessage, numbers::TokenId};
use infera_worker::{Config, Model};
use proptest::collection::vec;
use proptest::prelude::*;
use serde::Deserialize;

use crate::batch_invariance::{executor, part, play};
use crate::support::{Network, PATIENCE, assignment, model_folder};

/// The bundled model's.
const VOCABULARY: TokenId = 768;

fn library() -> PathBuf {
    let named = std::env::var_os("INFERA_ONNXRUNTIME_LIBRARY").map(PathBuf::from);
    let fetched = concat!(env!("CARGO_MANIFEST_DIR"), "/../.runtime/onnxruntime/libonnxruntime.so.1.31.1");
    let library = named.unwrap_or_else(|| PathBuf::from(fetched));
    assert!(library.is_file(), "ONNX Runtime isn't at {}: run `make setup`", library.display());
    library
}

fn engine_of(folder: &Path) -> OnnxEngine {
    let settings = OnnxConfig { threads: 1, sequences_max: 64, ..OnnxConfig::new(folder, library()) };
    OnnxEngine::load(&settings).unwrap()
}

pub(crate) fn engine() -> OnnxEngine {
    engine_of(model_folder())
}

#[test]
fn whatever_joins_and_leaves_a_job_gets_to_the_bit_what_it_gets_alone() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let together = executor(Box::new(engine()), 8);
    let alone = executor(Box::new(engine()), 1);
    let config = ProptestConfig { max_shrink_iters: 30, ..ProptestConfig::with_cases(12) };
    proptest!(config, |(parts in vec(part(VOCABULARY, 20), 2..14))| {
        runtime.block_on(play(&together, &alone, parts));
    });
    assert!(runtime.block_on(together.stop(PATIENCE)));
}

/// What the model's trainer recorded for it.
#[derive(Deserialize)]
struct Expected {
    answers: Vec<ExpectedAnswer>,
}

#[derive(Deserialize)]
struct ExpectedAnswer {
    messages: Vec<ChatMessage>,
    greedy: String,
    /// The tokens, with the end token.
    greedy_token_ids: Vec<TokenId>,
}

#[tokio::test]
async fn a_batch_of_questions_gets_the_answers_that_the_trainer_wrote_down() {
    let network = Network::new().await;
    let mut verifier = network.verifier().await;
    let engine = engine();
    let model_digest = engine.description().numeric_class.model_digest;
    let text = std::fs::read(model_folder().join("expected.json")).unwrap();
    let expected: Expected = serde_json::from_slice(&text).unwrap();
    assert!(expected.answers.len() >= 10);
    let mut asked = HashMap::new();
    for answer in expected.answers {
        let mut assignment = assignment(&verifier, "");
        assignment.model_digest = model_digest;
        assignment.request.messages = answer.messages.clone();
        assignment.request.temperature = 0.0;
        network.assign(&assignment).await;
        asked.insert(assignment.id, answer);
    }
    // Assignments that find no slot would be refused as busy, and here all are to be answered.
    let slots = u32::try_from(asked.len()).unwrap();
    let worker = network.start(Config { slots, ..Config::default() }, Box::new(engine));
    while !asked.is_empty() {
        let replica = verifier.next().await.replica();
        let answer = asked.remove(&replica.assignment_id).unwrap();
        assert_eq!(replica.text, answer.greedy);
        let chosen: Vec<TokenId> = replica.numbers.iter().map(|numbers| numbers.top[0].0).collect();
        assert_eq!(chosen, answer.greedy_token_ids, "{}", answer.greedy);
        assert_eq!(replica.tokens, chosen[..chosen.len() - 1]);
    }
    worker.stop().await.unwrap();
}

/// What an account's earlier prompt began with isn't computed again, the answer is the same, and another account's first
/// prompt finds nothing.
#[tokio::test]
async fn an_accounts_prompts_share_their_beginning_and_no_others_do() {
    let network = Network::new().await;
    let mut verifier = network.verifier().await;
    let engine = engine();
    let description = engine.description().clone();
    let worker = network.start(Config::default(), Box::new(engine));
    let system = "Answer with the result only. ".repeat(20);
    let mut ask = async |question: &str, account: Option<&str>| {
        let mut asked = assignment(&verifier, question);
        asked.model_digest = description.numeric_class.model_digest;
        asked.request.messages.insert(0, ChatMessage { role: "system".to_owned(), content: system.clone() });
        asked.request.temperature = 0.0;
        asked.request.max_tokens = 12;
        asked.cache_scope = account.map(|account| Digest::of(account.as_bytes()));
        network.assign(&asked).await;
        verifier.next().await.replica()
    };
    let alone = ask("What is 12 + 30?", None).await;
    assert!(alone.prompt_tokens as usize > 2 * description.chunk_tokens, "{} tokens", alone.prompt_tokens);
    assert_eq!(alone.cached_tokens, 0);
    for (account, begins) in [("one", true), ("one", false), ("two", true), ("two", false), ("one", false)] {
        let replica = ask("What is 12 + 30?", Some(account)).await;
        let left = (replica.prompt_tokens - replica.cached_tokens) as usize;
        assert_eq!(replica.cached_tokens == 0, begins, "{account}");
        assert!(begins || left <= description.chunk_tokens, "{left} tokens are computed");
        assert_eq!((replica.tokens, replica.text), (alone.tokens.clone(), alone.text.clone()), "{account}");
        assert_eq!(replica.numbers, alone.numbers, "{account}");
    }
    worker.stop().await.unwrap();
}

/// Makes a second model of the bundled one: its exports differ in their numbers, and so in some answers.
fn quantised(place: &Path) -> PathBuf {
    let folder = place.join("infera-tiny-q4");
    std::fs::create_dir_all(folder.join("onnx")).unwrap();
    for name in ["config.json", "tokenizer.json", "tokenizer_config.json"] {
        std::fs::copy(model_folder().join(name), folder.join(name)).unwrap();
    }
    std::fs::copy(model_folder().join("onnx/model_q4.onnx"), folder.join("onnx/model.onnx")).unwrap();
    folder
}

/// Two real engines at work at the same time: each gives to the bit the numbers that it gives on a worker of its own.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_models_on_one_worker_answer_to_the_bit_as_each_alone() {
    let place = tempfile::tempdir().unwrap();
    let folders = [model_folder().to_owned(), quantised(place.path())];
    let model = |folder: &PathBuf| {
        let (name, engine) = (folder.file_name().unwrap().to_string_lossy(), engine_of(folder));
        let digest = engine.description().numeric_class.model_digest;
        let chat = Arc::new(ChatModel::load(folder).unwrap());
        (Model { name: ModelName::new(name), chat, engine: Box::new(engine) }, digest)
    };
    let answers = async |models: Vec<(Model, Digest)>| {
        let network = Network::new().await;
        let mut verifier = network.verifier().await;
        let (models, digests): (Vec<Model>, Vec<Digest>) = models.into_iter().unzip();
        for number in 0..8 {
            for digest in &digests {
                let mut asked = assignment(&verifier, &format!("What is {number} + 30?"));
                asked.model_digest = *digest;
                network.assign(&asked).await;
            }
        }
        let worker = network.start_models(network.broker.clone(), Config::default(), models);
        let mut answers = HashMap::new();
        while answers.len() < 8 * digests.len() {
            let replica = verifier.next().await.replica();
            let digest = replica.numeric_class.model_digest;
            answers.insert((digest, replica.prompt_hash), (replica.tokens, replica.numbers));
        }
        worker.stop().await.unwrap();
        answers
    };
    let mut alone = answers(vec![model(&folders[0])]).await;
    alone.extend(answers(vec![model(&folders[1])]).await);
    assert_eq!(alone.len(), 16);
    assert_eq!(answers(folders.iter().map(model).collect()).await, alone);
}
