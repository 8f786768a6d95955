"""Checks that our programs accept every setting as it is written: each program prints its configuration under each container's
environment and with each file for a machine, and refuses unknown keys and wrong values.
"""

import subprocess
import tempfile
from pathlib import Path

from . import compose, kubernetes, machines


def refusals(binaries):
    """Yields what the programs refuse, in containers and on machines."""
    yield from of_containers(binaries)
    yield from of_machines(binaries)


def of_machines(binaries):
    """Yields what a program says about its settings file. Files that the settings name are not read for this."""
    for where, program, file in machines.programs():
        done = subprocess.run(
            [binaries / program, "--config", file, "config"], env={}, capture_output=True, text=True, check=False
        )
        if done.returncode:
            yield f"{where}: {done.stderr.strip()}"


def of_containers(binaries):
    """Yields what a program says about each container's settings. A made-up file stands in for the mounted ones."""
    with tempfile.TemporaryDirectory() as folder:
        secret = Path(folder) / "secret"
        secret.write_text("0123456789abcdef0123456789abcdef")
        for where, program, settings in (*compose.programs(), *kubernetes.programs()):
            told = {
                key: str(secret) if key.endswith("_FILE") and str(value).startswith("/run/secrets/") else str(value)
                for key, value in settings.items()
            }
            # Without this machine's environment, which could hide a missing or a wrong setting.
            done = subprocess.run(
                [binaries / program, "config"], env=told, cwd=folder, capture_output=True, text=True, check=False
            )
            if done.returncode:
                yield f"{where}: {done.stderr.strip()}"
