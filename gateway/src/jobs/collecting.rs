//! The clients that wait for ends of their account's jobs, whichever jobs those are. The ledger is asked about all of
//! them at once, twice a second, because ends come to other gateways too.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use infera_ledger::{EndsCursor, EndsReady, JobLists, LedgerError};
use infera_types::shutdown::Shutdown;
use tokio::sync::oneshot;

/// How often the ledger is asked. Collecting is not chatting: half a second is not felt, and costs one statement.
const POLL_EVERY: Duration = Duration::from_millis(500);

/// The largest number of cursors in one statement.
const BATCH_MAX: usize = 256;

/// The waiting clients.
#[derive(Debug)]
pub(crate) struct Collectors {
    lists: Arc<dyn JobLists>,
    max: usize,
    waiting: Mutex<Waiting>,
}

#[derive(Debug, Default)]
struct Waiting {
    next: u64,
    clients: BTreeMap<u64, Client>,
}

#[derive(Debug)]
struct Client {
    wish: Wish,
    bell: oneshot::Sender<EndsReady>,
}

/// What a client waits for.
#[derive(Clone, Debug)]
pub(crate) struct Wish {
    /// Where it has read to.
    pub(crate) cursor: EndsCursor,
    /// How many ends it waits for, unless no further one can come.
    pub(crate) ends_min: u32,
}

impl Wish {
    /// Returns whether there is no reason to wait. An account without live jobs gets no more ends, so what there is is
    /// enough; while there is nothing at all, a client waits for the next job's end.
    fn is_met(&self, ready: &EndsReady) -> bool {
        ready.ends >= self.ends_min || (ready.ends > 0 && ready.live == 0)
    }
}

/// One client's place. Dropping it gives the place up.
struct Place<'a> {
    collectors: &'a Collectors,
    number: u64,
}

impl Collectors {
    /// Makes room for `max` waiting clients.
    pub(crate) fn new(lists: Arc<dyn JobLists>, max: usize) -> Self {
        Self { lists, max, waiting: Mutex::default() }
    }

    /// Returns what can be read behind a cursor, once the wish is met, or after `patience`, or when `answer_now` is
    /// signalled. With as many waiting clients as there is room for, it returns at once.
    ///
    /// # Errors
    /// [`LedgerError`].
    pub(crate) async fn wait(
        &self,
        wish: Wish,
        patience: Duration,
        answer_now: &Shutdown,
    ) -> Result<EndsReady, LedgerError> {
        let cursor = wish.cursor.clone();
        let ready = self.look(std::slice::from_ref(&cursor)).await?;
        if patience.is_zero() || wish.is_met(&ready) {
            return Ok(ready);
        }
        let (bell, rung) = oneshot::channel();
        let Some(_place) = self.enter(Client { wish, bell }) else { return Ok(ready) };
        tokio::select! {
            ready = rung => if let Ok(ready) = ready { return Ok(ready) },
            () = tokio::time::sleep(patience) => {}
            () = answer_now.cancelled() => {}
        }
        self.look(&[cursor]).await
    }

    async fn look(&self, cursors: &[EndsCursor]) -> Result<EndsReady, LedgerError> {
        Ok(self.lists.ends_ready(cursors).await?.first().copied().unwrap_or_default())
    }

    fn enter(&self, client: Client) -> Option<Place<'_>> {
        let mut waiting = self.lock();
        if waiting.clients.len() >= self.max {
            return None;
        }
        let number = waiting.next;
        waiting.next += 1;
        waiting.clients.insert(number, client);
        Some(Place { collectors: self, number })
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Polls until `stop`.
    pub(crate) async fn run(&self, stop: &Shutdown) {
        let mut ticks = tokio::time::interval(POLL_EVERY);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                _ = ticks.tick() => {}
            }
            if let Err(error) = self.poll().await {
                tracing::warn!(%error, "the ledger could not be asked for ends; trying again");
            }
        }
    }

    /// Asks the ledger once about all clients.
    async fn poll(&self) -> Result<(), LedgerError> {
        let asked: Vec<(u64, EndsCursor)> = {
            let waiting = self.lock();
            waiting.clients.iter().map(|(number, client)| (*number, client.wish.cursor.clone())).collect()
        };
        for batch in asked.chunks(BATCH_MAX) {
            let cursors: Vec<EndsCursor> = batch.iter().map(|(_, cursor)| cursor.clone()).collect();
            let found = self.lists.ends_ready(&cursors).await?;
            for ((number, _), ready) in batch.iter().zip(found) {
                self.tell(*number, ready);
            }
        }
        Ok(())
    }

    fn tell(&self, number: u64, ready: EndsReady) {
        let mut waiting = self.lock();
        if waiting.clients.get(&number).is_some_and(|client| client.wish.is_met(&ready))
            && let Some(client) = waiting.clients.remove(&number)
        {
            // The client may have gone in this very moment.
            let _ = client.bell.send(ready);
        }
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.collectors.lock().clients.remove(&self.number);
    }
}

#[cfg(test)]
mod tests {
    use infera_types::ids::AccountId;

    use super::*;

    #[test]
    fn a_client_waits_for_as_many_as_it_wants_or_as_can_come() {
        let wish = Wish { cursor: EndsCursor { account: AccountId::new("a"), after: 0 }, ends_min: 10 };
        for (ends, live, is_met) in
            [(0, 5, false), (9, 1, false), (10, 5, true), (9, 0, true), (1, 0, true), (0, 0, false)]
        {
            assert_eq!(wish.is_met(&EndsReady { ends, live, latest: 0 }), is_met, "{ends} {live}");
        }
    }
}
