"""Sends many chats at once by OpenAI's asynchronous client with its default settings, or many jobs one after the other by a
client that obeys Retry-After, and prints what came of them as JSON."""

import asyncio
import json
import sys
import time
import urllib.error
import urllib.request

import openai


async def chats(url: str, key: str, total: int, at_once: int) -> dict:
    """Sends `total` chats, `at_once` of them at a time; counts the refusals below the client and the errors above it."""
    refused = 0

    async def count(response) -> None:
        nonlocal refused
        refused += response.status_code == 429

    http_client = openai.DefaultAsyncHttpxClient(event_hooks={"response": [count]})
    client = openai.AsyncOpenAI(base_url=f"{url}/v1", api_key=key, http_client=http_client)
    turns = asyncio.Semaphore(at_once)
    errors: dict[str, int] = {}

    async def chat() -> None:
        async with turns:
            try:
                await client.chat.completions.create(
                    model="test-model", messages=[{"role": "user", "content": "What is 2 + 2?"}], max_tokens=16
                )
            except openai.OpenAIError as error:
                name = type(error).__name__
                errors[name] = errors.get(name, 0) + 1

    await asyncio.gather(*(chat() for _ in range(total)))
    await client.close()
    return {"errors": errors, "refused": refused}


def jobs(url: str, key: str, total: int) -> dict:
    """Submits `total` jobs, and waits after a refusal as long as it says."""
    body = {"model": "test-model", "messages": [{"role": "user", "content": "x"}], "max_output": 8, "temperature": 0}
    headers = {"api_key": key, "Content-Type": "application/json"}
    refused = 0
    for _ in range(total):
        while True:
            request = urllib.request.Request(f"{url}/submit_job", json.dumps(body).encode(), headers)
            try:
                with urllib.request.urlopen(request) as reply:
                    reply.read()
                break
            except urllib.error.HTTPError as error:
                if error.code != 429:
                    raise
                refused += 1
                time.sleep(int(error.headers["retry-after-ms"]) / 1000)
    return {"refused": refused}


def main() -> None:
    kind, url, key, total = sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4])
    begun = time.monotonic()
    if kind == "chats":
        result = asyncio.run(chats(url, key, total, int(sys.argv[5])))
    else:
        result = jobs(url, key, total)
    print(json.dumps({**result, "seconds": round(time.monotonic() - begun, 1)}))


main()
