"""Rules for the Kubernetes manifests beyond their schemas: every reference has a target. An operator makes the secrets;
README.md must list them and their keys.
"""

import re
import sys
from pathlib import Path

from .place import DEPLOY, command, resources

# The oldest release that Kubernetes still supports, and the newest that the tool knows.
VERSIONS = ("1.34.0", "1.37.0")
OURS = {"infera-gateway", "infera-verifier", "infera-worker"}
# Seconds that a program may take to drain, by its own defaults; a pod's grace period must be longer.
DRAINS_S = {"infera-gateway": 5 + 20 + 2 + 5, "infera-verifier": 30, "infera-worker": 30 + 5}


def schemas():
    """Checks resources against the API's own schemas and refuses unknown keys. `keda` checks KEDA's kinds."""
    files = sorted({path for path, document in resources() if "keda.sh" not in document["apiVersion"]})
    for version in VERSIONS:
        tool = Path(sys.executable).parent / "kubernetes-validate"
        yield command(tool, "--strict", "--quiet", "--no-warn", "-k", version, *files)


def of_kind(*kinds):
    """Returns the resources of these kinds, by name."""
    return {document["metadata"]["name"]: document for _, document in resources() if document["kind"] in kinds}


def workloads():
    """Yields what runs pods: name, labels of the pods, their specification."""
    for name, workload in of_kind("Deployment", "StatefulSet").items():
        template = workload["spec"]["template"]
        yield name, workload["spec"], template["metadata"]["labels"], template["spec"]


def fits(selector, labels):
    """Whether a selector by labels selects a pod with these labels."""
    return all(labels.get(key) == value for key, value in (selector or {}).get("matchLabels", {}).items())


def selectors():
    """Checks that each selector selects some pods, and a workload's selector its own pods."""
    pods = [labels for _, _, labels, _ in workloads()]
    for name, spec, labels, pod in workloads():
        if not fits(spec["selector"], labels):
            yield f"{name}: its selector doesn't select its own pods"
        for spread in pod["topologySpreadConstraints"]:
            if not fits(spread["labelSelector"], labels):
                yield f"{name}: spreads pods that aren't its own"
    for name, budget in of_kind("PodDisruptionBudget").items():
        if not any(fits(budget["spec"]["selector"], labels) for labels in pods):
            yield f"budget {name} selects no pod"
    for name, policy in of_kind("NetworkPolicy").items():
        if not any(fits(policy["spec"]["podSelector"], labels) for labels in pods):
            yield f"policy {name} selects no pod"
    for name, service in of_kind("Service").items():
        taken = [pod for _, _, labels, pod in workloads() if fits({"matchLabels": service["spec"]["selector"]}, labels)]
        ports = {port["name"] for pod in taken for port in pod["containers"][0]["ports"]}
        for port in service["spec"]["ports"]:
            if port["targetPort"] not in ports:
                yield f"service {name}: none of its pods has the port {port['targetPort']}"
    names = {document["metadata"].get("namespace", "infera") for _, document in resources()}
    if names != {"infera"}:
        yield f"resources are in the namespaces {sorted(names)}, and must be in infera alone"


def settings_of(container):
    """Returns a container's environment: the maps that it names, then its own variables."""
    maps = of_kind("ConfigMap")
    told = {}
    for source in container["envFrom"]:
        told.update(maps.get(source["configMapRef"]["name"], {}).get("data", {}))
    told.update({variable["name"]: variable.get("value", "infera-worker-a-0") for variable in container.get("env", [])})
    return told


def mounts():
    """Checks that maps of settings exist, files that they name are mounted, and README.md lists every secret and key."""
    maps = of_kind("ConfigMap")
    readme = (DEPLOY / "README.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `(infera-[\w-]+)` \| ([^|]+) \|", readme, re.M)
    listed = {secret: set(re.findall(r"`([^`]+)`", keys)) for secret, keys in rows}
    for name, _, _, pod in workloads():
        (container,) = pod["containers"]
        for source in container["envFrom"]:
            if source["configMapRef"]["name"] not in maps:
                yield f"{name}: the ConfigMap is missing: {source['configMapRef']['name']}"
        volumes = {volume["name"]: volume for volume in pod["volumes"]}
        paths = {mount["mountPath"]: volumes.get(mount["name"]) for mount in container["volumeMounts"]}
        if None in paths.values():
            yield f"{name}: mounts a volume that it doesn't have"
        for key, value in settings_of(container).items():
            if value.startswith("/run/secrets/"):
                folder, _, file = value.rpartition("/")
                secret = (paths.get(folder) or {}).get("secret", {}).get("secretName")
                if file not in listed.get(secret, set()):
                    yield f"{name}: {key} names {value}: secret {secret} in README.md has no such key"


def pods():
    """Checks what every pod of ours needs to drain before it ends and to run without privileges."""
    for name, _, _, pod in workloads():
        (container,) = pod["containers"]
        image = container["image"].rpartition("/")[2].partition(":")[0]
        if image not in OURS:
            yield f"{name}: {image} is not an image of ours"
        elif pod["terminationGracePeriodSeconds"] <= DRAINS_S[image]:
            yield f"{name}: is killed before its drain of {DRAINS_S[image]} s ends"
        context = container["securityContext"]
        if not (pod["securityContext"]["runAsNonRoot"] and context["readOnlyRootFilesystem"]):
            yield f"{name}: may run as root, or its root file system is writable"
        for probe, path in (("livenessProbe", "/livez"), ("startupProbe", "/livez"), ("readinessProbe", "/readyz")):
            if container[probe]["httpGet"] != {"path": path, "port": "operations"}:
                yield f"{name}: {probe} is not {path} of the operations port"
        if "memory" not in container["resources"]["limits"] or "cpu" not in container["resources"]["requests"]:
            yield f"{name}: has no memory limit or no CPU request"


def programs():
    """Yields each of our containers: its program, and its settings with the mounted files by name."""
    for name, _, _, pod in workloads():
        (container,) = pod["containers"]
        program = container["image"].rpartition("/")[2].partition(":")[0]
        yield f"kubernetes, {name}", program, settings_of(container)


RULES = (schemas, selectors, mounts, pods)
