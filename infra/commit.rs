//! The build script of every program: which version and which commit `--version` names.
//!
//! A release names the commit that it was built from, and is built again when that changes. A development build isn't,
//! since it would be linked again after every commit: it names the commit from which on it may be. Without git or its
//! folder, as in a container's build, `BUILD_COMMIT` says it; else it is unknown.
#![expect(clippy::print_stdout, reason = "cargo reads what a build script prints")]

use std::env;
use std::path::Path;
use std::process::Command;

/// Digits of a commit's name: those of a repository far larger than this one are told apart by fewer.
const DIGITS: usize = 12;

fn main() {
    println!("cargo::rerun-if-env-changed=BUILD_COMMIT");
    let is_release = env::var("PROFILE").is_ok_and(|profile| profile == "release");
    let told = env::var("BUILD_COMMIT").ok().filter(|commit| !commit.is_empty());
    let commit =
        told.or_else(|| git(&["rev-parse", "HEAD"])).map(|commit| commit.chars().take(DIGITS).collect());
    let from: String = match (commit, is_release) {
        (Some(commit), true) => commit,
        (Some(commit), false) => format!("development build, {commit} or later"),
        (None, _) => "unknown commit".to_owned(),
    };
    if is_release {
        // HEAD changes when another branch is taken up, its log with every commit.
        for name in ["HEAD", "logs/HEAD"] {
            if let Some(path) =
                git(&["rev-parse", "--git-path", name]).filter(|path| Path::new(path).exists())
            {
                println!("cargo::rerun-if-changed={path}");
            }
        }
    }
    println!(
        "cargo::rustc-env=PROGRAM_VERSION={} ({from})",
        env::var("CARGO_PKG_VERSION").unwrap_or_default()
    );
}

/// What git prints for this; none if there is no git, or this is no repository of its.
fn git(words: &[&str]) -> Option<String> {
    let done = Command::new("git").args(words).output().ok().filter(|done| done.status.success())?;
    let text = String::from_utf8(done.stdout).ok()?;
    Some(text.trim().to_owned()).filter(|text| !text.is_empty())
}
