//! Counts the commits of every SQLite ledger in this process, by the events that the ledger's writer traces.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use infera_bench::Fault;
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::{Context, Layer, SubscriberExt as _};

/// The target and the level of the writer's event.
const COMMITS: (&str, Level) = ("infera_ledger_sqlite::writer", Level::TRACE);

/// Commits heard of so far.
#[derive(Clone, Debug, Default)]
pub(crate) struct CommitsHeard(Arc<Totals>);

#[derive(Debug, Default)]
struct Totals {
    commits: AtomicU64,
    operations: AtomicU64,
}

/// What ledgers wrote up to one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Written {
    /// Transactions committed, each with its sync of the disk.
    pub(crate) commits: u64,
    /// Operations in them, those included whose outcome was an error of their own.
    pub(crate) operations: u64,
}

impl CommitsHeard {
    /// Listens from now on, once in a process.
    pub(crate) fn listen() -> Result<Self, Fault> {
        let heard = Self::default();
        let (target, level) = COMMITS;
        let filter = Targets::new().with_target(target, level);
        let subscriber = tracing_subscriber::registry().with(heard.clone().with_filter(filter));
        tracing::subscriber::set_global_default(subscriber)?;
        Ok(heard)
    }

    pub(crate) fn so_far(&self) -> Written {
        Written {
            commits: self.0.commits.load(Ordering::Relaxed),
            operations: self.0.operations.load(Ordering::Relaxed),
        }
    }

    /// What was written since `before`. No commit at all is a fault: the writer's event has another name then.
    pub(crate) fn since(&self, before: Written) -> Result<Written, Fault> {
        let now = self.so_far();
        if now.commits == before.commits {
            return Err(format!("no commit was heard of at {}", COMMITS.0).into());
        }
        Ok(Written { commits: now.commits - before.commits, operations: now.operations - before.operations })
    }
}

impl<S: Subscriber> Layer<S> for CommitsHeard {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let mut operations = Operations(0);
        // The same target logs failed commits at a higher level.
        if *event.metadata().level() == COMMITS.1 {
            event.record(&mut operations);
            self.0.commits.fetch_add(1, Ordering::Relaxed);
            self.0.operations.fetch_add(operations.0, Ordering::Relaxed);
        }
    }
}

/// The event's one number.
struct Operations(u64);

impl Visit for Operations {
    fn record_u64(&mut self, field: &Field, value: u64) {
        if field.name() == "operations" {
            self.0 = value;
        }
    }

    fn record_debug(&mut self, _: &Field, _: &dyn std::fmt::Debug) {}
}
