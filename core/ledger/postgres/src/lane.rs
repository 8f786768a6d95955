//! A lane carries one kind of write: callers wait in a bounded queue, and what waits shares a transaction. Under load
//! a lane rests after a transaction for as long as the transaction took, so that more items can share the next one
//! ([`Rest`]). If a row of a batch cannot be stored, the batch is halved until that row is alone, so that it harms no
//! neighbour. After any other failure the rest of the items that were taken together is not tried: their callers
//! would wait for one time-out after the other. A lane knows no table.

use std::collections::HashSet;
use std::time::Duration;

use async_trait::async_trait;
use deadpool_postgres::ClientWrapper;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, timeout, timeout_at};

use super::failure::{Effect, Failure};
use super::pool::{ANSWER_WAIT, Pool, TRIES, discard};
use infera_ledger::LedgerError;

/// How many items share a transaction at most: enough to make its commit cheap, and few enough that it ends within
/// some tens of milliseconds.
const BATCH_MAX: usize = 512;

/// How many bytes share a transaction at most, unless one item is larger: a batch is held in memory three times,
/// here, in the connection's buffer and in the server.
const BATCH_BYTES_MAX: usize = 4 * 1024 * 1024;

/// How many items are enough to share a transaction: with these, its own cost is less than that of its rows.
const COMPANY: usize = 16;

/// How long a lane rests at most: if the database is this slow, more than enough callers come in that time.
const REST_MAX: Duration = Duration::from_millis(10);

/// How many items wait at most; further ones wait for room.
const WAITING_MAX: usize = 4 * BATCH_MAX;

/// The work of a lane.
#[async_trait]
pub(super) trait Work: Send + Sync + 'static {
    /// The share of one caller.
    type Item: Send + Sync + 'static;
    /// The result for one caller.
    type Outcome: Send + 'static;

    /// Whether an item is processed even if its caller stopped waiting in the queue.
    const OUTLIVES_CALLER: bool = true;

    /// Returns the item's key; items with the same key never share a transaction.
    fn key(&self, item: &Self::Item) -> Option<[u8; 16]>;

    /// Returns the item's size, in bytes.
    fn weight(&self, item: &Self::Item) -> usize;

    /// Processes all `items` in one transaction, and returns the result of each. After an error none of them is
    /// committed, unless the error is [`LedgerError::Unknown`]; the lane rolls back a transaction that was left open.
    async fn commit(
        &self,
        client: &ClientWrapper,
        items: &[&Self::Item],
    ) -> Result<Vec<Result<Self::Outcome, LedgerError>>, Failure>;
}

type Outcome<W> = Result<<W as Work>::Outcome, LedgerError>;

struct Waiting<W: Work> {
    item: W::Item,
    reply: oneshot::Sender<Outcome<W>>,
}

/// The sending side of a lane. Dropping it lets the lane's task commit what waits and then end.
pub(super) struct Lane<W: Work> {
    sender: mpsc::Sender<Waiting<W>>,
}

impl<W: Work> Lane<W> {
    /// Starts the lane's task, which owns `pool`.
    pub(super) fn start(work: W, pool: Pool) -> Self {
        let (sender, receiver) = mpsc::channel(WAITING_MAX);
        tokio::spawn(serve(work, pool, receiver));
        Self { sender }
    }

    /// Processes an item, and returns when its transaction is committed. If the caller stops waiting, the item is
    /// processed nevertheless, unless [`Work::OUTLIVES_CALLER`] says otherwise and its transaction has not begun.
    pub(super) async fn run(&self, item: W::Item) -> Outcome<W> {
        let (reply, answer) = oneshot::channel();
        self.sender.send_timeout(Waiting { item, reply }, ANSWER_WAIT).await.map_err(|error| {
            LedgerError::Unavailable(match error {
                mpsc::error::SendTimeoutError::Timeout(_) => {
                    format!("{WAITING_MAX} writes are waiting already")
                }
                mpsc::error::SendTimeoutError::Closed(_) => "the ledger's lane has stopped".to_owned(),
            })
        })?;
        let stopped = || LedgerError::Unknown("the ledger's lane stopped before it answered".to_owned());
        answer.await.unwrap_or_else(|_| Err(stopped()))
    }
}

/// The rest after a transaction: until when the next transaction waits for more items, and how many are enough. If
/// its first item comes later than that, it does not wait; nor does the transaction after one of a single item.
#[derive(Clone, Copy, Debug)]
struct Rest {
    until: Instant,
    enough: usize,
}

impl Rest {
    /// Returns no rest, as before the first transaction.
    fn none() -> Self {
        Self { until: Instant::now(), enough: 0 }
    }

    /// Returns the rest after a transaction of this many items. Callers that ask again as soon as they are answered
    /// come back in that number. If they are few, the lane waits until the rest is over, because most of their cost
    /// is the transaction's own.
    fn after(items: usize, (begun, ended): (Instant, Instant)) -> Self {
        let took = ended.saturating_duration_since(begun);
        let enough = if items > 1 { items.clamp(COMPANY, BATCH_MAX) } else { 0 };
        Self { until: ended + took.min(REST_MAX), enough }
    }
}

async fn serve<W: Work>(work: W, pool: Pool, mut receiver: mpsc::Receiver<Waiting<W>>) {
    let mut batch = Vec::with_capacity(BATCH_MAX);
    let mut rest = Rest::none();
    while receiver.recv_many(&mut batch, BATCH_MAX).await > 0 {
        while batch.len() < rest.enough {
            let room = BATCH_MAX - batch.len();
            let more = receiver.recv_many(&mut batch, room);
            // The rest is over, or all senders are dropped.
            if !matches!(timeout_at(rest.until, more).await, Ok(1..)) {
                break;
            }
        }
        batch.retain(|waiting| W::OUTLIVES_CALLER || !waiting.reply.is_closed());
        if batch.is_empty() {
            continue;
        }
        let begun = Instant::now();
        let items: Vec<&W::Item> = batch.iter().map(|waiting| &waiting.item).collect();
        let outcomes = commit_all(&work, &pool, &items).await;
        rest = Rest::after(items.len(), (begun, Instant::now()));
        for (waiting, outcome) in batch.drain(..).zip(outcomes) {
            // The caller may have stopped waiting; what was committed stays.
            let _ = waiting.reply.send(outcome);
        }
    }
}

/// Commits all items in as many transactions as needed, until one fails.
async fn commit_all<W: Work>(work: &W, pool: &Pool, items: &[&W::Item]) -> Vec<Outcome<W>> {
    let mut outcomes = Vec::with_capacity(items.len());
    let mut rest = items;
    while !rest.is_empty() {
        let (next, later) = rest.split_at(fitting(work, rest));
        let failure = isolate(work, pool, next, &mut outcomes).await;
        if let Some(failure) = failure {
            tracing::error!(%failure, untried = later.len(), "a ledger commit failed");
            outcomes.extend(later.iter().map(|_| Err(untried(&failure))));
            break;
        }
        rest = later;
    }
    outcomes
}

/// Returns the error for the items whose turn did not come after this failure: they are certainly not committed.
fn untried(failure: &LedgerError) -> LedgerError {
    match failure {
        LedgerError::Unknown(text) => LedgerError::Unavailable(text.clone()),
        failure => failure.copy(),
    }
}

/// Returns how many of the items, from the first on, fit into one transaction: at least one.
fn fitting<W: Work>(work: &W, items: &[&W::Item]) -> usize {
    let mut keys = HashSet::new();
    let mut bytes = 0;
    let fits = |(index, item): &(usize, &&W::Item)| {
        bytes += work.weight(item);
        let is_light = *index == 0 || bytes <= BATCH_BYTES_MAX;
        is_light && work.key(item).is_none_or(|key| keys.insert(key))
    };
    items.iter().enumerate().take_while(fits).count()
}

/// Commits all items together, or in halves if a row among them is refused. Returns the failure that ended it, if it
/// was another one.
async fn isolate<W: Work>(
    work: &W,
    pool: &Pool,
    items: &[&W::Item],
    outcomes: &mut Vec<Outcome<W>>,
) -> Option<LedgerError> {
    let mut parts = vec![items];
    while let Some(part) = parts.pop() {
        match attempt(work, pool, part).await {
            Ok(mut done) => outcomes.append(&mut done),
            Err(LedgerError::Row(_)) if part.len() > 1 => {
                let (first, second) = part.split_at(part.len() / 2);
                parts.push(second);
                parts.push(first);
            }
            Err(row @ LedgerError::Row(_)) => outcomes.extend(part.iter().map(|_| Err(row.copy()))),
            Err(failure) => {
                outcomes.extend(part.iter().map(|_| Err(failure.copy())));
                let later = parts.iter().map(|part| part.len()).sum();
                outcomes.extend(std::iter::repeat_with(|| Err(untried(&failure))).take(later));
                return Some(failure);
            }
        }
    }
    None
}

async fn attempt<W: Work>(work: &W, pool: &Pool, items: &[&W::Item]) -> Result<Vec<Outcome<W>>, LedgerError> {
    let done = tries(work, pool, items).await;
    match &done {
        Ok(_) => pool.last_commit().succeeded(),
        Err(error) => pool.last_commit().failed(error),
    }
    done
}

async fn tries<W: Work>(work: &W, pool: &Pool, items: &[&W::Item]) -> Result<Vec<Outcome<W>>, LedgerError> {
    let mut tried = 1;
    loop {
        match once(work, pool, items).await {
            Ok(outcomes) => return Ok(outcomes),
            Err(failure) if failure.is_transient && tried < TRIES => tried += 1,
            Err(failure) => return Err(failure.error),
        }
    }
}

async fn once<W: Work>(work: &W, pool: &Pool, items: &[&W::Item]) -> Result<Vec<Outcome<W>>, Failure> {
    let connection = pool.lend().await?;
    let Ok(done) = timeout(ANSWER_WAIT, work.commit(&connection, items)).await else {
        discard(connection);
        return Err(Effect::Commits.silence());
    };
    if done.is_err() {
        let rollback = timeout(ANSWER_WAIT, connection.batch_execute("ROLLBACK")).await;
        if !matches!(rollback, Ok(Ok(()))) {
            discard(connection);
        }
    }
    done
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::transport::Transport;

    struct Sized;

    #[async_trait]
    impl Work for Sized {
        type Item = (u8, usize);
        type Outcome = ();

        fn key(&self, (key, _): &Self::Item) -> Option<[u8; 16]> {
            (*key > 0).then_some([*key; 16])
        }

        fn weight(&self, (_, weight): &Self::Item) -> usize {
            *weight
        }

        async fn commit(
            &self,
            _client: &ClientWrapper,
            items: &[&Self::Item],
        ) -> Result<Vec<Result<(), LedgerError>>, Failure> {
            Ok(items.iter().map(|_| Ok(())).collect())
        }
    }

    /// The server accepts connections and never answers. The test controls time, so the waits take none.
    #[tokio::test(start_paused = true)]
    async fn a_database_that_answers_nobody_is_waited_for_once_a_batch() {
        let deaf = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
        let url = format!("postgres://u:p@{}/d", deaf.local_addr().expect("an address"));
        let transport = Transport::new(url.parse().expect("a URL"), None).expect("plain");
        let pool = Pool::open(transport, 1, Arc::default()).expect("a pool");
        // All items have the same key, so none shares a transaction with another.
        let items = vec![(1, 1); 64];
        let items: Vec<&(u8, usize)> = items.iter().collect();
        let begun = Instant::now();
        let outcomes = commit_all(&Sized, &pool, &items).await;
        assert_eq!(outcomes.len(), items.len());
        assert!(outcomes.iter().all(|outcome| matches!(outcome, Err(LedgerError::Unavailable(_)))));
        assert!(begun.elapsed() < ANSWER_WAIT, "{:?}", begun.elapsed());
    }

    #[test]
    fn a_rest_is_as_long_as_the_transaction_that_several_shared() {
        let begun = Instant::now();
        for (items, took_ms, rests_ms, enough) in
            [(1, 2, 2, 0), (2, 2, 2, COMPANY), (64, 5, 5, 64), (BATCH_MAX + 1, 300, 10, BATCH_MAX)]
        {
            let ended = begun + Duration::from_millis(took_ms);
            let rest = Rest::after(items, (begun, ended));
            assert_eq!((rest.until - ended, rest.enough), (Duration::from_millis(rests_ms), enough));
        }
    }

    #[test]
    fn a_batch_ends_before_a_key_comes_twice_and_before_it_is_too_large() {
        for (items, expected) in [
            (vec![(1, 1), (2, 1), (3, 1)], 3),
            (vec![(1, 1), (2, 1), (1, 1), (3, 1)], 2),
            (vec![(1, BATCH_BYTES_MAX + 1), (2, 1)], 1),
            (vec![(1, BATCH_BYTES_MAX), (2, 1)], 1),
            (vec![(1, 1), (2, BATCH_BYTES_MAX)], 1),
            (vec![(0, 1), (0, 1)], 2),
            (vec![(0, 1), (0, BATCH_BYTES_MAX)], 1),
        ] {
            let items: Vec<_> = items.iter().collect();
            assert_eq!(fitting(&Sized, &items), expected, "{items:?}");
        }
    }
}
