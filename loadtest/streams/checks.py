"""What must hold of a stream, each under a sentence. Pure: a transcript and what was asked go in, and (sentence, whether it holds)
pairs come out.
"""

from streams.transcript import JOB_ID, SENTENCES

# The end that a stream is counted under, by the code of its error event; all others are `failed`.
ENDS_OF_CODES = {"stream_overturned": "overturned", "stream_too_slow": "cut off"}
# Verification's words that an answer may have under a quorum of several.
VERDICTS = ("verified", "disputed")


def is_text(value):
    """Whether a value is a text with something in it."""
    return isinstance(value, str) and value != ""


def every_stream(heard):
    """Yields what holds of each stream that began, however it ended."""
    for sentence in SENTENCES:
        yield sentence, sentence not in heard.wrong


def error_event(heard):
    """Yields what holds of an error event."""
    about = heard.error.get("error") or {}
    yield "error events: a code, a message and the job", (
        is_text(about.get("code")) and is_text(about.get("message")) and JOB_ID.fullmatch(str(heard.error.get("job_id"))) is not None
    )


def whole(heard, asked):
    """Yields what holds of a stream that ended with [DONE]."""
    indices = set(range(asked.n))
    ends = [heard.ends.get(index, {}) for index in sorted(indices)]
    yield "answer: each has text and an end", (
        set(heard.ends) == indices and set(heard.texts) == indices and all(end.get("finish_reason") in ("stop", "length") for end in ends)
    )
    last = (ends[-1] or {}).get("whole", {})
    yield "answer: ids belong together", heard.job() is not None and last.get("job_id") == heard.job()
    yield from verification(last.get("verification") or {}, asked)
    yield "usage: told once, if it was asked for", heard.usages == (1 if asked.has_usage else 0)
    if asked.has_usage:
        usage = heard.usage or {}
        prompt, completion = usage.get("prompt_tokens", 0), usage.get("completion_tokens", 0)
        yield "usage: prompt and completion are counted", prompt > 0 and 0 < completion <= asked.n * asked.tokens_max
        yield "usage: the total is their sum", usage.get("total_tokens") == prompt + completion
        if asked.has_token_ids:
            # An answer that ends by itself has an end token, which is counted and not shown.
            told = sum(len(end.get("token_ids") or []) for end in ends)
            yield "usage: as many tokens as came", completion == told


def verification(about, asked):
    """Yields what holds of the verdict in an answer's last chunk."""
    replicas = about.get("replicas") or {}
    answered, agreed = replicas.get("answered", 0), replicas.get("agreed", 0)
    yield "verification: status is verified", about.get("status") == "verified"
    yield "verification: 3 of 3 replicas were asked", replicas.get("asked") == 3
    yield "verification: the quorum answered and agreed", asked.quorum <= agreed <= answered <= 3


def same_unstreamed(heard, completion):
    """Yields whether a stream is the same answer as one unstreamed, under the same seed."""
    choices = {choice.get("index"): choice for choice in completion.get("choices", [])}
    texts = {index: (choice.get("message") or {}).get("content") for index, choice in choices.items()}
    ends = {index: choice.get("finish_reason") for index, choice in choices.items()}
    yield "same seed unstreamed: the same text", texts == heard.texts
    yield "same seed unstreamed: the same ends", ends == {index: end.get("finish_reason") for index, end in heard.ends.items()}
    if heard.usage is not None:
        told = (completion.get("usage") or {}).get("completion_tokens")
        yield "same seed unstreamed: as many tokens", told == heard.token_count()


def refusal(status, retry_after, body):
    """Yields whether a refusal is honest; nothing if it is none: 429 or 503, when to come back, and a reason for programs."""
    if status in (429, 503):
        reason = body.get("detail") or (body.get("error") or {}).get("code")
        yield "refusals: Retry-After and a reason", str(retry_after or "").isdigit() and is_text(reason)


def end_of(heard):
    """Returns what a stream with a proper end came to: verified, disputed, …, or by its error event."""
    if heard.error is not None:
        return ENDS_OF_CODES.get((heard.error.get("error") or {}).get("code"), "failed")
    statuses = [((end.get("whole") or {}).get("verification") or {}).get("status") for end in heard.ends.values()]
    return next((status for status in statuses if status != "verified"), statuses[0] if statuses else None) or "broken"
