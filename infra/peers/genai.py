"""ONNX Runtime GenAI's engine on a folder, asked in lines: python genai.py FOLDER"""

import os
import sys

os.environ["ORT_DISABLE_TELEMETRY"] = "1"

import numpy as np
import onnxruntime_genai as og

import lines

# Events that one call may give.
EVENTS_MAX = 256


def begin(engine, asked):
    """Begins a request of exactly so many tokens, the likeliest each."""
    options = og.RequestOptions()
    options.set_max_session_tokens(len(asked["prompt"]) + asked["tokens"])
    request = engine.create_request(options=options)
    turn = og.TurnOptions(request)
    turn.set_do_sample(False)
    turn.set_min_generated_tokens(asked["tokens"])
    turn.set_max_generated_tokens(asked["tokens"])
    request.begin_turn(np.array(asked["prompt"], dtype=np.int32), turn)
    return request


def main():
    """Serves until the input ends."""
    og.disable_telemetry_events()
    engine = og.Engine(og.Model(sys.argv[1]))
    events = engine.create_event_buffer(EVENTS_MAX)
    asked, numbers = lines.Asked(), {}
    while True:
        for request in asked.take(is_idle=not numbers):
            numbers[begin(engine, request)] = request["id"]
        seen = list(engine.run(events))
        lines.tell(*(numbers[event.request] for event in seen if event.flags & og.EngineEventFlags.TOKEN))
        for event in seen:
            if event.flags & og.EngineEventFlags.FAILED:
                lines.tell(f"failed {event.error_code}")
            if event.flags & og.EngineEventFlags.TURN_FINISHED:
                event.request.close()
                del numbers[event.request]


if __name__ == "__main__":
    main()
