"""Where the files are, how they are read, and how a problem is reported."""

import subprocess
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parent.parent.parent.parent
DEPLOY = ROOT / "infra" / "deploy"
COMPOSE = DEPLOY / "compose.yaml"
# The file that `make services` uses where there is Docker.
SERVICES = ROOT / "infra" / "service" / "compose.yaml"
KUBERNETES = DEPLOY / "kubernetes" / "base"

# An operator gets them from a gateway, so no script makes them.
ISSUED = {f"owner-{owner}-key" for owner in "abc"}


class OneKey(yaml.SafeLoader):
    """Refuses repeated keys, of which YAML parsers silently take the last."""

    def construct_mapping(self, node, deep=False):
        keys = [key.value for key, _ in node.value if key.tag != "tag:yaml.org,2002:merge"]
        twice = sorted({str(key) for key in keys if keys.count(key) > 1})
        if twice:
            raise yaml.constructor.ConstructorError(None, None, f"{', '.join(twice)} given twice", node.start_mark)
        return super().construct_mapping(node, deep)


def documents(path):
    """Returns the YAML documents of a file."""
    with path.open(encoding="utf-8") as file:
        return [document for document in yaml.load_all(file, OneKey) if document]


def resources():
    """Yields every Kubernetes resource with the file that it is in."""
    for path in sorted(KUBERNETES.glob("*.yaml")):
        for document in documents(path):
            if document["kind"] != "Kustomization":
                yield path, document


def command(*words):
    """Returns a command's output if it failed, and otherwise an empty text."""
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=False)
    return f"{done.stdout}{done.stderr}".strip() if done.returncode else ""
