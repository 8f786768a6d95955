//! lapin alone: one connection, one channel in confirm mode that one task owns, mandatory publishes, a window of
//! unconfirmed ones. The limit of what a program in Rust gets through RabbitMQ; it retries nothing.

use bytes::Bytes;
use futures::StreamExt as _;
use futures::future::BoxFuture;
use futures::stream::FuturesUnordered;
use lapin::options::{BasicPublishOptions, ConfirmSelectOptions};
use lapin::types::ShortString;
use lapin::{BasicProperties, Channel, Confirmation, Connection, ConnectionProperties};
use tokio::sync::{mpsc, oneshot};

use crate::Fault;

/// Unconfirmed publishes at once: what the programs allow themselves.
const WINDOW: usize = 256;

/// As the programs mark theirs: quorum queues write them to disk all the same.
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

/// A connection with frames as small as the programs' own.
pub(crate) async fn connect(url: &str) -> Result<Connection, Fault> {
    let mut uri: lapin::uri::AMQPUri = url.parse().map_err(|_| "the broker's URL can't be read")?;
    uri.query.frame_max = Some(16 * 1024);
    Ok(Connection::connect_uri(uri, ConnectionProperties::default()).await?)
}

impl Publisher {
    /// A publisher on a channel of its own of this connection.
    pub(crate) async fn open(connection: &Connection) -> Result<Self, Fault> {
        let channel = connection.create_channel().await?;
        channel.confirm_select(ConfirmSelectOptions::default()).await?;
        let (sender, requests) = mpsc::channel(4 * WINDOW);
        tokio::spawn(async move {
            // Whoever waits learns of an end that isn't a confirmation by its lost reply.
            let _ = serve(&channel, requests).await;
        });
        Ok(Self(sender))
    }

    /// Returns when the broker has confirmed it in every queue that it matched.
    pub(crate) async fn publish(&self, parcel: Parcel) -> Result<(), Fault> {
        let (reply, confirmed) = oneshot::channel();
        self.0.send((parcel, reply)).await?;
        confirmed.await.map_err(|_| "a publish was not confirmed".into())
    }
}

type Ended = (lapin::Result<Confirmation>, oneshot::Sender<()>);

async fn serve(channel: &Channel, mut requests: mpsc::Receiver<Request>) -> Result<(), Fault> {
    let mut in_flight: FuturesUnordered<BoxFuture<'static, Ended>> = FuturesUnordered::new();
    let options = BasicPublishOptions { mandatory: true, ..BasicPublishOptions::default() };
    loop {
        tokio::select! {
            biased;
            Some((confirmation, reply)) = in_flight.next(), if !in_flight.is_empty() => {
                if matches!(confirmation?, Confirmation::Ack(None)) {
                    // Nobody waits if the run is ending.
                    let _ = reply.send(());
                }
            }
            request = requests.recv(), if in_flight.len() < WINDOW => {
                let Some((parcel, reply)) = request else { return Ok(()) };
                let properties = BasicProperties::default()
                    .with_message_id(ShortString::try_new(parcel.id)?)
                    .with_delivery_mode(TRANSIENT);
                let key = ShortString::try_new(parcel.key)?;
                let confirm =
                    channel.basic_publish(parcel.exchange.into(), key, options, &parcel.body, properties).await?;
                in_flight.push(Box::pin(async move { (confirm.await, reply) }));
            }
        }
    }
}
