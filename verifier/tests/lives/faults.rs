//! Faults as wrappers around the seams: a call that never comes back, at a place that the test chooses, until the
//! verifier is killed there.

use std::collections::BTreeSet;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use infera_archive::{Archive, ArchiveError, ArchiveReader};
use infera_broker::connections::{Connection, Connections, ConnectionsError};
use infera_broker::{
    Address, Broker, BrokerError, Consumer, Fleeting, Message, Published, Queue, Sent, topology,
};
use infera_ledger::{
    Group, JobOwner, LedgerError, Miss, Notice, Posting, Settled, Sweep, SweepQuestion, Sweeping, Take,
};
use infera_types::ids::{JobId, VerifierId};
use infera_types::job::{End, Settlement};
use infera_types::time::Timestamp;
use tokio::sync::Notify;

use super::network::PATIENCE;

/// A place where whoever comes by stops until it is opened.
#[derive(Debug, Default)]
pub(crate) struct Gate {
    is_open: AtomicBool,
    reached: Notify,
    opened: Notify,
}

impl Gate {
    async fn stop(&self) {
        let opened = self.opened.notified();
        if !self.is_open.load(Ordering::SeqCst) {
            self.reached.notify_one();
            opened.await;
        }
    }

    /// Waits until someone stands there.
    pub(crate) async fn reached(&self) {
        tokio::time::timeout(PATIENCE, self.reached.notified()).await.unwrap();
    }

    /// Lets everybody through.
    pub(crate) fn open(&self) {
        self.is_open.store(true, Ordering::SeqCst);
        self.opened.notify_waiters();
    }
}

/// A broker that stops publishes to queues that begin with a prefix.
#[derive(Debug)]
pub(crate) struct StopBroker {
    pub(crate) inner: Arc<dyn Broker>,
    pub(crate) prefix: &'static str,
    /// Whether the message still gets through before the stop.
    pub(crate) passes: bool,
    pub(crate) gate: Arc<Gate>,
}

impl Fleeting for StopBroker {
    fn publish_fleeting(&self, address: &Address, message: Message) -> Sent {
        self.inner.publish_fleeting(address, message)
    }
}

#[async_trait]
impl Broker for StopBroker {
    async fn declare(&self, queue: &Queue) -> Result<(), BrokerError> {
        self.inner.declare(queue).await
    }

    async fn publish(&self, address: &Address, message: Message) -> Published {
        let stops = matches!(address, Address::Queue(name) if name.starts_with(self.prefix));
        if stops && !self.passes {
            self.gate.stop().await;
        }
        let published = self.inner.publish(address, message).await;
        if stops {
            self.gate.stop().await;
        }
        published
    }

    async fn consume(&self, queue: &str, prefetch: u16) -> Result<Box<dyn Consumer>, BrokerError> {
        self.inner.consume(queue, prefetch).await
    }

    async fn depth(&self, queue: &str) -> Result<Option<u64>, BrokerError> {
        self.inner.depth(queue).await
    }

    async fn delete(&self, queue: &str) -> Result<(), BrokerError> {
        self.inner.delete(queue).await
    }
}

/// A broker whose queues of jobs take nothing and tell nothing until they are declared again, as RabbitMQ's do when they
/// have lost their leader.
#[derive(Debug)]
pub(crate) struct StuckBroker {
    pub(crate) inner: Arc<dyn Broker>,
    pub(crate) is_stuck: AtomicBool,
    /// Whether it shows in every call about the queue, or in publishes alone.
    pub(crate) is_silent: bool,
    /// How many publishes it refused.
    pub(crate) refused: AtomicU32,
}

impl StuckBroker {
    fn sticks(&self, queue: &str) -> bool {
        queue.starts_with("jobs.")
            && queue != topology::dead_jobs().name
            && self.is_stuck.load(Ordering::SeqCst)
    }

    fn silent(&self, queue: &str) -> Result<(), BrokerError> {
        if self.is_silent && self.sticks(queue) { Err(BrokerError::Stuck(queue.to_owned())) } else { Ok(()) }
    }
}

impl Fleeting for StuckBroker {
    fn publish_fleeting(&self, address: &Address, message: Message) -> Sent {
        self.inner.publish_fleeting(address, message)
    }
}

#[async_trait]
impl Broker for StuckBroker {
    async fn declare(&self, queue: &Queue) -> Result<(), BrokerError> {
        self.silent(&queue.name)?;
        self.inner.declare(queue).await
    }

    async fn publish(&self, address: &Address, message: Message) -> Published {
        match address {
            Address::Queue(name) if self.sticks(name) => {
                self.refused.fetch_add(1, Ordering::SeqCst);
                Published::Refused
            }
            _ => self.inner.publish(address, message).await,
        }
    }

    async fn consume(&self, queue: &str, prefetch: u16) -> Result<Box<dyn Consumer>, BrokerError> {
        self.silent(queue)?;
        self.inner.consume(queue, prefetch).await
    }

    async fn depth(&self, queue: &str) -> Result<Option<u64>, BrokerError> {
        self.silent(queue)?;
        // A leader that isn't there counts nothing.
        if self.sticks(queue) { Ok(Some(0)) } else { self.inner.depth(queue).await }
    }

    async fn delete(&self, queue: &str) -> Result<(), BrokerError> {
        self.inner.delete(queue).await?;
        self.is_stuck.store(false, Ordering::SeqCst);
        Ok(())
    }
}

/// Where [`StopOwner`] stops.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stop {
    /// The settlement is committed, and no message has told of it.
    AfterSettle,
    /// The end is decided, and nothing is committed.
    BeforeSettle,
    /// The group is known whole, and nothing is posted.
    BeforePost,
    /// No stop: the task that settles a success panics.
    PanicOnSuccess,
    /// No stop: no end of this job can be stored.
    Refuse(JobId),
}

/// A ledger's half that stops at one call.
#[derive(Debug)]
pub(crate) struct StopOwner {
    pub(crate) inner: Arc<dyn JobOwner>,
    pub(crate) stop: Stop,
    pub(crate) gate: Arc<Gate>,
}

#[async_trait]
impl JobOwner for StopOwner {
    async fn take(
        &self,
        owner: &VerifierId,
        notices: &[Notice],
        now: Timestamp,
    ) -> Result<Vec<Take>, LedgerError> {
        self.inner.take(owner, notices, now).await
    }

    async fn release(&self, owner: &VerifierId, jobs: &[JobId], now: Timestamp) -> Result<(), LedgerError> {
        self.inner.release(owner, jobs, now).await
    }

    async fn record_miss(&self, job: JobId, miss: &Miss) -> Result<(), LedgerError> {
        self.inner.record_miss(job, miss).await
    }

    async fn settle(&self, settlement: &Settlement) -> Result<Settled, LedgerError> {
        if self.stop == Stop::BeforeSettle {
            self.gate.stop().await;
        }
        if self.stop == Stop::Refuse(settlement.job_id) {
            return Err(LedgerError::Row("as the test wants".to_owned()));
        }
        let succeeds = matches!(settlement.end, End::Succeeded { .. });
        assert!(self.stop != Stop::PanicOnSuccess || !succeeds, "as the test wants");
        let settled = self.inner.settle(settlement).await;
        if self.stop == Stop::AfterSettle {
            self.gate.stop().await;
        }
        settled
    }

    async fn post(&self, job: JobId, postings: &[Posting], closes: bool) -> Result<(), LedgerError> {
        if self.stop == Stop::BeforePost {
            self.gate.stop().await;
        }
        self.inner.post(job, postings, closes).await
    }
}

/// A ledger's half that fails every lease while it is deaf, and breaks whoever sweeps first once it is to.
#[derive(Debug)]
pub(crate) struct DeafSweeping {
    pub(crate) inner: Arc<dyn Sweeping>,
    pub(crate) is_deaf: Arc<AtomicBool>,
    pub(crate) breaks_once: Arc<AtomicBool>,
}

impl DeafSweeping {
    /// Neither deaf nor about to break.
    pub(crate) fn new(inner: Arc<dyn Sweeping>) -> Self {
        Self { inner, is_deaf: Arc::default(), breaks_once: Arc::default() }
    }
}

#[async_trait]
impl Sweeping for DeafSweeping {
    async fn lease(
        &self,
        name: &str,
        holder: &VerifierId,
        now: Timestamp,
        ttl: Duration,
    ) -> Result<bool, LedgerError> {
        if self.is_deaf.load(Ordering::SeqCst) {
            return Err(LedgerError::Unavailable("as the test wants".to_owned()));
        }
        self.inner.lease(name, holder, now, ttl).await
    }

    async fn end_leases(&self, now: Timestamp) -> Result<(), LedgerError> {
        self.inner.end_leases(now).await
    }

    async fn sweep(&self, question: &SweepQuestion, now: Timestamp) -> Result<Sweep, LedgerError> {
        assert!(!self.breaks_once.swap(false, Ordering::SeqCst), "as the test wants");
        self.inner.sweep(question, now).await
    }

    async fn handed_out(&self, jobs: &[JobId], now: Timestamp) -> Result<(), LedgerError> {
        self.inner.handed_out(jobs, now).await
    }

    async fn groups(&self, jobs: &[JobId]) -> Result<Vec<Group>, LedgerError> {
        self.inner.groups(jobs).await
    }
}

/// A ledger's half that remembers the name of every lease that was asked for.
#[derive(Debug)]
pub(crate) struct NotingSweeping {
    inner: Arc<dyn Sweeping>,
    names: Mutex<BTreeSet<String>>,
}

impl NotingSweeping {
    pub(crate) fn new(inner: Arc<dyn Sweeping>) -> Self {
        Self { inner, names: Mutex::default() }
    }

    /// The names of all leases that were asked for.
    pub(crate) fn names(&self) -> BTreeSet<String> {
        self.names.lock().unwrap().clone()
    }
}

#[async_trait]
impl Sweeping for NotingSweeping {
    async fn lease(
        &self,
        name: &str,
        holder: &VerifierId,
        now: Timestamp,
        ttl: Duration,
    ) -> Result<bool, LedgerError> {
        let held = self.inner.lease(name, holder, now, ttl).await;
        self.names.lock().unwrap().insert(name.to_owned());
        held
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
        self.inner.groups(jobs).await
    }
}

/// The book of connections of a broker in this process, which has none.
#[derive(Debug)]
pub(crate) struct NoConnections;

#[async_trait]
impl Connections for NoConnections {
    async fn list(&self) -> Result<Vec<Connection>, ConnectionsError> {
        Ok(Vec::new())
    }

    async fn close(&self, _name: &str, _reason: &str) -> Result<(), ConnectionsError> {
        Ok(())
    }
}

/// An archive whose first puts fail.
#[derive(Debug)]
pub(crate) struct FailingArchive {
    inner: Arc<dyn Archive>,
    failures: AtomicU32,
    keys: Mutex<Vec<String>>,
}

impl FailingArchive {
    pub(crate) fn new(inner: Arc<dyn Archive>, failures: u32) -> Self {
        Self { inner, failures: AtomicU32::new(failures), keys: Mutex::default() }
    }

    /// What was put, failed or not.
    pub(crate) fn keys(&self) -> Vec<String> {
        self.keys.lock().unwrap().clone()
    }
}

#[async_trait]
impl ArchiveReader for FailingArchive {
    async fn get(&self, key: &str, range: Range<u64>) -> Result<Bytes, ArchiveError> {
        self.inner.get(key, range).await
    }

    async fn size(&self, key: &str) -> Result<Option<u64>, ArchiveError> {
        self.inner.size(key).await
    }
}

#[async_trait]
impl Archive for FailingArchive {
    async fn put(&self, key: &str, bytes: Bytes) -> Result<(), ArchiveError> {
        self.keys.lock().unwrap().push(key.to_owned());
        let left = self.failures.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1));
        if left.is_ok() {
            return Err(ArchiveError::Unavailable("as the test wants".to_owned()));
        }
        self.inner.put(key, bytes).await
    }

    async fn remove(&self, key: &str) -> Result<(), ArchiveError> {
        self.inner.remove(key).await
    }
}
