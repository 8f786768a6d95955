//! Checks the modules within each crate: no modules may import each other in a circle, and a room may import only
//! rooms below it. (`architecture` checks which crate may import which.)

#![expect(clippy::expect_used, clippy::panic, reason = "a test fails by panicking, in its helpers too")]

#[path = "rooms/map.rs"]
mod map;
#[path = "rooms/modules.rs"]
mod modules;
#[path = "rooms/reader.rs"]
mod reader;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use map::ROOMS;
use modules::{Modules, room};

fn sources(folder: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(folder).join("src")
}

fn modules(folder: &str) -> Modules {
    Modules::read(&sources(folder))
}

/// The folders of the workspace's crates, as cargo knows them.
fn crates() -> BTreeSet<String> {
    let manifest = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../Cargo.toml"));
    let manifest: toml::Table = manifest.expect("the workspace's manifest").parse().expect("TOML");
    let members = manifest["workspace"]["members"].as_array().expect("members");
    members.iter().map(|member| member.as_str().expect("a folder").to_owned()).collect()
}

#[test]
fn every_crate_is_on_the_map() {
    let listed: Vec<&str> = ROOMS.iter().map(|(folder, _)| *folder).collect();
    let listed_once: BTreeSet<String> = listed.iter().map(|folder| (*folder).to_owned()).collect();
    assert_eq!(listed_once.len(), listed.len(), "a crate is listed twice");
    assert_eq!(listed_once, crates());
}

#[test]
fn no_modules_import_each_other_in_a_circle() {
    for (folder, _) in ROOMS {
        assert_eq!(modules(folder).circles(), Vec::<BTreeSet<modules::Module>>::new(), "{folder}");
    }
}

#[test]
fn no_room_imports_from_a_higher_one() {
    let mut wrong = Vec::new();
    for (folder, order) in ROOMS {
        let modules = modules(folder);
        let rooms: BTreeSet<String> = order.iter().map(|room| (*room).to_owned()).collect();
        assert_eq!(modules.rooms(), rooms, "the rooms of {folder}");
        let floor = |module: &modules::Module| order.iter().position(|listed| *listed == room(module));
        for ((from, to), name) in modules.arrows() {
            if floor(&to) > floor(&from) {
                let (from, to) = (room(&from), room(&to));
                wrong.push(format!("{folder}: {from} takes {name} from {to}, which lies higher"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
