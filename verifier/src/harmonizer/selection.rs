//! Takes nodes off the ranked list, one place after the other, within the bounds. No hashing, no weights.

use std::collections::BTreeSet;

use infera_core::messages::NumericClass;

use super::order::{self, Ranked};
use super::{CLASS_OWNERS_MIN, Draw, NEWCOMER_SHARE};

/// The chosen candidates' places in the caller's slice, best first.
pub(super) fn choose(ranked: &[Ranked<'_>], draw: &Draw<'_>) -> Vec<usize> {
    let first = Selection::new(ranked, draw).run();
    let allowed =
        if first.spoils_newcomer_bound() { Selection::established_first(ranked, draw).run() } else { first };
    allowed.chosen.iter().map(|one| one.index).collect()
}

/// One pass over the ranked candidates.
struct Selection<'a> {
    ranked: Vec<&'a Ranked<'a>>,
    draw: &'a Draw<'a>,
    chosen: Vec<&'a Ranked<'a>>,
    /// Newcomers that may still be chosen while established ones are left.
    newcomers_left: usize,
    /// Established nodes that could be in this group together, members included; counted up to two.
    established: usize,
}

impl<'a> Selection<'a> {
    fn new(ranked: &'a [Ranked<'a>], draw: &'a Draw<'a>) -> Self {
        let members = draw.members.iter().filter(|member| member.newcomer).count();
        // A single node's answer is taken on that node's word alone: no place for a newcomer.
        let alone = draw.wanted + draw.members.len() < 2;
        let newcomers_left = if alone { 0 } else { 1_usize.saturating_sub(members) };
        let mut selection = Self {
            ranked: ranked.iter().collect(),
            draw,
            chosen: Vec::new(),
            newcomers_left,
            established: 0,
        };
        selection.established = selection.count_established();
        if selection.keeps_place() {
            let newcomer = ranked.iter().find(|one| one.candidate.newcomer);
            newcomer.into_iter().for_each(|one| selection.choose(one));
        }
        selection
    }

    /// The second try: newcomers are looked at only when no established node fits any more.
    fn established_first(ranked: &'a [Ranked<'a>], draw: &'a Draw<'a>) -> Self {
        let mut selection = Self::new(ranked, draw);
        selection.chosen.clear();
        selection.newcomers_left = 0;
        selection
    }

    /// Whether this draw is one of those that keep a place for a newcomer. Only whole groups do.
    fn keeps_place(&self) -> bool {
        let whole = self.draw.members.is_empty() && self.newcomers_left > 0;
        whole && order::uniform(self.draw.key, b"newcomer", b"") < NEWCOMER_SHARE
    }

    fn run(mut self) -> Self {
        while self.chosen.len() < self.draw.wanted {
            let Some(next) = self.next() else { break };
            self.choose(next);
        }
        self
    }

    fn choose(&mut self, one: &'a Ranked<'a>) {
        self.newcomers_left = self.newcomers_left.saturating_sub(usize::from(one.candidate.newcomer));
        self.chosen.push(one);
    }

    /// The best candidate that fits: of a class that the group has and three owners share, if it can be; not a
    /// second newcomer, if it can be.
    fn next(&self) -> Option<&'a Ranked<'a>> {
        let fitting: Vec<_> = self.ranked.iter().copied().filter(|one| self.fits(one)).collect();
        let classes = self.shared_classes();
        let newcomer_fits = |one: &Ranked<'_>| !one.candidate.newcomer || self.newcomers_left > 0;
        let class_fits = |one: &Ranked<'_>| classes.contains(&&one.candidate.numeric_class);
        let find = |test: &dyn Fn(&Ranked<'_>) -> bool| fitting.iter().copied().find(|one| test(one));
        find(&|one| newcomer_fits(one) && class_fits(one))
            .or_else(|| find(&newcomer_fits))
            .or_else(|| find(&class_fits))
            .or_else(|| find(&|_| true))
    }

    fn fits(&self, one: &Ranked<'_>) -> bool {
        self.chosen.iter().all(|other| order::differ(one.candidate, other.candidate, self.draw.distinct))
    }

    /// Classes of the group that have three owners, counting the group and every ranked candidate.
    fn shared_classes(&self) -> Vec<&'a NumericClass> {
        let draw = self.draw;
        let members = draw.members.iter().map(|member| (&member.numeric_class, &member.owner, &member.node));
        let ranked = self.ranked.iter().map(|one| one.candidate);
        let all: Vec<_> =
            members.clone().chain(ranked.map(|one| (&one.numeric_class, &one.owner, &one.node))).collect();
        let chosen = self.chosen.iter().map(|one| &one.candidate.numeric_class);
        let mut classes: Vec<_> = members.map(|member| member.0).chain(chosen).collect();
        classes.retain(|class| {
            let of_class = all.iter().filter(|one| one.0 == *class);
            let parties = of_class.map(|one| draw.distinct.party(one.1, one.2));
            parties.collect::<BTreeSet<_>>().len() >= CLASS_OWNERS_MIN
        });
        classes
    }

    fn count_established(&self) -> usize {
        let mut found: Vec<&Ranked<'_>> = Vec::new();
        for one in self.ranked.iter().copied().filter(|one| !one.candidate.newcomer) {
            if found.iter().all(|other| order::differ(one.candidate, other.candidate, self.draw.distinct)) {
                found.push(one);
            }
        }
        found.len() + self.draw.members.iter().filter(|member| !member.newcomer).count()
    }

    /// Two newcomers although two established nodes were there to be asked: a newcomer stood in the way of one.
    fn spoils_newcomer_bound(&self) -> bool {
        let chosen = self.chosen.iter().filter(|one| one.candidate.newcomer).count();
        let members = self.draw.members.iter().filter(|member| member.newcomer).count();
        chosen > 0 && chosen + members > 1 && self.established >= 2
    }
}
