//! Fills a group: with others than the network's backstops wherever that can be done, now or once a node has room, and with a
//! backstop only where it can't. It also says what is missing where the group isn't filled.

use infera_ledger::NodePool;
use infera_types::ids::NodeId;

use super::candidates::{Candidate, Member};
use super::draw::draw;
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
#[must_use]
pub fn fill(candidates: &[Candidate], terms: &Draw<'_>, resting: &[NodeId]) -> Filled {
    let mut without = terms.excluded_nodes.to_vec();
    without.extend_from_slice(resting);
    let now = Draw { excluded_nodes: &without, ..*terms };
    let mut with_room: Option<Vec<Candidate>> = None;
    for backstops in [Backstops::LeftOut, Backstops::Allowed] {
        let drawn = drawn(candidates, &now, backstops);
        if drawn.len() >= terms.wanted {
            return Filled::Drawn(drawn);
        }
        let rested = with_room.get_or_insert_with(|| rested(candidates));
        if self::drawn(rested, terms, backstops).len() >= terms.wanted {
            return Filled::NoRoom;
        }
        if !has_backstops(candidates, terms) {
            break;
        }
    }
    Filled::TooFew
}

fn rested(candidates: &[Candidate]) -> Vec<Candidate> {
    let mut rested = candidates.to_vec();
    rested.iter_mut().for_each(|candidate| candidate.free_slots = candidate.free_slots.max(1));
    rested
}

/// Only strangers' jobs know backstops; in the pool of its owner or of a group such a node is one like others.
fn is_backstop(one: &Candidate, terms: &Draw<'_>) -> bool {
    one.is_backstop && *terms.pool == NodePool::Open
}

fn has_backstops(candidates: &[Candidate], terms: &Draw<'_>) -> bool {
    candidates.iter().any(|one| is_backstop(one, terms))
}

/// Draws others first, and then, where it is allowed, backstops for what is missing.
fn drawn(candidates: &[Candidate], terms: &Draw<'_>, backstops: Backstops) -> Vec<usize> {
    if !has_backstops(candidates, terms) {
        return draw(candidates, terms);
    }
    let pick = |terms: &Draw<'_>, of_backstops: bool| -> Vec<usize> {
        let of_kind =
            candidates.iter().enumerate().filter(|(_, one)| is_backstop(one, terms) == of_backstops);
        let (indexes, kind): (Vec<usize>, Vec<Candidate>) =
            of_kind.map(|(index, one)| (index, one.clone())).unzip();
        draw(&kind, terms).into_iter().filter_map(|at| indexes.get(at).copied()).collect()
    };
    let mut chosen = pick(terms, false);
    if backstops == Backstops::Allowed && chosen.len() < terms.wanted {
        let others = chosen.iter().filter_map(|index| candidates.get(*index)).map(Member::from);
        let members: Vec<Member> = terms.members.iter().cloned().chain(others).collect();
        let missing = Draw { wanted: terms.wanted - chosen.len(), members: &members, ..*terms };
        chosen.extend(pick(&missing, true));
    }
    chosen
}
