//! Holds a verifier's settings, each with the reason for its default. Values only; the program reads files and
//! environment.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::decisions::group_draw::Distinct;

/// The longest that held jobs may wait to be looked at, in milliseconds.
const FEED_MOST_MS: u64 = 1_000;

/// Settings of one verifier.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// How often nodes promise to send a heartbeat, in milliseconds.
    pub heartbeat_ms: u64,
    /// How many heartbeats a node may miss before it counts as dead.
    pub heartbeats_missed_max: u32,
    /// Bounds the nodes that are remembered by their heartbeats.
    pub nodes_max: usize,
    /// How long this verifier counts as alive without renewing its lease, in milliseconds.
    pub lease_ttl_ms: u64,
    /// How often this verifier renews its lease, in milliseconds.
    pub lease_renew_ms: u64,
    /// How often catalogue, nodes and standings are reloaded, in milliseconds.
    pub refresh_ms: u64,
    /// How long the first notice of a batch waits for others before it is taken, in milliseconds.
    pub take_wait_ms: u64,
    /// Bounds the notices that are taken in one statement.
    pub take_max: usize,
    /// Bounds the jobs of one model that are held at once, whatever room the nodes have. What both of its queues give at
    /// the same moment may together be more, less than twice as much.
    pub held_max: u16,
    /// Bounds the bytes of requests and replies that are read, rendered and judged at once, those of up to 16 KiB not counted.
    pub work_bytes_max: u32,
    /// How long a job is held without a group before it is given back, in milliseconds.
    pub hold_ms: u64,
    /// How often a job without room looks again where nothing wakes it, in milliseconds.
    pub look_again_ms: u64,
    /// The part of the budget that every assignment gets, however small, in milliseconds.
    pub assignment_base_ms: u64,
    /// How many times the reference machine's time an assignment gets beside that.
    pub assignment_slack: f64,
    /// How long after its budget a replica is still waited for: the way there and back.
    pub assignment_grace_ms: u64,
    /// How long the same job leaves a node alone that was busy, draining or unreachable, in milliseconds.
    pub rest_ms: u64,
    /// What makes the members of a group different.
    pub distinct: Distinct,
    /// How long after the start a lack of nodes is no reason to fail a job, in milliseconds: nodes may just not have sent a
    /// heartbeat yet.
    pub warm_up_ms: u64,
    /// Bounds the publishes of one message whose outcome stays unknown.
    pub publish_tries: u32,
    /// How often the sweeper looks, in milliseconds.
    pub sweep_ms: u64,
    /// How long the sweeper's, the feeder's and the projector's shared leases last, in milliseconds.
    pub shared_lease_ms: u64,
    /// How long a notice may stay unconfirmed by the broker before it is published again, in milliseconds.
    pub unconfirmed_ms: u64,
    /// Bounds the rows of each kind in one sweep.
    pub sweep_limit: u32,
    /// How often held jobs are offered where no node's room changes, in milliseconds.
    pub feed_ms: u64,
    /// How often postings are folded into balances, in milliseconds.
    pub project_ms: u64,
    /// Bounds the postings in one fold.
    pub project_limit: u32,
    /// How often the archiver looks for settled jobs, in milliseconds.
    pub archive_ms: u64,
    /// How long a settled job waits at most until there are enough for a whole segment, in milliseconds; 120 times as long, an hour at
    /// most, if it has a retention.
    pub archive_wait_ms: u64,
    /// Bounds the records in one segment.
    pub archive_limit: u32,
    /// How long a claimed segment may stay unrecorded before it is written again, in milliseconds; also how long a verifier
    /// that died keeps the others from archiving.
    pub archive_retry_ms: u64,
    /// How long bodies and idempotency keys of archived jobs stay in the ledger, in milliseconds.
    pub retention_ms: u64,
    /// How long the groups of archived jobs stay in the ledger, in milliseconds; no longer than their bodies.
    pub group_retention_ms: u64,
    /// How long the erasures in one segment are gathered in the archive before it is rewritten without their text, in milliseconds. The
    /// ledger's text goes at once.
    pub rewrite_wait_ms: u64,
    /// How long a segment is left alone that an operator has to mend before it can be rewritten or removed, in milliseconds. One whose
    /// object is still gone after that has no text left.
    pub rewrite_retry_ms: u64,
    /// How often gateways hear what there is room for, in milliseconds.
    pub capacity_ms: u64,
    /// How long jobs in hand may take to finish at shutdown, in milliseconds.
    pub drain_ms: u64,
    /// How long a settled job's late replicas are waited for at shutdown, in milliseconds; later ones go to other verifiers.
    pub drain_late_ms: u64,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            // Three misses at a heartbeat of 10 s: longer than a broker's restart (21 s measured).
            heartbeat_ms: 10_000,
            heartbeats_missed_max: 3,
            // Ten times the largest fleet in sight; a flood of invented names must not fill memory.
            nodes_max: 10_000,
            // Long enough for a slow disk or a paused machine, short enough that a dead verifier's jobs that the
            // broker lost as well wait a quarter of a minute at most. Five renewals fit into it.
            lease_ttl_ms: 15_000,
            lease_renew_ms: 3_000,
            // A node registered or ejected is seen within a second.
            refresh_ms: 1_000,
            // What waits already is taken together. Waiting for more would only delay a lone job: the ledger shares
            // commits between concurrent takes anyway.
            take_wait_ms: 0,
            take_max: 64,
            // A job in hand costs some kilobytes; more than this is for the queue.
            held_max: 1_024,
            // Two of the largest bodies. Turning text into tokens takes up to 280 times the text's memory (measured), so
            // some 300 MB.
            work_bytes_max: 1024 * 1024,
            // Rule 4: a job that could not be dispatched for 60 s is released.
            hold_ms: 60_000,
            look_again_ms: 250,
            // A cold node's queue and one slow prefill.
            assignment_base_ms: 10_000,
            // A node at a twentieth of the reference's speed is the slowest that is of use.
            assignment_slack: 20.0,
            assignment_grace_ms: 500,
            // A busy node has a slot again after about one short answer; asking sooner only fills its queue.
            rest_ms: 500,
            distinct: Distinct::Owner,
            // One heartbeat and a second.
            warm_up_ms: 11_000,
            publish_tries: 3,
            // Rule 3: 5 s unconfirmed; a sweep a second keeps the delay near that.
            sweep_ms: 1_000,
            shared_lease_ms: 10_000,
            unconfirmed_ms: 5_000,
            sweep_limit: 500,
            // A person doesn't notice it beside an answer's time, and forty looks a second cost a hundredth of a core.
            feed_ms: 25,
            // Balances lag by a quarter of a second at most while nothing is behind.
            project_ms: 250,
            project_limit: 1_000,
            archive_ms: 5_000,
            // Stores charge for each PUT: a busy network makes whole segments (ten PUTs for 10,000 jobs), and an idle one
            // no more than 2,880 objects a day.
            archive_wait_ms: 30_000,
            archive_limit: 1_024,
            // Longer than any put that is still going on: S3's ends after two minutes.
            archive_retry_ms: 150_000,
            // A day in which a body can be read without the archive.
            retention_ms: 24 * 60 * 60 * 1_000,
            // A group is closed within its assignments' budgets and archived half a minute later. What is lost meanwhile in the
            // archive is written again from it: ten minutes see a store's failure, and are some hundred MB at a hundred jobs a
            // second.
            group_retention_ms: 10 * 60 * 1_000,
            // A client that erases job by job mostly erases neighbours. Five minutes of that are one rewriting, a second or two and some
            // megabytes, in place of hundreds.
            rewrite_wait_ms: 5 * 60 * 1_000,
            // Trying more often than hourly would fill the log, and an alert that looks at two hours sees each try.
            rewrite_retry_ms: 60 * 60 * 1_000,
            // As fresh as what verifiers themselves know of the ledger.
            capacity_ms: 1_000,
            // As long as a typical assignment's budget.
            drain_ms: 20_000,
            // The third of three is rarely later than this; a missing node must not hold up every stop.
            drain_late_ms: 1_000,
        }
    }
}

/// Why a setting can't be used, for the operator.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("verifier.{setting} {problem}")]
pub struct ConfigError {
    /// The key.
    pub setting: &'static str,
    /// What is wrong with it.
    pub problem: &'static str,
}

impl Config {
    /// Returns all mistakes at once; none if the settings can be used.
    #[must_use]
    pub fn mistakes(&self) -> Vec<ConfigError> {
        let mut mistakes = Vec::new();
        let mut need = |holds: bool, setting, problem| {
            if !holds {
                mistakes.push(ConfigError { setting, problem });
            }
        };
        need(self.lease_renew_ms > 0, "lease_renew_ms", "must be over 0");
        need(
            self.lease_ttl_ms >= self.lease_renew_ms.saturating_mul(3),
            "lease_ttl_ms",
            "must be three renewals at least",
        );
        need(self.heartbeat_ms > 0, "heartbeat_ms", "must be over 0");
        need(self.heartbeats_missed_max > 0, "heartbeats_missed_max", "must be over 0");
        need(self.take_max > 0, "take_max", "must be over 0");
        need(self.held_max > 0, "held_max", "must be over 0");
        need(self.work_bytes_max > 0, "work_bytes_max", "must be over 0");
        need(self.publish_tries > 0, "publish_tries", "must be over 0");
        need(self.sweep_limit > 0, "sweep_limit", "must be over 0");
        need(self.project_limit > 0, "project_limit", "must be over 0");
        need(self.archive_limit > 0, "archive_limit", "must be over 0");
        need(
            self.assignment_slack.is_finite() && self.assignment_slack >= 0.0,
            "assignment_slack",
            "must be a number, 0 or more",
        );
        for (setting, value) in [
            ("refresh_ms", self.refresh_ms),
            ("look_again_ms", self.look_again_ms),
            ("assignment_base_ms", self.assignment_base_ms),
            ("sweep_ms", self.sweep_ms),
            ("shared_lease_ms", self.shared_lease_ms),
            ("feed_ms", self.feed_ms),
            ("project_ms", self.project_ms),
            ("archive_ms", self.archive_ms),
            ("rewrite_retry_ms", self.rewrite_retry_ms),
            ("capacity_ms", self.capacity_ms),
        ] {
            need(value > 0, setting, "must be over 0");
        }
        need(self.feed_ms <= FEED_MOST_MS, "feed_ms", "must be 1000 at most: every held job waits for it");
        mistakes
    }

    /// Returns how long a node may be silent before it is dead.
    #[must_use]
    pub fn silence_max(&self) -> Duration {
        Duration::from_millis(self.heartbeat_ms.saturating_mul(u64::from(self.heartbeats_missed_max)))
    }

    /// Returns how long an assignment may take that the reference machine does in `reference`, with `left` until its job's
    /// deadline.
    #[must_use]
    pub fn budget(&self, reference: Duration, left: Duration) -> Duration {
        // An absurd product (a catalogue's mistake) is cut by the deadline below, so it must only not panic.
        let scaled = (reference.as_secs_f64() * self.assignment_slack).clamp(0.0, 1e9);
        let wanted = Duration::from_millis(self.assignment_base_ms) + Duration::from_secs_f64(scaled);
        wanted.min(left)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_has_no_mistakes() {
        assert_eq!(Config::default().mistakes(), Vec::new());
    }

    #[test]
    fn all_mistakes_are_listed_at_once() {
        let config = Config {
            lease_ttl_ms: 1,
            held_max: 0,
            assignment_slack: f64::NAN,
            feed_ms: 1_001,
            ..Config::default()
        };
        let settings: Vec<_> = config.mistakes().iter().map(|mistake| mistake.setting).collect();
        assert_eq!(settings, ["lease_ttl_ms", "held_max", "assignment_slack", "feed_ms"]);
    }

    #[test]
    fn unknown_keys_are_refused() {
        assert!(toml::from_str::<Config>("held_max = 5").is_ok());
        assert!(toml::from_str::<Config>("hold_max = 5").is_err());
    }

    #[test]
    fn a_budget_never_passes_the_deadline() {
        let config = Config { assignment_base_ms: 1_000, assignment_slack: 2.0, ..Config::default() };
        let second = Duration::from_secs(1);
        assert_eq!(config.budget(second, second * 60), second * 3);
        assert_eq!(config.budget(second, second * 2), second * 2);
        assert_eq!(config.budget(Duration::from_secs(u64::MAX), second), second);
    }
}
