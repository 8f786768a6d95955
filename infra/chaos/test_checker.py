"""The chaos campaign's checker, on evidence made by hand: sound evidence breaks no promise, and each sabotage breaks its own."""

import unittest

from sabotage import SABOTAGES
from sample import sound_evidence

from . import sabotage
from .checker import check


class CheckerTest(unittest.TestCase):
    """Both directions: nothing is broken where nothing is wrong, and something is where something is."""

    def test_what_is_right_breaks_no_promise(self):
        tally = check(sound_evidence())
        self.assertEqual(tally.broken, 0, tally.examples)

    def test_every_sabotage_is_told(self):
        self.assertEqual(sabotage.missed(sound_evidence()), [])

    def test_every_promise_is_sabotaged(self):
        tried = {promise for promise, _ in [*SABOTAGES, *sabotage.SABOTAGES]}
        self.assertEqual(set(check(sound_evidence()).breaches), tried)


if __name__ == "__main__":
    unittest.main()
