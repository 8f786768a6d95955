//! What a model's nodes can do together.

use infera_types::features::{Feature, Features};
use infera_verifier::decisions::abilities::lacking;

#[test]
fn what_too_few_nodes_can_do_is_named() {
    let (temperature, seed, second) = (Feature::Temperature, Feature::Seed, Feature::Sampling2);
    let all: &[Feature] = &[temperature, seed, second];
    let old: &[Feature] = &[temperature, seed];
    let none: Option<&[Feature]> = None;
    for (nodes, needed, expected) in [
        (vec![all, all, all], vec![temperature, second], none),
        (vec![all, all, old], vec![temperature, second], Some(&[second][..])),
        (vec![old, old, old], vec![temperature, seed, second], Some(&[second])),
        (vec![&[seed], &[seed], &[temperature]], vec![temperature, seed], Some(&[temperature, seed])),
        // Three can do each, and no three can do both.
        (vec![&[seed], &[second], all, all], vec![seed, second], Some(&[seed, second])),
        // Too few serve the model at all, or nothing is needed.
        (vec![all, all], vec![second], none),
        (vec![old, old, old], vec![], none),
    ] {
        let needed: Features = needed.into_iter().collect();
        let count = |features: &Features| {
            let can = |node: &&&[Feature]| Features::from_iter(node.iter().copied()).include(features);
            nodes.iter().filter(can).count()
        };
        let expected = expected.map(|features| Features::from_iter(features.iter().copied()));
        assert_eq!(lacking(&needed, 3, count), expected, "{nodes:?} {needed}");
    }
}
