//! Counts what this verifier holds of one model, by lane, so that all lanes' consumers follow the same numbers.

use std::sync::{Arc, Mutex, PoisonError};

use infera_types::service::Lane;

use crate::decisions::lanes::Holding;
use crate::tenure::Tally;

/// The tallies of one model's consumers.
#[derive(Debug)]
pub(super) struct Lanes {
    first: Mutex<Arc<Tally>>,
    later: Mutex<Arc<Tally>>,
    own: Mutex<Arc<Tally>>,
}

impl Default for Lanes {
    fn default() -> Self {
        let begin = |lane| Mutex::new(Arc::new(Tally::new(lane)));
        Self { first: begin(Lane::First), later: begin(Lane::Later), own: begin(Lane::Own) }
    }
}

impl Lanes {
    /// Begins the tally of a new consumer. What an earlier one of the lane held is no longer counted: the broker gives it
    /// out again.
    pub(super) fn begin(&self, lane: Lane) -> Arc<Tally> {
        let tally = Arc::new(Tally::new(lane));
        *self.of(lane).lock().unwrap_or_else(PoisonError::into_inner) = Arc::clone(&tally);
        tally
    }

    /// Returns what a lane holds now.
    pub(super) fn holding(&self, lane: Lane) -> Holding {
        self.of(lane).lock().unwrap_or_else(PoisonError::into_inner).holding()
    }

    const fn of(&self, lane: Lane) -> &Mutex<Arc<Tally>> {
        match lane {
            Lane::First => &self.first,
            Lane::Later => &self.later,
            Lane::Own => &self.own,
        }
    }
}
