//! A job's tokens and reported numbers don't depend on its batch: whatever joins and leaves beside it, they are bit
//! for bit the same as alone.

use std::time::Duration;

use infera_engine::Engine;
use infera_types::ids::{Digest, ModelName};
use infera_types::knobs::Knobs;
use infera_types::{job::FinishReason, numbers::TokenId};
use infera_worker::executor::{BatchLimits, Decoded, Executor, ExecutorError, ExecutorLimits, Watcher, Work};
use proptest::collection::{btree_map, vec};
use proptest::option;
use proptest::prelude::*;
use tokio::task::JoinSet;

use crate::support::engines::{Fate, HashEngine, Watched, slow};

/// One sequence of a schedule.
#[derive(Clone, Debug)]
pub(crate) struct Part {
    work: Work,
    /// The token at which a watcher ends it.
    ends_at: Option<TokenId>,
    /// When it joins, counted from the start.
    joins_after: Duration,
    /// When its caller goes away, counted from there.
    leaves_after: Option<Duration>,
}

impl Part {
    async fn run(&self, executor: &Executor) -> Result<Decoded, ExecutorError> {
        let watcher = self.ends_at.map(|last| -> Watcher { Box::new(move |token| Ok(token == last)) });
        executor.run_watched(self.work.clone(), watcher).await
    }
}

fn knobs(vocabulary: TokenId) -> impl Strategy<Value = Knobs> {
    let left = (option::of(0.05..1.0), option::of(1_u32..20), option::of(0.0..0.5));
    let penalties = (option::of(-2.0..2.0), option::of(-2.0..2.0), option::of(0.5..2.0));
    let bias = btree_map(0..vocabulary, -100.0..100.0, 0..3);
    let ends = (0_u32..12, any::<bool>());
    let mixed = (left, penalties, bias, ends).prop_map(|(left, penalties, logit_bias, ends)| Knobs {
        stop: Vec::new(),
        top_p: left.0,
        top_k: left.1,
        min_p: left.2,
        frequency_penalty: penalties.0,
        presence_penalty: penalties.1,
        repetition_penalty: penalties.2,
        logit_bias,
        min_tokens: ends.0,
        ignore_eos: ends.1,
    });
    prop_oneof![1 => Just(Knobs::default()), 2 => mixed]
}

pub(crate) fn part(vocabulary: TokenId, answer_tokens_max: usize) -> impl Strategy<Value = Part> {
    let prompt = vec(3..vocabulary, 1..30);
    let temperature = prop_oneof![Just(0.0), 0.1..2.0];
    let (alone, scoped) = (prop::bool::weighted(0.1), any::<bool>());
    let shape = (prompt, 1..=answer_tokens_max, temperature, any::<[u8; 32]>(), (alone, scoped));
    let asked = (0_u32..3, knobs(vocabulary), option::of(0_u8..21), option::weighted(0.3, 0..vocabulary));
    let times = (0_u64..8_000, option::weighted(0.2, 0_u64..5_000));
    (shape, asked, times).prop_map(|(shape, asked, (joins, leaves))| {
        let (prompt, answer_tokens_max, temperature, key, (alone, scoped)) = shape;
        let (choice, knobs, top_logprobs, ends_at) = asked;
        let work = Work {
            prompt,
            answer_tokens_max,
            temperature,
            sample_key: Digest::from_bytes(key),
            choice,
            knobs,
            top_logprobs,
            alone,
            cache_scope: scoped.then(|| Digest::of(b"one of two scopes")),
        };
        let (joins_after, leaves_after) = (Duration::from_micros(joins), leaves.map(Duration::from_micros));
        Part { work, ends_at, joins_after, leaves_after }
    })
}

pub(crate) fn executor(engine: Box<dyn Engine>, slots: usize) -> Executor {
    let batch = BatchLimits { slots, prefill_tokens_max: 60 };
    Executor::start(&ModelName::new("m"), engine, vec![2], ExecutorLimits { batch, failures_max: 1 }).unwrap()
}

/// A decoded answer, bit for bit and without its times.
#[derive(Debug, PartialEq)]
struct Said {
    tokens: Vec<TokenId>,
    /// Of each row: the best and the likeliest tokens with the bits of their logits.
    listed: Vec<Vec<(TokenId, u32)>>,
    logit_max: Vec<Option<u32>>,
    log_sum_exp: Vec<u64>,
    finish_reason: FinishReason,
}

fn said(decoded: &Decoded) -> Said {
    let rows = || decoded.numbers.iter();
    let lists = rows().flat_map(|numbers| [&numbers.top, &numbers.likeliest]);
    let bits =
        |list: &Vec<(TokenId, f32)>| list.iter().map(|(token, logit)| (*token, logit.to_bits())).collect();
    Said {
        tokens: decoded.tokens.clone(),
        listed: lists.map(bits).collect(),
        logit_max: rows().map(|numbers| numbers.logit_max.map(f32::to_bits)).collect(),
        log_sum_exp: rows().map(|numbers| numbers.log_sum_exp.to_bits()).collect(),
        finish_reason: decoded.finish_reason,
    }
}

/// Plays the schedule on one executor and each of its works alone on the other. Both must give the same.
pub(crate) async fn play(together: &Executor, alone: &Executor, parts: Vec<Part>) {
    let mut playing = JoinSet::new();
    for part in parts.clone() {
        let executor = together.clone();
        playing.spawn(async move {
            tokio::time::sleep(part.joins_after).await;
            let running = part.run(&executor);
            let decoded = match part.leaves_after {
                Some(patience) => tokio::time::timeout(patience, running).await.ok(),
                None => Some(running.await),
            };
            (part, decoded.map(Result::unwrap))
        });
    }
    let mut stayed = 0;
    while let Some(played) = playing.join_next().await {
        let (part, decoded) = played.unwrap();
        let Some(decoded) = decoded else { continue };
        stayed += 1;
        let expected = part.run(alone).await.unwrap();
        assert_eq!(said(&decoded), said(&expected), "{part:?}");
    }
    assert!(stayed >= parts.iter().filter(|part| part.leaves_after.is_none()).count());
}

#[tokio::test]
async fn an_abandoned_job_leaves_the_batch_and_its_neighbour_stays() {
    let (engine, calls) = Watched::new(slow(), |_| Fate::Well);
    let executor = executor(engine, 2);
    let work = Work {
        prompt: vec![7, 8, 9],
        answer_tokens_max: 60,
        temperature: 0.0,
        sample_key: Digest::of(b"key"),
        choice: 0,
        knobs: Knobs::default(),
        top_logprobs: None,
        alone: false,
        cache_scope: None,
    };
    let neighbour = Work { prompt: vec![10, 11], ..work.clone() };
    let abandoned = async {
        let running = executor.run(work);
        tokio::pin!(running);
        // Until both have had a step together.
        while !calls.all().iter().any(|call| call.size() == 2) {
            let pause = Duration::from_millis(1);
            assert!(tokio::time::timeout(pause, &mut running).await.is_err());
        }
    };
    let ((), neighbour) = tokio::join!(abandoned, executor.run(neighbour));
    assert_eq!(neighbour.unwrap().tokens.len(), 60);
    let together = calls.all().iter().filter(|call| call.size() == 2).count();
    let apart = calls.all().iter().filter(|call| call.size() == 1).count();
    assert!(together < 55 && apart > 5, "{together} steps together, {apart} apart");
}

#[test]
fn whatever_joins_and_leaves_a_job_gets_what_it_gets_alone() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let schedule = vec(part(HashEngine::VOCABULARY, 24), 1..14);
    proptest!(ProptestConfig::with_cases(40), |(parts in schedule, slots in 2_usize..10)| {
        let together = executor(Box::new(HashEngine::new()), slots);
        let alone = executor(Box::new(HashEngine::new()), 1);
        runtime.block_on(async {
            play(&together, &alone, parts).await;
            assert!(together.stop(crate::support::PATIENCE).await);
        });
    });
}
