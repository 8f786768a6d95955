//! Waits for room on nodes and asks the first group.

use std::sync::Arc;
use std::time::Duration;

use infera_types::job::{End, Settlement};
use infera_types::time::Timestamp;
use tokio::sync::oneshot;

use super::asking::{Asking, Found};
use super::handouts;
use super::outcome::Outcome;
use super::removed::model_removed;
use super::wall_clock::sleep_until;
use crate::tenure::Trial;

/// Waits for room and asks the first group; none once it is asked.
pub(super) async fn first_group(
    asking: &mut Asking,
    ended: &mut oneshot::Receiver<Settlement>,
    trial: &Trial,
) -> Option<Outcome> {
    let tenure = Arc::clone(&asking.tenure);
    if !asking.job.pool.is_open() {
        return first_of_own(asking, ended).await;
    }
    let give_back = Timestamp::now().after(Duration::from_millis(tenure.config.hold_ms));
    let waited_until = give_back.min(asking.job.deadline_ms);
    let asked = async {
        loop {
            match asking.ask_in_turn().await {
                Found::Asked => return None,
                // The nodes that had the model will not come back with it.
                Found::TooFew if tenure.unserved().contains(&asking.job.model) => {
                    return Some(Outcome::End(model_removed(&asking.job.model)));
                }
                // A synchronous request fails at once when too few nodes exist; other jobs wait.
                Found::TooFew if asking.job.synchronous && !tenure.is_warming_up() => {
                    return Some(Outcome::End(asking.insufficient_nodes()));
                }
                // Others need not wait for room with it.
                Found::TooFew | Found::NoRoom => handouts::outlived(&tenure, asking.job.id, trial).await,
            }
        }
    };
    let outcome = tokio::select! {
        outcome = asked => outcome,
        Ok(settlement) = ended => Some(Outcome::Elsewhere(Box::new(settlement))),
        () = tenure.draining.cancelled() => Some(Outcome::Release),
        () = sleep_until(waited_until) => {
            let expired = waited_until < give_back;
            Some(if expired { Outcome::End(End::Expired) } else { Outcome::Release })
        }
    };
    if matches!(outcome, Some(Outcome::Release)) && asking.group.len() > 0 {
        // The wait ended while the group was being asked: it may be at work, so the job stays.
        asking.group.mark_all_uncertain();
        return None;
    }
    outcome
}

/// Asks the first group of a job that goes to nodes of its own, which is never kept waiting here: where they are busy, or too few
/// for a job that no client waits for, it goes back to the ledger, which holds it until the feeder finds room on them. So it keeps
/// no other job from being taken.
async fn first_of_own(asking: &mut Asking, ended: &mut oneshot::Receiver<Settlement>) -> Option<Outcome> {
    let tenure = Arc::clone(&asking.tenure);
    let look_again = Duration::from_millis(tenure.config.look_again_ms);
    loop {
        if asking.job.deadline_ms <= Timestamp::now() {
            return Some(Outcome::End(End::Expired));
        }
        match asking.ask_first().await {
            Found::Asked => return None,
            Found::TooFew if !asking.job.synchronous => return Some(Outcome::Release),
            Found::TooFew if !tenure.is_warming_up() => {
                return Some(Outcome::End(asking.insufficient_nodes()));
            }
            Found::NoRoom => return Some(Outcome::Release),
            // The client's nodes may just not have sent a heartbeat yet.
            Found::TooFew => tokio::select! {
                () = tokio::time::sleep(look_again) => {}
                Ok(settlement) = &mut *ended => return Some(Outcome::Elsewhere(Box::new(settlement))),
                () = tenure.draining.cancelled() => return Some(Outcome::Release),
            },
        }
    }
}
