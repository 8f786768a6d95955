//! Takes nodes off the ranked list, one place after the other, within the bounds. No hashing, no weights.

use std::collections::BTreeSet;

use infera_types::numbers::NumericClass;

use super::order::{self, Ranked};
use super::terms::Draw;
use crate::decisions::keyed_hash::uniform;

/// The share of groups in which one place is kept for a newcomer.
const NEWCOMER_SHARE: f64 = 0.15;

/// How many owners a numeric class needs to be preferred: a group's worth.
const CLASS_OWNERS_MIN: usize = 3;

/// Returns the chosen candidates' places in the caller's slice, best first.
pub(super) fn choose(ranked: &[Ranked<'_>], draw: &Draw<'_>) -> Vec<usize> {
    let first = Selection::new(ranked, draw).run();
    let second = if first.has_newcomers_too_many() { first.established_first() } else { None };
    second.unwrap_or(first).chosen.iter().map(|one| one.index).collect()
}

/// One pass over the ranked candidates.
struct Selection<'a> {
    ranked: Vec<&'a Ranked<'a>>,
    draw: &'a Draw<'a>,
    chosen: Vec<&'a Ranked<'a>>,
    /// Newcomers that may still be chosen while established ones are left.
    newcomers_left: usize,
}

impl<'a> Selection<'a> {
    fn new(ranked: &'a [Ranked<'a>], draw: &'a Draw<'a>) -> Self {
        let members = draw.members.iter().filter(|member| member.newcomer).count();
        // A single node's answer is taken on that node's word alone: no place for a newcomer.
        let alone = draw.wanted + draw.members.len() < 2;
        let newcomers_left = if alone { 0 } else { 1_usize.saturating_sub(members) };
        let mut selection =
            Self { ranked: ranked.iter().collect(), draw, chosen: Vec::new(), newcomers_left };
        if selection.keeps_place() {
            let newcomer = ranked.iter().find(|one| one.candidate.newcomer);
            newcomer.into_iter().for_each(|one| selection.choose(one));
        }
        selection
    }

    /// Runs the second try, which begins with the established nodes that the group should have, and looks at newcomers only
    /// when no established node fits any more. `None` if there are no such established nodes.
    fn established_first(&self) -> Option<Self> {
        let members = self.draw.members.iter().filter(|member| !member.newcomer).count();
        let needed = 2_usize.saturating_sub(members).min(self.draw.wanted);
        let established = || self.ranked.iter().copied().filter(|one| !one.candidate.newcomer);
        let differ =
            |a: &Ranked<'_>, b: &Ranked<'_>| order::differ(a.candidate, b.candidate, self.draw.distinct);
        let chosen = match needed {
            0 => None,
            1 => established().next().map(|one| vec![one]),
            _ => established().find_map(|first| {
                let second = established().find(|second| differ(first, second))?;
                Some(vec![first, second])
            }),
        };
        let start = |chosen| Self { ranked: self.ranked.clone(), draw: self.draw, chosen, newcomers_left: 0 };
        chosen.map(|chosen| start(chosen).run())
    }

    /// Returns whether this draw is one of those that keep a place for a newcomer. Only whole groups do.
    fn keeps_place(&self) -> bool {
        let whole = self.draw.members.is_empty() && self.newcomers_left > 0;
        whole && uniform(self.draw.key, b"newcomer", b"") < NEWCOMER_SHARE
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

    /// Returns the best candidate that fits: of a class that the group has and three owners share, if it can be; not a
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

    /// Returns whether two newcomers are in the group, which may be for want of established nodes, or because one stands in
    /// their way.
    fn has_newcomers_too_many(&self) -> bool {
        let chosen = self.chosen.iter().filter(|one| one.candidate.newcomer).count();
        let members = self.draw.members.iter().filter(|member| member.newcomer).count();
        chosen > 0 && chosen + members > 1
    }
}
