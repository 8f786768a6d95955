//! The map, checked: which crate may import which, who may link what, and how long a file may be. Reads cargo's own
//! account of the workspace and the sources; runs nothing else.

#![expect(clippy::expect_used, reason = "a test fails by panicking")]

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

/// Every arrow that may exist between our crates, tests included. What isn't listed is refused.
const ARROWS: &[(&str, &[&str])] = &[
    ("infera-core", &[]),
    ("infera-gateway", &["infera-core"]),
    ("infera-worker", &["infera-core"]),
    ("infera-verifier", &["infera-core"]),
    ("infera", &["infera-bench", "infera-core", "infera-gateway", "infera-verifier", "infera-worker"]),
    ("infera-bench", &["infera-core"]),
];

/// Libraries that only one of our crates may name, because it holds the seam to what they speak to. Tests and
/// benchmarks may: they look at such a seam from the other side.
const OWNED: &[(&str, &[&str])] = &[
    ("ort", &["infera-core"]),
    ("rusqlite", &["infera-core"]),
    ("tokenizers", &["infera-core"]),
    ("minijinja", &["infera-core"]),
    ("zstd", &["infera-core"]),
    // The public face is the gateway's; what operators see of every program is core's `operations`.
    ("hyper", &["infera-core", "infera-gateway"]),
    ("governor", &["infera-gateway"]),
    ("metrics-exporter-prometheus", &["infera-core"]),
    ("opentelemetry", &["infera-core"]),
    ("tracing-opentelemetry", &["infera-core"]),
];

/// What the benchmarks share; in no program.
const BENCHMARKS: &str = "infera-bench";

/// No source file may be longer, whatever it says.
const FILE_LINES_MAX: usize = 400;
/// `main.rs` only composes.
const MAIN_LINES_MAX: usize = 60;
/// A seam that grows beyond this is two seams.
const TRAIT_METHODS_MAX: usize = 5;

/// What a dependency is for.
#[derive(Clone, Copy)]
enum Kind {
    Normal,
    Build,
    Test,
}

impl Kind {
    /// Cargo's word; it has none for normal ones.
    fn word(self) -> Option<&'static str> {
        match self {
            Self::Normal => None,
            Self::Build => Some("build"),
            Self::Test => Some("dev"),
        }
    }
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace").to_owned()
}

fn cargo(arguments: &[&str]) -> String {
    let output =
        Command::new(env!("CARGO")).args(arguments).current_dir(root()).output().expect("cargo runs");
    assert!(output.status.success(), "cargo {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("cargo prints text")
}

/// The names of every workspace crate's direct dependencies of the kinds asked for.
fn dependencies(kinds: &[Kind]) -> BTreeMap<String, BTreeSet<String>> {
    let text = cargo(&["metadata", "--format-version=1", "--no-deps", "--locked", "--offline"]);
    let metadata: serde_json::Value = serde_json::from_str(&text).expect("cargo prints JSON");
    let packages = metadata["packages"].as_array().expect("packages");
    let named = |value: &serde_json::Value| value["name"].as_str().expect("a name").to_owned();
    let wanted =
        |dependency: &&serde_json::Value| kinds.iter().any(|kind| dependency["kind"].as_str() == kind.word());
    let of = |package: &serde_json::Value| {
        package["dependencies"].as_array().expect("a list").iter().filter(wanted).map(named).collect()
    };
    packages.iter().map(|package| (named(package), of(package))).collect()
}

#[test]
fn arrows_between_crates_are_the_ones_on_the_map() {
    let found = dependencies(&[Kind::Normal, Kind::Build, Kind::Test]);
    let ours: BTreeSet<&str> = ARROWS.iter().map(|(name, _)| *name).collect();
    assert_eq!(
        found.keys().map(String::as_str).collect::<BTreeSet<_>>(),
        ours,
        "a crate that the map doesn't know"
    );
    for (name, allowed) in ARROWS {
        for dependency in found[*name].iter().filter(|dependency| ours.contains(dependency.as_str())) {
            // A crate may name itself, to switch features on for its own tests.
            let fine = allowed.contains(&dependency.as_str()) || dependency == name;
            assert!(fine, "{name} imports {dependency}: roles meet only in core's messages and seams");
        }
    }
}

#[test]
fn libraries_behind_a_seam_are_named_by_its_owner_alone() {
    let mut all = dependencies(&[Kind::Normal, Kind::Build]);
    assert!(all.remove(BENCHMARKS).is_some(), "what the benchmarks share was found");
    for (name, dependencies) in all {
        for (library, owners) in OWNED {
            assert!(
                !dependencies.contains(*library) || owners.contains(&name.as_str()),
                "{name} names {library}, which is {owners:?}'s"
            );
        }
    }
}

/// What a program is, and what it must not carry: a role's binary with another role's libraries in it is larger, takes
/// longer to look over for security, and could do what it has no business to do. The second column is one that it must
/// have, so that an empty tree proves nothing.
const LINKED: &[(&str, &str, &[&str])] = &[
    ("infera-gateway", "jsonwebtoken", &["ort", "tokenizers", "minijinja", "rusqlite", "aws-sdk-s3"]),
    ("infera-worker", "ort", &["tokio-postgres", "aws-sdk-s3", "rusqlite", "jsonwebtoken", "governor"]),
    ("infera-verifier", "aws-sdk-s3", &["ort", "rusqlite", "jsonwebtoken", "governor"]),
    (
        "infera",
        "rusqlite",
        &["lapin", "tokio-postgres", "aws-sdk-s3", "jsonwebtoken", "reqwest", "opentelemetry"],
    ),
];

/// One implementation of TLS and cryptography, without C that takes minutes.
const NOWHERE: &[&str] = &["aws-lc-rs", "aws-lc-sys", "openssl", "openssl-sys", "native-tls"];

#[test]
fn each_program_links_only_what_it_needs() {
    for (program, own, others) in LINKED {
        let (package, features) = (format!("--package={program}"), format!("--features={program}/program"));
        let mut arguments =
            vec!["tree", &package, "--edges=normal", "--prefix=none", "--locked", "--offline"];
        // `infera` is a program by default; the others are libraries too.
        if *program != "infera" {
            arguments.push(&features);
        }
        let tree = cargo(&arguments);
        let linked: BTreeSet<&str> = tree.lines().filter_map(|line| line.split(' ').next()).collect();
        assert!(linked.contains(own), "the tree is {program}'s");
        for library in others.iter().chain(NOWHERE) {
            assert!(!linked.contains(library), "{program} links {library}");
        }
    }
}

fn sources() -> Vec<PathBuf> {
    let mut folders: Vec<PathBuf> = ["core", "gateway", "queue-worker", "verifier", "standalone", "loadtest"]
        .iter()
        .map(|name| root().join(name))
        .collect();
    let mut files = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).expect("a folder") {
            let path = entry.expect("an entry").path();
            if path.is_dir() && !path.ends_with("target") {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                files.push(path);
            }
        }
    }
    assert!(files.len() > 20, "the sources were found");
    files
}

#[test]
fn files_are_short_and_say_what_they_are() {
    for path in sources() {
        let text = std::fs::read_to_string(&path).expect("a readable source");
        let lines = text.lines().count();
        let limit = if path.ends_with("main.rs") { MAIN_LINES_MAX } else { FILE_LINES_MAX };
        assert!(lines <= limit, "{}: {lines} lines, the limit is {limit}", path.display());
        assert!(text.starts_with("//!"), "{} doesn't open with what it is", path.display());
    }
}

#[test]
fn seams_are_small() {
    let mut seams = 0;
    for path in sources().iter().filter(|path| path.starts_with(root().join("core/src"))) {
        let text = std::fs::read_to_string(path).expect("a readable source");
        for body in text.split("\npub trait ").skip(1) {
            let body = body.split("\n}").next().unwrap_or_default();
            let methods = body
                .lines()
                .filter(|line| line.starts_with("    fn ") || line.starts_with("    async fn "))
                .count();
            let name = body.split([':', ' ', '{']).next().unwrap_or_default();
            assert!(methods <= TRAIT_METHODS_MAX, "{name} has {methods} methods: it is two seams");
            seams += 1;
        }
    }
    assert!(seams >= 10, "the seams were found");
}
