//! An operator replays a poison job, and can replay no other job.

use std::sync::Arc;
use std::time::Duration;

use infera_gateway::Config;
use infera_gateway::jobs::poison::{NotReplayed, replay};
use infera_ledger::{
    Accepted, ArchiveIndex as _, Charge, JobIntake as _, JobOwner as _, JobReader as _, JobState, Metadata,
    NewJob, Notice, Pruning as _, RecordPlace, Room, SpendBook as _, Standby, Sweeping as _, Take,
};
use infera_ledger_sqlite::SqliteLedger;
use infera_types::choice::Choice;
use infera_types::ids::{AccountId, Digest, GatewayId, JobId, ModelName, SegmentId};
use infera_types::job::{End, FailureReason, Settlement, VerificationPolicy};
use infera_types::money::{Payment, Price};
use infera_types::time::Timestamp;
use tempfile::TempDir;

fn ledger() -> (TempDir, Arc<SqliteLedger>) {
    let folder = tempfile::tempdir().expect("a folder");
    let ledger = SqliteLedger::open(&folder.path().join("ledger.sqlite")).expect("a ledger");
    (folder, ledger)
}

fn poison() -> End {
    End::Failed { reason: FailureReason::Poison, message: "its verifiers stopped".to_owned() }
}

async fn accept(ledger: &SqliteLedger) -> NewJob {
    accept_for(ledger, None).await
}

async fn accept_for(ledger: &SqliteLedger, charge: Option<Charge>) -> NewJob {
    let accepted_ms = Timestamp::from_millis(1_790_000_000_000);
    let job = NewJob {
        id: JobId::new(),
        choice: Choice::ONLY,
        shows_tokens: false,
        key: None,
        account: AccountId::fresh(),
        model: ModelName::new("m"),
        request: b"any bytes".to_vec(),
        policy: VerificationPolicy { quorum: 3, replicas: 3 },
        gateway: GatewayId::fresh(),
        synchronous: true,
        accepted_ms,
        deadline_ms: accepted_ms.after(Duration::from_secs(1)),
        epoch: 1,
        idempotency: None,
        waiting_max: 9,
        room: Room::UNBOUNDED,
        standby: Standby::never_held(&AccountId::new("acctsample")),
        metadata: Metadata::new(),
        keeping: infera_ledger::Keeping::default(),
        charge,
    };
    assert_eq!(ledger.accept(job.clone()).await.expect("accept"), Accepted::New { is_held: false });
    job
}

/// Makes a job that ended in this way.
async fn ended(ledger: &SqliteLedger, end: End) -> NewJob {
    let job = accept(ledger).await;
    end_as(ledger, job, end).await
}

async fn end_as(ledger: &SqliteLedger, job: NewJob, end: End) -> NewJob {
    let settlement = Settlement {
        job_id: job.id,
        account: job.account.clone(),
        model: job.model.clone(),
        gateway: job.gateway.clone(),
        end,
        group: None,
        settled_ms: job.accepted_ms,
    };
    ledger.settle(&settlement).await.expect("settle");
    job
}

#[tokio::test]
async fn a_replay_asks_the_same_as_a_new_job() {
    let (_folder, ledger) = ledger();
    let job = ended(&ledger, poison()).await;
    let before = Timestamp::now();
    let config = Config { submit_deadline_ms: 60_000, ..Config::default() };
    let new = replay(ledger.as_ref(), job.id, &config).await.expect("a replay");
    assert_ne!(new, job.id);
    let view = ledger.job(&job.account, new).await.expect("reading").expect("its account sees it");
    assert_eq!((view.state, &view.model), (JobState::Queued, &job.model));
    assert!(view.accepted_ms >= before);
    assert_eq!(view.deadline_ms.since(view.accepted_ms), Duration::from_secs(60));
    // No notice was published; that is left to the sweeper.
    let question = infera_ledger::SweepQuestion {
        empty_queues: Vec::new(),
        dead: Vec::new(),
        unserved: Vec::new(),
        unconfirmed_for: Duration::from_secs(5),
        limit: 9,
    };
    let due = view.accepted_ms.after(Duration::from_secs(5));
    assert_eq!(
        ledger.sweep(&question, due).await.expect("sweep").hand_out,
        [(new, job.model.clone(), infera_types::service::Lane::First)]
    );
    let owner = infera_types::ids::VerifierId::fresh();
    let notices = [Notice::together(new, false)];
    let taken = ledger.take(&owner, &notices, due).await.expect("take").remove(0);
    let Take::Taken(taken) = taken else { panic!("not taken: {taken:?}") };
    assert_eq!((taken.request, taken.policy), (job.request.clone(), job.policy));
    assert_eq!((taken.synchronous, taken.lost_handouts), (false, 0));
    // The old end stays, and the old job may be replayed again.
    assert_eq!(ledger.settlements(&[job.id]).await.expect("reading")[0].end, poison());
    assert_ne!(replay(ledger.as_ref(), job.id, &config).await.expect("another"), new);
}

#[tokio::test]
async fn what_is_not_poison_is_not_replayed() {
    let (_folder, ledger) = ledger();
    let other = End::Failed { reason: FailureReason::NoConsensus, message: String::new() };
    let cases = [
        (ended(&ledger, other).await.id, "no_consensus"),
        (ended(&ledger, End::Expired).await.id, "expired"),
        (accept(&ledger).await.id, "not ended"),
        (JobId::new(), "not ended"),
    ];
    for (job, word) in cases {
        let error = replay(ledger.as_ref(), job, &Config::default()).await.expect_err(word);
        assert!(error.is_final() && error.to_string().contains(word), "{word}: {error}");
    }
    assert_eq!(ledger.statistics(Timestamp::now()).await.expect("statistics").accepted, 3);
}

#[tokio::test]
async fn a_replay_counts_among_the_accounts_waiting_jobs() {
    let (_folder, ledger) = ledger();
    let job = ended(&ledger, poison()).await;
    let config = Config { waiting_max: 1, ..Config::default() };
    replay(ledger.as_ref(), job.id, &config).await.expect("room for one");
    let error = replay(ledger.as_ref(), job.id, &config).await.expect_err("no room for two");
    assert!(matches!(error, NotReplayed::Full { waiting: 1 }) && !error.is_final(), "{error}");
}

#[tokio::test]
async fn without_its_request_nothing_is_replayed() {
    let (_folder, ledger) = ledger();
    let job = ended(&ledger, poison()).await;
    let (segment, now) = (SegmentId::new(), Timestamp::now());
    assert_eq!(ledger.claim(segment, 9, now, now).await.expect("claim").len(), 1);
    let hash = Digest::of(b"line");
    let place = RecordPlace { job: job.id, frame_offset: 0, frame_length: 1, index: 0, hash };
    ledger.record(segment, "jobs/one", &[place]).await.expect("record");
    assert_eq!(ledger.prune(segment).await.expect("prune"), 1);
    let error = replay(ledger.as_ref(), job.id, &Config::default()).await.expect_err("pruned");
    assert!(matches!(error, NotReplayed::Pruned(pruned) if pruned == job.id) && error.is_final());
}

/// A replay of a job for a model with a price costs nothing, and whether its account pays is known as before.
#[tokio::test]
async fn a_replay_costs_nothing_and_is_as_unpaid_as_its_job() {
    let (_folder, ledger) = ledger();
    let price = Price { prompt: 1_000_000, completion: 1_000_000 };
    let charge = Charge { price, prompt_tokens: 5, completion_tokens: 5 };
    for (charge, payment, shown) in
        [(None, Payment::Free, None), (Some(charge), Payment::Unpaid, Some(Price::default()))]
    {
        let job = accept_for(&ledger, charge).await;
        let job = end_as(&ledger, job, poison()).await;
        let new = replay(ledger.as_ref(), job.id, &Config::default()).await.expect("a replay");
        let view = ledger.job(&job.account, new).await.expect("reading").expect("its account sees it");
        assert_eq!(view.price, shown);
        let owner = infera_types::ids::VerifierId::fresh();
        let notices = [Notice::together(new, false)];
        let taken = ledger.take(&owner, &notices, view.accepted_ms).await.expect("take").remove(0);
        let Take::Taken(taken) = taken else { panic!("not taken: {taken:?}") };
        assert_eq!(taken.payment, payment);
        assert_eq!(ledger.spending(&job.account, view.accepted_ms).await.expect("sums").account.reserved, 0);
    }
}
