"""What came of one stream: its events, heard one at a time, and what is wrong with them. It asks nobody and reads no clock."""

import json
import re

JOB_ID = re.compile(r"job_[0-9a-f]{32}")
# A stream that names more answers than were asked for is wrong, and doesn't make this hold more.
ANSWERS_MAX = 16

# The sentences that each stream is held to, whatever it was asked. A stream begins with all kept.
SENTENCES = (
    "stream: every event is JSON of a chunk's shape",
    "stream: [DONE] or an error is the last event",
    "stream: chunks of the model asked for, under one id",
    "stream: each answer begins with its role",
    "stream: nothing follows an answer's end",
)


class Transcript:
    """The events of one stream."""

    def __init__(self, model):
        self.model = model
        self.texts, self.roles, self.ends, self.text_at = {}, set(), {}, {}
        self.gaps_s, self.id = [], None
        self.first_text_s = self.last_text_s = self.usage = self.error = None
        self.usages, self.events = 0, 0
        self.is_done = False
        self.wrong = set()

    @property
    def has_ended(self):
        """Whether the last event of a stream came."""
        return self.is_done or self.error is not None

    def hear(self, data, at_s):
        """Takes the data of one event, which came at a moment of any clock."""
        self.events += 1
        if self.has_ended:
            self.wrong.add(SENTENCES[1])
            return
        if data == "[DONE]":
            self.is_done = True
            return
        try:
            self.hear_chunk(json.loads(data), at_s)
        except (ValueError, AttributeError, TypeError):
            # No JSON, or JSON of another shape than a chunk's.
            self.wrong.add(SENTENCES[0])

    def hear_chunk(self, chunk, at_s):
        """Takes a chunk, or the error in its place."""
        if "error" in chunk:
            self.error = chunk
            return
        self.id = self.id or chunk.get("id")
        if (chunk.get("object"), chunk.get("model"), chunk.get("id")) != ("chat.completion.chunk", self.model, self.id):
            self.wrong.add(SENTENCES[2])
        if chunk.get("usage") is not None:
            self.usages += 1
            self.usage = chunk["usage"]
        for choice in chunk.get("choices", []):
            self.hear_choice(chunk, choice, at_s)

    def hear_choice(self, chunk, choice, at_s):
        """Takes an answer's part of a chunk."""
        index, delta = choice.get("index"), choice.get("delta") or {}
        if index in self.ends or not isinstance(index, int) or not 0 <= index < ANSWERS_MAX:
            self.wrong.add(SENTENCES[4])
            return
        if delta.get("role") == "assistant":
            self.roles.add(index)
        elif index not in self.roles:
            self.wrong.add(SENTENCES[3])
        text = delta.get("content")
        if text:
            self.texts[index] = self.texts.get(index, "") + text
            if index in self.text_at:
                self.gaps_s.append(at_s - self.text_at[index])
            self.text_at[index] = at_s
            self.first_text_s = at_s if self.first_text_s is None else self.first_text_s
            self.last_text_s = at_s
        if choice.get("finish_reason") is not None:
            self.ends[index] = {**choice, "whole": chunk}

    def job(self):
        """Returns the id of the stream's job, which its chunks name; None before the first."""
        name = f"job_{str(self.id).removeprefix('chatcmpl-')}"
        return name if JOB_ID.fullmatch(name) else None

    def token_count(self):
        """Returns how many tokens the usage tells; None without one."""
        return (self.usage or {}).get("completion_tokens")

    def end(self):
        """Notes what only the end of the body shows."""
        if not self.has_ended:
            self.wrong.add(SENTENCES[1])
