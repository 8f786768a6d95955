//! Sets the times at which the text of jobs goes, when the jobs end.

use super::values::millis;
use infera_ledger::erasure_step;
use infera_ledger::stored::{Due, SettlementRow, due};

/// Of two times for one job the earlier counts. An erasure that is done stays done.
macro_rules! queue_again {
    () => {
        concat!(
            " ON CONFLICT (job_id) DO UPDATE SET due_ms = LEAST(erasures.due_ms, excluded.due_ms),
            reason = GREATEST(erasures.reason, excluded.reason) WHERE erasures.step < ",
            infera_ledger::erasure_step!(done)
        )
    };
}
pub(super) use queue_again;

/// Sets the times at which the text of jobs goes that end in this transaction.
pub(super) const SCHEDULE: &str = concat!(
    "INSERT INTO erasures (job_id, account, salt, asked_ms, due_ms, reason, step)
    SELECT job_id, account, uuid_send(gen_random_uuid()), asked_ms, due_ms, reason, ",
    erasure_step!(set),
    "
    FROM unnest($1::bytea[], $2::text[], $3::bigint[], $4::bigint[], $5::smallint[])
        AS ended (job_id, account, asked_ms, due_ms, reason)",
    queue_again!()
);

/// The columns of jobs that end and whose text has a time to go.
#[derive(Default)]
pub(super) struct ScheduleColumns<'a> {
    pub(super) jobs: Vec<&'a [u8]>,
    pub(super) owners: Vec<&'a str>,
    pub(super) asked: Vec<i64>,
    pub(super) due: Vec<i64>,
    pub(super) reasons: Vec<i16>,
}

impl<'a> ScheduleColumns<'a> {
    /// Adds a job that ends, if its text has a time to go.
    pub(super) fn push(
        &mut self,
        row: &'a SettlementRow,
        (erase_after_ms, retention_days): (Option<i64>, i64),
    ) {
        let due = due(row.settled_ms, erase_after_ms, retention_days);
        let Some(Due { due_ms, reason }) = due else { return };
        self.jobs.push(row.job.as_bytes());
        self.owners.push(row.account.as_str());
        self.asked.push(millis(row.settled_ms));
        self.due.push(due_ms);
        self.reasons.push(reason);
    }
}
