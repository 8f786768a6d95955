//! Tracks the publishes of one channel that have no confirmation yet, and how many more may be sent. It does not know
//! the channel itself.

use std::time::Duration;

use futures::StreamExt as _;
use futures::future::BoxFuture;
use futures::stream::FuturesUnordered;
use lapin::Confirmation;
use tokio::sync::oneshot;
use tokio::time::{Instant, timeout_at};

use super::terms::Route;
use infera_broker::Published;

/// How many publishes may be unconfirmed at once. 64 give most of the possible throughput, and 512 hardly more at
/// several times the latency (both measured on one machine); a network's round trips need some room.
const WINDOW: usize = 256;

/// Bounds all publishes that have no confirmation. A publish whose caller has given up takes no room in the window: a
/// stuck queue must not take the window from all others until its own publishes are given up too.
const UNCONFIRMED_MAX: usize = 4 * WINDOW;

/// After this time without a confirmation a publish never gets one: the broker has an alarm, the queue has no leader,
/// or the peer is dead. Unless other publishes are confirmed, the connection is given up; the callers were answered
/// long before.
pub(super) const STALLED: Duration = Duration::from_secs(15);

/// The end of one publish at the channel.
pub(super) struct Ended {
    pub(super) route: Route,
    /// The way to the caller; closed if it has stopped waiting.
    pub(super) reply: oneshot::Sender<Published>,
    /// The confirmation; none if it did not come in time.
    pub(super) confirmation: Option<lapin::Result<Confirmation>>,
}

/// An event of the publishes in flight.
pub(super) enum Event {
    /// A caller has given up, which makes room. The confirmation may still come.
    Left,
    /// A publish ended.
    Ended(Box<Ended>),
}

/// A publish and its awaited confirmation.
struct Unconfirmed<Confirm> {
    route: Route,
    reply: oneshot::Sender<Published>,
    confirm: Confirm,
    until: Instant,
}

enum Step<Confirm> {
    Left(Unconfirmed<Confirm>),
    Ended { ended: Box<Ended>, was_left: bool },
}

/// The publishes in flight, which end in the order in which their confirmations come.
pub(super) struct InFlight<Confirm> {
    all: FuturesUnordered<BoxFuture<'static, Step<Confirm>>>,
    /// How many of them belong to a caller that has given up.
    left: usize,
}

impl<Confirm> Default for InFlight<Confirm> {
    fn default() -> Self {
        Self { all: FuturesUnordered::new(), left: 0 }
    }
}

impl<Confirm> InFlight<Confirm>
where
    Confirm: Future<Output = lapin::Result<Confirmation>> + Send + Unpin + 'static,
{
    pub(super) fn push(&mut self, route: Route, reply: oneshot::Sender<Published>, confirm: Confirm) {
        let until = Instant::now() + STALLED;
        self.all.push(Box::pin(asked_for(Unconfirmed { route, reply, confirm, until })));
    }

    /// Returns whether one more may be published.
    pub(super) fn has_room(&self) -> bool {
        self.all.len() - self.left < WINDOW && self.all.len() < UNCONFIRMED_MAX
    }

    pub(super) fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    /// Waits for the next event; none if nothing is in flight. Cancelling the wait loses nothing.
    pub(super) async fn next(&mut self) -> Option<Event> {
        match self.all.next().await? {
            Step::Left(publish) => {
                self.left += 1;
                self.all.push(Box::pin(left(publish)));
                Some(Event::Left)
            }
            Step::Ended { ended, was_left } => {
                self.left -= usize::from(was_left);
                Some(Event::Ended(ended))
            }
        }
    }
}

async fn asked_for<Confirm>(mut publish: Unconfirmed<Confirm>) -> Step<Confirm>
where
    Confirm: Future<Output = lapin::Result<Confirmation>> + Unpin,
{
    tokio::select! {
        biased;
        confirmation = timeout_at(publish.until, &mut publish.confirm) => {
            let Unconfirmed { route, reply, .. } = publish;
            let ended = Box::new(Ended { route, reply, confirmation: confirmation.ok() });
            Step::Ended { ended, was_left: false }
        }
        () = publish.reply.closed() => Step::Left(publish),
    }
}

async fn left<Confirm>(publish: Unconfirmed<Confirm>) -> Step<Confirm>
where
    Confirm: Future<Output = lapin::Result<Confirmation>> + Unpin,
{
    let Unconfirmed { route, reply, confirm, until } = publish;
    let confirmation = timeout_at(until, confirm).await.ok();
    Step::Ended { ended: Box::new(Ended { route, reply, confirmation }), was_left: true }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt as _;
    use futures::channel::oneshot as promise;

    use super::*;

    type Confirm = BoxFuture<'static, lapin::Result<Confirmation>>;

    fn route(number: usize) -> Route {
        Route { exchange: "".into(), key: "q".into(), id: Some(number.to_string().as_str().into()) }
    }

    /// Makes a publish that the test confirms, and returns its caller's side.
    fn publish(
        in_flight: &mut InFlight<Confirm>,
        number: usize,
    ) -> (promise::Sender<Confirmation>, oneshot::Receiver<Published>) {
        let (confirm, confirmed) = promise::channel();
        let (reply, answer) = oneshot::channel();
        let confirmed = async move {
            match confirmed.await {
                Ok(confirmation) => Ok(confirmation),
                Err(_) => std::future::pending().await,
            }
        };
        in_flight.push(route(number), reply, confirmed.boxed());
        (confirm, answer)
    }

    #[tokio::test(start_paused = true)]
    async fn whoever_gives_up_makes_room_and_may_still_be_confirmed() {
        let mut in_flight = InFlight::default();
        let mut askers: Vec<_> = (0..WINDOW).map(|number| publish(&mut in_flight, number)).collect();
        assert!(!in_flight.has_room());
        assert!(in_flight.next().now_or_never().is_none(), "nothing has happened");
        let (confirm, answer) = askers.swap_remove(7);
        drop(answer);
        assert!(matches!(in_flight.next().await, Some(Event::Left)));
        assert!(in_flight.has_room());
        confirm.send(Confirmation::Ack(None)).unwrap();
        let Some(Event::Ended(ended)) = in_flight.next().await else { panic!("not confirmed") };
        assert!(ended.route == route(7) && ended.reply.is_closed());
        assert!(in_flight.has_room());
        askers.push(publish(&mut in_flight, WINDOW));
        assert!(!in_flight.has_room());
        // No caller is answered in time: each publish ends without a confirmation, and the state is as at the start.
        for _ in 0..WINDOW {
            let Some(Event::Ended(ended)) = in_flight.next().await else { panic!("not ended") };
            assert!(ended.confirmation.is_none());
        }
        assert!(in_flight.is_empty() && in_flight.has_room());
    }

    #[tokio::test(start_paused = true)]
    async fn those_that_nobody_waits_for_are_bounded_too() {
        let mut in_flight = InFlight::default();
        let mut confirms = Vec::new();
        while in_flight.has_room() {
            let (confirm, answer) = publish(&mut in_flight, confirms.len());
            confirms.push(confirm);
            drop(answer);
            assert!(matches!(in_flight.next().await, Some(Event::Left)));
        }
        assert_eq!(confirms.len(), UNCONFIRMED_MAX);
    }
}
