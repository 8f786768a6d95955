"""Where the files are, how they are read, and how a problem is told; no rule in particular."""

import subprocess
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parent.parent.parent.parent
DEPLOY = ROOT / "infra" / "deploy"
COMPOSE = DEPLOY / "compose.yaml"
# What `make services` starts where there is Docker.
SERVICES = ROOT / "infra" / "service" / "compose.yaml"
KUBERNETES = DEPLOY / "kubernetes" / "base"

# Made by an operator through a gateway, so by no script.
ISSUED = {f"owner-{owner}-key" for owner in "abc"}


class OneKey(yaml.SafeLoader):
    """Refuses a key that is given twice, of which YAML's readers silently take the last."""

    def construct_mapping(self, node, deep=False):
        keys = [key.value for key, _ in node.value if key.tag != "tag:yaml.org,2002:merge"]
        twice = sorted({str(key) for key in keys if keys.count(key) > 1})
        if twice:
            raise yaml.constructor.ConstructorError(None, None, f"{', '.join(twice)} given twice", node.start_mark)
        return super().construct_mapping(node, deep)


def documents(path):
    """The YAML documents of a file."""
    with path.open(encoding="utf-8") as file:
        return [document for document in yaml.load_all(file, OneKey) if document]


def resources():
    """Every Kubernetes resource with the file that it is in."""
    for path in sorted(KUBERNETES.glob("*.yaml")):
        for document in documents(path):
            if document["kind"] != "Kustomization":
                yield path, document


def command(*words):
    """A command's complaint: its output if it failed, else nothing."""
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=False)
    return f"{done.stdout}{done.stderr}".strip() if done.returncode else ""
