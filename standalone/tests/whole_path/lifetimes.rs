//! Networks on the same folder: a second one at the same time is refused, a damaged ledger is named, and a restart
//! loses nothing.

use infera::config::Config;
use infera::network::{Network, NetworkError};

use crate::client::{Client, question};
use crate::stage::{Stage, config};

#[tokio::test(flavor = "multi_thread")]
async fn a_second_network_on_the_same_folder_refuses_to_start() {
    let mut stage = Stage::open(1).await;
    stage.run(1).await;
    let second = Network::start(stage.config.clone()).await.err().expect("a refusal");
    assert!(matches!(second, NetworkError::DataFolder(_)), "{second}");
    assert!(second.to_string().contains("in use by another infera"), "{second}");
    stage.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_taken_port_is_named_with_its_remedy() {
    let mut stage = Stage::open(1).await;
    let taken = stage.client.address;
    stage.run(1).await;
    let folder = tempfile::tempdir().expect("a scratch folder");
    let second = Config { listen: taken.into(), ..config(folder.path(), 1) };
    let refused = Network::start(second).await.err().expect("a refusal");
    let said = refused.to_string();
    assert!(said.contains(&taken.to_string()) && said.contains("--set listen="), "{said}");
    stage.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_keeps_key_nodes_and_jobs() {
    let mut stage = Stage::open(3).await;
    stage.run(3).await;
    let reply = stage.client.chat(&question("What is 2 + 3?")).await;
    assert_eq!(reply.status, 200, "{}", reply.json);
    let id = reply.json["job_id"].as_str().expect("the job's id").to_owned();
    let key = stage.client.key.clone();
    let folder = stage.close().await;

    let network = Network::start(config(folder.path(), 3)).await.expect("it starts again");
    assert_eq!(network.key.expose(), key, "the noted key still works");
    let client = Client { address: network.address, key };
    let job = client.job(&id).await;
    assert_eq!(job["status"], "succeeded", "{job}");
    let shutdown = infera_types::shutdown::Shutdown::new();
    shutdown.cancel();
    network.run(shutdown).await.expect("every role ends well");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_ledger_is_named_and_left_alone() {
    let stage = {
        let mut stage = Stage::open(1).await;
        stage.run(1).await;
        stage.close().await
    };
    let ledger = stage.path().join("ledger.sqlite");
    let mut bytes = std::fs::read(&ledger).expect("the ledger's file");
    for byte in bytes.iter_mut().take(100) {
        *byte ^= 0x55;
    }
    std::fs::write(&ledger, &bytes).expect("it is damaged");
    let refused = Network::start(config(stage.path(), 1)).await.err().expect("a refusal");
    assert!(matches!(refused, NetworkError::Seams(_)), "{refused}");
    assert!(refused.to_string().contains("ledger.sqlite"), "{refused}");
    assert_eq!(std::fs::read(&ledger).expect("the ledger's file"), bytes, "nothing was written over it");
}
