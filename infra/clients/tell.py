"""What the scripts beside it share: the model, and how they tell infra/clients.py what they saw."""

import json
import os

MODEL = os.environ["CLIENTS_MODEL"]


def tell(pieces, whole, **more):
    """Prints the pieces of the streamed answer, the whole one, and what else was seen."""
    print(json.dumps({"pieces": [piece for piece in pieces if piece], "whole": whole, **more}))
