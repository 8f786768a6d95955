//! How a group's assignments came out, for deciding whether its nodes were too slow.

use std::collections::HashMap;

use infera_types::ids::AssignmentId;
use infera_types::job::AssignmentState;

use super::Group;
use crate::decisions::out_of_time::Course;

impl Group {
    /// Records that one's node said that the time ended before its answer was complete, whether or not that counts.
    pub(in crate::job) fn ran_out(&mut self, index: usize) {
        if let Some(one) = self.asked.get_mut(index) {
            one.ran_out = true;
        }
    }

    /// Records how many times one's node began it again.
    pub(in crate::job) fn began_again(&mut self, index: usize, reruns: usize) {
        if let Some(one) = self.asked.get_mut(index) {
            one.reruns = reruns;
        }
    }

    /// Returns the assignments that were begun again, and how often each.
    pub(in crate::job) fn reruns(&self) -> HashMap<AssignmentId, usize> {
        let again = self.asked.iter().filter(|one| one.reruns > 0);
        again.map(|one| (one.record.id, one.reruns)).collect()
    }

    /// Returns how those came out that aren't open any more.
    pub(in crate::job) fn course(&self) -> Course {
        let mut course = Course::default();
        for one in &self.asked {
            let sound = one.record.replica.as_ref().is_some_and(|replica| replica.sound);
            match one.record.state {
                AssignmentState::Missed | AssignmentState::Neutral if one.ran_out => course.ran_out += 1,
                AssignmentState::Answered if sound => course.answered += 1,
                AssignmentState::Missed if one.was_silent => course.silent += 1,
                AssignmentState::Answered | AssignmentState::Missed => course.failed += 1,
                AssignmentState::Neutral | AssignmentState::Open => {}
            }
        }
        course
    }

    /// Returns the time that the nodes which were asked last had, in milliseconds; none if none was asked.
    pub(in crate::job) fn budget_ms(&self) -> Option<u64> {
        self.asked.last().map(|one| one.record.budget_ms)
    }
}
