//! What followers see, and what verifiers are told.

use infera_broker::memory::MemoryBroker;
use infera_broker::{Broker as _, Consumer, Fleeting as _, consuming::declare_and_consume};
use infera_types::frames::PassedOn;
use infera_types::ids::{Digest, VerifierId};

use super::*;

fn delta(job: JobId, from: u32) -> Delta {
    Delta { job, from, tokens: vec![from], text: from.to_string() }
}

/// Returns running streams with what tells them deltas.
async fn rig_with(memory: MemoryBudget) -> (Arc<Streams>, Arc<MemoryBroker>, Shutdown) {
    let broker = MemoryBroker::new();
    let streams = Arc::new(Streams::new(GatewayId::new("g"), Arc::clone(&broker) as _, memory));
    let stop = Shutdown::new();
    let (running, ends) = (Arc::clone(&streams), stop.clone());
    tokio::spawn(async move { running.run(&ends).await });
    while broker.depth(&topology::deltas(&GatewayId::new("g")).name).await.unwrap().is_none() {
        tokio::task::yield_now().await;
    }
    (streams, broker, stop)
}

async fn rig() -> (Arc<Streams>, Arc<MemoryBroker>, Shutdown) {
    rig_with(MemoryBudget::new(0)).await
}

fn tell(broker: &MemoryBroker, deltas: Vec<Delta>) {
    let frame = DeltasFrame { verifier: VerifierId::new("v"), deltas };
    broker.publish_fleeting(&topology::deltas_to(&GatewayId::new("g")), frame.to_message("v"));
}

/// A client that shows what it follows.
struct Client {
    following: Following,
    mark: Mark,
    bell: Arc<Notify>,
    shown: String,
}

impl Client {
    fn of(follow: impl FnOnce(&Arc<Notify>) -> Following) -> Self {
        let bell = Arc::new(Notify::new());
        Self { following: follow(&bell), mark: Mark::default(), bell, shown: String::new() }
    }

    /// Shows what there is.
    fn show(&mut self) -> &str {
        while let Some(piece) = self.following.next(&mut self.mark, 2_000).unwrap() {
            self.shown.push_str(&piece);
        }
        &self.shown
    }

    /// Shows until this is shown.
    async fn until_shown(&mut self, text: &str) {
        while self.show() != text {
            self.bell.notified().await;
        }
    }
}

#[tokio::test]
async fn each_follower_is_shown_its_jobs_text_and_no_others() {
    let (streams, broker, _stop) = rig().await;
    let (one, other) = (JobId::new(), JobId::new());
    let mut clients = [one, one, other].map(|job| Client::of(|bell| streams.follow(job, bell)));
    tell(&broker, vec![delta(one, 0), delta(JobId::new(), 9)]);
    tell(&broker, vec![delta(one, 1), delta(other, 0)]);
    for client in &mut clients[..2] {
        client.until_shown("01").await;
    }
    clients[2].until_shown("0").await;
    drop(clients);
    assert!(lock(&streams.followed).by_job.is_empty());
}

#[tokio::test]
async fn who_joins_is_shown_all_of_it_and_who_does_not_read_loses_nothing() {
    let (streams, broker, _stop) = rig().await;
    let (job, mut text) = (JobId::new(), String::new());
    let mut first = Client::of(|bell| streams.follow(job, bell));
    let mut idle = Client::of(|bell| streams.follow(job, bell));
    for from in 0..200 {
        tell(&broker, vec![delta(job, from)]);
        text.push_str(&from.to_string());
        first.until_shown(&text).await;
    }
    let mut joined = Client::of(|bell| streams.join(job, bell));
    joined.until_shown(&text).await;
    tell(&broker, vec![delta(job, 200)]);
    text.push_str("200");
    for client in [&mut first, &mut idle, &mut joined] {
        client.until_shown(&text).await;
    }
}

/// Returns a reader of what verifiers are told.
async fn verifier(broker: &MemoryBroker) -> Box<dyn Consumer> {
    declare_and_consume(broker, &topology::watch(&VerifierId::new("v")), 4).await.unwrap()
}

async fn told(consumer: &mut Box<dyn Consumer>) -> Vec<Watched> {
    let told = consumer.next().await.unwrap();
    let watch = Watch::from_message(&told.message).unwrap();
    assert_eq!(watch.gateway, GatewayId::new("g"));
    watch.jobs
}

fn watched(job: JobId, count: u32) -> Watched {
    let tokens: Vec<u8> = (0..count).flat_map(u32::to_le_bytes).collect();
    Watched { job, passed_on: PassedOn { count, sha256: Digest::of(&tokens) }, stop: false }
}

#[tokio::test(start_paused = true)]
async fn what_is_missing_is_asked_for_within_a_second_and_once() {
    let (streams, broker, _stop) = rig().await;
    let mut consumer = verifier(&broker).await;
    tokio::time::sleep(WATCH_EVERY / 2).await;
    let job = JobId::new();
    let mut client = Client::of(|bell| streams.follow(job, bell));
    tell(&broker, vec![delta(job, 0)]);
    client.until_shown("0").await;
    tell(&broker, vec![delta(job, 2)]);
    tell(&broker, vec![delta(job, 3)]);
    let asked = Instant::now();
    assert_eq!(told(&mut consumer).await, [watched(job, 1)]);
    assert!(asked.elapsed() <= WATCH_EVERY, "{:?}", asked.elapsed());
    let whole = Delta { tokens: vec![1, 2, 3], text: "123".to_owned(), ..delta(job, 1) };
    tell(&broker, vec![whole]);
    client.until_shown("0123").await;
    let again = Instant::now();
    assert_eq!(told(&mut consumer).await, [watched(job, 4)], "after a second of silence");
    assert!(
        again.elapsed() >= WATCH_EVERY / 2 && again.elapsed() <= WATCH_EVERY * 2,
        "{:?}",
        again.elapsed()
    );
    drop(client);
    let quiet = tokio::time::timeout(WATCH_EVERY * 60, consumer.next()).await;
    assert!(quiet.is_err(), "nobody follows it any more");
}

#[tokio::test(start_paused = true)]
async fn a_job_of_before_is_asked_for_at_once_and_a_new_one_when_it_is_late() {
    let (streams, broker, _stop) = rig().await;
    let mut consumer = verifier(&broker).await;
    let (new, earlier) = (JobId::new(), JobId::new());
    let began = Instant::now();
    let _new = Client::of(|bell| streams.follow(new, bell));
    let joined = Client::of(|bell| streams.join(earlier, bell));
    assert_eq!(told(&mut consumer).await, [watched(earlier, 0)]);
    assert!(began.elapsed() <= WATCH_EVERY, "{:?}", began.elapsed());
    let mut later = [told(&mut consumer).await, told(&mut consumer).await].concat();
    assert!(began.elapsed() >= WATCH_EVERY * 5, "{:?}", began.elapsed());
    let mut expected = [watched(new, 0), watched(earlier, 0)];
    for both in [&mut later[..], &mut expected[..]] {
        both.sort_unstable_by_key(|watched| watched.job);
    }
    assert_eq!(later, expected);
    joined.following.ask_soon();
    let soon = Instant::now();
    assert_eq!(told(&mut consumer).await, [watched(earlier, 0)]);
    assert!(soon.elapsed() <= WATCH_EVERY, "{:?}", soon.elapsed());
}

#[tokio::test(start_paused = true)]
async fn without_memory_no_more_is_heard_or_asked_for() {
    let memory = MemoryBudget::new(30_000);
    let (streams, broker, _stop) = rig_with(memory.clone()).await;
    let mut consumer = verifier(&broker).await;
    let job = JobId::new();
    let mut client = Client::of(|bell| streams.follow(job, bell));
    let of = |from: u32, text: &str| Delta { job, from, tokens: vec![from], text: text.repeat(20_000) };
    for (from, text) in [(0, "a"), (1, "b"), (2, "c")] {
        tell(&broker, vec![of(from, text)]);
    }
    let shown = ["a", "b"].map(|text| text.repeat(20_000)).concat();
    client.until_shown(&shown).await;
    let quiet = tokio::time::timeout(WATCH_EVERY * 60, consumer.next()).await;
    assert!(
        quiet.is_err() && client.show() == shown,
        "what was heard first is shown, and the rest at the end"
    );
    drop(client);
    let mut other = None;
    assert!(memory.reserve(&mut other, 30_000), "all is given back");
}
