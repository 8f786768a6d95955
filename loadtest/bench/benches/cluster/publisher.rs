//! lapin alone: one connection, one channel in confirm mode that one task owns, mandatory publishes, a window of
//! unconfirmed ones, and no wait for mere writes; acks are sent as the programs send theirs. It is the limit of what
//! a program in Rust gets through RabbitMQ; it retries nothing.

use std::sync::Arc;

use bytes::Bytes;
use futures::future::{BoxFuture, ready};
use futures::stream::FuturesUnordered;
use futures::{FutureExt as _, StreamExt as _};
use lapin::message::Delivery;
use lapin::options::{BasicAckOptions, BasicPublishOptions, ConfirmSelectOptions};
use lapin::types::ShortString;
use lapin::{BasicProperties, Channel, Confirmation, Connection, ConnectionProperties};
use tokio::sync::{mpsc, oneshot};

use infera_bench::Fault;

/// The most unconfirmed publishes at once, the same as the programs'.
const WINDOW: usize = 256;

/// The programs' mark of their messages: quorum queues write them to disk nevertheless.
const TRANSIENT: u8 = 1;

/// One message.
pub(crate) struct Parcel {
    pub(crate) exchange: &'static str,
    pub(crate) key: String,
    pub(crate) id: String,
    pub(crate) body: Bytes,
}

type Request = (Parcel, oneshot::Sender<()>);

/// The way to a publishing task.
#[derive(Clone)]
pub(crate) struct Publisher(mpsc::Sender<Request>);

/// Opens a connection with frames as small as the programs' own.
pub(crate) async fn connect(url: &str) -> Result<Connection, Fault> {
    let mut uri: lapin::uri::AMQPUri = url.parse().map_err(|_| "the broker's URL cannot be parsed")?;
    uri.query.frame_max = Some(16 * 1024);
    Ok(Connection::connect_uri(uri, ConnectionProperties::default()).await?)
}

impl Publisher {
    /// Opens a publisher on a channel of its own on this connection.
    pub(crate) async fn open(connection: &Connection) -> Result<Self, Fault> {
        let channel = connection.create_channel().await?;
        channel.confirm_select(ConfirmSelectOptions::default()).await?;
        let (sender, requests) = mpsc::channel(4 * WINDOW);
        tokio::spawn(async move {
            // If a publish ends without a confirmation, its caller learns that from the dropped reply.
            let _ = serve(&Arc::new(channel), requests).await;
        });
        Ok(Self(sender))
    }

    /// Publishes, and returns when the broker has confirmed the message in every queue that it matched.
    pub(crate) async fn publish(&self, parcel: Parcel) -> Result<(), Fault> {
        let (reply, confirmed) = oneshot::channel();
        self.0.send((parcel, reply)).await?;
        confirmed.await.map_err(|_| "a publish was not confirmed".into())
    }
}

/// Hands an acknowledgement to the connection of `channel`, on which `delivery` came.
pub(crate) fn ack(channel: &Channel, delivery: &Delivery) -> Result<(), Fault> {
    match channel.basic_ack(delivery.delivery_tag, BasicAckOptions::default()).now_or_never() {
        Some(Err(error)) => Err(error.into()),
        Some(Ok(())) | None => Ok(()),
    }
}

type Ended = (lapin::Result<Confirmation>, oneshot::Sender<()>);

async fn serve(channel: &Arc<Channel>, mut requests: mpsc::Receiver<Request>) -> Result<(), Fault> {
    let mut in_flight: FuturesUnordered<BoxFuture<'static, Ended>> = FuturesUnordered::new();
    let options = BasicPublishOptions { mandatory: true, ..BasicPublishOptions::default() };
    loop {
        tokio::select! {
            biased;
            Some((confirmation, reply)) = in_flight.next(), if !in_flight.is_empty() => {
                if matches!(confirmation?, Confirmation::Ack(None)) {
                    // The send fails only if the run is ending.
                    let _ = reply.send(());
                }
            }
            request = requests.recv(), if in_flight.len() < WINDOW => {
                let Some((parcel, reply)) = request else { return Ok(()) };
                let properties = BasicProperties::default()
                    .with_message_id(ShortString::try_new(parcel.id)?)
                    .with_delivery_mode(TRANSIENT);
                let key = ShortString::try_new(parcel.key)?;
                let channel = Arc::clone(channel);
                let mut ended = async move {
                    let (exchange, body) = (parcel.exchange.into(), parcel.body);
                    let sent = channel.basic_publish(exchange, key, options, &body, properties).await;
                    let confirmation = match sent {
                        Ok(confirm) => confirm.await,
                        Err(error) => Err(error),
                    };
                    (confirmation, reply)
                }
                .boxed();
                // The first poll hands it to the connection, in the order of the requests.
                match (&mut ended).now_or_never() {
                    Some(early) => in_flight.push(ready(early).boxed()),
                    None => in_flight.push(ended),
                }
            }
        }
    }
}
