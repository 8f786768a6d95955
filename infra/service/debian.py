"""Unpacks packages of another Debian release, such as RabbitMQ's, into a folder of their own.

Processes that are started from that folder see it as /usr, by a private mount; they share everything else with the machine.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

from .place import RUNTIME, output
from .process import Trouble

# The Debian release of each series of RabbitMQ.
RELEASES = {"3.10": "bookworm", "4.0": "trixie", "4.3": "forky"}
# The server and what its scripts call; apt adds their dependencies.
PACKAGES = ["rabbitmq-server", "bash", "coreutils", "gawk", "grep", "sed"]
# The packages make these links in their installation scripts, which aren't run here.
LINKS = {"awk": "gawk", "sh": "bash"}
KEYS = Path("/usr/share/keyrings/debian-archive-keyring.gpg")


def root(series):
    """Returns the folder into which the packages of a series are unpacked."""
    return RUNTIME / f"rabbitmq-{series}"


def missing(series):
    """Yields what the machine lacks for it, each with its remedy."""
    instead = "or take the machine's own RabbitMQ: RABBIT=installed"
    for tool in ("apt-get", "dpkg-deb", "unshare", "mount"):
        if not shutil.which(tool):
            yield f"no {tool}, by which RabbitMQ {series} is taken from Debian: use a Debian, {instead}"
            return
    if not root(series).exists() and (not KEYS.exists() or mirror() is None):
        yield f"apt knows no mirror of Debian to take RabbitMQ {series} from: use a Debian, {instead}"
    if not Path("/bin").is_symlink() or output(*apart(), "true") is None:
        yield f"RabbitMQ {series} needs a /usr of its own, which this machine doesn't allow (unshare --mount), {instead}"


def mirror():
    """Returns the mirror from which apt gets this machine's own release; None if there is none."""
    fields = "$(CREATED_BY) $(COMPONENT) $(RELEASE) $(REPO_URI)"
    known = output("apt-get", "indextargets", "--no-release-info", "--format", fields) or ""
    releases = (release(), "stable", "testing", "oldstable")
    for words in (line.split() for line in known.splitlines()):
        if words[:2] == ["Packages", "main"] and words[2] in releases:
            return words[3]
    return None


def release():
    """Returns the name of the machine's Debian release; None on another system."""
    try:
        lines = Path("/etc/os-release").read_text(encoding="utf-8").splitlines()
    except OSError:
        return None
    return next((line.partition("=")[2].strip('"') for line in lines if line.startswith("VERSION_CODENAME=")), None)


def apart():
    """Returns the command that runs another one with mounts of its own."""
    return ["unshare", "--mount", *(["--map-root-user"] if os.getuid() else [])]


def inside(series, command):
    """Returns a command that runs this one with the unpacked packages of a series as its /usr, and keeps the pid."""
    return within(root(series), command)


def within(folder, command):
    """Returns a command that runs this one with the packages that are unpacked in a folder as its /usr, and keeps the pid."""
    become = 'mount --bind "$0" /usr && exec "$@"'
    return [*apart(), "sh", "-c", become, folder / "usr", *command]


def unpack(series):
    """Fetches and unpacks the packages of a series, once."""
    if root(series).exists():
        return
    print(f"services: RabbitMQ {series} from Debian's {RELEASES[series]} (once; some 70 MB)", file=sys.stderr, flush=True)
    server = f"usr/lib/rabbitmq/lib/rabbitmq_server-{series}.*"
    if not unpack_packages(root(series), RELEASES[series], PACKAGES, server):
        raise Trouble(f"Debian's {RELEASES[series]} has no RabbitMQ {series} any more; choose another RABBIT")


def unpack_packages(folder, suite, packages, part):
    """Fetches packages of a release and unpacks them into a folder. apt verifies their signatures; the machine's own packages
    stay as they are. False, and no folder, if they don't have this part.
    """
    new = folder.with_name(f"{folder.name}.{os.getpid()}")
    try:
        fetch(new, suite, packages)
        for package in sorted((new / "archives").glob("*.deb")):
            run("dpkg-deb", "--extract", package, new)
        if not list(new.glob(part)):
            return False
        for name, target in LINKS.items():
            if not (new / "usr" / "bin" / name).exists():
                (new / "usr" / "bin" / name).symlink_to(target)
        shutil.rmtree(new / "archives")
        shutil.rmtree(new / "lists")
        new.rename(folder)
        return True
    finally:
        shutil.rmtree(new, ignore_errors=True)


def fetch(folder, suite, packages):
    """Downloads the packages of a release with apt, which keeps its state in the folder instead of the machine's own."""
    for part in ("lists/partial", "archives/partial"):
        (folder / part).mkdir(parents=True)
    (folder / "status").touch()
    (folder / "sources.list").write_text(f"deb [signed-by={KEYS}] {mirror()} {suite} main\n")
    settings = {
        "Dir::Etc::sourcelist": folder / "sources.list",
        "Dir::Etc::sourceparts": "/dev/null",
        "Dir::State::status": folder / "status",
        "Dir::State::lists": folder / "lists",
        "Dir::Cache": folder,
        "Dir::Cache::archives": folder / "archives",
        "APT::Install-Recommends": "false",
        # apt's own user can't write into the folder; the signatures protect against what the sandbox would.
        "APT::Sandbox::User": "",
    }
    options = [word for key, value in settings.items() for word in ("--option", f"{key}={value}")]
    run("apt-get", *options, "--quiet=2", "update")
    run("apt-get", *options, "--quiet=2", "--download-only", "--yes", "install", *packages)


def run(*command):
    """Runs a command that must succeed."""
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise Trouble(f"{' '.join(map(str, command[:1]))} failed: {done.stderr.strip() or done.stdout.strip()}")
