//! Decides whether the replicas that are in make an answer: wait, settle, ask more nodes, or give up. A pure function of
//! what is known, whatever order it came in. It asks no node and knows no time; deadlines reach it as fewer open
//! assignments.

use std::collections::{BTreeMap, BTreeSet};

use infera_types::ids::{Digest, NodeId, OwnerId};
use infera_types::job::{
    FailureReason, Numbers, ReplicaCounts, Rung, Verification, VerificationPolicy, VerificationStatus,
};

use crate::decisions::compare::{Agreement, Comparison};
use crate::decisions::group_draw::Distinct;
use crate::decisions::keyed_hash::keyed_hash;

/// Bounds the nodes that are asked in place of others, over all handouts of a job (rule 5). With the first group that
/// is three groups' worth: a job that can make that many nodes fail should not be given more.
pub const REPLACEMENTS_MAX: usize = 6;

/// A replica that is in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    /// The node that it comes from.
    pub node: NodeId,
    /// The owner of that node.
    pub owner: OwnerId,
    /// Whether it passed L0. An unsound one takes part in nothing.
    pub sound: bool,
    /// Whether its answer begins with what the client has seen. One that doesn't can't be the answer.
    pub extends: bool,
}

/// What is known of a job's group.
#[derive(Clone, Copy, Debug)]
pub struct Situation<'a> {
    /// What was asked for.
    pub policy: VerificationPolicy,
    /// The replicas that are in.
    pub replies: &'a [Reply],
    /// What sound replies say about each other, by their indexes, the lesser first. A pair that is missing doesn't
    /// agree.
    pub pairs: &'a BTreeMap<(usize, usize), Comparison>,
    /// Assignments that may still be answered.
    pub open: usize,
    /// How many more nodes may be asked: [`REPLACEMENTS_MAX`] less those asked in place of others or after a
    /// disagreement, and 0 once the harmonizer has found no more nodes.
    pub replacements_left: usize,
    /// What makes two replies different.
    pub distinct: Distinct,
    /// Whether the client is given numbers, so that replies agree only if their numbers are inside, too.
    pub over_numbers: bool,
    /// The job's draw key, by `infera_sampling::draw_key`: it draws the canonical answer.
    pub draw_key: &'a Digest,
}

/// What to do about a job's group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    /// Enough may still come.
    Wait,
    /// There is an answer.
    Settle(Agreed),
    /// Ask this many more nodes now; open ones alone can't make the quorum any more.
    Draw(usize),
    /// There is no answer, and none can be had.
    Fail(FailureReason),
}

/// An answer that qualifies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Agreed {
    /// Which reply is the answer.
    pub canonical: usize,
    /// How many were asked, are in and sound, and agree.
    pub counts: ReplicaCounts,
    /// Verified, or unverified where one replica was asked for.
    pub status: VerificationStatus,
    /// Which test decided; `None` if nothing was compared.
    pub rung: Option<Rung>,
    /// Whether all pairs of those that agree are inside (where the client is given numbers: all pairs with the answer, which they
    /// are); `None` if nothing was compared.
    pub numbers: Option<Numbers>,
    /// How many of those that agree are backstops of the network.
    pub backstops: u8,
}

impl Agreed {
    /// Returns what the client is told.
    #[must_use]
    pub fn verification(&self, thresholds: &str) -> Verification {
        Verification {
            status: self.status,
            replicas: self.counts,
            rung: self.rung,
            numbers: self.numbers,
            thresholds: thresholds.to_owned(),
            backstop: (self.backstops > 0).then_some(self.backstops),
        }
    }
}

/// Decides what to do about a job's group.
///
/// * A replica with which replicas of as many different owners as the quorum wants have the same tokens, its own included, is
///   an answer. If two answers qualify, the one with more owners is it; equally many are a disagreement.
/// * Numbers outside their tolerance are reported and stop nothing, unless the client is given numbers: then only replicas
///   whose numbers are inside agree. That two agree with a third doesn't make them agree with each other, so each replica's own
///   partners are counted.
/// * What a client has seen binds: only an answer that begins with it can be the answer.
/// * A benign divergence excuses a replica, but vouches for none, so it counts towards no quorum.
/// * As soon as the open assignments can't complete a quorum, more nodes are asked; then the job fails: as
///   `no_consensus` if sound replicas disagree, else as `too_many_misses`.
#[must_use]
pub fn decide(situation: &Situation<'_>) -> Decision {
    let needed = needed(&situation.policy);
    let all = answers(situation);
    let extends = |answer: &Backed| situation.replies[answer.reply].extends;
    let differ = all.iter().any(|answer| answer.partners.len() < all.len() || !extends(answer));
    let answers: Vec<Backed> = all.into_iter().filter(extends).collect();
    let best = answers.iter().map(|answer| answer.owners).max().unwrap_or(0);
    let best_ones: Vec<&Backed> = answers.iter().filter(|answer| answer.owners == best).collect();
    let is_alone =
        best_ones.iter().all(|one| best_ones.iter().all(|other| one.partners.contains(&other.reply)));
    if best >= needed && is_alone {
        return settle(situation, &best_ones);
    }
    // Two answers that both qualify need one more reply.
    let reachable = best + situation.open;
    let lacking = if best >= needed {
        1_usize.saturating_sub(situation.open)
    } else {
        needed.saturating_sub(reachable)
    };
    match lacking {
        0 => Decision::Wait,
        lacking if lacking <= situation.replacements_left => Decision::Draw(lacking),
        _ if differ => Decision::Fail(FailureReason::NoConsensus),
        _ => Decision::Fail(FailureReason::TooManyMisses),
    }
}

/// Returns how many parties must agree.
#[must_use]
pub fn needed(policy: &VerificationPolicy) -> usize {
    if policy.replicas == 1 { 1 } else { usize::from(policy.quorum.max(2)) }
}

/// A sound reply, and what agrees with it.
struct Backed {
    reply: usize,
    /// The replies that agree with it, itself included.
    partners: Vec<usize>,
    /// How many different owners these have.
    owners: usize,
}

/// Returns each sound reply with those that agree with it. Where one replica was asked for there is nothing to agree with, and
/// any will do.
fn answers(situation: &Situation<'_>) -> Vec<Backed> {
    let sound: Vec<usize> =
        (0..situation.replies.len()).filter(|index| situation.replies[*index].sound).collect();
    let is_single = situation.policy.replicas == 1;
    let backed = |reply: &usize| {
        let agrees = |other: &usize| other == reply || is_single || is_same(situation, *reply, *other);
        let partners: Vec<usize> = sound.iter().copied().filter(agrees).collect();
        let parties = partners.iter().map(|index| party(situation, *index)).collect::<BTreeSet<_>>();
        let owners = if is_single { 1 } else { parties.len() };
        Backed { reply: *reply, partners, owners }
    };
    sound.iter().map(backed).collect()
}

fn party<'a>(situation: &Situation<'a>, index: usize) -> &'a str {
    let reply = &situation.replies[index];
    situation.distinct.party(&reply.owner, &reply.node)
}

fn is_same(situation: &Situation<'_>, first: usize, second: usize) -> bool {
    let pair = situation.pairs.get(&(first.min(second), first.max(second)));
    pair.is_some_and(|comparison| {
        let is_inside = comparison.numbers == Numbers::Inside;
        comparison.agreement == Agreement::Identical && (is_inside || !situation.over_numbers)
    })
}

/// Settles with one of the replies that agree with each other and are backed equally well.
fn settle(situation: &Situation<'_>, best_ones: &[&Backed]) -> Decision {
    let Some(answer) = drawn(situation, best_ones) else { return Decision::Wait };
    let sound = situation.replies.iter().filter(|reply| reply.sound).count();
    let answered = saturate(sound);
    let counts = ReplicaCounts {
        // A node asked after a disagreement is one more that was asked; one in place of a miss is not.
        asked: situation.policy.replicas.max(answered),
        answered,
        agreed: saturate(answer.owners),
    };
    let unverified = situation.policy.replicas == 1;
    Decision::Settle(Agreed {
        canonical: answer.reply,
        counts,
        status: if unverified { VerificationStatus::Unverified } else { VerificationStatus::Verified },
        rung: (!unverified).then_some(Rung::Identical),
        numbers: (!unverified).then(|| numbers(situation, answer)),
        backstops: backstops(situation, answer),
    })
}

/// Draws which of the replies is served, by the job's randomness, which no node knows.
fn drawn<'a>(situation: &Situation<'_>, best_ones: &[&'a Backed]) -> Option<&'a Backed> {
    let hash = |answer: &&Backed| {
        let node = &situation.replies[answer.reply].node;
        (keyed_hash(situation.draw_key, b"canonical", node.as_str().as_bytes()), node.clone())
    };
    best_ones.iter().copied().min_by_key(hash)
}

/// Counts the replies of an answer that are from the network's own nodes.
fn backstops(situation: &Situation<'_>, answer: &Backed) -> u8 {
    let network = OwnerId::network();
    let of_network = answer.partners.iter().filter(|index| situation.replies[**index].owner == network);
    saturate(of_network.count())
}

/// Returns whether the numbers of those that agree are inside: all pairs of them, but where the client is given numbers, those
/// of the answer itself with each.
fn numbers(situation: &Situation<'_>, answer: &Backed) -> Numbers {
    let counts = |(first, second): &(usize, usize)| {
        let is_within = answer.partners.contains(first) && answer.partners.contains(second);
        is_within && (!situation.over_numbers || *first == answer.reply || *second == answer.reply)
    };
    let mut agreeing = situation.pairs.iter().filter(|(pair, _)| counts(pair));
    let outside = agreeing.any(|(_, comparison)| comparison.numbers == Numbers::Outside);
    if outside { Numbers::Outside } else { Numbers::Inside }
}

fn saturate(count: usize) -> u8 {
    u8::try_from(count).unwrap_or(u8::MAX)
}
