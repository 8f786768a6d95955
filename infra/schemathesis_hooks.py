"""Hooks of schemathesis: what would make a good request fail for a reason that no schema can tell."""

import itertools
import json
import os
import urllib.request

import schemathesis

# The model that is served. Other names are tried too: the shortest ones are left alone.
SERVED = "infera-tiny"
numbers = itertools.count()
# The ids of the run's own account and key, once they were asked for.
OWN = set()
# An id that no key and no account has.
STRANGE = "acct" + "0" * 32

# A shorter one ends a job on a busy machine before its answer.
CANCEL_AFTER_MIN_S = 60
# The longest answer that is asked for, and the longest that may be (`gateway.max_tokens_max`).
LONGEST = 64
LENGTH_MAX = 8_192
# Their jobs are answered later; the form is that of a chat completion.
NEVER_STREAMED = ("/submit_job", "/v1/jobs")
# A job that is looked at may never end within the time of a request.
WAIT_MAX_S = 1


def name_served(body):
    """Names the served model in a conversation, and in each of a list of jobs."""
    if isinstance(body, dict) and isinstance(body.get("model"), str) and len(body["model"]) > 1 and "messages" in body:
        body["model"] = SERVED
    if isinstance(body, dict) and isinstance(body.get("jobs"), list):
        for job in body["jobs"]:
            name_served(job)


def make_sensible(body):
    """Brings parameters together that bound each other, and asks for short answers and few: only the form is tried here."""
    if isinstance(body, dict) and isinstance(body.get("jobs"), list):
        for job in body["jobs"]:
            make_sensible(job)
    if not isinstance(body, dict) or "messages" not in body:
        return
    longest = LONGEST
    for name in ("max_tokens", "max_output", "max_completion_tokens"):
        if is_count(body.get(name)) and 1 <= body[name] <= LENGTH_MAX:
            body[name] = min(body[name], LONGEST)
            longest = min(longest, body[name])
    if is_count(body.get("min_tokens")) and body["min_tokens"] <= LENGTH_MAX:
        body["min_tokens"] = min(body["min_tokens"], longest)
    if body.get("stream") is not True and isinstance(body.get("stream_options"), dict):
        del body["stream_options"]
    if is_count(body.get("n")) and 2 < body["n"] <= 8:
        body["n"] = 2


def leave_unstreamed(body):
    """Takes the wish for a stream out of a submitted job and of each in a list: that is for chat completions."""
    if isinstance(body, dict):
        for job in [body, *(body["jobs"] if isinstance(body.get("jobs"), list) else [])]:
            if isinstance(job, dict) and job.get("stream") is True:
                del job["stream"]
                job.pop("stream_options", None)


def is_count(value):
    """Whether a value is a whole number: in JSON 64.0 is one too."""
    return isinstance(value, int | float) and not isinstance(value, bool) and value == value // 1


def renew_key(body):
    """Makes the idempotency keys in a body new ones."""
    if isinstance(body, dict):
        if isinstance(body.get("idempotency_key"), str) and body["idempotency_key"]:
            body["idempotency_key"] = f"{body['idempotency_key'][:200]}-{next(numbers)}"
        if isinstance(body.get("jobs"), list):
            for job in body["jobs"]:
                renew_key(job)


@schemathesis.hook
def before_call(context, case, kwargs):
    """Leaves the run's own keys and account alone, names the served model, makes each idempotency key a new one (the same key with
    another body is an error), and asks for no long waits and no short lives of jobs."""
    if is_own(case):
        # Without them all later requests would be refused. Filtering would leave too few: ids are taken from earlier replies.
        case.path_parameters["id"] = STRANGE
    name_served(case.body)
    make_sensible(case.body)
    if case.operation.path in NEVER_STREAMED:
        leave_unstreamed(case.body)
    renew_key(case.body)
    headers, query = case.headers or {}, case.query or {}
    key = headers.get("Idempotency-Key")
    if isinstance(key, str) and key.isascii() and key.isprintable() and key.strip():
        headers["Idempotency-Key"] = f"{key[:200]}-{next(numbers)}"
    after = str(headers.get("Cancel-After", ""))
    if after.isascii() and after.isdecimal() and 0 < int(after) < CANCEL_AFTER_MIN_S:
        headers["Cancel-After"] = str(CANCEL_AFTER_MIN_S)
    wait = str(query.get("wait", ""))
    if wait.isascii() and wait.isdecimal() and int(wait) <= 60:
        query["wait"] = str(min(int(wait), WAIT_MAX_S))


def is_own(case):
    """Whether a request is about the run's own key or account."""
    return case.operation.path.startswith(("/v1/keys/", "/v1/accounts/")) and (case.path_parameters or {}).get("id") in own()


def own():
    """Returns the ids of the run's own account and of its keys."""
    if not OWN:
        request = urllib.request.Request(
            f"{os.environ['INFERA_URL']}/v1/keys", headers={"Authorization": f"Bearer {os.environ['INFERA_API_KEY']}"}
        )
        with urllib.request.urlopen(request, timeout=30) as reply:
            for key in json.load(reply)["data"]:
                if key["hint"] and os.environ["INFERA_API_KEY"].endswith(key["hint"]):
                    OWN.update({key["id"], key["account"]})
    return OWN
