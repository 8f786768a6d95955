//! An answer whose bytes changed on the disk is never shown.

use infera::network::Network;
use infera_types::ids::JobId;
use infera_types::shutdown::Shutdown;

use crate::client::{Client, question};
use crate::stage::{Stage, config};

/// One byte of a stored answer is another: it is told as damaged on both faces, by its id and by its idempotency key, and a
/// client is told not to try again. Other jobs go on.
#[tokio::test(flavor = "multi_thread")]
async fn a_changed_answer_is_told_as_damaged() {
    let mut stage = Stage::open(3).await;
    stage.run(3).await;
    let key = stage.client.key.clone();
    let first = "idempotency-key: first\r\n";
    let path = "/v1/chat/completions";
    let reply = stage.client.call_with("POST", path, first, Some(&question("What is 47 + 38?"))).await;
    assert_eq!(reply.status, 200, "{}", reply.json);
    let broken = reply.json["job_id"].as_str().expect("a job").to_owned();
    let other = stage.client.chat(&question("What is 2 + 3?")).await;
    let sound = other.json["job_id"].as_str().expect("a job").to_owned();
    let folder = stage.close().await;

    let ledger = folder.path().join("ledger.sqlite");
    let mut bytes = std::fs::read(&ledger).expect("the ledger");
    let at = packed_settlement(&bytes, &broken).expect("it is stored");
    bytes[at + 40] ^= 1;
    std::fs::write(&ledger, &bytes).expect("write");

    let network = Network::start(config(folder.path(), 3)).await.expect("the ledger's structure is sound");
    let client = Client { address: network.address, key };
    let shutdown = Shutdown::new();
    let running = tokio::spawn(network.run(shutdown.clone()));
    let shown = client.call("GET", &format!("/v1/jobs/{broken}"), None).await;
    let replayed = client.call_with("POST", path, first, Some(&question("What is 47 + 38?"))).await;
    for reply in [shown, replayed] {
        assert_eq!(
            (reply.status, reply.json["error"]["code"].as_str()),
            (500, Some("damaged")),
            "{}",
            reply.json
        );
        assert_eq!(reply.json["job_id"], broken);
        assert!(reply.head.contains("x-should-retry: false"), "{}", reply.head);
        assert!(!reply.head.contains("retry-after"), "{}", reply.head);
    }
    assert_eq!(client.job(&sound).await["status"], "succeeded");
    assert_eq!(client.chat(&question("What is 3 + 4?")).await.status, 200);
    shutdown.cancel();
    running.await.expect("no panic").expect("every role ends well");
}

/// Finds the packed settlement of a job in a ledger's file: a row's id stands before it, with the time of its end between.
fn packed_settlement(file: &[u8], job: &str) -> Option<usize> {
    const ZSTD: [u8; 4] = [0x28, 0xB5, 0x2F, 0xFD];
    let id: JobId = job.parse().ok()?;
    let ids = file.windows(16).enumerate().filter(|(_, part)| part == id.as_bytes()).map(|(at, _)| at + 16);
    ids.filter_map(|after| {
        let near = file.get(after..after + 16)?;
        near.windows(4).position(|part| part == ZSTD).map(|at| after + at)
    })
    .next()
}
