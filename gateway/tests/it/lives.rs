//! The lives of requests in which something goes wrong.

use std::time::{Duration, Instant};

use infera_broker::{Address, Broker, Message, Published, topology};
use infera_gateway::Config;
use serde_json::json;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use crate::support::client;
use crate::support::rig::{Play, Rig, chat, unlimited};

fn chat_for(seconds: u64) -> serde_json::Value {
    let mut body = chat();
    body["request_timeout_time"] = json!(seconds);
    body
}

#[tokio::test]
async fn a_lost_completion_is_found_in_the_ledger() {
    let rig = Rig::start(unlimited()).await;
    rig.play(Play::Silently);
    let begun = Instant::now();
    let reply = rig.post("/chat/completions", &chat_for(60), &[]).await;
    assert_eq!((reply.status, &reply.json()["verification"]["status"]), (200, &json!("verified")));
    assert!(
        begun.elapsed() < Duration::from_secs(30),
        "found by polling, not by giving up: {:?}",
        begun.elapsed()
    );
}

#[tokio::test]
async fn out_of_time_is_504_with_the_job_and_the_job_goes_on() {
    let rig = Rig::start(unlimited()).await;
    rig.play(Play::Leave);
    let reply = rig.post("/v1/chat/completions", &chat_for(1), &[]).await;
    assert_eq!((reply.status, &reply.json()["error"]["code"]), (504, &json!("timeout")));
    let id = reply.header("x-job-id").expect("the job's id").to_owned();
    assert_eq!(reply.json()["job_id"], json!(id));
    assert_eq!(rig.get(&format!("/v1/jobs/{id}")).await.json()["status"], "queued");
}

#[tokio::test]
async fn a_client_that_goes_away_cancels_its_job() {
    let rig = Rig::start(unlimited()).await;
    rig.play(Play::Leave);
    let body = chat_for(600).to_string();
    let headers = [("api_key", rig.key.as_str()), ("Content-Type", "application/json")];
    let mut stream = TcpStream::connect(rig.address).await.expect("a connection");
    stream
        .write_all(&client::request("POST", "/chat/completions", &headers, body.as_bytes()))
        .await
        .expect("sent");
    rig.get_until("/network_stats", |counts| counts["queued"] == 1).await;
    drop(stream);
    rig.get_until("/network_stats", |counts| counts["cancelled"] == 1).await;
}

#[tokio::test]
async fn a_client_with_an_idempotency_key_may_go_away_and_come_back() {
    let rig = Rig::start(unlimited()).await;
    rig.play(Play::Leave);
    let body = chat_for(600);
    let headers =
        [("api_key", rig.key.as_str()), ("Content-Type", "application/json"), ("Idempotency-Key", "k")];
    let mut stream = TcpStream::connect(rig.address).await.expect("a connection");
    let request = client::request("POST", "/chat/completions", &headers, body.to_string().as_bytes());
    stream.write_all(&request).await.expect("sent");
    rig.get_until("/network_stats", |counts| counts["queued"] == 1).await;
    drop(stream);
    end_what_waits(&rig).await;
    let reply = rig.post("/chat/completions", &body, &[("Idempotency-Key", "k")]).await;
    assert_eq!((reply.status, reply.header("idempotent-replayed")), (200, Some("true")), "{}", reply.json());
}

#[tokio::test]
async fn a_job_cancelled_while_its_client_waits_is_told_at_once() {
    let rig = Rig::start(unlimited()).await;
    rig.play(Play::Leave);
    let (body, key) = (chat_for(600), [("Idempotency-Key", "k")]);
    let cancel = async {
        rig.get_until("/network_stats", |counts| counts["queued"] == 1).await;
        // The second request is told the job of the first.
        let known = rig.post("/v1/chat/completions", &body, &key).await;
        let path = format!("/v1/jobs/{}", known.header("x-job-id").expect("an id"));
        rig.send("DELETE", &path, &[("api_key", &rig.key)], b"").await.json()
    };
    let (waited, cancelled) = tokio::join!(rig.post("/v1/chat/completions", &body, &key), cancel);
    assert_eq!(cancelled["status"], "cancelled");
    assert_eq!((waited.status, &waited.json()["error"]["code"]), (409, &json!("cancelled")));
    assert_eq!(waited.header("x-should-retry"), Some("false"));
}

#[tokio::test]
async fn draining_answers_what_waits_and_takes_nothing_new() {
    let rig = Rig::start(Config { drain_ms: 1_500, ..unlimited() }).await;
    rig.play(Play::Leave);
    let body = chat_for(600);
    let stop = async {
        rig.get_until("/network_stats", |counts| counts["queued"] == 1).await;
        rig.shutdown.cancel();
        tokio::time::sleep(Duration::from_millis(300)).await;
        client::send(rig.address, "GET", "/healthz", &[], b"").await
    };
    let (waited, refused) = tokio::join!(rig.post("/v1/chat/completions", &body, &[]), stop);
    assert_eq!((waited.status, &waited.json()["error"]["code"]), (503, &json!("shutting_down")));
    assert!(waited.header("x-job-id").is_some(), "the job goes on and can be found");
    assert_eq!(waited.header("connection"), Some("close"));
    assert!(refused.is_err(), "nobody listens any more");
    tokio::time::timeout(Duration::from_secs(30), rig.running).await.expect("it ends").expect("it ends well");
}

#[tokio::test]
async fn draining_lets_an_answer_through_and_closes_idle_connections() {
    let rig = Rig::start(Config { drain_ms: 20_000, ..unlimited() }).await;
    rig.play(Play::Leave);
    let mut idle = TcpStream::connect(rig.address).await.expect("a connection");
    idle.write_all(b"GET /healthz HTTP/1.1\r\nHost: test\r\n\r\n").await.expect("sent");
    assert_eq!(client::read(&mut idle).await.expect("a reply").status, 200);
    let headers = [("api_key", rig.key.as_str()), ("Content-Type", "application/json")];
    let mut busy = TcpStream::connect(rig.address).await.expect("a connection");
    let body = chat_for(600).to_string();
    busy.write_all(&client::request("POST", "/chat/completions", &headers, body.as_bytes()))
        .await
        .expect("sent");
    rig.get_until("/network_stats", |counts| counts["queued"] == 1).await;
    rig.shutdown.cancel();
    assert!(client::read(&mut idle).await.is_err(), "closed");
    // The job ends while the gateway drains, and its completion is lost too.
    end_what_waits(&rig).await;
    assert_eq!(client::read(&mut busy).await.expect("a reply").status, 200);
    tokio::time::timeout(Duration::from_secs(30), rig.running).await.expect("it ends").expect("it ends well");
}

/// Ends the job that the verifier's part left, without telling the gateway.
pub(crate) async fn end_what_waits(rig: &Rig) {
    use infera_ledger::{JobOwner, Notice, SweepQuestion, Sweeping, Take};
    use infera_types::ids::VerifierId;
    use infera_types::service::Lane;
    use infera_types::time::Timestamp;

    let later = Timestamp::now().after(Duration::from_secs(60));
    let question = SweepQuestion {
        empty_queues: vec![(infera_types::ids::ModelName::new(crate::support::rig::MODEL), Lane::First)],
        dead: Vec::new(),
        unserved: Vec::new(),
        unconfirmed_for: Duration::from_secs(5),
        limit: 10,
    };
    let mut tries = 0;
    let job = loop {
        let found = rig.ledger.sweep(&question, later).await.expect("a ledger").hand_out;
        if let Some((job, ..)) = found.first() {
            break *job;
        }
        // A job that is held is handed out once it was offered.
        tries += 1;
        assert!(tries < 1_500, "no job waits");
        tokio::time::sleep(Duration::from_millis(20)).await;
    };
    let owner = VerifierId::fresh();
    let taken = rig.ledger.take(&owner, &[Notice::together(job, false)], later).await.expect("a ledger");
    let Some(Take::Taken(job)) = taken.into_iter().next() else { panic!("not taken") };
    let settlement = infera_types::job::Settlement {
        job_id: job.id,
        account: job.account,
        model: job.model,
        gateway: job.gateway,
        end: crate::support::rig::answered(),
        group: None,
        settled_ms: Timestamp::now(),
    };
    rig.ledger.settle(&settlement).await.expect("a ledger");
}

#[tokio::test]
async fn a_message_that_nobody_knows_is_parked() {
    let rig = Rig::start(unlimited()).await;
    let body = vec![infera_types::messages::Version::First.byte()].into();
    let message =
        Message { id: "1".to_owned(), kind: "tomorrow".to_owned(), body, ttl_ms: Some(60_000), trace: None };
    let published = rig.broker.publish(&Address::Queue(rig.completions.clone()), message.clone()).await;
    assert_eq!(published, Published::Confirmed);
    let parked = topology::parked().name;
    let mut waited = Duration::ZERO;
    while rig.broker.depth(&parked).await.expect("a broker") != Some(1) {
        assert!(waited < Duration::from_secs(30), "never parked");
        tokio::time::sleep(Duration::from_millis(20)).await;
        waited += Duration::from_millis(20);
    }
    let mut parked = rig.broker.consume(&parked, 1).await.expect("the queue is there");
    let lasting = Message { ttl_ms: None, ..message };
    assert_eq!(parked.next().await.map(|delivery| delivery.message), Some(lasting));
    assert_eq!(rig.post("/chat/completions", &chat(), &[]).await.status, 200, "and life goes on");
}

#[tokio::test]
async fn a_lost_queue_is_told_and_made_again() {
    let rig = Rig::start(unlimited()).await;
    rig.broker.delete(&rig.completions).await.expect("a broker");
    let ready = || rig.send("GET", "/readyz", &[], b"");
    let reply = ready().await;
    assert!(reply.status == 200 || reply.json()["checks"]["completions"] == json!(false), "{}", reply.json());
    let mut waited = Duration::ZERO;
    while ready().await.status != 200 {
        assert!(waited < Duration::from_secs(30), "never ready again");
        tokio::time::sleep(Duration::from_millis(20)).await;
        waited += Duration::from_millis(20);
    }
    assert_eq!(rig.post("/chat/completions", &chat(), &[]).await.status, 200);
}

#[tokio::test]
async fn without_a_verifier_it_is_ready_and_says_that_nobody_serves() {
    let rig = Rig::start_with(unlimited(), 0).await;
    let ready = rig.send("GET", "/readyz", &[], b"").await;
    assert_eq!((ready.status, &ready.json()["verifiers"]), (200, &json!(0)));
    assert_eq!(rig.post("/chat/completions", &chat(), &[]).await.status, 503);
}
