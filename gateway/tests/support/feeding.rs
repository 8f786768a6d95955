//! A task in place of a verifier's feeder: offers every job that is held.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use infera_broker::memory::MemoryBroker;
use infera_broker::{Address, Broker as _, topology};
use infera_ledger::{Feeding as _, HeldQuestion, LedgerError, Turn, WaitingJobs};
use infera_ledger_sqlite::SqliteLedger;
use infera_types::messages::{JobNotice, Version, Wire as _};
use infera_types::time::Timestamp;

/// Offers whatever is held, as often as it is told to.
pub(super) async fn feed(ledger: Arc<SqliteLedger>, broker: Arc<MemoryBroker>, is_feeding: Arc<AtomicBool>) {
    loop {
        tokio::time::sleep(Duration::from_millis(5)).await;
        if is_feeding.load(Ordering::Relaxed) {
            // A ledger that a test has broken offers nothing.
            let _ = offer_all(&ledger, &broker).await;
        }
    }
}

async fn offer_all(ledger: &SqliteLedger, broker: &MemoryBroker) -> Result<(), LedgerError> {
    for WaitingJobs { model, lane, held, .. } in ledger.waiting(1).await? {
        if held == 0 {
            continue;
        }
        let question = HeldQuestion { model: model.clone(), lane, after: None, flows_max: 99, jobs_max: 99 };
        let flows = ledger.held(&question, Timestamp::now()).await?;
        let jobs = flows.iter().flat_map(|flow| &flow.jobs);
        let turns: Vec<Turn> = jobs.map(|job| Turn { id: job.id, charged_tokens: 1 }).collect();
        for job in ledger.offer(&turns, Timestamp::now()).await? {
            let notice = JobNotice { job_id: job, speaks: Version::NEWEST };
            broker
                .publish(&Address::Queue(topology::jobs(&model).name), notice.to_message(job.to_string()))
                .await;
        }
    }
    Ok(())
}
