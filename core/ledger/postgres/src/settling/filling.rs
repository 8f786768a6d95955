//! Fills the places that were kept for the groups of jobs that ended while a verifier had them.

use std::collections::HashMap;

use deadpool_postgres::ClientWrapper;

use super::reading::with_group;
use super::statements::{FILL_GROUPS, READ};
use crate::failure::Failure;
use crate::pool::{execute_over, prepared};
use crate::values::{job_id, millis, ordered};
use infera_ledger::stored::{GroupRow, SettlementRow};
use infera_types::ids::JobId;
use infera_types::job::Settlement;

/// Reads the earlier ends of jobs, with the groups that are in their places by then.
pub(super) async fn fill_and_read(
    client: &ClientWrapper,
    rows: &[&SettlementRow],
    ended: &[JobId],
) -> Result<HashMap<JobId, Settlement>, Failure> {
    let [fill, read] = prepared(client, [FILL_GROUPS, READ]).await?;
    let ids = ordered(ended);
    let mut groups = GroupColumns::default();
    for row in rows.iter().filter(|row| ended.contains(&row.job)) {
        if let Some(group) = &row.group {
            groups.push(row.job.as_bytes(), group);
        }
    }
    let GroupColumns { jobs, verifiers, deadlines, records, hashes } = &groups;
    let (filled, found) = tokio::join!(
        biased;
        async { execute_over(client, jobs.len(), &fill, &[jobs, verifiers, deadlines, records, hashes]).await },
        async { client.query(&read, &[&ids]).await },
    );
    filled?;
    let mut known = HashMap::new();
    for row in &found? {
        known.insert(job_id(row, 0)?, with_group(row)?);
    }
    Ok(known)
}

/// The columns of groups.
#[derive(Default)]
pub(super) struct GroupColumns<'a> {
    pub(super) jobs: Vec<&'a [u8]>,
    pub(super) verifiers: Vec<&'a str>,
    pub(super) deadlines: Vec<i64>,
    pub(super) records: Vec<&'a [u8]>,
    pub(super) hashes: Vec<&'a [u8]>,
}

impl<'a> GroupColumns<'a> {
    pub(super) fn push(&mut self, job: &'a [u8], group: &'a GroupRow) {
        self.jobs.push(job);
        self.verifiers.push(&group.verifier);
        self.deadlines.push(millis(group.deadline_ms));
        self.records.push(&group.record);
        self.hashes.push(group.hash.as_bytes());
    }
}
