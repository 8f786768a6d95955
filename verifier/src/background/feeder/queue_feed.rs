//! Feeds one queue: reads what is held for it, in pages, and offers it in fair order.

use std::time::Duration;

use infera_ledger::{Feeding, HeldQuestion, LedgerError};
use infera_types::ids::{JobId, ModelName};
use infera_types::service::Lane;
use infera_types::time::Timestamp;
use tokio::time::Instant;

use crate::decisions::fair_share::FairShare;

/// The most jobs of one flow in one reading. A lone flow's are read again as often as it takes.
const JOBS_MAX: u32 = 32;

/// The most flows in one page: some milliseconds of reading.
const FLOWS_MAX: u32 = 500;

/// The most pages in one reading. Where more flows than these hold something, the next reading begins behind the last, so
/// that each has its readings.
const PAGES_MAX: usize = 4;

/// How long a reading is good for at least. A flow that comes meanwhile waits for the next.
const FRESH: Duration = Duration::from_millis(25);

/// How many times as long as a reading took it is good for: of the time, a twentieth goes into reading at most.
const READING_SHARE: u32 = 20;

/// Bounds the readings for one look. A look that offers less is followed by another.
const READINGS_MAX: usize = 16;

/// The order of one queue's held jobs.
pub(super) struct QueueFeed {
    question: HeldQuestion,
    order: FairShare,
    /// Until when what was read last is good.
    fresh_until: Option<Instant>,
    fed: Instant,
}

impl QueueFeed {
    /// Begins with nothing read.
    pub(super) fn new(model: ModelName, lane: Lane) -> Self {
        Self {
            question: HeldQuestion { model, lane, after: None, flows_max: FLOWS_MAX, jobs_max: JOBS_MAX },
            order: FairShare::of_lists(JOBS_MAX as usize),
            fresh_until: None,
            fed: Instant::now(),
        }
    }

    /// Returns when the queue was fed last.
    pub(super) const fn fed(&self) -> Instant {
        self.fed
    }

    /// Offers at most `room` jobs, in fair order, and hands those to `take` that were still held. Nothing is remembered of a
    /// failure: the next reading shows what was offered and what was not.
    pub(super) async fn offer(
        &mut self,
        feeding: &dyn Feeding,
        room: usize,
        mut take: impl FnMut(Vec<JobId>),
    ) -> Result<(), LedgerError> {
        self.fed = Instant::now();
        let (mut left, mut readings) = (room, 0);
        while left > 0 {
            let mut turns = Vec::new();
            if self.fresh_until.is_some_and(|until| Instant::now() < until) {
                turns = self.order.next(left);
            }
            if turns.is_empty() {
                // Nothing was read lately, or all of it was offered.
                if readings >= READINGS_MAX {
                    return Ok(());
                }
                readings += 1;
                self.read(feeding).await?;
                turns = self.order.next(left);
            }
            if turns.is_empty() {
                return Ok(());
            }
            let offering = feeding.offer(&turns, Timestamp::now()).await;
            if offering.is_err() {
                self.fresh_until = None;
            }
            let offered = offering?;
            left = left.saturating_sub(offered.len());
            take(offered);
        }
        Ok(())
    }

    /// Reads what is held, from where the last reading ended.
    async fn read(&mut self, feeding: &dyn Feeding) -> Result<(), LedgerError> {
        let began = Instant::now();
        self.fresh_until = None;
        let mut flows = Vec::new();
        for _ in 0..PAGES_MAX {
            let page = feeding.held(&self.question, Timestamp::now()).await?;
            let is_last = page.len() < FLOWS_MAX as usize;
            self.question.after = page.last().filter(|_| !is_last).map(|flow| flow.key.clone());
            flows.extend(page);
            if is_last {
                break;
            }
        }
        self.order.refresh(flows, began);
        let read = Instant::now();
        self.fresh_until = Some(read + FRESH.max(read.duration_since(began) * READING_SHARE));
        Ok(())
    }
}
