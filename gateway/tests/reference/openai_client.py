"""Asks a gateway through OpenAI's own client and prints what that understood, as one JSON object.

Usage: openai_client.py BASE_URL KEY MODEL
"""

import json
import sys

import openai

base_url, key, model = sys.argv[1:4]
client = openai.OpenAI(base_url=base_url, api_key=key, max_retries=0)
question = [{"role": "user", "content": [{"type": "text", "text": "What is the capital of France?"}]}]

completion = client.chat.completions.create(
    model=model, messages=question, max_completion_tokens=16, temperature=0, extra_body={"verification": {"quorum": 3}}
)
seen = {
    "content": completion.choices[0].message.content,
    "finish_reason": completion.choices[0].finish_reason,
    "total_tokens": completion.usage.total_tokens,
    "verification": completion.model_extra["verification"],
    "fingerprint": completion.system_fingerprint,
    "models": [entry.id for entry in client.models.list()],
    "model": client.models.retrieve(model).id,
}


several = client.chat.completions.create(
    model=model, messages=question, max_tokens=16, n=3, stop=["\n\n", "END"], logprobs=True, top_logprobs=2, seed=2**64 - 1,
    top_p=0.9, frequency_penalty=0.5, presence_penalty=-0.5, logit_bias={"7": -100}, extra_body={"top_k": 40, "min_p": 0.05},
)
logprobs = several.choices[2].logprobs.content
seen["several"] = {
    "choices": [[choice.index, choice.message.content, choice.finish_reason] for choice in several.choices],
    "usage": [several.usage.prompt_tokens, several.usage.completion_tokens],
    "logprobs": [[entry.token, entry.logprob, len(entry.top_logprobs)] for entry in logprobs],
    "bytes": logprobs[1].bytes,
}


def refused(client, **changes):
    """How the client names the refusal of a request."""
    try:
        client.chat.completions.create(**{"model": model, "messages": question, **changes})
    except openai.APIStatusError as error:
        return [type(error).__name__, error.code, error.param]
    return None


try:
    client.models.retrieve("no/such model")
except openai.NotFoundError as error:
    seen["unknown_model_retrieved"] = [error.code, error.param]
seen["unknown_model"] = refused(client, model="no-such-model")
seen["too_many"] = refused(client, n=9)
seen["contradiction"] = refused(client, top_logprobs=3)
with client.chat.completions.stream(model=model, messages=question, max_tokens=16, stream_options={"include_usage": True}) as stream:
    deltas = [event.delta for event in stream if event.type == "content.delta"]
    final = stream.get_final_completion()
seen["streaming"] = [deltas, final.choices[0].finish_reason, final.usage.total_tokens]
seen["wrong_key"] = refused(openai.OpenAI(base_url=base_url, api_key="inf_wrong", max_retries=0))
print(json.dumps(seen))
