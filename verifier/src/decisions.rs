//! Makes a verifier's decisions. Everything in this room is a pure function of values and a `now`: it reads no clock, no queue
//! and no ledger, and keeps nothing between two calls. [`fair_share`] alone is a state, which changes by its calls and by
//! nothing else.
//!
//! * [`fair_share`]: in which order held jobs are offered.
//! * `offers`: how many jobs may lie in a queue.
//! * `trial`, `share` and [`lanes`]: which jobs are begun, how many wait here, and which of them are next.
//! * [`group_draw`]: which nodes are asked, the rule that draws a group; [`abilities`]: what too few nodes can do.
//! * `misses`: whether the lack of an answer counts against a node; `out_of_time`: whether a job ends because its nodes were too slow.
//! * [`integrity`] and [`compare`]: what the replicas show, within the tolerances of [`thresholds`].
//! * [`frame_rate`], [`slots`] and [`release`]: what answers in progress show, and what of it their client may see; [`passed_on`]: whether
//!   an answer is what the client saw under an earlier owner.
//! * [`quorum`]: whether that is an answer; [`hanging_up`]: what a client owes that wanted no more of it.
//! * [`verdicts`], [`earning`], [`points`] and [`reputation`]: what the nodes get for it.

pub mod abilities;
pub mod compare;
pub mod earning;
pub mod fair_share;
pub mod frame_rate;
pub mod group_draw;
pub mod hanging_up;
pub mod integrity;
mod keyed_hash;
pub mod lanes;
pub(crate) mod misses;
pub(crate) mod offers;
pub(crate) mod out_of_time;
pub mod passed_on;
pub mod points;
pub mod quorum;
pub mod release;
pub mod reputation;
pub(crate) mod share;
pub mod slots;
pub mod thresholds;
pub(crate) mod trial;
pub mod verdicts;
