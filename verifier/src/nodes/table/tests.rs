//! Which nodes are there, and how much room they have.

use infera_types::features::Feature;

use super::*;

fn class() -> NumericClass {
    NumericClass {
        model_digest: Digest::of(b"model"),
        provider: "stub".to_owned(),
        hardware: "any".to_owned(),
        runtime: "none".to_owned(),
        compute: "f32".to_owned(),
    }
}

fn served(slots: u32, free_slots: u32) -> ServedModel {
    ServedModel { numeric_class: class(), rendering: 1, slots, free_slots, features: Features::default() }
}

fn heartbeat(node: &str, slots: u32, free: u32) -> Heartbeat {
    Heartbeat {
        models: vec![served(slots, free)],
        queue: format!("node.{node}.x"),
        machine: None,
        speaks: Version::NEWEST,
    }
}

#[test]
fn slots_are_clipped_by_what_is_outstanding() {
    // (slots, free by heartbeat, ours then, ours now, expected)
    let cases = [
        (4, 4, 0, 0, 4),
        (4, 4, 0, 3, 1),
        (4, 4, 0, 9, 0),
        (4, 0, 4, 0, 4), // all its work was ours and has come back since
        (4, 1, 2, 2, 1), // one slot is someone else's
        (4, 3, 2, 2, 2), // one of ours was still on its way when it spoke
        (4, 9, 0, 0, 4), // a lie about free slots doesn't help
        (0, 5, 0, 0, 0),
    ];
    for (slots, free, then, now, expected) in cases {
        let found = free_slots(&served(slots, free), then, now);
        assert_eq!(found, expected, "{slots} {free} {then} {now}");
    }
}

#[test]
fn slots_of_live_nodes_are_counted_together() {
    let table = Arc::new(NodeTable::new(Duration::from_secs(30), 9));
    let now = Instant::now();
    assert_eq!(table.slots(&[Digest::of(b"model")], now, |_| true), Slots::default());
    assert!(table.hear("na", heartbeat("na", 4, 4), now));
    assert!(table.hear("nb", heartbeat("nb", 8, 2), now));
    assert_eq!(table.slots(&[Digest::of(b"model")], now, |_| true), Slots { free: 6, all: 12 });
    let held = table.reserve(&[Digest::of(b"model")], now, |_| Ok::<_, ()>(vec![0])).unwrap();
    assert_eq!(table.slots(&[Digest::of(b"model")], now, |_| true), Slots { free: 5, all: 12 });
    drop(held);
    assert_eq!(table.slots(&[Digest::of(b"other")], now, |_| true), Slots::default());
    assert_eq!(
        table.slots(&[Digest::of(b"model")], now + Duration::from_secs(31), |_| true),
        Slots::default()
    );
}

#[test]
fn a_node_may_only_name_its_own_queue() {
    let table = NodeTable::new(Duration::from_secs(30), 2);
    let now = Instant::now();
    assert!(table.hear("na", heartbeat("na", 1, 1), now));
    assert!(!table.hear("nb", heartbeat("na", 1, 1), now));
    let other = Heartbeat {
        models: Vec::new(),
        queue: "jobs.model".to_owned(),
        machine: None,
        speaks: Version::NEWEST,
    };
    assert!(!table.hear("nb", other, now));
    assert!(!table.hear("", heartbeat("", 1, 1), now));
    assert!(table.hear("nb", heartbeat("nb", 1, 1), now));
    assert!(!table.hear("nc", heartbeat("nc", 1, 1), now), "over nodes_max");
}

#[test]
fn the_silent_are_dead_and_forgotten() {
    let table = Arc::new(NodeTable::new(Duration::from_secs(30), 9));
    let start = Instant::now();
    let digests = [class().model_digest];
    table.hear("na", heartbeat("na", 2, 2), start);
    assert_eq!(table.views(&digests, start + Duration::from_secs(30)).len(), 1);
    assert!(table.views(&[Digest::of(b"other")], start).is_empty());
    let later = start + Duration::from_secs(31);
    assert!(table.views(&digests, later).is_empty());
    table.forget_silent(later);
    assert!(table.lock().is_empty());
}

#[test]
fn who_is_cut_off_is_not_there_until_its_time_is_over() {
    let table = Arc::new(NodeTable::new(Duration::from_secs(90), 9));
    let (start, digests) = (Instant::now(), [class().model_digest]);
    table.hear("na", heartbeat("na", 2, 2), start);
    table.hear("nb", heartbeat("nb", 2, 2), start);
    let until = start + Duration::from_secs(60);
    table.cut_off("na", until);
    let there = |now| {
        let slots = table.slots(&digests, now, |_| true).all;
        (table.views(&digests, now).len(), slots, table.is_cut_off("na", now))
    };
    let just_before = until - Duration::from_millis(1);
    table.hear("na", heartbeat("na", 2, 2), just_before);
    assert_eq!((there(start), there(just_before)), ((1, 2, true), (1, 2, true)), "whatever it says");
    assert_eq!(there(until), (2, 4, false));
    table.forget_silent(until);
    assert!(table.cut_off.read().unwrap().is_empty());
}

#[test]
fn a_node_reads_and_can_do_what_its_last_heartbeat_says() {
    let table = NodeTable::new(Duration::from_secs(30), 9);
    let now = Instant::now();
    let nothing = Features::from_iter([]);
    for (speaks, features) in [
        (Version::First, Features::default()),
        (Version::Second, nothing),
        (Version::First, Features::from_iter([Feature::Seed])),
    ] {
        let mut said = Heartbeat { speaks, ..heartbeat("na", 1, 1) };
        said.models[0].features = features.clone();
        assert!(table.hear("na", said, now));
        let view = &table.views(&[class().model_digest], now)[0];
        assert_eq!((view.speaks, &view.features), (speaks, &features));
    }
}

#[test]
fn a_node_comes_from_where_the_broker_says() {
    let table = NodeTable::new(Duration::from_secs(30), 9);
    let now = Instant::now();
    table.hear("na", heartbeat("na", 1, 1), now);
    let address = || table.views(&[class().model_digest], now)[0].address;
    assert_eq!(address(), None);
    let there = IpAddr::from([10, 0, 0, 1]);
    table.set_addresses(HashMap::from([(NodeId::new("na"), there)]));
    assert_eq!(address(), Some(there));
    assert_eq!(table.queue(&NodeId::new("na")).as_deref(), Some("node.na.x"));
}

#[test]
fn a_slot_is_held_until_dropped() {
    let table = Arc::new(NodeTable::new(Duration::from_secs(30), 9));
    let now = Instant::now();
    let digests = [class().model_digest];
    table.hear("na", heartbeat("na", 1, 1), now);
    let reserved = table.reserve(&digests, now, |views| Ok::<_, ()>((0..views.len()).collect()));
    assert_eq!(reserved.as_ref().map(Vec::len), Ok(1));
    assert_eq!(table.views(&digests, now)[0].free_slots, 0);
    drop(reserved);
    assert_eq!(table.views(&digests, now)[0].free_slots, 1);
}
