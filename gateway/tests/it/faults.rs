//! The ledger fails while a job is accepted. The real one is behind; only its answer is lost, or the call never
//! reaches it.

use std::sync::Arc;

use async_trait::async_trait;
use infera_core::ids::{AccountId, JobId};
use infera_core::ledger::sqlite::SqliteLedger;
use infera_core::ledger::{Accepted, Cancelled, JobIntake, JobReader, LedgerError, NewJob};
use infera_core::time::Timestamp;
use serde_json::json;

use crate::support::rig::{Rig, chat, job, unlimited};

/// How accepting fails.
#[derive(Clone, Copy, Debug)]
enum Fault {
    /// It is committed, and the answer is lost.
    AnswerLost,
    /// It is not committed, and nobody knows.
    CommitLost,
    /// It is refused before anything happens.
    Away,
}

#[derive(Debug)]
struct Failing {
    ledger: Arc<SqliteLedger>,
    fault: Fault,
}

#[async_trait]
impl JobIntake for Failing {
    async fn accept(&self, job: NewJob) -> Result<Accepted, LedgerError> {
        match self.fault {
            Fault::AnswerLost => {
                self.ledger.accept(job).await?;
                Err(LedgerError::Unknown("the answer was lost".to_owned()))
            }
            Fault::CommitLost => Err(LedgerError::Unknown("the answer was lost".to_owned())),
            Fault::Away => Err(LedgerError::Unavailable("away".to_owned())),
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
}

async fn start(fault: Fault) -> Rig {
    Rig::start_over(unlimited(), 3, |ledger| Arc::new(Failing { ledger, fault })).await
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
