//! Checks the architecture: which crate may import which, which crates may link which libraries, and how long a file
//! may be. (`rooms` checks the modules within each crate.) It reads cargo's metadata of the workspace and the
//! sources, and runs nothing else.

#![expect(clippy::expect_used, reason = "a test fails by panicking")]

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

/// Every arrow that may exist between our crates, the lowest first: a crate imports only from crates above it in this list.
/// What isn't listed is refused.
const ARROWS: &[(&str, &[&str])] = &[
    ("infera-types", &[]),
    ("infera-telemetry", &[]),
    ("infera-tls", &[]),
    ("infera-model", &["infera-types"]),
    ("infera-sampling", &["infera-types"]),
    // The seams.
    ("infera-broker", &["infera-telemetry", "infera-types"]),
    ("infera-ledger", &["infera-types"]),
    ("infera-archive", &["infera-ledger", "infera-types"]),
    ("infera-engine", &["infera-types"]),
    ("infera-mail", &["infera-types"]),
    (
        "infera-conformance",
        &["infera-archive", "infera-broker", "infera-engine", "infera-ledger", "infera-types"],
    ),
    // Models' folders, from a Hub or the archive.
    ("infera-model-store", &["infera-archive", "infera-model", "infera-tls", "infera-types"]),
    // Vendors, each under its seam.
    ("infera-broker-rabbitmq", &["infera-broker", "infera-telemetry", "infera-tls", "infera-types"]),
    ("infera-ledger-sqlite", &["infera-ledger", "infera-types"]),
    ("infera-ledger-postgres", &["infera-ledger", "infera-tls", "infera-types"]),
    ("infera-archive-s3", &["infera-archive", "infera-tls", "infera-types"]),
    ("infera-engine-onnx", &["infera-engine", "infera-model", "infera-types"]),
    ("infera-mail-smtp", &["infera-mail", "infera-tls", "infera-types"]),
    // What every program has.
    ("infera-program", &["infera-telemetry", "infera-types"]),
    ("infera-operations", &["infera-program", "infera-telemetry", "infera-types"]),
    // The roles, and around each its program.
    (
        "infera-gateway",
        &["infera-broker", "infera-ledger", "infera-mail", "infera-telemetry", "infera-types"],
    ),
    (
        "infera-gateway-program",
        &[
            "infera-broker",
            "infera-broker-rabbitmq",
            "infera-gateway",
            "infera-ledger",
            "infera-ledger-postgres",
            "infera-mail",
            "infera-mail-smtp",
            "infera-operations",
            "infera-program",
            "infera-telemetry",
            "infera-types",
        ],
    ),
    (
        "infera-worker",
        &[
            "infera-broker",
            "infera-engine",
            "infera-model",
            "infera-sampling",
            "infera-telemetry",
            "infera-types",
        ],
    ),
    (
        "infera-worker-program",
        &[
            "infera-broker",
            "infera-broker-rabbitmq",
            "infera-engine",
            "infera-engine-onnx",
            "infera-model",
            "infera-operations",
            "infera-program",
            "infera-telemetry",
            "infera-tls",
            "infera-types",
            "infera-worker",
        ],
    ),
    (
        "infera-verifier",
        &[
            "infera-archive",
            "infera-broker",
            "infera-ledger",
            "infera-model",
            "infera-sampling",
            "infera-telemetry",
            "infera-types",
        ],
    ),
    (
        "infera-verifier-program",
        &[
            "infera-archive",
            "infera-archive-s3",
            "infera-broker",
            "infera-broker-rabbitmq",
            "infera-ledger",
            "infera-ledger-postgres",
            "infera-model",
            "infera-model-store",
            "infera-operations",
            "infera-program",
            "infera-telemetry",
            "infera-types",
            "infera-verifier",
        ],
    ),
    (
        "infera",
        &[
            "infera-archive",
            "infera-broker",
            "infera-engine",
            "infera-engine-onnx",
            "infera-gateway",
            "infera-ledger",
            "infera-ledger-sqlite",
            "infera-mail",
            "infera-mail-smtp",
            "infera-model",
            "infera-model-store",
            "infera-program",
            "infera-sampling",
            "infera-telemetry",
            "infera-types",
            "infera-verifier",
            "infera-worker",
        ],
    ),
    ("infera-bench", &["infera-ledger", "infera-types"]),
];

/// What tests and benchmarks may name beyond that.
const TESTED_WITH: &[(&str, &[&str])] = &[
    ("infera-broker", &["infera-conformance"]),
    ("infera-broker-rabbitmq", &["infera-conformance"]),
    ("infera-ledger-sqlite", &["infera-conformance"]),
    ("infera-ledger-postgres", &["infera-conformance"]),
    ("infera-archive", &["infera-conformance", "infera-ledger-sqlite"]),
    ("infera-archive-s3", &["infera-conformance"]),
    ("infera-model-store", &["infera-conformance"]),
    ("infera-engine", &["infera-conformance", "infera-sampling"]),
    ("infera-engine-onnx", &["infera-conformance", "infera-sampling"]),
    ("infera-gateway", &["infera-ledger-sqlite"]),
    ("infera-gateway-program", &["infera-ledger-sqlite", "infera-tls"]),
    ("infera-worker", &["infera-engine-onnx"]),
    ("infera-verifier", &["infera-ledger-sqlite", "infera-model-store"]),
    ("infera-verifier-program", &["infera-ledger-sqlite"]),
    (
        "infera",
        &["infera-broker-rabbitmq", "infera-conformance", "infera-gateway-program", "infera-worker-program"],
    ),
    (
        "infera-bench",
        &[
            "infera",
            "infera-archive",
            "infera-broker",
            "infera-broker-rabbitmq",
            "infera-engine",
            "infera-engine-onnx",
            "infera-gateway",
            "infera-ledger-postgres",
            "infera-ledger-sqlite",
            "infera-model",
            "infera-program",
            "infera-telemetry",
            "infera-worker",
        ],
    ),
];

/// Libraries that only these of our crates may name, because they hold the seam to what the libraries speak to. Tests and
/// benchmarks may: they look at such a seam from the other side.
const OWNED: &[(&str, &[&str])] = &[
    ("ort", &["infera-engine-onnx"]),
    ("rusqlite", &["infera-ledger-sqlite"]),
    ("tokio-postgres", &["infera-ledger-postgres"]),
    ("deadpool-postgres", &["infera-ledger-postgres"]),
    ("lapin", &["infera-broker-rabbitmq"]),
    ("aws-sdk-s3", &["infera-archive-s3"]),
    ("lettre", &["infera-mail-smtp"]),
    ("tokenizers", &["infera-model"]),
    ("minijinja", &["infera-model"]),
    ("zstd", &["infera-archive", "infera-ledger"]),
    ("rustls-native-certs", &["infera-tls"]),
    // The public face is the gateway's; what operators see of every program is `operations`'; commands beside an `infera up`
    // ask that one; the model store asks Hubs.
    ("hyper", &["infera-operations", "infera-gateway", "infera", "infera-model-store"]),
    ("hyper-rustls", &["infera-model-store"]),
    ("indicatif", &["infera"]),
    ("governor", &["infera-gateway"]),
    ("proxy-header", &["infera-gateway"]),
    ("jsonwebtoken", &["infera-gateway-program"]),
    (
        "clap",
        &[
            "infera-program",
            "infera-gateway-program",
            "infera-worker-program",
            "infera-verifier-program",
            "infera",
        ],
    ),
    ("metrics-exporter-prometheus", &["infera-operations"]),
    ("opentelemetry", &["infera-telemetry"]),
    ("tracing-opentelemetry", &["infera-telemetry"]),
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
    let (programs, tests) = (dependencies(&[Kind::Normal, Kind::Build]), dependencies(&[Kind::Test]));
    let ours: Vec<&str> = ARROWS.iter().map(|(name, _)| *name).collect();
    let found: BTreeSet<&str> = programs.keys().map(String::as_str).collect();
    assert_eq!(found, ours.iter().copied().collect(), "a crate that the map doesn't know");
    for (place, (name, allowed)) in ARROWS.iter().enumerate() {
        let lower = &ours[..place];
        assert!(allowed.iter().all(|import| lower.contains(import)), "the map lets {name} import from above");
        let more = TESTED_WITH.iter().find(|(tested, _)| tested == name).map_or(&[][..], |(_, more)| more);
        let is_ours = |dependency: &&String| ours.contains(&dependency.as_str());
        for import in programs[*name].iter().filter(is_ours) {
            assert!(
                allowed.contains(&import.as_str()),
                "{name} imports {import}, which the map has no arrow for"
            );
        }
        for import in tests[*name].iter().filter(is_ours) {
            let fine = allowed.contains(&import.as_str()) || more.contains(&import.as_str());
            assert!(fine, "the tests of {name} import {import}, which the map has no arrow for");
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
    ("infera-gateway-program", "jsonwebtoken", &["ort", "tokenizers", "minijinja", "rusqlite", "aws-sdk-s3"]),
    (
        "infera-worker-program",
        "ort",
        &["tokio-postgres", "aws-sdk-s3", "rusqlite", "jsonwebtoken", "governor", "proxy-header"],
    ),
    (
        "infera-verifier-program",
        "aws-sdk-s3",
        &["ort", "rusqlite", "jsonwebtoken", "governor", "proxy-header"],
    ),
    (
        "infera",
        "rusqlite",
        &["lapin", "tokio-postgres", "aws-sdk-s3", "jsonwebtoken", "reqwest", "opentelemetry"],
    ),
];

/// One implementation of TLS and cryptography, without C that takes minutes, and without RSA whose time tells of the key.
const NOWHERE: &[&str] = &["aws-lc-rs", "aws-lc-sys", "openssl", "openssl-sys", "native-tls", "rsa"];

#[test]
fn each_program_links_only_what_it_needs() {
    for (program, own, others) in LINKED {
        let package = format!("--package={program}");
        let tree = cargo(&["tree", &package, "--edges=normal", "--prefix=none", "--locked", "--offline"]);
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
    for path in sources().iter().filter(|path| path.starts_with(root().join("core"))) {
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
