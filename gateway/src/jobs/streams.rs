//! The streamed jobs whose clients wait here: brings what verifiers released to the clients' streams, and tells verifiers what
//! was passed on. All of it is fleeting. What is lost is asked for again, and at the end the whole answer comes with the
//! job's completion.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use infera_broker::consuming::until_consuming;
use infera_broker::{Broker, consuming, topology};
use infera_types::frames::{Delta, DeltasFrame, Watch, Watched};
use infera_types::ids::{GatewayId, JobId};
use infera_types::messages::Wire as _;
use infera_types::shutdown::Shutdown;
use tokio::sync::mpsc;

/// The prefetch, which bounds nothing where nothing is acknowledged.
const PREFETCH: u16 = 256;

/// How many deltas wait for one client's stream. What is over is lost, and asked for again.
const DELTAS_MAX: usize = 64;

/// How often verifiers are told what was passed on of the jobs that asked for it.
const WATCH_EVERY: Duration = Duration::from_secs(1);

/// How many jobs one message names: some 200 bytes each, a quarter of what the broker takes.
const WATCHED_MAX: usize = 1_000;

/// One client's part in a job's deltas.
#[derive(Debug)]
struct Follower {
    number: u64,
    deltas: mpsc::Sender<Delta>,
}

#[derive(Debug, Default)]
struct Followed {
    next: u64,
    by_job: HashMap<JobId, Vec<Follower>>,
}

/// All streams of one gateway.
#[derive(Debug)]
pub(crate) struct Streams {
    gateway: GatewayId,
    broker: Arc<dyn Broker>,
    followed: Mutex<Followed>,
    /// What verifiers are to be told of next.
    asking: Mutex<BTreeMap<JobId, Watched>>,
}

impl Streams {
    /// Begins with no stream.
    pub(crate) fn new(gateway: GatewayId, broker: Arc<dyn Broker>) -> Self {
        Self { gateway, broker, followed: Mutex::default(), asking: Mutex::default() }
    }

    /// Follows a job's deltas from now on, until the returned value is dropped.
    pub(crate) fn follow(self: &Arc<Self>, job: JobId) -> Following {
        let (sender, deltas) = mpsc::channel(DELTAS_MAX);
        let mut followed = lock(&self.followed);
        let number = followed.next;
        followed.next += 1;
        followed.by_job.entry(job).or_default().push(Follower { number, deltas: sender });
        Following { streams: Arc::clone(self), job, number, deltas }
    }

    /// Has the job's owner told, within a second, what was passed on, so that it sends what comes next.
    pub(crate) fn ask(&self, watched: Watched) {
        lock(&self.asking).insert(watched.job, watched);
    }

    /// Tells all verifiers at once what was passed on of these jobs. What is dropped is for the caller to tell again.
    pub(crate) fn tell(&self, jobs: &[Watched]) {
        for jobs in jobs.chunks(WATCHED_MAX) {
            let watch = Watch { gateway: self.gateway.clone(), jobs: jobs.to_vec() };
            let message = watch.to_message(self.gateway.as_str());
            let _ = self.broker.publish_fleeting(&topology::watching(&self.gateway), message);
        }
    }

    /// Reads deltas and asks for them, until the shutdown.
    pub(crate) async fn run(&self, stop: &Shutdown) {
        tokio::select! {
            () = stop.cancelled() => {}
            () = self.read() => {}
            () = self.watch() => {}
        }
    }

    async fn read(&self) {
        let queue = topology::deltas(&self.gateway);
        loop {
            let mut consumer = until_consuming(&*self.broker, &queue, PREFETCH).await;
            while let Some(delivery) = consumer.next().await {
                match DeltasFrame::from_message(&delivery.message) {
                    Ok(frame) => frame.deltas.iter().for_each(|delta| self.bring(delta)),
                    Err(error) => tracing::warn!(%error, "deltas that can't be read are dropped"),
                }
            }
            tokio::time::sleep(consuming::RETRY).await;
        }
    }

    fn bring(&self, delta: &Delta) {
        let followed = lock(&self.followed);
        for follower in followed.by_job.get(&delta.job).into_iter().flatten() {
            // What has no room is a gap, which is asked for.
            let _ = follower.deltas.try_send(delta.clone());
        }
    }

    async fn watch(&self) {
        let mut ticks = tokio::time::interval(WATCH_EVERY);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            let asking: Vec<Watched> = std::mem::take(&mut *lock(&self.asking)).into_values().collect();
            // What is dropped is told again a second later.
            self.tell(&asking);
        }
    }
}

/// One client's view of a job's deltas.
#[derive(Debug)]
pub(crate) struct Following {
    streams: Arc<Streams>,
    job: JobId,
    number: u64,
    deltas: mpsc::Receiver<Delta>,
}

impl Following {
    /// Returns the job.
    pub(crate) const fn job(&self) -> JobId {
        self.job
    }

    /// Waits for the next delta. Cancelling the wait loses none.
    pub(crate) async fn next(&mut self) -> Delta {
        match self.deltas.recv().await {
            Some(delta) => delta,
            // The sender is kept until this is dropped.
            None => std::future::pending().await,
        }
    }

    /// Has the job's owner told what was passed on.
    pub(crate) fn ask(&self, watched: Watched) {
        self.streams.ask(watched);
    }
}

impl Drop for Following {
    fn drop(&mut self) {
        let mut followed = lock(&self.streams.followed);
        if let Some(followers) = followed.by_job.get_mut(&self.job) {
            followers.retain(|follower| follower.number != self.number);
            if followers.is_empty() {
                followed.by_job.remove(&self.job);
            }
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use infera_broker::memory::MemoryBroker;
    use infera_broker::{Broker as _, Fleeting as _, consuming::declare_and_consume};
    use infera_types::frames::PassedOn;
    use infera_types::ids::{Digest, VerifierId};

    use super::*;

    fn delta(job: JobId, from: u32) -> Delta {
        Delta { job, from, tokens: vec![from], text: "x".to_owned() }
    }

    /// Returns running streams with what tells them deltas.
    async fn rig() -> (Arc<Streams>, Arc<MemoryBroker>, Shutdown) {
        let broker = MemoryBroker::new();
        let streams = Arc::new(Streams::new(GatewayId::new("g"), Arc::clone(&broker) as _));
        let stop = Shutdown::new();
        let (running, ends) = (Arc::clone(&streams), stop.clone());
        tokio::spawn(async move { running.run(&ends).await });
        while broker.depth(&topology::deltas(&GatewayId::new("g")).name).await.unwrap().is_none() {
            tokio::task::yield_now().await;
        }
        (streams, broker, stop)
    }

    fn tell(broker: &MemoryBroker, deltas: Vec<Delta>) {
        let frame = DeltasFrame { verifier: VerifierId::new("v"), deltas };
        broker.publish_fleeting(&topology::deltas_to(&GatewayId::new("g")), frame.to_message("v"));
    }

    #[tokio::test]
    async fn each_follower_gets_its_jobs_deltas_and_no_others() {
        let (streams, broker, _stop) = rig().await;
        let (one, other) = (JobId::new(), JobId::new());
        let mut following = [streams.follow(one), streams.follow(one), streams.follow(other)];
        tell(&broker, vec![delta(one, 0), delta(other, 7), delta(JobId::new(), 9)]);
        tell(&broker, vec![delta(one, 1)]);
        for follower in &mut following[..2] {
            assert_eq!((follower.next().await, follower.next().await), (delta(one, 0), delta(one, 1)));
        }
        assert_eq!(following[2].next().await, delta(other, 7));
        drop(following);
        assert!(lock(&streams.followed).by_job.is_empty());
    }

    #[tokio::test]
    async fn a_client_that_does_not_read_loses_deltas_and_holds_up_no_other() {
        let (streams, broker, _stop) = rig().await;
        let (slow, quick) = (JobId::new(), JobId::new());
        let (mut idle, mut reading) = (streams.follow(slow), streams.follow(quick));
        let many = u32::try_from(DELTAS_MAX).unwrap() + 10;
        for from in 0..many {
            tell(&broker, vec![delta(slow, from), delta(quick, from)]);
            assert_eq!(reading.next().await.from, from);
        }
        for from in 0..u32::try_from(DELTAS_MAX).unwrap() {
            assert_eq!(idle.next().await.from, from);
        }
        assert!(tokio::time::timeout(Duration::from_millis(20), idle.next()).await.is_err());
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_asked_is_told_to_all_verifiers_once_a_second() {
        let (streams, broker, _stop) = rig().await;
        let queue = topology::watch(&VerifierId::new("v"));
        let mut consumer = declare_and_consume(&*broker, &queue, 4).await.unwrap();
        tokio::time::sleep(WATCH_EVERY / 2).await;
        let job = JobId::new();
        let watched =
            |count| Watched { job, passed_on: PassedOn { count, sha256: Digest::of(b"") }, stop: false };
        streams.ask(watched(1));
        streams.ask(watched(2));
        let told = consumer.next().await.unwrap();
        let watch = Watch::from_message(&told.message).unwrap();
        assert_eq!((watch.gateway, watch.jobs), (GatewayId::new("g"), vec![watched(2)]), "the latest alone");
        let quiet = tokio::time::timeout(WATCH_EVERY * 3, consumer.next()).await;
        assert!(quiet.is_err(), "nothing was asked since");
    }
}
