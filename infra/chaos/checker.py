"""Holds what a campaign left against what is promised: the client's log, the ledger and the archive against each other.

    python -m chaos.checker FOLDER

It asks no server and uses no code of the programs. Each promise has one number: how often it was broken.
"""

import functools
import hashlib
import json
import sys

import zstandard

from .evidence import Evidence

# An end that comes by the deadline is found by a sweeper that looks every second and may first have to get its lease.
END_GRACE_MS = 15_000
# So long after a fault's end everything that it held up must be over.
AFTER_HEAL_MS = 120_000
SUCCEEDED_MIN = 0.99
# Jobs that end like this are ours to mend, whatever was broken meanwhile.
NEVER = ("poison", "no_consensus")


class Tally:
    """Counts breaches by promise, and keeps the first example of each."""

    def __init__(self):
        self.breaches, self.examples, self.figures = {}, {}, {}

    def count(self, promise, broken, example=None):
        """Adds breaches of one promise, none included: what was looked at is told too."""
        self.breaches[promise] = self.breaches.get(promise, 0) + int(broken)
        if broken and promise not in self.examples:
            self.examples[promise] = example

    def each(self, promise, items, is_broken):
        """Counts those of the items that break a promise."""
        broken = [item for item in items if is_broken(item)]
        self.count(promise, len(broken), broken[0] if broken else None)

    def figure(self, name, value):
        """Something worth telling that is no promise."""
        self.figures[name] = value

    @property
    def broken(self):
        """How many promises are broken."""
        return sum(count > 0 for count in self.breaches.values())


def accepted_jobs(evidence):
    """The client's view: the jobs that it was told for each request."""
    told = {}
    for line in evidence.history:
        if line["phase"] == "ok":
            told.setdefault(line["index"], set()).add(line["job"])
    return told


def check_answers(evidence, tally):
    """What gateways said, whatever was broken behind them."""
    told = accepted_jobs(evidence)
    offered = {line["index"] for line in evidence.history if line["phase"] == "invoke"}
    refusals = [line for line in evidence.history if line["phase"] == "fail" and "status" in line]
    later = [line for line in refusals if line["status"] in (429, 503)]
    tally.each("429 or 503 without Retry-After", later, lambda line: not line.get("retry_after"))
    tally.each("answers other than 200, 429, 503", refusals, lambda line: line["status"] not in (429, 503))
    tally.each("one key, two jobs", told.items(), lambda one: len(one[1]) > 1)
    tally.figure("offered", len(offered))
    tally.figure("offered, never accepted", len(offered - set(told)))


def check_ends(evidence, tally):
    """Accepted means ended, once, in time; nothing ended that nobody asked for."""
    told = accepted_jobs(evidence)
    accepted = set().union(*told.values())
    ended = {one.job: one for one in evidence.settlements}
    tally.count("ended twice", len(evidence.settlements) - len(ended))
    tally.each("accepted and never ended", sorted(accepted), lambda job: job not in ended)
    asked = {line["index"] for line in evidence.history if line["phase"] == "invoke"}
    by_seed = {}
    for job in evidence.jobs:
        by_seed.setdefault(job.seed, []).append(job.id)
    tally.each("in the ledger and never ended", evidence.jobs, lambda job: job.state != 2 or job.id not in ended)
    tally.each("jobs that nobody submitted", evidence.jobs, lambda job: job.seed not in asked)
    tally.each("one key, two jobs", by_seed.items(), lambda one: len(one[1]) > 1)
    in_ledger = {job.id for job in evidence.jobs}
    tally.each("accepted and not in the ledger", sorted(accepted), lambda job: job not in in_ledger)
    tally.each("ended and never accepted", sorted(ended), lambda job: job not in in_ledger)
    check_words(evidence, tally)
    check_times(evidence, tally, ended)


def check_words(evidence, tally):
    """How jobs ended: nearly all with an answer, and every other end has its cause."""
    words = {}
    for one in evidence.settlements:
        words[one.word] = words.get(one.word, 0) + 1
    for word in NEVER:
        tally.count(f"ended as {word}", words.get(word, 0))
    share = words.get("succeeded", 0) / max(len(evidence.settlements), 1)
    tally.count(f"succeeded less often than {SUCCEEDED_MIN:.0%}", share < SUCCEEDED_MIN, f"{share:.3%}")
    tally.figure("ends", dict(sorted(words.items())))
    shown = {one.job: one.end["status"] for one in evidence.settlements}
    told = [line for line in evidence.history if line["phase"] == "end"]
    tally.each("told another end than the ledger's", told, lambda line: line["end"] != shown.get(line["job"]))


def check_times(evidence, tally, ended):
    """Each end comes by the deadline, or so long after the heal of the last fault that began before the deadline."""

    def latest(job):
        heals = [fault["healed_ms"] for fault in evidence.faults if fault["began_ms"] <= job.deadline_ms]
        return max(job.deadline_ms + END_GRACE_MS, max(heals, default=0) + AFTER_HEAL_MS)

    both = [(job, ended[job.id]) for job in evidence.jobs if job.id in ended]
    tally.each("ended too late", both, lambda pair: pair[1].settled_ms > latest(pair[0]))
    expired = [pair for pair in both if pair[1].word == "expired"]
    tally.each("expired before its deadline", expired, lambda pair: pair[1].settled_ms < pair[0].deadline_ms)


def check_postings(evidence, tally):
    """Each answer's usage once and right; one verdict for each assignment of each group, but one VALID for each node of a
    job: who was paid for it by another verifier, or for another answer, has that one."""
    names = [one.id for one in evidence.postings]
    tally.count("posted twice", len(names) - len(set(names)))
    posted = {one.id: one for one in evidence.postings}

    def is_unpaid(one):
        answer, name = one.end["answer"], f"usage:{one.job}"
        entry = posted[name].entry if name in posted else {}
        tokens = (entry.get("prompt_tokens"), entry.get("completion_tokens"))
        return tokens != (answer["prompt_tokens"], len(answer["tokens"]))

    succeeded = [one for one in evidence.settlements if one.word == "succeeded"]
    tally.each("usage owed and not posted, or wrong", succeeded, is_unpaid)
    tally.each("groups never closed", evidence.groups, lambda group: not group.is_closed)
    judged = [(group.job, one) for group in evidence.groups for one in group.assignments]
    paid = {(one.job, one.entry["node"]) for one in evidence.postings if one.entry.get("verdict") == "valid"}

    def is_unjudged(pair):
        job, (name, node, *_) = pair
        return f"verdict:{name}" not in posted and (job, node) not in paid

    tally.each("verdict owed and not posted", judged, is_unjudged)
    owed = {f"usage:{one.job}" for one in succeeded} | {f"verdict:{one[0]}" for _, one in judged}
    check_outside(evidence, tally, posted, owed)
    check_pay(evidence, tally)
    check_balances(evidence, tally)


def check_outside(evidence, tally, posted, owed):
    """What was posted beyond that: work for a verifier that lost the job to another one while it had it. It is owed too,
    but only for jobs that had two verifiers."""
    ended = {one.job for one in evidence.settlements}
    others = [one for name, one in posted.items() if name not in owed]
    tally.each("posted and not owed", others, lambda one: one.entry["kind"] != "verdict" or one.job not in ended)
    tally.figure("verdicts on work for a verifier that lost the job to another", len(others))


def check_pay(evidence, tally):
    """Work is paid, and once: no node is paid for two assignments of one job."""
    verdicts = [one for one in evidence.postings if one.entry["kind"] == "verdict"]
    valid = [one for one in verdicts if one.entry["verdict"] == "valid"]
    tally.each("honest work judged invalid", verdicts, lambda one: one.entry["verdict"] == "invalid")
    tally.each("paid, and not valid", verdicts, lambda one: one.entry["verdict"] != "valid" and one.entry["millipoints"] != 0)
    tally.each("valid work that earned nothing", valid, lambda one: one.entry["millipoints"] <= 0)
    tally.count("a node paid twice for a job", len(valid) - len({(one.job, one.entry["node"]) for one in valid}))


def check_balances(evidence, tally):
    """Balances are their postings, folded anew."""
    expected = {}
    for one in evidence.postings:
        entry = one.entry
        sums = expected.setdefault(entry.get("account") or entry.get("node"), [0, 0, 0, 0])
        sums[3] += 1
        if entry["kind"] == "usage":
            sums[1] += entry["prompt_tokens"]
            sums[2] += entry["completion_tokens"]
        else:
            sums[0] += entry["millipoints"]
            sums[2] += entry["tokens"] if entry["verdict"] == "valid" else 0
    found = {subject: list(sums) for subject, *sums in evidence.balances}
    different = [s for s in {*expected, *found} if expected.get(s) != found.get(s)]
    example = [(subject, expected.get(subject), found.get(subject)) for subject in different[:1]]
    tally.count("balances that don't follow from the postings", len(different), example)


def check_groups(evidence, tally):
    """Nodes and owners differ within a group; two owners at least stand behind an answer; nobody quarrels."""
    succeeded = {one.job for one in evidence.settlements if one.word == "succeeded"}

    # Who was silent may be asked again for want of others.
    def is_doubled(group, column):
        asked = [one[column] for one in group.assignments if one[3] in ("open", "answered")]
        return len(set(asked)) != len(asked)

    def owners_behind(group):
        return {owner for _, _, owner, state in group.assignments if state == "answered"}

    tally.each("a node twice in a group", evidence.groups, lambda group: is_doubled(group, 1))
    tally.each("an owner twice in a group", evidence.groups, lambda group: is_doubled(group, 2))
    answers = [group for group in evidence.groups if group.job in succeeded]
    tally.each("settled with fewer than two owners", answers, lambda group: len(owners_behind(group)) < 2)
    grouped = {group.job for group in evidence.groups}
    tally.count("a job with two groups", len(evidence.groups) - len(grouped))
    tally.each("an answer without a group", sorted(succeeded), lambda job: job not in grouped)
    tally.each("disputes among honest nodes", evidence.disputes, lambda _: True)


@functools.cache
def frame_lines(frame):
    """(SHA-256, what is compared) of each record of a frame; kept, because the sabotages ask again and again."""
    try:
        text = zstandard.ZstdDecompressor().decompressobj().decompress(frame)
    except zstandard.ZstdError:
        return []
    found = []
    for line in text.split(b"\n")[:-1]:
        try:
            record = json.loads(line)
            shown = (record["job_id"], record["settlement"]["end"], {one["id"]: one["entry"] for one in record["postings"]})
        except (ValueError, KeyError):
            shown = (None, None, {})
        found.append((hashlib.sha256(line).hexdigest(), shown))
    return found


def check_archive(evidence, tally):
    """One record per ended job, where the ledger says, with its hash, saying what the ledger says."""
    keys = dict(evidence.segments)
    ends = {one.job: one.end for one in evidence.settlements}
    posted = {one.id: one.entry for one in evidence.postings}
    tally.each("objects that the ledger doesn't know", evidence.objects, lambda key: key not in keys.values())

    def recorded(place):
        """The record's hash and what it says; None where there is none."""
        data = evidence.objects.get(keys.get(place.segment), b"")
        lines = frame_lines(data[place.offset : place.offset + place.length]) if place.line >= 0 else []
        return lines[place.line] if place.line < len(lines) else None

    def is_different(found):
        place, (digest, (job, end, entries)) = found
        is_same = digest == place.sha256 and job == place.job and end == ends.get(place.job)
        return not is_same or any(posted.get(name) != entry for name, entry in entries.items())

    found = [(place, record) for place in evidence.records if (record := recorded(place)) is not None]
    seen = {place.job for place, _ in found}
    tally.each("archive record missing", sorted(set(ends) | {place.job for place in evidence.records}), lambda job: job not in seen)
    tally.each("archive record different", found, is_different)
    tally.count("a job archived twice", len(evidence.records) - len({place.job for place in evidence.records}))
    archived = sum(len(entries) for _, (_, (_, _, entries)) in found)
    tally.figure("postings that came after their job was archived", len(posted) - archived)


def check(evidence, tally=None):
    """Every promise."""
    tally = tally or Tally()
    for part in (check_answers, check_ends, check_postings, check_groups, check_archive):
        part(evidence, tally)
    return tally


def report(tally):
    """The table: each promise and how often it was broken, then what else there is to know."""
    width = max(map(len, tally.breaches))
    for promise, count in tally.breaches.items():
        print(f"  {promise:<{width}}  {count}")
        if count and tally.examples.get(promise) is not None:
            print(f"    the first: {str(tally.examples[promise])[:600]}")
    for name, value in tally.figures.items():
        print(f"  ({name}: {value})")


def main():
    """Checks a folder that a campaign left."""
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    tally = check(Evidence.load(sys.argv[1]))
    report(tally)
    print(f"chaos: {len(tally.breaches) - tally.broken} promises kept, {tally.broken} broken")
    sys.exit(1 if tally.broken else 0)


if __name__ == "__main__":
    main()
