"""Prints what the operators of our graphs take of a step, from ONNX Runtime's profile: python shares.py FOLDER THREADS"""

import json
import os
import sys
import tempfile
from collections import Counter
from pathlib import Path

os.environ["ORT_DISABLE_TELEMETRY"] = "1"

import numpy as np
import onnxruntime as ort

BATCHES, PAST, STEPS, WARM_UP = (1, 16), 48, 20, 5
# Operators beyond these share what is left.
NAMED_MAX = 5


def profile(file, batch, threads):
    """Returns the microseconds by operator in steps of a batch with so many tokens of past."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    with tempfile.TemporaryDirectory() as folder:
        options.enable_profiling, options.profile_file_prefix = True, str(Path(folder) / "profile")
        session = ort.InferenceSession(file, options, providers=["CPUExecutionProvider"])
        feeds = {
            "input_ids": np.full((batch, 1), 1000, np.int64),
            "attention_mask": np.ones((batch, PAST + 1), np.int64),
        }
        for port in session.get_inputs():
            if port.name.startswith("past_key_values."):
                feeds[port.name] = np.zeros((batch, port.shape[1], PAST, port.shape[3]), np.float32)
        for _ in range(WARM_UP + STEPS):
            session.run(["logits"], feeds)
        events = json.loads(Path(session.end_profiling()).read_text(encoding="utf-8"))
    times, seen = Counter(), Counter()
    for event in events:
        if event.get("cat") == "Node" and event["name"].endswith("_kernel_time"):
            seen[event["name"]] += 1
            if seen[event["name"]] > WARM_UP:
                name = event["args"]["op_name"]
                # The output layer is a third of all weights.
                name = f"{name} of the logits" if "lm_head" in event["name"] or "logits" in event["name"] else name
                times[name] += event["dur"]
    return times


def main():
    """Prints a sentence for each graph and batch."""
    folder, threads = Path(sys.argv[1]), int(sys.argv[2])
    for variant in ("model_q4", "model_int8"):
        for batch in BATCHES:
            times = profile(str(folder / f"{variant}.onnx"), batch, threads)
            total = sum(times.values())
            shares = [f"{name} {100 * time / total:.0f} %" for name, time in times.most_common(NAMED_MAX)]
            print(
                f"{variant}.onnx, a step at batch {batch} with {PAST} tokens of past, by the profile of ONNX Runtime "
                f"{ort.__version__} on {threads} threads: {total / STEPS / 1e3:.1f} ms in operators, {', '.join(shares)}."
            )


if __name__ == "__main__":
    main()
