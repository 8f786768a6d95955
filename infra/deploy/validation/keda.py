"""Rules for KEDA's resources: its own definitions, and the fields that its Prometheus scaler reads. Both come from the release
that is named here, a Go module that is verified against the public checksum database.
"""

import json
import re
import subprocess
from pathlib import Path

import jsonschema
import yaml

from .kubernetes import of_kind
from .place import ROOT, resources

KEDA = "github.com/kedacore/keda/v2@v2.21.0"
METRICS = ROOT / "core" / "telemetry" / "src" / "metrics.rs"
COUNTED = {"infera_verifier_waiting_jobs", "infera_verifier_jobs_in_flight"}  # waiting jobs alone would take workers away
OWNERS = 3


def source():
    """Returns the release's folder."""
    download = ["go", "mod", "download", "-json", KEDA]
    done = subprocess.run(download, cwd="/", capture_output=True, text=True, check=False)
    found = json.loads(done.stdout or "{}")
    if done.returncode or "Dir" not in found:
        raise OSError(f"KEDA's definitions can't be fetched: {found.get('Error') or done.stderr}")
    return Path(found["Dir"])


def strict(schema):
    """Returns a definition that refuses unknown keys, which the API server refuses or drops."""
    if isinstance(schema, list):
        return [strict(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    made = {key: strict(value) for key, value in schema.items()}
    is_open = schema.get("x-kubernetes-preserve-unknown-fields") or "additionalProperties" in schema
    if isinstance(schema.get("properties"), dict) and not is_open:
        made["additionalProperties"] = False
    return made


def definitions():
    """Checks every KEDA resource against the definition of its kind."""
    folder = source() / "config" / "crd" / "bases"
    for path, document in resources():
        if "keda.sh" not in document["apiVersion"]:
            continue
        definition = yaml.safe_load((folder / f"keda.sh_{document['kind'].lower()}s.yaml").read_text())
        schema = strict(definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"])
        # The definition leaves these to Kubernetes.
        schema["properties"]["metadata"] = {"type": "object"}
        for error in jsonschema.Draft202012Validator(schema).iter_errors(document):
            where = ".".join(map(str, error.absolute_path))
            yield f"{path.relative_to(ROOT)}, {document['metadata']['name']}: {where}: {error.message}"


def words():
    """Returns the fields that the scaler reads from a trigger, and from the authentication that the trigger names."""
    text = (source() / "pkg" / "scalers" / "prometheus_scaler.go").read_text()
    found = re.findall(r'keda:"name=(\w+),\s*order=([\w;]+)', text)
    return tuple({name for name, order in found if place in order.split(";")} for place in ("triggerMetadata", "authParams"))


def metrics():
    """Returns the names of our metrics, as the programs declare them."""
    return set(re.findall(r'= "(infera_[a-z_]+)":', METRICS.read_text()))


def triggers():
    """Checks that each trigger has only fields that the scaler reads, asks for metrics that there are, also where none was
    scraped, and scales an existing workload."""
    in_trigger, in_authentication = words()
    workloads, authentications = of_kind("StatefulSet"), of_kind("TriggerAuthentication")
    for name, authentication in authentications.items():
        for parameter in authentication["spec"]["secretTargetRef"]:
            if parameter["parameter"] not in in_authentication:
                yield f"{name}: KEDA has no parameter {parameter['parameter']}"
    for name, scaled in of_kind("ScaledObject").items():
        target = scaled["spec"]["scaleTargetRef"]["name"]
        if target not in workloads:
            yield f"{name}: the workload {target} is missing"
        elif "replicas" in workloads[target]["spec"]:
            yield f"{name}: {target} sets its own number of replicas, which each update would restore"
        for trigger in scaled["spec"]["triggers"]:
            metadata = trigger["metadata"]
            for key, value in metadata.items():
                if key not in in_trigger or not isinstance(value, str):
                    yield f"{name}: {key} is not a field of the scaler, or its value is not a string"
            asked = set(re.findall(r"infera_[a-z_]+", metadata["query"]))
            for metric in sorted(asked - metrics()):
                yield f"{name}: there is no metric {metric}"
            for metric in sorted(COUNTED - asked):
                yield f"{name}: {metric} is not counted"
            if metadata["ignoreNullValues"] != "false":
                yield f"{name}: no sample would count as no job"
            authentication = trigger.get("authenticationRef", {}).get("name")
            if authentication is not None and authentication not in authentications:
                yield f"{name}: the authentication is missing: {authentication}"


def owners():
    """Checks that workloads of three owners scale by each query alike; otherwise no group of three can be drawn."""
    followers = {}
    for scaled in of_kind("ScaledObject").values():
        for trigger in scaled["spec"]["triggers"]:
            minimum = scaled["spec"]["minReplicaCount"]
            followers.setdefault(trigger["metadata"]["query"], []).append(minimum)
    for query, minima in followers.items():
        if len(minima) < OWNERS or len(set(minima)) != 1:
            yield f"{query}: {len(minima)} owners with minima {minima}, and three or more with the same minimum are needed"


RULES = (definitions, triggers, owners)
