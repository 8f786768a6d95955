"""Rules for KEDA's resources: its own definitions, and the fields that its RabbitMQ scaler reads. Both come from the release
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
    text = (source() / "pkg" / "scalers" / "rabbitmq_scaler.go").read_text()
    found = re.findall(r'keda:"name=(\w+),\s*order=([\w;]+)', text)
    return tuple({name for name, order in found if place in order.split(";")} for place in ("triggerMetadata", "authParams"))


def triggers():
    """Checks that each trigger has only fields that the scaler reads, uses HTTP, and watches the queue of an existing workload."""
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
            if (metadata["protocol"], metadata["mode"]) != ("http", "QueueLength"):
                yield f"{name}: running jobs are counted only with protocol http and mode QueueLength"
            if not metadata["queueName"].startswith("jobs."):
                yield f"{name}: {metadata['queueName']} is not a queue of jobs"
            if trigger["authenticationRef"]["name"] not in authentications:
                yield f"{name}: the authentication is missing: {trigger['authenticationRef']['name']}"


def owners():
    """Checks that workloads of three owners scale by each queue alike; otherwise no group of three can be drawn."""
    followers = {}
    for scaled in of_kind("ScaledObject").values():
        for trigger in scaled["spec"]["triggers"]:
            minimum = scaled["spec"]["minReplicaCount"]
            followers.setdefault(trigger["metadata"]["queueName"], []).append(minimum)
    for queue, minima in followers.items():
        if len(minima) < OWNERS or len(set(minima)) != 1:
            yield f"{queue}: {len(minima)} owners with minima {minima}, and three or more with the same minimum are needed"


RULES = (definitions, triggers, owners)
