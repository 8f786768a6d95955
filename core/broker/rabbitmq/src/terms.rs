//! Translates between our values and AMQP's: addresses, messages, meanings of refusals. Nothing here waits.

use bytes::Bytes;
use lapin::types::{AMQPValue, FieldTable, LongString, ShortString, ShortStringError};
use lapin::{BasicProperties, ErrorKind};
use strum::IntoStaticStr;

use infera_broker::{Address, BrokerError, Exchange, Message, topology};

/// AMQP's mark of a message that a classic queue keeps in memory; quorum queues write every message to disk before
/// they confirm it, whatever its mark. A classic queue here belongs to one node or one program. If the broker fails,
/// it loses assignments, which go to other nodes when no answer comes, and messages to a program whose connection is
/// lost too. On disk each assignment cost a disk flush of its own: 2.4 a job (measured).
const TRANSIENT: u8 = 1;

/// The longest time to live that RabbitMQ accepts, in milliseconds: 49 days.
const TTL_MAX_MS: u64 = u32::MAX as u64;

/// The header that carries a message's place in its trace, named as in HTTP.
const TRACE_HEADER: &str = "traceparent";

/// The length of a `traceparent` of the version in use; anything longer comes from a stranger and is dropped.
const TRACE_MAX_BYTES: usize = 55;

/// Returns an exchange's name at the broker; permissions of nodes name the first.
pub(super) const fn exchange_name(exchange: Exchange) -> &'static str {
    match exchange {
        Exchange::Nodes => topology::NODES_EXCHANGE,
        Exchange::Network => "infera.network",
    }
}

/// Returns a constant that is known to be short enough.
pub(super) fn short(text: &'static str) -> ShortString {
    ShortString::from(text)
}

/// The route of a publish: exchange, routing key and id, by which a returned message is recognized.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Route {
    pub(super) exchange: ShortString,
    pub(super) key: ShortString,
    pub(super) id: Option<ShortString>,
}

/// One message as it is sent.
#[derive(Debug)]
pub(super) struct Parcel {
    pub(super) route: Route,
    pub(super) properties: BasicProperties,
    pub(super) body: Bytes,
}

/// Converts a message into what is sent.
///
/// # Errors
/// A key, an id or a kind is longer than AMQP's 255 bytes; a retry won't help.
pub(super) fn parcel(address: &Address, message: Message) -> Result<Parcel, ShortStringError> {
    let (exchange, key) = match address {
        Address::Queue(queue) => ("", queue),
        Address::Nodes(key) => (exchange_name(Exchange::Nodes), key),
        Address::Network(key) => (exchange_name(Exchange::Network), key),
    };
    let id = ShortString::try_new(message.id)?;
    let mut properties = BasicProperties::default()
        .with_message_id(id.clone())
        .with_type(ShortString::try_new(message.kind)?)
        .with_delivery_mode(TRANSIENT);
    if let Address::Nodes(key) = address {
        // The broker accepts no user id but the connection's own, unless the user has the tag `impersonator`.
        properties = properties.with_user_id(ShortString::try_new(first_word(key))?);
    }
    if let Some(ttl_ms) = message.ttl_ms {
        properties = properties.with_expiration(ShortString::try_new(ttl_ms.min(TTL_MAX_MS).to_string())?);
    }
    if let Some(trace) = message.trace {
        let mut headers = FieldTable::default();
        headers.insert(short(TRACE_HEADER), AMQPValue::LongString(trace.into()));
        properties = properties.with_headers(headers);
    }
    let route = Route { exchange: short(exchange), key: ShortString::try_new(key.as_str())?, id: Some(id) };
    Ok(Parcel { route, properties, body: message.body })
}

/// Returns the first word of a key: in the nodes' exchange, the sender.
fn first_word(key: &str) -> &str {
    key.split('.').next().unwrap_or_default()
}

/// Why a delivery is dropped: its sender cannot be established.
#[derive(Clone, Copy, Debug, PartialEq, Eq, IntoStaticStr)]
#[strum(serialize_all = "snake_case")]
pub(super) enum Dubious {
    /// It carries `CC`, by which a sender reaches queues that its key does not.
    Copied,
    /// It came through the nodes' exchange, and the vouched user is not the node that its key names.
    Unvouched,
}

/// Converts a message that was delivered by `exchange` under `key`.
///
/// # Errors
/// The sender is unknown or in doubt.
pub(super) fn message(
    (exchange, key): (&str, &str),
    properties: &BasicProperties,
    body: Vec<u8>,
) -> Result<Message, Dubious> {
    let headers = properties.headers().as_ref();
    if headers.is_some_and(|headers| headers.inner().contains_key("CC")) {
        return Err(Dubious::Copied);
    }
    if exchange == exchange_name(Exchange::Nodes) {
        let user = properties.user_id().as_ref().map(ShortString::as_str);
        if user != Some(first_word(key)) {
            return Err(Dubious::Unvouched);
        }
    }
    let text = |value: &Option<ShortString>| value.as_ref().map(ToString::to_string).unwrap_or_default();
    Ok(Message {
        id: text(properties.message_id()),
        kind: text(properties.kind()),
        body: body.into(),
        ttl_ms: properties.expiration().as_ref().and_then(|expiration| expiration.as_str().parse().ok()),
        trace: headers.and_then(trace),
    })
}

fn trace(headers: &FieldTable) -> Option<String> {
    match headers.inner().get(TRACE_HEADER)? {
        AMQPValue::LongString(text) if text.as_bytes().len() <= TRACE_MAX_BYTES => {
            String::from_utf8(text.as_bytes().to_vec()).ok()
        }
        _ => None,
    }
}

/// Why the broker did not do what it was asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    /// The queue does not exist.
    Missing,
    /// The queue belongs to another connection, or has its one consumer.
    Taken,
    /// The queue exists with other properties; the text says which.
    Different(String),
    /// Permission is missing; a retry is pointless until an operator grants it.
    Forbidden(String),
    /// The broker is away, or gave no answer in time.
    Away(String),
    /// The broker gave no answer about this queue in time, though it answers other questions.
    Stuck,
}

impl Refusal {
    /// Converts the refusal into the seam's error about this queue.
    pub(super) fn of(self, queue: &str) -> BrokerError {
        let name = queue.to_owned();
        match self {
            Self::Missing => BrokerError::NoSuchQueue(name),
            Self::Taken => BrokerError::Exclusive(name),
            Self::Different(difference) => BrokerError::Mismatch { name, difference },
            Self::Forbidden(why) => BrokerError::Unavailable(format!("not allowed: {why}")),
            Self::Away(why) => BrokerError::Unavailable(why),
            Self::Stuck => BrokerError::Stuck(name),
        }
    }
}

impl From<lapin::Error> for Refusal {
    fn from(error: lapin::Error) -> Self {
        let ErrorKind::ProtocolError(protocol) = error.kind() else { return Self::Away(error.to_string()) };
        let text = protocol.get_message().as_str();
        match protocol.get_id() {
            403 if text.contains("in exclusive use") => Self::Taken,
            403 => Self::Forbidden(text.to_owned()),
            404 => Self::Missing,
            405 => Self::Taken,
            406 => Self::Different(difference(text)),
            _ => Self::Away(error.to_string()),
        }
    }
}

/// Returns the difference in `PRECONDITION_FAILED - inequivalent arg 'x' for queue 'q' in vhost '/': received W but
/// current is T`, and any other text whole.
fn difference(text: &str) -> String {
    let parts = || {
        let (_, rest) = text.split_once("inequivalent arg '")?;
        let (argument, rest) = rest.split_once('\'')?;
        let (_, values) = rest.split_once("received ")?;
        let (wanted, there) = values.split_once(" but current is ")?;
        Some(format!("{argument} is {there}, wanted {wanted}"))
    };
    parts().unwrap_or_else(|| text.to_owned())
}

/// Converts a name into AMQP's form. A name that is too long names no queue.
pub(super) fn name(queue: &str) -> Result<ShortString, BrokerError> {
    ShortString::try_new(queue).map_err(|_| BrokerError::NoSuchQueue(queue.to_owned()))
}

/// Returns this client's name in the broker's lists.
pub(super) fn connection_name(purpose: &str) -> LongString {
    format!("infera {purpose}").into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mismatch_names_the_argument_and_both_values() {
        let text = "PRECONDITION_FAILED - inequivalent arg 'x-max-length' for queue 'q' in vhost '/': received the \
                    value '7' of type 'long' but current is none";
        assert_eq!(difference(text), "x-max-length is none, wanted the value '7' of type 'long'");
        assert_eq!(difference("PRECONDITION_FAILED - else"), "PRECONDITION_FAILED - else");
    }

    #[test]
    fn a_message_comes_back_as_it_was_unless_it_was_copied() {
        let sent = Message {
            id: "i".to_owned(),
            kind: "k".to_owned(),
            body: Bytes::from_static(b"\x01b"),
            ttl_ms: Some(u64::MAX),
            trace: Some("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01".to_owned()),
        };
        let parcel = parcel(&Address::Nodes("n1.heartbeat".to_owned()), sent.clone()).unwrap();
        assert_eq!(parcel.route.exchange.as_str(), "infera.nodes");
        assert_eq!(parcel.route.key.as_str(), "n1.heartbeat");
        let from = ("infera.nodes", "n1.heartbeat");
        let received = message(from, &parcel.properties, parcel.body.to_vec());
        assert_eq!(received, Ok(Message { ttl_ms: Some(TTL_MAX_MS), ..sent }));

        let mut headers = FieldTable::default();
        headers.insert(short(TRACE_HEADER), AMQPValue::LongString("x".repeat(TRACE_MAX_BYTES + 1).into()));
        let strange = parcel.properties.clone().with_headers(headers);
        assert_eq!(message(from, &strange, Vec::new()).unwrap().trace, None, "longer than any");

        let mut headers = FieldTable::default();
        headers.insert(short("CC"), AMQPValue::LongString("n2.heartbeat".into()));
        let copied = parcel.properties.with_headers(headers);
        assert_eq!(message(from, &copied, Vec::new()), Err(Dubious::Copied));
        assert_eq!([Dubious::Copied, Dubious::Unvouched].map(<&str>::from), ["copied", "unvouched"]);
    }

    #[test]
    fn only_the_node_that_the_broker_vouches_for_speaks_as_itself() {
        let plain = BasicProperties::default();
        let as_n1 = BasicProperties::default().with_user_id("n1".into());
        for (exchange, key, properties, heard) in [
            ("infera.nodes", "n1.replica.v", &as_n1, true),
            ("infera.nodes", "n1", &as_n1, true),
            ("infera.nodes", "n2.replica.v", &as_n1, false),
            ("infera.nodes", "n12.replica.v", &as_n1, false),
            ("infera.nodes", "n1.replica.v", &plain, false),
            ("infera.nodes", "", &plain, false),
            // Nodes may write to neither of these.
            ("infera.network", "capacity", &plain, true),
            ("", "replicas.v", &plain, true),
        ] {
            let outcome = message((exchange, key), properties, Vec::new());
            assert_eq!(outcome.is_ok(), heard, "{exchange} {key} {properties:?}");
            assert!(heard || outcome == Err(Dubious::Unvouched));
        }
    }

    #[test]
    fn what_amqp_cannot_carry_is_an_error() {
        let message =
            |id: String| Message { id, kind: String::new(), body: Bytes::new(), ttl_ms: None, trace: None };
        assert!(parcel(&Address::Queue("q".repeat(256)), message(String::new())).is_err());
        assert!(parcel(&Address::Queue("q".to_owned()), message("i".repeat(256))).is_err());
        assert!(name(&"q".repeat(256)).is_err());
    }
}
