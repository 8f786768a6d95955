"""Holds exchanges with a gateway against an OpenAPI document and prints what doesn't fit, as one JSON list of sentences.

Usage: check_openapi.py DOCUMENT EXCHANGES

EXCHANGES is a JSON list of objects: the `path` as the document writes it, the `method`, what was sent (`request`, a body, or
`query`, the parameters' texts), the `status` and the `response`, and `beyond`, which says that a limit was exceeded that the
document doesn't state. A reply fits if the document's schema for its status accepts it, or, for a refusal that the document
doesn't list, if it says why as FastAPI does. Validation fits if bodies are answered 422 exactly where the schema refuses them
or a limit is exceeded.
"""

import json
import sys

import jsonschema

# Refusals that FastAPI's documents never list. Each is a sentence in `detail`.
UNLISTED = {401, 403, 404, 409, 503}

with open(sys.argv[1], encoding="utf-8") as file:
    document = json.load(file)
with open(sys.argv[2], encoding="utf-8") as file:
    exchanges = json.load(file)

FORMATS = jsonschema.FormatChecker(["email"])


def errors(schema, value):
    """Returns what is wrong with a value by a schema of the document."""
    whole = {**schema, "components": document["components"]}
    jsonschema.Draft202012Validator.check_schema(whole)
    return [
        f"{error.json_path}: {error.message}"
        for error in jsonschema.Draft202012Validator(whole, format_checker=FORMATS).iter_errors(value)
    ]


def schema_in(part):
    """Returns the schema of a JSON body."""
    return part["content"]["application/json"]["schema"]


def request_errors(operation, exchange):
    """Returns what is wrong with a request."""
    wrong = []
    if "requestBody" in operation:
        wrong += errors(schema_in(operation["requestBody"]), exchange["request"])
    for parameter in operation.get("parameters", []):
        if parameter["in"] == "query":
            text = exchange["query"].get(parameter["name"])
            try:
                value = None if text is None else json.loads(text)
            except ValueError:
                value = text
            wrong += errors(parameter["schema"], value)
    return wrong


def misfits(exchange):
    """Yields what doesn't fit."""
    operation = document["paths"][exchange["path"]][exchange["method"]]
    wrong, status = request_errors(operation, exchange), exchange["status"]
    if status == 422 and not wrong and not exchange["beyond"]:
        yield "refused, and the schema accepts it"
    if status != 422 and wrong:
        yield f"taken, and the schema refuses it: {wrong}"
    if status == 422 and "422" not in operation["responses"]:
        yield "422, which isn't documented"
    documented = operation["responses"].get(str(status))
    if documented:
        yield from errors(schema_in(documented), exchange["response"])
    elif status not in UNLISTED:
        yield f"status {status}"
    elif not isinstance(exchange["response"].get("detail"), str):
        yield "no sentence in detail"


found = [
    f"{exchange['method']} {exchange['path']} {exchange['request'] or exchange['query']} {exchange['status']}: {misfit}"
    for exchange in exchanges
    for misfit in misfits(exchange)
]
answered = {(exchange["path"], exchange["method"]) for exchange in exchanges if exchange["status"] in (200, 409)}
found += [
    f"{method} {path} was never answered"
    for path, item in document["paths"].items()
    for method in item
    if (path, method) not in answered
]
print(json.dumps(found))
