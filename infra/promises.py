"""The promises that smoke tests and campaigns check, and the tally of those kept and broken.

Smoke tests hold one promise after the other (`Tally.hold`). The kill and the chaos campaign hold the promises below against
what they left (`evidence.Evidence`). No check asks a server or uses code of the programs. Standard library only.
"""

EXAMPLE_MAX = 600  # characters of an example that are printed


class Tally:
    """Counts the breaches of each promise."""

    def __init__(self, campaign):
        """`campaign`: the word at the beginning of each line that is printed."""
        self.campaign = campaign
        self.breaches, self.examples, self.figures = {}, {}, {}

    def count(self, promise, broken, example=None):
        """Adds breaches of a promise. A count of zero is kept too: it tells that the promise was checked."""
        self.breaches[promise] = self.breaches.get(promise, 0) + int(broken)
        if broken and promise not in self.examples:
            self.examples[promise] = example

    def each(self, promise, items, is_broken):
        """Counts the items that break a promise."""
        broken = [item for item in items if is_broken(item)]
        self.count(promise, len(broken), broken[0] if broken else None)

    def hold(self, promise, is_kept, found=""):
        """Counts a promise that is checked once, and prints it at once if it is broken."""
        if promise in self.breaches:
            # The sum would lose one of them.
            raise ValueError(f"two promises have the same name: {promise}")
        self.count(promise, not is_kept, found)
        if not is_kept:
            print(f"{self.campaign}: broken: {promise}: {getattr(found, 'text', found)}")

    def figure(self, name, value):
        """Keeps a number for the table that is no promise."""
        self.figures[name] = value

    @property
    def broken(self):
        """The number of promises that are broken."""
        return sum(count > 0 for count in self.breaches.values())

    @property
    def kept(self):
        """The number of promises that were checked and are not broken."""
        return len(self.breaches) - self.broken

    def print_table(self):
        """Prints each promise with its number of breaches and the first example, then the figures."""
        width = max(map(len, self.breaches))
        for promise, count in self.breaches.items():
            print(f"  {promise:<{width}}  {count}")
            if count and self.examples.get(promise) is not None:
                print(f"    the first: {str(self.examples[promise])[:EXAMPLE_MAX]}")
        for name, value in self.figures.items():
            print(f"  ({name}: {value})")

    def print_sum(self):
        """Prints the line that test runs add up; returns the exit status, which is 1 if a promise is broken."""
        print(f"{self.campaign}: {self.kept} promises kept, {self.broken} broken")
        return 1 if self.broken else 0


def told_jobs(evidence):
    """Returns the ids of the jobs that the client was told, by the number of its request."""
    told = {}
    for line in evidence.history:
        if line["phase"] == "ok":
            told.setdefault(line["index"], set()).add(line["job"])
    return told


def offered(evidence):
    """Returns the numbers of the requests that the client sent."""
    return {line["index"] for line in evidence.history if line["phase"] == "invoke"}


def check_answers(evidence, tally):
    """Checks what the gateways answered, whatever was broken behind them."""
    told = told_jobs(evidence)
    refusals = [line for line in evidence.history if line["phase"] == "fail" and "status" in line]
    later = [line for line in refusals if line["status"] in (429, 503)]
    tally.each("429 or 503 without Retry-After", later, lambda line: not line.get("retry_after"))
    tally.each("answers other than 200, 429, 503", refusals, lambda line: line["status"] not in (429, 503))
    tally.each("one key, two jobs", told.items(), lambda one: len(one[1]) > 1)
    keys = {}
    for index, jobs in told.items():
        for job in jobs:
            keys.setdefault(job, set()).add(index)
    tally.each("two keys, one job", keys.items(), lambda one: len(one[1]) > 1)


def check_ends(evidence, tally):
    """Checks that every accepted job is in the ledger and has exactly one end, and that every job there was submitted."""
    accepted = sorted(set().union(*told_jobs(evidence).values()))
    ended = {one.job: one for one in evidence.settlements}
    tally.count("ended twice", len(evidence.settlements) - len(ended))
    tally.each("accepted and never ended", accepted, lambda job: job not in ended)
    asked = offered(evidence)
    by_seed = {}
    for job in evidence.jobs:
        by_seed.setdefault(job.seed, []).append(job.id)
    tally.each("in the ledger and never ended", evidence.jobs, lambda job: not job.has_ended or job.id not in ended)
    tally.each("jobs that were never submitted", evidence.jobs, lambda job: job.seed not in asked)
    tally.each("one key, two jobs", by_seed.items(), lambda one: len(one[1]) > 1)
    in_ledger = {job.id for job in evidence.jobs}
    tally.each("accepted and not in the ledger", accepted, lambda job: job not in in_ledger)
    tally.each("ended and never accepted", sorted(ended), lambda job: job not in in_ledger)
    shown = {one.job: one.end["status"] for one in evidence.settlements}
    told = [line for line in evidence.history if line["phase"] == "end"]
    tally.each("a gateway told another end than the ledger's", told, lambda line: line["end"] != shown.get(line["job"]))


def check_collected(evidence, tally):
    """Checks that a client that collected the results by cursor, whatever was broken, was given each end once."""
    ended = {one.job: one.end["status"] for one in evidence.settlements}
    collected = [line for line in evidence.history if line["phase"] == "collected"]
    times = {}
    for line in collected:
        times[line["job"]] = times.get(line["job"], 0) + 1
    tally.each("results left an end out", sorted(ended), lambda job: job not in times)
    tally.each("results gave an end twice", times.items(), lambda one: one[1] > 1)
    tally.each("results gave another end than the ledger's", collected, lambda line: line["end"] != ended.get(line["job"]))


def billed(end):
    """Returns the tokens of prompt and answer that an account owes for an end; None if it owes nothing."""
    if end["status"] == "succeeded":
        # What a client was shown otherwise before its verifier died costs nothing.
        if end["verification"].get("status") == "disputed":
            return 0, 0
        return end["answer"]["prompt_tokens"], len(end["answer"]["tokens"])
    delivered = end.get("delivered")
    return delivered and (delivered["prompt_tokens"], delivered["tokens"])


def check_postings(evidence, tally):
    """Checks that the usage of each answer, and of each part of one that a client had which hung up, is posted once and right, and
    that each assignment of each group has one verdict. A node has only one VALID for a job: work that another verifier paid, or
    that was paid for another answer, is not paid again.

    Returns the postings that no settlement and no group accounts for.
    """
    names = [one.id for one in evidence.postings]
    tally.count("posted twice", len(names) - len(set(names)))
    posted = {one.id: one for one in evidence.postings}

    def is_unpaid(one):
        name = f"usage:{one.job}"
        entry = posted[name].entry if name in posted else {}
        return (entry.get("prompt_tokens"), entry.get("completion_tokens")) != billed(one.end)

    owing = [one for one in evidence.settlements if billed(one.end)]
    tally.each("usage owed and not posted, or wrong", owing, is_unpaid)
    tally.each("groups never closed", evidence.groups, lambda group: not group.is_closed)
    judged = [(group.job, one) for group in evidence.groups for one in group.assignments]
    paid = {(one.job, one.entry["node"]) for one in evidence.postings if one.entry.get("verdict") == "valid"}

    def is_unjudged(pair):
        job, (name, node, *_) = pair
        return f"verdict:{name}" not in posted and (job, node) not in paid

    tally.each("verdict owed and not posted", judged, is_unjudged)
    owed = {f"usage:{one.job}" for one in owing} | {f"verdict:{one[0]}" for _, one in judged}
    # A node that began an assignment again missed once for each time, of which the group on record says nothing.
    again = {f"rerun:{one[0]}" for _, one in judged}
    check_pay(evidence, tally)
    check_balances(evidence, tally)
    return [one for name, one in posted.items() if name not in owed and name.rpartition(":")[0] not in again]


def check_pay(evidence, tally):
    """Checks that valid work is paid, other work is not, and no node is paid for two assignments of one job.

    A node that told what a client had which hung up is paid for that part without a verdict on its answer.
    """
    told = {f"verdict:{name}" for one in evidence.settlements for name in one.end.get("delivered", {}).get("agreed", ())}
    verdicts = [one for one in evidence.postings if one.entry["kind"] == "verdict"]
    valid = [one for one in verdicts if one.entry["verdict"] == "valid"]
    tally.each("honest work judged invalid", verdicts, lambda one: one.entry["verdict"] == "invalid")

    def is_unearned(one):
        earns = one.entry["verdict"] == "valid" or (one.entry["verdict"] == "inconclusive" and one.id in told)
        return one.entry["millipoints"] != 0 and not earns

    tally.each("paid, and not valid", verdicts, is_unearned)
    tally.each("valid work that earned nothing", valid, lambda one: one.entry["millipoints"] <= 0)
    tally.count("a node paid twice for a job", len(valid) - len({(one.job, one.entry["node"]) for one in valid}))


def check_balances(evidence, tally):
    """Checks that each balance is the sum of its postings."""
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


def check_groups(evidence, tally, asked):
    """Checks that nodes and owners differ within a group, two owners at least gave an answer, and honest nodes agree.

    `asked`: the states of the assignments that must go to different nodes and owners.
    """
    succeeded = {one.job for one in evidence.settlements if one.word == "succeeded"}

    def is_doubled(group, column):
        found = [one[column] for one in group.assignments if one[3] in asked]
        return len(set(found)) != len(found)

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


def check_archive(evidence, tally):
    """Checks that each ended job has one record where the ledger says, with its hash, and that record and ledger agree."""
    ends = {one.job: one.end for one in evidence.settlements}
    posted = {one.id: one.entry for one in evidence.postings}
    known = set(evidence.keys.values())
    tally.each("objects that the ledger doesn't know", evidence.objects, lambda key: key not in known)

    def is_different(pair):
        place, record = pair
        is_same = record.sha256 == place.sha256 and record.job == place.job and record.end == ends.get(place.job)
        return not is_same or any(posted.get(name) != entry for name, entry in record.entries.items())

    found = [(place, record) for place in evidence.records if (record := evidence.archived(place)) is not None]
    seen = {place.job for place, _ in found}
    wanted = sorted(set(ends) | {place.job for place in evidence.records})
    tally.each("archive record missing", wanted, lambda job: job not in seen)
    tally.each("archive record different", found, is_different)
    tally.count("a job archived twice", len(evidence.records) - len({place.job for place in evidence.records}))
    archived = sum(len(record.entries) for _, record in found)
    tally.figure("postings that came after their job was archived", len(posted) - archived)
