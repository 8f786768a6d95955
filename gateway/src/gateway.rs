//! Assembles a gateway from its settings and seams, and runs it until it is told to stop.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use infera_ledger::{KeyBook, NodeBook, NodeGroupBook};
use infera_telemetry::readiness::{Readiness, Watched};
use infera_types::ids::{GatewayId, ModelName};
use infera_types::shutdown::Shutdown;
use tokio_util::task::TaskTracker;

use crate::access::{Admission, KeyCache, Limits};
use crate::config::Config;
use crate::http::{self, Listener};
use crate::jobs::{Canceller, Collectors, Completions, Jobs, Streams, Terms, Waiters};
use crate::mail::{Mail, Sender};
use crate::memory::MemoryBudget;
use crate::metrics::{ConnectionMetrics, JobMetrics, OutboxMetrics, RequestMetrics};
use crate::network::{Capacity, Catalogue, Refresher};
use crate::outbox::{Outbox, Publisher, outbox};
use crate::readiness::{Parts, Probe};
use crate::routes::{Conversations, Documents, Door, NetworkCounts, NodeModels, Nodes, Runners};
use crate::seams::Seams;
use crate::state::State;

/// How long background work may take to end after the last connection. It has a few commits left to do.
const END_WITHIN: Duration = Duration::from_secs(5);

/// One gateway: it takes requests by HTTP and accepts jobs.
#[derive(Debug)]
pub struct Gateway {
    state: Box<State>,
    sender: Option<Sender>,
    publisher: Publisher,
    completions: Completions,
    refresher: Refresher,
}

impl Gateway {
    /// Makes a gateway that lets in no nodes from outside, and says so to nodes that ask. It doesn't run yet. It has
    /// a new id, and thus a queue of its own.
    #[must_use]
    pub fn new(config: Config, seams: Seams) -> Self {
        Self::open(config, seams, Door::Closed)
    }

    /// Makes a gateway that lets in nodes from outside.
    #[must_use]
    pub fn admitting(config: Config, seams: Seams, admission: Admission) -> Self {
        Self::open(config, seams, Door::Open(admission))
    }

    /// Makes the gateway of a network that runs in one process. Nodes can be registered at it, by accounts with any
    /// scope, and are told that none can connect from outside. `book` checks their secrets.
    #[must_use]
    pub fn of_one_process(config: Config, seams: Seams, book: Arc<dyn NodeBook>) -> Self {
        Self::open(config, seams, Door::OneProcess(book))
    }

    fn open(config: Config, seams: Seams, door: Door) -> Self {
        let (outbox, publisher) = outbox(
            config.outbox_max,
            Arc::clone(&seams.broker),
            Arc::clone(&seams.intake),
            OutboxMetrics::default(),
        );
        let shared = Shared::new(&config, outbox);
        let probe = shared.probe(&seams, &door);
        let completions = shared.completions(&seams);
        let refresher = shared.refresher(&config, &seams);
        let state = State {
            jobs: Arc::new(shared.jobs(&config, &seams)),
            conversations: Conversations::new(&config),
            keys: keys_of(&config, Arc::clone(&seams.keys), Arc::clone(&seams.groups)),
            accounts: seams.accounts,
            post: None,
            key_book: seams.keys,
            erasures: seams.erasures,
            limits: shared.limits,
            runners: Runners { roster: Arc::clone(&seams.roster), reader: Arc::clone(&seams.node_reader) },
            node_models: NodeModels::new(seams.node_reader),
            nodes: Nodes {
                per_account_max: config.nodes_per_account_max,
                door,
                book: seams.network,
                roster: seams.roster,
                broker: seams.broker,
            },
            counts: NetworkCounts::new(seams.reader),
            documents: Documents::new(&http::openapi(&config)),
            probe,
            memory: shared.memory,
            requests: RequestMetrics::new(http::templates()),
            connections: ConnectionMetrics::default(),
            stop: shared.stop,
            force: shared.force,
            config,
        };
        Self { state: Box::new(state), sender: None, publisher, completions, refresher }
    }

    /// Lets the gateway send mail: addresses can be proven and lost keys come back.
    #[must_use]
    pub fn sending_mail(mut self, mail: Mail) -> Self {
        let (post, sender) = mail.halves();
        self.state.post = Some(post);
        Self { sender: Some(sender), ..self }
    }

    /// Returns the id of this gateway.
    #[must_use]
    pub fn id(&self) -> &GatewayId {
        &self.state.jobs.gateway
    }

    /// Returns a handle that shows the gateway's state, also while it runs.
    #[must_use]
    pub fn handle(&self) -> GatewayHandle {
        let Jobs { capacity, outbox, waiters, .. } = &*self.state.jobs;
        GatewayHandle {
            probe: Arc::clone(&self.state.probe),
            capacity: Arc::clone(capacity),
            outbox: outbox.clone(),
            waiters: Arc::clone(waiters),
        }
    }

    /// Serves at the listener until `shutdown`, then drains. Background work stops after the last connection, so that
    /// requests that are being drained still get the ends of their jobs.
    pub async fn run(self, listener: impl Into<Listener>, shutdown: Shutdown) {
        let Self { state, sender, publisher, completions, mut refresher } = self;
        let state = Arc::<State>::from(state);
        let listener = listener.into();
        let background = TaskTracker::new();
        let end = Shutdown::new();
        refresher.refresh().await;
        background.spawn(completions.run(end.clone()));
        background.spawn(publisher.run(end.clone()));
        if let Some(sender) = sender {
            background.spawn(sender.run(end.clone()));
        }
        let reader = Arc::clone(&state.jobs.reader);
        background.spawn(Arc::clone(&state.jobs.waiters).run(reader, end.clone()));
        background.spawn({
            let (collectors, end) = (Arc::clone(&state.jobs.collectors), end.clone());
            async move { collectors.run(&end).await }
        });
        background.spawn({
            let (streams, end) = (Arc::clone(&state.jobs.streams), end.clone());
            async move { streams.run(&end).await }
        });
        background.spawn(refresher.run(end.clone()));
        background.spawn({
            let (state, end) = (Arc::clone(&state), end.clone());
            async move { state.limits.clean(&end).await }
        });
        background.spawn({
            let (state, broker, end) = (Arc::clone(&state), Arc::clone(&state.nodes.broker), end.clone());
            async move { state.limits.tell_others(&state.jobs.gateway, &broker, &end).await }
        });
        background.spawn({
            let (state, end) = (Arc::clone(&state), end.clone());
            async move { state.memory.keep_trimmed(&end).await }
        });
        tokio::spawn({
            let (stop, end) = (state.stop.clone(), end.clone());
            async move {
                tokio::select! {
                    () = shutdown.cancelled() => stop.cancel(),
                    () = end.cancelled() => {}
                }
            }
        });
        http::serve(Arc::clone(&state), listener).await;
        let all_ended = async {
            state.jobs.canceller.ended().await;
            end.cancel();
            background.close();
            background.wait().await;
        };
        if tokio::time::timeout(END_WITHIN, all_ended).await.is_err() {
            tracing::warn!(
                "background work did not end in time; other programs will publish or cancel what it still held"
            );
        }
        end.cancel();
    }
}

/// What several parts of a gateway have in common.
struct Shared {
    gateway: GatewayId,
    catalogue: Arc<Catalogue>,
    capacity: Arc<Capacity>,
    waiters: Arc<Waiters>,
    limits: Arc<Limits>,
    memory: MemoryBudget,
    outbox: Outbox,
    /// Whether the completions' queue is being consumed.
    completions_ready: Arc<AtomicBool>,
    stop: Shutdown,
    force: Shutdown,
}

impl Shared {
    fn new(config: &Config, outbox: Outbox) -> Self {
        Self {
            gateway: GatewayId::fresh(),
            catalogue: Arc::default(),
            capacity: Arc::new(Capacity::new(Duration::from_millis(config.capacity_ttl_ms))),
            waiters: Waiters::new(config.waiters_max),
            limits: Arc::new(Limits::new(config)),
            memory: MemoryBudget::new(config.memory_max_bytes),
            outbox,
            completions_ready: Arc::default(),
            stop: Shutdown::new(),
            force: Shutdown::new(),
        }
    }

    fn probe(&self, seams: &Seams, door: &Door) -> Arc<Probe> {
        Arc::new(Probe::new(Parts {
            gateway: self.gateway.clone(),
            intake: Arc::clone(&seams.intake),
            reader: Arc::clone(&seams.reader),
            broker: Arc::clone(&seams.broker),
            catalogue: Arc::clone(&self.catalogue),
            capacity: Arc::clone(&self.capacity),
            outbox: self.outbox.clone(),
            completions_ready: Arc::clone(&self.completions_ready),
            admits_nodes: matches!(door, Door::Open(_)),
            is_one_process: matches!(door, Door::OneProcess(_)),
            stop: self.stop.clone(),
        }))
    }

    fn completions(&self, seams: &Seams) -> Completions {
        Completions {
            limits: Arc::clone(&self.limits),
            gateway: self.gateway.clone(),
            broker: Arc::clone(&seams.broker),
            waiters: Arc::clone(&self.waiters),
            capacity: Arc::clone(&self.capacity),
            ready: Arc::clone(&self.completions_ready),
        }
    }

    fn refresher(&self, config: &Config, seams: &Seams) -> Refresher {
        let every = Duration::from_millis(config.catalogue_refresh_ms.max(1));
        let (network, broker) = (Arc::clone(&seams.network), Arc::clone(&seams.broker));
        Refresher::new(network, Arc::clone(&self.catalogue), broker, every)
    }

    fn jobs(&self, config: &Config, seams: &Seams) -> Jobs {
        Jobs {
            terms: Terms::from(config),
            gateway: self.gateway.clone(),
            canceller: Canceller::new(
                Arc::clone(&seams.intake),
                Arc::clone(&self.limits),
                config.abandoned(),
            ),
            intake: Arc::clone(&seams.intake),
            reader: Arc::clone(&seams.reader),
            batches: Arc::clone(&seams.batches),
            collectors: Arc::new(Collectors::new(Arc::clone(&seams.lists), config.waiters_max)),
            streams: Arc::new(Streams::new(
                self.gateway.clone(),
                Arc::clone(&seams.broker),
                self.memory.clone(),
            )),
            lists: Arc::clone(&seams.lists),
            groups: Arc::clone(&seams.groups),
            catalogue: Arc::clone(&self.catalogue),
            capacity: Arc::clone(&self.capacity),
            waiters: Arc::clone(&self.waiters),
            outbox: self.outbox.clone(),
            metrics: JobMetrics::default(),
            answer_now: self.force.clone(),
        }
    }
}

/// Makes the cache of keys.
fn keys_of(config: &Config, book: Arc<dyn KeyBook>, groups: Arc<dyn NodeGroupBook>) -> KeyCache {
    KeyCache::new(book, groups, Duration::from_millis(config.key_ttl_ms), config.keys_max)
}

/// A handle to a gateway: it shows what the gateway knows of the network and whether the gateway can take work.
#[derive(Clone, Debug)]
pub struct GatewayHandle {
    probe: Arc<Probe>,
    capacity: Arc<Capacity>,
    outbox: Outbox,
    waiters: Arc<Waiters>,
}

impl GatewayHandle {
    /// Returns how many owners have live nodes that serve the model, by the latest summaries of the verifiers.
    /// Returns 0 before the first summary.
    #[must_use]
    pub fn owners(&self, model: &ModelName) -> u32 {
        self.capacity.owners(model, Instant::now())
    }
}

#[async_trait]
impl Watched for GatewayHandle {
    fn observe(&self) {
        self.outbox.observe();
        JobMetrics::waiting(self.waiters.len());
    }

    async fn readiness(&self) -> Readiness {
        self.probe.readiness().await
    }
}
