//! The rule that draws a job's group of nodes ([`draw`]): a pure function of the live nodes, the job's draw key and the
//! members already in the group. It never sees what the client wrote, so a client can't word a request until it lands on the
//! nodes it likes. `order` ranks, `selection` chooses.
//!
//! **Weighted rendezvous hashing.** Each node gets the score `-ln(u) / w`: `w` is its weight and `u`, uniform in
//! (0, 1), is HMAC-SHA256(draw key, node id). The lowest scores win. Such a score is exponentially distributed with
//! rate `w`, so a node comes first with probability `w / sum of w`, and the k lowest are a weighted draw without
//! replacement. (Schindelhauer and Schomaker, "Weighted distributed hash tables", SPAA 2005, the logarithmic method;
//! Efraimidis and Spirakis, "Weighted random sampling with a reservoir", 2006, the same from the other end.) A
//! node's score depends on that node alone: a node that joins changes only the groups that it enters.
//!
//! **Weights** are reputation (its lower bound) times the tokens per second that verifiers measured, the latter capped at
//! three times the model's median, so that one fast machine doesn't get everything. Newcomers draw with the median
//! weight, and in 15 % of the draws one place is theirs.
//!
//! **Pools.** A job is drawn from one pool of nodes ([`infera_ledger::NodePool`]): strangers' nodes, the nodes of its account, or
//! a group's. A private node is in no pool of strangers'. A backstop of the network is drawn for strangers' jobs only where the
//! others can't fill the group, whatever their room ([`fill`]), and all backstops have one owner.
//!
//! **Bounds**, in this order of importance: never two nodes of one owner or of one network, never a node of the
//! job's own account (in a pool of an account or a group: never two nodes of one machine); at most one newcomer where two established nodes are eligible; one numeric class where three
//! owners have it. Only the last gives way before a group stays short; the bound on newcomers ends where the established
//! nodes do.

mod candidates;
mod draw;
mod fill;
mod order;
mod selection;
mod terms;

pub use candidates::{Candidate, Distinct, Medians, Member};
pub use draw::draw;
pub use fill::{Filled, fill};
pub use order::{are_apart, machines};
pub use terms::Draw;
