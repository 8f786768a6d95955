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
