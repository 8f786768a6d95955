//! Streams of jobs, from frames to what gateways are told.

use std::ops::ControlFlow;
use std::path::Path;

use futures::FutureExt as _;
use infera_model::chat::ChatModel;
use infera_types::frames::PassedOn;
use infera_types::knobs::Knobs;
use infera_types::numbers::TokenId;
use infera_types::request::Release;
use proptest::prelude::*;

use super::*;
use crate::decisions::slots::Completed;

/// What honest nodes say.
const RIGHT: [TokenId; 5] = [300, 301, 302, 303, 304];

fn chat() -> ChatModel {
    ChatModel::load(&Path::new(env!("CARGO_MANIFEST_DIR")).join("../models/infera-tiny")).unwrap()
}

/// A job that is streamed, and its assignments to nodes of an owner each, in the order of the nodes' names.
struct Rig {
    streams: Arc<Streams>,
    open: OpenStream,
    asked: Vec<(AssignmentId, NodeId)>,
    heard: Vec<Option<HeardAssignment>>,
}

impl Rig {
    fn new(release: Release, quorum: usize) -> Self {
        Self::taken_over(release, quorum, None)
    }

    /// The same of a job whose gateway is waited for until then.
    fn taken_over(release: Release, quorum: usize, awaited_until: Option<Timestamp>) -> Self {
        let (job, gateway) = (JobId::new(), GatewayId::new("g"));
        let terms = StreamTerms { job, gateway, release, quorum, tokens_max: 16, awaited_until };
        let streams = Arc::new(Streams::default());
        let open = streams.open(JobStream::new(terms, chat().answer_stream(&Knobs::default())));
        let asked: Vec<_> =
            ["a", "b", "c"].map(|name| (AssignmentId::new(), NodeId::new(name))).into_iter().collect();
        let heard = asked.iter().map(|(id, node)| Some(open.hear(*id, node, node.as_str()))).collect();
        Self { streams, open, asked, heard }
    }

    fn frame(&self, place: usize, attempt: u64, tokens: &[TokenId]) -> Framed {
        let (assignment, node) = &self.asked[place];
        let told = AnswerTokens { assignment: *assignment, attempt, from: 0, tokens: tokens.to_vec() };
        self.streams.take(node.as_str(), &told)
    }

    fn answer(&mut self, place: usize, tokens: &[TokenId]) -> Completed {
        let completed = self.open.stream().complete(self.asked[place].0, Some(1), tokens, true);
        self.open.tell();
        self.heard[place] = None;
        completed
    }

    fn give_up(&mut self, place: usize) {
        self.heard[place] = None;
    }

    fn released(&self) -> Vec<TokenId> {
        self.open.stream().released()
    }

    /// Whether the teller was woken since the last time.
    fn is_woken(&self) -> bool {
        self.streams.news().now_or_never().is_some()
    }
}

#[test]
fn the_teller_is_woken_by_all_that_may_release() {
    let rig = Rig::new(Release::Agreed, 2);
    assert_eq!(rig.frame(0, 1, &RIGHT[..2]), Framed::Taken(Taken::Grown));
    assert_eq!(rig.frame(1, 1, &[400]), Framed::Taken(Taken::Grown));
    assert!(rig.is_woken() && rig.released().is_empty());
    assert_eq!(rig.frame(1, 2, &RIGHT[..3]), Framed::Taken(Taken::Rerun));
    assert_eq!((rig.released().as_slice(), rig.is_woken()), (&RIGHT[..2], true), "begun again");

    let rig = Rig::new(Release::First, 2);
    rig.frame(0, 1, &RIGHT[..1]);
    rig.frame(1, 1, &RIGHT[..3]);
    assert!(rig.is_woken());
    assert_eq!(rig.frame(0, 1, &[400]), Framed::Taken(Taken::Fault));
    assert_eq!((rig.released().as_slice(), rig.is_woken()), (&RIGHT[..3], true), "another took its place");
    assert_eq!(rig.frame(1, 1, &RIGHT[..3]), Framed::Taken(Taken::Nothing));
    assert!(!rig.is_woken(), "nothing new");
}

#[test]
fn who_is_given_up_has_no_voice() {
    let mut rig = Rig::new(Release::Agreed, 2);
    rig.frame(0, 1, &RIGHT[..2]);
    rig.give_up(0);
    assert_eq!(rig.frame(0, 1, &RIGHT[..3]), Framed::Unknown);
    rig.frame(1, 1, &RIGHT[..1]);
    assert_eq!(rig.released(), [0; 0], "one of two is gone");
    rig.frame(2, 1, &RIGHT[..3]);
    assert_eq!(rig.released(), RIGHT[..1], "the others agree");
    rig.give_up(1);
    assert_eq!(rig.released(), RIGHT[..1], "what was shown stays");
}

#[test]
fn another_goes_on_where_the_first_is_given_up() {
    let mut rig = Rig::new(Release::First, 2);
    rig.frame(0, 1, &RIGHT[..2]);
    rig.frame(1, 1, &[300, 400, 401]);
    rig.frame(2, 1, &RIGHT[..1]);
    assert_eq!(rig.released(), RIGHT[..2]);
    rig.is_woken();
    rig.give_up(0);
    assert_eq!(rig.released(), RIGHT[..2], "one says otherwise, one has not said as much");
    rig.frame(1, 1, &[300, 400, 401, 402]);
    rig.frame(2, 1, &RIGHT[..4]);
    assert_eq!(rig.released(), RIGHT[..4]);
    assert!(rig.is_woken());
}

#[test]
fn giving_up_may_release_by_itself_and_then_wakes_the_teller() {
    let mut rig = Rig::new(Release::First, 2);
    rig.frame(0, 1, &RIGHT[..1]);
    rig.frame(1, 1, &RIGHT[..3]);
    assert!(rig.is_woken());
    rig.give_up(0);
    assert_eq!((rig.released().as_slice(), rig.is_woken()), (&RIGHT[..3], true));
}

#[test]
fn an_answer_keeps_its_voice_when_it_is_no_longer_waited_for() {
    let mut rig = Rig::new(Release::Agreed, 2);
    assert_eq!(rig.answer(0, &RIGHT), Completed::AsFramed);
    rig.frame(1, 1, &RIGHT[..2]);
    assert_eq!(rig.released(), RIGHT[..2]);
}

#[test]
fn each_assignment_takes_its_own_entry_away() {
    let mut rig = Rig::new(Release::Agreed, 2);
    let other = Rig::new(Release::Agreed, 2);
    rig.give_up(1);
    assert_eq!(rig.streams.assignments().len(), 2);
    let streams = Arc::clone(&rig.streams);
    drop(rig);
    assert!(streams.assignments().is_empty() && streams.jobs().is_empty());
    assert_eq!(other.streams.assignments().len(), 3);
}

#[test]
fn only_the_asked_node_is_heard() {
    let rig = Rig::new(Release::First, 1);
    let told = AnswerTokens { assignment: rig.asked[0].0, attempt: 1, from: 0, tokens: RIGHT.to_vec() };
    assert_eq!(rig.streams.take("b", &told), Framed::Impostor);
    assert_eq!(rig.released(), [0; 0]);
}

/// Decides upon what was released while another thread brings frames that would release more.
fn decide_amid_frames(rig: &Rig, is_end: bool) -> Vec<TokenId> {
    std::thread::scope(|scope| {
        let decided = rig.open.stream().close_at(Timestamp::now(), |shown| {
            let released = shown.released.to_vec();
            scope.spawn(|| rig.frame(1, 1, &RIGHT));
            // The frames have come by now, if nothing holds them up.
            std::thread::sleep(std::time::Duration::from_millis(50));
            if is_end { ControlFlow::Break(released) } else { ControlFlow::Continue(released) }
        });
        match decided {
            ControlFlow::Break(released) | ControlFlow::Continue(released) => released,
        }
    })
}

#[test]
fn a_stream_is_closed_at_what_was_decided_upon() {
    for is_end in [true, false] {
        let rig = Rig::new(Release::Agreed, 2);
        rig.frame(0, 1, &RIGHT);
        rig.frame(1, 1, &RIGHT[..2]);
        assert_eq!(decide_amid_frames(&rig, is_end), RIGHT[..2]);
        rig.frame(2, 1, &RIGHT);
        let expected = if is_end { &RIGHT[..2] } else { &RIGHT };
        assert_eq!(rig.released(), expected, "end: {is_end}");
        assert_eq!(rig.open.stream().close(), expected);
    }
}

fn passed_on(tokens: &[TokenId]) -> PassedOn {
    let count = u32::try_from(tokens.len()).unwrap();
    PassedOn { count, sha256: infera_model::chat::prompt_hash(tokens) }
}

/// Returns what a gateway is told of a stream now: from where, and which tokens.
fn told(rig: &Rig, gateway: &str, now: Timestamp) -> Option<(u32, Vec<TokenId>)> {
    let all = rig.open.stream().untold(now);
    let own = all.into_iter().find(|(to, _)| to.as_str() == gateway);
    own.map(|(_, delta)| (delta.from, delta.tokens))
}

/// Whether each answer keeps to what was shown, and whether the gateway is waited for.
fn judged(rig: &Rig, answers: [&[TokenId]; 2], now: Timestamp) -> ([bool; 2], bool) {
    let judged = rig.open.stream().close_at::<(), _>(now, |shown| {
        ControlFlow::Continue((answers.map(|answer| shown.is_kept_by(answer)), shown.is_awaited))
    });
    match judged {
        ControlFlow::Continue(judged) => judged,
        ControlFlow::Break(()) => unreachable!("nothing was ended"),
    }
}

#[test]
fn what_was_passed_on_under_an_earlier_owner_counts_as_shown() {
    let (start, until) = (Timestamp::from_millis(1_000), Timestamp::from_millis(3_000));
    let g = GatewayId::new("g");
    let other: &[TokenId] = &[300, 400, 302];
    let rig = Rig::taken_over(Release::Agreed, 2, Some(until));
    rig.frame(0, 1, &RIGHT[..1]);
    rig.frame(1, 1, &RIGHT[..1]);
    // Nothing is told before the gateway has said what it has.
    assert_eq!((told(&rig, "g", start), judged(&rig, [&RIGHT, other], start)), (None, ([true, true], true)));
    assert_eq!(rig.open.stream().awaited_until(start), Some(until));
    rig.open.stream().watch(&g, &passed_on(&RIGHT[..3]));
    assert!(rig.open.stream().said().notified().now_or_never().is_some());
    assert_eq!(rig.open.stream().awaited_until(start), None);
    assert_eq!(judged(&rig, [&RIGHT, other], start), ([true, false], false));
    assert_eq!(judged(&rig, [&RIGHT[..2], &RIGHT[..3]], start).0, [false, true], "one is shorter");
    // It has more than was released here; then it is told what follows, and not what it has.
    assert_eq!(told(&rig, "g", start), None);
    rig.frame(0, 1, &RIGHT[..4]);
    rig.frame(1, 1, &RIGHT[..4]);
    assert_eq!(told(&rig, "g", start), Some((3, vec![RIGHT[3]])));
    assert_eq!(judged(&rig, [&RIGHT, other], start), ([true, false], false));
}

#[test]
fn a_gateway_whose_clients_have_something_else_is_told_nothing_more() {
    let until = Timestamp::from_millis(3_000);
    let rig = Rig::taken_over(Release::First, 1, Some(until));
    rig.open.stream().watch(&GatewayId::new("g"), &passed_on(&[300, 400]));
    rig.frame(0, 1, &RIGHT);
    assert_eq!(told(&rig, "g", until), None);
    assert_eq!(judged(&rig, [&RIGHT, &[300, 400, 401]], until).0, [false, false], "neither begins with both");
    // Another gateway, which has nothing yet, is told all.
    rig.open.stream().watch(&GatewayId::new("h"), &passed_on(&[]));
    assert_eq!(told(&rig, "h", until), Some((0, RIGHT.to_vec())));
}

#[test]
fn a_gateway_that_says_nothing_in_time_has_nothing() {
    let until = Timestamp::from_millis(3_000);
    let rig = Rig::taken_over(Release::First, 1, Some(until));
    rig.frame(0, 1, &RIGHT);
    let before = Timestamp::from_millis(2_999);
    assert_eq!((told(&rig, "g", before), judged(&rig, [&RIGHT, &[]], before).1), (None, true));
    assert_eq!(
        (told(&rig, "g", until), judged(&rig, [&RIGHT, &[]], until).1),
        (Some((0, RIGHT.to_vec())), false)
    );
    // Nothing is waited for where there was no other owner.
    let rig = Rig::new(Release::First, 1);
    assert_eq!(judged(&rig, [&RIGHT, &[]], before), ([true, true], false));
}

/// What happens to a job's stream.
#[derive(Clone, Debug)]
enum Happens {
    /// A node has told the first `right` of the right tokens, and then its own.
    Frame {
        place: usize,
        attempt: u64,
        right: usize,
        own: Vec<TokenId>,
    },
    Answer {
        place: usize,
        right: usize,
    },
    GiveUp {
        place: usize,
    },
    Close,
}

fn happens() -> impl Strategy<Value = Happens> {
    let own = prop::collection::vec(400_u32..402, 0..3);
    prop_oneof![
        8 => (0_usize..3, 1_u64..4, 0_usize..6, own)
            .prop_map(|(place, attempt, right, own)| Happens::Frame { place, attempt, right, own }),
        2 => (0_usize..3, 0_usize..6).prop_map(|(place, right)| Happens::Answer { place, right }),
        1 => (0_usize..3).prop_map(|place| Happens::GiveUp { place }),
        1 => Just(Happens::Close),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Whatever happens in whatever order, what was released only grows, never after the close, and never without a word.
    #[test]
    fn what_is_released_only_grows_and_is_told(
        all in prop::collection::vec(happens(), 1..30),
        release in prop::sample::select(vec![Release::Agreed, Release::First, Release::Verified]),
    ) {
        let mut rig = Rig::new(release, 2);
        let (mut released, mut is_closed) = (Vec::new(), false);
        for one in all {
            rig.is_woken();
            match &one {
                Happens::Frame { place, attempt, right, own } => {
                    rig.frame(*place, *attempt, &[&RIGHT[..*right], own].concat());
                }
                Happens::Answer { place, right } => {
                    rig.answer(*place, &RIGHT[..*right]);
                }
                Happens::GiveUp { place } => rig.give_up(*place),
                Happens::Close => {
                    rig.open.stream().close();
                    is_closed = true;
                }
            }
            let now = rig.released();
            prop_assert!(now.starts_with(&released), "{now:?} after {released:?} by {one:?}");
            let has_grown = now.len() > released.len();
            prop_assert!(!has_grown || rig.is_woken(), "not told: {one:?}");
            prop_assert!(!has_grown || !is_closed, "after the close: {one:?}");
            prop_assert!(!has_grown || release != Release::Verified);
            released = now;
        }
        let told: Vec<TokenId> =
            rig.streams.untold().into_values().flatten().flat_map(|delta| delta.tokens).collect();
        prop_assert_eq!(told, released);
    }
}

/// A job ends with what the client of the gateway that accepted it had, if that is what was released.
#[test]
fn the_first_hanging_up_at_the_jobs_own_gateway_counts() {
    let rig = Rig::new(Release::Agreed, 2);
    rig.frame(0, 1, &RIGHT[..4]);
    rig.frame(1, 1, &RIGHT[..3]);
    let own = rig.streams.untold().into_keys().next().unwrap();
    let stop = |count: usize, of: &[TokenId], gateway: &GatewayId| {
        let sha256 = infera_model::chat::prompt_hash(&of[..count]);
        let passed_on = PassedOn { count: u32::try_from(count).unwrap(), sha256 };
        rig.streams.watch(gateway, &Watched { job: rig.open.stream().job(), passed_on, stop: true });
        rig.open.stream().until_hung_up().now_or_never()
    };
    assert_eq!(stop(2, &RIGHT, &GatewayId::fresh()), None, "its events are read there too");
    assert_eq!(stop(4, &RIGHT, &own), None, "not released yet");
    assert_eq!(stop(2, &[300, 999], &own), None, "something else was released");
    assert_eq!(stop(2, &RIGHT, &own), Some(RIGHT[..2].to_vec()));
    assert_eq!(stop(3, &RIGHT, &own), Some(RIGHT[..2].to_vec()));
    let told: Vec<usize> = rig.open.stream().told().iter().map(|one| one.tokens.len()).collect();
    assert_eq!(told, [4, 3, 0]);
}
