//! The ledger fails while a job is accepted. A real ledger is behind the failing one: only its answer is lost, or the
//! call reaches it late or never.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use infera_ledger::{Accepted, Cancelled, JobIntake, JobReader, LedgerError, NewJob};
use infera_ledger_sqlite::SqliteLedger;
use infera_types::ids::{AccountId, JobId};
use infera_types::job::End;
use infera_types::time::Timestamp;
use serde_json::json;

use crate::support::rig::{Rig, chat, job, unlimited};

/// The ways in which accepting fails.
#[derive(Clone, Copy, Debug)]
enum Fault {
    /// The job is committed, and the answer is lost.
    AnswerLost,
    /// The job is not committed, and the outcome is unknown.
    CommitLost,
    /// As before, but for the first try only.
    FirstCommitLost,
    /// The first try is committed after all callers were told that its outcome is unknown. The second try's outcome
    /// is unknown too.
    CommitLate,
    /// The job is refused before anything happens.
    Away,
}

#[derive(Debug)]
struct Failing {
    ledger: Arc<SqliteLedger>,
    fault: Fault,
    /// How many times the ledger was asked to accept a job.
    asked: AtomicUsize,
    /// The job that is committed late.
    late: Arc<Mutex<Option<JobId>>>,
}

#[async_trait]
impl JobIntake for Failing {
    async fn accept(&self, job: NewJob) -> Result<Accepted, LedgerError> {
        let unknown = || Err(LedgerError::Unknown("the answer was lost".to_owned()));
        match (self.fault, self.asked.fetch_add(1, Ordering::Relaxed)) {
            (Fault::CommitLate, 0) => {
                let (ledger, late) = (Arc::clone(&self.ledger), Arc::clone(&self.late));
                tokio::spawn(async move {
                    tokio::time::sleep(Duration::from_secs(2)).await;
                    let id = job.id;
                    ledger.accept(job).await.expect("a ledger");
                    *late.lock().expect("no panic") = Some(id);
                });
                unknown()
            }
            (Fault::FirstCommitLost, 0) | (Fault::CommitLate, 1) => unknown(),
            (Fault::FirstCommitLost | Fault::CommitLate, _) => self.ledger.accept(job).await,
            (Fault::AnswerLost, _) => {
                self.ledger.accept(job).await?;
                unknown()
            }
            (Fault::CommitLost, _) => unknown(),
            (Fault::Away, _) => Err(LedgerError::Unavailable("away".to_owned())),
        }
    }

    async fn confirm(&self, jobs: &[JobId], now: Timestamp) -> Result<(), LedgerError> {
        self.ledger.confirm(jobs, now).await
    }

    async fn cancel(
        &self,
        account: &AccountId,
        job: JobId,
        now: Timestamp,
    ) -> Result<Cancelled, LedgerError> {
        self.ledger.cancel(account, job, now).await
    }

    async fn commits_come_through(&self) -> Result<(), LedgerError> {
        self.ledger.commits_come_through().await
    }
}

async fn start(fault: Fault) -> Rig {
    start_with(fault).await.0
}

/// The gateway, and the job that is committed late.
async fn start_with(fault: Fault) -> (Rig, Arc<Mutex<Option<JobId>>>) {
    let late = Arc::<Mutex<Option<JobId>>>::default();
    let its = Arc::clone(&late);
    let failing = |ledger| Arc::new(Failing { ledger, fault, asked: AtomicUsize::new(0), late: its });
    (Rig::start_over(unlimited(), 3, failing).await, late)
}

async fn until_committed(late: &Mutex<Option<JobId>>) -> JobId {
    for _ in 0..600 {
        if let Some(job) = *late.lock().expect("no panic") {
            return job;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("the late commit never came")
}

#[tokio::test]
async fn a_commit_whose_answer_is_lost_is_read_back_and_counts() {
    let rig = start(Fault::AnswerLost).await;
    assert_eq!(rig.post("/chat/completions", &chat(), &[]).await.status, 200);
    let submitted = rig.post("/submit_job", &job(), &[]).await;
    assert_eq!(submitted.status, 200);
    let path = format!("/v1/jobs/{}", submitted.json()["job_id"].as_str().expect("an id"));
    rig.get_until(&path, |job| job["status"] == "succeeded").await;
    assert_eq!(rig.ledger.statistics(Timestamp::now()).await.expect("a ledger").accepted, 2);
}

#[tokio::test]
async fn a_job_that_is_not_there_is_not_called_accepted() {
    for fault in [Fault::CommitLost, Fault::Away] {
        let rig = start(fault).await;
        for path in ["/chat/completions", "/v1/chat/completions"] {
            let reply = rig.post(path, &chat(), &[]).await;
            assert_eq!(reply.status, 503, "{fault:?}");
            assert!(reply.header("retry-after").is_some() && reply.header("x-job-id").is_none(), "{fault:?}");
        }
        let reply = rig.post("/v1/chat/completions", &chat(), &[]).await;
        assert_eq!(reply.json()["error"]["code"], json!("ledger_unavailable"));
        assert_eq!(rig.ledger.statistics(Timestamp::now()).await.expect("a ledger").accepted, 0);
    }
}

#[tokio::test]
async fn a_job_whose_first_commit_was_lost_is_accepted_by_the_second() {
    for path in ["/chat/completions", "/submit_job"] {
        let rig = start(Fault::FirstCommitLost).await;
        let body = if path == "/submit_job" { job() } else { chat() };
        assert_eq!(rig.post(path, &body, &[]).await.status, 200, "{path}");
        assert_eq!(rig.ledger.statistics(Timestamp::now()).await.expect("a ledger").accepted, 1, "{path}");
    }
}

#[tokio::test]
async fn a_job_that_is_there_after_it_was_called_not_accepted_is_cancelled() {
    for path in ["/chat/completions", "/submit_job"] {
        let (rig, late) = start_with(Fault::CommitLate).await;
        // The job's turn doesn't come before it is cancelled.
        rig.is_feeding.store(false, Ordering::Relaxed);
        let body = if path == "/submit_job" { job() } else { chat() };
        assert_eq!(rig.post(path, &body, &[]).await.status, 503, "{path}");
        let job = until_committed(&late).await;
        let mut ends = Vec::new();
        for _ in 0..600 {
            ends = rig.ledger.settlements(&[job]).await.expect("a ledger");
            if !ends.is_empty() {
                break;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        assert_eq!(ends.first().map(|settlement| &settlement.end), Some(&End::cancelled()), "{path}");
    }
}

/// The client asks again under its key, and must not find a cancelled job.
#[tokio::test]
async fn a_late_job_under_an_idempotency_key_is_the_next_requests() {
    let (rig, late) = start_with(Fault::CommitLate).await;
    rig.is_feeding.store(false, Ordering::Relaxed);
    let key = [("Idempotency-Key", "late")];
    assert_eq!(rig.post("/submit_job", &job(), &key).await.status, 503);
    let id = until_committed(&late).await;
    let again = rig.post("/submit_job", &job(), &key).await;
    assert_eq!((again.status, again.header("idempotent-replayed")), (200, Some("true")));
    assert_eq!(again.json()["job_id"], json!(id.to_string()));
    // This is longer than the first tries to cancel a job that no client waits for.
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(rig.ledger.settlements(&[id]).await.expect("a ledger"), []);
}
