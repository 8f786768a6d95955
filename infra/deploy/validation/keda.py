"""Rules for KEDA's resources: its own definitions and the words that its RabbitMQ scaler reads, both taken from the release
that is named here (a Go module, checked against the public checksum database)."""

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
    """The release's folder."""
    download = ["go", "mod", "download", "-json", KEDA]
    done = subprocess.run(download, cwd="/", capture_output=True, text=True, check=False)
    found = json.loads(done.stdout or "{}")
    if done.returncode or "Dir" not in found:
        raise OSError(f"KEDA's definitions can't be fetched: {found.get('Error') or done.stderr}")
    return Path(found["Dir"])


def strict(schema):
    """A definition with unknown keys refused, as the API server refuses or drops them."""
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
    """Every resource of KEDA's against its kind's definition."""
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
    """What the scaler reads from a trigger, and from the authentication that it names."""
    text = (source() / "pkg" / "scalers" / "rabbitmq_scaler.go").read_text()
    found = re.findall(r'keda:"name=(\w+),\s*order=([\w;]+)', text)
    return tuple({name for name, order in found if place in order.split(";")} for place in ("triggerMetadata", "authParams"))


def triggers():
    """Each trigger says what the scaler reads, asks by HTTP, and looks at the right queue of a workload that is there."""
    in_trigger, in_authentication = words()
    workloads, authentications = of_kind("StatefulSet"), of_kind("TriggerAuthentication")
    for name, authentication in authentications.items():
        for parameter in authentication["spec"]["secretTargetRef"]:
            if parameter["parameter"] not in in_authentication:
                yield f"{name}: KEDA reads no {parameter['parameter']}"
    for name, scaled in of_kind("ScaledObject").items():
        target = scaled["spec"]["scaleTargetRef"]["name"]
        if target not in workloads:
            yield f"{name}: there is no {target}"
        elif "replicas" in workloads[target]["spec"]:
            yield f"{name}: {target} has a number of its own, which an update would set again"
        for trigger in scaled["spec"]["triggers"]:
            metadata = trigger["metadata"]
            for key, value in metadata.items():
                if key not in in_trigger or not isinstance(value, str):
                    yield f"{name}: {key} is no word of the scaler's, or no text"
            if (metadata["protocol"], metadata["mode"]) != ("http", "QueueLength"):
                yield f"{name}: by AMQP, or by rate, running jobs are not counted"
            if not metadata["queueName"].startswith("jobs."):
                yield f"{name}: {metadata['queueName']} is no queue of jobs"
            if trigger["authenticationRef"]["name"] not in authentications:
                yield f"{name}: there is no authentication {trigger['authenticationRef']['name']}"


def owners():
    """A queue is followed by three owners' workloads alike, or no group of three can be drawn."""
    followers = {}
    for scaled in of_kind("ScaledObject").values():
        for trigger in scaled["spec"]["triggers"]:
            minimum = scaled["spec"]["minReplicaCount"]
            followers.setdefault(trigger["metadata"]["queueName"], []).append(minimum)
    for queue, minima in followers.items():
        if len(minima) < OWNERS or len(set(minima)) != 1:
            yield f"{queue}: {len(minima)} owners with minima {minima}"


RULES = (definitions, triggers, owners)
