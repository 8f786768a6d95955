//! Reads a gateway's answer to a node. Pure.

use std::time::Duration;

use infera_broker_rabbitmq::Token;
use infera_types::admission::{Admission, Refusal, RemovedModel};
use infera_types::ids::NodeId;
use serde_json::Value;
use tokio::time::Instant;

/// What a node is told once it is let in.
#[derive(Clone, Debug)]
pub struct Admitted {
    /// The node's id in the network.
    pub node: NodeId,
    /// The token by which the node logs in at the broker.
    pub token: Token,
    /// The token's lifetime.
    pub lifetime: Duration,
    /// The queue that the node reads.
    pub queue: String,
    /// The broker's URL.
    pub broker_url: String,
    /// Models that the network serves no more.
    pub removed_models: Vec<RemovedModel>,
}

/// The answer of a gateway.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Heard<T> {
    /// The gateway did what it was asked.
    Done(T),
    /// The gateway refuses, and would refuse again.
    No {
        /// The gateway's code for the refusal.
        code: String,
        /// The gateway's sentence.
        message: String,
    },
    /// The gateway can't do it now, for this reason.
    NotNow(String),
}

impl<T> Heard<T> {
    /// Returns whether the gateway doesn't know the node.
    pub(super) fn is_unknown(&self) -> bool {
        matches!(self, Self::No { code, .. } if Refusal::of_code(code) == Some(Refusal::Unknown))
    }
}

impl Heard<Vec<u8>> {
    /// Reads the admission in an answer that came at `now`.
    pub(super) fn admission(self, now: Instant) -> Heard<Admitted> {
        let body = match self {
            Self::Done(body) => body,
            Self::No { code, message } => return Heard::No { code, message },
            Self::NotNow(why) => return Heard::NotNow(why),
        };
        if let Some(message) = cannot_connect(&body) {
            return Heard::No { code: "no_broker".to_owned(), message };
        }
        let read = serde_json::from_slice(&body).ok().filter(|read: &Admission| read.expires_in_s > 0);
        let Some(Admission { node, token, expires_in_s, queue, broker, removed_models, .. }) = read else {
            return Heard::NotNow(
                "answers with something that is no admission; is it a gateway of this version?".to_owned(),
            );
        };
        let lifetime = Duration::from_secs(expires_in_s);
        let token = Token { value: token, expires: now + lifetime };
        Heard::Done(Admitted { node, token, lifetime, queue, broker_url: broker.url, removed_models })
    }
}

/// Returns the gateway's sentence if it knows the node and says that no node can connect to this network.
fn cannot_connect(body: &[u8]) -> Option<String> {
    let json: Value = serde_json::from_slice(body).ok()?;
    (json["connects"] == false).then(|| json["message"].as_str().unwrap_or_default().to_owned())
}

/// Reads an answer from its status and body.
pub(super) fn read(status: u16, body: Vec<u8>) -> Heard<Vec<u8>> {
    if status == 200 {
        return Heard::Done(body);
    }
    let json: Value = serde_json::from_slice(&body).unwrap_or_default();
    let message = match &json["detail"] {
        Value::String(sentence) => sentence.clone(),
        Value::Null => String::new(),
        list => list.to_string(),
    };
    let code = json["code"].as_str().unwrap_or_default();
    // Another gateway may be able to do what this one can't.
    if Refusal::of_code(code).is_some_and(Refusal::may_pass) {
        return Heard::NotNow(format!("answers {status}: {message}"));
    }
    match (status, code) {
        (404 | 405 | 408 | 429 | 500.., _) => Heard::NotNow(format!("answers {status}: {message}")),
        (401, _) => {
            Heard::No { code: "invalid_api_key".to_owned(), message: format!("node.api_key: {message}") }
        }
        (400..500, "") => Heard::No { code: status.to_string(), message },
        (400..500, code) => Heard::No { code: code.to_owned(), message },
        _ => Heard::NotNow(format!("answers {status}, which no gateway does")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_a_yes_a_no_or_a_not_now() {
        let body = |code: &str| format!("{{\"detail\":\"words\",\"code\":\"{code}\"}}").into_bytes();
        for (status, code, expected) in [
            (403, "node_unknown", Some("node_unknown")),
            (403, "fleet_scope_required", Some("fleet_scope_required")),
            (403, "node_revoked", Some("node_revoked")),
            (409, "node_name_taken", Some("node_name_taken")),
            (401, "", Some("invalid_api_key")),
            (503, "nodes_not_admitted", None),
            (503, "broker_unavailable", None),
            (429, "", None),
            (404, "", None),
            (301, "", None),
        ] {
            match read(status, body(code)) {
                Heard::No { code, message } => {
                    assert_eq!(Some(code.as_str()), expected, "{status}");
                    assert!(message.contains("words"), "{message}");
                }
                Heard::NotNow(_) => assert_eq!(expected, None, "{status} {code}"),
                Heard::Done(_) => panic!("{status} is no yes"),
            }
        }
        assert!(
            matches!(read(422, b"{\"detail\":[{\"msg\":\"m\"}]}".to_vec()), Heard::No { message, .. } if message.contains("\"m\""))
        );
        assert!(read(403, body("node_unknown")).is_unknown() && !read(403, body("x")).is_unknown());
    }

    #[tokio::test(start_paused = true)]
    async fn an_admission_is_read_whole_or_not() {
        let whole = r#"{"status":"admitted","node":"n1","token":"a.b.c","expires_in_s":60,"queue":"node.n1.x",
                        "broker":{"url":"amqp://b/%2F","later":1}}"#;
        let now = Instant::now();
        let Heard::Done(admitted) = read(200, whole.into()).admission(now) else { panic!("not read") };
        assert_eq!((admitted.node.as_str(), admitted.queue.as_str()), ("n1", "node.n1.x"));
        assert_eq!(admitted.token.expires, now + Duration::from_secs(60));
        let one_process =
            br#"{"status":"registered","node":"n1","node_id":"a","connects":false,"message":"words"}"#;
        let heard = read(200, one_process.to_vec()).admission(now);
        assert!(matches!(heard, Heard::No { message, .. } if message == "words"), "asking again is no use");
        for broken in ["", "{}", "[]", "<html>", &whole.replace("60", "0")] {
            assert!(matches!(read(200, broken.into()).admission(now), Heard::NotNow(_)), "{broken}");
        }
    }
}
