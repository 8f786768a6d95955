//! The one task that publishes. It alone uses the channel in confirm mode, because publishes of two tasks on one
//! channel get each other's confirmations (measured). Requests come through a bounded queue; answers go back one by
//! one.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures::FutureExt as _;
use futures::future::{BoxFuture, ready};
use lapin::options::{BasicPublishOptions, ConfirmSelectOptions};
use lapin::{Channel, Confirmation};
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, sleep, sleep_until};

use super::claims::Limits;
use super::in_flight::{Ended, Event, InFlight, STALLED};
use super::line::{Line, answer};
use super::link::Link;
use super::returns::Returns;
use super::terms::{Parcel, Refusal, Route};
use infera_broker::Published;

/// How long sending may pause until returned messages are matched; an answering broker takes milliseconds.
const SETTLED_WITHIN: Duration = Duration::from_secs(2);

/// How many requests may wait for the window.
pub(super) const WAITING: usize = 1024;

/// The pause between two attempts to connect.
const RETRY: Duration = Duration::from_millis(250);

/// One publish, with the way to its caller.
pub(super) struct Request {
    pub(super) parcel: Parcel,
    pub(super) reply: oneshot::Sender<Published>,
    /// Set once the message was handed to the connection.
    pub(super) sent: Arc<AtomicBool>,
    /// After this it is pointless to send the message: the caller gives up before an answer comes.
    pub(super) send_until: Instant,
}

impl Request {
    fn is_stale(&self) -> bool {
        self.reply.is_closed() || Instant::now() >= self.send_until
    }
}

/// Publishes requests until all their senders are dropped.
pub(super) async fn run(link: Arc<Link>, limits: Limits, mut requests: mpsc::Receiver<Request>) {
    let mut first = None;
    loop {
        let request = match first.take() {
            Some(request) => request,
            None => match requests.recv().await {
                Some(request) => request,
                None => return,
            },
        };
        if request.is_stale() {
            continue;
        }
        match open(&link).await {
            Ok((line, channel)) => {
                let mut window = Window::new(&line, Arc::new(channel), &limits);
                first = window.serve(request, &mut requests).await;
                link.give_up(&line).await;
            }
            // The request's own time limit ends it if the broker stays away.
            Err(_) => {
                first = Some(request);
                sleep(RETRY).await;
            }
        }
    }
}

async fn open(link: &Link) -> Result<(Arc<Line>, Channel), Refusal> {
    let (line, channel) = link.channel().await?;
    answer(channel.confirm_select(ConfirmSelectOptions::default())).await?;
    Ok((line, channel))
}

/// One channel's publishes in flight.
struct Window<'link> {
    line: &'link Line,
    channel: Arc<Channel>,
    limits: &'link Limits,
    in_flight: InFlight<BoxFuture<'static, lapin::Result<Confirmation>>>,
    returns: Returns<oneshot::Sender<Published>>,
    broken: bool,
    /// When something was confirmed last; at first, when the channel was made.
    confirmed: Instant,
    /// By when returned messages must be matched.
    settled_until: Option<Instant>,
}

impl<'link> Window<'link> {
    fn new(line: &'link Line, channel: Arc<Channel>, limits: &'link Limits) -> Self {
        Self {
            line,
            channel,
            limits,
            in_flight: InFlight::default(),
            returns: Returns::default(),
            broken: false,
            confirmed: Instant::now(),
            settled_until: None,
        }
    }

    /// Publishes until the channel is no longer usable. The outcome of what is in flight then is unknown: its replies
    /// close without an answer. Returns a request that was never sent.
    async fn serve(&mut self, first: Request, requests: &mut mpsc::Receiver<Request>) -> Option<Request> {
        let mut unsent = self.send(first);
        while !self.broken {
            // A broker that is short of memory or disk doesn't read, and messages would wait in the connection; they
            // wait in our own queue instead.
            let is_blocked = self.line.is_up() && self.line.connection.status().blocked();
            let room = self.in_flight.has_room() && self.settled_until.is_none() && !is_blocked;
            let too_late = sleep_until(self.settled_until.unwrap_or_else(Instant::now));
            tokio::select! {
                biased;
                Some(event) = self.in_flight.next(), if !self.in_flight.is_empty() => self.settle(event),
                () = too_late, if self.settled_until.is_some() => self.broken = true,
                request = requests.recv(), if room => match request {
                    Some(request) => unsent = self.send(request),
                    None => break,
                },
                () = sleep(RETRY), if is_blocked => {}
            }
        }
        unsent
    }

    /// Sends one request; returns it if the channel was closed before anything of it was sent.
    fn send(&mut self, request: Request) -> Option<Request> {
        if request.is_stale() {
            return None;
        }
        if !self.channel.status().connected() {
            self.broken = true;
            return Some(request);
        }
        let Request { parcel: Parcel { route, properties, body }, reply, sent, .. } = request;
        let channel = Arc::clone(&self.channel);
        let (exchange, key) = (route.exchange.clone(), route.key.clone());
        let mut confirm = async move {
            // Without `mandatory` the broker confirms messages that it drops.
            let options = BasicPublishOptions { mandatory: true, ..BasicPublishOptions::default() };
            let confirm = channel.basic_publish(exchange, key, options, &body, properties).await?;
            sent.store(true, Ordering::Relaxed);
            drop(body);
            confirm.await
        }
        .boxed();
        // The first poll hands the message to the connection, in the order of the requests. We don't wait until it is
        // written, so that simultaneous requests go out together and not one by one.
        match (&mut confirm).now_or_never() {
            // Dropping the reply tells the caller that the outcome is unknown.
            Some(Err(_)) => self.broken = true,
            Some(Ok(confirmation)) => self.in_flight.push(route, reply, ready(Ok(confirmation)).boxed()),
            None => self.in_flight.push(route, reply, confirm),
        }
        None
    }

    /// Records this end and all others that are ready, and answers those that are certain.
    fn settle(&mut self, event: Event) {
        self.note(event);
        while let Some(Some(event)) = self.in_flight.next().now_or_never() {
            self.note(event);
        }
        if self.broken {
            return;
        }
        let decided = self.returns.decided();
        self.settled_until = match self.settled_until {
            _ if !self.returns.must_settle() => None,
            None => Some(Instant::now() + SETTLED_WITHIN),
            until => until,
        };
        for (reply, kept) in decided {
            // The send fails if the caller no longer waits, which is fine.
            let _ = reply.send(if kept { Published::Confirmed } else { Published::Unroutable });
        }
    }

    fn note(&mut self, event: Event) {
        let Event::Ended(ended) = event else { return };
        let Ended { route, reply, confirmation } = *ended;
        match confirmation {
            Some(Ok(Confirmation::Ack(returned))) => {
                self.confirmed = Instant::now();
                let returned = returned.map(|message| Route {
                    exchange: message.exchange.clone(),
                    key: message.routing_key.clone(),
                    id: message.properties.message_id().clone(),
                });
                self.returns.confirmed(route, returned, reply);
            }
            Some(Ok(Confirmation::Nack(None))) => {
                // A topic reaches many queues, and the broker does not say which one refused; only a limit is
                // harmless.
                let is_queue = route.exchange.as_str().is_empty();
                let why = if is_queue { self.limits.refusal(route.key.as_str()) } else { Published::Full };
                let _ = reply.send(why);
            }
            // Other publishes are confirmed meanwhile: the message's queue is stuck, and the channel is fine. The
            // caller gave up long ago.
            None if self.confirmed.elapsed() < STALLED => {}
            // No publish is confirmed, or there is an error, a refusal that carries another message's return, or no
            // confirm mode: start over.
            None | Some(Err(_) | Ok(Confirmation::Nack(Some(_)) | Confirmation::NotRequested)) => {
                self.broken = true;
            }
        }
    }
}
