//! Decides how a verifier divides what it may hold of one model between the model's two lanes, and which of them is next
//! where jobs wait for room.
//!
//! Of all that may be held (what runs, and this verifier's share of the room to wait, rule 4) the later lane leaves one place
//! in eight to the first, and always has a tenth, and one more that waits for its turn. The first may hold all that the later
//! lane isn't running. While the later lane is running everything, the first may still hold an eighth more than it does: those
//! jobs wait here, and the next room is theirs, so the first lane's part grows as the later one's jobs end, and it makes no
//! difference that the broker is told less for the later lane only after a while. Beside jobs of the later lane an eighth of
//! the first lane's always waits here, if there is that much, for the same reason.

use infera_types::service::Lane;

/// How many turns in a row the first lane gets while the later one waits: the later one's tenth is the next.
const FIRST_TURNS: u32 = 9;

/// What one lane holds here.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Holding {
    /// Jobs that were delivered and are not acked, those that run included.
    pub held: u32,
    /// Those whose nodes are at work.
    pub running: u32,
}

/// What a verifier sees of one model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seen {
    /// What the first lane holds.
    pub first: Holding,
    /// What the later lane holds.
    pub later: Holding,
    /// How many jobs may wait here for room.
    pub waiting_max: u32,
    /// Bounds what is held, whatever room there is.
    pub held_max: u16,
}

/// Returns how many jobs a lane may hold: none while nothing runs and there is no room, otherwise one at least.
#[must_use]
pub fn held_max(lane: Lane, seen: &Seen) -> u16 {
    let Seen { first, later, waiting_max, held_max } = *seen;
    let running = first.running.saturating_add(later.running);
    let total = running.saturating_add(waiting_max).min(u32::from(held_max));
    if total == 0 {
        return 0;
    }
    let (eighth, tenth) = (total.div_ceil(8), total / 10 + 1);
    let wanted = match lane {
        Lane::First => {
            let beside = total.saturating_sub(later.running);
            // With as many waiting here as this, the line decides which lane gets the next room.
            let in_line = if later.held == 0 { 0 } else { first.running.saturating_add(eighth) };
            let ahead = first.held.saturating_add(eighth).min(in_line.max(total.saturating_sub(tenth)));
            beside.max(ahead).min(u32::from(held_max).saturating_sub(later.held))
        }
        Lane::Later => total.saturating_sub(eighth).saturating_sub(first.held).max(tenth),
        // Nothing of it comes out of what the other two share.
        Lane::Own => return own_held_max(0, held_max),
    };
    u16::try_from(wanted.max(1)).unwrap_or(u16::MAX)
}

/// How many jobs that go to nodes of their own a verifier takes beside those that run. None waits here: one that finds no room is
/// given back at once. So this only bounds how many are looked at together.
const OWN_AT_ONCE: u32 = 64;

/// Returns how many jobs of one model that go to nodes of their own may be held while `running` of them run. It doesn't depend on
/// strangers' nodes, and takes nothing from what their jobs may hold.
#[must_use]
pub fn own_held_max(running: u32, held_max: u16) -> u16 {
    let wanted = running.saturating_add(OWN_AT_ONCE).min(u32::from(held_max));
    u16::try_from(wanted).unwrap_or(u16::MAX).max(1)
}

/// Where jobs of both lanes wait for their turn to look for room.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Waiting {
    /// Whether a job of the first lane waits.
    pub first: bool,
    /// Whether a job of the later lane waits.
    pub later: bool,
    /// How many turns in a row the first lane got while the later one waited.
    pub ahead: u32,
}

/// Whose turn it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// The first lane's.
    First,
    /// The later lane's, until a job of the first comes.
    LaterMeanwhile,
    /// The later lane's, whatever comes: it is its tenth.
    LaterByRight,
}

/// Returns whose turn is next; none if no job waits.
#[must_use]
pub const fn next(waiting: Waiting) -> Option<Next> {
    match (waiting.first, waiting.later) {
        (true, true) if waiting.ahead >= FIRST_TURNS => Some(Next::LaterByRight),
        (true, _) => Some(Next::First),
        (false, true) => Some(Next::LaterMeanwhile),
        (false, false) => None,
    }
}
