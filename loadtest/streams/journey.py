"""What one arrival does: it asks for a stream, reads it, and looks whether all of it holds."""

from __future__ import annotations

import asyncio
import json
import time
from dataclasses import dataclass

import aiohttp

from streams import checks
from streams.asked import Asked, unstreamed
from streams.events import EventReader
from streams.transcript import SENTENCES, Transcript

# The longest silence: a comment comes after ten seconds of it.
SILENCE_MAX_S = 30
# The longest stream, and the longest time until a job whose client hung up has ended.
STREAM_MAX_S = 120
ENDED_WITHIN_S = 60
# The first look at a job, and how much longer each pause is than the one before.
FIRST_PAUSE_S, PAUSE_GROWTH, PAUSE_MAX_S = 0.05, 1.5, 2.0
# The most bytes of a body that isn't a stream.
BODY_MAX_BYTES = 1 << 20
TERMINAL = ("succeeded", "failed", "cancelled", "expired")
# What breaks off a request without a reply of the gateway's.
LOST = (aiohttp.ClientError, asyncio.TimeoutError, OSError, ValueError)


def object_of(text):
    """Returns a body's object; an empty one if it has another shape."""
    try:
        found = json.loads(text)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


@dataclass
class Arrival:
    """One arrival: its number, when it was due, and the tags of its samples."""

    index: int
    due_s: float
    asked: Asked
    tags: dict


class Journeys:
    """Makes arrivals' requests, and hands what is seen to the samples."""

    def __init__(self, session, urls, key, samples):
        self.session, self.urls, self.key, self.samples = session, urls, key, samples

    def gateway(self, number):
        """Returns the gateway for this number: each in turn."""
        return self.urls[number % len(self.urls)]

    def headers(self, path):
        """Returns the key in the way of the face that is spoken to."""
        return {"authorization": f"Bearer {self.key}"} if path.startswith("/v1/") else {"api_key": self.key}

    def check_all(self, pairs):
        """Counts each sentence; returns whether all hold."""
        found = list(pairs)
        for sentence, holds in found:
            self.samples.check(sentence, bool(holds))
        return all(holds for _, holds in found)

    async def ask(self, method, url, path, name, body=None):
        """Asks for a body that isn't a stream; returns (status, headers, object)."""
        began = time.monotonic()
        data = None if body is None else json.dumps(body)
        status = 0
        try:
            limit = aiohttp.ClientTimeout(total=ENDED_WITHIN_S + 5)
            headers = {"content-type": "application/json", **self.headers(path)}
            async with self.session.request(method, url + path, data=data, headers=headers, timeout=limit) as reply:
                text = await reply.content.read(BODY_MAX_BYTES)
                status = reply.status
                while more := await reply.content.read(BODY_MAX_BYTES):
                    text += more
                    if len(text) > BODY_MAX_BYTES:
                        raise ValueError(f"{path}: a body beyond {BODY_MAX_BYTES} bytes")
                return status, reply.headers, object_of(text)
        finally:
            self.samples.request(name, status, (time.monotonic() - began) * 1000)

    async def arrive(self, arrival):
        """Makes one arrival; returns what it came to."""
        self.samples.trend("lateness", max(0.0, (time.monotonic() - arrival.due_s) * 1000), arrival.tags)
        try:
            end = await self.stream(arrival)
        except LOST as error:
            # Lost replies are told by the class of their error: the text may name anything.
            self.samples.check(f"no reply is lost: {type(error).__name__}", False)
            end = "broken"
        tags = {**arrival.tags, "end": end}
        self.samples.count("ends", 1, tags)
        self.samples.rate("broken", end == "broken")
        self.samples.rate("failed", end in ("failed", "overturned", "cut off"))
        if end in ("shed", "disputed"):
            self.samples.count(end)
        return end

    async def stream(self, arrival):
        """Asks for the stream and reads it."""
        asked, url = arrival.asked, self.gateway(arrival.index)
        heard, status, began = Transcript(asked.body["model"]), 0, time.monotonic()
        limit = aiohttp.ClientTimeout(total=STREAM_MAX_S, sock_read=SILENCE_MAX_S)
        headers = {"content-type": "application/json", **self.headers(asked.path)}
        try:
            async with self.session.post(url + asked.path, data=json.dumps(asked.body), headers=headers, timeout=limit) as reply:
                status = reply.status
                if status != 200:
                    return self.refused(status, reply.headers, object_of(await reply.content.read(BODY_MAX_BYTES)))
                is_events = reply.headers.get("content-type", "").startswith("text/event-stream")
                is_fresh = reply.headers.get("cache-control") in ("no-store", "no-cache")
                is_well = self.check_all([
                    ("stream: text/event-stream, from no cache", is_events and is_fresh),
                    ("stream: x-request-id", bool(reply.headers.get("x-request-id"))),
                ])
                is_whole = await self.read(reply, heard, asked)
        finally:
            self.samples.request("stream", status, (time.monotonic() - began) * 1000)
        self.measure(arrival, heard)
        if asked.hangs_up and not is_whole:
            return await self.hung_up(arrival, heard)
        return await self.judge(arrival, heard, is_well)

    async def read(self, reply, heard, asked):
        """Reads the events until the body's end; returns whether it came to it, or hung up before."""
        reader = EventReader()
        async for chunk in reply.content.iter_any():
            now_s = time.monotonic()
            for data in reader.feed(chunk):
                heard.hear(data, now_s)
            if asked.hangs_up and heard.first_text_s is not None and not heard.has_ended:
                reply.close()
                return False
        if reader.is_cut:
            heard.wrong.add(SENTENCES[0])
        heard.end()
        return True

    def measure(self, arrival, heard):
        """Hands on the times of a stream, whatever it came to."""
        tags = {**arrival.tags, "release": arrival.asked.release}
        if heard.first_text_s is not None:
            self.samples.trend("first_token", (heard.first_text_s - arrival.due_s) * 1000, tags)
        for gap_s in heard.gaps_s:
            self.samples.trend("token_gap", gap_s * 1000, tags)
        if heard.is_done:
            self.samples.trend("stream_latency", (time.monotonic() - arrival.due_s) * 1000, tags)
            took_s = heard.last_text_s - heard.first_text_s if heard.texts else 0
            if heard.token_count() and took_s > 0:
                self.samples.trend("token_rate", heard.token_count() / took_s, tags)
        if heard.token_count():
            self.samples.count("released_tokens", heard.token_count(), tags)

    async def judge(self, arrival, heard, is_well):
        """Looks whether all of a stream holds; returns what it came to."""
        asked = arrival.asked
        is_well = self.check_all(checks.every_stream(heard)) and is_well
        if heard.error is not None:
            is_well = self.check_all(checks.error_event(heard)) and is_well
            code = str((heard.error.get("error") or {}).get("code"))
            self.samples.count("stream_errors", 1, {"code": code if code.replace("_", "").isalnum() else "?"})
        elif heard.is_done:
            is_well = self.check_all(checks.whole(heard, asked)) and is_well
            if asked.is_compared:
                is_well = await self.compare(arrival, heard) and is_well
        end = checks.end_of(heard)
        self.samples.count("streams_by_release", 1, {"release": asked.release, "end": end if is_well else "broken"})
        return end if is_well else "broken"

    async def compare(self, arrival, heard):
        """Asks the same at another gateway, unstreamed, and compares; a refusal says nothing about the stream."""
        asked, url = arrival.asked, self.gateway(arrival.index + 1)
        status, headers, body = await self.ask("POST", url, asked.path, "unstreamed", unstreamed(asked.body))
        if status != 200:
            return self.refused(status, headers, body) == "shed"
        return self.check_all(checks.same_unstreamed(heard, body))

    def refused(self, status, headers, body):
        """Returns what a reply without an answer means."""
        is_honest = status in (429, 503) and self.check_all(checks.refusal(status, headers.get("retry-after"), body))
        return "shed" if is_honest else "broken"

    async def hung_up(self, arrival, heard):
        """Asks until the job of a client that went away has ended."""
        path, until_s = f"/v1/jobs/{heard.job()}", time.monotonic() + ENDED_WITHIN_S
        url, pause_s, state = self.gateway(arrival.index + 1), FIRST_PAUSE_S, ""
        while state not in TERMINAL and time.monotonic() < until_s:
            await asyncio.sleep(pause_s)
            pause_s = min(pause_s * PAUSE_GROWTH, PAUSE_MAX_S)
            status, headers, body = await self.ask("GET", url, path, "job")
            if status != 200:
                return self.refused(status, headers, body)
            state = str(body.get("status"))
        is_well = self.check_all([("hung up: the job ends within a minute, cancelled or answered", state in ("cancelled", "succeeded"))])
        return f"hung up: {state}" if is_well else "broken"
