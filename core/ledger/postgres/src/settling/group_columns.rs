//! The groups of a batch of ends, in the form of columns.

use super::super::values::millis;
use infera_ledger::stored::GroupRow;

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
