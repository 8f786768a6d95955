"""The promises that both campaigns share, and their tally: sound evidence breaks none, and each fault breaks its own."""

import contextlib
import io
import subprocess
import sys
import unittest
from dataclasses import replace
from pathlib import Path

import promises
from evidence import Ended, Evidence, Posting
from promises import Tally
from sabotage import SABOTAGES, missed
from sample import sound_evidence


def check(evidence):
    """Checks all shared promises; work that nothing accounts for breaks one, as in the kill campaign."""
    tally = Tally("test")
    promises.check_answers(evidence, tally)
    promises.check_ends(evidence, tally)
    promises.check_collected(evidence, tally)
    tally.each("posted and not owed", promises.check_postings(evidence, tally), lambda _: True)
    promises.check_groups(evidence, tally, ("open", "answered"))
    promises.check_archive(evidence, tally)
    return tally


def breaches(evidence):
    """Returns the promises that are broken and how often."""
    return {promise: count for promise, count in check(evidence).breaches.items() if count}


class PromisesTest(unittest.TestCase):
    """Each case names every promise that its fault breaks, and so none that it does not."""

    def setUp(self):
        self.sound = sound_evidence()

    def test_sound_evidence_breaks_nothing(self):
        self.assertEqual(breaches(self.sound), {})

    def test_every_shared_promise_has_a_fault_that_breaks_it(self):
        self.assertEqual(set(check(self.sound).breaches), {promise for promise, _ in SABOTAGES})
        self.assertEqual(missed(self.sound, check, []), [])

    def test_a_check_that_sees_nothing_is_found_out(self):
        self.assertEqual(len(missed(self.sound, lambda _: Tally("blind"), [])), len(SABOTAGES) + 1)

    def test_no_evidence_at_all_breaks_nothing(self):
        empty = Evidence([], [], [], [], [], [], [], [], [], [], {})
        self.assertEqual(breaches(empty), {})

    def test_a_lost_job(self):
        lost = self.sound.jobs[0].id
        jobs = [job for job in self.sound.jobs if job.id != lost]
        ends = [one for one in self.sound.settlements if one.job != lost]
        groups = [one for one in self.sound.groups if one.job != lost]
        records = [one for one in self.sound.records if one.job != lost]
        history = [line for line in self.sound.history if not (line["phase"] in ("end", "collected") and line["job"] == lost)]
        spoilt = replace(self.sound, jobs=jobs, settlements=ends, groups=groups, records=records, history=history)
        postings = [one for one in self.sound.postings if one.job != lost]
        found = breaches(replace(spoilt, postings=postings))
        balances = found.pop("balances that don't follow from the postings")
        self.assertEqual(found, {"accepted and never ended": 1, "accepted and not in the ledger": 1})
        self.assertEqual(balances, 4)  # the account's and three nodes'

    def test_a_job_that_ends_twice(self):
        again = Ended(self.sound.settlements[0].job, 0, {"status": "cancelled"})
        found = breaches(replace(self.sound, settlements=[again, *self.sound.settlements]))
        self.assertEqual(found, {"ended twice": 1})

    def test_a_usage_that_is_posted_twice(self):
        found = breaches(replace(self.sound, postings=[*self.sound.postings, self.sound.postings[0]]))
        self.assertEqual(found, {"posted twice": 1, "balances that don't follow from the postings": 1})

    def test_a_node_that_is_paid_twice(self):
        paid = next(one for one in self.sound.postings if one.entry["kind"] == "verdict")
        again = Posting(99, "verdict:asg_again", paid.job, paid.posted_ms, paid.entry)
        found = breaches(replace(self.sound, postings=[*self.sound.postings, again]))
        wanted = {"posted and not owed", "a node paid twice for a job", "balances that don't follow from the postings"}
        self.assertEqual(set(found), wanted)

    def test_a_client_that_hung_up(self):
        first, group = self.sound.settlements[0], self.sound.groups[0]
        self.assertEqual(first.job, group.job)
        prompt, tokens = promises.billed(first.end)
        names = [one[0] for one in group.assignments[:2]]
        delivered = {"prompt_tokens": prompt, "tokens": tokens, "agreed_tokens": tokens, "agreed": names}
        told = {f"verdict:{name}" for name in names}

        def hung_up(paid, part):
            end = replace(first, end={"status": "cancelled", "delivered": part})
            entry = {"verdict": "inconclusive", "tokens": 0}
            postings = [replace(one, entry={**one.entry, **entry}) if one.id in paid else one for one in self.sound.postings]
            found = breaches(replace(self.sound, settlements=[end, *self.sound.settlements[1:]], postings=postings))
            # What else the sound evidence has of that job tells of an answer.
            for promise in ("a gateway told another end than the ledger's", "results gave another end than the ledger's",
                            "archive record different", "balances that don't follow from the postings"):
                found.pop(promise, None)
            return found

        self.assertEqual(hung_up(told, delivered), {})
        self.assertEqual(hung_up(told, {**delivered, "agreed": names[:1]}), {"paid, and not valid": 1})
        self.assertEqual(hung_up(told, {**delivered, "tokens": tokens + 1}), {"usage owed and not posted, or wrong": 1})

    def test_a_miss_for_a_run_that_began_again_is_accounted_for(self):
        judged = next(one for one in self.sound.postings if one.entry["kind"] == "verdict")
        entry = {**judged.entry, "verdict": "missed", "millipoints": 0, "tokens": 0}
        balances = "balances that don't follow from the postings"
        of_this, of_none = judged.id.replace("verdict:", "rerun:") + ":1", "rerun:asg_other:1"
        for name, wanted in ((of_this, {balances}), (of_none, {balances, "posted and not owed"})):
            again = Posting(99, name, judged.job, judged.posted_ms, entry)
            self.assertEqual(set(breaches(replace(self.sound, postings=[*self.sound.postings, again]))), wanted, name)

    def test_an_answer_that_was_settled_as_disputed_costs_nothing(self):
        first, *others = self.sound.settlements
        disputed = replace(first, end={**first.end, "verification": {"status": "disputed"}})
        found = breaches(replace(self.sound, settlements=[disputed, *others]))
        self.assertEqual(found["usage owed and not posted, or wrong"], 1)

    def test_a_balance_that_is_one_off(self):
        subject, millipoints, *rest = self.sound.balances[1]
        spoilt = [*self.sound.balances[:1], (subject, millipoints + 1, *rest), *self.sound.balances[2:]]
        tally = check(replace(self.sound, balances=spoilt))
        self.assertEqual(tally.broken, 1)
        example = tally.examples["balances that don't follow from the postings"]
        self.assertEqual(example, [(subject, [millipoints, *rest], [millipoints + 1, *rest])])

    def test_a_balance_without_postings(self):
        found = breaches(replace(self.sound, balances=[*self.sound.balances, ("n9", 5, 0, 2, 1)]))
        self.assertEqual(found, {"balances that don't follow from the postings": 1})

    def test_an_owner_twice_counts_where_the_state_was_asked_for(self):
        first = self.sound.groups[0]
        (name, node, _, _), *others = first.assignments
        silent = replace(first, assignments=((name, node, others[0][2], "missed"), *others))
        spoilt = replace(self.sound, groups=[silent, *self.sound.groups[1:]])
        self.assertEqual(breaches(spoilt), {})
        tally = Tally("test")
        promises.check_groups(spoilt, tally, ("open", "answered", "missed"))
        self.assertEqual(tally.breaches["an owner twice in a group"], 1)

    def test_an_answer_of_one_owner(self):
        first = self.sound.groups[0]
        alone = tuple((*one[:3], "answered" if at == 0 else "missed") for at, one in enumerate(first.assignments))
        found = breaches(replace(self.sound, groups=[replace(first, assignments=alone), *self.sound.groups[1:]]))
        self.assertEqual(found, {"settled with fewer than two owners": 1})

    def test_an_archive_whose_object_is_damaged(self):
        key, frame = next(iter(self.sound.objects.items()))
        found = breaches(replace(self.sound, objects={key: frame[: len(frame) // 2]}))
        self.assertEqual(found, {"archive record missing": len(self.sound.jobs)})


class TallyTest(unittest.TestCase):
    """The sum and what is printed."""

    def test_a_promise_counts_once_however_often_it_is_broken(self):
        tally = Tally("test")
        tally.count("a", 0)
        tally.each("b", [1, 2, 3], lambda item: item > 1)
        tally.each("b", [9], lambda item: item > 1)
        self.assertEqual((tally.kept, tally.broken), (1, 1))
        self.assertEqual((tally.breaches["b"], tally.examples["b"]), (3, 2))

    def test_the_sum_is_the_last_line_and_the_exit_status(self):
        tally = Tally("test")
        with contextlib.redirect_stdout(io.StringIO()) as printed:
            tally.hold("a", True)
            status = tally.print_sum()
        self.assertEqual((printed.getvalue(), status), ("test: 1 promises kept, 0 broken\n", 0))
        with contextlib.redirect_stdout(io.StringIO()) as printed:
            tally.hold("b", False, "what was found")
            status = tally.print_sum()
        self.assertEqual(printed.getvalue(), "test: broken: b: what was found\ntest: 1 promises kept, 1 broken\n")
        self.assertEqual(status, 1)

    def test_the_table_shows_the_first_example_of_what_is_broken(self):
        tally = Tally("test")
        tally.count("kept", 0)
        tally.count("broken", 2, "an example")
        tally.figure("jobs", 7)
        with contextlib.redirect_stdout(io.StringIO()) as printed:
            tally.print_table()
        self.assertEqual(printed.getvalue(), "  kept    0\n  broken  2\n    the first: an example\n  (jobs: 7)\n")

    def test_two_promises_of_one_name_are_refused(self):
        tally = Tally("test")
        tally.hold("a", True)
        with self.assertRaisesRegex(ValueError, "same name: a"):
            tally.hold("a", True)

    def test_the_smoke_tests_need_the_standard_library_only(self):
        # -S leaves out what is installed; -I also what the environment names.
        program = f"import sys; sys.path.insert(0, {str(Path(__file__).parent)!r}); import promises"
        done = subprocess.run([sys.executable, "-I", "-S", "-c", program], capture_output=True, text=True, check=False)
        self.assertEqual(done.returncode, 0, done.stderr)


if __name__ == "__main__":
    unittest.main()
