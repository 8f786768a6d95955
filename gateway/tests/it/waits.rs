//! How long a synchronous request waits, by the seed's `request_timeout_time`.

use serde_json::{Value, json};

use crate::support::rig::{Rig, chat, unlimited};

/// A job's deadline is when its client stops waiting, so it shows the time that was granted. On both faces it is between one
/// second and ten minutes, whatever was asked for.
#[tokio::test]
async fn a_time_out_of_range_is_moved_into_it() {
    let rig = Rig::start(unlimited()).await;
    for (asked, seconds) in [
        (json!(0), 1),
        (json!(-5), 1),
        (json!(1), 1),
        (json!(600), 600),
        (json!(601), 600),
        (json!(9_000_000_000_000_000_000_u64), 600),
        (json!("60"), 60),
        (Value::Null, 240),
    ] {
        for path in ["/chat/completions", "/v1/chat/completions"] {
            let mut body = chat();
            body["request_timeout_time"] = asked.clone();
            let reply = rig.post(path, &body, &[]).await;
            assert_eq!(reply.status, 200, "{asked} {}", reply.json());
            let job = rig.get(&format!("/v1/jobs/{}", reply.header("x-job-id").expect("a job"))).await.json();
            let granted =
                job["expires"].as_u64().zip(job["created"].as_u64()).map(|(until, from)| until - from);
            assert_eq!(granted, Some(seconds), "{asked}");
        }
    }
}
