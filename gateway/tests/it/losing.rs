//! A broker that fails as it is told to: it is away, or one of its queues is stuck. Behind it is a real one, which
//! the verifier's part can always reach.

use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use infera_broker::memory::MemoryBroker;
use infera_broker::{Address, Broker, BrokerError, Consumer, Fleeting, Message, Published, Queue, Sent};

/// The failing broker.
#[derive(Debug)]
pub(crate) struct Losing {
    inner: Arc<MemoryBroker>,
    /// The outcome of publishing a notice, in place of a publish.
    instead: Mutex<Option<Published>>,
    /// Whether the broker is away: it answers nothing and keeps nothing.
    away: AtomicBool,
    /// The queues that never answer.
    stuck: Mutex<HashSet<String>>,
    /// The jobs whose notice it has.
    kept: Mutex<Vec<String>>,
    /// The queue of each notice that was to be published, one entry for each try.
    tried: Mutex<Vec<String>>,
    /// The queues that were declared.
    declared: Mutex<HashSet<String>>,
    /// How many times a depth was asked for.
    looks: AtomicUsize,
}

impl Losing {
    pub(crate) fn new(inner: Arc<MemoryBroker>) -> Self {
        Self {
            inner,
            instead: Mutex::default(),
            away: AtomicBool::new(false),
            stuck: Mutex::default(),
            kept: Mutex::default(),
            tried: Mutex::default(),
            declared: Mutex::default(),
            looks: AtomicUsize::new(0),
        }
    }

    pub(crate) fn end_publishes(&self, instead: Option<Published>) {
        *self.instead.lock().expect("no panic while publishing") = instead;
    }

    pub(crate) fn set_away(&self, away: bool) {
        self.away.store(away, Ordering::Relaxed);
    }

    pub(crate) fn set_stuck(&self, queue: &str) {
        self.stuck.lock().expect("no panic").insert(queue.to_owned());
    }

    pub(crate) fn kept(&self) -> Vec<String> {
        self.kept.lock().expect("no panic while publishing").clone()
    }

    pub(crate) fn tries(&self, queue: &str) -> usize {
        self.tried.lock().expect("no panic while publishing").iter().filter(|tried| *tried == queue).count()
    }

    pub(crate) fn has_declared(&self, queue: &str) -> bool {
        self.declared.lock().expect("no panic").contains(queue)
    }

    pub(crate) fn looks(&self) -> usize {
        self.looks.load(Ordering::Relaxed)
    }

    /// Fails while the broker is away, and never answers for a queue that is stuck.
    async fn reach(&self, queue: &str) -> Result<(), BrokerError> {
        if self.away.load(Ordering::Relaxed) {
            return Err(BrokerError::Unavailable("it is away".to_owned()));
        }
        let is_stuck = self.stuck.lock().expect("no panic").contains(queue);
        if is_stuck {
            std::future::pending::<()>().await;
        }
        Ok(())
    }
}

impl Fleeting for Losing {
    fn publish_fleeting(&self, address: &Address, message: Message) -> Sent {
        self.inner.publish_fleeting(address, message)
    }
}

#[async_trait]
impl Broker for Losing {
    async fn declare(&self, queue: &Queue) -> Result<(), BrokerError> {
        self.reach(&queue.name).await?;
        self.inner.declare(queue).await?;
        self.declared.lock().expect("no panic").insert(queue.name.clone());
        Ok(())
    }

    async fn publish(&self, address: &Address, message: Message) -> Published {
        let Address::Queue(name) = address else { return self.inner.publish(address, message).await };
        if !name.starts_with("jobs.") {
            return self.inner.publish(address, message).await;
        }
        self.tried.lock().expect("no panic while publishing").push(name.clone());
        let instead = *self.instead.lock().expect("no panic while publishing");
        if let Some(outcome) = instead {
            return outcome;
        }
        if self.reach(name).await.is_err() {
            return Published::Unknown;
        }
        let id = message.id.clone();
        let published = self.inner.publish(address, message).await;
        if published == Published::Confirmed {
            self.kept.lock().expect("no panic while publishing").push(id);
        }
        published
    }

    async fn consume(&self, queue: &str, prefetch: u16) -> Result<Box<dyn Consumer>, BrokerError> {
        self.reach(queue).await?;
        self.inner.consume(queue, prefetch).await
    }

    async fn depth(&self, queue: &str) -> Result<Option<u64>, BrokerError> {
        self.looks.fetch_add(1, Ordering::Relaxed);
        self.reach(queue).await?;
        self.inner.depth(queue).await
    }

    async fn delete(&self, queue: &str) -> Result<(), BrokerError> {
        self.reach(queue).await?;
        self.inner.delete(queue).await
    }
}
