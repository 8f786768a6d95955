"""Reads the packed rows of the ledger: groups, settlements and postings, as `core/ledger/src/stored/packing.rs` writes them.

Rows of before are text and are returned as they are. Written from the description there, and not by its code.
"""

import json
import struct
from pathlib import Path

import zstandard

DICTIONARY = Path(__file__).parent.parent / "core/ledger/src/stored/packing/dictionary.1.txt"
CONTENT_MAX_BYTES = 1 << 28
VERDICTS = {1: "valid", 2: "invalid", 3: "inconclusive", 4: "missed", 5: "neutral"}


class Bytes:
    """Reads one thing after the other."""

    def __init__(self, content):
        self.content, self.at = content, 0

    def take(self, count):
        """Returns the next bytes."""
        found = self.content[self.at : self.at + count]
        if len(found) < count:
            raise ValueError("the row is cut off")
        self.at += count
        return found

    def whole(self):
        """Returns a whole number, of which each byte has seven bits, lowest first."""
        number, shift = 0, 0
        while True:
            (byte,) = self.take(1)
            number |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                return number

    def name(self):
        """Returns a name: its letters, and 32 hexadecimal digits if the length is odd."""
        length = self.whole()
        letters = self.take(length // 2).decode()
        return letters + self.take(16).hex() if length % 2 else letters

    def tokens(self):
        """Returns tokens."""
        self.take(1)
        return [self.whole() for _ in range(self.whole())]


def content(row):
    """Returns the content of a packed row."""
    rest = Bytes(row)
    if rest.take(1) != b"\x01":
        raise ValueError("the row is of a form that is not known")
    length = rest.whole()
    words = zstandard.ZstdCompressionDict(DICTIONARY.read_bytes(), dict_type=zstandard.DICT_TYPE_RAWCONTENT)
    found = zstandard.ZstdDecompressor(dict_data=words).decompress(rest.content[rest.at :], max_output_size=CONTENT_MAX_BYTES)
    if len(found) != length:
        raise ValueError("the row has another length than it says")
    return Bytes(found)


def is_packed(row):
    """Whether a row is packed, and not text."""
    return isinstance(row, bytes) and row[:1] == b"\x01"


def group_text(row):
    """Returns a group's JSON, without its replicas' tokens and numbers if it is packed; none if it is empty."""
    if not is_packed(row):
        return row.decode() if isinstance(row, bytes) else row
    found = content(row)
    return found.take(found.whole()).decode()


def settlement_text(row):
    """Returns a settlement's JSON, without its answer's numbers if it is packed."""
    if not is_packed(row):
        return row
    found = content(row)
    settlement = json.loads(found.take(found.whole()))
    if "answer" in settlement["end"]:
        settlement["end"]["answer"]["tokens"] = found.tokens()
    return json.dumps(settlement)


def end(row):
    """Returns how a job ended, of a settlement."""
    return json.loads(settlement_text(row))["end"]


def posting_id(row):
    """Returns a posting's id."""
    if not isinstance(row, bytes):
        return row
    kind, number = struct.unpack("B16s", row)
    return {1: "usage:job_", 2: "verdict:asg_"}[kind] + number.hex()


def entry(row, valid_node):
    """Returns a posting's content. `valid_node` is the row's own column, as bytes or as text."""
    if not isinstance(row, bytes):
        return json.loads(row)
    rest = Bytes(row)
    version, kind = rest.take(2)
    if version != 1 or kind not in (1, 2):
        raise ValueError("the posting is of a form that is not known")
    if kind == 1:
        return {"kind": "usage", "account": rest.name(), "prompt_tokens": rest.whole(), "completion_tokens": rest.whole()}
    verdict, flags = rest.take(2)
    own = Bytes(valid_node).name() if isinstance(valid_node, bytes) else valid_node
    node, model, points = rest.name() if flags & 8 else own, rest.name(), rest.whole()
    found = {"kind": "verdict", "node": node, "model": model, "verdict": VERDICTS[verdict]}
    found |= {"millipoints": (points >> 1) ^ -(points & 1), "elapsed_ms": rest.whole(), "tokens": rest.whole()}
    found |= {"on_time": flags & 1 != 0, "numbers_outside": flags & 2 != 0}
    return found | ({"is_for_chosen_nodes": True} if flags & 4 else {})


def add_functions(ledger):
    """Gives a connection to SQLite functions that return the text of packed rows."""
    ledger.create_function("plain_group", 1, group_text, deterministic=True)
    ledger.create_function("plain_settlement", 1, settlement_text, deterministic=True)
    ledger.create_function("plain_id", 1, posting_id, deterministic=True)
