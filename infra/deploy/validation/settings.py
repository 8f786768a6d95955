"""Whether our programs take every setting as we write it: each program is asked to show its configuration under each
container's environment and by each file for a machine, and refuses unknown keys and wrong values."""

import subprocess
import tempfile
from pathlib import Path

from . import compose, kubernetes, machines


def refusals(binaries):
    """What the programs refuse, in containers and on machines."""
    yield from of_containers(binaries)
    yield from of_machines(binaries)


def of_machines(binaries):
    """What a program says about its file. The files that it names are not read for this."""
    for where, program, file in machines.programs():
        done = subprocess.run(
            [binaries / program, "--config", file, "config"], env={}, capture_output=True, text=True, check=False
        )
        if done.returncode:
            yield f"{where}: {done.stderr.strip()}"


def of_containers(binaries):
    """What a program says about each container's settings. Mounted files are stand-ins: only their places are known."""
    with tempfile.TemporaryDirectory() as folder:
        secret = Path(folder) / "secret"
        secret.write_text("0123456789abcdef0123456789abcdef")
        for where, program, settings in (*compose.programs(), *kubernetes.programs()):
            told = {
                key: str(secret) if key.endswith("_FILE") and str(value).startswith("/run/secrets/") else str(value)
                for key, value in settings.items()
            }
            # Nothing of this machine's own environment: it could hide a missing or a wrong setting.
            done = subprocess.run(
                [binaries / program, "config"], env=told, cwd=folder, capture_output=True, text=True, check=False
            )
            if done.returncode:
                yield f"{where}: {done.stderr.strip()}"
