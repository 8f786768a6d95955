"""RabbitMQ of another Debian release than the machine's: its packages, unpacked into a folder of their own. To the processes
that are started from there that folder is /usr, and to no others; everything else they share with the machine.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

from .place import RUNTIME, output
from .process import Trouble

# Which release carries which series of RabbitMQ.
RELEASES = {"3.10": "bookworm", "4.0": "trixie", "4.3": "forky"}
# What the server's scripts call. Everything that these need comes along.
PACKAGES = ["rabbitmq-server", "bash", "coreutils", "gawk", "grep", "sed"]
# Where packages of that name put their own /usr/bin/awk and sh by scripts, which aren't run here.
LINKS = {"awk": "gawk", "sh": "bash"}
KEYS = Path("/usr/share/keyrings/debian-archive-keyring.gpg")


def root(series):
    """Where the packages of a series are unpacked."""
    return RUNTIME / f"rabbitmq-{series}"


def missing(series):
    """What the machine lacks for it, each with its remedy."""
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
    """Where this machine gets its own release from, as apt was told."""
    fields = "$(CREATED_BY) $(COMPONENT) $(RELEASE) $(REPO_URI)"
    known = output("apt-get", "indextargets", "--no-release-info", "--format", fields) or ""
    releases = (release(), "stable", "testing", "oldstable")
    for words in (line.split() for line in known.splitlines()):
        if words[:2] == ["Packages", "main"] and words[2] in releases:
            return words[3]
    return None


def release():
    """The name of the machine's Debian release."""
    try:
        lines = Path("/etc/os-release").read_text(encoding="utf-8").splitlines()
    except OSError:
        return None
    return next((line.partition("=")[2].strip('"') for line in lines if line.startswith("VERSION_CODENAME=")), None)


def apart():
    """The command before a command that mounts what only it sees."""
    return ["unshare", "--mount", *(["--map-root-user"] if os.getuid() else [])]


def inside(series, command):
    """The command with the unpacked packages for its /usr. It becomes that command: the pid stays."""
    become = 'mount --bind "$0" /usr && exec "$@"'
    return [*apart(), "sh", "-c", become, root(series) / "usr", *command]


def unpack(series):
    """Fetches and unpacks the packages, once. apt checks their signatures; the machine's own packages aren't touched."""
    if root(series).exists():
        return
    print(f"services: RabbitMQ {series} from Debian's {RELEASES[series]} (once; some 70 MB)", file=sys.stderr, flush=True)
    new = root(series).with_name(f"rabbitmq-{series}.{os.getpid()}")
    try:
        fetch(new, RELEASES[series])
        for package in sorted((new / "archives").glob("*.deb")):
            run("dpkg-deb", "--extract", package, new)
        if not list((new / "usr" / "lib" / "rabbitmq" / "lib").glob(f"rabbitmq_server-{series}.*")):
            raise Trouble(f"Debian's {RELEASES[series]} has no RabbitMQ {series} any more; choose another RABBIT")
        for name, target in LINKS.items():
            if not (new / "usr" / "bin" / name).exists():
                (new / "usr" / "bin" / name).symlink_to(target)
        shutil.rmtree(new / "archives")
        shutil.rmtree(new / "lists")
        new.rename(root(series))
    finally:
        shutil.rmtree(new, ignore_errors=True)


def fetch(folder, suite):
    """Downloads the packages of a release by apt, whose state for that lies in the folder and not in the machine's."""
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
        # Its own user can't write here; what it protects from is protected by the signatures.
        "APT::Sandbox::User": "",
    }
    options = [word for key, value in settings.items() for word in ("--option", f"{key}={value}")]
    run("apt-get", *options, "--quiet=2", "update")
    run("apt-get", *options, "--quiet=2", "--download-only", "--yes", "install", *PACKAGES)


def run(*command):
    """A command that must succeed."""
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise Trouble(f"{' '.join(map(str, command[:1]))} failed: {done.stderr.strip() or done.stdout.strip()}")
