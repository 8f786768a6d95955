"""Streams LiteLLM's first example, by its provider for servers like OpenAI's."""

import os

from tell import MODEL, tell

# Its table of prices comes from its own package and not from the network.
os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"

from litellm import completion  # noqa: E402

ASKED = {
    "model": f"openai/{MODEL}",
    "messages": [{"content": "Hello, how are you?", "role": "user"}],
    "api_base": os.environ["OPENAI_BASE_URL"],
    "temperature": 0,
    "max_tokens": 48,
}
pieces, usage = [], None
for chunk in completion(stream=True, stream_options={"include_usage": True}, **ASKED):
    if chunk.choices and chunk.choices[0].delta.content:
        pieces.append(chunk.choices[0].delta.content)
    usage = getattr(chunk, "usage", None) or usage
whole = completion(**ASKED)
tell(pieces, whole.choices[0].message.content, usage=usage.completion_tokens, whole_usage=whole.usage.completion_tokens)
