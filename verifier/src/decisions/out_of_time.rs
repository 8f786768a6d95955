//! Decides whether a job has no answer because its nodes' time ran out: then more nodes with the same time would come to the same
//! end, and its client has to ask for less, or its operator to give more.

use crate::decisions::quorum::REPLACEMENTS_MAX;

/// How a job's assignments that are no longer open came out. Those that no node is to blame for aren't in it, but for those whose
/// nodes said that their time ran out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Course {
    /// They have a replica.
    pub(crate) answered: usize,
    /// Their nodes said that the time ended before the answer was complete.
    pub(crate) ran_out: usize,
    /// Their time ended without a word.
    pub(crate) silent: usize,
    /// They were missed in another way.
    pub(crate) failed: usize,
}

impl Course {
    /// Returns whether a job ends as out of time that finds no other nodes. One that a client waits for does if most of its nodes
    /// were too slow, with or without a word. Of one that waits, silence may have been an outage on the way, and is tried again
    /// elsewhere; most of its nodes must have said so.
    pub(crate) const fn ends_without_more_nodes(self, is_waited_for: bool) -> bool {
        if is_waited_for { self.is_for_want_of_time() } else { self.ran_out > self.answered + self.failed }
    }

    /// Returns whether a job that needs more nodes ends instead of asking them: as many said that their time ran out as may miss a
    /// job (rule 5), whether or not that counts against them.
    pub(crate) const fn is_bound_reached(self) -> bool {
        self.ran_out >= REPLACEMENTS_MAX && self.is_for_want_of_time()
    }

    /// Returns whether most of the nodes were too slow.
    pub(crate) const fn is_for_want_of_time(self) -> bool {
        self.ran_out + self.silent > self.answered + self.failed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn course(answered: usize, ran_out: usize, silent: usize, failed: usize) -> Course {
        Course { answered, ran_out, silent, failed }
    }

    #[test]
    fn a_job_ends_as_out_of_time_where_most_of_its_nodes_ran_out_of_it() {
        for (course, waited_for, waiting, bound) in [
            (course(0, 0, 0, 0), false, false, false),
            (course(0, 3, 0, 0), true, true, false),
            (course(0, 0, 3, 0), true, false, false),
            (course(1, 2, 0, 0), true, true, false),
            (course(2, 1, 0, 0), false, false, false),
            (course(0, 1, 1, 1), true, false, false),
            (course(0, 1, 0, 2), false, false, false),
            (course(0, 6, 0, 0), true, true, true),
            (course(0, 6, 0, 6), false, false, false),
        ] {
            let ends = (course.ends_without_more_nodes(true), course.ends_without_more_nodes(false));
            assert_eq!((ends, course.is_bound_reached()), ((waited_for, waiting), bound), "{course:?}");
        }
    }
}
