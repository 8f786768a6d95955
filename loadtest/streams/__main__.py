"""Runs one scenario of streams: python -m streams SCENARIO POINTS, as run.py starts it.

The environment has LOAD_URLS, INFERA_API_KEY, SUMMARY and the scenario's numbers. POINTS is the pipe that samples go to. Exits with 99
if a threshold is broken, as k6 does, and with 1 if the run could not be made.
"""

import argparse
import asyncio
import os
import sys
import time

import aiohttp

from streams import samples as sampled
from streams import scenarios, schedule
from streams.asked import asked
from streams.journey import ENDED_WITHIN_S, LOST, STREAM_MAX_S, Arrival, Journeys

THRESHOLD_BROKEN = 99
# Requests that an arrival makes, by and large: the stream, and for one in three another.
REQUESTS_EACH = 1.4
MODEL = "infera-tiny"


class Unfit(Exception):
    """Why a run would say nothing."""


async def look(journeys, scenario, model):
    """Looks at each gateway; raises Unfit if the run would only measure a limit."""
    wanted = schedule.peak(scenario.shape) * REQUESTS_EACH * 60
    for number, url in enumerate(journeys.urls):
        try:
            status, headers, body = await journeys.ask("GET", url, "/v1/models", "setup")
        except LOST as error:
            raise Unfit(f"{url} doesn't answer: {error}") from error
        if status != 200:
            raise Unfit(f"{url} answers {status}")
        allowed = float(headers.get("x-ratelimit-limit-requests") or "inf")
        if allowed < wanted / len(journeys.urls):
            raise Unfit(
                f"this key may make {allowed:.0f} requests a minute, the run some {wanted:.0f}: it would measure the limit. `make cluster` "
                "has none; `infera up` needs INFERA_GATEWAY__REQUESTS_PER_MINUTE=0 INFERA_GATEWAY__IN_FLIGHT_MAX=0"
            )
        ours = next((entry for entry in body.get("data", []) if entry.get("id") == model), {})
        if ours.get("nodes", 0) < 3:
            raise Unfit(f"three nodes of {model} are needed at {url} (gateway {number + 1}): {ours or 'it is not listed'}")


async def arrive(journeys, scenario, model):
    """Makes all arrivals when they are due, and waits until each has come to something. Raises what a journey didn't expect."""
    began_s, run_seed, opened = time.monotonic(), int(time.time()) % 1_000_000 * 1_000, set()
    reported_s = 0.0
    mistakes = []

    def close(task):
        opened.discard(task)
        if not task.cancelled() and task.exception() is not None:
            mistakes.append(task.exception())

    for index, due_s in enumerate(schedule.moments(scenario.shape)):
        while (left_s := began_s + due_s - time.monotonic()) > 0:
            await asyncio.sleep(min(left_s, 1.0))
            if time.monotonic() - reported_s >= 1:
                reported_s = time.monotonic()
                journeys.samples.users(len(opened))
        if mistakes:
            raise mistakes[0]
        if len(opened) >= scenario.open_max:
            journeys.samples.count("dropped_iterations")
            continue
        phase = schedule.phase_at(scenario.phases, due_s)
        arrival = Arrival(index, began_s + due_s, asked(index, model, run_seed), {"phase": phase} if phase else {})
        task = asyncio.create_task(journeys.arrive(arrival))
        opened.add(task)
        task.add_done_callback(close)
    if opened:
        await asyncio.wait(opened, timeout=STREAM_MAX_S + ENDED_WITHIN_S)
    for task in opened:
        task.cancel()
        journeys.samples.check("every arrival comes to an end", False)
        journeys.samples.rate("broken", True)
    if mistakes:
        raise mistakes[0]


async def run(scenario, points, environment):
    """Makes the run; returns its summary."""
    clock_ms = (time.time() - time.monotonic()) * 1000
    samples = sampled.Samples(points, lambda: clock_ms + time.monotonic() * 1000)
    urls, model = environment["LOAD_URLS"].split(","), environment.get("MODEL") or MODEL
    connector = aiohttp.TCPConnector(limit=0)
    try:
        async with aiohttp.ClientSession(
            connector=connector, cookie_jar=aiohttp.DummyCookieJar(), headers={"user-agent": "infera-load"}
        ) as session:
            journeys = Journeys(session, urls, environment["INFERA_API_KEY"], samples)
            await look(journeys, scenario, model)
            await arrive(journeys, scenario, model)
        return samples.summary(scenario.thresholds)
    finally:
        samples.close()


def main():
    """Runs the scenario that is named."""
    parser = argparse.ArgumentParser(prog="streams", description="Runs one scenario of streams; use `make load`.")
    parser.add_argument("scenario", choices=scenarios.NAMES)
    parser.add_argument("points", help="where samples go")
    arguments = parser.parse_args()
    try:
        summary = asyncio.run(run(scenarios.scenario(arguments.scenario, os.environ), arguments.points, os.environ))
    except (Unfit, scenarios.NoNumber) as error:
        sys.exit(f"streams: {error}")
    sampled.write_summary(os.environ["SUMMARY"], summary)
    sys.exit(0 if sampled.is_kept(summary) else THRESHOLD_BROKEN)


if __name__ == "__main__":
    main()
