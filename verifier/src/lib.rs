//! Owns jobs: draws the group, judges the answers, settles.
//!
//! The decisions are pure functions of values: `harmonizer` (who is asked), `integrity` and `compare` (what the
//! replicas say), `quorum` (whether that is an answer), `verdicts`, `points` and `reputation` (what the nodes get
//! for it). They read no clock, no queue and no ledger; everything that does is around them.

pub mod compare;
pub mod harmonizer;
pub mod integrity;
pub mod points;
pub mod quorum;
pub mod reputation;
pub mod thresholds;
pub mod verdicts;
