//! The disk under the ledger is full: the ledger can be read, but nothing can be committed.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use async_trait::async_trait;
use infera_ledger::{Accepted, Cancelled, JobIntake, LedgerError, NewJob};
use infera_ledger_sqlite::SqliteLedger;
use infera_types::ids::{AccountId, JobId};
use infera_types::time::Timestamp;
use serde_json::json;

use crate::support::rig::{Rig, job, unlimited};

/// A real ledger whose disk may be full. It remembers the outcome of its last commit as a real one does.
#[derive(Debug)]
struct Full {
    ledger: Arc<SqliteLedger>,
    is_full: Arc<AtomicBool>,
    has_failed: AtomicBool,
}

impl Full {
    fn commit(&self) -> Result<(), LedgerError> {
        let is_full = self.is_full.load(Ordering::Relaxed);
        self.has_failed.store(is_full, Ordering::Relaxed);
        if is_full { Err(LedgerError::Unavailable("database or disk is full".to_owned())) } else { Ok(()) }
    }
}

#[async_trait]
impl JobIntake for Full {
    async fn accept(&self, job: NewJob) -> Result<Accepted, LedgerError> {
        self.commit()?;
        self.ledger.accept(job).await
    }

    async fn confirm(&self, jobs: &[JobId], now: Timestamp) -> Result<(), LedgerError> {
        self.commit()?;
        self.ledger.confirm(jobs, now).await
    }

    async fn cancel(
        &self,
        account: &AccountId,
        job: JobId,
        now: Timestamp,
    ) -> Result<Cancelled, LedgerError> {
        self.commit()?;
        self.ledger.cancel(account, job, now).await
    }

    async fn commits_come_through(&self) -> Result<(), LedgerError> {
        if self.has_failed.load(Ordering::Relaxed) { self.commit() } else { Ok(()) }
    }
}

/// The gateway isn't ready after the first commit that failed, and is ready again without any traffic once there is
/// room.
#[tokio::test]
async fn a_gateway_on_a_full_disk_is_not_ready_until_there_is_room() {
    let is_full = Arc::new(AtomicBool::new(false));
    let its = Arc::clone(&is_full);
    let intake = |ledger| Arc::new(Full { ledger, is_full: its, has_failed: AtomicBool::new(false) });
    let rig = Rig::start_over(unlimited(), 3, intake).await;
    let until = async |status: u16| {
        for _ in 0..600 {
            let reply = rig.send("GET", "/readyz", &[], b"").await;
            if reply.status == status {
                return reply.json();
            }
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
        panic!("never {status}")
    };
    assert_eq!(rig.post("/submit_job", &job(), &[]).await.status, 200);
    is_full.store(true, Ordering::Relaxed);
    assert_eq!(rig.post("/submit_job", &job(), &[]).await.status, 503);
    let shown = until(503).await;
    assert_eq!((&shown["checks"]["commits"], &shown["checks"]["ledger"]), (&json!(false), &json!(true)));
    assert_eq!(until(503).await["ready"], false, "it stays so");
    is_full.store(false, Ordering::Relaxed);
    assert_eq!(until(200).await["checks"]["commits"], true);
    assert_eq!(rig.post("/submit_job", &job(), &[]).await.status, 200);
}
