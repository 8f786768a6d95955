"""OpenVINO GenAI's continuous batching on a GGUF file, asked in lines: python openvino_engine.py FILE THREADS"""

import sys

import numpy as np
import openvino
import openvino_genai as genai

import lines


def settings(tokens):
    """Returns the settings of an answer of exactly so many tokens, the likeliest each."""
    wanted = genai.GenerationConfig()
    wanted.max_new_tokens, wanted.ignore_eos, wanted.do_sample = tokens, True, False
    return wanted


def read(handle):
    """Returns how many tokens have come."""
    count = 0
    while handle.can_read():
        count += sum(len(output.generated_ids) for output in handle.read().values())
    return count


def main():
    """Serves until the input ends."""
    threads = {"INFERENCE_NUM_THREADS": int(sys.argv[2])}
    pipeline = genai.ContinuousBatchingPipeline(sys.argv[1], genai.SchedulerConfig(), "CPU", threads)
    asked, handles = lines.Asked(), {}
    while True:
        for request in asked.take(is_idle=not handles):
            prompt = openvino.Tensor(np.array([request["prompt"]], dtype=np.int64))
            handle = pipeline.add_request(request["id"], prompt, settings(request["tokens"]))
            handles[request["id"]] = [handle, request["tokens"]]
        pipeline.step()
        for number, state in list(handles.items()):
            count = read(state[0])
            lines.tell(*[number] * count)
            state[1] -= count
            if state[1] <= 0:
                del handles[number]


if __name__ == "__main__":
    main()
