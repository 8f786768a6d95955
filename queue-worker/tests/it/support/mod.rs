//! A network of one node: the embedded broker with the queues that a verifier would declare, and a worker on it.

pub(crate) mod engines;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use infera_broker::memory::MemoryBroker;
use infera_broker::{
    Address, Binding, Broker, Consumer, Delivery, Exchange, Message, Published, Queue, topology,
};
use infera_engine::Engine;
use infera_model::chat::ChatModel;
use infera_types::ids::{AssignmentId, Digest, JobId, ModelName, NodeId, VerifierId};
use infera_types::job::{ChatMessage, JobRequest};
use infera_types::knobs::Knobs;
use infera_types::messages::{Assignment, Heartbeat, Refusal, RefusalReason, Replica, Wire as _};
use infera_types::shutdown::Shutdown;
use infera_types::time::Timestamp;
use infera_worker::{Config, Counts, Model, Seams, Worker, WorkerError, WorkerHandle};
use tokio::task::JoinHandle;

/// Far longer than anything here takes on a busy machine, so reaching it is a failure.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// The bundled model's folder.
pub(crate) fn model_folder() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../models/infera-tiny"))
}

/// Loads its tokenizer and template.
pub(crate) fn chat() -> Arc<ChatModel> {
    Arc::new(ChatModel::load(model_folder()).unwrap())
}

/// Makes a model with the bundled one's tokenizer.
pub(crate) fn model(name: &str, engine: Box<dyn Engine>) -> Model {
    Model { name: ModelName::new(name), chat: chat(), engine }
}

/// A message of a node to a verifier.
#[derive(Debug)]
pub(crate) enum Reply {
    Replica(Box<Replica>),
    Refusal(Refusal),
}

impl Reply {
    pub(crate) fn replica(self) -> Replica {
        match self {
            Self::Replica(replica) => *replica,
            Self::Refusal(refusal) => panic!("refused: {refusal:?}"),
        }
    }

    pub(crate) fn refusal(self) -> RefusalReason {
        match self {
            Self::Replica(replica) => panic!("answered: {replica:?}"),
            Self::Refusal(refusal) => refusal.reason,
        }
    }
}

/// What one verifier receives.
pub(crate) struct Verifier {
    pub(crate) id: VerifierId,
    replies: Box<dyn Consumer>,
    /// The node's heartbeats, in order.
    pub(crate) heartbeats: Vec<Heartbeat>,
}

impl Verifier {
    /// Returns the next delivery that isn't a heartbeat.
    pub(crate) async fn next_delivery(&mut self) -> Delivery {
        loop {
            let delivery = tokio::time::timeout(PATIENCE, self.replies.next()).await.unwrap().unwrap();
            match Heartbeat::from_message(&delivery.message) {
                Ok(heartbeat) => {
                    self.heartbeats.push(heartbeat);
                    delivery.ack().await;
                }
                Err(_) => return delivery,
            }
        }
    }

    pub(crate) async fn next(&mut self) -> Reply {
        let delivery = self.next_delivery().await;
        let reply = match Refusal::from_message(&delivery.message) {
            Ok(refusal) => Reply::Refusal(refusal),
            Err(_) => Reply::Replica(Box::new(Replica::from_message(&delivery.message).unwrap())),
        };
        delivery.ack().await;
        reply
    }

    /// Returns the next heartbeat for which `wanted` is true.
    pub(crate) async fn heartbeat(&mut self, wanted: impl Fn(&Heartbeat) -> bool) -> Heartbeat {
        loop {
            if let Some(found) = self.heartbeats.iter().find(|heartbeat| wanted(heartbeat)) {
                return found.clone();
            }
            let delivery = tokio::time::timeout(PATIENCE, self.replies.next()).await.unwrap().unwrap();
            self.heartbeats.extend(Heartbeat::from_message(&delivery.message));
            delivery.ack().await;
        }
    }
}

/// A running worker.
pub(crate) struct Running {
    pub(crate) handle: WorkerHandle,
    pub(crate) shutdown: Shutdown,
    pub(crate) task: JoinHandle<Result<(), WorkerError>>,
}

impl Running {
    pub(crate) async fn stop(self) -> Result<(), WorkerError> {
        self.shutdown.cancel();
        tokio::time::timeout(PATIENCE, self.task).await.unwrap().unwrap()
    }

    /// Ends the worker as a crash would: it finishes nothing and sends nothing.
    pub(crate) async fn crash(self) {
        self.task.abort();
        assert!(self.task.await.unwrap_err().is_cancelled());
    }

    /// Waits until `wanted` is true of the counts.
    pub(crate) async fn until(&self, wanted: impl Fn(&Counts) -> bool) {
        let waiting = async {
            while !wanted(self.handle.counts()) {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        };
        tokio::time::timeout(PATIENCE, waiting).await.unwrap();
    }
}

/// A broker with one node's queue, and no worker yet.
pub(crate) struct Network {
    pub(crate) broker: Arc<MemoryBroker>,
    pub(crate) node: NodeId,
    pub(crate) queue: Queue,
}

impl Network {
    pub(crate) async fn new() -> Self {
        let broker = MemoryBroker::new();
        let node = NodeId::fresh();
        let queue = topology::node(&node, "suffix");
        for queue in [&queue, &topology::replicas_any(), &topology::parked()] {
            broker.declare(queue).await.unwrap();
        }
        Self { broker, node, queue }
    }

    pub(crate) async fn verifier(&self) -> Verifier {
        let id = VerifierId::fresh();
        let queue = topology::replicas(&id);
        self.broker.declare(&queue).await.unwrap();
        let replies = self.broker.consume(&queue.name, 100).await.unwrap();
        Verifier { id, replies, heartbeats: Vec::new() }
    }

    /// Adds a verifier whose queue takes one message and is full. Returns the queue and the verifier's id.
    pub(crate) async fn full_verifier(&self) -> (Queue, VerifierId) {
        let id = VerifierId::fresh();
        let binding = Binding { exchange: Exchange::Nodes, pattern: format!("*.replica.{id}") };
        let queue = Queue {
            name: format!("small.{id}"),
            bindings: vec![binding],
            exclusive: false,
            fleeting: false,
            replicated: false,
            length_max: Some(1),
            bytes_max: None,
            idle_ms: None,
            dead_letters: None,
        };
        self.broker.declare(&queue).await.unwrap();
        let filler =
            Message { id: "x".to_owned(), kind: "x".to_owned(), body: "x".into(), ttl_ms: None, trace: None };
        let published = self.broker.publish(&Address::Queue(queue.name.clone()), filler).await;
        assert_eq!(published, Published::Confirmed);
        (queue, id)
    }

    pub(crate) fn start(&self, config: Config, engine: Box<dyn Engine>) -> Running {
        self.start_over(self.broker.clone(), config, engine)
    }

    /// Starts the same with a wrapper around the broker.
    pub(crate) fn start_over(
        &self,
        broker: Arc<dyn Broker>,
        config: Config,
        engine: Box<dyn Engine>,
    ) -> Running {
        self.start_models(broker, config, vec![model("infera-tiny", engine)])
    }

    /// Starts a worker that serves these models.
    pub(crate) fn start_models(
        &self,
        broker: Arc<dyn Broker>,
        config: Config,
        models: Vec<Model>,
    ) -> Running {
        let (node, queue) = (self.node.clone(), self.queue.name.clone());
        let worker = Worker::new(config, node, queue, Seams { broker, models });
        let (handle, shutdown) = (worker.handle(), Shutdown::new());
        let task = tokio::spawn(worker.run(shutdown.clone()));
        Running { handle, shutdown, task }
    }

    /// Puts a message into the node's queue.
    pub(crate) async fn send(&self, message: Message) {
        let address = Address::Queue(self.queue.name.clone());
        assert_eq!(self.broker.publish(&address, message).await, Published::Confirmed);
    }

    pub(crate) async fn assign(&self, assignment: &Assignment) {
        self.send(assignment.to_message(assignment.id.to_string())).await;
    }

    /// Makes the messages in the node's queue look as if a consumer had died with them.
    pub(crate) async fn make_redelivered(&self, count: usize) {
        let mut consumer = self.broker.consume(&self.queue.name, 100).await.unwrap();
        for _ in 0..count {
            let taken = tokio::time::timeout(PATIENCE, consumer.next()).await.unwrap().unwrap();
            drop(taken);
        }
    }

    /// Returns the messages in the node's queue.
    pub(crate) async fn waiting(&self) -> u64 {
        self.broker.depth(&self.queue.name).await.unwrap().unwrap()
    }
}

/// Makes an assignment of a new job for the stub engine's model. `text` is the user's message.
pub(crate) fn assignment(verifier: &Verifier, text: &str) -> Assignment {
    Assignment {
        id: AssignmentId::new(),
        job_id: JobId::new(),
        verifier: verifier.id.clone(),
        model_digest: engines::stub_digest(),
        request: JobRequest {
            model: ModelName::new("infera-tiny"),
            messages: vec![ChatMessage { role: "user".to_owned(), content: text.to_owned() }],
            max_tokens: 64,
            temperature: 0.7,
            seed: None,
            knobs: Knobs::default(),
            top_logprobs: None,
            stream: None,
        },
        sample_key: Digest::of(text.as_bytes()),
        choice: 0,
        cache_scope: None,
        now_ms: Timestamp::from_millis(1_790_000_000_000),
        budget_ms: 60_000,
        speaks: infera_types::messages::Version::NEWEST,
    }
}

/// Makes another assignment of the same job, as another verifier would send it.
pub(crate) fn again(assignment: &Assignment, verifier: &Verifier) -> Assignment {
    Assignment { id: AssignmentId::new(), verifier: verifier.id.clone(), ..assignment.clone() }
}
