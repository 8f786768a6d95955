//! Keeps the node admitted: fetches a new token at half the old one's life, and whenever the worker finds that its
//! queue is gone. If no gateway answers, it keeps trying until ten minutes after the token expired.

use std::time::Duration;

use infera_broker_rabbitmq::Token;
use infera_types::shutdown::Shutdown;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::Instant;

use super::{Admitted, BACKOFF, Registrar, RegistrationError};

/// How long after the token's expiry gateways are still asked. The node can't reach the broker then, but a gateway
/// may be back soon.
const GRACE: Duration = Duration::from_secs(600);

/// How long a request for a visit may wait: a round at two gateways that don't answer.
const AGAIN_WITHIN: Duration = Duration::from_secs(25);

/// The reason why a membership ended.
#[derive(Debug)]
pub enum MembershipEnd {
    /// The node was told to end.
    Shutdown,
    /// The gateways now have another queue for the node, because their key was changed. The node has to begin again.
    Moved,
    /// The node was refused for good, or no gateway answered for too long after the token's expiry.
    Lost(RegistrationError),
}

/// The membership of a node that was let in.
#[derive(Debug)]
pub struct Membership {
    admitted: Admitted,
    tokens: watch::Sender<Token>,
    requests: mpsc::Receiver<oneshot::Sender<bool>>,
}

/// Asks the membership to visit a gateway now.
#[derive(Clone, Debug)]
pub struct Doorbell(mpsc::Sender<oneshot::Sender<bool>>);

impl Doorbell {
    /// Has a gateway visited, which declares the node's queue if it is gone, and returns whether a gateway let the
    /// node in.
    pub async fn ring(&self) -> bool {
        let asked = async {
            let (answer, answered) = oneshot::channel();
            self.0.send(answer).await.ok()?;
            answered.await.ok()
        };
        tokio::time::timeout(AGAIN_WITHIN, asked).await.ok().flatten().unwrap_or(false)
    }
}

impl Membership {
    /// Returns the membership of a node that was just let in, its present and future tokens, and its doorbell.
    #[must_use]
    pub fn new(admitted: Admitted) -> (Self, watch::Receiver<Token>, Doorbell) {
        let (tokens, receiver) = watch::channel(admitted.token.clone());
        // One request at a time: the next one asks again and finds the queue there.
        let (bell, requests) = mpsc::channel(1);
        (Self { admitted, tokens, requests }, receiver, Doorbell(bell))
    }

    /// Renews the token until `shutdown` or until the node is refused.
    pub async fn keep(mut self, registrar: &Registrar, shutdown: &Shutdown) -> MembershipEnd {
        let mut next = renewal(&self.admitted);
        let mut failures = 0;
        loop {
            let mut waiting = None;
            tokio::select! {
                () = shutdown.cancelled() => return MembershipEnd::Shutdown,
                Some(asked) = self.requests.recv() => waiting = Some(asked),
                () = tokio::time::sleep_until(next) => {}
            }
            let checked = tokio::select! {
                () = shutdown.cancelled() => return MembershipEnd::Shutdown,
                checked = registrar.check_in() => checked,
            };
            let is_in = checked.is_ok();
            match checked {
                Ok(again) if (&again.node, &again.queue) != (&self.admitted.node, &self.admitted.queue) => {
                    return MembershipEnd::Moved;
                }
                Ok(again) => {
                    if failures > 0 {
                        tracing::info!(failures, "a gateway answers again");
                    }
                    failures = 0;
                    next = renewal(&again);
                    self.tokens.send_replace(again.token.clone());
                    self.admitted = again;
                }
                Err(RegistrationError::Away(why)) if Instant::now() < self.admitted.token.expires + GRACE => {
                    if failures == 0 {
                        let left_s = self.admitted.token.expires.duration_since(Instant::now()).as_secs();
                        tracing::warn!(
                            why,
                            left_s,
                            "the token can't be renewed; the node goes on while the token is valid"
                        );
                    }
                    failures += 1;
                    next = Instant::now() + BACKOFF.spread(failures);
                }
                Err(error) => return MembershipEnd::Lost(error),
            }
            if let Some(waiting) = waiting {
                // The asker may have stopped waiting.
                let _ = waiting.send(is_in);
            }
        }
    }
}

/// Returns when to renew the token: at half of its life, so that the other half is left to find a gateway.
fn renewal(admitted: &Admitted) -> Instant {
    admitted.token.expires - admitted.lifetime / 2
}
