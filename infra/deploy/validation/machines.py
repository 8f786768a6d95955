"""Rules for programs on machines without containers: the services' units and the settings that they name."""

import re
import shutil
import subprocess
import tempfile
from pathlib import Path

from .kubernetes import DRAINS_S, OURS
from .place import DEPLOY

SETTINGS = DEPLOY / "settings"
UNITS = DEPLOY / "systemd"
# Where the units and README.md say that files are installed.
PROGRAMS, CONFIGURED, STATE = "/opt/infera/bin/", "/etc/infera/", "/var/lib/infera"


def unit(program):
    """Returns a unit's lines by key; a repeated key has its last value."""
    text = (UNITS / f"{program}.service").read_text(encoding="utf-8")
    return dict(re.findall(r"^(\w+)=(.*)$", text, re.M))


def units():
    """Checks that each unit starts its program with its settings, gives it time to drain, and restarts it where that helps."""
    for program in sorted(OURS):
        says = unit(program)
        wanted = {
            "ExecStart": f"{PROGRAMS}{program} --config {CONFIGURED}{program}.toml",
            "Restart": "on-failure",
            "RestartPreventExitStatus": "2 3",
        }
        yield from (f"{program}.service: {key} is {says.get(key)}" for key, value in wanted.items() if says.get(key) != value)
        if int(says["TimeoutStopSec"]) <= DRAINS_S[program]:
            yield f"{program}.service: is killed before its drain of {DRAINS_S[program]} s ends"


def systemd():
    """Checks the units with systemd's own parser. It prints what it ignores and still succeeds, so any output is a problem."""
    tool = shutil.which("systemd-analyze")
    if tool is None:
        print("validate: machines.systemd: NOT checked: systemd-analyze is missing (apt-get install systemd)")
        return
    with tempfile.TemporaryDirectory() as folder:
        copies = []
        for program in sorted(OURS):
            # The program isn't installed here, which systemd would report.
            text = (UNITS / f"{program}.service").read_text(encoding="utf-8")
            copy = Path(folder) / f"{program}.service"
            copy.write_text(text.replace(f"{PROGRAMS}{program}", shutil.which("true")), encoding="utf-8")
            copies.append(copy)
        done = subprocess.run([tool, "verify", "--man=no", *copies], capture_output=True, text=True, check=False)
        yield f"{done.stdout}{done.stderr}".strip().replace(f"{folder}/", "")
        if done.returncode:
            yield f"systemd-analyze ends with {done.returncode}"


def settings():
    """Checks that each program has example settings, and that the unit lets it read and write the files that they name.

    Whether a program accepts its example is checked with `--binaries`.
    """
    for program in sorted(OURS):
        path = SETTINGS / f"{program}.toml"
        told = dict(re.findall(r'^([\w.]+_file) = "([^"]+)"', path.read_text(encoding="utf-8"), re.M))
        written = {key: file for key, file in told.items() if file.startswith(f"{STATE}/")}
        if written and unit(program).get("StateDirectory") != Path(STATE).name:
            yield f"{path.name}: {written} can't be written to under {program}.service"
        for key in sorted(set(told) - set(written)):
            if key == "worker.alone_file" or not told[key].startswith(CONFIGURED):
                yield f"{path.name}: {key} is {told[key]}, which is the wrong folder for it"


def programs():
    """Yields each example: its program and its file."""
    for program in sorted(OURS):
        yield f"settings/{program}.toml", program, SETTINGS / f"{program}.toml"


RULES = (units, systemd, settings)
