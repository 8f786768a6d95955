"""The events of a streamed answer, right or wrong in one way: for the gateway that lies, and for the checks themselves."""

import json

TEXTS = ("8", "5", ".")
PROMPT_TOKENS = 5
# Each lie with the sentences that it breaks, of streams that ask for everything (usage, token ids, a comparison).
LIES = {
    "no end": {"stream: [DONE] or an error is the last event"},
    "goes on after [DONE]": {"stream: [DONE] or an error is the last event"},
    "no JSON": {"stream: every event is JSON of a chunk's shape"},
    "another shape": {"stream: every event is JSON of a chunk's shape"},
    "another id": {"stream: chunks of the model asked for, under one id"},
    "another model": {"stream: chunks of the model asked for, under one id"},
    "no role": {"stream: each answer begins with its role"},
    "text after the finish": {"stream: nothing follows an answer's end"},
    "a delta twice": {"same seed unstreamed: the same text"},
    "another text at the end": {"same seed unstreamed: the same text"},
    "another reason": {"same seed unstreamed: the same ends"},
    "no finish": {"answer: each has text and an end", "answer: ids belong together", "verification: status is verified",
                  "verification: 3 of 3 replicas were asked", "verification: the quorum answered and agreed",
                  "usage: as many tokens as came", "same seed unstreamed: the same ends"},
    "another job": {"answer: ids belong together"},
    "disputed": {"verification: status is verified"},
    "two replicas": {"verification: 3 of 3 replicas were asked"},
    "no quorum": {"verification: the quorum answered and agreed"},
    "usage twice": {"usage: told once, if it was asked for"},
    "usage too small": {"usage: as many tokens as came", "same seed unstreamed: as many tokens"},
    "usage that doesn't add up": {"usage: the total is their sum"},
    "an error without a code": {"error events: a code, a message and the job"},
}
# Lies that only a connection can tell, and the sentences that they break.
LIES_OF_CONNECTIONS = {
    "no event stream": {"stream: text/event-stream, from no cache"},
    "cut within an event": {"stream: every event is JSON of a chunk's shape"},
    # Told by the class of the error, which is one of several.
    "closed": set(),
}


def usage_of(n):
    """Returns the usage of a whole request."""
    completion = len(TEXTS) * n
    return {"prompt_tokens": PROMPT_TOKENS, "completion_tokens": completion, "total_tokens": PROMPT_TOKENS + completion}


def completion_of(job, ask):
    """Returns the whole answer to a request, unstreamed."""
    choices = [
        {"index": index, "finish_reason": "stop", "message": {"role": "assistant", "content": "".join(TEXTS)}}
        for index in range(ask.get("n", 1))
    ]
    return {
        "id": f"chatcmpl-{job.removeprefix('job_')}", "object": "chat.completion", "model": ask["model"], "job_id": job,
        "choices": choices, "usage": usage_of(len(choices)), "verification": verdict_of(ask, ""),
    }


def verdict_of(ask, lie):
    """Returns the verification in an answer's last chunk."""
    agreed = 1 if lie == "no quorum" else 3
    return {
        "status": "disputed" if lie == "disputed" else "verified", "rung": "identical", "numbers": "inside",
        "replicas": {"asked": 2 if lie == "two replicas" else 3, "answered": 3, "agreed": agreed},
    }


def events(job, ask, lie=""):
    """Returns the data of each event of a stream."""
    n, has_usage = ask.get("n", 1), bool((ask.get("stream_options") or {}).get("include_usage"))

    def chunk(index, delta, finish_reason=None, **more):
        name = f"chatcmpl-{'0' * 32 if lie == 'another id' and delta.get('content') else job.removeprefix('job_')}"
        choice = {"index": index, "delta": delta, "logprobs": None, "finish_reason": finish_reason, **more.pop("choice", {})}
        return json.dumps({"id": name, "object": "chat.completion.chunk", "created": 1, "choices": [choice],
                           "model": "another" if lie == "another model" else ask["model"],
                           **({"usage": None} if has_usage else {}), **more})

    told, finished = [], []
    for index in range(n):
        told += [] if lie == "no role" else [chunk(index, {"role": "assistant", "content": "", "refusal": None})]
        texts = ["8", *TEXTS] if lie == "a delta twice" else [*TEXTS[:-1], "!"] if lie == "another text at the end" else TEXTS
        told += [chunk(index, {"content": text}) for text in texts]
        own = {"token_ids": list(range(len(TEXTS)))} if ask.get("return_token_ids") else {}
        reason = "length" if lie == "another reason" else "stop"
        named = "job_" + "1" * 32 if lie == "another job" else job
        finished += [] if lie == "no finish" else [chunk(index, {}, reason, choice=own, job_id=named, verification=verdict_of(ask, lie))]
        finished += [chunk(index, {"content": "more"})] if lie == "text after the finish" else []
    told += ["{no JSON"] if lie == "no JSON" else []
    told += ["[1]"] if lie == "another shape" else []
    if lie == "an error without a code":
        return [*told, json.dumps({"error": {"message": "no"}, "job_id": job})]
    told += finished
    if has_usage:
        usage = usage_of(n)
        usage = {**usage, "completion_tokens": usage["completion_tokens"] - 1, "total_tokens": usage["total_tokens"] - 1} \
            if lie == "usage too small" else usage
        usage = {**usage, "total_tokens": 1} if lie == "usage that doesn't add up" else usage
        last = json.dumps({**json.loads(chunk(0, {})), "choices": [], "usage": usage})
        told += [last, last] if lie == "usage twice" else [last]
    told += [] if lie == "no end" else ["[DONE]"]
    return told + ([told[-2]] if lie == "goes on after [DONE]" else [])
