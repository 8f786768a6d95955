//! The models' queues of jobs at the broker, declared as soon as their models are read, so that no notice is published
//! to nowhere. A broker that is away, or a queue that is stuck, holds up neither the catalogue nor the other models'
//! queues: it is tried again beside everything else. Until then notices wait in the outbox, or the sweeper publishes
//! them, which declares queues too.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use infera_broker::{Broker, BrokerError, topology};
use infera_types::ids::ModelName;
use tokio::task::{JoinError, JoinSet};
use tokio::time::{Instant, timeout};

/// How long a model that was just read is held back at most until its queue is there: a healthy broker declares one in
/// milliseconds, and a notice that came before would have to wait for the sweeper. Once per model.
const SOON: Duration = Duration::from_secs(1);

/// Separates two tries of one queue. Its own timeout comes on top.
const AGAIN: Duration = Duration::from_secs(2);

/// Bounds one declaration, beyond a broker's own timeouts for it. What takes longer is given up and tried again.
const ENDS_WITHIN: Duration = Duration::from_secs(30);

/// Bounds the declarations under way at once: enough that some stuck queues leave room for others, few for a broker that
/// starts.
const AT_ONCE_MAX: usize = 16;

type Ended = Result<(ModelName, Result<(), BrokerError>), JoinError>;

/// Says how far a model's queue is.
#[derive(Debug)]
struct Progress {
    /// When it is tried next; none once it is there. If it is lost later, the sweeper makes it again.
    next: Option<Instant>,
    failures: u32,
}

/// Declares the queues of all models that were read last. Dropping it gives up what is under way.
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

    /// Begins to declare what isn't declared, and waits a moment for the queues of models that are new.
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
        // A model whose queue isn't declared by then is made known all the same.
        let _ = timeout(SOON, self.until_tried(&fresh)).await;
    }

    /// Waits until each of these was declared or failed once.
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
            // Not before this try has ended, however it does.
            progress.next = Some(now + ENDS_WITHIN + AGAIN);
            let (broker, model) = (Arc::clone(&self.broker), model.clone());
            self.under_way.spawn(async move {
                let declared = timeout(ENDS_WITHIN, broker.declare(&topology::jobs(&model))).await;
                let silence = |_| Err(BrokerError::Unavailable(format!("no answer in {ENDS_WITHIN:?}")));
                (model, declared.unwrap_or_else(silence))
            });
        }
    }

    fn note(&mut self, ended: Ended) {
        let Ok((model, declared)) = ended else { return };
        // It may have left the catalogue meanwhile.
        let Some(progress) = self.models.get_mut(&model) else { return };
        match declared {
            Ok(()) => {
                if progress.failures > 0 {
                    tracing::info!(%model, failures = progress.failures, "the jobs' queue is declared at last");
                }
                progress.next = None;
            }
            Err(error) => {
                // Said once; the log at debug level has each.
                if progress.failures == 0 {
                    tracing::warn!(%model, %error, "the jobs' queue can't be declared; jobs are accepted, and it is tried again");
                } else {
                    tracing::debug!(%model, %error, "the jobs' queue still can't be declared");
                }
                progress.failures = progress.failures.saturating_add(1);
                progress.next = Some(Instant::now() + AGAIN);
            }
        }
    }
}
