//! Assembles a gateway from its settings and seams, and runs it until it is told to stop.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use infera_ledger::{AccountBook, NodeBook};
use infera_telemetry::readiness::{Readiness, Watched};
use infera_types::ids::{GatewayId, ModelName};
use infera_types::shutdown::Shutdown;
use tokio_util::task::TaskTracker;

use crate::access::{Admission, KeyCache, Limits};
use crate::config::Config;
use crate::http::{self, Listener};
use crate::jobs::{Canceller, Collectors, Completions, Jobs, Terms, Waiters};
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
    state: Arc<State>,
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

    #[expect(
        clippy::too_many_lines,
        reason = "a list of parts, each a few lines, in the order of their needs"
    )]
    fn open(config: Config, seams: Seams, door: Door) -> Self {
        let Seams { intake, reader, batches, lists, accounts, keys: key_book, .. } = seams;
        let (network, broker) = (seams.network, seams.broker);
        let (roster, node_reader) = (seams.roster, seams.node_reader);
        let id = GatewayId::fresh();
        let (stop, force) = (Shutdown::new(), Shutdown::new());
        let (catalogue, waiters) = (Arc::<Catalogue>::default(), Waiters::new(config.waiters_max));
        let capacity = Arc::new(Capacity::new(Duration::from_millis(config.capacity_ttl_ms)));
        let completions_ready = Arc::new(AtomicBool::new(false));
        let (outbox, publisher) =
            outbox(config.outbox_max, Arc::clone(&broker), Arc::clone(&intake), OutboxMetrics::default());
        let probe = Arc::new(Probe::new(Parts {
            gateway: id.clone(),
            intake: Arc::clone(&intake),
            reader: Arc::clone(&reader),
            broker: Arc::clone(&broker),
            catalogue: Arc::clone(&catalogue),
            capacity: Arc::clone(&capacity),
            outbox: outbox.clone(),
            completions_ready: Arc::clone(&completions_ready),
            admits_nodes: matches!(door, Door::Open(_)),
            stop: stop.clone(),
        }));
        let limits = Arc::new(Limits::new(&config));
        let completions = Completions {
            limits: Arc::clone(&limits),
            gateway: id.clone(),
            broker: Arc::clone(&broker),
            waiters: Arc::clone(&waiters),
            capacity: Arc::clone(&capacity),
            ready: completions_ready,
        };
        let every = Duration::from_millis(config.catalogue_refresh_ms.max(1));
        let refresher =
            Refresher::new(Arc::clone(&network), Arc::clone(&catalogue), Arc::clone(&broker), every);
        let jobs = Jobs {
            terms: Terms::from(&config),
            gateway: id,
            canceller: Canceller::new(Arc::clone(&intake), config.abandoned()),
            intake,
            reader: Arc::clone(&reader),
            batches,
            collectors: Arc::new(Collectors::new(Arc::clone(&lists), config.waiters_max)),
            lists,
            catalogue,
            capacity,
            waiters,
            outbox,
            metrics: JobMetrics::default(),
            answer_now: force.clone(),
        };
        let state = State {
            jobs,
            conversations: Conversations::new(&config),
            keys: keys_of(&config, Arc::clone(&accounts)),
            accounts,
            key_book,
            limits,
            runners: Runners { roster: Arc::clone(&roster), reader: Arc::clone(&node_reader) },
            node_models: NodeModels::new(node_reader),
            nodes: Nodes {
                per_account_max: config.nodes_per_account_max,
                door,
                book: network,
                roster,
                broker,
            },
            counts: NetworkCounts::new(reader),
            documents: Documents::new(&http::openapi(&config)),
            probe,
            memory: MemoryBudget::new(config.memory_max_bytes),
            requests: RequestMetrics::new(http::templates()),
            connections: ConnectionMetrics::default(),
            stop,
            force,
            config,
        };
        Self { state: Arc::new(state), publisher, completions, refresher }
    }

    /// Returns the id of this gateway.
    #[must_use]
    pub fn id(&self) -> &GatewayId {
        &self.state.jobs.gateway
    }

    /// Returns a handle that shows the gateway's state, also while it runs.
    #[must_use]
    pub fn handle(&self) -> GatewayHandle {
        let Jobs { capacity, outbox, waiters, .. } = &self.state.jobs;
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
        let Self { state, publisher, completions, mut refresher } = self;
        let listener = listener.into();
        let background = TaskTracker::new();
        let end = Shutdown::new();
        refresher.refresh().await;
        background.spawn(completions.run(end.clone()));
        background.spawn(publisher.run(end.clone()));
        let reader = Arc::clone(&state.jobs.reader);
        background.spawn(Arc::clone(&state.jobs.waiters).run(reader, end.clone()));
        background.spawn({
            let (collectors, end) = (Arc::clone(&state.jobs.collectors), end.clone());
            async move { collectors.run(&end).await }
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

/// Makes the cache of keys.
fn keys_of(config: &Config, accounts: Arc<dyn AccountBook>) -> KeyCache {
    KeyCache::new(accounts, Duration::from_millis(config.key_ttl_ms), config.keys_max)
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
