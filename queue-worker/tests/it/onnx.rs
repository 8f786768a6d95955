//! The bundled model on ONNX Runtime, through the whole worker. If the runtime isn't installed, the test fails and
//! says what to do.

use std::collections::HashMap;
use std::path::PathBuf;

use infera_engine::Engine as _;
use infera_engine_onnx::{OnnxConfig, OnnxEngine};
use infera_types::ids::Digest;
use infera_types::{job::ChatMessage, numbers::TokenId};
use infera_worker::Config;
use proptest::collection::vec;
use proptest::prelude::*;
use serde::Deserialize;

use crate::batch_invariance::{executor, part, play};
use crate::support::{Network, PATIENCE, assignment, model_folder};

/// The bundled model's.
const VOCABULARY: TokenId = 768;

fn engine() -> OnnxEngine {
    let named = std::env::var_os("INFERA_ONNXRUNTIME_LIBRARY").map(PathBuf::from);
    let fetched = concat!(env!("CARGO_MANIFEST_DIR"), "/../.runtime/onnxruntime/libonnxruntime.so.1.31.1");
    let library = named.unwrap_or_else(|| PathBuf::from(fetched));
    assert!(library.is_file(), "ONNX Runtime isn't at {}: run `make setup`", library.display());
    OnnxEngine::load(&OnnxConfig {
        threads: 1,
        sequences_max: 64,
        ..OnnxConfig::new(model_folder(), library)
    })
    .unwrap()
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
