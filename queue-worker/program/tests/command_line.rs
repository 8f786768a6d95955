//! The program `infera-worker` as its runner types it: what it prints of itself, and how it ends where its settings can't be used.

#![expect(clippy::expect_used, reason = "a test fails by panicking")]

use std::process::{Command, Output};

/// Runs the program in an empty folder, so that no file of settings is found, and without the settings of this process.
fn run(words: &[&str]) -> Output {
    let folder = tempfile::tempdir().expect("a folder");
    let mut program = Command::new(env!("CARGO_BIN_EXE_infera-worker"));
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("INFERA_")) {
        program.env_remove(name);
    }
    program.args(words).current_dir(folder.path()).output().expect("the program runs")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn it_says_its_version_and_its_settings() {
    let version = text(&run(&["--version"]).stdout);
    let expected = concat!("infera-worker ", env!("CARGO_PKG_VERSION"), " (");
    assert!(version.starts_with(expected), "{version}");
    let config = run(&["--set", "node.name=a", "--set", "node.secret=hunter2hunter2hunter2", "config"]);
    let printed = text(&config.stdout);
    assert!(config.status.success() && printed.contains("name = \"a\""), "{printed}");
    assert!(!printed.contains("hunter2"), "{printed}");
}

#[test]
fn settings_that_cannot_be_used_end_it_with_all_mistakes() {
    let ended = run(&[]);
    let said = text(&ended.stderr);
    assert_eq!(ended.status.code(), Some(i32::from(infera_program::SETTINGS)), "{said}");
    for word in ["gateway", "node.name", "node.secret"] {
        assert!(said.contains(word), "{word}: {said}");
    }
}

/// The settings of a node that would register at a gateway, if it came that far.
const NODE: [&str; 6] = [
    "--set",
    "gateway=[\"http://127.0.0.1:1\"]",
    "--set",
    "node.name=a",
    "--set",
    "node.secret=hunter2hunter2hunter2",
];

fn refused(settings: &[&str]) -> (Option<i32>, String) {
    let flags = settings.iter().flat_map(|setting| ["--set", *setting]);
    let words: Vec<&str> = NODE.into_iter().chain(flags).collect();
    let ended = run(&words);
    (ended.status.code(), text(&ended.stderr))
}

#[test]
fn models_that_cannot_be_served_together_end_it_with_what_each_needs() {
    let tiny = concat!(env!("CARGO_MANIFEST_DIR"), "/../../models/infera-tiny");
    let place = tempfile::tempdir().expect("a folder");
    let other = place.path().join("other");
    std::os::unix::fs::symlink(tiny, &other).expect("a link");
    let both = format!("engine.models={tiny},{}", other.display());

    let (code, told) = refused(&[&both, "engine.memory_bytes_max=100000000"]);
    assert_eq!(code, Some(i32::from(infera_program::REFUSED)), "{told}");
    for words in
        ["infera-tiny ", "other ", "16 sequences of 512 tokens", "engine.memory_bytes_max allows 95 MiB"]
    {
        assert!(told.contains(words), "{words}: {told}");
    }
    let (code, told) = refused(&[&format!("engine.models={tiny},{tiny}/../infera-tiny,/nowhere/x")]);
    assert_eq!(code, Some(i32::from(infera_program::SETTINGS)), "{told}");
    assert!(
        told.contains("both called infera-tiny") && told.contains("/nowhere/x is no model's folder"),
        "{told}"
    );
    let (code, told) = refused(&[&both, "engine.kind=stub"]);
    assert_eq!(code, Some(i32::from(infera_program::SETTINGS)), "{told}");
    assert!(told.contains("the stub stands for one model"), "{told}");

    // What is printed names both, each with what is its own, and can be read again.
    let tables =
        format!("engine.models=[\"{tiny}\", {{folder = \"{}\", variant = \"q4\"}}]", other.display());
    let printed = text(&run(&["--set", &tables, "config"]).stdout);
    assert_eq!(printed.matches("[[engine.models]]").count(), 2, "{printed}");
    assert!(printed.contains("variant = \"q4\""), "{printed}");
    let file = place.path().join("again.toml");
    std::fs::write(&file, &printed).expect("written");
    let again = run(&["--config", &file.display().to_string(), "config"]);
    assert_eq!(text(&again.stdout), printed, "{}", text(&again.stderr));
}
