//! Tells other gateways what keys spent here, and hears the same of them, so that a key's limits hold at all gateways together.
//! Each reports four times a second what was spent since and what is in flight; between two reports a key may spend at each
//! gateway what it has left. What it spent beyond its limit that way it owes, and gets back later.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use infera_broker::{Broker, Published, topology};
use infera_types::ids::GatewayId;
use infera_types::shutdown::Shutdown;
use infera_types::spending::{Spending, Spent};
use infera_types::wire::Wire as _;

use super::rate_limit::Limits;
use super::spent::Quantity;

/// How often what was spent is told. What a key can spend beyond its limit grows with it.
const TELL_EVERY: Duration = Duration::from_millis(250);

/// All that is in flight is told in each of this many reports, once a second: a gateway that just began has to hear of it, and
/// the others take what they don't hear of for over.
const WHOLE_EACH: u64 = 4;

/// The largest number of keys in one report: some 200 bytes each, a fifth of the largest message.
const KEYS_MAX: usize = 1_000;

impl Limits {
    /// Counts what was spent at another gateway, and what is in flight there.
    pub(crate) fn hear_of(&self, report: &Spending) {
        let now = Instant::now();
        for Spent { key, account, requests, tokens, looks, in_flight } in &report.keys {
            let of = (*key, account);
            if let Some(count) = in_flight {
                self.turns.hear(&report.gateway, of, *count, now);
            }
            let all =
                [(Quantity::Requests, *requests), (Quantity::Tokens, *tokens), (Quantity::Looks, *looks)];
            for (quantity, amount) in all.into_iter().filter(|(_, amount)| *amount != 0) {
                self.hear(of, quantity, amount);
            }
        }
    }

    /// Tells other gateways what is spent here, until `stop`.
    pub(crate) async fn tell_others(&self, gateway: &GatewayId, broker: &Arc<dyn Broker>, stop: &Shutdown) {
        let (mut number, mut round) = (0_u64, 0_u64);
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(TELL_EVERY) => {}
            }
            round += 1;
            let spent = self.untold(round.is_multiple_of(WHOLE_EACH));
            for keys in spent.chunks(KEYS_MAX) {
                number += 1;
                let report = Spending { gateway: gateway.clone(), keys: keys.to_vec() };
                let message = report.to_message(format!("spending:{gateway}:{number}"));
                let published = broker.publish(&topology::spending(), message).await;
                if published != Published::Confirmed {
                    tracing::debug!(
                        outcome = published.word(),
                        "other gateways weren't told what keys spent"
                    );
                }
            }
        }
    }

    /// Returns what other gateways have to be told of each key.
    fn untold(&self, whole: bool) -> Vec<Spent> {
        let mut keys: HashMap<_, _> =
            self.untold.take().into_iter().map(|spent| (spent.key, spent)).collect();
        for (key, account, count) in self.turns.untold(whole, Instant::now()) {
            keys.entry(key).or_insert_with(|| Spent::nothing(key, account)).in_flight = Some(count);
        }
        keys.into_values().collect()
    }
}
