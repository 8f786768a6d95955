//! Requests to the `/v1` face, good and bad in many ways, and what each reply has to be.

use std::time::Duration;

use infera_gateway::Config;
use infera_types::job::{End, FailureReason};
use serde_json::{Value, json};

use crate::support::client::Reply;
use crate::support::rig::{MODEL, Play, Rig, unlimited};

const CHAT: &str = "/v1/chat/completions";

type Headers<'a> = &'a [(&'a str, &'a str)];

/// The values that each field is tried with. Most are wrong for it.
fn values() -> Vec<Value> {
    vec![
        json!(null),
        json!(true),
        json!(false),
        json!(0),
        json!(1),
        json!(-1),
        json!(1.5),
        json!(1e30),
        json!(u64::MAX),
        json!(""),
        json!("x"),
        json!("1"),
        json!([]),
        json!(["x"]),
        json!({}),
        json!({ "type": "text", "x": [1, { "y": null }] }),
    ]
}

const FIELDS: [&str; 32] = [
    "model",
    "messages",
    "max_tokens",
    "max_completion_tokens",
    "temperature",
    "seed",
    "request_timeout_time",
    "verification",
    "n",
    "top_p",
    "frequency_penalty",
    "presence_penalty",
    "logprobs",
    "top_logprobs",
    "stop",
    "top_k",
    "min_p",
    "repetition_penalty",
    "min_tokens",
    "ignore_eos",
    "return_token_ids",
    "best_of",
    "tools",
    "functions",
    "tool_choice",
    "function_call",
    "logit_bias",
    "response_format",
    "modalities",
    "audio",
    "user",
    "metadata",
];

fn messages() -> Vec<Value> {
    let of = |message: Value| json!([{ "role": "user", "content": "x" }, message]);
    let contents =
        [json!(null), json!(5), json!("x"), json!([]), json!([{ "type": "text", "text": "x" }]), json!([5])];
    let mut all = Vec::new();
    for role in ["system", "user", "assistant", "developer", "tool", ""] {
        all.push(of(json!({ "role": role })));
        all.extend(contents.iter().map(|content| of(json!({ "role": role, "content": content }))));
    }
    all.push(of(
        json!({ "role": "assistant", "content": null, "tool_calls": [{ "id": "1", "type": "function" }] }),
    ));
    all.push(of(json!({ "role": "assistant", "content": null, "refusal": null, "tool_calls": [] })));
    all.push(of(json!({ "content": "x" })));
    all.push(json!([[]]));
    all
}

fn good() -> Value {
    json!({ "model": MODEL, "messages": [{ "role": "user", "content": "x" }] })
}

/// A request and its reply.
struct Asked {
    replies: Vec<Value>,
}

impl Asked {
    /// Checks that a reply with status 200 has the shape `shape`, and that any other reply is an error.
    fn add(&mut self, name: impl Into<String>, shape: &str, reply: &Reply) {
        let shape = if reply.status == 200 { shape } else { "error" };
        let body = reply.json();
        let name = format!(
            "{} ({}): {}",
            name.into(),
            reply.status,
            body.to_string().chars().take(200).collect::<String>()
        );
        self.replies.push(json!({ "name": name, "shape": shape, "body": body }));
    }

    async fn chat(&mut self, rig: &Rig, name: &str, body: &Value) {
        let reply = rig.post(CHAT, body, &[]).await;
        self.add(format!("{name} {body}"), "chat_completion", &reply);
    }

    async fn bodies(&mut self, rig: &Rig) {
        for field in FIELDS {
            for value in values() {
                let mut body = good();
                body[field] = value;
                self.chat(rig, field, &body).await;
            }
        }
        for messages in messages() {
            let mut body = good();
            body["messages"] = messages;
            self.chat(rig, "messages", &body).await;
        }
        for text in [
            "",
            "{",
            "[1,",
            "null",
            "[]",
            "\"x\"",
            "{}",
            "\u{feff}{}",
            "{\"model\":\"\\ud800\",\"messages\":[]}",
        ] {
            let headers = [("api_key", rig.key.as_str()), ("Content-Type", "application/json")];
            let reply = rig.send("POST", CHAT, &headers, text.as_bytes()).await;
            self.add(text, "chat_completion", &reply);
        }
    }

    async fn ends(&mut self, rig: &Rig) {
        for reason in [
            FailureReason::Poison,
            FailureReason::NoConsensus,
            FailureReason::TooManyMisses,
            FailureReason::InsufficientNodes,
            FailureReason::ContextLength,
            FailureReason::Unprocessable,
        ] {
            rig.play(Play::End(End::Failed { reason, message: "One sentence.".to_owned() }));
            self.chat(rig, reason.word(), &good()).await;
        }
        for end in [End::cancelled(), End::Expired] {
            rig.play(Play::End(end));
            self.chat(rig, "ended otherwise", &good()).await;
        }
        rig.play(Play::Leave);
        let mut impatient = good();
        impatient["request_timeout_time"] = json!(1);
        self.chat(rig, "out of time", &impatient).await;
        rig.play(Play::Answer);
    }

    async fn heads(&mut self, rig: &Rig) {
        let key = rig.key.as_str();
        let body = good().to_string();
        let long_key = "k".repeat(300);
        let tries: [(&str, &str, Headers<'_>); 9] = [
            ("POST", CHAT, &[]),
            ("POST", CHAT, &[("Authorization", "Bearer wrong")]),
            ("POST", CHAT, &[("api_key", key)]),
            ("POST", CHAT, &[("api_key", key), ("Content-Type", "text/plain")]),
            ("POST", CHAT, &[("api_key", key), ("Content-Encoding", "gzip")]),
            ("POST", CHAT, &[("api_key", key), ("Idempotency-Key", &long_key)]),
            ("GET", CHAT, &[("api_key", key)]),
            ("POST", "/v1/models", &[("api_key", key)]),
            ("POST", "/v1/embeddings", &[("api_key", key)]),
        ];
        for (method, path, headers) in tries {
            let reply = rig.send(method, path, headers, body.as_bytes()).await;
            self.add(format!("{method} {path} {headers:?}"), "chat_completion", &reply);
        }
        for (name, body) in [("first", good()), ("again", good()), ("another", json!({ "model": MODEL }))] {
            let reply = rig.post(CHAT, &body, &[("Idempotency-Key", "the same")]).await;
            self.add(format!("idempotent, {name}"), "chat_completion", &reply);
        }
        let large = vec![b' '; 600 * 1024];
        let reply =
            rig.send("POST", CHAT, &[("api_key", key), ("Content-Type", "application/json")], &large).await;
        self.add("a large body", "chat_completion", &reply);
    }

    async fn models(&mut self, rig: &Rig) {
        self.add("the list", "model_list", &rig.get("/v1/models").await);
        let encoded = MODEL.replace('-', "%2D");
        for name in [MODEL, &encoded, "none", "org/none", "org%2Fnone", "%", "%ff", "..", &"x".repeat(5_000)]
        {
            self.add(name, "model", &rig.get(&format!("/v1/models/{name}")).await);
        }
    }
}

/// Returns every reply, with the name of the shape that it must have.
pub(crate) async fn replies() -> Vec<Value> {
    let mut asked = Asked { replies: Vec::new() };
    let rig = Rig::start(unlimited()).await;
    asked.bodies(&rig).await;
    asked.heads(&rig).await;
    asked.models(&rig).await;
    asked.ends(&rig).await;
    let few = Rig::start_with(unlimited(), 1).await;
    asked.chat(&few, "few owners", &good()).await;
    let narrow = Rig::start(Config { looks_per_minute: 1, in_flight_max: 1, ..unlimited() }).await;
    for _ in 0..2 {
        asked.add("narrow", "model_list", &narrow.get("/v1/models").await);
    }
    let closing = Rig::start(Config { drain_ms: 100, ..unlimited() }).await;
    closing.play(Play::Leave);
    let (body, none) = (good(), []);
    let (reply, ()) = tokio::join!(closing.post(CHAT, &body, &none), async {
        tokio::time::sleep(Duration::from_millis(500)).await;
        closing.shutdown.cancel();
    });
    asked.add("draining", "chat_completion", &reply);
    asked.replies
}
