//! Finds what was left lying (rule 3): notices that the broker never confirmed, has lost or given up, jobs of dead
//! owners, jobs past their deadline, and groups that nobody is alive to close. One verifier at a time, under a shared
//! lease. Everything else that waits is waiting, not lost. It also makes queues of jobs anew that are stuck; the ledger
//! knows what waited there.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use infera_core::broker::{Address, BrokerError, Consumer, Delivery, Published, topology};
use infera_core::ids::{JobId, ModelName};
use infera_core::job::{End, Settlement};
use infera_core::ledger::{LedgerError, OverdueJob, SweepQuestion};
use infera_core::messages::{JobNotice, Wire};
use infera_core::telemetry::metrics::{VERIFIER_HANDOUTS, VERIFIER_QUEUE, VERIFIER_SWEEPS};
use infera_core::time::Timestamp;
use metrics::{counter, gauge};

use crate::counters::Counted;
use crate::tenure::Tenure;
use crate::{scorer, settler};

/// The shared lease's name.
const LEASE: &str = "sweeper";

/// Dead letters come one after the other; whoever waits longer has seen all of this sweep.
const DEAD_LETTERS_PAUSE: Duration = Duration::from_millis(200);

/// So many dead letters in one sweep: they are a handful, and what is held is held in memory.
const DEAD_LETTERS_MAX: u16 = 256;

/// A queue is made anew when it was found stuck so often without a sign of life between: one that elects a leader just
/// now isn't stuck, and would lose its order.
const STUCK_TIMES: u32 = 2;

/// What a sweep saw of the models' queues. One that showed nothing is in neither.
#[derive(Default)]
struct Signs {
    stuck: BTreeSet<ModelName>,
    alive: BTreeSet<ModelName>,
}

/// Sweeps until the tenure ends.
pub(crate) async fn run(tenure: Arc<Tenure>) {
    let tenure = &tenure;
    let mut ticks = tokio::time::interval(Duration::from_millis(tenure.config.sweep_ms));
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut suspects = BTreeMap::new();
    loop {
        ticks.tick().await;
        let outcome = match sweep(tenure).await {
            Ok(Some(signs)) => {
                for model in condemned(&mut suspects, signs) {
                    make_anew(tenure, &model).await;
                }
                "done"
            }
            Ok(None) => "elsewhere",
            Err(error) => {
                tracing::warn!(%error, "nothing can be swept now");
                "failed"
            }
        };
        counter!(VERIFIER_SWEEPS, "outcome" => outcome).increment(1);
    }
}

/// One look, if the lease is ours; none if it isn't.
async fn sweep(tenure: &Arc<Tenure>) -> Result<Option<Signs>, LedgerError> {
    let sweeping = &tenure.seams.sweeping;
    let now = Timestamp::now();
    let ttl = Duration::from_millis(tenure.config.shared_lease_ms);
    if !sweeping.lease(LEASE, &tenure.id, now, ttl).await? {
        return Ok(None);
    }
    let mut signs = Signs::default();
    let mut dead = DeadLetters::default();
    dead.read(tenure).await;
    let question = SweepQuestion {
        empty_queues: empty_queues(tenure, &mut signs).await,
        dead: dead.letters.iter().map(|(job, _)| *job).collect(),
        unconfirmed_for: Duration::from_millis(tenure.config.unconfirmed_ms),
        limit: tenure.config.sweep_limit,
    };
    let found = sweeping.sweep(&question, now).await?;
    // Only now is it the ledger's to remember them.
    dead.ack().await;
    hand_out(tenure, &found.hand_out, &mut signs).await?;
    for overdue in found.expired {
        let job = overdue.id;
        past_refused(job, expire(tenure, overdue).await)?;
    }
    for group in found.groups {
        past_refused(group.settlement.job_id, scorer::close_stored(tenure, &group).await)?;
    }
    Ok(Some(signs))
}

/// What the broker gave up, to be acked once the ledger knows. Dropped before that it comes again.
#[derive(Default)]
struct DeadLetters {
    /// Nothing that it gave can be acked after it is dropped.
    consumer: Option<Box<dyn Consumer>>,
    letters: Vec<(JobId, Delivery)>,
}

impl DeadLetters {
    async fn read(&mut self, tenure: &Tenure) {
        match open_dead_letters(tenure).await {
            Ok(Some(mut consumer)) => {
                while self.letters.len() < usize::from(DEAD_LETTERS_MAX)
                    && let Ok(Some(delivery)) =
                        tokio::time::timeout(DEAD_LETTERS_PAUSE, consumer.next()).await
                {
                    self.add(tenure, delivery).await;
                }
                self.consumer = Some(consumer);
            }
            Ok(None) => {}
            Err(error) => tracing::warn!(%error, "dead letters can't be read"),
        }
    }

    async fn add(&mut self, tenure: &Tenure, delivery: Delivery) {
        match JobNotice::from_message(&delivery.message) {
            Ok(notice) => {
                tracing::warn!(job = %notice.job_id, "its notice came back too often; the ledger decides");
                tenure.counters.count(Counted::DeadLetter);
                self.letters.push((notice.job_id, delivery));
            }
            Err(error) => {
                tracing::error!(%error, "a dead letter that is no notice is dropped");
                tenure.counters.count(Counted::MessageMalformed);
                delivery.ack().await;
            }
        }
    }

    async fn ack(self) {
        for (_, delivery) in self.letters {
            delivery.ack().await;
        }
    }
}

/// A consumer of the dead letters, if there are any.
async fn open_dead_letters(tenure: &Tenure) -> Result<Option<Box<dyn Consumer>>, BrokerError> {
    let (broker, queue) = (&tenure.seams.broker, topology::dead_jobs());
    broker.declare(&queue).await?;
    match broker.depth(&queue.name).await? {
        None | Some(0) => Ok(None),
        Some(_) => broker.consume(&queue.name, DEAD_LETTERS_MAX).await.map(Some),
    }
}

/// The models whose queue was found stuck often enough, with these signs. They are no suspects any more.
fn condemned(suspects: &mut BTreeMap<ModelName, u32>, signs: Signs) -> Vec<ModelName> {
    suspects.retain(|model, _| !signs.alive.contains(model));
    for model in signs.stuck.difference(&signs.alive) {
        *suspects.entry(model.clone()).or_default() += 1;
    }
    suspects.extract_if(.., |_, times| *times >= STUCK_TIMES).map(|(model, _)| model).collect()
}

/// Deletes the model's queue and declares it again. The next sweep finds it empty and hands out what waited there.
async fn make_anew(tenure: &Tenure, model: &ModelName) {
    let queue = topology::jobs(model);
    let made = match tenure.seams.broker.delete(&queue.name).await {
        Ok(()) => tenure.seams.broker.declare(&queue).await,
        Err(error) => Err(error),
    };
    match made {
        Ok(()) => {
            tenure.counters.count(Counted::QueueRepaired);
            tracing::error!(%model, "the jobs' queue was stuck and is made anew; its jobs are handed out again");
        }
        Err(error) => tracing::error!(%model, %error, "the jobs' queue is stuck and can't be made anew"),
    }
}

/// A row that can't be stored is reported and passed by, so that it doesn't keep its neighbours waiting for ever.
fn past_refused(job: JobId, outcome: Result<(), LedgerError>) -> Result<(), LedgerError> {
    match outcome {
        Err(LedgerError::Row(problem)) => {
            tracing::error!(%job, problem, "left behind by the sweeper; an operator must look at the ledger");
            Ok(())
        }
        other => other,
    }
}

/// Models whose queue holds nothing, or was just declared (again). A queue that can't be asked isn't empty.
async fn empty_queues(tenure: &Tenure, signs: &mut Signs) -> Vec<ModelName> {
    let mut empty = Vec::new();
    for model in tenure.book.page().catalogue.keys() {
        let queue = topology::jobs(model);
        let depth = match tenure.seams.broker.declare(&queue).await {
            Ok(()) => tenure.seams.broker.depth(&queue.name).await,
            Err(error) => Err(error),
        };
        match depth {
            Ok(Some(0) | None) => {
                show(model, 0);
                empty.push(model.clone());
            }
            Ok(Some(waiting)) => {
                show(model, waiting);
                signs.alive.insert(model.clone());
            }
            Err(BrokerError::Stuck(_)) => drop(signs.stuck.insert(model.clone())),
            Err(error) => tracing::warn!(%model, %error, "the jobs' queue can't be asked"),
        }
    }
    empty
}

fn show(model: &ModelName, waiting: u64) {
    let waiting = u32::try_from(waiting).unwrap_or(u32::MAX);
    gauge!(VERIFIER_QUEUE, "model" => model.to_string()).set(waiting);
}

/// Publishes notices again. Those that the broker doesn't confirm stay unconfirmed and come up again.
async fn hand_out(
    tenure: &Tenure,
    jobs: &[(JobId, ModelName)],
    signs: &mut Signs,
) -> Result<(), LedgerError> {
    let mut confirmed = Vec::with_capacity(jobs.len());
    for (job, model) in jobs {
        let message = JobNotice { job_id: *job }.to_message(job.to_string());
        let address = Address::Queue(topology::jobs(model).name);
        match tenure.seams.broker.publish(&address, message).await {
            Published::Confirmed => {
                signs.alive.insert(model.clone());
                confirmed.push(*job);
            }
            Published::Refused => drop(signs.stuck.insert(model.clone())),
            Published::Full | Published::Unroutable | Published::Unknown => {}
        }
    }
    counter!(VERIFIER_HANDOUTS).increment(confirmed.len() as u64);
    if !confirmed.is_empty() {
        tracing::info!(jobs = confirmed.len(), "handed out again");
        tenure.seams.sweeping.handed_out(&confirmed, Timestamp::now()).await?;
    }
    Ok(())
}

/// Ends a job whose deadline passed. One that is in hand here ends by its own task, which knows its group.
async fn expire(tenure: &Tenure, overdue: OverdueJob) -> Result<(), LedgerError> {
    if tenure.in_flight.has(overdue.id) {
        return Ok(());
    }
    let settlement = Settlement {
        job_id: overdue.id,
        account: overdue.account,
        model: overdue.model,
        gateway: overdue.gateway,
        end: End::Expired,
        group: None,
        settled_ms: Timestamp::now(),
    };
    let settled = settler::settle(tenure, settlement).await?;
    settler::publish_completion(tenure, &settled).await;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn models(names: &[&str]) -> BTreeSet<ModelName> {
        names.iter().map(|name| ModelName::new((*name).to_owned())).collect()
    }

    #[test]
    fn a_queue_is_condemned_by_two_findings_without_a_sign_of_life_between() {
        for (sweeps, condemned_at) in [
            (vec![("m", ""), ("m", "")], Some(1)),
            // Nothing was to be seen for a while.
            (vec![("m", ""), ("", ""), ("", ""), ("m", "")], Some(3)),
            (vec![("m", ""), ("", "m"), ("m", "")], None),
            // Both in one sweep: it lives.
            (vec![("m", ""), ("m", "m"), ("m", "")], None),
            (vec![("m", ""), ("other", "other")], None),
            (vec![("m", "")], None),
        ] {
            let mut suspects = BTreeMap::new();
            let found = sweeps.iter().position(|(stuck, alive)| {
                let signs = Signs { stuck: models(&[stuck]), alive: models(&[alive]) };
                condemned(&mut suspects, signs).contains(&ModelName::new("m".to_owned()))
            });
            assert_eq!(found, condemned_at, "{sweeps:?}");
        }
    }

    #[test]
    fn a_queue_made_anew_is_no_suspect() {
        let mut suspects = BTreeMap::new();
        let stuck = || Signs { stuck: models(&["m"]), ..Signs::default() };
        assert!(condemned(&mut suspects, stuck()).is_empty());
        assert_eq!(condemned(&mut suspects, stuck()).len(), 1);
        assert!(condemned(&mut suspects, stuck()).is_empty());
    }
}
