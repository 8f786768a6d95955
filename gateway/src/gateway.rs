//! The gateway as a part: made from settings and seams, run until told to stop.

use std::sync::atomic::AtomicBool;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use infera_telemetry::readiness::{Readiness, Watched};
use infera_types::ids::{GatewayId, ModelName};
use infera_types::shutdown::Shutdown;
use tokio_util::task::TaskTracker;

use crate::capacity::Capacity;
use crate::catalogue::{Catalogue, Reading};
use crate::completions::Completions;
use crate::config::Config;
use crate::courier::Courier;
use crate::keys::KeyCache;
use crate::layers::body::ParsingPool;
use crate::layers::rate_limit::Limits;
use crate::memory::MemoryBudget;
use crate::meters::Meters;
use crate::nodes::Admission;
use crate::outbox::outbox;
use crate::queues::Queues;
use crate::readiness::Looks;
use crate::server::{self, Door};
use crate::state::{Seams, State};
use crate::waiters::Waiters;

/// How long background work may take to end after the last connection: a few commits.
const END_WITHIN: Duration = Duration::from_secs(5);

/// HTTP in, jobs accepted.
#[derive(Debug)]
pub struct Gateway {
    state: Arc<State>,
    courier: Courier,
}

impl Gateway {
    /// A gateway that doesn't run yet. Its id is new, and with it its queue.
    #[must_use]
    pub fn new(config: Config, seams: Seams) -> Self {
        let meters = Arc::<Meters>::default();
        let (outbox, courier) = outbox(config.outbox_max, &seams, &meters);
        let keys = KeyCache::new(
            Arc::clone(&seams.accounts),
            Duration::from_millis(config.key_ttl_ms),
            config.keys_max,
        );
        let state = Arc::new(State {
            gateway: GatewayId::fresh(),
            catalogue: Catalogue::default(),
            capacity: Arc::new(Capacity::new(Duration::from_millis(config.capacity_ttl_ms))),
            waiters: Waiters::new(config.waiters_max),
            outbox,
            meters,
            keys,
            limits: Limits::new(&config),
            memory: MemoryBudget::new(config.memory_max_bytes),
            parsing: ParsingPool::default(),
            admission: OnceLock::new(),
            completions_ready: Arc::new(AtomicBool::new(false)),
            statistics: tokio::sync::Mutex::default(),
            looks: Looks::default(),
            force: Shutdown::new(),
            stop: Shutdown::new(),
            tasks: TaskTracker::new(),
            config,
            seams,
        });
        Self { state, courier }
    }

    /// The same gateway, which lets nodes in from outside. Without, it says that it doesn't.
    #[must_use]
    pub fn admitting(self, admission: Admission) -> Self {
        // A second one changes nothing.
        let _ = self.state.admission.set(admission);
        self
    }

    /// This process's id.
    #[must_use]
    pub fn id(&self) -> &GatewayId {
        &self.state.gateway
    }

    /// Shows how the gateway sees the network, also while it runs.
    #[must_use]
    pub fn handle(&self) -> GatewayHandle {
        GatewayHandle { state: Arc::clone(&self.state) }
    }

    /// Serves at the door, a listener at least, until `shutdown` and drains. Background work stops after the last connection, so that
    /// requests that are being drained still get their ends.
    pub async fn run(self, door: impl Into<Door>, shutdown: Shutdown) {
        let Self { state, courier } = self;
        let door = door.into();
        let background = TaskTracker::new();
        let end = Shutdown::new();
        let mut queues = Queues::new(Arc::clone(&state.seams.broker));
        refresh(&state, &mut queues).await;
        let completions = Completions {
            gateway: state.gateway.clone(),
            broker: Arc::clone(&state.seams.broker),
            waiters: Arc::clone(&state.waiters),
            capacity: Arc::clone(&state.capacity),
            ready: Arc::clone(&state.completions_ready),
        };
        background.spawn(completions.run(end.clone()));
        background.spawn(courier.run(end.clone()));
        background.spawn(Arc::clone(&state.waiters).run(Arc::clone(&state.seams.reader), end.clone()));
        background.spawn(keep_fresh(Arc::clone(&state), queues, end.clone()));
        background.spawn({
            let (state, end) = (Arc::clone(&state), end.clone());
            async move { state.limits.clean(&end).await }
        });
        background.spawn({
            let (state, end) = (Arc::clone(&state), end.clone());
            async move { state.memory.keep_trimmed(&end).await }
        });
        tokio::spawn({
            let (state, end) = (Arc::clone(&state), end.clone());
            async move {
                tokio::select! {
                    () = shutdown.cancelled() => state.stop.cancel(),
                    () = end.cancelled() => {}
                }
            }
        });
        server::serve(Arc::clone(&state), door).await;
        state.tasks.close();
        let all_ended = async {
            state.tasks.wait().await;
            end.cancel();
            background.close();
            background.wait().await;
        };
        if tokio::time::timeout(END_WITHIN, all_ended).await.is_err() {
            tracing::warn!(
                "background work did not end in time; what it held is published or cancelled by others"
            );
        }
        end.cancel();
    }
}

/// What a gateway knows of the network.
#[derive(Clone, Debug)]
pub struct GatewayHandle {
    state: Arc<State>,
}

impl GatewayHandle {
    /// Owners of live nodes that serve the model, by the last summary of each verifier; 0 before the first.
    #[must_use]
    pub fn owners(&self, model: &ModelName) -> u32 {
        self.state.capacity.owners(model, Instant::now())
    }
}

#[async_trait]
impl Watched for GatewayHandle {
    fn observe(&self) {
        crate::meters::observe(&self.state);
    }

    async fn readiness(&self) -> Readiness {
        crate::readiness::decide(crate::readiness::look(&self.state).await)
    }
}

async fn keep_fresh(state: Arc<State>, mut queues: Queues, end: Shutdown) {
    loop {
        tokio::select! {
            () = end.cancelled() => return,
            () = tokio::time::sleep(Duration::from_millis(state.config.catalogue_refresh_ms.max(1))) => {}
        }
        refresh(&state, &mut queues).await;
    }
}

/// Reads everything again. Whatever becomes of the queues, what was read is shown: jobs are accepted without a broker.
async fn refresh(state: &State, queues: &mut Queues) {
    match Reading::take(&*state.seams.network).await {
        Ok(reading) => {
            queues.see_to(reading.names()).await;
            state.catalogue.show(reading);
        }
        Err(error) => {
            tracing::warn!(%error, "catalogue and epoch could not be read; the last reading stays");
        }
    }
}
