//! Tells other gateways what keys spent here, and hears the same of them, so that a key's limits hold at all gateways together.
//! Each reports four times a second what was spent since; between two reports a key may spend at each gateway what it has left.
//! What it spent beyond its limit that way it owes, and gets back later.

use std::sync::Arc;
use std::time::Duration;

use infera_broker::{Broker, Published, topology};
use infera_types::ids::GatewayId;
use infera_types::shutdown::Shutdown;
use infera_types::spending::{Spending, Spent};
use infera_types::wire::Wire as _;

use super::rate_limit::Limits;
use super::spent::Counted;

/// How often what was spent is told. What a key can spend beyond its limit grows with it.
const TELL_EVERY: Duration = Duration::from_millis(250);

/// The largest number of keys in one report: some 200 bytes each, a fifth of the largest message.
const KEYS_MAX: usize = 1_000;

impl Limits {
    /// Counts what was spent at another gateway.
    pub(crate) fn hear_of(&self, report: &Spending) {
        for Spent { key, account, requests, tokens, looks } in &report.keys {
            let of = (*key, account);
            let all = [(Counted::Requests, *requests), (Counted::Tokens, *tokens), (Counted::Looks, *looks)];
            for (counted, amount) in all.into_iter().filter(|(_, amount)| *amount != 0) {
                self.hear(of, counted, amount);
            }
        }
    }

    /// Tells other gateways what is spent here, until `stop`.
    pub(crate) async fn tell_others(&self, gateway: &GatewayId, broker: &Arc<dyn Broker>, stop: &Shutdown) {
        let mut number = 0_u64;
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(TELL_EVERY) => {}
            }
            let spent = self.untold.take();
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
}
