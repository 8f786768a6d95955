"""The kill campaign's checker, on evidence made by hand: sound evidence breaks no promise, and each sabotage breaks its own."""

import unittest
from dataclasses import replace

import sabotage
from sample import sound_evidence

from .checker import SABOTAGES, check, tokens


class CheckerTest(unittest.TestCase):
    """Both directions; changes to the ledger's file are tried by the campaign itself."""

    def test_what_is_right_breaks_no_promise(self):
        tally = check(sound_evidence())
        self.assertEqual(tally.broken, 0, tally.examples)

    def test_every_promise_is_sabotaged_and_every_sabotage_is_seen(self):
        tried = {promise for promise, _ in [*sabotage.SABOTAGES, *SABOTAGES]}
        self.assertEqual(set(check(sound_evidence()).breaches), tried)
        self.assertEqual(sabotage.missed(sound_evidence(), check, SABOTAGES), [])

    def test_any_end_but_success_breaks_a_promise(self):
        sound = sound_evidence()
        for end in ({"status": "expired"}, {"status": "cancelled"}, {"status": "failed", "reason": "poison"}):
            spoilt = replace(sound, settlements=[replace(sound.settlements[0], end=end), *sound.settlements[1:]])
            self.assertEqual(check(spoilt).breaches["ended otherwise than succeeded"], 1, end)

    def test_tokens_go_by_the_request_and_not_by_the_job(self):
        sound = sound_evidence()
        self.assertEqual(tokens(sound), {index: [7, 8] for index in range(4)})
        lost = replace(sound, settlements=sound.settlements[1:])
        self.assertEqual(tokens(lost), {0: None, 1: [7, 8], 2: [7, 8], 3: [7, 8]})


if __name__ == "__main__":
    unittest.main()
