//! A data folder of an earlier program that was killed in the middle of its work, opened by this program.
//!
//! `upgrade/05ebecc.tar.gz` is the folder of the program of commit 05ebecc (2026-11-29). It has one answered chat
//! under an idempotency key, a second account, and five jobs that were handed out but not answered when the program
//! was killed with SIGKILL, before SQLite's log was copied back. The jobs' deadlines are a hundred years ahead.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use serde_json::{Value, json};

use crate::client::{Client, question};
use crate::stage::{Stage, eventually, root, text};

/// The keys of its two accounts.
const LOCAL_KEY: &str = "inf_eMJY0dKeivm8zSaTqgvZefQinByu9a4esUXm";
const OTHER_KEY: &str = "inf_Nq1qSlgnJxmlD8GatWbBsIbz9corlF3qa6nJ";

/// The job of its answered chat, and the five that wait.
const ANSWERED: &str = "job_01a2294b2a2a7330ba1f142361b20950";
const WAITING: [&str; 5] = [
    "job_01a2294bcae07423898d825d6bebf081",
    "job_01a2294bcafe77f8abea6fc054547ada",
    "job_01a2294bcb0f7533bd51698d7adfdcbb",
    "job_01a2294bcb1e72aeb3ebe675b37f12c8",
    "job_01a2294bcb2a7518aff127c396c61f27",
];

/// Longer than anybody will run this test: what is settled is not pruned meanwhile.
const RETENTION: Duration = Duration::from_secs(100 * 365 * 24 * 3_600);

fn unpack(folder: &Path) {
    let archive = root().join("standalone/tests/upgrade/05ebecc.tar.gz");
    let mut tar = Command::new("tar");
    tar.arg("-xzf").arg(archive).args(["--strip-components=1", "--no-same-owner", "-C"]).arg(folder);
    let unpacked = tar.output().expect("the tar command");
    assert!(unpacked.status.success(), "{}", String::from_utf8_lossy(&unpacked.stderr));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_folder_of_an_earlier_program_goes_on_under_this_one() {
    let mut stage = Stage::open_prepared(3, unpack, |config| {
        config.verifier.retention_ms = u64::try_from(RETENTION.as_millis()).expect("a hundred years");
    })
    .await;
    stage.run(3).await;
    assert_eq!(stage.client.key, LOCAL_KEY, "the noted key still works");

    let asked = json!({
        "model": "infera-tiny",
        "messages": [{ "role": "user", "content": "What is 47 + 38?" }],
        "temperature": 0,
    });
    let again = stage
        .client
        .call_with("POST", "/v1/chat/completions", "idempotency-key: upgrade\r\n", Some(&asked))
        .await;
    assert_eq!((again.status, &again.json["job_id"]), (200, &json!(ANSWERED)), "{}", again.json);
    assert_eq!(text(&again.json), "47 + 38 = 85.");
    assert_eq!(stage.client.job(ANSWERED).await["status"], "succeeded");

    let answered = async |id: &str| -> Value {
        eventually(id, async || {
            let job = stage.client.job(id).await;
            (job["status"] == "succeeded").then_some(job)
        })
        .await
    };
    for id in WAITING {
        let job = answered(id).await;
        assert_eq!(job["verification"]["status"], "verified", "{job}");
    }

    let other = Client { key: OTHER_KEY.to_owned(), ..stage.client.clone() };
    let hidden = other.call("GET", &format!("/v1/jobs/{ANSWERED}"), None).await;
    assert_eq!(hidden.status, 404, "another account's job: {}", hidden.json);
    let fresh = other.chat(&question("What is 2 + 3?")).await;
    assert_eq!(fresh.status, 200, "{}", fresh.json);
    assert_eq!(
        fresh.json["verification"]["replicas"]["answered"].as_u64().map(|count| count >= 2),
        Some(true)
    );
    stage.close().await;
}
