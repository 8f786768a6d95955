//! Sets how long this verifier waits before it tries again what failed.

use std::time::Duration;

use infera_types::retry::Backoff;

/// Waits while the ledger is away: long beside a statement's milliseconds, so that a ledger that comes back isn't met by a
/// flood, and short beside a job's time, since clients wait. Where nothing else bounds the tries, the tenure's lease does.
pub(crate) const LEDGER_RETRY: Backoff = Backoff::constant(Duration::from_millis(250));

/// Waits between searches for a tokenizer that isn't found: an operator who puts its folder where it belongs sees it taken up within
/// a minute, and folders that stay without it cost a look at their files a minute.
pub(crate) const SEARCH_RETRY: Backoff = Backoff::doubling(Duration::from_secs(5), Duration::from_secs(60));
