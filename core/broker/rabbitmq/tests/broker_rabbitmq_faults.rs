//! Tests what happens when a RabbitMQ server is killed, frozen, short of memory, or closes our connections. Each
//! check starts a server of its own (`infra/service/alone.py`; needs python3; `RABBIT` chooses which), one check
//! after the other.
#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a check fails by panicking")]

use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use infera_broker::{Address, Broker, BrokerError, Consumer, Fleeting as _, Message, Published, Queue, Sent};
use infera_broker_rabbitmq::{Config, RabbitBroker};
use infera_types::secret::Secret;
use tempfile::TempDir;
use tokio::sync::{Mutex, MutexGuard};
use tokio::time::{Instant, sleep, timeout};

/// Held by the running check, because two of these servers at once are slow on two cores.
static ONE_AT_A_TIME: Mutex<()> = Mutex::const_new(());

/// How long an expected event may take, the server's start included.
const PATIENCE: Duration = Duration::from_secs(120);

/// How soon after the server is back everything must work again.
const BACK: Duration = Duration::from_secs(10);

/// The server of one check. It ends with the check.
struct Server {
    folder: TempDir,
    shift: u32,
    url: String,
    _turn: MutexGuard<'static, ()>,
}

impl Server {
    async fn start() -> Self {
        let turn = ONE_AT_A_TIME.lock().await;
        // Several of these test programs may run at once on one machine; the services' ports lie elsewhere.
        let shift = 1_000 + 20 * (std::process::id() % 45);
        let folder = tempfile::tempdir().unwrap();
        let mut server = Self { folder, shift, url: String::new(), _turn: turn };
        server.up();
        server
    }

    fn command(&self, words: &[&str]) -> Result<String, String> {
        let program = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../../infra/service/alone.py");
        let done = Command::new("python3")
            .arg(program)
            .args(words)
            .env("SERVICES_DIR", self.folder.path())
            .env("SERVICES_PORT_SHIFT", self.shift.to_string())
            .output()
            .map_err(|error| error.to_string())?;
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
        if done.status.success() { Ok(text(&done.stdout)) } else { Err(text(&done.stderr)) }
    }

    fn tell(&self, words: &[&str]) {
        self.command(words).expect("the server obeys");
    }

    /// Kills it at once, so that its last writes may not have reached the disk.
    fn crash(&self) {
        let note = std::fs::read_to_string(self.folder.path().join("rabbitmq/rabbitmq.pid")).unwrap();
        let pid = note.lines().next().expect("a pid");
        assert!(Command::new("kill").args(["-9", pid]).status().unwrap().success());
        self.tell(&["crash"]);
    }

    fn up(&mut self) {
        self.url = self.command(&["up"]).expect("a server starts");
    }

    fn broker(&self) -> Arc<dyn Broker> {
        let config =
            Config { url: Secret::new(self.url.as_str()), publish_timeout_ms: 2_000, ..Config::default() };
        RabbitBroker::start(&config).unwrap()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.command(&["thaw"]);
        if let Err(error) = self.command(&["down"]) {
            eprintln!("the server of this check is left behind: {error}");
        }
    }
}

fn queue(name: &str) -> Queue {
    Queue {
        name: name.to_owned(),
        bindings: Vec::new(),
        exclusive: false,
        fleeting: false,
        replicated: true,
        length_max: None,
        bytes_max: None,
        idle_ms: None,
        dead_letters: None,
    }
}

fn message(id: &str) -> Message {
    Message {
        id: id.to_owned(),
        kind: "fault".to_owned(),
        body: Bytes::from_static(b"\x01"),
        ttl_ms: None,
        trace: None,
    }
}

async fn send(broker: &dyn Broker, queue: &Queue, id: &str) -> Published {
    broker.publish(&Address::Queue(queue.name.clone()), message(id)).await
}

/// Waits until ten fleeting messages in a row have the wanted outcome.
async fn expect_sent(broker: &dyn Broker, wanted: Sent) {
    let (mut row, until) = (0, Instant::now() + BACK);
    while row < 10 {
        let outcome = broker.publish_fleeting(&Address::Network("faults".to_owned()), message("frame"));
        row = if outcome == wanted { row + 1 } else { 0 };
        assert!(Instant::now() < until, "frames still end {outcome:?}");
        sleep(Duration::from_millis(10)).await;
    }
}

async fn send_until_kept(broker: &dyn Broker, queue: &Queue, id: &str, patience: Duration) {
    let until = Instant::now() + patience;
    loop {
        match send(broker, queue, id).await {
            Published::Confirmed => return,
            outcome => assert!(Instant::now() < until, "publishing still ends {outcome:?}"),
        }
        sleep(Duration::from_millis(100)).await;
    }
}

async fn consume(broker: &dyn Broker, queue: &Queue, patience: Duration) -> Box<dyn Consumer> {
    let until = Instant::now() + patience;
    loop {
        match broker.consume(&queue.name, 50).await {
            Ok(consumer) => return consumer,
            Err(error) => assert!(Instant::now() < until, "{error}"),
        }
        sleep(Duration::from_millis(100)).await;
    }
}

/// Takes deliveries until this id comes, and returns the ids that came before it.
async fn take_until(consumer: &mut Box<dyn Consumer>, id: &str) -> Vec<String> {
    let mut ids = Vec::new();
    while ids.last().is_none_or(|last| last != id) {
        let delivery = timeout(PATIENCE, consumer.next()).await.unwrap().expect("the subscription ended");
        ids.push(delivery.message.id.clone());
        assert!(delivery.ack().await);
    }
    ids
}

/// Does what a sweeper does with a queue, until it accepts a message: recreates it when it is stuck. Returns whether
/// it was stuck.
async fn mend(broker: &dyn Broker, queue: &Queue) -> bool {
    let (mut was_stuck, until) = (false, Instant::now() + PATIENCE);
    loop {
        let outcome = match broker.declare(queue).await {
            Ok(()) => Ok(send(broker, queue, "again").await),
            Err(error) => Err(error),
        };
        match &outcome {
            Ok(Published::Confirmed) => return was_stuck,
            Ok(Published::Refused) | Err(BrokerError::Stuck(_)) => {
                was_stuck = true;
                eprintln!("{}: {outcome:?}, then {:?}", queue.name, broker.delete(&queue.name).await);
            }
            _ => sleep(Duration::from_millis(200)).await,
        }
        assert!(Instant::now() < until, "{}: {outcome:?}", queue.name);
    }
}

/// RabbitMQ may lose a replicated queue that was declared just before a crash, with the messages that it confirmed,
/// and keep the queue's name. Such a queue is reported as stuck, and accepts messages once it is declared again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_queue_made_just_before_a_crash_is_usable_again() {
    let mut server = Server::start().await;
    let broker = server.broker();
    let queues: Vec<Queue> = (0..6).map(|number| queue(&format!("jobs.young{number}"))).collect();
    for queue in &queues {
        broker.declare(queue).await.unwrap();
        assert_eq!(send(&*broker, queue, "lost").await, Published::Confirmed);
    }
    server.crash();
    server.up();
    let mut stuck = 0;
    for queue in &queues {
        stuck += u32::from(mend(&*broker, queue).await);
        let mut consumer = consume(&*broker, queue, BACK).await;
        take_until(&mut consumer, "again").await;
    }
    eprintln!("{stuck} of {} queues were stuck", queues.len());
}

/// Messages that were confirmed in a settled queue are still there after a crash, and its consumer comes back.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_confirmed_survives_a_crash() {
    let mut server = Server::start().await;
    let broker = server.broker();
    let queue = queue("jobs.settled");
    broker.declare(&queue).await.unwrap();
    sleep(Duration::from_secs(6)).await;
    let mut consumer = broker.consume(&queue.name, 0).await.unwrap();
    let mut confirmed = Vec::new();
    for number in 0..300 {
        if number == 200 {
            server.crash();
        }
        let id = format!("m{number}");
        if number < 210 && send(&*broker, &queue, &id).await == Published::Confirmed {
            confirmed.push(id);
        }
    }
    assert!(confirmed.len() >= 200, "only {} were confirmed", confirmed.len());
    assert!(
        matches!(timeout(PATIENCE, consumer.next()).await, Ok(None)),
        "a dead server's subscription goes on"
    );
    server.up();
    let mut consumer = consume(&*broker, &queue, BACK).await;
    send_until_kept(&*broker, &queue, "last", BACK).await;
    let came = take_until(&mut consumer, "last").await;
    let missing: Vec<_> = confirmed.iter().filter(|id| !came.contains(id)).collect();
    assert!(missing.is_empty(), "confirmed and gone: {missing:?}");
}

/// After an operator closed all connections, consumers and exclusive queues are back at the next try.
async fn closed_connections_are_made_anew(server: &Server, broker: &dyn Broker) {
    let shared = queue("jobs.closed");
    let own = Queue { exclusive: true, replicated: false, ..queue("own") };
    let mut consumers = Vec::new();
    for queue in [&shared, &own] {
        broker.declare(queue).await.unwrap();
        consumers.push(broker.consume(&queue.name, 1).await.unwrap());
    }
    server.tell(&["control", "close_all_connections", "a check"]);
    for consumer in &mut consumers {
        assert!(matches!(timeout(PATIENCE, consumer.next()).await, Ok(None)), "the subscription goes on");
    }
    drop(consumers);
    let until = Instant::now() + BACK;
    for queue in [&shared, &own] {
        while let Err(error) = broker.declare(queue).await {
            assert!(matches!(error, BrokerError::Unavailable(_)) && Instant::now() < until, "{error}");
            sleep(Duration::from_millis(100)).await;
        }
        let mut consumer = consume(broker, queue, BACK).await;
        send_until_kept(broker, queue, "a", BACK).await;
        take_until(&mut consumer, "a").await;
    }
}

/// A frozen server is detected in time, and used again when it wakes.
async fn a_frozen_server_thaws(server: &Server, broker: &dyn Broker) {
    let queue = queue("jobs.frozen");
    broker.declare(&queue).await.unwrap();
    assert_eq!(send(broker, &queue, "before").await, Published::Confirmed);
    server.tell(&["freeze"]);
    let began = Instant::now();
    assert_eq!(send(broker, &queue, "during").await, Published::Unknown);
    assert!(began.elapsed() < Duration::from_secs(5), "told after {:?}", began.elapsed());
    // Longer than two heartbeats: both sides take the other for dead.
    sleep(Duration::from_secs(25)).await;
    server.tell(&["thaw"]);
    send_until_kept(broker, &queue, "during", BACK).await;
    let mut consumer = consume(broker, &queue, BACK).await;
    let came = take_until(&mut consumer, "during").await;
    assert_eq!(came.first().map(String::as_str), Some("before"));
}

/// A server that is short of memory accepts no publishes. They end in time, and consumers on their own connection go
/// on.
async fn an_alarm_stops_publishes_only(server: &Server, broker: &dyn Broker) {
    let queue = queue("jobs.alarm");
    broker.declare(&queue).await.unwrap();
    for id in ["a", "b", "c"] {
        assert_eq!(send(broker, &queue, id).await, Published::Confirmed);
    }
    let mut consumer = broker.consume(&queue.name, 1).await.unwrap();
    server.tell(&["control", "set_vm_memory_high_watermark", "absolute", "1MB"]);
    let until = Instant::now() + PATIENCE;
    while send(broker, &queue, "blocked").await == Published::Confirmed {
        assert!(Instant::now() < until, "no alarm");
        sleep(Duration::from_millis(200)).await;
    }
    assert_eq!(take_until(&mut consumer, "c").await, ["a", "b", "c"]);
    // Frames would only wait.
    expect_sent(broker, Sent::Dropped).await;
    server.tell(&["control", "set_vm_memory_high_watermark", "0.4"]);
    send_until_kept(broker, &queue, "after", BACK).await;
    expect_sent(broker, Sent::HandedOn).await;
    take_until(&mut consumer, "after").await;
}

/// A queue's process is halted, so that its publishes are never confirmed, and there are more of them than may be in
/// flight at once. After their callers have given up, publishes to other queues get the room.
async fn a_stuck_queue_holds_up_no_other(server: &Server, broker: &Arc<dyn Broker>) {
    let (stuck, other) = (queue("jobs.stuck"), queue("jobs.other"));
    for queue in [&stuck, &other] {
        broker.declare(queue).await.unwrap();
        assert_eq!(send(&**broker, queue, "before").await, Published::Confirmed);
    }
    server.tell(&["control", "eval", "sys:suspend(whereis('%2F_jobs.stuck'))."]);
    let sends: Vec<_> = (0..400)
        .map(|number| {
            let (broker, stuck) = (Arc::clone(broker), stuck.clone());
            tokio::spawn(async move { send(&*broker, &stuck, &format!("s{number}")).await })
        })
        .collect();
    for sent in sends {
        let outcome = sent.await.unwrap();
        assert!(matches!(outcome, Published::Refused | Published::Unknown), "{outcome:?}");
    }
    assert_eq!(send(&**broker, &other, "after").await, Published::Confirmed);
    server.tell(&["control", "eval", "sys:resume(whereis('%2F_jobs.stuck'))."]);
    send_until_kept(&**broker, &stuck, "after", BACK).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn halted_closed_frozen_and_short_of_memory_it_is_found_again() {
    let server = Server::start().await;
    let broker = server.broker();
    a_stuck_queue_holds_up_no_other(&server, &broker).await;
    closed_connections_are_made_anew(&server, &*broker).await;
    an_alarm_stops_publishes_only(&server, &*broker).await;
    a_frozen_server_thaws(&server, &*broker).await;
}
