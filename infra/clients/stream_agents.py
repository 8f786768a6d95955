"""Streams openai-agents' first example: an agent that is asked for a haiku, by chat completions, without tracing."""

import asyncio

from agents import Agent, ModelSettings, Runner, set_default_openai_api, set_tracing_disabled
from openai.types.responses import ResponseTextDeltaEvent

from tell import MODEL, tell

set_default_openai_api("chat_completions")
set_tracing_disabled(True)
agent = Agent(
    name="Assistant",
    instructions="You are a helpful assistant",
    model=MODEL,
    model_settings=ModelSettings(temperature=0, max_tokens=48, include_usage=True),
)
QUESTION = "Write a haiku about recursion in programming."


async def main():
    """Asks twice, once as a stream."""
    running = Runner.run_streamed(agent, QUESTION)
    pieces = []
    async for event in running.stream_events():
        if event.type == "raw_response_event" and isinstance(event.data, ResponseTextDeltaEvent):
            pieces.append(event.data.delta)
    whole = await Runner.run(agent, QUESTION)
    counted, whole_counted = (found.context_wrapper.usage.output_tokens for found in (running, whole))
    tell(pieces, whole.final_output, usage=counted, whole_usage=whole_counted, final=running.final_output)


asyncio.run(main())
