#!/usr/bin/env python3
"""Fetches what the build does not make: ONNX Runtime's shared library, into .runtime/ (ignored by git).

All that the machine lacks is listed at once, each with its remedy. A library with the right checksum is kept, so a second
run does nothing. Needs Python 3.9 and its pip, nothing else.
"""

import hashlib
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
FOLDER = ROOT / ".runtime" / "onnxruntime"
VERSION = "1.31.1"
RUST_MINIMUM = (1, 95)
# The release build's target/ measured 0.5 GB; the rest is room for the tests' build, the ledger and the archive.
DISK_FREE_MIN_GB = 3
# Once the build is there, what is left to write is a server's data.
DISK_FREE_BUILT_MIN_GB = 1

# Checksums of the wheel, which pip verifies, and of the library, which is verified at every run. The wheel of one Python
# version serves every Python, because only the shared library inside is used. The library keeps its own name.
WHEELS = {
    ("Linux", "x86_64"): (
        "manylinux_2_28_x86_64",
        "1f3dea47f2f0e5117c2404cea7d21fd253ae7836a3bf167a501cdfbb2600d536",
        f"libonnxruntime.so.{VERSION}",
        "fc44112fbe06d7d689c57e11d3862031f64711007e4ee020f8eed5185fd2c1d3",
    ),
    ("Linux", "aarch64"): (
        "manylinux_2_28_aarch64",
        "0b9a492176886992e0e875f06bc0367e333f5fff11711a2d642e18b02f3009cc",
        f"libonnxruntime.so.{VERSION}",
        "8aa3b76b28c778a2b1dd660d34161adb1d508c9ccd04ff9dc80e26eca5df8467",
    ),
    ("Darwin", "arm64"): (
        "macosx_14_0_arm64",
        "96dd2564b10ea7153ad9c207e7cd8e5917cb3ba521e0e0a62ac03486fdc8d56c",
        f"libonnxruntime.{VERSION}.dylib",
        "d586cbe89effc085a09d3341b3cfbd5c322517f9d397aeb20814af21433f2b36",
    ),
}


def run(*command):
    """Returns the first line that a command prints, or None if it is missing or fails."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    except (OSError, subprocess.SubprocessError):
        return None
    return (done.stdout.splitlines() or [""])[0]


def missing():
    """Returns one line for each thing that the machine lacks: what it is, and what to do."""
    problems = []
    if sys.version_info < (3, 9):
        problems.append(f"Python {platform.python_version()} is too old: install Python 3.9 or later")
    if run("cargo", "--version") is None:
        problems.append("cargo is missing: install Rust with rustup, then open a new shell")
    else:
        words = (run("rustc", "--version") or "").split()
        version = tuple(int(part) for part in words[1].split("-")[0].split(".")[:2]) if len(words) > 1 else (0, 0)
        if version < RUST_MINIMUM:
            wanted = ".".join(map(str, RUST_MINIMUM))
            found = ".".join(map(str, version))
            problems.append(f"Rust {found} is too old: `rustup update stable` (at least {wanted})")
    if run("cc", "--version") is None:
        problems.append("no C compiler: `apt-get install build-essential` (SQLite, zstd and a regular-expression library are C)")
    free_gb = shutil.disk_usage(ROOT).free / 1e9
    is_built = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target")).exists()
    needed_gb = DISK_FREE_BUILT_MIN_GB if is_built else DISK_FREE_MIN_GB
    if free_gb < needed_gb:
        problems.append(f"{free_gb:.1f} GB free on the disk of {ROOT}: at least {needed_gb} GB are needed")
    if (platform.system(), platform.machine()) not in WHEELS:
        known = ", ".join("/".join(pair) for pair in WHEELS)
        problems.append(f"no ONNX Runtime known for {platform.system()}/{platform.machine()}: it runs on {known}")
    return problems


def checksum(path):
    """Returns the SHA-256 of a file in hexadecimal."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        for block in iter(lambda: file.read(1 << 20), b""):
            digest.update(block)
    return digest.hexdigest()


def fetch(wheel_platform, wheel_sum, library, library_sum):
    """Downloads the wheel, whose checksum pip verifies, and unpacks the library."""
    if run(sys.executable, "-m", "pip", "--version") is None:
        sys.exit("setup: Python has no pip: `apt-get install python3-pip`")
    print(f"setup: fetching ONNX Runtime {VERSION} (about 24 MB) into {FOLDER.relative_to(ROOT)}", flush=True)
    FOLDER.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=FOLDER) as scratch:
        requirements = Path(scratch) / "requirements.txt"
        requirements.write_text(f"onnxruntime=={VERSION} --hash=sha256:{wheel_sum}\n")
        command = [sys.executable, "-m", "pip", "download", "--disable-pip-version-check", "--no-deps", "--require-hashes"]
        command += ["--only-binary=:all:", "--implementation=cp", "--python-version=3.12", "--abi=cp312"]
        command += [f"--platform={wheel_platform}", f"--dest={scratch}", f"--requirement={requirements}"]
        if subprocess.run(command, check=False).returncode != 0:
            sys.exit("setup: the download failed (pip's output is above): check the network, then run it again")
        wheel = next(Path(scratch).glob("*.whl"))
        unpacked = Path(scratch) / library
        with zipfile.ZipFile(wheel) as archive, archive.open(f"onnxruntime/capi/{library}") as source:
            with unpacked.open("wb") as target:
                shutil.copyfileobj(source, target)
        if checksum(unpacked) != library_sum:
            sys.exit(f"setup: {library} has the wrong checksum: nothing was installed")
        unpacked.chmod(0o755)
        unpacked.replace(FOLDER / library)
    print(f"setup: {library} is in place, and its checksum is right", flush=True)


def main():
    """Checks the machine, then fetches what is missing."""
    problems = missing()
    if problems:
        sys.exit("setup: this machine lacks something:\n" + "\n".join(f"  - {problem}" for problem in problems))
    wheel_platform, wheel_sum, library, library_sum = WHEELS[platform.system(), platform.machine()]
    if not (FOLDER / library).exists() or checksum(FOLDER / library) != library_sum:
        fetch(wheel_platform, wheel_sum, library, library_sum)


if __name__ == "__main__":
    main()
