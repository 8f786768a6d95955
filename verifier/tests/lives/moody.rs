//! Seams that fail as often as a test says, and remember what they were asked.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use infera_broker::{
    Address, Broker, BrokerError, Consumer, Delivery, Fleeting, Message, Published, Queue, Sent,
};
use infera_ledger::{
    Group, JobOwner, LedgerError, Miss, Notice, Posting, Settled, Sweep, SweepQuestion, Sweeping, Take,
};
use infera_types::ids::{JobId, VerifierId};
use infera_types::job::Settlement;
use infera_types::time::Timestamp;

/// A broker that refuses reads of queues that begin with a prefix while they are away, and counts what it gives out
/// of them.
#[derive(Debug)]
pub(crate) struct MoodyBroker {
    pub(crate) inner: Arc<dyn Broker>,
    pub(crate) prefix: &'static str,
    pub(crate) is_away: AtomicBool,
    pub(crate) refused: AtomicU32,
    pub(crate) given: Arc<AtomicU32>,
    /// While it is set, what came out of those queues is kept back.
    pub(crate) is_deaf: Arc<AtomicBool>,
}

impl MoodyBroker {
    pub(crate) fn new(inner: Arc<dyn Broker>, prefix: &'static str) -> Self {
        Self {
            inner,
            prefix,
            is_away: false.into(),
            refused: 0.into(),
            given: Arc::default(),
            is_deaf: Arc::default(),
        }
    }
}

impl Fleeting for MoodyBroker {
    fn publish_fleeting(&self, address: &Address, message: Message) -> Sent {
        self.inner.publish_fleeting(address, message)
    }
}

#[async_trait]
impl Broker for MoodyBroker {
    async fn declare(&self, queue: &Queue) -> Result<(), BrokerError> {
        self.inner.declare(queue).await
    }

    async fn publish(&self, address: &Address, message: Message) -> Published {
        self.inner.publish(address, message).await
    }

    async fn consume(&self, queue: &str, prefetch: u16) -> Result<Box<dyn Consumer>, BrokerError> {
        if !queue.starts_with(self.prefix) {
            return self.inner.consume(queue, prefetch).await;
        }
        if self.is_away.load(Ordering::SeqCst) {
            self.refused.fetch_add(1, Ordering::SeqCst);
            return Err(BrokerError::Unavailable("as the test wants".to_owned()));
        }
        let inner = self.inner.consume(queue, prefetch).await?;
        Ok(Box::new(Counting { inner, given: Arc::clone(&self.given), is_deaf: Arc::clone(&self.is_deaf) }))
    }

    async fn depth(&self, queue: &str) -> Result<Option<u64>, BrokerError> {
        self.inner.depth(queue).await
    }

    async fn delete(&self, queue: &str) -> Result<(), BrokerError> {
        self.inner.delete(queue).await
    }
}

struct Counting {
    inner: Box<dyn Consumer>,
    given: Arc<AtomicU32>,
    is_deaf: Arc<AtomicBool>,
}

#[async_trait]
impl Consumer for Counting {
    async fn next(&mut self) -> Option<Delivery> {
        let delivery = self.inner.next().await;
        while self.is_deaf.load(Ordering::SeqCst) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        self.given.fetch_add(u32::from(delivery.is_some()), Ordering::SeqCst);
        delivery
    }

    async fn set_prefetch(&mut self, prefetch: u16) {
        self.inner.set_prefetch(prefetch).await;
    }
}

/// A ledger's half that remembers the leases asked for, and fails to find groups as often as it is told.
#[derive(Debug)]
pub(crate) struct MoodySweeping {
    inner: Arc<dyn Sweeping>,
    pub(crate) leases: Mutex<Vec<String>>,
    failures: Mutex<VecDeque<LedgerError>>,
    pub(crate) asked: AtomicU32,
}

impl MoodySweeping {
    pub(crate) fn new(inner: Arc<dyn Sweeping>, failures: impl IntoIterator<Item = LedgerError>) -> Self {
        let failures = Mutex::new(failures.into_iter().collect());
        Self { inner, leases: Mutex::default(), failures, asked: 0.into() }
    }
}

#[async_trait]
impl Sweeping for MoodySweeping {
    async fn lease(
        &self,
        name: &str,
        holder: &VerifierId,
        now: Timestamp,
        ttl: Duration,
    ) -> Result<bool, LedgerError> {
        self.leases.lock().unwrap().push(name.to_owned());
        self.inner.lease(name, holder, now, ttl).await
    }

    async fn end_leases(&self, now: Timestamp) -> Result<(), LedgerError> {
        self.inner.end_leases(now).await
    }

    async fn sweep(&self, question: &SweepQuestion, now: Timestamp) -> Result<Sweep, LedgerError> {
        self.inner.sweep(question, now).await
    }

    async fn handed_out(&self, jobs: &[JobId], now: Timestamp) -> Result<(), LedgerError> {
        self.inner.handed_out(jobs, now).await
    }

    async fn groups(&self, jobs: &[JobId]) -> Result<Vec<Group>, LedgerError> {
        self.asked.fetch_add(1, Ordering::SeqCst);
        let failure = self.failures.lock().unwrap().pop_front();
        match failure {
            Some(failure) => Err(failure),
            None => self.inner.groups(jobs).await,
        }
    }
}

/// A ledger's half that fails to take as often as it is told, or never answers, and remembers of each take whether its
/// first notice was called redelivered.
#[derive(Debug)]
pub(crate) struct MoodyOwner {
    inner: Arc<dyn JobOwner>,
    failures: Mutex<VecDeque<LedgerError>>,
    hangs: bool,
    pub(crate) redelivered: Mutex<Vec<bool>>,
}

impl MoodyOwner {
    pub(crate) fn new(inner: Arc<dyn JobOwner>, failures: impl IntoIterator<Item = LedgerError>) -> Self {
        let failures = Mutex::new(failures.into_iter().collect());
        Self { inner, failures, hangs: false, redelivered: Mutex::default() }
    }

    pub(crate) fn hanging(inner: Arc<dyn JobOwner>) -> Self {
        Self { hangs: true, ..Self::new(inner, []) }
    }
}

#[async_trait]
impl JobOwner for MoodyOwner {
    async fn take(
        &self,
        owner: &VerifierId,
        notices: &[Notice],
        now: Timestamp,
    ) -> Result<Vec<Take>, LedgerError> {
        self.redelivered.lock().unwrap().extend(notices.first().map(|notice| notice.redelivered));
        if self.hangs {
            return std::future::pending().await;
        }
        let failure = self.failures.lock().unwrap().pop_front();
        match failure {
            Some(failure) => Err(failure),
            None => self.inner.take(owner, notices, now).await,
        }
    }

    async fn release(&self, owner: &VerifierId, jobs: &[JobId], now: Timestamp) -> Result<(), LedgerError> {
        self.inner.release(owner, jobs, now).await
    }

    async fn record_miss(&self, job: JobId, miss: &Miss) -> Result<(), LedgerError> {
        self.inner.record_miss(job, miss).await
    }

    async fn settle(&self, settlement: &Settlement) -> Result<Settled, LedgerError> {
        self.inner.settle(settlement).await
    }

    async fn post(&self, job: JobId, postings: &[Posting], closes: bool) -> Result<(), LedgerError> {
        self.inner.post(job, postings, closes).await
    }
}
