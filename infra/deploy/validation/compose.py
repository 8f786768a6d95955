"""Rules for compose.yaml beyond its schema: what is used is declared and made, and services wait for what has a health check."""

import re
import sys
import tempfile
from fnmatch import fnmatchcase
from pathlib import Path

from .place import COMPOSE, DEPLOY, ISSUED, ROOT, SERVICES, command, documents


def schema():
    """Checks both files against the Compose specification's own schema, as check-jsonschema ships it."""
    tool = Path(sys.executable).parent / "check-jsonschema"
    for path in (COMPOSE, SERVICES):
        yield command(tool, "--builtin-schema", "vendor.compose-spec", path)


def dockerfile():
    """Checks the Dockerfile: hadolint's rules, base images by version, and the S3 server in the version that the tests run."""
    yield command(Path(sys.executable).parent / "hadolint", DEPLOY / "Dockerfile")
    text = (DEPLOY / "Dockerfile").read_text()
    # hadolint doesn't look into arguments.
    bases = re.findall(r"^ARG \w+=(\S+)$", text, re.M)
    (whole,) = documents(COMPOSE)
    bases += [service["image"] for service in whole["services"].values() if "build" not in service]
    yield from (f"{base} names no version" for base in bases if not re.search(r":\d+\.\d", base))
    pin = re.search(r'"github\.com/minio/minio@(\S+)"', (ROOT / "infra/service/s3.py").read_text())
    if pin is None or f"minio@{pin[1]}" not in text:
        yield "Dockerfile builds another MinIO than infra/service/s3.py"


def is_let_through(path, patterns):
    """Whether a path is part of the build context: the last line that fits it or a folder above it decides."""
    parts = path.split("/")
    above = ["/".join(parts[:depth]) for depth in range(1, len(parts) + 1)]
    is_let = True
    for pattern in patterns:
        if any(fnmatchcase(one, pattern.removeprefix("!").removeprefix("**/")) for one in above):
            is_let = pattern.startswith("!")
    return is_let


def context():
    """Checks that the build context has the manifest of every workspace member, which Cargo reads even if it isn't built."""
    lines = (DEPLOY / "Dockerfile.dockerignore").read_text().splitlines()
    patterns = [line.strip() for line in lines if line.strip() and not line.startswith("#")]
    members = re.search(r"^members = \[(.*?)\]", (ROOT / "Cargo.toml").read_text(), re.M | re.S)
    for path in ("", *re.findall(r'"([^"]+)"', members[1])):
        manifest = f"{path}/Cargo.toml".lstrip("/")
        if not is_let_through(manifest, patterns):
            yield f"Dockerfile.dockerignore excludes {manifest}, without which cargo builds nothing"
    if is_let_through("infra/deploy/secrets/ca.key", patterns):
        yield "Dockerfile.dockerignore lets secrets through"


def name_of(mount):
    """Returns the name in a short or a long mount."""
    return mount if isinstance(mount, str) else mount["source"]


def references():
    """Checks that all that services use is declared, all that is declared is used, and the script makes each secret's file."""
    (whole,) = documents(COMPOSE)
    used = {"secrets": set(), "configs": set(), "volumes": set()}
    for service in whole["services"].values():
        for kind in ("secrets", "configs"):
            used[kind].update(name_of(mount) for mount in service.get(kind, []))
        volumes = [volume.split(":")[0] for volume in service.get("volumes", [])]
        used["volumes"].update(volume for volume in volumes if not volume.startswith(("/", ".")))
    for kind, names in used.items():
        for name in sorted(names ^ set(whole[kind])):
            yield f"{kind}: {name} is {'declared and not used' if name in whole[kind] else 'used and not declared'}"
    for name, config in whole["configs"].items():
        if not (DEPLOY / config["file"]).is_file():
            yield f"configs: {name}: {config['file']} is missing"
    with tempfile.TemporaryDirectory() as folder:
        yield command(sys.executable, DEPLOY / "make_secrets.py", folder)
        made = {path.name for path in Path(folder).iterdir()}
    for name, secret in whole["secrets"].items():
        if secret["file"] != f"secrets/{name}":
            yield f"secrets: {name} is not the file of its name"
        if name not in made | ISSUED:
            yield f"secrets: {name}: no script makes it"


def waiting():
    """Checks that every service has a health check, and that files which its settings name are mounted."""
    (whole,) = documents(COMPOSE)
    services = whole["services"]
    for name, service in services.items():
        for other in service.get("depends_on", {}):
            if "healthcheck" not in services.get(other, {}):
                yield f"{name} waits for {other}, which has no health check"
        if "healthcheck" not in service:
            yield f"{name} has no health check"
        mounted = {f"/run/secrets/{name_of(mount)}" for mount in service.get("secrets", [])}
        for key, value in service.get("environment", {}).items():
            if str(value).startswith("/run/secrets/") and value not in mounted:
                yield f"{name}: {key} names {value}, which isn't mounted there"


def programs():
    """Yields each of our containers: its program, and its settings with the mounted files by name."""
    (whole,) = documents(COMPOSE)
    for name, service in whole["services"].items():
        if service.get("image") in {"infera-gateway", "infera-verifier", "infera-worker"}:
            yield f"compose.yaml, {name}", service["image"], service["environment"]


RULES = (schema, dockerfile, context, references, waiting)
