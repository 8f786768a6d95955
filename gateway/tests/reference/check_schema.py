"""Holds replies against a JSON Schema and prints what doesn't fit, as one JSON list of sentences.

Usage: check_schema.py SCHEMA REPLIES

REPLIES is a JSON list of objects: what was asked (`name`), which of the schema's definitions the reply must fit
(`shape`) and the reply (`body`).
"""

import json
import sys

import jsonschema

with open(sys.argv[1], encoding="utf-8") as file:
    schema = json.load(file)
with open(sys.argv[2], encoding="utf-8") as file:
    replies = json.load(file)

validator = jsonschema.Draft202012Validator
validator.check_schema(schema)
shapes = {name: validator({"$ref": f"#/$defs/{name}", "$defs": schema["$defs"]}) for name in schema["$defs"]}

misfits = []
for reply in replies:
    for error in shapes[reply["shape"]].iter_errors(reply["body"]):
        misfits.append(f"{reply['name']}: {error.json_path}: {error.message}")
print(json.dumps(misfits))
