//! Declares the models' jobs queues at the broker as soon as their models are read, so that no notice is published
//! before its queue exists. If the broker is away or a queue is stuck, the declaration is retried in the background
//! and holds up neither the catalogue nor other models' queues. In the meantime notices wait in the outbox, or the
//! sweeper publishes them; the sweeper declares queues too.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use infera_broker::{Broker, BrokerError, topology};
use infera_types::ids::ModelName;
use infera_types::service::Lane;
use tokio::task::{JoinError, JoinSet};
use tokio::time::{Instant, timeout};

/// How long a new model is held back at most until its queue exists. A healthy broker declares a queue in
/// milliseconds, and a notice that came before would have to wait for the sweeper. It happens once per model.
const SOON: Duration = Duration::from_secs(1);

/// The time between two tries to declare one queue, in addition to a try's own timeout.
const AGAIN: Duration = Duration::from_secs(2);

/// How long one declaration may take, beyond the broker's own timeouts. A slower one is given up and tried again.
const ENDS_WITHIN: Duration = Duration::from_secs(30);

/// The largest number of declarations at once: enough to leave room for others beside some stuck queues, and few for
/// a broker that is just starting.
const AT_ONCE_MAX: usize = 16;

type Ended = Result<(ModelName, Result<(), BrokerError>), JoinError>;

/// The state of the declaration of one model's queue.
#[derive(Debug)]
struct Progress {
    /// The time of the next try; none once the queue exists. If the queue is lost later, the sweeper declares it
    /// again.
    next: Option<Instant>,
    failures: u32,
}

/// Declares the queues of all models of the latest reading. Dropping it ends the declarations in progress.
#[derive(Debug)]
pub(crate) struct Queues {
    broker: Arc<dyn Broker>,
    models: HashMap<ModelName, Progress>,
    under_way: JoinSet<(ModelName, Result<(), BrokerError>)>,
}

impl Queues {
    pub(crate) fn new(broker: Arc<dyn Broker>) -> Self {
        Self { broker, models: HashMap::new(), under_way: JoinSet::new() }
    }

    /// Starts to declare the queues that aren't declared, and waits a moment for those of new models.
    pub(crate) async fn see_to(&mut self, models: impl Iterator<Item = &ModelName>) {
        let models: HashSet<ModelName> = models.cloned().collect();
        self.models.retain(|model, _| models.contains(model));
        let mut fresh = HashSet::new();
        for model in models {
            if !self.models.contains_key(&model) {
                let now = Some(Instant::now());
                self.models.insert(model.clone(), Progress { next: now, failures: 0 });
                fresh.insert(model);
            }
        }
        while let Some(ended) = self.under_way.try_join_next() {
            self.note(ended);
        }
        self.begin();
        // A model whose queue isn't declared by then is shown nevertheless.
        let _ = timeout(SOON, self.until_tried(&fresh)).await;
    }

    /// Waits until the queue of each of these models was declared or failed once.
    async fn until_tried(&mut self, fresh: &HashSet<ModelName>) {
        let is_untried = |progress: &Progress| progress.failures == 0 && progress.next.is_some();
        while fresh.iter().any(|model| self.models.get(model).is_some_and(is_untried)) {
            let Some(ended) = self.under_way.join_next().await else { return };
            self.note(ended);
            self.begin();
        }
    }

    fn begin(&mut self) {
        let now = Instant::now();
        for (model, progress) in &mut self.models {
            if self.under_way.len() >= AT_ONCE_MAX {
                return;
            }
            if progress.next.is_none_or(|next| next > now) {
                continue;
            }
            // The next try starts only after this one has ended.
            progress.next = Some(now + ENDS_WITHIN + AGAIN);
            let (broker, model) = (Arc::clone(&self.broker), model.clone());
            self.under_way.spawn(async move {
                // Those that this gateway publishes to; the later one is the feeder's.
                let declaring = async {
                    for lane in [Lane::First, Lane::Own] {
                        broker.declare(&topology::jobs_in(&model, lane)).await?;
                    }
                    Ok(())
                };
                let declared = timeout(ENDS_WITHIN, declaring).await;
                let silence = |_| Err(BrokerError::Unavailable(format!("no answer in {ENDS_WITHIN:?}")));
                (model, declared.unwrap_or_else(silence))
            });
        }
    }

    fn note(&mut self, ended: Ended) {
        let Ok((model, declared)) = ended else { return };
        // The model may have left the catalogue in the meantime.
        let Some(progress) = self.models.get_mut(&model) else { return };
        match declared {
            Ok(()) => {
                if progress.failures > 0 {
                    tracing::info!(%model, failures = progress.failures, "the jobs queue is declared after failures");
                }
                progress.next = None;
            }
            Err(error) => {
                // The first failure is a warning; later ones are logged at debug level.
                if progress.failures == 0 {
                    tracing::warn!(%model, %error, "the jobs queue can't be declared; jobs are accepted meanwhile; \
                                                    trying again");
                } else {
                    tracing::debug!(%model, %error, "the jobs queue still can't be declared");
                }
                progress.failures = progress.failures.saturating_add(1);
                progress.next = Some(Instant::now() + AGAIN);
            }
        }
    }
}
