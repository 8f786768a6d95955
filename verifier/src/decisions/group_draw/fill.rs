//! Fills a group: with others than the network's backstops wherever that can be done, now or once a node has room, and with a
//! backstop only where it can't. Of certain classes where the terms name some, and of others only where those have too few. It
//! also says what is missing where the group isn't filled.

use infera_ledger::NodePool;
use infera_types::ids::NodeId;

use super::candidates::{Candidate, Member};
use super::draw::draw_among;
use super::order::Among;
use super::terms::Draw;

/// What filling a group came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Filled {
    /// These candidates, by their indexes, best first: as many as are wanted.
    Drawn(Vec<usize>),
    /// There are enough nodes, but not enough with room now.
    NoRoom,
    /// There are not enough different nodes, whatever their room.
    TooFew,
}

/// Whether backstops may be drawn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Backstops {
    LeftOut,
    Allowed,
}

/// Draws as many nodes as are wanted, or says why it can't. `resting` nodes have no room for this job.
///
/// Where the terms name classes, nodes of other classes are drawn only if too few of these exist, whatever their room. Such a node may
/// still answer what was shown, since tokens are drawn by the job's own noise and classes differ where two are nearly equal. If it
/// answers otherwise, its answer can't be the job's, so that nothing is lost by asking it; without it the job would fail.
#[must_use]
pub fn fill(candidates: &[Candidate], terms: &Draw<'_>, resting: &[NodeId]) -> Filled {
    let filled = fill_within(candidates, terms, resting);
    if filled != Filled::TooFew || terms.classes.is_empty() {
        return filled;
    }
    fill_within(candidates, &Draw { classes: &[], ..*terms }, resting)
}

fn fill_within(candidates: &[Candidate], terms: &Draw<'_>, resting: &[NodeId]) -> Filled {
    let mut without = terms.excluded_nodes.to_vec();
    without.extend_from_slice(resting);
    let now = Draw { excluded_nodes: &without, ..*terms };
    let has_backstops = has_backstops(candidates, terms);
    let draw = |terms: &Draw<'_>, backstops, need_room| match has_backstops {
        true => drawn(candidates, terms, backstops, need_room),
        false => draw_among(candidates, terms, Among { are_backstops: None, need_room }),
    };
    for backstops in [Backstops::LeftOut, Backstops::Allowed] {
        let drawn = draw(&now, backstops, true);
        if drawn.len() >= terms.wanted {
            return Filled::Drawn(drawn);
        }
        if draw(terms, backstops, false).len() >= terms.wanted {
            return Filled::NoRoom;
        }
        if !has_backstops {
            break;
        }
    }
    Filled::TooFew
}

/// Only strangers' jobs know backstops; in the pool of its owner or of a group such a node is one like others.
fn has_backstops(candidates: &[Candidate], terms: &Draw<'_>) -> bool {
    *terms.pool == NodePool::Open && candidates.iter().any(|one| one.is_backstop)
}

/// Draws others first, and then, where it is allowed, backstops for what is missing.
fn drawn(candidates: &[Candidate], terms: &Draw<'_>, backstops: Backstops, need_room: bool) -> Vec<usize> {
    let others = Among { are_backstops: Some(false), need_room };
    let mut chosen = draw_among(candidates, terms, others);
    if backstops == Backstops::Allowed && chosen.len() < terms.wanted {
        let others = chosen.iter().filter_map(|index| candidates.get(*index)).map(Member::from);
        let members: Vec<Member> = terms.members.iter().cloned().chain(others).collect();
        let missing = Draw { wanted: terms.wanted - chosen.len(), members: &members, ..*terms };
        chosen.extend(draw_among(candidates, &missing, Among { are_backstops: Some(true), need_room }));
    }
    chosen
}
