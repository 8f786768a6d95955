//! Folds one posting into totals and standings. It is pure, and the only place that knows what a verdict weighs. It
//! reads no clock and no table; the projector passes both in.
//!
//! The weights are our choice: VALID 1, INVALID 20, missed 2, each halved every 7 days. Twenty outweighs the 19 VALID
//! verdicts that a cheating node collects between two audits if 5 % of its jobs are audited, so its record falls even
//! if only audits detect the cheating.
//!
//! Verdicts on jobs for nodes of one's own or of a group weigh nothing: whose jobs they were chose the nodes, and could make any
//! record for them.

use std::time::Duration;

use super::rows::{Balance, NodeStanding, Posting, PostingEntry, Verdict};
use infera_types::time::Timestamp;

/// The age at which a verdict's weight has halved: a node that is mended is forgiven within weeks, and a node that
/// turned bad does not live on its past.
pub const HALF_LIFE: Duration = Duration::from_secs(7 * 24 * 60 * 60);

/// The weight that one VALID verdict adds to `good`.
pub const VALID_WEIGHT: f64 = 1.0;

/// The weight that one INVALID verdict adds to `bad`.
pub const INVALID_WEIGHT: f64 = 20.0;

/// The weight that one missed assignment adds to `bad`.
pub const MISSED_WEIGHT: f64 = 2.0;

/// Returns the share of a weight that is left after `elapsed`: 2^(-elapsed / half-life).
#[must_use]
pub fn decay(elapsed: Duration) -> f64 {
    libm::exp2(-elapsed.as_secs_f64() / HALF_LIFE.as_secs_f64())
}

/// Returns the owner of the balance that a posting changes: an account's id or a node's.
#[must_use]
pub fn subject(entry: &PostingEntry) -> &str {
    match entry {
        PostingEntry::Usage { account, .. } => account.as_str(),
        PostingEntry::Verdict { node, .. } => node.as_str(),
    }
}

/// Adds one posting to its subject's totals. A node's tokens count where they are paid: with a VALID verdict.
pub fn fold_balance(balance: &mut Balance, entry: &PostingEntry) {
    balance.postings += 1;
    match entry {
        PostingEntry::Usage { prompt_tokens, completion_tokens, .. } => {
            balance.prompt_tokens = balance.prompt_tokens.saturating_add(*prompt_tokens);
            balance.completion_tokens = balance.completion_tokens.saturating_add(*completion_tokens);
        }
        PostingEntry::Verdict { verdict, millipoints, tokens, .. } => {
            balance.millipoints = balance.millipoints.saturating_add(*millipoints);
            if *verdict == Verdict::Valid {
                balance.completion_tokens = balance.completion_tokens.saturating_add(*tokens);
            }
        }
    }
}

/// Returns whether a posting affects a node's standing. Inconclusive and neutral verdicts don't, nor do those on jobs that
/// were for chosen nodes.
#[must_use]
pub const fn counts(entry: &PostingEntry) -> bool {
    matches!(
        entry,
        PostingEntry::Verdict {
            verdict: Verdict::Valid | Verdict::Invalid | Verdict::Missed,
            is_for_chosen_nodes: false,
            ..
        }
    )
}

/// Adds one posting to a node's standing, which begins with the node's first posting that [`counts`]. Postings may
/// come in any order of their times: the later of both times becomes the standing's, and the older values are decayed
/// to it.
pub fn fold_standing(standing: &mut Option<NodeStanding>, posting: &Posting) {
    let PostingEntry::Verdict { node, model, verdict, elapsed_ms, tokens, on_time, .. } = &posting.entry
    else {
        return;
    };
    if !counts(&posting.entry) {
        return;
    }
    let standing = standing.get_or_insert_with(|| NodeStanding {
        node: node.clone(),
        model: model.clone(),
        good: 0.0,
        bad: 0.0,
        on_time: 0.0,
        asked: 0.0,
        tokens: 0.0,
        seconds: 0.0,
        valid_count: 0,
        first_valid_ms: None,
        updated_ms: posting.posted_ms,
    });
    let weight = advance(standing, posting.posted_ms);
    standing.asked += weight;
    if *on_time && *verdict != Verdict::Missed {
        standing.on_time += weight;
    }
    match verdict {
        Verdict::Valid => {
            standing.good += VALID_WEIGHT * weight;
            standing.tokens += tokens_of(*tokens) * weight;
            standing.seconds += Duration::from_millis(*elapsed_ms).as_secs_f64() * weight;
            standing.valid_count += 1;
            let earlier = standing.first_valid_ms.unwrap_or(posting.posted_ms).min(posting.posted_ms);
            standing.first_valid_ms = Some(earlier);
        }
        Verdict::Invalid => standing.bad += INVALID_WEIGHT * weight,
        Verdict::Missed => standing.bad += MISSED_WEIGHT * weight,
        Verdict::Inconclusive | Verdict::Neutral => {}
    }
}

/// Decays the standing to `now` if that is later, and returns the weight in it of an event at `now`.
fn advance(standing: &mut NodeStanding, now: Timestamp) -> f64 {
    if now <= standing.updated_ms {
        return decay(standing.updated_ms.since(now));
    }
    let left = decay(now.since(standing.updated_ms));
    for sum in [
        &mut standing.good,
        &mut standing.bad,
        &mut standing.on_time,
        &mut standing.asked,
        &mut standing.tokens,
        &mut standing.seconds,
    ] {
        *sum *= left;
    }
    standing.updated_ms = now;
    1.0
}

/// Returns a count of tokens as a weight. No answer has more than 2^32 tokens; a larger number is cut there.
fn tokens_of(tokens: u64) -> f64 {
    f64::from(u32::try_from(tokens).unwrap_or(u32::MAX))
}
