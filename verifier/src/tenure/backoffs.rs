//! Sets how long this verifier waits before it tries again what failed.

use std::time::Duration;

use infera_types::retry::Backoff;

/// Waits while the ledger is away: long beside a statement's milliseconds, so that a ledger that comes back isn't met by a
/// flood, and short beside a job's time, since clients wait. Where nothing else bounds the tries, the tenure's lease does.
pub(crate) const LEDGER_RETRY: Backoff = Backoff::constant(Duration::from_millis(250));
