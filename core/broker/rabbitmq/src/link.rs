//! One connection to the broker, made when it is first needed and again after a loss. The client library's own
//! recovery is off: while it recovers, a publish hangs without an error and a consumer is silent (both measured).

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures::{Stream, StreamExt as _};
use lapin::options::ExchangeDeclareOptions;
use lapin::tcp::OwnedTLSConfig;
use lapin::types::FieldTable;
use lapin::uri::AMQPUri;
use lapin::{Channel, Connection, ConnectionProperties, Event, ExchangeKind};
use tokio::sync::Mutex;
use tokio::task::AbortHandle;
use tokio::time::{Instant, timeout};

use super::access::Access;
use super::line::{Line, answer};
use super::terms::{Refusal, connection_name, exchange_name, short};
use infera_broker::Exchange;
use infera_telemetry::metrics::BROKER_BLOCKED;

/// How long opening a channel may take; a healthy broker takes a millisecond.
const SOON: Duration = Duration::from_secs(1);

/// How long a failed attempt is reported to all callers before the next attempt: callers retry by themselves, and a
/// starting broker must not be stormed.
const PAUSE: Duration = Duration::from_millis(300);

/// Where connections lead, which CAs they trust, and under which identity they are made.
#[derive(Clone)]
pub(super) struct Endpoint {
    pub(super) uri: AMQPUri,
    pub(super) tls: OwnedTLSConfig,
    pub(super) access: Access,
}

/// Keeps a connection to the broker, and makes it again after a loss.
pub(super) struct Link {
    endpoint: Endpoint,
    purpose: &'static str,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    line: Option<Arc<Line>>,
    epoch: u64,
    /// The time and reason of the last attempt, if it failed.
    failed: Option<(Instant, Refusal)>,
    /// The task that hands new tokens to the broker.
    keeper: Option<AbortHandle>,
}

impl Drop for State {
    fn drop(&mut self) {
        if let Some(keeper) = &self.keeper {
            keeper.abort();
        }
    }
}

impl Link {
    pub(super) fn new(endpoint: Endpoint, purpose: &'static str) -> Self {
        Self { endpoint, purpose, state: Mutex::default() }
    }

    /// Opens a channel. The connection stays open while the returned line is held.
    pub(super) async fn channel(&self) -> Result<(Arc<Line>, Channel), Refusal> {
        let line = self.line().await?;
        let channel = answer(line.connection.create_channel()).await?;
        Ok((line, channel))
    }

    /// Returns whether the broker reads the present connection and answers soon. It does not if the connection is
    /// gone, or if the broker is short of memory or disk and has stopped reading.
    pub(super) async fn answers(&self) -> bool {
        let line = self.state.lock().await.line.clone();
        match line.filter(|line| line.is_up()) {
            Some(line) => matches!(timeout(SOON, line.connection.create_channel()).await, Ok(Ok(_))),
            None => false,
        }
    }

    /// Gives up a connection that seems to be up but no longer answers.
    pub(super) async fn give_up(&self, line: &Line) {
        let mut state = self.state.lock().await;
        if state.line.as_ref().is_some_and(|current| current.epoch == line.epoch) {
            state.line = None;
        }
    }

    async fn line(&self) -> Result<Arc<Line>, Refusal> {
        let mut state = self.state.lock().await;
        if let Some(line) = state.line.as_ref().filter(|line| line.is_up()) {
            return Ok(Arc::clone(line));
        }
        if let Some((when, why)) = &state.failed
            && when.elapsed() < PAUSE
        {
            return Err(why.clone());
        }
        match self.connect().await {
            Ok((connection, access)) => {
                state.epoch += 1;
                state.failed = None;
                let line = Arc::new(Line { connection, epoch: state.epoch, since: Instant::now() });
                if access.is_node() {
                    let keeper = tokio::spawn(access.keep(Arc::downgrade(&line))).abort_handle();
                    if let Some(earlier) = state.keeper.replace(keeper) {
                        earlier.abort();
                    }
                }
                state.line = Some(Arc::clone(&line));
                tracing::info!(purpose = self.purpose, epoch = line.epoch, "connected to RabbitMQ");
                Ok(line)
            }
            Err(refusal) => {
                // Logged once per outage; waiting callers get the error each time.
                if state.failed.is_none() {
                    tracing::warn!(
                        purpose = self.purpose,
                        ?refusal,
                        "RabbitMQ is away; trying again until it is back"
                    );
                }
                state.line = None;
                state.failed = Some((Instant::now(), refusal.clone()));
                Err(refusal)
            }
        }
    }

    /// Makes a new connection and returns it with the identity under which it was made.
    async fn connect(&self) -> Result<(Connection, Access), Refusal> {
        let Endpoint { uri, tls, mut access } = self.endpoint.clone();
        let properties = ConnectionProperties::default().with_connection_name(connection_name(self.purpose));
        let properties = access.introduce(properties)?;
        let runtime = lapin::runtime::default_runtime()?;
        let connection = answer(Connection::connect_uri_with_config(uri, properties, tls, runtime)).await?;
        tokio::spawn(note_alarms(connection.events_listener()));
        if !access.is_node() {
            declare_exchanges(&connection).await?;
        }
        Ok((connection, access))
    }
}

/// Shows operators whether the broker accepts publishes, while the connection lasts.
async fn note_alarms(events: impl Stream<Item = Event>) {
    let mut events = pin!(events);
    let mut blocked = false;
    while let Some(event) = events.next().await {
        let is_blocked = match event {
            Event::ConnectionBlocked(reason) => {
                tracing::warn!(reason, "RabbitMQ accepts no publishes until its alarm is over");
                true
            }
            Event::ConnectionUnblocked => false,
            Event::Error(_) => break,
            _ => continue,
        };
        blocked = is_blocked;
        metrics::gauge!(BROKER_BLOCKED).set(f64::from(u8::from(blocked)));
    }
    // This connection must not end the alarm of another one.
    if blocked {
        metrics::gauge!(BROKER_BLOCKED).set(0.0);
    }
}

async fn declare_exchanges(connection: &Connection) -> Result<(), Refusal> {
    for exchange in [Exchange::Nodes, Exchange::Network] {
        // Each declaration gets its own channel, because a refusal closes the channel.
        let channel = answer(connection.create_channel()).await?;
        let options = ExchangeDeclareOptions { durable: true, ..ExchangeDeclareOptions::default() };
        let name = short(exchange_name(exchange));
        let declared = channel.exchange_declare(name, ExchangeKind::Topic, options, FieldTable::default());
        match answer(declared).await {
            // Nodes lack permission to declare exchanges; the operator's other roles, which have it, declare them.
            Ok(()) | Err(Refusal::Forbidden(_)) => {}
            Err(refusal) => return Err(refusal),
        }
    }
    Ok(())
}
