//! The knobs of a request, from an assignment to its replica, on the bundled model; and what nodes announce and refuse of
//! them.

use infera_engine::Engine as _;
use infera_engine::stub::{StubConfig, StubEngine};
use infera_model::chat::ChatModel;
use infera_sampling::{Noise, Rules, Said, Terms};
use infera_types::features::Feature;
use infera_types::ids::{AssignmentId, Digest, JobId};
use infera_types::job::FinishReason;
use infera_types::knobs::Knobs;
use infera_types::messages::{
    Assignment, MESSAGE_SIZE_MAX_BYTES, RefusalReason, Replica, Version, Wire as _,
};
use infera_types::numbers::{TokenId, TokenNumbers};
use infera_worker::Config;

use crate::onnx::engine;
use crate::support::engines::stub;
use crate::support::{Network, Reply, Running, Verifier, assignment, chat};

/// A worker with the bundled model, and a verifier that asks it.
struct Asking {
    network: Network,
    verifier: Verifier,
    worker: Running,
    model_digest: Digest,
}

impl Asking {
    async fn new() -> Self {
        let network = Network::new().await;
        let verifier = network.verifier().await;
        let engine = engine();
        let model_digest = engine.description().numeric_class.model_digest;
        let worker = network.start(Config::default(), Box::new(engine));
        Self { network, verifier, worker, model_digest }
    }

    /// Returns an assignment of a new job, greedy unless `change` changes it.
    fn assignment(&self, change: impl FnOnce(&mut Assignment)) -> Assignment {
        let mut asked = assignment(&self.verifier, "What is the capital of the Netherlands?");
        asked.model_digest = self.model_digest;
        asked.request.temperature = 0.0;
        change(&mut asked);
        asked
    }

    async fn ask(&mut self, change: impl FnOnce(&mut Assignment)) -> Replica {
        let asked = self.assignment(change);
        self.network.assign(&asked).await;
        self.verifier.next().await.replica()
    }

    async fn with(&mut self, knobs: Knobs) -> Replica {
        self.ask(|asked| asked.request.knobs = knobs).await
    }
}

fn stop(text: &str, min_tokens: u32) -> Knobs {
    Knobs { stop: vec![text.to_owned()], min_tokens, ..Knobs::default() }
}

/// Returns a text of two characters that two tokens of the answer share, and the number of tokens up to there.
fn across_tokens(chat: &ChatModel, tokens: &[TokenId]) -> (String, usize) {
    let mut stream = chat.text_stream();
    let pieces: Vec<String> = tokens.iter().map(|token| stream.push(*token).unwrap()).collect();
    let crossing = |place: usize| {
        let (last, first) = (pieces[place - 1].chars().last()?, pieces[place].chars().next()?);
        let text = format!("{last}{first}");
        (pieces.concat().find(&text)? == pieces[..place].concat().len() - last.len_utf8())
            .then_some((text, place + 1))
    };
    (3..tokens.len()).find_map(crossing).unwrap()
}

#[tokio::test]
async fn an_answer_ends_at_a_stop_string_across_tokens_once_it_counts() {
    let mut asking = Asking::new().await;
    let plain = asking.with(Knobs::default()).await;
    let (text, count) = across_tokens(&chat(), &plain.tokens);
    for min_tokens in [0, 1, count] {
        let stopped = asking.with(stop(&text, u32::try_from(min_tokens).unwrap())).await;
        assert_eq!(stopped.tokens, plain.tokens[..count], "{text:?}, {min_tokens}");
        assert_eq!(stopped.numbers, plain.numbers[..count], "one row for each token and none more");
        assert_eq!(stopped.finish_reason, FinishReason::Stop);
        assert!(plain.text.starts_with(&(stopped.text.clone() + &text)), "{:?}", stopped.text);
        assert!(!stopped.text.contains(&text));
    }
    let later = asking.with(stop(&text, u32::try_from(count + 1).unwrap())).await;
    assert!(later.tokens.len() > count && later.text.contains(&text), "{:?}", later.text);
    // The last token that may be is the one that completes it: that is a stop too.
    let last = asking
        .ask(|asked| {
            asked.request.max_tokens = u32::try_from(count).unwrap();
            asked.request.knobs = stop(&text, 0);
        })
        .await;
    assert_eq!((last.tokens.len(), last.finish_reason), (count, FinishReason::Stop));
    asking.worker.stop().await.unwrap();
}

#[tokio::test]
async fn no_end_comes_before_the_fewest_tokens_or_at_all() {
    let mut asking = Asking::new().await;
    let plain = asking.with(Knobs::default()).await;
    let count = plain.tokens.len();
    assert!(plain.numbers.len() == count + 1 && count < 40, "it ends by itself");
    let more = u32::try_from(count + 3).unwrap();
    let longer = asking.with(Knobs { min_tokens: more, ..Knobs::default() }).await;
    assert!(longer.tokens.len() >= count + 3 && longer.tokens.starts_with(&plain.tokens));
    let endless = asking
        .ask(|asked| {
            asked.request.max_tokens = 40;
            asked.request.knobs.ignore_eos = true;
        })
        .await;
    assert_eq!((endless.tokens.len(), endless.numbers.len()), (40, 40));
    assert_eq!(endless.finish_reason, FinishReason::Length);
    assert!(endless.tokens.starts_with(&plain.tokens));
    assert!(endless.tokens.iter().all(|token| !chat().end_tokens().contains(token)));
    asking.worker.stop().await.unwrap();
}

#[tokio::test]
async fn the_likeliest_tokens_are_reported_and_change_no_answer() {
    let mut asking = Asking::new().await;
    let plain = asking.ask(|asked| asked.request.temperature = 0.7).await;
    let told = asking
        .ask(|asked| {
            asked.request.temperature = 0.7;
            asked.request.top_logprobs = Some(20);
        })
        .await;
    assert_eq!((&told.tokens, &told.text), (&plain.tokens, &plain.text));
    for (row, told) in plain.numbers.iter().zip(&told.numbers) {
        assert_eq!(*row, TokenNumbers { likeliest: Vec::new(), ..told.clone() });
        assert_eq!(told.likeliest.len(), 20);
        assert!(told.likeliest.is_sorted_by(|one, other| one.1 >= other.1));
        assert_eq!(told.logit_max, Some(told.likeliest[0].1));
    }
    // Another count is asked for of the same job: what the cache has is no answer to that.
    let job_id = JobId::new();
    for count in [2, 5] {
        let again = asking
            .ask(|asked| {
                asked.job_id = job_id;
                asked.request.top_logprobs = Some(count);
            })
            .await;
        assert!(again.numbers.iter().all(|row| row.likeliest.len() == usize::from(count)));
    }
    asking.worker.stop().await.unwrap();
}

#[tokio::test]
async fn a_bias_forces_and_bans_tokens() {
    let mut asking = Asking::new().await;
    let plain = asking.with(Knobs::default()).await;
    let forced: TokenId = 300;
    assert!(!plain.tokens.contains(&forced));
    let only = asking
        .ask(|asked| {
            asked.request.max_tokens = 5;
            asked.request.knobs.logit_bias = [(forced, 100.0)].into();
        })
        .await;
    assert_eq!(only.tokens, [forced; 5]);
    assert_eq!(only.numbers[0].logit_max, plain.numbers[0].logit_max, "what is reported is raw");
    let banned = plain.tokens[1];
    let without = asking.with(Knobs { logit_bias: [(banned, -100.0)].into(), ..Knobs::default() }).await;
    assert_eq!(without.tokens[0], plain.tokens[0]);
    assert!(!without.tokens.contains(&banned));
    asking.worker.stop().await.unwrap();
}

/// A verifier recomputes the order of each row's entries from what was said before, the prompt included.
#[tokio::test]
async fn all_knobs_together_give_rows_in_the_order_that_a_verifier_recomputes() {
    let mut asking = Asking::new().await;
    let knobs = Knobs {
        top_p: Some(0.99),
        top_k: Some(50),
        min_p: Some(0.000_1),
        frequency_penalty: Some(1.5),
        presence_penalty: Some(0.5),
        repetition_penalty: Some(1.3),
        logit_bias: [(300, 3.0), (20, -100.0)].into(),
        min_tokens: 12,
        ..Knobs::default()
    };
    let asked = asking.assignment(|asked| {
        asked.request.temperature = 0.9;
        asked.request.max_tokens = 30;
        asked.request.knobs = knobs.clone();
        asked.choice = 2;
    });
    asking.network.assign(&asked).await;
    let replica = asking.verifier.next().await.replica();
    let chat = chat();
    let prompt = chat.render(&asked.request.messages, asked.now_ms).unwrap();
    let rules = Rules::new(&Terms {
        temperature: 0.9,
        knobs: &knobs,
        top_logprobs: None,
        end_tokens: chat.end_tokens(),
        prompt: &prompt,
    });
    let (noise, mut said) = (Noise::new(&asked.sample_key, 2), Said::default());
    assert!(replica.tokens.len() >= 12);
    for (row, token) in replica.numbers.iter().zip(&replica.tokens) {
        let scores: Vec<f64> =
            row.top.iter().map(|&(token, raw)| rules.score(token, raw, &said, &noise)).collect();
        assert!(scores.is_sorted_by(|one, other| one >= other), "{scores:?}");
        assert_eq!(row.top[0].0, *token);
        assert!(row.top.iter().all(|(token, _)| !rules.is_masked(*token, &said)));
        said.push(*token);
    }
    let first = asking.ask(|changed| changed.request = asked.request.clone()).await;
    assert_ne!(first.tokens, replica.tokens, "another choice has noise of its own");
    asking.worker.stop().await.unwrap();
}

#[tokio::test]
async fn choices_of_one_request_differ_and_each_is_reproducible() {
    let mut asking = Asking::new().await;
    let mut answers = Vec::new();
    for choice in [0, 1, 0, 1] {
        // With a temperature at which a small model isn't sure of anything.
        let replica = asking
            .ask(|asked| {
                asked.request.temperature = 2.0;
                asked.choice = choice;
            })
            .await;
        answers.push((replica.tokens, replica.numbers));
    }
    assert_ne!(answers[0], answers[1]);
    assert_eq!(answers[..2], answers[2..]);
    asking.worker.stop().await.unwrap();
}

/// What a verifier of an earlier version sends, to the letter.
#[tokio::test]
async fn an_assignment_without_knobs_is_answered_as_before() {
    let mut asking = Asking::new().await;
    let plain = asking.with(Knobs::default()).await;
    let asked = asking.assignment(|_| ());
    let (id, verifier, digest) = (AssignmentId::new(), &asking.verifier.id, asking.model_digest);
    let body = format!(
        r#"{{"id":"{id}","job_id":"{}","verifier":"{verifier}","model_digest":"{digest}","request":{{"model":"infera-tiny",
        "messages":[{{"role":"user","content":"What is the capital of the Netherlands?"}}],"max_tokens":64,"temperature":0.0}},
        "sample_key":"{}","now_ms":{},"budget_ms":60000}}"#,
        asked.job_id,
        asked.sample_key,
        asked.now_ms.as_millis(),
    );
    let mut message = asked.to_message(id.to_string());
    message.body = [&[1], body.as_bytes()].concat().into();
    asking.network.send(message).await;
    let replica = asking.verifier.next().await.replica();
    assert_eq!(
        (replica.assignment_id, replica.text.as_str()),
        (id, "The capital of the Netherlands is Amsterdam.")
    );
    assert_eq!((replica.tokens, replica.numbers), (plain.tokens, plain.numbers));
    asking.worker.stop().await.unwrap();
}

#[tokio::test]
async fn nodes_announce_knobs_where_the_engine_gives_whole_rows_and_refuse_them_elsewhere() {
    for top_rows in [false, true] {
        let network = Network::new().await;
        let mut verifier = network.verifier().await;
        let engine = StubEngine::new(StubConfig { top_rows, ..StubConfig::default() }).unwrap();
        let worker = network.start(Config::default(), Box::new(engine));
        let heartbeat = verifier.heartbeat(|heartbeat| !heartbeat.models.is_empty()).await;
        assert_eq!(heartbeat.models[0].features.has(Feature::Sampling2), !top_rows);
        let changes: [fn(&mut Assignment); 4] = [
            |_| (),
            |asked| asked.choice = 1,
            |asked| asked.request.top_logprobs = Some(1),
            |asked| asked.request.knobs.ignore_eos = true,
        ];
        for (number, change) in changes.into_iter().enumerate() {
            let mut asked = assignment(&verifier, "hello");
            change(&mut asked);
            network.assign(&asked).await;
            match verifier.next().await {
                Reply::Replica(replica) => {
                    assert!(number == 0 || !top_rows, "change {number}");
                    // The stub ends after 16 tokens where it may.
                    assert_eq!(replica.tokens.len(), if number == 3 { 64 } else { 16 });
                }
                Reply::Refusal(refusal) => {
                    assert!(number > 0 && top_rows, "change {number}");
                    assert_eq!(refusal.reason, RefusalReason::Unsupported);
                }
            }
        }
        worker.stop().await.unwrap();
    }
}

#[tokio::test]
async fn a_replica_that_no_message_can_hold_is_refused_in_words() {
    let network = Network::new().await;
    let mut verifier = network.verifier().await;
    let worker = network.start(Config::default(), Box::new(stub(0)));
    let mut asked = assignment(&verifier, "");
    asked.request.max_tokens = 512;
    asked.request.knobs.ignore_eos = true;
    asked.request.top_logprobs = Some(u8::MAX);
    // In columns it would fit.
    asked.speaks = Version::Second;
    network.assign(&asked).await;
    let Reply::Refusal(refusal) = verifier.next().await else { panic!("it fits") };
    assert_eq!(refusal.reason, RefusalReason::Broken);
    assert!(refusal.detail.contains(&MESSAGE_SIZE_MAX_BYTES.to_string()), "{}", refusal.detail);
    assert_eq!(network.waiting().await, 0, "it is settled");
    asked.id = AssignmentId::new();
    asked.request.top_logprobs = Some(20);
    network.assign(&asked).await;
    assert_eq!(verifier.next().await.replica().assignment_id, asked.id);
    worker.stop().await.unwrap();
}
