//! The Python environment that the reference needs, with pinned versions, made once and kept, and the scripts that
//! run in it. If something is missing, the test fails and says how to install it; it is never skipped.

use std::fs;
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;

/// The folder of the reference's scripts and files.
pub(crate) fn reference_folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/reference")
}

/// Returns the environment's interpreter. The first test that needs the environment makes it; a marker file with the
/// pinned versions shows that it is complete.
fn interpreter() -> &'static Path {
    static INTERPRETER: OnceLock<PathBuf> = OnceLock::new();
    INTERPRETER.get_or_init(|| {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../.runtime/venv-reference");
        let (python, marker) = (folder.join("bin/python"), folder.join("installed.txt"));
        let pinned = fs::read_to_string(reference_folder().join("requirements.txt")).expect("requirements.txt");
        if fs::read_to_string(&marker).is_ok_and(|installed| installed == pinned) {
            return python;
        }
        let system = std::env::var("PYTHON").unwrap_or_else(|_| "python3".to_owned());
        succeed(
            Command::new(&system).args(["-m", "venv"]).arg(&folder),
            "Python 3.10 or newer with its venv module is needed (Debian: apt install python3 python3-venv); set PYTHON to \
             use another interpreter",
        );
        succeed(
            Command::new(&python)
                .args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "-r"])
                .arg(reference_folder().join("requirements.txt")),
            "the pinned packages of gateway/tests/reference/requirements.txt could not be installed; is there a network, \
             or a package index that pip is configured for?",
        );
        fs::write(&marker, pinned).expect("a marker in the environment");
        python
    })
}

fn succeed(command: &mut Command, remedy: &str) {
    match command.status() {
        Ok(status) if status.success() => {}
        other => panic!("{command:?} ended with {other:?}: {remedy}"),
    }
}

/// Runs one of the reference's scripts and returns what it prints.
pub(crate) fn run(script: &str, arguments: &[&str]) -> String {
    let output = Command::new(interpreter())
        .arg(reference_folder().join(script))
        .args(arguments)
        .output()
        .expect("the environment's interpreter");
    assert!(output.status.success(), "{script}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("text")
}

/// The running FastAPI application, which ends when this is dropped.
pub(crate) struct Reference {
    /// The address at which it listens.
    pub(crate) address: SocketAddr,
    process: Child,
}

impl Reference {
    /// Starts the application on a free port, and waits until it says which.
    pub(crate) fn start() -> Self {
        let mut process = Command::new(interpreter())
            .args(["-m", "uvicorn", "app:app", "--host", "127.0.0.1", "--port", "0", "--no-access-log"])
            .current_dir(reference_folder())
            .env("PYTHONDONTWRITEBYTECODE", "1")
            .stderr(Stdio::piped())
            .spawn()
            .expect("the environment's interpreter");
        let said = process.stderr.take().map(BufReader::new);
        let (mut log, mut address) = (Vec::new(), None);
        let mut lines = said.into_iter().flat_map(BufRead::lines);
        for line in lines.by_ref().map_while(Result::ok) {
            let place = line.split("http://").nth(1).and_then(|rest| rest.split_whitespace().next());
            address = place.and_then(|place| place.parse().ok());
            log.push(line);
            if address.is_some() {
                break;
            }
        }
        let Some(address) = address else {
            let _ = process.kill();
            let _ = process.wait();
            panic!("the FastAPI application did not start:\n{}", log.join("\n"))
        };
        // The rest of its output is read too, so that it never waits for a reader.
        std::thread::spawn(move || lines.for_each(drop));
        Self { address, process }
    }
}

impl Drop for Reference {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
