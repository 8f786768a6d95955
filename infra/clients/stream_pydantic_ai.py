"""Streams pydantic-ai's first example: an agent that is asked where a phrase comes from."""

import asyncio

from pydantic_ai import Agent
from pydantic_ai.models.openai import OpenAIChatModel
from pydantic_ai.settings import ModelSettings

from tell import MODEL, tell

agent = Agent(
    OpenAIChatModel(MODEL),
    instructions="Be concise, reply with one sentence.",
    model_settings=ModelSettings(temperature=0, max_tokens=48),
)
QUESTION = 'Where does "hello world" come from?'


async def main():
    """Asks twice, once as a stream."""
    async with agent.run_stream(QUESTION) as result:
        pieces = [piece async for piece in result.stream_text(delta=True, debounce_by=None)]
        usage = result.usage
    whole = await agent.run(QUESTION)
    counted, whole_counted = (found() if callable(found) else found for found in (usage, whole.usage))
    tell(pieces, whole.output, usage=counted.output_tokens, whole_usage=whole_counted.output_tokens)


asyncio.run(main())
