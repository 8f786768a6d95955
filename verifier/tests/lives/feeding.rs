//! Held jobs are offered in their turn: a backlog of one account is not ahead of another's jobs, queues stay short, and the
//! next verifier goes on where one ended.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use infera_broker::{Broker as _, topology};
use infera_ledger::{
    Accepted, Feeding as _, HeldQuestion, JobIntake as _, JobReader as _, NewJob, Share, Standby,
};
use infera_types::ids::{AccountId, JobId};
use infera_types::service::Lane;
use infera_types::time::Timestamp;
use infera_verifier::Config;
use infera_verifier::decisions::fair_share::FairShare;
use tokio::time::Instant;

use super::network::{Ask, Network, eventually, quick, tokens};
use super::node::{RIGHT, keep_speaking, right, three};

/// Ten times what a verifier needs to notice what it is to notice.
const A_WHILE: Duration = Duration::from_secs(1);

/// Accepts a job of `account` that is collected later, under this share.
async fn hold(network: &Network, account: &AccountId, share: &str) -> JobId {
    let request = serde_json::to_vec(&network.request("What is 2 plus 2?")).unwrap();
    let standby = Standby { lane: Lane::Later, share: Share::new(share), ..Standby::never_held(account) };
    let job = NewJob { account: account.clone(), standby, ..network.new_job(&request, Ask::default()) };
    assert_eq!(network.ledger.accept(job.clone()).await.unwrap(), Accepted::New { is_held: true });
    job.id
}

/// How many jobs are offered, and how many are held.
async fn waiting(network: &Network) -> (u64, u64) {
    let kinds = network.ledger.waiting(u32::MAX).await.unwrap();
    kinds.iter().fold((0, 0), |(offered, held), kind| (offered + kind.offered, held + kind.held))
}

#[tokio::test]
async fn a_backlog_is_not_ahead_of_another_accounts_jobs() {
    const BACKLOG: usize = 150;
    let network = Arc::new(Network::new().await);
    let nodes = three(&network, right()).await;
    let _chorus = keep_speaking(&nodes);
    let (busy, other) = (AccountId::fresh(), AccountId::fresh());
    let mut backlog = Vec::new();
    for _ in 0..BACKLOG {
        backlog.push(hold(&network, &busy, busy.as_str()).await);
    }
    let mut later = Vec::new();
    for _ in 0..3 {
        later.push(hold(&network, &other, other.as_str()).await);
    }
    let _verifier = network.verifier(quick());
    let mut last_ms = Timestamp::default();
    for job in &later {
        let settlement = network.end_of(*job).await;
        assert_eq!(tokens(&settlement), RIGHT);
        last_ms = last_ms.max(settlement.settled_ms);
    }
    for job in &backlog {
        network.end_of(*job).await;
    }
    let ends = network.ledger.settlements(&backlog).await.unwrap();
    let before = ends.iter().filter(|end| end.settled_ms < last_ms).count();
    assert!(before < BACKLOG / 2, "{before} of {BACKLOG} came before three jobs of another account");
    eventually("nothing waits", || async { (waiting(&network).await == (0, 0)).then_some(()) }).await;
}

#[tokio::test]
async fn without_nodes_one_job_is_offered_and_the_others_wait_in_the_ledger() {
    let network = Arc::new(Network::new().await);
    let account = AccountId::fresh();
    let mut jobs = Vec::new();
    for _ in 0..20 {
        jobs.push(hold(&network, &account, account.as_str()).await);
    }
    let _verifier = network.verifier(quick());
    eventually("one is offered", || async { (waiting(&network).await == (1, 19)).then_some(()) }).await;
    tokio::time::sleep(A_WHILE).await;
    assert_eq!(waiting(&network).await, (1, 19));
    let nodes = three(&network, right()).await;
    let _chorus = keep_speaking(&nodes);
    for job in jobs {
        assert_eq!(tokens(&network.end_of(job).await), RIGHT);
    }
}

/// The notice of an offered job is lost with its queue, and the verifier that fed dies; neither loses a job.
#[tokio::test]
async fn the_next_verifier_goes_on_where_one_died() {
    let network = Arc::new(Network::new().await);
    let account = AccountId::fresh();
    let mut jobs = Vec::new();
    for _ in 0..10 {
        jobs.push(hold(&network, &account, account.as_str()).await);
    }
    let config = Config { shared_lease_ms: 900, ..quick() };
    let first = network.verifier(config.clone());
    eventually("one is offered", || async { (waiting(&network).await.0 == 1).then_some(()) }).await;
    first.kill().await;
    network.broker.delete(&topology::jobs(&network.model).name).await.unwrap();
    let nodes = three(&network, right()).await;
    let _chorus = keep_speaking(&nodes);
    let _second = network.verifier(config);
    for job in jobs {
        assert_eq!(tokens(&network.end_of(job).await), RIGHT);
    }
}

/// A thousand accounts cost nothing to make. Under one share they get as much as one account, read from the ledger as the
/// feeder reads it.
#[tokio::test]
async fn a_thousand_accounts_of_one_network_get_one_share() {
    const ACCOUNTS: usize = 1_000;
    let network = Network::new().await;
    let mut owners = HashMap::new();
    for _ in 0..ACCOUNTS {
        owners.insert(hold(&network, &AccountId::fresh(), "net:192.0.2.0/24").await, "network");
    }
    let proven = AccountId::fresh();
    for _ in 0..100 {
        owners.insert(hold(&network, &proven, proven.as_str()).await, "proven");
    }
    let mut question = HeldQuestion {
        model: network.model.clone(),
        lane: Lane::Later,
        after: None,
        flows_max: 300,
        jobs_max: 100,
    };
    let mut flows = Vec::new();
    loop {
        let page = network.ledger.held(&question, Timestamp::now()).await.unwrap();
        question.after = page.last().map(|flow| flow.key.clone());
        let is_last = page.len() < 300;
        flows.extend(page);
        if is_last {
            break;
        }
    }
    assert_eq!(flows.len(), ACCOUNTS + 1);
    let mut order = FairShare::default();
    order.refresh(flows, Instant::now());
    let turns = order.next(100);
    let own = turns.iter().filter(|turn| owners[&turn.id] == "proven").count();
    assert_eq!((turns.len(), own), (100, 50), "half of the turns, beside a thousand others");
    let charged: u64 = turns.iter().map(|turn| turn.charged_tokens).sum();
    assert_eq!(charged, 100 * turns[0].charged_tokens, "all alike");
    assert_eq!(network.ledger.offer(&turns, Timestamp::now()).await.unwrap().len(), 100);
    assert_eq!(waiting(&network).await, (100, 1_000));
}
