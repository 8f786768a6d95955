//! Holds a job's notice from its delivery to its ack, and counts what each consumer of jobs holds.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use infera_broker::Delivery;
use infera_types::messages::Version;
use infera_types::service::Lane;

use crate::decisions::lanes::Holding;

/// A notice that isn't acked yet.
#[derive(Debug)]
pub(crate) struct HeldNotice {
    /// The notice as it came.
    pub(crate) delivery: Delivery,
    /// Its place in the count of its consumer.
    pub(crate) counted: Counted,
    /// The newest version that the gateway reads which waits for the job's end, as the notice says.
    pub(crate) speaks: Version,
}

/// What one consumer of jobs holds.
#[derive(Debug)]
pub(crate) struct Tally {
    lane: Lane,
    held: AtomicU32,
    running: AtomicU32,
}

impl Tally {
    /// Begins with nothing held.
    pub(crate) fn new(lane: Lane) -> Self {
        Self { lane, held: AtomicU32::new(0), running: AtomicU32::new(0) }
    }

    /// Returns what is held now.
    pub(crate) fn holding(&self) -> Holding {
        let (held, running) = (self.held.load(Ordering::Relaxed), self.running.load(Ordering::Relaxed));
        Holding { held, running }
    }
}

/// One notice in its consumer's tally, until it is dropped.
#[derive(Debug)]
pub(crate) struct Counted {
    tally: Arc<Tally>,
    runs: bool,
}

impl Counted {
    /// Counts one more as held.
    pub(crate) fn held(tally: &Arc<Tally>) -> Self {
        tally.held.fetch_add(1, Ordering::Relaxed);
        Self { tally: Arc::clone(tally), runs: false }
    }

    /// Returns the lane that the notice came from.
    pub(crate) fn lane(&self) -> Lane {
        self.tally.lane
    }

    /// Counts it as running from now on.
    pub(crate) fn run(&mut self) {
        if !std::mem::replace(&mut self.runs, true) {
            self.tally.running.fetch_add(1, Ordering::Relaxed);
        }
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        if self.runs {
            self.tally.running.fetch_sub(1, Ordering::Relaxed);
        }
        self.tally.held.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_held_is_counted_until_it_is_let_go() {
        let tally = Arc::new(Tally::new(Lane::Later));
        let (mut first, second) = (Counted::held(&tally), Counted::held(&tally));
        first.run();
        first.run();
        assert_eq!((first.lane(), tally.holding()), (Lane::Later, Holding { held: 2, running: 1 }));
        drop(second);
        assert_eq!(tally.holding(), Holding { held: 1, running: 1 });
        drop(first);
        assert_eq!(tally.holding(), Holding::default());
    }
}
