//! Says in which form rows are written: packed once no verifier is alive that reads only the form of before. Verifiers say
//! with their leases what they read; those of before say nothing, which is the first.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use infera_ledger::stored::{EndForms, Form};

/// What this program reads, as leases say it: groups and postings in both forms.
pub(super) const READS: i16 = 2;

/// Finds whether a verifier is alive at `$1` that reads less than `$3`. A lease that was taken later than `$2` is none.
pub(super) const READS_PLAIN_ALONE: &str = "SELECT EXISTS (
    SELECT 1 FROM leases WHERE name = holder AND until_ms > $1 AND taken_ms <= $2 AND reads < $3)::int::smallint";

/// Whether rows are packed: what was found when this process renewed its verifier's lease last. A process without a verifier
/// writes the form of before.
#[derive(Clone, Debug, Default)]
pub(super) struct Packing(Arc<AtomicBool>);

impl Packing {
    /// Records whether all verifiers that are alive read packed rows.
    pub(super) fn set(&self, is_read_by_all: bool) {
        self.0.store(is_read_by_all, Ordering::Relaxed);
    }

    /// Returns the form of groups and postings.
    pub(super) fn form(&self) -> Form {
        if self.0.load(Ordering::Relaxed) { Form::Packed } else { Form::Plain }
    }

    /// Returns the forms of a settlement and its group. Gateways read settlements, and hold no lease that would tell of one
    /// of before, so settlements stay plain in this version.
    pub(super) fn end_forms(&self) -> EndForms {
        EndForms { settlement: Form::Plain, group: self.form() }
    }
}
