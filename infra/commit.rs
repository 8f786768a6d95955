//! The build script of every program: it sets the version and the commit that `--version` shows.
//!
//! A release build shows the commit that it was built from, and is built again when the commit changes. A development
//! build is not built again after each commit, because that would link every program again; it shows the commit of
//! its last build and adds "or later". `BUILD_COMMIT` gives the commit where there is no git or no repository, such
//! as in a container's build; otherwise the commit is shown as unknown.
#![expect(clippy::print_stdout, reason = "cargo reads what a build script prints")]

use std::env;
use std::path::Path;
use std::process::Command;

/// The number of digits that are shown of a commit's name. Even much larger repositories need fewer to tell their
/// commits apart.
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
        // HEAD changes when another branch is checked out, and its log changes with every commit.
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

/// Returns what git prints for these arguments, or none without git, outside a repository, or if it prints nothing.
fn git(words: &[&str]) -> Option<String> {
    let done = Command::new("git").args(words).output().ok().filter(|done| done.status.success())?;
    let text = String::from_utf8(done.stdout).ok()?;
    Some(text.trim().to_owned()).filter(|text| !text.is_empty())
}
