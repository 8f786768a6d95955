//! Sends real signals to a process of its own: this test program, started again for one test.
#![cfg(unix)]
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::env;
use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use infera_types::shutdown::on_signals;

/// Set in the child process; says what to do after the first signal.
const ROLE: &str = "SHUTDOWN_TEST_ROLE";

/// Runs in the child process; in the parent it does nothing.
#[test]
fn child() {
    let Ok(role) = env::var(ROLE) else { return };
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().worker_threads(1).build().unwrap();
    runtime.block_on(async {
        let shutdown = on_signals().unwrap();
        println!("\nready");
        shutdown.cancelled().await;
        println!("\ndraining");
        if role == "hangs" {
            // This drain never ends; the parent's second signal must end the process.
            tokio::time::sleep(Duration::from_secs(120)).await;
        }
    });
}

/// Starts the child and returns it, once it listens to signals, with its output.
fn started(role: &str) -> (Child, impl FnMut(&str)) {
    started_by(&mut Command::new(env::current_exe().unwrap()), role)
}

fn started_by(command: &mut Command, role: &str) -> (Child, impl FnMut(&str) + use<>) {
    let mut child = command
        .args(["--exact", "child", "--nocapture"])
        .env(ROLE, role)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut wait_for = move |word: &str| {
        assert!(lines.any(|line| line.unwrap() == word), "the child ended before {word:?}");
    };
    wait_for("ready");
    (child, wait_for)
}

fn send(child: &Child, signal: &str) {
    let status = Command::new("kill").args([signal, &child.id().to_string()]).status().unwrap();
    assert!(status.success());
}

#[test]
fn the_first_signal_lets_the_program_end_by_itself() {
    for signal in ["-TERM", "-INT", "-HUP"] {
        let (mut child, mut wait_for) = started("drains");
        send(&child, signal);
        wait_for("draining");
        assert_eq!(child.wait().unwrap().code(), Some(0), "{signal}");
    }
}

/// An ending shell and its terminal each send a SIGHUP: the second must not cut the drain short.
#[test]
fn a_hangup_that_comes_twice_drains_on() {
    let (mut child, mut wait_for) = started("hangs");
    send(&child, "-HUP");
    wait_for("draining");
    send(&child, "-HUP");
    std::thread::sleep(Duration::from_millis(300));
    assert_eq!(child.try_wait().unwrap(), None, "it drains on");
    send(&child, "-TERM");
    assert_eq!(child.wait().unwrap().code(), Some(143));
}

/// `nohup` promises that a closed terminal changes nothing.
#[test]
#[cfg(target_os = "linux")]
fn a_hangup_that_was_ignored_at_the_start_stays_ignored() {
    let (mut child, mut wait_for) =
        started_by(Command::new("nohup").arg(env::current_exe().unwrap()), "drains");
    send(&child, "-HUP");
    std::thread::sleep(Duration::from_millis(300));
    assert_eq!(child.try_wait().unwrap(), None, "it goes on");
    send(&child, "-TERM");
    wait_for("draining");
    assert_eq!(child.wait().unwrap().code(), Some(0));
}

#[test]
fn the_second_signal_ends_it_at_once() {
    for (signal, status) in [("-TERM", 143), ("-INT", 130)] {
        let (mut child, mut wait_for) = started("hangs");
        send(&child, "-TERM");
        wait_for("draining");
        send(&child, signal);
        assert_eq!(child.wait().unwrap().code(), Some(status), "{signal}");
    }
}
