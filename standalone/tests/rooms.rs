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

/// The checks see what they are for: a circle through a face, one within macros, one by `super`; and none where tests alone
/// import.
#[test]
fn a_circle_is_seen_however_it_is_written() {
    let shapes: [(&[(&str, &str)], usize); 6] = [
        (
            &[
                ("lib", "mod a; mod b;"),
                ("a", "use crate::b::B; pub struct A;"),
                ("b", "use crate::a::A; pub struct B;"),
            ],
            1,
        ),
        // By a name that the root only shows.
        (
            &[
                ("lib", "mod a; mod b; pub use a::A; pub use b::B;"),
                ("a", "use super::B; pub struct A;"),
                ("b", "fn b() { tokio::select! { x = crate::A::new() => {} } } pub struct B;"),
            ],
            1,
        ),
        // Between a module and one within it.
        (
            &[
                ("lib", "mod a;"),
                ("a", "mod inner; use inner::Inner; pub struct A;"),
                ("a/inner", "use super::A; pub struct Inner;"),
            ],
            1,
        ),
        // A face is no import.
        (
            &[
                ("lib", "mod a;"),
                ("a", "mod inner; pub use inner::Inner; pub struct A;"),
                ("a/inner", "use super::A; pub struct Inner;"),
            ],
            0,
        ),
        // Siblings that meet in a third do not meet each other.
        (
            &[
                ("lib", "mod a; mod b; pub use a::A;"),
                ("a", "pub struct A;"),
                ("b", "use super::{A}; pub struct B;"),
            ],
            0,
        ),
        (
            &[
                ("lib", "mod a; mod b;"),
                ("a", "pub struct A; #[cfg(test)] mod tests { use crate::b::B; }"),
                ("b", "use crate::a::A; pub struct B;"),
            ],
            0,
        ),
    ];
    for (files, circles) in shapes {
        let folder = tempfile::tempdir().expect("a folder");
        for (name, text) in files {
            let path = folder.path().join(format!("{name}.rs"));
            std::fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
            std::fs::write(path, text).expect("a file");
        }
        assert_eq!(Modules::read(folder.path()).circles().len(), circles, "{files:?}");
    }
}
