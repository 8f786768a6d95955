//! Clients that hang up on a stream: what they had is told to their jobs' owner, and what that makes of it is shown and counted.

use std::time::Duration;

use infera_broker::consuming::declare_and_consume;
use infera_broker::{Address, Broker as _, Consumer, Fleeting as _, topology};
use infera_gateway::Config;
use infera_ledger::{JobOwner as _, JobReader as _, Notice, Take};
use infera_types::frames::{Delta, DeltasFrame, PassedOn, Watch, Watched};
use infera_types::ids::{Digest, GatewayId, JobId, VerifierId};
use infera_types::job::{Delivered, End, Settlement};
use infera_types::messages::{Completion, Version, Wire as _};
use infera_types::time::Timestamp;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::support::client;
use crate::support::rig::{Play, Rig, chat, unlimited};

/// Longer than the gateway waits for the owner.
const GIVEN_UP: Duration = Duration::from_secs(8);

/// A verifier that hears what gateways say of their streams.
struct Owner {
    id: VerifierId,
    watches: Box<dyn Consumer>,
    gateway: GatewayId,
}

impl Owner {
    async fn new(rig: &Rig) -> Self {
        rig.play(Play::Leave);
        let id = VerifierId::fresh();
        let watches = declare_and_consume(&*rig.broker, &topology::watch(&id), 64).await.expect("a queue");
        let gateway = rig.completions.strip_prefix("completions.").expect("the gateway's queue");
        Self { id, watches, gateway: GatewayId::new(gateway) }
    }

    fn tell(&self, rig: &Rig, job: JobId, (from, tokens, text): (u32, &[u32], &str)) {
        let delta = Delta { job, from, tokens: tokens.to_vec(), text: text.to_owned() };
        let frame = DeltasFrame { verifier: self.id.clone(), deltas: vec![delta] };
        rig.broker.publish_fleeting(&topology::deltas_to(&self.gateway), frame.to_message("v"));
    }

    /// Waits for the next stop; what is merely asked for is passed over.
    async fn stops(&mut self) -> Vec<Watched> {
        loop {
            let told = tokio::time::timeout(GIVEN_UP, self.watches.next()).await.expect("in time");
            let told = told.expect("a message");
            let watch = Watch::from_message(&told.message).expect("a watch");
            assert_eq!((told.sender(), &watch.gateway), (self.gateway.as_str(), &self.gateway));
            if watch.jobs.iter().any(|watched| watched.stop) {
                assert!(watch.jobs.iter().all(|watched| watched.stop), "{watch:?}");
                return watch.jobs;
            }
        }
    }

    async fn is_silent(&mut self, time: Duration) -> bool {
        tokio::time::timeout(time, self.stops_only()).await.is_err()
    }

    async fn stops_only(&mut self) {
        loop {
            let told = self.watches.next().await.expect("a message");
            let watch = Watch::from_message(&told.message).expect("a watch");
            if watch.jobs.iter().any(|watched| watched.stop) {
                return;
            }
        }
    }

    /// Ends a job whose client had this number of tokens.
    async fn end(&self, rig: &Rig, job: JobId, tokens: u32) {
        let taken = rig.ledger.take(&self.id, &[Notice::together(job, false)], Timestamp::now()).await;
        let [Take::Taken(job)] = &taken.expect("a ledger")[..] else { panic!("the job is there") };
        let delivered = Delivered { prompt_tokens: 12, tokens, agreed_tokens: 0, agreed: Vec::new() };
        let settlement = Settlement {
            job_id: job.id,
            account: job.account.clone(),
            model: job.model.clone(),
            gateway: job.gateway.clone(),
            end: End::Cancelled { delivered: Some(delivered) },
            group: None,
            settled_ms: Timestamp::now(),
        };
        rig.ledger.settle(&settlement).await.expect("a ledger");
        let address = Address::Queue(topology::completions(&job.gateway).name);
        let message = Completion { settlement }.to_message_in(Version::NEWEST, job.id.to_string());
        rig.broker.publish(&address, message).await;
    }
}

/// A streamed request's connection, and its jobs.
struct Stream {
    connection: TcpStream,
    read: Vec<u8>,
    jobs: Vec<JobId>,
}

impl Stream {
    async fn open(rig: &Rig, more: &Value, headers: &[(&str, &str)]) -> Self {
        let before = jobs(rig).await;
        let mut body = chat();
        body["stream"] = true.into();
        for (name, value) in more.as_object().into_iter().flatten() {
            body[name] = value.clone();
        }
        let mut all = vec![("api_key", rig.key.as_str()), ("Content-Type", "application/json")];
        all.extend(headers);
        let request = client::request("POST", "/v1/chat/completions", &all, body.to_string().as_bytes());
        let mut connection = TcpStream::connect(rig.address).await.expect("a connection");
        connection.write_all(&request).await.expect("sent");
        let count = more["n"].as_u64().unwrap_or(1);
        for _ in 0..500 {
            let mut jobs = jobs(rig).await;
            jobs.retain(|job| !before.contains(job));
            if jobs.len() as u64 == count {
                jobs.sort();
                return Self { connection, read: Vec::new(), jobs };
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("the jobs were never accepted");
    }

    async fn until_shown(&mut self, text: &str) {
        while !String::from_utf8_lossy(&self.read).contains(text) {
            let read = self.connection.read_buf(&mut self.read).await.expect("events");
            assert!(read > 0, "{}", String::from_utf8_lossy(&self.read));
        }
    }
}

async fn jobs(rig: &Rig) -> Vec<JobId> {
    let listed = rig.get("/v1/jobs?limit=100").await.json();
    let listed = listed["data"].as_array().expect("a list").clone();
    listed.iter().map(|job| job["id"].as_str().expect("an id").parse().expect("an id")).collect()
}

fn passed_on(tokens: &[u32]) -> PassedOn {
    let bytes: Vec<u8> = tokens.iter().flat_map(|token| token.to_le_bytes()).collect();
    PassedOn { count: u32::try_from(tokens.len()).expect("few"), sha256: Digest::of(&bytes) }
}

fn stop(job: JobId, tokens: &[u32]) -> Watched {
    Watched { job, passed_on: passed_on(tokens), stop: true }
}

#[tokio::test]
async fn what_a_client_had_that_hung_up_is_told_and_counted() {
    let config = Config { tokens_per_minute: 600, abandoned_ms: 30_000, ..unlimited() };
    let rig = Rig::start(config).await;
    let mut owner = Owner::new(&rig).await;
    let mut stream = Stream::open(&rig, &json!({ "max_tokens": 400 }), &[]).await;
    let job = stream.jobs[0];
    owner.tell(&rig, job, (0, &[7], "One"));
    owner.tell(&rig, job, (1, &[8, 9], " two"));
    stream.until_shown(" two").await;
    // What was lost on the way to the client isn't counted.
    owner.tell(&rig, job, (4, &[11], " four"));
    drop(stream);
    assert_eq!(owner.stops().await, [stop(job, &[7, 8, 9])]);
    owner.end(&rig, job, 3).await;
    let shown = rig.get_until(&format!("/v1/jobs/{job}"), |job| job["status"] == "cancelled").await.json();
    let usage = json!({ "prompt_tokens": 12, "completion_tokens": 3, "total_tokens": 15 });
    assert_eq!((&shown["usage"], &shown["error"]["code"]), (&usage, &json!("cancelled")), "{shown}");
    // The longest answer was reserved, and what of it the client didn't have came back.
    rig.play(Play::Answer);
    let reply = rig.post("/v1/chat/completions", &chat(), &[]).await;
    let left = reply.header("x-ratelimit-remaining-tokens").and_then(|left| left.parse::<u64>().ok());
    assert!(left.is_some_and(|left| (450..600).contains(&left)), "{left:?}");
    assert!(owner.is_silent(Duration::from_millis(2_500)).await, "nothing is asked of an ended job");
    assert_eq!(rig.ledger.statistics(Timestamp::now()).await.expect("a ledger").cancelled, 1);
}

#[tokio::test]
async fn a_job_that_its_owner_does_not_end_is_cancelled_and_costs_nothing() {
    let rig = Rig::start(Config { abandoned_ms: 30_000, ..unlimited() }).await;
    let mut owner = Owner::new(&rig).await;
    let mut stream = Stream::open(&rig, &json!({}), &[]).await;
    let job = stream.jobs[0];
    owner.tell(&rig, job, (0, &[7], "One"));
    stream.until_shown("One").await;
    drop(stream);
    for _ in 0..4 {
        assert_eq!(owner.stops().await, [stop(job, &[7])], "told again while it goes on");
    }
    let shown = rig.get_until(&format!("/v1/jobs/{job}"), |job| job["status"] == "cancelled").await.json();
    assert_eq!(shown["usage"], Value::Null, "{shown}");
}

#[tokio::test]
async fn who_had_nothing_or_means_to_ask_again_stops_nothing() {
    let rig = Rig::start(unlimited()).await;
    let mut owner = Owner::new(&rig).await;
    let stream = Stream::open(&rig, &json!({}), &[]).await;
    let had_nothing = stream.jobs[0];
    drop(stream);
    rig.get_until(&format!("/v1/jobs/{had_nothing}"), |job| job["status"] == "cancelled").await;
    let mut stream = Stream::open(&rig, &json!({}), &[("Idempotency-Key", "again")]).await;
    let goes_on = stream.jobs[0];
    owner.tell(&rig, goes_on, (0, &[7], "One"));
    stream.until_shown("One").await;
    drop(stream);
    assert!(owner.is_silent(Duration::from_secs(3)).await);
    assert_eq!(rig.get(&format!("/v1/jobs/{goes_on}")).await.json()["status"], "queued");
}

#[tokio::test]
async fn each_answer_of_several_ends_with_what_the_client_had_of_it() {
    let rig = Rig::start(unlimited()).await;
    let mut owner = Owner::new(&rig).await;
    let mut stream = Stream::open(&rig, &json!({ "n": 3, "temperature": 0.5 }), &[]).await;
    let jobs = stream.jobs.clone();
    owner.tell(&rig, jobs[1], (0, &[7, 8], "One"));
    owner.tell(&rig, jobs[2], (0, &[9], "Other"));
    stream.until_shown("One").await;
    stream.until_shown("Other").await;
    drop(stream);
    let had = [stop(jobs[0], &[]), stop(jobs[1], &[7, 8]), stop(jobs[2], &[9])];
    assert_eq!(owner.stops().await, had);
    owner.end(&rig, jobs[1], 2).await;
    owner.end(&rig, jobs[0], 0).await;
    // The last one is told again by itself, and cancelled in the end.
    while owner.stops().await != had[2..] {}
    let mut shown = Vec::new();
    for job in &jobs {
        let job = rig.get_until(&format!("/v1/jobs/{job}"), |job| job["status"] == "cancelled").await.json();
        shown.push(job["usage"]["total_tokens"].clone());
    }
    assert_eq!(shown, [json!(12), json!(2), Value::Null], "the prompt is the first answer's");
}
